//! Pages of logs: walks in both directions, cursors, filters.

use proptest::prelude::*;
use runstone_record::time::Moment;
use runstone_record::{Column, ErrorCode, Level};
use runstone_store::{Cursor, LogsQuery, Order};
use serde_json::Value;

use crate::model::{Row, rows};
use crate::world::{JOURNAL, NOW, World, batches, limits, lines};

fn records(page: &runstone_store::LogsPage) -> Vec<Value> {
    serde_json::from_slice(&page.records_json).unwrap()
}

/// Walks to the end, adding a batch after the first page: it must not be seen.
fn walk(world: &mut World, query: &LogsQuery) -> Vec<Value> {
    let (mut all, mut cursor, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = world.page(LogsQuery { cursor: cursor.take(), ..query.clone() }).unwrap();
        let records = records(&page);
        assert_eq!(records.len(), page.count);
        all.extend(records);
        if pages == 0 {
            world.push(lines(20, 77));
        }
        pages += 1;
        match page.next {
            // Through its text, as a client would.
            Some(next) => cursor = Some(Cursor::decode(&next.encode()).unwrap()),
            None => return all,
        }
    }
}

pub(crate) fn expected(rows: &[Row<'_>], query: &LogsQuery) -> Vec<Value> {
    let mut kept: Vec<_> = rows
        .iter()
        .filter(|(_, batch, row)| {
            let text = |column| batch.text(column, *row);
            let at = batch.timestamp(*row);
            let level = text(Column::Level).and_then(Level::from_text);
            query.equals.iter().all(|(column, value)| text(*column) == Some(value.as_str()))
                && query.min_level.is_none_or(|least| level.is_some_and(|level| level >= least))
                && query.since.is_none_or(|since| at >= since.micros())
                && query.until.is_none_or(|until| at < until.micros())
                && query.contains.iter().all(|part| {
                    let has =
                        |column| text(column).is_some_and(|text| text.to_lowercase().contains(&part.to_lowercase()));
                    has(Column::Message) || has(Column::Title) || has(Column::Exception)
                })
                && query.metadata.iter().all(|(key, value)| has_member(text(Column::Metadata), key, value))
        })
        .map(|(at, batch, row)| (batch.timestamp(*row), *at, *batch, *row))
        .collect();
    kept.sort_by_key(|(time, at, ..)| (*time, *at));
    if query.order == Order::Newest {
        kept.reverse();
    }
    kept.into_iter()
        .map(|(_, at, batch, row)| {
            let mut json = Vec::new();
            batch.write_json(row, JOURNAL, at, &mut json);
            serde_json::from_slice(&json).unwrap()
        })
        .collect()
}

fn has_member(metadata: Option<&str>, key: &str, value: &str) -> bool {
    let Some(metadata) = metadata.map(|text| serde_json::from_str::<Value>(text).unwrap()) else { return false };
    let nested = key.split('.').try_fold(&metadata, |value, step| value.get(step));
    [metadata.get(key), nested].into_iter().flatten().any(|found| match found {
        Value::Null => false,
        Value::String(text) => text == value,
        other => serde_json::to_string(other).is_ok_and(|text| text == value),
    })
}

pub(crate) fn query() -> impl Strategy<Value = LogsQuery> {
    let system = prop::option::of(prop::sample::select(&["spark", "Etl_1%", "Etl", "' OR 1=1--"][..]));
    let part = prop::collection::vec(
        prop::sample::select(&["hello", "100%", "_", "\\", "%", "ZÜRICH", "\"", "' or"][..]),
        0..3,
    );
    let level = prop::option::of(prop::sample::select(Level::ALL));
    let bound = || prop::option::of((NOW - 30..NOW + 30).prop_map(Moment::at));
    let member = prop::sample::select(&[("a", "1"), ("a", "x"), ("a", "100%"), ("b.c", "1"), ("a", "")][..]);
    let members = prop::collection::vec(member, 0..2);
    (system, part, members, level, bound(), bound(), any::<bool>(), 1..60_usize).prop_map(
        |(system, part, members, min_level, since, until, oldest, limit)| LogsQuery {
            equals: system.map(|system| (Column::SourceSystem, system.to_owned())).into_iter().collect(),
            any_of: Vec::new(),
            min_level,
            since,
            until,
            metadata: members.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            contains: part.into_iter().map(str::to_owned).collect(),
            order: if oldest { Order::Oldest } else { Order::Newest },
            limit,
            cursor: None,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_walk_gives_every_record_once_and_in_order(
        batches in batches(), query in query(), evicting: bool, seam in prop::option::of(0.0..=1.0_f64),
    ) {
        let mut world = World::new(if evicting { 20_000 } else { usize::MAX }, limits());
        batches.into_iter().for_each(|batch| world.push(batch));
        if let Some(share) = seam {
            world.settle((share * world.last() as f64) as u64);
        }
        for query in [query.clone(), LogsQuery { limit: 700, order: query.order, ..LogsQuery::default() }] {
            let before = world.batches.len();
            let expected = expected(&rows(&world), &query);
            let walked = walk(&mut world, &query);
            prop_assert_eq!(walked, expected);
            prop_assert_eq!(world.batches.len(), before + 1);
        }
    }
}

#[test]
fn an_id_finds_its_record_and_a_run_its_records() {
    let mut world = World::new(usize::MAX, limits());
    world.push(lines(100, 1));
    world.push(lines(100, 2));
    let id = world.batches[1].1.ids().get(42).to_string();
    for (column, text, count) in [
        (Column::Id, id.as_str(), 1),
        (Column::RunId, "run-2-3", 10),
        (Column::Type, "log", 100),
        (Column::Type, "LOG", 0),
    ] {
        let page =
            world.page(LogsQuery { equals: vec![(column, text.to_owned())], limit: 100, ..LogsQuery::default() });
        assert_eq!(page.unwrap().count, count, "{}={text}", column.name());
    }
}

#[test]
fn a_cursor_belongs_to_its_query() {
    let mut world = World::new(usize::MAX, limits());
    world.push(lines(10, 1));
    let query = LogsQuery { limit: 3, since: Some(Moment::at(0)), ..LogsQuery::default() };
    let next = world.page(query.clone()).unwrap().next;
    assert!(next.is_some());
    let other = LogsQuery { cursor: next.clone(), until: Some(Moment::at(NOW * 2)), ..query.clone() };
    let error = world.page(other).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidParameter, "{error}");
    // Another page size is the same walk.
    let rest = world.page(LogsQuery { cursor: next, limit: 100, ..query.clone() }).unwrap();
    assert_eq!((rest.count, rest.next), (7, None));
    for text in ["", "x", "AAAA", "\u{0}", "ÄÖ", &"A".repeat(5_000)] {
        if let Ok(cursor) = Cursor::decode(text) {
            let page = world.page(LogsQuery { cursor: Some(cursor), ..query.clone() });
            assert_eq!(page.unwrap_err().code(), ErrorCode::InvalidParameter, "{text}");
        }
    }
}

#[test]
fn a_time_that_moves_with_the_clock_stands_still_in_a_walk() {
    let mut world = World::new(usize::MAX, limits());
    world.push(lines(10, 1));
    let all = world.page(LogsQuery { limit: 100, ..LogsQuery::default() }).unwrap();
    let times: Vec<i64> = records(&all)
        .iter()
        .map(|record| runstone_record::time::parse_rfc3339(record["timestamp"].as_str().unwrap()).unwrap())
        .collect();
    let (newest, oldest) = (times[0], times[9]);
    let ago = |now: i64| Moment::parse("-1h", now);
    // First all ten are younger than an hour; when the next page is asked for, none is.
    let asked = |now| LogsQuery { limit: 4, since: ago(now), until: Moment::parse("now", now), ..LogsQuery::default() };
    let now = newest + 1;
    assert!(oldest > now - 3_600_000_000);
    let mut page = world.page(asked(now)).unwrap();
    let mut count = page.count;
    for later in 1..3 {
        let cursor = Cursor::decode(&page.next.unwrap().encode()).unwrap();
        page = world.page(LogsQuery { cursor: Some(cursor), ..asked(now + later * 7_200_000_000) }).unwrap();
        count += page.count;
    }
    assert_eq!((count, page.next), (10, None));
    let cursor = world.page(asked(now)).unwrap().next;
    for since in [Moment::parse("-2h", now), Some(Moment::at(now - 3_600_000_000)), None] {
        let error = world.page(LogsQuery { cursor: cursor.clone(), since, ..asked(now) }).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidParameter, "{since:?}");
    }
}

#[test]
fn a_page_refuses_what_it_cannot_do() {
    let world = World::new(usize::MAX, limits());
    for query in [
        LogsQuery { limit: 0, ..LogsQuery::default() },
        LogsQuery { limit: 1_001, ..LogsQuery::default() },
        LogsQuery { limit: 1, equals: vec![(Column::RowCount, "1".to_owned())], ..LogsQuery::default() },
    ] {
        assert_eq!(world.page(query).unwrap_err().code(), ErrorCode::InvalidParameter);
    }
    let empty = world.page(LogsQuery { limit: 1, ..LogsQuery::default() }).unwrap();
    assert_eq!(empty.into_body(), b"{\"records\":[],\"next\":null}");
}

#[test]
fn a_page_of_large_records_ends_early_and_the_walk_goes_on() {
    let mut world = World::new(usize::MAX, limits());
    let message = "x".repeat(200_000);
    let lines: Vec<String> = (0..120)
        .map(|second| {
            format!(r#"{{"message":"{message}","timestamp":"2026-01-01T00:{:02}:{:02}Z"}}"#, second / 60, second % 60)
        })
        .collect();
    let parsed = runstone_record::parse::ndjson(lines.join("\n").as_bytes()).unwrap();
    world.push(parsed.builder.stamp(&mut runstone_record::IdMint::new(1, 1), 1, None));
    let query = LogsQuery { limit: 120, ..LogsQuery::default() };
    let first = world.page(query.clone()).unwrap();
    let most = runstone_record::limits::PAGE_BYTES_MAX;
    assert!(first.records_json.len() < most + 201_000, "{}", first.records_json.len());
    assert!(first.count < 120 && first.next.is_some());
    let walked = walk(&mut world, &query);
    assert_eq!(walked.len(), 120);
    let times: Vec<_> = walked.iter().map(|record| record["timestamp"].as_str().unwrap().to_owned()).collect();
    assert!(times.is_sorted_by(|later, earlier| later > earlier), "{times:?}");
}
