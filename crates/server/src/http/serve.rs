//! The accept loop: who gets a connection, and how all of them end. Owns the listener and the connections' tasks;
//! refuses to know what is served.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use runstone_record::limits;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::http::connections::{Connections, Timeouts};
use crate::http::refuse::refuse;
use crate::http::{Answers, RequestIds, connection, rlimit};
use crate::metrics::HttpMetrics;

/// Connections that are being told that there is no place; more are just closed.
const REFUSALS_MAX: usize = 64;
/// How long to leave the listener alone when the system has no more sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long, once stopping, a client may take to finish sending a request's headers.
const STOPPING_HEADER_TIMEOUT: Duration = Duration::from_secs(1);
/// The sweep runs this many times within the shortest time-out, but not more often or seldom than these.
const SWEEPS_A_TIMEOUT: u32 = 4;
const SWEEP_MIN: Duration = Duration::from_millis(10);
const SWEEP_MAX: Duration = Duration::from_secs(1);

/// What a connection may cost.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// For a new connection's, or a next request's, headers to arrive once begun.
    pub header_timeout: Duration,
    /// Between requests; also for a client that does not take its answer.
    pub idle_timeout: Duration,
    /// Open connections. At the limit the one that has waited longest for its client makes room.
    pub connections_max: usize,
    /// For requests in hand to be answered once stopping.
    pub stop_timeout: Duration,
    /// Bytes of answers that clients have not read yet.
    pub answers: Answers,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_millis(limits::HEADER_TIMEOUT_MS),
            idle_timeout: Duration::from_millis(limits::IDLE_TIMEOUT_MS),
            connections_max: limits::CONNECTIONS_MAX,
            stop_timeout: Duration::from_millis(limits::STOP_TIMEOUT_MS / 2),
            answers: Answers::default(),
        }
    }
}

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// Connections that were cut because they outlived the stop time-out.
    pub cut: usize,
}

/// Serves `router` on `listener` until `stop`; then takes no more connections, lets the requests in hand finish, and
/// returns when the last connection is closed or cut.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    options: ServeOptions,
    metrics: HttpMetrics,
    ids: RequestIds,
    stop: CancellationToken,
) -> Served {
    let server = Server {
        connections_max: rlimit::make_room_for(options.connections_max),
        connections: Connections::new(metrics.clone()),
        refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
        router,
        options,
        metrics,
        ids,
        stop,
    };
    let mut tasks = JoinSet::new();
    server.accept(listener, &mut tasks).await;
    server.drain(tasks).await
}

struct Server {
    router: Router,
    options: ServeOptions,
    connections_max: usize,
    connections: Arc<Connections>,
    refusals: Arc<Semaphore>,
    metrics: HttpMetrics,
    ids: RequestIds,
    stop: CancellationToken,
}

impl Server {
    async fn accept(&self, listener: TcpListener, tasks: &mut JoinSet<()>) {
        let timeouts = Timeouts {
            header: self.options.header_timeout,
            idle: self.options.idle_timeout,
            write: self.options.idle_timeout,
        };
        let mut sweep = sweeps(timeouts.header.min(timeouts.idle));
        let mut starved = false;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        starved = false;
                        self.admit(stream, tasks);
                    }
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) => {
                        if !std::mem::replace(&mut starved, true) {
                            tracing::warn!(%error, "accept connections: pausing");
                        }
                        self.connections.evict_oldest();
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = tasks.join_next() => log_panic(ended),
                _ = sweep.tick() => {
                    self.connections.sweep(&timeouts);
                    if self.options.answers.was_full() {
                        self.connections.evict_slowest_readers();
                    }
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, tasks: &mut JoinSet<()>) {
        // Small answers must not wait for more to say; without it they are only slower.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "set TCP_NODELAY");
        }
        if self.connections.len() >= self.connections_max && !self.connections.evict_oldest() {
            self.metrics.dropped("refused");
            if let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() {
                let id = self.ids.mint();
                tasks.spawn(async move {
                    refuse(stream, &id).await;
                    drop(permit);
                });
            }
            return;
        }
        let (router, ids) = (self.router.clone(), self.ids.clone());
        tasks.spawn(connection::run(stream, router, ids, self.connections.add(), self.stop.clone()));
    }

    async fn drain(self, mut tasks: JoinSet<()>) -> Served {
        let deadline = Instant::now() + self.options.stop_timeout;
        let header = STOPPING_HEADER_TIMEOUT.min(self.options.header_timeout);
        let timeouts = Timeouts { header, idle: header, write: self.options.stop_timeout };
        let mut sweep = sweeps(header);
        let drained = timeout_at(deadline, async {
            loop {
                tokio::select! {
                    ended = tasks.join_next() => match ended {
                        Some(ended) => log_panic(ended),
                        None => return,
                    },
                    _ = sweep.tick() => self.connections.sweep(&timeouts),
                }
            }
        });
        if drained.await.is_ok() {
            return Served { cut: 0 };
        }
        let cut = self.connections.len();
        tracing::warn!(cut, "stop: cut the connections that are still at work");
        tasks.shutdown().await;
        Served { cut }
    }
}

fn sweeps(shortest: Duration) -> tokio::time::Interval {
    let mut sweeps = interval((shortest / SWEEPS_A_TIMEOUT).clamp(SWEEP_MIN, SWEEP_MAX));
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    sweeps
}

/// Errors of the one connection that was about to be accepted: the next one is none the worse for it.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, PermissionDenied};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | PermissionDenied)
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "serve a connection");
    }
}
