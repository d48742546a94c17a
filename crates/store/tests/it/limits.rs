//! Time, memory and turns: queries that want too much of them end with the code that says which.

use std::time::{Duration, Instant};

use runstone_record::ErrorCode;

use crate::world::{World, limits, lines};

fn filled(records: usize, limits: runstone_store::SqlLimits) -> World {
    let mut world = World::new(usize::MAX, limits);
    for seed in 0..records.div_ceil(10_000) as u64 {
        world.push(lines(10_000, seed));
    }
    world
}

/// Billions of rows, none of them kept.
const ENDLESS: &str = "SELECT count(*) FROM logs a, logs b, logs c WHERE a.message || b.message < c.message";

#[test]
fn a_query_ends_at_its_time() {
    let mut short = limits();
    short.timeout = Duration::from_millis(300);
    short.running_max = 1;
    let world = filled(20_000, short);
    let begun = Instant::now();
    let error = world.try_query(ENDLESS).unwrap_err();
    assert_eq!(error.code(), ErrorCode::QueryTimeout, "{error}");
    assert!(error.to_string().contains("query.timeout_ms"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // Its only slot is free again once it has really stopped.
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = world.try_query("SELECT 1") {
        assert!(Instant::now() < deadline, "{error}");
    }
}

#[test]
fn memory_is_limited_for_sorts_groups_joins_and_lists() {
    let mut little = limits();
    little.memory_bytes = 1 << 20;
    let world = filled(50_000, little);
    for sql in [
        "SELECT message, count(*) FROM logs GROUP BY message",
        "SELECT count(*) FROM (SELECT DISTINCT id, message FROM logs)",
        "SELECT max(n) FROM (SELECT row_number() OVER (ORDER BY message) n FROM logs)",
        "SELECT max(message || n) FROM (SELECT message, count(*) OVER () n FROM logs)",
        "SELECT count(*) FROM logs a JOIN logs b ON a.message = b.message",
        "SELECT length(string_agg(message, ',')) FROM logs",
        "SELECT array_length(array_agg(message)) FROM logs",
        "SELECT count(DISTINCT message) FROM logs",
    ] {
        let error = world.try_query(sql).expect_err(sql);
        assert_eq!(error.code(), ErrorCode::QueryLimit, "{sql}: {error}");
        assert!(error.to_string().contains("query.memory_bytes_max"), "{error}");
    }
    // The memory is given back.
    assert_eq!(world.number("SELECT count(*) FROM (SELECT level FROM logs GROUP BY level)"), 2);
}

#[test]
fn one_call_makes_no_gigabytes() {
    let world = filled(10_000, limits());
    let long = "y".repeat(1_000);
    let doubling: Vec<String> =
        (1..30).map(|n| format!("t{n} AS (SELECT concat(s, s, s, s, s, s) AS s FROM t{})", n - 1)).collect();
    let doubling_operator: Vec<String> =
        (1..30).map(|n| format!("t{n} AS (SELECT s || s AS s FROM t{} WHERE length(s) > 1)", n - 1)).collect();
    let nested: Vec<String> = (1..30).map(|n| format!("t{n} AS (SELECT [s, s] AS s FROM t{})", n - 1)).collect();
    for sql in [
        format!(
            "SELECT max(length(replace(replace(replace(message, 'l', '{long}'), 'y', '{long}'), 'y', '{long}'))) FROM logs"
        ),
        format!("SELECT length(replace(replace(replace('aaaa', 'a', '{long}'), 'y', '{long}'), 'y', '{long}'))"),
        format!(
            "SELECT max(length(regexp_replace(regexp_replace(message, '.', '{long}', 'g'), '.', '{long}', 'g'))) FROM logs"
        ),
        format!("WITH t0 AS (SELECT message AS s FROM logs), {} SELECT max(length(s)) FROM t29", doubling.join(", ")),
        format!(
            "WITH t0 AS (SELECT message AS s FROM logs), {} SELECT max(length(s)) FROM t29",
            doubling_operator.join(", ")
        ),
        format!(
            "WITH t0 AS (SELECT message AS s FROM logs), {} SELECT max(array_length(s)) FROM t29",
            nested.join(", ")
        ),
        "SELECT length(array_to_string(array_agg(message), string_agg(message, ''))) FROM logs".to_owned(),
    ] {
        let start: String = sql.chars().take(100).collect();
        let error = world.try_query(&sql).expect_err(&start);
        let code = error.code();
        assert!(matches!(code, ErrorCode::QueryLimit | ErrorCode::InvalidQuery), "{start}: {error}");
    }
}

#[test]
fn queries_wait_for_their_turn_and_are_refused_when_too_many_wait() {
    let mut few = limits();
    few.running_max = 1;
    few.waiting_max = 2;
    few.timeout = Duration::from_secs(1);
    let world = filled(20_000, few);
    let answers = world.wait(futures::future::join_all((0..6).map(|_| world.sql.query(ENDLESS))));
    let codes: Vec<ErrorCode> = answers.iter().map(|answer| answer.as_ref().unwrap_err().code()).collect();
    let count = |code| codes.iter().filter(|each| **each == code).count();
    assert!(count(ErrorCode::QueryTimeout) >= 1, "{codes:?}");
    assert!(count(ErrorCode::Overloaded) >= 3, "{codes:?}");
    assert_eq!(count(ErrorCode::QueryTimeout) + count(ErrorCode::Overloaded), 6, "{codes:?}");
    let said: Vec<String> = answers.iter().map(|answer| answer.as_ref().unwrap_err().to_string()).collect();
    for word in ["1 queries run and 2 wait", "query.concurrency_max"] {
        assert!(said.iter().any(|said| said.contains(word)), "{word}: {said:?}");
    }
    // Pages have turns of their own.
    let page = runstone_store::LogsQuery { limit: 5, ..Default::default() };
    let (query, page) = world.wait(futures::future::join(world.sql.query(ENDLESS), world.sql.logs(page)));
    assert!(query.is_err());
    assert_eq!(page.unwrap().count, 5);
}

#[test]
fn dropping_a_query_stops_it() {
    let mut one = limits();
    one.running_max = 1;
    one.waiting_max = 1;
    one.timeout = Duration::from_secs(60);
    let world = filled(20_000, one);
    let dropped =
        world.wait(async { tokio::time::timeout(Duration::from_millis(200), world.sql.query(ENDLESS)).await });
    assert!(dropped.is_err());
    // It would hold the only turn for a minute.
    let begun = Instant::now();
    assert_eq!(world.number("SELECT 1"), 1);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

/// The most memory that the process ever had.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
}

/// Each of these makes most of a gigabyte of one batch where it is not held back.
#[test]
fn a_step_makes_no_gigabytes_of_many_values() {
    let mut small = limits();
    (small.memory_bytes, small.timeout, small.running_max) = (64 << 20, Duration::from_secs(20), 16);
    let world = filled(10_000, small);
    let many = |each: &dyn Fn(usize) -> String| (0..300).map(each).collect::<Vec<_>>().join(",");
    let long = "concat(id,id,id,id,id,id,id,id)";
    let values = many(&|n| format!("{long}||'{n}'"));
    let before = peak_bytes();
    for sql in [
        format!("SELECT {values} FROM logs"),
        format!("SELECT length(concat({values})) FROM logs"),
        format!("SELECT count(*) FROM logs WHERE length(concat({values})) > 1"),
        format!("SELECT position FROM logs ORDER BY {values}"),
        format!("SELECT {} FROM logs", many(&|n| format!("max({long}||'{n}')"))),
        format!("SELECT {} FROM logs", many(&|n| format!("array_agg({long}||'{n}')"))),
        format!("SELECT {} FROM logs", many(&|n| format!("string_agg({long},'{n}')"))),
        format!("SELECT {} FROM logs", many(&|n| format!("max({long}||'{n}') OVER ()"))),
        format!("SELECT w.*, l.message FROM (SELECT {values} FROM logs LIMIT 2) w CROSS JOIN logs l"),
    ] {
        let (start, length) = (&sql[..60], sql.len());
        if let Err(error) = world.try_query(&sql) {
            let code = error.code();
            assert!(matches!(code, ErrorCode::QueryLimit | ErrorCode::QueryTimeout), "{start} {length}: {error}");
        }
        let grown = peak_bytes() - before;
        assert!(grown < 512 << 20, "{start}: {} MiB", grown >> 20);
    }
    assert_eq!(world.number("SELECT count(*) FROM logs"), 10_000);
}
