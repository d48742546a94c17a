//! A Parquet file that is sent while it is made: a row group at a time, compressed with zstd, the footer last. Owns the
//! encodings; a row group is held until it is complete, and is bounded for that reason.

use arrow::array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use runstone_record::limits::{EXPORT_GROUP_BYTES, EXPORT_GROUP_ROWS};
use runstone_record::{Column, Kind};

use super::shape::Shape;
use super::{Encode, failed};
use crate::error::QueryError;

/// Speed comes before size: a higher level costs more time than it saves.
const ZSTD_LEVEL: i32 = 1;

pub(super) struct ParquetFile {
    shape: Shape,
    writer: ArrowWriter<Vec<u8>>,
}

impl ParquetFile {
    /// For rows of any columns.
    pub(super) fn of_rows(shape: Shape) -> Result<Self, QueryError> {
        Self::new(shape, properties()?)
    }

    /// For records.
    pub(super) fn of_logs(shape: Shape) -> Result<Self, QueryError> {
        let mut properties = properties()?;
        for column in Column::ALL {
            let path = || ColumnPath::from(column.name());
            let encoding = match column.kind() {
                // Ids of a batch are consecutive.
                Kind::Id => Encoding::DELTA_BYTE_ARRAY,
                Kind::Time | Kind::Int => Encoding::DELTA_BINARY_PACKED,
                // Hardly two are equal.
                Kind::Text | Kind::Json => Encoding::PLAIN,
                _ => continue,
            };
            properties = properties.set_column_dictionary_enabled(path(), false).set_column_encoding(path(), encoding);
        }
        Self::new(shape, properties)
    }

    fn new(shape: Shape, properties: WriterPropertiesBuilder) -> Result<Self, QueryError> {
        let schema = shape.schema().clone();
        let writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties.build()));
        Ok(Self { shape, writer: writer.map_err(failed)? })
    }

    fn hand_over(&mut self, out: &mut Vec<u8>) -> Result<(), QueryError> {
        self.writer.sync().map_err(failed)?;
        let made = self.writer.inner_mut();
        if out.is_empty() {
            std::mem::swap(made, out);
        } else {
            out.append(made);
        }
        Ok(())
    }
}

fn properties() -> Result<WriterPropertiesBuilder, QueryError> {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).map_err(failed)?;
    Ok(WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        // What other readers know: days for instants of days, and the usual names of a list's items.
        .set_coerce_types(true)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(EXPORT_GROUP_ROWS))
        .set_max_row_group_bytes(Some(EXPORT_GROUP_BYTES))
        .set_created_by(format!("runstone version {}", env!("CARGO_PKG_VERSION"))))
}

impl Encode for ParquetFile {
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), QueryError> {
        self.hand_over(out)
    }

    fn write(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<(), QueryError> {
        self.writer.write(&self.shape.apply(rows)?).map_err(failed)?;
        self.hand_over(out)
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), QueryError> {
        self.writer.finish().map_err(failed)?;
        self.hand_over(out)
    }
}
