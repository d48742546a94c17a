//! Which files left the table, and when. Owns reading `remove` entries of the whole log, as far as it is kept; refuses to
//! delete anything.

use std::collections::HashSet;
use std::sync::Arc;

use object_store::ObjectStore;
use xxhash_rust::xxh3::xxh3_128;

use crate::lake::kernel::Base;
use crate::lake::source::object_path;
use crate::lake::{LakeError, actions};

/// Files that left the table. Only hashes of their paths are kept: there may be many.
#[derive(Debug, Default)]
pub(crate) struct Tombstones {
    young: HashSet<u128>,
    old: HashSet<u128>,
}

/// What the log says of a file that is not in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grave {
    /// It left within the grace: somebody may still read it.
    Young,
    /// It left before.
    Old,
    /// Nothing: it was never in the table, or the log has forgotten it.
    None,
}

impl Tombstones {
    /// Reads the log. `cut_ms` is when the grace begins, in milliseconds since 1970.
    pub(crate) async fn read(store: Arc<dyn ObjectStore>, cut_ms: i64) -> Result<Tombstones, LakeError> {
        let add = move |found: &mut Tombstones, raw_path: &str, left_ms: i64| {
            // What lies outside of the table is none of ours.
            let Ok(path) = actions::decode_path(raw_path) else { return };
            let hash = hash(object_path(&path).as_ref());
            if left_ms > cut_ms {
                found.young.insert(hash)
            } else {
                found.old.insert(hash)
            };
        };
        Base::load(store).await?.removes(add).await
    }

    /// What is known of a file, by its path in the store.
    pub(crate) fn of(&self, path: &str) -> Grave {
        let hash = hash(path);
        // A file may have left, come back and left again.
        match (self.young.contains(&hash), self.old.contains(&hash)) {
            (true, _) => Grave::Young,
            (false, true) => Grave::Old,
            (false, false) => Grave::None,
        }
    }
}

fn hash(path: &str) -> u128 {
    xxh3_128(path.as_bytes())
}
