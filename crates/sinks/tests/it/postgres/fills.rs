//! Whatever a record is, it comes back as it was sent.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use runstone_record::{IdMint, parse};
use runstone_sinks::contract::{SOURCE, expected, once, stored};
use runstone_sinks::postgres::read::{Record, Which};
use runstone_sinks::{Delivered, Frame};

use super::Tables;

/// Records of a JSON text that arrived together.
fn arrived(text: &str, first: u64) -> Frame {
    let parsed = parse::json(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(parsed.errors, [], "{text}");
    let mut mint = IdMint::new(1_795_861_234_567, u128::from(first) << 40);
    Frame { first, batch: parsed.builder.stamp(&mut mint, 1_795_861_234_567_890, None) }
}

/// JSON texts of strings: short, of any characters, and about as long as columns are wide.
fn text() -> impl Strategy<Value = String> {
    let long = ("[aü✓🦀]", prop_oneof![9..12_usize, 253..258_usize, 498..503_usize]);
    prop_oneof![
        3 => "[a-z]{0,6}",
        1 => any::<String>(),
        1 => "[\\x00-\\x1f\"\\\\/\u{7f}\u{2028}ü]{0,4}",
        1 => long.prop_map(|(char, count)| char.repeat(count)),
    ]
    .prop_map(|text| serde_json::to_string(&text).unwrap())
}

fn integer() -> impl Strategy<Value = i64> {
    prop_oneof![any::<i64>(), any::<i32>().prop_map(i64::from), Just(i64::from(i32::MAX) + 1), 0..9_i64]
}

/// JSON texts of numbers, whatever a float would make of them.
fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        integer().prop_map(|number| number.to_string()),
        any::<f64>().prop_filter("JSON", |float| float.is_finite()).prop_map(|float| format!("{float:e}")),
        any::<f64>().prop_filter("JSON", |float| float.is_finite()).prop_map(|float| float.to_string()),
        "-?(0|[1-9][0-9]{0,60})(\\.[0-9]{1,60})?([eE][-+]?[0-9]{1,2})?",
        prop_oneof![
            Just("1e-400"),
            Just("-1E-99999999999999999999"),
            Just("1e308"),
            Just("1e100"),
            Just("1e101"),
            Just("-0"),
            Just("-0.00"),
            Just("1e38"),
            Just("100000000000000000000000000000000000000"),
            Just("1e-16384"),
        ]
        .prop_map(str::to_owned),
    ]
}

/// JSON texts of values, names that stand twice among them.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![Just("null".to_owned()), Just("true".to_owned()), number(), text()];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let member = (text(), inner.clone()).prop_map(|(name, value)| format!("{}:{value}", short(&name)));
        prop_oneof![
            vec(inner, 0..5).prop_map(|items| format!("[{}]", items.join(","))),
            vec(member, 0..5).prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    })
}

/// A name may have 128 bytes.
fn short(name: &str) -> String {
    let name: String = serde_json::from_str(name).unwrap();
    serde_json::to_string(&name.chars().take(20).collect::<String>()).unwrap()
}

fn metadata() -> impl Strategy<Value = String> {
    let name = prop_oneof![8 => text().prop_map(|name| short(&name)), 1 => Just("\"_runstone\"".to_owned())];
    vec((name, value()), 0..5).prop_map(|members| {
        let mut seen = BTreeSet::new();
        let members = members.into_iter().filter(|(name, _)| seen.insert(name.clone()));
        let members: Vec<String> = members.map(|(name, value)| format!("{name}:{value}")).collect();
        format!("{{{}}}", members.join(","))
    })
}

/// JSON texts of records.
fn record() -> impl Strategy<Value = String> {
    let texts = [
        "message",
        "title",
        "logger_name",
        "hostname",
        "thread_name",
        "function_name",
        "module",
        "filename",
        "pathname",
        "exception",
        "status",
        "entity_name",
        "target_table",
        "notebook_name",
        "workspace_id",
        "lakehouse_id",
        "level",
    ];
    let integers = ["process_id", "thread_id", "lineno"];
    let identifiers = ["source_system", "stage", "run_id"];
    let times = ["\"2025-01-13T12:34:56.789123Z\"", "\"1677-09-22T00:00:00Z\"", "\"2262-04-11T00:00:00.000001Z\""];
    let some = |names: &'static [&'static str], value: BoxedStrategy<String>| {
        vec((proptest::sample::select(names), value), 0..4).boxed()
    };
    let text_fields = vec((proptest::sample::select(texts.to_vec()), text()), 0..6);
    let integer_fields =
        vec((proptest::sample::select(integers.to_vec()), integer().prop_map(|n| n.to_string())), 0..3);
    let identifier_fields = vec((proptest::sample::select(identifiers.to_vec()), "\"[a-z0-9]{1,9}\""), 0..3);
    let others = (
        some(&["timestamp"], proptest::sample::select(times.to_vec()).prop_map(str::to_owned).boxed()),
        some(&["row_count"], (0..i64::MAX).prop_map(|n| n.to_string()).boxed()),
        some(&["duration"], (0.0..1e300_f64).prop_map(|n| n.to_string()).boxed()),
        some(&["trace_id", "span_id"], "\"[0-9a-fA-F]{1,64}\"".boxed()),
        some(&["capabilities"], vec(text(), 0..4).prop_map(|list| format!("[{}]", list.join(","))).boxed()),
        some(&["metadata"], metadata().boxed()),
        some(&["something", "else"], value().boxed()),
    );
    (text_fields, integer_fields, identifier_fields, others).prop_map(|(texts, integers, identifiers, others)| {
        let mut fields = vec![("type", "\"info\"".to_owned())];
        fields.extend(texts);
        fields.extend(integers);
        fields.extend(identifiers);
        for more in [others.0, others.1, others.2, others.3, others.4, others.5, others.6] {
            fields.extend(more);
        }
        let mut seen = BTreeSet::new();
        fields.retain(|(name, _)| seen.insert(*name));
        let fields: Vec<String> = fields.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", fields.join(","))
    })
}

#[test]
fn any_record_comes_back_as_it_was_sent() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (tables, _guard) = (Tables::new(), runtime.enter());
    let (sink, case) = (RefCell::new(tables.open()), Cell::new(0_u64));
    let mut runner = TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
    let ran = runner.run(&vec(record(), 1..30), |records| {
        case.set(case.get() + 1);
        let source = format!("{SOURCE}{}", case.get());
        let frame = arrived(&format!("[{}]", records.join(",")), case.get() * 1_000);
        let mut sink = sink.borrow_mut();
        let delivered = runtime.block_on(once(&mut *sink, &source, 0, std::slice::from_ref(&frame))).unwrap();
        prop_assert_eq!(delivered, Delivered::default());
        let found = runtime.block_on(tables.all(&source));
        for (found, expected) in found.iter().zip(expected(&source, std::slice::from_ref(&frame), &[])) {
            prop_assert_eq!(found, &expected);
        }
        prop_assert_eq!(found.len(), records.len());
        Ok(())
    });
    ran.unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test]
async fn what_stands_in_for_what_a_record_lacks() {
    let tables = Tables::new();
    let (long, wide) = ("ü".repeat(300), "x".repeat(600));
    let text = serde_json::json!([
        {"title": "a title", "stage": "load", "source_system": "shop"},
        {"source_system": "shop", "status": "Success", "capabilities": ["a \"b\"", "", "NULL", "{c,d}"]},
        {"message": "m", "hostname": long, "filename": wide, "process_id": 4_294_967_296_u64, "lineno": -3_000_000_000_i64,
         "logger_name": "l", "thread_id": i64::MAX, "level": "ERROR", "capabilities": []},
        {"message": "", "hostname": "", "metadata": {"a": 1, "_runstone": {"hostname": "mine"}}},
        {"message": "n", "hostname": long, "metadata": {"_runstone": 7}},
    ]);
    let numbers =
        r#",{"message":"numbers","metadata":{"a":1e2,"b":{"k":1,"k":2}}},{"message":"tiny","metadata":{"a":1e-9999}}]"#;
    let text = format!("{}{numbers}", text.to_string().trim_end_matches(']'));
    let frame = arrived(&text, 1);
    once(&mut tables.open(), SOURCE, 0, std::slice::from_ref(&frame)).await.unwrap();
    let shown = tables.cluster.ask(
        "SELECT position, level, logger_name, process_id, thread_id, hostname = '', message, lineno, filled, \
         length(hostname), length(filename), array_to_string(capabilities, ';') FROM test_logs ORDER BY position",
    );
    let expected_rows = [
        "1|INFO|load|0|0|t|a title||62|0||",
        "2|INFO|shop|0|0|t|||62|0||a \"b\";;NULL;{c,d}",
        "3|ERROR|l|0|9223372036854775807|f|m||132|255|500|",
        "4|INFO||0|0|t|||14|0||",
        "5|INFO||0|0|f|n||142|255||",
        "6|INFO||0|0|t|numbers||158|0||",
        "7|INFO||0|0|t|tiny||158|0||",
    ];
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected_rows);
    let extra = tables.cluster.ask("SELECT extra_data FROM test_logs WHERE position > 2 ORDER BY position");
    let extra: Vec<serde_json::Value> = extra.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected_extra = serde_json::json!([
        {"_runstone": {"hostname": long, "filename": wide, "process_id": 4_294_967_296_u64, "lineno": -3_000_000_000_i64}},
        {"a": 1, "_runstone": {"hostname": "mine"}},
        {"_runstone": {"hostname": long, "metadata": "{\"_runstone\":7}"}},
        {"_runstone": {"metadata": "{\"a\":1e2,\"b\":{\"k\":1,\"k\":2}}"}, "a": 100, "b": {"k": 2}},
        {"_runstone": {"metadata": "{\"a\":1e-9999}"}},
    ]);
    assert_eq!(serde_json::Value::from(extra), expected_extra);
    assert_eq!(stored(&tables).await, expected(SOURCE, &[frame], &[]));
}

#[tokio::test]
async fn a_run_is_read_in_the_order_of_its_time_without_rows_of_others() {
    let tables = Tables::new();
    let at = |second: u32, run: &str| {
        format!(r#"{{"run_id":"{run}","message":"{second}","timestamp":"2026-01-01T00:00:{second:02}Z"}}"#)
    };
    let texts = [at(30, "a"), at(10, "a"), at(20, "b"), at(10, "a"), at(5, "a")];
    let frame = arrived(&format!("[{}]", texts.join(",")), 1);
    let mut sink = tables.open();
    once(&mut sink, SOURCE, 0, std::slice::from_ref(&frame)).await.unwrap();
    tables.cluster.ask(
        "INSERT INTO test_logs (level, logger_name, process_id, thread_id, hostname, message, run_id) \
         VALUES ('INFO', 'l', 1, 1, 'h', 'm', 'a')",
    );
    let mut walked: Vec<Record> = Vec::new();
    for _ in 0..2 {
        let page = sink.records(Which::Run("a"), walked.last(), 3).await.unwrap();
        walked.extend(page);
    }
    assert_eq!(walked.iter().map(|record| record.position).collect::<Vec<_>>(), [5, 2, 4, 1]);
    assert_eq!(sink.records(Which::Run("' OR 1=1--"), None, 9).await.unwrap(), []);
}

/// Records of a run, each at its second, at positions from `first` on.
fn timed(seconds: impl Iterator<Item = u32>, first: u64) -> Frame {
    let at = |second: u32| {
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        format!(r#"{{"run_id":"a","message":"m","timestamp":"2026-01-01T{hour:02}:{minute:02}:{second:02}Z"}}"#)
    };
    let texts: Vec<String> = seconds.map(at).collect();
    arrived(&format!("[{}]", texts.join(",")), first)
}

#[tokio::test]
async fn rows_that_come_and_go_between_two_pages_double_and_drop_no_other() {
    let tables = Tables::new();
    let mut sink = tables.open();
    // Three records a second: an end of a page lies between records of the same time.
    let frame = timed((0..2_500).map(|place| 100 + place / 3), 1);
    once(&mut sink, SOURCE, 0, std::slice::from_ref(&frame)).await.unwrap();
    for (which, drops) in [(Which::Run("a"), [7, 1_500]), (Which::Source(SOURCE), [8, 1_501])] {
        let mut walked = sink.records(which, None, 1_000).await.unwrap();
        assert_eq!(walked.len(), 1_000);
        // One that is late, and retention before and behind the page's end.
        let late = tables.cluster.ask("SELECT max(position) + 1 FROM test_logs").parse().unwrap();
        once(&mut sink, SOURCE, late - 1, &[timed([0, 3_600].into_iter(), late)]).await.unwrap();
        tables.cluster.ask(&format!("DELETE FROM test_logs WHERE position IN ({}, {})", drops[0], drops[1]));
        loop {
            let page = sink.records(which, walked.last(), 1_000).await.unwrap();
            if page.is_empty() {
                break;
            }
            walked.extend(page);
        }
        let mut found: Vec<u64> = walked.iter().map(|record| record.position).collect();
        found.sort_unstable();
        // What is there now, and what went after it was read; but not what came in before the page's end.
        let there = tables.cluster.ask("SELECT position FROM test_logs");
        let mut expected: BTreeSet<u64> = there.lines().map(|line| line.parse().unwrap()).collect();
        expected.insert(drops[0]);
        if which == Which::Run("a") {
            expected.remove(&late);
        }
        let expected: Vec<u64> = expected.into_iter().collect();
        assert_eq!(found, expected, "{which:?}");
    }
}
