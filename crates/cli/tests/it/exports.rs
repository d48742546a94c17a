//! Exports from the running server: every format as other programs read it, compressed and not; clients that go away or read
//! slowly; answers that break off in the middle. The border between memory and the lake is crossed in `border`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Client, GZIP, Header, JSON, ZSTD, address, connect, read_answer, request};
use crate::foreign::script;
use crate::harness::{Answer, Server, until, write};
use crate::lake::{in_the_lake, metric, signal};
use crate::oracle::{self, Random, Record};

const COLUMNS: [&str; 6] = ["id", "position", "timestamp", "level", "row_count", "message"];

fn post(client: &mut Client, records: &[Record]) -> u64 {
    let answer = client.post(&[JSON], serde_json::to_string(records).unwrap().as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["last_position"].as_u64().unwrap()
}

/// Records in the lake and in memory, some of which a spreadsheet would compute.
fn fill(server: &Server, random: &mut Random) {
    let mut client = Client::new(server.url());
    let mut records = |part: &str| -> Vec<Record> {
        let message = |number: u64| match number {
            0 => format!("=1+1 {part}"),
            1 => format!("-2 \"quoted\",\nand {part}"),
            _ => format!("{part} {number}"),
        };
        (0..300).map(|number| oracle::record(random, 5, &message(number))).collect()
    };
    let last = post(&mut client, &records("in the lake"));
    signal(server, Signal::USR1);
    in_the_lake(server, last);
    post(&mut client, &records("in memory"));
}

fn get(server: &Server, path: &str, headers: &[Header<'_>]) -> Answer {
    let mut answer = Client::new(server.url()).request("GET", path, headers, b"").unwrap();
    let coding = |name: &str| answer.headers.to_ascii_lowercase().contains(&format!("content-encoding: {name}"));
    if coding("gzip") {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&answer.body[..]).read_to_end(&mut plain).unwrap();
        answer.body = plain;
    } else if coding("zstd") {
        answer.body = zstd::decode_all(&answer.body[..]).unwrap();
    }
    answer
}

fn lines(body: &[u8]) -> Vec<Record> {
    str::from_utf8(body).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What a reader should find of these records.
fn rows(records: &[Record], as_text: bool) -> Value {
    let cell = |record: &Record, name: &str| match record.get(name).cloned().unwrap_or_default() {
        value if !as_text => value,
        Value::Null => "".into(),
        Value::String(text) if text.starts_with(['=', '-']) => format!("'{text}").into(),
        Value::String(text) => text.into(),
        value => value.to_string().into(),
    };
    let rows = records.iter().map(|record| COLUMNS.iter().map(|name| cell(record, name)).collect::<Vec<_>>());
    rows.collect::<Vec<_>>().into()
}

#[test]
fn every_format_holds_the_records_of_the_walk_whoever_reads_it() {
    let mut random = Random::seeded("exports");
    let server = Server::start();
    fill(&server, &mut random);
    let dir = TempDir::new().unwrap();
    let mut client = Client::new(server.url());
    for (filter, order, coding) in
        [("", "oldest", ""), ("&level=warning", "newest", "gzip"), ("&run_id=run-3", "oldest", "zstd")]
    {
        let walk = oracle::walk(&mut client, &format!("order={order}{filter}"));
        assert!(!walk.is_empty());
        let ask = |format: &str| {
            let path = format!("/api/v1/logs?order={order}{filter}&format={format}");
            let answer = get(&server, &path, &[("accept-encoding", coding)]);
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            answer
        };
        let answer = ask("ndjson");
        assert_eq!(lines(&answer.body), walk, "{filter}");
        assert_eq!(answer.headers.contains(&format!("content-encoding: {coding}")), !coding.is_empty());
        for (format, readers) in
            [("parquet", &["pyarrow", "polars"][..]), ("arrow", &["pyarrow", "polars"]), ("csv", &["csv"])]
        {
            let answer = ask(format);
            assert!(answer.headers.contains(&format!("attachment; filename=\"logs.{format}\"")), "{answer:?}");
            let file = write(dir.path(), format, &answer.body).display().to_string();
            for reader in readers {
                let args: Vec<&str> = [*reader, format, &file].into_iter().chain(COLUMNS).collect();
                let found = script("read_export.py", &args);
                assert_eq!(found["columns"].as_array().unwrap().len(), runstone_record::Column::ALL.len());
                assert_eq!(found["rows"], rows(&walk, format == "csv"), "{reader} {format}{filter}");
            }
        }
    }
    // A run's records by its path, the first two by Accept, and the rest from a page on.
    let walk = oracle::walk(&mut client, "order=oldest&run_id=run-1");
    assert_eq!(lines(&get(&server, "/api/v1/runs/run-1/logs?format=ndjson", &[]).body), walk);
    let accept = [("accept", "text/html, application/x-ndjson;q=0.9, */*;q=0.1")];
    let first = get(&server, "/api/v1/runs/run-1/logs?limit=2", &accept);
    assert_eq!(lines(&first.body), walk[..2]);
    let page = client.get("/api/v1/runs/run-1/logs?limit=7").unwrap().json();
    let rest = format!("/api/v1/runs/run-1/logs?format=ndjson&cursor={}", page["next"].as_str().unwrap());
    assert_eq!(lines(&get(&server, &rest, &[]).body), walk[7..]);
}

#[test]
fn a_format_is_chosen_by_name_then_by_accept_and_what_cannot_be_is_refused() {
    let server = Server::start();
    fill(&server, &mut Random::seeded("formats"));
    let html = ("accept", "text/html");
    for (path, headers, status, says) in [
        ("/api/v1/logs", &[html][..], 406, "not_acceptable"),
        ("/api/v1/logs?format=json", &[html], 200, "records"),
        ("/api/v1/logs?format=xml", &[], 400, "json, ndjson, csv, parquet or arrow"),
        ("/api/v1/logs?format=csv&limit=0", &[], 400, "1 or more"),
        ("/api/v1/logs?format=csv&cursor=x", &[], 400, "invalid_parameter"),
        ("/api/v1/runs/nobody/logs?format=csv", &[], 404, "not_found"),
    ] {
        let answer = get(&server, path, headers);
        let body = String::from_utf8_lossy(&answer.body);
        assert!(answer.status == status && body.contains(says), "{path}: {} {body}", answer.status);
    }
    for coding in [GZIP.1, ZSTD.1] {
        let page = get(&server, "/api/v1/logs?limit=100", &[("accept-encoding", coding)]);
        assert_eq!(page.json()["records"].as_array().unwrap().len(), 100);
        assert!(page.headers.contains("vary: accept-encoding") && page.headers.contains("vary: accept\r"), "{page:?}");
        assert!(page.headers.contains(&format!("content-encoding: {coding}")), "{page:?}");
    }
    // Without the body, and without its work.
    let mut socket = connect(address(server.url())).unwrap();
    socket.write_all(&request("HEAD", "/api/v1/logs?format=parquet", &[("connection", "close")], b"")).unwrap();
    let mut head = String::new();
    socket.read_to_string(&mut head).unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("application/vnd.apache.parquet"), "{head}");
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    until("the place is free", || metric(&server, "runstone_exports_running") == 0.0);
}

fn sql(server: &Server, body: &Value, headers: &[Header<'_>]) -> std::io::Result<Answer> {
    let headers: Vec<Header<'_>> = [JSON].iter().chain(headers).copied().collect();
    Client::new(server.url()).request("POST", "/api/v1/query", &headers, body.to_string().as_bytes())
}

#[test]
fn sql_has_every_format_no_cap_of_rows_and_an_end_that_is_missing_where_it_failed() {
    let server = Server::start();
    fill(&server, &mut Random::seeded("sql"));
    let dir = TempDir::new().unwrap();
    let many = "SELECT a.position AS n, a.position * 600 + b.position AS \"N\", a.message AS text, a.timestamp \
                FROM logs a CROSS JOIN logs b ORDER BY 1, 2 LIMIT 30000";
    let refused = sql(&server, &json!({"sql": many}), &[]).unwrap();
    let message = refused.json()["message"].as_str().unwrap().to_owned();
    assert_eq!((refused.status, refused.json()["error"].as_str()), (400, Some("query_limit")), "{refused:?}");
    for way in ["query.rows_max", "LIMIT", "max_rows", "ndjson, csv, parquet or arrow"] {
        assert!(message.contains(way), "{message}");
    }
    let cut = sql(&server, &json!({"sql": many, "max_rows": 7}), &[]).unwrap().json();
    assert_eq!((cut["rows"].as_array().unwrap().len(), &cut["stats"]["truncated"]), (7, &json!(true)));
    let rows = lines(&sql(&server, &json!({"sql": many, "format": "ndjson"}), &[]).unwrap().body);
    assert_eq!((rows.len(), &rows[..7]), (30_000, &lines_of(&cut["rows"])[..]));
    for (format, reader) in [("parquet", "polars"), ("arrow", "pyarrow")] {
        let answer = sql(&server, &json!({"sql": many, "format": format}), &[]).unwrap();
        let file = write(dir.path(), format, &answer.body).display().to_string();
        let found = script("read_export.py", &[reader, format, &file, "n", "N", "text", "timestamp"]);
        let wanted: Vec<Value> = rows.iter().map(|row| row.values().cloned().collect::<Vec<_>>().into()).collect();
        assert_eq!(found["columns"], json!(["n", "N", "text", "timestamp"]));
        assert!(found["rows"] == Value::from(wanted), "{format}");
    }
    let csv = sql(&server, &json!({"sql": many, "max_rows": 2}), &[("accept", "text/csv")]).unwrap();
    assert_eq!(String::from_utf8(csv.body).unwrap().matches("\r\n").count(), 3);
    for body in [json!({"sql": "SELECT 1", "format": "xml"}), json!({"sql": "SELECT 1", "max_rows": 0})] {
        let refused = sql(&server, &body, &[]).unwrap();
        assert_eq!((refused.status, refused.json()["error"].as_str()), (400, Some("invalid_parameter")), "{body}");
    }

    // While the answer is short it is an error like any other; after that the body has no end.
    for soon in ["SELECT 1/0 AS n FROM logs", "SELECT position, 1 / (position - 2) AS late FROM logs"] {
        let failed = sql(&server, &json!({"sql": soon, "format": "csv"}), &[]).unwrap();
        assert_eq!((failed.status, failed.json()["error"].as_str()), (400, Some("query_failed")), "{soon}");
    }
    let late =
        "SELECT n, 1 / (n - 300000) AS late FROM (SELECT a.position * 600 + b.position AS n FROM logs a, logs b)";
    for (format, coding) in [("ndjson", ""), ("csv", "gzip"), ("parquet", ""), ("arrow", "zstd")] {
        let answer = sql(&server, &json!({"sql": late, "format": format}), &[("accept-encoding", coding)]);
        assert!(answer.is_err(), "{format}: {answer:?}");
        let failed = format!("runstone_exports_total{{format=\"{format}\",outcome=\"query_failed\"}}");
        until("it is counted", || metric(&server, &failed) >= 1.0);
    }
}

fn lines_of(rows: &Value) -> Vec<Record> {
    rows.as_array().unwrap().iter().map(|row| row.as_object().unwrap().clone()).collect()
}

/// A client that has asked for everything and read no more than the head of its answer.
fn begun(server: &Server, format: &str) -> BufReader<TcpStream> {
    let mut socket = connect(address(server.url())).unwrap();
    socket.write_all(&request("GET", &format!("/api/v1/logs?format={format}"), &[], b"")).unwrap();
    let mut reader = BufReader::with_capacity(256, socket);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.contains(" 200 "), "{line}");
    reader
}

#[test]
fn a_client_that_reads_slowly_blocks_nobody_and_one_that_goes_away_ends_its_work() {
    let mut random = Random::seeded("slow");
    let server = Server::start();
    let mut client = Client::new(server.url());
    // More than sockets hold.
    let long = "at line ".repeat(250);
    for batch in 0..10 {
        let records: Vec<Record> = (0..2_000)
            .map(|number| {
                let mut record = oracle::record(&mut random, 5, &format!("{batch} {number}"));
                record.insert("exception".to_owned(), long.clone().into());
                record
            })
            .collect();
        post(&mut client, &records);
    }
    let running = || metric(&server, "runstone_exports_running");
    let slow = [begun(&server, "ndjson"), begun(&server, "csv")];
    assert_eq!(running(), 2.0);
    let record = oracle::record(&mut random, 5, "beside the slow ones");
    assert_eq!(post(&mut client, &[record]), 20_001);
    assert_eq!(oracle::rows(&mut client, "SELECT count(*) AS n FROM logs"), [json!({"n": 20_001})]);
    assert_eq!(client.get("/api/v1/logs?limit=1000").unwrap().json()["records"].as_array().unwrap().len(), 1_000);
    assert_eq!(running(), 2.0, "they still wait for their clients");
    drop(slow);
    until("both places are free", || running() == 0.0);
    for format in ["ndjson", "csv"] {
        let gone = format!("runstone_exports_total{{format=\"{format}\",outcome=\"cancelled\"}}");
        assert_eq!(metric(&server, &gone), 1.0);
    }
    // One that reads it all gets it all, as slowly as it likes.
    let mut reader = connect(address(server.url())).unwrap();
    reader.write_all(&request("GET", "/api/v1/logs?format=ndjson", &[], b"")).unwrap();
    let answer = read_answer(&mut BufReader::with_capacity(1_000, reader)).unwrap();
    assert_eq!(lines(&answer.body).len(), 20_001);
    let bytes = metric(&server, "runstone_export_bytes_total{format=\"ndjson\"}");
    assert!(bytes >= answer.body.len() as f64, "{bytes}");
}

#[test]
fn what_may_break_off_is_not_streamed_where_nobody_could_tell() {
    let server = Server::start();
    fill(&server, &mut Random::seeded("old"));
    let ask = |method: &str, path: &str, body: &[u8]| {
        let sent = request(method, path, &[JSON], body);
        let sent = String::from_utf8(sent).unwrap().replace("HTTP/1.1\r\n", "HTTP/1.0\r\n");
        let mut socket = connect(address(server.url())).unwrap();
        socket.write_all(sent.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    };
    let sql = br#"{"sql": "SELECT * FROM logs", "format": "csv"}"#;
    for (method, path, body) in [
        ("GET", "/api/v1/logs?format=ndjson", &b""[..]),
        ("GET", "/api/v1/runs/run-1/logs?format=parquet", b""),
        ("POST", "/api/v1/query", sql),
    ] {
        let answer = ask(method, path, body);
        assert!(answer.contains(" 406 ") && answer.contains("not_acceptable"), "{path}: {answer}");
        for way in ["HTTP/1.1", "proxy_http_version 1.1"] {
            assert!(answer.contains(way), "{path}: {answer}");
        }
    }
    // What has a length is for everybody.
    assert!(ask("GET", "/api/v1/logs", b"").contains(" 200 "));
    assert!(ask("POST", "/api/v1/query", br#"{"sql": "SELECT 1"}"#).contains(" 200 "));
}
