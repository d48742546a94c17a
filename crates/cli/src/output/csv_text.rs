//! Rows as CSV, as the server writes it: RFC 4180 by the same writer, each cell by the same rules (`record::shown`).

use std::io::{self, Write};

use csv::{Terminator, Writer, WriterBuilder};
use runstone_record::shown::csv_cell;
use runstone_sdk::Row;

use super::text;

/// Of a record in JSON this field says the same as the start of another one, and is left out; a line of CSV has it.
const DATE: (&str, &str) = ("date", "ingested_at");

/// Writes the line of names.
pub(super) fn names(out: &mut impl Write, columns: &[String]) -> io::Result<()> {
    line(out, |writer| columns.iter().try_for_each(|name| writer.write_field(csv_cell(name).as_bytes())))
}

/// Writes a row's line.
pub(super) fn row(out: &mut impl Write, columns: &[String], row: &Row) -> io::Result<()> {
    line(out, |writer| columns.iter().try_for_each(|column| writer.write_field(cell(row, column).as_bytes())))
}

fn cell(row: &Row, column: &str) -> String {
    let value = match row.get(column) {
        None if column == DATE.0 => row.text(DATE.1).map(|time| time.chars().take(10).collect()).unwrap_or_default(),
        value => text(value).into_owned(),
    };
    csv_cell(&value).into_owned()
}

fn line(out: &mut impl Write, fields: impl FnOnce(&mut Writer<&mut Vec<u8>>) -> csv::Result<()>) -> io::Result<()> {
    let mut line = Vec::new();
    let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(&mut line);
    fields(&mut writer)?;
    writer.write_record(None::<&[u8]>)?;
    writer.flush()?;
    drop(writer);
    out.write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(row: &str) -> String {
        let row: Row = serde_json::from_str(row).unwrap();
        let columns: Vec<String> = row.iter().map(|(name, _)| name.to_owned()).collect();
        let mut out = Vec::new();
        names(&mut out, &columns).unwrap();
        super::row(&mut out, &columns, &row).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_cell_is_no_formula_and_no_second_cell_and_a_null_is_a_line() {
        assert_eq!(written(r#"{"=1": "=1+1", "b": "say \"a, b\""}"#), "'=1,b\r\n'=1+1,\"say \"\"a, b\"\"\"\r\n");
        assert_eq!(written(r#"{"a": -5, "b": "-5", "c": "-x", "d": null}"#), "a,b,c,d\r\n-5,-5,'-x,\r\n");
        assert_eq!(written(r#"{"a": null}"#), "a\r\n\"\"\r\n");
        assert_eq!(
            written(r#"{"a": "\u001b[2J", "＝b": {"c": "\u009b"}}"#),
            "a,'＝b\r\n\\u001b[2J,\"{\"\"c\"\": \"\"\\u009b\"\"}\"\r\n"
        );
    }
}
