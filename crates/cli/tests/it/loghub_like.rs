//! Log files of seven systems, sent by the command line and found again by query, logs and runs. The lines are our own,
//! in the shapes that those systems print.

use std::io::Write as _;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Client;
use crate::harness::{Server, runstone, stderr, stdout, until, write};
use crate::oracle::rows;

const LINES: usize = 400;

/// A system, the prefix of its line number n, and what becomes of it.
struct Shape {
    system: &'static str,
    line: fn(usize) -> String,
    timestamp: fn(usize) -> String,
    level: fn(usize) -> &'static str,
    logger: Option<&'static str>,
}

fn clock(n: usize) -> String {
    format!("{:02}:{:02}:{:02}", n / 3_600, n / 60 % 60, n % 60)
}

/// Every tenth warns, every fiftieth fails.
fn level(n: usize) -> &'static str {
    match n {
        n if n.is_multiple_of(50) => "ERROR",
        n if n.is_multiple_of(10) => "WARNING",
        _ => "INFO",
    }
}

fn word(n: usize) -> &'static str {
    if level(n) == "WARNING" { "WARN" } else { level(n) }
}

const SHAPES: [Shape; 7] = [
    Shape {
        system: "HDFS",
        line: |n| {
            let time = clock(n).replace(':', "");
            format!("081109 {time} {} {} dfs.DataNode$Packet: took from a peer block number {n}", 100 + n, word(n))
        },
        timestamp: |n| format!("2008-11-09T{}.000000Z", clock(n)),
        level,
        logger: Some("dfs.DataNode$Packet"),
    },
    Shape {
        system: "Spark",
        line: |n| format!("17/06/09 {} {} storage.BlockManager: found at home block number {n}", clock(n), word(n)),
        timestamp: |n| format!("2017-06-09T{}.000000Z", clock(n)),
        level,
        logger: Some("storage.BlockManager"),
    },
    Shape {
        system: "Hadoop",
        line: |n| {
            format!(
                "2015-10-18 {},{:03} {} [main] org.example.App: began part number {n}",
                clock(n),
                n % 1_000,
                word(n)
            )
        },
        timestamp: |n| format!("2015-10-18T{}.{:03}000Z", clock(n), n % 1_000),
        level,
        logger: Some("org.example.App"),
    },
    Shape {
        system: "OpenStack",
        line: |n| {
            format!(
                "nova-api.log.1.2017-05-16_13:53:08 2017-05-16 {}.{:03} 25746 {} nova.osapi [req-{n} - - -] listed number {n}",
                clock(n),
                n % 1_000,
                if level(n) == "WARNING" { "WARNING" } else { word(n) }
            )
        },
        timestamp: |n| format!("2017-05-16T{}.{:03}000Z", clock(n), n % 1_000),
        level,
        logger: Some("nova.osapi"),
    },
    Shape {
        system: "Zookeeper",
        line: |n| {
            format!(
                "2015-07-29 {},{:03} - {:5} [main:Quorum@{n}] - voted in round number {n}",
                clock(n),
                n % 1_000,
                word(n)
            )
        },
        timestamp: |n| format!("2015-07-29T{}.{:03}000Z", clock(n), n % 1_000),
        level,
        logger: None,
    },
    Shape {
        system: "Linux",
        line: |n| format!("Jun 14 {} combo sshd(pam_unix)[{}]: checked visitor number {n}", clock(n), 1_000 + n),
        // The year is the latest that is not in the future.
        timestamp: |n| format!("-06-14T{}.000000Z", clock(n)),
        level: |_| "INFO",
        logger: None,
    },
    Shape {
        system: "Apache",
        line: |n| {
            let level = if level(n) == "ERROR" { "error" } else { "notice" };
            format!("[Sun Dec 04 {} 2005] [{level}] started worker number {n}", clock(n))
        },
        timestamp: |n| format!("2005-12-04T{}.000000Z", clock(n)),
        level: |n| if level(n) == "ERROR" { "ERROR" } else { "INFO" },
        logger: None,
    },
];

fn check(server: &Server, shape: &Shape) {
    let mut client = Client::new(server.url());
    let run = format!("run-{}", shape.system);
    let sql = format!(
        "SELECT timestamp, level, type, logger_name, source_system, message FROM logs WHERE run_id = '{run}' ORDER BY position"
    );
    let found = rows(&mut client, &sql);
    assert_eq!(found.len(), LINES, "{}", shape.system);
    for (n, record) in found.iter().enumerate() {
        let name = format!("{}: {}: {record}", shape.system, (shape.line)(n));
        let timestamp = record["timestamp"].as_str().unwrap_or_default();
        assert!(timestamp.ends_with(&(shape.timestamp)(n)), "{name}");
        assert_eq!((&record["level"], &record["type"]), (&json!((shape.level)(n)), &json!("log")), "{name}");
        assert_eq!(record["source_system"], shape.system, "{name}");
        if let Some(logger) = shape.logger {
            assert_eq!(record["logger_name"], logger, "{name}");
        }
        let message = record["message"].as_str().unwrap();
        assert!((shape.line)(n).ends_with(message) && message.ends_with(&format!("number {n}")), "{name}");
    }
    let errors = (0..LINES).filter(|n| (shape.level)(*n) == "ERROR").count();
    let warnings = (0..LINES).filter(|n| (shape.level)(*n) == "WARNING").count();
    let body = client.get(&format!("/api/v1/runs/{run}")).unwrap().json();
    assert_eq!(
        (&body["records"], &body["errors"], &body["warnings"]),
        (&json!(LINES), &json!(errors), &json!(warnings))
    );
    assert!(body["started_at"].as_str().unwrap().ends_with(&(shape.timestamp)(0)), "{body}");
    let graver = server.cli(&["logs", "--json", "--run-id", &run, "--level", "ERROR", "--limit", "1000"]);
    assert_eq!(stdout(&graver).lines().count(), errors, "{}", stderr(&graver));
    let one = server.cli(&["logs", "--json", "--run-id", &run, "--q", "\"NUMBER 77\""]);
    assert_eq!(stdout(&one).lines().count(), 1, "{}", stderr(&one));
}

#[test]
fn the_logs_of_seven_systems_are_sent_and_found_again() {
    let server = Server::start();
    let folder = TempDir::new().unwrap();
    for shape in &SHAPES {
        let lines: String = (0..LINES).map(|n| (shape.line)(n) + if n % 2 == 0 { "\n" } else { "\r\n" }).collect();
        let path = write(folder.path(), shape.system, lines);
        let run = format!("run-{}", shape.system);
        let sent = server.cli(&["send", "--source-system", shape.system, "--run-id", &run, path.to_str().unwrap()]);
        assert!(sent.status.success(), "{}: {}", shape.system, stderr(&sent));
    }
    SHAPES.iter().for_each(|shape| check(&server, shape));
    let runs = server.cli(&["runs", "--json"]);
    let ids: Vec<Value> =
        stdout(&runs).lines().map(|run| serde_json::from_str::<Value>(run).unwrap()["run_id"].clone()).collect();
    assert_eq!(ids.len(), SHAPES.len(), "{ids:?}");
}

#[test]
fn a_server_that_is_killed_while_lines_are_sent_has_each_of_them_once() {
    const MANY: usize = 60_000;
    const KILLS: usize = 3;
    let mut server = Server::start();
    let url = server.url().to_owned();
    let mut sender = runstone()
        .args(["--url", &url, "send", "--source-system", "HDFS", "--run-id", "through-kills", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = sender.stdin.take().unwrap();
    let (allow, allowed) = mpsc::sync_channel(1);
    // As many parts as kills: however fast the server is, each kill finds lines on their way.
    let writer = thread::spawn(move || {
        for part in 0..KILLS {
            allowed.recv().unwrap();
            let lines = (0..MANY / KILLS).map(|n| (SHAPES[0].line)(part * MANY / KILLS + n) + "\n");
            input.write_all(lines.collect::<String>().as_bytes()).unwrap();
        }
    });
    let count = |server: &Server| {
        let found = rows(
            &mut Client::new(server.url()),
            "SELECT count(*) AS n, count(DISTINCT message) AS different FROM logs",
        );
        (found[0]["n"].as_u64().unwrap(), found[0]["different"].as_u64().unwrap())
    };
    for _ in 0..KILLS {
        let before = count(&server).0;
        allow.send(()).unwrap();
        until("more lines arrive", || count(&server).0 > before);
        // At the same address: the sender has no other.
        server = Server::start_at(server.kill(), url.trim_start_matches("http://"), &[]);
    }
    writer.join().unwrap();
    let sent = sender.wait_with_output().unwrap();
    assert!(sent.status.success(), "{}", stderr(&sent));
    assert_eq!(count(&server), (MANY as u64, MANY as u64));
    let run = Client::new(server.url()).get("/api/v1/runs/through-kills").unwrap().json();
    assert_eq!(run["records"], MANY);
}
