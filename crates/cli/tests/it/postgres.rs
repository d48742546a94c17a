//! PostgreSQL itself, asked the same: functions that carry its names answer what it answers. What is not PostgreSQL's has golden
//! answers here.

use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Client, JSON};
use crate::cluster::Cluster;
use crate::harness::{Server, stderr, stdout};

fn psql(cluster: &Cluster) -> Command {
    let mut psql = cluster.program("psql");
    psql.args(["-X", "-h"]).arg(cluster.dir()).args(["-U", "test", "-v", "ON_ERROR_STOP=1", "-At", "-q", "postgres"]);
    psql.stdin(Stdio::null());
    psql
}

/// The value of each expression, in JSON. None: null.
fn values(cluster: &Cluster, expressions: &[&str]) -> Vec<Option<Value>> {
    let mut psql = psql(cluster);
    psql.args(["-c", "SET timezone = 'UTC'"]);
    for expression in expressions {
        psql.args(["-c", &format!("SELECT to_json(({expression}))")]);
    }
    let output = psql.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output).lines().map(|line| serde_json::from_str(line).ok()).collect()
}

/// A value as both write it: times without zeros at the end of their fraction, numbers as floats.
fn plain(value: Option<Value>) -> String {
    match value {
        None | Some(Value::Null) => "null".to_owned(),
        Some(Value::Number(number)) => format!("{:.6}", number.as_f64().unwrap()),
        Some(Value::String(text)) => {
            let (time, zone) = match text.strip_suffix("+00:00").or_else(|| text.strip_suffix('Z')) {
                Some(time) if text.contains('T') => (time, "Z"),
                _ => (text.as_str(), ""),
            };
            let is_time = time.len() > 18 && time.as_bytes()[10] == b'T';
            let time =
                if is_time && time.contains('.') { time.trim_end_matches('0').trim_end_matches('.') } else { time };
            format!("{time}{zone}")
        }
        Some(other) => other.to_string(),
    }
}

/// A moment, a clock's time, a day and a stretch of time, wherever they stand below.
const VALUES: [(&str, &str); 5] = [
    ("{moment}", "timestamptz '2026-11-28 10:11:12.123456+00:00'"),
    ("{early}", "timestamptz '1968-02-29 23:59:59.5+00:00'"),
    ("{wall}", "timestamp '2026-03-29 02:30:00'"),
    ("{day}", "date '2024-12-30'"),
    ("{span}", "interval '1 year 2 months 3 days 26 hours 5 minutes 6.5 seconds'"),
];

/// Expressions that both understand.
const SAME: &[&str] = &[
    "date_trunc('second', {moment})",
    "date_trunc('minute', {early})",
    "date_trunc('hour', {moment})",
    "date_trunc('day', {early})",
    "date_trunc('week', {moment})",
    "date_trunc('week', {early})",
    "date_trunc('month', {early})",
    "date_trunc('quarter', {moment})",
    "date_trunc('year', {early})",
    "date_trunc('decade', {moment})",
    "date_trunc('century', {moment})",
    "date_trunc('millennium', {early})",
    "date_trunc('millisecond', {moment})",
    "date_trunc('hour', {wall})",
    "date_trunc('month', {day})",
    "date_trunc('day', {moment}, 'America/New_York')",
    "date_trunc('day', {moment}, 'Asia/Kolkata')",
    "date_trunc('hour', {moment}, 'Asia/Kolkata')",
    // Where a clock is put back, and where it is put forward.
    "date_trunc('hour', timestamptz '2026-10-25 00:30:00Z', 'Europe/Berlin')",
    "date_trunc('hour', timestamptz '2026-10-25 01:30:00Z', 'Europe/Berlin')",
    "date_trunc('minute', timestamptz '2026-10-25 00:30:31Z', 'Europe/Berlin')",
    "date_trunc('minute', timestamptz '2026-10-25 01:30:31Z', 'Europe/Berlin')",
    "date_trunc('day', timestamptz '2026-10-25 01:30:31Z', 'Europe/Berlin')",
    "date_trunc('hour', timestamptz '2026-03-29 00:59:59Z', 'Europe/Berlin')",
    "date_trunc('hour', timestamptz '2026-03-29 01:00:01Z', 'Europe/Berlin')",
    "date_trunc('minute', timestamptz '2026-03-29 01:00:01Z', 'Europe/Berlin')",
    "date_trunc('hour', timestamptz '2026-04-04 15:10:00Z', 'Australia/Lord_Howe')",
    "date_trunc('hour', timestamptz '2026-10-03 15:40:00Z', 'Australia/Lord_Howe')",
    "extract(epoch from date_trunc('hour', {span}))",
    "extract(epoch from date_trunc('day', {span}))",
    "extract(epoch from date_trunc('month', {span}))",
    "extract(epoch from date_trunc('quarter', {span}))",
    "extract(epoch from date_trunc('year', {span}))",
    "extract(epoch from date_trunc('decade', interval '25 years -13 months'))",
    "extract(epoch from date_trunc('minute', interval '-90 seconds'))",
    "extract(epoch from date_trunc('hour', {moment} - {early}))",
    "extract(epoch from {moment})",
    "extract(epoch from {early})",
    "extract(second from {early})",
    "extract(milliseconds from {moment})",
    "extract(microseconds from {moment})",
    "extract(hour from {moment})",
    "extract(day from {day})",
    "extract(dow from {moment})",
    "extract(isodow from {early})",
    "extract(doy from {moment})",
    "extract(week from {day})",
    "extract(isoyear from {day})",
    "extract(quarter from {moment})",
    "extract(century from {early})",
    "extract(decade from {early})",
    "extract(millennium from {moment})",
    "extract(julian from {day})",
    "extract(epoch from {day})",
    "extract(timezone from {moment})",
    "extract(hour from time '10:11:12')",
    "date_part('hour', {day})",
    "date_part('year', {moment})",
    "date_part('epoch', {span})",
    "date_part('hour', {span})",
    "date_part('month', {span})",
    "date_part('second', {span})",
    "extract(day from {moment} - {early})",
    "extract(hour from {moment} - {early})",
    "extract(epoch from {moment} - {early})",
    "extract(epoch from age({moment}, {early}))",
    "extract(month from age({moment}, {early}))",
    "extract(day from age({moment}, {early}))",
    "extract(day from age({early}, {moment}))",
    "extract(hour from age({early}, {moment}))",
    "extract(day from age(timestamp '2025-03-01 00:00:00', timestamp '2025-01-31 12:00:00'))",
    "to_char({moment}, 'YYYY-MM-DD HH24:MI')",
    "to_char({moment}, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
    "to_char({moment}, 'Dy, DD Mon YYYY HH12:MI:SS AM TZ')",
    "to_char({moment}, 'FMDay, FMDDth FMMonth YYYY')",
    "to_char({moment}, 'Day|MONTH|month|dy')",
    "to_char({early}, 'YY Y,YYY IYYY-\"W\"IW-ID DDD IDDD D W WW Q CC J')",
    "to_char({early}, 'HH24MISS MS FF3 FF6 SSSS a.m. BC RM')",
    "to_char({moment}, 'TZH:TZM OF tz')",
    "to_char({moment}, 'HH:MI:SS P.M. \\\"q\\\" DDTH')",
    "to_char({wall}, 'YYYYMMDD FMHH24h FMMI\"m\"')",
    "to_char({day}, 'DD.MM.YYYY')",
    "to_char({moment}, 'TMMonth|TMDay|TMmon|TMDY|tmMONTH|TMYYYY')",
    "to_char({wall}, 'FM-DD FMTMMonth TMFMDay FM')",
    "to_timestamp('28 November 2026', 'DD TMMonth YYYY')",
    "to_char({moment}, 'HH24TH:MITH')",
    "to_char({span}, 'HH24:MI:SS')",
    "to_char({span}, 'YYYY MM DD')",
    "to_timestamp('05 Dec 2000 13:14', 'DD Mon YYYY HH24:MI')",
    "to_timestamp('2026/11/28 01:02:03.456 PM', 'YYYY-MM-DD HH:MI:SS.MS AM')",
    "to_timestamp('20261128101112', 'YYYYMMDDHH24MISS')",
    "to_timestamp('28. november 26', 'DD. Month YY')",
    "to_timestamp('2026-11-28T10:11:12+02:30', 'YYYY-MM-DD\"T\"HH24:MI:SSTZH:TZM')",
    "to_timestamp('2026 333', 'YYYY DDD')",
    "to_timestamp('2020-W53-5', 'IYYY-\"W\"IW-ID')",
    "to_timestamp(1700000000)",
    "to_timestamp(1700000000.25)",
    "to_date('2024/02/29', 'YYYY/MM/DD')",
    "to_date('5.3.99', 'DD.MM.YY')",
    "make_timestamp(2024, 2, 29, 23, 59, 1.5)",
    "make_timestamptz(2024, 7, 1, 12, 0, 0, 'Europe/Berlin')",
    "make_date(2024, 2, 29)",
    "extract(epoch from make_interval(1, 2, 3, 4, 5, 6, 7.5))",
    "extract(day from make_interval(days => 10, weeks => 2))",
    "extract(epoch from make_interval(secs => -1.25, hours => 1))",
    "extract(epoch from make_interval())",
    "extract(day from justify_hours(interval '50 hours'))",
    "extract(hour from justify_hours(interval '1 day -50 hours'))",
    "extract(month from justify_days(interval '65 days'))",
    "extract(day from justify_days(interval '1 month -65 days'))",
    "extract(epoch from justify_interval(interval '1 month -1 hour'))",
    "extract(day from justify_interval(interval '-1 month 70 days 50 hours'))",
    "extract(month from justify_interval({moment} - {early}))",
    "isfinite({moment})",
    "isfinite({day})",
    "isfinite({span})",
    "clock_timestamp() >= now()",
    "{moment} AT TIME ZONE 'Europe/Berlin'",
    "{wall} AT TIME ZONE 'Europe/Berlin'",
    "timestamp '2026-10-25 02:30:00' AT TIME ZONE 'Europe/Berlin'",
    "timezone('America/New_York', {moment})",
    "timestamptz '2026-07-01 12:00:00Z' AT TIME ZONE 'CET'",
    "timestamptz '2026-07-01 12:00:00Z' AT TIME ZONE 'cest'",
    "timestamptz '2026-07-01 12:00:00Z' AT TIME ZONE 'EST'",
    "timestamp '2026-07-01 12:00:00' AT TIME ZONE 'PDT'",
    "timestamp '2026-07-01 12:00:00' AT TIME ZONE 'BST'",
    "timestamp '2026-07-01 12:00:00' AT TIME ZONE 'ACST'",
    "timestamp '2026-07-01 12:00:00' AT TIME ZONE 'jst'",
    "timestamp '2026-07-01 12:00:00' AT TIME ZONE 'NZST'",
    "timestamp '2026-07-01 12:00:00' AT TIME ZONE 'z'",
    "timestamp '2026-07-01 12:00:00' AT TIME ZONE 'EST5EDT'",
    "date_trunc('day', {moment} AT TIME ZONE 'Asia/Tokyo') AT TIME ZONE 'Asia/Tokyo'",
    "{moment} + interval '1 month'",
    "{moment} - '90 minutes'::interval",
    "{day} + interval '2 days' = timestamp '2025-01-01 00:00:00'",
    "now() - '1 hour'::interval < current_timestamp",
    "'Large' ILIKE 'lA%'",
    "'abc' ~ '^a.c$'",
    "'abc' !~* 'B'",
    "split_part('a/b/c', '/', 2)",
    "coalesce(NULL, 'x') || 'y'",
    "(SELECT percentile_cont(0.25) WITHIN GROUP (ORDER BY v) FROM (VALUES (1.0), (2.0), (4.0), (10.0)) AS t(v))",
    "(SELECT string_agg(v, ', ' ORDER BY v DESC) FROM (VALUES ('a'), ('c'), ('b')) AS t(v))",
    "(SELECT count(*) FILTER (WHERE v > 1) FROM (VALUES (1), (2), (3)) AS t(v))",
    "(SELECT array_agg(v ORDER BY v) FROM (VALUES (3), (1), (2)) AS t(v))",
    "(SELECT sum(v) FROM (SELECT DISTINCT ON (k) k, v FROM (VALUES (1, 5), (1, 3), (2, 9)) AS t(k, v) ORDER BY k, v) AS s)",
];

/// What PostgreSQL does not have, or has otherwise: these are Spark's, Redshift's and Snowflake's.
const GOLDEN: &[(&str, &str)] = &[
    ("datediff(date '2024-03-01', date '2024-02-28')", "2"),
    ("datediff('hour', {early}, timestamp '1968-03-01 00:00:01')", "1"),
    ("datediff(year, {day}, {moment})", "2"),
    ("datediff(week, date '2026-11-29', date '2026-11-30')", "1"),
    ("datediff('month', {moment}, {early})", "-705"),
    ("datediff(minute, {moment}, {moment} + interval '59 seconds')", "1"),
    ("dateadd(month, 1, timestamp '2024-01-31 10:00:00')", "\"2024-02-29T10:00:00.000000\""),
    ("date_add({day}, 2)", "\"2025-01-01\""),
    ("date_sub({moment}, interval '1 day')", "\"2026-11-27T10:11:12.123456Z\""),
    ("version()", concat!("\"Runstone ", env!("CARGO_PKG_VERSION"), "\"")),
];

fn filled(expression: &str) -> String {
    VALUES.iter().fold(expression.to_owned(), |text, (name, value)| text.replace(name, value))
}

/// The value of an expression, or why there is none.
fn ours(client: &mut Client, expression: &str) -> Result<Value, String> {
    let answer = client.sql(&format!("SELECT {expression} AS v")).unwrap();
    let body = answer.json();
    if answer.status == 200 { Ok(body["rows"][0]["v"].clone()) } else { Err(body.to_string()) }
}

#[test]
fn functions_with_names_of_postgresql_answer_what_it_answers() {
    let server = Server::start();
    let mut client = Client::new(server.url());
    let expressions: Vec<String> = SAME.iter().map(|expression| filled(expression)).collect();
    let texts: Vec<&str> = expressions.iter().map(String::as_str).collect();
    let theirs = values(&Cluster::start(), &texts);
    assert_eq!(theirs.len(), texts.len(), "one line each");
    let mut wrong = Vec::new();
    for ((expression, filled), theirs) in SAME.iter().zip(&texts).zip(theirs) {
        match ours(&mut client, filled) {
            Ok(ours) if plain(Some(ours.clone())) == plain(theirs.clone()) => {}
            ours => wrong.push(format!("{expression}: {ours:?}, and PostgreSQL {theirs:?}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), SAME.len(), wrong.join("\n"));
    for (expression, expected) in GOLDEN {
        let expected: Value = serde_json::from_str(expected).unwrap();
        assert_eq!(ours(&mut client, &filled(expression)), Ok(expected), "{expression}");
    }
}

/// Expressions that PostgreSQL refuses, and we with it.
const REFUSED: &[&str] = &[
    "extract(hour from {day})",
    "extract(microseconds from {day})",
    "extract(timezone from {day})",
    "extract(timezone from {wall})",
    "extract(timezone_hour from {wall})",
    "date_part('timezone', {wall})",
    "extract(day from time '10:11:12')",
    "extract(timezone from {span})",
    "date_trunc('week', {span})",
    "date_trunc('hour', {span}, 'UTC')",
    "make_interval(decades => 1)",
];

#[test]
fn what_postgresql_refuses_has_no_answer_here_either() {
    let server = Server::start();
    let mut client = Client::new(server.url());
    let postgres = Cluster::start();
    for expression in REFUSED.iter().map(|expression| filled(expression)) {
        let asked = psql(&postgres).args(["-c", &format!("SELECT {expression}")]).output().unwrap();
        assert!(!asked.status.success() && stderr(&asked).contains("ERROR"), "{expression}: {asked:?}");
        let said = ours(&mut client, &expression).expect_err(&expression);
        assert!(said.contains("\"retryable\":false"), "{expression}: {said}");
    }
}

#[test]
fn what_a_function_cannot_take_is_said_by_name() {
    let server = Server::start();
    let mut client = Client::new(server.url());
    for (expression, why) in [
        ("date_trun('hour', now())", "Did you mean 'date_trunc'?"),
        ("to_timestamp('2026-13-01', 'YYYY-MM-DD')", "no date of the calendar"),
        ("to_timestamp('twelve', 'HH24')", "does not begin with what HH24 stands for"),
        ("date_trunc('fortnight', now())", "no unit of time"),
        ("now() AT TIME ZONE 'Mars/Olympus'", "no time zone"),
        ("make_timestamp(2024, 2, 30, 0, 0, 0)", "there is no time 2024-02-30"),
        ("datediff(1)", "datediff takes 2 to 3 arguments, got 1"),
        ("datediff('us', to_timestamp(-9223372036854), to_timestamp(9223372036854))", "too far from each other"),
        ("now() AT TIME ZONE '+02'", "an offset is none"),
        ("to_char(true, 'YYYY')", "to_char does not take a boolean"),
        ("(SELECT max(value) FROM information_schema.df_settings)", "df_settings' not found"),
    ] {
        let said = ours(&mut client, expression).unwrap_err();
        assert!(said.contains(why) && said.contains("\"retryable\":false"), "{expression}: {said}");
        assert!(!said.to_lowercase().contains("datafusion"), "{expression}: {said}");
    }
    for sql in ["SHOW ALL", "SHOW datafusion.execution.batch_size", "SHOW FUNCTIONS"] {
        assert_eq!(client.sql(sql).unwrap().json()["error"], "invalid_query", "{sql}");
    }
}

/// A statement with values.
fn bound(client: &mut Client, sql: &str, params: &Value) -> (u16, Value) {
    let body = json!({"sql": sql, "params": params}).to_string();
    let answer = client.request("POST", "/api/v1/query", &[JSON], body.as_bytes()).unwrap();
    (answer.status, answer.json())
}

#[test]
fn parameters_are_values_and_never_sql() {
    let server = Server::start();
    let mut client = Client::new(server.url());
    let records = json!([
        {"run_id": "a", "row_count": 9_007_199_254_740_993_i64, "timestamp": "2026-11-28T10:00:00Z", "message": "' OR 1=1 --"},
        {"run_id": "b", "row_count": 5, "timestamp": "2026-11-28T11:00:00Z", "message": "plain", "metadata": {"k": "v"}},
        {"run_id": "c", "timestamp": "2026-11-28T12:00:00Z", "message": "$run"},
    ]);
    assert_eq!(client.post(&[JSON], records.to_string().as_bytes()).unwrap().status, 200);
    let found = "SELECT string_agg(run_id, '' ORDER BY run_id) AS v FROM logs WHERE ";
    for (condition, params, expected) in [
        ("run_id = $run AND row_count > $least", json!({"run": "a", "least": 5}), json!("a")),
        ("row_count = $n", json!({"n": 9_007_199_254_740_993_i64}), json!("a")),
        ("0 - row_count = $n", json!({"n": -5}), json!("b")),
        ("row_count = -$n", json!({"n": -5}), json!("b")),
        ("row_count+$n=0", json!({"n": -5}), json!("b")),
        ("row_count < $n", json!({"n": 1e300}), json!("ab")),
        ("message = $m", json!({"m": "' OR 1=1 --"}), json!("a")),
        ("message = $m", json!({"m": "$run"}), json!("c")),
        (
            "timestamp > $since AND timestamp < $until",
            json!({"since": "2026-11-28T10:30:00Z", "until": "2026-11-28 11:30:00"}),
            json!("b"),
        ),
        ("timestamp > $since", json!({"since": "2026-11-28T12:30:00+02:00"}), json!("bc")),
        ("run_id IN ($runs)", json!({"runs": ["a", "c", "nobody"]}), json!("ac")),
        ("run_id IN ($runs, $one)", json!({"runs": ["a"], "one": "b"}), json!("ab")),
        ("run_id = ANY($runs)", json!({"runs": ["b"]}), json!("b")),
        ("run_id <> ALL($runs)", json!({"runs": ["b"]}), json!("ac")),
        ("run_id IN ($runs)", json!({"runs": []}), Value::Null),
        ("run_id NOT IN ($runs)", json!({"runs": []}), json!("abc")),
        ("row_count IS NOT DISTINCT FROM $n", json!({"n": null}), json!("c")),
        ("$yes", json!({"yes": true}), json!("abc")),
        ("metadata->>$key = 'v'", json!({"key": "k"}), json!("b")),
        ("date_trunc($unit, timestamp) = timestamp", json!({"unit": "hour"}), json!("abc")),
        (
            "timestamp > '2026-11-28T12:00:00Z'::timestamptz - $back::interval",
            json!({"back": "90 minutes"}),
            json!("bc"),
        ),
    ] {
        let (status, body) = bound(&mut client, &format!("{found}{condition}"), &params);
        assert_eq!((status, &body["rows"][0]["v"]), (200, &expected), "{condition}: {body}");
    }
    // Longer than a constant of the text may be, where it is compared and where it is written out.
    let long = json!({"v": "x".repeat(20_000)});
    for (sql, expected) in [
        ("SELECT count(*) AS v FROM logs WHERE message = $v OR message LIKE $v", json!(0)),
        ("SELECT max(length(message || $v)) AS v FROM logs", json!(20_011)),
        (
            "SELECT count(*) AS v FROM (SELECT $v AS t, run_id FROM logs) l JOIN logs USING (run_id) WHERE t = $v",
            json!(3),
        ),
    ] {
        let (status, body) = bound(&mut client, sql, &long);
        assert_eq!((status, &body["rows"][0]["v"]), (200, &expected), "{sql}: {body}");
    }
    let (status, body) = bound(&mut client, "SELECT run_id FROM logs ORDER BY timestamp LIMIT $n", &json!({"n": 1}));
    assert_eq!((status, &body["rows"]), (200, &json!([{"run_id": "a"}])));
    let (status, body) = bound(&mut client, "EXPLAIN SELECT * FROM logs WHERE run_id = $run", &json!({"run": "a"}));
    assert_eq!(status, 200, "{body}");
}

#[test]
fn parameters_that_do_not_fit_are_refused_by_name() {
    let server = Server::start();
    let mut client = Client::new(server.url());
    let long = "x".repeat(70_000);
    let many: Vec<u32> = (0..1_001).collect();
    for (sql, params, why) in [
        ("SELECT $a", json!({}), "$a has no value"),
        ("SELECT $a", json!({"a": 1, "b": 2}), "does not use b"),
        ("SELECT $1", json!({}), "$1 counts; name it"),
        ("SELECT $1", json!({"1": 5}), "\\\"1\\\" cannot name a parameter"),
        ("SELECT ?", json!({}), "?"),
        ("SELECT 1 AS a, 2 AS b ORDER BY $n", json!({"n": 2}), "$n is a value and cannot choose a column in ORDER BY"),
        ("SELECT level, count(*) FROM logs GROUP BY $n", json!({"n": 1}), "cannot choose a column in GROUP BY"),
        ("SELECT * FROM $t", json!({"t": "logs"}), "$t"),
        ("SELECT $a", json!({"a": {"b": 1}}), "parameter a: send a string"),
        ("SELECT $a", json!({"a": 9_223_372_036_854_775_808_u64}), "parameter a: the integer does not fit"),
        ("SELECT $a", json!({"a": long}), "the values may have"),
        ("SELECT 1 IN ($a)", json!({"a": many}), "parameter a: a list may have 1000 items"),
        ("SELECT $a", json!([1]), "object of values"),
    ] {
        let (status, body) = bound(&mut client, sql, &params);
        assert_eq!((status, body["error"].as_str()), (400, Some("invalid_query")), "{sql}: {body}");
        assert!(body.to_string().contains(why), "{sql}: {body}");
    }
    for (timeout, why) in [(0, "it may be 1 to 30000"), (30_001, "query.timeout_ms")] {
        let body = json!({"sql": "SELECT 1", "timeout_ms": timeout}).to_string();
        let answer = client.request("POST", "/api/v1/query", &[JSON], body.as_bytes()).unwrap();
        assert_eq!((answer.status, answer.json()["error"].as_str()), (400, Some("invalid_query")));
        assert!(answer.json()["message"].as_str().unwrap().contains(why), "{answer:?}");
    }
}

#[test]
fn limits_say_which_they_are_and_what_raises_them() {
    let folder = TempDir::new().unwrap();
    let config = crate::harness::write(folder.path(), "runstone.yml", "query:\n  memory_bytes_max: 64MiB\n");
    let server = Server::start_with(&["--config", config.to_str().unwrap()]);
    let mut client = Client::new(server.url());
    let records: Vec<Value> = (0..1_000).map(|n| json!({"message": format!("{n} {}", "x".repeat(500))})).collect();
    assert_eq!(client.post(&[JSON], Value::from(records).to_string().as_bytes()).unwrap().status, 200);
    // Long, with next to nothing to remember.
    let slow = "SELECT count(*) FROM logs a, logs b, logs c, logs d \
                WHERE a.position * b.position = c.position * d.position + 1";
    let long = format!("SELECT '{}'", "x".repeat(40_000));
    let deep = format!("SELECT {}1{}", "(".repeat(100), ")".repeat(100));
    let big = "SELECT a.message || b.message AS m FROM logs a, logs b ORDER BY m DESC LIMIT 1000000";
    for (body, status, code, words) in [
        (
            json!({"sql": slow, "timeout_ms": 200}),
            408,
            "query_timeout",
            vec!["200 ms", "timeout_ms", "query.timeout_ms"],
        ),
        (json!({"sql": big}), 400, "query_limit", vec!["67108864", "query.memory_bytes_max"]),
        (json!({"sql": long}), 400, "invalid_query", vec!["32768 bytes", "params"]),
        (json!({"sql": deep}), 400, "invalid_query", vec!["50"]),
    ] {
        let answer = client.request("POST", "/api/v1/query", &[JSON], body.to_string().as_bytes()).unwrap();
        let said = answer.json();
        assert_eq!((answer.status, said["error"].as_str()), (status, Some(code)), "{said}");
        for word in words {
            assert!(said["message"].as_str().unwrap().contains(word), "{word}: {said}");
        }
    }
}
