//! `GET /get/logs/{run_id}`: all that a run said, as one document in the Logger's words. Owns making it, of the records that the
//! server has, and of those that only a target has: a run that others appended to DynamoDB, or that is left in PostgreSQL
//! where the server was set up anew.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use bytes::{Buf, Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use http::Version;
use http::header::{CONTENT_TYPE, HeaderValue};
use runstone_record::logger::{self, EntryFilter};
use runstone_record::time::{Moment, format_millis, parse_rfc3339};
use runstone_record::{Column, ErrorCode};
use runstone_sinks::SinkError;
use runstone_store::{Format, LogsQuery, Order, QueryError};

use super::App;
use super::format::{Metered, Wanted, metered};
use super::logs::read_filter;
use super::params::path_run;
use crate::http::ApiError;
use crate::lake::chain;
use crate::sinks::{TargetEntry, TargetLog, shown};

/// After which time a target that cannot be reached is worth another try.
pub(super) const RETRY_AFTER_S: u32 = 5;

pub(super) async fn logs(
    State(app): State<App>,
    run_id: Result<Path<String>, PathRejection>,
    version: Version,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let run_id = path_run(run_id)?;
    let mut params = app.params(query.as_deref())?;
    params.refuse("run_id", "stands in the path")?;
    let sources = app.sources_of(&mut params);
    let wanted = read_filter(&mut params)?;
    params.finish()?;
    Wanted::Stream(Format::Ndjson).over(version)?;
    if let Err(unknown) = app.known_run(&run_id).await {
        let elsewhere = (unknown.code() == ErrorCode::NotFound).then(|| app.targets.log(&run_id, &app.sinks));
        return match elsewhere {
            Some(found) => match found.await.map_err(|error| away(&error))? {
                Some(log) => Ok(document(of_target(log, &run_id, filter(wanted, sources)))),
                None => Err(unknown),
            },
            None => Err(unknown),
        };
    }
    app.fresh(&app.recent_progress).await?;
    let mut query = LogsQuery { order: Order::Oldest, ..wanted };
    query.any_of.extend(sources);
    query.equals.push((Column::RunId, run_id.clone()));
    let records = metered(app.sql.export(query, None, Format::Ndjson).await, Format::Ndjson, &app.metrics.exports)?;
    Ok(document(Body::from_stream(Entries::new(records, &run_id))))
}

fn document(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Whether there is such a run is not known.
fn away(error: &SinkError) -> ApiError {
    let message = format!("no run has this id here, and whether a target has it is not known: {}", shown(chain(error)));
    ApiError::new(ErrorCode::Unavailable, message).retry_after(RETRY_AFTER_S)
}

fn filter(wanted: LogsQuery, sources: Option<(Column, Vec<String>)>) -> EntryFilter {
    let micros = |moment: Option<Moment>| moment.map(Moment::micros);
    EntryFilter {
        equals: wanted.equals,
        any_of: sources.into_iter().collect(),
        min_level: wanted.min_level,
        since: micros(wanted.since),
        until: micros(wanted.until),
        contains: wanted.contains,
        metadata: wanted.metadata,
    }
}

/// The document of a log that a target has, page by page.
fn of_target(log: TargetLog, run_id: &str, filter: EntryFilter) -> Body {
    let begun = (Document::new(run_id), Some(log), filter);
    let pieces = stream::try_unfold(begun, async |(mut document, log, filter)| {
        let Some(mut log) = log else { return Ok::<_, SinkError>(None) };
        let more = match log.next().await? {
            Some(entries) => {
                let taken = entries.into_iter().filter(|entry| filter.takes(&entry.json, entry.time));
                taken.for_each(|TargetEntry { json, at, .. }| document.add(json.as_bytes(), at));
                Some(log)
            }
            None => {
                if let Some(taken) = log.taken.take() {
                    document.taken = Some(taken);
                }
                document.end();
                None
            }
        };
        let piece = document.take();
        Ok(Some((piece, (document, more, filter))))
    });
    Body::from_stream(pieces)
}

/// The document, as far as it was not sent yet.
struct Document {
    out: Vec<u8>,
    /// When the first and the last entry were taken.
    taken: Option<(String, String)>,
}

impl Document {
    fn new(run_id: &str) -> Self {
        // An identifier needs no escapes.
        Self { out: format!("{{\"run_id\":\"{run_id}\",\"logs\":[").into_bytes(), taken: None }
    }

    fn add(&mut self, entry: &[u8], at: String) {
        if self.taken.is_some() {
            self.out.push(b',');
        }
        self.out.extend_from_slice(entry);
        self.taken = Some(match self.taken.take() {
            None => (at.clone(), at),
            Some((first, last)) => (first.min(at.clone()), last.max(at)),
        });
    }

    fn end(&mut self) {
        let (first, last) = self.taken.take().unwrap_or_default();
        let millis = |at: &str| parse_rfc3339(at).map(format_millis).unwrap_or_default();
        let end = format!("],\"created_at\":\"{}\",\"updated_at\":\"{}\"}}", millis(&first), millis(&last));
        self.out.extend_from_slice(end.as_bytes());
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.out).into()
    }
}

/// Makes one document of the lines of an export.
struct Entries {
    records: Metered,
    /// What has no end of line yet.
    rest: BytesMut,
    document: Document,
    has_ended: bool,
}

impl Entries {
    fn new(records: Metered, run_id: &str) -> Self {
        Self { records, rest: BytesMut::new(), document: Document::new(run_id), has_ended: false }
    }

    fn add(&mut self, piece: &[u8]) -> Result<(), QueryError> {
        self.rest.extend_from_slice(piece);
        let mut entry = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line = self.rest.split_to(end);
            self.rest.advance(1);
            entry.clear();
            let at = logger::write_entry_of(&line, &mut entry).map(|(_, at)| at);
            let at = at.ok_or_else(|| QueryError::Internal("make an entry of a record".to_owned()))?;
            self.document.add(&entry, at);
        }
        Ok(())
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
                Poll::Pending if self.document.out.is_empty() => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(Some(piece)) => piece.and_then(|piece| self.add(&piece)),
                Poll::Ready(None) => {
                    self.document.end();
                    self.has_ended = true;
                    Ok(())
                }
            };
            if let Err(error) = done {
                self.records.break_off(&error);
                self.has_ended = true;
                return Poll::Ready(Some(Err(error)));
            }
            if !self.document.out.is_empty() {
                break;
            }
        }
        Poll::Ready(Some(Ok(self.document.take())))
    }
}
