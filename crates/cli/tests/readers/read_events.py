"""Every event of a log group of CloudWatch Logs, as boto3 reads it: a list of stream, time and message."""

import json
import sys

import boto3

endpoint, group = sys.argv[1:]
client = boto3.client(
    "logs",
    endpoint_url=endpoint,
    region_name="us-east-1",
    aws_access_key_id="test",
    aws_secret_access_key="test",
)
pages = client.get_paginator("filter_log_events").paginate(logGroupName=group)
events = [event for page in pages for event in page["events"]]
print(json.dumps([[event["logStreamName"], event["timestamp"], event["message"]] for event in events]))
