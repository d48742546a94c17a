//! Golden files: what is stored and sent, byte for byte as it was when the format was fixed.
//!
//! A difference is a change of a format that others have on their disks or in their clients. Where it is meant, write
//! the files again with `UPDATE_GOLDEN=1 cargo nextest run -p runstone-record`, and say so in the commit's message.

use std::fs;
use std::path::PathBuf;

use runstone_record::parse::ItemError;
use runstone_record::run::RunFold;
use runstone_record::wire::{
    ErrorBody, IngestAnswer, ItemErrorBody, LogsPage, QueryAnswer, QueryColumn, QueryRequest, QueryStats, RunsPage,
};
use runstone_record::{Batch, Column, ErrorCode, Origin, parse};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::{batch_of, printed, printed_bytes};

fn path(name: &str) -> PathBuf {
    ["tests", "golden", name].iter().collect()
}

pub(crate) fn read(name: &str) -> Vec<u8> {
    fs::read(path(name)).unwrap_or_else(|error| panic!("read {name}: {error}"))
}

/// Compares with a golden file, or writes it.
pub(crate) fn check(name: &str, bytes: &[u8]) {
    #[expect(clippy::disallowed_methods, reason = "how a golden file is written again")]
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    if update {
        fs::write(path(name), bytes).expect("write a golden file");
    }
    let golden = read(name);
    if golden != bytes {
        let same = golden.iter().zip(bytes).take_while(|(one, other)| one == other).count();
        let near = |bytes: &[u8]| {
            String::from_utf8_lossy(&bytes[same.saturating_sub(40)..bytes.len().min(same + 80)]).into_owned()
        };
        panic!("{name} differs at byte {same}:\ngolden {:?}\n   now {:?}", near(&golden), near(bytes));
    }
}

/// A record with a value in every column that a client can set.
const EVERY_COLUMN: &str = r#"{"id":"01890000-0000-7000-8000-00000000000a","timestamp":"2025-02-03T04:05:06.789012Z","source_system":"crm","stage":"load","run_id":"20250203_040506_ab12","type":"result","level":"WARNING","logger_name":"crm.load","status":"Partly","duration":12.5,"row_count":70000,"entity_name":"invoice","target_table":"silver.invoice","notebook_name":"loadCrm","workspace_id":"w-1","lakehouse_id":"l-1","hostname":"node-1","process_id":4711,"thread_id":140245,"thread_name":"MainThread","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00f067aa0ba902b7","function_name":"load","module":"loader","filename":"loader.py","lineno":99,"title":"Rows written","message":"wrote é, 🚀 and \"quotes\"\n","exception":"ValueError: x\n  at y","pathname":"/app/loader.py","capabilities":["authVerified","bootstrapped"],"metadata":{"attempt":1,"exact":12345678901234567890.10,"nested":{"a":[1,null,true]}}}"#;

const GIVEN_IDS: &str = r#"{"id":"f47ac10b-58cc-4372-a567-0e02b2c3d479","message":"a client's id","timestamp":"2025-02-03T04:05:06Z"}
{"message":"none","timestamp":"2025-02-03T04:05:07Z"}
{"id":"01890000-0000-7000-8000-000000000001","status":"Success","timestamp":"2025-02-03T04:05:08Z"}"#;

const SPARSE: &str = r#"{"message":"","timestamp":"1969-12-31T23:59:59.999999Z"}
{"title":"t","row_count":9223372036854775807,"timestamp":"2262-04-11T23:47:16.854775Z"}
{"lineno":-300,"thread_id":7,"hostname":"h"}
{"lineno":300,"hostname":"g","duration":0}
{"x":[],"message":"last","hostname":"h"}
{"message":"and one to begin a second byte of validity"}
{"status":"ok"}
{"status":"Failed","run_id":"r"}
{"level":"odd"}"#;

/// A batch of each shape that a frame can have.
pub(crate) fn frames() -> Vec<(&'static str, Batch)> {
    let minted = "{\"type\":\"start\",\"run_id\":\"r\",\"message\":\"one\"}\n{\"type\":\"end\",\"run_id\":\"r\",\"message\":\"two\"}";
    let origin = Origin {
        key: "load-2025-02-03".to_owned(),
        body_hash: 0x0123_4567_89ab_cdef,
        duplicates: 2,
        rejected: 1,
        errors: r#"[{"index":0,"code":"wrong_type","message":"must be a string, got an array","field":"title"}]"#
            .to_owned(),
    };
    vec![
        ("minted", batch_of(minted)),
        ("given", batch_of(GIVEN_IDS)),
        ("every_column", batch_of(EVERY_COLUMN)),
        ("sparse", batch_of(SPARSE)),
        ("origin", batch_of(GIVEN_IDS).with_origin(Some(origin))),
    ]
}

#[test]
fn frames_are_what_they_were() {
    for (name, batch) in frames() {
        let name = format!("frame.v1.{name}.bin");
        check(&name, &batch.encode());
        assert_eq!(Batch::decode(&read(&name)), Ok(batch), "{name}");
    }
}

#[test]
fn the_golden_frames_have_what_they_are_for() {
    let frames = frames();
    let batch = |name: &str| &frames.iter().find(|(other, _)| *other == name).expect("a frame").1;
    let every = batch("every_column");
    for column in crate::random::stored() {
        assert!(every.column(column).is_some(), "{column:?} is in no golden frame");
    }
    let sparse = Column::ALL.into_iter().filter_map(|column| batch("sparse").column(column));
    assert!(sparse.filter(|values| values.validity().is_some()).count() >= 8);
    assert!(batch("origin").origin().is_some());
}

#[test]
fn records_are_printed_as_they_were() {
    let input = String::from_utf8(read("record.v1.input.ndjson")).expect("text");
    let batch = batch_of(&input);
    let mut lines = Vec::new();
    for row in 0..batch.len() {
        lines.extend(printed_bytes(&batch, row));
        lines.push(b'\n');
    }
    check("record.v1.ndjson", &lines);
    let back = Batch::decode(&batch.encode()).expect("a batch");
    for row in 0..batch.len() {
        assert_eq!(printed_bytes(&back, row), printed_bytes(&batch, row));
    }
}

/// What is printed can be posted again, and says the same.
#[test]
fn what_is_printed_is_taken_again() {
    let input = String::from_utf8(read("record.v1.input.ndjson")).expect("text");
    let batch = batch_of(&input);
    for row in 0..batch.len() {
        let mut record = printed(&batch, row);
        let members = record.as_object_mut().expect("an object");
        for column in Column::ALL.into_iter().filter(|column| column.is_stamped()) {
            members.remove(column.name());
        }
        // As text: a number of many digits would lose some on the way.
        let again = batch_of(&record.to_string());
        let mut back = printed(&again, 0);
        let back = back.as_object_mut().expect("an object");
        for column in Column::ALL.into_iter().filter(|column| column.is_stamped()) {
            back.remove(column.name());
        }
        assert_eq!(record, json!(back), "row {row}");
    }
}

fn check_body<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, body: &T) {
    let mut text = serde_json::to_string_pretty(body).expect("JSON");
    text.push('\n');
    check(&format!("wire.v1.{name}.json"), text.as_bytes());
    let back: T = serde_json::from_slice(&read(&format!("wire.v1.{name}.json"))).expect(name);
    assert_eq!(&back, body, "{name}");
}

fn listed(error: &ItemError) -> ItemErrorBody {
    ItemErrorBody {
        index: error.index as u64,
        code: error.code.to_string(),
        message: error.message.clone(),
        field: error.field.clone(),
    }
}

#[test]
fn answers_to_posts_are_what_they_were() {
    let body = "{\"message\":\"m\"}\n{\"run_id\":\"a/b\"}\nno json\n{}";
    let parsed = parse::ndjson(body.as_bytes()).expect("lines");
    let some = IngestAnswer {
        accepted: 1,
        duplicates: 0,
        rejected: 3,
        journal: Some("01980000-0000-7000-8000-000000000001/1".to_owned()),
        first_position: Some(17),
        last_position: Some(17),
        errors: parsed.errors.iter().map(listed).collect(),
    };
    check_body("ingest_some", &some);
    let nothing_new = IngestAnswer {
        accepted: 2,
        duplicates: 2,
        rejected: 0,
        journal: None,
        first_position: None,
        last_position: None,
        errors: Vec::new(),
    };
    check_body("ingest_duplicates", &nothing_new);
    let error = parse::json(b"{").expect_err("cut");
    let error = ErrorBody {
        error: error.code().to_string(),
        message: error.to_string(),
        retryable: error.code().retryable(),
        help: format!("/errors/{}", error.code()),
        request_id: "01980000-0000-7000-8000-000000000001".to_owned(),
    };
    check_body("error", &error);
}

#[test]
fn pages_and_answers_are_what_they_were() {
    let batch = batch_of(SPARSE);
    let page = LogsPage { records: vec![printed(&batch, 0), printed(&batch, 7)], next: Some("MTIz".to_owned()) };
    check_body("logs", &page);
    let fold = |rows: std::ops::Range<usize>| {
        let mut fold = RunFold::default();
        rows.for_each(|row| fold.add(&batch, row, row as u64 + 1));
        fold
    };
    let runs = vec![fold(7..8).body("r"), fold(0..3).body("other")];
    check_body("runs", &RunsPage { runs, next: None });
    check_body(
        "query_request",
        &QueryRequest { sql: "SELECT count(*) AS n FROM logs".to_owned(), ..QueryRequest::default() },
    );
    let answer = QueryAnswer {
        columns: vec![
            QueryColumn { name: "n".to_owned(), kind: "Int64".to_owned() },
            QueryColumn { name: "stage".to_owned(), kind: "Utf8".to_owned() },
        ],
        rows: vec![json!({"n": 42, "stage": null})],
        stats: QueryStats { rows: 1, elapsed_ms: 1.5, truncated: false },
    };
    check_body("query", &answer);
}

/// The codes are a contract with every client.
#[test]
fn error_codes_are_what_they_were() {
    let mut table = String::new();
    for code in ErrorCode::ALL {
        table.push_str(&format!("{} {} retryable={} {:?}\n", code, code.status(), code.retryable(), code.happened()));
    }
    check("error_codes.v1.txt", table.as_bytes());
}
