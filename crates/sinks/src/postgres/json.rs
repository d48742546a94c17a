//! JSON text and `jsonb`. Owns saying what `jsonb` would change of a record's metadata, and making the record's text again of
//! what `jsonb` prints; refuses to know where either is kept.
//!
//! `jsonb` keeps every digit of a number and not its exponent or the sign of a zero; it keeps the last of several members of
//! one name, and no order of members. A record's metadata has its members in order, so that order is no loss.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::value::RawValue;

/// The member of `extra_data` in which what did not fit elsewhere is kept.
pub(super) const OWN: &str = "_runstone";

/// An exponent beyond this is not given to `jsonb`, which writes out each digit.
const EXPONENT_MAX: u32 = 100;
/// Nobody's metadata is deeper.
const DEPTH_MAX: usize = 128;

/// What `jsonb` makes of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// The same text can be made of it again.
    Same,
    /// It says the same in another way, or loses a member.
    Changed,
    /// It would be refused, or far larger.
    Unfit,
}

/// What is seen of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) fit: Fit,
    /// Has it a member of our name?
    pub(super) has_own: bool,
}

/// An object or array that is open: the name of its last member, and whether another comes next.
struct Open {
    object: bool,
    name: Option<Range<usize>>,
    name_next: bool,
}

struct Scan<'t> {
    text: &'t [u8],
    at: usize,
    open: Vec<Open>,
    seen: Seen,
}

/// Looks through the text of metadata.
pub(super) fn look(text: &str) -> Seen {
    let seen = Seen { fit: Fit::Same, has_own: false };
    // An empty object is what is left of no metadata at all.
    if !text.starts_with('{') || text == "{}" {
        return Seen { fit: Fit::Unfit, has_own: false };
    }
    let mut scan = Scan { text: text.as_bytes(), at: 0, open: Vec::new(), seen };
    scan.run();
    scan.seen
}

impl Scan<'_> {
    fn at_least(&mut self, fit: Fit) {
        self.seen.fit = self.seen.fit.max(fit);
    }

    fn run(&mut self) {
        while let Some(byte) = self.text.get(self.at) {
            match byte {
                b'{' | b'[' => {
                    let object = *byte == b'{';
                    self.open.push(Open { object, name: None, name_next: object });
                    if self.open.len() > DEPTH_MAX {
                        return self.at_least(Fit::Unfit);
                    }
                }
                b'}' | b']' => drop(self.open.pop()),
                b',' => {
                    if let Some(open) = self.open.last_mut() {
                        open.name_next = open.object;
                    }
                }
                b'"' => {
                    self.string();
                    continue;
                }
                b'-' | b'0'..=b'9' => {
                    self.number();
                    continue;
                }
                b':' | b'a'..=b'z' => {}
                _ => self.at_least(Fit::Changed),
            }
            self.at += 1;
        }
    }

    fn string(&mut self) {
        let start = self.at + 1;
        self.at = start;
        loop {
            match self.text.get(self.at) {
                None | Some(b'"') => break,
                Some(b'\\') => self.escape(),
                Some(_) => self.at += 1,
            }
        }
        let name = start..self.at;
        self.at += 1;
        let depth = self.open.len();
        let Some(open) = self.open.last_mut().filter(|open| open.name_next) else { return };
        open.name_next = false;
        let before = open.name.replace(name.clone());
        self.seen.has_own |= depth == 1 && self.text.get(name.clone()) == Some(OWN.as_bytes());
        let order = before.map(|before| self.text.get(before).cmp(&self.text.get(name)));
        if matches!(order, Some(Ordering::Equal | Ordering::Greater)) {
            self.at_least(Fit::Changed);
        }
    }

    /// Only what our own writer escapes comes back the same.
    fn escape(&mut self) {
        let digits = self.text.get(self.at + 2..self.at + 6);
        match self.text.get(self.at + 1) {
            Some(b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't') => {}
            Some(b'u') => {
                let code = digits.and_then(|digits| std::str::from_utf8(digits).ok());
                match code.and_then(|code| u32::from_str_radix(code, 16).ok()) {
                    None | Some(0 | 0xd800..=0xdfff) => self.at_least(Fit::Unfit),
                    Some(8 | 9 | 10 | 12 | 13 | 0x20..) => self.at_least(Fit::Changed),
                    Some(_) if code.is_some_and(|code| code.bytes().any(|byte| byte.is_ascii_uppercase())) => {
                        self.at_least(Fit::Changed);
                    }
                    Some(_) => {}
                }
            }
            _ => self.at_least(Fit::Changed),
        }
        self.at += 2;
    }

    fn number(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let length = rest.iter().position(|byte| !is_digit(byte)).unwrap_or(rest.len());
        let number = rest.get(..length).unwrap_or_default();
        self.at += length;
        if let Some(place) = number.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            let exponent = number.get(place + 1..).and_then(|text| std::str::from_utf8(text).ok());
            let exponent = exponent.and_then(|text| text.trim_start_matches(['+', '-']).parse::<u32>().ok());
            let is_near = exponent.is_some_and(|exponent| exponent <= EXPONENT_MAX);
            self.at_least(if is_near { Fit::Changed } else { Fit::Unfit });
        } else if number.first() == Some(&b'-') && !number.iter().any(|byte| matches!(byte, b'1'..=b'9')) {
            self.at_least(Fit::Changed);
        }
    }
}

/// The members of an object, each name as it is written between its quotes, in their order.
pub(super) fn members(text: &str) -> serde_json::Result<Vec<(String, &RawValue)>> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
    let written = |(name, value): (String, _)| {
        let quoted = serde_json::to_string(&name)?;
        let inner = quoted.get(1..quoted.len() - 1).unwrap_or_default();
        Ok((inner.to_owned(), value))
    };
    let mut members = members.into_iter().map(written).collect::<serde_json::Result<Vec<_>>>()?;
    members.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(members)
}

/// Writes these members as the record's own writer does.
pub(super) fn write_object(members: &[(String, &RawValue)], out: &mut Vec<u8>) -> serde_json::Result<()> {
    for (place, (name, value)) in members.iter().enumerate() {
        out.extend_from_slice(if place == 0 { b"{\"" } else { b",\"" });
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        write_value(value.get(), out)?;
    }
    out.extend_from_slice(if members.is_empty() { b"{}" } else { b"}" });
    Ok(())
}

fn write_value(text: &str, out: &mut Vec<u8>) -> serde_json::Result<()> {
    match text.as_bytes().first() {
        Some(b'{') => write_object(&members(text)?, out),
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text)?;
            out.push(b'[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                write_value(item.get(), out)?;
            }
            out.push(b']');
            Ok(())
        }
        Some(b'"') => {
            let text: String = serde_json::from_str(text)?;
            serde_json::to_writer(out, &text)
        }
        _ => {
            out.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_jsonb_would_change_is_seen() {
        for (text, fit) in [
            (r#"{"a":1}"#, Fit::Same),
            (r#"{"a":1.50,"b":-0.5,"c":100000000000000000000000000000000000000,"d":0}"#, Fit::Same),
            (r#"{"a":{"x":[1,"e",{"y":null}],"z":true},"b":"1e5 -0 {\"\\\u001f\n"}"#, Fit::Same),
            (r#"{"a":[{"x":1},{"x":2}]}"#, Fit::Same),
            (r#"{"a":1e5}"#, Fit::Changed),
            (r#"{"a":[-0]}"#, Fit::Changed),
            (r#"{"a":-0.00}"#, Fit::Changed),
            (r#"{"a":{"x":1,"x":2}}"#, Fit::Changed),
            (r#"{"b":1,"a":2}"#, Fit::Changed),
            (r#"{"a": 1}"#, Fit::Changed),
            (r#"{"a":"\/"}"#, Fit::Changed),
            (r#"{"a":"\u00e9"}"#, Fit::Changed),
            (r#"{"a":"\u001F"}"#, Fit::Changed),
            (r#"{"a":1E-101}"#, Fit::Unfit),
            (r#"{"a":1e-99999999999}"#, Fit::Unfit),
            (r#"{"a":"\u0000"}"#, Fit::Unfit),
            (r#"{"a":"\ud800"}"#, Fit::Unfit),
            ("{}", Fit::Unfit),
            ("[1]", Fit::Unfit),
            ("", Fit::Unfit),
        ] {
            assert_eq!(look(text), Seen { fit, has_own: false }, "{text}");
        }
        assert!(look(r#"{"_runstone":1,"a":2}"#).has_own);
        assert!(!look(r#"{"a":{"_runstone":1},"b":"_runstone"}"#).has_own);
    }

    #[test]
    fn what_jsonb_prints_becomes_the_records_text() {
        let printed = r#"{"b": [1, {"y": "ü\u001f", "xx": 1.50}, []], "a b": {}, "a\"": null}"#;
        let mut out = Vec::new();
        write_object(&members(printed).unwrap(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, r#"{"a b":{},"a\"":null,"b":[1,{"xx":1.50,"y":"ü\u001f"},[]]}"#);
        assert_eq!(look(&text).fit, Fit::Same);
    }
}
