//! One JSON object → one row. Owns each field's type, range and other names; refuses what no column can hold
//! exactly, and keeps what no column has in `metadata`.

use std::borrow::Cow;

use jiter::{Jiter, JiterError, Peek};

use super::metadata::{Metadata, Source};
use super::{ItemError, kind_of};
use crate::build::BatchBuilder;
use crate::code::ErrorCode;
use crate::columns::{Column, Kind};
use crate::identifier;
use crate::identity::hash_open_row;
use crate::ids::RecordId;
use crate::json::write_string;
use crate::limits::{NUMBER_BYTES_MAX, RECORD_BYTES_MAX};
use crate::stored::{hex, without_nul};
use crate::time::parse_rfc3339;
use crate::words::{Level, RecordType, is_failure_status};

/// Why a record could not be read.
pub(super) enum Fail {
    /// The text is not JSON: there is nothing to go on from.
    Syntax(String),
    /// The record is refused; the next may be fine.
    Item(ItemError),
}

impl From<JiterError> for Fail {
    fn from(error: JiterError) -> Self {
        Fail::Syntax(format!("{} at byte {}", error.error_type, error.index))
    }
}

pub(super) fn item(code: ErrorCode, message: String, field: Option<&str>) -> Fail {
    Fail::Item(ItemError { index: 0, code, message, field: field.map(str::to_owned) })
}

pub(super) fn too_large(size: usize) -> Fail {
    item(ErrorCode::RecordTooLarge, format!("must have at most {RECORD_BYTES_MAX} bytes of JSON, got {size}"), None)
}

/// The string that comes next, NUL replaced: no database takes it.
pub(super) fn read_text<'j>(jiter: &'j mut Jiter<'_>, replaced: &mut u64) -> Result<Cow<'j, str>, Fail> {
    let text = jiter.known_str()?;
    let kept = without_nul(text);
    if matches!(kept, Cow::Owned(_)) {
        *replaced += text.matches('\0').count() as u64;
    }
    Ok(kept)
}

/// The number that comes next, digit for digit. One that no float can come near is refused as JSON.
pub(super) fn number_text<'j>(jiter: &'j mut Jiter<'_>, peek: Peek) -> Result<&'j str, Fail> {
    let bytes = jiter.known_number_bytes(peek)?;
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    if text.len() > NUMBER_BYTES_MAX {
        return Err(Fail::Syntax(format!(
            "a number of {} characters, at most {NUMBER_BYTES_MAX} are read",
            text.len()
        )));
    }
    let may_overflow = text.len() > 300 || text.contains(['e', 'E']);
    if may_overflow && !text.parse::<f64>().is_ok_and(f64::is_finite) {
        return Err(Fail::Syntax("a number that is out of range".to_owned()));
    }
    Ok(text)
}

/// Where a field goes.
#[derive(Clone, Copy)]
enum Field {
    Known(Column),
    Metadata,
    Unknown,
}

/// Reads records into a batch.
#[derive(Default)]
pub(super) struct RecordParser {
    builder: BatchBuilder,
    metadata: Metadata,
    /// The open record's own words.
    kind: Option<RecordType>,
    level: Option<Level>,
    id: Option<RecordId>,
    failed_status: bool,
    any_known: bool,
    /// Known fields seen in the open record, null ones too.
    seen: u64,
    /// NUL characters replaced before the open record.
    nuls_before: u64,
    /// The fields of the record before, in order: records of a batch are mostly alike.
    pattern: Vec<Column>,
    scratch: String,
    hashed: Vec<u8>,
}

impl RecordParser {
    /// Reads the record that comes next and gives its size in bytes.
    pub(super) fn read(&mut self, jiter: &mut Jiter<'_>, peek: Peek) -> Result<usize, Fail> {
        self.metadata.clear();
        (self.kind, self.level, self.id) = (None, None, None);
        (self.failed_status, self.any_known, self.seen) = (false, false, 0);
        self.nuls_before = self.metadata.replaced_nuls;
        let start = jiter.current_index();
        if peek != Peek::Object {
            return Err(item(ErrorCode::NotAnObject, format!("must be a JSON object, got {}", kind_of(peek)), None));
        }
        let mut place = 0;
        let mut key = jiter.known_object()?;
        while let Some(name) = key {
            self.metadata.count_key(name)?;
            let field = self.field(name, place)?;
            if matches!(field, Field::Unknown | Field::Metadata) {
                self.scratch.clear();
                self.scratch.push_str(name);
            }
            let peek = jiter.peek()?;
            match field {
                Field::Known(column) => self.known(column, jiter, peek)?,
                Field::Metadata => self.metadata_field(jiter, peek)?,
                Field::Unknown => self.unknown(jiter, peek)?,
            }
            place += 1;
            key = jiter.next_key()?;
        }
        Ok(jiter.current_index() - start)
    }

    /// Closes the record that was read.
    pub(super) fn end(&mut self) -> Result<(), Fail> {
        if !self.any_known {
            let message = "must have a known field that is not null, such as message".to_owned();
            return Err(item(ErrorCode::EmptyRecord, message, None));
        }
        let has_status = self.builder.has(Column::Status);
        let kind = self.kind.unwrap_or(if has_status { RecordType::Activity } else { RecordType::Log });
        let failed = kind == RecordType::Activity && self.failed_status;
        let level = self.level.unwrap_or(if failed { Level::Error } else { kind.level() });
        self.builder.set_text(Column::Type, kind.as_str());
        self.builder.set_text(Column::Level, level.as_str());
        if let Some(text) = self.metadata.finish() {
            self.builder.set_text(Column::Metadata, text);
        }
        let id = self.id.map(|id| (id, hash_open_row(&self.builder, &mut self.hashed)));
        self.builder.end_row(id);
        Ok(())
    }

    /// Forgets the record that was read, in whole or in part.
    pub(super) fn undo(&mut self) {
        self.builder.undo_row();
        self.metadata.replaced_nuls = self.nuls_before;
    }

    /// The records, and how many NUL characters were replaced.
    pub(super) fn finish(self) -> (BatchBuilder, u64) {
        (self.builder, self.metadata.replaced_nuls)
    }

    fn field(&mut self, name: &str, place: usize) -> Result<Field, Fail> {
        let column = match self.pattern.get(place) {
            Some(column) if column.name() == name => Some(*column),
            _ => Column::from_field(name),
        };
        let Some(column) = column.filter(|column| !column.is_stamped()) else {
            return Ok(Field::Unknown);
        };
        if place < self.pattern.len() {
            self.pattern[place] = column;
        } else if place == self.pattern.len() && place < Column::ALL.len() {
            self.pattern.push(column);
        }
        // A name stands once. Two names of one field may both be there where only one has a value: null means absent.
        let bit = match name {
            "description" => 1 << 60,
            "logged_at" => 1 << 61,
            "extra_data" => 1 << 62,
            "additional_metadata" => 1 << 63,
            _ => 1 << column.index(),
        };
        if self.seen & bit != 0 {
            return Err(twice(name));
        }
        self.seen |= bit;
        Ok(if column == Column::Metadata { Field::Metadata } else { Field::Known(column) })
    }

    /// `metadata`, `extra_data` or `additional_metadata`: an object's members, or one value under that name.
    fn metadata_field(&mut self, jiter: &mut Jiter<'_>, peek: Peek) -> Result<(), Fail> {
        let name = std::mem::take(&mut self.scratch);
        let source = match name.as_str() {
            "metadata" => Source::Metadata,
            "additional_metadata" => Source::AdditionalMetadata,
            _ => Source::ExtraData,
        };
        match peek {
            Peek::Null => jiter.known_null()?,
            Peek::Object => {
                self.any_known = true;
                self.metadata.members(source, jiter)?;
            }
            _ => {
                self.any_known = true;
                self.metadata.member(&name, jiter, peek)?;
            }
        }
        self.scratch = name;
        Ok(())
    }

    fn unknown(&mut self, jiter: &mut Jiter<'_>, peek: Peek) -> Result<(), Fail> {
        if peek == Peek::Null {
            return Ok(jiter.known_null()?);
        }
        let mut name = std::mem::take(&mut self.scratch);
        if name.contains('\0') {
            self.metadata.replaced_nuls += name.matches('\0').count() as u64;
            name = name.replace('\0', "\u{FFFD}");
        }
        self.metadata.member(&name, jiter, peek)?;
        self.scratch = name;
        Ok(())
    }

    fn known(&mut self, column: Column, jiter: &mut Jiter<'_>, peek: Peek) -> Result<(), Fail> {
        if peek == Peek::Null {
            return Ok(jiter.known_null()?);
        }
        if self.builder.has(column) {
            return Err(twice(column.name()));
        }
        self.any_known = true;
        match column.kind() {
            Kind::Time => {
                let text = self.string(column, jiter, peek, "an RFC 3339 string")?;
                let micros = parse_rfc3339(text)
                    .map_err(|error| item(ErrorCode::InvalidTime, error.to_string(), Some(column.name())))?;
                self.builder.set_int(column, micros);
            }
            Kind::Int | Kind::Date => {
                let value = int(column, jiter, peek)?;
                self.builder.set_int(column, value);
            }
            Kind::Float => {
                let value = float(column, jiter, peek)?;
                self.builder.set_float(column, value);
            }
            Kind::Id => {
                let text = self.string(column, jiter, peek, "a UUID as a string")?;
                let id = RecordId::parse(text);
                self.id = Some(id.map_err(|error| item(ErrorCode::InvalidId, error.to_string(), Some("id")))?);
            }
            Kind::List => self.list(column, jiter, peek)?,
            Kind::Word => self.word(column, jiter, peek)?,
            Kind::Identifier | Kind::Label | Kind::Text | Kind::Hex | Kind::Json => self.text(column, jiter, peek)?,
        }
        Ok(())
    }

    fn string<'j>(&self, column: Column, jiter: &'j mut Jiter<'_>, peek: Peek, wanted: &str) -> Result<&'j str, Fail> {
        if peek == Peek::String { Ok(jiter.known_str()?) } else { Err(wrong_type(column, wanted, peek)) }
    }

    /// A text column. A number or a boolean is taken as its JSON text: `"run_id": 20250113` is no mistake.
    fn text(&mut self, column: Column, jiter: &mut Jiter<'_>, peek: Peek) -> Result<(), Fail> {
        let text: Cow<'_, str> = match peek {
            Peek::String if column.kind() == Kind::Identifier => Cow::Borrowed(jiter.known_str()?),
            Peek::String => read_text(jiter, &mut self.metadata.replaced_nuls)?,
            Peek::True | Peek::False => Cow::Borrowed(if jiter.known_bool(peek)? { "true" } else { "false" }),
            Peek::Array | Peek::Object => return Err(wrong_type(column, "a string", peek)),
            _ => Cow::Borrowed(number_text(jiter, peek)?),
        };
        match column.kind() {
            Kind::Identifier => {
                identifier::check(&text)
                    .map_err(|error| item(ErrorCode::InvalidIdentifier, error.to_string(), Some(column.name())))?;
                self.builder.set_text(column, &text);
            }
            Kind::Hex => {
                let digits = hex(&text)
                    .map_err(|error| item(ErrorCode::InvalidValue, error.to_string(), Some(column.name())))?;
                self.builder.set_text(column, &digits);
            }
            _ => {
                if column == Column::Status {
                    self.failed_status = is_failure_status(&text);
                }
                self.builder.set_text(column, &text);
            }
        }
        Ok(())
    }

    /// `type` is a closed list; an unknown level is kept in `metadata` and read as the type's level, because
    /// loggers invent levels and a record must not be lost over one.
    fn word(&mut self, column: Column, jiter: &mut Jiter<'_>, peek: Peek) -> Result<(), Fail> {
        let text: Cow<'_, str> = match peek {
            Peek::String => read_text(jiter, &mut self.metadata.replaced_nuls)?,
            _ if peek.is_num() && column == Column::Level => Cow::Borrowed(number_text(jiter, peek)?),
            _ => return Err(wrong_type(column, "a string", peek)),
        };
        if column == Column::Type {
            let Some(kind) = RecordType::read(&text) else {
                let words: Vec<&str> = RecordType::ALL.iter().map(|kind| kind.as_str()).collect();
                return Err(item(
                    ErrorCode::InvalidValue,
                    format!("must be one of {}", words.join(", ")),
                    Some("type"),
                ));
            };
            self.kind = Some(kind);
            return Ok(());
        }
        self.level = Level::read(&text);
        if self.level.is_none() && !text.is_empty() {
            self.metadata.member_text("level", &text);
        }
        Ok(())
    }

    /// A list of strings, stored as compact JSON.
    fn list(&mut self, column: Column, jiter: &mut Jiter<'_>, peek: Peek) -> Result<(), Fail> {
        if peek != Peek::Array {
            return Err(wrong_type(column, "a list of strings", peek));
        }
        let mut text = vec![b'['];
        let mut next = jiter.known_array()?;
        while let Some(peek) = next {
            if peek != Peek::String {
                return Err(wrong_type(column, "a list of strings", peek));
            }
            if text.len() > 1 {
                text.push(b',');
            }
            write_string(&read_text(jiter, &mut self.metadata.replaced_nuls)?, &mut text);
            next = jiter.array_step()?;
        }
        text.push(b']');
        self.builder.set_text(column, &String::from_utf8_lossy(&text));
        Ok(())
    }
}

fn twice(name: &str) -> Fail {
    let message = format!("must stand once in a record: {name}, under this or another of its names");
    item(ErrorCode::DuplicateField, message, Some(name))
}

fn wrong_type(column: Column, wanted: &str, got: Peek) -> Fail {
    let message = format!("must be {wanted}, got {}", kind_of(got));
    item(ErrorCode::WrongType, message, Some(column.name()))
}

/// So much of a number as a message needs.
fn excerpt(number: &str) -> &str {
    number.get(..40).unwrap_or(number)
}

fn int(column: Column, jiter: &mut Jiter<'_>, peek: Peek) -> Result<i64, Fail> {
    if !peek.is_num() {
        return Err(wrong_type(column, "an integer", peek));
    }
    let text = number_text(jiter, peek)?;
    if text.contains(['.', 'e', 'E']) {
        return Err(item(
            ErrorCode::WrongType,
            format!("must be an integer, got {}", excerpt(text)),
            Some(column.name()),
        ));
    }
    let value = text.parse().ok().filter(|value| *value >= 0 || column != Column::RowCount);
    value.ok_or_else(|| {
        let least = if column == Column::RowCount { 0 } else { i64::MIN };
        let text = excerpt(text);
        item(
            ErrorCode::InvalidValue,
            format!("must lie between {least} and {}, got {text}", i64::MAX),
            Some(column.name()),
        )
    })
}

fn float(column: Column, jiter: &mut Jiter<'_>, peek: Peek) -> Result<f64, Fail> {
    if !peek.is_num() {
        return Err(wrong_type(column, "a number", peek));
    }
    let text = number_text(jiter, peek)?;
    // Negative zero is zero, but what is too small to tell from it is negative still.
    let is_zero =
        || text.bytes().take_while(|byte| !matches!(byte, b'e' | b'E')).all(|byte| !matches!(byte, b'1'..=b'9'));
    let value = text.parse::<f64>().ok().filter(|_| !text.starts_with('-') || is_zero()).map(f64::abs);
    value.ok_or_else(|| item(ErrorCode::InvalidValue, "must not be negative".to_owned(), Some(column.name())))
}
