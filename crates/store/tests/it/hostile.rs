//! SQL that writes, reads files, explodes or is merely wrong: each has its code, and none is our failure.

use runstone_record::ErrorCode;

use crate::world::{World, limits, lines};

fn world() -> World {
    let mut world = World::new(usize::MAX, limits());
    world.push(lines(1_000, 1));
    world
}

#[test]
fn what_is_not_reading_is_refused() {
    let world = world();
    for sql in [
        "",
        ";",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE logs",
        "CREATE TABLE x (a int)",
        "CREATE TABLE x AS SELECT * FROM logs",
        "CREATE VIEW x AS SELECT 1",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
        "CREATE FUNCTION f() RETURNS int RETURN 1",
        "DROP TABLE logs",
        "INSERT INTO logs (id) VALUES ('x')",
        "INSERT INTO logs SELECT * FROM logs",
        "UPDATE logs SET level = 'INFO'",
        "DELETE FROM logs",
        "TRUNCATE TABLE logs",
        "COPY logs TO '/tmp/x.csv'",
        "COPY (SELECT 1) TO '/tmp/x.json'",
        "SET datafusion.execution.batch_size = 1",
        "RESET datafusion.execution.batch_size",
        "SELECT * INTO x FROM logs",
        "WITH x AS (DELETE FROM logs RETURNING *) SELECT * FROM x",
        "WITH RECURSIVE n AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM n) SELECT * FROM n",
        "EXPLAIN DROP TABLE logs",
        "EXPLAIN ANALYZE INSERT INTO logs SELECT * FROM logs",
        "EXPLAIN EXPLAIN SELECT 1",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "BEGIN",
        "COMMIT",
        "GRANT SELECT ON logs TO x",
        "USE other",
        "KILL 1",
        "SHOW ALL",
        "SELECT * FROM logs FOR UPDATE",
        "TABLE logs",
    ] {
        let error = world.try_query(sql).expect_err(sql);
        assert_eq!(error.code(), ErrorCode::InvalidQuery, "{sql}: {error}");
    }
}

#[test]
fn files_networks_and_foreign_functions_do_not_exist() {
    let world = world();
    for sql in [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM '/etc/passwd.csv'",
        "SELECT * FROM \"/etc/hosts.json\"",
        "SELECT * FROM 'http://127.0.0.1/x.csv'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM generate_series(1, 1000000000000)",
        "SELECT * FROM range(1, 1000000000000)",
        "SELECT generate_series(1, 1000000000000)",
        "SELECT unnest(generate_series(1, 1000000000000))",
        "SELECT unnest(range(1000000000000))",
        "SELECT repeat('x', 1000000000)",
        "SELECT lpad('x', 2000000000)",
        "SELECT rpad('x', 2000000000)",
        "SELECT array_repeat(1, 1000000000)",
        "SELECT array_resize([1], 1000000000)",
        "SELECT levenshtein(message, message) FROM logs",
        "SELECT pg_sleep(100)",
        "SELECT sleep(100)",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT limited('x')",
        "SELECT array_transform([1], x -> x + 1)",
        "SELECT map(['a'], [1])",
        "SELECT * FROM x.y.z",
    ] {
        let error = world.try_query(sql).expect_err(sql);
        assert_eq!(error.code(), ErrorCode::InvalidQuery, "{sql}: {error}");
    }
}

#[test]
fn mistakes_are_the_writers() {
    let world = world();
    for (sql, code, part) in [
        ("SELEC 1", ErrorCode::InvalidQuery, "SELEC"),
        ("SELECT mesage FROM logs", ErrorCode::InvalidQuery, "message"),
        ("SELECT * FROM log", ErrorCode::InvalidQuery, "log"),
        ("SELECT 'a' + [1]", ErrorCode::InvalidQuery, ""),
        ("SELECT level, count(*) FROM logs", ErrorCode::InvalidQuery, "level"),
        ("SELECT lenght(message) FROM logs", ErrorCode::InvalidQuery, "length"),
        ("SELECT * FROM logs WHERE timestamp > 'yesterday'", ErrorCode::InvalidQuery, "yesterday"),
        ("SELECT $1", ErrorCode::InvalidQuery, ""),
        ("SELECT 1 / (row_count - row_count) FROM logs", ErrorCode::QueryFailed, ""),
        ("SELECT 10 / (position - 5) FROM logs", ErrorCode::QueryFailed, "zero"),
        ("SELECT CAST(message AS int) FROM logs", ErrorCode::QueryFailed, "cast"),
        ("SELECT message ~ '(' FROM logs", ErrorCode::QueryFailed, ""),
        ("SELECT regexp_like(message, '(') FROM logs", ErrorCode::QueryFailed, ""),
        ("SELECT sum(position * 9223372036854775807) FROM logs", ErrorCode::QueryFailed, ""),
        ("SELECT date_trunc('fortnight', timestamp) FROM logs", ErrorCode::QueryFailed, ""),
        ("SELECT to_timestamp(message, 'YYYY-MM') FROM logs", ErrorCode::QueryFailed, ""),
        ("SELECT message LIKE message || '\\' FROM logs", ErrorCode::QueryFailed, ""),
        ("SELECT (SELECT position FROM logs)", ErrorCode::QueryFailed, ""),
    ] {
        match world.try_query(sql) {
            Ok(answer) => {
                // A null instead of an error is an answer too.
                assert!(code == ErrorCode::QueryFailed && part.is_empty(), "{sql}: {answer:?}");
            }
            Err(error) => {
                assert!(matches!(error.code(), ErrorCode::InvalidQuery | ErrorCode::QueryFailed), "{sql}: {error:?}");
                if code == ErrorCode::InvalidQuery {
                    assert_eq!(error.code(), code, "{sql}: {error}");
                }
                assert!(error.to_string().contains(part), "{sql}: {error}");
                assert!(!error.to_string().contains("bug in DataFusion"), "{sql}: {error}");
            }
        }
    }
}

/// Texts near the limit of their length, each built to nest, chain or multiply.
fn explosive() -> Vec<String> {
    let times = |part: &str, count: usize| part.repeat(count);
    let doubled = |first: &str, body: &str, levels: usize, last: &str| {
        let mut sql = format!("WITH t0 AS ({first})");
        for level in 1..=levels {
            sql.push_str(&format!(", t{level} AS ({})", body.replace('#', &format!("t{}", level - 1))));
        }
        sql + &last.replace('#', &format!("t{levels}"))
    };
    vec![
        format!("SELECT 1{}", times("+1", 16_000)),
        format!("SELECT {}1{}", times("(", 16_000), times(")", 16_000)),
        format!("SELECT {}1", times("-", 32_000)),
        format!("SELECT {}true", times("NOT ", 8_000)),
        format!("SELECT * FROM logs WHERE false{}", times(" OR lineno=1", 2_600)),
        format!("SELECT 1{}", times(" UNION SELECT 1", 2_100)),
        format!("SELECT 1{}", times(" UNION ALL VALUES (1)", 1_500)),
        format!("SELECT {}1{}", times("(SELECT ", 3_000), times(")", 3_000)),
        format!("SELECT * FROM {}logs{}", times("(SELECT * FROM ", 1_500), times(") x", 1_500)),
        format!("SELECT 1 FROM logs{}", times(", logs", 5_000)),
        format!("SELECT {}message{}", times("upper(", 3_000), times(")", 3_000)),
        format!("SELECT message{} FROM logs", times("||message", 3_000)),
        format!("SELECT {}1{}", times("[", 15_000), times("]", 15_000)),
        format!("SELECT metadata{}", times("->'a'", 6_000)),
        format!("SELECT count(*) FROM logs GROUP BY CUBE ({})", vec!["level"; 40].join(",")),
        format!("SELECT count(*) FROM logs GROUP BY {}", vec!["GROUPING SETS ((level),(stage))"; 30].join(",")),
        doubled("SELECT * FROM logs", "SELECT a.* FROM # a, # b", 300, "SELECT count(*) FROM #"),
        doubled("SELECT 1 AS a", "SELECT a + a AS a FROM #", 300, "SELECT a FROM # WHERE a > 1"),
        doubled("SELECT position AS a FROM logs", "SELECT a + a AS a FROM #", 60, "SELECT a FROM # WHERE a > 1"),
        format!("SELECT '{}'", times("x", 40_000)),
        format!("SELECT message ~ '{}' FROM logs", times("a", 30_000)),
        "SELECT message ~ message FROM logs".to_owned(),
        "SELECT regexp_replace(message, run_id, 'x') FROM logs".to_owned(),
        format!("SELECT upper('{}') FROM logs", times("x", 30_000)),
    ]
}

#[test]
fn what_would_explode_while_it_is_planned_is_refused_at_once() {
    let world = world();
    for sql in explosive() {
        let begun = std::time::Instant::now();
        let error = world.try_query(&sql).expect_err(&sql[..80.min(sql.len())]);
        let start: String = sql.chars().take(80).collect();
        assert_eq!(error.code(), ErrorCode::InvalidQuery, "{start}: {error}");
        assert!(begun.elapsed().as_secs() < 10, "{start}: {:?}", begun.elapsed());
        assert!(error.to_string().len() < 1_500, "{start}: {error}");
    }
}

#[test]
fn ordinary_long_queries_are_answered() {
    let world = world();
    let ids: Vec<String> = (0..900).map(|n| format!("'{n:032}'")).collect();
    let ors = " OR position = 1".repeat(300);
    let with: Vec<String> =
        (1..12).map(|n| format!("t{n} AS (SELECT position + 1 AS position FROM t{})", n - 1)).collect();
    for (sql, count) in [
        (format!("SELECT count(*) FROM logs WHERE id IN ({})", ids[..700].join(",")), 0),
        (format!("SELECT count(*) FROM logs WHERE false{ors}"), 1),
        (format!("WITH t0 AS (SELECT position FROM logs), {} SELECT count(*) FROM t11", with.join(", ")), 1_000),
        (format!("SELECT count(*) FROM (SELECT 1 {})", "UNION ALL SELECT 1 ".repeat(40)), 41),
    ] {
        assert_eq!(world.number(&sql), count, "{sql}");
    }
}

#[test]
fn useful_functions_are_there() {
    let world = world();
    let mut wrong = Vec::new();
    for (sql, expected) in [
        ("SELECT count(*) FROM logs WHERE message ILIKE '%LINE 99%'", 11),
        ("SELECT count(*) FROM logs WHERE message ~ 'line 9+ '", 3),
        ("SELECT count(DISTINCT date_trunc('second', timestamp)) FROM logs", 1),
        ("SELECT count(DISTINCT date_bin(INTERVAL '100 milliseconds', timestamp)) FROM logs", 10),
        ("SELECT sum((metadata->>'rows')::bigint) FROM logs", 499_500),
        ("SELECT count(*) FROM logs WHERE metadata ? 'rows'", 1_000),
        ("SELECT max(length(message || ' and ' || level)) FROM logs", 36),
        ("SELECT max(length(replace(message, 'well', 'better'))) FROM logs", 28),
        ("SELECT max(length(regexp_replace(message, '[0-9]+', '<number>', 'g'))) FROM logs", 38),
        ("SELECT max(length(concat(message, level))) FROM logs", 31),
        ("SELECT length(string_agg(level, ',')) FROM logs", 5_099),
        ("SELECT array_length(array_agg(position)) FROM logs", 1_000),
        ("SELECT (approx_percentile_cont(position, 0.5) / 100)::bigint FROM logs", 5),
        (
            "SELECT count(*) FROM (SELECT row_number() OVER (PARTITION BY run_id ORDER BY timestamp) n FROM logs) WHERE n = 1",
            10,
        ),
        ("SELECT extract(epoch FROM max(timestamp) - min(timestamp))::bigint FROM logs", 0),
        ("SELECT count(*) FROM (VALUES (1), (2)) v", 2),
        ("SELECT count(*) FROM logs WHERE timestamp > now() - INTERVAL '1 day' AND false", 0),
        ("SELECT length(array_to_string(make_array('a', 'b'), '-'))", 3),
    ] {
        let answer = world.column(sql);
        if answer != [serde_json::json!(expected)] {
            wrong.push(format!("{sql}: {answer:?}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn types_with_a_length_are_refused_before_anything_of_that_length_is_made() {
    let world = world();
    for sql in [
        "SELECT NULL::int[2000000000]",
        "SELECT CAST(NULL AS int[2000000000])",
        "SELECT TRY_CAST(make_array(1) AS int[2000000000])",
        "SELECT CAST(NULL AS int[2000000000][])",
        "SELECT arrow_cast(NULL, 'FixedSizeList(2000000000, Int64)')",
        "SELECT arrow_try_cast(make_array(1), 'FixedSizeList(2000000000, Int64)')",
        "SELECT arrow_cast(NULL, 'FixedSizeBinary(2000000000)')",
    ] {
        let error = world.try_query(sql).expect_err(sql);
        assert_eq!(error.code(), ErrorCode::InvalidQuery, "{sql}: {error}");
    }
}

#[test]
fn a_step_that_breaks_off_is_the_querys_failure_and_not_ours() {
    let world = world();
    // In a build that checks overflows both panic inside the engine; in one that does not they have an answer.
    for sql in [
        "SELECT array_position(make_array(1, 2), 1, -9223372036854775808)",
        "SELECT sum(row_count) OVER (ROWS BETWEEN 9223372036854775807 PRECEDING AND 18446744073709551615 FOLLOWING) \
         FROM logs",
    ] {
        if let Err(error) = world.try_query(sql) {
            assert!(matches!(error.code(), ErrorCode::QueryFailed | ErrorCode::InvalidQuery), "{sql}: {error}");
        }
    }
    assert!(world.try_query("SELECT 1").is_ok(), "the next query runs");
}
