//! Plain log lines to records.
//!
//! Owns what a line of text is taken to mean: its time, level, component and the message that remains.
//! Refuses to read or send anything: it is given one line at a time and gives back one [`LineRecord`].
//! The rules are written down for users in `docs/cli.md`; change both together.

mod ansi;
mod format;
mod table;
mod time;

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

pub(crate) use format::Formats;
pub(crate) use time::Zone;

/// What one line said. Fields that the line does not carry are absent.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LineRecord {
    /// When it happened, if the line says so.
    #[serde(serialize_with = "rfc3339", skip_serializing_if = "Option::is_none")]
    pub(crate) timestamp: Option<Timestamp>,
    /// One of the five level words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) level: Option<&'static str>,
    /// The component, logger or program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) logger_name: Option<String>,
    /// The host that a syslog line names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hostname: Option<String>,
    /// The process, where the line's form has a place for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) process_id: Option<i64>,
    /// The thread's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) thread_id: Option<i64>,
    /// The thread's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) thread_name: Option<String>,
    /// The function that logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) function_name: Option<String>,
    /// The source file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) filename: Option<String>,
    /// The line in the source file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lineno: Option<i64>,
    /// What remains, colour codes included.
    pub(crate) message: String,
    /// Prefix pieces that have no column, and marks (`continuation`, `truncated_bytes`).
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(crate) metadata: Map<String, Value>,
}

/// What a Python stack begins with.
const TRACEBACK: &str = "Traceback (most recent call last)";

/// Reads the lines of one file in order; remembers what the next line may lean on.
#[derive(Debug)]
pub(crate) struct LineParser {
    formats: Arc<Formats>,
    zone: Zone,
    /// The format of the line before, tried first.
    last_format: Option<usize>,
    last_time: Option<Timestamp>,
    last_level: Option<&'static str>,
    in_trace: bool,
}

impl LineParser {
    /// A parser for one file. `zone` is what a time without an offset is read in.
    pub(crate) fn new(formats: Arc<Formats>, zone: Zone) -> LineParser {
        LineParser { formats, zone, last_format: None, last_time: None, last_level: None, in_trace: false }
    }

    /// One line, without its newline; `None` if it is blank. A time without a year is the latest one not after `now`.
    pub(crate) fn parse(&mut self, line: &str, now: Timestamp) -> Option<LineRecord> {
        let line = line.trim_end_matches('\r');
        if line.trim().is_empty() {
            return None;
        }
        let plain = ansi::Plain::of(line);
        let read = self.formats.read(plain.text(), self.last_format, &self.zone, now);
        let Some((format, mut record, message_at)) = read else {
            return Some(self.unrecognised(line, plain.text()));
        };
        record.message = line[plain.origin(message_at)..].to_owned();
        self.last_format = format;
        self.in_trace = false;
        self.last_level = record.level;
        self.inherit_time(&mut record);
        Some(record)
    }

    /// A line of no known form is its own message. It takes the time of the line before, so that sorting by time keeps
    /// the file's order, and inside a stack trace the level too.
    fn unrecognised(&mut self, line: &str, plain: &str) -> LineRecord {
        self.in_trace |= continues(plain);
        // Nobody logs a Python stack at INFO: the line before it is not its line, the program died.
        if plain.starts_with(TRACEBACK) && matches!(self.last_level, None | Some("DEBUG" | "INFO")) {
            self.last_level = Some("ERROR");
        }
        let mut record = LineRecord { message: line.to_owned(), ..LineRecord::default() };
        if self.in_trace {
            record.level = self.last_level;
        }
        self.inherit_time(&mut record);
        if record.level.is_some() {
            record.metadata.insert("continuation".to_owned(), Value::Bool(true));
        }
        record
    }

    fn inherit_time(&mut self, record: &mut LineRecord) {
        if record.timestamp.is_some() {
            self.last_time = record.timestamp;
        } else if self.last_time.is_some() {
            record.timestamp = self.last_time;
            record.metadata.insert("continuation".to_owned(), Value::Bool(true));
        }
    }
}

/// Does this line carry on what the line before began?
fn continues(line: &str) -> bool {
    let starts = [" ", "\t", TRACEBACK, "Caused by: ", "During handling of the above exception"];
    let exception =
        line.split([' ', ':']).next().is_some_and(|name| name.ends_with("Exception") || name.ends_with("Error"));
    exception
        || starts.iter().any(|start| line.starts_with(start))
        || (line.starts_with("... ") && line.ends_with(" more"))
}

fn rfc3339<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.serialize_str(&runstone_record::time::format_micros(time.as_microsecond())),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests;
