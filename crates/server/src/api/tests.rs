//! Handlers of a server that is in trouble.

use std::path::Path;

use http::Request;
use http_body_util::BodyExt;
use runstone_journal::fs::sim::{Fault, Op, SimFs};
use runstone_journal::{AppendError, Health};
use runstone_record::DecodeError;
use runstone_store::lake::UpkeepOptions;
use runstone_store::{RecentOptions, SqlLimits};
use serde_json::Value;
use tokio::runtime::Handle;
use tower::ServiceExt;

use super::*;
use crate::clock::ManualClock;
use crate::config::Config;
use crate::database::Audit;
use crate::lake::LakeHealth;
use crate::lineage::Lineage;
use crate::recent::FromJournal;
use crate::relay::{Consumer, Relay, Unavailable};
use crate::runs::{LakeRows, RunsConsumer};
use crate::workbench::{self, NOW, append, record};

/// How long a reader may take to die.
const DEADLINE: Duration = Duration::from_secs(20);

/// A reader of the journal that does not survive a frame, or does nothing with it.
struct Reads {
    dies: bool,
}

impl Consumer for Reads {
    fn name(&self) -> &'static str {
        "test"
    }

    fn take(&mut self, _: u64, _: &Bytes) -> Result<(), DecodeError> {
        assert!(!self.dies, "a reader dies");
        Ok(())
    }

    fn trimmed(&mut self, _: u64, _: u64) -> Result<(), Unavailable> {
        Ok(())
    }
}

/// What handlers share, of a server with these readers, whose lake is well.
fn app(journal: &Arc<Journal>, dir: &Path, readers: [&Relay; 2]) -> App {
    let (config, metrics, lineage) = (Config::default(), Metrics::new(), Lineage::of(journal));
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(NOW));
    let intake = Intake::new(Arc::clone(journal), Arc::clone(&clock), Arc::new(|| 7), metrics.ingest.clone(), 1 << 20);
    let rows = LakeRows::new(Arc::default(), Handle::current(), false);
    let (runs, _, _) = RunsConsumer::open(dir.join("runs"), &lineage, journal.durable(), rows, Arc::default());
    let recent = Arc::new(Recent::new(RecentOptions::default()));
    let older = Arc::new(FromJournal(Arc::clone(journal)));
    let sql = Sql::new(Arc::clone(&recent), older, Arc::new(runs.clone()), SqlLimits::default()).unwrap();
    let lake = Arc::new(LakeStatus::new());
    lake.set(LakeHealth::Ready, None);
    let options = UpkeepOptions {
        file_bytes: config.lake.file_bytes,
        group_bytes: config.lake.group_bytes,
        retention_days: 0,
        vacuum_grace: config.lake.vacuum_grace,
        uptime: Arc::new(|| Duration::ZERO),
    };
    let audit = Audit::new(intake.clone(), Arc::clone(&clock), Arc::new(|| 7));
    App {
        sinks: Arc::default(),
        targets: Arc::new(Targets::new(&Config::default()).unwrap()),
        intake,
        gateway: Gateway { database: None, execute: None, audit },
        journal: Arc::clone(journal),
        recent,
        sql: Arc::new(sql),
        runs,
        lake,
        clock,
        recent_progress: readers[0].progress(),
        runs_progress: readers[1].progress(),
        admission: Admission::new(1 << 20, metrics.http.in_flight_bytes.clone()),
        body_limits: config.body_limits(),
        upkeep: Arc::new(Upkeep::new(options)),
        metrics,
    }
}

/// The status of `/ready`, its word and its reason.
async fn ready(app: &App) -> (u16, String, String) {
    let request = Request::get("/ready").body(axum::body::Body::empty()).unwrap();
    let answer = router(app.clone()).oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let body: Value = serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    (status, text("status"), text("reason"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_which_a_reader_has_died_is_not_ready() {
    for dead in 0..2 {
        let dir = tempfile::tempdir().unwrap();
        let journal = workbench::journal(&SimFs::new(1), Path::new("/journal"));
        let relays = [0, 1].map(|reader| Relay::start(journal.reader(0), Reads { dies: reader == dead }).unwrap());
        let app = app(&journal, dir.path(), [&relays[0], &relays[1]]);
        assert_eq!(ready(&app).await, (200, "ready".to_owned(), String::new()));
        append(&journal, &record(1, "run")).unwrap();
        assert!(!relays[dead].progress().reach(1, DEADLINE).await);
        let (status, word, reason) = ready(&app).await;
        assert_eq!((status, word.as_str()), (503, "failed"));
        assert!(reason.contains("a reader of the journal has ended"), "{reason}");
        journal.close().unwrap();
        relays.iter().for_each(Relay::stop);
        relays.into_iter().for_each(Relay::join);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_journal_gave_up_is_not_ready() {
    let (dir, fs) = (tempfile::tempdir().unwrap(), SimFs::new(2));
    let journal = workbench::journal(&fs, Path::new("/journal"));
    let relays = [0, 1].map(|_| Relay::start(journal.reader(0), Reads { dies: false }).unwrap());
    let app = app(&journal, dir.path(), [&relays[0], &relays[1]]);
    append(&journal, &record(1, "run")).unwrap();
    assert_eq!(ready(&app).await.0, 200);
    fs.fail(Op::Sync, 0, 2, Fault::Io);
    let failed = append(&journal, &record(2, "run"));
    assert!(matches!(failed, Err(AppendError::Failed { .. })), "{failed:?}");
    assert!(matches!(journal.health(), Health::Failed(_)));
    let (status, word, reason) = ready(&app).await;
    assert_eq!((status, word.as_str()), (503, "failed"));
    assert!(!reason.is_empty());
    relays.iter().for_each(Relay::stop);
    relays.into_iter().for_each(Relay::join);
}
