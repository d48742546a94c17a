//! A data directory's epochs, in order, and the name that destinations know each by. Owns which journal a position belongs
//! to; refuses to know how far any destination has come.

use std::sync::Arc;

use runstone_journal::{EpochRange, Journal, JournalId};

/// Positions that count under one journal's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Epoch {
    /// `uuid/epoch`, as it stands in the column `journal`.
    pub(crate) journal: Arc<str>,
    /// The first position of it that the journal had when it was opened.
    pub(crate) first: u64,
}

/// The epochs of one directory, oldest first, the current one last. As the journal was opened: only then an epoch begins.
#[derive(Debug, Clone)]
pub(crate) struct Lineage {
    epochs: Arc<[Epoch]>,
}

impl Lineage {
    pub(crate) fn of(journal: &Journal) -> Self {
        let (id, ranges) = (journal.id(), journal.epochs());
        let epoch = |range: &EpochRange| Epoch {
            journal: JournalId { uuid: id.uuid, epoch: range.epoch }.to_string().into(),
            first: range.first,
        };
        Self { epochs: ranges.iter().map(epoch).collect() }
    }

    /// The epoch of a position; of one that was trimmed away, the oldest that is known.
    pub(crate) fn at(&self, position: u64) -> &Epoch {
        let after = self.epochs.partition_point(|epoch| epoch.first <= position);
        &self.epochs[after.saturating_sub(1)]
    }
}
