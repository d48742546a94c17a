//! Sends a load over keep-alive connections, each with one request under way, and keeps what every request took.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use url::Url;

use crate::records::Load;

/// Loads of more bytes are made while they are sent; smaller ones before, so that making them costs the server nothing.
const MADE_BEFORE_BYTES: u64 = 1 << 30;
const ABOUT_BYTES_A_RECORD: u64 = 400;
/// A server that has no room is asked again after this time, at most so often in a row.
const AGAIN_AFTER: Duration = Duration::from_millis(50);
const AGAIN_MAX: u32 = 1_200;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Pace {
    /// Where records are sent, like http://127.0.0.1:7867/api/v1/logs
    #[arg(long)]
    pub(crate) url: Url,
    /// Connections, each with one request under way
    #[arg(long, default_value_t = 4)]
    pub(crate) connections: u32,
    /// Records a second, over all connections [default: as many as are taken]
    #[arg(long)]
    pub(crate) rate: Option<u32>,
    /// How bodies are compressed [default: not at all]
    #[arg(long)]
    pub(crate) encoding: Option<Encoding>,
    /// Where each acknowledgement is written: a line of seconds since 1970, its last position, and its milliseconds
    #[arg(long)]
    pub(crate) acks: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Encoding {
    Gzip,
    Zstd,
}

impl Pace {
    fn coded(&self, body: Bytes) -> Result<Bytes> {
        Ok(match self.encoding {
            None => body,
            Some(Encoding::Gzip) => {
                let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
                encoder.write_all(&body)?;
                encoder.finish()?.into()
            }
            Some(Encoding::Zstd) => zstd::encode_all(&*body, 1)?.into(),
        })
    }

    fn coding(&self) -> &'static str {
        match self.encoding {
            None => "identity",
            Some(Encoding::Gzip) => "gzip",
            Some(Encoding::Zstd) => "zstd",
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    records: u64,
    bytes: u64,
    requests: usize,
    seconds: f64,
    records_per_second: f64,
    requests_per_second: f64,
    latency_ms: Latency,
    statuses: BTreeMap<u16, u64>,
    sample_run: String,
}

/// From the first byte sent to the last one read, of the requests that were taken.
#[derive(Debug, Serialize)]
struct Latency {
    p50: f64,
    p99: f64,
    max: f64,
}

/// When a request was answered, counted from the start, and the last of its positions.
struct Ack {
    after: Duration,
    position: u64,
    latency: Duration,
}

#[derive(Deserialize)]
struct Taken {
    last_position: u64,
}

#[derive(Default)]
struct Seen {
    latencies: Vec<Duration>,
    acks: Vec<Ack>,
    statuses: BTreeMap<u16, u64>,
    bytes: u64,
}

struct Shared {
    load: Load,
    made: Vec<Bytes>,
    next: AtomicU64,
    pace: Pace,
    started: Instant,
}

pub(crate) async fn drive(load: Load, pace: Pace) -> Result<Outcome> {
    ensure!(pace.connections > 0, "give --connections of at least 1");
    let made = if load.records() * ABOUT_BYTES_A_RECORD <= MADE_BEFORE_BYTES {
        (0..load.batches()).map(|n| pace.coded(load.batch(n)?)).collect::<Result<_>>()?
    } else {
        Vec::new()
    };
    let connections = pace.connections;
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(connect(&pace.url).await?);
    }
    #[expect(clippy::disallowed_methods, reason = "whoever reads the acknowledgements has no other clock in common")]
    let began = SystemTime::now();
    let shared = Arc::new(Shared { load, made, next: AtomicU64::new(0), pace, started: Instant::now() });
    let tasks: Vec<_> = clients.into_iter().map(|client| tokio::spawn(send_all(Arc::clone(&shared), client))).collect();
    let mut seen = Seen::default();
    for task in tasks {
        let one = task.await??;
        seen.latencies.extend(one.latencies);
        seen.acks.extend(one.acks);
        seen.bytes += one.bytes;
        for (status, count) in one.statuses {
            *seen.statuses.entry(status).or_default() += count;
        }
    }
    if let Some(path) = &shared.pace.acks {
        write_acks(path, began, &mut seen.acks)?;
    }
    Ok(outcome(&shared, seen))
}

fn write_acks(path: &Path, began: SystemTime, acks: &mut [Ack]) -> Result<()> {
    acks.sort_unstable_by_key(|ack| ack.after);
    let began = began.duration_since(UNIX_EPOCH)?;
    let mut lines = String::new();
    for Ack { after, position, latency } in acks {
        let (at, latency_ms) = ((began + *after).as_secs_f64(), latency.as_secs_f64() * 1e3);
        lines.push_str(&format!("{at:.6} {position} {latency_ms:.3}\n"));
    }
    std::fs::write(path, lines).with_context(|| format!("write {}", path.display()))
}

fn outcome(shared: &Shared, mut seen: Seen) -> Outcome {
    let seconds = shared.started.elapsed().as_secs_f64();
    seen.latencies.sort_unstable();
    let requests = seen.latencies.len();
    let percentile = |of: usize| {
        let latency = seen.latencies.get((requests * of / 100).min(requests.saturating_sub(1)));
        latency.map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    };
    let records = shared.load.records();
    Outcome {
        records,
        bytes: seen.bytes,
        requests,
        seconds,
        records_per_second: records as f64 / seconds,
        requests_per_second: requests as f64 / seconds,
        latency_ms: Latency { p50: percentile(50), p99: percentile(99), max: percentile(100) },
        statuses: seen.statuses,
        sample_run: shared.load.sample_run().to_owned(),
    }
}

async fn connect(url: &Url) -> Result<SendRequest<Full<Bytes>>> {
    let host = url.host_str().context("give --url a host")?;
    let port = url.port_or_known_default().context("give --url a port")?;
    let stream = TcpStream::connect((host, port)).await.with_context(|| format!("connect to {host}:{port}"))?;
    stream.set_nodelay(true)?;
    let (client, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn send_all(shared: Arc<Shared>, mut client: SendRequest<Full<Bytes>>) -> Result<Seen> {
    let mut seen = Seen::default();
    let host = shared.pace.url.authority().to_owned();
    loop {
        let n = shared.next.fetch_add(1, Ordering::Relaxed);
        if n >= shared.load.batches() {
            return Ok(seen);
        }
        let body = match shared.made.get(usize::try_from(n)?) {
            Some(body) => body.clone(),
            None => shared.pace.coded(shared.load.batch(n)?)?,
        };
        if let Some(rate) = shared.pace.rate {
            let due = Duration::from_secs_f64(n as f64 * shared.load.len(0) as f64 / f64::from(rate));
            tokio::time::sleep_until((shared.started + due).into()).await;
        }
        // Who is refused waits for its answer until it is taken.
        let sent = Instant::now();
        for tries in 0.. {
            let request = Request::post(shared.pace.url.path())
                .header(header::HOST, &host)
                .header(header::CONTENT_TYPE, shared.load.content_type())
                .header(header::CONTENT_ENCODING, shared.pace.coding())
                .body(Full::new(body.clone()))?;
            client.ready().await?;
            let answer = client.send_request(request).await?;
            let status = answer.status().as_u16();
            let text = answer.into_body().collect().await?.to_bytes();
            *seen.statuses.entry(status).or_default() += 1;
            match status {
                200 => {
                    let latency = sent.elapsed();
                    seen.latencies.push(latency);
                    if shared.pace.acks.is_some() {
                        let after = shared.started.elapsed();
                        let Taken { last_position: position } = serde_json::from_slice(&text)?;
                        seen.acks.push(Ack { after, position, latency });
                    }
                    seen.bytes += body.len() as u64;
                    break;
                }
                429 | 503 if tries < AGAIN_MAX => tokio::time::sleep(AGAIN_AFTER).await,
                _ => bail!("the server answered {status}: {}", String::from_utf8_lossy(&text)),
            }
        }
    }
}
