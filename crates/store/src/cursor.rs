//! The place in a walk through pages of logs, as an opaque text. Owns its form, version 3, the bounds that keep later
//! records out of the walk, and the check that it is used with the query that it came from.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use runstone_record::RecordId;
use runstone_record::limits::CURSOR_JOURNALS_MAX;
use serde::{Deserialize, Serialize};

use crate::recent::Snapshot;

const VERSION: u8 = 3;

/// Where a walk stands: after the record at `position` of `journal`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The hash of the query that the walk belongs to.
    pub(crate) query: u64,
    pub(crate) timestamp: i64,
    pub(crate) journal: String,
    pub(crate) position: i64,
    /// What the query's times were that move with the clock, when the walk began.
    pub(crate) since: Option<i64>,
    pub(crate) until: Option<i64>,
    pub(crate) bounds: Bounds,
}

/// How far each journal reached when a walk began: what came later is outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Journals and their highest positions.
    pub(crate) through: Vec<(String, u64)>,
    /// Do records of other journals belong to the walk? They do where not every journal could be listed.
    pub(crate) others: bool,
}

impl Bounds {
    /// Those of a walk that begins now.
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let lake = snapshot.lake.as_ref();
        let mut known: Vec<(&str, u64, i64)> = Vec::new();
        let mut add = |journal, position: u64, arrived: i64| match known.iter_mut().find(|known| known.0 == journal) {
            Some(known) => *known = (known.0, known.1.max(position), known.2.max(arrived)),
            None => known.push((journal, position, arrived)),
        };
        for (journal, reach) in lake.iter().flat_map(|lake| lake.reach()) {
            add(journal.as_str(), reach.position, reach.arrived);
        }
        for range in snapshot.evicted.iter() {
            add(&range.journal, range.last, i64::MAX);
        }
        for chunk in &snapshot.chunks {
            add(&chunk.journal, chunk.last(), i64::MAX);
        }
        // Journals that nobody writes to any more need no bound.
        known.sort_by_key(|known| std::cmp::Reverse(known.2));
        let others = known.len() > CURSOR_JOURNALS_MAX || lake.is_some_and(|lake| !lake.is_known());
        known.truncate(CURSOR_JOURNALS_MAX);
        let through = known.into_iter().map(|(journal, position, _)| (journal.to_owned(), position));
        Self { through: through.collect(), others }
    }
}

/// The text is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cursor: must be the text that a page gave as next")]
pub struct InvalidCursor;

/// What the text says, behind its version.
#[derive(Serialize, Deserialize)]
struct Form {
    query: [u8; 8],
    timestamp: i64,
    journal: Name,
    /// Its bits: those of a journal's positions are short that way.
    position: u64,
    since: Option<i64>,
    until: Option<i64>,
    through: Vec<(Name, u64)>,
    others: bool,
}

/// A journal's name.
#[derive(Serialize, Deserialize)]
enum Name {
    /// A UUID and an epoch, as all of ours are.
    Ours([u8; 16], u64),
    Other(String),
}

impl Name {
    fn new(journal: &str) -> Self {
        let ours = || {
            let (id, epoch) = journal.split_once('/')?;
            let name = Name::Ours(RecordId::parse(id).ok()?.as_u128().to_be_bytes(), epoch.parse().ok()?);
            (name.text() == journal).then_some(name)
        };
        ours().unwrap_or_else(|| Name::Other(journal.to_owned()))
    }

    fn text(&self) -> String {
        match self {
            Name::Ours(id, epoch) => format!("{}/{epoch}", RecordId::from_u128(u128::from_be_bytes(*id))),
            Name::Other(text) => text.clone(),
        }
    }
}

impl Cursor {
    /// Reads what [`Cursor::encode`] wrote.
    ///
    /// # Errors
    /// [`InvalidCursor`] for every other text.
    pub fn decode(text: &str) -> Result<Self, InvalidCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
        let (VERSION, form) = bytes.split_first().map(|(version, form)| (*version, form)).ok_or(InvalidCursor)? else {
            return Err(InvalidCursor);
        };
        let (form, rest): (Form, _) = postcard::take_from_bytes(form).map_err(|_| InvalidCursor)?;
        if !rest.is_empty() || form.through.len() > CURSOR_JOURNALS_MAX {
            return Err(InvalidCursor);
        }
        let through = form.through.iter().map(|(journal, position)| (journal.text(), *position)).collect();
        Ok(Self {
            query: u64::from_be_bytes(form.query),
            timestamp: form.timestamp,
            position: form.position.cast_signed(),
            since: form.since,
            until: form.until,
            journal: form.journal.text(),
            bounds: Bounds { through, others: form.others },
        })
    }

    /// The text.
    #[must_use]
    pub fn encode(&self) -> String {
        let through = self.bounds.through.iter().map(|(journal, position)| (Name::new(journal), *position));
        let form = Form {
            query: self.query.to_be_bytes(),
            timestamp: self.timestamp,
            journal: Name::new(&self.journal),
            position: self.position.cast_unsigned(),
            since: self.since,
            until: self.until,
            through: through.collect(),
            others: self.bounds.others,
        };
        // Writing to memory cannot fail.
        let bytes = postcard::to_extend(&form, vec![VERSION]).unwrap_or_default();
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use runstone_record::limits::PARAMETER_BYTES_MAX;

    fn journal() -> impl Strategy<Value = String> {
        prop_oneof![
            (any::<u128>(), any::<u64>()).prop_map(|(id, epoch)| format!("{}/{epoch}", RecordId::from_u128(id))),
            "[0-9a-f/-]{0,40}",
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            query: u64, timestamp: i64, position: i64, journal in journal(), others: bool,
            since: Option<i64>, until: Option<i64>,
            through in prop::collection::vec((journal(), any::<u64>()), 0..=CURSOR_JOURNALS_MAX),
        ) {
            let bounds = Bounds { through, others };
            let cursor = Cursor { query, timestamp, journal, position, since, until, bounds };
            prop_assert_eq!(Cursor::decode(&cursor.encode()), Ok(cursor));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}") {
            let _ = Cursor::decode(&text);
        }
    }

    #[test]
    fn the_longest_of_ours_fits_into_a_parameter() {
        let name = |number: usize| format!("{}/{}", RecordId::from_u128(u128::MAX - number as u128), u32::MAX);
        let through = (0..CURSOR_JOURNALS_MAX).map(|number| (name(number), 1 << 42)).collect();
        let bounds = Bounds { through, others: true };
        let (since, until) = (Some(i64::MIN), Some(i64::MIN));
        let (query, timestamp, position) = (u64::MAX, i64::MIN, -1);
        let cursor = Cursor { query, timestamp, journal: name(0), position, since, until, bounds };
        let length = cursor.encode().len();
        assert!(length <= PARAMETER_BYTES_MAX, "{length}");
    }

    #[test]
    fn an_uuid_that_is_written_otherwise_keeps_its_text() {
        for text in ["01980000-ABCD-7000-8000-00000000000f/1", "01980000-abcd-7000-8000-00000000000f/01", "/", ""] {
            assert_eq!(Name::new(text).text(), text);
        }
    }
}
