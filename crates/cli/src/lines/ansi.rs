//! Colour codes: looked through while a line is read, kept in what is stored.

use std::borrow::Cow;

const ESCAPE: char = '\u{1b}';

/// A line without its escape sequences, and where each of its bytes came from.
#[derive(Debug)]
pub(super) struct Plain<'a> {
    text: Cow<'a, str>,
    /// (offset in `text`, bytes removed before it), rising; one entry for each removed sequence.
    removed: Vec<(usize, usize)>,
}

impl<'a> Plain<'a> {
    pub(super) fn of(line: &'a str) -> Plain<'a> {
        if !line.contains(ESCAPE) {
            return Plain { text: Cow::Borrowed(line), removed: Vec::new() };
        }
        let mut text = String::with_capacity(line.len());
        let mut removed = Vec::new();
        let mut total = 0;
        let mut rest = line;
        while let Some(at) = rest.find(ESCAPE) {
            text.push_str(&rest[..at]);
            let length = sequence_bytes(&rest[at..]);
            total += length;
            removed.push((text.len(), total));
            rest = &rest[at + length..];
        }
        text.push_str(rest);
        Plain { text: Cow::Owned(text), removed }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The offset in the line of an offset in the text. A code that stands right before that character belongs to it.
    pub(super) fn origin(&self, offset: usize) -> usize {
        let before = self.removed.partition_point(|(at, _)| *at < offset);
        let removed = before.checked_sub(1).map_or(0, |last| self.removed[last].1);
        offset + removed
    }
}

/// Bytes of the sequence at the start of `text`, which begins with ESC: CSI (`ESC [ … letter`), else ESC alone.
fn sequence_bytes(text: &str) -> usize {
    let Some(body) = text[1..].strip_prefix('[') else {
        return 1;
    };
    let parameters = body.bytes().take_while(|byte| (0x20..=0x3f).contains(byte)).count();
    match body.as_bytes().get(parameters) {
        Some(0x40..=0x7e) => parameters + 3,
        _ => parameters + 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_removed_and_offsets_lead_back() {
        let line = "\u{1b}[2m10:00\u{1b}[0m \u{1b}[32mINFO\u{1b}[0m \u{1b}[1mhé\u{1b}[0m";
        let plain = Plain::of(line);
        assert_eq!(plain.text(), "10:00 INFO hé");
        assert_eq!(&line[plain.origin("10:00 INFO ".len())..], "\u{1b}[1mhé\u{1b}[0m");
        assert_eq!(plain.origin(0), 0);
    }

    #[test]
    fn a_cut_sequence_is_no_panic() {
        for line in ["\u{1b}", "\u{1b}[", "\u{1b}[31", "\u{1b}[é", "a\u{1b}\u{1b}[m"] {
            let plain = Plain::of(line);
            for (offset, _) in plain.text().char_indices() {
                assert!(line.is_char_boundary(plain.origin(offset)), "{line:?}");
            }
        }
    }
}
