//! Brings the journal's frames to the lake: a thread with its own reader, past the lake's own cursor. Owns what is read
//! and when a flush is due; `flush` does it, `trouble` knows what a failure means.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runstone_journal::{Frame, Journal, ReadError, Reader};
use runstone_record::Batch;
use runstone_record::bits::Bits;
use runstone_store::Recent;
use runstone_store::lake::{CopyOptions, Lake, LakeError, LakeOptions, LakeSnapshot, LakeWriter, WriterOptions};
use tokio::runtime::Handle;

use super::control::Control;
use super::course::{self, Astray, Course};
use super::status::LakeStatus;
use super::trim::{Keep, Trimmer};
use super::trouble::Trouble;
use super::twin::Twins;
use crate::clock::Clock;
use crate::intake::Entropy;
use crate::lineage::Lineage;
use crate::metrics::LakeMetrics;

/// How long the thread waits for frames before it looks what else there is to do.
const TICK: Duration = Duration::from_millis(200);
/// How often it looks for commits of others.
pub(super) const REFRESH: Duration = Duration::from_secs(3);
/// How long it leaves the processor to the readers of a long journal after a start.
const GO_DEADLINE: Duration = Duration::from_secs(30);
/// How full recent records are when they are brought to the lake early, in quarters.
const RECENT_QUARTERS: usize = 3;

/// What the consumer is made of.
pub(crate) struct Parts {
    pub(crate) journal: Arc<Journal>,
    pub(crate) recent: Arc<Recent>,
    pub(crate) recent_bytes_max: usize,
    pub(crate) lake: LakeOptions,
    pub(crate) writer: WriterOptions,
    /// How records are found that the lake has already.
    pub(crate) copies: CopyOptions,
    pub(crate) data: PathBuf,
    pub(crate) flush_interval: Duration,
    pub(crate) flush_bytes: usize,
    pub(crate) keep: Keep,
    pub(crate) accept_missing: bool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Entropy,
    pub(crate) metrics: LakeMetrics,
    pub(crate) handle: Handle,
    pub(crate) control: Arc<Control>,
    pub(crate) status: Arc<LakeStatus>,
}

/// Why reading paused.
enum Filled {
    /// What is pending is to go to the lake.
    Due,
    /// The next frame counts under the next epoch.
    NextEpoch,
    /// There is no more, and none will come.
    End,
}

pub(crate) struct Consumer {
    pub(super) parts: Parts,
    pub(super) lineage: Lineage,
    pub(super) reader: Reader,
    pub(super) lake: Option<(Lake, LakeWriter)>,
    pub(super) course: Option<Course>,
    pub(super) trimmer: Trimmer,
    /// The last position that the lake can have of this directory: as the journal was opened, or as we tried since.
    pub(super) known: u64,
    /// The first frame of the next epoch.
    pub(super) held: Option<Frame>,
    /// Since when something waits for a flush.
    pub(super) since: Option<Instant>,
    /// The last position that nothing can be made of, where no pending frame follows it.
    pub(super) passed: Option<u64>,
    /// The first and last position of what waits for a flush, and its frames.
    pub(super) pending: Option<(u64, u64)>,
    pub(super) frames: usize,
    /// No more frames than this in one flush: one of them may be what the lake cannot take.
    pub(super) piece: Option<usize>,
    pub(super) has_caught_up: bool,
    /// Somebody asked for a flush through this position.
    wanted: Option<u64>,
    /// What was asked for has been read.
    pub(super) asked: bool,
    pub(super) has_opened: bool,
    /// The version that queries read.
    pub(super) shown: Option<u64>,
    pub(super) refreshed: Instant,
    pub(super) failures: u32,
}

impl Consumer {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            lineage: Lineage::of(&parts.journal),
            reader: parts.journal.reader(0),
            known: parts.journal.durable(),
            trimmer: Trimmer::new(parts.keep),
            parts,
            lake: None,
            course: None,
            held: None,
            since: None,
            passed: None,
            pending: None,
            frames: 0,
            piece: None,
            has_caught_up: false,
            wanted: None,
            asked: false,
            has_opened: false,
            shown: None,
            refreshed: Instant::now(),
            failures: 0,
        }
    }

    pub(crate) fn run(mut self) {
        loop {
            match self.step() {
                Ok(true) => {}
                Ok(false) | Err(Trouble::Late) => return,
                Err(trouble) => {
                    self.suffer(&trouble);
                    if self.parts.control.is_late() || (self.parts.control.is_stopping() && self.failures > 1) {
                        return;
                    }
                }
            }
        }
    }

    /// False: it is done.
    pub(super) fn step(&mut self) -> Result<bool, Trouble> {
        if self.lake.is_none() {
            self.open()?;
        }
        if self.course.is_none() {
            self.find_course()?;
            self.parts.control.looked(Ok(()));
            self.parts.control.wait_go(GO_DEADLINE);
        }
        match self.fill()? {
            Filled::Due => self.flush()?,
            Filled::NextEpoch => {
                self.flush()?;
                self.finish_epoch()?;
            }
            Filled::End => {
                self.flush()?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Runs a future on this thread, unless the time to stop comes first.
    pub(super) fn block_on<T>(&self, work: impl Future<Output = T>) -> Result<T, Trouble> {
        let control = &self.parts.control;
        self.parts.handle.block_on(async {
            tokio::select! {
                done = work => Ok(done),
                () = control.abandoned() => Err(Trouble::Late),
            }
        })
    }

    fn open(&mut self) -> Result<(), Trouble> {
        let options = self.parts.lake.clone();
        if self.has_opened {
            // A table that was there must not be made anew because its directory has gone for a while.
            match self.block_on(Lake::open_read_only(options.clone()))? {
                Err(error @ LakeError::Location(_)) => {
                    let action = "find the lake again".to_owned();
                    return Err(LakeError::Storage { action, source: error.into() }.into());
                }
                found => drop(found?),
            }
        }
        let lake = self.block_on(Lake::open(options))??;
        self.has_opened = true;
        let writer = self.new_writer(&lake);
        self.lake = Some((lake, writer));
        Ok(())
    }

    pub(super) fn new_writer(&self, lake: &Lake) -> LakeWriter {
        let mut writer = LakeWriter::new(lake.clone(), self.parts.writer);
        writer.leave_out_copies(self.parts.copies.clone());
        writer
    }

    pub(super) fn lake(&self) -> Result<&Lake, Trouble> {
        let open = self.lake.as_ref().map(|(lake, _)| lake);
        open.ok_or_else(|| LakeError::Internal("use a lake that is not open".to_owned()).into())
    }

    pub(super) fn writer(&mut self) -> Result<&mut LakeWriter, Trouble> {
        let open = self.lake.as_mut().map(|(_, writer)| writer);
        open.ok_or_else(|| LakeError::Internal("use a lake that is not open".to_owned()).into())
    }

    /// Finds out how far the lake has come, and goes on reading there.
    pub(super) fn find_course(&mut self) -> Result<(), Trouble> {
        self.lineage = Lineage::of(&self.parts.journal);
        let lake = self.lake()?.clone();
        let (snapshot, found) = self.block_on(async {
            let snapshot = lake.refresh().await?;
            let found = course::find(&lake, &snapshot, &self.lineage, self.parts.accept_missing).await;
            Ok::<_, LakeError>((snapshot, found))
        })??;
        let course = found?;
        self.check_twin(&lake, &snapshot, course)?;
        self.clear();
        self.reader.seek(course.through);
        self.course = Some(course);
        self.refreshed = Instant::now();
        self.settle(&lake, &snapshot, course.through)?;
        self.well();
        let (version, through) = (snapshot.version, course.through);
        tracing::info!(version, through, durable = self.parts.journal.durable(), "go on from the lake's cursor");
        Ok(())
    }

    /// What the lake has under this directory's name must be this directory's.
    pub(super) fn check_twin(
        &mut self,
        lake: &Lake,
        snapshot: &Arc<LakeSnapshot>,
        course: Course,
    ) -> Result<(), Trouble> {
        let journal = Arc::clone(&self.parts.journal);
        let twins = Twins { lake, snapshot, journal: &journal };
        let Some(from) = self.block_on(twins.first_foreign(course.through, self.known))?? else { return Ok(()) };
        // Both are shown: the lake's and, from there on, this directory's.
        self.settle(lake, snapshot, from - 1)?;
        let journal = self.lineage.at(from).journal.to_string();
        Err(Astray::Ahead { journal, from, cursor: course.through }.into())
    }

    /// Reads frames until something else is to be done.
    fn fill(&mut self) -> Result<Filled, Trouble> {
        loop {
            if self.is_due() {
                return Ok(Filled::Due);
            }
            if self.refreshed.elapsed() >= REFRESH || self.parts.recent.is_behind() {
                self.refresh()?;
            }
            let stopping = self.parts.control.is_stopping();
            if stopping && self.parts.control.is_late() {
                return Err(Trouble::Late);
            }
            let next = match self.held.take() {
                Some(frame) => Ok(Some(frame)),
                None => self.reader.next(),
            };
            match next {
                Ok(Some(frame)) => {
                    if let Some(filled) = self.take(frame)? {
                        return Ok(filled);
                    }
                }
                Ok(None) if stopping => return Ok(Filled::End),
                Ok(None) => {
                    if self.catch_up() {
                        return Ok(Filled::Due);
                    }
                    if !self.reader.wait(TICK) {
                        self.trim();
                    }
                }
                Err(ReadError::Quarantined { first, last }) => {
                    tracing::error!(first, last, "leave damaged records of the journal out of the lake");
                    self.reader.skip();
                    self.pass(last);
                }
                Err(ReadError::Trimmed { first_available }) => {
                    let first = self.reader.position() + 1;
                    return Err(Astray::Missing { first, last: first_available - 1 }.into());
                }
                Err(error @ ReadError::Io { .. }) => return Err(error.into()),
            }
        }
    }

    /// Adds a frame to what waits for the next flush.
    fn take(&mut self, frame: Frame) -> Result<Option<Filled>, Trouble> {
        let Some(course) = self.course else { return Ok(None) };
        let (first, last) = (frame.first, frame.last());
        if self.lineage.place(first) > course.epoch {
            self.held = Some(frame);
            return Ok(Some(Filled::NextEpoch));
        }
        if last <= course.through {
            return Ok(None);
        }
        let batch = match Batch::decode(&frame.payload) {
            Ok(batch) => batch,
            Err(error) => {
                tracing::error!(first, last, %error, "leave an unreadable frame out of the lake");
                self.pass(last);
                return Ok(None);
            }
        };
        let (first, batch) = after(first, batch, course.through);
        let journal = Arc::clone(&self.lineage.epochs()[course.epoch].journal);
        // Whatever becomes of it, it is among those that a failure may be blamed on.
        self.passed = None;
        self.frames += 1;
        self.pending = Some((self.pending.map_or(first, |(first, _)| first), last));
        self.writer()?.push(&journal, first, batch)?;
        if self.since.is_none() {
            self.since = Some(Instant::now());
            let oldest = self.writer()?.pending().oldest;
            self.parts.status.waits_since(oldest);
        }
        Ok(None)
    }

    /// Nothing can be made of the positions up to `last`: they count as brought to the lake.
    pub(super) fn pass(&mut self, last: u64) {
        self.passed = Some(last);
        self.since.get_or_insert_with(Instant::now);
        self.parts.metrics.passed.inc();
    }

    fn is_due(&mut self) -> bool {
        if self.parts.control.take_flush() {
            self.wanted = Some(self.parts.journal.durable());
        }
        // What was durable when somebody asked, not what happened to be read by then.
        let read = if self.held.is_none() { self.reader.position() } else { 0 };
        let asked = self.wanted.take_if(|wanted| read >= *wanted).is_some();
        let Some(since) = self.since else {
            if asked {
                self.parts.control.flushed();
            }
            return false;
        };
        self.asked |= asked;
        let bytes = self.lake.as_ref().map_or(0, |(_, writer)| writer.pending().bytes);
        bytes >= self.parts.flush_bytes
            || since.elapsed() >= self.parts.flush_interval
            || self.piece.is_some_and(|piece| self.frames >= piece)
            || self.asked
    }

    /// There is nothing more to read for now. True: what is pending should not wait.
    fn catch_up(&mut self) -> bool {
        let is_first = !std::mem::replace(&mut self.has_caught_up, true);
        let Some((_, writer)) = self.lake.as_ref().filter(|_| self.since.is_some()) else { return false };
        let interval = i64::try_from(self.parts.flush_interval.as_micros()).unwrap_or(i64::MAX);
        let old = |at: i64| self.parts.clock.now_micros().saturating_sub(at) >= interval;
        let recent_is_full =
            self.parts.recent.stats().bytes / RECENT_QUARTERS >= self.parts.recent_bytes_max / (RECENT_QUARTERS + 1);
        // After a start: what waited since before it has waited long enough.
        recent_is_full || (is_first && writer.pending().oldest.is_some_and(old))
    }

    pub(super) fn clear(&mut self) {
        if let Some((_, writer)) = &mut self.lake {
            writer.clear();
        }
        (self.held, self.since, self.passed, self.pending, self.frames) = (None, None, None, None, 0);
        // What was asked for is still to be brought, all of it.
        if std::mem::take(&mut self.asked) {
            self.wanted = Some(self.parts.journal.durable());
        }
        self.parts.status.waits_since(None);
    }
}

/// The records of a frame after a position, and the first one's.
pub(crate) fn after(first: u64, batch: Batch, position: u64) -> (u64, Batch) {
    let skipped = usize::try_from((position + 1).saturating_sub(first)).unwrap_or(usize::MAX);
    if skipped == 0 {
        return (first, batch);
    }
    let mut keep = Bits::filled(batch.len(), true);
    (0..skipped.min(batch.len())).for_each(|row| keep.set(row, false));
    (first + skipped as u64, batch.filter(&keep))
}
