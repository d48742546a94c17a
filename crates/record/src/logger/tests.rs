//! The Logger's events and answers: word for word where its documentation gives the words.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::columns::Column;
use crate::ids::IdMint;
use crate::limits::RECORD_BYTES_MAX;

/// 2025-11-20T12:00:00.123456Z.
const NOW: i64 = 1_763_640_000_123_456;
const RUN: &str = "20250113_123456_abc123";

fn event() -> Value {
    json!({"run_id": RUN, "log_entry": {
        "timestamp": "2025-01-13T12:34:56.789Z", "type": "result", "title": "Specifications Generated Successfully",
        "description": "ETL specifications created and stored in S3",
        "metadata": {"s3_path": "s3://dmbckt/specs/x.json", "source_tables": ["customers", "orders"], "count": 123},
    }})
}

fn with(path: &str, value: Value) -> Value {
    let mut event = event();
    let (parent, name) = path.rsplit_once('/').unwrap();
    event.pointer_mut(parent).unwrap()[name] = value;
    event
}

fn without(path: &str) -> Value {
    let mut event = event();
    let (parent, name) = path.rsplit_once('/').unwrap();
    event.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name).unwrap();
    event
}

fn taken(event: &Value) -> Entry {
    let (_, entry) = read(event.to_string().as_bytes(), NOW);
    entry.unwrap_or_else(|refusal| panic!("{event}: {refusal}"))
}

fn refused(event: &[u8]) -> String {
    let (_, entry) = read(event, NOW);
    let refusal = entry.expect_err(&String::from_utf8_lossy(event));
    assert_eq!(refusal.answer().status, 400);
    let body: Value = serde_json::from_str(&refusal.answer().body).unwrap();
    assert_eq!(body, json!({"error": true, "message": refusal.message}));
    refusal.message
}

fn batch(entry: Entry) -> crate::Batch {
    entry.parsed.builder.stamp(&mut IdMint::new(1, 1), NOW, None)
}

#[test]
fn an_entry_is_kept_as_it_came_and_is_a_record() {
    let entry = taken(&event());
    assert_eq!((entry.run_id.as_str(), entry.timestamp, entry.id), (RUN, 1_736_771_696_789_000, None));
    assert_eq!(serde_json::from_str::<Value>(&entry.json).unwrap(), event()["log_entry"]);
    assert_eq!(entry.warning, None);
    let batch = batch(entry);
    assert_eq!(batch.len(), 1);
    for (column, text) in [
        (Column::RunId, RUN),
        (Column::Type, "result"),
        (Column::Level, "INFO"),
        (Column::Title, "Specifications Generated Successfully"),
        (Column::Message, "ETL specifications created and stored in S3"),
        (
            Column::Metadata,
            r#"{"count":123,"s3_path":"s3://dmbckt/specs/x.json","source_tables":["customers","orders"]}"#,
        ),
    ] {
        assert_eq!(batch.text(column, 0), Some(text));
    }
    assert_eq!(batch.timestamp(0), 1_736_771_696_789_000);
}

#[test]
fn answers_are_the_documented_ones() {
    let entry = taken(&event());
    let body = r#"{"success":true,"message":"Log entry appended successfully","run_id":"20250113_123456_abc123","timestamp":"2025-01-13T12:34:56.789Z"}"#;
    let answer = Answer::appended(&entry);
    assert_eq!((answer.status, answer.body.as_str()), (200, body));
    assert_eq!(answer.envelope(Shape::Direct), format!(r#"{{"statusCode":200,"body":{body}}}"#));
    let escaped = serde_json::to_string(body).unwrap();
    assert_eq!(
        answer.envelope(Shape::Gateway),
        format!(
            r#"{{"statusCode":200,"headers":{{"content-type":"application/json"}},"isBase64Encoded":false,"body":{escaped}}}"#
        )
    );
    let failed = Answer::failed(ErrorCode::Internal, "reach DynamoDB: \"x\"");
    assert_eq!(failed.status, 500);
    assert_eq!(failed.body, r#"{"error":true,"message":"Failed to append log: reach DynamoDB: \"x\""}"#);
}

#[test]
fn what_is_missing_is_named_in_the_documented_order() {
    for (event, message) in [
        (json!({}), "Missing required field: run_id"),
        (json!({"log_entry": {}}), "Missing required field: run_id"),
        (json!({"run_id": 5}), "Missing required field: log_entry"),
        (without("/run_id"), "Missing required field: run_id"),
        (with("/run_id", Value::Null), "Missing required field: run_id"),
        (without("/log_entry"), "Missing required field: log_entry"),
        (json!({"run_id": RUN, "log_entry": null}), "Missing required field: log_entry"),
        (json!({"run_id": RUN, "log_entry": {}}), "Missing required field in log_entry: type"),
        (without("/log_entry/type"), "Missing required field in log_entry: type"),
        (without("/log_entry/title"), "Missing required field in log_entry: title"),
        (without("/log_entry/description"), "Missing required field in log_entry: description"),
        (with("/log_entry/description", Value::Null), "Missing required field in log_entry: description"),
    ] {
        assert_eq!(refused(event.to_string().as_bytes()), message, "{event}");
    }
}

#[test]
fn every_wrong_value_is_refused_and_named() {
    for (path, value, message) in [
        ("/run_id", json!(5), "Invalid field: run_id must be a string, got a number"),
        ("/run_id", json!(""), "Invalid field: run_id must not be empty"),
        ("/run_id", json!("../../etc/passwd"), "Invalid field: run_id must begin with a letter or a digit"),
        ("/run_id", json!("a\u{0}"), "Invalid field: run_id must consist of letters, digits and . _ : + @ -"),
        ("/run_id", json!("a#2"), "Invalid field: run_id must consist of letters, digits and . _ : + @ -"),
        ("/run_id", json!("r".repeat(129)), "Invalid field: run_id must have at most 128 characters"),
        ("/log_entry", json!([1]), "Invalid field: log_entry must be an object, got an array"),
        ("/log_entry", json!("x"), "Invalid field: log_entry must be an object, got a string"),
        ("/log_entry/type", json!(7), "Invalid field in log_entry: type must be a string, got a number"),
        ("/log_entry/title", json!({}), "Invalid field in log_entry: title must be a string, got an object"),
        (
            "/log_entry/description",
            json!(true),
            "Invalid field in log_entry: description must be a string, got a boolean",
        ),
        ("/log_entry/metadata", json!("x"), "Invalid field in log_entry: metadata must be an object, got a string"),
        ("/log_entry/metadata", json!([]), "Invalid field in log_entry: metadata must be an object, got an array"),
        ("/log_entry/timestamp", json!(1), "Invalid field in log_entry: timestamp must be a string, got a number"),
        (
            "/log_entry/timestamp",
            json!("2025-02-30T00:00:00"),
            "Invalid field in log_entry: timestamp must be RFC 3339, such as 2025-01-13T12:34:56.789Z",
        ),
        (
            "/log_entry/timestamp",
            json!("9999-01-01T00:00:00Z"),
            "Invalid field in log_entry: timestamp must lie between the years 1677 and 2262",
        ),
        (
            "/log_entry/stage",
            json!("a b"),
            "Invalid field in log_entry: stage must consist of letters, digits and . _ : + @ -",
        ),
        ("/log_entry/duration", json!("3s"), "Invalid field in log_entry: duration must be a number, got a string"),
        (
            "/log_entry/id",
            json!("x"),
            "Invalid field in log_entry: id must be a UUID such as 01980000-0000-7000-8000-000000000000",
        ),
        (
            "/log_entry/run_id",
            json!("other"),
            "Invalid field: run_id must stand once in a record: run_id, under this or another of its names",
        ),
    ] {
        assert_eq!(refused(with(path, value.clone()).to_string().as_bytes()), message, "{path} {value}");
    }
}

#[test]
fn what_is_no_event_is_refused() {
    for (event, message) in [
        (&b""[..], "Invalid event: it is empty"),
        (b" \n", "Invalid event: it is empty"),
        (b"nope", "Invalid event: not JSON: expected ident at line 1 column 2"),
        (b"{\"run_id\":", "Invalid event: not JSON: EOF while parsing a value at line 1 column 10"),
        (b"{} x", "Invalid event: not JSON: trailing characters at line 1 column 4"),
        (b"[]", "Invalid event: must be an object, got an array"),
        (b"null", "Invalid event: must be an object, got null"),
        (b"\"x\"", "Invalid event: must be an object, got a string"),
        (b"{\"run_id\":\"\xff\"}", "Invalid event: not UTF-8 at byte 11"),
        (b"{\"run_id\":\"a\",\"run_id\":\"b\"}", "Invalid event: run_id must stand once"),
    ] {
        assert_eq!(refused(event), message);
    }
    for entry in [
        r#"{"type":"info","title":"\ud800","description":""}"#,
        r#"{"type":"info","title":"a","description":"","metadata":{"x":"\ud800"}}"#,
        r#"{"type":"info","title":"a","description":"","metadata":{"x":1e400}}"#,
        r#"{"type":"info","title":"a","description":"","metadata":{"x":NaN}}"#,
        r#"{"type":"info","title":"a","title":"b","description":""}"#,
    ] {
        let message = refused(format!(r#"{{"run_id":"r","log_entry":{entry}}}"#).as_bytes());
        assert!(message.starts_with("Invalid "), "{message}");
    }
}

#[test]
fn what_is_too_deep_or_too_large_is_refused() {
    let nested = |depth: usize| {
        let metadata = format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        format!(r#"{{"run_id":"r","log_entry":{{"type":"info","title":"","description":"","metadata":{metadata}}}}}"#)
    };
    assert!(read(nested(31).as_bytes(), NOW).1.is_ok());
    assert_eq!(refused(nested(32).as_bytes()), "Invalid log_entry: must be nested at most 32 deep");
    assert_eq!(refused(nested(100).as_bytes()), "Invalid log_entry: must be nested at most 32 deep");
    assert!(refused(nested(1_000_000).as_bytes()).starts_with("Invalid event: not JSON: recursion limit exceeded"));
    let long = "x".repeat(RECORD_BYTES_MAX);
    let message = refused(with("/log_entry/title", json!(long)).to_string().as_bytes());
    assert!(message.starts_with("Invalid log_entry: must have at most 262144 bytes of JSON, got 262"), "{message}");
    let keys: serde_json::Map<_, _> = (0..300).map(|key| (key.to_string(), json!(1))).collect();
    let message = refused(with("/log_entry/metadata", Value::Object(keys)).to_string().as_bytes());
    assert_eq!(message, "Invalid log_entry: must have at most 256 keys");
}

#[test]
fn times_are_of_utc() {
    for (given, kept, answered) in [
        (json!("2025-01-13T12:34:56.789Z"), "2025-01-13T12:34:56.789Z", "2025-01-13T12:34:56.789Z"),
        (json!("2025-01-13T12:34:56"), "2025-01-13T12:34:56.000Z", "2025-01-13T12:34:56.000Z"),
        (json!("2025-01-13T12:34:56.789123"), "2025-01-13T12:34:56.789123Z", "2025-01-13T12:34:56.789Z"),
        (json!("2025-01-13T13:34:56+01:00"), "2025-01-13T12:34:56.000Z", "2025-01-13T12:34:56.000Z"),
        (Value::Null, "2025-11-20T12:00:00.123Z", "2025-11-20T12:00:00.123Z"),
    ] {
        let entry = taken(&with("/log_entry/timestamp", given.clone()));
        let body: Value = serde_json::from_str(&Answer::appended(&entry).body).unwrap();
        let json: Value = serde_json::from_str(&entry.json).unwrap();
        assert_eq!((&json["timestamp"], &body["timestamp"]), (&json!(kept), &json!(answered)), "{given}");
        let timestamp = entry.timestamp;
        assert_eq!(batch(entry).timestamp(0), timestamp, "{given}");
    }
    let entry = taken(&without("/log_entry/timestamp"));
    assert_eq!(entry.timestamp, NOW - 456);
    assert!(entry.json.starts_with(r#"{"timestamp":"2025-11-20T12:00:00.123Z","#), "{}", entry.json);
}

#[test]
fn the_nine_types_are_known_in_any_case_and_others_are_kept_with_a_warning() {
    for kind in ["start", "status", "code", "info", "result", "warning", "error", "success", "end", "INFO"] {
        let entry = taken(&with("/log_entry/type", json!(kind)));
        assert_eq!(entry.warning, None, "{kind}");
        assert_eq!(batch(entry).text(Column::Type, 0), Some(kind.to_lowercase().as_str()));
    }
    let entry = taken(&with("/log_entry/type", json!("sucess")));
    let body: Value = serde_json::from_str(&Answer::appended(&entry).body).unwrap();
    assert_eq!(
        body["warning"],
        "Unknown type: sucess; it is kept as log_type of a log line. Known types: start, status, code, info, result, \
         warning, error, success, end, log, activity"
    );
    assert_eq!(serde_json::from_str::<Value>(&entry.json).unwrap()["type"], "sucess");
    let batch = batch(entry);
    assert_eq!(batch.text(Column::Type, 0), Some("log"));
    assert!(batch.text(Column::Metadata, 0).unwrap().contains(r#""log_type":"sucess""#));
}

#[test]
fn every_member_and_every_digit_is_kept() {
    let metadata = r#"{"n":12345678901234567890123456789012345678.10,"e":1E+2,"deep":{"a":[1,null,true,{}]},"":""}"#;
    let text = format!(
        r#"{{"log_entry":{{"component":"Validator","attempt":3,"run_id":"r","id":"01980000-0000-7000-8000-00000000000F","type":"info","title":"","description":"","metadata":{metadata}}},"run_id":"r","more":1}}"#
    );
    let (shape, entry) = read(text.as_bytes(), NOW);
    let entry = entry.unwrap();
    assert_eq!(shape, Shape::Direct);
    assert!(entry.json.contains(metadata), "{}", entry.json);
    assert!(entry.json.contains(r#""component":"Validator","attempt":3"#), "{}", entry.json);
    assert_eq!(entry.id.map(|id| id.to_string()).as_deref(), Some("01980000-0000-7000-8000-00000000000f"));
    let kept = batch(entry);
    let kept = kept.text(Column::Metadata, 0).unwrap();
    for part in ["12345678901234567890123456789012345678.10", r#""component":"Validator""#, r#""attempt":3"#] {
        assert!(kept.contains(part), "{kept}");
    }
}

#[test]
fn http_events_are_read_by_their_body() {
    let inner = event().to_string();
    let encoded = STANDARD.encode(&inner);
    let v1 =
        json!({"httpMethod": "POST", "path": "/log", "requestContext": {}, "body": inner, "isBase64Encoded": false});
    let v2 = json!({"version": "2.0", "rawPath": "/", "requestContext": {"http": {}}, "body": encoded, "isBase64Encoded": true});
    for event in [v1, v2, json!({"body": inner})] {
        let (shape, entry) = read(event.to_string().as_bytes(), NOW);
        assert_eq!(shape, Shape::Gateway);
        assert_eq!(entry.unwrap().json, taken(&self::event()).json);
    }
    for (event, message) in [
        (json!({"requestContext": {}}), "Invalid event: the body is empty"),
        (json!({"httpMethod": "POST", "body": null}), "Invalid event: the body is empty"),
        (json!({"body": ""}), "Invalid event: it is empty"),
        (json!({"body": "{}"}), "Missing required field: run_id"),
        (json!({"body": {}}), "Invalid event: body must be a string, got an object"),
        (json!({"body": "{}", "isBase64Encoded": 1}), "Invalid event: isBase64Encoded must be a boolean, got a number"),
        (
            json!({"body": "!", "isBase64Encoded": true}),
            "Invalid event: body is not base64: Invalid symbol 33, offset 0.",
        ),
    ] {
        let (shape, _) = read(event.to_string().as_bytes(), NOW);
        assert_eq!((shape, refused(event.to_string().as_bytes()).as_str()), (Shape::Gateway, message), "{event}");
    }
    // An entry of its own may have a member of that name.
    let mut own = event();
    own["body"] = json!("{}");
    assert_eq!(read(own.to_string().as_bytes(), NOW).0, Shape::Direct);
}

#[test]
fn a_record_is_written_as_the_entry_that_it_was() {
    let entry = taken(&event());
    let json: Value = serde_json::from_str(&entry.json).unwrap();
    let mut out = Vec::new();
    write_entry(&batch(entry), 0, &mut out);
    assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), json);

    let text = r#"{"run_id":"r","log_entry":{"type":"error","title":"t","description":"d","timestamp":"2025-01-13T12:34:56.789123Z","level":"CRITICAL","duration":1.5,"row_count":3,"capabilities":["a"],"id":"01980000-0000-7000-8000-00000000000f"}}"#;
    let mut out = Vec::new();
    write_entry(&batch(read(text.as_bytes(), NOW).1.unwrap()), 0, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"{"timestamp":"2025-01-13T12:34:56.789Z","type":"error","title":"t","description":"d","id":"01980000-0000-7000-8000-00000000000f","level":"CRITICAL","duration":1.5,"row_count":3,"capabilities":["a"]}"#
    );
    let plain = crate::parse::json(b"{\"message\":\"hi\",\"hostname\":\"h\"}").unwrap();
    let mut out = Vec::new();
    write_entry(&plain.builder.stamp(&mut IdMint::new(1, 1), NOW, None), 0, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"{"timestamp":"2025-11-20T12:00:00.123Z","type":"log","title":"","description":"hi","hostname":"h"}"#
    );
}

#[test]
fn a_printed_record_is_written_as_the_same_entry_with_its_id() {
    let text = r#"{"run_id":"r","log_entry":{"type":"info","title":"t","description":"d","metadata":{"n":1e40},"level":"DEBUG"}}"#;
    let batch = batch(read(text.as_bytes(), NOW).1.unwrap());
    let (mut record, mut entry, mut out) = (Vec::new(), Vec::new(), Vec::new());
    batch.write_json(0, "7b29fa3a-e81e-4d1b-bc29-fa3ae81e1d1b/1", 7, &mut record);
    write_entry(&batch, 0, &mut entry);
    let times = (batch.timestamp(0), crate::time::format_micros(batch.ingested_at()));
    assert_eq!(write_entry_of(&record, &mut out), Some(times));
    let id = format!(r#""id":"{}","level""#, batch.ids().get(0));
    assert_eq!(String::from_utf8(out).unwrap(), String::from_utf8(entry).unwrap().replace(r#""level""#, &id));
    // A store keeps the time to the microsecond, and what is shown of it is the same again.
    let text = r#"{"run_id":"r","log_entry":{"type":"info","title":"t","description":"d","timestamp":"2025-01-13T12:34:56.789123Z"}}"#;
    let precise = self::batch(read(text.as_bytes(), NOW).1.unwrap());
    let (mut record, mut kept, mut shown, mut again) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    precise.write_json(0, "", 7, &mut record);
    write_entry_of(&record, &mut shown).unwrap();
    write_kept_entry_of(&record, &mut kept).unwrap();
    let kept = String::from_utf8(kept).unwrap();
    assert_eq!(kept.replace("789123Z", "789Z").as_bytes(), shown);
    assert_eq!(write_foreign_entry("r", kept.as_bytes(), &mut again).0, Some(precise.timestamp(0)));
    assert_eq!(again, shown);
    for other in ["", "[]", "{}", r#"{"timestamp":"yesterday"}"#] {
        assert_eq!(write_entry_of(other.as_bytes(), &mut Vec::new()), None, "{other}");
    }
}

/// Events that are nearly right, with anything in every place.
fn nearly() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just("null".to_owned()),
        Just("[]".to_owned()),
        Just("{\"a\":{\"timestamp\":1}}".to_owned()),
        Just("\"2025-01-13T12:34:56\"".to_owned()),
        "[0-9]{1,60}",
        any::<String>().prop_map(|text| json!(text).to_string()),
        "[a-z]{1,9}".prop_map(|text| json!(text).to_string()),
    ];
    let names =
        ["timestamp", "logged_at", "type", "title", "description", "message", "metadata", "run_id", "id", "level"];
    let entry = prop::collection::vec((prop::sample::select(names.to_vec()), value.clone()), 0..8);
    (value, entry, any::<bool>()).prop_map(|(run, entry, whole)| {
        let rest = if whole { r#""type":"info","title":"t","description":"d","# } else { "" };
        let fields: Vec<String> = entry.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!(
            r#"{{"run_id":{run},"log_entry":{{{rest}"x":1,{}"y":2}}}}"#,
            fields.iter().map(|field| format!("{field},")).collect::<String>()
        )
    })
}

proptest! {
    #[test]
    fn nothing_panics_and_every_answer_is_json(event in prop_oneof![
        nearly().prop_map(String::into_bytes),
        nearly().prop_map(|event| json!({"body": event}).to_string().into_bytes()),
        (nearly(), any::<prop::sample::Index>()).prop_map(|(event, cut)| event.as_bytes()[..cut.index(event.len())].to_vec()),
        prop::collection::vec(any::<u8>(), 0..60),
    ]) {
        let (shape, entry) = read(&event, NOW);
        let answer = match &entry {
            Ok(entry) => Answer::appended(entry),
            Err(refusal) => refusal.answer(),
        };
        let envelope: Value = serde_json::from_str(&answer.envelope(shape)).unwrap();
        prop_assert_eq!(envelope["statusCode"].as_u64(), Some(if entry.is_ok() { 200 } else { 400 }));
        prop_assert_eq!(envelope["body"].is_string(), shape == Shape::Gateway);
        if let Ok(entry) = entry {
            let json: Value = serde_json::from_str(&entry.json).unwrap();
            prop_assert!(json["timestamp"].is_string() && json["title"].is_string());
            let (timestamp, batch) = (entry.timestamp, batch(entry));
            prop_assert_eq!((batch.len(), batch.timestamp(0)), (1, timestamp));
        }
    }
}

#[test]
fn a_stored_entry_is_shown_as_it_would_be_taken_and_others_as_they_are() {
    let shown = |entry: &str| {
        let mut out = Vec::new();
        let (time, id) = write_foreign_entry(RUN, entry.as_bytes(), &mut out);
        (String::from_utf8(out).unwrap(), time, id.map(|id| id.to_string()))
    };
    let id = "01980000-0000-7000-8000-00000000000f";
    let odd = format!(
        r#"{{"timestamp":"2025-01-13T12:34:56.7891","type":"milestone","title":"t","description":"","id":"{id}","run_id":"{RUN}","n":1.50}}"#
    );
    let expected = format!(
        r#"{{"timestamp":"2025-01-13T12:34:56.789Z","type":"log","title":"t","description":"","metadata":{{"log_type":"milestone","n":1.50}},"id":"{id}"}}"#
    );
    assert_eq!(shown(&odd), (expected, Some(1_736_771_696_789_100), Some(id.to_owned())));
    for (entry, time) in [
        (r#"{"timestamp":"2025-01-13T12:34:56.789Z","note":5}"#, Some(1_736_771_696_789_000)),
        (r#"{"type":"info","title":"t","description":"d"}"#, None),
        (r#"{"type":"info"},"log_entry":{"a":"b"}"#, None),
        ("[]", None),
        ("7", None),
        ("{", None),
    ] {
        assert_eq!(shown(entry), (entry.to_owned(), time, None));
    }
}

#[test]
fn a_log_adds_up_to_a_run_whoever_wrote_it() {
    let add = |entries: &[&str]| {
        let mut fold = LogFold::new(RUN);
        entries.iter().for_each(|entry| fold.add(entry.as_bytes(), NOW));
        fold.end()
    };
    let id = r#""id":"01980000-0000-7000-8000-00000000000f""#;
    let start = r#"{"timestamp":"2025-01-13T12:34:56Z","type":"start","title":"","description":"begins"}"#;
    let failed =
        format!(r#"{{"timestamp":"2025-01-13T12:34:58Z","type":"error","title":"t","description":"no space",{id}}}"#);
    let run = add(&[start, &failed, &failed, r#"{"level":"ERROR"}"#, "[", r#"{"timestamp":"2025-01-13T12:34:55"}"#]);
    assert_eq!((run.records(), run.errors(), run.state().as_str()), (5, 1, "failed"));
    assert_eq!((run.failure(), run.duration_micros()), (Some("no space"), 3_000_000));
    assert_eq!((run.started_at(), run.last_at()), (1_736_771_695_000_000, NOW - 456));
    // Of two at one time the later one in the log is the later one.
    let at =
        |kind: &str| format!(r#"{{"timestamp":"2025-01-13T12:34:56Z","type":"{kind}","title":"t","description":"d"}}"#);
    assert_eq!(add(&[&at("error"), &at("success")]).state().as_str(), "succeeded");
    assert_eq!(add(&[&at("success"), &at("error")]).state().as_str(), "failed");
}
