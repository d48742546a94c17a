//! `logs`, `runs` and `query` in a pipe: every option and every format.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Server, stderr, stdout, write};

const HUGE: &str = "123456789012345678901234567890";

/// A server with a few records that differ in everything a filter looks at, and 2,400 more of another run.
fn server() -> Server {
    let server = Server::start();
    let first = r#"{"id": "0193e1f0-0000-7000-8000-000000000001", "timestamp": "2026-11-20T03:00:00Z", "source_system": "shop",
        "stage": "load", "run_id": "n1", "type": "start", "level": "DEBUG", "status": "Open", "logger_name": "shop.load",
        "entity_name": "orders", "target_table": "dw.orders", "notebook_name": "nb", "workspace_id": "w1",
        "lakehouse_id": "l1", "hostname": "h1", "thread_name": "main", "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "span_id": "b7ad6b7169203331", "function_name": "f", "module": "m", "filename": "f.py", "pathname": "/srv/f.py",
        "message": "Loading orders", "metadata": {"tier": "gold", "where": {"rack": 7}, "huge": HUGE}}"#;
    let second = r#"{"timestamp": "2026-11-20T03:00:01Z", "run_id": "n1", "type": "error", "message": "=1+1, \"no\"\tdisk", "row_count": 7}"#;
    let small = format!("[{},{second}]", first.replace("HUGE", HUGE));
    assert_eq!(server.post(&small).status, 200);
    let many: Vec<Value> = (0..2_400)
        .map(|number| json!({"run_id": "many", "message": number, "timestamp": format!("2026-11-19T{:02}:{:02}:00Z", number / 60 % 24, number % 60)}))
        .map(|mut record| {
            record["message"] = Value::from(record["message"].to_string());
            record
        })
        .collect();
    assert_eq!(server.post(&Value::from(many).to_string()).status, 200);
    server
}

fn run(server: &Server, args: &[&str]) -> String {
    let output = server.cli(args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

#[test]
fn every_filter_has_an_option() {
    let server = server();
    for (option, value) in [
        ("--type", "start"),
        ("--source-system", "shop"),
        ("--stage", "load"),
        ("--status", "Open"),
        ("--logger-name", "shop.load"),
        ("--entity-name", "orders"),
        ("--target-table", "dw.orders"),
        ("--notebook-name", "nb"),
        ("--workspace-id", "w1"),
        ("--lakehouse-id", "l1"),
        ("--hostname", "h1"),
        ("--thread-name", "main"),
        ("--trace-id", "0af7651916cd43dd8448eb211c80319c"),
        ("--span-id", "b7ad6b7169203331"),
        ("--function-name", "f"),
        ("--module", "m"),
        ("--filename", "f.py"),
        ("--pathname", "/srv/f.py"),
        ("--id", "0193e1f0-0000-7000-8000-000000000001"),
        ("--q", "LOADING"),
        ("--search", "loading orders"),
        ("-q", "\"oading o\" ERS"),
        ("--where-metadata", "tier=gold"),
        ("--where-metadata", "where.rack=7"),
    ] {
        let shown = run(&server, &["logs", option, value, "--json"]);
        assert_eq!(shown.lines().count(), 1, "{option}: {shown}");
        assert!(shown.contains("Loading orders") && shown.contains(HUGE), "{option}: {shown}");
        assert!(
            run(&server, &["tail", option, value, "--since", "2026-01-01T00:00:00Z", "-n", "1", "--json"]) == shown,
            "{option}"
        );
    }
    let journal = run(&server, &["query", "SELECT DISTINCT journal FROM logs"]);
    let lines = |args: &[&str]| run(&server, args).lines().count();
    assert_eq!(lines(&["logs", "--journal", journal.trim(), "--run-id", "n1"]), 2);
    assert_eq!(lines(&["logs", "--run-id", "n1", "--level", "ERROR"]), 1);
    assert_eq!(lines(&["logs", "--since", "2026-11-20T03:00:01Z", "--until", "2026-11-21T00:00:00Z"]), 1);
    assert_eq!(lines(&["logs", "--until", "2026-11-20T00:00:00Z", "-n", "all"]), 2_400);
    assert_eq!(lines(&["logs"]), 100);
    assert_eq!(lines(&["logs", "-n", "1500"]), 1_500);
    assert_eq!(lines(&["logs", "--limit", "0"]), 2_402);
    let oldest = run(&server, &["logs", "--order", "oldest", "-n", "1"]);
    assert!(oldest.starts_with("2026-11-19T00:00:00.000000Z\t"), "{oldest}");
}

#[test]
fn every_format_is_whole_and_exact() {
    let server = server();
    let logs = |format: &str| run(&server, &["logs", "--run-id", "n1", "--order", "oldest", "--format", format]);
    let (ndjson, json_text) = (logs("ndjson"), logs("json"));
    let lines: Vec<Value> = ndjson.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(serde_json::from_str::<Value>(&json_text).unwrap(), Value::from(lines));
    assert!(ndjson.contains(HUGE) && json_text.contains(HUGE), "every digit");
    assert!(run(&server, &["logs", "--run-id", "n1", "--json"]).contains(HUGE));
    let tsv = logs("tsv");
    assert!(tsv.ends_with("\t=1+1, \"no\"\\tdisk\n") && tsv.lines().count() == 2, "{tsv}");
    let csv = logs("csv");
    assert!(
        csv.starts_with("id,journal,position,timestamp,") && csv.contains(",\"'=1+1, \"\"no\"\"\tdisk\","),
        "{csv}"
    );
    let shown = logs("lines");
    assert!(shown.contains("ERROR    n1 =1+1, \"no\"\\tdisk row_count=7\n") && !shown.contains('\u{1b}'), "{shown}");
    let table = logs("table");
    assert!(table.contains("Loading orders") && table.lines().count() >= 5, "{table}");
    for (format, nothing) in [("json", "[]\n"), ("ndjson", ""), ("tsv", ""), ("table", "nothing found\n")] {
        assert_eq!(run(&server, &["logs", "--run-id", "none", "--format", format]), nothing);
    }
    let runs = run(&server, &["runs", "--format", "csv"]);
    assert!(runs.starts_with("run_id,state,") && runs.lines().count() == 3, "{runs}");
    assert_eq!(run(&server, &["runs", "-n", "1"]).lines().count(), 1);
    assert_eq!(run(&server, &["runs", "--state", "failed", "--format", "json"]).matches("\"n1\"").count(), 1);
    assert_eq!(run(&server, &["runs", "--since", "2026-11-20T00:00:00Z"]).lines().count(), 1);
    for args in [
        &["--search", "N1"][..],
        &["--duration-max", "10"],
        &["--source-system", "shop"],
        &["--order", "longest", "--stage", "load"],
    ] {
        let shown = run(&server, &[&["runs"], args].concat());
        assert!(shown.starts_with("n1\t") && shown.lines().count() == 1, "{args:?}: {shown}");
    }
    assert_eq!(run(&server, &["runs", "--owner", "nobody", "--environment", "none", "--duration-min", "1"]), "");
    assert!(run(&server, &["runs", "--order", "longest"]).starts_with("many\t"));
    // One run: its fields, and for people its last records.
    let one: Value = serde_json::from_str(&run(&server, &["runs", "n1", "--json"])).unwrap();
    assert_eq!((&one["state"], &one["records"]), (&json!("failed"), &json!(2)));
    let shown = run(&server, &["runs", "n1", "--format", "lines"]);
    assert!(shown.contains("Loading orders") && shown.find("Loading orders") < shown.find("=1+1"), "{shown}");
    let gone = server.cli(&["runs", "nobody"]);
    assert_eq!((gone.status.code(), stdout(&gone).as_str()), (Some(1), ""));
    assert!(stderr(&gone).contains("nobody"), "{}", stderr(&gone));
}

#[test]
fn runs_and_fields_are_counted() {
    let server = server();
    let counted = run(&server, &["metrics", "--group-by", "source_system,stage", "--percentiles", "50"]);
    let lines: Vec<Vec<&str>> = counted.lines().map(|line| line.split('\t').collect()).collect();
    // Names, runs, running, succeeded, failed, rate, mean, p50, rows, records, warnings, errors.
    assert_eq!(lines[0], ["shop", "load", "1", "0", "0", "1", "0.0", "1.0", "1.0", "7", "2", "0", "1"]);
    assert_eq!((lines.len(), lines[1][2], lines[1][10]), (2, "1", "2400"));
    let buckets =
        run(&server, &["metrics", "--bucket", "1d", "--state", "failed", "--since", "2026-11-01T00:00:00Z", "--json"]);
    let bucket: Value = serde_json::from_str(&buckets).unwrap();
    assert_eq!((&bucket["bucket"], &bucket["duration"]["p95"]), (&json!("2026-11-20T00:00:00.000000Z"), &json!(1.0)));
    let fields = run(&server, &["fields"]);
    assert!(fields.contains("run_id\ttext\ttrue\t2402\n") && fields.contains("metadata.tier\tjson\t"), "{fields}");
    assert_eq!(run(&server, &["fields", "run_id"]), "many\t2400\nn1\t2\n");
    assert_eq!(run(&server, &["fields", "run_id", "--prefix", "N", "--level", "ERROR"]), "n1\t1\n");
    let cut = server.cli(&["fields", "run_id", "-n", "1"]);
    assert!(stdout(&cut) == "many\t2400\n" && stderr(&cut).contains("there are more"), "{}", stderr(&cut));
    assert_eq!(server.cli(&["fields", "message"]).status.code(), Some(1));
}

#[test]
fn a_statement_comes_from_the_line_a_file_or_a_pipe() {
    let server = server();
    let sql = "SELECT run_id, count(*) AS n FROM logs GROUP BY run_id ORDER BY n";
    let dir = TempDir::new().unwrap();
    let file = write(dir.path(), "report.sql", sql);
    let shown = run(&server, &["query", sql]);
    assert_eq!(shown, "n1\t2\nmany\t2400\n");
    assert_eq!(run(&server, &["query", "--file", file.to_str().unwrap()]), shown);
    for args in [&["query"][..], &["query", "-"]] {
        assert_eq!(stdout(&server.cli_with_stdin(args, sql.as_bytes())), shown);
    }
    assert_eq!(run(&server, &["query", "--format", "csv", sql]), "run_id,n\r\nn1,2\r\nmany,2400\r\n");
    assert_eq!(run(&server, &["query", "--format", "csv", "SELECT run_id FROM logs WHERE false"]), "run_id\r\n");
    let asked = "SELECT count(*) FROM logs WHERE run_id = $run AND (row_count = $rows OR $rows IS NULL)";
    for (params, count) in
        [(["run=n1", "rows=7"], "1\n"), (["run:=\"n1\"", "rows=8"], "0\n"), (["run=' OR 1=1--", "rows=7"], "0\n")]
    {
        let args = ["query", "--param", params[0], "--param", params[1], asked];
        assert_eq!(run(&server, &args), count, "{params:?}");
    }
    let slow = "SELECT count(*) FROM logs a, logs b, logs c WHERE a.message < b.message || c.message";
    let slow = server.cli(&["query", "--timeout", "20ms", slow]);
    assert_eq!(slow.status.code(), Some(1), "{}", stderr(&slow));
    assert!(stderr(&slow).contains("query_timeout"), "{}", stderr(&slow));
    let missing = server.cli(&["query", "--file", "no/such.sql"]);
    assert_eq!(missing.status.code(), Some(2), "{}", stderr(&missing));
    let wrong = server.cli(&["query", "SELEC"]);
    assert_eq!(wrong.status.code(), Some(1), "{}", stderr(&wrong));
    assert!(stderr(&wrong).contains("invalid_query"), "{}", stderr(&wrong));
}

#[test]
fn programs_have_every_row_and_people_the_first() {
    let server = server();
    let pairs = "SELECT a.message AS one, b.position AS other FROM logs a CROSS JOIN logs b \
                 WHERE a.run_id = 'many' AND a.message < '2' AND b.run_id = 'n1' ORDER BY 1, 2";
    let count = server.query(&format!("SELECT count(*) AS n FROM ({pairs})"))[0]["n"].as_u64().unwrap();
    let million = "SELECT a.position AS p FROM logs a CROSS JOIN logs b WHERE b.position <= 6";
    assert_eq!(run(&server, &["query", "--json", pairs]).lines().count() as u64, count);
    for (format, lines) in [("ndjson", 14_412), ("tsv", 14_412), ("csv", 14_413)] {
        assert_eq!(run(&server, &["query", "--format", format, million]).lines().count(), lines, "{format}");
    }
    let array: Vec<Value> = serde_json::from_str(&run(&server, &["query", "--format", "json", million])).unwrap();
    assert_eq!(array.len(), 14_412);
    let cut = server.cli(&["query", "--format", "table", million]);
    assert!(stderr(&cut).contains("only the first 10000 rows are shown"), "{}", stderr(&cut));
    // An answer that breaks off is no whole one.
    let late = format!("SELECT 1 / (p - 2402) FROM ({million})");
    let broken = server.cli(&["query", "--format", "ndjson", &late]);
    assert_eq!(broken.status.code(), Some(1), "{}", stderr(&broken));
}

#[test]
fn csv_is_the_same_whoever_writes_it() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    let texts = [
        "=1+1",
        "\n=1",
        "＝1",
        "-5",
        "-x",
        "+1.5e3",
        "@A",
        "\ta",
        "a,\"b\"",
        "\u{1b}[2J\u{9b}\u{202e}",
        "",
        " x ",
        "two\r\nlines",
    ];
    let records = texts.iter().enumerate().map(|(number, text)| {
        json!({"run_id": "r", "message": text, "title": text, "duration": 0.1 * number as f64, "row_count": number,
            "timestamp": "2026-11-20T03:00:00.5Z", "capabilities": [text, "b"], "metadata": {"=key": text, "n": [1, null]}})
    });
    assert_eq!(server.post(&Value::from(records.collect::<Vec<_>>()).to_string()).status, 200);
    let file = folder.path().join("all.csv");
    run(&server, &["logs", "--output", file.to_str().unwrap()]);
    let (printed, written) = (run(&server, &["logs", "--format", "csv"]), std::fs::read_to_string(&file).unwrap());
    assert_eq!(printed, written);
    for cell in ["'=1+1", "\"'\n=1\"", "'＝1", "-5", "'-x", "+1.5e3", "'@A", "'\ta", "\\u001b[2J\\u009b\\u202e"] {
        assert!(printed.contains(&format!(",{cell},")), "{cell}: {printed}");
    }
    let followed = run(&server, &["tail", "--since", "2026-01-01T00:00:00Z", "-n", "13", "--format", "csv"]);
    assert_eq!((followed.len(), &followed[..60]), (printed.len(), &printed[..60]));
    // Names are cells too, and a line that holds one null is not empty.
    let sql = "SELECT n AS \"=cmd\" FROM (VALUES (NULL), ('x')) AS t (n)";
    assert_eq!(run(&server, &["query", "--format", "csv", sql]), "'=cmd\r\n\"\"\r\nx\r\n");
}

#[test]
fn a_file_holds_all_of_it_or_is_not_there() {
    let (server, folder) = (server(), TempDir::new().unwrap());
    let path = |name: &str| folder.path().join(name);
    let write_to = |name: &str, args: &[&str]| {
        let file = path(name);
        let shown = run(&server, &[args, &["--output", file.to_str().unwrap()]].concat());
        assert_eq!(shown, "", "data is in the file");
        std::fs::read(file).unwrap()
    };
    assert!(write_to("logs.parquet", &["logs"]).starts_with(b"PAR1"));
    let lines = write_to("logs.ndjson", &["logs", "--order", "oldest"]);
    assert_eq!(String::from_utf8(lines).unwrap(), run(&server, &["logs", "--order", "oldest", "-n", "all", "--json"]));
    assert_eq!(write_to("few.jsonl", &["logs", "-n", "7"]).iter().filter(|byte| **byte == b'\n').count(), 7);
    let csv = write_to("some.out", &["query", "--format", "csv", "SELECT 1 AS one"]);
    assert_eq!(csv, b"one\r\n1\r\n");
    let sql = "SELECT position FROM logs ORDER BY position";
    let piped = server.cli(&["query", "--format", "arrow", sql]);
    assert_eq!(piped.stdout, write_to("positions.arrow", &["query", sql]));
    // What fails leaves nothing behind, and what was there before as it was.
    std::fs::write(path("kept.csv"), "before").unwrap();
    let kept = path("kept.csv");
    let failed = server.cli(&["query", "SELECT 1 / (position - 2402) FROM logs", "--output", kept.to_str().unwrap()]);
    assert_eq!(failed.status.code(), Some(1), "{}", stderr(&failed));
    assert_eq!(std::fs::read(&kept).unwrap(), b"before");
    let left = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut left: Vec<String> = left.collect();
    left.sort();
    assert_eq!(left, ["few.jsonl", "kept.csv", "logs.ndjson", "logs.parquet", "positions.arrow", "some.out"]);
    // A link stays one, and a pipe too.
    std::os::unix::fs::symlink(&kept, path("link.csv")).unwrap();
    assert_eq!(write_to("link.csv", &["query", "SELECT 1 AS one"]), csv);
    assert!(path("link.csv").is_symlink() && std::fs::read(&kept).unwrap() == csv);
    let pipe = path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let read = std::thread::spawn(move || std::fs::read(pipe).unwrap());
    let pipe = path("pipe");
    run(&server, &["query", "--format", "csv", "SELECT 1 AS one", "--output", pipe.to_str().unwrap()]);
    assert_eq!(read.join().unwrap(), csv);
    for args in [
        &["logs", "--output", "x.txt"][..],
        &["logs", "--follow", "--output", "x.csv"],
        &["logs", "-f", "--format", "arrow"],
    ] {
        assert_eq!(server.cli(args).status.code(), Some(2), "{args:?}");
    }
}
