//! `metadata`: what lands there, exactly, under which name, and within which limits of depth and keys.

use std::time::Instant;

use runstone_record::ErrorCode::{self, InvalidJson, TooDeep, TooManyKeys};
use runstone_record::limits::{KEY_BYTES_MAX, RECORD_DEPTH_MAX, RECORD_KEYS_MAX};
use runstone_record::{Column, parse};

use crate::batch_of;
use crate::parse::refused;

fn metadata(record: &str) -> Option<String> {
    batch_of(record).text(Column::Metadata, 0).map(str::to_owned)
}

#[test]
fn nothing_is_dropped() {
    for (record, wanted) in [
        (r#"{"message":"m"}"#, None),
        (r#"{"message":"m","metadata":{}}"#, None),
        (r#"{"metadata":{"a":null,"b":[],"c":{}}}"#, Some(r#"{"a":null,"b":[],"c":{}}"#)),
        (r#"{"message":"m","x":1,"y":null}"#, Some(r#"{"x":1}"#)),
        (r#"{"extra_data":{"a":1}}"#, Some(r#"{"a":1}"#)),
        (r#"{"additional_metadata":{"a":1}}"#, Some(r#"{"a":1}"#)),
        (r#"{"metadata":"text"}"#, Some(r#"{"metadata":"text"}"#)),
        (r#"{"metadata":[1,"a",null]}"#, Some(r#"{"metadata":[1,"a",null]}"#)),
        (r#"{"extra_data":7,"metadata":{"a":true}}"#, Some(r#"{"a":true,"extra_data":7}"#)),
        (r#"{"message":"m","position":7,"journal":"j"}"#, Some(r#"{"journal":"j","position":7}"#)),
        (r#"{"message":"m","ingested_at":"x","date":{"d":1}}"#, Some(r#"{"date":{"d":1},"ingested_at":"x"}"#)),
        (r#"{"message":"m","Message":"n"}"#, Some(r#"{"Message":"n"}"#)),
        (r#"{"message":"m","":0}"#, Some(r#"{"":0}"#)),
        (r#"{"metadata" : { "a" : [ 1 , { "b" : " c " } ] } }"#, Some(r#"{"a":[1,{"b":" c "}]}"#)),
        (r#"{"metadata":{"quote\"":"\u0041\/\b\u001f"}}"#, Some("{\"quote\\\"\":\"A/\\b\\u001f\"}")),
    ] {
        assert_eq!(metadata(record).as_deref(), wanted, "{record}");
    }
}

#[test]
fn a_taken_name_gets_a_number() {
    for (record, wanted) in [
        (r#"{"metadata":{"a":1},"a":2}"#, r#"{"a":1,"a_2":2}"#),
        (
            r#"{"metadata":{"a":1},"additional_metadata":{"a":2},"extra_data":{"a":3},"a":4}"#,
            r#"{"a":1,"a_2":2,"a_3":3,"a_4":4}"#,
        ),
        (r#"{"message":"m","x":1,"x":2,"x":1}"#, r#"{"x":1,"x_2":2,"x_3":1}"#),
        (r#"{"metadata":{"a":1,"a":2}}"#, r#"{"a":1,"a_2":2}"#),
        (r#"{"metadata":{"a":1,"a_2":2},"a":3}"#, r#"{"a":1,"a_3":3,"a_2":2}"#),
        (r#"{"metadata":{"level":1},"level":"odd"}"#, r#"{"level":1,"level_2":"odd"}"#),
        (r#"{"message":"m","k\u0000":1,"k\ufffd":2}"#, "{\"k\u{fffd}\":1,\"k\u{fffd}_2\":2}"),
    ] {
        assert_eq!(metadata(record).as_deref(), Some(wanted), "{record}");
    }
}

#[test]
fn the_order_of_fields_makes_no_difference() {
    for (one, other) in [
        (r#"{"message":"m","b":1,"a":2}"#, r#"{"a":2,"b":1,"message":"m"}"#),
        (r#"{"metadata":{"b":1,"a":2}}"#, r#"{"metadata":{"a":2,"b":1}}"#),
        (r#"{"metadata":{"o":{"b":[{"d":1,"c":2}],"a":2}}}"#, r#"{"metadata":{"o":{"a":2,"b":[{"c":2,"d":1}]}}}"#),
        (r#"{"a":2,"metadata":{"a":1},"level":"odd"}"#, r#"{"level":"odd","metadata":{"a":1},"a":2}"#),
        (r#"{"extra_data":{"x":1},"metadata":{"x":2},"x":3}"#, r#"{"x":3,"metadata":{"x":2},"extra_data":{"x":1}}"#),
        (r#"{"x":3,"message":"m","metadata":{"x":2,"x_2":0}}"#, r#"{"metadata":{"x_2":0,"x":2},"message":"m","x":3}"#),
    ] {
        assert_eq!(metadata(one), metadata(other), "{one}");
    }
    // The order of an array, and of one key's repetitions, says something.
    assert_ne!(metadata(r#"{"metadata":{"a":[1,2]}}"#), metadata(r#"{"metadata":{"a":[2,1]}}"#));
    assert_eq!(metadata(r#"{"metadata":{"o":{"b":1,"a":2,"b":3}}}"#).as_deref(), Some(r#"{"o":{"a":2,"b":1,"b":3}}"#));
}

#[test]
fn numbers_keep_every_digit() {
    for number in [
        "18446744073709551616",
        "-9223372036854775809",
        "12345678901234567890123456789012345678",
        "0.123456789012345678901234567890",
        "-0",
        "-0.0",
        "1E5",
        "1e+5",
        "1.0",
        "1.10",
        "1e-400",
        "1e308",
    ] {
        let wanted = format!(r#"{{"n":{number}}}"#);
        assert_eq!(metadata(&format!(r#"{{"metadata":{{"n":{number}}}}}"#)), Some(wanted.clone()));
        assert_eq!(metadata(&format!(r#"{{"message":"m","n":{number}}}"#)), Some(wanted.clone()));
        assert_eq!(
            metadata(&format!(r#"{{"metadata":{{"n":[{{"n":{number}}}]}}}}"#)),
            Some(format!(r#"{{"n":[{wanted}]}}"#))
        );
    }
    let most = "7".repeat(308);
    assert_eq!(metadata(&format!(r#"{{"x":{most},"message":"m"}}"#)), Some(format!(r#"{{"x":{most}}}"#)));
    // The parser's own limit lies higher, and a float's lower.
    for digits in ["7".repeat(309), format!("0.{}", "7".repeat(999)), format!("0.{}", "7".repeat(8_000))] {
        crate::parse::unreadable(format!(r#"{{"message":"m","x":{digits}}}"#).as_bytes());
    }
    let long = format!("0.{}", "7".repeat(998));
    assert_eq!(metadata(&format!(r#"{{"x":{long},"message":"m"}}"#)), Some(format!(r#"{{"x":{long}}}"#)));
}

/// A value nested so that its innermost container is the record's `depth`th.
fn nested(depth: usize, outer: usize, open: &str, close: &str) -> String {
    let levels = depth - outer;
    format!("{}{}", open.repeat(levels), close.repeat(levels))
}

#[test]
fn depth_is_counted_from_the_record() {
    let shapes: [fn(usize) -> String; 4] = [
        |depth| format!(r#"{{"message":"m","x":{}}}"#, nested(depth, 1, "[", "]")),
        |depth| format!(r#"{{"metadata":{{"x":{}}}}}"#, nested(depth, 2, "[", "]")),
        |depth| format!(r#"{{"message":"m","x":{}}}"#, nested(depth, 2, "{\"a\":", "}").replace(":}", ":[]}")),
        |depth| format!(r#"{{"message":"m","metadata":{}}}"#, nested(depth, 1, "[", "]")),
    ];
    for (number, shape) in shapes.into_iter().enumerate() {
        assert!(metadata(&shape(RECORD_DEPTH_MAX)).is_some(), "shape {number}");
        refused(&shape(RECORD_DEPTH_MAX + 1), TooDeep, None);
        refused(&shape(RECORD_DEPTH_MAX + 40), TooDeep, None);
        crate::parse::unreadable(shape(1_000_000).as_bytes());
    }
    // A known field's wrong type and depth.
    refused(&format!(r#"{{"message":{}}}"#, nested(100, 0, "[", "]")), ErrorCode::WrongType, Some("message"));
    for body in ["[", "{\"a\":", "[{\"message\":"] {
        let deep = body.repeat(1_000_000);
        assert_eq!(parse::json(deep.as_bytes()).expect_err("too deep").code(), InvalidJson);
        let lines = parse::ndjson(deep.as_bytes()).expect("a bad line");
        assert_eq!(lines.errors[0].code, InvalidJson);
    }
    let arrays = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    assert_eq!(parse::json(arrays.as_bytes()).expect_err("too deep").code(), InvalidJson);
}

#[test]
fn keys_are_counted_in_the_whole_record() {
    let keys = |count: usize| (0..count).map(|key| format!(r#""k{key}":1"#)).collect::<Vec<_>>().join(",");
    let top = |count: usize| format!(r#"{{"message":"m",{}}}"#, keys(count - 1));
    let inner = |count: usize| format!(r#"{{"metadata":{{{}}}}}"#, keys(count - 1));
    let spread =
        |count: usize| format!(r#"{{"message":"m","x":[{{{}}}],"y":{{"z":{{{}}}}}}}"#, keys(100), keys(count - 104));
    for shape in [&top as &dyn Fn(usize) -> String, &inner, &spread] {
        assert!(metadata(&shape(RECORD_KEYS_MAX)).is_some());
        refused(&shape(RECORD_KEYS_MAX + 1), TooManyKeys, None);
        refused(&shape(100_000), TooManyKeys, None);
    }
}

#[test]
fn keys_have_a_length() {
    let key = |bytes: usize| "k".repeat(bytes);
    for shape in [
        &(|bytes: usize| format!(r#"{{"message":"m","{}":1}}"#, key(bytes))) as &dyn Fn(usize) -> String,
        &|bytes: usize| format!(r#"{{"metadata":{{"{}":1}}}}"#, key(bytes)),
        &|bytes: usize| format!(r#"{{"metadata":{{"a":[{{"{}":1}}]}}}}"#, key(bytes)),
        &|bytes: usize| format!(r#"{{"metadata":{{"é{}":1}}}}"#, key(bytes - 2)),
        &|bytes: usize| format!(r#"{{"metadata":{{"\u00e9{}":1}}}}"#, key(bytes - 2)),
    ] {
        assert!(metadata(&shape(KEY_BYTES_MAX)).is_some());
        refused(&shape(KEY_BYTES_MAX + 1), TooManyKeys, None);
        refused(&shape(64 << 10), TooManyKeys, None);
    }
}

/// Names that collide must not cost more than others: a body of nothing else would hold a core for a minute.
#[test]
fn many_equal_names_cost_what_many_names_cost() {
    let body = |name: fn(usize) -> String| {
        let members: Vec<String> = (0..RECORD_KEYS_MAX - 1).map(|key| format!(r#""{}":1"#, name(key))).collect();
        format!("{{\"message\":\"m\",{}}}\n", members.join(",")).repeat(40)
    };
    let time = |body: &str| {
        let start = Instant::now();
        assert_eq!(parse::ndjson(body.as_bytes()).expect("lines").places.len(), 40);
        start.elapsed()
    };
    let (equal, different) = (body(|_| "same".to_owned()), body(|key| format!("n{key}")));
    let ratio = (0..5).map(|_| time(&equal).as_secs_f64() / time(&different).as_secs_f64()).fold(f64::MAX, f64::min);
    assert!(ratio < 20.0, "{ratio} times as long");
}
