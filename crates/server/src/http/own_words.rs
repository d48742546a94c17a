//! What a client is told whose bytes are no request: hyper answers those by itself, with a bare head, before any handler.
//! Owns putting our own answer in its place; refuses to touch a byte that a handler has to do with.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use runstone_record::ErrorCode;
use runstone_record::limits::HEADER_BYTES_MAX;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::http::refuse::last_words;
use crate::http::{ApiError, RequestIds};

/// Nothing of an answer is on its way: what is written next is hyper's.
const QUIET: u8 = 0;
/// A handler has a request, or its answer is being written.
const ANSWERING: u8 = 1;
/// The answer's last byte is with hyper, and perhaps not with the client.
const ENDING: u8 = 2;

/// Whose bytes go out next.
#[derive(Debug, Default)]
pub(super) struct Turn(AtomicU8);

impl Turn {
    /// A handler has a request.
    pub(super) fn begin(&self) {
        self.0.store(ANSWERING, Ordering::Release);
    }

    /// The whole answer was handed over.
    pub(super) fn end(&self) {
        self.0.store(ENDING, Ordering::Release);
    }
}

/// Our answer in the place of hyper's.
pub(super) struct OwnWords {
    ids: RequestIds,
    turn: Arc<Turn>,
    /// What of it the client does not have yet, once it was begun.
    rest: Option<Vec<u8>>,
}

impl OwnWords {
    pub(super) fn new(ids: RequestIds, turn: Arc<Turn>) -> Self {
        Self { ids, turn, rest: None }
    }

    /// All that was written is with the client.
    pub(super) fn flushed(&self) {
        let _ = self.turn.0.compare_exchange(ENDING, QUIET, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Is what is about to be written hyper's own?
    pub(super) fn are_due(&self) -> bool {
        self.turn.0.load(Ordering::Acquire) == QUIET
    }

    /// Writes ours and swallows hyper's.
    pub(super) fn poll_instead(
        &mut self,
        stream: &mut TcpStream,
        cx: &mut Context<'_>,
        bare: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let swallowed = bare.iter().map(|slice| slice.len()).sum();
        let rest = self.rest.get_or_insert_with(|| {
            let head = bare.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
            last_words(&why(head), &self.ids.mint(), "")
        });
        while !rest.is_empty() {
            let written = ready!(Pin::new(&mut *stream).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            rest.drain(..written);
        }
        Poll::Ready(Ok(swallowed))
    }
}

/// What hyper's head says by its status: 400, or 414 and 431 where there is too much of it.
fn why(head: &[u8]) -> ApiError {
    match head.get(9..12) {
        Some(b"414" | b"431") => {
            let message =
                format!("send smaller and fewer headers: at most {HEADER_BYTES_MAX} bytes, and a hundred of them");
            ApiError::new(ErrorCode::HeadersTooLarge, message)
        }
        _ => ApiError::new(
            ErrorCode::InvalidRequest,
            "send a request as HTTP/1.1 has it: its line or a header cannot be read",
        ),
    }
}
