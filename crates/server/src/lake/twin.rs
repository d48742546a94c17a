//! Are the lake's records under this directory's name this directory's? Compares ids at the same positions. Owns finding
//! the first that differs; refuses to say what to do about it.

use std::collections::BTreeMap;

use runstone_journal::{Journal, ReadError};
use runstone_record::{Batch, Column, ColumnSet, RecordId};
use runstone_store::lake::{Lake, LakeError, LakeSnapshot, Positions};

use super::trouble::chain;

/// Positions that are compared at once.
const WINDOW: u64 = 64;

/// Where a directory and the lake both have something.
#[derive(Clone, Copy)]
pub(crate) struct Twins<'a> {
    pub(crate) lake: &'a Lake,
    pub(crate) snapshot: &'a LakeSnapshot,
    pub(crate) journal: &'a Journal,
}

impl Twins<'_> {
    /// The first of this directory's positions that the lake, which has come to `cursor`, has from another hand under the
    /// same name. None: what it has is this directory's. `known` is the last position that it can have from here if nothing
    /// can be compared.
    pub(crate) async fn first_foreign(&self, cursor: u64, known: u64) -> Result<Option<u64>, LakeError> {
        let last = self.journal.durable().min(cursor);
        match self.agree(last).await? {
            Some(false) => self.first_difference(last).await.map(Some),
            Some(true) => Ok((cursor > last).then_some(last + 1)),
            None => Ok((cursor > known).then_some(known + 1)),
        }
    }

    /// They differ at a position. Before the first that differs they agree: both only ever grew at their ends.
    async fn first_difference(&self, position: u64) -> Result<u64, LakeError> {
        let (mut low, mut high) = (self.journal.first_available().saturating_sub(1), position);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            // Where nothing can be compared, it had better be written twice than not at all.
            match self.agree(middle).await? {
                Some(true) => low = middle,
                Some(false) | None => high = middle,
            }
        }
        // A frame is one thing: it was written by one hand.
        let frame = self.journal.reader(high - 1).next();
        Ok(frame.ok().flatten().map_or(high, |frame| frame.first))
    }

    /// Is the last record at or before a position, that both have, the same? None: there is none near it.
    async fn agree(&self, position: u64) -> Result<Option<bool>, LakeError> {
        let after = position.saturating_sub(WINDOW);
        let ours = self.ours(after, position)?;
        let theirs = self.theirs(after, position).await?;
        let both = theirs.iter().rev().find_map(|(position, id)| Some((ours.get(position)?, id)));
        Ok(both.map(|(ours, theirs)| ours == theirs))
    }

    fn ours(&self, after: u64, through: u64) -> Result<BTreeMap<u64, RecordId>, LakeError> {
        let (mut ids, mut reader) = (BTreeMap::new(), self.journal.reader(after));
        while reader.position() < through {
            match reader.next() {
                Ok(Some(frame)) => {
                    // Whoever cannot be read has no say here.
                    let Ok(batch) = Batch::decode_columns(&frame.payload, ColumnSet::of(&[])) else { continue };
                    ids.extend((0..batch.len()).map(|row| (frame.first + row as u64, batch.ids().get(row))));
                }
                Ok(None) => break,
                Err(ReadError::Quarantined { .. }) => drop(reader.skip()),
                Err(ReadError::Trimmed { first_available }) => reader.seek(first_available - 1),
                Err(error @ ReadError::Io { .. }) => {
                    return Err(LakeError::Storage { action: "compare the journal".to_owned(), source: error.into() });
                }
            }
        }
        Ok(ids)
    }

    async fn theirs(&self, after: u64, through: u64) -> Result<BTreeMap<u64, RecordId>, LakeError> {
        let mut ids = BTreeMap::new();
        let journal = self.journal.id_at(through).to_string();
        let columns = ColumnSet::of(&[Column::Id]);
        let ask = Positions { journal, after, through, columns, complete: false };
        let mut rows = self.lake.read_positions(self.snapshot, ask)?;
        loop {
            match rows.next().await {
                Ok(Some((first, batch))) => {
                    ids.extend((0..batch.len()).map(|row| (first + row as u64, batch.ids().get(row))));
                }
                Ok(None) => return Ok(ids),
                // A file that is lost has no say here either, and must not keep the others from being read.
                Err(error @ LakeError::Damaged(_)) => {
                    tracing::error!(error = %chain(&error), "compare the journal with the lake");
                    return Ok(BTreeMap::new());
                }
                Err(error) => return Err(error),
            }
        }
    }
}
