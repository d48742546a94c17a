"""A client of the gateway, written from the Orchestrator's description and nothing else. call_gateway.py <url>: logs the start of a
workflow, asks for schemas and data of its source tables, hands them on whole, validates with a statement, and logs the end. The last line
says what it got, as JSON."""

import datetime
import json
import sys
import uuid

import requests

FLASK_API = sys.argv[1]
SOURCE_TABLES = ["customers", "orders"]


def generate_run_id():
    return datetime.datetime.now().strftime("%Y%m%d_%H%M%S_") + uuid.uuid4().hex[:6]


def call_flask_api(endpoint, payload):
    answer = requests.post(f"{FLASK_API}/{endpoint}", json=payload, timeout=60)
    body = answer.json()
    if answer.status_code != 200:
        raise RuntimeError(f"{answer.status_code}: {body['message']}")
    return body


def log(run_id, kind, title, description, metadata=None):
    entry = {
        "timestamp": datetime.datetime.now(datetime.timezone.utc).isoformat(),
        "type": kind,
        "title": title,
        "description": description,
        "metadata": metadata or {},
    }
    assert call_flask_api("log", {"run_id": run_id, "log_entry": entry})["success"]


run_id = generate_run_id()
log(run_id, "start", "Starting Orchestrator", "Starting ETL workflow")
source_schemas = call_flask_api("get/schemas", {"table_names": SOURCE_TABLES})
source_data = call_flask_api("get/data", {"table_names": SOURCE_TABLES, "limit": 10})
# What the next function is sent.
payload = json.dumps({"run_id": run_id, "source_schemas": source_schemas, "source_data_samples": source_data})
validated = call_flask_api(
    "execute/query",
    {"query": "SELECT c.customer_id, sum(o.amount) AS total FROM customers c JOIN orders o USING (customer_id) GROUP BY 1 ORDER BY 1"},
)
try:
    call_flask_api("get/schemas", {"table_names": ["customer_order_summary"]})
    refusal = None
except RuntimeError as error:
    refusal = str(error)
log(run_id, "end", "Completed", "Data validated", {"rows": validated["row_count"]})
entries = requests.get(f"{FLASK_API}/get/logs/{run_id}", timeout=60).json()["logs"]
print(
    json.dumps(
        {
            "columns": {name: [c["name"] for c in t["columns"]] for name, t in source_schemas["schemas"].items()},
            "primary_key": source_schemas["schemas"]["orders"]["primary_key"],
            "references": source_schemas["schemas"]["orders"]["foreign_keys"][0]["references"]["table"],
            "rows": {name: len(rows) for name, rows in source_data["data"].items()},
            "payload_bytes": len(payload),
            "validated": validated,
            "refusal": refusal,
            "logged": [entry["type"] for entry in entries],
        }
    )
)
