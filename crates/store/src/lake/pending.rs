//! Records that wait for the next flush, in memory. Owns merging what comes in small frames and which positions it
//! has; refuses to write anything.

use std::sync::Arc;

use runstone_record::Batch;

use super::LakeError;
use crate::chunk::Chunk;

/// Chunks of about one size that are merged into one: a record is copied once for each power of this.
const FAN_IN: usize = 16;
/// Rows of a chunk that is not merged any further before the flush.
const CHUNK_ROWS: usize = 16 << 10;

/// What waits for the next flush.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pending {
    /// Records.
    pub rows: usize,
    /// Bytes of memory.
    pub bytes: usize,
    /// The first position.
    pub first: Option<u64>,
    /// The last position.
    pub last: Option<u64>,
    /// The least time of arrival, in microseconds since 1970.
    pub oldest: Option<i64>,
}

fn unwritable(error: impl std::fmt::Display) -> LakeError {
    LakeError::Unwritable(error.to_string())
}

/// The records themselves, in the order of their positions.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    chunks: Vec<Arc<Chunk>>,
    /// Kept up to date: it is asked for after every frame.
    pending: Pending,
}

impl Waiting {
    /// Takes a frame. All frames are of one journal, until [`Waiting::clear`].
    pub(crate) fn push(&mut self, journal: &str, first: u64, batch: Batch) -> Result<(), LakeError> {
        if batch.is_empty() {
            return Ok(());
        }
        let journal: Arc<str> = match self.chunks.last() {
            None => journal.into(),
            Some(last) if &*last.journal != journal => {
                let known = &last.journal;
                return Err(LakeError::Internal(format!("collect records: {journal} is not {known}, flush it first")));
            }
            Some(last) if first <= last.last() => {
                let last = last.last();
                return Err(LakeError::Internal(format!("collect records: position {first} does not follow {last}")));
            }
            Some(last) => Arc::clone(&last.journal),
        };
        self.append(Arc::new(Chunk::from_batch(journal, first, batch).map_err(unwritable)?));
        while let Some(count) = self.mergeable() {
            let start = self.chunks.len() - count;
            let merged = Chunk::merge(&self.chunks[start..]).map_err(unwritable)?;
            self.pending.bytes += merged.bytes;
            self.pending.bytes -= self.chunks.drain(start..).map(|chunk| chunk.bytes).sum::<usize>();
            self.chunks.push(Arc::new(merged));
        }
        Ok(())
    }

    fn append(&mut self, chunk: Arc<Chunk>) {
        let Pending { rows, bytes, first, last, oldest } = &mut self.pending;
        *rows += chunk.rows;
        *bytes += chunk.bytes;
        first.get_or_insert(chunk.first);
        *last = Some(chunk.last());
        *oldest = chunk.runs.iter().map(|run| run.ingested_at).chain(*oldest).min();
        self.chunks.push(chunk);
    }

    /// How many of the newest chunks should become one.
    fn mergeable(&self) -> Option<usize> {
        let newest = self.chunks.last().filter(|newest| newest.rows < CHUNK_ROWS)?;
        let mut next = newest.first + newest.rows as u64;
        let alike = self.chunks.iter().rev().take_while(|chunk| {
            let follows = chunk.last() + 1 == next && chunk.rows.ilog(FAN_IN) <= newest.rows.ilog(FAN_IN);
            next = chunk.first;
            follows
        });
        let alike = alike.count();
        (alike >= FAN_IN).then_some(alike)
    }

    pub(crate) fn pending(&self) -> Pending {
        self.pending
    }

    /// The records after a position.
    pub(crate) fn after(&self, position: Option<u64>) -> Vec<Arc<Chunk>> {
        let Some(position) = position else { return self.chunks.clone() };
        let later = self.chunks.iter().filter(|chunk| chunk.last() > position);
        let cut = |chunk: &Arc<Chunk>| match usize::try_from((position + 1).saturating_sub(chunk.first)) {
            Ok(0) | Err(_) => Arc::clone(chunk),
            Ok(row) => Arc::new(chunk.starting_at(row)),
        };
        later.map(cut).collect()
    }

    /// Forgets the records up to a position.
    pub(crate) fn forget(&mut self, position: u64) {
        let rest = self.after(Some(position));
        self.clear();
        rest.into_iter().for_each(|chunk| self.append(chunk));
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
