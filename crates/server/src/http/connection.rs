//! One connection from its first byte to its last. Owns what its [`Watch`] is told and how it ends; refuses to know
//! how many others there are.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use http::Request;
use http::header::{CONNECTION, HeaderValue};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use runstone_record::limits::HEADER_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::http::RequestIds;
use crate::http::body::PROGRESS_BYTES_MIN;
use crate::http::connections::{Phase, Ticket, Watch};
use crate::http::own_words::{OwnWords, Turn};
use crate::http::refuse::linger;

/// Bytes that a connection reads or writes at once: a usual body in two or three reads, and no more for a client that
/// floods.
const BUFFER_BYTES_MAX: usize = 256 << 10;
/// Where hyper itself stops reading headers: `own_words` says why. Up to here `layers` does.
const HEADER_BYTES_PARSED_MAX: usize = HEADER_BYTES_MAX * 4;

/// The other end of the connection that a request came on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Serves requests on `stream` until either side is done, the ticket's watch is told to close, or, after `stop`, the
/// request in hand is answered.
pub(super) async fn run(stream: TcpStream, router: Router, ids: RequestIds, ticket: Ticket, stop: CancellationToken) {
    let (watch, turn) = (Arc::clone(ticket.watch()), Arc::new(Turn::default()));
    let peer = stream.peer_addr().ok().map(Peer);
    let service = service_fn(|mut request: Request<Incoming>| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        answer(router.clone(), request, Arc::clone(&watch), Arc::clone(&turn))
    });
    let words = OwnWords::new(ids, Arc::clone(&turn));
    let io = TokioIo::new(Watched { stream, watch: Arc::clone(&watch), words });
    let mut connection = http1::Builder::new()
        // The sweep of `connections` does both header and idle time-outs.
        .header_read_timeout(None)
        .max_header_size(HEADER_BYTES_PARSED_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(io, service);
    let mut stopping = false;
    let ended = loop {
        tokio::select! {
            ended = std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)) => break ended,
            () = watch.told_to_close() => return,
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    let unread = match ended {
        Ok(()) => watch.has_unread(),
        Err(error) => {
            tracing::debug!(%error, "end a connection");
            error.is_parse() || error.is_parse_too_large() || watch.has_unread()
        }
    };
    if unread {
        watch.enter(Phase::Idle);
        let stream = connection.into_parts().io.into_inner().stream;
        tokio::select! {
            () = linger(stream) => {}
            () = watch.told_to_close() => {}
        }
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, Infallible>> + Send>>;

fn answer(mut router: Router, request: Request<Incoming>, watch: Arc<Watch>, turn: Arc<Turn>) -> Answer {
    watch.enter(Phase::Busy);
    turn.begin();
    Box::pin(async move {
        let (parts, incoming) = request.into_parts();
        let (body, read_to_end) = RequestBody::new(incoming, Arc::clone(&watch));
        let Ok(mut response) = router.call(Request::from_parts(parts, body)).await;
        if !read_to_end.load(Ordering::Acquire) {
            watch.leave_unread();
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        watch.enter(Phase::Busy);
        Ok(response.map(|inner| AnswerBody { inner, watch, turn }))
    })
}

/// A request's body that tells the watch when it waits for the client.
struct RequestBody {
    inner: Incoming,
    watch: Arc<Watch>,
    read_to_end: Arc<AtomicBool>,
    progress: Instant,
    since_progress: usize,
}

impl RequestBody {
    fn new(inner: Incoming, watch: Arc<Watch>) -> (Self, Arc<AtomicBool>) {
        let read_to_end = Arc::new(AtomicBool::new(inner.is_end_stream()));
        let told = Arc::clone(&read_to_end);
        (Self { inner, watch, read_to_end, progress: Instant::now(), since_progress: 0 }, told)
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            // Since the last progress, not the last byte: a client that drips is the first to go when places run out.
            Poll::Pending => self.watch.enter_at(Phase::Body, self.progress),
            Poll::Ready(Some(Ok(frame))) => {
                self.since_progress += frame.data_ref().map_or(0, Bytes::len);
                if self.since_progress >= PROGRESS_BYTES_MIN {
                    self.since_progress = 0;
                    self.progress = Instant::now();
                }
                self.watch.enter(Phase::Busy);
            }
            Poll::Ready(ended) => {
                self.read_to_end.store(ended.is_none(), Ordering::Release);
                self.watch.enter(Phase::Busy);
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body that tells the watch when it is done, or given up.
struct AnswerBody {
    inner: Body,
    watch: Arc<Watch>,
    turn: Arc<Turn>,
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.turn.end();
        self.watch.enter(Phase::Idle);
    }
}

/// A socket that tells the watch when a request begins and when the client stops taking its answer.
struct Watched {
    stream: TcpStream,
    watch: Arc<Watch>,
    words: OwnWords,
}

impl Watched {
    fn note<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.watch.wrote(written.is_ready());
        written
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, into);
        if into.filled().len() > before && self.watch.phase() == Phase::Idle {
            self.watch.enter(Phase::Head);
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, words, .. } = &mut *self;
        let written = match words.are_due() {
            true => words.poll_instead(stream, cx, &[IoSlice::new(bytes)]),
            false => Pin::new(stream).poll_write(cx, bytes),
        };
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, words, .. } = &mut *self;
        let written = match words.are_due() {
            true => words.poll_instead(stream, cx, slices),
            false => Pin::new(stream).poll_write_vectored(cx, slices),
        };
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.words.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
