//! Why a query has no answer. Owns sorting DataFusion's errors into what the caller did, what the data did, what the
//! limits did and what we did.

use std::fmt;

use datafusion::common::DataFusionError;
use runstone_record::ErrorCode;
use runstone_record::limits::EXPORT_PACE_BYTES;

use crate::recent::OlderError;

/// Why a query has no answer. The messages are meant for whoever wrote the query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The text cannot be parsed or planned, or asks for what is not allowed.
    #[error("{0}")]
    Invalid(String),
    /// A parameter of a page is wrong.
    #[error("{0}")]
    Parameter(String),
    /// The query met an error in the data.
    #[error("{0}")]
    Failed(String),
    /// It ran longer than it may.
    #[error(
        "stop query: it ran longer than {0} ms; ask for less (a narrower range of timestamp helps most), \
         or raise timeout_ms of the request, up to the setting query.timeout_ms"
    )]
    Timeout(u128),
    /// A client did not take its export.
    #[error("stop export: its client took nothing for {0} ms")]
    Stalled(u128),
    /// It needs more of something than it may have.
    #[error("{0}")]
    Limit(String),
    /// It needs more memory than there is.
    #[error(
        "stop query: it needs more memory than it may have; ask for less (fewer columns, groups or rows to sort), \
         or raise query.memory_bytes_max"
    )]
    Memory,
    /// A client took its export slowly while others waited for a place.
    #[error(
        "stop export: others wait for its place, and its client took less than {EXPORT_PACE_BYTES} bytes in {0} ms; \
         write it to a file as fast as it comes"
    )]
    Slow(u128),
    /// Too many of a kind are running and waiting.
    #[error("refuse {0}")]
    Busy(Queue),
    /// A file of the lake cannot be read: its storage is away, or the file is damaged or gone. What reads Parquet passes the
    /// storage's errors on as text, so that nobody can tell.
    #[error("run query: {0}")]
    Unread(String),
    /// We failed.
    #[error("run query: {0}")]
    Internal(String),
}

impl QueryError {
    /// The code of the answer.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            QueryError::Invalid(_) => ErrorCode::InvalidQuery,
            QueryError::Parameter(_) => ErrorCode::InvalidParameter,
            QueryError::Failed(_) => ErrorCode::QueryFailed,
            QueryError::Timeout(_) | QueryError::Stalled(_) | QueryError::Slow(_) => ErrorCode::QueryTimeout,
            QueryError::Limit(_) | QueryError::Memory => ErrorCode::QueryLimit,
            QueryError::Busy(_) => ErrorCode::Overloaded,
            QueryError::Unread(_) => ErrorCode::Unavailable,
            QueryError::Internal(_) => ErrorCode::Internal,
        }
    }

    /// The same with what the limit of memory is.
    pub(crate) fn within(self, memory_bytes: usize) -> Self {
        match self {
            QueryError::Memory => QueryError::Limit(format!(
                "stop query: it needs more memory than it may have, {memory_bytes} bytes for all that run; ask for less \
                 (fewer columns, groups or rows to sort), or raise the setting query.memory_bytes_max"
            )),
            other => other,
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        QueryError::Invalid(message.into())
    }
}

/// What runs in places that are counted, and how many of these there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// One of them.
    pub(crate) one: &'static str,
    /// All of them.
    pub(crate) all: &'static str,
    pub(crate) running_max: usize,
    pub(crate) waiting_max: usize,
    /// The setting that raises `running_max`.
    pub(crate) setting: Option<&'static str>,
    /// Did its turn not come in time? Otherwise too many waited.
    pub(crate) waited: bool,
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { one, all, running_max, waiting_max, setting, waited } = self;
        match waited {
            true => write!(f, "{one}: its turn did not come, of {running_max} {all} that may run at once")?,
            false => write!(f, "{one}: {running_max} {all} run and {waiting_max} wait, as many as may")?,
        }
        match setting {
            Some(setting) => write!(f, "; try again later, or raise the setting {setting}"),
            None => f.write_str("; try again later"),
        }
    }
}

/// Marks an error of ours that travels through DataFusion.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Carried(pub(crate) QueryError);

/// When a query failed: a mistake in planning is the text's, one in running is the data's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Planning,
    Running,
}

pub(crate) fn sort_out(error: &DataFusionError, phase: Phase) -> QueryError {
    if let Some(carried) = carried(error) {
        return carried;
    }
    if let Some(ours) = find::<OlderError>(error).map(ToString::to_string) {
        return QueryError::Internal(ours);
    }
    // Of a table of others: the lake's scans carry theirs.
    if let Some(away) = find::<object_store::Error>(error).map(ToString::to_string) {
        return QueryError::Unread(first_line(&away));
    }
    if let Some(damaged) = find::<parquet::errors::ParquetError>(error).map(ToString::to_string) {
        return QueryError::Unread(format!("read a Parquet file: {}", first_line(&damaged)));
    }
    let root = error.find_root();
    let text = first_line(&root.strip_backtrace());
    match root {
        DataFusionError::ResourcesExhausted(_) => QueryError::Memory,
        DataFusionError::SQL(..) => QueryError::Invalid(format!("parse SQL: {}", without_prefix(&text))),
        DataFusionError::Plan(_) | DataFusionError::SchemaError(..) | DataFusionError::Diagnostic(..) => {
            QueryError::Invalid(format!("plan query: {}", without_prefix(&text)))
        }
        DataFusionError::NotImplemented(_) => {
            QueryError::Invalid(format!("plan query: not supported: {}", without_prefix(&text)))
        }
        DataFusionError::IoError(_) | DataFusionError::ExecutionJoin(_) => QueryError::Internal(text),
        DataFusionError::Internal(_) if phase == Phase::Running => QueryError::Internal(without_prefix(&text)),
        // DataFusion calls some mistakes of the text internal: an operator between types that do not go together.
        DataFusionError::Internal(_) => QueryError::Invalid(format!("plan query: {}", without_prefix(&text))),
        _ if phase == Phase::Planning => QueryError::Invalid(format!("plan query: {}", without_prefix(&text))),
        _ => QueryError::Failed(format!("run query: {}", without_prefix(&text))),
    }
}

fn carried(error: &DataFusionError) -> Option<QueryError> {
    find::<Carried>(error).map(|Carried(query)| query.clone())
}

/// The error of a type among an error and its causes.
fn find<T: std::error::Error + 'static>(error: &DataFusionError) -> Option<&T> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        // These hide their cause from `source`.
        if let Some(DataFusionError::Shared(shared)) = error.downcast_ref::<DataFusionError>() {
            return find(shared);
        }
        next = error.source();
    }
    None
}

/// Bytes of a foreign message that an answer repeats.
const MESSAGE_BYTES_MAX: usize = 1_000;

fn first_line(text: &str) -> String {
    let line = text.split("\n\n").next().unwrap_or(text);
    // A call with the wrong arguments is no fault of the engine's, whatever it says.
    let own = line.split("\nThis issue was likely caused by").next().unwrap_or(line).trim();
    own.chars().take(MESSAGE_BYTES_MAX).map(|c| if c == '\n' { ' ' } else { c }).collect()
}

/// DataFusion's own word for the kind of error says nothing that our code does not.
fn without_prefix(text: &str) -> String {
    let kinds = [
        "Error during planning: ",
        "SQL error: ",
        "Schema error: ",
        "Arrow error: ",
        "Execution error: ",
        "Internal error: ",
        "External error: ",
        "This feature is not implemented: ",
        "Optimizer rule ",
    ];
    let mut text = text;
    while let Some(rest) = kinds.iter().find_map(|kind| text.strip_prefix(kind)) {
        text = rest;
    }
    text.to_owned()
}
