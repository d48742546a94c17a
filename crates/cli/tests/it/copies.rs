//! Records that come again after the server forgot their ids: the lake has them once, and what differs is kept aside.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::foreign::script;
use crate::harness::{Server, runstone, stderr, stdout, until};
use crate::lake::{Settings, in_the_lake, metric, runs_agree, signal};
use crate::oracle::Random;

/// Fewer ids than `COUNT` fit into it.
const WINDOW: &str = "ids:\n  bytes_max: 1MiB\n";
/// More than the window holds.
const COUNT: usize = 18_000;

fn body(records: &[Value]) -> String {
    records.iter().map(|record| format!("{record}\n")).collect()
}

/// Posts records; how many of them were there already, and how many were refused.
fn post(server: &Server, records: &[Value]) -> (u64, u64) {
    let answer =
        server.http("POST", "/api/v1/logs", &[("content-type", "application/x-ndjson")], body(records).as_bytes());
    assert!(matches!(answer.status, 200 | 207), "{answer:?}");
    (answer.json()["duplicates"].as_u64().unwrap(), answer.json()["rejected"].as_u64().unwrap())
}

/// Records in the table, of how many ids.
fn rows(server: &Server) -> (u64, u64) {
    let rows = server.query("SELECT count(*) AS n, count(DISTINCT id) AS ids FROM logs");
    (rows[0]["n"].as_u64().unwrap(), rows[0]["ids"].as_u64().unwrap())
}

#[test]
fn a_delivery_past_the_window_of_ids_leaves_each_record_once_in_the_lake() {
    let mut random = Random::seeded("copies");
    let mut records: Vec<Value> = (0..COUNT)
        .map(|number| {
            json!({"id": random.uuid(), "message": format!("record {number}"), "run_id": format!("run-{}", number % 7),
                   "timestamp": format!("2026-11-20T12:00:{:02}.{number:06}Z", number % 60)})
        })
        .collect();
    let settings = Settings::new(WINDOW);
    let server = settings.start(TempDir::new().unwrap());
    records.chunks(1_000).for_each(|chunk| assert_eq!(post(&server, chunk), (0, 0)));
    in_the_lake(&server, COUNT as u64);
    // The newest are known by heart, the oldest are not.
    assert_eq!(post(&server, &records[COUNT - 100..]), (100, 0));
    records[3]["message"] = "another".into();
    assert_eq!(post(&server, &records[..200]), (0, 0));
    in_the_lake(&server, COUNT as u64 + 200);
    until("the copies are left out", || rows(&server) == (COUNT as u64, COUNT as u64));
    runs_agree(&server);
    assert_eq!(metric(&server, "runstone_lake_dropped_copies_total"), 199.0);
    assert_eq!(metric(&server, "runstone_lake_refused_records_total"), 1.0);
    let first = server.query(&format!("SELECT message FROM logs WHERE id = '{}'", records[3]["id"].as_str().unwrap()));
    assert_eq!(first, [json!({"message": "record 3"})]);
    let files: Vec<_> = fs::read_dir(server.data().join("refused")).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let letter: Value = serde_json::from_str(&fs::read_to_string(&files[0]).unwrap()).unwrap();
    assert_eq!((&letter["record"]["id"], &letter["record"]["message"]), (&records[3]["id"], &json!("another")));
    assert_eq!(letter["first"]["position"], 4);
    // The journal still has them, and it is known why the lake has not.
    let (code, dir) = server.terminate();
    assert_eq!(code, Some(0));
    let verify = runstone().args(["verify", "--json", "--data"]).arg(dir.path().join("data")).output().unwrap();
    assert!(verify.status.success(), "{}", stderr(&verify));
    let found: Value = serde_json::from_str(&stdout(&verify)).unwrap();
    assert_eq!((&found["dropped_copies"], &found["lake_records"]), (&json!(200), &json!(COUNT)));
}

#[test]
fn an_empty_directory_on_a_used_table_takes_no_record_twice() {
    let mut random = Random::seeded("copies elsewhere");
    let records: Vec<Value> =
        (0..50).map(|number| json!({"id": random.uuid(), "message": format!("record {number}"), "run_id": format!("run-{}", number % 5)})).collect();
    let place = TempDir::new().unwrap();
    let settings = Settings::at(&place.path().join("lake"), "");
    let server = settings.start(TempDir::new().unwrap());
    post(&server, &records[..40]);
    assert_eq!(server.terminate().0, Some(0));
    // Nothing of what it knew is left: the client sends again what it is not sure of.
    let server = settings.start(TempDir::new().unwrap());
    assert_eq!(post(&server, &records[20..]), (0, 0));
    in_the_lake(&server, 30);
    until("the copies are left out", || rows(&server) == (50, 50));
    runs_agree(&server);
    // And nobody counts them again where the table of runs is lost.
    let (_, dir) = server.terminate();
    fs::remove_file(dir.path().join("data/runs")).unwrap();
    let offline = |sql: &str| {
        let data = dir.path().join("data");
        let config = settings.path.to_str().unwrap();
        let answer =
            runstone().args(["query", "--json", "--config", config, "--data"]).arg(data).arg(sql).output().unwrap();
        assert!(answer.status.success(), "{}", stderr(&answer));
        serde_json::from_str::<Value>(&stdout(&answer)).unwrap()
    };
    assert_eq!(offline("SELECT sum(records) AS n, count(*) AS runs FROM runs"), json!({"n": 50, "runs": 5}));
    let server = settings.start(dir);
    until("the runs are there again", || rows(&server) == (50, 50));
    runs_agree(&server);
}

#[test]
fn a_run_whose_first_records_are_gone_keeps_what_it_was_when_a_copy_comes() {
    let mut random = Random::seeded("copies of old runs");
    let record = |number: usize, random: &mut Random| {
        let run_id = if number < 30 { format!("long-{}", number % 2) } else { "young".to_owned() };
        json!({"id": random.uuid(), "run_id": run_id, "row_count": 1, "message": format!("record {number}"),
               "timestamp": format!("2026-11-20T12:00:{number:02}Z")})
    };
    let records: Vec<Value> = (0..40).map(|number| record(number, &mut random)).collect();
    let place = TempDir::new().unwrap();
    let yaml = "lake:\n  retention_days: 7\n  upkeep_interval_ms: 24h\n";
    let settings = Settings::new(&format!("{yaml}  location: {:?}\n", place.path().join("lake").display().to_string()));
    let server = settings.start(TempDir::new().unwrap());
    post(&server, &records);
    in_the_lake(&server, 40);
    assert_eq!(server.terminate().0, Some(0));
    // A directory that knows none of their ids, and all of their runs.
    let server = settings.start(TempDir::new().unwrap());
    let runs = |server: &Server| {
        let rows = server.query("SELECT run_id, records, row_count, started_at FROM runs ORDER BY run_id");
        let number = |row: &Value, name: &str| row[name].as_u64().unwrap();
        let row = |row: &Value| (number(row, "records"), number(row, "row_count"), row["started_at"].to_string());
        rows.iter().map(row).collect::<Vec<_>>()
    };
    until("the runs are there", || {
        runs(&server).iter().map(|(records, _, _)| *records).collect::<Vec<_>>() == [15, 15, 10]
    });
    let before = runs(&server);
    script("write_lake.py", &["age", place.path().join("lake").to_str().unwrap(), "20", "10"]);
    signal(&server, Signal::USR1);
    until("they have left", || metric(&server, "runstone_lake_retired_records_total") == 20.0);
    assert_eq!(post(&server, &records[28..]), (0, 0));
    in_the_lake(&server, 12);
    until("the runs were looked at", || server.printed().contains("older ones are gone"));
    let after = runs(&server);
    // A copy each too many: what is gone cannot be counted anew.
    assert_eq!(
        after[..2],
        before[..2].iter().map(|(records, rows, at)| (records + 1, rows + 1, at.clone())).collect::<Vec<_>>()
    );
    assert_eq!(after[2], before[2], "of the young one nothing is gone");
}
