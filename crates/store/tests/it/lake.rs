//! Records in the lake: found as if they were in memory, and without opening more files than need be.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, RecordBatch, StringArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use runstone_record::{Batch, Column, ErrorCode};
use runstone_store::lake::{ColumnStats, FileStats};
use runstone_store::{Cursor, LogsQuery, Order, SqlLimits};

use crate::shelf::{Row, rows_between, stats, table};
use crate::world::{JOURNAL, NOW, World, limits, lines};

const HOUR: i64 = 3_600_000_000;

/// A hundred records of each hour, a file each; what comes after is in memory.
fn hours(count: u64) -> World {
    hours_on(limits().threads, count)
}

/// The same, read by so many threads.
fn hours_on(threads: usize, count: u64) -> World {
    let mut world = World::new(usize::MAX, SqlLimits { threads, ..limits() });
    for hour in 0..count {
        world.push(lines(100, hour));
        world.settle(world.last());
    }
    world
}

fn text(world: &World, sql: &str) -> String {
    serde_json::to_string(&world.query(sql).rows).unwrap()
}

/// A number that a plan shows.
#[track_caller]
fn shown(text: &str, name: &str) -> u64 {
    let name = format!("{name}=");
    let digits = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>();
    let numbers = text.split(&name).skip(1).map(|rest| digits(rest).parse::<u64>().unwrap());
    numbers.max().unwrap_or_else(|| panic!("{name} in {text}"))
}

/// Makes files unreadable: who opens one of them fails.
fn remove(world: &mut World, is_lost: impl Fn(&runstone_store::lake::LakeFile) -> bool) -> usize {
    let shelf = world.shelf();
    let snapshot = shelf.lake.snapshot();
    let lost: Vec<_> = snapshot.files.iter().filter(|file| is_lost(file)).collect();
    lost.iter().for_each(|file| std::fs::remove_file(shelf.path(file)).unwrap());
    lost.len()
}

#[test]
fn a_plan_says_what_it_reads_of_the_lake() {
    let mut world = hours(60);
    world.push(lines(10, 60));
    let all = text(&world, "EXPLAIN SELECT message FROM logs");
    assert!(all.contains("chunks=1, older_ranges=0, pruned=0, lake=[version=60, files=60 of 60, pruned_by_date=0, pruned_by_statistics=0]"), "{all}");
    // Two batches arrive in one hour, the second thirty hours after the first day began.
    let day = text(&world, "EXPLAIN SELECT message FROM logs WHERE date = DATE '2025-11-20'");
    let files = shown(&day, "files");
    assert_eq!(files + shown(&day, "pruned_by_date"), 60, "{day}");
    assert!(files > 0 && files < 60, "{day}");
    let hour = "timestamp >= TIMESTAMP '2025-11-21T12:00:00Z' AND timestamp < TIMESTAMP '2025-11-21T13:00:00Z'";
    let explained = text(&world, &format!("EXPLAIN SELECT message FROM logs WHERE {hour}"));
    assert!(explained.contains("files=1 of 60") && explained.contains("pruned_by_statistics=59"), "{explained}");
    let run = text(&world, "EXPLAIN SELECT message FROM logs WHERE run_id = 'run-17-3'");
    assert!(shown(&run, "files") < 10, "{run}");
    assert_eq!(world.number(&format!("SELECT count(*) FROM logs WHERE {hour}")), 100);
    assert_eq!(world.number("SELECT count(*) FROM logs WHERE run_id = 'run-17-3'"), 10);
}

#[test]
fn the_answer_of_another_query_rules_files_out() {
    let mut world = hours(60);
    world.push(lines(100, 60));
    for (column, aggregate) in [("run_id", "min"), ("timestamp", "max"), ("position", "max"), ("run_id", "max")] {
        let sql = format!(
            "SELECT {aggregate}({column}) AS known FROM logs WHERE timestamp < TIMESTAMP '2025-11-21T12:30:00Z'"
        );
        let known = &world.column(&sql)[0];
        let of = |value: &str| format!("SELECT count(message) FROM logs WHERE {column} = {value}");
        let literal = known.to_string().replace('"', "'");
        let found = world.number(&of(&format!("({sql})")));
        assert_eq!((found, found > 0), (world.number(&of(&literal)), true), "{sql}");
    }
    let last = "SELECT max(position) FROM logs WHERE position < 3000";
    let explained = text(&world, &format!("EXPLAIN ANALYZE SELECT message FROM logs WHERE position = ({last})"));
    assert!(explained.contains("files_read=1"), "{explained}");
    // A plan is no run: nothing is known yet.
    let explained = text(&world, &format!("EXPLAIN SELECT message FROM logs WHERE position = ({last})"));
    assert!(explained.contains("pending"), "{explained}");
    // Nothing, and more than one value.
    assert_eq!(
        world.number("SELECT count(*) FROM logs WHERE run_id > (SELECT max(run_id) FROM logs WHERE position < 0)"),
        0
    );
    let error = world.try_query("SELECT 1 FROM logs WHERE run_id = (SELECT run_id FROM logs)").unwrap_err();
    assert_eq!(error.code(), ErrorCode::QueryFailed, "{error}");
}

#[test]
fn row_groups_are_ruled_out_by_statistics_and_bloom_filters() {
    let mut world = World::new(usize::MAX, limits());
    world.push(lines(5_000, 1));
    world.shelf().rows_per_group = 500;
    world.settle(5_000);
    let late = "EXPLAIN ANALYZE SELECT message FROM logs WHERE timestamp >= TIMESTAMP '2025-11-20T13:00:04.6Z'";
    let explained = text(&world, late);
    assert!(explained.contains("row_groups_pruned_statistics=10 total \u{2192} 1 matched"), "{explained}");
    assert!(explained.contains("output_rows=400"), "{explained}");
    // An id between the least and the greatest of every group, which none has.
    let other = world.batches[0].1.ids().get(77).to_string();
    let explained = text(&world, &format!("EXPLAIN ANALYZE SELECT message FROM logs WHERE id = '{other}'"));
    assert!(
        explained.contains("output_rows=1,")
            || explained.contains("output_rows=1 ")
            || explained.contains("output_rows=1]"),
        "{explained}"
    );
    let explained = text(&world, "EXPLAIN ANALYZE SELECT message FROM logs WHERE run_id = 'run-1-33'");
    assert!(explained.contains("row_groups_pruned_bloom_filter=10 total \u{2192} 0 matched"), "{explained}");
}

#[test]
fn counting_and_the_last_position_open_no_file() {
    let mut world = hours(5);
    world.push(lines(10, 5));
    assert_eq!(remove(&mut world, |_| true), 5);
    assert_eq!(world.number("SELECT count(*) FROM logs"), 510);
    assert_eq!(world.number("SELECT max(position) FROM logs"), 510);
    assert_eq!(world.number("SELECT count(*) FROM logs WHERE position > 500"), 10);
    assert_eq!(world.number("SELECT count(*) FROM logs WHERE timestamp < TIMESTAMP '2020-01-01T00:00:00Z'"), 0);
    let error = world.try_query("SELECT count(message) FROM logs").unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable, "{error}");
    assert!(error.to_string().contains("of the lake"), "{error}");
}

#[test]
fn the_newest_of_many_files_are_found_without_the_others() {
    let mut world = hours(200);
    for (order, sql) in [(Order::Newest, "DESC"), (Order::Oldest, "")] {
        let explained = text(&world, &format!("EXPLAIN ANALYZE SELECT * FROM logs ORDER BY timestamp {sql} LIMIT 50"));
        // Each partition opens one; how many more depends on who is first.
        let (read, skipped) = (shown(&explained, "files_read"), shown(&explained, "files_skipped"));
        assert!(read <= 4 && read + skipped == 200, "{explained}");
        // Through pages, keys and whole records both.
        let query = LogsQuery { limit: 50, order, ..LogsQuery::default() };
        let first = world.page(query.clone()).unwrap();
        let second = world.page(LogsQuery { cursor: first.next.clone(), ..query }).unwrap();
        assert_eq!((first.count, second.count), (50, 50));
    }
    // A file each end is enough for a page; threads may have begun with a second one.
    let middle =
        |file: &runstone_store::lake::LakeFile| (NOW + 4 * HOUR..NOW + 195 * HOUR).contains(&file.times().unwrap().0);
    assert!(remove(&mut world, middle) > 180);
    for order in [Order::Newest, Order::Oldest] {
        let page = world.page(LogsQuery { limit: 100, order, ..LogsQuery::default() }).unwrap();
        assert_eq!(page.count, 100);
    }
    let sql = "SELECT max(timestamp) AS latest FROM logs WHERE timestamp > TIMESTAMP '2025-11-28T00:00:00Z'";
    assert_eq!(world.column(sql), ["2025-11-28T19:00:00.099000Z"]);
}

#[test]
fn recent_records_fill_a_page_before_a_file_is_opened() {
    // Two threads share the recent records, and none of the two may get as many as the page has.
    let mut world = hours_on(1, 10);
    (10..14).for_each(|hour| world.push(lines(100, hour)));
    assert_eq!(remove(&mut world, |_| true), 10);
    let page = world.page(LogsQuery { limit: 150, ..LogsQuery::default() }).unwrap();
    assert_eq!(page.count, 150);
    assert_eq!(world.query("SELECT message FROM logs ORDER BY timestamp DESC LIMIT 300").rows.len(), 300);
}

#[test]
fn a_record_is_the_same_to_the_byte_wherever_it_is() {
    use proptest::strategy::{Strategy, ValueTree};
    let mut runner = proptest::test_runner::TestRunner::default();
    for _ in 0..6 {
        let batches = crate::world::batches().new_tree(&mut runner).unwrap().current();
        let mut bodies = Vec::new();
        for place in 0..4 {
            let mut world = World::new(if place == 1 { 0 } else { usize::MAX }, limits());
            batches.iter().for_each(|batch| world.push(batch.clone()));
            match place {
                2 => world.settle(world.last()),
                3 => world.settle(world.last() / 2),
                _ => {}
            }
            let mut body = Vec::new();
            let mut cursor: Option<Cursor> = None;
            loop {
                let page = world.page(LogsQuery { limit: 300, cursor, ..LogsQuery::default() }).unwrap();
                body.extend_from_slice(&page.records_json);
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
            }
            bodies.push(body);
        }
        let mut bodies = bodies.into_iter();
        let memory = bodies.next().unwrap();
        assert!(bodies.all(|body| body == memory));
    }
}

fn other(number: u32) -> String {
    format!("01980000-0000-7000-8000-0000000000{number:02x}/2")
}

#[test]
fn a_walk_over_several_journals_is_bounded_in_each() {
    let mut world = World::new(usize::MAX, limits());
    let batches: Vec<Batch> = (0..6).map(|seed| lines(50, seed)).collect();
    let rows = |batch: usize, first: u64| -> Vec<Row<'_>> {
        (0..50).map(|row| (first + row as u64, &batches[batch], row)).collect()
    };
    // The same positions in three journals; ours is in memory too.
    world.push(batches[0].clone());
    world.settle(30);
    let (one, two) = (other(0xa1), other(0xb2));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let shelf = world.shelf();
    runtime.block_on(shelf.flush(&one, &rows(1, 1)));
    runtime.block_on(shelf.flush(&two, &rows(2, 11)));
    let view = shelf.view();
    world.recent.settle(view, 30);
    let query = LogsQuery { limit: 40, order: Order::Oldest, ..LogsQuery::default() };
    let mut page = world.page(query.clone()).unwrap();
    let mut all: Vec<serde_json::Value> = serde_json::from_slice(&page.records_json).unwrap();
    // More comes in every journal, and a new one.
    world.push(lines(50, 7));
    let three = other(0xc3);
    let shelf = world.shelf();
    runtime.block_on(shelf.flush(&one, &rows(3, 51)));
    runtime.block_on(shelf.flush(&two, &rows(4, 61)));
    runtime.block_on(shelf.flush(&three, &rows(5, 1)));
    let view = shelf.view();
    world.recent.settle(view, 30);
    while let Some(cursor) = page.next.clone() {
        page = world.page(LogsQuery { cursor: Some(cursor), ..query.clone() }).unwrap();
        all.extend(serde_json::from_slice::<Vec<serde_json::Value>>(&page.records_json).unwrap());
    }
    let mut counts = std::collections::BTreeMap::new();
    for record in &all {
        *counts.entry(record["journal"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    let expected = [(JOURNAL.to_owned(), 50), (one.clone(), 50), (two.clone(), 50)];
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), expected);
    assert_eq!(world.number("SELECT count(*) FROM logs"), 50 * 7);
    // The message tells the batch: no record was taken for another at the same position.
    for record in &all {
        let seed = match record["journal"].as_str().unwrap() {
            JOURNAL => "of 0:",
            journal if journal == one => "of 1:",
            _ => "of 2:",
        };
        assert!(record["message"].as_str().unwrap().contains(seed), "{record}");
    }
}

/// What somebody else might have written: other text types, an own column, no column of messages.
fn foreign(rows: &[Row<'_>]) -> RecordBatch {
    let plain = table(JOURNAL, rows);
    let (mut fields, mut columns): (Vec<Field>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
    for (field, values) in plain.schema().fields().iter().zip(plain.columns()) {
        let kind = match field.name().as_str() {
            "message" | "title" => continue,
            "run_id" | "level" => DataType::LargeUtf8,
            "source_system" => DataType::Utf8View,
            "type" => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            "timestamp" => DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
            "ingested_at" => DataType::Timestamp(TimeUnit::Millisecond, None),
            _ => field.data_type().clone(),
        };
        columns.push(cast(values, &kind).unwrap());
        fields.push(Field::new(field.name(), kind, true));
    }
    fields.insert(3, Field::new("theirs", DataType::Utf8, true));
    columns.insert(3, Arc::new(StringArray::from(vec![Some("x"); rows.len()])));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

#[test]
fn files_of_other_writers_are_read_as_ours() {
    for with_stats in [false, true] {
        let mut world = World::new(usize::MAX, limits());
        world.push(lines(120, 0));
        world.push(lines(80, 1));
        let rows = rows_between(&world.batches, 0, 120);
        let stats = if with_stats { stats(JOURNAL, &rows) } else { FileStats::default() };
        let (table, mut stats) = (foreign(&rows), stats);
        stats.columns.retain(|column| !matches!(column.column, Column::Message | Column::Title));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let shelf = world.shelf();
        shelf.rows_per_group = 50;
        runtime.block_on(shelf.put_foreign(&table, stats, 20_412));
        let view = shelf.view();
        world.recent.settle(view, 120);
        assert_eq!(world.number("SELECT count(*) FROM logs"), 200);
        assert_eq!(world.positions("true"), (1..=200).collect::<Vec<_>>());
        assert_eq!(world.number("SELECT count(*) FROM logs WHERE message IS NULL"), 120);
        assert_eq!(world.number("SELECT count(*) FROM logs WHERE message = 'x'"), 0);
        assert_eq!(world.positions("run_id = 'run-0-3' AND level = 'INFO' AND position < 40"), [4, 14, 24, 34]);
        assert_eq!(world.positions("type = 'log' AND source_system = 'system-2' AND position < 10"), [3, 6, 9]);
        assert_eq!(world.positions("timestamp < TIMESTAMP '2025-11-20T12:00:00.003Z'"), [1, 2, 3]);
        assert_eq!(world.positions("metadata->>'rows' = '7' AND date = DATE '2025-11-20'"), [8, 128]);
        let kinds = world.query(
            "SELECT run_id, level, source_system, type, timestamp, ingested_at, date, message FROM logs LIMIT 1",
        );
        let kinds: Vec<_> = kinds.columns.iter().map(|column| column.kind.as_str()).collect();
        assert_eq!(kinds, ["text", "text", "text", "text", "timestamp", "timestamp", "date", "text"]);
        let page = world.page(LogsQuery { limit: 200, order: Order::Oldest, ..LogsQuery::default() }).unwrap();
        let records: Vec<serde_json::Value> = serde_json::from_slice(&page.records_json).unwrap();
        assert_eq!(records.len(), 200);
        assert_eq!(records[0]["timestamp"], "2025-11-20T12:00:00.000000Z");
        assert_eq!(records[0]["run_id"], "run-0-0");
        let half = world.page(LogsQuery { limit: 150, ..LogsQuery::default() }).unwrap();
        let rest = world.page(LogsQuery { limit: 150, cursor: half.next, ..LogsQuery::default() }).unwrap();
        assert_eq!((half.count, rest.count), (150, 50));
        let capped = world.query(
            "SELECT capabilities, array_length(capabilities) AS n FROM logs WHERE array_length(capabilities) > 1",
        );
        assert_eq!(capped.rows.len(), 0);
    }
}

#[test]
fn empty_lists_are_not_taken_for_missing_ones() {
    let mut world = World::new(usize::MAX, limits());
    world.push(lines(120, 0));
    world.push(lines(80, 1));
    let rows = rows_between(&world.batches, 0, 120);
    let plain = table(JOURNAL, &rows);
    let mut lists = ListBuilder::new(StringBuilder::new());
    rows.iter().for_each(|_| lists.append(true));
    let mut columns = plain.columns().to_vec();
    columns[Column::Capabilities.index()] = Arc::new(lists.finish());
    let table = RecordBatch::try_new(plain.schema(), columns).unwrap();
    // What a writer says that takes over what its Parquet file counts.
    let mut stats = stats(JOURNAL, &rows);
    let missing = ColumnStats { column: Column::Capabilities, least: None, greatest: None, nulls: Some(120) };
    stats.columns.push(missing);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let shelf = world.shelf();
    runtime.block_on(shelf.put_foreign(&table, stats, 20_412));
    let view = shelf.view();
    world.recent.settle(view, 120);
    assert_eq!(world.number("SELECT count(*) FROM logs WHERE capabilities IS NOT NULL"), 120);
    assert_eq!(world.number("SELECT count(*) FROM logs WHERE capabilities IS NULL"), 80);
    assert_eq!(world.number("SELECT count(capabilities) FROM logs"), 120);
    assert_eq!(world.number("SELECT count(*) FROM logs WHERE array_length(capabilities) > 0"), 0);
}

#[test]
fn a_flipped_bit_is_an_error_and_no_answer() {
    let mut world = hours(1);
    let shelf = world.shelf();
    let path = shelf.path(&shelf.lake.snapshot().files[0]);
    let sound = std::fs::read(&path).unwrap();
    let sums =
        "SELECT sum(position) AS p, max(timestamp) AS t, count(DISTINCT message) AS m, min(ingested_at) AS i FROM logs";
    let expected = text(&world, sums);
    // Where the columns lie. Each query waits a second for a newer version of the table.
    for at in [60, 700, 2_000] {
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&path, &bytes).unwrap();
        let error = world.try_query(sums).map(|answer| answer.rows).expect_err("a damaged file was read");
        assert_eq!(error.code(), ErrorCode::Unavailable, "{at}: {error}");
        assert!(error.to_string().contains("are not what was written"), "{at}: {error}");
    }
    std::fs::write(&path, sound).unwrap();
    assert_eq!(text(&world, sums), expected);
}
