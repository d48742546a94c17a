//! A data directory's epochs, in order, and the name that destinations know each by. Owns which journal a position belongs
//! to; refuses to know how far any destination has come.

use std::sync::Arc;

use runstone_journal::{EpochRange, Journal, JournalId, View};

/// Positions that count under one journal's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Epoch {
    /// As the journal knows it.
    pub(crate) id: JournalId,
    /// The same as it stands in the column `journal`.
    pub(crate) journal: Arc<str>,
    /// The first position of it that the journal has.
    pub(crate) first: u64,
    /// The last one; none of the current epoch, which grows.
    pub(crate) last: Option<u64>,
}

/// The epochs of one directory, oldest first, the current one last. An epoch begins only when the journal is opened.
#[derive(Debug, Clone)]
pub(crate) struct Lineage {
    epochs: Arc<[Epoch]>,
}

impl Lineage {
    pub(crate) fn of(journal: &Journal) -> Self {
        Self::from_ranges(journal.id(), &journal.epochs())
    }

    /// Of a directory that somebody else has. One without a journal has one epoch, and nothing in it.
    pub(crate) fn of_view(view: &View) -> Self {
        match view.epochs() {
            [] => Self::from_ranges(view.id(), &[EpochRange { epoch: view.id().epoch, first: view.first_available() }]),
            ranges => Self::from_ranges(view.id(), ranges),
        }
    }

    fn from_ranges(id: JournalId, ranges: &[EpochRange]) -> Self {
        let epoch = |(index, range): (usize, &EpochRange)| {
            let id = JournalId { uuid: id.uuid, epoch: range.epoch };
            let last = ranges.get(index + 1).map(|next| next.first - 1);
            Epoch { id, journal: id.to_string().into(), first: range.first, last }
        };
        Self { epochs: ranges.iter().enumerate().map(epoch).collect() }
    }

    /// All of them, oldest first; never none.
    pub(crate) fn epochs(&self) -> &[Epoch] {
        &self.epochs
    }

    /// The oldest that the journal has positions of, or the only one.
    pub(crate) fn oldest(&self) -> &Epoch {
        &self.epochs[0]
    }

    /// The place of a position's epoch; of one that was trimmed away, the oldest's.
    pub(crate) fn place(&self, position: u64) -> usize {
        self.epochs.partition_point(|epoch| epoch.first <= position).saturating_sub(1)
    }

    /// The epoch of a position; of one that was trimmed away, the oldest.
    pub(crate) fn at(&self, position: u64) -> &Epoch {
        &self.epochs[self.place(position)]
    }
}

#[cfg(test)]
impl Lineage {
    /// One of these epochs: number and first position.
    pub(crate) fn made(uuid: uuid::Uuid, epochs: &[(u64, u64)]) -> Self {
        let epoch = |(index, (epoch, first)): (usize, &(u64, u64))| {
            let id = JournalId { uuid, epoch: *epoch };
            let last = epochs.get(index + 1).map(|(_, next)| next - 1);
            Epoch { id, journal: id.to_string().into(), first: *first, last }
        };
        Self { epochs: epochs.iter().enumerate().map(epoch).collect() }
    }
}
