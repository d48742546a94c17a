//! The routes of the Logger's callers, as the document shows them.

use runstone_record::logger::Failure;
use runstone_record::wire::RunsPage;
use runstone_record::{ErrorCode, RecordType, schema};
use serde_json::{Value, json};

use super::operation::{Content, Operation};
use super::routes::run;
use super::{Shapes, parameters};

pub(super) fn object(required: &[&str], properties: &Value) -> Value {
    json!({"type": "object", "required": required, "properties": properties})
}

fn entry() -> Value {
    let types: Vec<&str> = RecordType::ALL.iter().map(|kind| kind.as_str()).collect();
    object(
        &["type", "title", "description"],
        &json!({
            "timestamp": {"type": ["string", "null"], "format": "date-time", "description": "RFC 3339; without an offset it is UTC; when the server took it, unless given"},
            "type": {"type": "string", "description": format!("one of {}; another is kept as `metadata.log_type`, with a warning", types.join(", "))},
            "title": {"type": "string"},
            "description": {"type": "string"},
            "metadata": {"type": ["object", "null"]},
        }),
    )
}

pub(super) fn log() -> Operation {
    let event = json!({
        "run_id": "20250113_123456_abc123",
        "log_entry": {
            "type": "status", "title": "Step 1: Generating Specifications", "description": "Invoking Specs Generator",
            "metadata": {"attempt": 1},
        },
    });
    let appended = json!({
        "success": true, "message": "Log entry appended successfully", "run_id": "20250113_123456_abc123",
        "timestamp": "2025-01-13T12:34:56.789Z",
    });
    let body = Content::json(
        |_| object(&["run_id", "log_entry"], &json!({"run_id": schema::identifier(), "log_entry": entry()})),
        event,
    );
    let answer = |_: &mut Shapes| {
        let text = json!({"type": "string"});
        object(
            &["success", "message", "run_id", "timestamp"],
            &json!({"success": {"const": true}, "message": text, "run_id": text, "timestamp": text, "warning": text}),
        )
    };
    Operation::post("/log", "log", "gateway")
        .says(
            "Append an entry to the log of a run",
            "The Logger's event. Durable once answered; every invalid event is 400.",
        )
        .takes(vec![parameters::coding()])
        .body("The event, or one of API Gateway or of a function URL with it in its body.", vec![body])
        .answers(200, "It is durable.", vec![Content::json(answer, appended)])
        .fails(&[ErrorCode::DiskFull, ErrorCode::JournalFull])
        .fails_as(Shapes::answer::<Failure<'_>>)
}

pub(super) fn logs() -> Operation {
    let example = json!({
        "run_id": "20250113_123456_abc123",
        "logs": [{
            "timestamp": "2025-01-13T12:34:56.789Z", "type": "start", "title": "Starting Orchestrator",
            "description": "Starting ETL workflow", "id": "01a1f8c4-9cc3-7756-ba6c-6e3336cb48a7",
        }],
        "created_at": "2025-01-13T12:34:56.801Z", "updated_at": "2025-01-13T12:34:56.801Z",
    });
    let answer = |_: &mut Shapes| {
        let (text, logs) = (json!({"type": "string"}), json!({"type": "array", "items": entry()}));
        object(
            &["run_id", "logs", "created_at", "updated_at"],
            &json!({"run_id": text, "logs": logs, "created_at": text, "updated_at": text}),
        )
    };
    let mut takes = vec![parameters::run_id()];
    takes.extend(parameters::filters(true));
    Operation::get("/get/logs/{run_id}", "getLogs", "gateway")
        .says(
            "Read the log of a run as one document",
            "Its entries in the order in which they happened. A run that only a target has is read there.",
        )
        .takes(takes)
        .answers(200, "The log.", vec![Content::json(answer, example)])
        .fails(&[ErrorCode::NotFound, ErrorCode::NotAcceptable, ErrorCode::QueryTimeout, ErrorCode::QueryLimit])
        .fails_as(Shapes::answer::<Failure<'_>>)
}

pub(super) fn runs() -> Operation {
    let page = json!({"runs": [run()], "next": null});
    Operation::get("/get/runs", "getRuns", "gateway")
        .says(
            "Read the runs that a target has",
            "Each added up from its log there, whoever wrote that: page by page, in the order of the target's table.",
        )
        .takes(parameters::target_runs())
        .answers(
            200,
            "A page. It may have no runs and yet a next one.",
            vec![Content::json(Shapes::answer::<RunsPage>, page)],
        )
        .fails(&[ErrorCode::NotConfigured])
        .fails_as(Shapes::answer::<Failure<'_>>)
}
