//! `tail` and `--follow` while records arrive: each once, late ones too, through the lake and through restarts.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::client::Client;
use crate::harness::{Server, runstone, until};
use crate::lake::{metric, signal};
use crate::oracle::{self, Random, Record};

/// A command that goes on, and what it printed so far.
struct Following {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Following {
    fn start(url: &str, args: &[&str]) -> Following {
        let mut child = runstone()
            .args(["--url", url])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (from, into) = (BufReader::new(child.stdout.take().unwrap()), Arc::clone(&lines));
        std::thread::spawn(move || from.lines().map_while(Result::ok).for_each(|line| into.lock().unwrap().push(line)));
        Following { child, lines }
    }

    fn wait_for(&self, what: &str, count: usize) {
        until(&format!("{what}: {count} lines"), || self.lines.lock().unwrap().len() >= count);
    }

    /// Ends it as Ctrl-C does; what it printed.
    fn stop(mut self) -> Vec<String> {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        std::mem::take(&mut *self.lines.lock().unwrap())
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn post(server: &Server, random: &mut Random, batches: u64) {
    let mut client = Client::new(server.url());
    for batch in 0..batches {
        let count = 1 + random.below(30);
        let records: Vec<Record> =
            (0..count).map(|number| oracle::record(random, 5, &format!("{batch} {number}"))).collect();
        assert_eq!(
            client
                .post(
                    &[crate::client::JSON],
                    Value::from(records.into_iter().map(Value::from).collect::<Vec<_>>()).to_string().as_bytes()
                )
                .unwrap()
                .status,
            200
        );
    }
}

/// What the pages have, in the order of arrival.
fn arrived(server: &Server) -> Vec<Record> {
    let mut records = oracle::walk(&mut Client::new(server.url()), "order=oldest");
    records.sort_by_key(|record| record["position"].as_u64());
    records
}

fn parsed(lines: &[String]) -> Vec<Record> {
    let parse = |line: &String| match serde_json::from_str(line).unwrap() {
        Value::Object(record) => record,
        other => panic!("no record: {other}"),
    };
    lines.iter().map(parse).collect()
}

#[test]
fn each_record_is_followed_once_through_the_lake_and_through_restarts() {
    let mut random = Random::seeded("follow");
    let mut server = Server::start();
    let address = server.url().trim_start_matches("http://").to_owned();
    // Timestamps are random: most records are late.
    post(&server, &mut random, 5);
    let all = Following::start(server.url(), &["tail", "--json", "--since", "1970-01-01T00:00:00Z"]);
    let some = Following::start(
        server.url(),
        &["tail", "--json", "--since", "1970-01-01T00:00:00Z", "--level", "WARNING", "--stage", "load"],
    );
    // The last ten first; what it prints then was not there before.
    let last = Following::start(server.url(), &["logs", "--follow", "--json"]);
    last.wait_for("the last ten", 10);
    let before = arrived(&server).len();
    for round in 0..3 {
        post(&server, &mut random, 8);
        if round == 0 {
            signal(&server, Signal::USR1);
            until("all is in the lake", || metric(&server, "runstone_lake_lag_records") == 0.0);
            post(&server, &mut random, 3);
        }
        all.wait_for("what was sent so far", arrived(&server).len());
        let dir = server.kill();
        server = Server::start_at(dir, &address, &[]);
    }
    post(&server, &mut random, 2);
    let records = arrived(&server);
    assert!(records.len() > 300);
    let wanted: Vec<Record> = records
        .iter()
        .filter(|record| record.get("stage").is_some_and(|stage| stage == "load"))
        .filter(|record| ["WARNING", "ERROR", "CRITICAL"].iter().any(|level| record["level"] == *level))
        .cloned()
        .collect();
    assert!(wanted.len() > 5);
    all.wait_for("all", records.len());
    some.wait_for("some", wanted.len());
    last.wait_for("since it began", 10 + records.len() - before);
    assert!(parsed(&all.stop()) == records, "each once, in the order of arrival");
    assert!(parsed(&some.stop()) == wanted, "and with a filter");
    let last = parsed(&last.stop());
    assert!(last[10..] == records[before..], "and behind the last ten");
    let newest = oracle::walk(&mut Client::new(server.url()), "order=oldest");
    let newest: Vec<_> =
        newest.into_iter().filter(|record| record["position"].as_u64() <= Some(before as u64)).collect();
    assert!(last[..10] == newest[newest.len() - 10..], "which come with the newest below");
}

#[test]
fn a_run_is_followed_as_it_begins_and_ends() {
    let server = Server::start();
    let send = |record: Value| assert_eq!(server.post(&record.to_string()).status, 200);
    send(json!({"run_id": "a", "type": "start", "source_system": "shop"}));
    let all = Following::start(server.url(), &["runs", "--follow"]);
    let failed = Following::start(server.url(), &["runs", "-f", "--state", "failed", "--json"]);
    all.wait_for("the one that is there", 1);
    send(json!({"run_id": "a", "message": "still at work"}));
    send(json!({"run_id": "b", "type": "start", "source_system": "crm"}));
    all.wait_for("one that begins", 2);
    send(json!({"run_id": "a", "type": "success"}));
    all.wait_for("one that ends", 3);
    send(json!({"run_id": "b", "type": "error", "message": "no disk"}));
    // An activity without a run is one itself.
    send(json!({"stage": "load", "status": "Succeeded", "source_system": "etl"}));
    all.wait_for("one that fails, and one of one record", 5);
    failed.wait_for("the one that fails", 1);
    let lines = all.stop();
    let states: Vec<_> = lines
        .iter()
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .map(|cells| (if cells[2] == "etl" { "-" } else { cells[0] }.to_owned(), cells[1].to_owned()))
        .collect();
    let wanted = [("a", "running"), ("b", "running"), ("a", "succeeded"), ("b", "failed"), ("-", "succeeded")];
    let mut wanted = wanted.map(|(run, state)| (run.to_owned(), state.to_owned())).to_vec();
    let mut states = states;
    // The last two may come together, and then the one that began first is first.
    states[3..].sort();
    wanted[3..].sort();
    assert_eq!(states, wanted);
    let failed = failed.stop();
    let run: Value = serde_json::from_str(&failed[0]).unwrap();
    assert_eq!((failed.len(), &run["run_id"], &run["failure"]), (1, &json!("b"), &json!("no disk")));
}

#[test]
fn a_run_from_before_is_followed_when_it_ends_and_not_when_it_speaks() {
    let server = Server::start();
    let send = |records: Value| assert_eq!(server.post(&records.to_string()).status, 200);
    let run = |number: usize, kind: &str| json!({"run_id": format!("old-{number:02}"), "type": kind, "timestamp": format!("2026-11-20T03:00:{number:02}Z")});
    // The first fifteen are older than the ten that are shown: of these some run, and some have ended.
    send((0..25).map(|number| run(number, "start")).collect());
    send((0..5).map(|number| run(number, "success")).collect());
    let all = Following::start(server.url(), &["runs", "--follow"]);
    all.wait_for("the last ten", 10);
    // What says nothing of beginning or ending; a new run says that it was read.
    send((0..25).map(|number| run(number, "log")).collect());
    send(json!({"run_id": "new", "type": "start"}));
    all.wait_for("the new one", 11);
    send(json!([run(3, "log"), run(7, "log"), run(12, "log")]));
    send(json!([run(7, "success"), run(20, "success")]));
    all.wait_for("those that end", 13);
    // A failure that comes late is news.
    send(json!({"run_id": "old-01", "type": "error", "timestamp": "2026-11-20T04:00:00Z"}));
    all.wait_for("one that fails after all", 14);
    // More than one page of them, in one request: each once.
    send((0..2_500).map(|number| json!({"run_id": format!("many-{number}"), "type": "start"})).collect());
    all.wait_for("all of many", 2_514);
    let lines = all.stop();
    let shown = |line: &String| {
        let cells: Vec<_> = line.split('\t').collect();
        (cells[0].to_owned(), cells[1].to_owned())
    };
    let shown: Vec<_> = lines.iter().map(shown).collect();
    let wanted = [("new", "running"), ("old-07", "succeeded"), ("old-20", "succeeded"), ("old-01", "failed")];
    assert_eq!(shown[10..14], wanted.map(|(run, state)| (run.to_owned(), state.to_owned())));
    let many: std::collections::BTreeSet<_> = shown[14..].iter().map(|(run, _)| run).collect();
    assert_eq!((shown.len(), many.len()), (2_514, 2_500));
}

#[test]
fn what_cannot_be_followed_is_refused_at_once() {
    let server = Server::start();
    for (args, reason) in [
        (&["tail", "--format", "table"][..], "have an end"),
        (&["logs", "--follow", "--format", "json"], "have an end"),
        (&["logs", "--follow", "--until", "-1h"], "cannot be used with"),
        (&["runs", "r", "--follow"], "cannot be used with"),
    ] {
        let output = server.cli(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(crate::harness::stderr(&output).contains(reason), "{args:?}: {}", crate::harness::stderr(&output));
    }
    let refused = server.cli(&["tail", "--level", "LOUD"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(crate::harness::stderr(&refused).contains("level"), "{}", crate::harness::stderr(&refused));
}
