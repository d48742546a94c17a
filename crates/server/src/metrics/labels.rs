//! What metrics are told apart by: closed sets of the server's own words.

use prometheus_client::encoding::EncodeLabelSet;

/// Labels of an answered request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// The route's pattern, or `other`.
    pub route: String,
    /// The method, or `other`.
    pub method: &'static str,
    /// The status.
    pub status: u16,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RouteLabels {
    /// The route's pattern, or `other`.
    pub route: String,
}

/// An error code.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CodeLabels {
    /// [`runstone_record::ErrorCode::as_str`].
    pub code: &'static str,
}

/// Why a connection was closed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabels {
    /// `evicted`, `refused`, `header_timeout`, `idle_timeout`, `write_timeout` or `stopped`.
    pub reason: &'static str,
}

/// How the relay to the lake is doing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StateLabels {
    /// `opening`, `ready`, `degraded`, `paused` or `failed`.
    pub state: &'static str,
}

/// The format of a streamed answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FormatLabels {
    /// `ndjson`, `csv`, `parquet` or `arrow`.
    pub format: &'static str,
}

/// How a streamed answer ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ExportLabels {
    /// `ndjson`, `csv`, `parquet` or `arrow`.
    pub format: &'static str,
    /// `ok`, `cancelled` where the client went away, or an error code.
    pub outcome: &'static str,
}

impl ExportLabels {
    /// The client went away.
    pub const CANCELLED: &'static str = "cancelled";
}

/// How a query ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// `ok`, or an error code.
    pub outcome: &'static str,
}
