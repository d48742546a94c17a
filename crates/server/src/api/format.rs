//! In which format an answer goes out: by the parameter `format`, else by `Accept` (RFC 9110 §12.5.1). Owns the formats'
//! names and media types, and how a streamed answer becomes a response; refuses to know what is in it.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::header::{ACCEPT, CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue, VARY};
use http::{HeaderMap, Version};
use runstone_record::ErrorCode;
use runstone_store::{Export, Format, QueryError};

use crate::http::ApiError;
use crate::http::accept::{ranges, weigh};
use crate::http::error::echo;
use crate::metrics::{ExportLabels, ExportMetrics, FormatLabels};

/// How an answer goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// One document: a page, or an answer with its columns.
    Json,
    /// A stream of records or rows.
    Stream(Format),
}

/// Names, and the media types that stand for each; the first is what an answer says.
const FORMATS: [(Wanted, &str, &[&str]); 5] = [
    (Wanted::Json, "json", &["application/json"]),
    (
        Wanted::Stream(Format::Ndjson),
        "ndjson",
        &["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"],
    ),
    (Wanted::Stream(Format::Csv), "csv", &["text/csv"]),
    (Wanted::Stream(Format::Parquet), "parquet", &["application/vnd.apache.parquet", "application/x-parquet"]),
    (Wanted::Stream(Format::Arrow), "arrow", &["application/vnd.apache.arrow.stream"]),
];

/// What `format` takes, for messages.
pub(super) const NAMES: &str = "json, ndjson, csv, parquet or arrow";

impl Wanted {
    /// By its name.
    pub(super) fn named(name: &str) -> Option<Self> {
        FORMATS.into_iter().find(|(_, known, _)| *known == name).map(|(wanted, ..)| wanted)
    }

    /// By what the client would like best; without a wish it is JSON.
    pub(super) fn accepted(headers: &HeaderMap) -> Result<Self, ApiError> {
        let accept = ranges(headers, &ACCEPT);
        if accept.is_empty() {
            return Ok(Self::Json);
        }
        let weighed = FORMATS.into_iter().filter_map(|(wanted, _, types)| {
            let best = types.iter().filter_map(|kind| weigh(&accept, kind)).max()?;
            Some((best, wanted))
        });
        // Of equals the first stays: `max_by_key` would take the last.
        let best = weighed.reduce(|best, next| if next.0 > best.0 { next } else { best });
        best.map(|(_, wanted)| wanted).ok_or_else(|| {
            let types: Vec<&str> = FORMATS.iter().map(|(_, _, types)| types[0]).collect();
            let sent = headers.get_all(ACCEPT).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
            let sent = sent.collect::<Vec<_>>().join(", ");
            let message = format!("accept one of {}, or name a format; got {}", types.join(", "), echo(&sent));
            ApiError::new(ErrorCode::NotAcceptable, message)
        })
    }

    /// By its name in a body, else by what the client accepts.
    pub(super) fn read(name: Option<&str>, headers: &HeaderMap) -> Result<Self, ApiError> {
        let Some(name) = name else { return Self::accepted(headers) };
        Self::named(name).ok_or_else(|| {
            let message = format!("format: must be {NAMES}, got {}", echo(name));
            ApiError::new(ErrorCode::InvalidParameter, message)
        })
    }
}

impl Wanted {
    /// Refuses to stream in a version of HTTP that has no word for the end of an answer: one that breaks off would look
    /// complete, to the client and to whatever stands between.
    pub(super) fn over(self, version: Version) -> Result<Self, ApiError> {
        match self {
            Self::Stream(format) if version < Version::HTTP_11 => {
                let name = name_of(format).0;
                let message = format!(
                    "ask for {name} over HTTP/1.1: over HTTP/1.0 an answer that breaks off looks complete; nginx needs \
                     proxy_http_version 1.1"
                );
                Err(ApiError::new(ErrorCode::NotAcceptable, message))
            }
            wanted => Ok(wanted),
        }
    }
}

fn name_of(format: Format) -> (&'static str, &'static str) {
    let known = FORMATS.into_iter().find(|(wanted, ..)| *wanted == Wanted::Stream(format));
    known.map_or(("json", "application/json"), |(_, name, types)| (name, types[0]))
}

/// Says that the answer depends on `Accept`.
pub(super) fn varies(mut response: Response) -> Response {
    response.headers_mut().append(VARY, HeaderValue::from_static("accept"));
    response
}

/// The response of a streamed answer. `name` is what a file of it is called.
pub(super) fn respond(
    export: Result<Export, QueryError>,
    format: Format,
    name: &'static str,
    metrics: &ExportMetrics,
) -> Result<Response, ApiError> {
    let (label, media_type) = name_of(format);
    let mut response = Response::new(Body::from_stream(metered(export, format, metrics)?));
    let headers = response.headers_mut();
    let kind = match format {
        Format::Csv => HeaderValue::from_static("text/csv; charset=utf-8"),
        _ => HeaderValue::from_static(media_type),
    };
    headers.insert(CONTENT_TYPE, kind);
    if format != Format::Ndjson {
        let file = format!("attachment; filename=\"{name}.{label}\"");
        if let Ok(file) = HeaderValue::from_str(&file) {
            headers.insert(CONTENT_DISPOSITION, file);
        }
    }
    Ok(varies(response))
}

/// Has a streamed answer counted.
pub(super) fn metered(
    export: Result<Export, QueryError>,
    format: Format,
    metrics: &ExportMetrics,
) -> Result<Metered, QueryError> {
    let (label, _) = name_of(format);
    let export = export.inspect_err(|error| metrics.finish(label, error.code().as_str()))?;
    Ok(Metered { export, format: label, metrics: metrics.clone(), state: State::Unread })
}

/// How far a streamed answer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unread,
    Running,
    Ended,
}

/// A streamed answer that counts its bytes and how it ends.
pub(super) struct Metered {
    export: Export,
    format: &'static str,
    metrics: ExportMetrics,
    state: State,
}

impl Stream for Metered {
    type Item = Result<Bytes, QueryError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.state == State::Unread {
            self.state = State::Running;
        }
        let polled = self.export.poll_next_unpin(context);
        let outcome = match &polled {
            Poll::Pending => return polled,
            Poll::Ready(Some(Ok(piece))) => {
                let labels = FormatLabels { format: self.format };
                self.metrics.bytes.get_or_create(&labels).inc_by(piece.len() as u64);
                return polled;
            }
            Poll::Ready(Some(Err(error))) => {
                self.break_off(error);
                return polled;
            }
            Poll::Ready(None) => "ok",
        };
        self.end(outcome);
        polled
    }
}

impl Metered {
    /// It goes no further, by a failure of its own or of who makes another form of it.
    pub(super) fn break_off(&mut self, error: &QueryError) {
        if self.state != State::Ended {
            tracing::info!(format = self.format, %error, "break an export off");
            self.end(error.code().as_str());
        }
    }

    fn end(&mut self, outcome: &'static str) {
        if self.state != State::Ended {
            self.state = State::Ended;
            self.metrics.finish(self.format, outcome);
        }
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        // What nobody began to read was the answer to a HEAD.
        if self.state == State::Running {
            self.metrics.finish(self.format, ExportLabels::CANCELLED);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(accept: &[&str]) -> Result<Wanted, ErrorCode> {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(ACCEPT, HeaderValue::from_str(value).unwrap());
        }
        Wanted::accepted(&headers).map_err(|error| error.code())
    }

    #[test]
    fn the_client_gets_what_it_likes_best() {
        let stream = |format| Ok(Wanted::Stream(format));
        for accept in [&[][..], &["*/*"], &[""], &["text/html,application/xml;q=0.9,*/*;q=0.8"], &["application/*"]] {
            assert_eq!(accepted(accept), Ok(Wanted::Json), "{accept:?}");
        }
        for (accept, wanted) in [
            (&["text/csv"][..], stream(Format::Csv)),
            (&["TEXT/CSV; charset=utf-8; q=1.0"], stream(Format::Csv)),
            (&["text/*"], stream(Format::Csv)),
            (&["application/jsonl"], stream(Format::Ndjson)),
            (&["application/vnd.apache.arrow.stream, */*"], stream(Format::Arrow)),
            (&["application/json;q=0.5", "application/vnd.apache.parquet;q=0.6"], stream(Format::Parquet)),
            (&["text/csv, application/json"], stream(Format::Csv)),
            (&["application/json, text/csv"], Ok(Wanted::Json)),
            (&["application/json;q=0, */*;q=0.1"], stream(Format::Ndjson)),
            (&["text/html"], Err(ErrorCode::NotAcceptable)),
            (&["text/csv;q=0"], Err(ErrorCode::NotAcceptable)),
        ] {
            assert_eq!(accepted(accept), wanted, "{accept:?}");
        }
    }
}
