"""Appends entries to the log of a run in DynamoDB with the Logger function's own update: one a call, no ids."""

import json
import sys

import boto3

endpoint, table, run_id, entries = sys.argv[1:]
client = boto3.client(
    "dynamodb",
    endpoint_url=endpoint,
    region_name="us-east-1",
    aws_access_key_id="test",
    aws_secret_access_key="test",
)


def typed(value):
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, (int, float)):
        return {"N": str(value)}
    if isinstance(value, list):
        return {"L": [typed(one) for one in value]}
    if isinstance(value, dict):
        return {"M": {name: typed(one) for name, one in value.items()}}
    return {"S": value}


for entry in json.loads(entries):
    client.update_item(
        TableName=table,
        Key={"run_id": {"S": run_id}},
        UpdateExpression="SET logs = list_append(if_not_exists(logs, :none), :new), updated_at = :now",
        ExpressionAttributeValues={
            ":new": {"L": [typed(entry)]},
            ":none": {"L": []},
            ":now": {"S": "2025-01-13T12:35:11.000Z"},
        },
    )
print("null")
