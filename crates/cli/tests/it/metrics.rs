//! What is counted: metrics against SQL over `runs`, fields and values against SQL over `logs`, and what the configuration
//! says of source systems, wherever it shows.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Client, JSON, NDJSON};
use crate::foreign::script;
use crate::harness::{Server, runstone, stderr, until, write};
use crate::lake::{Settings, in_the_lake, metric, signal};
use crate::oracle::{self, Random, rows};
use crate::readers::location;

const SOURCES: &str = "\
sources:
  crm:
    environment: production
    owner: team-crm
    labels: {tier: gold}
  erp:
    environment: production
    owner: team-erp
  web:
    environment: test
";

/// Records of runs that go over three days, end, fail, and go on.
fn send(client: &mut Client, random: &mut Random, count: usize) {
    let lines: Vec<String> = (0..count)
        .map(|number| {
            let mut record = oracle::record(random, 60, &format!("message {number}"));
            let (day, hour, minute) = (1 + random.below(3), random.below(24), random.below(60));
            let second = number % 60;
            let at = format!("2026-03-0{day}T{hour:02}:{minute:02}:{second:02}.{number:06}Z");
            record.insert("timestamp".to_owned(), at.into());
            record.insert("hostname".to_owned(), format!("Host%{}", random.below(4)).into());
            Value::from(record).to_string()
        })
        .collect();
    let answer = client.post(&[NDJSON], lines.join("\n").as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.json());
}

fn get(client: &mut Client, path: &str) -> Value {
    let answer = client.get(path).unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", answer.json());
    answer.json()
}

/// A question in both languages: the parameters; and the groups, the bucket and the condition of SQL.
struct Question {
    parameters: &'static str,
    groups: &'static [&'static str],
    bucket: Option<&'static str>,
    condition: &'static str,
}

const QUESTIONS: &[Question] = &[
    Question { parameters: "", groups: &[], bucket: None, condition: "true" },
    Question {
        parameters: "group_by=source_system,stage&bucket=1h",
        groups: &["source_system", "stage"],
        bucket: Some("1 hour"),
        condition: "true",
    },
    Question {
        parameters: "group_by=stage&bucket=7m&since=2026-03-01T05:17:00Z&until=2026-03-02T11:03:30Z",
        groups: &["stage"],
        bucket: Some("7 minutes"),
        condition: "started_at >= TIMESTAMP '2026-03-01T05:17:00Z' AND started_at < TIMESTAMP '2026-03-02T11:03:30Z'",
    },
    Question {
        parameters: "group_by=environment,owner&bucket=1d&state=failed",
        groups: &["environment", "owner"],
        bucket: Some("1 day"),
        condition: "state = 'failed'",
    },
    Question {
        parameters: "group_by=owner&environment=production&stage=load",
        groups: &["owner"],
        bucket: None,
        condition: "environment = 'production' AND stage = 'load'",
    },
    Question {
        parameters: "owner=team-erp&source_system=erp&until=2026-03-01T12:00:00.5Z",
        groups: &[],
        bucket: None,
        condition: "owner = 'team-erp' AND started_at < TIMESTAMP '2026-03-01T12:00:00.5Z'",
    },
];

impl Question {
    fn sql(&self) -> String {
        let bucket = self.bucket.map(|bucket| {
            format!("date_bin(INTERVAL '{bucket}', started_at, TIMESTAMP '1970-01-01T00:00:00Z') AS bucket")
        });
        let keys: Vec<String> = bucket.into_iter().chain(self.groups.iter().map(|name| (*name).to_owned())).collect();
        let places: Vec<String> = (1..=keys.len()).map(|place| place.to_string()).collect();
        let columns: String = keys.iter().map(|key| format!("{key}, ")).collect();
        let by = match places.is_empty() {
            true => String::new(),
            false => format!("GROUP BY {0} ORDER BY {0}", places.join(", ")),
        };
        let states = ["running", "succeeded", "failed"]
            .map(|state| format!("count(*) FILTER (WHERE state = '{state}') AS {state}, "))
            .concat();
        let percentiles = ["50", "95", "99.9"]
            .map(|percentile| {
                let share = percentile.parse::<f64>().unwrap() / 100.0;
                format!("percentile_cont({share}) WITHIN GROUP (ORDER BY took) AS \"p{percentile}\", ")
            })
            .concat();
        format!(
            "SELECT {columns}count(*) AS runs, {states}{percentiles}sum(took) AS sum, avg(took) AS mean, min(took) AS min, \
             max(took) AS max, sum(row_count) AS row_count, sum(records) AS records, sum(warnings) AS warnings, \
             sum(errors) AS errors FROM (SELECT *, CASE WHEN state <> 'running' THEN duration END AS took FROM runs) AS runs \
             WHERE {} {by}",
            self.condition
        )
    }

    /// Both answers are one; gives it.
    fn check(&self, client: &mut Client) -> Value {
        let path = format!("/api/v1/metrics?percentiles=50,95,99.9&{}", self.parameters);
        let answer = get(client, &path);
        let (found, wanted) = (answer["groups"].as_array().unwrap(), rows(client, &self.sql()));
        assert!(!found.is_empty(), "{path}");
        assert_eq!(found.len(), wanted.len(), "{path}");
        for (found, wanted) in found.iter().zip(&wanted) {
            // DataFusion cuts the share of a percentile's upper neighbour to six digits.
            let within =
                if found["duration"].is_null() { 0.0 } else { 2e-6 * found["duration"]["max"].as_f64().unwrap() };
            let near = |found: &Value, name: &str| match (found.as_f64(), wanted[name].as_f64()) {
                (Some(found), Some(wanted)) if name.starts_with('p') => (found - wanted).abs() <= within,
                (Some(found), Some(wanted)) => (found - wanted).abs() <= 1e-9 * wanted.abs().max(1.0),
                (found, wanted) => found == wanted,
            };
            let counts = ["runs", "running", "succeeded", "failed", "row_count", "records", "warnings", "errors"];
            for name in self.groups.iter().copied().chain(self.bucket.map(|_| "bucket")).chain(counts) {
                assert_eq!(found[name], wanted[name], "{path} {name}: {found} {wanted}");
            }
            for name in ["sum", "mean", "min", "max", "p50", "p95", "p99.9"] {
                assert!(near(&found["duration"][name], name), "{path} {name}: {found} {wanted}");
            }
            let ended = found["succeeded"].as_u64().unwrap() + found["failed"].as_u64().unwrap();
            let rate = (ended > 0).then(|| found["succeeded"].as_f64().unwrap() / ended as f64);
            // A parser of JSON may miss the last bit of a float.
            let is_right = match (found["success_rate"].as_f64(), rate) {
                (Some(found), Some(rate)) => (found - rate).abs() < 1e-12,
                (found, rate) => found == rate,
            };
            assert!(is_right, "{path}: {found}");
        }
        answer
    }
}

fn check_all(client: &mut Client) -> Vec<Value> {
    QUESTIONS.iter().map(|question| question.check(client)).collect()
}

#[test]
fn metrics_are_what_sql_says_over_flush_restart_and_retention() {
    let mut random = Random::seeded("metrics");
    let settings = Settings::new(&format!("{SOURCES}lake:\n  retention_days: 7\n  upkeep_interval_ms: 24h\n"));
    let server = settings.start(TempDir::new().unwrap());
    let mut client = Client::new(server.url());
    for _ in 0..4 {
        send(&mut client, &mut random, 100);
        check_all(&mut client);
    }
    in_the_lake(&server, 400);
    let before = check_all(&mut client);
    let there = rows(&mut client, "SELECT count(DISTINCT run_id) AS n FROM logs");
    assert_eq!(before[0]["groups"][0]["runs"], there[0]["n"]);
    assert!(there[0]["n"].as_u64() > Some(50), "{there:?}");
    assert_eq!((&before[1]["bucket_seconds"], &before[0]["bucket_seconds"]), (&json!(3600), &Value::Null));

    let (code, dir) = server.terminate();
    assert_eq!(code, Some(0));
    let server = settings.start(dir);
    let mut client = Client::new(server.url());
    assert_eq!(check_all(&mut client), before, "after a restart");
    let server = settings.start(server.kill());
    let mut client = Client::new(server.url());
    assert_eq!(check_all(&mut client), before, "after a crash");

    // Another writer says that most of them arrived ten days ago.
    script("write_lake.py", &["age", &location(&server), "300", "10"]);
    signal(&server, Signal::USR1);
    until("they have left", || metric(&server, "runstone_lake_retired_records_total") == 300.0);
    until("SQL sees it", || rows(&mut Client::new(server.url()), "SELECT count(*) AS n FROM logs")[0]["n"] == 100);
    assert_eq!(check_all(&mut client), before, "records leave because of their age, runs do not");
    send(&mut client, &mut random, 100);
    assert_ne!(check_all(&mut client), before);
    let server = settings.start(server.terminate().1);
    check_all(&mut Client::new(server.url()));
}

#[test]
fn what_metrics_cannot_answer_is_refused_by_name() {
    let server = Server::start();
    let mut client = Client::new(server.url());
    for (parameters, words) in [
        ("group_by=run_id", "source_system, stage, environment, owner"),
        ("bucket=1y", "such as 5m, 1h, 7d"),
        ("bucket=0s", "such as 5m, 1h, 7d"),
        ("percentiles=50,101", "from 0 to 100"),
        ("since=soon", "parameter since"),
        ("group-by=stage", "is group_by meant?"),
        ("limit=5", "is not known here"),
    ] {
        let answer = client.get(&format!("/api/v1/metrics?{parameters}")).unwrap();
        let message = answer.json()["message"].to_string();
        assert!(answer.status == 400 && message.contains(words), "{parameters}: {message}");
    }
    let seconds =
        |number: usize| format!("2026-03-01T{:02}:{:02}:{:02}Z", number / 3_600, number / 60 % 60, number % 60);
    for part in 0..2 {
        let lines: Vec<String> = (part * 6_000..(part + 1) * 6_000)
            .map(|number| {
                json!({"run_id": format!("run-{number}"), "type": "start", "timestamp": seconds(number)}).to_string()
            })
            .collect();
        assert_eq!(client.post(&[NDJSON], lines.join("\n").as_bytes()).unwrap().status, 200);
    }
    let answer = client.get("/api/v1/metrics?bucket=1s").unwrap();
    assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("invalid_parameter")), "{answer:?}");
    let answer = get(&mut client, "/api/v1/metrics?bucket=2s");
    let counted: u64 = answer["groups"].as_array().unwrap().iter().map(|group| group["runs"].as_u64().unwrap()).sum();
    assert_eq!(counted, 12_000);
}

fn ids(answer: &Value) -> Vec<&str> {
    answer["runs"].as_array().unwrap().iter().map(|run| run["run_id"].as_str().unwrap()).collect()
}

#[test]
fn runs_are_filtered_and_walked_as_sql_orders_them() {
    let mut random = Random::seeded("runs");
    let settings = Settings::new(SOURCES);
    let server = settings.start(TempDir::new().unwrap());
    let mut client = Client::new(server.url());
    send(&mut client, &mut random, 400);
    let newest = "started_at DESC, run_id";
    for (parameters, condition, order) in [
        ("", "true", newest),
        ("order=oldest&state=failed", "state = 'failed'", "started_at, run_id DESC"),
        ("order=longest", "true", "duration DESC, started_at DESC, run_id"),
        (
            "order=longest&duration_min=40000.5&duration_max=150000",
            "duration BETWEEN 40000.5 AND 150000",
            "duration DESC, started_at DESC, run_id",
        ),
        ("q=RUN-1", "run_id LIKE '%run-1%'", newest),
        ("q=Title%20of%20message%203", "title ILIKE '%title of message 3%'", newest),
        (
            "q=message%203&state=failed",
            "state = 'failed' AND (title ILIKE '%message 3%' OR failure ILIKE '%message 3%')",
            newest,
        ),
        ("environment=production&stage=load", "environment = 'production' AND stage = 'load'", newest),
        (
            "owner=team-crm&since=2026-03-01T03:00:00Z",
            "owner = 'team-crm' AND started_at >= TIMESTAMP '2026-03-01T03:00:00Z'",
            newest,
        ),
        ("environment=elsewhere", "false", newest),
    ] {
        let wanted = rows(&mut client, &format!("SELECT run_id FROM runs WHERE {condition} ORDER BY {order}"));
        let wanted: Vec<&str> = wanted.iter().map(|row| row["run_id"].as_str().unwrap()).collect();
        assert!(condition == "false" || !wanted.is_empty(), "{parameters}");
        let (mut walked, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = get(&mut client, &format!("/api/v1/runs?limit=7&{parameters}{cursor}"));
            walked.extend(ids(&page).into_iter().map(str::to_owned));
            let Some(next) = page["next"].as_str() else { break };
            let other = client.get(&format!("/api/v1/runs?limit=7&state=running&cursor={next}")).unwrap();
            assert!(other.status == 400 && other.json()["message"].to_string().contains("another query"), "{other:?}");
            cursor = format!("&cursor={next}");
        }
        assert_eq!(walked, wanted, "{parameters}");
    }
}

#[test]
fn fields_and_values_count_what_sql_counts_in_memory_and_in_the_lake() {
    let mut random = Random::seeded("values");
    let settings = Settings::new(SOURCES);
    let server = settings.start(TempDir::new().unwrap());
    let mut client = Client::new(server.url());
    let window = "since=2026-03-01T20:00:00Z&until=2026-03-02T04:00:00Z&environment=production";
    let condition = "timestamp >= TIMESTAMP '2026-03-01T20:00:00Z' AND timestamp < TIMESTAMP '2026-03-02T04:00:00Z' \
                     AND source_system IN ('crm', 'erp')";
    let check = |client: &mut Client| {
        for (parameters, condition) in [("", "true"), (window, condition)] {
            let values = get(client, &format!("/api/v1/values?field=hostname&prefix=HOST%25&{parameters}"));
            let sql = format!(
                "SELECT hostname AS value, count(*) AS records FROM logs WHERE {condition} GROUP BY 1 ORDER BY 2 DESC, 1"
            );
            assert_eq!(values["values"], Value::from(rows(client, &sql)), "{parameters}");
            assert_eq!((&values["field"], &values["truncated"]), (&json!("hostname"), &json!(false)));
            let fields = get(client, &format!("/api/v1/fields?{parameters}"));
            let all = rows(client, "SELECT * FROM logs LIMIT 1");
            let names: Vec<&String> = all[0].as_object().unwrap().keys().collect();
            let counts: String = names.iter().map(|name| format!("count({name}) AS {name}, ")).collect();
            let keys =
                "count(metadata->>'number') AS \"metadata.number\", count(metadata->>'text') AS \"metadata.text\"";
            let wanted = rows(client, &format!("SELECT {counts}{keys} FROM logs WHERE {condition}"));
            let mut wanted = wanted[0].as_object().unwrap().clone();
            wanted.retain(|_, records| *records != 0);
            let found = fields["fields"].as_array().unwrap().iter();
            let found: serde_json::Map<String, Value> =
                found.map(|field| (field["name"].as_str().unwrap().to_owned(), field["records"].clone())).collect();
            assert_eq!(wanted, found, "{parameters}");
        }
    };
    send(&mut client, &mut random, 300);
    check(&mut client);
    in_the_lake(&server, 300);
    check(&mut client);
    send(&mut client, &mut random, 200);
    check(&mut client);

    let some = get(&mut client, "/api/v1/values?field=run_id&limit=3&prefix=run-");
    assert_eq!((some["values"].as_array().unwrap().len(), &some["truncated"]), (3, &json!(true)));
    let none = get(&mut client, "/api/v1/values?field=hostname&prefix=_ost");
    assert_eq!(none["values"], json!([]), "a prefix is matched as it stands");
    for (parameters, words) in [
        ("", "must be one of source_system"),
        ("field=message", "hardly repeat"),
        ("field=id", "hardly repeat"),
        ("field=position", "or are no words"),
        ("field=nothing", "got nothing"),
        ("field=stage&limit=1001", "between 1 and 1000"),
    ] {
        let answer = client.get(&format!("/api/v1/values?{parameters}")).unwrap();
        assert!(
            answer.status == 400 && answer.json()["message"].to_string().contains(words),
            "{parameters}: {answer:?}"
        );
    }
}

#[test]
fn what_is_known_of_source_systems_shows_at_reading_and_changes_with_the_settings() {
    let settings = Settings::new(SOURCES);
    let server = settings.start(TempDir::new().unwrap());
    let mut client = Client::new(server.url());
    let body = json!([
        {"run_id": "a", "type": "start", "source_system": "crm"},
        {"run_id": "b", "type": "start", "source_system": "web"},
        {"run_id": "c", "type": "start", "source_system": "unheard-of"},
    ]);
    assert_eq!(client.post(&[JSON], body.to_string().as_bytes()).unwrap().status, 200);
    let said = |run: &Value| [&run["environment"], &run["owner"], &run["labels"]].map(Value::clone);
    let run = |client: &mut Client, id: &str| said(&get(client, &format!("/api/v1/runs/{id}")));
    assert_eq!(run(&mut client, "a"), [json!("production"), json!("team-crm"), json!({"tier": "gold"})]);
    assert_eq!(run(&mut client, "b"), [json!("test"), Value::Null, json!({})]);
    assert_eq!(run(&mut client, "c"), [Value::Null, Value::Null, json!({})]);
    let records = |client: &mut Client, filter: &str| {
        let records = oracle::walk(client, &format!("order=oldest&{filter}"));
        records.iter().map(|record| record["run_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(records(&mut client, "environment=production"), ["a"]);
    assert_eq!(records(&mut client, "owner=team-crm&environment=test"), [""; 0]);
    assert_eq!(records(&mut client, "owner=nobody"), [""; 0]);
    let sql = "SELECT l.run_id, s.owner, s.labels->>'tier' AS tier FROM logs l JOIN sources s ON l.source_system = s.source_system ORDER BY 1";
    let joined = [
        json!({"run_id": "a", "owner": "team-crm", "tier": "gold"}),
        json!({"run_id": "b", "owner": null, "tier": null}),
    ];
    assert_eq!(rows(&mut client, sql), joined);

    // History follows.
    let settings = Settings::new("sources: {web: {environment: production, owner: team-web}}\n");
    let server = settings.start(server.terminate().1);
    let mut client = Client::new(server.url());
    assert_eq!(run(&mut client, "a"), [Value::Null, Value::Null, json!({})]);
    assert_eq!(records(&mut client, "environment=production"), ["b"]);
    let sql = "SELECT run_id, owner, labels FROM runs WHERE environment = 'production'";
    assert_eq!(rows(&mut client, sql), [json!({"run_id": "b", "owner": "team-web", "labels": "{}"})]);
}

#[test]
fn a_server_with_bad_source_systems_does_not_start() {
    let dir = TempDir::new().unwrap();
    let file = write(dir.path(), "runstone.yml", "sources:\n  shop:\n    ownr: team-shop\n");
    let mut command = runstone();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(dir.path().join("data"));
    let output = command.arg("--config").arg(&file).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("runstone.yml:3: sources.shop.ownr: is not known"), "{}", stderr(&output));
}
