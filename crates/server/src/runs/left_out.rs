//! Records that a flush left out of the lake, for it had them already: they were folded into their runs as they arrived.
//! Owns finding such runs and folding them anew; refuses to know why a record was left out.
//!
//! A fold cannot be undone, so a run is folded once more from what the lake has and the journal still brings. Meanwhile its
//! new records are folded both into what is shown and beside it, and the two are put together in the end. A run of which more
//! is gone than was left out stays as it is: records leave the lake because of their age, and their runs keep what they were.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use runstone_journal::{Journal, ReadError, View};
use runstone_record::{Batch, Column, ColumnSet, run};
use runstone_store::lake::LakeError;

use super::lake::{LakeRows, Stretch};
use super::{Folds, Runs};
use crate::lake::{Seen, chain};

/// Runs that are folded anew at a time.
const RUNS_AT_ONCE: usize = 256;

/// A run, and how many of its records were left out.
pub(super) type LeftOut = (String, u64);

/// Where this directory's frames come from.
#[derive(Debug, Clone)]
pub(crate) enum Own {
    /// A running server's journal.
    Journal(Arc<Journal>),
    /// One moment of it.
    View(View),
}

impl Own {
    /// Hands over the frames that hold positions after one, through another: all of them, or as far as they are still there.
    fn frames(&self, after: u64, through: u64, all: bool, mut take: impl FnMut(u64, &Batch)) -> io::Result<()> {
        let mut each = |first: u64, payload: &[u8]| {
            // Nothing was folded of a frame that cannot be read.
            if let Ok(batch) = Batch::decode_columns(payload, run::columns()) {
                take(first, &batch);
            }
        };
        match self {
            Own::Journal(journal) => {
                let mut reader = journal.reader(after);
                while reader.position() < through {
                    match reader.next() {
                        Ok(Some(frame)) => each(frame.first, &frame.payload),
                        Ok(None) => break,
                        Err(ReadError::Quarantined { .. }) => drop(reader.skip()),
                        Err(ReadError::Trimmed { first_available }) if !all => reader.seek(first_available - 1),
                        Err(error) => return Err(io::Error::other(error)),
                    }
                }
            }
            Own::View(view) => {
                let first = view.first_available() - 1;
                for frame in view.frames(if all { after } else { after.max(first) }) {
                    match frame {
                        Ok(frame) if frame.first > through => break,
                        Ok(frame) => each(frame.first, &frame.payload),
                        Err(ReadError::Quarantined { .. }) => {}
                        Err(error) => return Err(io::Error::other(error)),
                    }
                }
            }
        }
        Ok(())
    }
}

fn journal_failed(error: io::Error) -> LakeError {
    LakeError::Storage { action: "read the journal".to_owned(), source: error.into() }
}

impl LakeRows {
    /// Makes the runs of this directory's records right up to where the lake has them. False: it was stopped before the end.
    pub(super) fn settle(&self, runs: &Runs, own: &Own, seen: &Seen, stop: &AtomicBool) -> Result<bool, LakeError> {
        let (after, through) = runs.unsettled(seen.through);
        if after >= through {
            return Ok(true);
        }
        let Some(missing) = self.missing(runs, seen, (after, through), stop)? else { return Ok(false) };
        let affected = self.affected(own, seen, &missing).map_err(journal_failed)?;
        let affected: Vec<LeftOut> = affected.into_iter().collect();
        for some in affected.chunks(RUNS_AT_ONCE) {
            let count = some.len();
            match self.fold_anew(runs, own, seen, some, stop) {
                Ok(Some(kept)) => {
                    tracing::info!(runs = count - kept, "folded runs anew: the lake had some of their records already");
                    if kept > 0 {
                        tracing::warn!(runs = kept, "leave runs that count some records twice: older ones are gone");
                    }
                }
                Ok(None) => return Ok(false),
                // They stay as they are: a file that is lost must not keep others from being right.
                Err(error @ LakeError::Damaged(_)) => {
                    tracing::warn!(runs = count, error = %chain(&error), "leave runs that count some records twice");
                }
                Err(error) => return Err(error),
            }
        }
        runs.note(|place| place.settle(through));
        Ok(true)
    }

    /// This directory's positions after one, through another, that the lake lacks: first and last. None: stopped.
    fn missing(
        &self,
        runs: &Runs,
        seen: &Seen,
        (after, through): (u64, u64),
        stop: &AtomicBool,
    ) -> Result<Option<Vec<(u64, u64)>>, LakeError> {
        let parts = runs.read().place.parts(after, through);
        let mut missing = Vec::new();
        for (journal, after, through) in parts {
            if is_whole(seen, &journal, after, through) {
                continue;
            }
            let mut next = after + 1;
            let stretch = Stretch { columns: ColumnSet::of(&[]), ..Stretch::folded(&journal, after, through) };
            let before = missing.len();
            let all = self.read(seen, &stretch, stop, |first, batch| {
                if first > next {
                    missing.push((next, first - 1));
                }
                next = first + batch.len() as u64;
            });
            match all {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error @ LakeError::Damaged(_)) => {
                    tracing::warn!(error = %chain(&error), "cannot see what the lake left out");
                    missing.truncate(before);
                    continue;
                }
                Err(error) => return Err(error),
            }
            if next <= through {
                missing.push((next, through));
            }
        }
        Ok(Some(missing))
    }

    /// The runs of the records at these positions, which are in order, and how many each has of them. What may have left the
    /// lake because of its age does not count: it was there.
    fn affected(&self, own: &Own, seen: &Seen, missing: &[(u64, u64)]) -> io::Result<BTreeMap<String, u64>> {
        let mut affected = BTreeMap::new();
        let (Some((first, _)), Some((_, last))) = (missing.first(), missing.last()) else { return Ok(affected) };
        let oldest_day = seen.snapshot.files.iter().filter_map(|file| file.date).min().filter(|_| self.retires);
        own.frames(first - 1, *last, false, |start, batch| {
            let day = batch.ingested_at().div_euclid(DAY_MICROS);
            if oldest_day.is_some_and(|oldest| day < i64::from(oldest)) {
                return;
            }
            for row in 0..batch.len() {
                let position = start + row as u64;
                let range = missing.partition_point(|(_, last)| *last < position);
                if missing.get(range).is_some_and(|(first, _)| *first <= position)
                    && let Some(run_id) = batch.text(Column::RunId, row)
                {
                    *affected.entry(run_id.to_owned()).or_default() += 1;
                }
            }
        })?;
        Ok(affected)
    }

    /// Folds these runs once more. How many were kept as they were; none: it was stopped, and all are as before.
    pub(super) fn fold_anew(
        &self,
        runs: &Runs,
        own: &Own,
        seen: &Seen,
        affected: &[LeftOut],
        stop: &AtomicBool,
    ) -> Result<Option<usize>, LakeError> {
        let _beside = Beside(runs);
        let ids: Vec<String> = affected.iter().map(|(id, _)| id.clone()).collect();
        let (place, least) = runs.begin_beside(affected);
        let mut anew = Folds::new();
        let mut add = |batch: &Batch, row: usize, position: u64| {
            if let Some(id) = batch.text(Column::RunId, row)
                && ids.binary_search_by(|known| known.as_str().cmp(id)).is_ok()
            {
                anew.entry(id.to_owned()).or_default().add(batch, row, position);
            }
        };
        let lake_has = seen.through;
        for (journal, there) in self.journals(seen)? {
            let stretch = Stretch { runs: Some(&ids), ..Stretch::folded(&journal, 0, there) };
            let all = self.read(seen, &stretch, stop, |first, batch| {
                for row in 0..batch.len() {
                    let position = first + row as u64;
                    // What is beyond comes from the journal below; a twin's is not ours.
                    let is_here = position <= lake_has || !place.is_own(&journal, position);
                    if is_here && place.has(&journal, position) {
                        add(batch, row, position);
                    }
                }
            })?;
            if !all {
                return Ok(None);
            }
        }
        // Where the journal has forgotten some of these by now, the lake has them, and this begins anew with what it is then.
        let rest = own.frames(lake_has, place.through(), true, |first, batch| {
            for row in 0..batch.len() {
                if (lake_has + 1..=place.through()).contains(&(first + row as u64)) {
                    add(batch, row, first + row as u64);
                }
            }
        });
        rest.map_err(journal_failed)?;
        if stop.load(Ordering::Acquire) {
            return Ok(None);
        }
        Ok(Some(runs.replace(&least, anew)))
    }
}

/// Whatever becomes of the work: nothing is folded beside the table any longer.
struct Beside<'a>(&'a Runs);

impl Drop for Beside<'_> {
    fn drop(&mut self) {
        self.0.end_beside();
    }
}

/// Do the files of a journal say that they have every one of these positions?
fn is_whole(seen: &Seen, journal: &str, after: u64, through: u64) -> bool {
    let (mut rows, mut sure) = (0, true);
    for file in seen.snapshot.files.iter() {
        match (file.journal(), file.positions(), file.stats.rows) {
            (Some(other), _, _) if other != journal => {}
            (Some(_), Some((first, last)), _) if last <= after || first > through => {}
            (Some(_), Some((first, last)), Some(count)) if first > after && last <= through => rows += count,
            _ => sure = false,
        }
    }
    sure && rows == through - after
}

const DAY_MICROS: i64 = 86_400_000_000;
