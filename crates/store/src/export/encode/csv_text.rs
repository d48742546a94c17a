//! CSV as RFC 4180 has it: a line of names, CRLF, quotes where they are needed. Owns how values look; what a cell may begin
//! with and show is `record::shown`'s. Null and an empty text look alike.

use csv::{Terminator, Writer, WriterBuilder};

use arrow::array::RecordBatch;
use runstone_record::shown::csv_cell;

use super::{Encode, failed};
use crate::answer::Cells;
use crate::error::QueryError;

/// Rows under these names.
pub(super) struct CsvText(pub(super) Vec<String>);

impl CsvText {
    /// Appends lines.
    fn append(
        out: &mut Vec<u8>,
        lines: impl FnOnce(&mut Writer<&mut Vec<u8>>) -> csv::Result<()>,
    ) -> Result<(), QueryError> {
        let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(out);
        lines(&mut writer).map_err(failed)?;
        writer.flush().map_err(failed)
    }
}

impl Encode for CsvText {
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), QueryError> {
        Self::append(out, |writer| writer.write_record(self.0.iter().map(|name| csv_cell(name).into_owned())))
    }

    fn write(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<(), QueryError> {
        let cells = rows.columns().iter().map(Cells::new).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        Self::append(out, |writer| {
            let mut cell = Vec::new();
            for row in 0..rows.num_rows() {
                for column in &cells {
                    cell.clear();
                    column.write_plain(row, &mut cell);
                    writer.write_field(csv_cell(&String::from_utf8_lossy(&cell)).as_bytes())?;
                }
                writer.write_record(None::<&[u8]>)?;
            }
            Ok(())
        })
    }

    fn finish(&mut self, _out: &mut Vec<u8>) -> Result<(), QueryError> {
        Ok(())
    }
}
