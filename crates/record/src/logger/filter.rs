//! Which entries of a log somebody asked for. Owns the conditions, as `GET /get/logs` names them; refuses to read a log: the
//! store does, and a store with an index for a condition uses that instead.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::columns::Column;
use crate::time::parse_rfc3339;
use crate::words::{Level, RecordType};

/// Conditions that an entry must all meet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryFilter {
    /// Columns of text and what they must be.
    pub equals: Vec<(Column, String)>,
    /// Columns of text and what they must be one of.
    pub any_of: Vec<(Column, Vec<String>)>,
    /// The least level.
    pub min_level: Option<Level>,
    /// The earliest time, itself included: microseconds since 1970.
    pub since: Option<i64>,
    /// The time before which it must lie.
    pub until: Option<i64>,
    /// Texts each of which title, description or exception must have in it, in whatever case.
    pub contains: Vec<String>,
    /// Keys of the metadata and the values that they must have, as text. A dot in a key may also be a step into an object.
    pub metadata: Vec<(String, String)>,
}

type Members = BTreeMap<String, Box<RawValue>>;

impl EntryFilter {
    /// Does an entry, a JSON object, meet all of them? What is no object meets none. Where it is known, the time is that: microseconds
    /// since 1970, of which an entry says the milliseconds.
    #[must_use]
    pub fn takes(&self, entry: &str, time: Option<i64>) -> bool {
        let Ok(members) = serde_json::from_str::<Members>(entry) else { return false };
        let text = |column: Column| members.get(name(column)).and_then(|value| as_text(value));
        let at = || time.or_else(|| parse_rfc3339(&text(Column::Timestamp)?).ok());
        self.equals.iter().all(|(column, value)| text(*column).as_ref() == Some(value))
            && self.any_of.iter().all(|(column, values)| text(*column).is_some_and(|text| values.contains(&text)))
            && self.min_level.is_none_or(|least| level(&members) >= least)
            && self.since.is_none_or(|since| at().is_some_and(|at| at >= since))
            && self.until.is_none_or(|until| at().is_some_and(|at| at < until))
            && self.contains.iter().all(|sought| {
                let sought = sought.to_lowercase();
                [Column::Title, Column::Message, Column::Exception]
                    .into_iter()
                    .filter_map(text)
                    .any(|text| text.to_lowercase().contains(&sought))
            })
            && self.metadata.iter().all(|(key, value)| {
                members.get(name(Column::Metadata)).is_some_and(|metadata| says(metadata, key, value))
            })
    }
}

/// As an entry names it.
fn name(column: Column) -> &'static str {
    if column == Column::Message { "description" } else { column.name() }
}

/// Its own, or its type's.
fn level(members: &Members) -> Level {
    let text = |column: Column| members.get(name(column)).and_then(|value| as_text(value));
    let own = text(Column::Level).and_then(|level| Level::read(&level));
    own.or_else(|| text(Column::Type).and_then(|kind| RecordType::from_text(&kind)).map(RecordType::level))
        .unwrap_or(Level::Info)
}

/// A string's text, and of anything else its JSON.
fn as_text(value: &RawValue) -> Option<String> {
    match value.get() {
        "null" => None,
        text if text.starts_with('"') => serde_json::from_str(text).ok(),
        text => Some(text.to_owned()),
    }
}

fn says(object: &RawValue, key: &str, value: &str) -> bool {
    let Ok(members) = serde_json::from_str::<Members>(object.get()) else { return false };
    if members.get(key).and_then(|found| as_text(found)).is_some_and(|found| found == value) {
        return true;
    }
    key.match_indices('.')
        .any(|(dot, _)| members.get(&key[..dot]).is_some_and(|inner| says(inner, &key[dot + 1..], value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = r#"{"timestamp":"2025-01-13T12:34:56.789Z","type":"error","title":"Load","description":"Disk is FULL",
        "metadata":{"a":{"b.c":{"d":12345678901234567890.10}},"a.b":"x","n":null},"stage":"load","level":"CRITICAL"}"#;

    fn filter(set: impl FnOnce(&mut EntryFilter)) -> EntryFilter {
        let mut filter = EntryFilter::default();
        set(&mut filter);
        filter
    }

    #[test]
    fn each_condition_decides() {
        let at = parse_rfc3339("2025-01-13T12:34:56.789Z").unwrap();
        let equals = |column, value: &str| filter(|f| f.equals.push((column, value.to_owned())));
        let metadata = |key: &str, value: &str| filter(|f| f.metadata.push((key.to_owned(), value.to_owned())));
        let contains = |text: &str| filter(|f| f.contains.push(text.to_owned()));
        for (takes, condition) in [
            (true, EntryFilter::default()),
            (true, equals(Column::Type, "error")),
            (false, equals(Column::Type, "info")),
            (true, equals(Column::Stage, "load")),
            (false, equals(Column::SourceSystem, "load")),
            (true, filter(|f| f.any_of.push((Column::Stage, vec!["extract".to_owned(), "load".to_owned()])))),
            (false, filter(|f| f.any_of.push((Column::Stage, Vec::new())))),
            (true, filter(|f| f.min_level = Some(Level::Critical))),
            (true, filter(|f| f.since = Some(at))),
            (false, filter(|f| f.since = Some(at + 1))),
            (true, filter(|f| f.until = Some(at + 1))),
            (false, filter(|f| f.until = Some(at))),
            (true, contains("is full")),
            (true, contains("LOAD")),
            (false, contains("empty")),
            (true, metadata("a.b.c.d", "12345678901234567890.10")),
            (false, metadata("a.b.c.d", "12345678901234567890.1")),
            (true, metadata("a.b", "x")),
            (false, metadata("n", "null")),
            (false, metadata("a.b.c", "x")),
        ] {
            assert_eq!(condition.takes(ENTRY, None), takes, "{condition:?}");
        }
        let later = filter(|f| f.since = Some(at + 1));
        assert!(!later.takes(ENTRY, Some(at)) && later.takes(ENTRY, Some(at + 1)));
    }

    #[test]
    fn a_level_is_its_types_where_none_is_said() {
        let errors = filter(|f| f.min_level = Some(Level::Error));
        let takes = |entry: &str| errors.takes(entry, None);
        assert!(takes(r#"{"type":"error"}"#) && !takes(r#"{"type":"status"}"#));
        assert!(!takes(r#"{"type":"celebration"}"#) && !takes("[]"));
    }
}
