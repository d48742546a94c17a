//! Every route as the document shows it: a function for each, in the order of `api::router`. To add one, add one here.

use runstone_record::ErrorCode;
use runstone_record::schema::Record;
use runstone_record::wire::{IngestAnswer, LogsPage, QueryAnswer, QueryRequest, RunBody, RunsPage};
use serde_json::{Value, json};

use super::operation::{Content, Operation};
use super::{Shapes, counts, database, gateway, parameters};
use crate::api::status::{HealthBody, ReadyBody};

pub(super) fn all() -> Vec<Operation> {
    vec![
        read_logs(),
        send_logs(),
        read_runs(),
        read_run(),
        read_logs_of_run(),
        counts::metrics(),
        counts::fields(),
        counts::values(),
        query(),
        gateway::log(),
        gateway::logs(),
        gateway::runs(),
        database::schemas(),
        database::data(),
        database::execute(),
        list_errors(),
        read_error(),
        openapi(),
        index(),
        health(),
        ready(),
        metrics(),
    ]
}

fn read_logs() -> Operation {
    Operation::get("/api/v1/logs", "readLogs", "records")
        .says(
            "Read records",
            "Filtered, page by page. A walk sees each record once, and none that came after its first page.",
        )
        .takes(parameters::logs("newest", false))
        .kept("A page, or all records.", logs_answers())
        .fails(&[ErrorCode::NotAcceptable, ErrorCode::QueryTimeout, ErrorCode::QueryLimit])
}

fn read_logs_of_run() -> Operation {
    let mut takes = vec![parameters::run_id()];
    takes.extend(parameters::logs("oldest", true));
    Operation::get("/api/v1/runs/{run_id}/logs", "readLogsOfRun", "records")
        .says("Read one run's records", "Filtered, page by page, the first one first.")
        .takes(takes)
        .kept("A page, or all records.", logs_answers())
        .fails(&[ErrorCode::NotFound, ErrorCode::NotAcceptable, ErrorCode::QueryTimeout, ErrorCode::QueryLimit])
}

fn logs_answers() -> Vec<Content> {
    let page = logs_page();
    let line = format!("{}\n", page["records"][0]);
    let mut all = vec![Content::json(Shapes::answer::<LogsPage>, page)];
    all.extend(streams(
        &line,
        "id,journal,position\r\n01a1f8c4-9cc3-7756-ba6c-6e3336cb48a7,4cf64b3e-0f89-44ac-beb7-cb77d98490c5/1,1\r\n",
    ));
    all
}

/// The formats that are streamed.
fn streams(lines: &str, csv: &str) -> [Content; 4] {
    [
        Content::stream("application/x-ndjson", lines),
        Content::stream("text/csv", csv),
        Content::stream("application/vnd.apache.parquet", "PAR1…PAR1"),
        Content::stream("application/vnd.apache.arrow.stream", "…"),
    ]
}

fn logs_page() -> Value {
    json!({
        "records": [{
            "id": "01a1f8c4-9cc3-7756-ba6c-6e3336cb48a7", "journal": "4cf64b3e-0f89-44ac-beb7-cb77d98490c5/1", "position": 1,
            "timestamp": "2026-11-20T03:00:00.000000Z", "ingested_at": "2026-11-20T11:43:17.187690Z",
            "source_system": "shop", "stage": "load", "run_id": "nightly-1", "type": "start", "level": "INFO",
            "message": "loading orders",
        }],
        "next": null,
    })
}

fn send_logs() -> Operation {
    let start = json!({
        "source_system": "shop", "stage": "load", "run_id": "nightly-1", "type": "start",
        "timestamp": "2026-11-20T03:00:00Z", "message": "loading orders",
    });
    let result = json!({"run_id": "nightly-1", "stage": "load", "type": "result", "row_count": 1200});
    let lines = format!("{start}\n{result}\n");
    let stored = json!({
        "accepted": 1, "duplicates": 0, "rejected": 0, "journal": "4cf64b3e-0f89-44ac-beb7-cb77d98490c5/1",
        "first_position": 1, "last_position": 1, "errors": [],
    });
    let refusal = json!({"index": 1, "code": "invalid_identifier", "message": "must begin with a letter or a digit", "field": "run_id"});
    let mut some = stored.clone();
    (some["rejected"], some["errors"]) = (1.into(), json!([refusal]));
    let none = json!({
        "accepted": 0, "duplicates": 0, "rejected": 1, "journal": null, "first_position": null, "last_position": null,
        "errors": [refusal],
    });
    let answer = |example: Value| vec![Content::json(Shapes::answer::<IngestAnswer>, example)];
    let records = Content::json(sent, start).example("several", json!([result, {"message": "an object is enough"}]));
    Operation::post("/api/v1/logs", "sendLogs", "records")
        .says("Store records", "Durable once answered. A bad record costs only itself.")
        .takes(vec![parameters::idempotency_key(), parameters::coding()])
        .body(
            "One record, an array of them, or one a line.",
            vec![records, Content::text("application/x-ndjson", &lines)],
        )
        .answers_with(200, "All are durable.", answer(stored), &["Idempotency-Replayed"])
        .answers_with(207, "Some are, the others are in `errors`.", answer(some), &["Idempotency-Replayed"])
        .answers_with(422, "None was valid, or failed as a whole:", answer(none), &["Idempotency-Replayed"])
        .fails(&[ErrorCode::TooManyRecords, ErrorCode::NotAnObject, ErrorCode::IdempotencyKeyReused])
        .fails(&[ErrorCode::DiskFull, ErrorCode::JournalFull])
}

fn sent(shapes: &mut Shapes) -> Value {
    let record = shapes.request::<Record>();
    let most = runstone_record::limits::REQUEST_RECORDS_MAX;
    json!({"anyOf": [record, {"type": "array", "items": record, "maxItems": most}]})
}

pub(super) fn run() -> Value {
    json!({
        "run_id": "nightly-1", "state": "succeeded", "source_system": "shop", "stage": "load", "title": "loading orders",
        "started_at": "2026-11-20T03:00:00.000000Z", "ended_at": "2026-11-20T03:00:42.000000Z",
        "last_at": "2026-11-20T03:00:42.000000Z", "duration": 42.0, "records": 3, "warnings": 0, "errors": 0,
        "row_count": 1200, "failure": null, "last_position": 3, "environment": "production", "owner": "team-shop",
        "labels": {"tier": "gold"},
    })
}

fn read_runs() -> Operation {
    let page = json!({"runs": [run()], "next": null});
    Operation::get("/api/v1/runs", "readRuns", "runs")
        .says("Read runs", "Filtered, page by page, the latest start first unless asked otherwise.")
        .takes(parameters::runs())
        .kept("A page.", vec![Content::json(Shapes::answer::<RunsPage>, page)])
        .fails(&[ErrorCode::Overloaded, ErrorCode::QueryTimeout])
}

fn read_run() -> Operation {
    Operation::get("/api/v1/runs/{run_id}", "readRun", "runs")
        .says("Read one run", "As of everything that was acknowledged before.")
        .takes(vec![parameters::run_id()])
        .kept("The run.", vec![Content::json(Shapes::answer::<RunBody>, run())])
        .fails(&[ErrorCode::NotFound, ErrorCode::Overloaded, ErrorCode::QueryTimeout])
}

fn query() -> Operation {
    let asked = json!({"sql": "SELECT type, count(*) AS records FROM logs GROUP BY type ORDER BY type"});
    let bound = json!({
        "sql": "SELECT count(*) AS records FROM logs WHERE run_id = $run", "params": {"run": "nightly-1"}, "timeout_ms": 5000,
    });
    let streamed = json!({"sql": "SELECT * FROM logs", "format": "ndjson", "max_rows": 100_000});
    let answer = json!({
        "columns": [{"name": "type", "type": "text"}, {"name": "records", "type": "bigint"}],
        "rows": [{"type": "start", "records": 1}],
        "stats": {"rows": 1, "elapsed_ms": 8.969, "truncated": false},
    });
    let mut answers = vec![Content::json(Shapes::answer::<QueryAnswer>, answer)];
    answers.extend(streams("{\"type\":\"start\",\"records\":1}\n", "type,records\r\nstart,1\r\n"));
    Operation::post("/api/v1/query", "query", "sql")
        .says("Ask in SQL", "One statement that reads, over `logs` and `runs`.")
        .takes(vec![parameters::coding()])
        .body(
            "The statement.",
            vec![
                Content::json(Shapes::request::<QueryRequest>, asked)
                    .example("bound", bound)
                    .example("streamed", streamed),
            ],
        )
        .answers(200, "The rows.", answers)
        .fails(&[ErrorCode::InvalidQuery, ErrorCode::QueryFailed, ErrorCode::QueryLimit, ErrorCode::QueryTimeout])
        .fails(&[ErrorCode::InvalidParameter, ErrorCode::NotAcceptable])
}

fn list_errors() -> Operation {
    let listed = "# Error codes\n\n- [`empty_body`](/errors/empty_body): 400\n";
    Operation::get("/errors", "listErrors", "about")
        .says("List the error codes", "As HTML for who asks for it.")
        .takes(Vec::new())
        .kept("The list.", pages(listed))
}

fn read_error() -> Operation {
    Operation::get("/errors/{code}", "readError", "about")
        .says("Read what an error means", "As HTML for who asks for it.")
        .takes(vec![parameters::code()])
        .kept("The page.", pages("# `not_found`\n"))
        .fails(&[ErrorCode::NotFound])
}

fn pages(markdown: &str) -> Vec<Content> {
    vec![Content::text("text/markdown", markdown), Content::text("text/html", "<!doctype html>\n<html lang=\"en\">")]
}

fn openapi() -> Operation {
    let document = Content::json(|_| json!({"type": "object"}), json!({"openapi": "3.1.1"}));
    Operation::get("/openapi.json", "readOpenapi", "about")
        .says("Read this document", "")
        .takes(Vec::new())
        .kept("The document.", vec![document])
}

fn index() -> Operation {
    Operation::get("/", "readIndex", "about")
        .says("Read the routes as text", "For whoever opens the address in a browser.")
        .answers(200, "The routes.", vec![Content::text("text/plain", "runstone 0.1.0\n")])
}

fn health() -> Operation {
    let body = json!({"status": "healthy", "service": "runstone", "version": "0.1.0"});
    Operation::get("/health", "health", "server").says("Is the process there?", "").answers(
        200,
        "It is.",
        vec![Content::json(Shapes::answer::<HealthBody>, body)],
    )
}

fn ready() -> Operation {
    let body = |status: &str| {
        json!({
            "status": status, "journal": "4cf64b3e-0f89-44ac-beb7-cb77d98490c5/1", "durable_position": 3,
            "readable_position": 3, "lake": {"status": "ready", "position": 0, "version": 0},
        })
    };
    let mut full = body("disk_full");
    full["reason"] = "append: disk is full".into();
    Operation::get("/ready", "ready", "server")
        .says("Can it do its work?", "")
        .answers(200, "It can.", vec![Content::json(Shapes::answer::<ReadyBody>, body("ready"))])
        .answers(503, "It cannot, and `reason` says why, or:", vec![Content::json(Shapes::answer::<ReadyBody>, full)])
}

fn metrics() -> Operation {
    let text = "# TYPE runstone_ingest_records counter\nrunstone_ingest_records_total 3\n# EOF\n";
    Operation::get("/metrics", "metrics", "server")
        .says("Read the server's own metrics", "OpenMetrics text, for Prometheus.")
        .answers(200, "The metrics.", vec![Content::text("application/openmetrics-text", text)])
}
