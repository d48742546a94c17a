//! The journal as its users hold it: append, read, trim, close, and how it is doing. The work is done in the writer's
//! thread and in the readers.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::directory::at;
use crate::epochs::{self, EpochRange};
use crate::error::{AppendError, CloseError, OpenError, TrimError};
use crate::fs::Fs;
use crate::group::Builder;
use crate::identity::{self, Identity};
use crate::lock;
use crate::options::{Env, Options};
use crate::queue::{Done, Entry, Queue};
use crate::reader::Reader;
use crate::recovery;
use crate::report::Recovery;
use crate::segments::Segments;
use crate::tail::Tail;
use crate::writer::Writer;

/// Which journal, and which life of it: positions mean something only together with this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JournalId {
    /// Made with the journal, the same in all copies of its directory.
    pub uuid: Uuid,
    /// Grows when the directory is found to be a copy.
    pub epoch: u64,
}

impl fmt::Display for JournalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.uuid, self.epoch)
    }
}

/// The text was not `{uuid}/{epoch}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("parse journal id: expected a uuid, a slash and a number")]
pub struct ParseJournalIdError;

impl FromStr for JournalId {
    type Err = ParseJournalIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (uuid, epoch) = text.split_once('/').ok_or(ParseJournalIdError)?;
        let uuid = Uuid::try_parse(uuid).map_err(|_| ParseJournalIdError)?;
        Ok(Self { uuid, epoch: epoch.parse().map_err(|_| ParseJournalIdError)? })
    }
}

/// Whether the journal takes frames.
#[derive(Debug, Clone)]
pub enum Health {
    /// It does.
    Ok,
    /// No space, quota or file size left. The journal looks by itself whether that has passed.
    DiskFull(Arc<io::Error>),
    /// The file system refuses for now. The journal looks by itself whether that has passed.
    Unavailable(Arc<io::Error>),
    /// Two writes or syncs in a row failed. Only opening the journal again helps.
    Failed(Arc<io::Error>),
}

impl Health {
    /// Whether frames are taken.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Ok)
    }
}

/// Counts since the journal was opened, and what it holds now.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stats {
    /// Groups written.
    pub groups: u64,
    /// Frames written.
    pub frames: u64,
    /// Items written.
    pub items: u64,
    /// Payload bytes written.
    pub payload_bytes: u64,
    /// Bytes written, headers and padding included.
    pub written_bytes: u64,
    /// Syncs of groups that succeeded.
    pub syncs: u64,
    /// The time that they took together.
    pub sync_time: Duration,
    /// The longest of them.
    pub sync_time_max: Duration,
    /// Writes and syncs that failed as a broken device fails them.
    pub failed_writes: u64,
    /// Answers whose receiver panicked.
    pub callback_panics: u64,
    /// Segments on disk now.
    pub segments: u64,
    /// Valid bytes in them.
    pub segment_bytes: u64,
    /// Frames accepted and not yet answered, now.
    pub waiting_frames: u64,
    /// Their payload bytes.
    pub waiting_bytes: u64,
    /// The first position that can be read, now.
    pub first_available: u64,
    /// The last durable position, now.
    pub durable: u64,
}

/// A segment of an open journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its first position.
    pub first: u64,
    /// Its last durable position; one less than `first` where it has none.
    pub last: u64,
    /// Valid bytes.
    pub bytes: u64,
    /// When it was made, in microseconds since 1970; 0 where its header is lost.
    pub created_at: i64,
}

/// What the journal's users, its readers and its writer share.
pub(crate) struct Shared {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) options: Options,
    pub(crate) queue: Queue,
    pub(crate) tail: Tail,
    pub(crate) segments: Segments,
    /// As they were when the journal was opened: an epoch only begins there.
    epochs: Vec<EpochRange>,
    identity: Mutex<Identity>,
    health: Mutex<Health>,
    stats: Mutex<Stats>,
}

impl Shared {
    pub(crate) fn stats_mut(&self) -> MutexGuard<'_, Stats> {
        lock(&self.stats)
    }

    pub(crate) fn identity(&self) -> Identity {
        *lock(&self.identity)
    }

    pub(crate) fn health(&self) -> Health {
        lock(&self.health).clone()
    }

    /// Failure is final.
    pub(crate) fn set_health(&self, health: Health) {
        let mut current = lock(&self.health);
        if !matches!(*current, Health::Failed(_)) {
            *current = health;
        }
    }

    pub(crate) fn fail(&self, source: &Arc<io::Error>) {
        self.set_health(Health::Failed(Arc::clone(source)));
        self.queue.fail(AppendError::Failed { source: Arc::clone(source) });
    }

    /// Writes into the identity file that a segment must be there.
    pub(crate) fn note_newest(&self, newest: u64) -> io::Result<()> {
        self.update_identity(|identity| identity.newest = newest)
    }

    fn update_identity(&self, change: impl FnOnce(&mut Identity)) -> io::Result<()> {
        let mut identity = lock(&self.identity);
        let mut changed = *identity;
        change(&mut changed);
        identity::write(&*self.fs, &self.options.dir, &changed)?;
        *identity = changed;
        Ok(())
    }
}

/// An open journal. Any thread may use it; dropping it closes it.
pub struct Journal {
    shared: Arc<Shared>,
    id: JournalId,
    writer: Mutex<Option<JoinHandle<Result<(), CloseError>>>>,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("id", &self.id).field("dir", &self.shared.options.dir).finish_non_exhaustive()
    }
}

impl Journal {
    /// Takes the directory for this process, repairs what a crash left, and starts the writer.
    pub fn open(fs: Arc<dyn Fs>, env: Env, options: Options) -> Result<(Self, Recovery), OpenError> {
        let dir = options.dir.clone();
        let (journal, writer, report) = Self::prepare(fs, env, options)?;
        let thread = std::thread::Builder::new().name("journal-writer".to_owned());
        let thread = thread.spawn(move || writer.run()).map_err(at("start writer", &dir))?;
        *lock(&journal.writer) = Some(thread);
        Ok((journal, report))
    }

    /// The same without a thread: whoever has the [`Steps`] says when the writer writes, so that a simulation has one
    /// order of events.
    #[cfg(any(test, feature = "sim"))]
    pub fn open_stepwise(fs: Arc<dyn Fs>, env: Env, options: Options) -> Result<(Self, Steps, Recovery), OpenError> {
        let (journal, writer, report) = Self::prepare(fs, env, options)?;
        Ok((journal, Steps(writer), report))
    }

    fn prepare(fs: Arc<dyn Fs>, env: Env, options: Options) -> Result<(Self, Writer, Recovery), OpenError> {
        let recovered = recovery::open(&*fs, &env, &options)?;
        let shared = Arc::new(Shared {
            queue: Queue::new(options.queue_frames, options.queue_bytes),
            tail: Tail::new(recovered.next - 1, options.ring_bytes),
            segments: Segments::new(recovered.segments),
            epochs: recovered.epochs,
            identity: Mutex::new(recovered.identity),
            health: Mutex::new(Health::Ok),
            stats: Mutex::default(),
            fs,
            options,
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            env,
            active: recovered.active,
            next: recovered.next,
            next_sequence: recovered.next_sequence,
            builder: Builder::default(),
            newest_stale: false,
            failed: None,
            lock: recovered.lock,
        };
        let id = recovered.report.id;
        Ok((Self { shared, id, writer: Mutex::new(None) }, writer, recovered.report))
    }

    /// Hands a frame to the writer and returns; never waits. `done` is called exactly once if this is `Ok`, never
    /// otherwise. Frames get their positions in the order in which they were handed over.
    pub fn append(&self, payload: Bytes, items: u32, done: Done) -> Result<(), AppendError> {
        let max = self.shared.options.frame_bytes_max();
        if payload.len() > max {
            return Err(AppendError::TooLarge { bytes: payload.len(), max });
        }
        if items == 0 {
            return Err(AppendError::NoItems);
        }
        let (bytes, max) = (self.shared.segments.totals().1, self.shared.options.bytes_max);
        if bytes >= max {
            return Err(AppendError::LimitReached { bytes, max });
        }
        self.shared.queue.push(Entry { payload, items, done })
    }

    /// Whether appends are refused because of [`Options::bytes_max`].
    pub fn is_over_limit(&self) -> bool {
        self.shared.segments.totals().1 >= self.shared.options.bytes_max
    }

    /// Which journal this is.
    pub fn id(&self) -> JournalId {
        self.id
    }

    /// Which journal a position belongs to: those from before the directory was copied count under an epoch before.
    pub fn id_at(&self, position: u64) -> JournalId {
        let epoch = epochs::epoch_at(&self.shared.epochs, position).unwrap_or(self.id.epoch);
        JournalId { uuid: self.id.uuid, epoch }
    }

    /// The epochs of what is in the journal, oldest first; the last one is the current.
    pub fn epochs(&self) -> Vec<EpochRange> {
        epochs::available(&self.shared.epochs, self.first_available())
    }

    /// The segments, oldest first; the last one is being written.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let info = |segment: &Arc<crate::segments::Segment>| SegmentInfo {
            first: segment.first,
            last: segment.last(),
            bytes: segment.end(),
            created_at: segment.created_at,
        };
        self.shared.segments.all().iter().map(info).collect()
    }

    /// The last durable position; 0 before the first.
    pub fn durable(&self) -> u64 {
        self.shared.tail.durable()
    }

    /// The first position that was not trimmed.
    pub fn first_available(&self) -> u64 {
        self.shared.segments.first_available()
    }

    /// A reader whose next frame holds the position after `after`; 0 reads from the very first.
    pub fn reader(&self, after: u64) -> Reader {
        Reader::new(Arc::clone(&self.shared), after)
    }

    /// Calls `callback` with the last durable position after each commit, from the writer's thread, until the
    /// subscription is dropped. It must not block.
    pub fn subscribe(&self, callback: impl Fn(u64) + Send + Sync + 'static) -> Subscription {
        let key = self.shared.tail.subscribe(Arc::new(callback));
        Subscription { shared: Arc::clone(&self.shared), key }
    }

    /// Deletes the oldest segments that hold no position after `through`; never the newest one. Gives the first
    /// position that is still there.
    pub fn trim(&self, through: u64) -> Result<u64, TrimError> {
        let shared = &self.shared;
        let segments = shared.segments.trimmable(through);
        let Some(newest) = segments.last() else {
            return Ok(self.first_available());
        };
        let first_available = newest.last() + 1;
        let dir = &shared.options.dir;
        let failed = |action, path: &std::path::Path| {
            let path = path.to_owned();
            move |source| TrimError { action, path, source }
        };
        // First the promise that they are not needed, then their end: a crash between leaves files, not a gap.
        shared
            .update_identity(|identity| identity.first_available = first_available)
            .map_err(failed("write identity", &dir.join(identity::NAME)))?;
        shared.segments.forget_before(first_available);
        shared.tail.forget_before(first_available);
        for segment in &segments {
            shared.fs.remove(&segment.path).map_err(failed("remove segment", &segment.path))?;
        }
        shared.fs.sync_dir(dir).map_err(failed("sync directory", dir))?;
        Ok(first_available)
    }

    /// Counts and sizes.
    pub fn stats(&self) -> Stats {
        let (segments, segment_bytes) = self.shared.segments.totals();
        let (frames, bytes) = self.shared.queue.waiting();
        Stats {
            segments,
            segment_bytes,
            waiting_frames: frames as u64,
            waiting_bytes: bytes as u64,
            first_available: self.first_available(),
            durable: self.durable(),
            ..*self.shared.stats_mut()
        }
    }

    /// Whether frames are taken.
    pub fn health(&self) -> Health {
        self.shared.health()
    }

    /// Takes no more frames, answers all that wait, and gives the directory free. Later calls do nothing.
    pub fn close(&self) -> Result<(), CloseError> {
        self.shared.queue.close();
        let mut writer = lock(&self.writer);
        let current = std::thread::current().id();
        // From one of its own callbacks the writer cannot be waited for; it ends when the callback returns.
        let Some(handle) = writer.take_if(|handle| handle.thread().id() != current) else {
            return Ok(());
        };
        handle.join().unwrap_or_else(|_| Err(CloseError { source: Arc::new(io::Error::other("writer panicked")) }))
    }
}

/// A writer that writes when it is told to.
#[cfg(any(test, feature = "sim"))]
pub struct Steps(Writer);

#[cfg(any(test, feature = "sim"))]
impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Steps")
    }
}

#[cfg(any(test, feature = "sim"))]
impl Steps {
    /// Writes a group of what waits, or looks whether the file system serves again. False: the journal is closed and
    /// everything was taken.
    pub fn step(&mut self) -> bool {
        self.0.turn(|_| Some(Duration::ZERO))
    }

    /// Ends as a writer does whose journal was closed.
    pub fn end(mut self) -> Result<(), CloseError> {
        while self.step() {}
        self.0.end()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // Whoever wants to know calls `close`.
        let _ = self.close();
    }
}

/// Keeps a callback of [`Journal::subscribe`] until it is dropped.
pub struct Subscription {
    shared: Arc<Shared>,
    key: u64,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.tail.unsubscribe(self.key);
    }
}
