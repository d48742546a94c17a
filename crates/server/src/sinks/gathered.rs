//! What waits to be delivered to a sink. Owns its bounds; refuses to forget anything before it was delivered.

use runstone_record::limits::{SINK_DELIVERY_BYTES_MAX, SINK_DELIVERY_RECORDS_MAX};
use runstone_sinks::Frame;

#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) frames: Vec<Frame>,
    records: usize,
    bytes: usize,
    /// The last position, of a record or of what nothing can be made of.
    through: Option<u64>,
}

impl Gathered {
    pub(super) fn push(&mut self, frame: Frame, bytes: usize) {
        self.records += frame.batch.len();
        self.bytes += bytes;
        self.pass(frame.first + frame.batch.len() as u64 - 1);
        self.frames.push(frame);
    }

    /// The positions up to here come to nothing.
    pub(super) fn pass(&mut self, through: u64) {
        self.through = self.through.max(Some(through));
    }

    /// Where the cursor is to go. None: nowhere.
    pub(super) fn through(&self) -> Option<u64> {
        self.through
    }

    pub(super) fn records(&self) -> usize {
        self.records
    }

    pub(super) fn is_full(&self) -> bool {
        self.records >= SINK_DELIVERY_RECORDS_MAX || self.bytes >= SINK_DELIVERY_BYTES_MAX
    }

    /// The arrival of the oldest record.
    pub(super) fn oldest(&self) -> Option<i64> {
        self.frames.first().map(|frame| frame.batch.ingested_at())
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
