//! Power cuts between every two steps of upkeep: of a merged file's upload, of the commits that merge and retire, of
//! checkpoints, `_last_checkpoint`, and the deletions of old log entries and of files. The table opens by itself with exactly
//! its rows, and the next run does the rest.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::super::{Effort, Upkeep, UpkeepOptions, UpkeepReport};
use super::world::*;
use crate::lake::disk::{Disk, RealDisk};
use crate::lake::local::LocalStore;
use crate::lake::log::{self, Log};
use crate::lake::place::Place;
use crate::lake::tests::machine::Machine;
use crate::lake::tests::power::{Cut, memory};
use crate::lake::{Lake, LakeError, LakeOptions};

/// A table on a disk whose power can be cut.
struct Table {
    machine: Arc<Machine>,
    location: PathBuf,
    /// When it was made by the clock of the disk's files, in milliseconds since 1970.
    made_ms: i64,
    /// The rows that are to stay.
    expected: Contents,
    _root: tempfile::TempDir,
}

impl Table {
    /// One with work for every step: files to merge, a day to retire, an orphan, a log to shorten. It stays mounted.
    async fn new() -> Option<Self> {
        let root = memory();
        let machine = Arc::new(Machine::new(root.path().join("mounted"), 16)?);
        machine.mount();
        let location = root.path().join("mounted/lake");
        std::fs::create_dir_all(&location).unwrap();
        let made_ms = modified_ms(&location);
        let mut table = Self { machine, location, made_ms, expected: Contents::new(), _root: root };
        let lake = table.open(Arc::new(RealDisk), 0).await.unwrap();
        let today = table.today();
        for number in 0..3 {
            flush(&lake, A, today, &[number * 3, number * 3 + 2, number * 3 + 4]).await;
            if number > 0 {
                flush(&lake, B, today - 2, &[number]).await;
            }
        }
        lake.put(encode(&rows_on(today, A, 10_000, &[1, 2, 3]), 10), today).await.unwrap();
        table.expected = only_a(contents(&lake).await);
        Some(table)
    }

    fn today(&self) -> i32 {
        i32::try_from(self.made_ms.div_euclid(DAY_MS)).unwrap()
    }

    /// The table some hours after it was made: nobody reads its old files any more.
    async fn open(&self, disk: Arc<dyn Disk>, hours: i64) -> Result<Lake, LakeError> {
        let local = LocalStore::on(&self.location, disk, &Arc::default()).unwrap();
        let url = Url::from_directory_path(local.root()).unwrap();
        let place = Place { store: Arc::new(local.clone()), url, local: Some(local) };
        let now_ms = self.made_ms + hours * HOUR_MS;
        let drawn = std::sync::atomic::AtomicU64::new(1);
        let random = move || {
            // Two lakes must not draw the same ids.
            let next = u128::from(drawn.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
            (u128::try_from(hours).unwrap() << 64) | (next << 8)
        };
        let location = self.location.to_str().unwrap();
        let mut options = LakeOptions::new(location, "runstone/test", Arc::new(move || now_ms), Arc::new(random));
        options.network.commit_pause = Duration::ZERO;
        (options.log.checkpoint_commits, options.log.versions_max) = (2, 1);
        Lake::open_at(place, options).await
    }

    async fn upkeep(&self, lake: &Lake) -> UpkeepReport {
        let options = UpkeepOptions {
            file_bytes: rules().file_bytes,
            group_bytes: rules().group.bytes,
            retention_days: 1,
            vacuum_grace: Duration::ZERO,
            uptime: Arc::new(|| Duration::from_secs(60)),
        };
        Upkeep::with(options, rules()).run(lake, lake.now_ms(), Effort::All).await
    }

    /// Upkeep until the power fails. The last version that was answered for.
    async fn live(&self, disk: &Arc<Cut>) -> Option<u64> {
        let lake = self.open(Arc::clone(disk) as Arc<dyn Disk>, 2).await.ok()?;
        let before = lake.snapshot().version;
        let report = self.upkeep(&lake).await;
        if !disk.has_failed() {
            assert_complete(&report, &log_of(&lake).await, before);
        }
        Some(lake.snapshot().version)
    }

    /// After a cut: the table opens with its rows, what was answered for is in it, and every file is whole.
    async fn inspect(&self, known: Option<u64>, step: u64) -> Lake {
        let opened = self.open(Arc::new(RealDisk), 3).await;
        let lake = opened.unwrap_or_else(|error| panic!("cut before step {step}: {error:?}"));
        let snapshot = lake.snapshot();
        if let Some(known) = known {
            let versions = known..=known + 1;
            assert!(versions.contains(&snapshot.version), "cut before step {step}: {versions:?} {}", snapshot.version);
        }
        for file in snapshot.files.iter() {
            let checked = lake.check_file(file).await;
            checked.unwrap_or_else(|error| panic!("cut before step {step}: {error}"));
        }
        let there = contents(&lake).await;
        assert!(there.values().all(|copies| copies.len() == 1), "cut before step {step}: rows are there twice");
        let old = there.keys().filter(|(journal, _)| journal == B).count();
        assert!(old == 0 || old == 2, "cut before step {step}: {old} rows of 2 were retired");
        assert_same(&only_a(there), &self.expected, step);
        lake
    }

    /// The next run, and what it leaves.
    async fn finish(&self, lake: &Lake, step: u64) {
        let report = self.upkeep(lake).await;
        assert_eq!(report.failures, [], "cut before step {step}");
        let snapshot = lake.snapshot();
        assert_eq!(snapshot.files.len(), 1, "cut before step {step}");
        let live = self.location.join(&snapshot.files[0].path);
        assert_eq!(data_files(&self.location), [live], "cut before step {step}");
        // A lake that is opened from nothing reads the same out of what is left of the log.
        let again = self.open(Arc::new(RealDisk), 4).await.unwrap();
        assert_eq!(again.snapshot().version, snapshot.version, "cut before step {step}");
        assert_same(&contents(&again).await, &self.expected, step);
        let left = log_of(&again).await;
        assert!(left.commits.len() <= 5, "cut before step {step}: {:?}", left.commits.keys());
        let hint = log::read_hint(again.store().as_ref()).await.unwrap().unwrap().unwrap();
        assert!(left.checkpoints.iter().any(|checkpoint| checkpoint.version == hint.version), "cut before step {step}");
    }
}

fn only_a(mut rows: Contents) -> Contents {
    rows.retain(|(journal, _), _| journal == A);
    rows
}

async fn log_of(lake: &Lake) -> Log {
    Log::list(lake.store().as_ref(), None).await.unwrap()
}

fn modified_ms(path: &Path) -> i64 {
    let modified = std::fs::metadata(path).unwrap().modified().unwrap();
    i64::try_from(modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// All files of the table but its log, unfinished ones included.
fn data_files(location: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for day in std::fs::read_dir(location).unwrap().map(|entry| entry.unwrap().path()) {
        if !day.ends_with(log::DIRECTORY) {
            files.extend(std::fs::read_dir(day).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    files
}

/// A run to its end does all that a cut may interrupt.
fn assert_complete(report: &UpkeepReport, log: &Log, before: u64) {
    assert_eq!(report.failures, []);
    assert_eq!((report.merges, report.retired_files), (2, 1), "{report:?}");
    // Three inputs, two inputs and their output, which was retired, and the orphan.
    assert_eq!(report.deleted_files, 7, "{report:?}");
    let first = *log.commits.keys().next().unwrap();
    assert!(first > before, "the log begins at {first}, its last version was {before}");
    assert!(!log.checkpoints.is_empty());
}

/// Runs on a runtime of its own: when it has gone nothing reads a file any more, and the disk can be unmounted.
fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(work)
}

#[test]
fn a_power_cut_between_any_two_steps_of_upkeep_costs_nothing_but_its_work() {
    let Some(table) = wait(Table::new()) else { return };
    table.machine.unmount();
    let before = std::fs::read(&table.machine.image).unwrap();
    let mut step = 0;
    loop {
        step += 1;
        std::fs::write(&table.machine.image, &before).unwrap();
        table.machine.mount();
        let disk = Cut::before(&table.machine, step);
        let known = wait(table.live(&disk));
        let finished = !disk.has_failed();
        if finished {
            table.machine.cut();
        }
        table.machine.unmount();
        table.machine.mount();
        wait(async {
            let lake = table.inspect(known, step).await;
            table.finish(&lake, step).await;
        });
        table.machine.unmount();
        if finished {
            break;
        }
    }
    println!("{step} cuts");
    assert!(step > 60, "only {step} steps");
}
