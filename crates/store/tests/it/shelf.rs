//! A lake in a directory of its own, and files for it: as plain as a Parquet writer makes them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::Schema;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use runstone_record::bits::Bits;
use runstone_record::{Batch, Column, Kind};
use runstone_store::lake::{
    Bound, Change, ColumnStats, Encoded, FileStats, Lake, LakeFile, LakeOptions, LakeView, LakeWriter, WriterOptions,
};
use runstone_store::logs_schema;

/// A record: its position, its batch, its row.
pub(crate) type Row<'a> = (u64, &'a Batch, usize);

#[derive(Debug)]
pub(crate) struct Shelf {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) lake: Lake,
    pub(crate) rows_per_group: usize,
    through: BTreeMap<String, u64>,
}

impl Shelf {
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = LakeOptions::new(
            directory.path().to_str().unwrap(),
            "tests",
            Arc::new(|| 1_763_640_000_000),
            Arc::new(rand),
        );
        let lake = Lake::open(options).await.unwrap();
        Self { directory, lake, rows_per_group: 100, through: BTreeMap::new() }
    }

    pub(crate) fn view(&self) -> Arc<LakeView> {
        Arc::new(LakeView::new(&self.lake, &self.lake.snapshot()))
    }

    /// Flushes records of a journal as the server does.
    pub(crate) async fn flush(&mut self, journal: &str, rows: &[Row<'_>]) {
        let options = WriterOptions { group_rows: self.rows_per_group, ..WriterOptions::default() };
        let mut writer = LakeWriter::new(self.lake.clone(), options);
        for rows in rows.chunk_by(|one, other| std::ptr::eq(one.1, other.1)) {
            let mut keep = Bits::filled(rows[0].1.len(), false);
            rows.iter().for_each(|row| keep.set(row.2, true));
            writer.push(journal, rows[0].0, rows[0].1.filter(&keep)).unwrap();
        }
        let flushed = writer.flush(self.through.get(journal).copied()).await.unwrap().unwrap();
        self.through.insert(journal.to_owned(), flushed.through);
    }

    /// Commits a file that somebody else wrote.
    pub(crate) async fn put_foreign(&self, table: &RecordBatch, stats: FileStats, day: i32) {
        self.replace(Vec::new(), table, stats, day).await;
    }

    /// Puts one file with these records in the place of others, as compaction does.
    pub(crate) async fn compact(&self, files: Vec<Arc<LakeFile>>, journal: &str, rows: &[Row<'_>]) {
        let day = files[0].date.unwrap();
        self.replace(files, &table(journal, rows), stats(journal, rows), day).await;
    }

    async fn replace(&self, remove: Vec<Arc<LakeFile>>, table: &RecordBatch, stats: FileStats, day: i32) {
        let file = Encoded { bytes: parquet(table, self.rows_per_group), stats };
        let add = vec![self.lake.put(file, day).await.unwrap()];
        let (operation, data_change) = if remove.is_empty() { ("WRITE", true) } else { ("OPTIMIZE", false) };
        let change = Change { journal: None, add, remove, data_change, operation, metrics: vec![] };
        self.lake.commit(change).await.unwrap();
    }

    /// Where a file is.
    pub(crate) fn path(&self, file: &LakeFile) -> PathBuf {
        self.directory.path().join(&file.path)
    }
}

fn rand() -> u128 {
    use std::hash::{BuildHasher, Hasher};
    let random = || u128::from(std::collections::hash_map::RandomState::new().build_hasher().finish());
    random() << 64 | random()
}

/// Records as a data file has them: every column but the day.
pub(crate) fn table(journal: &str, rows: &[Row<'_>]) -> RecordBatch {
    let schema = logs_schema();
    let columns: Vec<ArrayRef> =
        Column::ALL[..Column::Date.index()].iter().map(|column| values(*column, journal, rows)).collect();
    let schema = Arc::new(Schema::new(schema.fields()[..Column::Date.index()].to_vec()));
    RecordBatch::try_new(schema, columns).unwrap()
}

fn text<'a>(column: Column, journal: &'a str, (_, batch, row): &Row<'a>) -> Option<std::borrow::Cow<'a, str>> {
    match column {
        Column::Id => Some(batch.ids().get(*row).to_string().into()),
        Column::Journal => Some(journal.into()),
        _ => batch.text(column, *row).map(Into::into),
    }
}

fn int(column: Column, (position, batch, row): &Row<'_>) -> Option<i64> {
    match column {
        Column::Position => i64::try_from(*position).ok(),
        Column::Timestamp => Some(batch.timestamp(*row)),
        Column::IngestedAt => Some(batch.ingested_at()),
        _ => batch.int(column, *row),
    }
}

fn values(column: Column, journal: &str, rows: &[Row<'_>]) -> ArrayRef {
    match column.kind() {
        Kind::Time => {
            let times: TimestampMicrosecondArray = rows.iter().map(|row| int(column, row)).collect();
            Arc::new(times.with_timezone("UTC"))
        }
        Kind::Int => Arc::new(rows.iter().map(|row| int(column, row)).collect::<Int64Array>()),
        Kind::Float => Arc::new(rows.iter().map(|(_, batch, row)| batch.float(column, *row)).collect::<Float64Array>()),
        Kind::List => {
            let mut lists = ListBuilder::new(StringBuilder::new());
            for row in rows {
                let items = text(column, journal, row).map(|text| serde_json::from_str::<Vec<String>>(&text).unwrap());
                lists.append_option(items.map(|items| items.into_iter().map(Some)));
            }
            Arc::new(lists.finish())
        }
        _ => Arc::new(rows.iter().map(|row| text(column, journal, row)).collect::<StringArray>()),
    }
}

pub(crate) fn stats(journal: &str, rows: &[Row<'_>]) -> FileStats {
    let columns =
        Column::ALL[..Column::Date.index()].iter().filter(|column| column.kind() != Kind::List).map(|column| {
            let bounds: Vec<Bound> = rows
                .iter()
                .filter_map(|row| match column.kind() {
                    Kind::Time | Kind::Int => int(*column, row).map(Bound::Int),
                    Kind::Float => row.1.float(*column, row.2).map(Bound::Float),
                    _ => text(*column, journal, row).map(|text| Bound::Text(text.into_owned())),
                })
                .collect();
            let order = |one: &&Bound, other: &&Bound| match (one, other) {
                (Bound::Int(one), Bound::Int(other)) => one.cmp(other),
                (Bound::Float(one), Bound::Float(other)) => one.total_cmp(other),
                (Bound::Text(one), Bound::Text(other)) => one.cmp(other),
                _ => unreachable!(),
            };
            ColumnStats {
                column: *column,
                least: bounds.iter().min_by(order).cloned(),
                greatest: bounds.iter().max_by(order).cloned(),
                nulls: Some((rows.len() - bounds.len()) as u64),
            }
        });
    FileStats { rows: Some(rows.len() as u64), columns: columns.collect() }
}

pub(crate) fn parquet(table: &RecordBatch, rows_per_group: usize) -> Bytes {
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(rows_per_group))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_column_bloom_filter_enabled(ColumnPath::from("run_id"), true)
        .set_column_bloom_filter_enabled(ColumnPath::from("id"), true)
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, table.schema(), Some(properties)).unwrap();
    writer.write(table).unwrap();
    writer.close().unwrap();
    bytes.into()
}

/// The records at these positions.
pub(crate) fn rows_between(batches: &[(u64, Batch)], after: u64, through: u64) -> Vec<Row<'_>> {
    let all =
        batches.iter().flat_map(|(first, batch)| (0..batch.len()).map(move |row| (first + row as u64, batch, row)));
    all.filter(|row| (after + 1..=through).contains(&row.0)).collect()
}
