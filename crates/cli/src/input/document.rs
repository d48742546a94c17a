//! JSON documents: objects that may span lines, and arrays of objects. They are read whole before they are sent.

use std::io::{self, Read};

use serde_json::value::RawValue;

use super::{Closed, Feed, Format, Item};

/// Items that are handed over together.
const CHUNK_ITEMS: usize = 1_000;

/// Is the input, judged by its beginning, one document and not a line a record? An array of objects is, and an object whose
/// brace stands alone on its line.
pub(super) fn is_one(format: Format, beginning: &[u8]) -> bool {
    let text = beginning.trim_ascii_start();
    match (format, text.first()) {
        (Format::Json, _) => true,
        (Format::Auto, Some(b'[')) => matches!(text[1..].trim_ascii_start().first(), Some(b'{' | b']')),
        (Format::Auto, Some(b'{')) => {
            text[1..].split(|byte| *byte == b'\n').next().is_some_and(|rest| rest.trim_ascii().is_empty())
        }
        _ => false,
    }
}

/// Reads the rest and hands over its objects.
pub(super) fn read(beginning: &[u8], rest: &mut dyn Read, feed: &mut Feed) -> io::Result<Result<(), Closed>> {
    let mut bytes = beginning.to_vec();
    rest.read_to_end(&mut bytes)?;
    Ok(hand_over(&bytes, feed))
}

fn hand_over(bytes: &[u8], feed: &mut Feed) -> Result<(), Closed> {
    let mut lines = LineCounter { bytes, line: 1, at: 0 };
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let line = lines.line_of(error.valid_up_to());
            return refuse(feed, line, format!("write JSON as UTF-8: {error}"));
        }
    };
    let mut items = Vec::new();
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    let mut failure = None;
    while let Some(value) = values.next() {
        let elements = value.and_then(elements);
        let elements = match elements {
            Ok(elements) => elements,
            Err(error) => {
                failure = Some((lines.line_of(values.byte_offset()), error));
                break;
            }
        };
        for element in elements {
            let line = lines.line_of(offset(text, element.get()));
            items.push(Item { line, converted: feed.converter.object(element.get()) });
            if items.len() == CHUNK_ITEMS {
                feed.hand_over(std::mem::take(&mut items), 0, None)?;
            }
        }
    }
    feed.hand_over(items, bytes.len() as u64, None)?;
    match failure {
        None => Ok(()),
        Some((line, error)) => refuse(feed, line, format!("write JSON objects, or arrays of them: {error}")),
    }
}

/// The members of an array, or the value itself.
fn elements(value: &RawValue) -> serde_json::Result<Vec<&RawValue>> {
    if value.get().starts_with('[') { serde_json::from_str(value.get()) } else { Ok(vec![value]) }
}

fn refuse(feed: &Feed, line: u64, why: String) -> Result<(), Closed> {
    feed.hand_over(vec![Item { line, converted: Err(why) }], 0, None)
}

/// Where a part of a text begins in it.
fn offset(text: &str, part: &str) -> usize {
    part.as_ptr().addr().saturating_sub(text.as_ptr().addr())
}

/// Line numbers of rising offsets.
struct LineCounter<'b> {
    bytes: &'b [u8],
    line: u64,
    at: usize,
}

impl LineCounter<'_> {
    fn line_of(&mut self, offset: usize) -> u64 {
        let end = offset.clamp(self.at, self.bytes.len());
        let passed = self.bytes[self.at..end].iter().filter(|byte| **byte == b'\n').count();
        self.line += passed as u64;
        self.at = end;
        self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_told_from_lines_by_their_beginning() {
        for one in ["[{\"a\":1}]", " [\n {", "[]", "{\n  \"a\": 1\n}", "{ \r\n"] {
            assert!(is_one(Format::Auto, one.as_bytes()), "{one}");
        }
        for lines in
            ["", "{\"a\":1}\n{\"a\":2}", "[Sun Dec 04 04:47:44 2005] [notice] x", "[INFO] x", "{\"cut", "hello"]
        {
            assert!(!is_one(Format::Auto, lines.as_bytes()), "{lines}");
            assert!(is_one(Format::Json, lines.as_bytes()), "{lines}");
            assert!(!is_one(Format::Lines, lines.as_bytes()), "{lines}");
        }
    }
}
