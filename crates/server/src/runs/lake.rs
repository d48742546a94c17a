//! The runs' way into the lake: what was trimmed from the journal before it was folded, and what other servers brought
//! there. Owns which rows are read and when; refuses to know how files are read.

use std::collections::BTreeMap;
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

/// How often a wait looks whether it is to stop.
const STOP_LOOK: Duration = Duration::from_millis(100);

/// Resolves once it is to stop.
async fn stopped(stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        tokio::time::sleep(STOP_LOOK).await;
    }
}

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
    /// Do records leave the lake because of their age?
    pub(super) retires: bool,
}

impl LakeRows {
    pub(crate) fn new(control: Arc<Control>, handle: Handle, retires: bool) -> Self {
        Self { control, handle, retires }
    }

    /// Of a lake that stands still.
    pub(crate) fn of(lake: Lake, snapshot: Arc<LakeSnapshot>, through: u64, handle: Handle, retires: bool) -> Self {
        let control = Arc::new(Control::default());
        control.saw(Seen { lake, snapshot, through });
        Self { control, handle, retires }
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
            loop {
                // Reading may take long, and a stop must not wait for it.
                let next = tokio::select! {
                    next = rows.next() => next?,
                    () = stopped(stop) => return Ok(false),
                };
                let Some((first, batch)) = next else { return Ok(true) };
                take(first, &batch);
            }
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

    /// The journals that the lake has something of, and their last positions.
    pub(super) fn journals(&self, seen: &Seen) -> Result<BTreeMap<String, u64>, LakeError> {
        self.handle.block_on(seen.snapshot.journals())
    }

    /// Folds what is in the lake and comes from nowhere else.
    fn fold_owed(&self, runs: &Runs, seen: &Seen, stop: &AtomicBool) -> Result<(), LakeError> {
        let mut damaged = Ok(());
        for (journal, there) in self.journals(seen)? {
            match self.fold_owed_of(runs, seen, &journal, there, stop) {
                // What is lost of one journal must not keep the others away.
                Err(error @ LakeError::Damaged(_)) => damaged = Err(error),
                done => done?,
            }
        }
        damaged
    }

    fn fold_owed_of(
        &self,
        runs: &Runs,
        seen: &Seen,
        journal: &str,
        there: u64,
        stop: &AtomicBool,
    ) -> Result<(), LakeError> {
        runs.fold_owed(journal, there, |after, through, take| {
            self.read(seen, &Stretch::folded(journal, after, through), stop, take)
        })
    }
}

impl Runs {
    /// Folds what a sink has of a journal, through `there`, and is folded from nowhere else. `read` hands over the rows
    /// between two positions; false: it was stopped before the end.
    pub(crate) fn fold_owed<E>(
        &self,
        journal: &str,
        there: u64,
        mut read: impl FnMut(u64, u64, &mut dyn FnMut(u64, &Batch)) -> Result<bool, E>,
    ) -> Result<(), E> {
        loop {
            let owed = self.read().place.owed(journal, there);
            let Some((after, through)) = owed else { return Ok(()) };
            let all = read(after, through, &mut |first, batch| {
                let last = first + batch.len() as u64 - 1;
                self.fold(first, batch, |place| place.advance_lake(journal, last));
            })?;
            if !all {
                return Ok(());
            }
            self.note(|place| place.advance_lake(journal, through));
        }
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
pub(super) fn keep_up(
    runs: &Runs,
    rows: &LakeRows,
    own: &Own,
    seen: &Seen,
    stop: &AtomicBool,
    known: &mut Option<u64>,
) -> Result<(), LakeError> {
    let mut folded = Ok(());
    if *known != Some(seen.snapshot.version) {
        folded = rows.fold_owed(runs, seen, stop);
        if folded.is_ok() {
            *known = Some(seen.snapshot.version);
        }
    }
    // This directory's may not be folded yet, although the lake has them.
    let settled = rows.settle(runs, own, seen, stop).map(drop);
    folded.and(settled)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use runstone_record::{IdMint, parse};
    use runstone_store::lake::{Change, FileStats, LakeFile, LakeOptions, LakeWriter, WriterOptions};
    use tokio::runtime::Runtime;

    use super::*;
    use crate::lineage::Lineage;
    use crate::runs::Place;

    const NOW_MS: i64 = 1_795_179_600_000;

    fn open(runtime: &Runtime, dir: &std::path::Path) -> Lake {
        let drawn = AtomicU64::new(1);
        let entropy = move || u128::from(drawn.fetch_add(1, Ordering::Relaxed)) << 64;
        let options = LakeOptions::new(dir.to_str().unwrap(), "tests", Arc::new(|| NOW_MS), Arc::new(entropy));
        runtime.block_on(Lake::open(options)).unwrap()
    }

    #[test]
    fn runs_are_found_in_files_of_which_no_single_journal_is_known() {
        let (dir, runtime) = (tempfile::tempdir().unwrap(), Runtime::new().unwrap());
        let lake = open(&runtime, dir.path());
        for number in 1..=2 {
            let body =
                format!(r#"[{{"run_id":"run-{number}","type":"start"}},{{"run_id":"run-{number}","type":"end"}}]"#);
            let minted = &mut IdMint::new(1, number);
            let batch = parse::json(body.as_bytes()).unwrap().builder.stamp(minted, NOW_MS * 1_000, None);
            let mut writer = LakeWriter::new(lake.clone(), WriterOptions::default());
            writer.push(&format!("01980000-0000-7000-8000-00000000000{number}/1"), 1, batch).unwrap();
            runtime.block_on(writer.flush(None)).unwrap();
        }
        // As after another writer's OPTIMIZE: the entries do not say whose the records are.
        let anonymous = |file: &Arc<LakeFile>| {
            let stats = FileStats { rows: file.stats.rows, columns: Vec::new() };
            LakeFile { stats, ..LakeFile::clone(file) }
        };
        let change = Change {
            journal: None,
            add: lake.snapshot().files.iter().map(anonymous).collect(),
            remove: Vec::new(),
            data_change: false,
            operation: "OPTIMIZE",
            metrics: Vec::new(),
        };
        let snapshot = runtime.block_on(lake.commit(change)).unwrap();
        assert!(snapshot.files.iter().all(|file| file.journal().is_none()));
        let lineage = Lineage::made(uuid::Uuid::from_u128(7), &[(1, 1)]);
        let runs = Runs::new(Vec::new(), Place::start(&lineage), Arc::default());
        let rows = LakeRows::of(lake, snapshot, 0, runtime.handle().clone(), false);
        for _ in 0..2 {
            rows.catch_up_all(&runs, 0).unwrap();
            let states: Vec<_> = ["run-1", "run-2"].iter().map(|id| runs.get(id).map(|run| run.state)).collect();
            assert_eq!(states, [Some("succeeded".to_owned()), Some("succeeded".to_owned())]);
        }
    }
}
