//! Data on stdout: tables on a terminal, tab-separated values in a pipe, NDJSON on demand.
//!
//! Owns formatting and escaping. Text that came from elsewhere never acts on the terminal: control characters, and those
//! that change the direction of text, are shown as escapes.

mod table;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use crate::args::Global;

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// One JSON object a line.
    Json,
    /// Tab-separated, no header: for other programs.
    Plain,
    /// For people.
    Table { colour: bool },
}

/// Writes data to stdout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output(Style);

impl Output {
    /// A table if stdout is a terminal, unless JSON is wanted.
    pub(crate) fn new(json: bool, global: &Global) -> Output {
        let style = match (json, io::stdout().is_terminal()) {
            (true, _) => Style::Json,
            (false, true) => Style::Table { colour: !global.no_color },
            (false, false) => Style::Plain,
        };
        Output(style)
    }

    /// Objects as rows. JSON shows all of their fields, the others show `columns`; a table that is too wide for the terminal
    /// does without those of `dispensable`, the first of them first.
    pub(crate) fn rows(self, columns: &[&str], dispensable: &[&str], rows: &[Value]) -> io::Result<()> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        match self.0 {
            Style::Json => {
                for row in rows {
                    writeln!(out, "{row}")?;
                }
            }
            Style::Plain => {
                for row in rows {
                    let cells = columns.iter().map(|column| tab_separated(&text(&row[*column])).into_owned());
                    writeln!(out, "{}", cells.collect::<Vec<_>>().join("\t"))?;
                }
            }
            Style::Table { colour } if !rows.is_empty() => table::write(&mut out, columns, dispensable, rows, colour)?,
            Style::Table { .. } => writeln!(out, "nothing found")?,
        }
        out.flush()
    }

    /// One object, a field a line.
    pub(crate) fn fields(self, object: &Value) -> io::Result<()> {
        if self.0 == Style::Json {
            return self.rows(&[], &[], std::slice::from_ref(object));
        }
        let fields = object.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        let rows: Vec<_> = fields.map(|(field, value)| serde_json::json!({"field": field, "value": value})).collect();
        self.rows(&["field", "value"], &[], &rows)
    }
}

/// A value as text: a string as it is, null as nothing, the rest as JSON.
fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed(""),
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

/// Does this character act on a terminal instead of being shown?
fn acts(char: char) -> bool {
    char.is_control() || matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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
        assert_eq!(escape("user\u{202e}txt.exe\u{9b}2J"), "user\\u{202e}txt.exe\\u{9b}2J");
        assert!(matches!(escape("grün ✓ \\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn tab_separated_text_can_be_undone() {
        assert_eq!(tab_separated("a\tb\\t\nc"), "a\\tb\\\\t\\nc");
        assert!(matches!(tab_separated("plain"), Cow::Borrowed(_)));
    }
}
