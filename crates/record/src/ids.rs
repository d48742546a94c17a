//! Record ids. Owns their text, their minting and how a batch holds them; refuses to ask a clock or an
//! entropy source: both come in as values.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::bits::Bits;

/// A record's id: any RFC 9562 UUID, printed in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecordId(u128);

/// What is said of an id that was used before for something else.
pub const ID_CONFLICT: &str =
    "this id stands for another payload: the first one is kept; mint a new id for a new record";

/// The text is not a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a UUID such as 01980000-0000-7000-8000-000000000000")]
pub struct InvalidId;

impl RecordId {
    /// Reads the hyphenated form, in either case.
    ///
    /// # Errors
    /// [`InvalidId`] for every other text.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        // The crate also takes braces, URNs and bare digits; one id must have one text.
        if text.len() != 36 {
            return Err(InvalidId);
        }
        Uuid::try_parse(text).map(|uuid| Self(uuid.as_u128())).map_err(|_| InvalidId)
    }

    /// The id as a number, most significant byte first.
    #[must_use]
    pub fn from_u128(value: u128) -> Self {
        Self(value)
    }

    /// The number.
    #[must_use]
    pub fn as_u128(self) -> u128 {
        self.0
    }

    /// Writes the 36 characters.
    pub fn write(self, out: &mut Vec<u8>) {
        let mut buffer = Uuid::encode_buffer();
        out.extend_from_slice(Uuid::from_u128(self.0).hyphenated().encode_lower(&mut buffer).as_bytes());
    }
}

impl std::fmt::Display for RecordId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(Uuid::from_u128(self.0).as_hyphenated(), f)
    }
}

/// Makes ids: a UUIDv7 with a counter in `rand_a` and `rand_b` (RFC 9562 §6.2, method 1), so that the ids of a
/// batch are consecutive numbers and compress to their first.
#[derive(Debug, Clone)]
pub struct IdMint {
    next: u128,
}

/// Low bits of a UUIDv7 that a batch counts in. The counter never reaches the bits above within one base.
const COUNTER_BITS: u32 = 32;

impl IdMint {
    /// A base for up to 2³¹ ids, from the time in milliseconds and 74 random bits.
    #[must_use]
    pub fn new(now_ms: u64, random: u128) -> Self {
        let time = u128::from(now_ms & 0xFFFF_FFFF_FFFF) << 80;
        let rand_a = ((random >> 62) & 0xFFF) << 64;
        let rand_b = random & ((1 << 62) - 1);
        // The counter starts below half of its range so that counting cannot carry into its neighbours.
        let rand_b = rand_b & !(1 << (COUNTER_BITS - 1));
        Self { next: time | (0x7 << 76) | rand_a | (0b10 << 62) | rand_b }
    }

    /// The next id.
    pub fn mint(&mut self) -> RecordId {
        let id = RecordId(self.next);
        self.next += 1;
        id
    }
}

/// The ids of a batch's records and, for those that a client minted, the hash of their payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ids {
    /// All minted by the server: `first`, `first + 1`, …
    Minted {
        /// The first id.
        first: RecordId,
    },
    /// Some or all of them minted by clients.
    Given {
        /// One id for each record.
        ids: Vec<RecordId>,
        /// The payload hash of each record whose id a client minted, else 0.
        hashes: Vec<u64>,
        /// Which of them clients minted.
        client: Bits,
    },
}

impl Ids {
    /// A record's id.
    #[must_use]
    pub fn get(&self, row: usize) -> RecordId {
        match self {
            Ids::Minted { first } => RecordId(first.0 + row as u128),
            Ids::Given { ids, .. } => ids[row],
        }
    }

    /// The hash of a record's payload; none where the server minted the id.
    #[must_use]
    pub fn client_hash(&self, row: usize) -> Option<u64> {
        match self {
            Ids::Minted { .. } => None,
            Ids::Given { hashes, client, .. } => client.get(row).then(|| hashes[row]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_id_is_a_version_7_uuid_of_its_time() {
        for random in [0, u128::MAX, 0x1234_5678_9abc_def0_1234_5678_9abc_def0] {
            let mut mint = IdMint::new(1_763_600_000_123, random);
            let first = Uuid::from_u128(mint.mint().as_u128());
            assert_eq!(first.get_version_num(), 7);
            assert_eq!(first.get_variant(), uuid::Variant::RFC4122);
            let (seconds, nanos) = first.get_timestamp().expect("a time").to_unix();
            assert_eq!((seconds, nanos), (1_763_600_000, 123_000_000));
            let mut last = first;
            for _ in 0..100_000 {
                last = Uuid::from_u128(mint.mint().as_u128());
            }
            assert_eq!(last.as_u128() - first.as_u128(), 100_000);
            assert_eq!(last.get_version_num(), 7);
            assert_eq!(last.get_variant(), uuid::Variant::RFC4122);
        }
    }

    #[test]
    fn only_the_hyphenated_form_is_an_id() {
        let text = "01980000-ABCD-7000-8000-00000000000f";
        assert_eq!(RecordId::parse(text).map(|id| id.to_string()), Ok(text.to_lowercase()));
        for bad in [
            "",
            "x",
            "0198000000007000800000000000000f",
            "{01980000-0000-7000-8000-00000000000f}",
            "urn:uuid:01980000-0000-7000-8000-00000000000f",
            "01980000-0000-7000-8000-00000000000g",
        ] {
            assert_eq!(RecordId::parse(bad), Err(InvalidId), "{bad}");
        }
    }
}
