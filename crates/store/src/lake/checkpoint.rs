//! Checkpoints of the log, and the end of what they make needless. Owns when one is due, that it is whole before the hint
//! names it, and which old files go; refuses to run on its own: a commit does it when it is due.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use runstone_record::limits;

use super::kernel::Base;
use super::log::{self, Log};
use super::snapshot::LakeSnapshot;
use super::veil::Veil;
use super::{LakeError, verify};

/// How the log is kept short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LakeLog {
    /// Commits from one checkpoint to the next.
    pub checkpoint_commits: u64,
    /// How long what a checkpoint makes needless is kept, where the table's `delta.logRetentionDuration` says nothing.
    pub retention: Duration,
    /// How many versions are kept behind a checkpoint at most, however young.
    pub versions_max: u64,
}

impl Default for LakeLog {
    fn default() -> Self {
        Self {
            checkpoint_commits: limits::LAKE_CHECKPOINT_COMMITS,
            retention: Duration::from_secs(limits::LAKE_LOG_RETENTION_DAYS * 86_400),
            versions_max: limits::LAKE_LOG_VERSIONS_MAX,
        }
    }
}

/// A reader that has just listed the log may still open any of its files for so long.
const READERS: Duration = Duration::from_secs(3_600);

/// Files that one clean-up deletes at most; the next goes on.
const DELETES_MAX: usize = 5_000;

/// Writes a checkpoint of a snapshot, reads it back, and only then points the hint to it. Answers the snapshot based on it.
pub(crate) async fn write(store: &Arc<dyn ObjectStore>, snapshot: &LakeSnapshot) -> Result<LakeSnapshot, LakeError> {
    let (veil, version) = (Arc::new(Veil::keeping_hint(Arc::clone(store))), snapshot.version);
    let base = Base::checkpoint(version, Arc::clone(&veil) as Arc<dyn ObjectStore>, Arc::clone(store)).await?;
    let ours = veil.hint();
    let found = Log::list(store.as_ref(), Some(version)).await?;
    let found: Vec<_> = found.checkpoints.iter().filter(|checkpoint| checkpoint.version == version).collect();
    if found.is_empty() {
        return Err(LakeError::Internal(format!("write checkpoint {version}: it is not there")));
    }
    for checkpoint in found {
        let contents = verify::read(store.as_ref(), checkpoint).await?;
        if let Err(why) = contents.and_then(|contents| contents.compare(snapshot)) {
            if ours.is_some() {
                // Without it the table is as it was before.
                for file in &checkpoint.files {
                    let gone = store.delete(&file.location).await;
                    gone.map_err(|error| log::failed(&format!("delete {}", file.location), error))?;
                }
            }
            return Err(LakeError::Damaged(format!("checkpoint {version} cannot be believed: {why}")));
        }
    }
    if let Some(hint) = ours {
        let newer =
            log::read_hint(store.as_ref()).await?.and_then(Result::ok).is_some_and(|hint| hint.version > version);
        if !newer {
            let put = store.put(&log::hint_path(), hint.into()).await;
            put.map_err(|error| log::failed("write _last_checkpoint", error))?;
        }
    }
    // Later questions must not need files that a clean-up may take.
    Ok(snapshot.based_on(base))
}

/// What a clean-up goes by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keep {
    pub(crate) retention: Duration,
    pub(crate) versions_max: u64,
    pub(crate) now_ms: i64,
}

/// Deletes what the checkpoint of a version, which was verified, makes needless and nobody can want any more. The oldest
/// goes first, so that what a crash leaves has no gap. Answers how many files went.
pub(crate) async fn clean(store: &dyn ObjectStore, verified: u64, keep: Keep) -> Result<usize, LakeError> {
    // Others' hints count as well: nothing at or above them may go.
    let Some(Ok(hint)) = log::read_hint(store).await? else {
        return Ok(0);
    };
    let log = Log::list(store, None).await?;
    let gone = expired(&log, verified.min(hint.version), keep);
    let count = gone.len();
    let paths = futures::stream::iter(gone.into_iter().map(Ok)).boxed();
    store
        .delete_stream(paths)
        .filter(|answer| futures::future::ready(!matches!(answer, Err(object_store::Error::NotFound { .. }))))
        .try_for_each(|_| futures::future::ok(()))
        .await
        .map_err(|error| log::failed("delete old files of the lake's log", error))?;
    Ok(count)
}

/// The files that may go, oldest first.
fn expired(log: &Log, verified: u64, keep: Keep) -> Vec<Path> {
    let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let old = keep.now_ms.saturating_sub(millis(keep.retention));
    let unused = keep.now_ms.saturating_sub(millis(READERS));
    let crowded = verified.saturating_sub(keep.versions_max);
    // The first version that somebody may still ask for; and the checkpoint that answers it stays, too.
    let wanted = log.commits.iter().find(|(version, commit)| {
        let modified = commit.last_modified.timestamp_millis();
        modified >= if **version < crowded { unused } else { old }
    });
    let wanted = wanted.map_or(verified, |(version, _)| verified.min(*version));
    let checkpoints: BTreeSet<u64> = log.checkpoints.iter().map(|checkpoint| checkpoint.version).collect();
    let Some(first_kept) = checkpoints.range(..=wanted).next_back().copied() else {
        return Vec::new();
    };
    let commits = log.commits.iter().map(|(version, commit)| (*version, commit));
    let checkpoints =
        log.checkpoints.iter().flat_map(|checkpoint| checkpoint.files.iter().map(|file| (checkpoint.version, file)));
    let others = log.others.iter().map(|(version, file)| (*version, file));
    let mut gone: Vec<_> =
        commits.chain(checkpoints).chain(others).filter(|(version, _)| *version < first_kept).collect();
    gone.sort_unstable_by(|one, other| (one.0, &one.1.location).cmp(&(other.0, &other.1.location)));
    gone.into_iter().take(DELETES_MAX).map(|(_, file)| file.location.clone()).collect()
}
