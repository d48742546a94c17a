//! Whether an entry that comes under an id which the log has is the one that it has. Owns what counts as the same: an entry that
//! is sent again may have another time of arrival, and DynamoDB prints a number in its own way.

use runstone_record::Column;
use runstone_record::logger::Entry;
use serde_json::{Map, Number, Value};

/// Is every member of the entry in the log as well? Others may have brought it there with more.
pub(super) fn is_same(entry: &Entry, stored: &str) -> bool {
    let read = |json: &str| serde_json::from_str::<Map<String, Value>>(json).ok();
    let (Some(mut sent), Some(stored)) = (read(&entry.json), read(stored)) else { return false };
    if !entry.has_time {
        sent.remove(Column::Timestamp.name());
    }
    sent.iter().all(|(name, value)| stored.get(name).is_some_and(|other| is_alike(value, other)))
}

fn is_alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        // Whole ones are told apart to the last digit.
        (Value::Number(one), Value::Number(other)) => {
            one == other || (!(is_whole(one) && is_whole(other)) && one.as_f64() == other.as_f64())
        }
        // One that DynamoDB has no place for is a text there.
        (Value::Number(one), Value::String(other)) => other.parse().ok() == one.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_alike(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let alike = |(name, value)| other.get(name).is_some_and(|other| is_alike(value, other));
            one.len() == other.len() && one.iter().all(alike)
        }
        (one, other) => one == other,
    }
}

fn is_whole(number: &Number) -> bool {
    number.is_i64() || number.is_u64()
}

#[cfg(test)]
mod tests {
    use runstone_record::logger;

    use super::*;

    fn entry(members: &str) -> Entry {
        let event = format!(r#"{{"run_id":"r","log_entry":{{"type":"info","title":"t","description":"d"{members}}}}}"#);
        logger::read(event.as_bytes(), 1_000).1.unwrap()
    }

    #[test]
    fn an_entry_is_the_same_whenever_it_comes_and_however_numbers_are_printed() {
        let stored = r#"{"timestamp":"2025-01-13T12:34:56.789Z","type":"info","title":"t","description":"d","id":"i",
            "metadata":{"n":1.5,"far":"12345678901234567890123456789012345678901234567890","list":[1,{"a":null}]}}"#;
        let metadata = r#","metadata":{"n":1.50,"far":12345678901234567890123456789012345678901234567890,"list":[1.0,{"a":null}]}"#;
        let time = r#","timestamp":"2025-01-13T12:34:56.789""#;
        for members in ["", metadata, time, &format!("{metadata}{time}")] {
            assert!(is_same(&entry(members), stored), "{members}");
        }
        for members in [
            r#","metadata":{"n":1.50}"#,
            r#","metadata":{"n":1.51,"far":12345678901234567890123456789012345678901234567890,"list":[1,{"a":null}]}"#,
            r#","metadata":{"n":1.5,"far":12345678901234567890123456789012345678901234567890,"list":[1,{"a":null},2]}"#,
            r#","metadata":{"n":"1.5","far":12345678901234567890123456789012345678901234567890,"list":[1,{"a":null}]}"#,
            r#","timestamp":"2025-01-13T12:34:57Z""#,
            r#","stage":"load""#,
        ] {
            assert!(!is_same(&entry(members), stored), "{members}");
        }
        let large = |n: u64| format!(r#","metadata":{{"n":{n}}}"#);
        let first = entry(&large(9_007_199_254_740_992)).json;
        assert!(is_same(&entry(&large(9_007_199_254_740_992)), &first));
        assert!(!is_same(&entry(&large(9_007_199_254_740_993)), &first));
    }
}
