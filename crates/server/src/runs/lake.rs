//! The runs' way into the lake: what was trimmed from the journal before it was folded, and what other servers brought
//! there. Owns which rows are read and when; refuses to know how files are read.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use runstone_record::{Batch, Column, ColumnSet, run};
use runstone_store::lake::{Lake, LakeError, LakeSnapshot, Positions};
use tokio::runtime::Handle;

use super::{Own, Runs};
use crate::lake::{Control, Seen};
use crate::relay::Unavailable;

/// How often it looks whether the lake has more.
const LOOK: Duration = Duration::from_millis(500);
/// After a failure.
const RETRY: Duration = Duration::from_secs(5);

/// Rows of a journal: those after one position, through another, of all runs or of these.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch<'a> {
    pub(super) journal: &'a str,
    pub(super) after: u64,
    pub(super) through: u64,
    pub(super) columns: ColumnSet,
    pub(super) runs: Option<&'a [String]>,
}

impl<'a> Stretch<'a> {
    /// With what a fold reads.
    pub(super) fn folded(journal: &'a str, after: u64, through: u64) -> Self {
        Self { journal, after, through, columns: run::columns().and(Column::Id), runs: None }
    }
}

/// Reads rows of the lake by journal and position, as the lake was last seen.
#[derive(Debug, Clone)]
pub(crate) struct LakeRows {
    control: Arc<Control>,
    handle: Handle,
}

impl LakeRows {
    pub(crate) fn new(control: Arc<Control>, handle: Handle) -> Self {
        Self { control, handle }
    }

    /// Of a lake that stands still.
    pub(crate) fn of(lake: Lake, snapshot: Arc<LakeSnapshot>, through: u64, handle: Handle) -> Self {
        let control = Arc::new(Control::default());
        control.saw(Seen { lake, snapshot, through });
        Self { control, handle }
    }

    /// Folds all that the lake has and the journal, from `through` on, has not. Blocks.
    pub(crate) fn catch_up_all(&self, runs: &Runs, through: u64) -> Result<(), LakeError> {
        let Some(seen) = self.control.seen() else { return Ok(()) };
        if runs.through() < through {
            self.catch_up(runs, through).map_err(|error| LakeError::Internal(error.to_string()))?;
        }
        self.fold_owed(runs, &seen, &AtomicBool::new(false))
    }

    /// Takes out of the runs what the lake left out. Blocks.
    pub(crate) fn settle_all(&self, runs: &Runs, own: &Own) -> Result<(), LakeError> {
        let Some(seen) = self.control.seen() else { return Ok(()) };
        self.settle(runs, own, &seen, &AtomicBool::new(false)).map(drop)
    }

    /// Hands over rows. False: it was stopped before the end.
    pub(super) fn read(
        &self,
        seen: &Seen,
        stretch: &Stretch<'_>,
        stop: &AtomicBool,
        mut take: impl FnMut(u64, &Batch),
    ) -> Result<bool, LakeError> {
        let Stretch { journal, after, through, columns, runs } = *stretch;
        let journal = journal.to_owned();
        let ask = Positions { journal, after, through, columns, complete: false };
        self.handle.block_on(async {
            let mut rows = seen.lake.read_positions(&seen.snapshot, ask)?;
            if let Some(runs) = runs {
                rows.only_runs(runs)?;
            }
            while let Some((first, batch)) = rows.next().await? {
                if stop.load(Ordering::Acquire) {
                    return Ok(false);
                }
                take(first, &batch);
            }
            Ok(true)
        })
    }

    /// Folds positions of this directory that its journal has no more, up to `through`.
    pub(super) fn catch_up(&self, runs: &Runs, through: u64) -> Result<(), Unavailable> {
        let never = AtomicBool::new(false);
        let seen = self.control.seen().ok_or_else(|| Unavailable("the lake was not reached yet".to_owned()))?;
        if seen.through < through {
            return Err(Unavailable(format!("the lake has positions only through {}", seen.through)));
        }
        let parts = runs.read().place.behind(through);
        for (journal, after, through) in parts {
            let folded = self.read(&seen, &Stretch::folded(&journal, after, through), &never, |first, batch| {
                runs.fold(first, batch, |place| place.advance(first + batch.len() as u64 - 1));
            });
            folded.map_err(|error| Unavailable(crate::lake::chain(&error)))?;
            runs.note(|place| place.advance(through));
        }
        Ok(())
    }

    /// Folds what is in the lake and comes from nowhere else.
    fn fold_owed(&self, runs: &Runs, seen: &Seen, stop: &AtomicBool) -> Result<(), LakeError> {
        for (journal, there) in seen.snapshot.through() {
            loop {
                let owed = runs.read().place.owed(&journal, there);
                let Some((after, through)) = owed else { break };
                let all = self.read(seen, &Stretch::folded(&journal, after, through), stop, |first, batch| {
                    let last = first + batch.len() as u64 - 1;
                    runs.fold(first, batch, |place| place.advance_lake(&journal, last));
                })?;
                if !all {
                    return Ok(());
                }
                runs.note(|place| place.advance_lake(&journal, through));
            }
        }
        Ok(())
    }
}

/// A thread that folds what other servers bring to the lake, and takes out what the lake left out.
#[derive(Debug)]
pub(crate) struct RunsOfOthers {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl RunsOfOthers {
    pub(crate) fn start(runs: Runs, rows: LakeRows, own: Own) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = move || follow(&runs, &rows, &own, &stopped);
        let thread = std::thread::Builder::new().name("runs-of-others".to_owned()).spawn(work)?;
        Ok(Self { stop, thread })
    }

    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            tracing::error!("the thread that reads the runs of other servers panicked");
        }
    }
}

fn follow(runs: &Runs, rows: &LakeRows, own: &Own, stop: &AtomicBool) {
    let mut known = None;
    while !stop.load(Ordering::Acquire) {
        let pause = match rows.control.seen().map(|seen| keep_up(runs, rows, own, &seen, stop, &mut known)) {
            None | Some(Ok(())) => LOOK,
            Some(Err(error)) => {
                tracing::warn!(error = %crate::lake::chain(&error), "read the runs in the lake: trying again");
                RETRY
            }
        };
        std::thread::park_timeout(pause);
    }
}

/// `known` is the version whose records of others are folded in.
fn keep_up(
    runs: &Runs,
    rows: &LakeRows,
    own: &Own,
    seen: &Seen,
    stop: &AtomicBool,
    known: &mut Option<u64>,
) -> Result<(), LakeError> {
    if *known != Some(seen.snapshot.version) {
        rows.fold_owed(runs, seen, stop)?;
        *known = Some(seen.snapshot.version);
    }
    // This directory's may not be folded yet, although the lake has them.
    rows.settle(runs, own, seen, stop).map(drop)
}
