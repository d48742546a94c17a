//! `POST /api/v1/query`: one read-only SQL statement.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode, Version};
use runstone_record::ErrorCode;
use runstone_record::wire::QueryRequest;
use runstone_store::{QueryError, Question};
use serde_json::error::Category;

use super::format::{Wanted, respond, varies};
use super::params::NoParams;
use super::{App, json_bytes};
use crate::http::{ApiError, MediaType, body};

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        ApiError::new(error.code(), error.to_string())
    }
}

pub(super) async fn run(
    State(app): State<App>,
    _: NoParams,
    version: Version,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    if MediaType::of(&headers)? != MediaType::Json {
        return Err(ApiError::new(ErrorCode::UnsupportedMediaType, "send the query as application/json"));
    }
    let payload = body::read(&headers, body, &app.body_limits, &app.admission).await?;
    let request: QueryRequest = read_request(&payload.bytes)?;
    let wanted = Wanted::read(request.format.as_deref(), &headers)?.over(version)?;
    if request.max_rows == Some(0) {
        return Err(ApiError::new(ErrorCode::InvalidParameter, "max_rows: must be 1 at least"));
    }
    app.fresh(&app.recent_progress).await?;
    app.fresh(&app.runs_progress).await?;
    let question = question(request);
    match wanted {
        Wanted::Json => {
            let answer = app.observed(app.sql.query(question)).await?;
            Ok(varies(json_bytes(StatusCode::OK, answer.into_body())))
        }
        Wanted::Stream(format) => {
            respond(app.sql.stream(question, format).await, format, "query", &app.metrics.exports)
        }
    }
}

fn question(request: QueryRequest) -> Question {
    let QueryRequest { sql, params, timeout_ms, max_rows, format: _ } = request;
    Question { sql, params, timeout: timeout_ms.map(Duration::from_millis), max_rows }
}

/// An object with `sql` and what goes with it, each once. Serde would take an array too.
fn read_request(bytes: &[u8]) -> Result<QueryRequest, ApiError> {
    let wanted = r#"send an object with one SQL statement: {"sql": "SELECT …"}"#;
    let read = match bytes.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(bytes),
        _ => serde_json::from_slice::<serde::de::IgnoredAny>(bytes)
            .and_then(|_| Err(serde::de::Error::custom("it is no object"))),
    };
    read.map_err(|error| match error.classify() {
        Category::Data => ApiError::new(ErrorCode::InvalidQuery, format!("{error}; {wanted}")),
        Category::Io | Category::Syntax | Category::Eof => {
            ApiError::new(ErrorCode::InvalidJson, format!("parse the body as JSON: {error}; {wanted}"))
        }
    })
}

impl App {
    /// Counts and times a query.
    pub(super) async fn observed<T>(&self, query: impl Future<Output = Result<T, QueryError>>) -> Result<T, ApiError> {
        let started = std::time::Instant::now();
        let answer = query.await;
        self.metrics.queries.duration.observe(started.elapsed().as_secs_f64());
        self.metrics.queries.finish(answer.as_ref().map_or_else(|error| error.code().as_str(), |_| "ok"));
        Ok(answer?)
    }
}
