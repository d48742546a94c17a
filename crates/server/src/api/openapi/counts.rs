//! The routes that count, as the document shows them.

use runstone_record::ErrorCode;
use runstone_record::wire::{FieldsAnswer, MetricsAnswer, ValuesAnswer};
use serde_json::json;

use super::operation::{Content, Operation};
use super::{Shapes, parameters};

/// What a look at records may meet.
const QUERY: [ErrorCode; 2] = [ErrorCode::QueryTimeout, ErrorCode::QueryLimit];

pub(super) fn metrics() -> Operation {
    let example = json!({"since": null, "until": null, "bucket_seconds": 3600, "groups": [{
        "bucket": "2026-11-20T03:00:00.000000Z", "stage": "load", "runs": 1, "running": 0, "succeeded": 1, "failed": 0,
        "success_rate": 1.0, "duration": {"sum": 42.0, "mean": 42.0, "min": 42.0, "max": 42.0, "p50": 42.0, "p95": 42.0},
        "row_count": 1200, "records": 3, "warnings": 0, "errors": 0,
    }]});
    Operation::get("/api/v1/metrics", "countRuns", "runs")
        .says("Count runs", "By group and time: how they ended, how long they took. Exact for any window.")
        .takes(parameters::metrics())
        .kept("The groups.", vec![Content::json(Shapes::answer::<MetricsAnswer>, example)])
        .fails(&[ErrorCode::Overloaded, ErrorCode::QueryTimeout])
}

pub(super) fn fields() -> Operation {
    let field = json!({"name": "stage", "type": "text", "filter": true, "records": 3, "sampled": false});
    let example = json!({"fields": [field], "metadata_sample": 0});
    Operation::get("/api/v1/fields", "listFields", "records")
        .says("List the fields that records have", "With how many have each; keys of the metadata too.")
        .takes(parameters::filters(false))
        .kept("The fields.", vec![Content::json(Shapes::answer::<FieldsAnswer>, example)])
        .fails(&QUERY)
}

pub(super) fn values() -> Operation {
    let example = json!({"field": "type", "values": [{"value": "start", "records": 1}], "truncated": false});
    Operation::get("/api/v1/values", "listValues", "records")
        .says("List the values of a field", "The most frequent first, with how many records have each.")
        .takes(parameters::values())
        .kept("The values.", vec![Content::json(Shapes::answer::<ValuesAnswer>, example)])
        .fails(&QUERY)
}
