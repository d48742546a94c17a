//! The Logger: one entry for the log of one run, as the Logger function takes it. Owns which events are valid, what is
//! kept of an entry, and the words of every answer; refuses to store anything and to ask a clock: the caller appends what
//! [`read`] gives, in a journal or in DynamoDB, and says what came of it.
//!
//! An event is `{"run_id": …, "log_entry": {"type", "title", "description", …}}`, sent as it is or as the body of an
//! event of API Gateway or of a function URL. Whether an entry is fit to be kept, the record's own parser decides.

mod answer;
mod entry;
mod event;
mod filter;
mod fold;
mod stored;

use crate::code::ErrorCode;
use crate::ids::RecordId;
use crate::parse::Parsed;

pub use answer::{Answer, Failure, not_appended};
pub use event::Shape;
pub use filter::EntryFilter;
pub use fold::LogFold;
pub use stored::{write_entry, write_entry_of, write_foreign_entry, write_kept_entry_of};

/// An entry to be appended.
#[derive(Debug)]
pub struct Entry {
    /// The run to whose log it belongs.
    pub run_id: String,
    /// When it happened: microseconds since 1970.
    pub timestamp: i64,
    /// Whether the client said so; else it is the time of arrival.
    pub has_time: bool,
    /// The id that the client gave it, if any: appended twice it is one entry.
    pub id: Option<RecordId>,
    /// All that the client sent of it, as a JSON object: every member, every digit. The time is one of UTC.
    pub json: String,
    /// The same as a record, one row, not yet stamped.
    pub parsed: Parsed,
    /// What was strange about it, though it is kept.
    pub warning: Option<String>,
}

/// Why an event was refused: nothing is to be appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What is wrong, as the answer says it.
    pub message: String,
}

impl Refusal {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }

    /// Of an entry as a whole.
    #[must_use]
    pub fn of_entry(why: &str) -> Self {
        Self::new(format!("Invalid log_entry: {why}"))
    }

    /// The answer to the event.
    #[must_use]
    pub fn answer(&self) -> Answer {
        Answer::error(ErrorCode::InvalidRequest, &self.message)
    }
}

/// Reads an event. The time is that of an entry that names none, in microseconds since 1970.
///
/// # Errors
/// The refusal says what is wrong with the event; the shape says in which form to answer in either case.
pub fn read(event: &[u8], now: i64) -> (Shape, Result<Entry, Refusal>) {
    let (shape, found) = event::find(event);
    let entry = found.and_then(|event| entry::read(&event, now));
    (shape, entry)
}

#[cfg(test)]
mod tests;
