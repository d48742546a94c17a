//! A bit that flips in a data file is found, wherever it is, and changes no answer.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use bytes::Bytes;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::SessionConfig;
use futures::TryStreamExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use runstone_record::{Batch, Column, ColumnSet, IdMint, limits, parse};

use super::world::{JOURNAL, first_seed, options};
use crate::lake::source::{Opened, Reading, Source, int_bounds};
use crate::lake::{FileReader, Lake, LakeError, LakeFile, LakeWriter, Positions, Sums, WriterOptions};

/// 2026-11-20T13:00:00Z.
const NOW: i64 = 1_795_179_600_000_000;
/// Records that arrive together.
const BATCH_ROWS: usize = 5_000;

/// Numbers in no order, the same for a seed.
struct Numbers(u64);

impl Numbers {
    fn seeded(test: u64) -> Self {
        Numbers(first_seed().wrapping_mul(1 << 20).wrapping_add(test << 50))
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(1);
        usize::try_from(xxhash_rust::xxh3::xxh3_64(&self.0.to_le_bytes()) % end as u64).unwrap()
    }

    /// Bytes with one bit in another state.
    fn flip(&mut self, whole: &[u8]) -> (usize, Vec<u8>) {
        let (at, bit) = (self.below(whole.len()), self.below(8));
        let mut bytes = whole.to_vec();
        bytes[at] ^= 1 << bit;
        (at, bytes)
    }
}

/// Records with values of each kind, some of many.
fn records(first: usize, count: usize) -> Batch {
    let mut numbers = Numbers(first as u64);
    let mut line = |row: usize| {
        let (trace, span, count) = (numbers.below(usize::MAX), numbers.below(usize::MAX), numbers.below(90_000));
        let (run, part, minute, second, tenth) = (row / 50, row % 7, row / 600 % 60, row / 10 % 60, row % 10);
        let status = if row.is_multiple_of(4) { r#""status":"SUCCESS","# } else { "" };
        format!(
            r#"{{{status}"source_system":"s{part}","stage":"load","run_id":"run-{run}","message":"moved {count} rows of {span:x}",
            "level":"INFO","timestamp":"2026-11-20T12:{minute:02}:{second:02}.{tenth}Z","trace_id":"{trace:016x}{span:016x}",
            "duration":{part}.{count},"row_count":{count},"lineno":{part},"capabilities":["a","b{part}"],"n":{count}}}"#
        )
        .replace('\n', "")
    };
    let lines: Vec<String> = (first..first + count).map(&mut line).collect();
    let parsed = parse::ndjson(lines.join("\n").as_bytes()).unwrap();
    parsed.builder.stamp(&mut IdMint::new(1, first as u128), NOW, None)
}

/// A lake of one file, and what is in that.
struct World {
    dir: tempfile::TempDir,
    lake: Lake,
    file: LakeFile,
    path: PathBuf,
    whole: Vec<u8>,
}

impl World {
    async fn new(rows: usize, group_rows: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lake = Lake::open(options(dir.path())).await.unwrap();
        let mut writer = LakeWriter::new(lake.clone(), WriterOptions { group_rows, ..WriterOptions::default() });
        for first in (0..rows).step_by(BATCH_ROWS) {
            writer.push(JOURNAL, first as u64 + 1, records(first, BATCH_ROWS.min(rows - first))).unwrap();
        }
        writer.flush(None).await.unwrap().unwrap();
        let file = LakeFile::clone(&lake.snapshot().files[0]);
        let path = dir.path().join(&file.path);
        let whole = std::fs::read(&path).unwrap();
        Self { dir, lake, file, path, whole }
    }

    /// Some columns of it, as a query reads them.
    async fn query(&self, file: &LakeFile) -> Result<RecordBatch, String> {
        let (runtime, session) = (RuntimeEnv::default(), SessionConfig::new());
        let columns = &[Column::Id, Column::Position, Column::Timestamp, Column::Duration, Column::RowCount];
        let reader = FileReader::new(self.lake.store(), columns, &runtime, &session).unwrap();
        let batches = reader.open(file, None, None).map_err(|error| error.to_string())?;
        let schema = batches.schema();
        let batches: Vec<_> = batches.try_collect().await.map_err(|error| error.to_string())?;
        Ok(concat_batches(&schema, &batches).unwrap())
    }

    /// As flushes and merges read it.
    async fn read(&self, group: usize) -> Result<Vec<RecordBatch>, LakeError> {
        let Opened::Source(source) = Source::open(&self.lake.store(), &self.file).await? else { panic!("foreign") };
        let reading = Reading { group, columns: None, rows: None };
        source.read(reading, |batches| batches.collect::<Result<Vec<_>, _>>()).await
    }

    fn metadata(&self) -> Arc<parquet::file::metadata::ParquetMetaData> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(self.whole.clone())).unwrap();
        Arc::clone(reader.metadata())
    }
}

/// The rows of a file as whoever reads Parquet sees them. None: it cannot be read.
fn decode(bytes: Vec<u8>) -> Option<Vec<RecordBatch>> {
    let read = || ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes))?.build()?.collect::<Result<Vec<_>, _>>();
    std::panic::catch_unwind(AssertUnwindSafe(|| read().ok())).ok().flatten()
}

#[tokio::test]
async fn verify_finds_every_flipped_bit() {
    let world = World::new(600, 200).await;
    assert_eq!(world.lake.check_file(&world.file).await.unwrap(), 600);
    let expected = decode(world.whole.clone());
    let (mut numbers, mut unseen) = (Numbers::seeded(1), 0);
    for _ in 0..2_000 {
        let (at, bytes) = numbers.flip(&world.whole);
        std::fs::write(&world.path, &bytes).unwrap();
        let found = world.lake.check_file(&world.file).await;
        assert!(matches!(&found, Err(LakeError::Damaged(why)) if why.contains(&world.file.path)), "{at}: {found:?}");
        unseen += usize::from(decode(bytes).is_some_and(|rows| Some(rows) != expected));
    }
    // Of these, Parquet alone reads rows that nobody wrote, in silence.
    assert!(unseen > 200, "{unseen}");
}

#[tokio::test]
async fn no_flipped_bit_changes_what_is_read() {
    let world = World::new(3_000, 1_000).await;
    let expected = world.query(&world.file).await.unwrap();
    let mut groups = Vec::new();
    for group in 0..3 {
        groups.push(world.read(group).await.unwrap());
    }
    let (mut numbers, mut failed) = (Numbers::seeded(2), 0);
    for _ in 0..1_000 {
        let (at, bytes) = numbers.flip(&world.whole);
        std::fs::write(&world.path, &bytes).unwrap();
        match world.query(&world.file).await {
            Ok(rows) => assert!(rows == expected, "{at}"),
            Err(_) => failed += 1,
        }
        for (group, expected) in groups.iter().enumerate() {
            match world.read(group).await {
                Ok(rows) => assert!(rows == *expected, "{at}, row group {group}"),
                Err(LakeError::Damaged(why)) => assert!(why.starts_with(&world.file.path), "{why}"),
                Err(error) => panic!("{at}: {error:?}"),
            }
        }
    }
    // What lies elsewhere in the file does not matter.
    assert!((100..900).contains(&failed), "{failed}");
}

#[tokio::test]
async fn a_large_file_is_compared_where_it_is_read_and_no_further() {
    let world = World::new(30_000, 10_000).await;
    assert!(world.file.bytes > limits::LAKE_READ_WHOLE_BYTES, "{}", world.file.bytes);
    let sound = [world.read(0).await.unwrap(), world.read(1).await.unwrap(), world.read(2).await.unwrap()];
    let metadata = world.metadata();
    let (start, length) = metadata.row_group(1).column(Column::TraceId.index()).byte_range();
    let mut bytes = world.whole.clone();
    bytes[usize::try_from(start + length / 2).unwrap()] ^= 1;
    std::fs::write(&world.path, &bytes).unwrap();
    // The rest is readable.
    assert!(world.read(0).await.unwrap() == sound[0] && world.read(2).await.unwrap() == sound[2]);
    let found = world.read(1).await.unwrap_err();
    assert!(matches!(&found, LakeError::Damaged(why) if why.contains("not what was written")), "{found:?}");
    // Its records are named, and no others.
    let (first, last) = int_bounds(metadata.row_group(1), Column::Position);
    let found = world.lake.check_file(&world.file).await.unwrap_err().to_string();
    assert!(found.contains(&format!("records at positions {first} to {last} of journal {JOURNAL}")), "{found}");
    // Whoever reads by position learns that it is the file, and that waiting will not help.
    let columns = ColumnSet::of(&Column::ALL);
    let ask = Positions { journal: JOURNAL.to_owned(), after: 0, through: 30_000, columns, complete: true };
    let mut rows = world.lake.read_positions(&world.lake.snapshot(), ask).unwrap();
    let found = loop {
        match rows.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it was read"),
            Err(error) => break error,
        }
    };
    assert!(matches!(&found, LakeError::Damaged(why) if why.contains("not what was written")), "{found:?}");

    // Without its end.
    std::fs::write(&world.path, &world.whole[..world.whole.len() - 1]).unwrap();
    let found = world.read(2).await.unwrap_err();
    assert!(matches!(&found, LakeError::Damaged(why) if why.contains(" bytes, not ")), "{found:?}");
    bytes.clone_from(&world.whole);
    let end = bytes.len();
    bytes[end - 9] ^= 1;
    std::fs::write(&world.path, &bytes).unwrap();
    let found = world.lake.check_file(&world.file).await.unwrap_err().to_string();
    assert!(found.contains("without its footer"), "{found}");
    assert!(matches!(world.read(0).await, Err(LakeError::Damaged(_))));
}

#[tokio::test]
async fn an_entry_keeps_its_sums_and_one_without_is_read_as_before() {
    let world = World::new(50, 50).await;
    let sums = world.file.sums.clone();
    assert_eq!(sums, Some(Sums::of(&world.whole)));
    let location: &Path = world.dir.path();
    world.lake.checkpoint(&world.lake.snapshot()).await.unwrap();
    // The checkpoint alone is left.
    for version in [0, 1] {
        std::fs::remove_file(location.join(format!("_delta_log/{version:020}.json"))).unwrap();
    }
    let again = Lake::open_read_only(options(location)).await.unwrap();
    assert_eq!(*again.snapshot().files[0], world.file);
    let older = LakeFile { sums: None, ..world.file.clone() };
    assert!(world.query(&older).await.unwrap() == world.query(&world.file).await.unwrap());
    assert_eq!(world.lake.check_file(&older).await.unwrap(), 50);
}
