//! From frames to files: which rows lie where, and what a flush that fails leaves behind.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use runstone_record::{Batch, IdMint, parse};

use super::world::{JOURNAL, TODAY, flush, options};
use crate::lake::{Lake, LakeError, LakeFile, LakeWriter, Pending, WriterOptions};

/// 2026-11-20T13:00:00Z.
const NOW: i64 = 1_795_179_600_000_000;
const HOUR: i64 = 3_600_000_000;

/// Records whose times run backwards and forwards by a minute.
fn records(rows: usize, arrived: i64) -> Batch {
    let lines: Vec<String> = (0..rows)
        .map(|row| {
            let seconds = (row * 37) % 60;
            let level = ["info", "error"][row % 2];
            format!(r#"{{"timestamp":"2026-11-20T12:59:{seconds:02}Z","level":"{level}","message":"row {row}","run_id":"r{}"}}"#, row % 3)
        })
        .collect();
    let parsed = parse::ndjson(lines.join("\n").as_bytes()).unwrap();
    parsed.builder.stamp(&mut IdMint::new(1, u128::try_from(arrived).unwrap()), arrived, None)
}

fn writer(lake: &Lake, group_rows: usize) -> LakeWriter {
    LakeWriter::new(lake.clone(), WriterOptions { group_rows, ..WriterOptions::default() })
}

/// Each row group's positions and times.
async fn groups(lake: &Lake, file: &LakeFile) -> Vec<(Vec<i64>, Vec<i64>)> {
    let bytes = lake.store().get(&file.path.as_str().into()).await.unwrap().bytes().await.unwrap();
    let count = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap().metadata().num_row_groups();
    let read = |group| {
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap();
        let reader = reader.with_row_groups(vec![group]).with_batch_size(1 << 20).build().unwrap();
        let rows = reader.map(Result::unwrap).next().unwrap();
        let positions = rows.column_by_name("position").unwrap().as_primitive::<Int64Type>().values().to_vec();
        let times = rows.column_by_name("timestamp").unwrap().as_primitive::<TimestampMicrosecondType>();
        (positions, times.values().to_vec())
    };
    (0..count).map(read).collect()
}

#[tokio::test]
async fn every_record_is_in_one_group_and_the_times_of_groups_do_not_overlap() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(options(dir.path())).await.unwrap();
    let mut writer = writer(&lake, 1_000);
    let mut next = 1;
    for _ in 0..150 {
        writer.push(JOURNAL, next, records(33, NOW)).unwrap();
        next += 33;
    }
    let pending = writer.pending();
    assert_eq!((pending.rows, pending.first, pending.last, pending.oldest), (4_950, Some(1), Some(4_950), Some(NOW)));
    let flushed = writer.flush(None).await.unwrap().unwrap();
    assert_eq!((flushed.rows, flushed.through, flushed.files), (4_950, 4_950, 1));
    assert_eq!((writer.pending().rows, writer.flush(Some(4_950)).await.unwrap().is_none()), (0, true));
    let file = &flushed.snapshot.files[0];
    assert_eq!((file.positions(), file.journal(), file.date), (Some((1, 4_950)), Some(JOURNAL), Some(TODAY)));
    let groups = groups(&lake, file).await;
    assert_eq!(groups.len(), 5);
    let mut seen = BTreeSet::new();
    for (positions, _) in &groups {
        assert!(positions.is_sorted() && positions.len() == 990);
        seen.extend(positions.iter().copied());
    }
    assert_eq!(seen, (1..=4_950).collect());
    for pair in groups.windows(2) {
        assert!(pair[0].1.iter().max() <= pair[1].1.iter().min());
    }
}

/// A column's texts, by position.
async fn texts(lake: &Lake, file: &LakeFile, column: &str) -> BTreeMap<i64, Option<String>> {
    let bytes = lake.store().get(&file.path.as_str().into()).await.unwrap().bytes().await.unwrap();
    let mut texts = BTreeMap::new();
    for rows in ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap() {
        let rows = rows.unwrap();
        let positions = rows["position"].as_primitive::<Int64Type>();
        let values = cast(&rows[column], &DataType::Utf8).unwrap();
        let values = positions.values().iter().copied().zip(values.as_string::<i32>());
        texts.extend(values.map(|(position, text)| (position, text.map(str::to_owned))));
    }
    texts
}

#[tokio::test]
async fn a_group_has_rows_of_frames_whose_columns_and_words_differ() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(options(dir.path())).await.unwrap();
    let mut writer = writer(&lake, 40);
    // Each frame has words of its own, and every other one has no stage at all. Times of all frames lie within a minute.
    let stage = |frame: usize, row: usize| (frame % 2 == 1).then(|| format!("stage-{frame}-{}", row % 3));
    let line = |frame: usize, row: usize| {
        let time = format!("2026-11-20T12:59:{:02}Z", (row * 37 + frame) % 60);
        match stage(frame, row) {
            Some(stage) => format!(r#"{{"timestamp":"{time}","message":"{frame} {row}","stage":"{stage}"}}"#),
            None => format!(r#"{{"timestamp":"{time}","message":"{frame} {row}","run_id":"r{frame}"}}"#),
        }
    };
    let (mut next, mut stages, mut messages) = (1, BTreeMap::new(), BTreeMap::new());
    for frame in 0..9 {
        let lines: Vec<String> = (0..17).map(|row| line(frame, row)).collect();
        let parsed = parse::ndjson(lines.join("\n").as_bytes()).unwrap();
        writer.push(JOURNAL, next, parsed.builder.stamp(&mut IdMint::new(1, 1), NOW, None)).unwrap();
        for row in 0..17 {
            let position = i64::try_from(next).unwrap();
            stages.insert(position, stage(frame, row));
            messages.insert(position, Some(format!("{frame} {row}")));
            next += 1;
        }
    }
    let flushed = writer.flush(None).await.unwrap().unwrap();
    let file = &flushed.snapshot.files[0];
    assert_eq!((flushed.rows, flushed.files, groups(&lake, file).await.len()), (153, 1, 4));
    assert_eq!(texts(&lake, file, "stage").await, stages);
    assert_eq!(texts(&lake, file, "message").await, messages);
}

#[tokio::test]
async fn a_flush_across_midnight_or_a_gap_is_one_commit_of_several_files() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(options(dir.path())).await.unwrap();
    let mut writer = writer(&lake, 1_000);
    writer.push(JOURNAL, 1, records(10, NOW)).unwrap();
    writer.push(JOURNAL, 11, records(10, NOW + 12 * HOUR)).unwrap();
    // The clock was set back.
    writer.push(JOURNAL, 21, records(10, NOW)).unwrap();
    // Positions 31 to 40 were damaged.
    writer.push(JOURNAL, 41, records(10, NOW)).unwrap();
    let flushed = writer.flush(None).await.unwrap().unwrap();
    assert_eq!((flushed.snapshot.version, flushed.rows, flushed.files, flushed.through), (1, 40, 3, 50));
    let mut files: Vec<_> =
        flushed.snapshot.files.iter().map(|file| (file.date, file.positions(), file.stats.rows)).collect();
    files.sort_unstable();
    assert_eq!(
        files,
        [
            (Some(TODAY), Some((1, 30)), Some(20)),
            (Some(TODAY), Some((41, 50)), Some(10)),
            (Some(TODAY + 1), Some((11, 20)), Some(10))
        ]
    );
}

#[tokio::test]
async fn what_cannot_be_committed_stays_pending_and_is_uploaded_once() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(options(dir.path())).await.unwrap();
    flush(&lake, JOURNAL, None, 9).await;
    let mut writer = writer(&lake, 1_000);
    writer.push(JOURNAL, 10, records(5, NOW)).unwrap();
    assert!(matches!(writer.push("other/1", 15, records(5, NOW)), Err(LakeError::Internal(_))));
    assert!(matches!(writer.push(JOURNAL, 14, records(5, NOW)), Err(LakeError::Internal(_))));
    for _ in 0..2 {
        assert!(matches!(writer.flush(None).await, Err(LakeError::Conflict(_))));
        assert_eq!(writer.pending().rows, 5);
    }
    let uploaded = std::fs::read_dir(dir.path().join("date=2026-11-20")).unwrap().count();
    let flushed = writer.flush(Some(9)).await.unwrap().unwrap();
    assert_eq!((flushed.through, flushed.snapshot.rows()), (14, 15));
    assert_eq!(std::fs::read_dir(dir.path().join("date=2026-11-20")).unwrap().count(), uploaded);
}

#[tokio::test]
async fn what_the_lake_has_already_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(options(dir.path())).await.unwrap();
    flush(&lake, JOURNAL, None, 13).await;
    let mut writer = writer(&lake, 1_000);
    writer.push(JOURNAL, 10, records(2, NOW)).unwrap();
    assert!(writer.flush(Some(13)).await.unwrap().is_none());
    assert_eq!(writer.pending(), Pending::default());
    // A frame across the seam, and one before it.
    writer.push(JOURNAL, 9, records(3, NOW)).unwrap();
    writer.push(JOURNAL, 12, records(5, NOW)).unwrap();
    let flushed = writer.flush(Some(13)).await.unwrap().unwrap();
    assert_eq!((flushed.rows, flushed.through, flushed.snapshot.rows()), (3, 16, 17));
    let newest = flushed.snapshot.files.iter().max_by_key(|file| file.positions()).unwrap();
    assert_eq!(groups(&lake, newest).await[0].0, [14, 15, 16]);
}

#[tokio::test]
async fn frames_of_one_record_are_gathered() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(options(dir.path())).await.unwrap();
    let mut writer = writer(&lake, 1_000);
    for position in 1..=700_u64 {
        writer.push(JOURNAL, position, records(1, NOW + 700 - i64::try_from(position).unwrap())).unwrap();
    }
    let pending = writer.pending();
    assert_eq!((pending.rows, pending.last, pending.oldest), (700, Some(700), Some(NOW)));
    // One frame by itself takes more than a kilobyte.
    assert!(pending.bytes < 700 * 500, "{pending:?}");
    let flushed = writer.flush(None).await.unwrap().unwrap();
    let positions = groups(&lake, &flushed.snapshot.files[0]).await.remove(0).0;
    assert_eq!(positions, (1..=700).collect::<Vec<_>>());
}

#[tokio::test]
async fn files_are_bounded_and_the_next_flush_follows_a_failed_one() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(options(dir.path())).await.unwrap();
    flush(&lake, JOURNAL, None, 9).await;
    let mut writer =
        LakeWriter::new(lake.clone(), WriterOptions { group_rows: 100, file_bytes: 1, ..WriterOptions::default() });
    writer.push(JOURNAL, 10, records(300, NOW)).unwrap();
    assert!(matches!(writer.flush(None).await, Err(LakeError::Conflict(_))));
    // What came since is committed, too.
    writer.push(JOURNAL, 310, records(50, NOW)).unwrap();
    let flushed = writer.flush(Some(9)).await.unwrap().unwrap();
    assert_eq!((flushed.rows, flushed.files, flushed.through), (350, 4, 359));
    assert_eq!((flushed.snapshot.rows(), writer.pending()), (360, Pending::default()));
    let mut times = Vec::new();
    for file in flushed.snapshot.files.iter().filter(|file| file.positions().is_some_and(|(first, _)| first >= 10)) {
        let groups = groups(&lake, file).await;
        assert_eq!(groups.len(), 1);
        if file.stats.rows == Some(100) {
            times.push((*groups[0].1.iter().min().unwrap(), *groups[0].1.iter().max().unwrap()));
        }
    }
    times.sort_unstable();
    assert!(times.len() == 3 && times.windows(2).all(|pair| pair[0].1 <= pair[1].0));
}
