//! JSON schemas of what [`crate::wire`] leaves to values: records in and out, rows, words of closed lists. Owns what a
//! record's fields take, told from the one list of columns; the rules themselves are in [`crate::parse`].

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::ErrorCode;
use crate::columns::{Column, Kind};
use crate::limits::{IDENTIFIER_CHARS_MAX, PARAMETER_BYTES_MAX, TRACE_DIGITS_MAX};
use crate::run::RunState;
use crate::words::{Level, RecordType};

/// Gives a type of this module its name and schema.
macro_rules! schema {
    ($($(#[$doc:meta])* $name:ident = $schema:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )*};
}

schema! {
    /// A record as a client sends it.
    Record = sent_record();
    /// A record as it is read back.
    StoredRecord = stored_record();
    /// A row: every column of the answer by its name.
    Row = json_schema!({"type": "object", "description": "Every column by its name."});
    /// An error code.
    Code = {
        let codes: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        json_schema!({"type": "string", "enum": codes, "description": "More may come: by its status and `retryable` one that is not known tells enough."})
    };
    /// What a run's records add up to.
    State = {
        let states = [RunState::Running, RunState::Succeeded, RunState::Failed].map(RunState::as_str);
        json_schema!({"type": "string", "enum": states})
    };
    /// A time in an answer.
    Time = time("UTC, with six digits.");
}

fn time(says: &str) -> Schema {
    json_schema!({"type": "string", "format": "date-time", "description": says})
}

/// An identifier: a dot stands alone and never at the end. That it is no device's name is beyond a pattern.
#[must_use]
pub fn identifier() -> Value {
    json!({"type": "string", "pattern": r"^[A-Za-z0-9](\.?[A-Za-z0-9_:+@-])*$", "maxLength": IDENTIFIER_CHARS_MAX})
}

/// What a record may be looked for by in a column: a text that such a column can have, in any form that is taken.
#[must_use]
pub fn sought(column: Column) -> Value {
    match column.kind() {
        Kind::Id => json!({"type": "string", "format": "uuid"}),
        Kind::Identifier => identifier(),
        Kind::Hex => digits(),
        _ => json!({"type": "string", "maxLength": PARAMETER_BYTES_MAX}),
    }
}

fn digits() -> Value {
    json!({"type": "string", "pattern": format!("^[0-9A-Fa-f]{{1,{TRACE_DIGITS_MAX}}}$")})
}

/// The words of record types.
#[must_use]
pub fn types() -> Vec<&'static str> {
    RecordType::ALL.iter().map(|kind| kind.as_str()).collect()
}

/// The words of levels.
#[must_use]
pub fn levels() -> Vec<&'static str> {
    Level::ALL.iter().map(|level| level.as_str()).collect()
}

fn sent_record() -> Schema {
    let mut fields = Map::new();
    for column in Column::ALL.into_iter().filter(|column| !column.is_stamped()) {
        fields.insert(column.name().to_owned(), described(taken(column), column.doc()));
    }
    for (other, column) in [("description", Column::Message), ("logged_at", Column::Timestamp)] {
        fields.insert(other.to_owned(), described(taken(column), &format!("another name of {}", column.name())));
    }
    json_schema!({
        "type": "object",
        "description": "One thing that happened. A known field that is not null is needed; fields that are not known are kept in metadata.",
        "minProperties": 1,
        "properties": fields,
        "additionalProperties": true,
    })
}

/// What a client's field may be. Null is absent.
fn taken(column: Column) -> Value {
    match column.kind() {
        Kind::Id => json!({"type": ["string", "null"], "format": "uuid"}),
        Kind::Identifier => json!({"anyOf": [
            identifier(), {"type": "integer", "minimum": 0}, {"type": ["boolean", "null"]},
        ]}),
        Kind::Word if column == Column::Type => {
            json!({"anyOf": [{"type": "string", "enum": types()}, {"type": "null"}]})
        }
        Kind::Word => json!({"type": ["string", "number", "null"]}),
        Kind::Label | Kind::Text => json!({"type": ["string", "number", "boolean", "null"]}),
        Kind::Hex => json!({"anyOf": [
            digits(), {"type": "integer", "minimum": 0}, {"type": "null"},
        ]}),
        Kind::Time => json!({"type": ["string", "null"], "format": "date-time"}),
        Kind::Int => {
            let least = if column == Column::RowCount { 0 } else { i64::MIN };
            json!({"type": ["integer", "null"], "minimum": least, "maximum": i64::MAX})
        }
        Kind::Float => json!({"type": ["number", "null"], "minimum": 0}),
        Kind::List => json!({"type": ["array", "null"], "items": {"type": "string"}}),
        // One that is no object is kept under its own name.
        Kind::Json => json!({}),
        Kind::Date => json!({"type": ["string", "null"], "format": "date"}),
    }
}

fn stored_record() -> Schema {
    let mut fields = Map::new();
    for column in Column::ALL.into_iter().filter(|column| *column != Column::Date) {
        fields.insert(column.name().to_owned(), described(stored(column), column.doc()));
    }
    json_schema!({
        "type": "object",
        "description": "A record: an object of the fields that it has.",
        "properties": fields,
        "required": ["id", "journal", "position", "timestamp", "ingested_at", "type", "level"],
    })
}

fn stored(column: Column) -> Value {
    match column.kind() {
        Kind::Id => json!({"type": "string", "format": "uuid"}),
        Kind::Word if column == Column::Type => json!({"type": "string", "enum": types()}),
        Kind::Word => json!({"type": "string", "enum": levels()}),
        Kind::Identifier | Kind::Label | Kind::Text | Kind::Hex => json!({"type": "string"}),
        Kind::Time => json!({"type": "string", "format": "date-time"}),
        Kind::Int => json!({"type": "integer"}),
        Kind::Float => json!({"type": "number", "minimum": 0}),
        Kind::List => json!({"type": "array", "items": {"type": "string"}}),
        Kind::Json => json!({"type": "object"}),
        Kind::Date => json!({"type": "string", "format": "date"}),
    }
}

fn described(mut schema: Value, says: &str) -> Value {
    schema["description"] = says.into();
    schema
}
