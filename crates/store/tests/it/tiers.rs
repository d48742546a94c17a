//! Memory: merging, eviction, accounting, and reading back.

use std::sync::Arc;

use runstone_record::ErrorCode;
use runstone_record::bits::Bits;
use runstone_store::{LogsQuery, Order, PushError, RecentStats};

use crate::world::{JOURNAL, Lost, Runs, World, limits, lines};

#[test]
fn small_frames_become_few_chunks() {
    let mut world = World::new(usize::MAX, limits());
    let mut most = 0;
    for seed in 0..3_000 {
        world.push(lines(1, seed));
        most = most.max(world.recent.stats().chunks);
    }
    assert!(most <= 3 * 16, "{most} chunks");
    assert_eq!(world.recent.stats().records, 3_000);
    let ids: Vec<_> =
        world.batches.iter().map(|(_, batch)| serde_json::json!(batch.ids().get(0).to_string())).collect();
    assert_eq!(world.column("SELECT id FROM logs ORDER BY position"), ids);
    assert_eq!(world.number("SELECT count(DISTINCT ingested_at) FROM logs"), 1_501);
    assert_eq!(world.number("SELECT max(position) FROM logs"), 3_000);
}

#[test]
fn merged_chunks_take_little_more_than_their_values() {
    let mut small = World::new(usize::MAX, limits());
    (0..512).for_each(|seed| small.push(lines(16, seed % 8)));
    let bytes = small.recent.stats().bytes;
    // Message and metadata are about 50 bytes a record, the other columns below 40.
    assert!((8_192 * 60..8_192 * 130).contains(&bytes), "{bytes} bytes for 8,192 records");
}

#[test]
fn memory_is_bounded_and_nothing_is_lost() {
    let mut world = World::new(200_000, limits());
    for seed in 0..400 {
        world.push(lines(25, seed));
        let stats = world.recent.stats();
        assert!(stats.bytes <= 200_000, "{stats:?}");
        assert_eq!(stats.records + stats.evicted, (seed + 1) * 25);
    }
    let stats = world.recent.stats();
    assert!(stats.records > 0 && stats.evicted > 5_000, "{stats:?}");
    assert_eq!(world.number("SELECT count(*) FROM logs"), 10_000);
    assert_eq!(world.number("SELECT count(DISTINCT id) FROM logs"), 10_000);
    assert_eq!(world.number("SELECT sum(position) FROM logs"), 10_000 * 10_001 / 2);
    assert_eq!(world.positions("run_id = 'run-3-4'"), [80, 90, 100]);
}

#[test]
fn older_frames_are_read_only_where_their_times_may_match() {
    let mut world = World::new(0, limits());
    (0..5).for_each(|seed| world.push(lines(40_000, seed)));
    let explained = world.query("EXPLAIN SELECT message FROM logs WHERE timestamp < TIMESTAMP '2025-11-20T12:10:00Z'");
    let text = serde_json::to_string(&explained.rows).unwrap();
    assert!(text.contains("chunks=0, older_ranges=1, pruned=4"), "{text}");
    let explained = world.query("EXPLAIN SELECT message FROM logs WHERE position > 160000");
    let text = serde_json::to_string(&explained.rows).unwrap();
    assert!(text.contains("older_ranges=1, pruned=4"), "{text}");
}

#[test]
fn the_latest_records_are_found_without_reading_the_others() {
    let mut world = World::new(0, limits());
    (0..8).for_each(|seed| world.push(lines(40_000, seed)));
    let sql = "EXPLAIN ANALYZE SELECT * FROM logs ORDER BY timestamp DESC LIMIT 10";
    let text = serde_json::to_string(&world.query(sql).rows).unwrap();
    // Each of the two partitions reads one of its four ranges; how many more depends on who is first.
    let skipped = text.split("chunks_skipped=").nth(1).and_then(|rest| rest.split([',', ']']).next());
    assert!(skipped.unwrap().parse::<u32>().unwrap() >= 4, "{text}");
}

#[test]
fn counting_and_the_latest_time_read_nothing() {
    let mut world = World::with(0, limits(), Arc::new(Lost), Arc::default(), Runs::default());
    world.push(lines(1_000, 1));
    // Every record is out of reach: only what is known without reading can be answered.
    assert_eq!(world.number("SELECT count(*) FROM logs"), 1_000);
    assert_eq!(world.number("SELECT max(position) FROM logs"), 1_000);
    let error = world.try_query("SELECT count(message) FROM logs").unwrap_err();
    assert_eq!(error.code(), ErrorCode::Internal, "{error}");
    assert!(error.to_string().contains("position 1 of journal"), "{error}");
}

#[test]
fn ranges_may_begin_and_end_inside_a_frame() {
    let world = World::new(0, limits());
    let whole = lines(100, 1);
    world.journal.put(1, &whole);
    for rows in [0..40, 60..100] {
        let mut keep = Bits::filled(100, false);
        rows.clone().for_each(|row| keep.set(row, true));
        world.recent.push(JOURNAL, rows.start as u64 + 1, whole.filter(&keep)).unwrap();
    }
    let expected: Vec<u64> = (1..=40).chain(61..=100).collect();
    assert_eq!(world.positions("true"), expected);
    assert_eq!(world.positions("message LIKE 'line %0 of 1%'").len(), 8);
    let page = world.page(LogsQuery { limit: 100, order: Order::Oldest, ..LogsQuery::default() }).unwrap();
    let records: Vec<serde_json::Value> = serde_json::from_slice(&page.records_json).unwrap();
    let positions: Vec<u64> = records.iter().map(|record| record["position"].as_u64().unwrap()).collect();
    assert_eq!(positions, expected);
}

#[test]
fn frames_come_in_order() {
    let mut world = World::new(usize::MAX, limits());
    world.push(lines(10, 1));
    let error = world.recent.push(JOURNAL, 10, lines(1, 2)).unwrap_err();
    assert!(matches!(error, PushError::Order { first: 10, through: 10 }), "{error}");
    assert_eq!(world.recent.through(), 10);
    // A gap is a place where nothing is: chunks on both sides of it stay apart.
    world.recent.push(JOURNAL, 100, lines(1, 2)).unwrap();
    assert_eq!(world.recent.through(), 100);
    assert_eq!(world.positions("position > 9"), [10, 100]);
    assert_eq!(
        world.recent.stats(),
        RecentStats { bytes: world.recent.stats().bytes, chunks: 2, records: 11, evicted: 0, through: 100, settled: 0 }
    );
}

#[test]
fn a_query_sees_one_moment() {
    let mut world = World::new(usize::MAX, limits());
    world.push(lines(10, 1));
    let query = world.sql.query("SELECT count(*) AS a, (SELECT count(*) FROM logs) AS b FROM logs l");
    let answer = world.wait(query).unwrap();
    assert_eq!(answer.rows_json, br#"[{"a":10,"b":10}]"#);
}
