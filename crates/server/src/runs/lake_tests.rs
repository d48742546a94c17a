//! Runs beside a lake of which a part is lost, that does not answer, or that has gone on since it was looked at.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use runstone_journal::Journal;
use runstone_journal::fs::sim::SimFs;
use runstone_store::lake::{Lake, LakeError, LakeSnapshot};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::lake::{Stretch, keep_up};
use super::{LakeRows, Own, Place, Runs};
use crate::lake::Seen;
use crate::lineage::Lineage;
use crate::workbench::{self, append, lake_options, record};

const OTHERS: [&str; 2] = ["01980000-0000-7000-8000-00000000000a/1", "01980000-0000-7000-8000-00000000000b/1"];
/// How long what ought to end at once may take.
const AT_ONCE: Duration = Duration::from_secs(20);

/// A directory with a run in its journal, and a lake.
struct World {
    dir: TempDir,
    lake: Lake,
    journal: Arc<Journal>,
    runs: Runs,
    runtime: Runtime,
}

impl World {
    /// With so many records in the journal, each folded in.
    fn new(records: u64) -> Self {
        let (dir, runtime) = (TempDir::new().unwrap(), Runtime::new().unwrap());
        let lake = runtime.block_on(Lake::open(lake_options(dir.path()))).unwrap();
        let journal = workbench::journal(&SimFs::new(1), Path::new("/journal"));
        let runs = Runs::new(Vec::new(), Place::start(&Lineage::of(&journal)), Arc::default());
        for position in 1..=records {
            let batch = record(position, "own");
            append(&journal, &batch).unwrap();
            runs.add(position, &batch);
        }
        Self { dir, lake, journal, runs, runtime }
    }

    fn own(&self) -> Own {
        Own::Journal(Arc::clone(&self.journal))
    }

    /// A flush of records of a run, from a position on.
    fn flush(&self, journal: &str, run_id: &str, first: u64, count: u64) -> Arc<LakeSnapshot> {
        let batches = (first..first + count).map(|id| record(id, run_id));
        self.runtime.block_on(workbench::flush(&self.lake, journal, first, batches))
    }

    /// The lake as it is now, with this directory's records through a position.
    fn seen(&self, through: u64) -> Seen {
        Seen { lake: self.lake.clone(), snapshot: self.lake.snapshot(), through }
    }

    fn rows(&self) -> LakeRows {
        LakeRows::new(Arc::default(), self.runtime.handle().clone(), false)
    }

    fn records(&self, run_id: &str) -> Option<u64> {
        self.runs.get(run_id).map(|run| run.records)
    }

    /// The only file of a journal.
    fn file_of(&self, journal: &str) -> PathBuf {
        let snapshot = self.lake.snapshot();
        let file = snapshot.files.iter().find(|file| file.journal() == Some(journal)).unwrap();
        self.dir.path().join(&file.path)
    }
}

#[test]
fn a_lost_file_of_one_journal_keeps_the_runs_of_no_other_away() {
    let world = World::new(2);
    // The lake had the second record of this directory already.
    world.flush(&world.journal.id().to_string(), "own", 1, 1);
    for (journal, run_id) in OTHERS.iter().zip(["lost", "there"]) {
        world.flush(journal, run_id, 1, 3);
    }
    std::fs::remove_file(world.file_of(OTHERS[0])).unwrap();
    let (rows, seen, mut known) = (world.rows(), world.seen(2), None);
    for _ in 0..2 {
        let kept = keep_up(&world.runs, &rows, &world.own(), &seen, &AtomicBool::new(false), &mut known);
        assert!(matches!(kept, Err(LakeError::Damaged(_))), "{kept:?}");
        assert_eq!((world.records("lost"), world.records("there")), (None, Some(3)));
        assert_eq!(known, None, "it is looked for again");
    }
    assert_eq!(world.runs.unsettled(2), (2, 2), "this directory's are compared with what is there");
}

#[test]
fn what_lake_and_journal_both_have_is_folded_anew_once() {
    let world = World::new(4);
    let name = world.journal.id().to_string();
    // The second was left out. The others were brought by a twin since the lake was looked at: here they are the journal's.
    world.flush(&name, "own", 1, 1);
    world.flush(&name, "own", 3, 2);
    assert_eq!(world.records("own"), Some(4));
    let settled = world.rows().settle(&world.runs, &world.own(), &world.seen(2), &AtomicBool::new(false));
    assert!(settled.unwrap());
    assert_eq!(world.records("own"), Some(3));
}

#[test]
fn a_run_is_not_folded_anew_without_what_was_trimmed_meanwhile() {
    let world = World::new(5);
    let name = world.journal.id().to_string();
    world.flush(&name, "own", 1, 1);
    let before = world.seen(2);
    // While it is folded, the next flush is made, and the journal forgets what that brought.
    world.flush(&name, "own", 3, 2);
    assert_eq!(world.journal.trim(4).unwrap(), 5);
    let (left_out, stop) = ([("own".to_owned(), 1)], AtomicBool::new(false));
    let fold = |seen: &Seen| world.rows().fold_anew(&world.runs, &world.own(), seen, &left_out, &stop);
    let refused = fold(&before);
    assert!(matches!(refused, Err(LakeError::Storage { .. })), "{refused:?}");
    assert_eq!(world.records("own"), Some(5));
    // With what the lake has by now none is missing.
    assert_eq!(fold(&world.seen(4)).unwrap(), Some(0));
    assert_eq!(world.records("own"), Some(4));
}

#[test]
fn a_stop_does_not_wait_for_a_lake_that_does_not_answer() {
    let world = World::new(0);
    world.flush(OTHERS[0], "run", 1, 3);
    let (rows, seen, file) = (world.rows(), world.seen(0), world.file_of(OTHERS[0]));
    // Whoever opens this waits for somebody who writes into it.
    std::fs::remove_file(&file).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let ((begin, begun), (end, ended)) = (sync_channel(1), sync_channel(1));
    let stopped = Arc::clone(&stop);
    let reader = std::thread::spawn(move || {
        begin.send(()).unwrap();
        let read = rows.read(&seen, &Stretch::folded(OTHERS[0], 0, 3), &stopped, |_, _| {});
        end.send(read.is_ok_and(|all| !all)).unwrap();
    });
    begun.recv().unwrap();
    stop.store(true, Ordering::Release);
    let ended = ended.recv_timeout(AT_ONCE);
    // Now it may go on, and so may the runtime's end; who comes to open it only now finds nothing to wait for.
    let writer = File::options().read(true).write(true).open(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    drop(writer);
    reader.join().unwrap();
    assert!(ended.expect("it waits for the lake"));
}
