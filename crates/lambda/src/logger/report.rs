//! The function's own log: a JSON object a line, as CloudWatch Logs takes them. Owns where an entry stands that could not be
//! appended, and metrics in the embedded metric format, on request.

use std::io::Write;

use runstone_record::logger::Entry;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Environment;

/// `true` has metrics written.
const METRICS: &str = "RUNSTONE_LOGGER_METRICS";
const NAMESPACE: &str = "Runstone/Logger";
const DIMENSION: &str = "FunctionName";

/// What came of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    Appended,
    Refused,
    Failed,
}

/// The log.
pub struct Report {
    out: Box<dyn Write + Send>,
    /// The function's name, where metrics are wanted.
    metrics: Option<String>,
}

impl Report {
    pub(super) fn new(environment: &Environment, out: Box<dyn Write + Send>) -> Self {
        let wanted = environment(METRICS).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let name = || environment("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_else(|| "logger".to_owned());
        Self { out, metrics: wanted.then(name) }
    }

    fn line(&mut self, line: &str) {
        // One write, so that lines of others do not come in between; nobody is left to tell that the log is gone.
        let _ = self.out.write_all(format!("{line}\n").as_bytes());
        let _ = self.out.flush();
    }

    pub(super) fn say(&mut self, level: &str, message: &str) {
        self.line(&json!({"level": level, "message": message}).to_string());
    }

    /// An entry that is nowhere else: all of it, so that it can be appended later.
    pub(super) fn lost(&mut self, entry: &Entry, reason: &str, request_id: &str) {
        let raw =
            RawValue::from_string(entry.json.clone()).map_or_else(|_| "null".to_owned(), |raw| raw.get().to_owned());
        let message = Value::from(format!("Failed to append log: {reason}"));
        let (request_id, run_id) = (Value::from(request_id), Value::from(entry.run_id.as_str()));
        // An entry may have line ends between its members.
        let raw = raw.replace(['\n', '\r'], " ");
        self.line(&format!(
            r#"{{"level":"ERROR","message":{message},"request_id":{request_id},"run_id":{run_id},"log_entry":{raw}}}"#
        ));
    }

    /// One event's metrics; the times are microseconds since 1970.
    pub(super) fn metrics(&mut self, came: Came, began: i64, ended: i64) {
        let Some(name) = &self.metrics else { return };
        let count = |of: Came| u8::from(came == of);
        let metric = |name: &str, unit: &str| json!({"Name": name, "Unit": unit});
        let line = json!({
            "_aws": {
                "Timestamp": ended / 1_000,
                "CloudWatchMetrics": [{
                    "Namespace": NAMESPACE,
                    "Dimensions": [[DIMENSION]],
                    "Metrics": [
                        metric("Appended", "Count"), metric("Refused", "Count"), metric("Failed", "Count"),
                        metric("Duration", "Milliseconds"),
                    ],
                }],
            },
            DIMENSION: name,
            "Appended": count(Came::Appended),
            "Refused": count(Came::Refused),
            "Failed": count(Came::Failed),
            "Duration": (ended - began) / 1_000,
        });
        self.line(&line.to_string());
    }
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Report").field("metrics", &self.metrics).finish_non_exhaustive()
    }
}
