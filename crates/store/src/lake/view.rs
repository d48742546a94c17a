//! The lake as one query sees it: a snapshot of its files and the way to them. Owns what queries ask of it without
//! opening a file; refuses to change after it was made.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::ObjectStore;

use crate::lake::LakeFile;

/// One snapshot of the table, for queries.
#[derive(Debug)]
pub struct LakeView {
    store: Arc<dyn ObjectStore>,
    version: u64,
    files: Arc<Vec<Arc<LakeFile>>>,
    through: BTreeMap<String, u64>,
    is_known: bool,
}

impl LakeView {
    /// A snapshot's files, whose paths `store` understands.
    #[must_use]
    pub fn over(store: Arc<dyn ObjectStore>, version: u64, files: Arc<Vec<Arc<LakeFile>>>) -> Self {
        let mut through = BTreeMap::<String, u64>::new();
        let mut is_known = true;
        for file in files.iter() {
            match (file.journal(), file.positions()) {
                (Some(journal), Some((_, last))) => match through.get_mut(journal) {
                    Some(greatest) => *greatest = last.max(*greatest),
                    None => drop(through.insert(journal.to_owned(), last)),
                },
                _ => is_known = false,
            }
        }
        Self { store, version, files, through, is_known }
    }

    /// The table's version.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    pub(crate) fn files(&self) -> &[Arc<LakeFile>] {
        &self.files
    }

    /// The greatest position of each journal.
    pub(crate) fn through(&self) -> &BTreeMap<String, u64> {
        &self.through
    }

    /// Does [`Self::through`] speak for every file? Other writers may leave statistics out, or mix journals.
    pub(crate) fn is_known(&self) -> bool {
        self.is_known
    }
}
