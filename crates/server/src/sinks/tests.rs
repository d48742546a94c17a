//! A feed beside a target that does not take what it is brought.

use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

use async_trait::async_trait;
use runstone_journal::fs::sim::SimFs;
use runstone_sinks::{Delivered, Delivery};

use super::*;
use crate::clock::ManualClock;
use crate::workbench::{self, NOW, append, record};

/// How long a thread may take to do what it does at once.
const DEADLINE: Duration = Duration::from_secs(20);

/// Its cursor can be read, and nothing be brought.
struct Refusing {
    brought: SyncSender<Instant>,
}

#[async_trait]
impl Sink for Refusing {
    fn name(&self) -> &'static str {
        "refusing"
    }

    async fn cursor(&mut self, _: &str) -> Result<u64, SinkError> {
        Ok(0)
    }

    async fn deliver(&mut self, _: Delivery<'_>) -> Result<Delivered, SinkError> {
        // The test may have seen enough.
        let _ = self.brought.try_send(Instant::now());
        Err(SinkError::Away { action: "bring records".to_owned(), source: "é".repeat(10_000).into() })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pauses_grow_while_cursors_can_be_read_and_nothing_be_brought() {
    let journal = workbench::journal(&SimFs::new(1), Path::new("/journal"));
    append(&journal, &record(1, "run")).unwrap();
    let sources = Sources {
        journal: Arc::clone(&journal),
        lake: Arc::default(),
        clock: Arc::new(ManualClock::new(NOW)),
        // Of each pause the shorter half.
        entropy: Arc::new(|| 0),
        metrics: SinkMetrics::default(),
    };
    let (mut relays, (brought, times)) = (SinkRelays::default(), sync_channel(4));
    let sink = async { Box::new(Refusing { brought }) as Box<dyn Sink> };
    relays.start(&sources, "refusing", BeginPolicy::Oldest, sink).unwrap();
    let times: Vec<Instant> = (0..4).map(|_| times.recv_timeout(DEADLINE).unwrap()).collect();
    for (pair, shortest) in times.windows(2).zip([250, 500, 1_000]) {
        let pause = pair[1].duration_since(pair[0]);
        assert!(pause >= Duration::from_millis(shortest), "{pause:?} is shorter than {shortest} ms");
    }
    let status = relays.statuses()[0].report();
    assert_eq!(status.health, SinkHealth::Degraded);
    let reason = status.reason.unwrap();
    assert!(reason.starts_with("bring records: éé") && reason.ends_with("é …"), "{reason}");
    assert!(reason.len() < 1_100, "{} bytes", reason.len());
    journal.close().unwrap();
    let handle = Handle::current();
    tokio::task::spawn_blocking(move || relays.stop(&handle)).await.unwrap();
}
