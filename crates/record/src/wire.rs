//! Bodies of the HTTP API, version 1, as the server writes and clients read them. Owns their shapes; a field,
//! once here, keeps its name and meaning. Records themselves are written by [`crate::Batch::write_json`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::params::Params;
#[cfg(feature = "openapi")]
use crate::schema;

/// The answer to `POST /api/v1/logs` once the body could be parsed (200, 207, or 422 when nothing was valid).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct IngestAnswer {
    /// Records of the request that are durable now, duplicates included.
    pub accepted: u64,
    /// How many of those were there before: same id, same payload.
    pub duplicates: u64,
    /// Records that were refused.
    pub rejected: u64,
    /// The journal that took them, as `uuid/epoch`; absent when nothing new was written.
    pub journal: Option<String>,
    /// The position of the first new record.
    pub first_position: Option<u64>,
    /// The position of the last new record.
    pub last_position: Option<u64>,
    /// The first hundred refusals.
    pub errors: Vec<ItemErrorBody>,
}

/// One refused record in an [`IngestAnswer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct ItemErrorBody {
    /// The record's place in the request, from 0; blank NDJSON lines do not count.
    pub index: u64,
    /// An error code.
    #[cfg_attr(feature = "openapi", schemars(with = "schema::Code"))]
    pub code: String,
    /// What is wrong and what would be right.
    pub message: String,
    /// The field at fault, where there is one.
    pub field: Option<String>,
}

/// The answer to a request that failed as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct ErrorBody {
    /// An error code.
    #[cfg_attr(feature = "openapi", schemars(with = "schema::Code"))]
    pub error: String,
    /// What is wrong and what to do.
    pub message: String,
    /// May the same request succeed later?
    pub retryable: bool,
    /// A page about the code, relative to the server's address.
    #[serde(default)]
    pub help: String,
    /// The exchange's name in the server's log: that of `X-Request-Id`.
    #[serde(default)]
    pub request_id: String,
}

/// A page of records: `GET /api/v1/logs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct LogsPage {
    /// The records, each an object of the fields that it has.
    #[cfg_attr(feature = "openapi", schemars(with = "Vec<schema::StoredRecord>"))]
    pub records: Vec<serde_json::Value>,
    /// The cursor of the next page; null on the last.
    pub next: Option<String>,
}

/// A page of runs: `GET /api/v1/runs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct RunsPage {
    /// The runs, in the order that was asked for: the latest start first unless another was. Those that moved in it since the
    /// walk's first page come last.
    pub runs: Vec<RunBody>,
    /// The cursor of the next page; null on the last.
    pub next: Option<String>,
}

/// A run: `GET /api/v1/runs/{run_id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct RunBody {
    /// The run's id.
    pub run_id: String,
    /// `running`, `succeeded` or `failed`.
    #[cfg_attr(feature = "openapi", schemars(with = "schema::State"))]
    pub state: String,
    /// The system of its earliest record that names one.
    pub source_system: Option<String>,
    /// The stage of its earliest record that names one.
    pub stage: Option<String>,
    /// The title, else the message, of its earliest record that has one.
    pub title: Option<String>,
    /// The earliest timestamp, or an activity's less its duration; RFC 3339 with microseconds.
    #[cfg_attr(feature = "openapi", schemars(with = "schema::Time"))]
    pub started_at: String,
    /// The timestamp of the record that closed it.
    #[cfg_attr(feature = "openapi", schemars(with = "Option<schema::Time>"))]
    pub ended_at: Option<String>,
    /// The latest timestamp.
    #[cfg_attr(feature = "openapi", schemars(with = "schema::Time"))]
    pub last_at: String,
    /// Seconds from start to end, or to the latest record while it runs.
    pub duration: f64,
    /// Its records.
    pub records: u64,
    /// Records of level WARNING.
    pub warnings: u64,
    /// Records of level ERROR or CRITICAL.
    pub errors: u64,
    /// The sum of `row_count`; absent where no record has one.
    pub row_count: Option<i64>,
    /// The latest failure's message, where the run failed.
    pub failure: Option<String>,
    /// The highest position among its records, in the journal that took it.
    pub last_position: u64,
    /// Where its source system runs, as the server's configuration says.
    #[serde(default)]
    pub environment: Option<String>,
    /// Who answers for its source system, as the server's configuration says.
    #[serde(default)]
    pub owner: Option<String>,
    /// What else the server's configuration says of its source system.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// What records have: `GET /api/v1/fields`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct FieldsAnswer {
    /// The fields that some record has, in the order of the record; then the keys of its metadata, the most frequent first.
    pub fields: Vec<FieldBody>,
    /// Records whose metadata was looked at, the newest that have some.
    pub metadata_sample: u64,
}

/// A field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct FieldBody {
    /// Its name; a key of the metadata stands behind `metadata.`.
    pub name: String,
    /// Its type in SQL; `json` for a key of the metadata.
    #[serde(rename = "type")]
    pub kind: String,
    /// Can records be filtered by it?
    pub filter: bool,
    /// Records that have it.
    pub records: u64,
    /// Was only a sample counted?
    pub sampled: bool,
}

/// The values of a field: `GET /api/v1/values`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct ValuesAnswer {
    /// Of which field.
    pub field: String,
    /// The values, the most frequent first.
    pub values: Vec<ValueBody>,
    /// Are there more?
    pub truncated: bool,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct ValueBody {
    /// As records have it.
    pub value: String,
    /// Records that have it.
    pub records: u64,
}

/// Runs counted: `GET /api/v1/metrics`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct MetricsAnswer {
    /// Runs that started at or after this time are counted.
    #[cfg_attr(feature = "openapi", schemars(with = "Option<schema::Time>"))]
    pub since: Option<String>,
    /// Runs that started before this time are.
    #[cfg_attr(feature = "openapi", schemars(with = "Option<schema::Time>"))]
    pub until: Option<String>,
    /// The length of a bucket.
    pub bucket_seconds: Option<u64>,
    /// In the order of buckets, then of names; those without a run are left out.
    pub groups: Vec<MetricsGroup>,
}

/// The runs of one group in one bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct MetricsGroup {
    /// When its bucket begins; there where buckets were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(with = "schema::Time"))]
    pub bucket: Option<String>,
    /// What it is told apart by, a member for each: `source_system`, `stage`, `environment`, `owner`.
    #[serde(flatten)]
    pub by: BTreeMap<String, Option<String>>,
    /// Its runs.
    pub runs: u64,
    /// Those that nothing closed yet.
    pub running: u64,
    /// Those that closed well.
    pub succeeded: u64,
    /// Those that failed.
    pub failed: u64,
    /// The share of `succeeded` in those that ended; null where none did.
    pub success_rate: Option<f64>,
    /// How long those took that ended; null where none did.
    pub duration: Option<MetricsDuration>,
    /// The sum of their `row_count`; null where none has one.
    pub row_count: Option<i64>,
    /// Their records.
    pub records: u64,
    /// Records of level WARNING.
    pub warnings: u64,
    /// Records of level ERROR or CRITICAL.
    pub errors: u64,
}

/// How long runs took, in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct MetricsDuration {
    /// All together.
    pub sum: f64,
    /// On average.
    pub mean: f64,
    /// The shortest.
    pub min: f64,
    /// The longest.
    pub max: f64,
    /// Percentiles, a member for each: `p50`, `p99.9`.
    #[serde(flatten)]
    pub percentiles: BTreeMap<String, f64>,
}

/// The body of `POST /api/v1/query`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct QueryRequest {
    /// One read-only SQL statement.
    #[cfg_attr(feature = "openapi", schemars(length(min = 1, max = "crate::limits::SQL_BYTES_MAX")))]
    pub sql: String,
    /// Values for the `$name`s in it.
    #[serde(default, skip_serializing_if = "Params::is_empty")]
    pub params: Params,
    /// Milliseconds that it may run, where that is less than the server allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// At most so many rows: the answer is cut there. Without it an answer that is too large is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(range(min = 1)))]
    pub max_rows: Option<u64>,
    /// `json`, `ndjson`, `csv`, `parquet` or `arrow`; by `Accept` where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(extend("enum" = ["json", "ndjson", "csv", "parquet", "arrow", null])))]
    pub format: Option<String>,
}

/// A column of a [`QueryAnswer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct QueryColumn {
    /// The name.
    pub name: String,
    /// The SQL type, in DataFusion's spelling.
    #[serde(rename = "type")]
    pub kind: String,
}

/// What a query cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct QueryStats {
    /// Rows in the answer.
    pub rows: u64,
    /// Milliseconds from the parsed request to the last row.
    pub elapsed_ms: f64,
    /// Were rows cut off, at `max_rows` or at the server's limits?
    pub truncated: bool,
}

/// The answer to `POST /api/v1/query`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct QueryAnswer {
    /// The columns, in order.
    pub columns: Vec<QueryColumn>,
    /// The rows, each an object with every column.
    #[cfg_attr(feature = "openapi", schemars(with = "Vec<schema::Row>"))]
    pub rows: Vec<serde_json::Value>,
    /// What it cost.
    pub stats: QueryStats,
}
