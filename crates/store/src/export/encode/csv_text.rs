//! CSV as RFC 4180 has it: a line of names, CRLF, quotes where they are needed. Owns how values look, and that no cell is
//! taken for a formula; null and an empty text look alike.

use csv::{Terminator, Writer, WriterBuilder};

use arrow::array::RecordBatch;

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
        Self::append(out, |writer| writer.write_record(self.0.iter().map(|name| defused(name.clone().into_bytes()))))
    }

    fn write(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<(), QueryError> {
        let cells = rows.columns().iter().map(Cells::new).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        Self::append(out, |writer| {
            let mut cell = Vec::new();
            for row in 0..rows.num_rows() {
                for column in &cells {
                    cell.clear();
                    column.write_plain(row, &mut cell);
                    cell = defused(cell);
                    writer.write_field(&cell)?;
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

/// Full-width forms that some spreadsheets take for the signs themselves: `＝`, `＋`, `－`, `＠`.
const WIDE: [&str; 4] = ["\u{FF1D}", "\u{FF0B}", "\u{FF0D}", "\u{FF20}"];

/// The cell, behind an apostrophe where a spreadsheet would take it for a formula (OWASP, "CSV Injection"). A plain number
/// is none.
fn defused(mut cell: Vec<u8>) -> Vec<u8> {
    let is_formula = match cell.first() {
        Some(b'=' | b'@' | b'\t' | b'\r' | b'\n') => true,
        Some(b'+' | b'-') => !is_number(&cell[1..]),
        _ => WIDE.iter().any(|sign| cell.starts_with(sign.as_bytes())),
    };
    if is_formula {
        cell.insert(0, b'\'');
    }
    cell
}

/// Digits, with a fraction and an exponent or without.
fn is_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let (mantissa, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(place) => (&text[..place], Some(&text[place + 1..])),
        None => (text, None),
    };
    let exponent = exponent.map(|text| text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text));
    let mut mantissa = mantissa.splitn(2, |byte| *byte == b'.');
    mantissa.all(digits) && exponent.is_none_or(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_spreadsheet_would_compute_is_text() {
        for formula in
            ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "-", "+1e", "-1.2.3"]
        {
            assert_eq!(defused(formula.into()), format!("'{formula}").into_bytes(), "{formula:?}");
        }
        for plain in ["", "a=b", "-1", "+12.50", "-1e-7", "1", "'=1", "{\"a\":1}", "2026-01-01"] {
            assert_eq!(defused(plain.into()), plain.as_bytes(), "{plain:?}");
        }
    }
}
