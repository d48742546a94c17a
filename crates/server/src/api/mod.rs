//! The HTTP API: routes and what their handlers share. A handler extracts, calls and converts; the rules stand in
//! `record`, `intake`, `runs` and `store`.

mod database;
mod errors;
mod format;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;
mod gateway;
mod ingest;
mod logs;
mod metrics;
mod openapi;
mod params;
mod query;
mod run_log;
mod runs;
mod status;
mod target_runs;
#[cfg(test)]
mod tests;
mod values;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use runstone_journal::Journal;
use runstone_record::ErrorCode;
use runstone_store::lake::Upkeep;
use runstone_store::{Recent, Sql};

pub(crate) use self::gateway::own_body;
use self::params::{NoParams, Params};
use crate::clock::Clock;
use crate::database::Gateway;
use crate::http::{Admission, ApiError, BodyLimits, etag};
use crate::intake::Intake;
use crate::lake::LakeStatus;
use crate::metrics::Metrics;
use crate::relay::Progress;
use crate::runs::Runs;
use crate::sinks::{SinkStatus, Targets};

/// How long a reader waits for what was acknowledged before it asked. Consumers are milliseconds behind, but for a
/// start with a long journal.
const FRESH_TIMEOUT: Duration = Duration::from_secs(5);

/// What the handlers share.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) intake: Intake,
    pub(crate) journal: Arc<Journal>,
    pub(crate) recent: Arc<Recent>,
    pub(crate) sql: Arc<Sql>,
    pub(crate) runs: Runs,
    pub(crate) lake: Arc<LakeStatus>,
    pub(crate) sinks: Arc<[Arc<SinkStatus>]>,
    pub(crate) targets: Arc<Targets>,
    pub(crate) gateway: Gateway,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) recent_progress: Progress,
    pub(crate) runs_progress: Progress,
    pub(crate) admission: Admission,
    pub(crate) body_limits: BodyLimits,
    pub(crate) upkeep: Arc<Upkeep>,
    pub(crate) metrics: Metrics,
}

/// Every route.
pub(crate) fn router(app: App) -> Router {
    let document = Bytes::from(openapi::document().to_string());
    Router::new()
        .route("/api/v1/logs", get(logs::page).post(ingest::append))
        .route("/api/v1/runs", get(runs::page))
        .route("/api/v1/runs/{run_id}", get(runs::one))
        .route("/api/v1/runs/{run_id}/logs", get(logs::page_of_run))
        .route("/api/v1/metrics", get(metrics::answer))
        .route("/api/v1/fields", get(values::fields))
        .route("/api/v1/values", get(values::values))
        .route("/api/v1/query", post(query::run))
        .route("/errors", get(errors::list))
        .route("/errors/{code}", get(errors::one))
        .route("/openapi.json", get(async move |_: NoParams| json_bytes(StatusCode::OK, document.clone())))
        // What comes after this is watched, not kept.
        .layer(middleware::from_fn(etag::validate))
        .route("/log", post(gateway::log))
        .route("/get/logs/{run_id}", get(run_log::logs))
        .route("/get/runs", get(target_runs::page))
        .route("/get/schemas", post(database::schemas))
        .route("/get/data", post(database::data))
        .route("/execute/query", post(database::execute))
        .route("/", get(status::index))
        .route("/health", get(status::health))
        .route("/ready", get(status::ready))
        .route("/metrics", get(status::metrics))
        .with_state(app)
}

impl App {
    /// The parameters of a URL, with relative times before now.
    fn params(&self, query: Option<&str>) -> Result<Params, ApiError> {
        Params::parse(query, self.clock.now_micros())
    }

    /// Waits until readers see everything that was acknowledged before now.
    async fn fresh(&self, progress: &Progress) -> Result<(), ApiError> {
        let durable = self.journal.durable();
        if progress.reach(durable, FRESH_TIMEOUT).await {
            return Ok(());
        }
        let message = format!("still reading the journal: at position {} of {durable}", progress.through());
        Err(ApiError::new(ErrorCode::Unavailable, message).retry_after(2))
    }
}

/// A JSON answer from bytes that are JSON already.
fn json_bytes(status: StatusCode, body: impl Into<axum::body::Body>) -> Response {
    let mut response = (status, body.into()).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A JSON answer.
fn json(status: StatusCode, body: &impl serde::Serialize) -> Result<Response, ApiError> {
    let bytes = serde_json::to_vec(body).map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?;
    Ok(json_bytes(status, bytes))
}
