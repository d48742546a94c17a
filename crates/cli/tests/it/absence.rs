//! PostgreSQL away for a minute, or for the hour that `make soak` asks for, while 5,000 records come each second and the server is
//! killed. Owns that load and its judgement, which needs no memory of what was sent: a record's number says all of it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{park_timeout, scope};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Client, NDJSON};
use crate::cluster::Cluster;
use crate::fed::{FORGETFUL, caught_up, compare_where, fed, sink};
use crate::harness::{Server, say, until};
use crate::kills::is_ready;
use crate::lake::{metric, ready};
use crate::oracle::{self, Random, Record};

const RATE: u64 = 5_000;
/// Records of a request.
const BATCH: u64 = 50;
const SENDERS: u64 = 4;
/// How long PostgreSQL is away, unless `make soak` says otherwise.
const AWAY_S: u64 = 60;
/// For this part of that time it is there at first.
const THERE: u32 = 12;
/// Between two tries at a server that was killed.
const PAUSE: Duration = Duration::from_millis(20);
/// Then a server is there, or the test has failed.
const TRIES_AT_THE_END: u32 = 1_000;
/// Records of a run.
const RUN: u64 = 1_000;
/// Records that are compared together.
const WINDOW: u64 = 20_000;
/// Between the times of two records.
const APART_US: u64 = 200;

/// How long PostgreSQL is to be away.
#[expect(clippy::disallowed_methods, reason = "how long a test takes is no setting of the server")]
fn away() -> Duration {
    Duration::from_secs(std::env::var("RUNSTONE_AWAY_S").map_or(AWAY_S, |seconds| seconds.parse().unwrap()))
}

fn moment(number: u64) -> String {
    let micros = number * APART_US;
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    format!("2026-03-01T{:02}:{:02}:{:02}.{micros:06}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// The record with a number, as it comes back. Those of another seed have other ids.
fn record(seed: u64, number: u64) -> Record {
    let kind = match number % RUN {
        0 => "start",
        last if last == RUN - 1 => "success",
        _ => "status",
    };
    let record = json!({
        "id": format!("{:08x}-0000-4000-8000-{number:012x}", seed >> 32),
        "timestamp": moment(number),
        "source_system": "shop",
        "run_id": format!("run-{}", number / RUN),
        "type": kind,
        "level": "INFO",
        "stage": "load",
        "message": format!("record {number}: {}", "loaded what there was ".repeat(6)),
        "row_count": number,
        "metadata": {"number": number, "table": "orders", "text": "é\n\"🚀\""},
    });
    record.as_object().unwrap().clone()
}

/// What the senders share.
struct Load {
    seed: u64,
    /// Where the server is.
    url: Mutex<String>,
    begun: Instant,
    /// The next batch that nobody sends yet.
    next: AtomicU64,
    ends: AtomicBool,
    /// When each batch was sent, and how long its acknowledgement took.
    acks: Mutex<Vec<(Instant, Duration)>>,
}

impl Load {
    fn new(seed: u64, url: &str) -> Load {
        Load {
            seed,
            url: Mutex::new(url.to_owned()),
            begun: Instant::now(),
            next: AtomicU64::new(0),
            ends: AtomicBool::new(false),
            acks: Mutex::new(Vec::new()),
        }
    }

    /// Sends a batch whenever one is due, each until it is acknowledged.
    fn send(&self) {
        let mut client = Client::new(&self.url.lock().unwrap());
        while !self.ends.load(Ordering::Relaxed) {
            let batch = self.next.fetch_add(1, Ordering::Relaxed);
            let due = self.begun + Duration::from_micros(batch * BATCH * 1_000_000 / RATE);
            // Nobody unparks it.
            park_timeout(due.saturating_duration_since(Instant::now()));
            let records = (batch * BATCH..(batch + 1) * BATCH).map(|number| record(self.seed, number));
            let body: String = records.map(|record| format!("{}\n", Value::Object(record))).collect();
            let (sent, mut tries_left) = (Instant::now(), TRIES_AT_THE_END);
            while !self.is_taken(&mut client, body.as_bytes()) {
                park_timeout(PAUSE);
                if self.ends.load(Ordering::Relaxed) {
                    tries_left -= 1;
                    assert!(tries_left > 0, "no server takes batch {batch}");
                }
                client = Client::new(&self.url.lock().unwrap());
            }
            self.acks.lock().unwrap().push((sent, sent.elapsed()));
        }
    }

    /// The server may be killed at any moment; nothing else is an excuse.
    fn is_taken(&self, client: &mut Client, body: &[u8]) -> bool {
        let Ok(answer) = client.post(&[NDJSON], body) else { return false };
        let said = answer.json();
        assert_eq!((answer.status, said["accepted"].as_u64()), (200, Some(BATCH)), "{answer:?}");
        true
    }

    /// How long the acknowledgements between two moments took: the median and the 99th percentile.
    fn percentiles(&self, first: Instant, last: Instant) -> String {
        let acks = self.acks.lock().unwrap();
        let mut took: Vec<Duration> =
            acks.iter().filter(|(at, _)| (first..last).contains(at)).map(|ack| ack.1).collect();
        took.sort_unstable();
        assert!(!took.is_empty(), "nothing was acknowledged");
        format!("{:?} · {:?} of {}", took[took.len() / 2], took[took.len() * 99 / 100], took.len())
    }
}

/// Ends a load, also where the test fails: its senders would go on for ever.
struct End<'l>(&'l Load);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.ends.store(true, Ordering::Relaxed);
    }
}

/// A server that was killed, on what it left.
fn killed(server: Server, start: impl FnOnce(TempDir) -> Server) -> Server {
    let server = start(server.kill());
    until("it is ready", || is_ready(&server));
    server
}

/// The server and the table have each record, once and unchanged, and nothing else.
fn check(server: &Server, cluster: &Cluster, seed: u64, records: u64) {
    let mut client = Client::new(server.url());
    let mut is_taken = vec![false; usize::try_from(records).unwrap()];
    for first in (0..records).step_by(usize::try_from(WINDOW).unwrap()) {
        let last = records.min(first + WINDOW);
        let (since, until) = (moment(first), moment(last));
        let path = format!("/api/v1/logs?format=ndjson&order=oldest&since={since}&until={until}");
        let answer = client.get(&path).unwrap();
        let lines = std::str::from_utf8(&answer.body).unwrap().lines();
        let read: Vec<Record> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read.len() as u64, last - first, "{path}");
        for (number, read) in (first..last).zip(&read) {
            let mut content = read.clone();
            for stamped in ["journal", "ingested_at"] {
                assert!(content.shift_remove(stamped).is_some(), "{stamped} is missing: {read:?}");
            }
            let position = content.shift_remove("position").and_then(|position| position.as_u64()).unwrap();
            let place = &mut is_taken[usize::try_from(position - 1).unwrap()];
            assert!(!std::mem::replace(place, true), "two at position {position}");
            assert_eq!(content, record(seed, number));
        }
        compare_where(cluster, &format!("timestamp >= '{since}' AND timestamp < '{until}'"), &read);
    }
    let counted = oracle::rows(&mut client, "SELECT count(*) AS n FROM logs");
    assert_eq!(counted, [json!({ "n": records })]);
    assert_eq!(cluster.ask("SELECT count(*) FROM shop_logs"), records.to_string());
    let runs = oracle::rows(&mut client, "SELECT count(*) AS n FROM runs WHERE state = 'succeeded' AND records = 1000");
    assert_eq!(runs, [json!({ "n": records / RUN })]);
}

#[test]
fn while_postgresql_is_away_nothing_else_waits_and_then_it_gets_what_it_missed_from_the_lake() {
    let (seed, time) = (Random::seeded("away").next(), away());
    let cluster = Cluster::start();
    let settings = fed(&cluster, FORGETFUL);
    let server = settings.start(TempDir::new().unwrap());
    caught_up(&server, "postgres");
    let load = Load::new(seed, server.url());
    let (server, left) = scope(|scope| {
        let _end = End(&load);
        for _ in 0..SENDERS {
            scope.spawn(|| load.send());
        }
        park_timeout(time / THERE);
        let down = Instant::now();
        cluster.down();
        until("it says so", || sink(&server, "postgres").0 == "degraded");
        let body = ready(&server).json();
        assert_eq!(body["status"], "degraded", "{body}");
        assert!(body["reason"].as_str().unwrap().contains("postgres"), "{body}");
        park_timeout((down + time).saturating_duration_since(Instant::now()));
        say(format_args!("acks while it is there: {}", load.percentiles(load.begun, down)));
        say(format_args!("acks while it is away: {}", load.percentiles(down, Instant::now())));
        // The one that comes next does not know it: only the table does.
        let left = sink(&server, "postgres").1;
        let server = killed(server, |dir| settings.start(dir));
        server.url().clone_into(&mut load.url.lock().unwrap());
        (server, left)
    });
    let records = load.next.load(Ordering::Relaxed) * BATCH;
    let rate = records as f64 / load.begun.elapsed().as_secs_f64();
    say(format_args!("{rate:.0} records a second"));
    // Half of it on a machine that has much else to do; a server that waits for PostgreSQL takes next to nothing.
    assert!(rate > RATE as f64 / 2.0, "{rate} records a second");
    let durable = ready(&server).json()["durable_position"].as_u64();
    assert_eq!(durable, Some(records), "a batch that was sent again is there once");
    let first = || metric(&server, "runstone_journal_first_position");
    until("what it misses first is in the lake alone", || first() > (left + 1) as f64);
    cluster.up();
    let begun = Instant::now();
    while sink(&server, "postgres").1 < records {
        let before = sink(&server, "postgres").1;
        until("it goes on", || sink(&server, "postgres").1 > before);
    }
    let rate = (records - left) as f64 / begun.elapsed().as_secs_f64();
    say(format_args!("{records} records, of which it missed all after {left}; they came at {rate:.0} a second"));
    caught_up(&server, "postgres");
    check(&server, &cluster, seed, records);
}
