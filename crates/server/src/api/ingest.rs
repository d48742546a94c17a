//! `POST /api/v1/logs`: one object, an array, or NDJSON.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use runstone_record::code::{STATUS_ALL, STATUS_NONE, STATUS_SOME};
use runstone_record::parse::{self, BodyError, Parsed};
use runstone_record::wire::IngestAnswer;
use runstone_record::{ErrorCode, limits};
use xxhash_rust::xxh3::xxh3_64;

use super::params::NoParams;
use super::{App, json};
use crate::http::{ApiError, MediaType, body};
use crate::intake::{IntakeError, RequestKey};

static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
static IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
static IF_RUN_POSITION: HeaderName = HeaderName::from_static("if-run-position");

/// Bodies from here on are parsed off the threads that serve connections.
const PARSE_INLINE_BYTES_MAX: usize = 64 << 10;

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        ApiError::new(error.code(), error.to_string())
    }
}

impl From<IntakeError> for ApiError {
    fn from(error: IntakeError) -> Self {
        ApiError::new(error.code(), error.to_string())
    }
}

pub(super) async fn append(
    State(app): State<App>,
    _: NoParams,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let media = MediaType::of(&headers)?;
    let key = idempotency_key(&headers)?;
    if headers.contains_key(&IF_RUN_POSITION) {
        let message = "this version does not take If-Run-Position: leave it out";
        return Err(ApiError::new(ErrorCode::InvalidParameter, message));
    }
    // Held until the answer is made: the batch and its frame are about as large as the body.
    let payload = body::read(&headers, body, &app.body_limits, &app.admission).await?;
    let key = key.map(|key| RequestKey { key, body_hash: xxh3_64(&payload.bytes) });
    let parsed = parse(media, payload.bytes.clone()).await?;
    if let Some(key) = &key
        && let Some(taken) = app.intake.begin(key).await?
    {
        return answer(&taken.answer, true);
    }
    let taken = app.intake.take(parsed, key).await?;
    if taken.answer.accepted > 0 {
        app.metrics.ingest.bytes.inc_by(payload.bytes.len() as u64);
    }
    answer(&taken.answer, taken.replayed)
}

async fn parse(media: MediaType, bytes: Bytes) -> Result<Parsed, ApiError> {
    let length = bytes.len();
    let read = move || match media {
        MediaType::Json => parse::json(&bytes),
        MediaType::Ndjson => parse::ndjson(&bytes),
    };
    Ok(aside(length, read).await??)
}

/// Reads a body of so many bytes.
pub(super) async fn aside<T: Send + 'static>(
    length: usize,
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    if length <= PARSE_INLINE_BYTES_MAX {
        return Ok(read());
    }
    let read = tokio::task::spawn_blocking(read).await;
    read.map_err(|_| ApiError::new(ErrorCode::Internal, "the server failed to parse the body; its log says more"))
}

fn answer(answer: &IngestAnswer, replayed: bool) -> Result<Response, ApiError> {
    let status = match (answer.rejected, answer.accepted) {
        (0, _) => STATUS_ALL,
        (_, 0) => STATUS_NONE,
        _ => STATUS_SOME,
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let mut response = json(status, answer)?;
    if replayed {
        response.headers_mut().insert(IDEMPOTENCY_REPLAYED.clone(), HeaderValue::from_static("true"));
    }
    Ok(response)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(&IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    let text = text.filter(|text| (1..=limits::IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len()));
    text.map(|text| Some(text.to_owned())).ok_or_else(|| {
        let max = limits::IDEMPOTENCY_KEY_BYTES_MAX;
        let message = format!("send one Idempotency-Key of 1 to {max} visible ASCII characters");
        ApiError::new(ErrorCode::InvalidParameter, message)
    })
}
