//! What each field takes, what it makes of it, and what it refuses.

use runstone_record::Column;
use runstone_record::ErrorCode::{InvalidId, InvalidIdentifier, InvalidTime, InvalidValue, WrongType};

use crate::batch_of;
use crate::parse::refused;

#[test]
fn integers_stay_integers() {
    for column in ["lineno", "process_id", "thread_id", "row_count"] {
        let record = |value: &str| format!(r#"{{"{column}":{value}}}"#);
        for value in ["1.0", "0.5", "1e3", "1E5", "-0.0", "\"5\"", "true", "[1]", "{}", "\"\""] {
            refused(&record(value), WrongType, Some(column));
        }
        for value in ["9223372036854775808", "18446744073709551616", "-9223372036854775809"] {
            refused(&record(value), InvalidValue, Some(column));
        }
        refused(&record(&"9".repeat(300)), InvalidValue, Some(column));
        refused(&record(&format!("0.{}", "3".repeat(900))), WrongType, Some(column));
        for (value, wanted) in [("0", 0), ("-0", 0), ("9223372036854775807", i64::MAX), ("42", 42)] {
            let batch = batch_of(&record(value));
            assert_eq!(batch.int(Column::from_field(column).unwrap(), 0), Some(wanted), "{column} {value}");
        }
    }
    refused(r#"{"row_count":-1}"#, InvalidValue, Some("row_count"));
    assert_eq!(batch_of(r#"{"lineno":-9223372036854775808}"#).int(Column::Lineno, 0), Some(i64::MIN));
}

#[test]
fn a_duration_is_not_negative() {
    for value in ["-1", "-0.001", "-1e300", "-5e-324", "-1e-400"] {
        refused(&format!(r#"{{"duration":{value}}}"#), InvalidValue, Some("duration"));
    }
    for value in ["\"45.2\"", "true", "[]", "{}"] {
        refused(&format!(r#"{{"duration":{value}}}"#), WrongType, Some("duration"));
    }
    for (value, wanted) in [
        ("0", 0.0_f64),
        ("-0", 0.0),
        ("-0.0", 0.0),
        ("1E5", 1e5),
        ("45.2", 45.2),
        ("1e308", 1e308),
        ("1e-400", 0.0),
        ("18446744073709551616", 18_446_744_073_709_551_616.0),
        ("0.123456789012345678901234567890", 0.123_456_789_012_345_68),
    ] {
        let got = batch_of(&format!(r#"{{"duration":{value}}}"#)).float(Column::Duration, 0).unwrap();
        assert_eq!(got.to_bits(), wanted.to_bits(), "{value}");
    }
}

#[test]
fn times_have_a_day_that_exists_and_an_offset() {
    for time in [
        "2025-13-01T00:00:00Z",
        "2025-00-01T00:00:00Z",
        "2025-02-30T00:00:00Z",
        "2025-02-29T00:00:00Z",
        "2025-01-00T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
        "1677-09-21T00:12:43.145224Z",
        "2262-04-11T23:47:16.854776Z",
        "9999-12-31T23:59:59Z",
        "2025-01-13T12:34:56",
        "2025-01-13",
        "2025-01-13T12:34:56+99:99",
        "2025-01-13T12:34:56+24:00",
        "2025-01-13T12:34:56-25:59",
        "2025-01-13T12:34:56+05:60",
        "2025-01-13T24:00:00Z",
        "2025-01-13T12:60:00Z",
        "2025-01-13T12:34:61Z",
        "2025-01-13T12:34:56 UTC",
        "2025-01-13T12:34:56Z[UTC]",
        "1736771696",
        "now",
        "",
        "２０２５-01-13T12:34:56Z",
        "2025-01-13T12:34:56Z\\u0000",
    ] {
        refused(&format!(r#"{{"timestamp":"{time}"}}"#), InvalidTime, Some("timestamp"));
        refused(&format!(r#"{{"message":"m","logged_at":"{time}"}}"#), InvalidTime, Some("timestamp"));
    }
    for value in ["1736771696", "1736771696.789", "true", "[]", "{}"] {
        refused(&format!(r#"{{"timestamp":{value}}}"#), WrongType, Some("timestamp"));
    }
    for (time, micros) in [
        ("1677-09-21T00:12:43.145225Z", -9_223_372_036_854_775),
        ("2262-04-11T23:47:16.854775Z", 9_223_372_036_854_775),
        ("2025-01-13T12:34:56.789Z", 1_736_771_696_789_000),
        ("2025-01-13T12:34:56.789+00:00", 1_736_771_696_789_000),
        ("2025-01-13T12:34:56.789-00:00", 1_736_771_696_789_000),
        ("2025-01-14T12:33:56.789+23:59", 1_736_771_696_789_000),
        ("2025-01-12T12:35:56.789-23:59", 1_736_771_696_789_000),
        ("2025-01-13t12:34:56.789z", 1_736_771_696_789_000),
        ("2025-01-13 12:34:56.789123999Z", 1_736_771_696_789_123),
        ("2024-02-29T23:59:59Z", 1_709_251_199_000_000),
    ] {
        let batch = batch_of(&format!(r#"{{"logged_at":"{time}"}}"#));
        assert_eq!(batch.timestamp(0), micros, "{time}");
    }
}

#[test]
fn identifiers_are_no_paths() {
    let long = "a".repeat(129);
    for text in [
        "../../etc/passwd",
        "..%2f",
        "..\\\\..\\\\x",
        "a/b",
        "/",
        "a\\u0000b",
        "a\\rb",
        "a\\tb",
        "a\\nb",
        ".",
        "..",
        "a..b",
        "",
        " ",
        "   ",
        " a",
        "a ",
        "a.",
        "CON",
        "con",
        "NUL",
        "nul.txt",
        "AUX.",
        "COM1",
        "LPT9.log",
        "prn:x",
        "ä",
        "aé",
        "а",
        "ａ",
        "a\u{200b}",
        "a%",
        "a*",
        "$HOME",
        "a;b",
        "a'b",
        "-a",
        "_a",
        "~",
        &long,
    ] {
        for column in ["source_system", "stage", "run_id"] {
            refused(&format!(r#"{{"message":"m","{column}":"{text}"}}"#), InvalidIdentifier, Some(column));
        }
    }
    for value in ["[]", "{}", "[\"a\"]"] {
        refused(&format!(r#"{{"run_id":{value}}}"#), WrongType, Some("run_id"));
    }
    let most = "a".repeat(128);
    for (value, wanted) in [
        ("\"20250113_123456_abc123\"", "20250113_123456_abc123"),
        ("\"a.b_c:d+e@f-g\"", "a.b_c:d+e@f-g"),
        ("\"\\u0041bc\"", "Abc"),
        ("20250113", "20250113"),
        ("1.50", "1.50"),
        (&format!("\"{most}\""), &most),
    ] {
        let batch = batch_of(&format!(r#"{{"run_id":{value}}}"#));
        assert_eq!(batch.text(Column::RunId, 0), Some(wanted));
    }
}

#[test]
fn ids_are_uuids() {
    let long = "a".repeat(10 << 10);
    for id in [
        "",
        " ",
        "not a uuid",
        &long,
        "01980000000070008000000000000001",
        "{01980000-0000-7000-8000-000000000001}",
        "urn:uuid:01980000-0000-7000-8000-000000000001",
        "01980000-0000-7000-8000-00000000000g",
        "01980000-0000-7000-8000-00000000001",
        "01980000-0000-7000-8000-0000000000001",
        "0198000000-00-7000-8000-000000000001",
        " 1980000-0000-7000-8000-000000000001",
        "01980000-0000-7000-8000-00000000000\\u0000",
    ] {
        refused(&format!(r#"{{"id":"{id}","message":"m"}}"#), InvalidId, Some("id"));
    }
    for value in ["7", "true", "[]", "{}"] {
        refused(&format!(r#"{{"id":{value}}}"#), WrongType, Some("id"));
    }
    for id in [
        "01980000-ABCD-7000-8000-00000000000F",
        "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
    ] {
        let batch = batch_of(&format!(r#"{{"id":"{id}"}}"#));
        assert_eq!(batch.ids().get(0).to_string(), id.to_lowercase());
        assert!(batch.ids().client_hash(0).is_some());
    }
}

#[test]
fn texts_are_texts() {
    for (column, value) in [
        ("message", "[]"),
        ("message", "{}"),
        ("title", "[\"a\"]"),
        ("hostname", "{}"),
        ("status", "[]"),
        ("trace_id", "{}"),
        ("type", "7"),
        ("type", "true"),
        ("level", "true"),
        ("level", "[]"),
        ("capabilities", "\"a\""),
        ("capabilities", "7"),
        ("capabilities", "{}"),
        ("capabilities", "[\"a\",7]"),
        ("capabilities", "[null]"),
        ("capabilities", "[[\"a\"]]"),
    ] {
        refused(&format!(r#"{{"{column}":{value}}}"#), WrongType, Some(column));
    }
    for (column, value) in [
        ("type", "\"\""),
        ("type", "\"START \""),
        ("type", "\"unknown\""),
        ("trace_id", "\"\""),
        ("trace_id", "\"xyz\""),
        ("trace_id", "\"0x1f\""),
        ("span_id", "\"12 34\""),
    ] {
        refused(&format!(r#"{{"{column}":{value}}}"#), InvalidValue, Some(column));
    }
    refused(&format!(r#"{{"trace_id":"{}"}}"#, "a".repeat(65)), InvalidValue, Some("trace_id"));
    for (field, value, wanted) in [
        ("message", "7", "7"),
        ("message", "18446744073709551616", "18446744073709551616"),
        ("message", "false", "false"),
        ("message", "\"\"", ""),
        ("title", "1.50", "1.50"),
        (
            "message",
            r#""<script>alert(1)</script>\"><img onerror=x> javascript:x""#,
            "<script>alert(1)</script>\"><img onerror=x> javascript:x",
        ),
        ("message", r#""\u001b[31mred\r\n2025-01-01 INFO forged""#, "\u{1b}[31mred\r\n2025-01-01 INFO forged"),
        ("message", r#""\ud83d\ude80 \uFEFF \u2028""#, "🚀 \u{feff} \u{2028}"),
        ("trace_id", "\"4BF92F3577B34DA6A3CE929D0E0E4736\"", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("capabilities", r#"[ "a" , "b\"c", "\u00e9" ]"#, r#"["a","b\"c","é"]"#),
        ("capabilities", "[]", "[]"),
    ] {
        let batch = batch_of(&format!(r#"{{"{field}":{value}}}"#));
        assert_eq!(batch.text(Column::from_field(field).unwrap(), 0), Some(wanted), "{field} {value}");
    }
}

#[test]
fn words_are_read_in_any_case() {
    for (given, wanted, level) in [
        ("START", "start", "INFO"),
        ("Error", "error", "ERROR"),
        ("warning", "warning", "WARNING"),
        ("SuCcEsS", "success", "INFO"),
        ("activity", "activity", "INFO"),
    ] {
        let batch = batch_of(&format!(r#"{{"type":"{given}"}}"#));
        assert_eq!(batch.text(Column::Type, 0), Some(wanted));
        assert_eq!(batch.text(Column::Level, 0), Some(level));
    }
    for (given, wanted, metadata) in [
        ("\"warn\"", "WARNING", None),
        ("\"NOTICE\"", "INFO", None),
        ("\"trace\"", "DEBUG", None),
        ("\"Fatal\"", "CRITICAL", None),
        ("30", "WARNING", None),
        ("\"35\"", "WARNING", None),
        ("-5", "DEBUG", None),
        ("\"SUCCESS\"", "ERROR", Some(r#"{"level":"SUCCESS"}"#)),
        ("30.5", "ERROR", Some(r#"{"level":"30.5"}"#)),
    ] {
        let batch = batch_of(&format!(r#"{{"type":"error","level":{given}}}"#));
        assert_eq!(batch.text(Column::Level, 0), Some(wanted), "{given}");
        assert_eq!(batch.text(Column::Metadata, 0), metadata, "{given}");
    }
}
