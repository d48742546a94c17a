//! `GET /`, `/health`, `/ready` and `/metrics`: for whoever looks at the server itself.

use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use runstone_journal::Health;
use runstone_record::ErrorCode;
use serde::Serialize;

use super::{App, json};
use crate::http::ApiError;
use crate::metrics;
use crate::relay::Progress;

/// The process is there.
#[derive(Debug, Serialize)]
struct HealthBody {
    status: &'static str,
    service: &'static str,
    version: &'static str,
}

/// Whether the server can do its work.
#[derive(Debug, Serialize)]
struct ReadyBody {
    status: &'static str,
    journal: String,
    durable_position: u64,
    readable_position: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// For who opens the address in a browser.
const INDEX: &str = concat!(
    "runstone ",
    env!("CARGO_PKG_VERSION"),
    "\n\n",
    "POST /api/v1/logs           send records: JSON or NDJSON\n",
    "GET  /api/v1/logs           read them: ?run_id=…&level=error&q=…\n",
    "GET  /api/v1/runs           runs, the latest first: ?state=failed\n",
    "GET  /api/v1/runs/{run_id}  one run\n",
    "POST /api/v1/query          {\"sql\": \"SELECT …\"} over logs and runs\n",
    "GET  /health  /ready  /metrics\n",
);

pub(super) async fn index() -> &'static str {
    INDEX
}

pub(super) async fn health() -> Result<Response, ApiError> {
    json(StatusCode::OK, &HealthBody { status: "healthy", service: "runstone", version: env!("CARGO_PKG_VERSION") })
}

pub(super) async fn ready(State(app): State<App>) -> Result<Response, ApiError> {
    let durable = app.journal.durable();
    let readable = app.recent_progress.through().min(app.runs_progress.through());
    let (status, reason) = match app.journal.health() {
        Health::Ok => ("ready", None),
        Health::DiskFull(error) => ("disk_full", Some(error.to_string())),
        Health::Unavailable(error) => ("unavailable", Some(error.to_string())),
        Health::Failed(error) => ("failed", Some(error.to_string())),
    };
    let ended = [&app.recent_progress, &app.runs_progress].into_iter().any(Progress::has_ended);
    let (status, reason) = match reason {
        // What is sent is still kept; what is asked is not answered. A restart reads it back.
        None if ended => {
            ("failed", Some("a reader of the journal has ended: look at the log, then restart".to_owned()))
        }
        reason => (status, reason),
    };
    let code = if reason.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let journal = app.journal.id().to_string();
    json(code, &ReadyBody { status, journal, durable_position: durable, readable_position: readable, reason })
}

pub(super) async fn metrics(State(app): State<App>) -> Result<Response, ApiError> {
    app.refresh_gauges();
    let text = app.metrics.encode().map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?;
    let mut response = text.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
    Ok(response)
}

impl App {
    /// What is cheaper to read when asked than to keep.
    fn refresh_gauges(&self) {
        let (stats, journal) = (self.journal.stats(), &self.metrics.journal);
        journal.groups.inner().store(stats.groups, Ordering::Relaxed);
        journal.bytes.inner().store(stats.written_bytes, Ordering::Relaxed);
        journal.syncs.inner().store(stats.syncs, Ordering::Relaxed);
        journal.sync_seconds.inner().store(stats.sync_time.as_secs_f64().to_bits(), Ordering::Relaxed);
        journal.failed_writes.inner().store(stats.failed_writes, Ordering::Relaxed);
        journal.waiting_frames.set(gauge(stats.waiting_frames));
        journal.durable_position.set(gauge(stats.durable));
        let (runs, lag) = (&self.metrics.runs, stats.durable.saturating_sub(self.runs_progress.through()));
        runs.known.set(gauge(self.runs.len() as u64));
        runs.lag.set(gauge(lag));
        let (held, recent) = (self.recent.stats(), &self.metrics.recent);
        recent.bytes.set(gauge(held.bytes as u64));
        recent.chunks.set(gauge(held.chunks as u64));
        recent.records.set(gauge(held.records));
        recent.evicted.set(gauge(held.evicted));
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
