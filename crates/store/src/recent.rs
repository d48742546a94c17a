//! The recent tier: the newest records in memory, bounded in bytes. Owns merging, eviction, the index of what was
//! evicted, and the seam to the lake: what the lake's snapshot holds is not held here. Refuses to read a journal:
//! evicted records come back through [`Older`].

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::error::ArrowError;
use bytes::Bytes;
use runstone_record::Batch;
use runstone_record::limits::RECENT_BYTES_MAX;
use tokio::sync::watch;

use crate::chunk::Chunk;
use crate::lake::LakeView;

/// Rows of a chunk that is not merged any further.
const CHUNK_ROWS: usize = 64 << 10;
/// Bytes of a chunk that is not merged any further.
const CHUNK_BYTES: usize = 8 << 20;
/// Chunks of about one size that are merged into one: a record is copied once for each power of this.
const FAN_IN: usize = 16;

/// Reads records that are no longer in memory.
pub trait Older: Send + Sync + std::fmt::Debug {
    /// The frames that hold the positions from `first` to `last`, in order, each with the position of its first
    /// record. Frames may reach beyond the range.
    ///
    /// # Errors
    /// [`OlderError`] where they cannot be read.
    fn frames(&self, first: u64, last: u64) -> Result<Frames, OlderError>;
}

/// Frames in order: first position and payload.
pub type Frames = Box<dyn Iterator<Item = Result<(u64, Bytes), OlderError>> + Send>;

/// Older records cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read older records: {0}")]
pub struct OlderError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Nothing is older: for a store whose memory holds everything.
#[derive(Debug)]
pub struct NothingOlder;

impl Older for NothingOlder {
    fn frames(&self, _first: u64, _last: u64) -> Result<Frames, OlderError> {
        Ok(Box::new(std::iter::empty()))
    }
}

/// A batch that the recent tier cannot take.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// It does not follow what is there.
    #[error("push records: position {first} does not follow {through}")]
    Order {
        /// Its first position.
        first: u64,
        /// The last position so far.
        through: u64,
    },
    /// Arrow refused its layout.
    #[error("push records: lay out columns")]
    Layout(#[from] ArrowError),
}

/// Settings of the recent tier.
#[derive(Debug, Clone, Copy)]
pub struct RecentOptions {
    /// Bytes of records in memory; the oldest are evicted beyond.
    pub bytes_max: usize,
}

impl Default for RecentOptions {
    fn default() -> Self {
        Self { bytes_max: RECENT_BYTES_MAX }
    }
}

/// What the recent tier holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecentStats {
    /// Bytes of records in memory.
    pub bytes: usize,
    /// Chunks in memory.
    pub chunks: usize,
    /// Records in memory.
    pub records: u64,
    /// Records that were evicted and are read back when a query needs them.
    pub evicted: u64,
    /// The highest position.
    pub through: u64,
    /// The highest position that queries read from the lake.
    pub settled: u64,
}

/// A range of positions that left memory.
#[derive(Debug, Clone)]
pub(crate) struct Evicted {
    pub(crate) journal: Arc<str>,
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// No timestamp is less, and none is greater.
    pub(crate) times: (i64, i64),
    /// Were its first records settled since? Then its times may be wider than need be.
    pub(crate) is_cut: bool,
}

impl Evicted {
    pub(crate) fn rows(&self) -> u64 {
        self.last - self.first + 1
    }
}

/// What a query reads: taken in one moment, never changed after.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    /// What came before: these positions are nowhere else.
    pub(crate) lake: Option<Arc<LakeView>>,
    /// Oldest first.
    pub(crate) evicted: Arc<Vec<Evicted>>,
    /// Oldest first, after the evicted.
    pub(crate) chunks: Vec<Arc<Chunk>>,
}

#[derive(Debug, Default)]
struct State {
    lake: Option<Arc<LakeView>>,
    /// The last position that is read from the lake. Nothing at or below it is held here.
    settled: u64,
    evicted: Arc<Vec<Evicted>>,
    evicted_rows: u64,
    chunks: VecDeque<Arc<Chunk>>,
    bytes: usize,
    through: u64,
}

/// The newest records, in memory.
#[derive(Debug)]
pub struct Recent {
    options: RecentOptions,
    /// Held while a batch is laid out and chunks are merged; readers never wait for that.
    pusher: Mutex<()>,
    /// Held for moments.
    state: Mutex<State>,
    /// The version of the lake that queries read.
    version: watch::Sender<Option<u64>>,
    /// Does somebody wait for a newer one?
    is_behind: AtomicBool,
}

/// How long a query waits for a newer version of the lake than the one whose files it could not read.
const NEWER_TIME: Duration = Duration::from_secs(1);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half-done under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recent {
    /// An empty one.
    #[must_use]
    pub fn new(options: RecentOptions) -> Self {
        Self {
            options,
            pusher: Mutex::default(),
            state: Mutex::default(),
            version: watch::Sender::new(None),
            is_behind: AtomicBool::new(false),
        }
    }

    /// Adds the records of a frame whose first position is `first`. Frames come in the order of their positions; what
    /// is settled already is left out.
    ///
    /// # Errors
    /// [`PushError`] where the frame does not come after the last one, or its columns cannot be laid out.
    pub fn push(&self, journal: &str, first: u64, batch: Batch) -> Result<(), PushError> {
        if batch.is_empty() {
            return Ok(());
        }
        let _pushing = lock(&self.pusher);
        let last = first + (batch.len() as u64 - 1);
        let (through, start, journal) = {
            let state = lock(&self.state);
            if last <= state.settled {
                return Ok(());
            }
            let known = state.chunks.back().filter(|chunk| &*chunk.journal == journal);
            let journal = known.map_or_else(|| journal.into(), |chunk| Arc::clone(&chunk.journal));
            // A frame may begin below the seam, where the lake took over in the middle of it.
            (state.through, first.max(state.settled + 1), journal)
        };
        if start <= through {
            return Err(PushError::Order { first, through });
        }
        let chunk = Chunk::from_batch(journal, first, batch)?;
        lock(&self.state).append(chunk);
        loop {
            // In a statement of its own: readers must not wait while chunks are merged.
            let parts = lock(&self.state).mergeable();
            let Some(parts) = parts else { break };
            let merged = Chunk::merge(&parts)?;
            lock(&self.state).replace_last(merged);
        }
        lock(&self.state).evict(self.options.bytes_max);
        Ok(())
    }

    /// From now on queries read the positions up to `through` from this snapshot of the lake, and from nowhere else.
    /// An older snapshot than the one in use, or one that holds less, changes nothing.
    pub fn settle(&self, lake: Arc<LakeView>, through: u64) {
        let mut state = lock(&self.state);
        let known = state.lake.as_ref().is_some_and(|known| known.version() > lake.version());
        if known || through < state.settled {
            return;
        }
        let version = lake.version();
        let old = state.lake.replace(lake);
        let settled = state.settle(through);
        drop(state);
        self.version.send_if_modified(|known| std::mem::replace(known, (*known).max(Some(version))) < Some(version));
        // Giving much memory back takes its time.
        drop((old, settled));
    }

    /// Should whoever settles look for a newer version of the lake now? Files of the one in use may be gone. Answers once.
    pub fn is_behind(&self) -> bool {
        self.is_behind.swap(false, Ordering::Relaxed)
    }

    /// Asks for a newer version of the lake than a snapshot's, and waits for it for a moment. False: there is none.
    pub(crate) async fn newer_than(&self, snapshot: &Snapshot) -> bool {
        let Some(lake) = &snapshot.lake else { return false };
        let (mut version, old) = (self.version.subscribe(), Some(lake.version()));
        self.is_behind.store(true, Ordering::Relaxed);
        let newer = version.wait_for(|version| *version > old);
        matches!(tokio::time::timeout(NEWER_TIME, newer).await, Ok(Ok(_)))
    }

    /// The highest position that queries see; 0 before the first record.
    #[must_use]
    pub fn through(&self) -> u64 {
        lock(&self.state).through
    }

    /// What it holds.
    #[must_use]
    pub fn stats(&self) -> RecentStats {
        let state = lock(&self.state);
        RecentStats {
            bytes: state.bytes,
            chunks: state.chunks.len(),
            records: state.chunks.iter().map(|chunk| chunk.rows as u64).sum(),
            evicted: state.evicted_rows,
            through: state.through,
            settled: state.settled,
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let state = lock(&self.state);
        Snapshot {
            lake: state.lake.clone(),
            evicted: Arc::clone(&state.evicted),
            chunks: state.chunks.iter().cloned().collect(),
        }
    }
}

impl State {
    fn append(&mut self, chunk: Chunk) {
        self.through = self.through.max(chunk.last());
        if let Some(chunk) = above(chunk.into(), self.settled) {
            self.bytes += chunk.bytes;
            self.chunks.push_back(chunk);
        }
    }

    /// Forgets what is now in the lake. The answer is what was forgotten.
    fn settle(&mut self, through: u64) -> Vec<Arc<Chunk>> {
        self.settled = through;
        self.through = self.through.max(through);
        if self.evicted.first().is_some_and(|range| range.first <= through) {
            let evicted = Arc::make_mut(&mut self.evicted);
            evicted.retain(|range| range.last > through);
            if let Some(range) = evicted.first_mut().filter(|range| range.first <= through) {
                range.first = through + 1;
                range.is_cut = true;
            }
            self.evicted_rows = evicted.iter().map(Evicted::rows).sum();
        }
        let count = self.chunks.partition_point(|chunk| chunk.first <= through);
        let gone: Vec<_> = self.chunks.drain(..count).collect();
        if let Some(rest) = gone.last().and_then(|chunk| above(Arc::clone(chunk), through)) {
            self.bytes += rest.bytes;
            self.chunks.push_front(rest);
        }
        self.bytes -= gone.iter().map(|chunk| chunk.bytes).sum::<usize>();
        gone
    }

    /// The newest chunks, where they should become one.
    fn mergeable(&self) -> Option<Vec<Arc<Chunk>>> {
        let newest = self.chunks.back()?;
        let small = |chunk: &Chunk| chunk.rows < CHUNK_ROWS / 2 && chunk.bytes < CHUNK_BYTES / 2;
        let (mut count, mut alike, mut rows, mut bytes) = (0, 0, 0, 0);
        let mut next = newest.first + newest.rows as u64;
        for chunk in self.chunks.iter().rev() {
            let follows = chunk.last() + 1 == next && chunk.journal == newest.journal;
            if !small(chunk) || !follows {
                break;
            }
            next = chunk.first;
            count += 1;
            rows += chunk.rows;
            bytes += chunk.bytes;
            if chunk.rows.ilog(FAN_IN) <= newest.rows.ilog(FAN_IN) {
                alike += 1;
            }
            if rows >= CHUNK_ROWS || bytes >= CHUNK_BYTES {
                break;
            }
        }
        let full = count > 1 && (rows >= CHUNK_ROWS || bytes >= CHUNK_BYTES);
        let merged = if full { count } else { alike };
        (full || alike >= FAN_IN).then(|| self.chunks.range(self.chunks.len() - merged..).cloned().collect())
    }

    /// Puts a chunk in the place of its parts. Some of them may have been settled while they were merged.
    fn replace_last(&mut self, merged: Chunk) {
        let kept = self.chunks.partition_point(|chunk| chunk.last() < merged.first);
        let freed: usize = self.chunks.drain(kept..).map(|chunk| chunk.bytes).sum();
        self.bytes -= freed;
        if let Some(merged) = above(merged.into(), self.settled) {
            self.bytes += merged.bytes;
            self.chunks.push_back(merged);
        }
    }

    fn evict(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max
            && let Some(chunk) = self.chunks.pop_front()
        {
            self.bytes -= chunk.bytes;
            self.evicted_rows += chunk.rows as u64;
            let evicted = Arc::make_mut(&mut self.evicted);
            match evicted.last_mut() {
                // Small chunks share an entry, so that the index grows with bytes and not with requests.
                Some(last)
                    if last.last + 1 == chunk.first
                        && last.journal == chunk.journal
                        && last.rows() + chunk.rows as u64 <= CHUNK_ROWS as u64 =>
                {
                    last.last = chunk.last();
                    last.times = (last.times.0.min(chunk.times.0), last.times.1.max(chunk.times.1));
                }
                _ => evicted.push(Evicted {
                    journal: Arc::clone(&chunk.journal),
                    first: chunk.first,
                    last: chunk.last(),
                    times: chunk.times,
                    is_cut: false,
                }),
            }
        }
    }
}

/// The records of a chunk that come after a position.
fn above(chunk: Arc<Chunk>, position: u64) -> Option<Arc<Chunk>> {
    if chunk.first > position {
        return Some(chunk);
    }
    let row = usize::try_from(position - chunk.first).ok()?.checked_add(1)?;
    (row < chunk.rows).then(|| Arc::new(chunk.starting_at(row)))
}
