//! SIGKILL under load, again and again, on one data directory. Owns the load; `oracle` judges what is left.

use std::io::Write;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Client, GZIP, JSON, NDJSON};
use crate::harness::{Answer, Server, runstone, stderr, until};
use crate::oracle::{self, Batch, Random};

const KILLS: usize = 100;
const SENDERS: u64 = 4;
const RUNS: u64 = 40;
const READY_DEADLINE: Duration = Duration::from_secs(5);

/// A client with much to say, that remembers what it said and what came back.
pub(crate) struct Sender {
    number: u64,
    made: u64,
    random: Random,
    batches: Vec<Batch>,
    /// Places in `batches` of those without an answer, to be sent again.
    unanswered: Vec<usize>,
    repetitions: u64,
    /// Between an answer and the next batch.
    pause: Duration,
}

impl Sender {
    pub(crate) fn new(number: u64, random: &mut Random) -> Sender {
        let random = Random(random.next());
        Sender {
            number,
            made: 0,
            random,
            batches: Vec::new(),
            unanswered: Vec::new(),
            repetitions: 0,
            pause: Duration::ZERO,
        }
    }

    /// One that does not send as fast as it can: for loads that last long and are read back.
    pub(crate) fn paced(number: u64, random: &mut Random, pause: Duration) -> Sender {
        Sender { pause, ..Sender::new(number, random) }
    }

    fn make(&mut self) -> usize {
        let (ids, key) = *self.random.pick(&[(true, false), (true, true), (false, true), (false, false)]);
        let mut records = Vec::new();
        for _ in 0..=self.random.below(10) {
            self.made += 1;
            let token = format!("sender {} record {}", self.number, self.made);
            let mut record = oracle::record(&mut self.random, RUNS, &token);
            if ids {
                record.insert("id".to_owned(), Value::from(self.random.uuid()));
            }
            records.push(record);
        }
        let key = key.then(|| format!("sender-{}-{}", self.number, self.made));
        self.batches.push(Batch { records, key, acknowledged: false, positions: None });
        self.batches.len() - 1
    }

    /// What to send next: mostly something new, now and then what was acknowledged already.
    fn next(&mut self) -> usize {
        if let Some(place) = self.unanswered.pop() {
            return place;
        }
        if self.random.below(20) == 0 && !self.batches.is_empty() {
            let place = self.random.index(self.batches.len());
            if self.batches[place].acknowledged && self.batches[place].may_be_resent() {
                return place;
            }
        }
        self.make()
    }

    /// Sends until the server is gone, or says something that it should not.
    fn load(&mut self, url: &str, wrong: &SyncSender<String>) {
        let mut client = Client::new(url);
        loop {
            let place = self.next();
            let end = match self.send(&mut client, place) {
                Ok(answer) if answer.status != 503 => {
                    self.take(place, &answer);
                    // Nobody unparks it.
                    std::thread::park_timeout(self.pause);
                    continue;
                }
                Ok(answer) => format!("{answer:?}"),
                Err(error) => error.to_string(),
            };
            let batch = &self.batches[place];
            if batch.may_be_resent() && !batch.acknowledged {
                self.unanswered.push(place);
            }
            // Where this comes before the end, it is news.
            let _ = wrong.try_send(format!("sender {}: {end}", self.number));
            return;
        }
    }

    fn send(&mut self, client: &mut Client, place: usize) -> std::io::Result<Answer> {
        let batch = &self.batches[place];
        let lines = place.is_multiple_of(3);
        let mut body = if lines {
            batch.records.iter().map(|record| format!("{}\n", Value::Object(record.clone()))).collect()
        } else {
            serde_json::to_string(&batch.records).unwrap()
        }
        .into_bytes();
        let mut headers = vec![if lines { NDJSON } else { JSON }];
        if let Some(key) = &batch.key {
            headers.push(("idempotency-key", key));
        }
        if place.is_multiple_of(5) {
            headers.push(GZIP);
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&body)?;
            body = encoder.finish()?;
        }
        client.post(&headers, &body)
    }

    fn take(&mut self, place: usize, answer: &Answer) {
        let batch = &mut self.batches[place];
        assert_eq!(answer.status, 200, "{answer:?}");
        let body = answer.json();
        let (count, duplicates) = (batch.records.len() as u64, body["duplicates"].as_u64().unwrap());
        assert_eq!((body["accepted"].as_u64(), body["rejected"].as_u64()), (Some(count), Some(0)), "{body}");
        let replayed = answer.headers.contains("idempotency-replayed: true");
        assert!(duplicates == 0 || duplicates == count, "a batch is one frame: {body}");
        if replayed || duplicates > 0 {
            self.repetitions += 1;
        }
        if duplicates == 0 {
            batch.positions = body["first_position"].as_u64().zip(body["last_position"].as_u64());
            assert!(batch.positions.is_some(), "{body}");
        }
        batch.acknowledged = true;
    }

    fn settle(&mut self, url: &str) {
        let mut client = Client::new(url);
        while let Some(place) = self.unanswered.pop() {
            let answer = self.send(&mut client, place).unwrap();
            self.take(place, &answer);
        }
    }
}

/// Loads a server from all sides until `end` ends it; a sender that stops before fails the test.
pub(crate) fn load<T>(server: Server, senders: &mut [Sender], time: Duration, end: impl FnOnce(Server) -> T) -> T {
    std::thread::scope(|scope| {
        let (wrong, wrongs) = sync_channel(1);
        let url = server.url().to_owned();
        for sender in senders {
            let (wrong, url) = (wrong.clone(), url.clone());
            scope.spawn(move || sender.load(&url, &wrong));
        }
        let early = wrongs.recv_timeout(time);
        assert_eq!(early, Err(RecvTimeoutError::Timeout), "before the end: {}", server.printed());
        end(server)
    })
}

/// Everything that was sent, once all that may be sent again has an answer.
pub(crate) fn settle(senders: &mut [Sender], server: &Server) -> Vec<Batch> {
    senders.iter_mut().for_each(|sender| sender.settle(server.url()));
    senders.iter().flat_map(|sender| sender.batches.clone()).collect()
}

pub(crate) fn is_ready(server: &Server) -> bool {
    let answer = server.http("GET", "/ready", &[], b"");
    let body = answer.json();
    answer.status == 200 && body["durable_position"] == body["readable_position"]
}

pub(crate) fn torn_tails(server: &Server) -> usize {
    server.printed().matches("unacknowledged bytes").count()
}

/// Starts on what the last one left.
fn restart(dir: TempDir) -> (Server, Duration) {
    let begun = Instant::now();
    let server = Server::start_in(dir, &[]);
    until("it is ready", || is_ready(&server));
    (server, begun.elapsed())
}

#[test]
fn a_hundred_kills_under_load_lose_nothing_and_double_nothing() {
    let mut random = Random::seeded("kills");
    let mut senders: Vec<Sender> = (0..SENDERS).map(|number| Sender::new(number, &mut random)).collect();
    let (mut slowest, mut torn) = (Duration::ZERO, 0);
    let mut dir = TempDir::new().unwrap();
    for kill in 0..KILLS {
        let (server, ready) = restart(dir);
        assert!(ready < READY_DEADLINE, "start {kill} took {ready:?}");
        assert!(torn_tails(&server) <= 1, "start {kill}: {}", server.printed());
        slowest = slowest.max(ready);
        torn += torn_tails(&server);
        dir = load(server, &mut senders, Duration::from_millis(20 + random.below(280)), Server::kill);
    }
    let (server, _) = restart(dir);
    let batches = settle(&mut senders, &server);
    let read = oracle::check(server.url(), &batches);
    let acknowledged = batches.iter().filter(|batch| batch.acknowledged).count();
    let repetitions: u64 = senders.iter().map(|sender| sender.repetitions).sum();
    println!(
        "{} records; of {} batches {acknowledged} acknowledged; {repetitions} repetitions; {torn} torn tails; the \
         slowest start {slowest:?}",
        read.len(),
        batches.len()
    );
    assert!(acknowledged > KILLS && repetitions > 0, "the load was no load");
    let (code, dir) = server.terminate();
    assert_eq!(code, Some(0));
    let verify = runstone().args(["verify", "--data"]).arg(dir.path().join("data")).output().unwrap();
    assert_eq!(verify.status.code(), Some(0), "{}", stderr(&verify));
    // And the same from the table of runs that a graceful stop leaves.
    let (server, _) = restart(dir);
    let mut client = Client::new(server.url());
    oracle::check_runs(&mut client, &read);
    oracle::check_sql(&mut client, &read);
}
