//! From what waits to what is in the lake: one commit a flush, then queries read it there and the journal may forget it.
//! Owns that order; refuses to decide when.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use runstone_store::lake::{Change, Flushed, Lake, LakeError, LakeSnapshot, LakeView, Txn};

use super::consumer::Consumer;
use super::control::Seen;
use super::trouble::Trouble;

impl Consumer {
    /// Queries read everything up to `through` from this snapshot from now on, and the journal may forget it.
    pub(super) fn settle(&mut self, lake: &Lake, snapshot: &Arc<LakeSnapshot>, through: u64) -> Result<(), Trouble> {
        let view = LakeView::new(lake, snapshot);
        self.parts.recent.settle(Arc::new(view), through);
        self.parts.status.saw(snapshot, through);
        self.shown = Some(snapshot.version);
        self.parts.control.saw(Seen { lake: lake.clone(), snapshot: Arc::clone(snapshot), through });
        self.trimmer.settled(through, Instant::now());
        self.trim();
        Ok(())
    }

    pub(super) fn trim(&mut self) {
        let (journal, now) = (&self.parts.journal, self.parts.clock.now_micros());
        let Some(point) = self.trimmer.point(&journal.segments(), Instant::now(), now) else { return };
        match journal.trim(point) {
            Ok(first_available) => tracing::info!(first_available, "trim the journal"),
            Err(error) => tracing::warn!(%error, "trim the journal: trying again later"),
        }
    }

    /// Brings what is pending to the lake.
    pub(super) fn flush(&mut self) -> Result<(), Trouble> {
        let Some(course) = self.course else { return Ok(()) };
        let started = Instant::now();
        self.known = self.known.max(self.pending.map_or(0, |(_, last)| last)).max(self.passed.unwrap_or(0));
        let flushed = self.write(course.after)?;
        (self.since, self.pending, self.frames) = (None, None, 0);
        self.parts.status.waits_since(None);
        if let Some(flushed) = flushed {
            self.flushed(&flushed, started.elapsed())?;
        }
        self.commit_passed()?;
        if std::mem::take(&mut self.asked) {
            self.parts.control.flushed();
        }
        self.well();
        Ok(())
    }

    /// A frame that makes the encoder panic must not take the thread with it.
    fn write(&mut self, after: Option<u64>) -> Result<Option<Flushed>, Trouble> {
        let (control, handle) = (Arc::clone(&self.parts.control), self.parts.handle.clone());
        let writer = self.writer()?;
        let work = || {
            handle.block_on(async {
                tokio::select! {
                    done = writer.flush(after) => Some(done),
                    () = control.abandoned() => None,
                }
            })
        };
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Some(done)) => Ok(done?),
            Ok(None) => Err(Trouble::Late),
            Err(_) => {
                let fresh = self.new_writer(self.lake()?);
                *self.writer()? = fresh;
                Err(LakeError::Internal("a flush panicked".to_owned()).into())
            }
        }
    }

    fn flushed(&mut self, flushed: &Flushed, took: Duration) -> Result<(), Trouble> {
        let metrics = &self.parts.metrics;
        metrics.flushes.inc();
        metrics.rows.inc_by(flushed.rows);
        metrics.bytes.inc_by(flushed.bytes);
        metrics.files.inc_by(flushed.files);
        metrics.copies.inc_by(flushed.copies);
        metrics.refused.inc_by(flushed.refused);
        metrics.flush_duration.observe(took.as_secs_f64());
        let (version, through) = (flushed.snapshot.version, flushed.through);
        let (rows, bytes, files) = (flushed.rows, flushed.bytes, flushed.files);
        let elapsed_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(version, through, rows, bytes, files, elapsed_ms, "flush to the lake");
        // Where a frame was in the way it was a smaller piece; larger ones may be tried again.
        self.piece = self.piece.map(|piece| piece.saturating_mul(2)).filter(|piece| *piece < PIECE_MAX);
        self.advance(&flushed.snapshot, through)
    }

    /// The lake has come further.
    fn advance(&mut self, snapshot: &Arc<LakeSnapshot>, through: u64) -> Result<(), Trouble> {
        if let Some(course) = &mut self.course {
            (course.after, course.through) = (Some(through), through);
        }
        self.show(snapshot)
    }

    /// Moves the lake's cursor over what nothing can be made of, so that it is not tried again at every start.
    fn commit_passed(&mut self) -> Result<(), Trouble> {
        let (Some(course), Some(through)) = (self.course, self.passed) else { return Ok(()) };
        if through > course.through {
            let epoch = &self.lineage.epochs()[course.epoch];
            let through = epoch.last.map_or(through, |last| through.min(last));
            let change = Change {
                journal: Some(Txn { journal: epoch.journal.to_string(), after: course.after, through }),
                add: Vec::new(),
                remove: Vec::new(),
                data_change: true,
                operation: "WRITE",
                metrics: vec![("numUnreadablePositions", through - course.through)],
            };
            let lake = self.lake()?.clone();
            let snapshot = self.block_on(lake.commit(change))??;
            self.advance(&snapshot, through)?;
        }
        self.passed = None;
        Ok(())
    }

    /// All of an epoch was read: the cursor moves to its end, and the next one is begun.
    pub(super) fn finish_epoch(&mut self) -> Result<(), Trouble> {
        // Without a frame of the next epoch in hand it is not known to be at its end: a copy of the directory was faster,
        // and reading begins anew behind what it brought.
        let (Some(course), Some(_)) = (self.course, &self.held) else { return Ok(()) };
        if let Some(last) = self.lineage.epochs()[course.epoch].last
            && last > course.through
        {
            self.passed = Some(last);
            self.commit_passed()?;
        }
        self.find_course()
    }

    /// Looks for commits of others: their records become visible, and so does a twin's progress with ours.
    pub(super) fn refresh(&mut self) -> Result<(), Trouble> {
        self.refreshed = Instant::now();
        let lake = self.lake()?.clone();
        let snapshot = self.block_on(lake.refresh())??;
        if self.shown != Some(snapshot.version) {
            self.show(&snapshot)?;
        }
        self.well();
        Ok(())
    }

    /// Lets queries read this snapshot. Where it has more of this directory than we brought, a copy of the directory did:
    /// then that is what it is from here on.
    fn show(&mut self, snapshot: &Arc<LakeSnapshot>) -> Result<(), Trouble> {
        let (Some(course), lake) = (self.course, self.lake()?.clone()) else { return Ok(()) };
        let epoch = &self.lineage.epochs()[course.epoch];
        if self.block_on(lake.cursor(snapshot, &epoch.journal))?? != course.after {
            return self.find_course();
        }
        self.settle(&lake, snapshot, course.through)
    }
}

/// As many frames at once need no watching.
const PIECE_MAX: usize = 1 << 16;
