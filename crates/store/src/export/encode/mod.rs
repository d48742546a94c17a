//! Rows as bytes in each format. Owns what the formats share: the size of what is written at once, and the columns that
//! every reader understands; refuses to wait for anybody.

mod arrow_stream;
mod csv_text;
mod ndjson;
mod parquet_file;
mod shape;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use self::arrow_stream::ArrowStream;
use self::csv_text::CsvText;
use self::ndjson::{LogLines, RowLines};
use self::parquet_file::ParquetFile;
use self::shape::Shape;
use super::Format;
use crate::answer::unique_names;
use crate::error::QueryError;
use crate::growth::slice_bytes;

/// Bytes of rows, in memory, that are written at once.
const PART_BYTES: usize = 1 << 20;

/// Writes rows in a format: appends what can be sent by now.
pub(super) trait Encode: Send {
    /// What stands before the first row.
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), QueryError>;
    /// Rows, in order.
    fn write(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<(), QueryError>;
    /// What stands after the last row.
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), QueryError>;
}

/// For records with every column of `logs`.
pub(super) fn of_logs(format: Format, schema: &SchemaRef) -> Result<Box<dyn Encode>, QueryError> {
    Ok(match format {
        Format::Ndjson => Box::new(LogLines),
        Format::Parquet => Box::new(ParquetFile::of_logs(Shape::new(schema))?),
        other => of_rows(other, schema)?,
    })
}

/// For the rows of a statement's answer.
pub(super) fn of_rows(format: Format, schema: &SchemaRef) -> Result<Box<dyn Encode>, QueryError> {
    let names = || unique_names(schema.fields().iter().map(|field| field.name().as_str()));
    Ok(match format {
        Format::Ndjson => Box::new(RowLines(names())),
        Format::Csv => Box::new(CsvText(names())),
        Format::Parquet => Box::new(ParquetFile::of_rows(Shape::new(schema))?),
        Format::Arrow => Box::new(ArrowStream::new(Shape::new(schema))?),
    })
}

/// The rows of a batch, some at a time, so that what is made of them is never large.
pub(super) fn parts(batch: &RecordBatch) -> impl Iterator<Item = RecordBatch> + Send + use<> {
    let bytes: usize = batch.columns().iter().map(slice_bytes).sum();
    let rows = batch.num_rows();
    let at_once = (rows * PART_BYTES / bytes.max(1)).clamp(1, rows.max(1));
    let batch = batch.clone();
    (0..rows).step_by(at_once).map(move |first| batch.slice(first, at_once.min(rows - first)))
}

fn failed(error: impl std::fmt::Display) -> QueryError {
    QueryError::Internal(format!("write rows: {error}"))
}
