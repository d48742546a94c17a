//! Text to records: JSON objects as they stand, other lines by what they carry.

use clap::ValueEnum;
use runstone_record::limits::RECORD_BYTES_MAX;
use runstone_sdk::{Defaults, Record, RecordError};
use serde_json::Value;

use crate::clock::Clock;
use crate::lines::{LineParser, LineRecord};

/// What the input is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// JSON where it is JSON, log lines where it is not
    Auto,
    /// JSON documents: objects, or arrays of objects
    Json,
    /// One JSON object a line
    Ndjson,
    /// Plain log lines
    Lines,
}

/// A line that became a record.
#[derive(Debug)]
pub(crate) struct Converted {
    pub(crate) record: Record,
    /// Bytes of the line that the record could not hold.
    pub(crate) cut_bytes: u64,
}

/// Turns the lines of one source into records.
#[derive(Debug)]
pub(crate) struct Converter {
    pub(crate) format: Format,
    pub(crate) parser: LineParser,
    /// For JSON objects.
    pub(crate) defaults: Defaults,
    /// For log lines.
    pub(crate) line_defaults: Defaults,
    pub(crate) clock: Clock,
}

impl Converter {
    /// One line, of which `dropped` bytes were not even read. `None` for a blank one; else why it is no record.
    pub(crate) fn line(&mut self, line: &[u8], dropped: u64) -> Option<Result<Converted, String>> {
        if line.trim_ascii().is_empty() {
            return None;
        }
        if self.format == Format::Ndjson {
            return Some(self.json_line(line, dropped));
        }
        if self.format == Format::Auto
            && line.trim_ascii_start().starts_with(b"{")
            && let Ok(converted) = self.json_line(line, dropped)
        {
            return Some(Ok(converted));
        }
        let text = String::from_utf8_lossy(line);
        let record = self.parser.parse(&text, (self.clock)())?;
        Some(fit(record, dropped, &self.line_defaults))
    }

    /// A JSON object that may span lines.
    pub(crate) fn object(&self, text: &str) -> Result<Converted, String> {
        match Record::from_json_or(text, &self.defaults) {
            Ok(record) => Ok(Converted { record, cut_bytes: 0 }),
            Err(RecordError::NotAnObject(why)) => Err(format!("write a record as one JSON object: {why}")),
            Err(error) => Err(error.to_string()),
        }
    }

    fn json_line(&self, line: &[u8], dropped: u64) -> Result<Converted, String> {
        if dropped > 0 {
            let bytes = line.len() as u64 + dropped;
            return Err(format!("keep a record below {RECORD_BYTES_MAX} bytes: it has {bytes}"));
        }
        let text = std::str::from_utf8(line).map_err(|error| format!("write JSON as UTF-8: {error}"))?;
        self.object(text)
    }
}

/// Bytes for a cut line's mark: `"truncated_bytes":` and a number.
const MARK_BYTES: usize = 64;

/// Makes a record of a line; its message is cut, with a mark in the metadata, where the record would be too large.
pub(crate) fn fit(mut line: LineRecord, dropped: u64, defaults: &Defaults) -> Result<Converted, String> {
    let mut cut_bytes = dropped;
    if dropped > 0 {
        mark(&mut line, cut_bytes);
    }
    let mut made = Record::from_value_or(&line, defaults);
    if let Err(RecordError::TooLarge { bytes }) = made {
        let excess = bytes - RECORD_BYTES_MAX + MARK_BYTES;
        let keep = escaped_prefix(&line.message, escaped_bytes(&line.message).saturating_sub(excess));
        cut_bytes += (line.message.len() - keep) as u64;
        line.message.truncate(keep);
        mark(&mut line, cut_bytes);
        made = Record::from_value_or(&line, defaults);
    }
    made.map(|record| Converted { record, cut_bytes }).map_err(|error| error.to_string())
}

fn mark(line: &mut LineRecord, cut_bytes: u64) {
    line.metadata.insert("truncated_bytes".to_owned(), Value::from(cut_bytes));
}

/// Bytes of a text inside a JSON string.
fn escaped_bytes(text: &str) -> usize {
    text.chars().map(escaped_char_bytes).sum()
}

fn escaped_char_bytes(char: char) -> usize {
    match char {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        other => other.len_utf8(),
    }
}

/// How many bytes of a text fit into so many bytes of a JSON string.
fn escaped_prefix(text: &str, mut room: usize) -> usize {
    let end = text.char_indices().find(|(_, char)| {
        let bytes = escaped_char_bytes(*char);
        let full = bytes > room;
        room = room.saturating_sub(bytes);
        full
    });
    end.map_or(text.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::{Formats, Zone};
    use std::sync::Arc;

    fn converter(format: Format) -> Converter {
        let parser = LineParser::new(Arc::new(Formats::compile().unwrap()), Zone::UTC);
        let defaults = Defaults::default().with("run_id", "r");
        let line_defaults = defaults.clone().with("type", "log");
        Converter { format, parser, defaults, line_defaults, clock: crate::clock::now }
    }

    fn json(converted: &Converted) -> Value {
        serde_json::from_str(&converted.record.to_json()).unwrap()
    }

    #[test]
    fn auto_takes_objects_as_objects_and_the_rest_as_lines() {
        let mut auto = converter(Format::Auto);
        let mut read = |line: &str| json(&auto.line(line.as_bytes(), 0).unwrap().unwrap());
        assert_eq!(read(r#"{"type":"info"}"#), serde_json::json!({"type": "info", "run_id": "r"}));
        let cut = r#"{"type":"in"#;
        assert_eq!(read(cut), serde_json::json!({"message": cut, "run_id": "r", "type": "log"}));
        assert_eq!(read("INFO:root:hi")["logger_name"], "root");
        assert!(auto.line(b" \r", 0).is_none());
    }

    #[test]
    fn ndjson_refuses_what_is_no_object() {
        let mut ndjson = converter(Format::Ndjson);
        for bad in [&b"{\"a\""[..], b"[]", b"hello", b"{\"a\":\"\xff\"}"] {
            assert!(ndjson.line(bad, 0).unwrap().is_err());
        }
        assert!(ndjson.line(b"", 0).is_none());
        assert!(ndjson.line(b"{\"a\"", 7).unwrap().unwrap_err().contains("it has 11"));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced() {
        let record = converter(Format::Lines).line(b"caf\xe9", 0).unwrap().unwrap();
        assert_eq!(json(&record)["message"], "caf\u{fffd}");
    }

    #[test]
    fn a_line_is_cut_to_the_limit_and_marked() {
        for unit in ["x", "é", "\"", "\u{1b}", "\u{1}é\\x"] {
            let line = unit.repeat(RECORD_BYTES_MAX / unit.len() + 1);
            let made = converter(Format::Lines).line(line.as_bytes(), 5).unwrap().unwrap();
            let value = json(&made);
            let message = value["message"].as_str().unwrap();
            assert!(line.starts_with(message));
            assert!(
                (RECORD_BYTES_MAX - 100..=RECORD_BYTES_MAX).contains(&made.record.bytes()),
                "{}",
                made.record.bytes()
            );
            assert_eq!(made.cut_bytes, (line.len() - message.len()) as u64 + 5);
            assert_eq!(value["metadata"]["truncated_bytes"], made.cut_bytes);
        }
    }
}
