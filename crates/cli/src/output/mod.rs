//! Data on stdout: for people on a terminal, tab-separated values in a pipe, and the formats that are asked for.
//!
//! Owns formatting and escaping. Text that came from elsewhere never acts on the terminal: control characters, and those
//! that change the direction of text, are shown as escapes in every format (`record::shown` says which they are). Values are
//! written as the text that they came as.

mod csv_text;
mod format;
mod lines;
mod pager;
mod stdout;
mod table;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use runstone_record::shown::{acts, tamed};
use runstone_sdk::Row;
use serde_json::value::RawValue;

use crate::args::Global;

pub(crate) use format::{Format, OutputArgs};
pub(crate) use lines::{log_line, run_line};
use pager::Pager;
pub(crate) use pager::is_wanted as is_paged;
#[cfg(test)]
pub(crate) use stdout::marked;
pub(crate) use stdout::{Stdout, is_gone};

/// A table is laid out, and shown, in pieces of so many rows.
const TABLE_ROWS: usize = 1_000;

/// How one row is a line for people.
pub(crate) type Line = fn(&Row, Look) -> String;

/// What is known of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) colour: bool,
    /// Characters; none where it is no terminal.
    pub(crate) width: Option<usize>,
}

/// What rows are and how people see them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape<'s> {
    /// What a table and tab-separated values show.
    pub(crate) columns: &'s [&'s str],
    /// What a table that is too wide for the terminal does without, the first of them first.
    pub(crate) dispensable: &'s [&'s str],
    /// One row as a line, where rows are shown as lines.
    pub(crate) line: Option<Line>,
}

/// Writes rows to stdout, or to a pager.
pub(crate) struct Printer {
    format: Format,
    look: Look,
    columns: Vec<String>,
    dispensable: Vec<String>,
    line: Option<Line>,
    out: Pager,
    /// Rows that a table waits for.
    held: Vec<Row>,
    rows: u64,
}

impl Printer {
    /// For rows of this shape. What is longer than the terminal goes through a pager.
    pub(crate) fn new(shape: Shape<'_>, format: Format, global: &Global) -> Printer {
        Printer::through(Pager::new(global), shape, format, global)
    }

    /// For rows that go on arriving: each is seen at once.
    pub(crate) fn live(shape: Shape<'_>, format: Format, global: &Global) -> Printer {
        Printer::through(Pager::none(), shape, format, global)
    }

    fn through(out: Pager, shape: Shape<'_>, format: Format, global: &Global) -> Printer {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let terminal = io::stdout().is_terminal();
        let width = terminal.then(|| terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))).flatten();
        Printer {
            format,
            look: Look { colour: terminal && !global.no_color, width },
            columns: owned(shape.columns),
            dispensable: owned(shape.dispensable),
            line: shape.line,
            out,
            held: Vec::new(),
            rows: 0,
        }
    }

    /// Writes a row.
    pub(crate) fn row(&mut self, row: Row) -> io::Result<()> {
        self.rows += 1;
        let first = self.rows == 1;
        match self.format {
            Format::Ndjson => writeln!(self.out, "{}", tamed(&row.to_string())),
            Format::Json => write!(self.out, "{}\n{}", if first { '[' } else { ',' }, tamed(&row.to_string())),
            Format::Tsv => self.separated(&row, "\t", tab_separated),
            Format::Csv => {
                if first {
                    csv_text::names(&mut self.out, &self.columns)?;
                }
                csv_text::row(&mut self.out, &self.columns, &row)
            }
            Format::Lines => match self.line {
                Some(line) => writeln!(self.out, "{}", line(&row, self.look)),
                None => self.hold(row),
            },
            Format::Table => self.hold(row),
        }
    }

    fn separated(&mut self, row: &Row, by: &str, cell: fn(&str) -> Cow<'_, str>) -> io::Result<()> {
        let cells = self.columns.iter().map(|column| cell(&text(row.get(column))).into_owned());
        let line = cells.collect::<Vec<_>>().join(by);
        writeln!(self.out, "{line}")
    }

    fn hold(&mut self, row: Row) -> io::Result<()> {
        self.held.push(row);
        if self.held.len() == TABLE_ROWS { self.show_held() } else { Ok(()) }
    }

    fn show_held(&mut self) -> io::Result<()> {
        let rows = std::mem::take(&mut self.held);
        if rows.is_empty() {
            return Ok(());
        }
        let columns: Vec<_> = self.columns.iter().map(String::as_str).collect();
        let dispensable: Vec<_> = self.dispensable.iter().map(String::as_str).collect();
        table::write(&mut self.out, &columns, &dispensable, &rows, self.look)
    }

    /// Makes seen what was written.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.show_held()?;
        self.out.flush()
    }

    /// Writes what is left; where a pager was needed, waits until its reader has seen enough.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        match self.format {
            Format::Json if self.rows == 0 => writeln!(self.out, "[]")?,
            Format::Json => write!(self.out, "\n]\n")?,
            Format::Csv if self.rows == 0 => csv_text::names(&mut self.out, &self.columns)?,
            Format::Table | Format::Lines if self.rows == 0 => writeln!(self.out, "nothing found")?,
            _ => self.show_held()?,
        }
        self.out.finish()
    }

    /// All of them, and no more.
    pub(crate) fn all(mut self, rows: impl IntoIterator<Item = Row>) -> io::Result<()> {
        for row in rows {
            self.row(row)?;
        }
        self.finish()
    }

    /// One object, a field a line; as JSON where that is wanted.
    pub(crate) fn fields(object: &Row, format: Format, global: &Global) -> io::Result<Printer> {
        let shape = Shape { columns: &["field", "value"], dispensable: &[], line: None };
        if matches!(format, Format::Json | Format::Ndjson) {
            let mut printer = Printer::new(shape, Format::Ndjson, global);
            printer.row(object.clone())?;
            return Ok(printer);
        }
        let mut printer = Printer::new(shape, format, global);
        for (name, value) in object.iter().filter(|(_, value)| value.get() != "null") {
            printer.row(Row::of(&serde_json::json!({"field": name, "value": text(Some(value))}))?)?;
        }
        Ok(printer)
    }

    /// Goes on with rows of another shape, after what was written so far.
    pub(crate) fn then(&mut self, shape: Shape<'_>, format: Format) -> io::Result<()> {
        self.show_held()?;
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        (self.columns, self.dispensable) = (owned(shape.columns), owned(shape.dispensable));
        (self.line, self.format) = (shape.line, format);
        Ok(())
    }
}

/// A value as text: a string as it is, null as nothing, the rest as JSON.
fn text(value: Option<&RawValue>) -> Cow<'_, str> {
    match value.map(RawValue::get) {
        None | Some("null") => Cow::Borrowed(""),
        Some(quoted) if quoted.starts_with('"') => Cow::Owned(serde_json::from_str(quoted).unwrap_or_default()),
        Some(other) => Cow::Borrowed(other),
    }
}

/// Shows characters that would act on a terminal.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        match char {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            char if acts(char) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(char));
            }
            char => out.push(char),
        }
    }
    Cow::Owned(out)
}

/// As [`escape`], and a backslash is doubled so that another program can undo it.
fn tab_separated(text: &str) -> Cow<'_, str> {
    if !text.contains(|char| char == '\\' || acts(char)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(escape(&text.replace('\\', "\\\\")).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_shown() {
        assert_eq!(escape("\u{1b}[31mred\u{7}\r\n"), "\\u{1b}[31mred\\u{7}\\r\\n");
        assert_eq!(escape("user\u{202e}txt.exe\u{9b}2J\u{61c}"), "user\\u{202e}txt.exe\\u{9b}2J\\u{61c}");
        assert!(matches!(escape("grün ✓ \\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn tab_separated_text_can_be_undone() {
        assert_eq!(tab_separated("a\tb\\t\nc"), "a\\tb\\\\t\\nc");
        assert!(matches!(tab_separated("plain"), Cow::Borrowed(_)));
    }
}
