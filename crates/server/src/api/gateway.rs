//! The routes that callers of the Logger know: `POST /log` and `GET /get/logs/{run_id}`, with bodies of that shape, failures
//! included. Owns these two; the words of an answer stand in `record::logger`.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::{Buf, Bytes, BytesMut};
use futures::{Stream, StreamExt};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode, Version};
use runstone_record::Column;
use runstone_record::logger::{self, Answer, Failure, Refusal};
use runstone_record::time::{format_millis, parse_rfc3339};
use runstone_store::{Format, LogsQuery, Order, QueryError};

use super::format::{Metered, Wanted, metered};
use super::ingest::aside;
use super::params::{NoParams, path_run};
use super::{App, json_bytes};
use crate::http::{ApiError, MediaType, body};
use crate::intake::IntakeError;

fn failure(error: &ApiError) -> Vec<u8> {
    Failure::body(error.message()).into_bytes()
}

/// Failures are written as the gateway's clients expect them, whoever finds them.
pub(crate) fn own_body(path: &str) -> Option<fn(&ApiError) -> Vec<u8>> {
    (path == "/log" || path.starts_with("/get/")).then_some(failure as fn(&ApiError) -> Vec<u8>)
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

/// `GET /get/logs/{run_id}`: all that a run said, as one document.
pub(super) async fn logs(
    State(app): State<App>,
    run_id: Result<Path<String>, PathRejection>,
    _: NoParams,
    version: Version,
) -> Result<Response, ApiError> {
    let run_id = path_run(run_id)?;
    Wanted::Stream(Format::Ndjson).over(version)?;
    app.known_run(&run_id).await?;
    app.fresh(&app.recent_progress).await?;
    let query =
        LogsQuery { order: Order::Oldest, equals: vec![(Column::RunId, run_id.clone())], ..LogsQuery::default() };
    let records = metered(app.sql.export(query, None, Format::Ndjson).await, Format::Ndjson, &app.metrics.exports)?;
    let entries = Entries::new(records, &run_id);
    let mut response = Response::new(Body::from_stream(entries));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Makes one document of the lines of an export.
struct Entries {
    records: Metered,
    /// What has no end of line yet.
    rest: BytesMut,
    out: Vec<u8>,
    /// When the first and the last were taken.
    taken: Option<(String, String)>,
    has_ended: bool,
}

impl Entries {
    fn new(records: Metered, run_id: &str) -> Self {
        // An identifier needs no escapes.
        let out = format!("{{\"run_id\":\"{run_id}\",\"logs\":[").into_bytes();
        Self { records, rest: BytesMut::new(), out, taken: None, has_ended: false }
    }

    fn add(&mut self, piece: &[u8]) -> Result<(), QueryError> {
        self.rest.extend_from_slice(piece);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line = self.rest.split_to(end);
            self.rest.advance(1);
            if self.taken.is_some() {
                self.out.push(b',');
            }
            let at = logger::write_entry_of(&line, &mut self.out);
            let at = at.ok_or_else(|| QueryError::Internal("make an entry of a record".to_owned()))?;
            self.taken = Some(match self.taken.take() {
                None => (at.clone(), at),
                Some((first, last)) => (first.min(at.clone()), last.max(at)),
            });
        }
        Ok(())
    }

    fn end(&mut self) {
        let (first, last) = self.taken.take().unwrap_or_default();
        let millis = |at: &str| parse_rfc3339(at).map(format_millis).unwrap_or_default();
        let end = format!("],\"created_at\":\"{}\",\"updated_at\":\"{}\"}}", millis(&first), millis(&last));
        self.out.extend_from_slice(end.as_bytes());
    }
}

impl Stream for Entries {
    type Item = Result<Bytes, QueryError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        loop {
            let polled = self.records.poll_next_unpin(context);
            let done = match polled {
                Poll::Pending if self.out.is_empty() => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(Some(piece)) => piece.and_then(|piece| self.add(&piece)),
                Poll::Ready(None) => {
                    self.end();
                    self.has_ended = true;
                    Ok(())
                }
            };
            if let Err(error) = done {
                self.records.break_off(&error);
                self.has_ended = true;
                return Poll::Ready(Some(Err(error)));
            }
            if !self.out.is_empty() {
                break;
            }
        }
        Poll::Ready(Some(Ok(std::mem::take(&mut self.out).into())))
    }
}
