//! A record as a row of the table. Owns what stands where the table asks for a value and the record has none, what is cut,
//! and the mark of both; refuses to know how a row is sent.
//!
//! | column | where the record has no value | where its value does not fit |
//! |---|---|---|
//! | `level` | `INFO` | cut after 10 characters |
//! | `logger_name` | `stage`, else `source_system`, else empty | cut after 255 characters |
//! | `process_id` | 0 | 0 |
//! | `thread_id` | 0 | |
//! | `hostname` | empty | cut after 255 characters |
//! | `message` | `title`, else empty | |
//! | `timestamp` | the time of arrival | |
//! | `thread_name`, `function_name`, `module`, `filename` | null | cut after 255 characters, `filename` after 500 |
//! | `lineno` | null | null |
//! | `extra_data` (`metadata`) | null | as `jsonb` has it, or none of it |
//!
//! What did not fit is whole in `extra_data`, as members of the object `_runstone`: texts and numbers under the columns' names,
//! the text of the metadata as `metadata`. `filled` has a bit for each.

use std::borrow::Cow;

use runstone_record::{Batch, Column};

use super::json::{Fit, OWN, look};
use super::table::{FILENAME_CHARS, LEVEL_CHARS, NAME_CHARS};

/// Bits of the column `filled`.
pub(super) const LEVEL: i32 = 1;
/// See [`LEVEL`].
pub(super) const LOGGER_NAME: i32 = 2;
/// See [`LEVEL`].
pub(super) const PROCESS_ID: i32 = 4;
/// See [`LEVEL`].
pub(super) const THREAD_ID: i32 = 8;
/// See [`LEVEL`].
pub(super) const HOSTNAME: i32 = 16;
/// See [`LEVEL`].
pub(super) const MESSAGE: i32 = 32;
/// See [`LEVEL`].
pub(super) const TIMESTAMP: i32 = 64;
/// `extra_data` has a member of ours, with what did not fit elsewhere.
pub(super) const KEPT: i32 = 128;

/// One record's row, as far as it may differ from the record.
pub(super) struct Filled<'a> {
    pub(super) timestamp: i64,
    pub(super) level: &'a str,
    pub(super) logger_name: &'a str,
    pub(super) process_id: i32,
    pub(super) thread_id: i64,
    pub(super) thread_name: Option<&'a str>,
    pub(super) hostname: &'a str,
    pub(super) message: &'a str,
    pub(super) function_name: Option<&'a str>,
    pub(super) module: Option<&'a str>,
    pub(super) filename: Option<&'a str>,
    pub(super) lineno: Option<i32>,
    pub(super) capabilities: Option<Vec<Cow<'a, str>>>,
    pub(super) extra_data: Option<Cow<'a, str>>,
    pub(super) filled: i32,
}

/// What is filled and kept as a row is made.
struct Making<'a> {
    batch: &'a Batch,
    row: usize,
    filled: i32,
    /// Members of `_runstone`, with commas between.
    kept: Vec<u8>,
}

impl<'a> Making<'a> {
    fn text(&self, column: Column) -> Option<&'a str> {
        self.batch.text(column, self.row)
    }

    fn name(&mut self, name: &str) {
        self.filled |= KEPT;
        if !self.kept.is_empty() {
            self.kept.push(b',');
        }
        self.kept.push(b'"');
        self.kept.extend_from_slice(name.as_bytes());
        self.kept.extend_from_slice(b"\":");
    }

    fn keep_text(&mut self, column: Column, text: &str) {
        self.name(column.name());
        // Writing to memory cannot fail.
        let _ = serde_json::to_writer(&mut self.kept, text);
    }

    /// A text of at most so many characters.
    fn cut(&mut self, column: Column, chars: usize) -> Option<&'a str> {
        let text = self.text(column)?;
        if text.len() <= chars {
            return Some(text);
        }
        let Some((end, _)) = text.char_indices().nth(chars) else { return Some(text) };
        self.keep_text(column, text);
        text.get(..end)
    }

    fn int(&mut self, column: Column) -> Option<i32> {
        let value = self.batch.int(column, self.row)?;
        let fits = i32::try_from(value).ok();
        if fits.is_none() {
            self.name(column.name());
            self.kept.extend_from_slice(value.to_string().as_bytes());
        }
        fits
    }

    fn or<T>(&mut self, value: Option<T>, bit: i32, fill: impl FnOnce(&Self) -> T) -> T {
        value.unwrap_or_else(|| {
            self.filled |= bit;
            fill(self)
        })
    }

    /// The first so many characters of what stands in for a text.
    fn stand_in(&self, columns: &[Column], chars: usize) -> &'a str {
        let text = columns.iter().find_map(|column| self.text(*column)).unwrap_or("");
        let end = text.char_indices().nth(chars).map_or(text.len(), |(end, _)| end);
        text.get(..end).unwrap_or("")
    }

    fn capabilities(&mut self) -> Option<Vec<Cow<'a, str>>> {
        let text = self.text(Column::Capabilities)?;
        // A borrowed text is the common case; one with escapes is not borrowed.
        let list: Option<Vec<String>> = serde_json::from_str(text).ok();
        let same = list.as_ref().and_then(|list| serde_json::to_string(list).ok()).is_some_and(|again| again == text);
        if !same {
            self.keep_text(Column::Capabilities, text);
            return None;
        }
        list.map(|list| list.into_iter().map(Cow::Owned).collect())
    }

    fn extra_data(&mut self) -> Option<Cow<'a, str>> {
        let metadata = self.text(Column::Metadata);
        let Some(text) = metadata else {
            return (!self.kept.is_empty()).then(|| Cow::Owned(self.object("")));
        };
        let seen = look(text);
        if seen.fit == Fit::Same && self.kept.is_empty() {
            return Some(Cow::Borrowed(text));
        }
        // With a member of our name in it the text is kept whole, and the member is ours.
        if seen.fit != Fit::Same || seen.has_own {
            self.keep_text(Column::Metadata, text);
        }
        let members = if seen.fit == Fit::Unfit || seen.has_own { "" } else { text.get(1..text.len() - 1)? };
        Some(Cow::Owned(self.object(members)))
    }

    /// `extra_data` with our member and the client's.
    fn object(&self, members: &str) -> String {
        let comma = if members.is_empty() { "" } else { "," };
        // It was made of texts.
        let kept = String::from_utf8_lossy(&self.kept);
        format!("{{\"{OWN}\":{{{kept}}}{comma}{members}}}")
    }
}

/// The row of a record.
pub(super) fn fill(batch: &Batch, row: usize) -> Filled<'_> {
    let mut making = Making { batch, row, filled: 0, kept: Vec::new() };
    let m = &mut making;
    let timestamp = m.or(batch.int(Column::Timestamp, row), TIMESTAMP, |_| batch.ingested_at());
    let level = m.cut(Column::Level, LEVEL_CHARS);
    let level = m.or(level, LEVEL, |_| "INFO");
    let logger_name = m.cut(Column::LoggerName, NAME_CHARS);
    let instead = [Column::Stage, Column::SourceSystem];
    let logger_name = m.or(logger_name, LOGGER_NAME, |m| m.stand_in(&instead, NAME_CHARS));
    let process_id = m.int(Column::ProcessId);
    let process_id = m.or(process_id, PROCESS_ID, |_| 0);
    let thread_id = m.or(batch.int(Column::ThreadId, row), THREAD_ID, |_| 0);
    let hostname = m.cut(Column::Hostname, NAME_CHARS);
    let hostname = m.or(hostname, HOSTNAME, |_| "");
    let message = m.or(m.text(Column::Message), MESSAGE, |m| m.stand_in(&[Column::Title], usize::MAX));
    let thread_name = m.cut(Column::ThreadName, NAME_CHARS);
    let function_name = m.cut(Column::FunctionName, NAME_CHARS);
    let module = m.cut(Column::Module, NAME_CHARS);
    let filename = m.cut(Column::Filename, FILENAME_CHARS);
    let lineno = m.int(Column::Lineno);
    let capabilities = m.capabilities();
    let extra_data = m.extra_data();
    Filled {
        timestamp,
        level,
        logger_name,
        process_id,
        thread_id,
        thread_name,
        hostname,
        message,
        function_name,
        module,
        filename,
        lineno,
        capabilities,
        extra_data,
        filled: making.filled,
    }
}
