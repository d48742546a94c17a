//! JSON bodies → columns, in one pass. Owns which bodies are refused whole and which only lose a record;
//! refuses to stamp anything: times, missing ids and positions are the server's.

mod metadata;
mod record;

use jiter::{Jiter, Peek};

use crate::build::BatchBuilder;
use crate::code::ErrorCode;
use crate::limits::{RECORD_BYTES_MAX, REQUEST_RECORDS_MAX};
use record::{Fail, RecordParser};

/// Why a record was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemError {
    /// The record's place in the body, from 0.
    pub index: usize,
    /// What kind of mistake.
    pub code: ErrorCode,
    /// What is wrong and what would be right.
    pub message: String,
    /// The field at fault.
    pub field: Option<String>,
}

/// Why a body was refused whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Nothing but white space.
    #[error("found no records: the body is empty")]
    Empty,
    /// Not UTF-8.
    #[error("parse the body as UTF-8: invalid byte at offset {offset}")]
    Encoding {
        /// Where.
        offset: usize,
    },
    /// Not JSON.
    #[error("parse the body as JSON: {message}")]
    Syntax {
        /// What and where, in the parser's words.
        message: String,
    },
    /// Neither an object nor an array.
    #[error("expected an object or an array of objects, got {got}")]
    NotRecords {
        /// What it is.
        got: &'static str,
    },
    /// More records than a request may have.
    #[error("take at most {REQUEST_RECORDS_MAX} records a request: send the rest in another")]
    TooMany,
}

impl BodyError {
    /// The code of the answer.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            BodyError::Empty => ErrorCode::EmptyBody,
            BodyError::Encoding { .. } | BodyError::Syntax { .. } => ErrorCode::InvalidJson,
            BodyError::NotRecords { .. } => ErrorCode::NotAnObject,
            BodyError::TooMany => ErrorCode::TooManyRecords,
        }
    }
}

/// What a body holds.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The valid records, not yet stamped.
    pub builder: BatchBuilder,
    /// The place in the body of each valid record.
    pub places: Vec<usize>,
    /// The refused ones.
    pub errors: Vec<ItemError>,
    /// NUL characters that were replaced by U+FFFD: no database takes them.
    pub replaced_nuls: u64,
}

impl Parsed {
    /// Records in the body, valid or not.
    #[must_use]
    pub fn received(&self) -> usize {
        self.places.len() + self.errors.len()
    }
}

/// Reads one object or an array of objects.
///
/// # Errors
/// Refuses the body whole when it is not JSON, or has too many records; a bad record in it is an [`ItemError`].
pub fn json(body: &[u8]) -> Result<Parsed, BodyError> {
    within(body, RECORD_BYTES_MAX)
}

/// Reads records that were taken before, as [`crate::Batch::write_json`] writes them without what the server stamped on: written
/// so, one may be larger than it was when it came.
///
/// # Errors
/// As those of [`json`].
pub fn taken(records: &[u8]) -> Result<Parsed, BodyError> {
    within(records, usize::MAX)
}

fn within(body: &[u8], record_bytes_max: usize) -> Result<Parsed, BodyError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(BodyError::Empty);
    }
    if let Err(error) = std::str::from_utf8(body) {
        return Err(BodyError::Encoding { offset: error.valid_up_to() });
    }
    let mut jiter = Jiter::new(body);
    let mut bodies = Bodies::new(record_bytes_max);
    let peek = jiter.peek().map_err(|error| syntax(&jiter, &error))?;
    match peek {
        Peek::Object => bodies.item(&mut jiter, peek)?,
        Peek::Array => {
            let mut next = jiter.known_array().map_err(|error| syntax(&jiter, &error))?;
            while let Some(peek) = next {
                bodies.item(&mut jiter, peek)?;
                next = jiter.array_step().map_err(|error| syntax(&jiter, &error))?;
            }
        }
        other => {
            jiter.known_skip(other).map_err(|error| syntax(&jiter, &error))?;
            jiter.finish().map_err(|error| syntax(&jiter, &error))?;
            return Err(BodyError::NotRecords { got: kind_of(other) });
        }
    }
    jiter.finish().map_err(|error| syntax(&jiter, &error))?;
    Ok(bodies.finish())
}

/// Reads one object a line. A line that is not UTF-8, not JSON or no object is an [`ItemError`].
///
/// # Errors
/// Refuses the body whole when it has no line or too many records.
pub fn ndjson(body: &[u8]) -> Result<Parsed, BodyError> {
    let mut bodies = Bodies::new(RECORD_BYTES_MAX);
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', body).chain([body.len()]) {
        let line = &body[start..end];
        start = end + 1;
        if !line.iter().all(u8::is_ascii_whitespace) {
            bodies.line(line)?;
        }
    }
    if bodies.index == 0 {
        return Err(BodyError::Empty);
    }
    Ok(bodies.finish())
}

/// The records of a body, one after another.
struct Bodies {
    parser: RecordParser,
    places: Vec<usize>,
    errors: Vec<ItemError>,
    index: usize,
    record_bytes_max: usize,
}

impl Bodies {
    fn new(record_bytes_max: usize) -> Self {
        Self { parser: RecordParser::default(), places: Vec::new(), errors: Vec::new(), index: 0, record_bytes_max }
    }

    /// One value where a record should be. An error is one of the whole body.
    fn item(&mut self, jiter: &mut Jiter<'_>, peek: Peek) -> Result<(), BodyError> {
        // The parser cannot leave a half-read record: to go on behind it, it is read again and skipped.
        let mut before = jiter.clone();
        match self.record(jiter, peek) {
            Ok(()) => {}
            Err(Fail::Syntax(message)) => return Err(BodyError::Syntax { message }),
            Err(Fail::Item(error)) => {
                before.known_skip(peek).map_err(|error| syntax(&before, &error))?;
                *jiter = before;
                self.refuse(error);
            }
        }
        self.count()
    }

    fn line(&mut self, line: &[u8]) -> Result<(), BodyError> {
        match self.line_record(line) {
            Ok(()) => {}
            Err(Fail::Item(error)) => self.refuse(error),
            Err(Fail::Syntax(message)) => {
                let message = format!("parse the line as JSON: {message}");
                self.refuse(ItemError { index: 0, code: ErrorCode::InvalidJson, message, field: None });
            }
        }
        self.count()
    }

    /// A record that must be all of a line.
    fn line_record(&mut self, line: &[u8]) -> Result<(), Fail> {
        let read = self.read_line(line);
        let done = self.settle(read);
        // The parser looks at the encoding of every string that it reads, but not of those that it skips. And what is
        // no JSON at all, such as a plain log line, should not be told that its type is wrong.
        if done.is_err() {
            std::str::from_utf8(line)
                .map_err(|error| Fail::Syntax(format!("invalid UTF-8 at byte {}", error.valid_up_to())))?;
            let mut again = Jiter::new(line);
            again.next_skip()?;
            again.finish()?;
        }
        done
    }

    fn read_line(&mut self, line: &[u8]) -> Result<usize, Fail> {
        let mut jiter = Jiter::new(line);
        let peek = jiter.peek()?;
        let size = self.parser.read(&mut jiter, peek)?;
        jiter.finish()?;
        Ok(size)
    }

    fn record(&mut self, jiter: &mut Jiter<'_>, peek: Peek) -> Result<(), Fail> {
        let read = self.parser.read(jiter, peek);
        self.settle(read)
    }

    fn settle(&mut self, read: Result<usize, Fail>) -> Result<(), Fail> {
        let done = match read {
            Ok(size) if size > self.record_bytes_max => Err(record::too_large(size)),
            Ok(_) => self.parser.end(),
            Err(fail) => Err(fail),
        };
        match done {
            Ok(()) => self.places.push(self.index),
            Err(_) => self.parser.undo(),
        }
        done
    }

    fn refuse(&mut self, error: ItemError) {
        self.errors.push(ItemError { index: self.index, ..error });
    }

    fn count(&mut self) -> Result<(), BodyError> {
        self.index += 1;
        if self.index > REQUEST_RECORDS_MAX { Err(BodyError::TooMany) } else { Ok(()) }
    }

    fn finish(self) -> Parsed {
        let (builder, replaced_nuls) = self.parser.finish();
        Parsed { builder, places: self.places, errors: self.errors, replaced_nuls }
    }
}

fn syntax(jiter: &Jiter<'_>, error: &jiter::JiterError) -> BodyError {
    BodyError::Syntax { message: format!("{} at {}", error.error_type, jiter.error_position(error.index)) }
}

/// What a value is called in messages.
pub(crate) fn kind_of(peek: Peek) -> &'static str {
    match peek {
        Peek::Null => "null",
        Peek::True | Peek::False => "a boolean",
        Peek::String => "a string",
        Peek::Array => "an array",
        Peek::Object => "an object",
        _ => "a number",
    }
}
