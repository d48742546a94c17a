//! The server as a process among others: signals, a second one, a copied directory, a lost table of runs.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Client, JSON};
use crate::harness::{Server, runstone, stderr, until};
use crate::kills::{self, Sender, is_ready, torn_tails};
use crate::oracle::{self, Batch, Random};

const STOP_DEADLINE: Duration = Duration::from_secs(10);

fn signal(server: &Server, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Copies a directory and what is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A few batches, acknowledged, on a new server.
fn filled(random: &mut Random) -> (Server, Vec<Batch>) {
    let server = Server::start();
    let batches = fill(&server, random, 30);
    (server, batches)
}

/// Sends batches one after the other; each is a group of its own.
pub(crate) fn fill(server: &Server, random: &mut Random, count: u64) -> Vec<Batch> {
    let mut client = Client::new(server.url());
    let mut batches = Vec::new();
    for number in 0..count {
        let token = format!("{} {number}", random.next());
        batches.push(send(&mut client, oracle::record(random, 5, &token)));
    }
    batches
}

fn send(client: &mut Client, record: oracle::Record) -> Batch {
    let answer = client.post(&[JSON], Value::Object(record.clone()).to_string().as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let place = answer.json()["first_position"].as_u64().unwrap();
    Batch { records: vec![record], key: None, acknowledged: true, positions: Some((place, place)) }
}

#[test]
fn sigterm_under_load_ends_within_ten_seconds_and_keeps_every_acknowledgement() {
    let mut random = Random::seeded("sigterm");
    let mut senders: Vec<Sender> = (0..4).map(|number| Sender::new(number, &mut random)).collect();
    let mut dir = TempDir::new().unwrap();
    for _ in 0..3 {
        let server = Server::start_in(dir, &[]);
        assert_eq!(torn_tails(&server), 0, "a stop leaves no torn tail");
        let (code, stopped, took) = kills::load(server, &mut senders, Duration::from_millis(300), |server| {
            let begun = Instant::now();
            let (code, dir) = server.terminate();
            (code, dir, begun.elapsed())
        });
        assert_eq!(code, Some(0));
        assert!(took < STOP_DEADLINE, "stopping took {took:?}");
        dir = stopped;
    }
    let server = Server::start_in(dir, &[]);
    assert_eq!(torn_tails(&server), 0, "a stop leaves no torn tail");
    let batches = kills::settle(&mut senders, &server);
    assert!(!oracle::check(server.url(), &batches).is_empty());
}

#[test]
fn a_stopped_process_keeps_its_directory_and_goes_on_where_it_was() {
    let mut random = Random::seeded("sigstop");
    let (server, mut batches) = filled(&mut random);
    signal(&server, Signal::STOP);
    let second = runstone().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(server.data()).output().unwrap();
    assert_eq!(second.status.code(), Some(2), "{}", stderr(&second));
    assert!(stderr(&second).contains(&server.pid().to_string()), "{}", stderr(&second));
    let (url, record) = (server.url().to_owned(), oracle::record(&mut random, 5, "sent while it was stopped"));
    let waiting = std::thread::spawn(move || send(&mut Client::new(&url), record));
    signal(&server, Signal::CONT);
    batches.push(waiting.join().unwrap());
    batches.extend(fill(&server, &mut random, 5));
    oracle::check(server.url(), &batches);
}

#[test]
fn a_copied_directory_opens_under_a_new_epoch_with_all_its_records() {
    let mut random = Random::seeded("copy");
    let (server, mut batches) = filled(&mut random);
    // Live, between two requests.
    let copied = TempDir::new().unwrap();
    copy(&server.data(), &copied.path().join("data"));
    let mut copied_batches = batches.clone();
    let of = |server: &Server| Client::new(server.url()).get("/ready").unwrap().json()["journal"].clone();
    let (first, copy) = (of(&server), Server::start_in(copied, &[]));
    let journal = first.as_str().unwrap().strip_suffix("/1").unwrap();
    assert_eq!(of(&copy), format!("{journal}/2"));
    assert!(copy.printed().contains("epoch grew from 1 to 2"), "{}", copy.printed());
    // Both go on, each with what it took itself.
    batches.extend(fill(&server, &mut random, 5));
    copied_batches.extend(fill(&copy, &mut random, 5));
    oracle::check(server.url(), &batches);
    oracle::check(copy.url(), &copied_batches);
    // What was copied stays under the name that it was given.
    let names = copy.query("SELECT journal, max(position) AS last FROM logs GROUP BY journal ORDER BY journal");
    let expected = [
        serde_json::json!({"journal": format!("{journal}/1"), "last": 30}),
        serde_json::json!({"journal": format!("{journal}/2"), "last": 35}),
    ];
    assert_eq!(names, expected);
    let copy = Server::start_in(copy.kill(), &[]);
    assert_eq!(of(&copy), format!("{journal}/2"), "the epoch grows once a copy");
    oracle::check(copy.url(), &copied_batches);
}

#[test]
fn a_missing_segment_is_an_error_that_names_its_positions() {
    let mut random = Random::seeded("missing");
    let (server, _) = filled(&mut random);
    let (_, dir) = server.terminate();
    let segment = crate::damage::segments(&dir.path().join("data")).remove(0);
    fs::remove_file(&segment).unwrap();
    let start =
        runstone().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(dir.path().join("data")).output().unwrap();
    assert_eq!(start.status.code(), Some(1), "{}", stderr(&start));
    assert!(stderr(&start).contains("positions 1 to the end are missing"), "{}", stderr(&start));
}

/// What is done to a file.
type Damage = fn(&mut Vec<u8>);

fn flip(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
}

#[test]
fn a_lost_or_damaged_table_of_runs_is_made_again() {
    let mut random = Random::seeded("runs");
    let (server, batches) = filled(&mut random);
    let read = oracle::check(server.url(), &batches);
    let (_, mut dir) = server.terminate();
    let damages: [Damage; 4] = [|bytes| flip(bytes), |bytes| bytes.truncate(20), Vec::clear, |bytes| bytes.fill(0)];
    for damage in damages {
        let path = dir.path().join("data").join("runs");
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let server = Server::start_in(dir, &[]);
        until("it is ready", || is_ready(&server));
        oracle::check_runs(&mut Client::new(server.url()), &read);
        dir = server.terminate().1;
    }
    fs::remove_file(dir.path().join("data").join("runs")).unwrap();
    let server = Server::start_in(dir, &[]);
    oracle::check_runs(&mut Client::new(server.url()), &read);
}

#[test]
fn a_log_that_nobody_takes_costs_no_request() {
    let mut random = Random::seeded("log");
    let dir = TempDir::new().unwrap();
    let mut child = runstone()
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(dir.path())
        .env("RUNSTONE_LOG", "debug")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
    drop(child.stderr.take());
    let mut client = Client::new(url.trim());
    let served = (0..20).all(|number| {
        let record = Value::from(oracle::record(&mut random, 5, &format!("unheard {number}"))).to_string();
        client.post(&[JSON], record.as_bytes()).is_ok_and(|answer| answer.status == 200)
    });
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(served, "{status}");
}
