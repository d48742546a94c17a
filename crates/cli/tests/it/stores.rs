//! The lake on object storage, S3 and Azure: everything that it does on a disk it does there, and who reads Delta tables
//! reads it there. Owns what holds where nothing fails; `storage_faults` has the rest.

use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::foreign::{READERS, assert_found, in_sql};
use crate::harness::{Server, runstone, stderr, until};
use crate::kills::{self, Sender};
use crate::lake::{Settings, in_the_lake, metric, ready, runs_agree, signal};
use crate::oracle::{self, Batch, Random};
use crate::process::fill;
use crate::storage::{Azure, S3, Storage};

/// The version at which the first checkpoint is written.
const CHECKPOINT: f64 = runstone_record::limits::LAKE_CHECKPOINT_COMMITS as f64;

/// Settings of a server with its lake there.
fn settings(storage: &dyn Storage, location: &str, yaml: &str) -> Settings {
    Settings::new(&format!("{yaml}lake:\n  location: {location}\n  upkeep_interval_ms: 1h\n")).among(storage.env())
}

fn durable(server: &Server) -> u64 {
    ready(server).json()["durable_position"].as_u64().unwrap()
}

/// Commits a few records at a time until the log has a checkpoint.
fn fill_to_a_checkpoint(server: &Server, storage: &dyn Storage, random: &mut Random) -> Vec<Batch> {
    let mut batches = Vec::new();
    while metric(server, "runstone_lake_version") < CHECKPOINT {
        // The next record wakes whoever is to bring what is there to the lake.
        signal(server, Signal::USR1);
        batches.extend(fill(server, random, 1));
        in_the_lake(server, durable(server));
    }
    until("there is a checkpoint", || storage.list().contains(&"_delta_log/_last_checkpoint".to_owned()));
    batches
}

/// What has left the table is deleted, and nothing else.
fn vacuum(storage: &dyn Storage, location: &str, dir: TempDir) -> TempDir {
    let data_files =
        || storage.list().iter().filter(|name| name.ends_with(".parquet") && name.starts_with("date=")).count();
    let before = data_files();
    // A grace time as short as that is not for tests that query.
    let yaml = format!(
        "query:\n  timeout_ms: 900ms\nlake:\n  location: {location}\n  upkeep_interval_ms: 1h\n  vacuum_grace_ms: 1s\n"
    );
    let server = Settings::new(&yaml).among(storage.env()).start(dir);
    until("only the table's files are there", || {
        signal(&server, Signal::USR1);
        metric(&server, "runstone_lake_files") as usize == data_files()
    });
    assert!(data_files() < before, "{before} files of data, then {}", data_files());
    server.terminate().1
}

/// Takes, flushes, compacts, checkpoints, vacuums, is killed, moves to an empty directory and back: each record once.
fn everything(storage: &dyn Storage, random: &mut Random) {
    let [first, second] = &storage.locations()[..] else { panic!("two ways to write it") };
    let (first, second) = (settings(storage, first, ""), (settings(storage, second, ""), second));
    let server = first.start(TempDir::new().unwrap());
    let mut batches = fill_to_a_checkpoint(&server, storage, random);
    until("small files became larger ones", || {
        signal(&server, Signal::USR1);
        metric(&server, "runstone_lake_files") < 8.0
    });
    oracle::check(server.url(), &batches);

    let mut senders = [Sender::paced(0, random, Duration::from_millis(10))];
    let dir = kills::load(server, &mut senders, Duration::from_millis(1_300), Server::kill);
    let dir = vacuum(storage, second.1, dir);
    let server = second.0.start(dir);
    batches.extend(kills::settle(&mut senders, &server));
    in_the_lake(&server, durable(&server));
    let read = oracle::check(server.url(), &batches);
    assert_eq!(metric(&server, "runstone_lake_records") as usize, read.len());
    let verify = server.data();
    let old = server.kill();
    let mut command = runstone();
    let verified = command
        .args(["verify", "--data", verify.to_str().unwrap()])
        .envs(storage.env())
        .env("RUNSTONE_LAKE_LOCATION", second.1)
        .output()
        .unwrap();
    assert_eq!(verified.status.code(), Some(0), "{}", stderr(&verified));

    // An empty directory on the table, then the old one beside it.
    let server = first.start(TempDir::new().unwrap());
    until("the table is there", || ready(&server).json()["lake"]["status"] == "ready");
    assert_eq!(oracle::check_records(server.url(), &batches).len(), read.len());
    batches.extend(fill(&server, random, 5));
    in_the_lake(&server, 5);
    oracle::check_records(server.url(), &batches);
    runs_agree(&server);
    let back = second.0.start(old);
    until("it sees the other's", || metric(&back, "runstone_lake_records") as usize == read.len() + 5);
    oracle::check_records(back.url(), &batches);
    runs_agree(&back);

    let (location, options) = (storage.reader_location(), storage.reader_options());
    let options: Vec<(&str, &str)> = options.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_found(&READERS, &location, &options, &in_sql(&back));
}

#[test]
fn a_lake_on_s3_does_everything() {
    everything(&S3::start(), &mut Random::seeded("s3"));
}

#[test]
fn a_lake_on_azure_does_everything() {
    everything(&Azure::start(), &mut Random::seeded("azure"));
}

#[test]
fn storage_that_cannot_be_used_is_said_and_costs_no_record() {
    let mut random = Random::seeded("no bucket");
    let s3 = S3::start();
    let settings =
        Settings::new("lake:\n  location: s3://no-such-bucket/lake\n  retry_timeout_ms: 0\n").among(s3.env());
    let server = settings.start(TempDir::new().unwrap());
    let batches = fill(&server, &mut random, 10);
    until("it says why", || ready(&server).json()["reason"].as_str().is_some_and(|why| why.contains("no-such-bucket")));
    let answer = ready(&server);
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("degraded")), "{answer:?}");
    oracle::check(server.url(), &batches);
    // Without leave to go without TLS nothing is sent at all.
    let (_, dir) = server.terminate();
    let mut env = s3.env();
    env.retain(|(name, _)| *name != "AWS_ALLOW_HTTP");
    let mut command = runstone();
    let start = command
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(dir.path().join("data"))
        .envs(env)
        .env("RUNSTONE_LAKE_LOCATION", &s3.locations()[0])
        .output()
        .unwrap();
    assert_eq!(start.status.code(), Some(2), "{}", stderr(&start));
    assert!(stderr(&start).contains("set AWS_ALLOW_HTTP=true"), "{}", stderr(&start));
}
