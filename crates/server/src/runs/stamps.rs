//! When things came about, in the order in which this server learned of them: what a walk through runs knows its first page by.
//! Owns that order; refuses to look at a clock.

use serde::{Deserialize, Serialize};

/// A moment: the last position of this directory's journal that was folded then, and how many batches of others since. What is
/// folded later is greater; and what is folded once more, after a crash, from this directory's journal comes to the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Stamp(pub(crate) u64, pub(crate) u32);

impl Stamp {
    /// The next moment, in which the journal's positions up to `through` are folded.
    pub(super) fn next(self, through: u64) -> Self {
        match through > self.0 {
            true => Stamp(through, 0),
            false => Stamp(self.0, self.1.saturating_add(1)),
        }
    }
}

/// The moments of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamps {
    /// Its first record came.
    pub(super) began: Stamp,
    /// Its start changed.
    pub(super) start: Stamp,
    /// Its start or its duration did.
    pub(super) length: Stamp,
}
