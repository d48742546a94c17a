//! A frame's payload: a batch in bytes, column-major, only the columns that are present. Owns version 1 of the
//! format (`docs/formats/frame.md`); refuses to believe a byte: every length is checked before it is used.

mod read;
mod write;

pub use read::DecodeError;

use crate::columns::Column;

/// The format's version, its first byte.
const VERSION: u8 = 1;
/// Flag: ids are given one by one.
const FLAG_GIVEN_IDS: u8 = 1;
/// Flag: the request that the batch came from is named.
const FLAG_ORIGIN: u8 = 2;
/// In a column's encoding: a bitmap of the rows that have a value comes first.
const WITH_VALIDITY: u8 = 0x80;

/// Encodings of a column's values.
const TEXTS: u8 = 1;
const WORDS: u8 = 2;
const INTS: u8 = 3;
const FLOATS: u8 = 4;

/// Which columns to decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnSet(u64);

impl ColumnSet {
    /// Every column.
    pub const ALL: ColumnSet = ColumnSet(u64::MAX);

    /// These columns.
    #[must_use]
    pub fn of(columns: &[Column]) -> Self {
        Self(columns.iter().fold(0, |set, column| set | 1 << column.index()))
    }

    /// These and one more.
    #[must_use]
    pub fn and(self, column: Column) -> Self {
        Self(self.0 | 1 << column.index())
    }

    /// Is this column among them?
    #[must_use]
    pub fn has(self, column: Column) -> bool {
        self.0 & (1 << column.index()) != 0
    }
}
