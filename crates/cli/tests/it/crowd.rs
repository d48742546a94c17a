//! Many who ask for runs at once: what is kept in memory has places too, and nobody who sends waits for those who ask.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::client::{Client, JSON, NDJSON};
use crate::lake::Settings;

const CLIENTS: usize = 100;
const RUNS: usize = 20_000;
const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn many_who_ask_for_runs_are_answered_or_told_to_come_back() {
    let server = Settings::new("query:\n  concurrency_max: 1\n").start(TempDir::new().unwrap());
    let mut sender = Client::new(server.url());
    for part in 0..RUNS / 10_000 {
        let line = |number: usize| json!({"run_id": format!("run-{part}-{number}"), "title": format!("the {number}th of many runs with a title")});
        let lines: Vec<String> = (0..10_000).map(|number| line(number).to_string()).collect();
        assert_eq!(sender.post(&[NDJSON], lines.join("\n").as_bytes()).unwrap().status, 200);
    }
    let (barrier, enough) = (Arc::new(Barrier::new(CLIENTS + 1)), Arc::new(AtomicBool::new(false)));
    let ask = |number: usize| {
        let (url, barrier, enough) = (server.url().to_owned(), Arc::clone(&barrier), Arc::clone(&enough));
        std::thread::spawn(move || {
            let mut client = Client::new(&url);
            let path = if number.is_multiple_of(2) { "/api/v1/runs?q=nowhere" } else { "/api/v1/metrics?bucket=1s" };
            let mut answers = Vec::new();
            barrier.wait();
            let begun = Instant::now();
            // At least one each, and then until somebody was refused.
            while answers.is_empty() || !(enough.load(Ordering::Relaxed) || begun.elapsed() > DEADLINE) {
                let answer = client.get(path).unwrap();
                if answer.status == 429 {
                    assert_eq!(answer.json()["error"], "overloaded");
                    assert!(answer.headers.to_ascii_lowercase().contains("retry-after"), "{answer:?}");
                    enough.store(true, Ordering::Relaxed);
                }
                answers.push(answer.status);
            }
            answers
        })
    };
    let clients: Vec<_> = (0..CLIENTS).map(ask).collect();
    barrier.wait();
    // Whoever sends is not held up, nor is whoever looks whether the server lives.
    let mut sent = 0;
    while sent < 5 || !clients.iter().all(std::thread::JoinHandle::is_finished) {
        let answer = sender.post(&[JSON], br#"{"run_id":"meanwhile","message":"another"}"#).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(sender.get("/health").unwrap().status, 200);
        sent += 1;
    }
    let mut answers = BTreeMap::<u16, usize>::new();
    for status in clients.into_iter().flat_map(|client| client.join().unwrap()) {
        *answers.entry(status).or_default() += 1;
    }
    assert_eq!(answers.keys().copied().collect::<Vec<_>>(), [200, 429], "{answers:?}");
    let run = sender.get("/api/v1/runs/meanwhile").unwrap().json();
    assert_eq!(run["records"], sent);
}
