//! What a client may send wrongly to `POST /api/v1/logs`, and the answer to each. Nothing of a refused record is stored,
//! nothing valid beside it is lost, and the server is none the worse.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::client::{Client, GZIP, Header, JSON, NDJSON, Then, ZSTD, exchange, request};
use crate::harness::{Answer, Server};
use crate::lake::metric;
use crate::oracle::{Random, rows};

const RECORD_BYTES_MAX: usize = 256 << 10;
const GOOD: &str = r#"{"message":"good"}"#;

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// `{"message":"x","a":[[…]]}` of that depth.
fn nested(depth: usize) -> String {
    format!(r#"{{"message":"x","a":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1))
}

fn with(field: &str, value: impl Into<Value>) -> String {
    json!({"message": "x", field: value.into()}).to_string()
}

/// A record whose text has that many bytes.
fn sized(bytes: usize) -> String {
    let around = r#"{"message":""}"#.len();
    format!(r#"{{"message":"{}"}}"#, "m".repeat(bytes - around))
}

/// Records that are JSON and no good, with the code of each.
fn bad_records() -> Vec<(String, &'static str)> {
    let keys = |count: usize| -> String { (0..count).map(|key| format!(r#","k{key}":1"#)).collect() };
    let mut bad: Vec<(String, &'static str)> = vec![
        (nested(33), "too_deep"),
        (r#"{"message":"a","message":"b"}"#.to_owned(), "duplicate_field"),
        (r#"{"message":"a","description":"b"}"#.to_owned(), "duplicate_field"),
        (r#"{"run_id":"a","level":"INFO","run_id":"a"}"#.to_owned(), "duplicate_field"),
        (r#"["a", 3]"#.to_owned(), "not_an_object"),
        ("3".to_owned(), "not_an_object"),
        ("null".to_owned(), "not_an_object"),
        (r#""text""#.to_owned(), "not_an_object"),
        ("{}".to_owned(), "empty_record"),
        (r#"{"message":null,"unknown":1}"#.to_owned(), "empty_record"),
        (format!(r#"{{"message":"x"{}}}"#, keys(100_000)), "too_many_keys"),
        (format!(r#"{{"message":"x"{}}}"#, keys(256)), "too_many_keys"),
        (format!(r#"{{"message":"x","{}":1}}"#, "k".repeat(64 << 10)), "too_many_keys"),
        (format!(r#"{{"message":"x","{}":1}}"#, "k".repeat(129)), "too_many_keys"),
        (r#"{"row_count":18446744073709551616}"#.to_owned(), "invalid_value"),
        (r#"{"lineno":-9223372036854775809}"#.to_owned(), "invalid_value"),
        (r#"{"row_count":1.0}"#.to_owned(), "wrong_type"),
        (r#"{"row_count":1e3}"#.to_owned(), "wrong_type"),
        (r#"{"row_count":"7"}"#.to_owned(), "wrong_type"),
        (r#"{"row_count":-1}"#.to_owned(), "invalid_value"),
        (r#"{"duration":-0.001}"#.to_owned(), "invalid_value"),
        (with("message", json!({"a": 1})).replace(r#""message":"x","#, ""), "wrong_type"),
        (with("type", "banana"), "invalid_value"),
        (with("type", 5), "wrong_type"),
        (with("trace_id", "xyz"), "invalid_value"),
        (with("capabilities", "one"), "wrong_type"),
        (with("capabilities", json!(["a", 1])), "wrong_type"),
        (sized(RECORD_BYTES_MAX + 1), "record_too_large"),
    ];
    bad.extend(bad_fields());
    bad
}

/// Records with a field that is not what it should be: an id, a time, an identifier.
fn bad_fields() -> Vec<(String, &'static str)> {
    let mut bad = Vec::new();
    let ids = ["", "nope", "01890000-0000-7000-8000-00000000000", &"x".repeat(10 << 10)];
    bad.extend(ids.map(|id| (with("id", id), "invalid_id")));
    bad.push((with("id", 5), "wrong_type"));
    let times = [
        "2025-13-01T00:00:00Z",
        "2025-02-30T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "1676-12-31T23:59:59Z",
        "2263-01-01T00:00:00Z",
        "2025-01-01T00:00:00",
        "2025-01-01T00:00:00+99:99",
        "2025-01-01",
        "2025-01-01T25:00:00Z",
        "now",
        "",
    ];
    bad.extend(times.map(|time| (with("timestamp", time), "invalid_time")));
    bad.push((with("timestamp", 1_736_771_696), "wrong_type"));
    let long = "a".repeat(129);
    let identifiers = [
        "../../etc/passwd",
        "..%2f",
        "..\\..\\x",
        "a/b",
        "a\\b",
        "a\0",
        "a\r",
        "a\tb",
        ".",
        "..",
        "",
        " ",
        "a.",
        "a ",
        " a",
        "CON",
        "nul",
        "com1.txt",
        "ä",
        "aä",
        "a\u{202e}b",
        "𝐀",
        "a\"b",
        "a'b",
        "a;b",
        "$(x)",
        &long,
    ];
    for field in ["run_id", "stage", "source_system"] {
        bad.extend(identifiers.map(|text| (with(field, text), "invalid_identifier")));
    }
    bad
}

/// Texts that are no JSON.
fn bad_texts() -> Vec<Vec<u8>> {
    let around = |value: &[u8]| [br#"{"message":"x","a":"#, value, b"}"].concat();
    let mut bad: Vec<Vec<u8>> = [
        r#"{"message":"x"} x"#,
        r#"{"message":"x"}{"message":"y"}"#,
        r#"{"message":"x""#,
        r#"{"message":"x",}"#,
        r#"{message:"x"}"#,
        "{'message':'x'}",
        r#"[{"message":"x"},]"#,
        r#"[{"message":"x"}"#,
        r#"{"message":"\ud800"}"#,
        r#"{"message":"\udc00\ud800"}"#,
        r#"{"message":"\u12"}"#,
        r#"{"message":"\x41"}"#,
        "{\"message\":\"a\u{1}b\"}",
        "{\"message\":\"a\tb\"}",
        r#"{"duration":NaN}"#,
        r#"{"duration":-Infinity}"#,
        r#"{"duration":+1}"#,
        r#"{"lineno":01}"#,
        r#"{"message":"x"/* why */}"#,
        "{\"message\":\"x\"} // why",
        "\u{feff}{\"message\":\"x\"}",
        "a plain log line",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    bad.extend([
        around(b"1e400"),
        around(b"-1e400"),
        around(&b"1".repeat(1_000_000)),
        around(&[b"0.", &b"1".repeat(1_000_000)[..]].concat()),
        around(&[b"[".repeat(1_000_000), b"]".repeat(1_000_000)].concat()),
        around(br#"{"a":"#.repeat(1_000_000).as_slice()),
        b"[".repeat(1_000_000),
        b"{\"message\":\"\xff\"}".to_vec(),
        b"{\"message\":\"\xc0\xaf\"}".to_vec(),
        b"{\"message\":\"\xed\xa0\x80\"}".to_vec(),
        b"{\"\xff\":1,\"message\":\"x\"}".to_vec(),
    ]);
    bad
}

/// A server and what it should hold.
struct Fixture {
    server: Server,
    client: Client,
    stored: u64,
}

impl Fixture {
    fn new() -> Fixture {
        let server = Server::start();
        Fixture { client: Client::new(server.url()), server, stored: 0 }
    }

    fn post(&mut self, headers: &[Header<'_>], body: &[u8]) -> Answer {
        exchange(self.server.url(), &request("POST", "/api/v1/logs", headers, body), Then::Waits)
            .unwrap_or_else(|| panic!("no answer to {}", shown(body)))
    }

    /// Posts, and holds the answer against what it should be. `stored` is how many more there are afterwards.
    fn expect(&mut self, headers: &[Header<'_>], body: &[u8], status: u16, code: &str, stored: u64) -> Value {
        let answer = self.post(headers, body);
        let name = format!("{headers:?} {}", shown(body));
        assert_eq!(answer.status, status, "{name}: {}", shown(&answer.body));
        let body = answer.json();
        let got = body["error"].as_str().or(body["errors"][0]["code"].as_str()).unwrap_or_default();
        assert_eq!(got, code, "{name}: {body}");
        self.stored += stored;
        assert_eq!(rows(&mut self.client, "SELECT count(*) AS n FROM logs")[0]["n"], self.stored, "{name}");
        body
    }
}

fn shown(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(120)]).into_owned()
}

#[test]
fn a_bad_record_costs_only_itself() {
    let mut fixture = Fixture::new();
    for (record, code) in bad_records() {
        let alone = fixture.expect(&[JSON], format!("[{record}]").as_bytes(), 422, code, 0);
        assert_eq!((&alone["accepted"], &alone["rejected"]), (&json!(0), &json!(1)));
        let mixed = format!("[{GOOD},{record},{GOOD}]");
        let mixed = fixture.expect(&[JSON], mixed.as_bytes(), 207, code, 2);
        assert_eq!((&mixed["accepted"], &mixed["rejected"]), (&json!(2), &json!(1)), "{mixed}");
        assert_eq!(mixed["errors"][0]["index"], 1, "{mixed}");
        let lines = format!("{GOOD}\r\n\r\n  \n{record}\n{GOOD}");
        let lines = fixture.expect(&[NDJSON], lines.as_bytes(), 207, code, 2);
        assert_eq!(lines["errors"][0]["index"], 1, "blank lines do not count: {lines}");
    }
    let others = rows(&mut fixture.client, "SELECT count(*) AS n FROM logs WHERE message IS DISTINCT FROM 'good'");
    assert_eq!(others[0]["n"], 0);
    // Names that are paths made no files.
    let names = std::fs::read_dir(fixture.server.data()).unwrap().map(|entry| entry.unwrap().file_name());
    // A new table of runs is there for a moment before it takes the old one's name.
    let ours = ["journal", "lake", "runs", "runs.new"];
    assert!(names.into_iter().all(|name| ours.contains(&name.to_str().unwrap())));
    let beside = std::fs::read_dir(fixture.server.data().parent().unwrap()).unwrap();
    assert_eq!(beside.count(), 1, "nothing but the data directory");
}

#[test]
fn a_text_that_is_no_json_costs_a_document_whole_and_of_lines_its_line() {
    let mut fixture = Fixture::new();
    for text in bad_texts() {
        fixture.expect(&[JSON], &text, 400, "invalid_json", 0);
        let lines = [GOOD.as_bytes(), b"\n", &text, b"\n", GOOD.as_bytes()].concat();
        let lines = fixture.expect(&[NDJSON], &lines, 207, "invalid_json", 2);
        assert_eq!(lines["errors"][0]["index"], 1, "{lines}");
    }
    let utf16: Vec<u8> = GOOD.encode_utf16().flat_map(u16::to_le_bytes).collect();
    fixture.expect(&[JSON], &utf16, 400, "invalid_json", 0);
    let cut = [GOOD.as_bytes(), b"\n{\"message\":\"cu"].concat();
    fixture.expect(&[NDJSON], &cut, 207, "invalid_json", 1);
}

/// Headers and body; the status, the code and how many are stored.
type Row<'a> = (Vec<Header<'a>>, Vec<u8>, u16, &'static str, u64);

#[test]
fn requests_that_are_wrong_as_a_whole_store_nothing() {
    let mut fixture = Fixture::new();
    let good = GOOD.as_bytes();
    let ten_thousand = |count: usize| format!("[{}]", vec![GOOD; count].join(","));
    let mut bad_sum = gzip(good);
    let sum = bad_sum.len() - 8;
    bad_sum[sum] ^= 1;
    let key = |key: &'static str| ("idempotency-key", key);
    let long_key = "k".repeat(256);
    let table: Vec<Row<'_>> = vec![
        (vec![JSON], vec![], 400, "empty_body", 0),
        (vec![JSON], b" \r\n\t ".to_vec(), 400, "empty_body", 0),
        (vec![NDJSON], b"\n\r\n\n".to_vec(), 400, "empty_body", 0),
        (vec![JSON], b"[]".to_vec(), 200, "", 0),
        (vec![JSON], b"17".to_vec(), 422, "not_an_object", 0),
        (vec![], good.to_vec(), 415, "unsupported_media_type", 0),
        (vec![("content-type", "text/xml")], good.to_vec(), 415, "unsupported_media_type", 0),
        (vec![("content-type", "application/json; charset=utf-16")], good.to_vec(), 415, "unsupported_media_type", 0),
        (vec![JSON, ("content-type", "text/xml")], good.to_vec(), 415, "unsupported_media_type", 0),
        (vec![JSON, ("content-encoding", "br")], good.to_vec(), 415, "unsupported_encoding", 0),
        (vec![JSON, ("content-encoding", "gzip, zstd")], good.to_vec(), 415, "unsupported_encoding", 0),
        (vec![JSON, GZIP, GZIP], gzip(good), 415, "unsupported_encoding", 0),
        (vec![JSON, GZIP], good.to_vec(), 400, "invalid_encoding", 0),
        (vec![JSON, ZSTD], good.to_vec(), 400, "invalid_encoding", 0),
        (vec![JSON, GZIP], gzip(good)[..20].to_vec(), 400, "invalid_encoding", 0),
        (vec![JSON, GZIP], bad_sum, 400, "invalid_encoding", 0),
        (vec![JSON, GZIP], [gzip(good), b"more".to_vec()].concat(), 400, "invalid_encoding", 0),
        (vec![JSON, GZIP], vec![], 400, "empty_body", 0),
        (vec![JSON, key("")], good.to_vec(), 400, "invalid_parameter", 0),
        (vec![JSON, key("a"), key("b")], good.to_vec(), 400, "invalid_parameter", 0),
        (vec![JSON, ("idempotency-key", &long_key)], good.to_vec(), 400, "invalid_parameter", 0),
        (vec![JSON, key("k\u{e4}")], good.to_vec(), 400, "invalid_parameter", 0),
        (vec![JSON], ten_thousand(10_001).into_bytes(), 413, "too_many_records", 0),
        (vec![NDJSON], vec![GOOD; 10_001].join("\n").into_bytes(), 413, "too_many_records", 0),
        (vec![JSON], [good, &b" ".repeat(8 << 20)].concat(), 413, "body_too_large", 0),
        (vec![JSON], ten_thousand(10_000).into_bytes(), 200, "", 10_000),
        (vec![JSON], [good, &b" ".repeat((8 << 20) - good.len())].concat(), 200, "", 1),
        (vec![JSON], sized(RECORD_BYTES_MAX).into_bytes(), 200, "", 1),
        (vec![JSON], nested(32).into_bytes(), 200, "", 1),
        (vec![JSON, GZIP], gzip(good), 200, "", 1),
        (vec![JSON, ZSTD], zstd::encode_all(good, 3).unwrap(), 200, "", 1),
    ];
    for (headers, body, status, code, stored) in table {
        fixture.expect(&headers, &body, status, code, stored);
    }
    for method in ["PUT", "DELETE", "TRACE", "PATCH", "OPTIONS", "BREW"] {
        let answer = fixture.client.request(method, "/api/v1/logs", &[JSON], good).unwrap();
        assert_eq!((answer.status, &answer.json()["error"]), (405, &json!("method_not_allowed")), "{method}");
        assert!(answer.headers.to_ascii_lowercase().contains("allow: get,head,post"), "{}", answer.headers);
    }
    fixture.expect(&[JSON], good, 200, "", 1);
}

#[test]
fn text_is_stored_as_it_is() {
    let server = Server::start();
    let messages = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "javascript:alert(1)",
        "\u{1b}[2J\u{1b}]0;x\u{7}",
        "one\r\n2025-01-01T00:00:00Z ERROR forged",
        "' OR 1=1--",
        "$1 %s {} ${x}",
        "a\u{202e}b\u{feff}\u{2028}",
        "\u{10ffff} \u{fffd} \u{7f}",
        "",
    ];
    for message in messages {
        assert_eq!(server.post(&json!({"message": message, "run_id": "texts"}).to_string()).status, 200);
    }
    assert_eq!(server.post(r#"{"message":"a\u0000b","run_id":"zero","metadata":{"\u0000":"\u0000"}}"#).status, 200);
    let mut client = Client::new(server.url());
    let found = rows(&mut client, "SELECT message FROM logs WHERE run_id = 'texts' ORDER BY position");
    let expected = messages.map(|message| json!({"message": message}));
    assert_eq!(found, expected);
    let nul = client.get("/api/v1/logs?run_id=zero").unwrap().json();
    assert_eq!(nul["records"][0]["message"], "a\u{fffd}b");
    assert_eq!(nul["records"][0]["metadata"], json!({"\u{fffd}": "\u{fffd}"}));
    assert_eq!(metric(&server, "runstone_ingest_replaced_nuls_total"), 3.0);
    // A number that no column can hold stays exact where it is free.
    assert_eq!(server.post(r#"{"message":"x","run_id":"exact","metadata":{"n":18446744073709551616}}"#).status, 200);
    let exact = client.get("/api/v1/logs?run_id=exact").unwrap();
    assert!(String::from_utf8_lossy(&exact.body).contains(r#"{"n":18446744073709551616}"#));
    // Terminal and log show escapes, not what they do.
    let shown = server.cli(&["logs", "--run-id", "texts"]);
    assert!(!shown.stdout.contains(&0x1b) && !shown.stdout.contains(&7), "{shown:?}");
    assert_eq!(String::from_utf8_lossy(&shown.stdout).lines().count(), messages.len(), "{shown:?}");
}

/// Fragments that mean something to a parser.
const FRAGMENTS: [&str; 18] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\u0000",
    "\\ud800",
    "null",
    "1e400",
    "-0",
    "\n",
    "\r\n",
    "\u{feff}",
    "{\"message\":\"m\"}",
    "\"id\":\"x\"",
    "\0",
];

fn mutate(random: &mut Random, body: &mut Vec<u8>) {
    for _ in 0..=random.below(4) {
        let at = random.index(body.len() + 1);
        match random.below(6) {
            0 if at < body.len() => body[at] ^= 1 << random.below(8),
            1 => body.truncate(at),
            2 => drop(body.splice(at..at, random.pick(&FRAGMENTS).bytes())),
            3 if at < body.len() => drop(body.remove(at)),
            4 => {
                let part = body[random.index(at + 1)..at].to_vec();
                drop(body.splice(at..at, part));
            }
            _ => body.insert(at, u8::try_from(random.below(256)).unwrap()),
        }
    }
}

#[test]
fn random_damage_is_never_the_servers_fault() {
    let mut random = Random::seeded("damage");
    let server = Server::start();
    let mut client = Client::new(server.url());
    let mut stored = 0;
    let bodies = [
        format!("[{GOOD},{GOOD}]"),
        format!("{GOOD}\n{GOOD}\n"),
        json!([{"timestamp": "2026-01-01T00:00:00Z", "run_id": "r", "type": "result", "row_count": 5, "duration": 1.5,
            "level": "warn", "capabilities": ["a"], "metadata": {"n": [1, {"x": null}], "text": "é🚀"}, "trace_id": "ab12"}])
        .to_string(),
    ];
    for round in 0..2_000 {
        let mut body = random.pick(&bodies).clone().into_bytes();
        let mut headers = vec![*random.pick(&[JSON, NDJSON])];
        let damage_inside = random.below(3) > 0;
        if damage_inside {
            mutate(&mut random, &mut body);
        }
        match random.below(8) {
            0 => (headers, body) = ([headers[0], GZIP].to_vec(), gzip(&body)),
            1 => (headers, body) = ([headers[0], ZSTD].to_vec(), zstd::encode_all(&body[..], 1).unwrap()),
            _ => {}
        }
        if !damage_inside || random.below(4) == 0 {
            mutate(&mut random, &mut body);
        }
        let answer = client.post(&headers, &body).unwrap_or_else(|error| panic!("round {round}: {error} {body:?}"));
        let allowed = [200, 207, 400, 413, 415, 422].contains(&answer.status);
        assert!(allowed, "round {round}: {answer:?} to {headers:?} {}", String::from_utf8_lossy(&body));
        let answer = answer.json();
        stored += answer["accepted"].as_u64().unwrap_or(0) - answer["duplicates"].as_u64().unwrap_or(0);
    }
    assert_eq!(rows(&mut client, "SELECT count(*) AS n FROM logs")[0]["n"], stored);
    assert!(stored > 100, "most were refused: {stored}");
    assert!(!server.printed().contains("panic"), "{}", server.printed());
}
