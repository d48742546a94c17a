//! A sink in memory that keeps the lake's contract: records and cursor change together; a commit may fail, or land and
//! its answer be lost; what landed survives every crash.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use runstone_record::{Batch, DecodeError};

use crate::lineage::Lineage;
use crate::relay::{Consumer, Unavailable};

/// What landed: frames by journal and first position, and the cursor of each journal.
#[derive(Debug, Default)]
pub(super) struct Landed {
    pub(super) frames: BTreeMap<(String, u64), Batch>,
    pub(super) cursors: BTreeMap<String, u64>,
}

/// The sink; clones are the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Model(Arc<Mutex<Landed>>);

impl Model {
    pub(super) fn landed(&self) -> MutexGuard<'_, Landed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last position of this directory that landed.
    pub(super) fn cursor(&self, lineage: &Lineage) -> u64 {
        let landed = self.landed();
        lineage.epochs().iter().filter_map(|epoch| landed.cursors.get(&*epoch.journal)).max().copied().unwrap_or(0)
    }

    /// The frames between two positions.
    pub(super) fn between(&self, after: u64, through: u64) -> Vec<(u64, Batch)> {
        let landed = self.landed();
        let inside = landed.frames.iter().filter(|((_, first), _)| *first > after && *first <= through);
        inside.map(|((_, first), batch)| (*first, batch.clone())).collect()
    }
}

/// How a commit ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Commit {
    Lands,
    /// Nothing lands, and the writer is told so.
    Fails,
    /// It lands, and the writer hears of a failure.
    LosesItsAnswer,
}

/// Gathers frames between commits.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) model: Model,
    pub(super) lineage: Lineage,
    gathered: Vec<(u64, Batch)>,
}

impl Writer {
    pub(super) fn new(model: Model, lineage: Lineage) -> Self {
        Self { model, lineage, gathered: Vec::new() }
    }

    /// Commits what was gathered. True: it is known to have landed.
    pub(super) fn commit(&mut self, how: Commit) -> bool {
        // After a failure nobody knows whether it landed: the cursor says.
        let cursor = self.model.cursor(&self.lineage);
        self.gathered.retain(|(first, _)| *first > cursor);
        if how != Commit::Fails {
            let mut landed = self.model.landed();
            for (first, batch) in &self.gathered {
                let journal = self.lineage.at(*first).journal.to_string();
                let last = first + batch.len() as u64 - 1;
                let before = landed.frames.insert((journal.clone(), *first), batch.clone());
                assert!(before.is_none(), "position {first} landed twice");
                landed.cursors.insert(journal, last);
            }
        }
        if how == Commit::Lands {
            self.gathered.clear();
        }
        how == Commit::Lands
    }
}

impl Consumer for Writer {
    fn name(&self) -> &'static str {
        "model"
    }

    fn take(&mut self, first: u64, payload: &Bytes) -> Result<(), DecodeError> {
        self.gathered.push((first, Batch::decode(payload)?));
        Ok(())
    }

    fn trimmed(&mut self, after: u64, through: u64) -> Result<(), Unavailable> {
        // The journal may forget only what landed, and this one goes on from where it landed.
        Err(Unavailable(format!("positions {after} to {through} were trimmed before they landed")))
    }
}
