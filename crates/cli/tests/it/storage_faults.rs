//! S3 that refuses, throttles, falls silent, goes away and loses answers: what was acknowledged is in the lake once, and
//! nobody who sends records notices. Owns these faults; `stores` has the lake on storage that works.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Client;
use crate::foreign;
use crate::harness::{Server, until};
use crate::kills::{self, Sender};
use crate::lake::{Settings, in_the_lake, journal, metric, position, ready, runs_agree, send_large};
use crate::ledger::Ledger;
use crate::oracle::{self, Random};
use crate::process::fill;
use crate::proxy::{Fault, Proxy, Request};
use crate::storage::{S3, Storage};

/// Between two batches of a load: what matters here is how many flushes there are, not how much is in them.
const PAUSE: Duration = Duration::from_millis(30);

/// A server's settings: its lake is behind the proxy, and it does not wait long for what does not come.
fn settings(s3: &S3, proxy: &Proxy, yaml: &str) -> Settings {
    let location = &s3.locations()[0];
    let patience = "  request_timeout_ms: 700ms\n  retry_timeout_ms: 1s\n";
    Settings::new(&format!("lake:\n  location: {location}\n{patience}{yaml}")).among(S3::env_at(proxy.url()))
}

fn durable(server: &Server) -> u64 {
    ready(server).json()["durable_position"].as_u64().unwrap()
}

fn is_a_commit(request: &Request) -> bool {
    request.method == "PUT" && request.path.contains("_delta_log/0") && request.path.ends_with(".json")
}

fn is_data(request: &Request) -> bool {
    request.method == "PUT" && request.path.ends_with(".parquet")
}

/// Sends a record and waits until it is in the lake.
fn flush(server: &Server, random: &mut Random) -> Vec<oracle::Batch> {
    let batches = fill(server, random, 1);
    in_the_lake(server, durable(server));
    batches
}

#[test]
fn a_commit_is_made_once_whatever_becomes_of_its_answer() {
    let mut random = Random::seeded("commit answers");
    let s3 = S3::start();
    let proxy = Proxy::before(s3.url());
    let settings = settings(&s3, &proxy, "  upkeep_interval_ms: 1h\n");
    let server = settings.start(TempDir::new().unwrap());
    let mut batches = flush(&server, &mut random);
    // Each of them alone, and some together: one after the other meets the same commit.
    let faults: [&[Fault]; 10] = [
        &[Fault::Lost],
        &[Fault::Late],
        &[Fault::Conflict],
        &[Fault::Error],
        &[Fault::SlowDown],
        &[Fault::Reset],
        &[Fault::Silence],
        &[Fault::Conflict, Fault::Conflict, Fault::Lost],
        &[Fault::Silence, Fault::Error, Fault::Late],
        &[Fault::Reset, Fault::Lost],
    ];
    for faults in faults {
        let before = Ledger::read(&s3).versions();
        let met = proxy.met_all();
        faults.iter().for_each(|fault| proxy.next(*fault, is_a_commit));
        batches.extend(flush(&server, &mut random));
        assert_eq!(proxy.met_all(), met + faults.len(), "{faults:?} were all met");
        let ledger = Ledger::read(&s3);
        assert_eq!(ledger.versions(), before + 1, "{faults:?}: one flush, one commit");
        assert_eq!(ledger.check()[&journal(&server)], durable(&server), "{faults:?}");
        let answer = ready(&server).json();
        assert_eq!(answer["status"], "ready", "{faults:?}: {answer}");
    }
    // The answers that are read back are lost too: nobody knows for a while, and then it is one commit all the same.
    let before = Ledger::read(&s3).versions();
    proxy.next(Fault::Lost, is_a_commit);
    for _ in 0..20 {
        proxy.next(Fault::Error, |request| request.method == "GET" && request.path.contains("_delta_log/0"));
    }
    batches.extend(flush(&server, &mut random));
    proxy.calm();
    let ledger = Ledger::read(&s3);
    assert_eq!(ledger.versions(), before + 1);
    assert_eq!(ledger.check()[&journal(&server)], durable(&server));
    assert!(metric(&server, "runstone_lake_failures_total") > 0.0, "it was found out, not overlooked");
    oracle::check(server.url(), &batches);
}

#[test]
fn an_upload_that_fails_is_made_again_and_no_half_of_it_is_read() {
    let mut random = Random::seeded("uploads");
    let s3 = S3::start();
    let proxy = Proxy::before(s3.url());
    let settings = settings(&s3, &proxy, "  upkeep_interval_ms: 1h\n");
    let server = settings.start(TempDir::new().unwrap());
    let mut batches = flush(&server, &mut random);
    for fault in [Fault::Lost, Fault::Late, Fault::Error, Fault::SlowDown, Fault::Reset, Fault::Silence] {
        proxy.next(fault, is_data);
        batches.extend(flush(&server, &mut random));
        assert_eq!(proxy.met(fault), 1, "{fault:?}");
    }
    // Larger than a part: begun, sent in parts, and ended, each of which may fail.
    let is_begun = |request: &Request| request.method == "POST" && request.path.contains("?uploads");
    let is_part = |request: &Request| request.method == "PUT" && request.path.contains("partNumber=2");
    let is_ended = |request: &Request| request.method == "POST" && request.path.contains("uploadId=");
    for _ in 0..2 {
        proxy.next(Fault::ErrorBody, is_ended);
    }
    proxy.next(Fault::SlowDown, is_begun);
    proxy.next(Fault::Lost, is_part);
    proxy.next(Fault::Lost, is_ended);
    batches.extend(send_large(&server, &mut random, 240));
    batches.extend(flush(&server, &mut random));
    assert_eq!(proxy.met(Fault::ErrorBody), 2, "the file was sent in parts");
    assert_eq!(proxy.met(Fault::Lost), 3);
    let ledger = Ledger::read(&s3);
    assert_eq!(ledger.check()[&journal(&server)], durable(&server));
    oracle::check(server.url(), &batches);
}

#[test]
fn under_load_with_faults_everywhere_each_record_is_in_the_lake_once() {
    let mut random = Random::seeded("storage faults");
    let s3 = S3::start();
    let proxy = Proxy::before(s3.url());
    let settings = settings(&s3, &proxy, "  upkeep_interval_ms: 1s\n");
    let mut senders = [Sender::paced(0, &mut random, PAUSE)];
    let mut dir = TempDir::new().unwrap();
    for _ in 0..2 {
        let server = settings.start(dir);
        proxy.trouble(&mut random, 6);
        // No answer of the load is 503: whoever sends does not notice.
        dir = kills::load(server, &mut senders, Duration::from_secs(6), Server::kill);
    }
    let server = settings.start(dir);
    let batches = kills::settle(&mut senders, &server);
    // To open the table takes more requests in a row than a storm lets through in any given time.
    let met = proxy.met_all();
    proxy.calm();
    in_the_lake(&server, durable(&server));
    let ledger = Ledger::read(&s3);
    println!("{} versions for {} records; {met} requests met a fault", ledger.versions(), durable(&server));
    assert!(met > 10, "the faults were none");
    assert_eq!(ledger.check()[&journal(&server)], durable(&server));
    until("it is ready", || ready(&server).json()["status"] == "ready");
    assert_eq!(oracle::check(server.url(), &batches).len() as u64, durable(&server));
}

/// What SQL answers, and what it said when it could not.
fn ask(server: &Server, sql: &str) -> Result<Vec<Value>, (u16, Value)> {
    let answer = Client::new(server.url()).sql(sql).unwrap();
    match answer.status {
        200 => Ok(answer.json()["rows"].as_array().unwrap().clone()),
        status => Err((status, answer.json())),
    }
}

#[test]
fn while_s3_is_away_nothing_is_refused_and_what_waits_is_queried() {
    let mut random = Random::seeded("s3 away");
    let s3 = S3::start();
    let proxy = Proxy::before(s3.url());
    let settings = settings(&s3, &proxy, "");
    let server = settings.start(TempDir::new().unwrap());
    let mut batches = fill(&server, &mut random, 10);
    in_the_lake(&server, 10);
    proxy.away();
    let begun = Instant::now();
    batches.extend(fill(&server, &mut random, 10));
    until("it says that it is degraded", || ready(&server).json()["status"] == "degraded");
    println!("degraded after {:?}", begun.elapsed());
    let answer = ready(&server);
    assert_eq!((answer.status, answer.json()["lake"]["status"].as_str()), (200, Some("degraded")), "{answer:?}");
    batches.extend(fill(&server, &mut random, 10));
    assert_eq!(position(&server), 10);
    let waiting = "SELECT count(*) AS n, count(DISTINCT id) AS ids FROM logs WHERE position > 10";
    assert_eq!(ask(&server, waiting), Ok(vec![json!({"n": 20, "ids": 20})]));
    // What is in the lake alone cannot be read, and that is said.
    let (status, error) = ask(&server, "SELECT min(message) AS m FROM logs").unwrap_err();
    assert_eq!((status, error["retryable"].as_bool()), (503, Some(true)), "{error}");

    // A start finds it away too: it takes records, and answers from the journal.
    let server = settings.start(server.kill());
    batches.extend(fill(&server, &mut random, 10));
    until("it says that it is degraded", || ready(&server).json()["status"] == "degraded");
    oracle::check(server.url(), &batches);
    proxy.calm();
    in_the_lake(&server, 40);
    until("it is ready", || ready(&server).json()["status"] == "ready");
    oracle::check(server.url(), &batches);
    assert_eq!(Ledger::read(&s3).check()[&journal(&server)], 40);
}

#[test]
fn two_servers_on_one_table_bring_both_sets_there_once() {
    let mut random = Random::seeded("two servers");
    let s3 = S3::start();
    let proxy = Proxy::before(s3.url());
    let settings = settings(&s3, &proxy, "  upkeep_interval_ms: 1s\n");
    let mut senders = [0, 1].map(|number| [Sender::paced(number, &mut random, PAUSE)]);
    let servers = [(); 2].map(|()| settings.start(TempDir::new().unwrap()));
    proxy.trouble(&mut random, 12);
    let dirs: Vec<TempDir> = std::thread::scope(|scope| {
        let loads: Vec<_> = servers
            .into_iter()
            .zip(&mut senders)
            .map(|(server, senders)| scope.spawn(|| kills::load(server, senders, Duration::from_secs(6), Server::kill)))
            .collect();
        loads.into_iter().map(|load| load.join().unwrap()).collect()
    });
    let servers: Vec<Server> = dirs.into_iter().map(|dir| settings.start(dir)).collect();
    let mut batches = Vec::new();
    for (server, senders) in servers.iter().zip(&mut senders) {
        batches.extend(kills::settle(senders, server));
    }
    servers.iter().for_each(|server| in_the_lake(server, durable(server)));
    proxy.calm();
    let all: u64 = servers.iter().map(durable).sum();
    let ledger = Ledger::read(&s3);
    println!("{} versions for {all} records; {} requests met a fault", ledger.versions(), proxy.met_all());
    let cursors: Vec<(String, u64)> = ledger.check().into_iter().collect();
    let mut expected: Vec<(String, u64)> = servers.iter().map(|server| (journal(server), durable(server))).collect();
    expected.sort();
    assert_eq!(cursors, expected, "the cursor of each is in the table");
    for server in &servers {
        until("it sees what both brought", || metric(server, "runstone_lake_records") as u64 == all);
        assert_eq!(oracle::check_records(server.url(), &batches).len() as u64, all);
        runs_agree(server);
    }
    let (location, options) = (s3.reader_location(), s3.reader_options());
    let options: Vec<(&str, &str)> = options.iter().map(|(name, value)| (*name, value.as_str())).collect();
    foreign::assert_found(&["deltalake"], &location, &options, &foreign::in_sql(&servers[0]));
}
