//! How many bytes of answers the server holds for clients that have not read them yet. Owns the budget, and asking for the
//! place of whoever reads slowest; refuses to know connections: a sweep looks whether it was asked.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use prometheus_client::metrics::gauge::Gauge;
use runstone_record::ErrorCode;
use runstone_record::limits::ANSWERS_BYTES_MAX;

use crate::http::{Admission, ApiError, Reservation};

/// Smaller answers fit into the buffers of a connection, whose number is limited.
const FREE_BYTES: u64 = 64 << 10;
/// Bytes that go to a connection at a time.
const PIECE_BYTES: usize = 64 << 10;

/// The budget. Clones share it.
#[derive(Debug, Clone)]
pub struct Answers {
    admission: Admission,
    is_full: Arc<AtomicBool>,
}

impl Default for Answers {
    fn default() -> Self {
        Self::new(ANSWERS_BYTES_MAX, Gauge::default())
    }
}

impl Answers {
    /// A budget of `bytes_max`, whose use `gauge` shows.
    #[must_use]
    pub fn new(bytes_max: usize, gauge: Gauge) -> Self {
        Self { admission: Admission::new(bytes_max, gauge), is_full: Arc::default() }
    }

    /// Was there too little room since this was asked last?
    pub(super) fn was_full(&self) -> bool {
        self.is_full.swap(false, Ordering::AcqRel)
    }
}

/// Counts an answer that is whole until its client has it. One for which there is no room is not sent.
pub async fn hold(State(answers): State<Answers>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let Some(bytes) = response.body().size_hint().exact().filter(|bytes| *bytes > FREE_BYTES) else {
        return response;
    };
    let mut reservation = answers.admission.reservation();
    if reservation.grow(usize::try_from(bytes).unwrap_or(usize::MAX)).is_err() {
        answers.is_full.store(true, Ordering::Release);
        let message =
            "hold too many bytes of answers that other clients read slowly: come back in a moment, or ask for less";
        return ApiError::new(ErrorCode::Overloaded, message).into_response();
    }
    response.map(|inner| Body::new(Held { inner, rest: Bytes::new(), _reservation: reservation }))
}

/// A body that is counted until it is gone. It goes in pieces: a whole one would leave for the connection's queue at once, and
/// wait there uncounted.
struct Held {
    inner: Body,
    rest: Bytes,
    _reservation: Reservation,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)?).map(Frame::into_data) {
                Some(Ok(data)) => self.rest = data,
                Some(Err(trailers)) => return Poll::Ready(Some(Ok(trailers))),
                None => return Poll::Ready(None),
            }
        }
        let length = self.rest.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.inner.size_hint().exact().unwrap_or(0);
        SizeHint::with_exact(inner + self.rest.len() as u64)
    }
}
