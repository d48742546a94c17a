//! `GET /`, `/health`, `/ready` and `/metrics`: for whoever looks at the server itself.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use prometheus_client::metrics::counter::Counter;
use runstone_journal::Health;
use runstone_record::ErrorCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::{App, json};
use crate::http::ApiError;
use crate::lake::{LakeHealth, LakeReport};
use crate::metrics::{self, StateLabels};
use crate::relay::Progress;
use crate::sinks::metrics::{SinkLabels, SinkStateLabels};
use crate::sinks::{SinkHealth, SinkReport, SinkStatus};

/// The process is there.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct HealthBody {
    status: &'static str,
    service: &'static str,
    version: &'static str,
}

/// Whether the server can do its work.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ReadyBody {
    status: &'static str,
    journal: String,
    durable_position: u64,
    readable_position: u64,
    lake: LakeBody,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sinks: Vec<SinkBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Whether records reach the lake.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LakeBody {
    status: &'static str,
    position: u64,
    version: u64,
}

/// Whether records reach a sink.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SinkBody {
    name: &'static str,
    status: &'static str,
    position: u64,
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
    "GET  /api/v1/runs/{run_id}  one run, and /logs its records\n",
    "GET  /api/v1/metrics        runs counted: ?group_by=stage&bucket=1h\n",
    "GET  /api/v1/fields         what records have; /api/v1/values?field=stage\n",
    "POST /api/v1/query          {\"sql\": \"SELECT …\"} over logs and runs\n",
    "POST /log                  an event of the Logger; GET /get/logs/{run_id}: what a run said\n",
    "GET  /get/runs             runs that DynamoDB or PostgreSQL has\n",
    "POST /get/schemas           tables of gateway.database_url, /get/data rows, /execute/query\n",
    "GET  /errors/{code}         what an error means and what to do\n",
    "GET  /openapi.json          this API for programs\n",
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
    let lake = app.lake.report();
    let ended = [&app.recent_progress, &app.runs_progress].into_iter().any(Progress::has_ended);
    let (status, reason) = match reason {
        // What is sent is still kept; what is asked is not answered. A restart reads it back.
        None if ended => {
            ("failed", Some("a reader of the journal has ended: look at the log, then restart".to_owned()))
        }
        None if app.journal.is_over_limit() => {
            ("journal_full", Some("the journal has reached journal.bytes_max: look at the lake".to_owned()))
        }
        reason => (status, reason),
    };
    let (status, reason) = match reason {
        None => of_lake(&lake),
        reason => (status, reason),
    };
    let sinks: Vec<SinkBody> = app.sinks.iter().map(|sink| of_sink(sink)).collect();
    let (status, reason) = match (reason, sinks.iter().find(|sink| sink.reason.is_some())) {
        (None, Some(sink)) => ("degraded", sink.reason.as_ref().map(|reason| format!("{}: {reason}", sink.name))),
        (reason, _) => (status, reason),
    };
    // Degraded, it takes and answers everything: to send its clients away would only make it worse.
    let fine = matches!(status, "ready" | "degraded");
    let code = if fine { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let journal = app.journal.id().to_string();
    let lake = LakeBody { status: lake.health.as_str(), position: lake.through, version: lake.version };
    json(
        code,
        &ReadyBody { status, journal, durable_position: durable, readable_position: readable, lake, sinks, reason },
    )
}

fn of_sink(sink: &SinkStatus) -> SinkBody {
    let SinkReport { health, reason, through, .. } = sink.report();
    SinkBody { name: sink.name(), status: health.as_str(), position: through, reason }
}

fn of_lake(lake: &LakeReport) -> (&'static str, Option<String>) {
    let reason = || Some(lake.reason.clone().unwrap_or_else(|| "the lake was not reached yet".to_owned()));
    match lake.health {
        LakeHealth::Ready => ("ready", None),
        LakeHealth::Opening | LakeHealth::Degraded | LakeHealth::Paused => ("degraded", reason()),
        LakeHealth::Failed => ("failed", reason()),
    }
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
        journal.first_position.set(gauge(stats.first_available));
        journal.segments.set(gauge(stats.segments));
        journal.segment_bytes.set(gauge(stats.segment_bytes));
        self.refresh_lake(stats.durable);
        let (runs, lag) = (&self.metrics.runs, stats.durable.saturating_sub(self.runs_progress.through()));
        runs.known.set(gauge(self.runs.len() as u64));
        runs.lag.set(gauge(lag));
        self.refresh_upkeep();
        let (held, recent) = (self.recent.stats(), &self.metrics.recent);
        self.refresh_sinks(stats.durable);
        recent.bytes.set(gauge(held.bytes as u64));
        recent.chunks.set(gauge(held.chunks as u64));
        recent.records.set(gauge(held.records));
        recent.evicted.set(gauge(held.evicted));
        self.metrics.exports.running.set(gauge(self.sql.exports_running() as u64));
    }
}

impl App {
    fn refresh_lake(&self, durable: u64) {
        let (report, lake) = (self.lake.report(), &self.metrics.lake);
        lake.position.set(gauge(report.through));
        lake.lag_records.set(gauge(durable.saturating_sub(report.through)));
        let waits = report.oldest.map_or(0, |oldest| self.clock.now_micros().saturating_sub(oldest).max(0));
        lake.lag_seconds.set(Duration::from_micros(u64::try_from(waits).unwrap_or(0)).as_secs_f64());
        lake.version.set(gauge(report.version));
        lake.table_files.set(gauge(report.files));
        lake.table_rows.set(gauge(report.rows));
        lake.table_bytes.set(gauge(report.bytes));
        for health in LakeHealth::ALL {
            let state = lake.state.get_or_create(&StateLabels { state: health.as_str() });
            state.set(i64::from(health == report.health));
        }
    }
}

impl App {
    fn refresh_sinks(&self, durable: u64) {
        let metrics = &self.metrics.sinks;
        for status in &*self.sinks {
            let (report, sink) = (status.report(), status.name());
            let labels = SinkLabels { sink };
            metrics.position.get_or_create(&labels).set(gauge(report.through));
            metrics.lag_records.get_or_create(&labels).set(gauge(durable.saturating_sub(report.through)));
            let waits = report.oldest.map_or(0, |oldest| self.clock.now_micros().saturating_sub(oldest).max(0));
            let waits = Duration::from_micros(u64::try_from(waits).unwrap_or(0));
            metrics.lag_seconds.get_or_create(&labels).set(waits.as_secs_f64());
            for health in SinkHealth::ALL {
                let state = metrics.state.get_or_create(&SinkStateLabels { sink, state: health.as_str() });
                state.set(i64::from(health == report.health));
            }
        }
    }
}

impl App {
    fn refresh_upkeep(&self) {
        let (progress, upkeep) = (self.upkeep.progress(), &self.metrics.upkeep);
        let set = |counter: &Counter, value: u64| counter.inner().store(value, Ordering::Relaxed);
        set(&upkeep.runs, progress.runs);
        set(&upkeep.merged_files, progress.total.merged_files);
        set(&upkeep.made_files, progress.total.made_files);
        set(&upkeep.merged_records, progress.total.merged_rows);
        set(&upkeep.conflicts, progress.total.conflicts);
        set(&upkeep.retired_records, progress.total.retired_rows);
        set(&upkeep.deleted_files, progress.total.deleted_files);
        set(&upkeep.deleted_bytes, progress.total.deleted_bytes);
        upkeep.running.set(i64::from(progress.running.is_some()));
        upkeep.failures.set(gauge(progress.total.failures.len() as u64));
        upkeep.last_run.set(progress.last_ms.map_or(0.0, |at| Duration::from_millis(at.unsigned_abs()).as_secs_f64()));
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
