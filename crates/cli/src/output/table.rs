//! Tables for people, as wide as the terminal.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table};
use serde_json::Value;

use super::{escape, text};

/// A table of the columns that hold anything.
pub(super) fn rows(columns: &[&str], rows: &[Value], colour: bool) -> Table {
    let columns: Vec<&str> =
        columns.iter().copied().filter(|column| rows.iter().any(|row| !row[*column].is_null())).collect();
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    if !colour {
        table.force_no_tty();
        // Without a terminal the library knows no width, but there is one: colours alone are unwanted.
        if let Some(width) = Table::new().width() {
            table.set_width(width);
        }
    }
    table.set_header(columns.iter().map(|column| Cell::new(escape(column)).add_attribute(Attribute::Bold)));
    for row in rows {
        table.add_row(columns.iter().map(|column| cell(column, &row[*column], colour)));
    }
    table
}

fn cell(column: &str, value: &Value, colour: bool) -> Cell {
    let text = text(value);
    let cell = Cell::new(escape(&text));
    let cell = if value.is_number() { cell.set_alignment(CellAlignment::Right) } else { cell };
    match colour_of(column, &text) {
        Some(shade) if colour => cell.fg(shade),
        _ => cell,
    }
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

    #[test]
    fn empty_columns_are_left_out_and_messages_cannot_act() {
        let row = serde_json::json!({"level": "ERROR", "message": "\u{1b}[2Jboom", "count": 3});
        let table = rows(&["level", "stage", "message", "count"], &[row], false).to_string();
        assert!(table.contains("\\u{1b}[2Jboom") && !table.contains('\u{1b}'), "{table}");
        assert!(!table.contains("stage"), "{table}");
    }

    #[test]
    fn a_row_may_lack_a_column() {
        let lines = [serde_json::json!({"a": "x"}), serde_json::json!({"b": 1})];
        assert!(rows(&["a", "b"], &lines, false).to_string().contains('1'));
    }
}
