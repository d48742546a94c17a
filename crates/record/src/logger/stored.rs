//! Records → entries, for stores and readers that know the Logger's words. Owns which member a column becomes; the other
//! way round is [`super::read`]'s.

use crate::batch::Batch;
use crate::columns::{Column, Kind};
use crate::json::{RecordWriter, write_string};
use crate::time::format_millis;
use crate::words::RecordType;

/// What every entry has, in the order of the Logger's documentation.
const FIRST: [(Column, &str); 3] = [(Column::Type, "type"), (Column::Title, "title"), (Column::Message, "description")];

/// Appends a record as an entry: `timestamp` with milliseconds, `type`, `title`, `description`, `metadata`, then the other
/// columns that it has under their own names. Left out are the run, which the log names, what a journal stamps on, and a
/// level that is its type's.
pub fn write_entry(batch: &Batch, row: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"timestamp\":");
    write_string(&format_millis(batch.timestamp(row)), out);
    for (column, name) in FIRST {
        out.push(b',');
        write_string(name, out);
        out.push(b':');
        write_string(batch.text(column, row).unwrap_or_default(), out);
    }
    if let Some(metadata) = batch.text(Column::Metadata, row) {
        out.extend_from_slice(b",\"metadata\":");
        out.extend_from_slice(metadata.as_bytes());
    }
    let mut others = Vec::new();
    let mut writer = RecordWriter::new(&mut others);
    for column in Column::ALL {
        write_other(batch, row, column, &mut writer);
    }
    if others.len() > 1 {
        out.push(b',');
        out.extend_from_slice(&others[1..]);
    }
    out.push(b'}');
}

fn write_other(batch: &Batch, row: usize, column: Column, writer: &mut RecordWriter<'_>) {
    let is_said = matches!(column, Column::Timestamp | Column::RunId | Column::Metadata | Column::IngestedAt)
        || FIRST.iter().any(|(first, _)| *first == column);
    let given = batch.ids().client_hash(row).is_some();
    match column.kind() {
        _ if is_said => {}
        Kind::Id if given => writer.text(column, &batch.ids().get(row).to_string()),
        Kind::Time | Kind::Int | Kind::Date => {
            if let Some(value) = batch.int(column, row) {
                writer.int(column, value);
            }
        }
        Kind::Float => {
            if let Some(value) = batch.float(column, row) {
                writer.float(column, value);
            }
        }
        _ => {
            let text = batch.text(column, row).filter(|text| column != Column::Level || !is_default(batch, row, text));
            if let Some(text) = text {
                writer.text(column, text);
            }
        }
    }
}

/// Is it the level that a record of this type has anyway?
fn is_default(batch: &Batch, row: usize, level: &str) -> bool {
    let kind = batch.text(Column::Type, row).and_then(RecordType::from_text);
    kind.is_some_and(|kind| kind.level().as_str() == level)
}
