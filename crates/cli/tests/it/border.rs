//! The border between memory and the lake, while it moves: flushes every second and more often, compaction, an early trim
//! of the journal, and servers that are killed and start with nothing in memory. Whoever reads sees each position once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Client, JSON};
use crate::harness::{Server, until};
use crate::kills::is_ready;
use crate::lake::{Settings, metric, position, signal};
use crate::oracle::{self, Random, Record};

/// How long each of the servers is read, at least.
const ROUND: Duration = Duration::from_secs(3);
const ROUNDS: usize = 3;
/// Records of a round after which they come one by one: who walks over all of them must come to the end.
const CROWD: u64 = 4_000;
const QUESTION: &str = "SELECT count(*) AS n, count(DISTINCT id) AS ids, min(position) AS low, max(position) AS high, \
                        sum(position) AS sum FROM logs";

/// What the threads of a round share.
struct Round<'a> {
    url: &'a str,
    done: AtomicBool,
    /// The last position that was acknowledged.
    acknowledged: AtomicU64,
    /// Questions, walks and exports that came to their end.
    asked: AtomicU64,
    walks: AtomicU64,
    exports: AtomicU64,
}

impl<'a> Round<'a> {
    fn new(url: &'a str, acknowledged: u64) -> Self {
        let zero = AtomicU64::default;
        let (acknowledged, done) = (AtomicU64::new(acknowledged), AtomicBool::new(false));
        Self { url, done, acknowledged, asked: zero(), walks: zero(), exports: zero() }
    }

    fn was_looked_at(&self) -> bool {
        let enough = |done: &AtomicU64, least| done.load(Ordering::Acquire) >= least;
        enough(&self.asked, 4) && enough(&self.walks, 1) && enough(&self.exports, 1)
    }

    fn goes_on(&self) -> bool {
        !self.done.load(Ordering::Acquire)
    }
}

/// Ends the others also where this one panics: the test is to fail, not to hang.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Sends batches of a few records, one after the other.
fn send(round: &Round<'_>, random: &mut Random) {
    let mut client = Client::new(round.url);
    let crowd = round.acknowledged.load(Ordering::Acquire) + CROWD;
    while round.goes_on() {
        let most = if round.acknowledged.load(Ordering::Acquire) < crowd { 20 } else { 1 };
        let records: Vec<_> = (0..=random.below(most))
            .map(|_| {
                let mut record = oracle::record(random, 9, "walked over");
                record.insert("exception".to_owned(), Value::from("at line ".repeat(40)));
                record
            })
            .collect();
        let answer = client.post(&[JSON], serde_json::to_string(&records).unwrap().as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let last = answer.json()["last_position"].as_u64().unwrap();
        round.acknowledged.fetch_max(last, Ordering::AcqRel);
    }
}

/// Asks for sums: at each moment they are those of all positions up to one.
fn count(round: &Round<'_>, filter: &str) {
    let _ending = Ending(&round.done);
    let (mut client, mut highest) = (Client::new(round.url), 0);
    while round.goes_on() {
        let acknowledged = round.acknowledged.load(Ordering::Acquire);
        let row = oracle::rows(&mut client, &format!("{QUESTION}{filter}")).remove(0);
        let number = |name: &str| row[name].as_u64().unwrap_or(0);
        let high = number("high");
        assert_eq!((number("n"), number("ids"), number("low")), (high, high, u64::from(high > 0)), "{row}");
        assert_eq!(number("sum"), high * (high + 1) / 2, "{row}");
        assert!(high >= acknowledged, "{acknowledged} was acknowledged, {high} is shown");
        assert!(high >= highest, "{highest} was shown before {high}");
        highest = high;
        round.asked.fetch_add(1, Ordering::AcqRel);
    }
}

/// Walks all pages: together they show every position up to the highest one once.
fn walk(round: &Round<'_>, order: &str) {
    let _ending = Ending(&round.done);
    let mut client = Client::new(round.url);
    while round.goes_on() {
        let acknowledged = round.acknowledged.load(Ordering::Acquire);
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let answer = client.get(&format!("/api/v1/logs?order={order}&limit=1000{cursor}")).unwrap();
            assert_eq!(answer.status, 200, "{answer:?}");
            let page = answer.json();
            seen.extend(page["records"].as_array().unwrap().iter().map(|record| record["position"].as_u64().unwrap()));
            match page["next"].as_str() {
                Some(next) if round.goes_on() => cursor = format!("&cursor={next}"),
                // A walk that is cut short has nothing twice; more cannot be said of it.
                Some(_) => {
                    let shown = seen.len();
                    seen.sort_unstable();
                    seen.dedup();
                    assert_eq!(seen.len(), shown, "{order}: a position stands on one page");
                    return;
                }
                None => break,
            }
        }
        seen.sort_unstable();
        let all: Vec<u64> = (1..=seen.len() as u64).collect();
        assert!(seen == all, "{order}: {} positions, not those from 1 on: {:?}", seen.len(), first_wrong(&seen));
        assert!(seen.len() as u64 >= acknowledged, "{acknowledged} was acknowledged, {} are shown", seen.len());
        round.walks.fetch_add(1, Ordering::AcqRel);
    }
}

/// Exports everything: each shows every position up to the highest one once, in the order of its times.
fn export(round: &Round<'_>, order: &str) {
    let _ending = Ending(&round.done);
    let mut client = Client::new(round.url);
    while round.goes_on() {
        let acknowledged = round.acknowledged.load(Ordering::Acquire);
        let answer = client.get(&format!("/api/v1/logs?order={order}&format=ndjson")).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let records: Vec<Record> = answer
            .body
            .split_inclusive(|byte| *byte == b'\n')
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        let mut seen: Vec<u64> = records.iter().map(|record| record["position"].as_u64().unwrap()).collect();
        let mut keys: Vec<(&str, u64)> =
            records.iter().map(|record| record["timestamp"].as_str().unwrap()).zip(seen.iter().copied()).collect();
        if order == "newest" {
            keys.reverse();
        }
        assert!(keys.is_sorted(), "{order}: in the order of their times");
        seen.sort_unstable();
        let all: Vec<u64> = (1..=seen.len() as u64).collect();
        assert!(seen == all, "{order}: {} positions, not those from 1 on: {:?}", seen.len(), first_wrong(&seen));
        assert!(seen.len() as u64 >= acknowledged, "{acknowledged} was acknowledged, {} are shown", seen.len());
        round.exports.fetch_add(1, Ordering::AcqRel);
    }
}

/// The first position that is not where it should be, and its neighbours.
fn first_wrong(seen: &[u64]) -> &[u64] {
    let wrong = (1..).zip(seen).position(|(expected, position)| expected != *position).unwrap_or(0);
    &seen[wrong.saturating_sub(3)..seen.len().min(wrong + 3)]
}

/// Flushes and compacts far more often than the timers do. How many files were merged, and how far the lake has come.
fn move_the_border(server: &Server, round: &Round<'_>) -> (f64, u64) {
    let _ending = Ending(&round.done);
    let begun = Instant::now();
    // However slow the machine is: what nobody looked at shows nothing.
    while (begun.elapsed() < ROUND || !round.was_looked_at()) && round.goes_on() {
        let before = position(server);
        signal(server, Signal::USR1);
        until("the border moves", || position(server) > before || !round.goes_on());
    }
    (metric(server, "runstone_lake_merged_files_total"), position(server))
}

#[test]
fn every_position_is_shown_once_while_the_border_moves_and_memory_is_lost() {
    let mut random = Random::seeded("border");
    let settings = Settings::new(
        "journal:\n  segment_bytes: 1MiB\n  keep_bytes: 0\n  keep_ms: 0\nrecent:\n  bytes_max: 1MiB\n\
         lake:\n  upkeep_interval_ms: 1s\n",
    );
    let mut dir = TempDir::new().unwrap();
    let (mut asked, mut walks, mut exports, mut merged, mut last) = (0, 0, 0, 0.0, 0);
    for _ in 0..ROUNDS {
        let server = settings.start(dir);
        let url = server.url().to_owned();
        let round = Round::new(&url, last);
        std::thread::scope(|scope| {
            let (round, mut own) = (&round, Random(random.next()));
            let sender = scope.spawn(move || send(round, &mut own));
            let counters =
                ["", " WHERE message LIKE 'walked%'"].map(|filter| scope.spawn(move || count(round, filter)));
            let walkers = ["oldest", "newest"].map(|order| scope.spawn(move || walk(round, order)));
            let exporters = ["oldest", "newest"].map(|order| scope.spawn(move || export(round, order)));
            let (files, through) = move_the_border(&server, round);
            sender.join().unwrap();
            counters.into_iter().chain(walkers).chain(exporters).for_each(|reader| reader.join().unwrap());
            merged += files;
            assert!(through > 0, "nothing came to the lake");
        });
        last = round.acknowledged.load(Ordering::Acquire);
        asked += round.asked.load(Ordering::Acquire);
        walks += round.walks.load(Ordering::Acquire);
        exports += round.exports.load(Ordering::Acquire);
        dir = server.kill();
    }
    println!("{last} records, {asked} questions, {walks} walks, {exports} exports, {merged} files merged");
    assert!(merged > 0.0, "nothing was merged");
    let server = settings.start(dir);
    until("it is ready", || is_ready(&server));
    let row = oracle::rows(&mut Client::new(server.url()), QUESTION).remove(0);
    assert!(row["n"] == row["high"] && row["n"].as_u64() >= Some(last), "{row}");
}
