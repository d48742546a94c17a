//! The text of `metadata`: a compact JSON object of the client's own members and of every field that no column
//! has. Owns copying JSON values exactly — numbers keep every digit — within the limits of depth and keys, and
//! putting the members of every object in order, so that one record has one text however its client wrote it.

use std::cmp::Ordering;
use std::ops::Range;

use jiter::{Jiter, Peek};

use super::record::{Fail, item, number_text, read_text};
use crate::code::ErrorCode;
use crate::json::write_string;
use crate::limits::{KEY_BYTES_MAX, RECORD_DEPTH_MAX, RECORD_KEYS_MAX};

/// Where a member of the metadata comes from. Of two with one name the first in this order keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Metadata,
    AdditionalMetadata,
    ExtraData,
    Field,
}

/// A member of an object, as it stands in the text: its name with quotes, a colon, its value.
#[derive(Debug, Clone)]
struct Member {
    name: Range<usize>,
    end: usize,
    source: Source,
}

impl Member {
    /// Its name, without the quotes: those would sort `a b` before `a`.
    fn name<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        &text[self.name.start + 1..self.name.end - 1]
    }
}

/// The metadata of the open record.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    text: Vec<u8>,
    /// The members of the objects that are open: first those of the metadata itself.
    members: Vec<Member>,
    /// Keys of the whole record.
    keys: usize,
    /// NUL characters replaced, over the records of the body so far.
    pub(super) replaced_nuls: u64,
}

impl Metadata {
    /// Begins a record.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.text.push(b'{');
        self.members.clear();
        self.keys = 0;
    }

    /// The finished text; none where there is no member.
    pub(super) fn finish(&mut self) -> Option<&str> {
        if self.members.is_empty() {
            return None;
        }
        self.end_object(0, 1);
        // It was copied from valid text, piece by piece.
        std::str::from_utf8(&self.text).ok()
    }

    /// Counts a key of the record.
    pub(super) fn count_key(&mut self, key: &str) -> Result<(), Fail> {
        self.keys += 1;
        if self.keys > RECORD_KEYS_MAX {
            return Err(item(ErrorCode::TooManyKeys, format!("must have at most {RECORD_KEYS_MAX} keys"), None));
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

    /// Begins a member of the object whose members begin at `first`.
    fn begin_member(&mut self, first: usize, name: &str, source: Source) {
        if self.members.len() > first {
            self.text.push(b',');
        }
        let start = self.text.len();
        write_string(name, &mut self.text);
        let name = start..self.text.len();
        self.text.push(b':');
        self.members.push(Member { name, end: start, source });
    }

    /// Ends the member that was begun last.
    fn end_member(&mut self) {
        let end = self.text.len();
        if let Some(member) = self.members.last_mut() {
            member.end = end;
        }
    }

    /// Ends the object whose members are those from `first` on and whose text begins at `start`, and puts it in
    /// order. Members of one name stay in theirs.
    fn end_object(&mut self, first: usize, start: usize) {
        let outermost = first == 0;
        let in_order = |one: &Member, other: &Member| match one.name(&self.text).cmp(other.name(&self.text)) {
            Ordering::Equal => !outermost,
            order => order.is_lt(),
        };
        if self.members[first..].is_sorted_by(in_order) {
            self.members.truncate(first);
        } else {
            let mut members = self.members.split_off(first);
            members.sort_by(|one, other| {
                let names = one.name(&self.text).cmp(other.name(&self.text));
                names.then(one.source.cmp(&other.source))
            });
            let ordered = in_order_of(&members, &self.text, outermost);
            self.text.truncate(start);
            self.text.extend(ordered);
        }
        self.text.push(b'}');
    }

    /// Adds a text under a name.
    pub(super) fn member_text(&mut self, name: &str, text: &str) {
        self.begin_member(0, name, Source::Field);
        write_string(text, &mut self.text);
        self.end_member();
    }

    /// Adds the value that comes next, at this depth, under a name.
    pub(super) fn member(&mut self, name: &str, jiter: &mut Jiter<'_>, peek: Peek) -> Result<(), Fail> {
        self.begin_member(0, name, Source::Field);
        self.value(jiter, peek, 2)?;
        self.end_member();
        Ok(())
    }

    /// Adds the members of the object that comes next.
    pub(super) fn members(&mut self, source: Source, jiter: &mut Jiter<'_>) -> Result<(), Fail> {
        self.object_members(jiter, 0, source, 2)
    }

    /// Copies the members of the object that comes next behind those from `first` on; `depth` is its own.
    fn object_members(
        &mut self,
        jiter: &mut Jiter<'_>,
        first: usize,
        source: Source,
        depth: usize,
    ) -> Result<(), Fail> {
        let mut name = String::new();
        let mut more = key_into(jiter.known_object(), &mut name)?;
        while more {
            self.count_key(&name)?;
            self.replace_nuls(&mut name);
            let peek = jiter.peek()?;
            self.begin_member(first, &name, source);
            self.value(jiter, peek, depth + 1)?;
            self.end_member();
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
                return Err(item(ErrorCode::TooDeep, format!("must be nested at most {RECORD_DEPTH_MAX} deep"), None));
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
        let (first, start) = (self.members.len(), self.text.len());
        self.object_members(jiter, first, Source::Metadata, depth)?;
        self.end_object(first, start);
        Ok(())
    }
}

/// The text of sorted members. In the metadata itself, `unique`, a name stands once, so that every reader finds all of
/// them: those behind the first get the next number that makes a name of their own.
fn in_order_of(members: &[Member], text: &[u8], unique: bool) -> Vec<u8> {
    let is_name = |name: &[u8]| members.binary_search_by(|member| member.name(text).cmp(name)).is_ok();
    let mut out = Vec::new();
    let mut before = None;
    let mut number = 2_usize;
    for member in members {
        if before.is_some() {
            out.push(b',');
        }
        let name = member.name(text);
        let mut suffix = String::new();
        if unique && before == Some(name) {
            suffix = format!("_{number}");
            while is_name(&[name, suffix.as_bytes()].concat()) {
                number += 1;
                suffix = format!("_{number}");
            }
            number += 1;
        } else {
            number = 2;
        }
        out.extend_from_slice(&text[member.name.start..member.name.end - 1]);
        out.extend_from_slice(suffix.as_bytes());
        out.extend_from_slice(&text[member.name.end - 1..member.end]);
        before = Some(name);
    }
    out
}

/// Copies a key out of the parser, which lends it only until its next step. False at the end of the object.
fn key_into(key: jiter::JiterResult<Option<&str>>, name: &mut String) -> Result<bool, Fail> {
    name.clear();
    Ok(key?.is_some_and(|key| {
        name.push_str(key);
        true
    }))
}
