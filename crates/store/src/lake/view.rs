//! The lake as one query sees it: a snapshot of its files and the way to them. Owns what queries ask of it without
//! opening a file; refuses to change after it was made.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::ObjectStore;

use crate::lake::{Lake, LakeFile, LakeSnapshot};

/// One snapshot of the table, for queries.
#[derive(Debug)]
pub struct LakeView {
    store: Arc<dyn ObjectStore>,
    is_local: bool,
    version: u64,
    files: Arc<Vec<Arc<LakeFile>>>,
    reach: BTreeMap<String, Reach>,
    is_known: bool,
}

/// How far a journal's records in the lake reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach {
    /// The greatest position.
    pub(crate) position: u64,
    /// When the last of them arrived; 0 where that is not known.
    pub(crate) arrived: i64,
}

impl LakeView {
    /// A snapshot of a table.
    #[must_use]
    pub fn new(lake: &Lake, snapshot: &LakeSnapshot) -> Self {
        let (version, files) = (snapshot.version, Arc::clone(&snapshot.files));
        let mut reach = BTreeMap::<String, Reach>::new();
        let mut mixed: Vec<&LakeFile> = Vec::new();
        for file in files.iter() {
            let (Some(journal), Some((_, position))) = (file.journal(), file.position_bounds()) else {
                mixed.push(file);
                continue;
            };
            // No journal begins below, and what another writer put there is within every bound.
            let position = u64::try_from(position).unwrap_or(0);
            let arrived = file.arrivals().map_or(0, |arrivals| arrivals.1);
            match reach.get_mut(journal) {
                Some(known) => {
                    known.position = known.position.max(position);
                    known.arrived = known.arrived.max(arrived);
                }
                None => drop(reach.insert(journal.to_owned(), Reach { position, arrived })),
            }
        }
        // A journal may reach further in them than in its own files, and a walk must not end before.
        for file in &mixed {
            match file.position_bounds() {
                None => reach.retain(|journal, _| !file.may_be_of(journal)),
                Some((_, position)) => {
                    let reached = reach.iter_mut().filter(|(journal, _)| file.may_be_of(journal));
                    let position = u64::try_from(position).unwrap_or(0);
                    reached.for_each(|(_, known)| known.position = known.position.max(position));
                }
            }
        }
        let (is_local, is_known) = (lake.url().scheme() == "file", mixed.is_empty());
        Self { store: lake.store(), is_local, version, files, reach, is_known }
    }

    /// The table's version.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Is it on a disk of this machine? Elsewhere every read takes long, and many at once take no longer.
    pub(crate) fn is_local(&self) -> bool {
        self.is_local
    }

    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    pub(crate) fn files(&self) -> &[Arc<LakeFile>] {
        &self.files
    }

    /// How far each journal reaches.
    pub(crate) fn reach(&self) -> &BTreeMap<String, Reach> {
        &self.reach
    }

    /// Does [`Self::reach`] speak for every file? Other writers may leave statistics out, or mix journals.
    pub(crate) fn is_known(&self) -> bool {
        self.is_known
    }
}
