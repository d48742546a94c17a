//! Compression of answers: gzip or zstd, where the client takes it. Owns which answers are worth it, and that the work is
//! not done in large blocks on the threads that serve connections; refuses to look into them.

use std::io::{self, Write};

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::{StreamExt, stream};
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, VARY,
};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use runstone_record::limits::COMPRESS_BYTES_MIN;
use zstd::stream::write::Encoder as ZstdEncoder;

use crate::http::accept::ranges;

/// Bytes that are compressed where they are: a fraction of a millisecond.
const INLINE_BYTES_MAX: usize = 32 << 10;
/// Fast: most of the gain for a fraction of the time.
const ZSTD_LEVEL: i32 = 1;

/// How an answer travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Gzip,
    Zstd,
}

impl Coding {
    /// What the client likes best of what we have; none: the answer as it is.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let wanted = ranges(headers, &ACCEPT_ENCODING);
        let weight = |names: &[&str]| {
            let named = wanted.iter().find(|range| names.contains(&range.name.as_str()));
            named.or_else(|| wanted.iter().find(|range| range.name == "*")).map_or(0, |range| range.weight)
        };
        let (zstd, gzip) = (weight(&["zstd"]), weight(&["gzip", "x-gzip"]));
        let plain = wanted.iter().find(|range| range.name == "identity").map_or(0, |range| range.weight);
        match (zstd, gzip) {
            (0, 0) => None,
            // zstd is the cheaper one.
            (zstd, gzip) if zstd >= gzip && zstd >= plain => Some(Self::Zstd),
            (_, gzip) if gzip >= plain => Some(Self::Gzip),
            _ => None,
        }
    }

    fn name(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

/// Compresses the answer to a request where that is worth it.
pub(super) async fn compress(request: Request, next: Next) -> Response {
    let coding = Coding::of(request.headers());
    let is_head = request.method() == Method::HEAD;
    let mut response = next.run(request).await;
    // What a client has already has the headers of what it would have got (RFC 9110 §15.4.5).
    let is_had = response.status() == StatusCode::NOT_MODIFIED;
    if !is_had && !is_compressible(&response) {
        return response;
    }
    response.headers_mut().append(VARY, HeaderValue::from_static("accept-encoding"));
    let Some(coding) = coding.filter(|_| !is_had) else { return response };
    if length(&response).is_some_and(|length| length < COMPRESS_BYTES_MIN) {
        return response;
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_ENCODING, coding.name());
    headers.remove(CONTENT_LENGTH);
    if is_head {
        return response;
    }
    response.map(|body| squeeze_body(body, coding))
}

fn is_compressible(response: &Response) -> bool {
    let headers = response.headers();
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    let kind = text(CONTENT_TYPE).split(';').next().unwrap_or_default().trim();
    // Parquet is compressed already; events are to arrive one by one.
    let gains = kind.starts_with("application/") && kind != "application/vnd.apache.parquet";
    let gains = gains || kind.starts_with("text/") && kind != "text/event-stream" || kind == "image/svg+xml";
    let is_whole = response.status() != StatusCode::NO_CONTENT;
    let as_it_is = headers.contains_key(CONTENT_ENCODING)
        || headers.contains_key(CONTENT_RANGE)
        || text(CACHE_CONTROL).contains("no-transform");
    gains && is_whole && !as_it_is
}

/// Bytes of the answer, where that is known. The answer to a HEAD has none, but says how many there would be.
fn length(response: &Response) -> Option<u64> {
    let said = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    said.or_else(|| response.body().size_hint().exact())
}

/// The body, compressed piece by piece; each is flushed, so that nothing waits for what comes after it.
fn squeeze_body(body: Body, coding: Coding) -> Body {
    let Ok(squeezer) = Squeezer::new(coding) else {
        let failed = stream::iter([Err::<Bytes, _>(io::Error::other("set up compression"))]);
        return Body::from_stream(failed);
    };
    let pieces = stream::unfold(Some((body, squeezer)), |state| async move {
        let (mut body, squeezer) = state?;
        loop {
            match body.frame().await {
                Some(Ok(frame)) => {
                    // Trailers are not ours to send.
                    let Ok(piece) = frame.into_data() else { continue };
                    let squeezed = squeezer.push(piece).await;
                    return Some(match squeezed {
                        Ok((squeezer, bytes)) => (Ok(bytes), Some((body, squeezer))),
                        Err(error) => (Err(axum::Error::new(error)), None),
                    });
                }
                Some(Err(error)) => return Some((Err(error), None)),
                None => return Some((squeezer.finish().map_err(axum::Error::new), None)),
            }
        }
    });
    Body::from_stream(pieces.filter(|piece| std::future::ready(piece.as_ref().map_or(true, |bytes| !bytes.is_empty()))))
}

/// A compressor under way.
enum Squeezer {
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(ZstdEncoder<'static, Vec<u8>>),
}

impl Squeezer {
    fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), Compression::fast())),
            Coding::Zstd => Self::Zstd(ZstdEncoder::new(Vec::new(), ZSTD_LEVEL)?),
        })
    }

    /// A large piece is compressed on a thread where it holds nobody up.
    async fn push(mut self, piece: Bytes) -> io::Result<(Self, Bytes)> {
        if piece.len() <= INLINE_BYTES_MAX {
            let bytes = self.squeeze(&piece)?;
            return Ok((self, bytes));
        }
        let work = move || self.squeeze(&piece).map(|bytes| (self, bytes));
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
    }

    fn squeeze(&mut self, piece: &[u8]) -> io::Result<Bytes> {
        match self {
            Self::Gzip(encoder) => {
                encoder.write_all(piece)?;
                encoder.flush()?;
                Ok(std::mem::take(encoder.get_mut()).into())
            }
            Self::Zstd(encoder) => {
                encoder.write_all(piece)?;
                encoder.flush()?;
                Ok(std::mem::take(encoder.get_mut()).into())
            }
        }
    }

    fn finish(self) -> io::Result<Bytes> {
        match self {
            Self::Gzip(encoder) => encoder.finish().map(Bytes::from),
            Self::Zstd(encoder) => encoder.finish().map(Bytes::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use axum::Router;
    use axum::body::to_bytes;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    async fn ask(method: &str, path: &str, accept: &str) -> (HeaderMap, Result<Vec<u8>, axum::Error>) {
        let long = || "text that repeats ".repeat(10_000);
        let pieces = || stream::iter([Ok("one "), Ok("two "), Err(io::Error::other("broken"))]);
        let parquet = [(CONTENT_TYPE, "application/vnd.apache.parquet")];
        let router = Router::new()
            .route("/long", get(async move || long()))
            .route("/short", get(async || "short"))
            .route("/parquet", get(async move || (parquet, long())))
            .route("/whole", get(async move || ([(CONTENT_TYPE, "text/csv")], Body::from_stream(pieces().take(2)))))
            .route("/broken", get(async move || ([(CONTENT_TYPE, "text/csv")], Body::from_stream(pieces()))))
            .layer(axum::middleware::from_fn(compress));
        let request = http::Request::builder().method(method).uri(path).header(ACCEPT_ENCODING, accept);
        let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let headers = response.headers().clone();
        let body = to_bytes(response.into_body(), usize::MAX).await.map(|bytes| bytes.to_vec());
        let body = body.map(|body| match headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
            _ if method == "HEAD" => body,
            Some(b"gzip") => {
                let mut plain = Vec::new();
                flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain).unwrap();
                plain
            }
            Some(b"zstd") => zstd::decode_all(&body[..]).unwrap(),
            _ => body,
        });
        (headers, body)
    }

    #[tokio::test]
    async fn a_client_gets_the_coding_that_it_likes_best() {
        for (accept, coding) in [
            ("gzip", Some("gzip")),
            ("zstd, gzip", Some("zstd")),
            ("gzip, deflate, br, zstd", Some("zstd")),
            ("gzip;q=1, zstd;q=0.5", Some("gzip")),
            ("*", Some("zstd")),
            ("zstd;q=0, *", Some("gzip")),
            ("br", None),
            ("gzip;q=0", None),
            ("identity, gzip;q=0.5", None),
            ("", None),
        ] {
            let (headers, body) = ask("GET", "/long", accept).await;
            let found = headers.get(CONTENT_ENCODING).map(|value| value.to_str().unwrap());
            assert_eq!(found, coding, "{accept}");
            assert_eq!(headers[VARY], "accept-encoding");
            assert_eq!(body.unwrap(), "text that repeats ".repeat(10_000).into_bytes(), "{accept}");
        }
    }

    #[tokio::test]
    async fn only_what_gains_is_compressed() {
        for path in ["/short", "/parquet"] {
            let (headers, _) = ask("GET", path, "gzip").await;
            assert!(!headers.contains_key(CONTENT_ENCODING), "{path}");
        }
        let (headers, body) = ask("HEAD", "/long", "gzip").await;
        assert_eq!((&headers[CONTENT_ENCODING], body.unwrap().len()), (&HeaderValue::from_static("gzip"), 0));
    }

    #[tokio::test]
    async fn a_stream_that_breaks_off_is_not_ended() {
        assert_eq!(ask("GET", "/whole", "gzip").await.1.unwrap(), b"one two ");
        for accept in ["gzip", "zstd", ""] {
            assert!(ask("GET", "/broken", accept).await.1.is_err(), "{accept}");
        }
    }
}
