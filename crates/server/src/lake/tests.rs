//! The lake's thread without a thread: the consumer takes its steps when it is told to, from a journal on a simulated disk to
//! a table in a directory.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use runstone_journal::fs::sim::SimFs;
use runstone_store::RecentOptions;
use runstone_store::lake::{Lake, LakeError};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use super::trouble::Trouble;
use super::*;
use crate::clock::ManualClock;
use crate::metrics::Metrics;
use crate::workbench::{self, NOW, append, lake_options, record};

const HOUR: Duration = Duration::from_secs(3_600);

/// What happens in the middle of the next flush.
type Middle = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// What a server has of its relay to the lake.
struct Server {
    consumer: Consumer,
    control: Arc<Control>,
    status: Arc<LakeStatus>,
    recent: Arc<Recent>,
    metrics: LakeMetrics,
    middle: Middle,
    journal: Arc<Journal>,
    dir: TempDir,
    runtime: Runtime,
}

fn consumer(journal: &Arc<Journal>, data: &Path, runtime: &Runtime, middle: &Middle) -> (Consumer, Arc<Recent>) {
    let recent = Arc::new(Recent::new(RecentOptions::default()));
    let middle = Arc::clone(middle);
    let known_from = move || {
        let middle = middle.lock().unwrap().take();
        if let Some(middle) = middle {
            middle();
        }
        1
    };
    let parts = Parts {
        journal: Arc::clone(journal),
        recent: Arc::clone(&recent),
        recent_bytes_max: 1 << 30,
        lake: lake_options(&data.join("lake")),
        writer: WriterOptions::default(),
        copies: CopyOptions {
            known_from: Arc::new(known_from),
            letters: Arc::new(Letters { data: data.to_owned() }),
            filter_bytes_max: 1 << 20,
            unread: Arc::new(|_| {}),
        },
        data: data.to_owned(),
        flush_interval: HOUR,
        flush_bytes: 1 << 30,
        keep: Keep { bytes: 0, time: Duration::ZERO, bytes_max: u64::MAX, grace: Duration::ZERO },
        accept_missing: false,
        clock: Arc::new(ManualClock::new(NOW)),
        entropy: Arc::new(|| 7),
        metrics: Metrics::new().lake,
        handle: runtime.handle().clone(),
        control: Arc::default(),
        status: Arc::new(LakeStatus::new()),
    };
    parts.control.go();
    (Consumer::new(parts), recent)
}

impl Server {
    fn new() -> Self {
        let (dir, runtime, middle) = (TempDir::new().unwrap(), Runtime::new().unwrap(), Middle::default());
        let journal = workbench::journal(&SimFs::new(1), Path::new("/journal"));
        Self::on(journal, dir, runtime, middle)
    }

    fn on(journal: Arc<Journal>, dir: TempDir, runtime: Runtime, middle: Middle) -> Self {
        let (consumer, recent) = consumer(&journal, dir.path(), &runtime, &middle);
        let (control, status) = (Arc::clone(&consumer.parts.control), Arc::clone(&consumer.parts.status));
        let metrics = consumer.parts.metrics.clone();
        Self { consumer, control, status, recent, metrics, middle, journal, dir, runtime }
    }

    /// The same directory after a start.
    fn restart(self) -> Self {
        Self::on(self.journal, self.dir, self.runtime, self.middle)
    }

    fn append(&self, ids: impl IntoIterator<Item = u64>) {
        for id in ids {
            append(&self.journal, &record(id, "run")).unwrap();
        }
    }

    /// One step, with a flush that is asked for.
    fn flush(&mut self) -> Result<bool, Trouble> {
        self.control.flush();
        self.consumer.step()
    }

    /// What comes of a failure; the pause that follows is over at once.
    fn suffer(&mut self, trouble: &Trouble) {
        self.control.flush();
        self.consumer.suffer(trouble);
    }

    fn in_the_middle(&self, middle: impl FnOnce() + Send + 'static) {
        *self.middle.lock().unwrap() = Some(Box::new(middle));
    }

    /// The positions up to which the lake has this directory's records.
    fn through(&self) -> u64 {
        self.status.report().through
    }

    /// The table, as another process has it.
    fn lake(&self) -> Lake {
        self.runtime.block_on(Lake::open(lake_options(&self.lake_dir()))).unwrap()
    }

    fn lake_dir(&self) -> PathBuf {
        self.dir.path().join("lake")
    }

    fn name(&self) -> String {
        self.journal.id().to_string()
    }

    /// What a twin of this directory brings to the lake, under the same name.
    fn twin(&self, first: u64, ids: impl IntoIterator<Item = u64>) {
        let batches = ids.into_iter().map(|id| record(id, "run"));
        self.runtime.block_on(workbench::flush(&self.lake(), &self.name(), first, batches));
    }
}

#[test]
fn a_paused_lake_that_a_twin_wrote_lets_nothing_be_trimmed() {
    let mut server = Server::new();
    server.append(1..=2);
    server.flush().unwrap();
    assert_eq!(server.through(), 2);
    server.append(3..=6);
    server.twin(3, 13..=14);
    // Then somebody asks more of writers than this version can do.
    let version = server.lake().snapshot().version + 1;
    let asks = r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":99}}"#;
    std::fs::write(server.lake_dir().join(format!("_delta_log/{version:020}.json")), asks).unwrap();
    let mut server = server.restart();
    let trouble = server.consumer.step().unwrap_err();
    server.suffer(&trouble);
    assert_eq!(server.status.report().health, LakeHealth::Paused, "{trouble}");
    // The twin's are read there, and ours from 3 on in the journal, which has them.
    assert_eq!((server.recent.stats().settled, server.through()), (2, 2));
    assert_eq!(server.journal.reader(2).next().unwrap().unwrap().first, 3);
}

#[test]
fn where_records_wait_for_a_person_nothing_is_merged_or_deleted() {
    let mut server = Server::new();
    for id in 1..=3 {
        server.append([id]);
        server.flush().unwrap();
    }
    let (control, status) = (Arc::clone(&server.control), Arc::clone(&server.status));
    let relay = LakeRelay { control, status, thread: std::thread::spawn(|| {}) };
    let clock = Arc::new(ManualClock::new(NOW));
    let caretaker = Caretaker::new(&Config::default(), clock, &relay, Arc::new(Notify::new()));
    let look = || {
        server.runtime.block_on(caretaker.look(true));
        (caretaker.upkeep().progress().runs, server.lake().snapshot().files.len())
    };
    for health in [LakeHealth::Paused, LakeHealth::Failed] {
        server.status.set(health, None);
        assert_eq!(look(), (0, 3), "{health:?}");
    }
    server.status.set(LakeHealth::Degraded, None);
    assert_eq!(look(), (1, 1));
}

#[test]
fn who_asked_for_a_flush_waits_until_it_is_in_the_lake() {
    let mut server = Server::new();
    server.append([1]);
    let (control, waited) = (Arc::clone(&server.control), Arc::new(Mutex::new(None)));
    let seen = Arc::clone(&waited);
    server.in_the_middle(move || *seen.lock().unwrap() = Some(control.wait_flushed(Duration::ZERO)));
    server.flush().unwrap();
    assert_eq!(*waited.lock().unwrap(), Some(false), "in the middle of it");
    assert!(server.control.wait_flushed(Duration::ZERO));
    assert_eq!(server.through(), 1);
}

#[test]
fn a_flush_that_was_asked_for_is_made_whole_after_one_that_failed() {
    let mut server = Server::new();
    server.append([1]);
    server.flush().unwrap();
    server.append(2..=5);
    // A copy of the directory brings some of them first.
    server.twin(2, 2..=3);
    let trouble = server.flush().unwrap_err();
    assert!(matches!(trouble, Trouble::Lake(LakeError::Conflict(_))), "{trouble}");
    server.consumer.suffer(&trouble);
    assert!(!server.control.wait_flushed(Duration::ZERO));
    server.consumer.step().unwrap();
    assert!(server.control.wait_flushed(Duration::ZERO));
    assert_eq!(server.through(), 5);
}

#[test]
fn a_failure_of_the_lakes_own_is_blamed_on_no_record() {
    let mut server = Server::new();
    let refused = server.dir.path().join("refused");
    server.append([1]);
    server.in_the_middle(|| panic!("in the middle of a flush"));
    let trouble = server.flush().unwrap_err();
    assert!(matches!(trouble, Trouble::Lake(LakeError::Internal(_))), "{trouble}");
    server.suffer(&trouble);
    assert!(!refused.exists() && server.metrics.refused.get() == 0);
    // Once it works, the record is in the lake.
    server.consumer.step().unwrap();
    assert_eq!((server.through(), server.lake().snapshot().rows()), (1, 1));
    // A record that cannot be laid out is put aside, and the others go on.
    server.append([2]);
    server.in_the_middle(|| panic!("in the middle of a flush"));
    server.flush().unwrap_err();
    server.suffer(&Trouble::Lake(LakeError::Unwritable("it has no columns".to_owned())));
    assert_eq!((std::fs::read_dir(refused).unwrap().count(), server.metrics.refused.get()), (1, 1));
    server.append([3]);
    server.flush().unwrap();
    assert_eq!((server.through(), server.lake().snapshot().rows()), (3, 2));
}
