//! X-Ray, on request: each append is a subsegment of the invocation's trace, sent to the daemon that Lambda runs. Owns the
//! document; never waits for anybody.

use std::net::UdpSocket;

use serde_json::{Value, json};

use super::Environment;

/// `true` has appends traced.
const TRACING: &str = "RUNSTONE_LOGGER_TRACING";
/// Set by Lambda.
const DAEMON: &str = "AWS_XRAY_DAEMON_ADDRESS";
const HEADER: &str = r#"{"format":"json","version":1}"#;

/// Sends subsegments, where that is wanted.
#[derive(Debug)]
pub struct Tracer {
    daemon: Option<UdpSocket>,
}

impl Tracer {
    pub(super) fn new(environment: &Environment) -> Self {
        let wanted = environment(TRACING).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let daemon = wanted.then(|| environment(DAEMON)).flatten().and_then(|address| {
            let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
            socket.connect(address).ok()?;
            socket.set_nonblocking(true).ok()?;
            Some(socket)
        });
        Self { daemon }
    }

    /// An append, from when to when in microseconds since 1970, in the trace that this header names.
    pub(super) fn append(&self, trace: Option<&str>, table: &str, time: (i64, i64), succeeded: bool) {
        let (Some(daemon), Some(segment)) =
            (&self.daemon, trace.and_then(|trace| subsegment(trace, table, time, succeeded)))
        else {
            return;
        };
        // What the daemon does not take is missing in the trace, and nowhere else.
        let _ = daemon.send(format!("{HEADER}\n{segment}").as_bytes());
    }
}

/// The document; none where the trace is not recorded.
fn subsegment(trace: &str, table: &str, (began, ended): (i64, i64), succeeded: bool) -> Option<Value> {
    let part = |name: &str| {
        let mut parts = trace.split(';').filter_map(|part| part.trim().split_once('='));
        parts.find(|(of, _)| of.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    if part("Sampled") != Some("1") {
        return None;
    }
    let seconds =
        |micros: i64| Value::from(std::time::Duration::from_micros(u64::try_from(micros).unwrap_or(0)).as_secs_f64());
    Some(json!({
        "name": "DynamoDB",
        "id": format!("{:016x}", random()),
        "trace_id": part("Root")?,
        "parent_id": part("Parent")?,
        "type": "subsegment",
        "namespace": "aws",
        "start_time": seconds(began),
        "end_time": seconds(ended),
        "fault": !succeeded,
        "aws": {"operation": "UpdateItem", "table_name": table},
    }))
}

pub(super) fn random() -> u64 {
    // Without entropy a trace has two subsegments of one id.
    getrandom::u64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_recorded_traces_get_a_subsegment() {
        let trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
        let segment = subsegment(trace, "dmdb_logs", (1_500_000, 1_750_000), false).unwrap();
        assert_eq!(segment["trace_id"], "1-5759e988-bd862e3fe1be46a994272793");
        assert_eq!(segment["parent_id"], "53995c3f42cd8ad8");
        assert_eq!((&segment["start_time"], &segment["end_time"]), (&json!(1.5), &json!(1.75)));
        assert_eq!((&segment["fault"], segment["id"].as_str().unwrap().len()), (&json!(true), 16));
        for trace in ["", "Root=1-2-3;Parent=4;Sampled=0", "Root=1-2-3;Sampled=1", "nonsense"] {
            assert_eq!(subsegment(trace, "t", (0, 1), true), None, "{trace}");
        }
    }
}
