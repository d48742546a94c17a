//! What to read: the filters of `GET /api/v1/logs` and `GET /api/v1/runs`. Owns their names on the wire; the server says
//! what they mean and refuses what is wrong.

use serde::Serialize;

/// Which records, newest first unless `order` says otherwise. Absent fields do not filter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LogFilter {
    /// The system that wrote them.
    pub source_system: Option<String>,
    /// The stage.
    pub stage: Option<String>,
    /// The run.
    pub run_id: Option<String>,
    /// The record's type.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// This level or a graver one.
    pub level: Option<String>,
    /// The logger.
    pub logger_name: Option<String>,
    /// The status.
    pub status: Option<String>,
    /// From this time on, RFC 3339.
    pub since: Option<String>,
    /// Before this time, RFC 3339.
    pub until: Option<String>,
    /// Text in the message, in any case.
    pub q: Option<String>,
    /// `newest` or `oldest` first.
    pub order: Option<String>,
    /// Records of the page.
    pub limit: Option<usize>,
    /// The `next` of the page before.
    pub cursor: Option<String>,
}

/// Which runs, latest start first. Absent fields do not filter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RunFilter {
    /// The system that ran.
    pub source_system: Option<String>,
    /// The stage.
    pub stage: Option<String>,
    /// `running`, `succeeded` or `failed`.
    pub state: Option<String>,
    /// Started at this time or later, RFC 3339.
    pub since: Option<String>,
    /// Started before this time, RFC 3339.
    pub until: Option<String>,
    /// Runs of the page.
    pub limit: Option<usize>,
    /// The `next` of the page before.
    pub cursor: Option<String>,
}
