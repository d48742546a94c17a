//! Records → entries, for stores and readers that know the Logger's words. Owns which member a column becomes; the other
//! way round is [`super::read`]'s.

use super::event::{self, member};
use crate::batch::Batch;
use crate::columns::{Column, Kind};
use crate::json::{RecordWriter, write_string};
use crate::time::{format_millis, parse_rfc3339};
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

/// A record as the API prints it → an entry, with the members and in the order of [`write_entry`], and its id. `None`: it
/// is no such record. Gives when the server took it, as it is printed.
#[must_use]
pub fn write_entry_of(record: &[u8], out: &mut Vec<u8>) -> Option<String> {
    let members = event::members(record).ok()?.ok()?;
    let text = |column: Column| member(&members, column.name())?.text().ok();
    let timestamp = parse_rfc3339(&text(Column::Timestamp)?).ok()?;
    let kind = text(Column::Type);
    let kind = kind.as_deref();
    out.extend_from_slice(b"{\"timestamp\":");
    write_string(&format_millis(timestamp), out);
    for (column, name) in FIRST {
        out.push(b',');
        write_string(name, out);
        out.push(b':');
        write_string(&text(column).unwrap_or_default(), out);
    }
    let named = |column: Column| column.name();
    let said = [Column::Timestamp, Column::RunId, Column::IngestedAt, Column::Journal, Column::Position].map(named);
    let is_said = |name: &str| said.contains(&name) || FIRST.iter().any(|(column, _)| column.name() == name);
    let usual = kind.and_then(RecordType::from_text).map(|kind| kind.level().as_str());
    let metadata = Column::Metadata.name();
    let (first, others): (Vec<_>, Vec<_>) = members.iter().partition(|member| member.name == metadata);
    for member in first.into_iter().chain(others).filter(|member| !is_said(&member.name)) {
        if member.name == Column::Level.name() && member.text().ok().as_deref() == usual {
            continue;
        }
        out.push(b',');
        write_string(&member.name, out);
        out.push(b':');
        out.extend_from_slice(member.json);
    }
    out.push(b'}');
    text(Column::IngestedAt)
}
