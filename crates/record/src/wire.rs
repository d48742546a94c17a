//! Bodies of the HTTP API, version 1, as the server writes and clients read them. Owns their shapes; a field,
//! once here, keeps its name and meaning. Records themselves are written by [`crate::Batch::write_json`].

use serde::{Deserialize, Serialize};

/// The answer to `POST /api/v1/logs` once the body could be parsed (200, 207, or 422 when nothing was valid).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
pub struct ItemErrorBody {
    /// The record's place in the request, from 0; blank NDJSON lines do not count.
    pub index: u64,
    /// An error code.
    pub code: String,
    /// What is wrong and what would be right.
    pub message: String,
    /// The field at fault, where there is one.
    pub field: Option<String>,
}

/// The answer to a request that failed as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// An error code.
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
pub struct LogsPage {
    /// The records, each an object of the fields that it has.
    pub records: Vec<serde_json::Value>,
    /// The cursor of the next page; null on the last.
    pub next: Option<String>,
}

/// A page of runs: `GET /api/v1/runs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunsPage {
    /// The runs, latest start first.
    pub runs: Vec<RunBody>,
    /// The cursor of the next page; null on the last.
    pub next: Option<String>,
}

/// A run: `GET /api/v1/runs/{run_id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunBody {
    /// The run's id.
    pub run_id: String,
    /// `running`, `succeeded` or `failed`.
    pub state: String,
    /// The system of its earliest record that names one.
    pub source_system: Option<String>,
    /// The stage of its earliest record that names one.
    pub stage: Option<String>,
    /// The title, else the message, of its earliest record that has one.
    pub title: Option<String>,
    /// The earliest timestamp, or an activity's less its duration; RFC 3339 with microseconds.
    pub started_at: String,
    /// The timestamp of the record that closed it.
    pub ended_at: Option<String>,
    /// The latest timestamp.
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
}

/// The body of `POST /api/v1/query`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryRequest {
    /// One read-only SQL statement.
    pub sql: String,
}

/// A column of a [`QueryAnswer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryColumn {
    /// The name.
    pub name: String,
    /// The SQL type, in DataFusion's spelling.
    #[serde(rename = "type")]
    pub kind: String,
}

/// What a query cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct QueryStats {
    /// Rows in the answer.
    pub rows: u64,
    /// Milliseconds from the parsed request to the last row.
    pub elapsed_ms: f64,
    /// Were rows cut off at the limit?
    pub truncated: bool,
}

/// The answer to `POST /api/v1/query`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueryAnswer {
    /// The columns, in order.
    pub columns: Vec<QueryColumn>,
    /// The rows, each an object with every column.
    pub rows: Vec<serde_json::Value>,
    /// What it cost.
    pub stats: QueryStats,
}
