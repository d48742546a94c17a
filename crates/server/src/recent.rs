//! Between the journal and the recent records that queries read. Owns the consumer that fills them and the way back
//! into the journal for those that no longer fit into memory.

use std::sync::Arc;

use bytes::Bytes;
use runstone_journal::Journal;
use runstone_record::{Batch, DecodeError};
use runstone_store::{Frames, Older, OlderError, Recent};

use crate::lineage::Lineage;
use crate::relay::{Consumer, Unavailable};

/// Adds every frame to the recent records.
#[derive(Debug)]
pub(crate) struct RecentConsumer {
    pub(crate) recent: Arc<Recent>,
    pub(crate) lineage: Lineage,
}

impl Consumer for RecentConsumer {
    fn name(&self) -> &'static str {
        "recent"
    }

    fn take(&mut self, first: u64, payload: &Bytes) -> Result<(), DecodeError> {
        let pushed = self.recent.push(&self.lineage.at(first).journal, first, Batch::decode(payload)?);
        if let Err(error) = pushed {
            tracing::error!(%error, "skip a frame that recent records cannot take");
        }
        Ok(())
    }

    fn trimmed(&mut self, _after: u64, _through: u64) -> Result<(), Unavailable> {
        // Only what queries read from the lake is trimmed.
        Ok(())
    }
}

/// Reads frames that left memory from the journal.
#[derive(Debug)]
pub(crate) struct FromJournal(pub(crate) Arc<Journal>);

impl Older for FromJournal {
    fn frames(&self, first: u64, last: u64) -> Result<Frames, OlderError> {
        let mut reader = self.0.reader(first.saturating_sub(1));
        Ok(Box::new(std::iter::from_fn(move || {
            if reader.position() >= last {
                return None;
            }
            match reader.next() {
                Ok(Some(frame)) => Some(Ok((frame.first, frame.payload))),
                Ok(None) => None,
                Err(error) => Some(Err(OlderError(Box::new(error)))),
            }
        })))
    }
}
