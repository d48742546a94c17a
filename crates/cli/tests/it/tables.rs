//! Tables of others beside `logs` and `runs`: written by who nobody here is, on a disk and on S3, read by the server and
//! by the command line without one.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Client, JSON};
use crate::foreign::script;
use crate::harness::{Server, runstone, stderr, stdout, write};
use crate::storage::{BUCKET, S3, Storage};

/// Every table, by its place among the files.
const PLACES: [(&str, &str); 6] = [
    ("orders", "orders.parquet"),
    ("hive", "hive"),
    ("csv_orders", "orders.csv"),
    ("json_orders", "orders.ndjson"),
    ("arr", "array.json"),
    ("deltas", "delta"),
];

/// Questions about them, and what is in the files.
fn questions() -> Vec<(&'static str, Value)> {
    vec![
        (
            "SELECT count(*) AS n, sum(amount) AS amount, max(placed_at) AS last FROM orders",
            json!([{"n": 4, "amount": 37.75, "last": "2026-11-28T03:00:00.000000Z"}]),
        ),
        (
            "SELECT order_id FROM orders WHERE placed_at >= '2026-11-28T02:00:00Z' AND region = 'eu'",
            json!([{"order_id": 3}]),
        ),
        (
            "SELECT region, count(*) AS n FROM hive WHERE day = date '2026-11-28' GROUP BY region ORDER BY region",
            json!([{"region": "eu", "n": 1}, {"region": null, "n": 1}]),
        ),
        ("SELECT arrow_typeof(day) AS t, count(*) AS n FROM hive GROUP BY 1", json!([{"t": "Date32", "n": 4}])),
        ("SELECT count(*) AS n FROM hive WHERE day = date '1999-01-01'", json!([{"n": 0}])),
        (
            "SELECT sum(order_id) AS ids, count(amount) AS amounts, min(day) AS first FROM csv_orders",
            json!([{"ids": 10, "amounts": 3, "first": "2026-11-27"}]),
        ),
        ("SELECT order_id, amount FROM json_orders WHERE region = 'us'", json!([{"order_id": 2, "amount": 20.0}])),
        ("SELECT a, b FROM arr ORDER BY a", json!([{"a": 1, "b": "x"}, {"a": 2, "b": null}])),
        (
            "SELECT order_id, region FROM deltas ORDER BY order_id",
            json!([{"order_id": 1, "region": "eu"}, {"order_id": 3, "region": "eu"}, {"order_id": 4, "region": null}]),
        ),
        (
            "SELECT count(*) AS n FROM deltas d JOIN orders o ON d.order_id = o.order_id WHERE d.region = 'eu'",
            json!([{"n": 2}]),
        ),
    ]
}

fn section(root: &str) -> String {
    let mut yaml = "tables:\n".to_owned();
    for (name, place) in PLACES {
        let line = match name {
            "deltas" => format!("  {name}: {{location: '{root}/{place}', format: delta}}\n"),
            _ => format!("  {name}: '{root}/{place}'\n"),
        };
        yaml.push_str(&line);
    }
    yaml
}

fn ask(client: &mut Client, sql: &str) -> (u16, Value) {
    let answer = client.sql(sql).unwrap();
    (answer.status, answer.json())
}

fn check(client: &mut Client) {
    for (sql, expected) in questions() {
        let (status, body) = ask(client, sql);
        assert_eq!((status, &body["rows"]), (200, &expected), "{sql}: {body}");
    }
}

fn start(dir: TempDir, yaml: &str, env: &[(&'static str, String)]) -> Server {
    let config = write(dir.path(), "runstone.yml", yaml);
    Server::start_among(dir, "127.0.0.1:0", &["--config", config.to_str().unwrap()], env)
}

#[test]
fn tables_of_the_settings_stand_beside_logs_and_runs() {
    let files = TempDir::new().unwrap();
    let root = files.path().to_str().unwrap().to_owned();
    script("write_tables.py", &[&root]);
    let yaml = format!(
        "{}  damaged: {root}/damaged.parquet\n  later: {root}/later\n  mixed: {root}/mixed\n  forced: {{location: {root}/mixed, format: csv}}\n",
        section(&root)
    );
    let server = start(TempDir::new().unwrap(), &yaml, &[]);
    let mut client = Client::new(server.url());
    assert_eq!(client.post(&[JSON], br#"{"run_id": "1", "row_count": 3, "message": "moved"}"#).unwrap().status, 200);
    check(&mut client);
    check(&mut client);
    let (_, joined) =
        ask(&mut client, "SELECT o.region, l.message FROM logs l JOIN orders o ON o.order_id = l.row_count");
    assert_eq!(joined["rows"], json!([{"region": "eu", "message": "moved"}]));
    let (_, forced) = ask(&mut client, "SELECT count(*) AS n FROM forced");
    assert_eq!(forced["rows"], json!([{"n": 4}]));

    // They are listed and described, and one that cannot be read is in nobody's way.
    let (_, shown) = ask(&mut client, "SHOW TABLES");
    for name in ["logs", "runs", "orders", "deltas", "damaged", "later"] {
        assert!(shown["rows"].as_array().unwrap().iter().any(|row| row["table_name"] == name), "{name}: {shown}");
    }
    let (status, described) = ask(&mut client, "DESCRIBE hive");
    assert_eq!((status, described["rows"].as_array().unwrap().len()), (200, 5), "{described}");
    for sql in ["SHOW COLUMNS FROM logs", "SHOW COLUMNS FROM orders", "SELECT count(*) FROM information_schema.columns"]
    {
        assert_eq!(ask(&mut client, sql).0, 200, "{sql}");
    }
    for (table, status, code, why) in [
        ("damaged", 503, "unavailable", "read table damaged"),
        ("later", 503, "unavailable", "read table later: its location cannot be read"),
        ("mixed", 400, "invalid_query", "several formats"),
    ] {
        let (got, body) = ask(&mut client, &format!("SELECT * FROM {table}"));
        assert_eq!((got, body["error"].as_str()), (status, Some(code)), "{body}");
        assert!(body["message"].as_str().unwrap().contains(why), "{body}");
        assert!(!body.to_string().contains(&root), "no place of this machine: {body}");
    }
    for sql in ["INSERT INTO orders VALUES (1)", "DELETE FROM orders", "DROP TABLE orders", "COPY orders TO 'x'"] {
        assert_eq!(ask(&mut client, sql).1["error"], "invalid_query", "{sql}");
    }

    // Files that come, change and go are seen by the next query.
    std::fs::create_dir(files.path().join("later")).unwrap();
    assert_eq!(ask(&mut client, "SELECT * FROM later").0, 503);
    write(files.path(), "later/a.csv", "a,b\n1,x\n");
    assert_eq!(ask(&mut client, "SELECT * FROM later").1["rows"], json!([{"a": 1, "b": "x"}]));
    write(files.path(), "later/b.csv", "a,b\n2,y\n");
    assert_eq!(ask(&mut client, "SELECT sum(a) AS a FROM later").1["rows"], json!([{"a": 3}]));
    script("append_delta.py", &[&format!("{root}/delta")]);
    assert_eq!(ask(&mut client, "SELECT count(*) AS n FROM deltas").1["rows"], json!([{"n": 4}]));
    std::fs::remove_dir_all(files.path().join("delta")).unwrap();
    assert_eq!(ask(&mut client, "SELECT count(*) AS n FROM deltas").0, 503);
    assert_eq!(ask(&mut client, "SELECT count(*) AS n FROM orders").0, 200);
}

/// What a plan must not show.
fn check_plans(client: &mut Client, secrets: &[&str]) {
    for (kind, table) in [
        ("EXPLAIN", "orders"),
        ("EXPLAIN ANALYZE", "hive"),
        ("EXPLAIN VERBOSE", "csv_orders"),
        ("EXPLAIN FORMAT TREE", "deltas"),
        ("EXPLAIN ANALYZE", "logs"),
        ("EXPLAIN ANALYZE VERBOSE", "json_orders"),
    ] {
        let sql = format!(
            "{kind} SELECT count(*) FROM {table} GROUP BY {}",
            if table == "logs" { "level" } else { "region" }
        );
        let (status, body) = ask(client, &sql);
        assert_eq!(status, 200, "{sql}: {body}");
        for secret in secrets {
            assert!(!body.to_string().contains(secret), "{sql} shows {secret}: {body}");
        }
    }
}

#[test]
fn tables_and_plans_on_s3() {
    let (files, s3) = (TempDir::new().unwrap(), S3::start());
    let root = files.path().to_str().unwrap().to_owned();
    script("write_tables.py", &[&root, s3.url(), BUCKET, "tables"]);
    let location = &s3.locations()[0];
    let yaml = format!(
        "{}  absent: s3://{BUCKET}/absent\n  nowhere: s3://no-such-bucket/x.parquet\nlake:\n  location: {location}\n",
        section(&format!("s3://{BUCKET}/tables"))
    );
    let server = start(TempDir::new().unwrap(), &yaml, &s3.env());
    let mut client = Client::new(server.url());
    assert_eq!(client.post(&[JSON], br#"{"run_id": "1", "level": "INFO"}"#).unwrap().status, 200);
    check(&mut client);
    crate::lake::signal(&server, rustix::process::Signal::USR1);
    crate::lake::in_the_lake(&server, 1);
    let endpoint = s3.url().trim_start_matches("http://");
    check_plans(&mut client, &[endpoint, "secret", "AWS_", "aws_", &root, server.data().to_str().unwrap()]);
    for table in ["absent", "nowhere"] {
        let (status, body) = ask(&mut client, &format!("SELECT * FROM {table}"));
        assert_eq!((status, body["error"].as_str()), (503, Some("unavailable")), "{body}");
    }
    // The same without a server.
    let mut command = runstone();
    command.args(["query", "--json"]).envs(s3.env());
    for (name, place) in PLACES {
        command.args(["--table", &format!("{name}=s3://{BUCKET}/tables/{place}")]);
    }
    let output = command.arg("SELECT sum(order_id) AS ids FROM deltas").output().unwrap();
    assert_eq!(stdout(&output), "{\"ids\":8}\n", "{}", stderr(&output));
}

#[test]
fn plans_show_no_place_of_this_machine() {
    let files = TempDir::new().unwrap();
    let root = files.path().to_str().unwrap().to_owned();
    script("write_tables.py", &[&root]);
    let server = start(TempDir::new().unwrap(), &section(&root), &[]);
    let mut client = Client::new(server.url());
    assert_eq!(client.post(&[JSON], br#"{"run_id": "1", "level": "INFO"}"#).unwrap().status, 200);
    check_plans(&mut client, &[&root, root.trim_start_matches('/'), server.data().to_str().unwrap()]);
}

fn offline(dir: &Path, tables: &[(&str, &str)], sql: &str) -> std::process::Output {
    let mut command = runstone();
    command.current_dir(dir).args(["query", "--json"]);
    for (name, place) in tables {
        command.args(["--table", &format!("{name}={place}")]);
    }
    command.arg(sql).output().unwrap()
}

#[test]
fn the_command_line_reads_tables_without_a_server() {
    let files = TempDir::new().unwrap();
    script("write_tables.py", &[files.path().to_str().unwrap()]);
    write(files.path(), "notes.txt", "a,b\n1,2\n");
    for (sql, expected) in questions() {
        let output = offline(files.path(), &PLACES, sql);
        let rows: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(Value::from(rows), expected, "{sql}: {}", stderr(&output));
    }
    let said = offline(files.path(), &[("notes:csv", "notes.txt")], "SELECT a + b AS c FROM notes");
    assert_eq!(stdout(&said), "{\"c\":3}\n", "{}", stderr(&said));
    for (table, sql, code, why) in [
        (("orders", "orders.parquet"), "SELECT * FROM logs", 1, "not found"),
        (("orders", "missing.parquet"), "SELECT * FROM orders", 1, "read table orders"),
        (("notes", "notes.txt"), "SELECT * FROM notes", 1, "format"),
        (("logs", "orders.parquet"), "SELECT 1", 2, "such a table already"),
        (("select", "orders.parquet"), "SELECT 1", 2, "word of SQL"),
        (("orders:xlsx", "orders.parquet"), "SELECT 1", 2, "no format xlsx"),
    ] {
        let output = offline(files.path(), &[table], sql);
        assert_eq!(output.status.code(), Some(code), "{table:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(why), "{table:?}: {}", stderr(&output));
    }
}

#[test]
fn without_a_server_programs_have_every_row_too_and_settings_are_the_limits() {
    let dir = TempDir::new().unwrap();
    let rows: String = (1..=12_345).map(|n| format!("{n},text {n}\n")).collect();
    write(dir.path(), "many.csv", format!("n,text\n{rows}"));
    let config = "query:\n  rows_max: 7\n  timeout_ms: 10m\nlake:\n  vacuum_grace_ms: 1h\n";
    write(dir.path(), "runstone.yml", config);
    let ask = |args: &[&str]| {
        let mut command = runstone();
        command.current_dir(dir.path()).env("RUNSTONE_PAGER", "less").args(["query", "--table", "many=many.csv"]);
        command.args(args).output().unwrap()
    };
    let asked = |args: &[&str]| {
        let output = ask(args);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        output
    };
    let all = "SELECT n, text FROM many ORDER BY n";
    for (format, lines) in [("tsv", 12_345), ("ndjson", 12_345), ("csv", 12_346), ("json", 12_347)] {
        let printed = stdout(&asked(&["--format", format, all]));
        assert_eq!(printed.lines().count(), lines, "{format}");
        assert!(printed.contains("text 12345"), "{format}");
    }
    let cut = asked(&["--format", "table", all]);
    assert!(stderr(&cut).contains("only the first 10000 rows are shown"), "{}", stderr(&cut));
    let cut = asked(&["--config", "runstone.yml", "--format", "table", all]);
    assert!(stderr(&cut).contains("only the first 7 rows are shown"), "{}", stderr(&cut));
    let found = asked(&["--param", "n=12000", "SELECT text FROM many WHERE n = $n"]);
    assert_eq!(stdout(&found), "text 12000\n");
    for file in ["all.parquet", "all.csv", "all.ndjson"] {
        assert_eq!(stdout(&asked(&["--output", file, all])), "");
        let again = asked(&["--table", &format!("again={file}"), "SELECT count(*), sum(n) FROM again"]);
        assert_eq!(stdout(&again), "12345\t76205685\n", "{file}");
    }
    for (args, code, why) in [
        (&["--timeout", "1m", "SELECT 1"][..], 1, "query.timeout_ms"),
        (&["--timeout", "1ms", "SELECT count(*) FROM many a, many b WHERE a.text < b.text"], 1, "1 ms"),
        (&["--param", "1=1", "SELECT 1"], 2, "--param"),
        (&["--timeout", "soon", "SELECT 1"], 2, "5s"),
    ] {
        let output = ask(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(why), "{args:?}: {}", stderr(&output));
    }
    assert_eq!(stdout(&asked(&["--config", "runstone.yml", "--timeout", "1m", "SELECT 1"])), "1\n");
    let alone = runstone().args(["query", "--config", "runstone.yml", "SELECT 1"]).output().unwrap();
    assert_eq!(alone.status.code(), Some(2), "{}", stderr(&alone));
}

#[test]
fn names_that_no_table_can_have_are_refused_at_start() {
    let dir = TempDir::new().unwrap();
    let long = format!("{}: /x", "a".repeat(64));
    for (line, why) in [
        ("logs: /x", "such a table already"),
        ("sources: /x", "such a table already"),
        ("user: /x", "word of SQL"),
        ("Orders: /x", "small letter"),
        ("9a: /x", "small letter"),
        ("'x\"; DROP TABLE y;--': /x", "small letter"),
        (&long, "63 bytes"),
        ("orders: ''", "location"),
        ("orders: gs://bucket/x", "no storage gs://"),
        ("orders: {format: csv}", "needs a location"),
        ("orders: {location: /x, format: xlsx}", "must be one of parquet"),
        ("orders: {location: /x, kind: csv}", "location and format"),
    ] {
        refused_at_start(dir.path(), &format!("tables:\n  {line}\n"), why);
    }
    // Tables of PostgreSQL, whose names begin with it.
    for (prefix, why) in [
        ("'x\"; DROP TABLE y;--'", "letters of ASCII"),
        ("1st", "begin with a digit"),
        ("user", "reserved word"),
        ("''", "empty"),
        (&"a".repeat(31), "at most 30 bytes"),
    ] {
        refused_at_start(dir.path(), &format!("postgres:\n  table_prefix: {prefix}\n"), why);
    }
}

/// The second line of such settings cannot be, and the server says why.
fn refused_at_start(dir: &Path, yaml: &str, why: &str) {
    let config = write(dir, "runstone.yml", yaml);
    let command = ["serve", "--listen", "127.0.0.1:0", "--config"];
    let output = runstone().args(command).arg(&config).current_dir(dir).output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{yaml}: {said}");
    assert!(said.contains(why) && said.contains("runstone.yml:2"), "{yaml}: {said}");
}
