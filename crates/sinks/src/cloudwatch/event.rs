//! A record as an event. Owns its message and what is cut of a record that is too large for one; refuses to know of calls.
//!
//! The message is the record as JSON of the API. Where that is too large, its longest fields are cut, each is a text then, and
//! the member `cut` says how many bytes of JSON each was: `"cut":{"message":1048576}`. What people search by is never cut.

use std::collections::BTreeMap;

use runstone_record::Batch;
use runstone_record::limits::CLOUDWATCH_SHORT_BYTES_MAX;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Where the message has the record's id: first.
const ID: &str = r#"{"id":""#;
const ID_BYTES: usize = 36;
/// Bytes that a cut field takes in `cut` and around it beside its name, at most.
const CUT_BYTES: usize = 32;

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// When it happened, in milliseconds since 1970.
    pub(super) at_ms: i64,
    /// What it says.
    pub(super) message: String,
    /// Which record of the delivery it is.
    pub(super) place: usize,
    /// May somebody have brought it already?
    pub(super) may_be_there: bool,
}

/// The message of a row of a batch.
pub(super) fn message(source: &str, (batch, row, position): (&Batch, usize, u64), bytes_max: usize) -> String {
    let mut record = Vec::new();
    batch.write_json(row, source, position, &mut record);
    // It is made of texts.
    let record =
        String::from_utf8(record).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    if record.len() <= bytes_max { record } else { cut(&record, bytes_max).unwrap_or(record) }
}

/// The id of the record that a message of ours is.
pub(super) fn id(message: &str) -> Option<&str> {
    message.strip_prefix(ID)?.get(..ID_BYTES)
}

/// The same record in so many bytes. None where it is no record.
fn cut(record: &str, bytes_max: usize) -> Option<String> {
    let fields: Fields<'_> = serde_json::from_str(record).ok()?;
    let is_long = |json: &str| json.len() > CLOUDWATCH_SHORT_BYTES_MAX;
    let short: usize =
        fields.0.iter().map(|(name, json)| name.len() + 4 + if is_long(json) { 0 } else { json.len() }).sum();
    let mut long: Vec<(&str, &str)> =
        fields.0.iter().filter(|(_, json)| is_long(json)).map(|(name, json)| (*name, *json)).collect();
    long.sort_by_key(|(_, json)| json.len());
    let around: usize = long.iter().map(|(name, _)| name.len() + CUT_BYTES).sum();
    // The shortest first: what they leave over is for the others.
    let mut left = bytes_max.saturating_sub(short + around + CUT_BYTES);
    let (mut kept, mut cuts) = (BTreeMap::new(), String::new());
    for (place, (name, json)) in long.iter().enumerate() {
        let share = left / (long.len() - place);
        let text = if json.len() <= share { (*json).to_owned() } else { beginning(json, share) };
        if json.len() > share {
            cuts.push_str(&format!("{}\"{name}\":{}", if cuts.is_empty() { "" } else { "," }, json.len()));
        }
        left -= text.len().min(left);
        kept.insert(*name, text);
    }
    let mut out = String::with_capacity(bytes_max);
    for (name, json) in &fields.0 {
        let json = kept.get(name).map_or(*json, String::as_str);
        out.push_str(&format!("{}\"{name}\":{json}", if out.is_empty() { '{' } else { ',' }));
    }
    out.push_str(&format!(",\"cut\":{{{cuts}}}}}"));
    Some(out)
}

/// As much of a value as fits, as a JSON string of at most so many bytes: of a text its beginning, else of its JSON.
fn beginning(json: &str, bytes_max: usize) -> String {
    let text: String = serde_json::from_str(json).unwrap_or_else(|_| json.to_owned());
    let mut end = text.floor_char_boundary(bytes_max.saturating_sub(2));
    loop {
        let encoded = serde_json::Value::from(&text[..end]).to_string();
        if encoded.len() <= bytes_max || end == 0 {
            return encoded;
        }
        // Escapes are longer than what they stand for.
        end = text.floor_char_boundary((end * bytes_max / encoded.len()).min(end - 1));
    }
}

/// The members of a record in their order, their values as they stand there.
struct Fields<'a>(Vec<(&'a str, &'a str)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a record")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry::<&str, &RawValue>()? {
                    fields.push((name, value.get()));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use runstone_record::limits::{CLOUDWATCH_EVENT_BYTES_MAX, CLOUDWATCH_EVENT_BYTES_MIN};
    use runstone_record::{IdMint, parse};
    use serde_json::{Value, json};

    use super::*;

    fn of(record: &Value, bytes_max: usize) -> (String, String) {
        let parsed = parse::json(record.to_string().as_bytes()).unwrap();
        let batch = parsed.builder.stamp(&mut IdMint::new(1, 1), 1_736_771_696_789_000, None);
        assert_eq!(batch.len(), 1, "{record}");
        (message("j/1", (&batch, 0, 7), usize::MAX), message("j/1", (&batch, 0, 7), bytes_max))
    }

    #[test]
    fn what_fits_is_the_record() {
        let record = json!({"message": "m", "run_id": "r", "metadata": {"a": [1, 2.50]}});
        let (whole, sent) = of(&record, CLOUDWATCH_EVENT_BYTES_MAX);
        assert_eq!(whole, sent);
        let read: Value = serde_json::from_str(&sent).unwrap();
        assert_eq!((read["journal"].as_str(), read["position"].as_u64()), (Some("j/1"), Some(7)));
        assert_eq!(id(&sent), read["id"].as_str());
        assert_eq!((id("{}"), id("text"), id(r#"{"id":"short"}"#)), (None, None, None));
    }

    #[test]
    fn long_fields_are_cut_and_marked() {
        let long = "ä\"\n".repeat(20_000);
        let record = json!({
            "message": long, "title": "y".repeat(300), "run_id": "r".repeat(128), "metadata": {"text": "z".repeat(90_000)},
        });
        let (whole, sent) = of(&record, 20_000);
        assert!((18_000..=20_000).contains(&sent.len()), "{}", sent.len());
        let (whole, read): (Value, Value) =
            (serde_json::from_str(&whole).unwrap(), serde_json::from_str(&sent).unwrap());
        for same in ["id", "journal", "position", "timestamp", "run_id", "title", "type", "level"] {
            assert_eq!(read[same], whole[same], "{same}");
        }
        assert!(long.starts_with(read["message"].as_str().unwrap()));
        assert!(whole["metadata"].to_string().starts_with(read["metadata"].as_str().unwrap()));
        assert_eq!(
            read["cut"],
            json!({"message": whole["message"].to_string().len(), "metadata": whole["metadata"].to_string().len()})
        );
        assert_eq!(id(&sent), read["id"].as_str());
    }

    proptest! {
        #[test]
        fn a_cut_record_fits_and_is_json(
            texts in prop::collection::vec(("[a-z]{3,9}", "[ -~\u{1}-\u{9}äß漢😀\"\\\\]{0,2000}", 1..12_usize), 1..6),
            bytes_max in CLOUDWATCH_EVENT_BYTES_MIN..60_000,
        ) {
            let text = |place: usize| texts.get(place).map(|(_, text, times)| text.repeat(*times)).unwrap_or_default();
            let metadata: BTreeMap<_, _> = texts.iter().map(|(name, text, times)| (name.clone(), text.repeat(*times))).collect();
            let record = json!({"message": text(0), "title": text(1), "exception": text(2), "metadata": metadata, "run_id": "r"});
            prop_assume!(record.to_string().len() < 200_000);
            let (whole, sent) = of(&record, bytes_max);
            let read: Value = serde_json::from_str(&sent).unwrap();
            prop_assert!(sent.len() <= bytes_max, "{} of {bytes_max}", sent.len());
            prop_assert_eq!(whole.len() > bytes_max, read.get("cut").is_some());
            prop_assert_eq!(&read["run_id"], &json!("r"));
        }
    }
}
