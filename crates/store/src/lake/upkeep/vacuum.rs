//! Files that no version of the table needs any more are deleted. Owns which: those that left the table longer ago than
//! the grace, and those that were uploaded and never committed; refuses to touch anything that is not a data file, and a table
//! that this server may not write: what is needless there, others know.

use std::collections::HashSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use runstone_record::limits;

use super::names::{Maker, is_data, maker};
use super::tombstones::{Grave, Tombstones};
use crate::lake::source::object_path;
use crate::lake::{Lake, LakeError, LakeSnapshot, stats, support};

/// What was deleted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vacuumed {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// What may go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ages {
    /// Files that left the table before.
    pub(crate) left_ms: i64,
    /// Files of ours that were uploaded before and are not in the table.
    pub(crate) orphan_ms: i64,
    /// The same of other writers.
    pub(crate) foreign_ms: i64,
}

impl Ages {
    pub(crate) fn new(now_ms: i64, grace_ms: i64) -> Self {
        // What the log has forgotten left it at some time since it was uploaded: the grace counts for it as well.
        Self {
            left_ms: now_ms.saturating_sub(grace_ms),
            orphan_ms: now_ms.saturating_sub(grace_ms.max(limits::LAKE_ORPHAN_MS)),
            foreign_ms: now_ms.saturating_sub(grace_ms.max(limits::LAKE_FOREIGN_ORPHAN_MS)),
        }
    }
}

/// Deletes what nobody needs.
pub(crate) async fn vacuum(lake: &Lake, now_ms: i64, grace_ms: i64) -> Result<Vacuumed, LakeError> {
    let ages = Ages::new(now_ms, grace_ms);
    let store = lake.store();
    // The snapshot is older than the list of files and the tombstones: what it has and what left since are both kept.
    let live = paths(newest(lake).await?.as_ref());
    let tombstones = Tombstones::read(Arc::clone(&store), ages.left_ms).await?;
    let failed = |error| LakeError::Storage { action: "list the lake's files".to_owned(), source: Box::new(error) };
    let top: object_store::ListResult = store.list_with_delimiter(None).await.map_err(failed)?;
    let mut gone = Vec::new();
    let mut vacuumed = Vacuumed::default();
    let take = |file: ObjectMeta, gone: &mut Vec<ObjectMeta>| {
        if !live.contains(&file.location) && is_needless(&file, &tombstones, ages) {
            gone.push(file);
        }
        gone.len() >= limits::LAKE_DELETE_FILES_MAX
    };
    for file in top.objects {
        if take(file, &mut gone) {
            delete(lake, &mut gone, &mut vacuumed).await?;
        }
    }
    for prefix in top.common_prefixes.iter().filter(|prefix| !prefix.as_ref().starts_with(['_', '.'])) {
        let mut files = store.list(Some(prefix));
        while let Some(file) = files.try_next().await.map_err(failed)? {
            if take(file, &mut gone) {
                delete(lake, &mut gone, &mut vacuumed).await?;
            }
        }
    }
    delete(lake, &mut gone, &mut vacuumed).await?;
    remove_empty_days(lake, now_ms).await?;
    Ok(vacuumed)
}

/// The newest version, where its files are ours to delete.
async fn newest(lake: &Lake) -> Result<Arc<LakeSnapshot>, LakeError> {
    lake.writable()?;
    let snapshot = lake.refresh().await?;
    support::check_write(&snapshot.table.protocol, &snapshot.table.metadata)?;
    Ok(snapshot)
}

fn paths(snapshot: &LakeSnapshot) -> HashSet<Path> {
    snapshot.files.iter().map(|file| object_path(&file.path)).collect()
}

/// May a file go that is not in the table?
fn is_needless(file: &ObjectMeta, tombstones: &Tombstones, ages: Ages) -> bool {
    let path = file.location.as_ref();
    if !is_data(path) {
        return false;
    }
    let uploaded_ms = file.last_modified.timestamp_millis();
    match tombstones.of(path) {
        Grave::Young => false,
        Grave::Old => true,
        Grave::None if maker(path) == Maker::Other => uploaded_ms < ages.foreign_ms,
        Grave::None => uploaded_ms < ages.orphan_ms,
    }
}

/// Deletes files that are still not in the table.
async fn delete(lake: &Lake, gone: &mut Vec<ObjectMeta>, vacuumed: &mut Vacuumed) -> Result<(), LakeError> {
    if gone.is_empty() {
        return Ok(());
    }
    let live = paths(newest(lake).await?.as_ref());
    gone.retain(|file| !live.contains(&file.location));
    let locations: Vec<_> = gone.iter().map(|file| Ok(file.location.clone())).collect();
    let mut answers = lake.store().delete_stream(futures::stream::iter(locations).boxed());
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(_) => vacuumed.files += 1,
            // Another clean-up was faster.
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => {
                return Err(LakeError::Storage {
                    action: "delete files that left the lake".to_owned(),
                    source: error.into(),
                });
            }
        }
    }
    vacuumed.bytes += gone.iter().map(|file| file.size).sum::<u64>();
    gone.clear();
    Ok(())
}

/// Removes directories of days of which no file is left; only a local directory has such.
async fn remove_empty_days(lake: &Lake, now_ms: i64) -> Result<(), LakeError> {
    let Some(local) = &lake.inner.place.local else { return Ok(()) };
    let today = i32::try_from(now_ms.div_euclid(86_400_000)).unwrap_or(i32::MAX);
    let is_past = move |name: &str| {
        let date = name.strip_prefix("date=").and_then(stats::parse_date);
        // A day that lasts gets files all the time.
        date.is_some_and(|date| date < today - 1)
    };
    let removed = local.remove_empty_dirs(is_past).await;
    removed.map_err(|error| LakeError::Storage {
        action: format!("remove empty directories from {}", local.root().display()),
        source: error.into(),
    })
}
