//! Tables for people, as wide as the terminal.

use std::borrow::Cow;
use std::io::{self, Write};

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, TableComponent};
use runstone_sdk::Row;

use super::{Look, escape, text};

/// A terminal that says nothing sensible about itself.
const WIDTH_DEFAULT: usize = 100;
const WIDTH_MIN: usize = 40;
/// Below this, text in the last column is no longer readable.
const LAST_WIDTH_MIN: usize = 30;
/// Below this, neither is any.
const COLUMN_WIDTH_MIN: usize = 10;
/// Blanks around a cell and the gap to the next.
const PADDING: usize = 3;

/// Writes rows as a table; as a block of fields each, if there are more columns than the terminal has room for.
pub(super) fn write(
    out: &mut impl Write,
    columns: &[&str],
    dispensable: &[&str],
    rows: &[Row],
    look: Look,
) -> io::Result<()> {
    let width = look.width.filter(|width| *width >= WIDTH_MIN).unwrap_or(WIDTH_DEFAULT);
    let columns = fitting(columns, dispensable, rows, width);
    if columns.len() * (COLUMN_WIDTH_MIN + PADDING) <= width || columns.len() < 3 {
        return writeln!(out, "{}", table(&columns, !dispensable.is_empty(), rows, width, look.colour));
    }
    for row in rows {
        let fields = columns.iter().filter(|column| holds(row, column));
        let fields =
            fields.map(|column| Row::of(&serde_json::json!({"field": column, "value": text(row.get(column))})));
        let fields = fields.collect::<Result<Vec<_>, _>>()?;
        writeln!(out, "{}", table(&["field", "value"], true, &fields, width, look.colour))?;
    }
    Ok(())
}

fn holds(row: &Row, column: &str) -> bool {
    row.get(column).is_some_and(|value| value.get() != "null")
}

/// The columns that hold anything, without as many of the dispensable ones as is needed to leave the last one room.
fn fitting<'c>(columns: &[&'c str], dispensable: &[&str], rows: &[Row], width: usize) -> Vec<&'c str> {
    let mut columns: Vec<_> =
        columns.iter().copied().filter(|column| rows.iter().any(|row| holds(row, column))).collect();
    for candidate in dispensable {
        let Some((last, fixed)) = columns.split_last() else { break };
        let used: usize = fixed.iter().map(|column| content_width(column, rows) + PADDING).sum();
        if used + content_width(last, rows).min(LAST_WIDTH_MIN) <= width {
            break;
        }
        columns.retain(|column| column != candidate);
    }
    columns
}

fn content_width(column: &str, rows: &[Row]) -> usize {
    let widths = rows.iter().map(|row| shown(column, row).chars().count());
    widths.max().unwrap_or(0).max(column.len())
}

/// `fixed`: every column but the last keeps the width of what it holds.
fn table(columns: &[&str], fixed: bool, rows: &[Row], width: usize, colour: bool) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    // A line between the header and the rows, none between rows.
    table.remove_style(TableComponent::HorizontalLines).remove_style(TableComponent::MiddleIntersections);
    table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    if !colour {
        table.force_no_tty();
    }
    table.set_header(columns.iter().map(|column| Cell::new(escape(column)).add_attribute(Attribute::Bold)));
    for row in rows {
        table.add_row(columns.iter().map(|column| cell(column, row, colour)));
    }
    let others = columns.len().saturating_sub(1);
    for column in table.column_iter_mut().take(if fixed { others } else { 0 }) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    table
}

fn cell(column: &str, row: &Row, colour: bool) -> Cell {
    let text = shown(column, row);
    let cell = Cell::new(&text);
    let is_number = row
        .get(column)
        .is_some_and(|value| value.get().starts_with(|first: char| first == '-' || first.is_ascii_digit()));
    let cell = if is_number { cell.set_alignment(CellAlignment::Right) } else { cell };
    match colour_of(column, &text) {
        Some(shade) if colour => cell.fg(shade),
        _ => cell,
    }
}

/// A value as a person reads it: times to the millisecond, nothing that acts on the terminal.
fn shown(column: &str, row: &Row) -> String {
    let text = text(row.get(column));
    let is_time = column == "timestamp" || column.ends_with("_at");
    let text = match (is_time, text.get(..10), text.get(11..23)) {
        (true, Some(day), Some(time)) if text.ends_with('Z') => Cow::Owned(format!("{day} {time}")),
        _ => text,
    };
    escape(&text).into_owned()
}

fn colour_of(column: &str, text: &str) -> Option<Color> {
    match (column, text) {
        ("level", "DEBUG") => Some(Color::DarkGrey),
        ("level", "WARNING") | ("state", "running") => Some(Color::Yellow),
        ("level", "ERROR" | "CRITICAL") | ("state", "failed") => Some(Color::Red),
        ("level", "INFO") | ("state", "succeeded") => Some(Color::Green),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(value: &serde_json::Value) -> Row {
        Row::of(value).unwrap()
    }

    #[test]
    fn messages_cannot_act_and_times_are_short() {
        let row = row(&json!({"timestamp": "2026-01-13T12:34:56.789012Z", "message": "\u{1b}[2Jboom"}));
        let table = table(&["timestamp", "message"], true, &[row], 80, false).to_string();
        assert!(table.contains("2026-01-13 12:34:56.789 "), "{table}");
        assert!(table.contains("\\u{1b}[2Jboom") && !table.contains('\u{1b}'), "{table}");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let row = row(&json!({"a": "x".repeat(20), "b": 1, "message": "words ".repeat(50)}));
        let table = table(&["a", "b", "message"], true, &[row], 60, false).to_string();
        assert!(table.lines().all(|line| line.chars().count() <= 60), "{table}");
        assert!(table.contains(&"x".repeat(20)), "{table}");
    }

    #[test]
    fn empty_columns_go_first_and_dispensable_ones_when_there_is_no_room() {
        let row = row(&json!({"a": "x".repeat(20), "b": "y".repeat(20), "c": "z".repeat(20), "message": "m"}));
        let all = ["a", "b", "c", "empty", "message"];
        assert_eq!(fitting(&all, &["b", "a"], std::slice::from_ref(&row), 120), ["a", "b", "c", "message"]);
        assert_eq!(fitting(&all, &["b", "a"], std::slice::from_ref(&row), 60), ["a", "c", "message"]);
        assert_eq!(fitting(&all, &["b", "a"], std::slice::from_ref(&row), 30), ["c", "message"]);
        assert_eq!(fitting(&all, &[], &[row], 30), ["a", "b", "c", "message"]);
    }

    #[test]
    fn a_row_may_lack_a_column() {
        let lines = [row(&json!({"a": "x"})), row(&json!({"b": 1}))];
        assert!(table(&["a", "b"], false, &lines, 80, false).to_string().contains('1'));
    }
}
