//! The place in a walk through pages of logs, as an opaque text. Owns its form, version 1, and the check that it is
//! used with the query that it came from.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const VERSION: u8 = 1;

/// Where a walk stands: after the record at `position`. Records above `through` came later and are outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The hash of the query that the walk belongs to.
    pub(crate) query: u64,
    pub(crate) timestamp: i64,
    pub(crate) journal: String,
    pub(crate) position: u64,
    pub(crate) through: u64,
}

/// The text is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cursor: must be the text that a page gave as next")]
pub struct InvalidCursor;

impl Cursor {
    /// Reads what [`Cursor::encode`] wrote.
    ///
    /// # Errors
    /// [`InvalidCursor`] for every other text.
    pub fn decode(text: &str) -> Result<Self, InvalidCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
        let (version, rest) = bytes.split_first().ok_or(InvalidCursor)?;
        let (numbers, journal) = rest.split_at_checked(32).ok_or(InvalidCursor)?;
        let (numbers, _) = numbers.as_chunks::<8>();
        let [query, timestamp, position, through] = numbers else {
            return Err(InvalidCursor);
        };
        if *version != VERSION {
            return Err(InvalidCursor);
        }
        Ok(Self {
            query: u64::from_be_bytes(*query),
            timestamp: i64::from_be_bytes(*timestamp),
            position: u64::from_be_bytes(*position),
            through: u64::from_be_bytes(*through),
            journal: String::from_utf8(journal.to_vec()).map_err(|_| InvalidCursor)?,
        })
    }

    /// The text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.query.to_be_bytes());
        bytes.extend_from_slice(&self.timestamp.to_be_bytes());
        bytes.extend_from_slice(&self.position.to_be_bytes());
        bytes.extend_from_slice(&self.through.to_be_bytes());
        bytes.extend_from_slice(self.journal.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            query: u64, timestamp: i64, position: u64, through: u64, journal in "[0-9a-f/-]{0,40}",
        ) {
            let cursor = Cursor { query, timestamp, journal, position, through };
            prop_assert_eq!(Cursor::decode(&cursor.encode()), Ok(cursor));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}") {
            let _ = Cursor::decode(&text);
        }
    }
}
