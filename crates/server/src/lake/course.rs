//! How far the lake has come with the positions of this directory: one cursor an epoch, in the lake itself. Owns the walk
//! over the epochs and what must not be (a lake ahead of its journal, positions that nobody has any more); refuses to
//! read records.

use runstone_journal::JournalId;
use runstone_store::lake::{Lake, LakeError, LakeSnapshot};

use crate::lineage::Lineage;

/// Where the lake goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Course {
    /// The epoch, by its place in the lineage.
    pub(crate) epoch: usize,
    /// Its cursor in the lake.
    pub(crate) after: Option<u64>,
    /// This directory's positions up to here are in the lake.
    pub(crate) through: u64,
}

/// Why the lake cannot go on from where it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Astray {
    /// The lake has records under this directory's name that this directory does not have.
    #[error(
        "the lake has positions {from} to {cursor} of journal {journal} from another writer: this directory is an older \
         copy of what wrote them, or has a twin. Nothing is lost, records wait in the journal. Stop the server and \
         start it once with `runstone serve --new-epoch-from {from}`: from there on its positions count under a name of their own"
    )]
    Ahead {
        /// As it stands in the lake.
        journal: String,
        /// The first position that is another's.
        from: u64,
        /// The last one in the lake.
        cursor: u64,
    },
    /// Positions are neither in the lake nor in the journal.
    #[error(
        "positions {first} to {last} are neither in the lake nor in the journal any more: is `lake.location` the table \
         that this directory was written to? Where they are lost for good, start once with `runstone serve --accept-missing`"
    )]
    Missing {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
}

/// Why it is not known how far the lake has come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CourseError {
    /// It was read, and it is wrong.
    #[error(transparent)]
    Astray(#[from] Astray),
    /// It could not be read.
    #[error(transparent)]
    Lake(#[from] LakeError),
}

/// Walks the epochs, oldest first, to the one that is not in the lake as a whole. With `accept_missing` positions that
/// nobody has are passed.
pub(crate) async fn find(
    lake: &Lake,
    snapshot: &LakeSnapshot,
    lineage: &Lineage,
    accept_missing: bool,
) -> Result<Course, CourseError> {
    let mut course = Course { epoch: 0, after: None, through: 0 };
    for (index, epoch) in lineage.epochs().iter().enumerate() {
        let after = lake.cursor(snapshot, &epoch.journal).await?;
        let before = epoch.first - 1;
        if index == 0 && after.unwrap_or(0) < before && !accept_missing {
            check_trimmed(lake, snapshot, lineage, after.unwrap_or(0)).await?;
        }
        let reached = after.unwrap_or(0).max(before);
        course = Course { epoch: index, after, through: epoch.last.map_or(reached, |last| reached.min(last)) };
        if epoch.last != Some(course.through) {
            break;
        }
    }
    Ok(course)
}

/// What was trimmed must be in the lake: under the oldest epoch that is left, or wholly under an earlier one.
async fn check_trimmed(
    lake: &Lake,
    snapshot: &LakeSnapshot,
    lineage: &Lineage,
    reached: u64,
) -> Result<(), CourseError> {
    let oldest = lineage.oldest();
    let (trimmed, mut reached) = (oldest.first - 1, reached);
    for epoch in (1..oldest.id.epoch).rev() {
        let journal = JournalId { epoch, ..oldest.id }.to_string();
        reached = reached.max(lake.cursor(snapshot, &journal).await?.unwrap_or(0));
        if reached >= trimmed {
            return Ok(());
        }
    }
    Err(Astray::Missing { first: reached + 1, last: trimmed }.into())
}
