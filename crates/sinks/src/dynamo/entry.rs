//! An entry as an element of the list of a log: a map of its members, or, where it is too large or of a shape that DynamoDB
//! does not take, a map of its head and its compressed JSON. Owns both forms; refuses to know which item they are in.

use std::collections::HashMap;
use std::io::{Read, Write};

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use jiter::{Jiter, Peek};
use runstone_record::RecordId;
use runstone_record::limits::{DYNAMO_ITEM_BYTES_LIMIT, DYNAMO_TITLE_BYTES_MAX, DYNAMO_UNPACKED_BYTES_MAX};

use super::DynamoError;
use super::value::{self, Sized, Unfit};

/// Under this name stands the compressed JSON of an entry, as bytes. No member of JSON is ever bytes: a client's member of this
/// name is no mark.
const PACKED: &str = "gzip";
/// What remains readable of it.
const HEAD: [&str; 4] = ["timestamp", "type", "title", ID];
const ID: &str = "id";
/// The list is 1 deep, the entries are 2.
const DEPTH: usize = 2;

/// An entry's JSON object as it is stored, compressed where it has more than so many bytes.
pub(super) fn store(json: &str, bytes_max: usize) -> Result<Sized, DynamoError> {
    let mut jiter = Jiter::new(json.as_bytes());
    if !matches!(jiter.peek(), Ok(Peek::Object)) {
        return Err(DynamoError::Json { reason: "it is something else".to_owned() });
    }
    let read = value::from_json(&mut jiter, DEPTH).and_then(|entry| Ok(jiter.finish().map(|()| entry)?));
    let stored = match read {
        Ok(entry) if entry.bytes <= bytes_max => entry,
        Ok(_) | Err(Unfit::Shape) => pack(json)?,
        Err(Unfit::Syntax(error)) => {
            let reason = format!("{} at byte {}", error.error_type, error.index);
            return Err(DynamoError::Json { reason });
        }
    };
    if stored.bytes > DYNAMO_ITEM_BYTES_LIMIT {
        return Err(DynamoError::TooLarge { bytes: stored.bytes, max: DYNAMO_ITEM_BYTES_LIMIT });
    }
    Ok(stored)
}

/// A text's bytes, compressed.
pub(super) fn compress(text: &str) -> Result<Vec<u8>, DynamoError> {
    let failed = |error: std::io::Error| DynamoError::Json { reason: error.to_string() };
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).map_err(failed)?;
    encoder.finish().map_err(failed)
}

/// The text again.
pub(super) fn decompress(packed: &[u8]) -> std::io::Result<String> {
    let mut text = String::new();
    GzDecoder::new(packed).take(DYNAMO_UNPACKED_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn pack(json: &str) -> Result<Sized, DynamoError> {
    let packed = compress(json)?;
    let mut bytes = 16 + PACKED.len() + packed.len();
    let mut members = HashMap::from([(PACKED.to_owned(), AttributeValue::B(Blob::new(packed)))]);
    for (name, text) in head(json) {
        let text = value::text(&text);
        bytes += name.len() + text.bytes + 1;
        members.insert(name, text.value);
    }
    Ok(Sized { value: AttributeValue::M(members), bytes })
}

/// The texts of the head, the title cut: what is longer is in the compressed JSON.
fn head(json: &str) -> Vec<(String, String)> {
    let mut jiter = Jiter::new(json.as_bytes());
    let mut found = Vec::new();
    let mut next = jiter.next_object().ok().flatten().map(str::to_owned);
    while let Some(name) = next {
        let Ok(peek) = jiter.peek() else { break };
        if peek == Peek::String && HEAD.contains(&name.as_str()) {
            let Ok(text) = jiter.known_str() else { break };
            found.push((name, text[..text.floor_char_boundary(DYNAMO_TITLE_BYTES_MAX)].to_owned()));
        } else if jiter.known_skip(peek).is_err() {
            break;
        }
        next = jiter.next_key().ok().flatten().map(str::to_owned);
    }
    found
}

/// The id of a stored entry, where it has one.
pub(super) fn id(entry: &AttributeValue) -> Option<RecordId> {
    RecordId::parse(entry.as_m().ok()?.get(ID)?.as_s().ok()?).ok()
}

/// The JSON of a stored entry.
pub(super) fn load(entry: &AttributeValue, run_id: &str) -> Result<String, DynamoError> {
    let failed = |source| DynamoError::Unpack { run_id: run_id.to_owned(), source };
    if let Some(AttributeValue::B(packed)) = entry.as_m().ok().and_then(|members| members.get(PACKED)) {
        return decompress(packed.as_ref()).map_err(failed);
    }
    let mut json = Vec::new();
    value::to_json(entry, &mut json);
    String::from_utf8(json).map_err(|error| failed(std::io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn round(json: &str, bytes_max: usize) -> (AttributeValue, Value) {
        let stored = store(json, bytes_max).unwrap();
        let loaded = load(&stored.value, "r").unwrap();
        (stored.value, serde_json::from_str(&loaded).unwrap())
    }

    fn is_packed(value: &AttributeValue) -> bool {
        matches!(value.as_m().unwrap().get(PACKED), Some(AttributeValue::B(_)))
    }

    #[test]
    fn every_type_has_its_own() {
        let json = r#"{"type":"info","title":"","size":5,"metadata":{"n":1.50,"t":true,"f":false,"z":null,"l":[],"m":{},
            "e":"","set":["a","a"],"name":{"values":"reserved"},"gzip":"no mark","big":123456789012345678901234567890123456789}}"#;
        let (stored, loaded) = round(json, 1 << 16);
        let entry = stored.as_m().unwrap();
        assert_eq!(entry["title"], AttributeValue::S(String::new()));
        assert_eq!(entry["size"], AttributeValue::N("5".to_owned()));
        let metadata = entry["metadata"].as_m().unwrap();
        for (name, value) in [
            ("n", AttributeValue::N("1.50".to_owned())),
            ("t", AttributeValue::Bool(true)),
            ("f", AttributeValue::Bool(false)),
            ("z", AttributeValue::Null(true)),
            ("l", AttributeValue::L(vec![])),
            ("m", AttributeValue::M(HashMap::new())),
            ("e", AttributeValue::S(String::new())),
            ("big", AttributeValue::S("123456789012345678901234567890123456789".to_owned())),
        ] {
            assert_eq!(metadata[name], value, "{name}");
        }
        let mut expected: Value = serde_json::from_str(json).unwrap();
        expected["metadata"]["big"] = json!("123456789012345678901234567890123456789");
        assert_eq!(loaded, expected);
        let text = load(&stored, "r").unwrap();
        assert!(text.starts_with(r#"{"type":"info","title":"","metadata":{"big""#), "{text}");
    }

    #[test]
    fn what_has_no_place_is_stored_whole() {
        let nested = |depth: usize| {
            format!(r#"{{"type":"info","metadata":{}1{}}}"#, r#"{"a":"#.repeat(depth), "}".repeat(depth))
        };
        assert!(!is_packed(&round(&nested(30), 1 << 16).0));
        for json in [nested(31), nested(60), r#"{"type":"info","metadata":{"":1}}"#.to_owned()] {
            let (stored, loaded) = round(&json, 1 << 16);
            assert!(is_packed(&stored), "{json}");
            assert_eq!(loaded, serde_json::from_str::<Value>(&json).unwrap());
            assert_eq!(stored.as_m().unwrap()["type"], AttributeValue::S("info".to_owned()));
        }
    }

    #[test]
    fn what_is_large_is_compressed_and_its_head_readable() {
        let json =
            json!({"type": "code", "title": "é".repeat(300), "description": "x".repeat(100_000), "n": 1}).to_string();
        let stored = store(&json, 1 << 16).unwrap();
        assert!(is_packed(&stored.value) && stored.bytes < 2_000, "{}", stored.bytes);
        assert_eq!(load(&stored.value, "r").unwrap(), json);
        assert_eq!(stored.value.as_m().unwrap()["title"], AttributeValue::S("é".repeat(128)));
        assert!(!is_packed(&store(&json, 1 << 20).unwrap().value));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for json in ["", "[]", "{", "{}x", "1", r#"{"a":"\ud800"}"#] {
            let error = store(json, 1 << 16).unwrap_err();
            assert!(matches!(error, DynamoError::Json { .. }) && !error.retryable(), "{json}");
        }
    }
}
