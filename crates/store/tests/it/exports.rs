//! Streamed answers: the same records as a walk's pages and the same rows as an answer, in every format, however little of
//! them may be in memory at once; and how they break off.

use std::io::Cursor;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::ipc::reader::StreamReader;
use bytes::Bytes;
use futures::future::{Either, select};
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use runstone_record::Column;
use runstone_record::time::Moment;
use runstone_store::{Format, LogsQuery, Order, QueryError, Question};
use serde_json::Value;

use crate::model::rows;
use crate::pages::{expected, query};
use crate::world::{NOW, World, batches, limits, lines};

pub(crate) fn export(
    world: &World,
    query: &LogsQuery,
    limit: Option<u64>,
    format: Format,
) -> Result<Vec<u8>, QueryError> {
    world.wait(async {
        let pieces = world.sql.export(query.clone(), limit, format).await?;
        pieces.map_ok(|piece| piece.to_vec()).try_concat().await
    })
}

fn stream(world: &World, sql: &str, format: Format) -> Result<Vec<u8>, QueryError> {
    world.wait(async {
        let pieces = world.sql.stream(sql, format).await?;
        pieces.map_ok(|piece| piece.to_vec()).try_concat().await
    })
}

pub(crate) fn objects(lines: &[u8]) -> Vec<Value> {
    let text = str::from_utf8(lines).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn parquet(file: Vec<u8>) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file)).unwrap().build().unwrap();
    reader.map(Result::unwrap).collect()
}

fn arrow(stream: Vec<u8>) -> Vec<RecordBatch> {
    StreamReader::try_new(Cursor::new(stream), None).unwrap().map(Result::unwrap).collect()
}

fn positions(batches: &[RecordBatch]) -> Vec<i64> {
    let column = |batch: &RecordBatch| batch.column(Column::Position.index()).as_primitive::<Int64Type>().clone();
    batches.iter().flat_map(|batch| column(batch).values().to_vec()).collect()
}

fn csv(text: &[u8]) -> Vec<csv::StringRecord> {
    csv::Reader::from_reader(text).records().map(Result::unwrap).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn an_export_gives_what_all_pages_give_in_every_format(
        batches in batches(), mut query in query(), evicting: bool, seam in prop::option::of(0.0..=1.0_f64),
        slice_bytes in prop::sample::select(&[500_usize, 5_000, 30_000, 16 << 20][..]), limit in 1..40_u64,
    ) {
        let limits = runstone_store::SqlLimits { export_slice_bytes: slice_bytes, ..limits() };
        let mut world = World::new(if evicting { 20_000 } else { usize::MAX }, limits);
        batches.into_iter().for_each(|batch| world.push(batch));
        if let Some(share) = seam {
            world.settle((share * world.last() as f64) as u64);
        }
        for query in [query.clone(), LogsQuery { order: query.order, ..LogsQuery::default() }] {
            let all = expected(&rows(&world), &query);
            prop_assert_eq!(&objects(&export(&world, &query, None, Format::Ndjson).unwrap()), &all);
            let first = &all[..all.len().min(usize::try_from(limit).unwrap())];
            prop_assert_eq!(objects(&export(&world, &query, Some(limit), Format::Ndjson).unwrap()), first);
        }
        let all = expected(&rows(&world), &query);
        let places: Vec<i64> = all.iter().map(|record| record["position"].as_i64().unwrap()).collect();
        prop_assert_eq!(&positions(&parquet(export(&world, &query, None, Format::Parquet).unwrap())), &places);
        prop_assert_eq!(&positions(&arrow(export(&world, &query, None, Format::Arrow).unwrap())), &places);
        let records = csv(&export(&world, &query, None, Format::Csv).unwrap());
        let found: Vec<i64> = records.iter().map(|line| line[Column::Position.index()].parse().unwrap()).collect();
        prop_assert_eq!(&found, &places);
        // From a cursor on: without what came after its page, and without the page.
        let page = world.page(query.clone()).unwrap();
        world.push(lines(20, 77));
        if let Some(next) = page.next {
            query.cursor = Some(next);
            let rest = objects(&export(&world, &query, None, Format::Ndjson).unwrap());
            prop_assert_eq!(rest, &all[page.count..]);
        }
    }
}

#[test]
fn rows_are_those_of_the_answer_in_json() {
    let mut world = World::new(usize::MAX, limits());
    world.push(lines(300, 1));
    let sql = "SELECT *, metadata->'rows' AS json, metadata->'none' AS nothing, now() - now() AS span, \
               [position, NULL] AS list, level AS word, 1.5::decimal(9,2) AS dec, \
               position AS \"=position\", array_agg(metadata->'rows') OVER (PARTITION BY position) AS deep \
               FROM logs ORDER BY position";
    let answer = world.query(sql);
    let names: Vec<&str> = answer.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(objects(&stream(&world, sql, Format::Ndjson).unwrap()), answer.rows);
    for batches in
        [parquet(stream(&world, sql, Format::Parquet).unwrap()), arrow(stream(&world, sql, Format::Arrow).unwrap())]
    {
        let schema = batches[0].schema();
        assert_eq!(schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), names);
        assert_eq!(positions(&batches), (1..=300).collect::<Vec<_>>());
        let texts = |name: &str| batches[0].column_by_name(name).unwrap().as_string::<i32>().clone();
        assert_eq!((texts("json").value(7), texts("word").value(0), texts("deep").value(7)), ("7", "ERROR", "[7]"));
        assert!(texts("nothing").iter().all(|text| text.is_none()));
    }
    let twice = "SELECT a.position, b.position FROM logs a JOIN logs b ON a.position = b.position";
    let schema = parquet(stream(&world, twice, Format::Parquet).unwrap())[0].schema();
    assert_eq!((schema.field(0).name().as_str(), schema.field(1).name().as_str()), ("position", "position_2"));
    let text = stream(&world, sql, Format::Csv).unwrap();
    let header = str::from_utf8(&text).unwrap().split("\r\n").next().unwrap();
    assert_eq!(header, names.join(",").replace("=position", "'=position"));
    let lines = csv(&text);
    let of = |name: &str| names.iter().position(|known| *known == name).unwrap();
    assert_eq!((&lines[7][of("list")], &lines[7][of("dec")], &lines[7][of("nothing")]), ("[8,null]", "1.50", ""));
    assert_eq!(&lines[7][of("timestamp")], answer.rows[7]["timestamp"].as_str().unwrap());
}

#[test]
fn no_rows_are_a_whole_answer_too() {
    let world = World::new(usize::MAX, limits());
    let query = LogsQuery::default();
    assert_eq!(export(&world, &query, None, Format::Ndjson).unwrap(), b"");
    assert_eq!(csv(&export(&world, &query, None, Format::Csv).unwrap()).len(), 0);
    assert_eq!(positions(&parquet(export(&world, &query, Some(5), Format::Parquet).unwrap())), [0_i64; 0]);
    assert_eq!(positions(&arrow(export(&world, &query, None, Format::Arrow).unwrap())), [0_i64; 0]);
    let question = Question { max_rows: Some(5), ..Question::from("SELECT 1 AS n") };
    let rows = world.wait(async { world.sql.stream(question, Format::Ndjson).await?.try_collect::<Vec<_>>().await });
    assert_eq!(rows.unwrap().concat(), b"{\"n\":1}\n");
}

#[test]
fn what_fails_before_the_first_row_is_an_error_and_later_it_ends_the_stream_with_one() {
    let mut world = World::new(usize::MAX, limits());
    for seed in 0..8 {
        world.push(lines(8_192, seed));
    }
    assert!(matches!(stream(&world, "SELECT nothing FROM logs", Format::Csv), Err(QueryError::Invalid(_))));
    assert!(matches!(stream(&world, "SELECT 1/0 FROM logs", Format::Csv), Err(QueryError::Failed(_))));
    let late = "SELECT message, 1 / (position - 10) AS late FROM logs";
    for format in [Format::Ndjson, Format::Csv, Format::Parquet, Format::Arrow] {
        let mut pieces = match world.wait(world.sql.stream(late, format)) {
            Ok(pieces) => pieces,
            // A short answer is looked at to its end before it is begun.
            Err(error) => {
                assert!(
                    matches!((&error, format), (QueryError::Failed(_), Format::Parquet | Format::Arrow)),
                    "{error}"
                );
                continue;
            }
        };
        let error = world.wait(async {
            while let Some(piece) = pieces.next().await {
                if let Err(error) = piece {
                    return Some(error);
                }
            }
            None
        });
        assert!(matches!(error, Some(QueryError::Failed(_))), "{format:?}: {error:?}");
        assert!(world.wait(pieces.next()).is_none(), "nothing comes after an error");
    }
    let mut wrong = LogsQuery { order: Order::Oldest, since: Some(Moment::at(NOW)), ..LogsQuery::default() };
    assert!(matches!(export(&world, &wrong, Some(0), Format::Csv), Err(QueryError::Parameter(_))));
    wrong.equals.push((Column::Position, "1".to_owned()));
    assert!(matches!(export(&world, &wrong, None, Format::Csv), Err(QueryError::Parameter(_))));
}

#[test]
fn exports_have_few_places_of_their_own_and_give_them_back_when_nobody_reads() {
    let mut world = World::new(usize::MAX, limits());
    for seed in 0..8 {
        world.push(lines(8_192, seed));
    }
    let open = || Box::pin(world.sql.export(LogsQuery::default(), None, Format::Ndjson));
    let held = [world.wait(open()).unwrap(), world.wait(open()).unwrap()];
    assert_eq!(world.sql.exports_running(), 2);
    let query = Box::pin(world.sql.query("SELECT count(*) AS n FROM logs"));
    let third = match world.wait(select(open(), query)) {
        Either::Right((answer, third)) => {
            assert_eq!(answer.unwrap().rows_json, format!("[{{\"n\":{}}}]", 8 * 8_192).into_bytes());
            third
        }
        Either::Left(_) => panic!("a third one waits, and queries go on"),
    };
    drop(held);
    drop(world.wait(third).unwrap());
    let whole = export(&world, &LogsQuery::default(), None, Format::Ndjson).unwrap();
    assert_eq!(objects(&whole).len(), 8 * 8_192);
}

#[test]
fn a_client_that_takes_nothing_loses_its_place_and_then_its_answer() {
    let mut limits = limits();
    limits.export_stall = Duration::from_millis(1);
    let mut world = World::new(usize::MAX, limits);
    world.push(lines(60_000, 1));
    let mut pieces = world.wait(world.sql.export(LogsQuery::default(), None, Format::Ndjson)).unwrap();
    let given_up = async {
        while world.sql.exports_running() > 0 {
            tokio::task::yield_now().await;
        }
    };
    world.wait(async { tokio::time::timeout(Duration::from_secs(60), given_up).await }).unwrap();
    // What was on its way arrives; that it is not all is said.
    let error = loop {
        match world.wait(pieces.next()) {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("the answer is not whole"),
        }
    };
    assert_eq!(error, QueryError::Stalled(1));
}

#[test]
fn a_client_that_reads_slowly_loses_its_place_to_one_that_waits_for_it() {
    let mut limits = limits();
    limits.export_pace = Duration::from_millis(300);
    let mut world = World::new(usize::MAX, limits);
    for seed in 0..8 {
        world.push(lines(8_192, seed));
    }
    let open = || world.sql.export(LogsQuery::default(), None, Format::Ndjson);
    let mut trickling = [world.wait(open()).unwrap(), world.wait(open()).unwrap()];
    // A third one waits while both take something now and then, never enough.
    let third = world.wait(async {
        let reading = async {
            loop {
                for pieces in &mut trickling {
                    if let Some(Err(error)) = pieces.next().await {
                        return error;
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        };
        let (third, error) = futures::future::join(open(), reading).await;
        assert_eq!(error, QueryError::Slow(300));
        third
    });
    let whole = world.wait(third.unwrap().map_ok(|piece| piece.to_vec()).try_concat()).unwrap();
    assert_eq!(objects(&whole).len(), 8 * 8_192);
    // As long as nobody else waits the other one may be as slow as it likes; of the first nothing more comes.
    let rest = trickling.map(|mut pieces| {
        world.wait(async {
            pieces.by_ref().map_ok(|piece| piece.len()).try_fold(0, |sum, more| async move { Ok(sum + more) }).await
        })
    });
    let rest: Vec<usize> = rest.into_iter().map(Result::unwrap).collect();
    assert_eq!(rest.iter().filter(|bytes| **bytes > 1 << 20).count(), 1, "{rest:?}");
}

#[test]
fn short_streamed_answers_need_no_place_of_long_ones() {
    let mut limits = limits();
    (limits.timeout, limits.export_pace) = (Duration::from_secs(10), Duration::from_secs(3_600));
    let mut world = World::new(usize::MAX, limits);
    for seed in 0..8 {
        world.push(lines(8_192, seed));
    }
    let long = "SELECT * FROM logs";
    let held = [
        world.wait(world.sql.stream(long, Format::Csv)).unwrap(),
        world.wait(world.sql.stream(long, Format::Csv)).unwrap(),
    ];
    assert_eq!(world.sql.exports_running(), 2);
    for _ in 0..10 {
        assert_eq!(stream(&world, "SELECT 1 AS n", Format::Ndjson).unwrap(), b"{\"n\":1}\n");
    }
    let exported = export(&world, &LogsQuery::default(), Some(5), Format::Ndjson).unwrap();
    assert_eq!(objects(&exported).len(), 5);
    let error = world.wait(world.sql.stream(long, Format::Csv)).unwrap_err();
    assert!(error.to_string().contains("2 long streamed answers of statements"), "{error}");
    drop(held);
    assert!(!stream(&world, long, Format::Csv).unwrap().is_empty());
}
