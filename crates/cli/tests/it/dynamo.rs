//! DynamoDB beside a running server, played by moto and read by boto3: the log of each run is there, entry by entry as
//! `GET /get/logs/{run_id}` shows it, whatever is killed or goes away. Owns what goes wrong; `oracle` judges the server.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::fed::{caught_up, sink};
use crate::foreign;
use crate::harness::{Server, until};
use crate::kills::{Sender, is_ready, load, settle};
use crate::lake::{Settings, ready};
use crate::oracle::{self, Random, Record};
use crate::proxy::Proxy;
use crate::readme::{blocks, page};
use crate::storage::S3;

const KILLS: usize = 3;
/// Between a sender's batches: moto takes a hundred requests a second or so.
const PAUSE: Duration = Duration::from_millis(60);

/// A server with a table that it makes, and whose logs go on in further items soon.
pub(crate) fn fed(endpoint: &str) -> Settings {
    let yaml = format!(
        "dynamodb:\n  table: dmdb_logs\n  create: if_missing\n  endpoint: {endpoint}\n  item_bytes_max: 4KiB\n\
         journal:\n  segment_bytes: 1MiB\n"
    );
    Settings::new(&yaml).among(S3::env_at(endpoint))
}

/// DynamoDB's typed JSON as plain JSON.
fn plain(typed: &Value) -> Value {
    let (kind, value) = typed.as_object().unwrap().iter().next().unwrap();
    match kind.as_str() {
        "S" | "BOOL" => value.clone(),
        "N" => serde_json::from_str(value.as_str().unwrap()).unwrap(),
        "NULL" => Value::Null,
        "L" => value.as_array().unwrap().iter().map(plain).collect(),
        "M" => value.as_object().unwrap().iter().map(|(name, value)| (name.clone(), plain(value))).collect(),
        other => panic!("{other}: {typed}"),
    }
}

/// An item's entry as the server shows it: with milliseconds.
fn entry(typed: &Value) -> Value {
    let mut entry = plain(typed);
    let time = entry["timestamp"].as_str().unwrap();
    entry["timestamp"] = format!("{}Z", &time[.."2026-03-01T00:00:00.000".len()]).into();
    entry
}

/// The entries of each run by their ids, from as many items as it has. None is there twice.
fn logs(endpoint: &str) -> BTreeMap<String, BTreeMap<String, Value>> {
    let items = foreign::script("read_table.py", &[endpoint, "dmdb_logs"]);
    let mut logs: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    for item in items.as_array().unwrap() {
        let key = item["run_id"]["S"].as_str().unwrap();
        let Some(run_id) = key.split('#').next().filter(|run_id| !run_id.is_empty()) else { continue };
        for typed in item["logs"]["L"].as_array().unwrap() {
            let entry = entry(typed);
            let id = entry["id"].as_str().unwrap().to_owned();
            assert_eq!(logs.entry(run_id.to_owned()).or_default().insert(id, entry), None, "an entry is there once");
        }
    }
    logs
}

/// What the server shows of the same runs.
fn shown(server: &Server, read: &[Record]) -> BTreeMap<String, BTreeMap<String, Value>> {
    let run_ids = read.iter().filter_map(|record| record.get("run_id")?.as_str().map(str::to_owned));
    let mut logs: BTreeMap<String, BTreeMap<String, Value>> = run_ids.map(|run_id| (run_id, BTreeMap::new())).collect();
    for (run_id, log) in &mut logs {
        let answer = server.http("GET", &format!("/get/logs/{run_id}"), &[], b"");
        assert_eq!(answer.status, 200, "{answer:?}");
        for entry in answer.json()["logs"].as_array().unwrap() {
            log.insert(entry["id"].as_str().unwrap().to_owned(), entry.clone());
        }
    }
    logs
}

fn senders(random: &mut Random) -> Vec<Sender> {
    (0..2).map(|number| Sender::paced(number, random, PAUSE)).collect()
}

#[test]
fn killed_servers_leave_each_entry_in_its_log_once() {
    let mut random = Random::seeded("dynamo kills");
    let (moto, mut senders) = (S3::start(), senders(&mut random));
    let settings = fed(moto.url());
    let mut dir = TempDir::new().unwrap();
    for _ in 0..KILLS {
        let server = settings.start(dir);
        until("it is ready", || is_ready(&server));
        dir = load(server, &mut senders, Duration::from_millis(300 + random.below(900)), Server::kill);
    }
    let server = settings.start(dir);
    until("it is ready", || is_ready(&server));
    let batches = settle(&mut senders, &server);
    let read = oracle::check(server.url(), &batches);
    caught_up(&server, "dynamodb");
    assert_eq!(logs(moto.url()), shown(&server, &read));
}

#[test]
fn while_dynamodb_is_away_the_logger_answers_as_ever_and_then_its_log_has_everything() {
    let moto = S3::start();
    let proxy = Proxy::before(moto.url());
    let server = fed(proxy.url()).start(TempDir::new().unwrap());
    let mut sent = Vec::new();
    let mut log = |number: u64| {
        let metadata: Map<String, Value> = [
            ("number".to_owned(), serde_json::from_str("12345678901234567890.123456789").unwrap()),
            ("size".to_owned(), number.into()),
            ("reserved".to_owned(), serde_json::json!({"name": "", "items": [], "null": null})),
        ]
        .into_iter()
        .collect();
        let event = serde_json::json!({"run_id": "20250113_123456_abc123", "log_entry": {
            "type": "status", "title": format!("Step {number}"), "description": "d", "metadata": metadata,
        }});
        let answer = server.http("POST", "/log", &[crate::client::JSON], event.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        sent.push(answer.json());
    };
    log(1);
    caught_up(&server, "dynamodb");
    proxy.away();
    log(2);
    until("it says so", || sink(&server, "dynamodb").0 == "degraded");
    assert_eq!(ready(&server).json()["status"], "degraded");
    log(3);
    proxy.calm();
    caught_up(&server, "dynamodb");
    let read = oracle::walk(&mut crate::client::Client::new(server.url()), "order=oldest");
    let logs = logs(moto.url());
    assert_eq!(logs, shown(&server, &read));
    assert_eq!(logs["20250113_123456_abc123"].len(), sent.len());
}

#[test]
fn a_run_that_only_dynamodb_has_is_read_there() {
    let moto = S3::start();
    let proxy = Proxy::before(moto.url());
    let server = fed(proxy.url()).start(TempDir::new().unwrap());
    caught_up(&server, "dynamodb");
    // As the Logger's own code writes it: no id, and the later entry first.
    let entries = serde_json::json!([
        {"timestamp": "2025-01-13T12:35:10.123Z", "type": "error", "title": "Failed", "description": "é",
         "metadata": {"n": 5, "path": {"s3": "s3://b/k"}}},
        {"timestamp": "2025-01-13T12:34:56.789Z", "type": "start", "title": "Starting", "description": "d"},
    ]);
    foreign::script("append_logs.py", &[moto.url(), "dmdb_logs", "20250113_123456_abc123", &entries.to_string()]);
    let get = |query: &str| server.http("GET", &format!("/get/logs/20250113_123456_abc123{query}"), &[], b"");
    let answer = get("");
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = answer.json();
    assert_eq!(body["run_id"], "20250113_123456_abc123");
    assert_eq!(body["logs"], serde_json::json!([entries[1], entries[0]]));
    for (query, places) in [
        ("?type=error", &[0][..]),
        ("?level=ERROR", &[0]),
        ("?since=2025-01-13T12:35:00Z", &[0]),
        ("?until=2025-01-13T12:35:00Z", &[1]),
        ("?q=starting", &[1]),
        ("?metadata.path.s3=s3%3A%2F%2Fb%2Fk", &[0]),
        ("?stage=load", &[]),
    ] {
        let chosen: Vec<&Value> = places.iter().map(|place: &usize| &entries[*place]).collect();
        assert_eq!(get(query).json()["logs"], serde_json::json!(chosen), "{query}");
    }
    assert_eq!(get("?limit=5").status, 400);
    assert_eq!(server.http("GET", "/get/logs/nobody", &[], b"").status, 404);
    // Whether there is such a run cannot be known now.
    proxy.away();
    let answer = server.http("GET", "/get/logs/nobody", &[], b"");
    assert_eq!((answer.status, &answer.json()["error"]), (503, &Value::Bool(true)), "{answer:?}");
}

#[test]
fn what_a_function_stored_is_shown_as_the_server_shows_what_it_took() {
    let moto = S3::start();
    let entries: Value = serde_json::from_str(
        r#"[
        {"timestamp": "2025-01-13T12:34:56.789123", "type": "milestone", "title": "Halfway", "description": "", "note": [1, "x"]},
        {"timestamp": "2025-01-13T12:34:57Z", "type": "warning", "level": "error", "title": "t", "description": "d",
         "metadata": {"n": 12345678901234567890.123456789, "e": {}, "log_type": "mine"}, "stage": "load", "row_count": 7},
        {"timestamp": "2025-01-13T12:34:58Z", "type": "info", "title": "t", "description": "d", "metadata": null,
         "run_id": "RUN", "id": "01980000-0000-7000-8000-0000000000ab"}
        ]"#,
    )
    .unwrap();
    let of = |run: &str| serde_json::from_str::<Value>(&entries.to_string().replace("RUN", run)).unwrap();
    let server = fed(moto.url()).start(TempDir::new().unwrap());
    for entry in of("own").as_array().unwrap() {
        let event = serde_json::json!({"run_id": "own", "log_entry": entry}).to_string();
        let answer = server.http("POST", "/log", &[crate::client::JSON], event.as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    caught_up(&server, "dynamodb");
    foreign::script("append_logs.py", &[moto.url(), "dmdb_logs", "theirs", &of("theirs").to_string()]);
    let logs = |run: &str| {
        let mut logs = server.http("GET", &format!("/get/logs/{run}"), &[], b"").json()["logs"].take();
        // The server gives an id to what has none.
        logs.as_array_mut().unwrap()[..2]
            .iter_mut()
            .for_each(|entry| drop(entry.as_object_mut().unwrap().remove("id")));
        logs
    };
    let own = logs("own");
    assert_eq!(logs("theirs"), own);
    assert_eq!((&own[0]["type"], &own[0]["metadata"]["log_type"]), (&"log".into(), &"milestone".into()), "{own}");
}

#[test]
fn times_that_others_wrote_are_shown_in_one_form_and_order() {
    let moto = S3::start();
    let entries: Vec<Value> = [
        ("2025-01-13T12:34:56.789123Z", "c"),
        ("2025-01-13T12:34:56.5Z", "b"),
        ("2025-01-13T13:34:56+01:00", "a"),
        ("2025-01-13T12:34:57.000001", "d"),
    ]
    .iter()
    .map(|(time, title)| serde_json::json!({"timestamp": time, "type": "info", "title": title, "description": ""}))
    .collect();
    let server = fed(moto.url()).start(TempDir::new().unwrap());
    caught_up(&server, "dynamodb");
    foreign::script("append_logs.py", &[moto.url(), "dmdb_logs", "times", &Value::from(entries).to_string()]);
    let shown = |query: &str| {
        let answer = server.http("GET", &format!("/get/logs/times{query}"), &[], b"").json();
        let entries = answer["logs"].as_array().unwrap().iter();
        entries
            .map(|entry| format!("{} {}", entry["timestamp"], entry["title"]).replace('"', ""))
            .collect::<Vec<String>>()
    };
    let expected = [
        "2025-01-13T12:34:56.000Z a",
        "2025-01-13T12:34:56.500Z b",
        "2025-01-13T12:34:56.789Z c",
        "2025-01-13T12:34:57.000Z d",
    ];
    assert_eq!(shown(""), expected);
    assert_eq!(shown("?since=2025-01-13T12:34:57Z"), expected[3..]);
}

#[test]
fn a_record_that_comes_again_when_its_id_was_forgotten_is_shown_once() {
    let moto = S3::start();
    let settings = fed(moto.url());
    let record = |id: u64, message: &str| serde_json::json!({"id": format!("01980000-0000-7000-8000-{id:012x}"), "run_id": "again", "message": message});
    let post = |server: &Server, record: &Value| {
        assert_eq!(server.post(&record.to_string()).status, 200);
        caught_up(server, "dynamodb");
    };
    let first = settings.start(TempDir::new().unwrap());
    post(&first, &record(1, "one"));
    drop(first);
    // It knows neither, and has appended to this log already when it gets the first once more.
    let second = settings.start(TempDir::new().unwrap());
    post(&second, &record(2, "two"));
    post(&second, &record(1, "one"));
    drop(second);
    let third = settings.start(TempDir::new().unwrap());
    let entries = third.http("GET", "/get/logs/again", &[], b"").json()["logs"].clone();
    let mut messages: Vec<&str> =
        entries.as_array().unwrap().iter().map(|entry| entry["description"].as_str().unwrap()).collect();
    messages.sort_unstable();
    assert_eq!(messages, ["one", "two"]);
}

#[test]
fn the_guides_commands_make_what_the_sinks_feed_and_the_aws_cli_reads_it() {
    let moto = S3::start();
    let cli = |commands: &str| foreign::aws(moto.url(), commands);
    for guide in ["docs/dynamodb.md", "docs/cloudwatch.md"] {
        let page = page(guide);
        let commands = blocks(&page).into_iter().find(|block| block.text.contains("aws ")).unwrap();
        cli(&commands.text);
    }
    let yaml = format!(
        "dynamodb:\n  table: dmdb_logs\n  endpoint: {0}\ncloudwatch:\n  group: /runstone/logs\n  endpoint: {0}\n",
        moto.url()
    );
    let server = Settings::new(&yaml).among(S3::env_at(moto.url())).start(TempDir::new().unwrap());
    let caught_up = || ["dynamodb", "cloudwatch"].iter().for_each(|name| caught_up(&server, name));
    caught_up();
    let record = serde_json::json!({"run_id": "nightly-7", "message": "as the guides say", "level": "ERROR"});
    assert_eq!(server.post(&record.to_string()).status, 200);
    caught_up();
    let item = cli("aws dynamodb get-item --table-name dmdb_logs --key '{\"run_id\": {\"S\": \"nightly-7\"}}'");
    let item: Value = serde_json::from_str(&item).unwrap();
    let shown = server.http("GET", "/get/logs/nightly-7", &[], b"").json();
    let stored: Vec<Value> = item["Item"]["logs"]["L"].as_array().unwrap().iter().map(entry).collect();
    assert_eq!(Value::from(stored), shown["logs"]);
    let events = cli("aws logs filter-log-events --log-group-name /runstone/logs");
    let events: Value = serde_json::from_str(&events).unwrap();
    let event: Value = serde_json::from_str(events["events"][0]["message"].as_str().unwrap()).unwrap();
    assert_eq!((&event["run_id"], &event["message"]), (&record["run_id"], &record["message"]));
}

#[test]
fn a_log_too_long_to_be_put_into_order_comes_as_it_was_appended() {
    let moto = S3::start();
    let settings = fed(moto.url());
    let first = settings.start(TempDir::new().unwrap());
    // Some hundred bytes each as they are stored, and each earlier than the one before.
    let text = "long ".repeat(50_000);
    let record = |run_id: &str, second: usize, text: &str| {
        let timestamp = format!("2025-01-13T12:{:02}:{:02}Z", second / 60, second % 60);
        serde_json::json!({"run_id": run_id, "timestamp": timestamp, "message": text, "metadata": {"n": second}})
    };
    for seconds in [80..100, 60..80, 40..60, 20..40, 0..20] {
        let long = seconds.clone().rev().map(|second| record("long", second, &text));
        let short = seconds.rev().map(|second| record("short", second, "short"));
        let lines: String = long.chain(short).map(|record| format!("{record}\n")).collect();
        let answer = first.http("POST", "/api/v1/logs", &[crate::client::NDJSON], lines.as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    caught_up(&first, "dynamodb");
    drop(first);
    // A server that has neither.
    let second = settings.start(TempDir::new().unwrap());
    caught_up(&second, "dynamodb");
    let read = |run_id: &str, query: &str| {
        let answer = second.http("GET", &format!("/get/logs/{run_id}{query}"), &[], b"");
        assert_eq!(answer.status, 200, "{} bytes", answer.body.len());
        let document = answer.json();
        assert!(document["created_at"].as_str() <= document["updated_at"].as_str() && document["created_at"] != "");
        let entries = document["logs"].as_array().unwrap().iter();
        entries.map(|entry| entry["metadata"]["n"].as_u64().unwrap()).collect::<Vec<u64>>()
    };
    assert_eq!(read("long", ""), (0..100).rev().collect::<Vec<u64>>());
    assert_eq!(read("long", "?since=2025-01-13T12:01:38Z"), [99, 98]);
    assert_eq!(read("short", ""), (0..100).collect::<Vec<u64>>());
}
