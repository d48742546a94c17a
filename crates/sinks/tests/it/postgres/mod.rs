//! Tables of PostgreSQL.

mod faults;
mod fills;
mod guide;
mod proxy;
mod retire;
mod schema;
mod tls;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use runstone_record::Column;
use runstone_record::build::BatchBuilder;
use runstone_sinks::contract::{NEXT_SOURCE, SOURCE, Stored, Target};
use runstone_sinks::postgres::read::Which;
use runstone_sinks::postgres::{Options, Postgres};

use crate::cluster::{Cluster, Session};
use crate::suite::contract;

/// A cluster of its own, and what holds its table up.
pub(crate) struct Tables {
    pub(crate) cluster: Cluster,
    held: Mutex<Option<Session>>,
}

/// Waits until it is so.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(60), "wait for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn options(url: &str) -> Options {
    let mut options = Options::new(url, "test");
    options.connect_timeout = Duration::from_secs(5);
    options.lock_timeout = Duration::from_millis(200);
    options.statement_timeout = Duration::from_secs(20);
    options.backoff = (Duration::from_millis(5), Duration::from_millis(20));
    options
}

impl Tables {
    pub(crate) fn new() -> Self {
        Self::of(Cluster::start())
    }

    /// In a cluster that is started already.
    pub(crate) fn of(cluster: Cluster) -> Self {
        Self { cluster, held: Mutex::new(None) }
    }

    pub(crate) fn open(&self) -> Postgres {
        Postgres::new(options(&self.cluster.url())).unwrap()
    }

    /// All records of a source.
    pub(crate) async fn all(&self, source: &str) -> Vec<Stored> {
        let sink = self.open();
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = sink.records(Which::Source(source), after.as_ref(), 1_000).await.unwrap();
            let Some(last) = page.last() else { return all };
            after = Some(last.clone());
            all.extend(page.into_iter().map(|record| Stored {
                journal: record.journal,
                position: record.position,
                json: record.json,
            }));
        }
    }
}

#[async_trait]
impl Target for Tables {
    type Sink = Postgres;

    const KNOWS_IDS: bool = true;

    async fn sink(&self) -> Postgres {
        self.open()
    }

    async fn records(&self) -> Vec<Stored> {
        let mut all = self.all(SOURCE).await;
        all.extend(self.all(NEXT_SOURCE).await);
        all
    }

    async fn letters(&self) -> Vec<u64> {
        let found = self.cluster.ask("SELECT position FROM test_dead_letters");
        found.lines().map(|line| line.parse().unwrap()).collect()
    }

    fn poison(&self, row: &mut BatchBuilder) {
        row.set_text(Column::Message, "a \0 in a text");
    }

    async fn take_away(&self) {
        self.cluster.down();
    }

    async fn bring_back(&self) {
        self.cluster.up();
    }

    async fn hold(&self) {
        let mut session = self.cluster.session();
        session.say("BEGIN; LOCK TABLE test_logs IN ACCESS EXCLUSIVE MODE;");
        *self.held.lock().unwrap() = Some(session);
    }

    async fn release(&self) {
        self.held.lock().unwrap().take();
    }
}

contract!(Tables::new());
