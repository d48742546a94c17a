//! Records of every age, in any order: late, from the future, of runs that end before they begin. Owns the order in which they
//! are sent; `oracle` judges what is there.

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Client, JSON};
use crate::harness::until;
use crate::kills::is_ready;
use crate::lake::{Settings, in_the_lake, ready, signal};
use crate::oracle::{self, Batch, Random};

/// What is added to a record's moment of one day: years in which nobody logs, and the ones beside today's.
const YEARS: [&str; 7] = ["1700", "1969", "1970", "2025", "2026", "2036", "2261"];
const RECORDS: usize = 600;
const RUNS: u64 = 12;

fn records(random: &mut Random) -> Vec<oracle::Record> {
    let aged = |number: usize, random: &mut Random| {
        let mut record = oracle::record(random, RUNS, &format!("age {number}"));
        let moment = record["timestamp"].as_str().unwrap();
        // Half are of the usual day.
        let year = if random.below(2) == 0 { &moment[..4] } else { *random.pick(&YEARS) };
        let moment = format!("{year}{}", &moment[4..]);
        record["timestamp"] = moment.into();
        record.insert("id".to_owned(), random.uuid().into());
        record
    };
    (0..RECORDS).map(|number| aged(number, random)).collect()
}

#[test]
fn records_of_any_age_are_there_once_and_make_the_same_runs_in_any_order() {
    let mut random = Random::seeded("ages");
    let settings = Settings::new("lake:\n  flush_interval_ms: 1h\n");
    let sent = records(&mut random);
    let mut states = Vec::new();
    for _ in 0..2 {
        let server = settings.start(TempDir::new().unwrap());
        let (mut client, mut left, mut batches) = (Client::new(server.url()), sent.clone(), Vec::new());
        while !left.is_empty() {
            let count = 1 + random.index(40.min(left.len()));
            let records: Vec<_> = (0..count).map(|_| left.swap_remove(random.index(left.len()))).collect();
            let answer = client.post(&[JSON], Value::from(records.clone()).to_string().as_bytes()).unwrap();
            assert_eq!(answer.status, 200, "{answer:?}");
            batches.push(Batch { records, key: None, acknowledged: true, positions: None });
        }
        assert_eq!(oracle::check(server.url(), &batches).len(), RECORDS);
        signal(&server, Signal::USR1);
        in_the_lake(&server, ready(&server).json()["durable_position"].as_u64().unwrap());
        oracle::check(server.url(), &batches);
        let server = settings.start(server.kill());
        until("it is ready", || is_ready(&server));
        oracle::check(server.url(), &batches);
        let mut runs = oracle::runs(&mut Client::new(server.url()));
        // The one thing of a run that is not what its records say.
        runs.values_mut().for_each(|run| run["last_position"] = Value::Null);
        states.push(runs);
    }
    assert_eq!(states[0], states[1]);
}
