//! Records → entries, for stores and readers that know the Logger's words. Owns which member a column becomes; the other
//! way round is [`super::read`]'s.

use super::entry;
use super::event::{self, member};
use crate::batch::Batch;
use crate::columns::Column;
use crate::ids::{IdMint, RecordId};
use crate::json::write_string;
use crate::time::{format_millis, parse_rfc3339, parse_rfc3339_or_utc};
use crate::words::RecordType;

/// What every entry has, in the order of the Logger's documentation.
const FIRST: [(Column, &str); 3] = [(Column::Type, "type"), (Column::Title, "title"), (Column::Message, "description")];
/// What is said elsewhere, or of no use without the journal.
const SAID: [Column; 5] = [Column::Timestamp, Column::RunId, Column::IngestedAt, Column::Journal, Column::Position];

/// Appends a record as an entry: `timestamp` with milliseconds, `type`, `title`, `description`, `metadata`, then the other
/// columns that it has under their own names. Left out are the run, which the log names, what a journal stamps on, an id
/// that no client gave, and a level that is its type's.
pub fn write_entry(batch: &Batch, row: usize, out: &mut Vec<u8>) {
    let mut record = Vec::new();
    // Where it stands is left out again.
    batch.write_json(row, "", 0, &mut record);
    rewrite(&record, batch.ids().client_hash(row).is_some(), format_millis, out);
}

/// A record as the API prints it → an entry, as [`write_entry`] has it, and always with its id: whose it was is not said
/// any more. Gives when it happened, in microseconds since 1970, and when the server took it, as it is printed. `None`: it is no record.
#[must_use]
pub fn write_entry_of(record: &[u8], out: &mut Vec<u8>) -> Option<(i64, String)> {
    rewrite(record, true, format_millis, out)
}

/// The same as a store keeps it: with microseconds where the time has some, so that what is read there is in the same order.
#[must_use]
pub fn write_kept_entry_of(record: &[u8], out: &mut Vec<u8>) -> Option<(i64, String)> {
    rewrite(record, true, entry::printed, out)
}

/// An entry that somebody else stored in the log of a run, as all others are shown: what `POST /log` had made of it. Gives when
/// it happened, in microseconds since 1970, and its id. What has no time, or is none of the Logger's entries, stays as it is,
/// but for the form of its time.
pub fn write_foreign_entry(run_id: &str, entry: &[u8], out: &mut Vec<u8>) -> (Option<i64>, Option<RecordId>) {
    if let Some(taken) = entry::read_stored(run_id, entry, 0).filter(|taken| taken.has_time) {
        // An id that it has not is not printed, and nor is when it was taken.
        write_entry(&taken.parsed.builder.stamp(&mut IdMint::new(0, 0), 0, None), 0, out);
        return (Some(taken.timestamp), taken.id);
    }
    write_as_it_is(entry, out)
}

pub(super) fn write_as_it_is(entry: &[u8], out: &mut Vec<u8>) -> (Option<i64>, Option<RecordId>) {
    let Ok(Ok(members)) = event::members(entry) else {
        out.extend_from_slice(entry);
        return (None, None);
    };
    let text = |column: Column| member(&members, column.name())?.text().ok();
    let at = text(Column::Timestamp).and_then(|at| parse_rfc3339_or_utc(&at).ok());
    for (place, field) in members.iter().enumerate() {
        out.push(if place == 0 { b'{' } else { b',' });
        write_string(&field.name, out);
        out.push(b':');
        match at.filter(|_| field.name == Column::Timestamp.name()) {
            Some(at) => write_string(&format_millis(at), out),
            None => out.extend_from_slice(field.json),
        }
    }
    out.extend_from_slice(if members.is_empty() { b"{}" } else { b"}" });
    (at, text(Column::Id).and_then(|id| RecordId::parse(&id).ok()))
}

fn rewrite(record: &[u8], with_id: bool, printed: fn(i64) -> String, out: &mut Vec<u8>) -> Option<(i64, String)> {
    let members = event::members(record).ok()?.ok()?;
    let text = |column: Column| member(&members, column.name())?.text().ok();
    let timestamp = parse_rfc3339(&text(Column::Timestamp)?).ok()?;
    out.extend_from_slice(b"{\"timestamp\":");
    write_string(&printed(timestamp), out);
    for (column, name) in FIRST {
        out.push(b',');
        write_string(name, out);
        out.push(b':');
        write_string(&text(column).unwrap_or_default(), out);
    }
    let usual = text(Column::Type).and_then(|kind| RecordType::from_text(&kind)).map(|kind| kind.level().as_str());
    let is_left_out = |column: Column| match column {
        Column::Id => !with_id,
        Column::Level => text(column).as_deref() == usual,
        _ => SAID.contains(&column) || FIRST.iter().any(|(first, _)| *first == column),
    };
    let metadata = member(&members, Column::Metadata.name());
    let others = members.iter().filter(|member| {
        let column = Column::from_field(&member.name);
        column != Some(Column::Metadata) && !column.is_some_and(is_left_out)
    });
    for member in metadata.into_iter().chain(others) {
        out.push(b',');
        write_string(&member.name, out);
        out.push(b':');
        out.extend_from_slice(member.json);
    }
    out.push(b'}');
    Some((timestamp, text(Column::IngestedAt)?))
}
