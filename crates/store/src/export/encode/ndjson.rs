//! A JSON object a line (<https://github.com/ndjson/ndjson-spec>): records as pages have them, rows as answers to SQL do.

use arrow::array::RecordBatch;
use runstone_record::Column;

use super::{Encode, failed};
use crate::answer::{Cells, write_object};
use crate::error::QueryError;
use crate::lake::write_json;

/// Records: each with the fields that it has.
pub(super) struct LogLines;

impl Encode for LogLines {
    fn begin(&mut self, _out: &mut Vec<u8>) -> Result<(), QueryError> {
        Ok(())
    }

    fn write(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<(), QueryError> {
        for row in 0..rows.num_rows() {
            write_json(&Column::ALL, rows, row, out);
            out.push(b'\n');
        }
        Ok(())
    }

    fn finish(&mut self, _out: &mut Vec<u8>) -> Result<(), QueryError> {
        Ok(())
    }
}

/// Rows under these names: each with every column.
pub(super) struct RowLines(pub(super) Vec<String>);

impl Encode for RowLines {
    fn begin(&mut self, _out: &mut Vec<u8>) -> Result<(), QueryError> {
        Ok(())
    }

    fn write(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<(), QueryError> {
        let cells = rows.columns().iter().map(Cells::new).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let cells: Vec<_> = self.0.iter().cloned().zip(cells).collect();
        for row in 0..rows.num_rows() {
            write_object(&cells, row, out);
            out.push(b'\n');
        }
        Ok(())
    }

    fn finish(&mut self, _out: &mut Vec<u8>) -> Result<(), QueryError> {
        Ok(())
    }
}
