//! Which bodies are refused whole, which records are refused alone, and what becomes of the others. The rows of
//! the tables are bad input of every kind that a body's content can have.

use proptest::prelude::*;
use runstone_record::limits::{RECORD_BYTES_MAX, REQUEST_RECORDS_MAX};
use runstone_record::parse::{self, ItemError, Parsed};
use runstone_record::{Column, ErrorCode};
use serde_json::json;

use crate::{NOW, batch_of, printed, stamp};
use ErrorCode::{DuplicateField, EmptyBody, EmptyRecord, InvalidJson, NotAnObject, RecordTooLarge, TooManyRecords};

const BEFORE: &str = r#"{"message":"before","metadata":{"k":1}}"#;
const AFTER: &str = r#"{"message":"after","run_id":"r","capabilities":["a"]}"#;

fn single(record: &str) -> Parsed {
    parse::json(record.as_bytes()).unwrap_or_else(|error| panic!("{error}: {record:.200}"))
}

/// The only error of a body, whose other two records are kept.
fn error_between(parsed: Parsed, what: &str) -> ItemError {
    assert_eq!(parsed.places, [0, 2], "{what:.200}");
    assert_eq!(parsed.received(), 3, "{what:.200}");
    let [error] = &parsed.errors[..] else {
        panic!("{:?}: {what:.200}", parsed.errors);
    };
    let error = error.clone();
    assert_eq!(error.index, 1, "{what:.200}");
    let alone = stamp(single(&format!("[{BEFORE},{AFTER}]")));
    assert_eq!(stamp(parsed), alone, "the refused record left traces: {what:.200}");
    error
}

/// A record that JSON can carry and that is refused: alone, in an array, and as a line, with the same code.
pub(crate) fn refused(record: &str, code: ErrorCode, field: Option<&str>) {
    let alone = single(record);
    assert!(alone.builder.is_empty() && alone.places.is_empty(), "{record:.200}");
    let wanted = (code, field);
    let got = |error: &ItemError| {
        assert!(!error.message.is_empty() && error.message.len() < 400, "{record:.200}: {}", error.message);
        (error.code, error.field.clone())
    };
    assert_eq!(got(&alone.errors[0]), (wanted.0, wanted.1.map(str::to_owned)), "{record:.200}");
    assert_eq!(alone.errors[0].index, 0);
    let array = single(&format!("[{BEFORE}, {record} ,{AFTER}]"));
    assert_eq!(got(&error_between(array, record)), (wanted.0, wanted.1.map(str::to_owned)), "{record:.200}");
    if !record.contains('\n') {
        let lines = parse::ndjson(format!("{BEFORE}\n{record}\r\n{AFTER}").as_bytes()).expect("lines");
        assert_eq!(got(&error_between(lines, record)), (wanted.0, wanted.1.map(str::to_owned)), "{record:.200}");
    }
}

/// Bytes that are no JSON: the whole of a document is refused, but only the line of NDJSON.
pub(crate) fn unreadable(record: &[u8]) {
    let what = String::from_utf8_lossy(record).into_owned();
    let alone = parse::json(record).expect_err(&what);
    assert_eq!(alone.code(), InvalidJson, "{what:.200}");
    let mut array = format!("[{BEFORE},").into_bytes();
    array.extend_from_slice(record);
    array.extend_from_slice(format!(",{AFTER}]").as_bytes());
    assert_eq!(parse::json(&array).expect_err(&what).code(), InvalidJson, "{what:.200}");
    let mut lines = format!("{BEFORE}\n").into_bytes();
    lines.extend_from_slice(record);
    lines.extend_from_slice(format!("\n{AFTER}\n").as_bytes());
    let error = error_between(parse::ndjson(&lines).expect("lines"), &what);
    assert_eq!((error.code, error.field), (InvalidJson, None), "{what:.200}");
    assert!(error.message.starts_with("parse the line as JSON: "), "{}", error.message);
}

#[test]
fn a_body_without_records_is_refused_or_empty() {
    for body in ["", " ", "\t\r\n  \n", "\u{c}"] {
        assert_eq!(parse::json(body.as_bytes()).expect_err(body).code(), EmptyBody, "{body:?}");
        assert_eq!(parse::ndjson(body.as_bytes()).expect_err(body).code(), EmptyBody, "{body:?}");
    }
    for body in ["[]", " [ ] \n"] {
        assert_eq!(single(body).received(), 0, "{body:?}");
    }
}

#[test]
fn a_document_has_nothing_behind_it() {
    for body in [
        "{\"message\":\"a\"} x",
        "{\"message\":\"a\"}{\"message\":\"b\"}",
        "{\"message\":\"a\"}\n{\"message\":\"b\"}",
        "[{\"message\":\"a\"}]]",
        "[{\"message\":\"a\"},]",
        "[{\"message\":\"a\"}",
        "[,{\"message\":\"a\"}]",
        "[{\"message\":\"a\"} {\"message\":\"b\"}]",
        "1 2",
        "]",
        "}",
    ] {
        assert_eq!(parse::json(body.as_bytes()).expect_err(body).code(), InvalidJson, "{body}");
    }
    for body in ["1", "\"text\"", "null", "true", "-0.5"] {
        assert_eq!(parse::json(body.as_bytes()).expect_err(body).code(), NotAnObject, "{body}");
    }
}

#[test]
fn blank_lines_and_line_ends_do_not_count() {
    let parsed =
        parse::ndjson(b"\r\n{\"message\":\"a\"}\r\n \t \n\n{\"message\":\"b\"}\n{\"message\":\"c\"}").expect("lines");
    assert_eq!(parsed.places, [0, 1, 2]);
    let batch = stamp(parsed);
    let messages: Vec<_> = (0..3).map(|row| batch.text(Column::Message, row)).collect();
    assert_eq!(messages, [Some("a"), Some("b"), Some("c")]);
}

#[test]
fn what_is_no_json_costs_the_document_or_the_line() {
    let million_digits = format!(r#"{{"message":"a","x":{}}}"#, "7".repeat(1_000_000));
    let fraction = format!(r#"{{"duration":0.{}}}"#, "7".repeat(1_000_000));
    for text in [
        r#"{"message":"a""#,
        r#"{"message":"a"#,
        r#"{"message""#,
        r#"{"message":}"#,
        r#"{"message":"a",}"#,
        r#"{message:"a"}"#,
        r#"{'message':'a'}"#,
        r#"{"message":"a" "title":"b"}"#,
        r#"{"message":"a"} trailing"#,
        r#"{"lineno":"wrong type"} trailing"#,
        r#"{"message":"a"}{"message":"b"}"#,
        r#"{"message":nul}"#,
        r#"{"message":NaN}"#,
        r#"{"duration":NaN}"#,
        r#"{"duration":Infinity}"#,
        r#"{"duration":-Infinity}"#,
        r#"{"lineno":abc}"#,
        r#"{"type":abc}"#,
        r#"{"x":NaN}"#,
        r#"{"metadata":{"x":[NaN]}}"#,
        r#"{"message":"a" /* comment */}"#,
        r#"{"message":"a"} // comment"#,
        r#"{"duration":01}"#,
        r#"{"duration":1.}"#,
        r#"{"duration":.5}"#,
        r#"{"duration":+5}"#,
        r#"{"duration":0x10}"#,
        r#"{"duration":1e400}"#,
        r#"{"duration":-1e400}"#,
        r#"{"x":1e400}"#,
        r#"{"metadata":{"x":[1E+400]}}"#,
        r#"{"run_id":1e999999999}"#,
        &million_digits,
        &fraction,
        r#"{"message":"\ud800"}"#,
        r#"{"message":"\udc00"}"#,
        r#"{"message":"\ud800\ud800"}"#,
        r#"{"message":"\ud800x"}"#,
        r#"{"mess\ud800age":"a"}"#,
        r#"{"metadata":{"a\udfff":1}}"#,
        r#"{"message":"\x41"}"#,
        r#"{"message":"\u12"}"#,
        "{\"message\":\"tab\there\"}",
        "{\"message\":\"nul\0here\"}",
        "{\"message\":\"escape\u{1b}[31m\"}",
        "{\"message\":\"return\rhere\"}",
        "{\"me\u{1}ssage\":\"a\"}",
        "\u{feff}{\"message\":\"a\"}",
        "Nov 20 12:00:00 host app: a plain line",
        "undefined",
        "NaN",
        "\\",
        "\u{a0}{\"message\":\"a\"}",
    ] {
        unreadable(text.as_bytes());
    }
}

#[test]
fn what_is_not_utf_8_costs_the_document_or_the_line() {
    for text in [
        &b"{\"message\":\"\xff\"}"[..],
        b"{\"message\":\"cut \xe2\x82\"}",
        b"{\"message\":\"surrogate \xed\xa0\x80\"}",
        b"{\"message\":\"overlong \xc0\x80\"}",
        b"{\"\xff\":1,\"message\":\"a\"}",
        b"{\"lineno\":\"wrong type\",\"message\":\"\xff\"}",
        b"\xff\xfe{\0}\0",
        b"\0{\0}",
    ] {
        unreadable(text);
    }
    let error = parse::json(b"{\"message\":\"ab\xff\"}").expect_err("not UTF-8");
    assert!(error.to_string().ends_with("offset 14"), "{error}");
}

#[test]
fn a_record_is_an_object_with_something_in_it() {
    for record in [r#"["a", 3]"#, "[]", "3", "-1.5e3", "\"text\"", "true", "false", "null"] {
        let array = single(&format!("[{BEFORE},{record},{AFTER}]"));
        assert_eq!(error_between(array, record).code, NotAnObject, "{record}");
        let lines = parse::ndjson(format!("{BEFORE}\n{record}\n{AFTER}").as_bytes()).expect("lines");
        assert_eq!(error_between(lines, record).code, NotAnObject, "{record}");
    }
    for record in [
        "{}",
        r#"{"message":null}"#,
        r#"{"message":null,"timestamp":null,"metadata":null}"#,
        r#"{"unknown":"field"}"#,
        r#"{"journal":"x","position":7,"date":"2025-01-01"}"#,
    ] {
        refused(record, EmptyRecord, None);
    }
}

#[test]
fn the_same_known_field_stands_once() {
    for (record, field) in [
        (r#"{"message":"a","message":"b"}"#, "message"),
        (r#"{"message":"a","message":null}"#, "message"),
        (r#"{"message":null,"message":"a"}"#, "message"),
        (r#"{"message":"a","description":"b"}"#, "message"),
        (r#"{"description":"a","message":"a"}"#, "message"),
        (r#"{"description":"a","description":"a"}"#, "description"),
        (r#"{"id":"01980000-0000-7000-8000-000000000001","id":null}"#, "id"),
        (r#"{"timestamp":"2025-01-01T00:00:00Z","logged_at":"2025-01-01T00:00:00Z"}"#, "timestamp"),
        (r#"{"type":"log","type":"log"}"#, "type"),
        (r#"{"level":"INFO","level":"INFO"}"#, "level"),
        (r#"{"level":"odd","level":"odd"}"#, "level"),
        (r#"{"metadata":{},"metadata":{}}"#, "metadata"),
        (r#"{"extra_data":{"a":1},"message":"m","extra_data":{"b":1}}"#, "extra_data"),
        (r#"{"additional_metadata":null,"additional_metadata":{}}"#, "additional_metadata"),
        (r#"{"mess\u0061ge":"a","message":"b"}"#, "message"),
        (r#"{"row_count":1,"row_count":1}"#, "row_count"),
    ] {
        refused(record, DuplicateField, Some(field));
    }
}

#[test]
fn a_null_under_the_other_name_is_absent() {
    for record in [
        r#"{"message":"m","description":null}"#,
        r#"{"message":null,"description":"m"}"#,
        r#"{"description":null,"message":"m"}"#,
        r#"{"message":"m","timestamp":"2025-01-01T00:00:00Z","logged_at":null}"#,
        r#"{"message":"m","logged_at":null,"timestamp":"2025-01-01T00:00:00Z"}"#,
    ] {
        assert_eq!(batch_of(record).text(Column::Message, 0), Some("m"), "{record}");
    }
}

#[test]
fn null_means_absent() {
    let nulls = Column::ALL.map(|column| format!(r#""{}":null"#, column.name())).join(",");
    let batch = batch_of(&format!(r#"{{"description":"m",{nulls},"logged_at":null,"unknown":null}}"#));
    assert_eq!(batch, batch_of(r#"{"message":"m"}"#));
}

#[test]
fn nul_is_replaced_and_counted_wherever_it_stands() {
    let body = concat!(
        r#"{"message":"a\u0000b\u0000","hostname":"\u0000","capabilities":["x\u0000"],"#,
        r#""odd\u0000key":1,"metadata":{"k\u0000":"v\u0000","n":[{"\u0000":"\u0000"}]}}"#
    );
    let parsed = single(body);
    assert_eq!(parsed.replaced_nuls, 9);
    let batch = stamp(parsed);
    assert_eq!(batch.text(Column::Message, 0), Some("a\u{fffd}b\u{fffd}"));
    assert_eq!(batch.text(Column::Hostname, 0), Some("\u{fffd}"));
    assert_eq!(batch.text(Column::Capabilities, 0), Some("[\"x\u{fffd}\"]"));
    let metadata = printed(&batch, 0)["metadata"].clone();
    assert_eq!(metadata, json!({"odd\u{fffd}key": 1, "k\u{fffd}": "v\u{fffd}", "n": [{"\u{fffd}": "\u{fffd}"}]}));
    // Only what was replaced in a stored record counts.
    let parsed = single(r#"[{"message":"\u0000","lineno":"x"},{"message":"\u0000"}]"#);
    assert_eq!((parsed.replaced_nuls, parsed.errors.len()), (1, 1));
}

#[test]
fn a_record_has_a_size() {
    let record = |bytes: usize| {
        let frame = r#"{"message":""}"#;
        format!(r#"{{"message":"{}"}}"#, "x".repeat(bytes - frame.len()))
    };
    refused(&record(RECORD_BYTES_MAX + 1), RecordTooLarge, None);
    refused(&record(4 << 20), RecordTooLarge, None);
    let spread = format!(r#"{{"message":"m",{}"title":"t"}}"#, " ".repeat(RECORD_BYTES_MAX));
    refused(&spread, RecordTooLarge, None);
    let parsed = single(&format!(" [ {} ] ", record(RECORD_BYTES_MAX)));
    assert_eq!((parsed.places.len(), parsed.errors.len()), (1, 0));
    let lines = format!("   {}   \r\n", record(RECORD_BYTES_MAX));
    assert_eq!(parse::ndjson(lines.as_bytes()).expect("lines").errors, []);
}

#[test]
fn a_request_has_a_number_of_records() {
    let records = |count: usize| vec![r#"{"message":"m"}"#; count];
    let most = REQUEST_RECORDS_MAX;
    assert_eq!(single(&format!("[{}]", records(most).join(","))).places.len(), most);
    assert_eq!(parse::ndjson(records(most).join("\n").as_bytes()).expect("lines").places.len(), most);
    for bad in ["", "{}", "7"] {
        let mut too_many = records(most);
        too_many.push(if bad.is_empty() { r#"{"message":"m"}"# } else { bad });
        let array = format!("[{}]", too_many.join(","));
        assert_eq!(parse::json(array.as_bytes()).expect_err("too many").code(), TooManyRecords);
        let lines = too_many.join("\n");
        assert_eq!(parse::ndjson(lines.as_bytes()).expect_err("too many").code(), TooManyRecords);
    }
}

#[test]
fn a_status_makes_an_activity() {
    for (body, kind, level) in [
        (r#"{"message":"m"}"#, "log", "INFO"),
        (r#"{"status":"Success"}"#, "activity", "INFO"),
        (r#"{"status":"Failed"}"#, "activity", "ERROR"),
        (r#"{"status":"Failed","level":"warning"}"#, "activity", "WARNING"),
        (r#"{"status":"Failed","type":"status"}"#, "status", "INFO"),
        (r#"{"status":null,"message":"m"}"#, "log", "INFO"),
    ] {
        let batch = batch_of(body);
        assert_eq!(batch.text(Column::Type, 0), Some(kind), "{body}");
        assert_eq!(batch.text(Column::Level, 0), Some(level), "{body}");
    }
}

#[test]
fn an_activity_without_a_run_is_a_run_of_its_own() {
    let id = "f47ac10b-58cc-4372-a567-0e02b2c3d479";
    let body = format!(
        "{}\n{}\n{}\n{}\n",
        r#"{"status":"Success"}"#,
        r#"{"status":"Success","run_id":"mine"}"#,
        r#"{"message":"a line"}"#,
        format_args!(r#"{{"status":"Success","id":"{id}"}}"#),
    );
    let batch = batch_of(&body);
    let runs: Vec<_> = (0..4).map(|row| batch.text(Column::RunId, row).map(str::to_owned)).collect();
    let first = batch.ids().get(0).to_string();
    assert_eq!(runs, [Some(first), Some("mine".into()), None, Some(id.into())]);
    let all = batch_of("{\"status\":\"a\"}\n{\"status\":\"b\"}");
    for row in 0..2 {
        assert_eq!(all.text(Column::RunId, row).map(str::to_owned), Some(all.ids().get(row).to_string()));
    }
}

#[test]
fn missing_times_and_ids_are_stamped() {
    let given = "f47ac10b-58cc-4372-a567-0e02b2c3d479";
    let body = format!(
        "{}\n{}\n{}\n",
        r#"{"message":"a"}"#,
        format_args!(r#"{{"message":"b","id":"{given}","timestamp":"2025-01-13T12:34:56Z"}}"#),
        r#"{"message":"c","timestamp":null}"#,
    );
    let batch = batch_of(&body);
    assert_eq!([batch.timestamp(0), batch.timestamp(1), batch.timestamp(2)], [NOW, 1_736_771_696_000_000, NOW]);
    assert_eq!(batch.ingested_at(), NOW);
    assert_eq!(batch.ids().get(1).to_string(), given);
    let (first, last) = (batch.ids().get(0).as_u128(), batch.ids().get(2).as_u128());
    assert_eq!(last, first + 1);
    let hashed: Vec<_> = (0..3).map(|row| batch.ids().client_hash(row).is_some()).collect();
    assert_eq!(hashed, [false, true, false]);
}

/// The shapes that pipelines already post, with values of our own.
#[test]
fn bodies_of_pipelines_are_taken_as_they_stand() {
    let activity = r#"{
      "source_system": "crm", "stage": "prepare", "notebook_name": "prepareCrm",
      "workspace_id": "...", "lakehouse_id": "...", "status": "Success",
      "logged_at": "2025-12-05T10:30:00Z", "duration": 12.75,
      "capabilities": ["authVerified", "bootstrapped"],
      "entity_name": null, "target_table": null, "row_count": null,
      "additional_metadata": {"attempt": 1}
    }"#;
    let batch = stamp(single(activity));
    let id = batch.ids().get(0).to_string();
    assert_eq!(
        printed(&batch, 0),
        json!({
            "id": id, "journal": "01980000-0000-7000-8000-000000000001/1", "position": 1,
            "timestamp": "2025-12-05T10:30:00.000000Z", "ingested_at": "2025-11-20T12:00:00.123456Z",
            "source_system": "crm", "stage": "prepare", "run_id": id, "type": "activity", "level": "INFO",
            "status": "Success", "duration": 12.75, "notebook_name": "prepareCrm",
            "workspace_id": "...", "lakehouse_id": "...",
            "capabilities": ["authVerified", "bootstrapped"], "metadata": {"attempt": 1}
        })
    );
    let entry = r#"{
      "timestamp": "2025-02-03T04:05:06.789Z", "type": "result", "title": "Rows written",
      "description": "the load wrote its rows",
      "metadata": {"key1": "value1", "key2": 321, "nested": {"data": "value"}}
    }"#;
    let record = printed(&stamp(single(entry)), 0);
    assert_eq!(record["message"], "the load wrote its rows");
    assert_eq!(record["title"], "Rows written");
    assert_eq!(record["type"], "result");
    assert_eq!(record["metadata"], json!({"key1": "value1", "key2": 321, "nested": {"data": "value"}}));
}

proptest! {
    /// Whatever comes in, something sensible comes out: no panic, no lost record, and an error has its place.
    #[test]
    fn any_bytes_have_an_answer(body in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        "[\\[\\]{}\",:a0-9.eE \n\\\\-]{0,120}".prop_map(String::into_bytes),
        "(\\{\"(message|level|lineno|metadata|x)\":([0-9]{1,3}|\"a\"|null|\\{\\}|\\[1\\])[,}]{1,2}[\n ]?){1,6}".prop_map(String::into_bytes),
    ]) {
        if let Ok(parsed) = parse::json(&body) {
            prop_assert_eq!(parsed.builder.len(), parsed.places.len());
        }
        if let Ok(parsed) = parse::ndjson(&body) {
            let mut places: Vec<usize> = parsed.places.iter().copied().chain(parsed.errors.iter().map(|error| error.index)).collect();
            places.sort_unstable();
            let received = parsed.received();
            prop_assert_eq!(places, (0..received).collect::<Vec<_>>());
            for row in 0..parsed.places.len() {
                let batch = stamp(parse::ndjson(&body).expect("the same again"));
                let value: serde_json::Value = serde_json::from_slice(&crate::printed_bytes(&batch, row)).expect("JSON");
                prop_assert!(value.is_object());
            }
        }
    }
}
