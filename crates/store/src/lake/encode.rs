//! One Parquet file of the table, made in memory. Owns the columns' encodings, the bloom filters and the statistics;
//! refuses to choose which rows go into which file, and to write it anywhere.
//!
//! What is written is described column by column in docs/formats/lake.md.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Schema, SchemaRef, TimestampMicrosecondType};
use bytes::Bytes;
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;
use runstone_record::limits::LAKE_GROUP_ROWS;
use runstone_record::{Column, Kind};

use super::bounds::{BOUND_BYTES_MAX, Bounds, has_bounds};
use super::order::by_position;
use super::pages::PAGE_ROWS;
use super::texts::{BLOOM_FALSE, Texts};
use super::{FileStats, LakeError};
use crate::columns::logs_schema;

/// The columns of a data file.
const COLUMNS: [Column; 35] = {
    let mut columns = [Column::Id; 35];
    let mut place = 0;
    while place < columns.len() {
        columns[place] = Column::ALL[place];
        place += 1;
    }
    columns
};

static FILE: LazyLock<SchemaRef> =
    LazyLock::new(|| Arc::new(Schema::new(logs_schema().fields()[..COLUMNS.len()].to_vec())));

/// The columns of a data file: all but `date`, which the file's path says. Text columns may be handed over as
/// dictionaries of texts too.
pub(crate) fn file_schema() -> SchemaRef {
    Arc::clone(&FILE)
}

/// How a file is made.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EncodeOptions {
    /// Is it worth more work to make it smaller? A flush's file lives for minutes, a compacted one for years.
    pub(crate) small: bool,
}

impl EncodeOptions {
    /// The level of zstd. More work makes messages larger: it finds short matches, where long ones are cheaper to name.
    /// In objects of one shape that lie by their values it is worth its time.
    fn level(self, column: Column) -> i32 {
        if self.small && column.kind() == Kind::Json { 9 } else { 1 }
    }
}

/// A data file in memory.
#[derive(Debug)]
pub struct Encoded {
    /// All of it.
    pub bytes: Bytes,
    /// What its entry in the log will say about its rows.
    pub stats: FileStats,
}

/// One Parquet file that grows in memory.
pub(crate) struct FileEncoder {
    pub(super) writer: SerializedFileWriter<Vec<u8>>,
    factory: ArrowRowGroupWriterFactory,
    options: EncodeOptions,
    pub(super) bounds: Bounds,
    latest: Option<i64>,
}

impl FileEncoder {
    /// A file without rows.
    pub(crate) fn new(options: EncodeOptions) -> Result<Self, LakeError> {
        let schema = file_schema();
        let parquet = ArrowSchemaConverter::new().with_coerce_types(true).convert(&schema).map_err(internal)?;
        let properties = Arc::new(properties()?);
        let writer = SerializedFileWriter::new(Vec::new(), parquet.root_schema_ptr(), properties).map_err(internal)?;
        let factory = ArrowRowGroupWriterFactory::new(&writer, schema);
        Ok(Self { writer, factory, options, bounds: Bounds::default(), latest: None })
    }

    /// One row group. Its times must lie after all groups' before it (equal allowed at the seam). Orders the rows inside
    /// for compression. Columns that `rows` lacks are null.
    pub(crate) fn write_group(&mut self, rows: &RecordBatch) -> Result<(), LakeError> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.check_times(rows)?;
        let sorted = match by_position(rows) {
            Some(order) => Some(take_record_batch(rows, &order).map_err(internal)?),
            None => None,
        };
        let rows = sorted.as_ref().unwrap_or(rows);
        let chunks = self.encode_columns(rows)?;
        let mut group = self.writer.next_row_group().map_err(internal)?;
        for chunk in chunks {
            match chunk {
                Chunk::Texts(bytes, close) => group.append_column(&bytes, close),
                Chunk::Other(chunk) => chunk.append_to_row_group(&mut group),
            }
            .map_err(internal)?;
        }
        group.close().map_err(internal)?;
        self.bounds.rows += rows.num_rows() as u64;
        Ok(())
    }

    fn encode_columns(&mut self, rows: &RecordBatch) -> Result<Vec<Chunk>, LakeError> {
        let writers = self.factory.create_column_writers(self.writer.flushed_row_groups().len()).map_err(internal)?;
        let descriptors = self.writer.schema_descr().columns();
        let columns = COLUMNS.iter().zip(descriptors).zip(writers);
        columns
            .map(|((column, descriptor), writer)| {
                let values = values(rows, *column)?;
                if is_text(*column) {
                    let texts = Texts::new(&values)?;
                    let range = if has_bounds(*column) { texts.range() } else { None };
                    self.bounds.add_texts(*column, range, texts.nulls());
                    let (bytes, close) = texts.encode(*column, Arc::clone(descriptor), self.options.level(*column))?;
                    Ok(Chunk::Texts(bytes, close))
                } else {
                    self.bounds.add(*column, &values);
                    write(writer, *column, &values).map(Chunk::Other)
                }
            })
            .collect()
    }

    /// Bytes of the row groups so far.
    pub(crate) fn bytes_written(&self) -> usize {
        self.writer.bytes_written()
    }

    /// The whole file.
    pub(crate) fn finish(self) -> Result<Encoded, LakeError> {
        let bytes = self.writer.into_inner().map_err(internal)?;
        Ok(Encoded { bytes: Bytes::from(bytes), stats: self.bounds.finish() })
    }

    fn check_times(&mut self, rows: &RecordBatch) -> Result<(), LakeError> {
        let times = rows.column_by_name(Column::Timestamp.name());
        let times = times.and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
        self.check_order(times.and_then(arrow::compute::min), times.and_then(arrow::compute::max))
    }

    pub(super) fn check_order(&mut self, least: Option<i64>, greatest: Option<i64>) -> Result<(), LakeError> {
        if least < self.latest {
            return Err(LakeError::Internal("group rows: the times of two groups overlap".into()));
        }
        self.latest = greatest;
        Ok(())
    }
}

/// A column of a row group, encoded.
enum Chunk {
    Texts(Bytes, ColumnCloseResult),
    Other(ArrowColumnChunk),
}

/// Is it written by `texts`?
pub(super) fn is_text(column: Column) -> bool {
    use Kind::{Hex, Identifier, Json, Label, Text, Word};
    matches!(column.kind(), Hex | Identifier | Json | Label | Text | Word)
}

fn values(rows: &RecordBatch, column: Column) -> Result<ArrayRef, LakeError> {
    let field = FILE.field(column.index());
    match rows.column_by_name(field.name()) {
        Some(values) if field.is_nullable() || values.logical_null_count() == 0 => Ok(Arc::clone(values)),
        None if field.is_nullable() => Ok(new_null_array(field.data_type(), rows.num_rows())),
        _ => Err(LakeError::Internal(format!("encode rows: {} is missing", field.name()))),
    }
}

fn write(mut writer: ArrowColumnWriter, column: Column, values: &ArrayRef) -> Result<ArrowColumnChunk, LakeError> {
    for leaf in compute_leaves(FILE.field(column.index()), values).map_err(internal)? {
        writer.write(&leaf).map_err(internal)?;
    }
    writer.close().map_err(internal)
}

pub(crate) fn internal(error: impl std::fmt::Display) -> LakeError {
    LakeError::Internal(error.to_string())
}

/// How the columns are written that are no texts.
fn properties() -> Result<WriterProperties, LakeError> {
    let level = ZstdLevel::try_new(1).map_err(internal)?;
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_coerce_types(true)
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_statistics_truncate_length(Some(BOUND_BYTES_MAX))
        .set_created_by(format!("runstone version {}", env!("CARGO_PKG_VERSION")));
    for column in COLUMNS {
        let path = ColumnPath::from(column.name());
        let encoding = match column.kind() {
            Kind::Id => Encoding::DELTA_BYTE_ARRAY,
            Kind::Time | Kind::Int => Encoding::DELTA_BINARY_PACKED,
            _ => continue,
        };
        properties = properties.set_column_dictionary_enabled(path.clone(), false);
        properties = properties.set_column_encoding(path.clone(), encoding);
        if matches!(column, Column::Position | Column::Timestamp) {
            // Rows lie by position, and nearly by time: pages can be left out.
            properties = properties.set_column_statistics_enabled(path.clone(), EnabledStatistics::Page);
        }
        if column == Column::Id {
            properties = properties
                .set_column_bloom_filter_max_ndv(path.clone(), LAKE_GROUP_ROWS as u64)
                .set_column_bloom_filter_fpp(path, BLOOM_FALSE);
        }
    }
    Ok(properties.build())
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray, TimestampMicrosecondArray};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    fn rows(positions: &[i64], at: i64) -> RecordBatch {
        let ids = positions.iter().map(|position| format!("00000000-0000-7000-8000-{position:012x}"));
        let times = TimestampMicrosecondArray::from_iter_values(positions.iter().map(|position| at + position));
        let times: ArrayRef = Arc::new(times.with_timezone("UTC"));
        let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; positions.len()])) };
        RecordBatch::try_from_iter([
            ("id", Arc::new(StringArray::from_iter_values(ids)) as ArrayRef),
            ("journal", text("00000000-0000-7000-8000-000000000000/1")),
            ("position", Arc::new(Int64Array::from(positions.to_vec()))),
            ("timestamp", Arc::clone(&times)),
            ("ingested_at", times),
            ("message", text("hello")),
        ])
        .unwrap()
    }

    #[test]
    fn rows_come_back_in_the_order_of_their_positions() {
        let mut file = FileEncoder::new(EncodeOptions::default()).unwrap();
        file.write_group(&rows(&[3, 1, 2], 100)).unwrap();
        file.write_group(&rows(&[5, 4], 100)).unwrap();
        let encoded = file.finish().unwrap();
        assert_eq!(encoded.stats.rows, Some(5));
        let reader = ParquetRecordBatchReaderBuilder::try_new(encoded.bytes).unwrap();
        assert_eq!(reader.metadata().num_row_groups(), 2);
        let names: Vec<_> = reader.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, file_schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>());
        let positions: Vec<i64> = reader
            .build()
            .unwrap()
            .flat_map(|batch| {
                let batch = batch.unwrap();
                batch.column(2).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
            })
            .collect();
        assert_eq!(positions, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn groups_whose_times_overlap_are_refused() {
        let mut file = FileEncoder::new(EncodeOptions::default()).unwrap();
        file.write_group(&rows(&[1, 2], 100)).unwrap();
        assert!(matches!(file.write_group(&rows(&[3], 98)), Err(LakeError::Internal(_))));
    }
}
