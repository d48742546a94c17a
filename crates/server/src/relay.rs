//! From the journal to those who live off it: each consumer has a thread, a reader and a pace of its own. Owns waiting,
//! damage and how far each consumer has come; refuses to let one consumer's trouble reach another or the journal.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use runstone_journal::{ReadError, Reader};
use runstone_record::DecodeError;
use tokio::sync::watch;

/// How long a consumer without frames waits before it looks whether there is housekeeping to do.
const IDLE: Duration = Duration::from_millis(500);
/// How long after the file system refused a read.
const RETRY: Duration = Duration::from_secs(1);

/// Something that takes every frame of the journal, once, in order.
pub(crate) trait Consumer: Send + 'static {
    /// Its name in logs and threads.
    fn name(&self) -> &'static str;

    /// Takes the frame that begins at `first`.
    fn take(&mut self, first: u64, payload: &Bytes) -> Result<(), DecodeError>;

    /// The positions after `after` up to `through` are in the journal no more: what is behind them comes next.
    fn trimmed(&mut self, after: u64, through: u64) -> Result<(), Unavailable>;

    /// Nothing is waiting: time for housekeeping. `through` is the last position that was taken.
    fn idle(&mut self, _through: u64) {}

    /// No frame will come any more.
    fn stop(&mut self, _through: u64) {}
}

/// What a consumer needs cannot be had for now.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unavailable(pub(crate) String);

/// A running consumer.
#[derive(Debug)]
pub(crate) struct Relay {
    through: watch::Receiver<u64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// A consumer's progress, for those who wait for it.
#[derive(Debug, Clone)]
pub(crate) struct Progress(watch::Receiver<u64>);

impl Progress {
    /// The last position that was taken.
    pub(crate) fn through(&self) -> u64 {
        *self.0.borrow()
    }

    /// Has the consumer ended? Its thread holds the other end.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.has_changed().is_err()
    }

    /// Waits until `position` was taken. False: it was not in that time.
    pub(crate) async fn reach(&self, position: u64, timeout: Duration) -> bool {
        let mut through = self.0.clone();
        let reached = through.wait_for(|through| *through >= position);
        matches!(tokio::time::timeout(timeout, reached).await, Ok(Ok(_)))
    }
}

impl Relay {
    /// Starts a consumer behind a reader.
    pub(crate) fn start(reader: Reader, consumer: impl Consumer) -> io::Result<Self> {
        let (sender, through) = watch::channel(reader.position());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let name = format!("relay-{}", consumer.name());
        let work = move || Loop { reader, consumer, through: sender, stop: stopped }.run();
        let thread = std::thread::Builder::new().name(name).spawn(work)?;
        Ok(Self { through, stop, thread })
    }

    pub(crate) fn progress(&self) -> Progress {
        Progress(self.through.clone())
    }

    /// Tells the consumer that the journal is closed: it takes what is left, and ends.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Waits for the end of a consumer that was told to stop.
    pub(crate) fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("a consumer of the journal panicked; it starts over from its cursor next time");
        }
    }
}

/// A consumer behind its reader, without a thread.
pub(crate) struct Loop<C> {
    reader: Reader,
    consumer: C,
    through: watch::Sender<u64>,
    stop: Arc<AtomicBool>,
}

/// What came of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The consumer has come further.
    Forward,
    /// There is nothing more for now.
    Nothing,
    /// What comes next cannot be had for now.
    Refused,
}

impl<C: Consumer> Loop<C> {
    fn run(mut self) {
        loop {
            // Read before the reader says that there is no more: what came before the stop is still taken.
            let stopping = self.stop.load(Ordering::Acquire);
            match self.step() {
                Step::Forward => {}
                Step::Nothing | Step::Refused if stopping => break,
                Step::Nothing => {
                    if !self.reader.wait(IDLE) {
                        self.consumer.idle(self.reader.position());
                    }
                }
                Step::Refused => std::thread::park_timeout(RETRY),
            }
        }
        self.consumer.stop(self.reader.position());
    }

    /// Takes the next frame, or moves past what cannot be read. Never waits.
    pub(crate) fn step(&mut self) -> Step {
        let step = match self.reader.next() {
            Ok(Some(frame)) => {
                if let Err(error) = self.consumer.take(frame.first, &frame.payload) {
                    let (first, last) = (frame.first, frame.last());
                    tracing::error!(consumer = self.consumer.name(), first, last, %error, "skip an unreadable frame");
                }
                Step::Forward
            }
            Ok(None) => Step::Nothing,
            Err(error) => self.pass(&error),
        };
        if step == Step::Forward {
            self.through.send_replace(self.reader.position());
        }
        step
    }

    fn pass(&mut self, error: &ReadError) -> Step {
        let consumer = self.consumer.name();
        match error {
            ReadError::Quarantined { .. } => {
                tracing::error!(consumer, %error, "read the journal");
                self.reader.skip();
            }
            ReadError::Trimmed { first_available } => {
                let through = first_available - 1;
                if let Err(error) = self.consumer.trimmed(self.reader.position(), through) {
                    tracing::warn!(consumer, through, %error, "read what was trimmed: trying again");
                    return Step::Refused;
                }
                self.reader.seek(through);
            }
            ReadError::Io { .. } => {
                tracing::error!(consumer, %error, "read the journal");
                return Step::Refused;
            }
        }
        Step::Forward
    }
}

#[cfg(test)]
impl<C: Consumer> Loop<C> {
    /// One that goes on only when it is told to.
    pub(crate) fn stepwise(reader: Reader, consumer: C) -> Self {
        let through = watch::Sender::new(reader.position());
        Self { reader, consumer, through, stop: Arc::default() }
    }

    pub(crate) fn consumer(&mut self) -> &mut C {
        &mut self.consumer
    }

    pub(crate) fn position(&self) -> u64 {
        self.reader.position()
    }
}
