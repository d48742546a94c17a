//! Reading: at once after writing, filtered, page by page beside writers, and SQL that means no good.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use runstone_record::limits::{BODY_WIRE_BYTES_MAX, SQL_BYTES_MAX};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Client, JSON};
use crate::harness::{Answer, Server, write};
use crate::oracle::{self, Random, Record, rows};

fn post(client: &mut Client, records: &[Record]) {
    let answer = client.post(&[JSON], serde_json::to_string(records).unwrap().as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn messages(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| record["message"].as_str().unwrap()).collect()
}

#[test]
fn what_was_acknowledged_is_read_at_once() {
    let mut random = Random::seeded("at once");
    let server = Server::start();
    let (mut writer, mut reader) = (Client::new(server.url()), Client::new(server.url()));
    for number in 1..=200_u64 {
        let token = format!("token {number}");
        let mut record = oracle::record(&mut random, 1, &token);
        record["run_id"] = format!("run-{}", number % 50).into();
        post(&mut writer, &[record]);
        let place = number.div_ceil(50);
        match number % 4 {
            0 => {
                let found = rows(&mut reader, &format!("SELECT count(*) AS n FROM logs WHERE message = '{token}'"));
                assert_eq!(found[0]["n"], 1, "{token}");
            }
            1 => {
                let found = oracle::walk(&mut reader, &format!("q=TOKEN%20{number}&run_id=run-{}", number % 50));
                assert!(messages(&found).contains(&token.as_str()), "{token}");
            }
            2 => {
                let run = reader.get(&format!("/api/v1/runs/run-{}", number % 50)).unwrap().json();
                assert_eq!((&run["records"], &run["last_position"]), (&json!(place), &json!(number)), "{token}");
            }
            _ => {
                let found = rows(&mut reader, "SELECT max(last_position) AS last FROM runs");
                assert_eq!(found[0]["last"], number, "{token}");
            }
        }
    }
}

#[test]
fn filters_leave_what_the_model_leaves_in_both_orders() {
    let mut random = Random::seeded("filters");
    let server = Server::start();
    let mut client = Client::new(server.url());
    for batch in 0..40 {
        let records: Vec<Record> = (0..random.below(30))
            .map(|number| {
                oracle::record(&mut random, 7, &format!("Message {} of {batch}, number {number}", number % 3))
            })
            .collect();
        post(&mut client, &records);
    }
    let all = oracle::walk(&mut client, "order=oldest");
    let is = |record: &Record, field: &str, value: &str| record.get(field).is_some_and(|found| found == value);
    let level = |record: &Record| {
        let levels = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];
        levels.iter().position(|level| is(record, "level", level))
    };
    let time = |record: &Record| record["timestamp"].as_str().unwrap().to_owned();
    let noon = "2026-03-01T12:00:00.000000Z";
    type Model<'m> = Box<dyn Fn(&Record) -> bool + 'm>;
    let table: Vec<(&str, Model<'_>)> = vec![
        ("run_id=run-3", Box::new(|record| is(record, "run_id", "run-3"))),
        ("run_id=run-3&type=error", Box::new(|record| is(record, "run_id", "run-3") && is(record, "type", "error"))),
        (
            "stage=load&source_system=crm",
            Box::new(|record| is(record, "stage", "load") && is(record, "source_system", "crm")),
        ),
        ("level=ERROR", Box::new(|record| level(record) >= Some(3))),
        ("level=warn&type=start", Box::new(|record| level(record) >= Some(2) && is(record, "type", "start"))),
        ("since=2026-03-01T12:00:00Z", Box::new(|record| time(record).as_str() >= noon)),
        ("until=2026-03-01T13:00:00%2B01:00", Box::new(|record| time(record).as_str() < noon)),
        ("q=%22MESSAGE%201%20of%22", Box::new(|record| record["message"].as_str().unwrap().contains("essage 1 of"))),
        ("q=OF%20TITLE", Box::new(|record| record.contains_key("title"))),
        ("q=%25", Box::new(|_| false)),
        ("run_id=RUN-3", Box::new(|_| false)),
        ("journal=%27%20OR%201%3D1--", Box::new(|_| false)),
        ("status=$1", Box::new(|_| false)),
        ("hostname=%25s", Box::new(|_| false)),
        ("q=%22%27%29%20OR%20%28%27a%27%3D%27a%22", Box::new(|_| false)),
    ];
    for (query, model) in &table {
        let expected: Vec<Record> = all.iter().filter(|record| model(record)).cloned().collect();
        let mut found = oracle::walk(&mut client, &format!("{query}&order=oldest"));
        assert!(found == expected, "{query}: {} instead of {}", found.len(), expected.len());
        // Small pages, the other way round.
        found.clear();
        let mut cursor = String::new();
        loop {
            let page = client.get(&format!("/api/v1/logs?{query}&limit=13{cursor}")).unwrap().json();
            let records = page["records"].as_array().unwrap();
            found.extend(records.iter().map(|record| record.as_object().unwrap().clone()));
            let Some(next) = page["next"].as_str() else { break };
            assert_eq!(records.len(), 13, "only the last page is short");
            cursor = format!("&cursor={next}");
        }
        found.reverse();
        assert!(found == expected, "{query}: {} instead of {}, newest first", found.len(), expected.len());
    }
}

#[test]
fn a_walk_beside_writers_shows_what_was_there_when_it_began_once_each() {
    let mut random = Random::seeded("walk");
    let server = Server::start();
    let mut client = Client::new(server.url());
    let records: Vec<Record> =
        (0..500).map(|number| oracle::record(&mut random, 5, &format!("old {number}"))).collect();
    post(&mut client, &records);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut client, mut random, mut number) = (Client::new(server.url()), Random(random.next()), 0);
            while !done.load(Ordering::Acquire) {
                number += 1;
                post(&mut client, &[oracle::record(&mut random, 5, &format!("new {number}"))]);
            }
            number
        });
        for order in ["newest", "oldest", "newest"] {
            // A limit that changes on the way is no other query.
            let (mut found, mut cursor, mut limit) = (Vec::new(), String::new(), 7);
            let (mut last, mut below) = (0, 0);
            loop {
                let page = client.get(&format!("/api/v1/logs?order={order}&limit={limit}{cursor}")).unwrap().json();
                if found.is_empty() {
                    let known = rows(&mut client, "SELECT max(position) AS last FROM logs");
                    below = known[0]["last"].as_u64().unwrap();
                }
                for record in page["records"].as_array().unwrap() {
                    last = last.max(record["position"].as_u64().unwrap());
                    found.push(record.as_object().unwrap().clone());
                }
                let Some(next) = page["next"].as_str() else { break };
                cursor = format!("&cursor={next}");
                limit = 20 + limit % 60;
            }
            let mut seen = messages(&found);
            seen.sort_unstable();
            assert!(seen.windows(2).all(|pair| pair[0] != pair[1]), "each once");
            assert_eq!(seen.iter().filter(|message| message.starts_with("old")).count(), 500);
            assert!(last <= below, "what came after the first page is outside");
            assert_eq!(found.len() as u64, last, "and of what was there nothing is left out");
        }
        done.store(true, Ordering::Release);
        assert!(writer.join().unwrap() > 0);
    });
}

#[test]
fn parameters_that_are_not_understood_are_400() {
    let server = Server::start();
    let mut client = Client::new(server.url());
    let mut random = Random::seeded("parameters");
    let mut records: Vec<Record> = (0..5).map(|number| oracle::record(&mut random, 2, &format!("{number}"))).collect();
    // However the dice fall, there are two runs.
    records[0]["run_id"] = "run-0".into();
    records[1]["run_id"] = "run-1".into();
    post(&mut client, &records);
    let next = |client: &mut Client, path: &str| client.get(path).unwrap().json()["next"].as_str().unwrap().to_owned();
    let cursor = next(&mut client, "/api/v1/logs?limit=2&order=oldest");
    let runs_cursor = next(&mut client, "/api/v1/runs?limit=1");
    let long = "x".repeat(2_000);
    for query in [
        "limit=1000000000000",
        "limit=-1",
        "limit=0",
        "limit=1e3",
        "order=up",
        "level=LOUD",
        "type=banana",
        "cursor=%25%25",
        "cursor=AAAA",
        "since=yesterday",
        "since=2025-01-01T00:00:00",
        "until=2025-13-01T00:00:00Z",
        "runid=a",
        "message=x",
        "metadata=x",
        "run_id=a&run_id=b",
        "Run_id=a",
        "=",
        "%00=1",
        &format!("q={long}"),
        &format!("cursor={cursor}"),
        &format!("cursor={cursor}&order=newest"),
        &format!("cursor={cursor}&order=oldest&stage=load"),
        &format!("cursor={}&order=oldest", &cursor[..20]),
        &format!("cursor={runs_cursor}"),
    ] {
        let answer = client.get(&format!("/api/v1/logs?{query}")).unwrap();
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("invalid_parameter")), "{query}: {answer:?}");
    }
    for path in [
        "?limit=-1",
        "?limit=1001",
        "?state=asleep",
        "?cursor=abc",
        "?x=1",
        "?since=x",
        "?level=INFO",
        &format!("?cursor={cursor}"),
        "/..%2f..%2fetc",
        "/%00",
        "/%ff",
        "/a%20b",
        "/CON",
    ] {
        let answer = client.get(&format!("/api/v1/runs{path}")).unwrap();
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("invalid_parameter")), "{path}: {answer:?}");
    }
    for path in ["/api/v1/runs/unknown", "/api/v1/runs/", "/api/v1/log", "/api/v1/logs/", "/api/v1/../v1/logs", "//"] {
        let answer = client.get(path).unwrap();
        assert_eq!((answer.status, &answer.json()["error"]), (404, &json!("not_found")), "{path}: {answer:?}");
    }
    let page = client.get(&format!("/api/v1/logs?order=oldest&limit=1000&cursor={cursor}")).unwrap().json();
    assert_eq!(page["records"].as_array().unwrap().len(), 3);
}

/// Bodies of `/api/v1/query` that are no query.
#[test]
fn a_query_that_is_none_is_400() {
    let server = Server::start();
    let mut client = Client::new(server.url());
    for (body, code) in [
        ("", "empty_body"),
        ("{", "invalid_json"),
        ("\u{feff}{\"sql\":\"SELECT 1\"}", "invalid_json"),
        (&"[".repeat(1_000_000), "invalid_json"),
        ("{}", "invalid_query"),
        ("[]", "invalid_query"),
        ("[\"SELECT 1\"]", "invalid_query"),
        ("{\"sql\":5}", "invalid_query"),
        ("{\"sql\":\"SELECT 1\",\"limit\":1}", "invalid_query"),
        ("{\"sql\":\"SELECT 1\",\"sql\":\"SELECT 2\"}", "invalid_query"),
    ] {
        let answer = client.request("POST", "/api/v1/query", &[JSON], body.as_bytes()).unwrap();
        let got = answer.json();
        assert_eq!((answer.status, got["error"].as_str()), (400, Some(code)), "{}: {got}", &body[..body.len().min(50)]);
    }
    let answer = client.request("POST", "/api/v1/query", &[("content-type", "text/sql")], b"SELECT 1").unwrap();
    assert_eq!(answer.status, 415);
}

/// Peak memory of a process, in bytes.
pub(crate) fn peak_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// A body is refused for its length before a text is, and a text before anything is made of it.
fn is_refused(sql: &str, answer: &Answer) -> bool {
    let is = |status: u16, code: &str| answer.status == status && answer.json()["error"] == code;
    if sql.len() > BODY_WIRE_BYTES_MAX {
        is(413, "body_too_large")
    } else if sql.len() > SQL_BYTES_MAX {
        is(400, "invalid_query")
    } else {
        matches!(answer.status, 400 | 408)
    }
}

#[test]
fn hostile_sql_ends_in_time_and_memory_and_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let config = write(folder.path(), "runstone.yml", "query:\n  timeout_ms: 1s\n  memory_bytes_max: 64MiB\n");
    let server = Server::start_with(&["--config", config.to_str().unwrap()]);
    let mut client = Client::new(server.url());
    let mut random = Random::seeded("sql");
    for batch in 0..10 {
        let records: Vec<Record> = (0..1_000)
            .map(|number| oracle::record(&mut random, 9, &format!("{batch} {number} {}!", "a".repeat(60))))
            .collect();
        post(&mut client, &records);
    }
    let target = folder.path().join("stolen.csv");
    let patterns = [2_000_000, 150_000]
        .map(|times| format!("SELECT count(*) FROM logs WHERE message ~ '{}'", "(a+)+".repeat(times)));
    let copy = format!("COPY logs TO '{}'", target.display());
    let external = "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'";
    // As many values of a row as fit into a text: what is made of one batch would be gigabytes.
    let wide = (0..2_300).map(|n| format!("message||'{n}'")).collect::<Vec<_>>();
    let wide = format!("SELECT {} FROM logs", wide.join(","));
    let cross = "SELECT count(*) FROM logs a, logs b, logs c WHERE a.message < b.message AND b.message < c.message";
    for sql in [
        copy.as_str(),
        external,
        &patterns[0],
        &patterns[1],
        &wide[..],
        cross,
        "SELECT * FROM '/etc/passwd'",
        "SET datafusion.execution.batch_size = 1",
        "INSERT INTO logs (message) VALUES ('x')",
        "DELETE FROM logs",
        "DROP TABLE logs",
        "SELECT 1; DROP TABLE logs",
        "SELECT * FROM generate_series(1, 1000000000000)",
        "SELECT count(*) FROM generate_series(1, 1000000000000)",
        "WITH RECURSIVE n AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM n) SELECT count(*) FROM n",
        "SELECT repeat('x', 1000000000)",
        "SELECT array_agg(a.message || b.message) FROM logs a, logs b",
        "SELECT a.message, count(*) FROM logs a JOIN logs b ON a.level = b.level JOIN logs c ON b.level = c.level GROUP BY 1",
        "SELECT a.message || b.message AS m FROM logs a, logs b ORDER BY m LIMIT 100000000",
        "SELECT sum(a.row_count * b.row_count * c.row_count) FROM logs a, logs b, logs c",
        "SELECT pg_sleep(100)",
    ] {
        let begun = Instant::now();
        let answer = client.sql(sql).unwrap();
        let took = begun.elapsed();
        let shown = &sql[..sql.len().min(80)];
        assert!(
            is_refused(sql, &answer),
            "{shown}: {} {}",
            answer.status,
            String::from_utf8_lossy(&answer.body[..answer.body.len().min(300)])
        );
        assert!(took < Duration::from_secs(10), "{shown}: {took:?}");
        assert_eq!(rows(&mut client, "SELECT count(*) AS n FROM logs")[0]["n"], 10_000, "{shown}");
    }
    assert!(!target.exists());
    // Linear time, whatever the pattern: who tries every way to part so many letters is stopped before it has tried them.
    assert_eq!(rows(&mut client, "SELECT count(*) AS n FROM logs WHERE message ~ '(a+)+$'")[0]["n"], 0);
    let peak = peak_bytes(server.pid());
    assert!(peak < 512 << 20, "{peak} bytes");
    let values = json!({"sql": "SELECT count(*) AS n FROM logs WHERE run_id = ''' OR 1=1--' OR stage = '$1'"});
    let answer = client.request("POST", "/api/v1/query", &[JSON], values.to_string().as_bytes()).unwrap().json();
    assert_eq!(answer["rows"], Value::from(vec![json!({"n": 0})]));
}

#[test]
fn the_records_of_a_run_are_read_under_its_name() {
    let server = Server::start();
    let mut client = Client::new(server.url());
    let line = |run: &str, second: u32| json!({"run_id": run, "timestamp": format!("2026-11-20T12:00:{second:02}Z"), "message": second});
    let records: Vec<Value> = [("a", 3), ("b", 1), ("a", 1), ("a", 2)].map(|(run, second)| line(run, second)).into();
    assert_eq!(client.post(&[JSON], Value::from(records).to_string().as_bytes()).unwrap().status, 200);
    let mut read = |path: &str| {
        let answer = client.get(path).unwrap();
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let body = answer.json();
        let seconds = body["records"]
            .as_array()
            .unwrap()
            .iter()
            .map(|record| record["timestamp"].as_str().unwrap()[17..19].to_owned());
        (seconds.collect::<Vec<_>>().join(" "), body["next"].as_str().map(str::to_owned))
    };
    assert_eq!(read("/api/v1/runs/a/logs"), ("01 02 03".to_owned(), None));
    assert_eq!(read("/api/v1/runs/b/logs?order=newest").0, "01");
    let (seconds, next) = read("/api/v1/runs/a/logs?order=newest&limit=2");
    assert_eq!(seconds, "03 02");
    assert_eq!(
        read(&format!("/api/v1/runs/a/logs?order=newest&limit=2&cursor={}", next.unwrap())),
        ("01".to_owned(), None)
    );
    // 12:00:02 in seconds, and what comes before it.
    assert_eq!(read("/api/v1/runs/a/logs?since=1795176002").0, "02 03");
    assert_eq!(read("/api/v1/runs/a/logs?until=1795176002000").0, "01");
    for path in ["/api/v1/runs/a/logs?run_id=b", "/api/v1/runs/a..b/logs", "/api/v1/runs/a/logs?stages=x"] {
        let answer = server.http("GET", path, &[], b"");
        assert_eq!(
            (answer.status, answer.json()["error"].as_str()),
            (400, Some("invalid_parameter")),
            "{path}: {answer:?}"
        );
    }
    let unknown = server.http("GET", "/api/v1/runs/unknown/logs", &[], b"");
    assert_eq!((unknown.status, unknown.json()["error"].as_str()), (404, Some("not_found")), "{unknown:?}");
    let hint = server.http("GET", "/api/v1/runs/a/logs?stages=x", &[], b"").json()["message"].to_string();
    assert!(hint.contains("is stage meant?"), "{hint}");
}
