//! How a record is printed as JSON, version 1. Owns field order, times and which columns are raw JSON; the one
//! place that every API answer, export and message prints records through.

use crate::columns::{Column, Kind};
use crate::time::format_micros;

/// Appends JSON text of a string.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    // Without a way out of the loop the compiler compares many bytes at once.
    let plain = text.bytes().fold(true, |plain, byte| plain & (byte >= 0x20) & (byte != b'"') & (byte != b'\\'));
    if plain {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // Writing to memory cannot fail.
        let _ = serde_json::to_writer(out, text);
    }
}

/// Prints one record, field by field; absent fields are left out.
#[derive(Debug)]
pub struct RecordWriter<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> RecordWriter<'a> {
    /// Begins an object.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    fn name(&mut self, column: Column) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(column.name().as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// A text; lists and objects stand as the JSON that they are.
    pub fn text(&mut self, column: Column, text: &str) {
        self.name(column);
        match column.kind() {
            Kind::Json | Kind::List => self.out.extend_from_slice(text.as_bytes()),
            _ => write_string(text, self.out),
        }
    }

    /// An integer; a time as RFC 3339 with microseconds.
    pub fn int(&mut self, column: Column, value: i64) {
        self.name(column);
        match column.kind() {
            Kind::Time => write_string(&format_micros(value), self.out),
            _ => self.out.extend_from_slice(value.to_string().as_bytes()),
        }
    }

    /// A float.
    pub fn float(&mut self, column: Column, value: f64) {
        self.name(column);
        let _ = serde_json::to_writer(&mut *self.out, &value);
    }

    /// Ends the object.
    pub fn end(self) {
        self.out.push(b'}');
    }
}
