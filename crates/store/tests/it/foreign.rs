//! Rows that another writer appended to the table, in an order and with numbers that are not ours: pages and exports have
//! each of them, in its place.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::{cast, concat_batches, nullif};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit, TimestampMicrosecondType};
use runstone_record::time::{Moment, format_micros};
use runstone_record::{Column, ErrorCode};
use runstone_store::lake::{Bound, ColumnStats, FileStats};
use runstone_store::{Cursor, Format, LogsQuery, Order};
use serde_json::Value;

use crate::exports::{export, objects};
use crate::shelf::{Row, table};
use crate::world::{JOURNAL, NOW, World, limits, lines};

const DAY: i32 = 20_412;
const ORDERS: [Order; 2] = [Order::Oldest, Order::Newest];

/// What orders a record, and tells it from all others.
type Place = (String, String, i64);

/// Rows of a journal at these positions and times.
fn rows(journal: &str, places: &[(i64, i64)]) -> RecordBatch {
    let batch = lines(places.len(), 0);
    let rows: Vec<Row<'_>> = (0..places.len()).map(|row| (0, &batch, row)).collect();
    let times = TimestampMicrosecondArray::from_iter_values(places.iter().map(|place| place.1)).with_timezone("UTC");
    let positions = Int64Array::from_iter_values(places.iter().map(|place| place.0));
    let table = with(&table(journal, &rows), Column::Position, Arc::new(positions));
    with(&table, Column::Timestamp, Arc::new(times))
}

/// The same rows with other values in a column.
fn with(rows: &RecordBatch, column: Column, values: ArrayRef) -> RecordBatch {
    let (mut fields, mut columns) = (rows.schema().fields().to_vec(), rows.columns().to_vec());
    fields[column.index()] = Arc::new(Field::new(column.name(), values.data_type().clone(), true));
    columns[column.index()] = values;
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn joined(parts: &[RecordBatch]) -> RecordBatch {
    concat_batches(&parts[0].schema(), parts).unwrap()
}

/// The bounds of a file's rows that are all of one journal.
fn stats(rows: &RecordBatch) -> FileStats {
    let of = |column, least, greatest| ColumnStats { column, least, greatest, nulls: Some(0) };
    let ints = |column, values: &[i64]| {
        of(column, values.iter().min().copied().map(Bound::Int), values.iter().max().copied().map(Bound::Int))
    };
    let journal = Some(Bound::Text(rows["journal"].as_string::<i32>().value(0).to_owned()));
    let positions = ints(Column::Position, rows["position"].as_primitive::<Int64Type>().values());
    let times = ints(Column::Timestamp, rows["timestamp"].as_primitive::<TimestampMicrosecondType>().values());
    let columns = vec![of(Column::Journal, journal.clone(), journal), positions, times];
    FileStats { rows: Some(rows.num_rows() as u64), columns }
}

/// Commits a file with these rows.
fn append(world: &mut World, rows: &RecordBatch, rows_per_group: usize, stats: FileStats) {
    world.shelf().rows_per_group = rows_per_group;
    let shelf = world.shelf.as_ref().unwrap();
    world.wait(shelf.put_foreign(rows, stats, DAY));
    world.recent.settle(shelf.view(), world.recent.stats().settled);
}

fn place(record: &Value) -> Place {
    let text = |name: &str| record[name].as_str().unwrap().to_owned();
    (text("timestamp"), text("journal"), record["position"].as_i64().unwrap())
}

/// The places of all rows in the order of a walk.
fn places(rows: &[RecordBatch], order: Order) -> Vec<Place> {
    let mut all: Vec<Place> = Vec::new();
    for rows in rows {
        let times = rows["timestamp"].as_primitive::<TimestampMicrosecondType>();
        let (journals, positions) = (rows["journal"].as_string::<i32>(), rows["position"].as_primitive::<Int64Type>());
        let place = |row| (format_micros(times.value(row)), journals.value(row).to_owned(), positions.value(row));
        all.extend((0..rows.num_rows()).map(place));
    }
    all.sort();
    if order == Order::Newest {
        all.reverse();
    }
    all
}

/// Walks to the end, through the text of each cursor.
fn walk(world: &World, query: &LogsQuery) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), query.cursor.clone());
    loop {
        let page = world.page(LogsQuery { cursor, ..query.clone() }).unwrap();
        let records: Vec<Value> = serde_json::from_slice(&page.records_json).unwrap();
        assert_eq!(records.len(), page.count);
        all.extend(records);
        let Some(next) = page.next else { return all };
        cursor = Some(Cursor::decode(&next.encode()).unwrap());
    }
}

/// Pages of several sizes and exports, in both orders, have exactly these rows.
fn assert_found(world: &World, query: &LogsQuery, rows: &[RecordBatch]) {
    for order in ORDERS {
        let expected = places(rows, order);
        for limit in [1_000, expected.len() / 3 + 1] {
            let walked = walk(world, &LogsQuery { order, limit, ..query.clone() });
            assert_eq!(walked.iter().map(place).collect::<Vec<_>>(), expected, "{order:?}, {limit} a page");
        }
        let exported = export(world, &LogsQuery { order, ..query.clone() }, None, Format::Ndjson).unwrap();
        assert_eq!(objects(&exported).iter().map(place).collect::<Vec<_>>(), expected, "{order:?}, exported");
    }
}

#[test]
fn a_page_has_the_rows_of_two_journals_with_the_same_positions_and_times() {
    let places: Vec<(i64, i64)> = (1..=100).map(|position| (position, NOW + position / 10)).collect();
    let both = joined(&[rows("one", &places), rows("two", &places)]);
    // Read one after the other, where there are many row groups, and beside each other.
    for rows_per_group in [10, 40, 200] {
        let mut world = World::new(usize::MAX, limits());
        append(&mut world, &both, rows_per_group, FileStats::default());
        assert_found(&world, &LogsQuery::default(), std::slice::from_ref(&both));
    }
}

#[test]
fn a_row_that_is_there_twice_takes_no_other_rows_place() {
    let places: Vec<(i64, i64)> = (1..=100).map(|position| (position, NOW + position)).collect();
    let all = rows("one", &places);
    let last = all.slice(99, 1);
    let file = joined(&[vec![last.clone(); 20], vec![all.clone()]].concat());
    let mut world = World::new(usize::MAX, limits());
    append(&mut world, &file, 10, FileStats::default());
    let page = world.page(LogsQuery { order: Order::Oldest, limit: 100, ..LogsQuery::default() }).unwrap();
    let records: Vec<Value> = serde_json::from_slice(&page.records_json).unwrap();
    let found: Vec<Place> = records.iter().map(place).collect();
    assert_eq!(found, self::places(&[all], Order::Oldest));
}

#[test]
fn times_in_other_units_leave_no_row_group_out() {
    // A clock that was not set yet: in nanoseconds such a group seems to hold every time, and the others none.
    let times = |position: i64| if position % 40 == 0 && position < 80 { 0 } else { NOW + position };
    let places: Vec<(i64, i64)> = (0..200).map(|position| (position, times(position))).collect();
    let plain = rows("one", &places);
    for unit in [TimeUnit::Nanosecond, TimeUnit::Microsecond, TimeUnit::Millisecond] {
        let kind = DataType::Timestamp(unit, Some("UTC".into()));
        let theirs = with(&plain, Column::Timestamp, cast(&plain["timestamp"], &kind).unwrap());
        let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let expected = with(&plain, Column::Timestamp, cast(&theirs["timestamp"], &micros).unwrap());
        let mut world = World::new(usize::MAX, limits());
        append(&mut world, &theirs, 40, FileStats::default());
        assert_found(&world, &LogsQuery::default(), std::slice::from_ref(&expected));
        let since = LogsQuery { since: Some(Moment::at(0)), until: Some(Moment::at(NOW * 2)), ..LogsQuery::default() };
        assert_found(&world, &since, &[expected]);
    }
}

#[test]
fn any_position_of_another_writer_is_one() {
    let at_once = |positions: &[i64]| -> Vec<(i64, i64)> { positions.iter().map(|at| (*at, NOW)).collect() };
    let below: Vec<i64> = (-20..=20).collect();
    let files = [
        rows("theirs", &at_once(&below)),
        rows("theirs", &at_once(&[21, 22])),
        rows("others", &at_once(&[i64::MIN, -1, 0, 1, i64::MAX])),
        rows(JOURNAL, &at_once(&[-7, -1])),
    ];
    for with_stats in [false, true] {
        let tiny = runstone_store::SqlLimits { export_slice_bytes: 500, ..limits() };
        let mut world = World::new(usize::MAX, tiny);
        for rows in &files {
            append(&mut world, rows, 30, if with_stats { stats(rows) } else { FileStats::default() });
        }
        assert_found(&world, &LogsQuery::default(), &files);
        let after = LogsQuery { since: Some(Moment::at(NOW)), ..LogsQuery::default() };
        assert_found(&world, &after, &files);
    }
}

#[test]
fn a_walk_over_a_file_that_begins_below_zero_goes_to_its_end_and_no_further() {
    let at_once = |positions: &[i64]| -> Vec<(i64, i64)> { positions.iter().map(|at| (*at, NOW)).collect() };
    let files =
        [rows("theirs", &at_once(&[-3, -2, -1, 0, 1, 6, 7, 8, 9, 10])), rows("theirs", &at_once(&[2, 3, 4, 5]))];
    for order in ORDERS {
        let mut world = World::new(usize::MAX, limits());
        files.iter().for_each(|rows| append(&mut world, rows, 4, stats(rows)));
        let query = LogsQuery { order, limit: 5, ..LogsQuery::default() };
        let first = world.page(query.clone()).unwrap();
        let later = rows("theirs", &at_once(&[11, 12]));
        append(&mut world, &later, 4, stats(&later));
        let rest = walk(&world, &LogsQuery { cursor: first.next, ..query });
        let found: Vec<Place> = rest.iter().map(place).collect();
        assert_eq!(found, places(&files, order)[5..], "{order:?}");
    }
}

#[test]
fn a_walk_has_the_rows_that_stand_in_a_file_of_several_journals() {
    let at_once = |positions: std::ops::Range<i64>| -> Vec<(i64, i64)> { positions.map(|at| (at, NOW)).collect() };
    let (plain, more) = (rows("one", &at_once(1..9)), rows("one", &at_once(9..18)));
    let mixed = joined(&[more, rows("two", &at_once(1..5))]);
    let mut with_bounds = stats(&mixed);
    with_bounds.columns[0].greatest = Some(Bound::Text("two".to_owned()));
    for stats_of_mixed in [with_bounds, FileStats::default()] {
        let mut world = World::new(usize::MAX, limits());
        append(&mut world, &plain, 30, stats(&plain));
        append(&mut world, &mixed, 30, stats_of_mixed);
        assert_found(&world, &LogsQuery::default(), &[plain.clone(), mixed.clone()]);
    }
}

#[test]
fn a_row_without_what_every_row_must_have_is_said_with_its_file() {
    let places: Vec<(i64, i64)> = (1..=50).map(|position| (position, NOW + position)).collect();
    let all = rows("theirs", &places);
    for column in [Column::Position, Column::Journal, Column::Timestamp] {
        let lacking = BooleanArray::from_iter((0..50).map(|row| Some(row == 3)));
        let theirs = with(&all, column, nullif(&all[column.name()], &lacking).unwrap());
        let mut world = World::new(usize::MAX, limits());
        append(&mut world, &theirs, 30, stats(&all));
        let error = world.page(LogsQuery { limit: 100, ..LogsQuery::default() }).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unavailable, "{error}");
        let text = error.to_string();
        assert!(text.contains(".parquet of the lake") && text.contains(column.name()), "{text}");
    }
}
