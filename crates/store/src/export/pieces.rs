//! Pieces of an answer on their way to a client. Owns how many wait for it, how long each side waits for the other, and
//! telling an answer that is complete from one that broke off.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use runstone_record::limits::{EXPORT_PIECE_BYTES, EXPORT_PIECES_MAX};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Sleep;

use crate::error::QueryError;
use crate::pace::Pace;
use crate::runner::{Slots, outcome};
use crate::session::{Shared, Sql, SqlLimits};
use crate::watch::Stop;

/// Bytes of an answer, and how long they may take, before it is begun.
const HEAD_BYTES: usize = 256 << 10;
const HEAD_TIME: Duration = Duration::from_secs(1);

/// A streamed answer: its bytes, piece by piece. An error ends it, and what came before is then no whole answer. Dropping
/// it stops the work.
#[derive(Debug)]
pub struct Export {
    /// Its beginning, which was there before anything was said.
    head: VecDeque<Bytes>,
    pieces: mpsc::Receiver<Bytes>,
    task: Option<JoinHandle<Result<(), QueryError>>>,
    /// Runs while the client waits for us, not while we wait for it.
    deadline: Option<Pin<Box<Sleep>>>,
    timeout: Duration,
    pace: Arc<Pace>,
}

impl Stream for Export {
    type Item = Result<Bytes, QueryError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.pace.ready();
        if let Some(piece) = self.head.pop_front() {
            return self.hand_over(piece);
        }
        let ended = match self.poll_piece(context) {
            Poll::Ready(Some(piece)) => {
                self.deadline = None;
                return self.hand_over(piece);
            }
            Poll::Ready(None) => None,
            Poll::Pending => {
                let timeout = self.timeout;
                let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
                ready!(deadline.as_mut().poll(context));
                Some(Err(QueryError::Timeout(timeout.as_millis())))
            }
        };
        let ended = match (ended, &mut self.task) {
            (Some(ended), _) => ended,
            (None, Some(task)) => {
                let ended = ready!(Pin::new(task).poll(context));
                match self.pace.broken_off() {
                    Some(within) => Err(QueryError::Slow(within.as_millis())),
                    None => outcome(ended),
                }
            }
            (None, None) => Ok(()),
        };
        self.task = None;
        self.pieces.close();
        Poll::Ready(ended.err().map(Err))
    }
}

impl Export {
    fn hand_over(&self, piece: Bytes) -> Poll<Option<Result<Bytes, QueryError>>> {
        self.pace.took(piece.len());
        self.pace.wait();
        Poll::Ready(Some(Ok(piece)))
    }

    /// Is all of it there that will ever be?
    fn is_whole(&self) -> bool {
        self.task.is_none()
    }

    /// The pieces of the beginning.
    async fn begin(&mut self) -> Result<VecDeque<Bytes>, QueryError> {
        let (mut head, mut bytes) = (VecDeque::new(), 0);
        let Some(mut next) = self.next().await.transpose()? else { return Ok(head) };
        // Where rows come seldom the client should see the first of them.
        let patience = tokio::time::sleep(HEAD_TIME);
        let mut patience = std::pin::pin!(patience);
        loop {
            bytes += next.len();
            head.push_back(next);
            if bytes >= HEAD_BYTES {
                return Ok(head);
            }
            tokio::select! {
                piece = self.next() => match piece.transpose()? {
                    Some(piece) => next = piece,
                    None => return Ok(head),
                },
                () = &mut patience => return Ok(head),
            }
        }
    }

    /// The next piece. Once the task is done there are no more.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.task.is_none() {
            return Poll::Ready(None);
        }
        self.pieces.poll_recv(context)
    }
}

/// Where the encoder hands its bytes over.
#[derive(Debug)]
pub(super) struct Pieces {
    sender: mpsc::Sender<Bytes>,
    stall: Duration,
}

impl Pieces {
    /// Waits until the client has taken enough of what came before.
    pub(super) async fn send(&mut self, bytes: Vec<u8>) -> Result<(), QueryError> {
        let mut bytes = Bytes::from(bytes);
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(EXPORT_PIECE_BYTES));
            let sent = tokio::time::timeout(self.stall, self.sender.send(piece)).await;
            sent.map_err(|_| QueryError::Stalled(self.stall.as_millis()))?
                .map_err(|_| QueryError::Internal("nobody waits for the answer".to_owned()))?;
        }
        Ok(())
    }
}

impl Sql {
    /// Runs what makes pieces, until the answer's beginning is there, or all of a short one: what fails until then can be
    /// answered with an error. Until then it has a place in `first`; a long one has one in `then`, for which it waits.
    pub(super) async fn piecewise<F>(
        &self,
        (first, then): (&Slots, &Slots),
        timeout: Duration,
        make: impl FnOnce(Arc<Shared>, Arc<Stop>, Pieces) -> F,
    ) -> Result<Export, QueryError>
    where
        F: Future<Output = Result<(), QueryError>> + Send + 'static,
    {
        let (sender, pieces) = mpsc::channel(EXPORT_PIECES_MAX);
        let shared = Arc::clone(&self.shared);
        let SqlLimits { export_stall, export_pace, .. } = self.shared.limits;
        let pieces_out = Pieces { sender, stall: export_stall };
        let (task, place, stop) = self.runner.begin(first, timeout, |stop| make(shared, stop, pieces_out)).await?;
        let pace = Arc::new(Pace::new(export_pace, stop));
        let head = VecDeque::new();
        let mut export = Export { head, pieces, task: Some(task), deadline: None, timeout, pace };
        export.head = export.begin().await?;
        if !export.is_whole() {
            if !std::ptr::eq(first, then) {
                // It stands still as long as nobody reads.
                place.leave();
                place.enter(then.turn(timeout).await?);
            }
            then.watch(&export.pace);
            export.pace.wait();
        }
        Ok(export)
    }
}
