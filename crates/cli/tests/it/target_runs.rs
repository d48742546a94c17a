//! `GET /get/runs` and `GET /get/logs/RUN`: what a target's own tables say is what the server that wrote them says, and what
//! others wrote there counts too.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Client, JSON};
use crate::cluster::Cluster;
use crate::dynamo::fed as fed_dynamo;
use crate::fed::{caught_up, fed};
use crate::foreign;
use crate::harness::Server;
use crate::oracle::{self, Random};
use crate::proxy::Proxy;
use crate::storage::S3;

const RECORDS: usize = 600;
const RUNS: u64 = 25;

/// Records of many runs, some of which differ by microseconds, and not in the order in which they come.
fn post_some(server: &Server, random: &mut Random) {
    let mut record = |number: usize| {
        let mut record = oracle::record(random, RUNS, &format!("record {number}"));
        if number.is_multiple_of(4) {
            let micros = 999_999 - number;
            record.insert("timestamp".to_owned(), format!("2026-03-01T12:00:00.{micros}Z").into());
        }
        Value::from(record)
    };
    let records: Vec<Value> = (0..RECORDS).map(&mut record).collect();
    let answer = Client::new(server.url()).post(&[JSON], Value::from(records).to_string().as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// All runs of all pages, by their ids.
fn walk(server: &Server, path: &str) -> Vec<Value> {
    let (mut runs, mut cursor) = (Vec::new(), String::new());
    loop {
        let answer = server.http("GET", &format!("{path}&limit=4{cursor}"), &[], b"");
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let mut page = answer.json();
        let more = page["runs"].as_array_mut().unwrap();
        assert!(more.len() <= 4, "{path}: {more:?}");
        runs.append(more);
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    runs.sort_by_key(|run| run["run_id"].as_str().unwrap().to_owned());
    runs
}

/// A new server says of the target what the one that fed it says of itself.
fn compare(own: &Server, other: &Server, store: &str, change: impl Fn(&mut Value)) {
    for filter in [
        "",
        "&state=failed",
        "&state=succeeded",
        "&source_system=erp",
        "&stage=load",
        "&since=2026-03-01T01:00:00Z",
        "&until=2026-03-01T01:00:00Z",
        "&duration_min=30000",
        "&q=RUN-1",
    ] {
        let mut expected = walk(own, &format!("/api/v1/runs?{filter}"));
        expected.iter_mut().for_each(&change);
        assert_eq!(walk(other, &format!("/get/runs?store={store}{filter}")), expected, "{filter}");
        assert!(!expected.is_empty() && (!filter.is_empty() || expected.len() as u64 == RUNS), "{filter}");
    }
    let refused = |query: &str| other.http("GET", &format!("/get/runs?{query}"), &[], b"");
    for bad in ["store=lake", "order=newest", "limit=0", "cursor=x", "stat=failed"] {
        let answer = refused(bad);
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!(true)), "{bad}: {answer:?}");
    }
    let page = other.http("GET", &format!("/get/runs?store={store}&limit=1"), &[], b"").json();
    let cursor = page["next"].as_str().unwrap();
    let answer = refused(&format!("store={store}&state=failed&cursor={cursor}"));
    assert_eq!(answer.status, 400, "{answer:?}");
}

/// A new server shows of each log in the target what the one that fed it shows of its own.
fn compare_logs(own: &Server, other: &Server) {
    let mut found = 0;
    for run in walk(own, "/api/v1/runs?") {
        for filter in [
            "",
            "?type=error",
            "?level=WARNING",
            "?stage=load",
            "?since=2026-03-01T12:00:00.999700Z",
            "?until=2026-03-01T12:00:00.999700Z",
        ] {
            let path = format!("/get/logs/{}{filter}", run["run_id"].as_str().unwrap());
            let [expected, answer] = [own, other].map(|server| {
                let answer = server.http("GET", &path, &[], b"");
                assert_eq!(answer.status, 200, "{path}: {answer:?}");
                answer.json()
            });
            assert_eq!(answer["logs"], expected["logs"], "{path}");
            found += usize::from(!filter.is_empty() && expected["logs"].as_array().unwrap().len() > 1);
        }
    }
    assert!(found > RUNS as usize, "{found} filters find several entries");
}

#[test]
fn the_runs_of_a_table_of_postgresql_are_those_of_the_server_that_fed_it() {
    let mut random = Random::seeded("runs of PostgreSQL");
    let cluster = Cluster::start();
    let settings = fed(&cluster, "");
    let own = settings.start(TempDir::new().unwrap());
    post_some(&own, &mut random);
    caught_up(&own, "postgres");
    let other = settings.start(TempDir::new().unwrap());
    caught_up(&other, "postgres");
    compare(&own, &other, "postgres", |_| {});
    compare_logs(&own, &other);
    // The only one that is set.
    assert_eq!(walk(&other, "/get/runs?").len() as u64, RUNS);
    let answer = other.http("GET", "/get/runs?store=dynamodb", &[], b"");
    assert_eq!(answer.status, 501, "{answer:?}");
    assert!(answer.json()["message"].as_str().unwrap().contains("dynamodb.table"), "{answer:?}");
    // Rows of others are no records, and no runs.
    cluster.ask(
        "INSERT INTO shop_logs (timestamp, level, logger_name, process_id, thread_id, hostname, message) \
         VALUES (now(), 'INFO', 'module', 1, 1, 'host', 'text')",
    );
    assert_eq!(walk(&other, "/get/runs?").len() as u64, RUNS);
    // A row that somebody spoilt costs its run, and no other.
    cluster
        .ask("UPDATE shop_logs SET journal = NULL WHERE id = (SELECT max(id) FROM shop_logs WHERE run_id = 'run-3')");
    let left = walk(&other, "/get/runs?");
    assert!(left.len() as u64 == RUNS - 1 && left.iter().all(|run| run["run_id"] != "run-3"), "{left:?}");
    cluster.down();
    let answer = other.http("GET", "/get/runs", &[], b"");
    assert_eq!((answer.status, &answer.json()["error"]), (503, &json!(true)), "{answer:?}");
}

#[test]
fn the_runs_of_a_table_of_dynamodb_are_those_of_the_server_that_fed_it_and_of_others() {
    let mut random = Random::seeded("runs of DynamoDB");
    let moto = S3::start();
    let proxy = Proxy::before(moto.url());
    let own = fed_dynamo(moto.url()).start(TempDir::new().unwrap());
    post_some(&own, &mut random);
    caught_up(&own, "dynamodb");
    let other = fed_dynamo(proxy.url()).start(TempDir::new().unwrap());
    caught_up(&other, "dynamodb");
    // An entry does not say where its record stood.
    compare(&own, &other, "dynamodb", |run| run["last_position"] = 0.into());
    compare_logs(&own, &other);
    // As the Logger's own code writes it, and something that it would never take.
    let entries = json!([
        {"timestamp": "2025-01-13T12:35:10.123Z", "type": "error", "title": "Failed", "description": "no space left"},
        {"timestamp": "2025-01-13T12:34:56.789Z", "type": "start", "title": "Starting", "description": "d"},
        {"timestamp": "2025-01-13T12:34:57+00:00", "note": 5},
    ]);
    foreign::script("append_logs.py", &[moto.url(), "dmdb_logs", "20250113_123456_abc123", &entries.to_string()]);
    let failed = walk(&other, "/get/runs?until=2026-01-01T00:00:00Z");
    assert_eq!(failed.len(), 1, "{failed:?}");
    let run = &failed[0];
    assert_eq!(
        [&run["run_id"], &run["state"], &run["title"], &run["failure"], &run["started_at"], &run["ended_at"]],
        [
            "20250113_123456_abc123",
            "failed",
            "Starting",
            "no space left",
            "2025-01-13T12:34:56.789000Z",
            "2025-01-13T12:35:10.123000Z",
        ]
    );
    assert_eq!((&run["records"], &run["errors"], &run["duration"]), (&json!(3), &json!(1), &json!(13.334)));
    proxy.away();
    let answer = other.http("GET", "/get/runs", &[], b"");
    assert_eq!((answer.status, &answer.json()["error"]), (503, &json!(true)), "{answer:?}");
}
