//! A sync that takes long, and a process that is stopped for a while: clients run out of patience, nothing is acknowledged
//! meanwhile, what waits is bounded, and afterwards everything goes on by itself. Owns the clients that give up and try
//! again; `oracle` judges what is left.

use std::fs;
use std::io::ErrorKind;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle, park_timeout};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::client::{Client, JSON};
use crate::harness::{Server, is_soaked, until, write};
use crate::lake::{large, metric, signal};
use crate::oracle::{self, Batch, Random};
use crate::system_calls::{can_trace, trace};

/// What a client waits for an answer.
const PATIENCE: Duration = Duration::from_millis(700);
/// Between two tries of a client that was refused.
const PAUSE: Duration = Duration::from_millis(30);
/// How soon everything is answered when the trouble is over.
const RECOVERY_DEADLINE: Duration = Duration::from_secs(10);
const CLIENTS: u64 = 24;

/// How long the trouble lasts.
fn trouble() -> Duration {
    if is_soaked() { Duration::from_secs(30) } else { Duration::from_secs(3) }
}

/// What clients met until they were asked to end, and all of theirs was taken.
#[derive(Default)]
struct Met {
    batches: Vec<Batch>,
    timeouts: usize,
    refusals: usize,
    /// When answers of 200 came.
    acknowledged: Vec<Instant>,
}

/// A batch of many bytes whose repetition is told by its id, or by its key.
fn recognised(random: &mut Random) -> Batch {
    let mut batch = large(random);
    if random.below(2) == 0 {
        batch.records[0].shift_remove("id");
        batch.key = Some(random.uuid());
    }
    batch
}

/// A client that gives up soon, and sends the same again until it is taken.
fn send_on(url: &str, mut random: Random, ends: &AtomicBool) -> Met {
    let mut met = Met::default();
    while !ends.load(Ordering::Relaxed) {
        let mut batch = recognised(&mut random);
        let body = serde_json::to_vec(&batch.records).unwrap();
        let key = batch.key.as_deref().map(|key| ("idempotency-key", key));
        let headers: Vec<_> = [JSON].into_iter().chain(key).collect();
        while !batch.acknowledged {
            // Its connection is gone with its patience.
            match Client::patient(url, PATIENCE).post(&headers, &body) {
                Ok(answer) if answer.status == 200 => {
                    met.acknowledged.push(Instant::now());
                    batch.acknowledged = true;
                }
                Ok(answer) => {
                    assert!(matches!(answer.status, 429 | 503), "{answer:?}");
                    assert!(answer.headers.to_ascii_lowercase().contains("retry-after:"), "{answer:?}");
                    met.refusals += 1;
                    park_timeout(PAUSE);
                }
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
                    met.timeouts += 1;
                }
            }
        }
        met.batches.push(batch);
        // What matters is that they wait, not how much there is to read back.
        park_timeout(10 * PAUSE);
    }
    met
}

type Clients<'scope> = Vec<ScopedJoinHandle<'scope, Met>>;

fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    server: &Server,
    random: &mut Random,
    ends: &'scope AtomicBool,
) -> Clients<'scope> {
    let client = |_| {
        let (url, random) = (server.url().to_owned(), Random(random.next()));
        scope.spawn(move || send_on(&url, random, ends))
    };
    (0..CLIENTS).map(client).collect()
}

fn end(clients: Clients<'_>, ends: &AtomicBool) -> Met {
    ends.store(true, Ordering::Relaxed);
    let mut all = Met::default();
    for client in clients {
        let met = client.join().unwrap();
        all.batches.extend(met.batches);
        all.acknowledged.extend(met.acknowledged);
        (all.timeouts, all.refusals) = (all.timeouts + met.timeouts, all.refusals + met.refusals);
    }
    all
}

impl Met {
    /// Nothing was acknowledged between the two.
    fn check_silence(&self, begun: Instant, ended: Instant) {
        let meanwhile = |at: &&Instant| **at > begun && **at < ended;
        assert_eq!(self.acknowledged.iter().filter(meanwhile).count(), 0, "acknowledged without being durable");
        assert!(self.acknowledged.iter().any(|at| *at > ended), "nothing goes on");
    }
}

/// Few bytes may wait: clients meet the bounds soon.
fn small_queues(dir: &TempDir) -> String {
    let yaml = "journal:\n  queue_bytes_max: 1MiB\nhttp:\n  body_bytes_max: 256KiB\n  decoded_bytes_max: 1MiB\n  \
                in_flight_bytes_max: 1MiB\n";
    write(dir.path(), "runstone.yml", yaml).to_str().unwrap().to_owned()
}

/// The next sync of a server takes so long, and the ones after it do not.
fn stall_a_sync(server: &Server, time: Duration) -> Child {
    let writer = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().map(|task| task.unwrap().path());
    let name = |task: &std::path::Path| fs::read_to_string(task.join("comm")).unwrap_or_default();
    let writer = writer.filter(|task| name(task).contains("journal")).map(|task| task.file_name().unwrap().to_owned());
    let writer: Vec<_> = writer.collect();
    let [writer] = writer.as_slice() else { panic!("one thread writes the journal: {writer:?}") };
    trace(writer.to_str().unwrap(), &[], "fdatasync", &format!("delay_enter={}:when=1", time.as_micros()))
}

#[test]
fn a_stalled_sync_fills_the_queues_to_their_bounds_and_acknowledges_nothing() {
    let mut random = Random::seeded("stalled sync");
    if !can_trace() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let server = Server::start_with(&["--config", &small_queues(&dir)]);
    let ends = AtomicBool::new(false);
    let time = trouble();
    let met = std::thread::scope(|scope| {
        let mut tracer = stall_a_sync(&server, time);
        let begun = Instant::now();
        let clients = start(scope, &server, &mut random, &ends);
        let mut held: f64 = 0.0;
        while begun.elapsed() < time - Duration::from_millis(300) {
            held = held.max(metric(&server, "runstone_http_in_flight_bytes"));
            // Reading goes on.
            let asked = Instant::now();
            assert_eq!(Client::new(server.url()).sql("SELECT count(*) FROM logs").unwrap().status, 200);
            assert!(asked.elapsed() < PATIENCE, "a query waited for the disk: {:?}", asked.elapsed());
            park_timeout(PAUSE);
        }
        let ended = Instant::now();
        assert!(0.0 < held && held <= f64::from(1 << 20), "{held} bytes were held");
        until("it goes on", || metric(&server, "runstone_journal_durable_position") > 0.0);
        assert!(ended.elapsed() < RECOVERY_DEADLINE, "it went on after {:?}", ended.elapsed());
        let met = end(clients, &ends);
        tracer.kill().unwrap();
        tracer.wait().unwrap();
        met.check_silence(begun, ended);
        met
    });
    println!("{} batches, {} time-outs, {} refusals", met.batches.len(), met.timeouts, met.refusals);
    assert!(met.timeouts > 0 && met.refusals > 0, "the queues were not full");
    assert_eq!(server.http("GET", "/ready", &[], b"").status, 200);
    oracle::check(server.url(), &met.batches);
    let server = Server::start_in(server.kill(), &[]);
    oracle::check(server.url(), &met.batches);
}

#[test]
fn a_process_that_is_stopped_under_load_acknowledges_nothing_meanwhile_and_goes_on() {
    let mut random = Random::seeded("stopped");
    let server = Server::start();
    let ends = AtomicBool::new(false);
    let met = std::thread::scope(|scope| {
        let clients = start(scope, &server, &mut random, &ends);
        until("there is load", || metric(&server, "runstone_journal_durable_position") > 30.0);
        signal(&server, Signal::STOP);
        let begun = Instant::now();
        while begun.elapsed() < trouble() {
            park_timeout(trouble().saturating_sub(begun.elapsed()));
        }
        let ended = Instant::now();
        signal(&server, Signal::CONT);
        let met = end(clients, &ends);
        assert!(ended.elapsed() < RECOVERY_DEADLINE, "it went on after {:?}", ended.elapsed());
        // What was on its way to a client may take its time.
        met.check_silence(begun + PATIENCE / 5, ended);
        met
    });
    println!("{} batches, {} time-outs, {} refusals", met.batches.len(), met.timeouts, met.refusals);
    assert!(met.timeouts >= met.batches.len().min(10), "nobody ran out of patience");
    oracle::check(server.url(), &met.batches);
    let (code, dir) = server.terminate();
    assert_eq!(code, Some(0));
    oracle::check(Server::start_in(dir, &[]).url(), &met.batches);
}
