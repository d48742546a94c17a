//! What opening a journal has to tell. Words only.

use std::fmt;

use crate::journal::JournalId;
use crate::segment;
use crate::survey::Damage;

/// One thing that recovery found or did. None of them lost anything that was acknowledged, except `Corruption`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A group that was never acknowledged was cut off the newest segment.
    TornTail {
        /// The segment's first position.
        segment: u64,
        /// Where it was cut.
        offset: u64,
        /// How many bytes were cut.
        bytes: u64,
    },
    /// Acknowledged bytes are damaged. They stay where they are; what is sound around them is still read.
    Corruption(Damage),
    /// One of a segment's two headers is damaged; the other served.
    HeaderCopyDamaged {
        /// The segment's first position.
        segment: u64,
    },
    /// Both headers of a segment are damaged; its groups are still read.
    HeaderLost {
        /// The segment's first position.
        segment: u64,
    },
    /// The directory is a copy or was moved to another device: positions go on under a new epoch.
    EpochGrew {
        /// The epoch before.
        from: u64,
        /// The epoch now.
        to: u64,
    },
    /// Positions from one on count under a new epoch, as was asked for.
    EpochBegun {
        /// The epoch.
        epoch: u64,
        /// Its first position.
        first: u64,
    },
    /// The identity file was missing or damaged and was made again from the segments.
    IdentityRebuilt {
        /// The epoch now.
        epoch: u64,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TornTail { segment, offset, bytes } => {
                write!(f, "cut {bytes} unacknowledged bytes at offset {offset} of {}", segment::name(*segment))
            }
            Self::Corruption(damage) => damage.fmt(f),
            Self::HeaderCopyDamaged { segment } => write!(f, "damaged header copy in {}", segment::name(*segment)),
            Self::HeaderLost { segment } => write!(f, "damaged header in {}", segment::name(*segment)),
            Self::EpochGrew { from, to } => write!(f, "directory is a copy: epoch grew from {from} to {to}"),
            Self::EpochBegun { epoch, first } => write!(f, "positions from {first} on count under epoch {epoch} now"),
            Self::IdentityRebuilt { epoch } => write!(f, "rebuilt identity file: epoch {epoch}"),
        }
    }
}

/// What opening a journal found.
#[derive(Debug, Clone)]
pub struct Recovery {
    /// The journal.
    pub id: JournalId,
    /// The first position that can be read; one more than `durable` when the journal is empty.
    pub first_available: u64,
    /// The last durable position; 0 in a journal that never had any.
    pub durable: u64,
    /// How many segments there are.
    pub segments: u64,
    /// What is worth telling, in the order in which it was found.
    pub events: Vec<Event>,
}
