//! JSON ↔ DynamoDB's types: text S, number N, boolean BOOL, null NULL, array L, object M. Owns what has no place in
//! them; refuses to change what has.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use jiter::{Jiter, JiterError, Peek};
use runstone_record::limits::DYNAMO_DEPTH_MAX;

use super::number;

/// A value of DynamoDB and the bytes that it counts as in an item, rounded up.
#[derive(Debug, Clone)]
pub(super) struct Sized {
    pub(super) value: AttributeValue,
    pub(super) bytes: usize,
}

/// Why a JSON value is none of DynamoDB.
#[derive(Debug)]
pub(super) enum Unfit {
    /// It is not JSON.
    Syntax(JiterError),
    /// It is nested deeper than DynamoDB takes, or has a member without a name.
    Shape,
}

impl From<JiterError> for Unfit {
    fn from(error: JiterError) -> Self {
        Unfit::Syntax(error)
    }
}

/// Of a list, a map and each of their elements (the developer guide's "Item sizes and formats").
const COLLECTION_BYTES: usize = 3;
const ELEMENT_BYTES: usize = 1;

/// Reads the value that comes next; `depth` is its own, should it be an array or an object. Of two members with one name the
/// last stays, as everywhere where JSON becomes a map.
pub(super) fn from_json(jiter: &mut Jiter<'_>, depth: usize) -> Result<Sized, Unfit> {
    let peek = jiter.peek()?;
    if matches!(peek, Peek::Array | Peek::Object) && depth > DYNAMO_DEPTH_MAX {
        return Err(Unfit::Shape);
    }
    Ok(match peek {
        Peek::Null => {
            jiter.known_null()?;
            Sized { value: AttributeValue::Null(true), bytes: 1 }
        }
        Peek::True | Peek::False => Sized { value: AttributeValue::Bool(jiter.known_bool(peek)?), bytes: 1 },
        Peek::String => text(jiter.known_str()?),
        Peek::Array => array(jiter, depth)?,
        Peek::Object => object(jiter, depth)?,
        _ => {
            let json = String::from_utf8_lossy(jiter.known_number_bytes(peek)?).into_owned();
            // A number that DynamoDB would round is kept as its text.
            number::exact(&json).map_or_else(
                || text(&json),
                |number| Sized { bytes: number.len() / 2 + 2, value: AttributeValue::N(number.into_owned()) },
            )
        }
    })
}

pub(super) fn text(text: &str) -> Sized {
    Sized { bytes: text.len(), value: AttributeValue::S(text.to_owned()) }
}

fn array(jiter: &mut Jiter<'_>, depth: usize) -> Result<Sized, Unfit> {
    let (mut items, mut bytes) = (Vec::new(), COLLECTION_BYTES);
    let mut next = jiter.known_array()?;
    while next.is_some() {
        let item = from_json(jiter, depth + 1)?;
        bytes += ELEMENT_BYTES + item.bytes;
        items.push(item.value);
        next = jiter.array_step()?;
    }
    Ok(Sized { value: AttributeValue::L(items), bytes })
}

fn object(jiter: &mut Jiter<'_>, depth: usize) -> Result<Sized, Unfit> {
    let (mut members, mut bytes) = (HashMap::new(), COLLECTION_BYTES);
    let mut next = jiter.known_object()?.map(str::to_owned);
    while let Some(name) = next {
        if name.is_empty() {
            return Err(Unfit::Shape);
        }
        let member = from_json(jiter, depth + 1)?;
        bytes += ELEMENT_BYTES + name.len() + member.bytes;
        members.insert(name, member.value);
        next = jiter.next_key()?.map(str::to_owned);
    }
    Ok(Sized { value: AttributeValue::M(members), bytes })
}

/// What an entry begins with, for whoever reads it; the other members stand in the order of their names.
const FIRST: [&str; 5] = ["timestamp", "type", "title", "description", "metadata"];

/// Appends a value as JSON. What JSON has no word for, and nobody here writes, becomes null.
pub(super) fn to_json(value: &AttributeValue, out: &mut Vec<u8>) {
    match value {
        AttributeValue::S(text) => string(text, out),
        AttributeValue::N(number) if Jiter::new(number.as_bytes()).next_number_bytes().is_ok() => {
            out.extend_from_slice(number.as_bytes());
        }
        AttributeValue::N(number) => string(number, out),
        AttributeValue::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        AttributeValue::L(items) => list(items.iter(), out, to_json),
        AttributeValue::Ss(items) => list(items.iter(), out, |item, out| string(item, out)),
        AttributeValue::Ns(items) => list(items.iter(), out, |item, out| out.extend_from_slice(item.as_bytes())),
        AttributeValue::M(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            let rank = |name: &str| FIRST.iter().position(|first| *first == name).unwrap_or(FIRST.len());
            names.sort_by_key(|name| (rank(name), *name));
            for (place, name) in names.into_iter().enumerate() {
                out.push(if place == 0 { b'{' } else { b',' });
                string(name, out);
                out.push(b':');
                to_json(&members[name], out);
            }
            out.extend_from_slice(if members.is_empty() { b"{}" } else { b"}" });
        }
        _ => out.extend_from_slice(b"null"),
    }
}

fn list<T>(items: impl Iterator<Item = T>, out: &mut Vec<u8>, write: impl Fn(T, &mut Vec<u8>)) {
    out.push(b'[');
    for (place, item) in items.enumerate() {
        if place > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

fn string(text: &str, out: &mut Vec<u8>) {
    // Writing to memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}
