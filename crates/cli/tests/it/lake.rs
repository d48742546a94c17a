//! The lake behind a running server: what is acknowledged gets there once, whatever dies, goes away or comes back.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Client, JSON};
use crate::damage::segments;
use crate::harness::{Answer, Server, runstone, stderr, until, write};
use crate::kills::{self, Sender, is_ready};
use crate::oracle::{self, Batch, Random};
use crate::process::{copy, fill};

/// A settings file, in a directory of its own.
pub(crate) struct Settings {
    _dir: TempDir,
    pub(crate) path: PathBuf,
    /// Variables of the server's environment.
    env: Vec<(&'static str, String)>,
}

impl Settings {
    /// Flushes every second, and what `yaml` says.
    pub(crate) fn new(yaml: &str) -> Settings {
        let dir = TempDir::new().unwrap();
        let interval = if yaml.contains("flush_interval_ms") { "" } else { "  flush_interval_ms: 1s\n" };
        let lake = if yaml.contains("lake:\n") {
            yaml.replace("lake:\n", &format!("lake:\n{interval}"))
        } else {
            format!("{yaml}lake:\n{interval}")
        };
        let path = write(dir.path(), "runstone.yml", lake);
        Settings { _dir: dir, path, env: Vec::new() }
    }

    /// The same with the lake at a place outside the data directory.
    pub(crate) fn at(lake: &Path, yaml: &str) -> Settings {
        Settings::new(&format!("{yaml}lake:\n  location: {:?}\n", lake.display().to_string()))
    }

    /// The same with variables of the server's environment.
    pub(crate) fn among(mut self, env: Vec<(&'static str, String)>) -> Settings {
        self.env = env;
        self
    }

    pub(crate) fn start(&self, dir: TempDir) -> Server {
        self.start_with(dir, &[])
    }

    pub(crate) fn start_with(&self, dir: TempDir, flags: &[&str]) -> Server {
        let flags: Vec<&str> = ["--config", self.path.to_str().unwrap()].iter().chain(flags).copied().collect();
        Server::start_among(dir, "127.0.0.1:0", &flags, &self.env)
    }
}

pub(crate) fn ready(server: &Server) -> Answer {
    server.http("GET", "/ready", &[], b"")
}

/// Up to where this server's records are in the lake.
pub(crate) fn position(server: &Server) -> u64 {
    ready(server).json()["lake"]["position"].as_u64().unwrap()
}

pub(crate) fn in_the_lake(server: &Server, last: u64) {
    until("it is in the lake", || position(server) >= last);
}

pub(crate) fn metric(server: &Server, name: &str) -> f64 {
    let text = String::from_utf8(server.http("GET", "/metrics", &[], b"").body).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}

pub(crate) fn signal(server: &Server, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap(), signal).unwrap();
}

/// How many records queries see, of how many ids, by journal.
pub(crate) fn counts(server: &Server) -> Vec<(String, u64)> {
    let all = server.query("SELECT count(*) AS n, count(DISTINCT id) AS ids FROM logs");
    assert_eq!(all[0]["n"], all[0]["ids"], "each id once");
    let rows = server.query("SELECT journal, count(*) AS n FROM logs GROUP BY journal ORDER BY journal");
    let count = |row: &Value| (row["journal"].as_str().unwrap().to_owned(), row["n"].as_u64().unwrap());
    rows.iter().map(count).collect()
}

pub(crate) fn journal(server: &Server) -> String {
    ready(server).json()["journal"].as_str().unwrap().to_owned()
}

/// A batch of many bytes: a few fill a segment.
pub(crate) fn large(random: &mut Random) -> Batch {
    let token = format!("large {}", random.next());
    let mut record = oracle::record(random, 5, &token);
    record.insert("id".to_owned(), Value::from(random.uuid()));
    let noise: String = (0..6_000).map(|_| format!("{:016x}", random.next())).collect();
    record.insert("exception".to_owned(), Value::from(noise));
    Batch { records: vec![record], key: None, acknowledged: false, positions: None }
}

pub(crate) fn send(client: &mut Client, batch: &mut Batch) -> Answer {
    let answer = client.post(&[JSON], Value::from(batch.records[0].clone()).to_string().as_bytes()).unwrap();
    batch.acknowledged |= answer.status == 200;
    answer
}

pub(crate) fn send_large(server: &Server, random: &mut Random, count: usize) -> Vec<Batch> {
    let mut client = Client::new(server.url());
    let mut batches: Vec<Batch> = (0..count).map(|_| large(random)).collect();
    batches.iter_mut().for_each(|batch| assert_eq!(send(&mut client, batch).status, 200));
    batches
}

/// The runs are those of the records that queries see.
pub(crate) fn runs_agree(server: &Server) {
    let mut client = Client::new(server.url());
    let read = oracle::walk(&mut client, "order=oldest");
    until("its runs are those of the records", || oracle::runs(&mut Client::new(server.url())) == oracle::fold(&read));
}

#[test]
fn records_are_in_the_lake_soon_and_leave_memory() {
    let mut random = Random::seeded("lake");
    let settings = Settings::new("");
    let server = settings.start(TempDir::new().unwrap());
    let mut batches = fill(&server, &mut random, 20);
    in_the_lake(&server, 20);
    assert_eq!(metric(&server, "runstone_recent_records"), 0.0);
    assert_eq!(metric(&server, "runstone_lake_records"), 20.0);
    assert!(server.data().join("lake/_delta_log/00000000000000000001.json").exists());
    oracle::check(server.url(), &batches);
    // Some there, some not yet, and again after a kill.
    batches.extend(fill(&server, &mut random, 7));
    oracle::check(server.url(), &batches);
    let server = settings.start(server.kill());
    oracle::check(server.url(), &batches);
    in_the_lake(&server, 27);
    oracle::check(server.url(), &batches);
}

#[test]
fn a_stop_brings_everything_to_the_lake_and_a_signal_does() {
    let mut random = Random::seeded("lake at a stop");
    let settings = Settings::new("lake:\n  flush_interval_ms: 1h\n");
    let server = settings.start(TempDir::new().unwrap());
    let mut batches = fill(&server, &mut random, 5);
    until("the relay has read them", || metric(&server, "runstone_lake_lag_seconds") > 0.0);
    assert_eq!(position(&server), 0);
    signal(&server, Signal::USR1);
    in_the_lake(&server, 5);
    batches.extend(fill(&server, &mut random, 5));
    let (code, dir) = server.terminate();
    assert_eq!(code, Some(0));
    let server = settings.start(dir);
    assert_eq!(position(&server), 10, "{}", server.printed());
    oracle::check(server.url(), &batches);
}

#[test]
fn kills_under_load_bring_each_record_to_the_lake_once() {
    let mut random = Random::seeded("lake kills");
    let settings = Settings::new("journal:\n  segment_bytes: 1MiB\n");
    // One that waits for each answer: reading them all back takes long in a dev build.
    let mut senders = [Sender::new(0, &mut random)];
    let mut dir = TempDir::new().unwrap();
    for _ in 0..8 {
        let server = settings.start(dir);
        dir = kills::load(server, &mut senders, Duration::from_millis(300 + random.below(1_500)), Server::kill);
    }
    let server = settings.start(dir);
    let batches = kills::settle(&mut senders, &server);
    let last = ready(&server).json()["durable_position"].as_u64().unwrap();
    in_the_lake(&server, last);
    assert_eq!(metric(&server, "runstone_recent_records"), 0.0, "all of it comes from the lake now");
    assert_eq!(oracle::check(server.url(), &batches).len() as u64, last);
    assert_eq!(metric(&server, "runstone_lake_records"), last as f64);
}

#[test]
fn the_journal_is_trimmed_and_runs_come_back_from_the_lake() {
    let mut random = Random::seeded("lake runs");
    let trimming = "journal:\n  segment_bytes: 1MiB\n  keep_bytes: 0\n  keep_ms: 0\nquery:\n  timeout_ms: 1s\n";
    let settings = Settings::new(trimming);
    let server = settings.start(TempDir::new().unwrap());
    let mut batches = send_large(&server, &mut random, 60);
    until("the journal is trimmed", || metric(&server, "runstone_journal_first_position") > 20.0);
    // Queries may take longer than a second in a slow build: the rest without that limit.
    let (_, dir) = server.terminate();
    let settings = Settings::new("journal:\n  segment_bytes: 1MiB\n");
    let server = settings.start(dir);
    let read = oracle::check(server.url(), &batches);
    let (_, mut dir) = server.terminate();
    let runs = |dir: &TempDir| dir.path().join("data/runs");
    for damage in [|path: &Path| fs::remove_file(path).unwrap(), |path: &Path| fs::write(path, "damaged").unwrap()] {
        damage(&runs(&dir));
        let server = settings.start(dir);
        until("it is ready", || is_ready(&server));
        runs_agree(&server);
        batches.extend(fill(&server, &mut random, 3));
        runs_agree(&server);
        // It is saved again.
        (_, dir) = server.terminate();
    }
    // A table that was saved long ago: what was trimmed since comes from the lake.
    let saved = fs::read(runs(&dir)).unwrap();
    let trimming = Settings::new(trimming);
    let server = trimming.start(dir);
    let first = metric(&server, "runstone_journal_first_position");
    batches.extend(send_large(&server, &mut random, 60));
    until("the journal is trimmed again", || metric(&server, "runstone_journal_first_position") > first + 30.0);
    let dir = server.kill();
    fs::write(runs(&dir), saved).unwrap();
    let server = settings.start(dir);
    until("it is ready", || is_ready(&server));
    oracle::check(server.url(), &batches);
    assert!(read.len() < batches.len());
}

#[test]
fn while_the_lake_is_away_everything_is_taken_and_it_catches_up() {
    let mut random = Random::seeded("lake away");
    let settings = Settings::new("");
    let server = settings.start(TempDir::new().unwrap());
    let mut batches = fill(&server, &mut random, 10);
    in_the_lake(&server, 10);
    let (lake, away) = (server.data().join("lake"), server.data().join("away"));
    fs::rename(&lake, &away).unwrap();
    batches.extend(fill(&server, &mut random, 10));
    until("it says that it is degraded", || ready(&server).json()["status"] == "degraded");
    let answer = ready(&server);
    assert_eq!((answer.status, answer.json()["lake"]["status"].as_str()), (200, Some("degraded")), "{answer:?}");
    assert!(answer.json()["reason"].as_str().is_some_and(|reason| !reason.is_empty()));
    batches.extend(fill(&server, &mut random, 10));
    assert!(!lake.exists(), "no other table is made in its place");
    fs::rename(&away, &lake).unwrap();
    in_the_lake(&server, 30);
    until("it is ready again", || ready(&server).json()["status"] == "ready");
    oracle::check(server.url(), &batches);
}

#[test]
fn a_start_without_the_lake_serves_what_the_journal_has() {
    let mut random = Random::seeded("lake in the way");
    let settings = Settings::new("");
    let dir = TempDir::new().unwrap();
    fs::create_dir_all(dir.path().join("data")).unwrap();
    let lake = write(&dir.path().join("data"), "lake", "a file, no directory");
    let server = settings.start(dir);
    let mut batches = fill(&server, &mut random, 10);
    oracle::check(server.url(), &batches);
    let answer = ready(&server);
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("degraded")), "{answer:?}");
    // Whoever asks for a flush gets one more try of it, and no more.
    let failures = || metric(&server, "runstone_lake_failures_total");
    let before = failures();
    signal(&server, Signal::USR1);
    until("it tried again", || failures() > before);
    let asked = std::time::Instant::now();
    batches.extend(fill(&server, &mut random, 40));
    let (tries, most) = (failures() - before, 2.0 + asked.elapsed().as_secs_f64() * 8.0);
    assert!(tries <= most, "{tries} tries in {:?}", asked.elapsed());
    fs::remove_file(&lake).unwrap();
    in_the_lake(&server, 50);
    oracle::check(server.url(), &batches);
}

#[test]
fn a_full_journal_is_a_503_of_its_own_and_passes_when_the_lake_is_back() {
    let mut random = Random::seeded("journal full");
    let settings = Settings::new(
        "journal:\n  segment_bytes: 1MiB\n  bytes_max: 3MiB\n  keep_ms: 1h\n  keep_bytes: 1GiB\nrecent:\n  bytes_max: 1MiB\n",
    );
    let dir = TempDir::new().unwrap();
    fs::create_dir_all(dir.path().join("data")).unwrap();
    let lake = write(&dir.path().join("data"), "lake", "a file, no directory");
    let server = settings.start(dir);
    let mut client = Client::new(server.url());
    let mut batches = Vec::new();
    let refused = loop {
        let mut batch = large(&mut random);
        let answer = send(&mut client, &mut batch);
        batches.push(batch);
        if answer.status != 200 {
            break answer;
        }
        assert!(batches.len() < 200, "it takes more than it may");
    };
    assert_eq!((refused.status, refused.json()["error"].as_str()), (503, Some("journal_full")), "{refused:?}");
    assert!(refused.headers.to_ascii_lowercase().contains("retry-after:"), "{refused:?}");
    assert_eq!(ready(&server).json()["status"], "journal_full");
    assert_eq!(oracle::walk(&mut client, "order=oldest").len(), batches.len() - 1, "reading goes on");
    fs::remove_file(&lake).unwrap();
    let last = RefCell::new(batches.pop().unwrap());
    until("it takes records again", || send(&mut Client::new(server.url()), &mut last.borrow_mut()).status == 200);
    batches.push(last.into_inner());
    oracle::check(server.url(), &batches);
}

#[test]
fn a_copied_directory_and_its_original_share_a_lake() {
    let mut random = Random::seeded("lake copy");
    let lake = TempDir::new().unwrap();
    let settings = Settings::at(&lake.path().join("lake"), "");
    let server = settings.start(TempDir::new().unwrap());
    let name = journal(&server).strip_suffix("/1").unwrap().to_owned();
    fill(&server, &mut random, 12);
    in_the_lake(&server, 12);
    // Some of what is copied is in the lake, some is not yet.
    fill(&server, &mut random, 8);
    let copied = TempDir::new().unwrap();
    copy(&server.data(), &copied.path().join("data"));
    let copied = settings.start(copied);
    fill(&server, &mut random, 5);
    fill(&copied, &mut random, 3);
    let expected = [(format!("{name}/1"), 25), (format!("{name}/2"), 3)];
    for each in [&server, &copied] {
        until("both see what both have", || counts(each) == expected);
        runs_agree(each);
    }
    // Also when both have forgotten what they knew.
    let mut again = Vec::new();
    for each in [server, copied] {
        let dir = each.kill();
        fs::remove_file(dir.path().join("data/runs")).unwrap_or(());
        again.push(settings.start(dir));
    }
    for each in &again {
        until("both see it again", || counts(each) == expected);
        runs_agree(each);
    }
}

#[test]
fn an_empty_directory_on_a_used_lake_hides_nothing() {
    let mut random = Random::seeded("lake used");
    let lake = TempDir::new().unwrap();
    let settings = Settings::at(&lake.path().join("lake"), "");
    let server = settings.start(TempDir::new().unwrap());
    let first = journal(&server);
    fill(&server, &mut random, 10);
    assert_eq!(server.terminate().0, Some(0));
    let server = settings.start(TempDir::new().unwrap());
    let second = journal(&server);
    assert_eq!(counts(&server), [(first.clone(), 10)]);
    fill(&server, &mut random, 4);
    let mut expected = vec![(first, 10), (second, 4)];
    expected.sort();
    assert_eq!(counts(&server), expected);
    in_the_lake(&server, 4);
    assert_eq!(counts(&server), expected);
    runs_agree(&server);
}

/// Puts the files of a directory back, into the same directory.
pub(crate) fn restore(from: &Path, to: &Path) {
    for entry in fs::read_dir(to).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    copy(from, to);
}

#[test]
fn an_older_copy_restored_in_place_is_found_out_and_loses_nothing() {
    let mut random = Random::seeded("lake restored");
    let settings = Settings::new("");
    let server = settings.start(TempDir::new().unwrap());
    let name = journal(&server).strip_suffix("/1").unwrap().to_owned();
    fill(&server, &mut random, 10);
    let (_, dir) = server.terminate();
    let backup = TempDir::new().unwrap();
    copy(&dir.path().join("data/journal"), backup.path());
    let server = settings.start(dir);
    fill(&server, &mut random, 10);
    let (_, mut dir) = server.terminate();
    restore(backup.path(), &dir.path().join("data/journal"));
    // Positions 11 to 20 are in the lake, and are given again, more of them after each start.
    for taken in [4, 12] {
        let server = settings.start(dir);
        until("it says that it failed", || ready(&server).json()["status"] == "failed");
        let answer = ready(&server);
        assert_eq!(answer.status, 503);
        assert!(answer.json()["reason"].as_str().unwrap().contains("--new-epoch-from 11`"), "{answer:?}");
        fill(&server, &mut random, taken);
        assert_eq!(counts(&server).iter().map(|(_, count)| count).sum::<u64>(), if taken == 4 { 24 } else { 36 });
        dir = server.kill();
    }
    let expected = [(format!("{name}/1"), 20), (format!("{name}/2"), 16)];
    for flags in [&["--new-epoch-from", "11"][..], &["--new-epoch-from", "11"], &[]] {
        let server = settings.start_with(dir, flags);
        in_the_lake(&server, 26);
        assert_eq!(ready(&server).json()["status"], "ready");
        assert_eq!(counts(&server), expected);
        runs_agree(&server);
        dir = server.kill();
    }
}

#[test]
fn positions_that_nobody_has_are_named_and_passed_only_when_that_is_accepted() {
    let mut random = Random::seeded("lake lost");
    let trimming = "journal:\n  segment_bytes: 1MiB\n  keep_bytes: 0\n  keep_ms: 0\nquery:\n  timeout_ms: 1s\n";
    let settings = Settings::new(trimming);
    let server = settings.start(TempDir::new().unwrap());
    send_large(&server, &mut random, 40);
    until("the journal is trimmed", || metric(&server, "runstone_journal_first_position") > 20.0);
    let first = metric(&server, "runstone_journal_first_position");
    let (_, dir) = server.terminate();
    fs::remove_dir_all(dir.path().join("data/lake")).unwrap();
    let server = settings.start(dir);
    until("it says that it failed", || ready(&server).json()["status"] == "failed");
    let reason = ready(&server).json()["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains(&format!("positions 1 to {} are neither", first - 1.0)), "{reason}");
    assert_eq!(position(&server), 0);
    let server = settings.start_with(server.kill(), &["--accept-missing"]);
    in_the_lake(&server, 40);
    assert_eq!(counts(&server)[0].1, 41 - first as u64);
    // From then on it is as if they had never been.
    let server = settings.start(server.kill());
    until("it is ready", || ready(&server).json()["status"] == "ready");
}

#[test]
fn damaged_records_do_not_keep_the_others_out_of_the_lake() {
    let mut random = Random::seeded("lake damage");
    let slow = Settings::new("lake:\n  flush_interval_ms: 1h\n");
    let server = slow.start(TempDir::new().unwrap());
    fill(&server, &mut random, 10);
    let dir = server.kill();
    let segment = segments(&dir.path().join("data")).remove(0);
    let mut bytes = fs::read(&segment).unwrap();
    let frames: Vec<usize> = (0..bytes.len() - 4).filter(|at| &bytes[*at..at + 4] == b"RJGR").collect();
    bytes[frames[4] + 90] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let settings = Settings::new("");
    let mut dir = dir;
    for _ in 0..2 {
        let server = settings.start(dir);
        in_the_lake(&server, 10);
        assert_eq!(metric(&server, "runstone_lake_records"), 9.0);
        assert_eq!(counts(&server)[0].1, 9);
        dir = server.kill();
    }
    let verify = runstone().args(["verify", "--data"]).arg(dir.path().join("data")).output().unwrap();
    assert_eq!(verify.status.code(), Some(1), "{}", stderr(&verify));
}

#[test]
fn a_location_that_cannot_be_is_wrong_usage() {
    let data = TempDir::new().unwrap();
    let settings = Settings::new("lake:\n  location: ftp://somewhere/else\n");
    let start = runstone()
        .args(["serve", "--listen", "127.0.0.1:0", "--config", settings.path.to_str().unwrap(), "--data"])
        .arg(data.path())
        .output()
        .unwrap();
    assert_eq!(start.status.code(), Some(2), "{}", stderr(&start));
    assert!(stderr(&start).contains("ftp://somewhere/else"), "{}", stderr(&start));
}
