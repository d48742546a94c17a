//! The gateway's routes about a database, as the document shows them.

use runstone_record::ErrorCode;
use runstone_record::limits::{GATEWAY_NAME_CHARS_MAX, GATEWAY_SAMPLE_ROWS, GATEWAY_TABLES_MAX, SQL_BYTES_MAX};
use runstone_record::logger::Failure;
use serde_json::{Value, json};

use super::gateway::object;
use super::operation::{Content, Operation};
use super::{Shapes, parameters};

fn text() -> Value {
    json!({"type": "string"})
}

fn texts() -> Value {
    json!({"type": "array", "items": text()})
}

fn rows() -> Value {
    json!({"type": "array", "items": {"type": "object"}})
}

fn table_names() -> Value {
    json!({
        "type": "array", "maxItems": GATEWAY_TABLES_MAX, "items": {"type": "string", "maxLength": GATEWAY_NAME_CHARS_MAX},
        "description": "each as it is written, or with its schema before a dot",
    })
}

fn operation(path: &'static str, id: &'static str) -> Operation {
    Operation::post(path, id, "gateway")
}

/// What may go wrong with any of them.
fn ends(operation: Operation) -> Operation {
    operation
        .fails(&[ErrorCode::NotConfigured, ErrorCode::InvalidQuery, ErrorCode::QueryFailed, ErrorCode::QueryTimeout])
        .fails_as(Shapes::answer::<Failure<'_>>)
}

fn schema() -> Value {
    let column = object(
        &["name", "type", "nullable", "default"],
        &json!({
            "name": text(), "type": {"type": "string", "description": "as PostgreSQL prints it"},
            "nullable": {"type": "boolean"}, "default": {"type": ["string", "null"], "description": "an expression of SQL"},
        }),
    );
    let referenced =
        object(&["schema", "table", "columns"], &json!({"schema": text(), "table": text(), "columns": texts()}));
    let key = object(
        &["name", "columns", "references"],
        &json!({"name": text(), "columns": texts(), "references": referenced}),
    );
    object(
        &["schema", "table", "kind", "columns", "primary_key", "foreign_keys"],
        &json!({
            "schema": text(), "table": text(),
            "kind": {"enum": ["table", "partitioned table", "materialized view", "view", "foreign table"]},
            "columns": {"type": "array", "items": column}, "primary_key": texts(),
            "foreign_keys": {"type": "array", "items": key},
        }),
    )
}

pub(super) fn schemas() -> Operation {
    let example = json!({"schemas": {"orders": {
        "schema": "public", "table": "orders", "kind": "table",
        "columns": [
            {"name": "order_id", "type": "integer", "nullable": false, "default": null},
            {"name": "customer_id", "type": "integer", "nullable": false, "default": null},
            {"name": "amount", "type": "numeric(10,2)", "nullable": true, "default": "0"},
        ],
        "primary_key": ["order_id"],
        "foreign_keys": [{
            "name": "orders_customer_id_fkey", "columns": ["customer_id"],
            "references": {"schema": "public", "table": "customers", "columns": ["customer_id"]},
        }],
    }}});
    let asked = |_: &mut Shapes| object(&["table_names"], &json!({"table_names": table_names()}));
    let answer = |_: &mut Shapes| {
        object(&["schemas"], &json!({"schemas": {"type": "object", "additionalProperties": schema()}}))
    };
    ends(operation("/get/schemas", "getSchemas"))
        .says("Read what tables are like", "Of the database of `gateway.database_url`: columns with types, and keys.")
        .takes(vec![parameters::coding()])
        .body("The tables.", vec![Content::json(asked, json!({"table_names": ["orders"]}))])
        .answers(200, "Each under the name that was sent.", vec![Content::json(answer, example)])
        .fails(&[ErrorCode::NotFound])
}

pub(super) fn data() -> Operation {
    let asked = |_: &mut Shapes| {
        let (default, most) = GATEWAY_SAMPLE_ROWS;
        let limit = json!({"type": ["integer", "null"], "minimum": 1, "maximum": most, "default": default});
        object(&["table_names"], &json!({"table_names": table_names(), "limit": limit}))
    };
    let answer = |_: &mut Shapes| {
        let data = json!({"type": "object", "additionalProperties": rows()});
        object(&["data", "truncated"], &json!({"data": data, "truncated": {"type": "boolean"}}))
    };
    let example = json!({
        "data": {"orders": [{"order_id": 7, "customer_id": 1, "amount": 12.5}]}, "truncated": false,
    });
    ends(operation("/get/data", "getData"))
        .says("Read some rows of tables", "A random sample of each.")
        .takes(vec![parameters::coding()])
        .body(
            "The tables, and how many rows of each.",
            vec![Content::json(asked, json!({"table_names": ["orders"], "limit": 10}))],
        )
        .answers(200, "Each under the name that was sent.", vec![Content::json(answer, example)])
        .fails(&[ErrorCode::NotFound])
}

pub(super) fn execute() -> Operation {
    let asked = |_: &mut Shapes| {
        object(
            &["query"],
            &json!({"query": {"type": "string", "pattern": "[^ \\t\\r\\n]", "maxLength": SQL_BYTES_MAX}}),
        )
    };
    let answer = |_: &mut Shapes| {
        let column = object(&["name", "type"], &json!({"name": text(), "type": text()}));
        object(
            &["columns", "rows", "row_count", "truncated"],
            &json!({
                "columns": {"type": "array", "items": column}, "rows": rows(),
                "row_count": {"type": "integer", "minimum": 0}, "truncated": {"type": "boolean"},
            }),
        )
    };
    let example = json!({
        "columns": [{"name": "customer_id", "type": "integer"}, {"name": "total", "type": "numeric"}],
        "rows": [{"customer_id": 1, "total": 12.5}], "row_count": 1, "truncated": false,
    });
    let query = "SELECT customer_id, sum(amount) AS total FROM orders GROUP BY customer_id";
    ends(operation("/execute/query", "executeQuery"))
        .says(
            "Run a statement in the database",
            "One, where `gateway.execute` allows it; read-only unless told otherwise, and written to the log.",
        )
        .takes(vec![parameters::coding()])
        .body("The statement.", vec![Content::json(asked, json!({"query": query}))])
        .answers(200, "Its rows.", vec![Content::json(answer, example)])
        .fails(&[ErrorCode::QueryLimit, ErrorCode::DiskFull, ErrorCode::JournalFull])
}
