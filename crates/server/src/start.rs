//! Building the service and taking it down again, in reverse order. Owns the order of things; refuses to read
//! configuration files or to decide exit codes: the caller does.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::Router;
use runstone_journal::fs::Fs;
use runstone_journal::{Env, Journal, OpenError, Options, ReadError, Recovery};
use runstone_record::{Batch, ColumnSet};
use runstone_store::{QueryError, Recent, RecentOptions, Sql, SqlLimits};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::api::{self, App};
use crate::clock::Clock;
use crate::config::{Config, SyncPolicy, as_usize};
use crate::http::{Admission, layers, serve};
use crate::intake::{Entropy, Intake};
use crate::lineage::Lineage;
use crate::metrics::Metrics;
use crate::recent::{FromJournal, RecentConsumer};
use crate::relay::Relay;
use crate::runs::{Runs, RunsConsumer};

/// The parts of the world that the service is handed.
#[derive(Clone)]
pub struct World {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Entropy,
    /// The file system that the journal lives on.
    pub fs: Arc<dyn Fs>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("clock", &self.clock).finish_non_exhaustive()
    }
}

/// Why the service did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data directory cannot be used.
    #[error("create data directory {}", path.display())]
    Data {
        /// The directory.
        path: PathBuf,
        /// The refusal.
        source: std::io::Error,
    },
    /// The journal does not open.
    #[error(transparent)]
    Journal(#[from] OpenError),
    /// The journal holds what this version cannot read.
    #[error("read the journal at position {position}")]
    Unreadable {
        /// Where.
        position: u64,
        /// Why.
        source: ReadError,
    },
    /// Nobody can connect.
    #[error("listen on {address}: choose another with --listen")]
    Listen {
        /// The address.
        address: String,
        /// The refusal.
        source: std::io::Error,
    },
    /// A thread did not start.
    #[error("start a thread")]
    Thread(#[source] std::io::Error),
    /// The SQL engine did not start.
    #[error("start the query engine")]
    Sql(#[source] QueryError),
    /// Two writes or syncs in a row failed: what was not acknowledged may be lost, what was is safe.
    #[error("the journal failed twice in a row: look at the disk, then start again")]
    JournalFailed,
}

/// Serves until `stop`, then answers what is in flight, writes what is waiting and returns. `listening` is told the
/// address once requests are taken; `extra` adds routes of other crates.
///
/// # Errors
/// The service did not start, or its journal failed for good.
pub async fn run(
    config: &Config,
    world: World,
    extra: Router,
    stop: CancellationToken,
    listening: impl FnOnce(SocketAddr),
) -> Result<(), RunError> {
    let failed = Arc::new(AtomicBool::new(false));
    let journal = open_journal(config, &world, &stop, &failed)?;
    let service = Service::start(config, &world, journal)?;
    let listen = |source| RunError::Listen { address: config.listen.clone(), source };
    let listener = TcpListener::bind(&config.listen).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let router = layers::wrap(api::router(service.app.clone()).merge(extra), service.app.metrics.http.clone());
    listening(address);
    let metrics = service.app.metrics.http.clone();
    let served = serve::serve(listener, router, config.serve_options(), metrics, stop).await;
    if served.cut > 0 {
        tracing::warn!(requests = served.cut, "cut requests that did not end in time");
    }
    service.stop().await;
    if failed.load(Ordering::Acquire) { Err(RunError::JournalFailed) } else { Ok(()) }
}

fn open_journal(
    config: &Config,
    world: &World,
    stop: &CancellationToken,
    failed: &Arc<AtomicBool>,
) -> Result<Arc<Journal>, RunError> {
    let data = |source| RunError::Data { path: config.data.clone(), source };
    std::fs::create_dir_all(&config.data).map_err(data)?;
    let (clock, entropy) = (Arc::clone(&world.clock), Arc::clone(&world.entropy));
    let env = Env {
        clock: Arc::new(move || clock.now_micros()),
        entropy: Arc::new(move |buffer: &mut [u8]| {
            buffer.chunks_mut(16).for_each(|chunk| chunk.copy_from_slice(&entropy().to_le_bytes()[..chunk.len()]));
        }),
    };
    let (stop, failed) = (stop.clone(), Arc::clone(failed));
    let mut options = Options::new(config.data.join("journal"));
    options.segment_bytes = config.journal.segment_bytes;
    options.bytes_max = config.journal.bytes_max;
    options.queue_bytes = as_usize(config.journal.queue_bytes_max);
    options.sync = match config.journal.sync {
        SyncPolicy::EveryGroup => runstone_journal::SyncPolicy::EveryGroup,
        SyncPolicy::Never => runstone_journal::SyncPolicy::Never,
    };
    options.on_fatal = Some(Arc::new(move |error: &std::io::Error| {
        tracing::error!(%error, "the journal failed twice in a row: stopping");
        failed.store(true, Ordering::Release);
        stop.cancel();
    }));
    let (journal, recovery) = Journal::open(Arc::clone(&world.fs), env, options)?;
    report(&recovery, &config.data);
    Ok(Arc::new(journal))
}

/// What recovery found, one line each.
fn report(recovery: &Recovery, data: &Path) {
    let (segments, durable) = (recovery.segments, recovery.durable);
    tracing::info!(journal = %recovery.id, data = %data.display(), segments, durable, "open the journal");
    for event in &recovery.events {
        tracing::warn!(%event, "recover the journal");
    }
}

/// The running parts, in the order in which they were started.
struct Service {
    app: App,
    runs: Relay,
    recent: Relay,
}

impl Service {
    fn start(config: &Config, world: &World, journal: Arc<Journal>) -> Result<Self, RunError> {
        let metrics = Metrics::new();
        let id = journal.id().to_string();
        let ids_bytes_max = as_usize(config.ids.bytes_max);
        let (clock, entropy) = (Arc::clone(&world.clock), Arc::clone(&world.entropy));
        let intake = Intake::new(Arc::clone(&journal), clock, entropy, metrics.ingest.clone(), ids_bytes_max);
        recall(&journal, &intake)?;
        let (runs, consumer, after) = RunsConsumer::open(config.data.join("runs"), id, journal.durable());
        let runs_relay = Relay::start(journal.reader(after), consumer).map_err(RunError::Thread)?;
        let recent = Arc::new(Recent::new(RecentOptions { bytes_max: as_usize(config.recent.bytes_max) }));
        let older = Arc::new(FromJournal(Arc::clone(&journal)));
        let sql = sql(config, &recent, older, &runs)?;
        let consumer = RecentConsumer { recent: Arc::clone(&recent), lineage: Lineage::of(&journal) };
        let recent_relay = Relay::start(journal.reader(0), consumer).map_err(RunError::Thread)?;
        let app = App {
            intake,
            journal,
            recent,
            sql: Arc::new(sql),
            runs,
            recent_progress: recent_relay.progress(),
            runs_progress: runs_relay.progress(),
            admission: Admission::new(as_usize(config.http.in_flight_bytes_max), metrics.http.in_flight_bytes.clone()),
            body_limits: config.body_limits(),
            metrics,
        };
        Ok(Self { app, runs: runs_relay, recent: recent_relay })
    }

    async fn stop(self) {
        let Self { app, runs, recent } = self;
        // Joining threads blocks: not on the threads that still answer.
        let work = tokio::task::spawn_blocking(move || {
            if let Err(error) = app.journal.close() {
                tracing::error!(%error, "close the journal");
            }
            let relays = [recent, runs];
            relays.iter().for_each(Relay::stop);
            relays.into_iter().for_each(Relay::join);
        });
        if work.await.is_err() {
            tracing::error!("stopping panicked");
        }
    }
}

fn sql(config: &Config, recent: &Arc<Recent>, older: Arc<FromJournal>, runs: &Runs) -> Result<Sql, RunError> {
    let limits = SqlLimits {
        memory_bytes: as_usize(config.query.memory_bytes_max),
        timeout: config.query.timeout,
        rows_max: as_usize(config.query.rows_max),
        running_max: as_usize(config.query.concurrency_max),
        ..SqlLimits::default()
    };
    Sql::new(Arc::clone(recent), older, Arc::new(runs.clone()), limits).map_err(RunError::Sql)
}

/// Reads the ids and idempotency keys that the journal holds: a repeated delivery must be known before the first
/// request comes.
fn recall(journal: &Journal, intake: &Intake) -> Result<(), RunError> {
    let started = Instant::now();
    let durable = journal.durable();
    let mut reader = journal.reader(0);
    while reader.position() < durable {
        match reader.next() {
            Ok(None) => break,
            Ok(Some(frame)) => match Batch::decode_columns(&frame.payload, ColumnSet::of(&[])) {
                Ok(batch) => intake.remember(&batch, frame.first),
                Err(error) => {
                    tracing::error!(first = frame.first, last = frame.last(), %error, "skip an unreadable frame");
                }
            },
            Err(error @ ReadError::Quarantined { .. }) => {
                tracing::error!(%error, "skip damaged records");
                reader.skip();
            }
            Err(ReadError::Trimmed { first_available }) => reader.seek(first_available - 1),
            Err(source) => return Err(RunError::Unreadable { position: reader.position(), source }),
        }
    }
    let elapsed_seconds = started.elapsed().as_secs_f64();
    tracing::info!(records = durable, elapsed_seconds, "read the journal's ids");
    Ok(())
}
