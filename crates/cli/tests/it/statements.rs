//! Statements that the gateway's callers run in a database: how values look, where answers end, what strangers try, and what is
//! written down about it. Owns what they must not get done.

use std::io::Write;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::business::{READ_ONLY, Shop, message};
use crate::client::{self, Client, JSON};
use crate::harness::until;
use crate::lake::Settings;

#[test]
fn values_keep_every_digit_and_their_form() {
    let shop = Shop::open(READ_ONLY);
    shop.cluster.ask("CREATE TYPE mood AS ENUM ('so so'); CREATE TYPE pair AS (a int, b text); CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES");
    let body = |query: &str| {
        let answer = shop.post("/execute/query", &json!({"query": query}));
        assert_eq!(answer.status, 200, "{query}: {answer:?}");
        String::from_utf8(answer.body).unwrap()
    };
    for (expression, kind, text) in [
        ("12345678901234567890123456789012345678.10", "numeric", "12345678901234567890123456789012345678.10"),
        ("1.10::numeric(5,2)", "numeric(5,2)", "1.10"),
        ("'NaN'::numeric", "numeric", r#""NaN""#),
        ("'-Infinity'::float8", "double precision", r#""-Infinity""#),
        ("9007199254740993::int8", "bigint", "9007199254740993"),
        ("0.1::float8 + 0.2::float8", "double precision", "0.30000000000000004"),
        ("'{\"b\": 1, \"a\": [1e2, null]}'::json", "json", r#"{"b": 1, "a": [1e2, null]}"#),
        ("'{\"b\": 1, \"a\": {}}'::jsonb", "jsonb", r#"{"a": {}, "b": 1}"#),
        ("'\\x00ff10'::bytea", "bytea", r#""AP8Q""#),
        ("timestamptz '2025-01-13 14:34:56.789+02'", "timestamp with time zone", r#""2025-01-13T12:34:56.789+00:00""#),
        ("timestamp '2025-01-13 12:34:56'", "timestamp without time zone", r#""2025-01-13T12:34:56""#),
        ("date '2025-01-13'", "date", r#""2025-01-13""#),
        ("interval '1 year 2 days 3.5 seconds'", "interval", r#""1 year 2 days 00:00:03.5""#),
        ("ARRAY[[1,2],[3,4]]", "integer[]", "[[1,2],[3,4]]"),
        ("ARRAY['a,b', NULL]", "text[]", r#"["a,b",null]"#),
        ("'so so'::mood", "mood", r#""so so""#),
        ("ROW(1, 'x')::pair", "pair", r#"{"a":1,"b":"x"}"#),
        ("'[1,3)'::int4range", "int4range", r#""[1,3)""#),
        ("'10.0.0.1/8'::inet", "inet", r#""10.0.0.1/8""#),
        ("true", "boolean", "true"),
        ("NULL", "text", "null"),
        ("'quote \" backslash \\ é 🚀'", "text", r#""quote \" backslash \\ é 🚀""#),
    ] {
        let expected = format!(
            r#"{{"columns":[{{"name":"v","type":"{kind}"}}],"rows":[{{"v":{text}}}],"row_count":1,"truncated":false}}"#
        );
        assert_eq!(body(&format!("SELECT {expression} AS v")), expected);
    }
    let long = shop.run("SELECT convert_to(repeat('a', 300), 'UTF8') AS b");
    assert_eq!(long["rows"][0]["b"], "YWFh".repeat(100));
    assert!(body("SELECT 1 AS a, 2 AS a, 3 AS \"A\"").contains(r#"[{"a":1,"a_2":2,"A":3}]"#));
    assert!(body("SELECT * FROM nothing").contains(r#""columns":[],"rows":[{}]"#));
    assert_eq!(shop.run("EXPLAIN SELECT * FROM orders")["columns"][0], json!({"name": "QUERY PLAN", "type": "text"}));
    let plan = shop.run("EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM orders");
    assert_eq!(plan["rows"][0]["QUERY PLAN"][0]["Plan"]["Actual Rows"].as_f64(), Some(90.0), "{plan}");
    let ordered = shop.run(
        "WITH RECURSIVE r(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT n FROM r ORDER BY n DESC",
    );
    assert_eq!(ordered["rows"], json!([{"n": 5}, {"n": 4}, {"n": 3}, {"n": 2}, {"n": 1}]));
}

/// What a stranger may send to write, to read what is not the tables', to leave the transaction or to stay on after it.
const HOSTILE: &[&str] = &[
    "SELECT 1; DROP TABLE orders",
    "COMMIT; DROP TABLE orders",
    "SELECT 1; COMMIT; DROP TABLE orders",
    "SELECT 1 /* ; */; -- \n DROP TABLE orders",
    "/* SELECT */ DROP TABLE orders",
    "-- SELECT\nDELETE FROM orders",
    "WITH x AS (DELETE FROM orders RETURNING *) SELECT * FROM x",
    "WITH x AS (INSERT INTO done VALUES ('x') RETURNING *) SELECT * FROM x",
    "UPDATE orders SET amount = 0",
    "SELECT set_config('statement_timeout', '0', true)",
    "SELECT \"pg_catalog\" . \"set_config\" ('transaction_read_only', 'off', true)",
    "SELECT U&\"set\\005fconfig\"('statement_timeout', '0', true)",
    "SET statement_timeout = 0",
    "SET TRANSACTION READ WRITE",
    "BEGIN READ WRITE",
    "COMMIT AND CHAIN",
    "SAVEPOINT a",
    "SELECT evil()",
    "SELECT liar()",
    "SELECT o.total FROM orders AS o",
    "SELECT nextval('numbers')",
    "SELECT setval('numbers', 7)",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT f.pg_read_file FROM unnest(ARRAY['/etc/passwd']) AS f",
    "SELECT ('/etc/passwd'::text).pg_read_file",
    "SELECT * FROM pg_ls_dir('/')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity",
    "SELECT query_to_xml('SELECT evil()', true, true, '')",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_notify('a', 'b')",
    "SELECT pg_reload_conf()",
    "SELECT pg_export_snapshot()",
    "SELECT * FROM dblink('dbname=postgres', 'DELETE FROM orders') AS t(a int)",
    "DO 'BEGIN DELETE FROM orders; END'",
    "DO $$ BEGIN DELETE FROM orders; END $$",
    "COPY orders TO PROGRAM 'touch /tmp/x'",
    "COPY orders TO STDOUT",
    "COPY orders FROM STDIN",
    "CALL proc()",
    "LISTEN a",
    "NOTIFY a",
    "PREPARE p AS DELETE FROM orders",
    "EXECUTE p",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "SELECT * FROM orders FOR UPDATE",
    "SELECT * FROM (SELECT * FROM orders FOR SHARE) AS o",
    "SELECT * INTO copied FROM orders",
    "CREATE TABLE copied AS SELECT * FROM orders",
    "CREATE TEMP TABLE copied (a int)",
    "TRUNCATE orders",
    "LOCK TABLE orders",
    "VACUUM orders",
    "EXPLAIN ANALYZE DELETE FROM orders",
    "EXPLAIN ANALYZE SELECT evil()",
    "SELECT N'x'' FROM orders; DROP TABLE orders --'",
    "SELECT $1",
    "SELECT * FROM nowhere",
    "SELEC 1",
];

#[test]
fn what_strangers_try_is_refused_and_changes_nothing() {
    let shop = Shop::open(READ_ONLY);
    shop.cluster.ask(
        "CREATE TABLE done (what text); CREATE SEQUENCE numbers; \
         CREATE FUNCTION evil() RETURNS int LANGUAGE sql AS 'INSERT INTO done VALUES (''evil'') RETURNING 1'; \
         CREATE FUNCTION liar() RETURNS int STABLE LANGUAGE plpgsql AS 'BEGIN RETURN evil(); END'; \
         CREATE FUNCTION total(orders) RETURNS int LANGUAGE sql AS 'SELECT evil()'; \
         CREATE PROCEDURE proc() LANGUAGE plpgsql AS 'BEGIN INSERT INTO done VALUES (''proc''); COMMIT; END'",
    );
    for query in HOSTILE {
        shop.refused(query, 400);
    }
    let left = "SELECT count(*), (SELECT count(*) FROM done), (SELECT is_called FROM numbers), to_regclass('copied') FROM orders";
    assert_eq!(shop.cluster.ask(left), "90|0|f|");
    let fails = shop.refused("SELECT 1 / 0", 400);
    assert_eq!(fails, "run it in the database: division by zero (22012)");
    // As text it is only text.
    let found = shop.run("SELECT name FROM customers WHERE name = 'x'' OR 1=1 --' OR name LIKE 'customer 1; DROP%'");
    assert_eq!(found["row_count"], 0);
    assert_eq!(
        shop.run("SELECT random() < 2 AS r, now() IS NOT NULL AS n, pg_relation_size('orders') > 0 AS s")["row_count"],
        1
    );
}

#[test]
fn a_role_that_may_only_read_is_told_what_it_may_not() {
    let shop = Shop::open(READ_ONLY);
    shop.cluster.ask("CREATE ROLE reader LOGIN; GRANT SELECT ON customers TO reader");
    let url = shop.cluster.url().replace("user=test", "user=reader");
    let settings = Settings::new(&format!("gateway:\n  database_url: {url:?}\n{READ_ONLY}"));
    let server = settings.start(TempDir::new().unwrap());
    let ask = |path: &str, body: Value| server.http("POST", path, &[JSON], body.to_string().as_bytes());
    assert_eq!(ask("/execute/query", json!({"query": "SELECT * FROM customers"})).status, 200);
    for answer in [
        ask("/execute/query", json!({"query": "SELECT * FROM orders"})),
        ask("/get/data", json!({"table_names": ["orders"]})),
    ] {
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(message(&answer).contains("permission denied for table orders"), "{answer:?}");
    }
}

#[test]
fn what_takes_too_long_is_stopped_and_the_connection_serves_the_next() {
    let shop = Shop::open("  execute: read-only\n  timeout_ms: 500\n");
    for query in ["SELECT pg_sleep(60)", "SELECT count(*) FROM generate_series(1, 100000000000) AS n"] {
        let said = shop.refused(query, 408);
        assert!(said.starts_with("stop it in the database"), "{said}");
        assert_eq!(shop.run("SELECT 1 AS one")["rows"], json!([{"one": 1}]));
        assert_eq!(shop.running(), "0");
    }
    // Something that it waits for, of which there is no end.
    let mut session = shop.cluster.session();
    session.say("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE;");
    shop.refused("SELECT * FROM orders", 408);
    assert_eq!(shop.post("/get/data", &json!({"table_names": ["orders"]})).status, 408);
    session.say("COMMIT;");
    assert_eq!(shop.run("SELECT count(*) AS n FROM orders")["rows"], json!([{"n": 90}]));
}

#[test]
fn answers_end_at_their_bounds_and_say_so() {
    let shop = Shop::open("  execute: read-only\n  rows_max: 1000\n");
    let cut = shop.run("SELECT n FROM generate_series(1, 1000000) AS n");
    assert_eq!(
        (&cut["row_count"], &cut["truncated"], &cut["rows"][999]),
        (&1_000.into(), &true.into(), &json!({"n": 1_000}))
    );
    let whole = shop.run("SELECT n FROM generate_series(1, 1000) AS n");
    assert_eq!((&whole["row_count"], &whole["truncated"]), (&1_000.into(), &false.into()));
    let wide = shop.run("SELECT repeat('x', 1000000) AS t FROM generate_series(1, 1000)");
    assert_eq!((&wide["row_count"], &wide["truncated"]), (&8.into(), &true.into()));
    let second = shop.run("SELECT 1 AS n, 'x' AS t UNION ALL SELECT 2, repeat('x', 100000000) ORDER BY n");
    assert_eq!((&second["row_count"], &second["truncated"]), (&1.into(), &true.into()));
    assert!(shop.refused("SELECT repeat('x', 100000000)", 400).contains("one row has more than"));
    shop.refused("SELECT repeat('x', 2000000000)", 400);
    assert_eq!(shop.run("SELECT 1 AS one")["row_count"], 1);
    until("nothing runs that nobody waits for", || shop.running() == "0");
}

#[test]
fn a_caller_that_goes_away_takes_its_statement_with_it() {
    let shop = Shop::open(READ_ONLY);
    let body = json!({"query": "SELECT pg_sleep(3600)"}).to_string();
    let mut stream = client::connect(client::address(shop.server.url())).unwrap();
    stream.write_all(&client::request("POST", "/execute/query", &[JSON], body.as_bytes())).unwrap();
    until("it runs", || shop.running() == "1");
    drop(stream);
    until("it runs no more", || shop.running() == "0");
    until("that is written down", || {
        let ends = shop.server.query("SELECT message FROM logs WHERE stage = 'gateway' AND type = 'error'");
        ends.len() == 1 && ends[0]["message"].as_str().unwrap().contains("its caller has gone")
    });
}

#[test]
fn who_ran_what_is_in_the_log() {
    let shop = Shop::open("  execute: read-write\n");
    let headers = [JSON, ("x-request-id", "nightly-7"), ("x-forwarded-for", "10.1.2.3")];
    let ask = |query: &str| {
        shop.server.http("POST", "/execute/query", &headers, json!({"query": query}).to_string().as_bytes())
    };
    assert_eq!(ask("SELECT * FROM customers").status, 200);
    assert_eq!(ask("UPDATE orders SET amount = 1 WHERE order_id <= 7").status, 200);
    assert_eq!(ask("DROP DATABASE postgres").status, 400);
    assert_eq!(ask(&"x".repeat(40_000)).status, 400);
    let records =
        Client::new(shop.server.url()).get("/api/v1/logs?source_system=runstone&order=oldest").unwrap().json();
    let records = records["records"].as_array().unwrap();
    let kinds: Vec<&str> = records.iter().map(|record| record["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["start", "success", "start", "success", "start", "error", "start", "error"]);
    for pair in records.chunks(2) {
        assert_eq!(pair[0]["run_id"], pair[1]["run_id"]);
        for record in pair {
            assert_eq!((&record["stage"], &record["metadata"]["request_id"]), (&"gateway".into(), &"nightly-7".into()));
            assert_eq!(
                (&record["metadata"]["forwarded_for"], &record["metadata"]["access"]),
                (&"10.1.2.3".into(), &"read-write".into())
            );
            assert!(record["metadata"]["remote"].as_str().unwrap().starts_with("127.0.0.1:"), "{record}");
        }
        assert!(pair[1]["duration"].as_f64() > Some(0.0), "{}", pair[1]);
    }
    assert_eq!((&records[0]["message"], &records[1]["row_count"]), (&"SELECT * FROM customers".into(), &30.into()));
    assert_eq!((&records[3]["row_count"], &records[5]["metadata"]["code"]), (&7.into(), &"invalid_query".into()));
    assert_eq!(records[6]["message"].as_str().unwrap().len(), 32_768);
    let failed = shop.server.query("SELECT count(*) AS n FROM runs WHERE stage = 'gateway' AND state = 'failed'");
    assert_eq!(failed[0]["n"], 2);
}

#[test]
fn statements_that_write_are_whole_or_not_at_all() {
    let shop = Shop::open("  execute: read-write\n  timeout_ms: 1s\n");
    shop.cluster.ask(
        "CREATE SEQUENCE numbers; \
         CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'UPDATE orders SET amount = 5 WHERE order_id = 5; SELECT 1'",
    );
    let inserted = shop.run("INSERT INTO customers VALUES (100, 'new', NULL, NULL) RETURNING customer_id, name");
    assert_eq!((&inserted["rows"], &inserted["row_count"]), (&json!([{"customer_id": 100, "name": "new"}]), &1.into()));
    let changed = shop.run("UPDATE orders SET amount = 0 WHERE order_id <= 3");
    assert_eq!(changed, json!({"columns": [], "rows": [], "row_count": 3, "truncated": false}));
    let moved = shop
        .run("WITH gone AS (DELETE FROM orders WHERE order_id > 85 RETURNING order_id) SELECT count(*) AS n FROM gone");
    assert_eq!(moved["rows"], json!([{"n": 5}]));
    shop.run("CREATE TABLE summary AS SELECT customer_id, sum(amount) AS total FROM orders GROUP BY 1");
    shop.run("SELECT mine(), nextval('numbers')");
    let more = shop.run("INSERT INTO customers (customer_id, name) SELECT n, 'n' FROM generate_series(1000, 20999) AS n RETURNING customer_id");
    assert_eq!((&more["row_count"], &more["truncated"]), (&10_000.into(), &true.into()));
    let state = "SELECT count(*), (SELECT count(*) FROM orders WHERE amount = 0), (SELECT count(*) FROM customers), \
                 (SELECT count(*) > 0 FROM summary), (SELECT amount FROM orders WHERE order_id = 5) FROM orders";
    assert_eq!(shop.cluster.ask(state), "85|3|20031|t|5.00");
    for (query, status) in [
        ("UPDATE orders SET amount = 7 WHERE pg_sleep(60) IS NOT NULL", 408),
        ("INSERT INTO customers VALUES (100, 'again', NULL, NULL)", 400),
        ("UPDATE orders SET amount = 1 / (order_id - 40)", 400),
        ("DELETE FROM customers", 400),
        ("UPDATE orders SET amount = 9 WHERE order_id = 1 RETURNING repeat('x', 20000000)", 400),
        ("COMMIT", 400),
        ("DELETE FROM orders; COMMIT", 400),
        ("SELECT set_config('statement_timeout', '0', false)", 400),
        ("SELECT pg_read_file('/etc/passwd')", 400),
        ("COPY orders TO PROGRAM 'true'", 400),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", 400),
        ("DO 'BEGIN DELETE FROM orders; END'", 400),
    ] {
        shop.refused(query, status);
        assert_eq!(shop.cluster.ask(state), "85|3|20031|t|5.00", "{query}");
    }
}

#[test]
fn many_at_once_share_a_few_connections_and_the_rest_are_told_to_come_back() {
    let shop = Shop::open(READ_ONLY);
    let body = json!({"query": "SELECT pg_sleep(0.5)"}).to_string();
    let statuses: Vec<(u16, bool)> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..60)
            .map(|_| {
                scope.spawn(|| {
                    let answer = shop.server.http("POST", "/execute/query", &[JSON], body.as_bytes());
                    (answer.status, answer.headers.to_ascii_lowercase().contains("retry-after"))
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    let count = |status: u16| statuses.iter().filter(|(given, _)| *given == status).count();
    assert!(count(200) >= 36 && count(429) > 0, "{statuses:?}");
    assert_eq!(count(200) + count(429), 60, "{statuses:?}");
    assert!(statuses.iter().all(|(status, later)| (*status == 429) == *later), "{statuses:?}");
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'runstone'";
    assert!(shop.cluster.ask(connections).parse::<u64>().unwrap() <= 4);
}
