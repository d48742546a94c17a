//! The lake is an open table: readers that nobody here wrote find in it what the server's own SQL says, whatever the server
//! has done with it, while it runs and after it stopped.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Client, NDJSON};
use crate::foreign::{READERS, assert_found, in_sql, script};
use crate::harness::{Server, until};
use crate::lake::{Settings, in_the_lake, metric, position, signal};

/// A record with something in every column that a client may fill; of the optional ones each third is left out.
fn record(n: usize) -> Value {
    let word = |words: &[&'static str]| words[n % words.len()];
    let mut record = json!({
        "timestamp": format!("2026-03-{:02}T{:02}:{:02}:07.{:06}Z", n % 28 + 1, n % 24, n % 60, n * 7_919 % 1_000_000),
        "source_system": word(&["crm", "erp", "web"]),
        "stage": word(&["extract", "load"]),
        "run_id": format!("run-{}", n % 7),
        "type": word(&["start", "status", "result", "warning", "error", "success", "log"]),
        "level": word(&["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]),
        "logger_name": format!("etl.{}", n % 4),
        "status": word(&["ok", "failed", "skipped"]),
        "duration": n as f64 / 8.0,
        "row_count": n * 1_000_003,
        "entity_name": format!("entity {}", n % 11),
        "target_table": "gold.orders",
        "notebook_name": "nightly",
        "workspace_id": "w-1",
        "lakehouse_id": "l-1",
        "hostname": format!("host-{}", n % 3),
        "process_id": n % 5 + 100,
        "thread_id": 139_872_345_678_848_u64 + n as u64,
        "thread_name": "MainThread",
        "trace_id": format!("{:032x}", n * 31 + 1),
        "span_id": format!("{:016x}", n * 17 + 1),
        "function_name": "run",
        "module": "jobs",
        "filename": "jobs.py",
        "lineno": n % 400,
        "title": format!("title {}", n % 9),
        "message": format!("moved {n} rows – größer als 🚀\n\"{}\"", n % 3),
        "exception": format!("Traceback of {}:\n  boom", n % 6),
        "pathname": "/srv/jobs/jobs.py",
        "capabilities": (0..n % 4).map(|item| format!("can {item}")).collect::<Vec<_>>(),
        "metadata": {"n": n, "nested": {"text": "ü", "list": [1, null]}},
    });
    let fields = record.as_object_mut().unwrap();
    let names: Vec<String> = fields.keys().cloned().collect();
    for (place, name) in names.iter().enumerate() {
        if (n + place).is_multiple_of(3) && name != "timestamp" {
            fields.remove(name);
        }
    }
    record
}

pub(crate) fn send(client: &mut Client, first: usize, count: usize) {
    let lines: Vec<String> = (first..first + count).map(|n| record(n).to_string()).collect();
    let answer = client.post(&[NDJSON], lines.join("\n").as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.json());
}

pub(crate) fn location(server: &Server) -> String {
    server.data().join("lake").display().to_string()
}

/// SQL sees the positions from `first` to `last` once each, and every reader finds what it says of all columns.
fn all_agree(server: &Server, first: u64, last: u64) -> Value {
    let expected = in_sql(server);
    let count = last + 1 - first;
    assert_eq!((&expected["records"], &expected["ids"]), (&count.into(), &count.into()));
    assert_eq!(expected["columns"]["position"], json!([count, (first + last) * count / 2]));
    assert_found(&READERS, &location(server), &[], &expected);
    expected
}

fn days(found: &Value) -> usize {
    found["columns"]["date"].as_object().unwrap().len()
}

#[test]
fn every_reader_finds_what_sql_says_after_appends_merges_and_retention() {
    let settings = Settings::new("lake:\n  retention_days: 7\n  upkeep_interval_ms: 24h\n");
    let server = settings.start(TempDir::new().unwrap());
    let mut client = Client::new(server.url());
    for part in 0..4 {
        send(&mut client, part * 300, 300);
        in_the_lake(&server, (part as u64 + 1) * 300);
    }
    assert!(metric(&server, "runstone_lake_files") >= 4.0);
    let appended = all_agree(&server, 1, 1_200);

    signal(&server, Signal::USR1);
    until("a day's files are one", || metric(&server, "runstone_lake_files") == days(&appended) as f64);
    assert_eq!(all_agree(&server, 1, 1_200), appended, "merged, it is the same");

    // Another writer says that the first five hundred arrived ten days ago: nothing else here can have an old day.
    script("write_lake.py", &["age", &location(&server), "500", "10"]);
    until("SQL sees it", || days(&in_sql(&server)) == days(&appended) + 1);
    all_agree(&server, 1, 1_200);
    signal(&server, Signal::USR1);
    until("they have left", || metric(&server, "runstone_lake_retired_records_total") == 500.0);
    until("SQL sees it", || in_sql(&server)["records"] == 700);
    let kept = all_agree(&server, 501, 1_200);

    // What left stays away, although the journal still has it; and a stopped server's table is as good.
    let (code, dir) = server.terminate();
    assert_eq!(code, Some(0));
    let lake = dir.path().join("data/lake").display().to_string();
    assert_found(&READERS, &lake, &[], &kept);
    let server = settings.start(dir);
    assert_eq!(all_agree(&server, 501, 1_200), kept);
}

/// The version of the newest checkpoint.
fn checkpoint(lake: &Path) -> Option<u64> {
    let hint = fs::read(lake.join("_delta_log/_last_checkpoint")).ok()?;
    serde_json::from_slice::<Value>(&hint).unwrap()["version"].as_u64()
}

#[test]
fn readers_see_whole_versions_while_it_is_written_and_what_a_checkpoint_holds() {
    let settings = Settings::new("lake:\n  upkeep_interval_ms: 1s\n");
    let server = settings.start(TempDir::new().unwrap());
    let mut client = Client::new(server.url());
    let lake = server.data().join("lake");
    send(&mut client, 0, 50);
    in_the_lake(&server, 50);
    // The reader looks until this one has come, which is sent when the table has its first checkpoint.
    let (mut sent, total) = (50, 6_000);
    let watched = std::thread::scope(|scope| {
        let place = lake.display().to_string();
        let watching = scope.spawn(move || script("watch_lake.py", &[&place, &total.to_string()]));
        while checkpoint(&lake).is_none() {
            send(&mut client, sent, 20);
            sent += 20;
            assert!(
                sent < total,
                "no checkpoint after {sent} records, at version {}",
                metric(&server, "runstone_lake_version")
            );
            // Flushes, and merges all that there is.
            signal(&server, Signal::USR1);
            until("it is in the lake", || position(&server) == sent as u64);
        }
        send(&mut client, sent, total - sent);
        watching.join().expect("the watcher failed, as said above")
    });
    assert!(watched["versions"].as_u64().unwrap() > 3, "{watched}");
    let expected = all_agree(&server, 1, total as u64);
    let (_, dir) = server.terminate();

    // Without the entries before it, a reader must believe the checkpoint.
    let lake = dir.path().join("data/lake");
    let checkpoint = checkpoint(&lake).unwrap();
    for version in 0..checkpoint {
        fs::remove_file(lake.join(format!("_delta_log/{version:020}.json"))).unwrap();
    }
    assert_found(&READERS, &lake.display().to_string(), &[], &expected);
}
