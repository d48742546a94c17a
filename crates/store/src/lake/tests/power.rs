//! Power cuts between every two steps of opening, uploading, committing and checkpointing. What was answered for must be
//! there after the next mount, whole, and the table must open by itself. Upkeep has its own in `upkeep/tests/power.rs`.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use object_store::ObjectStoreExt;
use url::Url;

use super::machine::Machine;
use super::world::{JOURNAL, TODAY, encoded, options, ranges, versions, write};
use crate::lake::disk::Disk;
use crate::lake::local::LocalStore;
use crate::lake::place::Place;
use crate::lake::{Lake, LakeError};

/// A place in memory, where there is such a thing: what is synced a thousand times need not wait for a real disk.
pub(crate) fn memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// The real file system until the power fails before a chosen step.
#[derive(Debug)]
pub(crate) struct Cut {
    machine: Arc<Machine>,
    /// The step before which the power fails.
    at: u64,
    steps: AtomicU64,
}

impl Cut {
    /// Steps count from 1.
    pub(crate) fn before(machine: &Arc<Machine>, at: u64) -> Arc<Self> {
        Arc::new(Self { machine: Arc::clone(machine), at, steps: AtomicU64::new(0) })
    }

    /// Did it come to the cut?
    pub(crate) fn has_failed(&self) -> bool {
        self.steps.load(Ordering::Relaxed) >= self.at
    }

    fn step(&self) {
        if self.steps.fetch_add(1, Ordering::Relaxed) + 1 == self.at {
            self.machine.cut();
        }
    }
}

impl Disk for Cut {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.step();
        File::options().read(true).write(true).create_new(true).open(path)
    }
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        self.step();
        let (head, tail) = bytes.split_at(bytes.len() / 2);
        io::Write::write_all(file, head)?;
        self.step();
        io::Write::write_all(file, tail)
    }
    fn sync(&self, file: &File) -> io::Result<()> {
        self.step();
        file.sync_all()
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step();
        std::fs::hard_link(from, to)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step();
        std::fs::rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step();
        std::fs::remove_file(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.step();
        std::fs::create_dir(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step();
        File::open(path)?.sync_all()
    }
}

async fn open(location: &Path, disk: Arc<dyn Disk>) -> Result<Lake, LakeError> {
    let local = LocalStore::on(location, disk, &Arc::default()).unwrap();
    let url = Url::from_directory_path(local.root()).unwrap();
    let place = Place { store: Arc::new(local.clone()), url, local: Some(local) };
    let mut options = options(location);
    options.log.checkpoint_commits = 2;
    Lake::open_at(place, options).await
}

/// What a lake does in its life, until the power fails. The last position of every commit that was answered for.
async fn live(location: &Path, disk: Arc<dyn Disk>) -> Vec<u64> {
    let mut answered = Vec::new();
    let Ok(lake) = open(location, disk).await else { return answered };
    let mut after = None;
    for flush in 0..4_u64 {
        let (first, through) = (flush * 10, flush * 10 + 9);
        let Ok(file) = lake.put(encoded(JOURNAL, first, through), TODAY).await else { break };
        if lake.commit(write(JOURNAL, after, through, vec![file])).await.is_err() {
            break;
        }
        after = Some(through);
        answered.push(through);
    }
    answered
}

/// The table opens, has every commit that was answered for and at most one more, each file with its bytes, and goes on.
async fn inspect(location: &Path, answered: &[u64], step: u64) {
    let lake = Lake::open(options(location)).await.unwrap_or_else(|error| panic!("cut before step {step}: {error:?}"));
    let snapshot = lake.snapshot();
    let there = ranges(&snapshot, JOURNAL);
    let expected: Vec<_> = (0..there.len() as u64).map(|flush| (flush * 10, flush * 10 + 9)).collect();
    assert_eq!(there, expected, "cut before step {step}");
    let more = there.len() - answered.len().min(there.len());
    assert!(there.len() >= answered.len() && more <= 1, "cut before step {step}: {answered:?} {there:?}");
    let cursor = lake.cursor(&snapshot, JOURNAL).await.unwrap();
    assert_eq!(cursor, there.last().map(|(_, last)| *last), "cut before step {step}");
    for file in snapshot.files.iter() {
        let (first, last) = file.positions().unwrap();
        let read = lake.store().get(&file.path.as_str().into()).await.unwrap().bytes().await.unwrap();
        assert_eq!(read, encoded(JOURNAL, first, last).bytes, "cut before step {step}");
    }
    let file = lake.put(encoded(JOURNAL, 100, 109), TODAY).await.unwrap();
    let next = lake.commit(write(JOURNAL, cursor, 109, vec![file])).await.unwrap();
    assert_eq!(next.version, snapshot.version + 1, "cut before step {step}");
    assert_eq!(versions(location).last(), Some(&next.version));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_between_any_two_steps_loses_nothing_that_was_answered_for() {
    let root = memory();
    let Some(machine) = Machine::new(root.path().join("mounted"), 16).map(Arc::new) else { return };
    let location = root.path().join("mounted/data/lake");
    let fresh = std::fs::read(&machine.image).unwrap();
    let (mut step, mut answered_by_any) = (0, 0);
    loop {
        step += 1;
        std::fs::write(&machine.image, &fresh).unwrap();
        machine.mount();
        // The directory itself is there for good, as after an installation.
        std::fs::create_dir_all(&location).unwrap();
        rustix::fs::syncfs(File::open(&location).unwrap()).unwrap();
        let disk = Cut::before(&machine, step);
        let answered = live(&location, disk.clone()).await;
        let finished = !disk.has_failed();
        if finished {
            machine.cut();
        }
        machine.unmount();
        machine.mount();
        inspect(&location, &answered, step).await;
        machine.unmount();
        answered_by_any = answered_by_any.max(answered.len());
        if finished {
            break;
        }
    }
    assert_eq!(answered_by_any, 4);
    assert!(step > 40, "only {step} steps");
}
