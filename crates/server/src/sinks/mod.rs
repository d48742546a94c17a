//! From the journal to the sinks that the settings name. Owns their threads; refuses to know what a sink is.

mod course;
mod feed;
mod gathered;
pub(crate) mod metrics;
mod status;
mod target_log;
mod target_runs;
pub(crate) mod targets;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use runstone_journal::Journal;
use runstone_sinks::{Sink, SinkError};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) use self::status::{SinkHealth, SinkReport, SinkStatus, shown};
pub(crate) use self::target_log::{TargetEntry, TargetLog, Targets};
pub(crate) use self::target_runs::{Store, TargetRun, TargetRuns};

use runstone_sinks::cloudwatch::Cloudwatch;
use runstone_sinks::dynamo::Dynamo;
use runstone_sinks::postgres::Postgres;

use self::feed::{Feed, Parts};
use self::metrics::SinkMetrics;
use crate::clock::Clock;
use crate::config::{BeginPolicy, Config};
use crate::intake::Entropy;
use crate::lake::{Control, chain};
use crate::start::RunError;

/// How long a sink may go on once it was told to stop.
const STOP_TIME: Duration = Duration::from_secs(2);

/// What all feeds share.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(crate) journal: Arc<Journal>,
    pub(crate) lake: Arc<Control>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Entropy,
    pub(crate) metrics: SinkMetrics,
}

/// Between looks at what is too old.
const RETENTION_INTERVAL: Duration = Duration::from_secs(3_600);
/// The same where PostgreSQL was away.
const RETENTION_PAUSE: Duration = Duration::from_secs(60);

/// Feeds the sinks that the settings name.
pub(crate) fn start(config: &Config, sources: &Sources, tasks: &mut JoinSet<()>) -> Result<SinkRelays, RunError> {
    let wrong = |error: SinkError| RunError::Sink(chain(&error));
    let mut relays = SinkRelays::default();
    if let Some(sink) = targets::postgres(&config.postgres).map_err(wrong)? {
        if let Some(days) = u32::try_from(config.postgres.retention_days).ok().filter(|days| *days > 0) {
            tasks.spawn(retain(sink.clone(), days, Arc::clone(&sources.clock)));
        }
        relays
            .start(sources, "postgres", BeginPolicy::Oldest, async { Box::new(sink) as Box<dyn Sink> })
            .map_err(RunError::Thread)?;
    }
    if let Some(options) = targets::dynamo_options(&config.dynamodb).map_err(wrong)? {
        let connected = async { Box::new(Dynamo::connect(options).await) as Box<dyn Sink> };
        relays.start(sources, "dynamodb", BeginPolicy::Oldest, connected).map_err(RunError::Thread)?;
    }
    if let Some(options) = targets::cloudwatch_options(&config.cloudwatch).map_err(wrong)? {
        let clock = targets::micros(&sources.clock);
        let connected = async { Box::new(Cloudwatch::connect(options, clock).await) as Box<dyn Sink> };
        relays.start(sources, "cloudwatch", config.cloudwatch.begin, connected).map_err(RunError::Thread)?;
    }
    Ok(relays)
}

async fn retain(sink: Postgres, days: u32, clock: Arc<dyn Clock>) {
    loop {
        let mut pause = RETENTION_INTERVAL;
        match sink.retain(days, clock.now_micros()).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, days, "delete old rows from PostgreSQL"),
            Err(SinkError::Away { .. }) => pause = RETENTION_PAUSE,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "delete old rows from PostgreSQL: trying again in an hour");
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// The sinks that are fed.
#[derive(Debug, Default)]
pub(crate) struct SinkRelays {
    relays: Vec<(Arc<SinkStatus>, JoinHandle<()>)>,
    stopping: CancellationToken,
    late: CancellationToken,
}

impl SinkRelays {
    /// Feeds a sink from now on, once it has found out about its target what it must know.
    pub(crate) fn start(
        &mut self,
        sources: &Sources,
        name: &'static str,
        begin: BeginPolicy,
        sink: impl Future<Output = Box<dyn Sink>> + Send + 'static,
    ) -> io::Result<()> {
        let sources = sources.clone();
        let status = Arc::new(SinkStatus::new(name));
        let parts = Parts {
            journal: sources.journal,
            lake: sources.lake,
            clock: sources.clock,
            entropy: sources.entropy,
            metrics: sources.metrics,
            begin,
            handle: Handle::current(),
            status: Arc::clone(&status),
            stopping: self.stopping.clone(),
            late: self.late.clone(),
        };
        let thread = std::thread::Builder::new().name(format!("sink-{name}"));
        let thread = thread.spawn(move || {
            let connected = parts.handle.block_on(async {
                tokio::select! {
                    sink = sink => Some(sink),
                    () = parts.late.cancelled() => None,
                }
            });
            if let Some(sink) = connected {
                Feed::new(parts, sink).run();
            }
        })?;
        self.relays.push((status, thread));
        Ok(())
    }

    pub(crate) fn statuses(&self) -> Vec<Arc<SinkStatus>> {
        self.relays.iter().map(|(status, _)| Arc::clone(status)).collect()
    }

    /// Has what is left brought there for a moment, and ends. The journal is closed by then. Blocks.
    pub(crate) fn stop(self, handle: &Handle) {
        self.stopping.cancel();
        let late = self.late.clone();
        let timer = handle.spawn(async move {
            tokio::time::sleep(STOP_TIME).await;
            late.cancel();
        });
        for (status, thread) in self.relays {
            if thread.join().is_err() {
                tracing::error!(sink = status.name(), "a sink panicked; it goes on from its cursor next time");
            }
        }
        timer.abort();
    }
}
