"""Every item of a table of DynamoDB, in DynamoDB's own typed JSON, as boto3 reads it: a list."""

import json
import sys

import boto3

client = boto3.client(
    "dynamodb",
    endpoint_url=sys.argv[1],
    region_name="us-east-1",
    aws_access_key_id="test",
    aws_secret_access_key="test",
)
pages = client.get_paginator("scan").paginate(TableName=sys.argv[2])
print(json.dumps([item for page in pages for item in page["Items"]], default=lambda binary: list(binary)))
