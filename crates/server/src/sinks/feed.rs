//! Brings the journal's frames to one sink: a thread with a reader and a pace of its own, past the cursor that the target
//! keeps. Owns what is read, from journal or lake, and what a failure means; refuses to let a sink's trouble reach the
//! journal or another sink.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use runstone_journal::{Frame, Journal, JournalId, ReadError, Reader};
use runstone_record::{Batch, ColumnSet};
use runstone_sinks::{Delivery, Sink, SinkError};
use runstone_store::lake::{Lake, LakeError, LakeSnapshot, Positions};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::course::{self, Ahead, Course, CourseError};
use super::gathered::Gathered;
use super::metrics::{SinkCounts, SinkMetrics};
use super::status::{SinkHealth, SinkStatus};
use crate::clock::Clock;
use crate::config::BeginPolicy;
use crate::intake::Entropy;
use crate::lake::{Control, after, chain};
use crate::lineage::{Epoch, Lineage};

/// How long it waits for frames before it looks whether it is to stop.
const TICK: Duration = Duration::from_millis(200);
/// After a failure that passes by itself: the first pause, and the longest.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// After one that does not.
const PAUSE_LONG: Duration = Duration::from_secs(60);

/// The cursor of epoch 0, which no journal has: a target of [`BeginPolicy::Now`] is being moved behind what there is.
const BEGINNING: u64 = 1;
/// It was.
const BEGUN: u64 = 2;

/// What a feed is made of.
pub(crate) struct Parts {
    pub(crate) journal: Arc<Journal>,
    /// What the lake held when it was last looked at.
    pub(crate) lake: Arc<Control>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Entropy,
    pub(crate) metrics: SinkMetrics,
    /// What a target gets that was never fed from here.
    pub(crate) begin: BeginPolicy,
    pub(crate) handle: Handle,
    pub(crate) status: Arc<SinkStatus>,
    /// The journal is closed: what is left is brought there, and then it ends.
    pub(crate) stopping: CancellationToken,
    /// What is under way is to be dropped.
    pub(crate) late: CancellationToken,
}

/// Why it does not go on for now.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error(transparent)]
    Ahead(#[from] Ahead),
    #[error(transparent)]
    Journal(#[from] ReadError),
    #[error(transparent)]
    Lake(#[from] LakeError),
    #[error("read what the journal has no more: the lake has positions only through {0}")]
    NotInTheLake(u64),
    #[error("feed the sink: it panicked: {0}")]
    Panic(String),
    /// The time to stop is over.
    #[error("stop")]
    Late,
}

impl From<CourseError> for Trouble {
    fn from(error: CourseError) -> Self {
        match error {
            CourseError::Ahead(ahead) => Trouble::Ahead(ahead),
            CourseError::Sink(error) => Trouble::Sink(error),
        }
    }
}

/// Why gathering paused.
enum Filled {
    /// What was gathered is to be delivered.
    Due,
    /// The next frame counts under the next epoch.
    NextEpoch,
    /// The journal has nothing before this position any more.
    Trimmed(u64),
    /// There is no more, and none will come.
    End,
}

pub(crate) struct Feed {
    parts: Parts,
    sink: Box<dyn Sink>,
    counts: SinkCounts,
    lineage: Lineage,
    reader: Reader,
    course: Option<Course>,
    gathered: Gathered,
    /// The first frame of the next epoch.
    held: Option<Frame>,
    failures: u32,
}

impl Feed {
    pub(crate) fn new(parts: Parts, sink: Box<dyn Sink>) -> Self {
        Self {
            counts: parts.metrics.of(sink.name()),
            lineage: Lineage::of(&parts.journal),
            reader: parts.journal.reader(0),
            parts,
            sink,
            course: None,
            gathered: Gathered::default(),
            held: None,
            failures: 0,
        }
    }

    /// Until it is stopped. A panic is a fault of ours: it is said, and after a while all goes on from the target's cursor.
    pub(crate) fn run(mut self) {
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.feed())) {
            let words = panic.downcast_ref::<&str>().map(|words| (*words).to_owned());
            let words = words.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            tracing::error!(sink = self.sink.name(), %words, "a sink panicked");
            self.course = None;
            self.failures += 1;
            self.counts.failed();
            self.wait(SinkHealth::Failed, &Trouble::Panic(words), PAUSE_LONG);
            if self.parts.stopping.is_cancelled() {
                return;
            }
        }
    }

    fn feed(&mut self) {
        loop {
            match self.step() {
                Ok(true) => {}
                Ok(false) | Err(Trouble::Late) => return,
                Err(trouble) => {
                    self.suffer(&trouble);
                    if self.parts.stopping.is_cancelled() {
                        return;
                    }
                }
            }
        }
    }

    /// False: it is done.
    fn step(&mut self) -> Result<bool, Trouble> {
        let course = match self.course {
            Some(course) => course,
            None => self.find_course()?,
        };
        match self.fill(course)? {
            Filled::Due => self.deliver(course)?,
            Filled::NextEpoch => {
                self.deliver(course)?;
                self.finish_epoch()?;
            }
            Filled::Trimmed(first_available) => {
                self.deliver(course)?;
                self.catch_up(first_available)?;
            }
            Filled::End => {
                self.deliver(course)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Runs a future on this thread, unless the time to stop comes first.
    fn block_on<T>(parts: &Parts, work: impl Future<Output = T>) -> Result<T, Trouble> {
        parts.handle.block_on(async {
            tokio::select! {
                done = work => Ok(done),
                () = parts.late.cancelled() => Err(Trouble::Late),
            }
        })
    }

    /// Finds out how far the target has come, and goes on reading there.
    fn find_course(&mut self) -> Result<Course, Trouble> {
        self.gathered.clear();
        self.held = None;
        let durable = self.parts.journal.durable();
        let oldest = self.lineage.oldest().clone();
        if self.parts.begin == BeginPolicy::Now {
            self.begin_now(&oldest, durable)?;
        }
        let sink = self.sink.as_mut();
        let mut course = Self::block_on(&self.parts, course::find(sink, &self.lineage, durable))??;
        if course.epoch == 0 && course.cursor + 1 < oldest.first {
            self.bring_earlier(&oldest)?;
            // What the journal has no more of this epoch: the reader finds it trimmed, and it comes from the lake.
            course.through = course.cursor;
        }
        self.reader.seek(course.through);
        self.course = Some(course);
        let (sink, through) = (self.sink.name(), course.through);
        self.parts.status.found(through);
        if self.failures == 0 {
            tracing::info!(sink, through, durable, "go on from the sink's cursor");
        }
        Ok(course)
    }

    /// Moves the cursors of a target that never had anything of this directory behind all that there is, once. A mark in the
    /// target says that it was done, so that what comes between this and the first delivery is not passed over.
    fn begin_now(&mut self, oldest: &Epoch, durable: u64) -> Result<(), Trouble> {
        let mark = JournalId { epoch: 0, ..oldest.id }.to_string();
        let marked = self.cursor_of(&mark)?;
        if marked == BEGUN {
            return Ok(());
        }
        let mut ends = self.earlier(oldest)?;
        let of_epoch = |epoch: &Epoch| (epoch.journal.to_string(), epoch.last.unwrap_or(durable));
        ends.extend(self.lineage.epochs().iter().map(of_epoch));
        let mut cursors = Vec::with_capacity(ends.len());
        for (journal, _) in &ends {
            cursors.push(self.cursor_of(journal)?);
        }
        let is_new = cursors.iter().all(|cursor| *cursor == 0);
        if marked != BEGINNING && is_new {
            self.pass(&mark, marked, BEGINNING)?;
        }
        // Without the mark it was fed before marks were made, or all of it was asked for then.
        if marked == BEGINNING || is_new {
            for ((journal, through), cursor) in ends.iter().zip(cursors) {
                if cursor < *through {
                    self.pass(journal, cursor, *through)?;
                }
            }
            let sink = self.sink.name();
            tracing::info!(sink, durable, "begin with what comes: the target was never fed from here");
            self.pass(&mark, BEGINNING, BEGUN)?;
        } else {
            self.pass(&mark, marked, BEGUN)?;
        }
        Ok(())
    }

    fn cursor_of(&mut self, journal: &str) -> Result<u64, Trouble> {
        Ok(Self::block_on(&self.parts, self.sink.cursor(journal))??)
    }

    /// Moves a cursor and brings nothing.
    fn pass(&mut self, journal: &str, after: u64, through: u64) -> Result<(), Trouble> {
        let delivery = Delivery { source: journal, after, frames: &[], through };
        Self::block_on(&self.parts, self.sink.deliver(delivery))??;
        Ok(())
    }

    /// The epochs before those that the journal knows, and how far the lake has them.
    fn earlier(&self, oldest: &Epoch) -> Result<Vec<(String, u64)>, Trouble> {
        if oldest.id.epoch <= 1 {
            return Ok(Vec::new());
        }
        let seen = self.parts.lake.seen().ok_or(Trouble::NotInTheLake(0))?;
        let mut ends = Vec::new();
        for number in 1..oldest.id.epoch {
            let journal = JournalId { epoch: number, ..oldest.id }.to_string();
            let through = Self::block_on(&self.parts, seen.lake.cursor(&seen.snapshot, &journal))??.unwrap_or(0);
            ends.push((journal, through));
        }
        Ok(ends)
    }

    /// Reads frames until something else is to be done.
    fn fill(&mut self, course: Course) -> Result<Filled, Trouble> {
        loop {
            if self.gathered.is_full() {
                return Ok(Filled::Due);
            }
            let stopping = self.parts.stopping.is_cancelled();
            if self.parts.late.is_cancelled() {
                return Err(Trouble::Late);
            }
            let next = match self.held.take() {
                Some(frame) => Ok(Some(frame)),
                None => self.reader.next(),
            };
            match next {
                Ok(Some(frame)) if self.lineage.place(frame.first) > course.epoch => {
                    self.held = Some(frame);
                    return Ok(Filled::NextEpoch);
                }
                Ok(Some(frame)) => self.take(&frame, course.through),
                Ok(None) if self.gathered.through().is_some() => return Ok(Filled::Due),
                Ok(None) if stopping => return Ok(Filled::End),
                Ok(None) => {
                    self.idle();
                    self.reader.wait(TICK);
                }
                Err(ReadError::Quarantined { first, last }) => {
                    let sink = self.sink.name();
                    tracing::error!(sink, first, last, "leave damaged records of the journal out of the sink");
                    self.reader.skip();
                    self.gathered.pass(last);
                }
                Err(ReadError::Trimmed { first_available }) => return Ok(Filled::Trimmed(first_available)),
                Err(error @ ReadError::Io { .. }) => return Err(error.into()),
            }
        }
    }

    fn take(&mut self, frame: &Frame, through: u64) {
        let (first, last) = (frame.first, frame.last());
        if last <= through {
            return;
        }
        match Batch::decode(&frame.payload) {
            Ok(batch) => {
                let (first, batch) = after(first, batch, through);
                self.gathered.push(runstone_sinks::Frame { first, batch }, frame.payload.len());
                self.parts.status.waits_since(self.gathered.oldest());
            }
            Err(error) => {
                let sink = self.sink.name();
                tracing::error!(sink, first, last, %error, "leave an unreadable frame out of the sink");
                self.gathered.pass(last);
            }
        }
    }

    /// Brings what was gathered to the target.
    fn deliver(&mut self, course: Course) -> Result<(), Trouble> {
        let Some(through) = self.gathered.through().filter(|through| *through > course.cursor) else {
            self.gathered.clear();
            return Ok(());
        };
        let journal = Arc::clone(&self.lineage.epochs()[course.epoch].journal);
        let frames = std::mem::take(&mut self.gathered.frames);
        let delivery = Delivery { source: &journal, after: course.cursor, frames: &frames, through };
        let delivered = Self::block_on(&self.parts, self.sink.deliver(delivery));
        self.gathered.frames = frames;
        let delivered = delivered??;
        self.counts.delivered(self.gathered.records(), &delivered);
        for letter in &delivered.dead_letters {
            let (sink, position, id) = (self.sink.name(), letter.position, letter.id.to_string());
            // Further lines may show the record.
            let reason = letter.reason.lines().next().unwrap_or_default();
            tracing::warn!(sink, position, id, %reason, "put aside a record that the target cannot take");
        }
        self.gathered.clear();
        self.course = Some(Course { cursor: through, through: through.max(course.through), ..course });
        self.parts.status.reached(through);
        self.well();
        Ok(())
    }

    /// All of an epoch is there: its cursor says so, whatever its last positions are.
    fn finish_epoch(&mut self) -> Result<(), Trouble> {
        if let Some(course) = self.course
            && let Some(last) = self.lineage.epochs()[course.epoch].last
        {
            self.gathered.pass(last);
            self.deliver(course)?;
        }
        self.course = None;
        Ok(())
    }

    /// Brings what the journal has no more, from the lake, which has it for as long as records are kept.
    fn catch_up(&mut self, first_available: u64) -> Result<(), Trouble> {
        let Some(course) = self.course else { return Ok(()) };
        let epoch = self.lineage.epochs()[course.epoch].clone();
        let through = epoch.last.map_or(first_available - 1, |last| last.min(first_available - 1));
        let seen = self.parts.lake.seen().ok_or(Trouble::NotInTheLake(0))?;
        if seen.through < through {
            return Err(Trouble::NotInTheLake(seen.through));
        }
        self.bring(&seen.lake, &seen.snapshot, course, (&epoch.journal, through))?;
        if epoch.last == Some(through) {
            self.course = None;
        } else {
            self.reader.seek(through);
        }
        Ok(())
    }

    /// Brings what earlier epochs have that the journal does not know any more.
    fn bring_earlier(&mut self, oldest: &Epoch) -> Result<(), Trouble> {
        for (journal, in_the_lake) in self.earlier(oldest)? {
            let cursor = self.cursor_of(&journal)?;
            if cursor < in_the_lake {
                let course = Course { epoch: 0, cursor, through: cursor };
                let seen = self.parts.lake.seen().ok_or(Trouble::NotInTheLake(0))?;
                self.bring(&seen.lake, &seen.snapshot, course, (&journal, in_the_lake))?;
            }
        }
        Ok(())
    }

    /// Brings records of a journal from the lake, through a position.
    fn bring(
        &mut self,
        lake: &Lake,
        snapshot: &LakeSnapshot,
        mut course: Course,
        (journal, through): (&str, u64),
    ) -> Result<(), Trouble> {
        let (sink, after) = (self.sink.name(), course.cursor);
        if after >= through {
            return Ok(());
        }
        tracing::info!(sink, journal, after, through, "read what the journal has no more from the lake");
        let ask = Positions { journal: journal.to_owned(), after, through, columns: ColumnSet::ALL, complete: false };
        let mut rows = lake.read_positions(snapshot, ask)?;
        loop {
            let next = Self::block_on(&self.parts, rows.next())??;
            let (frames, last) = match next {
                Some((first, batch)) => {
                    let last = first + batch.len() as u64 - 1;
                    self.parts.status.waits_since(Some(batch.ingested_at()));
                    (vec![runstone_sinks::Frame { first, batch }], last)
                }
                None if course.cursor < through => {
                    let after = course.cursor;
                    tracing::warn!(
                        sink,
                        journal,
                        after,
                        through,
                        "pass over what the lake has no more: retention took it"
                    );
                    (Vec::new(), through)
                }
                None => return Ok(()),
            };
            let delivery = Delivery { source: journal, after: course.cursor, frames: &frames, through: last };
            let delivered = Self::block_on(&self.parts, self.sink.deliver(delivery))??;
            self.counts.delivered(frames.iter().map(|frame| frame.batch.len()).sum(), &delivered);
            (course.cursor, course.through) = (last, last);
            if self.course.is_some() {
                self.course = Some(course);
            }
            self.parts.status.reached(last);
            self.well();
        }
    }

    /// Nothing waits for the target.
    fn idle(&mut self) {
        self.parts.status.waits_since(None);
        self.well();
    }

    /// The target takes what it is given.
    fn well(&mut self) {
        if self.parts.status.set(SinkHealth::Ready, None) && self.failures > 0 {
            tracing::info!(sink = self.sink.name(), "the sink takes records again");
        }
        self.failures = 0;
    }

    /// Says what is wrong, and waits as long as that takes.
    fn suffer(&mut self, trouble: &Trouble) {
        self.failures += 1;
        self.counts.failed();
        match trouble {
            Trouble::Late => {}
            Trouble::Sink(SinkError::Moved { found }) => {
                tracing::info!(
                    sink = self.sink.name(),
                    found,
                    "the cursor was moved: look again how far the sink has come"
                );
                self.course = None;
                if self.failures > 3 {
                    self.wait(SinkHealth::Degraded, trouble, self.backoff());
                }
            }
            Trouble::Sink(SinkError::Misconfigured { .. }) => {
                self.course = None;
                self.wait(SinkHealth::Paused, trouble, PAUSE_LONG);
            }
            Trouble::Ahead(_) | Trouble::Panic(_) => {
                self.course = None;
                self.wait(SinkHealth::Failed, trouble, PAUSE_LONG);
            }
            Trouble::Sink(SinkError::Away { .. })
            | Trouble::Journal(_)
            | Trouble::Lake(_)
            | Trouble::NotInTheLake(_) => {
                // Nobody knows what became of it: the target's cursor does.
                self.course = None;
                self.wait(SinkHealth::Degraded, trouble, self.backoff());
            }
        }
    }

    /// The first failures are told, and then the health alone says it.
    fn wait(&self, health: SinkHealth, trouble: &Trouble, pause: Duration) {
        let reason = chain(trouble);
        self.parts.status.waits_from(self.parts.clock.now_micros());
        if self.parts.status.set(health, Some(reason.clone())) || self.failures == 1 {
            let health = health.as_str();
            tracing::warn!(sink = self.sink.name(), health, error = %reason, "records wait for a sink");
        }
        let stopped = async {
            tokio::select! {
                () = self.parts.stopping.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        };
        // Late or not, it looks again.
        let _ = Self::block_on(&self.parts, stopped);
    }

    fn backoff(&self) -> Duration {
        let longest = PAUSE.saturating_mul(1 << self.failures.min(10)).min(PAUSE_MAX);
        let random = u32::try_from((self.parts.entropy)() % 1_000).unwrap_or(0);
        longest / 2 + longest / 2 * random / 1_000
    }
}
