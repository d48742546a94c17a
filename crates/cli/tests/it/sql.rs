//! SQL as it is described and as it is ended: every example of docs/sql.md, clients that go away, and a hundred heavy
//! statements at once beside records that arrive.

use std::cell::Cell;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Client, JSON, address, connect, request};
use crate::harness::{Server, until, write};
use crate::oracle::rows;
use crate::queries::peak_bytes;

fn documentation() -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sql.md");
    std::fs::read_to_string(path).unwrap()
}

/// The statements of the blocks of SQL.
fn statements(text: &str) -> Vec<&str> {
    let blocks = text.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(|block| block.split(";\n")).map(str::trim).filter(|sql| !sql.is_empty()).collect()
}

/// The rows of the table of examples: an expression and its answer.
fn examples(text: &str) -> Vec<(&str, &str)> {
    let table = text.split("| example | answer |\n|---|---|\n").nth(1).unwrap();
    table
        .lines()
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let mut code = line.split('`');
            (code.nth(1).unwrap(), code.nth(1).unwrap())
        })
        .collect()
}

#[test]
fn every_example_of_the_documentation_answers() {
    let (server, text) = (Server::start(), documentation());
    let mut client = Client::new(server.url());
    let records = json!([
        {"run_id": "nightly-7", "level": "ERROR", "type": "error", "row_count": 7, "message": "HTTP/1 503", "duration": 2.5,
         "metadata": {"table": "orders", "rows": 5}},
        {"run_id": "nightly-7", "level": "INFO", "message": "timeout"},
    ]);
    assert_eq!(client.post(&[JSON], records.to_string().as_bytes()).unwrap().status, 200);
    let found = statements(&text);
    assert!(found.len() > 8, "{found:?}");
    for sql in found {
        let answer = client.sql(sql.trim_end_matches(';')).unwrap();
        assert_eq!(answer.status, 200, "{sql}: {}", answer.json());
    }
    let found = examples(&text);
    assert!(found.len() > 20, "{found:?}");
    for (expression, expected) in found {
        let value = &rows(&mut client, &format!("SELECT {expression} AS v"))[0]["v"];
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        assert_eq!(shown, expected, "{expression}");
    }
    // A body of the API, as it stands there.
    let body = text.lines().find(|line| line.starts_with("{\"sql\"")).unwrap();
    let answer = client.request("POST", "/api/v1/query", &[JSON], body.as_bytes()).unwrap();
    assert_eq!((answer.status, &answer.json()["rows"][0]["records"]), (200, &json!(1)), "{answer:?}");
}

/// Everything with everything: hours of work in little memory.
const HEAVY: &str =
    "SELECT count(*) FROM logs a, logs b, logs c, logs d WHERE a.message < b.message AND c.message < d.message";

fn filled(yaml: &str) -> Server {
    let folder = TempDir::new().unwrap();
    let config = write(folder.path(), "runstone.yml", yaml);
    let server = Server::start_with(&["--config", config.to_str().unwrap()]);
    let records: Vec<Value> = (0..3_000).map(|n| json!({"message": format!("{n} {}", "x".repeat(40))})).collect();
    let stored = server.post(&Value::from(records).to_string());
    assert_eq!(stored.status, 200, "{stored:?}");
    server
}

/// Sends a statement and does not wait for its answer.
fn sent(server: &Server, sql: &str) -> TcpStream {
    let mut stream = connect(address(server.url())).unwrap();
    let body = json!({ "sql": sql }).to_string();
    stream.write_all(&request("POST", "/api/v1/query", &[JSON], body.as_bytes())).unwrap();
    stream
}

/// Time that the process has had from the processor, in ticks.
fn ticks(server: &Server) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn status(server: &Server, sql: &str) -> u16 {
    let body = json!({ "sql": sql, "timeout_ms": 100 }).to_string();
    server.http("POST", "/api/v1/query", &[JSON], body.as_bytes()).status
}

#[test]
fn a_client_that_goes_away_ends_its_statement_wherever_it_is() {
    let server = filled("query:\n  timeout_ms: 10m\n  concurrency_max: 1\nlake:\n  vacuum_grace_ms: 1h\n");
    let running = sent(&server, HEAVY);
    let before = ticks(&server);
    until("it is at work", || ticks(&server) > before + 20);
    // So many may wait behind it. The next one is refused.
    let waiting: Vec<TcpStream> =
        (0..runstone_record::limits::QUERIES_WAITING_MAX).map(|_| sent(&server, "SELECT 1")).collect();
    until("nobody else may wait", || status(&server, "SELECT 1") == 429);
    drop(waiting);
    let others: Vec<TcpStream> =
        (1..runstone_record::limits::QUERIES_WAITING_MAX).map(|_| sent(&server, HEAVY)).collect();
    drop(others);
    // Whoever waited and went has left room to wait; and whoever ran and went has left room to run.
    drop(running);
    until("its turn comes", || status(&server, "SELECT 1") == 200);
    let (last, quiet) = (Cell::new(0), Cell::new(0));
    until("nothing is computed any more", || {
        let now = ticks(&server);
        quiet.set(if now > last.get() + 1 { 0 } else { quiet.get() + 1 });
        last.set(now);
        quiet.get() > 10
    });
}

#[test]
fn a_hundred_heavy_statements_leave_room_for_records() {
    let server = filled("query:\n  timeout_ms: 1s\n  memory_bytes_max: 64MiB\n");
    let heavy = [
        HEAVY,
        "SELECT a.message || b.message AS m FROM logs a, logs b ORDER BY m LIMIT 1000000",
        "SELECT a.message, b.message, count(*) FROM logs a, logs b, logs c GROUP BY 1, 2",
        "SELECT array_agg(a.message || b.message) FROM logs a, logs b",
    ];
    let done = AtomicBool::new(false);
    let (answers, taken) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut client, mut taken) = (Client::new(server.url()), 0_u64);
            while !done.load(Ordering::Acquire) || taken < 20 {
                let answer = client.post(&[JSON], br#"{"message": "and on it goes"}"#).unwrap();
                assert_eq!(answer.status, 200, "{answer:?}");
                taken += 1;
            }
            taken
        });
        let asking: Vec<_> = (0..100)
            .map(|n| {
                scope.spawn({
                    let server = &server;
                    // Some of them streamed, each kind of statement among these.
                    let format = if (n / heavy.len()).is_multiple_of(4) { "ndjson" } else { "json" };
                    let body = json!({"sql": heavy[n % heavy.len()], "format": format}).to_string();
                    move || Client::new(server.url()).request("POST", "/api/v1/query", &[JSON], body.as_bytes())
                })
            })
            .collect();
        // A streamed answer that breaks off is none.
        let answers: Vec<_> = asking.into_iter().filter_map(|asked| asked.join().unwrap().ok()).collect();
        done.store(true, Ordering::Release);
        (answers, writer.join().unwrap())
    });
    for answer in &answers {
        assert!(matches!(answer.status, 200 | 400 | 408 | 429), "{answer:?}");
    }
    assert!(answers.iter().any(|answer| answer.status == 429), "more were asked than may wait");
    let peak = peak_bytes(server.pid());
    assert!(peak < 640 << 20, "{peak} bytes");
    let count = rows(&mut Client::new(server.url()), "SELECT count(*) AS n FROM logs");
    assert_eq!(count[0]["n"], 3_000 + taken);
}
