//! Dead letters once their cause was mended: read, sent again, removed. Owns making a record of a letter again; refuses to
//! decide which are worth it: people do.

use std::collections::BTreeMap;

use async_trait::async_trait;
use runstone_record::{Batch, Column, parse, time};
use serde_json::value::RawValue;

use crate::{DeadLetter, Frame, SinkError};

/// A sink's dead letters, in the target.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// The sink's name.
    fn sink(&self) -> &'static str;

    /// A page in the order of source and position: at most `limit` and at most a page of the API, behind that of the source and
    /// position `after`.
    ///
    /// # Errors
    /// Says what the caller is to do.
    async fn dead_letters(&self, after: Option<(&str, u64)>, limit: usize) -> Result<Vec<DeadLetter>, SinkError>;

    /// Removes letters of a source, and gives their number: nobody wants them.
    ///
    /// # Errors
    /// Says what the caller is to do. What was removed before it stays removed.
    async fn remove_dead_letters(&self, source: &str, positions: &[u64]) -> Result<u64, SinkError>;

    /// Brings a letter's record to the target once more and removes the letter, if it is taken. No cursor moves. Broken off in
    /// between and done again, whenever, the record is there once. `now`: microseconds since 1970.
    ///
    /// # Errors
    /// Says what the caller is to do. The letter is still there then, or all is done, where an answer was lost.
    async fn redeliver(&self, letter: &DeadLetter, now: i64) -> Result<Redelivered, SinkError>;
}

/// What came of a letter that was sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redelivered {
    /// The target has the record, and the letter is gone.
    Taken,
    /// The target cannot take it, still. The letter stays as it was.
    Refused {
        /// Why, in the target's words.
        reason: String,
    },
    /// Somebody has removed the letter meanwhile; nothing was done.
    Gone,
}

/// A letter that is no record.
#[derive(Debug, thiserror::Error)]
#[error("read the record of a dead letter: {reason}")]
pub struct LetterError {
    reason: String,
}

impl DeadLetter {
    /// Its record, at its position.
    ///
    /// # Errors
    /// What it has is no record.
    pub fn frame(&self) -> Result<Frame, LetterError> {
        let wrong = |reason: String| LetterError { reason };
        let mut fields: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(&self.record).map_err(|error| wrong(error.to_string()))?;
        let arrived = fields.get(Column::IngestedAt.name()).map(|text| text.get().trim_matches('"'));
        let arrived = arrived.ok_or_else(|| wrong("it has no time of arrival".to_owned()))?;
        let ingested_at = time::parse_rfc3339(arrived).map_err(|error| wrong(error.to_string()))?;
        fields.retain(|name, _| Column::from_field(name).is_none_or(|column| !column.is_stamped()));
        let body = serde_json::to_vec(&fields).map_err(|error| wrong(error.to_string()))?;
        let parsed = parse::taken(&body).map_err(|error| wrong(error.to_string()))?;
        if let Some(error) = parsed.errors.first() {
            return Err(wrong(error.message.clone()));
        }
        let batch: Batch = parsed.builder.restore(vec![self.id], ingested_at);
        Ok(Frame { first: self.position, batch })
    }
}

#[cfg(test)]
mod tests {
    use runstone_record::{IdMint, RecordId};

    use super::*;

    /// The letter of a record as it was sent, and what the letter's record says.
    fn again(body: &str) -> (String, String) {
        let parsed = parse::json(body.as_bytes()).unwrap();
        assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
        let batch = parsed.builder.stamp(&mut IdMint::new(1_700_000_000_000, 7), 1_700_000_000_123_456, None);
        let letter = DeadLetter::of("uuid/1", &batch, 0, 42, "why".to_owned());
        let frame = letter.frame().unwrap();
        assert_eq!((frame.first, frame.batch.len()), (42, 1));
        (letter.record, DeadLetter::of("uuid/1", &frame.batch, 0, 42, "why".to_owned()).record)
    }

    #[test]
    fn a_letters_record_is_the_one_that_was_sent() {
        for body in [
            r#"{"message":"one"}"#,
            r#"{"id":"01890a5d-ac96-774b-bcce-b302099a8057","timestamp":"2024-01-01T00:00:00.000001Z","message":"é\u0001\"\\ 🪨"}"#,
            r#"{"type":"activity","status":"Succeeded","duration":1.25,"row_count":9007199254740993,"capabilities":["a","b"]}"#,
            r#"{"run_id":"r","type":"start","title":"t","metadata":{"n":12345678901234567890.123456789,"deep":[{"a":null}]}}"#,
            r#"{"message":"x","journal":"mine","position":"here","date":"then","ingested_at":5,"other":1e300}"#,
        ] {
            let (sent, found) = again(body);
            assert_eq!(found, sent);
        }
    }

    #[test]
    fn what_is_no_record_is_an_error() {
        let id = RecordId::from_u128(5);
        for record in ["", "[]", "{}", r#"{"ingested_at":"yesterday"}"#, r#"{"ingested_at":"2024-01-01T00:00:00Z"}"#] {
            let letter = DeadLetter {
                source: "uuid/1".to_owned(),
                position: 1,
                id,
                reason: String::new(),
                record: record.to_owned(),
            };
            assert!(letter.frame().is_err(), "{record}");
        }
    }
}
