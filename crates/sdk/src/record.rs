//! One record as it goes onto the wire.
//!
//! Owns putting a JSON object on one line and filling in fields that it lacks. Refuses to judge the fields: the server does,
//! so that there is one opinion. Values are carried as the text that they are: a number that no machine type holds
//! arrives as it was written.

use std::borrow::Cow;
use std::fmt;

use runstone_record::limits::RECORD_BYTES_MAX;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Bytes that the client adds to a record: `"id":"` + 36 characters + `",`.
const ID_BYTES: usize = 44;

/// One record, a JSON object on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The object's text without its opening brace.
    tail: String,
    has_id: bool,
    /// Which defaults were taken, one bit each.
    filled: u32,
}

/// Values for fields that a record lacks, or has as null.
#[derive(Debug, Clone, Default)]
pub struct Defaults(Vec<(&'static str, String)>);

/// The text cannot be a record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not JSON, or JSON but no object.
    #[error("write a record as one JSON object")]
    NotAnObject(#[source] serde_json::Error),
    /// Larger than the server takes.
    #[error("keep a record below {RECORD_BYTES_MAX} bytes: it has {bytes}")]
    TooLarge {
        /// Its size in bytes, id included.
        bytes: usize,
    },
}

impl Defaults {
    /// Adds one.
    #[must_use]
    pub fn with(mut self, field: &'static str, value: &str) -> Defaults {
        debug_assert!(self.0.len() < 32, "a record remembers its defaults in 32 bits");
        self.0.push((field, serde_json::Value::from(value).to_string()));
        self
    }

    /// Did a record that was made with these take the one of `field`?
    #[must_use]
    pub fn filled(&self, field: &str, record: &Record) -> bool {
        self.0.iter().position(|(name, _)| *name == field).is_some_and(|at| record.filled & (1 << at) != 0)
    }
}

impl Record {
    /// Takes a JSON object as it stands.
    ///
    /// # Errors
    /// [`RecordError`] if the text is no JSON object, or too large a one.
    pub fn from_json(text: &str) -> Result<Record, RecordError> {
        Record::from_json_or(text, &Defaults::default())
    }

    /// Takes a JSON object and fills in what it lacks.
    ///
    /// # Errors
    /// [`RecordError`] if the text is no JSON object, or too large a one.
    pub fn from_json_or(text: &str, defaults: &Defaults) -> Result<Record, RecordError> {
        let fields = serde_json::from_str::<Fields<'_>>(text).map_err(RecordError::NotAnObject)?.0;
        let mut tail = String::with_capacity(text.len() + 128);
        let mut has_id = false;
        let mut filled = 0;
        for (field, value) in &fields {
            let absent = value.get() == "null";
            if absent && (*field == "id" || defaults.0.iter().any(|(name, _)| name == field)) {
                continue;
            }
            has_id |= *field == "id";
            tail.push_str(&serde_json::Value::from(field.as_ref()).to_string());
            tail.push(':');
            push_on_one_line(&mut tail, value.get());
            tail.push(',');
        }
        for (at, (name, value)) in defaults.0.iter().enumerate() {
            if !fields.iter().any(|(field, given)| field == name && given.get() != "null") {
                tail.push('"');
                tail.push_str(name);
                tail.push_str("\":");
                tail.push_str(value);
                tail.push(',');
                filled |= 1 << at;
            }
        }
        if tail.ends_with(',') {
            tail.pop();
        }
        tail.push('}');
        Record { tail, has_id, filled }.checked()
    }

    /// Serialises a value, which must become a JSON object, and fills in what it lacks.
    ///
    /// # Errors
    /// [`RecordError`] if it becomes no JSON object, or too large a one.
    pub fn from_value_or<T: Serialize>(value: &T, defaults: &Defaults) -> Result<Record, RecordError> {
        let text = serde_json::to_string(value).map_err(RecordError::NotAnObject)?;
        Record::from_json_or(&text, defaults)
    }

    /// Does the record bring its own id?
    #[must_use]
    pub fn has_id(&self) -> bool {
        self.has_id
    }

    /// Bytes on the wire before compression, newline excluded.
    #[must_use]
    pub fn bytes(&self) -> usize {
        1 + self.tail.len() + if self.has_id { 0 } else { ID_BYTES }
    }

    /// The object's text, as it was given but for the defaults and on one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!("{{{}", self.tail)
    }

    /// The object without its opening brace, which the batch writes.
    pub(crate) fn tail(&self) -> &str {
        &self.tail
    }

    fn checked(self) -> Result<Record, RecordError> {
        match self.bytes() {
            bytes if bytes > RECORD_BYTES_MAX => Err(RecordError::TooLarge { bytes }),
            _ => Ok(self),
        }
    }
}

/// White space between tokens may hold newlines; inside strings JSON forbids them.
fn push_on_one_line(out: &mut String, json: &str) {
    if json.contains(['\n', '\r']) {
        out.extend(json.chars().map(|char| if matches!(char, '\n' | '\r') { ' ' } else { char }));
    } else {
        out.push_str(json);
    }
}

/// The fields of an object in order, doubles included: which of two wins is the server's to say.
struct Fields<'t>(Vec<(Cow<'t, str>, &'t RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some((Key(key), value)) = map.next_entry()? {
            fields.push((key, value));
        }
        Ok(Fields(fields))
    }
}

/// A key, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Key<'t>(#[serde(borrow)] Cow<'t, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_carried_as_it_is_written() {
        let big = r#"{"metadata":{"n":18446744073709551616,"f":1e400},"message":"a\u0000b","x":1,"x":2}"#;
        assert_eq!(Record::from_json(big).unwrap().to_json(), big);
        assert_eq!(Record::from_json("{}").unwrap().to_json(), "{}");
    }

    #[test]
    fn an_object_of_several_lines_becomes_one() {
        let record = Record::from_json("{\n \"metadata\": {\r\n  \"a\": [\n1]\n }\n}").unwrap();
        assert!(!record.to_json().contains(['\n', '\r']));
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&record.to_json()).unwrap(),
            serde_json::json!({"metadata": {"a": [1]}})
        );
    }

    #[test]
    fn defaults_fill_in_what_is_absent_or_null() {
        let defaults = Defaults::default().with("run_id", "r1").with("type", "log");
        let fill = |json| Record::from_json_or(json, &defaults).unwrap().to_json();
        assert_eq!(fill(r#"{"type":"info"}"#), r#"{"type":"info","run_id":"r1"}"#);
        assert_eq!(fill(r#"{"run_id":null,"stage":null}"#), r#"{"stage":null,"run_id":"r1","type":"log"}"#);
        assert_eq!(fill(r#"{}"#), r#"{"run_id":"r1","type":"log"}"#);
        assert_eq!(fill(r#"{"run\u005fid":"own","type":"log"}"#), r#"{"run_id":"own","type":"log"}"#);
    }

    #[test]
    fn a_record_remembers_which_defaults_it_took() {
        let defaults = Defaults::default().with("run_id", "r1").with("type", "log");
        let record = Record::from_json_or(r#"{"run_id":"own"}"#, &defaults).unwrap();
        assert!(!defaults.filled("run_id", &record) && defaults.filled("type", &record));
        assert!(!defaults.filled("stage", &record));
    }

    #[test]
    fn a_null_id_is_no_id() {
        assert!(!Record::from_json(r#"{"id":null,"message":"x"}"#).unwrap().has_id());
        assert!(Record::from_json(r#"{"id":"x"}"#).unwrap().has_id());
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for bad in ["", "[]", "1", "null", "{} x", "{}{}", "{\"a\"", "{a:1}", "{\"a\":\"\n\"}"] {
            assert!(matches!(Record::from_json(bad), Err(RecordError::NotAnObject(_))), "{bad}");
        }
    }

    #[test]
    fn the_limit_is_that_of_the_server() {
        let of = |bytes: usize| {
            let frame = r#"{"message":""}"#.len() + ID_BYTES;
            Record::from_json(&format!(r#"{{"message":"{}"}}"#, "x".repeat(bytes - frame)))
        };
        assert_eq!(of(RECORD_BYTES_MAX).unwrap().bytes(), RECORD_BYTES_MAX);
        assert!(
            matches!(of(RECORD_BYTES_MAX + 1), Err(RecordError::TooLarge { bytes }) if bytes == RECORD_BYTES_MAX + 1)
        );
    }
}
