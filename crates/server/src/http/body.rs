//! A request's body, read whole into memory that was asked for first. Owns the limits of size and time on the way in;
//! refuses to look at what the bytes say.

use std::time::Duration;

use axum::body::HttpBody;
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt;
use runstone_record::{ErrorCode, limits};
use tokio::time::{Instant, timeout_at};

use crate::http::content::Encoding;
use crate::http::decode::{Decoder, Sink};
use crate::http::{Admission, ApiError, Reservation};

/// Bytes that must arrive within each progress time-out: less is a client that holds on to a connection, not one that
/// sends.
pub(super) const PROGRESS_BYTES_MIN: usize = 16 << 10;
/// Bytes that are decompressed before other requests have their turn.
const DECODE_STEP_BYTES: usize = 32 << 10;

/// What a body may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyLimits {
    /// Bytes as they travel.
    pub wire_bytes_max: usize,
    /// Bytes after decompression.
    pub decoded_bytes_max: usize,
    /// From the first read to the last byte.
    pub timeout: Duration,
    /// From one sign of progress (16 KiB, or the end) to the next.
    pub progress_timeout: Duration,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self {
            wire_bytes_max: limits::BODY_WIRE_BYTES_MAX,
            decoded_bytes_max: limits::BODY_DECODED_BYTES_MAX,
            timeout: Duration::from_millis(limits::BODY_TIMEOUT_MS),
            progress_timeout: Duration::from_millis(limits::BODY_TIMEOUT_MS / 3),
        }
    }
}

/// A whole body, decoded, and the memory that was reserved for it.
#[derive(Debug)]
pub struct Payload {
    /// The decoded bytes: not empty, and not only white space.
    pub bytes: Bytes,
    /// Bytes as they travelled.
    pub wire_bytes: usize,
    /// Held for as long as the bytes, or what was made of them, are.
    pub reservation: Reservation,
}

/// Reads `body` to its end and undoes its `Content-Encoding`.
///
/// # Errors
/// `unsupported_encoding`, `body_too_large`, `request_timeout`, `overloaded`; `invalid_encoding` where it is cut or
/// damaged; `empty_body`.
pub async fn read<B>(
    headers: &HeaderMap,
    body: B,
    limits: &BodyLimits,
    admission: &Admission,
) -> Result<Payload, ApiError>
where
    B: HttpBody<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let encoding = Encoding::of(headers)?;
    // The framing of the message, not the header: hyper has already refused the two where they disagree.
    let announced = body.size_hint().exact();
    if announced.is_some_and(|bytes| bytes > limits.wire_bytes_max as u64) {
        return Err(too_large(limits));
    }
    let expected = match encoding {
        Encoding::Identity => announced.and_then(|bytes| usize::try_from(bytes).ok()),
        Encoding::Gzip | Encoding::Zstd => None,
    };
    let sink = Sink::new(limits.decoded_bytes_max, expected, admission.reservation());
    let mut decoder = Decoder::new(encoding, sink)?;
    let wire_bytes = pump(body, encoding, &mut decoder, limits).await?;
    if wire_bytes == 0 {
        // Said before a decoder complains that its header is missing.
        return Err(empty());
    }
    let (bytes, reservation) = decoder.finish()?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(empty());
    }
    Ok(Payload { bytes: Bytes::from(bytes), wire_bytes, reservation })
}

/// Moves the body through the decoder and returns how many bytes came.
async fn pump<B>(body: B, encoding: Encoding, decoder: &mut Decoder, limits: &BodyLimits) -> Result<usize, ApiError>
where
    B: HttpBody<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let mut body = std::pin::pin!(body);
    let mut pace = Pace::new(limits);
    let mut wire_bytes = 0_usize;
    loop {
        let Ok(next) = timeout_at(pace.deadline(), body.frame()).await else {
            return Err(too_slow(wire_bytes));
        };
        let frame = match next {
            None => return Ok(wire_bytes),
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                let message = format!("send the body whole: it ended after {wire_bytes} bytes: {error}");
                return Err(ApiError::new(ErrorCode::InvalidEncoding, message));
            }
        };
        // Trailers carry nothing that is used here.
        let Ok(data) = frame.into_data() else { continue };
        wire_bytes += data.len();
        if wire_bytes > limits.wire_bytes_max {
            return Err(too_large(limits));
        }
        pace.arrived(data.len());
        if encoding == Encoding::Identity {
            decoder.push(&data)?;
            continue;
        }
        for step in data.chunks(DECODE_STEP_BYTES) {
            decoder.push(step)?;
            tokio::task::yield_now().await;
        }
    }
}

/// How long to wait for more: until the end of the whole time, or of the time for the next sign of progress.
struct Pace {
    whole: Instant,
    progress_timeout: Duration,
    next: Instant,
    since_progress: usize,
}

impl Pace {
    fn new(limits: &BodyLimits) -> Self {
        let now = Instant::now();
        Self {
            whole: now + limits.timeout,
            progress_timeout: limits.progress_timeout,
            next: now + limits.progress_timeout,
            since_progress: 0,
        }
    }

    fn deadline(&self) -> Instant {
        self.whole.min(self.next)
    }

    fn arrived(&mut self, bytes: usize) {
        self.since_progress += bytes;
        if self.since_progress >= PROGRESS_BYTES_MIN {
            self.since_progress = 0;
            self.next = Instant::now() + self.progress_timeout;
        }
    }
}

fn too_slow(wire_bytes: usize) -> ApiError {
    ApiError::new(ErrorCode::RequestTimeout, format!("send the body faster: gave up after {wire_bytes} bytes"))
}

fn too_large(limits: &BodyLimits) -> ApiError {
    let message = format!("send less: the body has more than {} bytes", limits.wire_bytes_max);
    ApiError::new(ErrorCode::BodyTooLarge, message)
}

fn empty() -> ApiError {
    ApiError::new(ErrorCode::EmptyBody, "send at least one record: the body is empty")
}
