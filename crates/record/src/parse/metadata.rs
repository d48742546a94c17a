//! The text of `metadata`: a compact JSON object of the client's own members and of every field that no column
//! has. Owns copying JSON values exactly — numbers keep every digit — within the limits of depth and keys.

use std::ops::Range;

use jiter::{Jiter, Peek};

use super::record::{Fail, item, number_text, read_text};
use crate::code::ErrorCode;
use crate::json::write_string;
use crate::limits::{KEY_BYTES_MAX, RECORD_DEPTH_MAX, RECORD_KEYS_MAX};

/// The metadata of the open record.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    text: Vec<u8>,
    /// Where the top-level members' names stand in `text`.
    names: Vec<Range<usize>>,
    /// Keys of the whole record.
    keys: usize,
    /// NUL characters replaced, over the whole body.
    pub(super) replaced_nuls: u64,
}

impl Metadata {
    /// Begins a record.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.names.clear();
        self.keys = 0;
    }

    /// The finished text; none where there is no member.
    pub(super) fn finish(&mut self) -> Option<&str> {
        if self.names.is_empty() {
            return None;
        }
        self.text.push(b'}');
        // It was copied from valid text, piece by piece.
        std::str::from_utf8(&self.text).ok()
    }

    /// Counts a key of the record.
    pub(super) fn count_key(&mut self, key: &str) -> Result<(), Fail> {
        self.keys += 1;
        if self.keys > RECORD_KEYS_MAX {
            return Err(item(
                ErrorCode::TooManyKeys,
                format!("must have at most {RECORD_KEYS_MAX} keys"),
                None,
            ));
        }
        if key.len() > KEY_BYTES_MAX {
            return Err(item(
                ErrorCode::TooManyKeys,
                format!("must have keys of at most {KEY_BYTES_MAX} bytes, got {}", key.len()),
                None,
            ));
        }
        Ok(())
    }

    /// Begins a member. A name that is taken already gets the first free number: nothing is dropped.
    fn begin_member(&mut self, name: &str) {
        self.text.push(if self.names.is_empty() { b'{' } else { b',' });
        let start = self.text.len();
        write_string(name, &mut self.text);
        let mut number = 2;
        while self.is_taken(start) {
            self.text.truncate(start);
            write_string(&format!("{name}_{number}"), &mut self.text);
            number += 1;
        }
        self.names.push(start..self.text.len());
        self.text.push(b':');
    }

    fn is_taken(&self, start: usize) -> bool {
        let name = &self.text[start..];
        self.names.iter().any(|taken| &self.text[taken.clone()] == name)
    }

    /// Adds a text under a name.
    pub(super) fn member_text(&mut self, name: &str, text: &str) {
        self.begin_member(name);
        write_string(text, &mut self.text);
    }

    /// Adds the value that comes next, at this depth, under a name.
    pub(super) fn member(&mut self, name: &str, jiter: &mut Jiter<'_>, peek: Peek) -> Result<(), Fail> {
        self.begin_member(name);
        self.value(jiter, peek, 2)
    }

    /// Adds the members of the object that comes next.
    pub(super) fn members(&mut self, jiter: &mut Jiter<'_>) -> Result<(), Fail> {
        let mut name = String::new();
        let mut more = key_into(jiter.known_object(), &mut name)?;
        while more {
            self.count_key(&name)?;
            self.replace_nuls(&mut name);
            let peek = jiter.peek()?;
            self.begin_member(&name);
            self.value(jiter, peek, 3)?;
            more = key_into(jiter.next_key(), &mut name)?;
        }
        Ok(())
    }

    fn replace_nuls(&mut self, text: &mut String) {
        let nuls = text.bytes().filter(|byte| *byte == 0).count();
        if nuls > 0 {
            self.replaced_nuls += nuls as u64;
            *text = text.replace('\0', "\u{FFFD}");
        }
    }

    /// Copies the value that comes next; `depth` is its own.
    fn value(&mut self, jiter: &mut Jiter<'_>, peek: Peek, depth: usize) -> Result<(), Fail> {
        match peek {
            Peek::Null => {
                jiter.known_null()?;
                self.text.extend_from_slice(b"null");
            }
            Peek::True | Peek::False => {
                let text: &[u8] = if jiter.known_bool(peek)? { b"true" } else { b"false" };
                self.text.extend_from_slice(text);
            }
            Peek::String => {
                let text = read_text(jiter, &mut self.replaced_nuls)?;
                write_string(&text, &mut self.text);
            }
            Peek::Array | Peek::Object if depth > RECORD_DEPTH_MAX => {
                return Err(item(
                    ErrorCode::TooDeep,
                    format!("must be nested at most {RECORD_DEPTH_MAX} deep"),
                    None,
                ));
            }
            Peek::Array => self.array(jiter, depth)?,
            Peek::Object => self.object(jiter, depth)?,
            _ => {
                let number = number_text(jiter, peek)?;
                self.text.extend_from_slice(number.as_bytes());
            }
        }
        Ok(())
    }

    fn array(&mut self, jiter: &mut Jiter<'_>, depth: usize) -> Result<(), Fail> {
        self.text.push(b'[');
        let mut next = jiter.known_array()?;
        let mut first = true;
        while let Some(peek) = next {
            if !std::mem::take(&mut first) {
                self.text.push(b',');
            }
            self.value(jiter, peek, depth + 1)?;
            next = jiter.array_step()?;
        }
        self.text.push(b']');
        Ok(())
    }

    fn object(&mut self, jiter: &mut Jiter<'_>, depth: usize) -> Result<(), Fail> {
        self.text.push(b'{');
        let mut name = String::new();
        let mut more = key_into(jiter.known_object(), &mut name)?;
        let mut first = true;
        while more {
            self.count_key(&name)?;
            self.replace_nuls(&mut name);
            if !std::mem::take(&mut first) {
                self.text.push(b',');
            }
            write_string(&name, &mut self.text);
            self.text.push(b':');
            let peek = jiter.peek()?;
            self.value(jiter, peek, depth + 1)?;
            more = key_into(jiter.next_key(), &mut name)?;
        }
        self.text.push(b'}');
        Ok(())
    }
}

/// Copies a key out of the parser, which lends it only until its next step. False at the end of the object.
fn key_into(key: jiter::JiterResult<Option<&str>>, name: &mut String) -> Result<bool, Fail> {
    name.clear();
    Ok(key?.is_some_and(|key| {
        name.push_str(key);
        true
    }))
}
