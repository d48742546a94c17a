//! What requests take beside a body. Owns bounds, words and defaults as the document shows them; that they are those of the
//! handlers is tested against a server.

use runstone_record::limits::{
    IDEMPOTENCY_KEY_BYTES_MAX, LOGS_TERMS_MAX, METRICS_PERCENTILES_MAX, PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX,
    PARAMETER_BYTES_MAX,
};
use runstone_record::run::RunState;
use runstone_record::time::MICROS_MAX;
use runstone_record::{Column, Kind, schema};
use runstone_store::has_values;
use serde_json::{Value, json};

use crate::api::logs::is_filter;

const FORMATS: [&str; 5] = ["json", "ndjson", "csv", "parquet", "arrow"];

fn query(name: &str, says: &str, schema: &Value, example: Value) -> Value {
    // An empty one counts as not given.
    let mut parameter =
        json!({"name": name, "in": "query", "description": says, "allowEmptyValue": true, "schema": schema});
    if !example.is_null() {
        parameter["example"] = example;
    }
    parameter
}

fn text() -> Value {
    json!({"type": "string", "maxLength": PARAMETER_BYTES_MAX})
}

/// A time as [`runstone_record::time::Moment`] reads it: the ranges are those of its units.
fn time() -> Value {
    let number = |from: i64, through: i64, unit: &str| json!({"type": "integer", "minimum": from, "maximum": through, "description": format!("{unit} since 1970")});
    json!({"anyOf": [
        {"type": "string", "format": "date-time"},
        {"type": "string", "pattern": "^(now|-[0-9]{1,9}[smhdw])$", "description": "so long before now"},
        number(0, MICROS_MAX / 1_000_000, "seconds"),
        number(100_000_000_000, MICROS_MAX / 1_000, "milliseconds"),
        number(100_000_000_000_000, MICROS_MAX, "microseconds"),
        number(100_000_000_000_000_000, i64::MAX, "nanoseconds"),
    ]})
}

fn span(of: &str) -> [Value; 2] {
    [
        query("since", &format!("`{of}` at or after it."), &time(), "2026-11-20T00:00:00Z".into()),
        query("until", &format!("`{of}` before it."), &time(), json!(1_795_219_200)),
    ]
}

fn page() -> [Value; 2] {
    let limit = json!({"type": "integer", "minimum": 1, "maximum": PAGE_ROWS_MAX, "default": PAGE_ROWS_DEFAULT});
    let says = "The `next` of the page before, with the same filters and order.";
    [query("limit", "Rows of the page.", &limit, 10.into()), query("cursor", says, &text(), Value::Null)]
}

/// Of pages of records; `order` unless given.
pub(super) fn logs(order: &str, of_run: bool) -> Vec<Value> {
    let orders = json!({"type": "string", "enum": ["newest", "oldest"], "default": order});
    let mut all = filters(of_run);
    all.push(query("order", "Which come first.", &orders, "oldest".into()));
    all.extend(page());
    let formats = json!({"type": "string", "enum": FORMATS, "default": "json"});
    let says = "A page as JSON, or all records as a stream, of which `limit` may be any number and is no limit unless given. \
                Without it `Accept` decides.";
    all.push(query("format", says, &formats, "ndjson".into()));
    all
}

/// Which records.
pub(super) fn filters(of_run: bool) -> Vec<Value> {
    let number = json!({"type": "integer", "minimum": i64::MIN, "maximum": i64::MAX});
    let level = json!({"anyOf": [{"type": "string", "enum": schema::levels()}, number]});
    let kinds = json!({"type": "string", "enum": schema::types()});
    let mut all =
        vec![query("level", "This level or a graver one; a number is one of Python's.", &level, "WARNING".into())];
    all.extend(span("timestamp"));
    let says = "Words and \"phrases\", up to 16: title, message or exception has each of them in it, in any case.";
    all.push(query("q", says, &text(), "loading \"orders\"".into()));
    all.push(metadata());
    all.push(query("type", "Of this type.", &kinds, "start".into()));
    for column in Column::ALL.into_iter().filter(|column| is_filter(*column)) {
        if !(of_run && column == Column::RunId) {
            all.push(equal(column));
        }
    }
    all.extend(of_sources());
    all
}

/// What a column must be.
fn equal(column: Column) -> Value {
    let (how, example) = match column.kind() {
        Kind::Id => ("Equal", "01a1f8c4-9cc3-7756-ba6c-6e3336cb48a7"),
        Kind::Hex => ("Equal, in any case", "4bf92f3577b34da6"),
        _ => ("Equal, letter for letter", "load"),
    };
    query(column.name(), &format!("{how}: {}.", column.doc()), &schema::sought(column), example.into())
}

/// What the configuration says of source systems.
fn of_sources() -> [Value; 2] {
    [("environment", "production"), ("owner", "team-shop")].map(|(name, example)| {
        query(name, "What the configuration says of the source system.", &text(), example.into())
    })
}

/// A family of parameters: each is a property of an object, spelt out.
fn metadata() -> Value {
    let schema = json!({
        "type": "object", "maxProperties": LOGS_TERMS_MAX, "additionalProperties": text(),
        "propertyNames": {"pattern": "^metadata\\.[A-Za-z0-9_.-]{1,64}$"},
    });
    json!({
        "name": "metadata.KEY", "in": "query", "style": "form", "explode": true, "schema": schema,
        "description": "The value of a key of the metadata, as text: `metadata.attempt=2`.",
        "example": {"metadata.attempt": "2"},
    })
}

/// Which runs.
fn run_filters() -> Vec<Value> {
    let states = [RunState::Running, RunState::Succeeded, RunState::Failed].map(RunState::as_str);
    let mut all = vec![
        query("state", "In this state.", &json!({"type": "string", "enum": states}), "succeeded".into()),
        query("source_system", "Equal, letter for letter.", &schema::identifier(), "shop".into()),
        query("stage", "Equal, letter for letter.", &schema::identifier(), "load".into()),
    ];
    all.extend(of_sources());
    all.extend(span("started_at"));
    all
}

/// Of pages of runs in any order.
fn runs_wanted() -> Vec<Value> {
    let seconds = json!({"type": "number", "minimum": 0});
    let mut all = run_filters();
    all.push(query("q", "Text that run_id, title or failure has in it, in any case.", &text(), "orders".into()));
    all.push(query("duration_min", "At least so many seconds long.", &seconds, 0.5.into()));
    all.push(query("duration_max", "At most so many seconds long.", &seconds, 3_600.into()));
    all
}

/// Of pages of runs that a target has.
pub(super) fn target_runs() -> Vec<Value> {
    let stores = json!({"type": "string", "enum": ["dynamodb", "postgres"]});
    let mut all = runs_wanted();
    all.push(query(
        "store",
        "Which target; the first of these that the settings name, unless given.",
        &stores,
        "postgres".into(),
    ));
    all.extend(page());
    all
}

/// Of pages of runs.
pub(super) fn runs() -> Vec<Value> {
    let orders = json!({"type": "string", "enum": ["newest", "oldest", "longest"], "default": "newest"});
    let mut all = runs_wanted();
    all.push(query("order", "Which come first.", &orders, "longest".into()));
    all.extend(page());
    all
}

/// Of runs that are counted.
pub(super) fn metrics() -> Vec<Value> {
    let names = json!({"type": "string", "enum": ["source_system", "stage", "environment", "owner"]});
    let percentiles = json!({
        "type": "array", "minItems": 1, "maxItems": METRICS_PERCENTILES_MAX, "uniqueItems": true,
        "items": {"type": "number", "minimum": 0, "maximum": 100}, "default": [50, 95, 99],
    });
    let buckets = json!({"type": "string", "pattern": "^[1-9][0-9]{0,2}[smhdw]$"});
    let groups = json!({"type": "array", "minItems": 1, "uniqueItems": true, "items": names});
    let mut all = run_filters();
    all.push(list(query("group_by", "What each group has alike.", &groups, json!(["stage"]))));
    all.push(query("bucket", "The length of a bucket of time, up to 100 years.", &buckets, "1h".into()));
    all.push(list(query("percentiles", "Of the durations, without an exponent.", &percentiles, json!([50, 99.9]))));
    all
}

/// Its values have commas between.
fn list(mut parameter: Value) -> Value {
    (parameter["style"], parameter["explode"]) = ("form".into(), false.into());
    parameter
}

/// Of values of a field.
pub(super) fn values() -> Vec<Value> {
    let names: Vec<&str> = Column::ALL.into_iter().filter(|column| has_values(*column)).map(Column::name).collect();
    let mut field = query("field", "Whose values.", &json!({"type": "string", "enum": names}), "type".into());
    (field["required"], field["allowEmptyValue"]) = (true.into(), false.into());
    let [limit, _] = page();
    let mut all = vec![field, query("prefix", "What values begin with, in any case.", &text(), "s".into()), limit];
    all.extend(filters(false));
    all
}

/// The run in a path.
pub(super) fn run_id() -> Value {
    json!({
        "name": "run_id", "in": "path", "required": true, "description": "The run.", "schema": schema::identifier(),
        "example": "nightly-1",
    })
}

/// The code in a path.
pub(super) fn code() -> Value {
    json!({
        "name": "code", "in": "path", "required": true, "description": "The error code.", "example": "not_found",
        "schema": {"$ref": "#/components/schemas/Code"},
    })
}

/// Of a body that may be compressed.
pub(super) fn coding() -> Value {
    json!({
        "name": "Content-Encoding", "in": "header", "description": "How the body is compressed; empty: not.",
        "schema": {"type": "string", "enum": ["gzip", "zstd", "identity", ""], "default": "identity"}, "example": "identity",
    })
}

/// The key under which a repeated request is not done twice.
pub(super) fn idempotency_key() -> Value {
    let schema =
        json!({"type": "string", "minLength": 1, "maxLength": IDEMPOTENCY_KEY_BYTES_MAX, "pattern": "^[!-~]+$"});
    json!({
        "name": "Idempotency-Key", "in": "header", "schema": schema, "example": "nightly-1-done",
        "description": "A repeated request under it is not done twice: the first answer comes again.",
    })
}

/// Headers that many requests take.
pub(super) fn headers() -> Value {
    json!({
        "X-Request-Id": {
            "name": "X-Request-Id", "in": "header", "schema": {"type": "string"}, "example": "nightly-1/load",
            "description": "A name for the exchange: 1 to 128 visible ASCII characters. Anything else is replaced by a new one.",
        },
        "If-None-Match": {
            "name": "If-None-Match", "in": "header", "schema": {"type": "string"},
            "example": "\"c67f7d1edae0c9b6882543c6e3b931a5\"",
            "description": "Tags of answers that the client has, or `*`.",
        },
    })
}
