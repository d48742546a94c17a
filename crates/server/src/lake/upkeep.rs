//! When the lake is looked after: by a timer and when somebody asks. Owns the waiting and what is said of the work; the
//! work itself is `store`'s.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use runstone_store::lake::{Effort, Upkeep, UpkeepOptions, UpkeepReport};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Control, LakeHealth, LakeRelay, LakeStatus};
use crate::clock::Clock;
use crate::config::Config;

/// After a request: what it wants merged is flushed first.
const FLUSH_TIME: Duration = Duration::from_secs(5);

/// Looks after the lake. Dropped at any point, its work leaves nothing half done.
pub(crate) struct Caretaker {
    upkeep: Arc<Upkeep>,
    control: Arc<Control>,
    status: Arc<LakeStatus>,
    clock: Arc<dyn Clock>,
    interval: Duration,
    asked: Arc<Notify>,
}

impl Caretaker {
    pub(crate) fn new(config: &Config, clock: Arc<dyn Clock>, lake: &LakeRelay, asked: Arc<Notify>) -> Self {
        let started = Instant::now();
        let options = UpkeepOptions {
            file_bytes: config.lake.file_bytes,
            group_bytes: config.lake.group_bytes,
            retention_days: config.lake.retention_days,
            vacuum_grace: config.lake.vacuum_grace,
            uptime: Arc::new(move || started.elapsed()),
        };
        let upkeep = Arc::new(Upkeep::new(options));
        let (control, status) = (lake.control(), lake.status());
        Self { upkeep, control, status, clock, interval: config.lake.upkeep_interval, asked }
    }

    /// What it has done, for whoever asks.
    pub(crate) fn upkeep(&self) -> Arc<Upkeep> {
        Arc::clone(&self.upkeep)
    }

    /// Works on a thread of its own, because merging is work for the processor.
    pub(crate) fn start(self) -> io::Result<Care> {
        let (stop, handle) = (CancellationToken::new(), Handle::current());
        let stopped = stop.clone();
        let work = move || {
            handle.block_on(async {
                tokio::select! {
                    () = stopped.cancelled() => {}
                    () = self.run() => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("lake-upkeep".to_owned()).spawn(work)?;
        Ok(Care { stop, thread })
    }

    async fn run(self) {
        loop {
            let asked = tokio::time::timeout(self.interval, self.asked.notified()).await.is_ok();
            self.look(asked).await;
        }
    }

    /// Does once what there is to do.
    pub(super) async fn look(&self, asked: bool) {
        if asked {
            let control = Arc::clone(&self.control);
            // Without the flush the work is the same, with less to do.
            let _ = tokio::task::spawn_blocking(move || control.wait_flushed(FLUSH_TIME)).await;
        }
        // Where records must not be written, nothing is merged or deleted either.
        if matches!(self.status.report().health, LakeHealth::Paused | LakeHealth::Failed) {
            return;
        }
        let Some(seen) = self.control.seen() else { return };
        let now_ms = self.clock.now_micros().div_euclid(1_000);
        let effort = if asked { Effort::All } else { Effort::Usual };
        let begun = Instant::now();
        tell(&self.upkeep.run(&seen.lake, now_ms, effort).await, begun.elapsed(), asked);
    }
}

/// Running upkeep.
#[derive(Debug)]
pub(crate) struct Care {
    stop: CancellationToken,
    thread: JoinHandle<()>,
}

impl Care {
    /// Ends it at its next pause: what it was doing is done again later.
    pub(crate) fn stop(self) {
        self.stop.cancel();
        if self.thread.join().is_err() {
            tracing::error!("the thread that looks after the lake panicked");
        }
    }
}

fn tell(report: &UpkeepReport, took: Duration, asked: bool) {
    let idle = report.merges + report.retired_files + report.deleted_files == 0;
    if idle && !asked {
        return;
    }
    tracing::info!(
        elapsed_seconds = took.as_secs_f64(),
        merges = report.merges,
        merged_files = report.merged_files,
        made_files = report.made_files,
        merged_rows = report.merged_rows,
        retired_files = report.retired_files,
        deleted_files = report.deleted_files,
        failures = report.failures.len(),
        "looked after the lake"
    );
}
