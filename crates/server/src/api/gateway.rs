//! The route that callers of the Logger know, `POST /log`, and failures as its callers expect them. Owns this one; the words
//! of an answer stand in `record::logger`, and `GET /get/logs/{run_id}` in `run_log`.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use runstone_record::logger::{self, Answer, Failure, Refusal};

use super::ingest::aside;
use super::params::NoParams;
use super::{App, json_bytes};
use crate::http::{ApiError, MediaType, body};
use crate::intake::IntakeError;

fn failure(error: &ApiError) -> Vec<u8> {
    Failure::body(error.message()).into_bytes()
}

/// Failures are written as the gateway's clients expect them, whoever finds them.
pub(crate) fn own_body(path: &str) -> Option<fn(&ApiError) -> Vec<u8>> {
    let is_ours = path == "/log" || path.starts_with("/get/") || path.starts_with("/execute/");
    is_ours.then_some(failure as fn(&ApiError) -> Vec<u8>)
}

/// `POST /log`: one entry for the log of one run, durable once answered.
pub(super) async fn log(
    State(app): State<App>,
    _: NoParams,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    MediaType::of(&headers)?;
    let payload = body::read(&headers, body, &app.body_limits, &app.admission).await?;
    let (event, now) = (payload.bytes.clone(), app.clock.now_micros());
    let entry = match aside(event.len(), move || logger::read(&event, now).1).await? {
        Ok(entry) => entry,
        Err(refusal) => return Ok(answer(&refusal.answer())),
    };
    let appended = Answer::appended(&entry);
    let failed = |error: IntakeError| ApiError::new(error.code(), logger::not_appended(&error.to_string()));
    let taken = app.intake.take(entry.parsed, None).await.map_err(failed)?;
    if let Some(refused) = taken.answer.errors.first() {
        return Ok(answer(&Refusal::of_entry(&refused.message).answer()));
    }
    app.metrics.ingest.bytes.inc_by(payload.bytes.len() as u64);
    Ok(answer(&appended))
}

fn answer(answer: &Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json_bytes(status, answer.body.clone())
}
