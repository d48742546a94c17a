//! Building the service and taking it down again, in reverse order. Owns the order of things; refuses to read
//! configuration files or to decide exit codes: the caller does.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::{Router, middleware};
use runstone_journal::fs::Fs;
use runstone_journal::{Env, Journal, OpenError, Options, ReadError, Recovery};
use runstone_record::{Batch, ColumnSet};
use runstone_store::{QueryError, Recent, RecentOptions, Sql, SqlLimits, Tables};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::{self, App};
use crate::clock::Clock;
use crate::config::{Config, SyncPolicy, as_usize};
use crate::database::{Audit, Database, Gateway};
use crate::http::answers::{self, Answers};
use crate::http::{Admission, RequestIds, layers, serve};
use crate::intake::{Entropy, Intake};
use crate::lake::{Care, Caretaker, Control, LakeRelay, chain, network};
use crate::lineage::Lineage;
use crate::metrics::Metrics;
use crate::recent::{FromJournal, RecentConsumer};
use crate::relay::{Progress, Relay};
use crate::runs::{LakeRows, Own, Runs, RunsConsumer, RunsOfOthers};
use crate::sinks::{self, SinkRelays, Targets};

/// How long a start waits for the lake. Where that is too short queries see what is in the journal, and the lake once
/// it is there.
const LAKE_PATIENCE: Duration = Duration::from_secs(2);
/// How long after a start the lake leaves the processor to the readers of a long journal.
const READERS_PATIENCE: Duration = Duration::from_secs(20);

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

/// What is asked of one start, beside the settings.
#[derive(Debug, Clone)]
pub struct Orders {
    /// Positions from here on count under a new epoch: [`runstone_journal::Options::new_epoch_from`].
    pub new_epoch_from: Option<u64>,
    /// Goes on although positions are neither in the lake nor in the journal any more.
    pub accept_missing: bool,
    /// Each change asks to flush to the lake and to look after it, now.
    pub upkeep: watch::Receiver<()>,
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
    /// The settings name tables that cannot be.
    #[error("{0}")]
    Tables(String),
    /// There can be no lake where the settings say.
    #[error("{0}")]
    Lake(String),
    /// A sink, or the gateway's database, cannot be as the settings have it.
    #[error("{0}")]
    Sink(String),
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
    orders: &Orders,
    extra: Router,
    stop: CancellationToken,
    listening: impl FnOnce(SocketAddr),
) -> Result<(), RunError> {
    let failed = Arc::new(AtomicBool::new(false));
    let (journal, recovery) = open_journal(config, &world, orders, &stop, &failed)?;
    let service = Service::start(config, &world, orders, journal)?;
    service.app.metrics.journal.recovered(&recovery);
    let listen = |source| RunError::Listen { address: config.listen.clone(), source };
    let listener = TcpListener::bind(&config.listen).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let (metrics, ids) = (service.app.metrics.http.clone(), RequestIds::new(world.clock, world.entropy));
    let unread = Answers::new(as_usize(config.http.answers_bytes_max), metrics.answers_bytes.clone());
    let held = middleware::from_fn_with_state(unread.clone(), answers::hold);
    let router = api::router(service.app.clone()).merge(extra).layer(held);
    let naming = layers::Naming { ids: ids.clone(), own_body: api::own_body };
    let router = layers::wrap(router, metrics.clone(), naming, &config.http.cors_origins);
    listening(address);
    let served = serve::serve(listener, router, config.serve_options(unread), metrics, ids, stop).await;
    if served.cut > 0 {
        tracing::warn!(requests = served.cut, "cut requests that did not end in time");
    }
    service.stop().await;
    if failed.load(Ordering::Acquire) { Err(RunError::JournalFailed) } else { Ok(()) }
}

fn open_journal(
    config: &Config,
    world: &World,
    orders: &Orders,
    stop: &CancellationToken,
    failed: &Arc<AtomicBool>,
) -> Result<(Arc<Journal>, Recovery), RunError> {
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
    options.new_epoch_from = orders.new_epoch_from;
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
    Ok((Arc::new(journal), recovery))
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
    lake: LakeRelay,
    care: Care,
    runs: Relay,
    others: RunsOfOthers,
    recent: Relay,
    sinks: SinkRelays,
    tasks: JoinSet<()>,
}

impl Service {
    fn start(config: &Config, world: &World, orders: &Orders, journal: Arc<Journal>) -> Result<Self, RunError> {
        let started = Instant::now();
        let (metrics, lineage) = (Metrics::new(), Lineage::of(&journal));
        let recent = Arc::new(Recent::new(RecentOptions { bytes_max: as_usize(config.recent.bytes_max) }));
        let ids_bytes_max = as_usize(config.ids.bytes_max);
        let (clock, entropy) = (Arc::clone(&world.clock), Arc::clone(&world.entropy));
        let intake = Intake::new(Arc::clone(&journal), clock, entropy, metrics.ingest.clone(), ids_bytes_max);
        let lake = LakeRelay::start(config, world, orders, (&journal, &intake), &recent, &metrics.lake);
        let lake = lake.map_err(RunError::Thread)?;
        let control = lake.control();
        recall(&journal, &intake)?;
        // Where the lake is near, what it has need not be read from the journal.
        if let Some(Err(wrong)) = control.wait_first(LAKE_PATIENCE.saturating_sub(started.elapsed())) {
            return Err(RunError::Lake(wrong));
        }
        let rows = LakeRows::new(Arc::clone(&control), Handle::current(), config.lake.retention_days > 0);
        let (path, sources) = (config.data.join("runs"), Arc::new(config.sources.clone()));
        let (runs, consumer, after) = RunsConsumer::open(path, &lineage, journal.durable(), rows.clone(), sources);
        let runs_relay = Relay::start(journal.reader(after), consumer).map_err(RunError::Thread)?;
        let others =
            RunsOfOthers::start(runs.clone(), rows, Own::Journal(Arc::clone(&journal))).map_err(RunError::Thread)?;
        let sql = sql(config, &recent, Arc::new(FromJournal(Arc::clone(&journal))), &runs)?;
        let after = recent.stats().settled.max(lineage.oldest().first - 1);
        let consumer = RecentConsumer { recent: Arc::clone(&recent), lineage };
        let recent_relay = Relay::start(journal.reader(after), consumer).map_err(RunError::Thread)?;
        let mut tasks = JoinSet::new();
        let readers = [recent_relay.progress(), runs_relay.progress()];
        tasks.spawn(let_go(Arc::clone(&control), readers, journal.durable()));
        let asked = Arc::new(Notify::new());
        let caretaker = Caretaker::new(config, Arc::clone(&world.clock), &lake, Arc::clone(&asked));
        let upkeep = caretaker.upkeep();
        tasks.spawn(flush_when_asked(Arc::clone(&control), orders.upkeep.clone(), asked));
        let care = caretaker.start().map_err(RunError::Thread)?;
        let sources = sinks::Sources {
            journal: Arc::clone(&journal),
            lake: Arc::clone(&control),
            clock: Arc::clone(&world.clock),
            entropy: Arc::clone(&world.entropy),
            metrics: metrics.sinks.clone(),
        };
        let targets = Targets::new(config).map_err(|error| RunError::Sink(chain(&error)))?;
        let sinks = sinks::start(config, &sources, &mut tasks)?;
        let gateway = gateway(config, &intake, world)?;
        let app = App {
            intake,
            gateway,
            journal,
            recent,
            sql: Arc::new(sql),
            runs,
            lake: lake.status(),
            sinks: sinks.statuses().into(),
            targets: Arc::new(targets),
            upkeep,
            clock: Arc::clone(&world.clock),
            recent_progress: recent_relay.progress(),
            runs_progress: runs_relay.progress(),
            admission: Admission::new(as_usize(config.http.in_flight_bytes_max), metrics.http.in_flight_bytes.clone()),
            body_limits: config.body_limits(),
            metrics,
        };
        Ok(Self { app, lake, care, runs: runs_relay, others, recent: recent_relay, sinks, tasks })
    }

    async fn stop(self) {
        let Self { app, lake, care, runs, others, recent, sinks, mut tasks } = self;
        tasks.abort_all();
        let handle = Handle::current();
        // Joining threads blocks: not on the threads that still answer.
        let work = tokio::task::spawn_blocking(move || {
            if let Err(error) = app.journal.close() {
                tracing::error!(%error, "close the journal");
            }
            care.stop();
            sinks.stop(&handle);
            lake.stop();
            others.stop();
            let relays = [recent, runs];
            relays.iter().for_each(Relay::stop);
            relays.into_iter().for_each(Relay::join);
        });
        if work.await.is_err() {
            tracing::error!("stopping panicked");
        }
    }
}

fn gateway(config: &Config, intake: &Intake, world: &World) -> Result<Gateway, RunError> {
    let settings = &config.gateway;
    let database = match settings.database_url.as_str() {
        "" => None,
        url => {
            let database = Database::new(url, settings.timeout, settings.rows_max);
            Some(database.map_err(|error| RunError::Sink(chain(&error)))?)
        }
    };
    let audit = Audit::new(intake.clone(), Arc::clone(&world.clock), Arc::clone(&world.entropy));
    Ok(Gateway { database, execute: settings.execute.access(), audit })
}

/// Lets the lake take the processor once readers have caught up with what was in the journal.
async fn let_go(control: Arc<Control>, readers: [Progress; 2], durable: u64) {
    for reader in readers {
        reader.reach(durable, READERS_PATIENCE).await;
    }
    control.go();
}

async fn flush_when_asked(control: Arc<Control>, mut asked: watch::Receiver<()>, upkeep: Arc<Notify>) {
    while asked.changed().await.is_ok() {
        control.flush();
        upkeep.notify_one();
    }
}

fn sql(config: &Config, recent: &Arc<Recent>, older: Arc<FromJournal>, runs: &Runs) -> Result<Sql, RunError> {
    let tables = tables(config).map_err(RunError::Tables)?;
    Sql::with_tables(Arc::clone(recent), older, Arc::new(runs.clone()), tables, sql_limits(config))
        .map_err(RunError::Sql)
}

/// The tables of others that the settings name.
pub(crate) fn tables(config: &Config) -> Result<Tables, String> {
    let specs = config.tables.values().map(|table| table.spec.clone());
    Tables::new(specs.collect(), network(config))
}

pub(crate) fn sql_limits(config: &Config) -> SqlLimits {
    let memory_bytes = as_usize(config.query.memory_bytes_max);
    let defaults = SqlLimits::default();
    SqlLimits {
        memory_bytes,
        // An answer is in memory as rows and as text.
        answer_bytes_max: defaults.answer_bytes_max.min(memory_bytes / 4),
        timeout: config.query.timeout,
        rows_max: as_usize(config.query.rows_max),
        running_max: as_usize(config.query.concurrency_max),
        ..defaults
    }
}

/// Reads the ids and idempotency keys that the journal holds: a repeated delivery must be known before the first
/// request comes.
pub(crate) fn recall(journal: &Journal, intake: &Intake) -> Result<(), RunError> {
    let started = Instant::now();
    let durable = journal.durable();
    let (mut reader, mut known_from) = (journal.reader(0), 1);
    while reader.position() < durable {
        match reader.next() {
            Ok(None) => break,
            Ok(Some(frame)) => match Batch::decode_columns(&frame.payload, ColumnSet::of(&[])) {
                Ok(batch) => intake.remember(&batch, frame.first),
                Err(error) => {
                    tracing::error!(first = frame.first, last = frame.last(), %error, "skip an unreadable frame");
                    known_from = frame.last() + 1;
                }
            },
            Err(error @ ReadError::Quarantined { .. }) => {
                tracing::error!(%error, "skip damaged records");
                reader.skip();
                known_from = reader.position() + 1;
            }
            Err(ReadError::Trimmed { first_available }) => {
                reader.seek(first_available - 1);
                known_from = first_available;
            }
            Err(source) => return Err(RunError::Unreadable { position: reader.position(), source }),
        }
    }
    intake.recalled(known_from);
    let elapsed_seconds = started.elapsed().as_secs_f64();
    tracing::info!(records = durable, elapsed_seconds, "read the journal's ids");
    Ok(())
}
