//! The client against a server on a real socket that loses answers, is busy, or refuses.

#![allow(clippy::unwrap_used, reason = "a test that panics fails, which is its job")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::TryStreamExt;
use runstone_sdk::{Batch, Batcher, Client, ClientError, LogsFilter, Marks, Record, RunsFilter};

/// What the server does with one request.
#[derive(Clone)]
enum Step {
    /// Reads it all and closes without an answer.
    Lose,
    /// Answers with fewer bytes than announced.
    Cut,
    /// Answers with a status, extra header lines and a body.
    Answer(u16, &'static str, String),
}

/// What arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    line: String,
    headers: String,
    body: Vec<u8>,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        let mut lines = self.headers.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or("")
    }
}

struct Server {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Answers one request after the other, each on its own connection; the last step is for all that follow.
    fn start(steps: Vec<Step>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for (at, connection) in listener.incoming().enumerate() {
                let mut connection = connection.unwrap();
                log.lock().unwrap().push(read(&connection));
                let _ = match &steps[at.min(steps.len() - 1)] {
                    Step::Lose => Ok(()),
                    Step::Cut => connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"acc"),
                    Step::Answer(status, headers, body) => connection.write_all(
                        format!(
                            "HTTP/1.1 {status} x\r\ncontent-length: {}\r\n{headers}connection: close\r\n\r\n{body}",
                            body.len()
                        )
                        .as_bytes(),
                    ),
                };
            }
        });
        Server { url, seen }
    }

    fn client(&self) -> Client {
        Client::builder(&self.url).build().unwrap()
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn read(connection: &TcpStream) -> Seen {
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut headers = String::new();
    while !headers.ends_with("\r\n\r\n") && reader.read_line(&mut headers).unwrap() > 2 {}
    let mut seen = Seen { line: line.trim_end().to_owned(), headers, body: Vec::new() };
    seen.body = vec![0; seen.header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut seen.body).unwrap();
    seen
}

fn accepted(records: u64) -> Step {
    let body = format!(
        r#"{{"accepted":{records},"duplicates":0,"rejected":0,"journal":"j/1","first_position":1,"last_position":{records},"errors":[]}}"#
    );
    Step::Answer(200, "", body)
}

fn refused(status: u16, headers: &'static str, code: &str, retryable: bool) -> Step {
    Step::Answer(status, headers, format!(r#"{{"error":"{code}","message":"do this","retryable":{retryable}}}"#))
}

fn batch(messages: &[&str]) -> Batch {
    let mut batcher = Batcher::new(|| 1_763_600_000_000);
    for message in messages {
        let full = batcher.push(&Record::from_json(&format!(r#"{{"message":"{message}"}}"#)).unwrap()).unwrap();
        assert!(full.is_none());
    }
    batcher.take().unwrap().unwrap()
}

#[tokio::test]
async fn a_batch_travels_as_compressed_ndjson_under_its_key() {
    let server = Server::start(vec![accepted(2)]);
    let batch = batch(&["a", "b"]);
    let report = server.client().send(&batch).await.unwrap();
    assert_eq!((report.accepted, report.last_position, report.tries), (2, Some(2), 1));
    let seen = server.seen().remove(0);
    assert_eq!(seen.line, "POST /api/v1/logs HTTP/1.1");
    assert_eq!(seen.header("content-type"), "application/x-ndjson");
    assert_eq!(seen.header("content-encoding"), "zstd");
    assert_eq!(seen.header("idempotency-key"), batch.key());
    let lines = String::from_utf8(zstd::decode_all(seen.body.as_slice()).unwrap()).unwrap();
    assert_eq!(lines.lines().count(), 2);
    assert!(lines.lines().all(|line| line.starts_with(r#"{"id":""#)));
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_bytes_and_key() {
    let server = Server::start(vec![Step::Lose, Step::Cut, accepted(1)]);
    let report = server.client().send(&batch(&["a"])).await.unwrap();
    assert_eq!(report.tries, 3);
    let seen = server.seen();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0].header("idempotency-key"), seen[2].header("idempotency-key"));
    assert!(seen.iter().all(|other| other.body == seen[0].body));
}

#[tokio::test]
async fn a_busy_server_is_left_alone_for_as_long_as_it_asks() {
    let busy = refused(503, "retry-after: 1\r\n", "unavailable", true);
    let slower = refused(429, "", "overloaded", true);
    let server = Server::start(vec![busy, slower, accepted(1)]);
    let waits = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&waits);
    let builder = Client::builder(&server.url)
        .on_retry(move |error, wait| log.lock().unwrap().push((error.code().map(str::to_owned), wait)));
    let report = builder.build().unwrap().send(&batch(&["a"])).await.unwrap();
    assert_eq!(report.tries, 3);
    let waits = waits.lock().unwrap();
    assert_eq!(waits[0].0.as_deref(), Some("unavailable"));
    assert!(waits[0].1 >= Duration::from_secs(1), "{waits:?}");
    assert_eq!(waits[1].0.as_deref(), Some("overloaded"));
    assert!(waits[1].1 < Duration::from_secs(1), "{waits:?}");
}

#[tokio::test]
async fn a_wait_beyond_the_deadline_is_not_begun() {
    let server = Server::start(vec![refused(503, "retry-after: 3600\r\n", "disk_full", true)]);
    let error = server.client().send(&batch(&["a"])).await.unwrap_err();
    assert_eq!(error.code(), Some("disk_full"));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn refused_records_are_reported_and_not_sent_again() {
    let body = r#"{"accepted":1,"duplicates":0,"rejected":1,"journal":"j/1","first_position":1,"last_position":1,
        "errors":[{"index":1,"code":"invalid_identifier","message":"no slash","field":"run_id"}]}"#;
    for status in [207, 422] {
        let server = Server::start(vec![Step::Answer(status, "", body.to_owned())]);
        let report = server.client().send(&batch(&["a", "b"])).await.unwrap();
        assert_eq!((report.rejected, report.errors[0].index), (1, 1));
        assert_eq!(report.errors[0].code, "invalid_identifier");
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn what_cannot_succeed_is_not_tried_again() {
    for (status, code) in [(413, "body_too_large"), (422, "idempotency_key_reused"), (500, "internal")] {
        let server = Server::start(vec![refused(status, "", code, false)]);
        let error = server.client().send(&batch(&["a"])).await.unwrap_err();
        assert!(!error.is_retryable() && !error.is_unreachable());
        assert_eq!(error.to_string(), format!("do this ({code})"));
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_proxy_without_its_server_is_retried_and_a_stranger_is_not() {
    let server = Server::start(vec![Step::Answer(502, "", "<html>bad gateway".to_owned()), accepted(1)]);
    assert_eq!(server.client().send(&batch(&["a"])).await.unwrap().tries, 2);
    let stranger = Server::start(vec![Step::Answer(200, "", "<html>welcome".to_owned())]);
    let error = stranger.client().send(&batch(&["a"])).await.unwrap_err();
    assert!(matches!(error, ClientError::NotRunstone { status: 200, .. }), "{error}");
    assert_eq!(stranger.seen().len(), 1);
}

#[tokio::test]
async fn a_missing_server_is_named_with_what_to_do() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = Client::builder(&format!("http://{free}")).deadline(Duration::from_millis(300)).build().unwrap();
    let error = client.send(&batch(&["a"])).await.unwrap_err();
    assert!(error.is_unreachable() && error.is_retryable());
    assert_eq!(
        error.to_string(),
        format!("reach http://{free}: is the server running? start it with `runstone serve`")
    );
}

#[tokio::test]
async fn reads_escape_what_they_are_given_and_keep_a_prefix_of_the_path() {
    let page = Step::Answer(200, "", r#"{"records":[{"message":"x"}],"next":"c1"}"#.to_owned());
    let gone = refused(404, "", "not_found", false);
    let server = Server::start(vec![page, gone]);
    let client = Client::builder(&format!("{}/logs-of-record/", server.url)).build().unwrap();
    let filter = LogsFilter::new().kind("error").q("100% & more").limit(5);
    let page = client.logs(&filter).await.unwrap();
    assert_eq!((page.records.len(), page.next.as_deref()), (1, Some("c1")));
    assert!(client.run("a/../b").await.unwrap().is_none());
    let seen = server.seen();
    assert_eq!(seen[0].line, "GET /logs-of-record/api/v1/logs?type=error&q=100%25+%26+more&limit=5 HTTP/1.1");
    assert_eq!(seen[1].line, "GET /logs-of-record/api/v1/runs/a%2F..%2Fb HTTP/1.1");
}

#[test]
fn an_address_that_is_none_is_refused_at_once() {
    for bad in ["", "localhost:7867", "ftp://x", "http://", "unix:/x"] {
        assert!(matches!(Client::builder(bad).build(), Err(ClientError::Url { .. })), "{bad}");
    }
}

#[tokio::test]
async fn pages_of_changed_runs_go_on_behind_a_run_whatever_moves() {
    let answer = |rows: Vec<String>| {
        let stats = format!(r#"{{"rows":{},"elapsed_ms":1.0,"truncated":false}}"#, rows.len());
        Step::Answer(200, "", format!(r#"{{"columns":[],"rows":[{}],"stats":{stats}}}"#, rows.join(",")))
    };
    let at = "2026-01-01T00:00:00.000000Z";
    let run = |number: usize| {
        // The later its id, the earlier it began.
        let second = 59 - number % 60;
        format!(
            r#"{{"run_id":"r{number:04}","state":"running","started_at":"2025-01-01T00:00:{second:02}.000000Z","last_at":"{at}",
                "duration":1.0,"records":1,"warnings":0,"errors":0,"last_position":1,"labels":"{{}}"}}"#
        )
    };
    let server = Server::start(vec![
        answer(vec![r#"{"journal":"j/1","position":9}"#.to_owned()]),
        answer((0..1_000).map(run).collect()),
        answer(vec![run(1_000)]),
    ]);
    let mut runs = server.client().tail_runs(&RunsFilter::new()).from(Marks::default()).stream();
    let mut ids = Vec::new();
    while ids.len() < 1_001 {
        let run = runs.try_next().await.unwrap().unwrap();
        ids.push((run.started_at, run.run_id));
    }
    assert!(ids.is_sorted(), "those that began first come first");
    let asked: Vec<String> = server.seen().into_iter().map(|seen| String::from_utf8(seen.body).unwrap()).collect();
    assert!(asked[1].contains("run_id > '' ORDER BY run_id LIMIT 1000"), "{}", asked[1]);
    assert!(asked[2].contains("run_id > 'r0999' ORDER BY run_id LIMIT 1000"), "{}", asked[2]);
}
