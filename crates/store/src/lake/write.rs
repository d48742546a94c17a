//! Writing to the lake: data files go up, and commits make them part of the table. Owns one commit's way from a change to a
//! version of the log; refuses to decide when to write.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt};
use runstone_record::limits;

use super::checkpoint::{self, Keep};
use super::commit::{self, Change, Outcome, Writer};
use super::encode::Encoded;
use super::kernel::Keeping;
use super::snapshot::{LakeSnapshot, Step};
use super::source::blocking;
use super::sums::Sums;
use super::table::{Lake, new_id};
use super::upkeep::COMPACTED;
use super::{LakeError, LakeFile, stats, support};

impl Lake {
    /// Uploads a data file; durable on return. It is no part of the table until it is committed.
    ///
    /// # Errors
    /// The storage fails.
    pub async fn put(&self, file: Encoded, date: i32) -> Result<LakeFile, LakeError> {
        self.put_as(file, date, "").await
    }

    /// The same for a file that compaction made: its name says so.
    pub(crate) async fn put_compacted(&self, file: Encoded, date: i32) -> Result<LakeFile, LakeError> {
        self.put_as(file, date, COMPACTED).await
    }

    async fn put_as(&self, file: Encoded, date: i32, made: &str) -> Result<LakeFile, LakeError> {
        self.writable()?;
        let day = stats::format_date(date).ok_or_else(|| LakeError::Internal(format!("write a file of day {date}")))?;
        let now_ms = self.now_ms();
        let path = format!("date={day}/{}{made}.parquet", self.id(now_ms));
        let bytes = file.bytes.len() as u64;
        let whole = file.bytes.clone();
        let sums = blocking(move || Ok(Sums::of(&whole))).await?;
        self.upload(&Path::from(path.as_str()), file.bytes).await.map_err(|source| LakeError::Storage {
            action: format!("upload {path}, {bytes} bytes"),
            source: source.into(),
        })?;
        Ok(LakeFile { path, bytes, date: Some(date), modified_ms: now_ms, stats: file.stats, sums: Some(sums) })
    }

    async fn upload(&self, path: &Path, bytes: Bytes) -> object_store::Result<()> {
        let place = &self.inner.place;
        if place.local.is_some() || bytes.len() <= limits::LAKE_PART_BYTES {
            return place.store.put(path, bytes.into()).await.map(|_| ());
        }
        // In parts, so that one request stays within its time on a slow line.
        let mut upload = place.store.put_multipart(path).await?;
        let done = upload_parts(upload.as_mut(), &bytes).await;
        if done.is_err()
            && let Err(error) = upload.abort().await
        {
            // What has arrived of it is no file: vacuum cannot see it, and it is paid for.
            tracing::warn!(%path, %error, "left parts of a failed upload behind");
        }
        done
    }

    /// Deletes files that were uploaded and that no commit was tried with. What stays is vacuum's.
    pub(crate) async fn discard(&self, files: &[LakeFile]) {
        for file in files {
            if let Err(error) = self.inner.place.store.delete(&Path::from(file.path.as_str())).await {
                tracing::debug!(path = file.path, %error, "left a file behind that was not committed");
            }
        }
    }

    /// Commits a change, over commits of others that do not matter to it. The answer includes it.
    ///
    /// # Errors
    /// [`LakeError::Conflict`] where another writer moved the journal or removed a file of it; the storage fails, after
    /// which it is not known whether the change is in the table: the next commit of the same journal will tell.
    pub async fn commit(&self, change: Change) -> Result<Arc<LakeSnapshot>, LakeError> {
        self.writable()?;
        let turn = self.inner.turn.lock().await;
        let committed = self.commit_in_turn(&change).await?;
        drop(turn);
        self.checkpoint_when_due(&committed).await;
        Ok(committed)
    }

    async fn commit_in_turn(&self, change: &Change) -> Result<Arc<LakeSnapshot>, LakeError> {
        let inner = &self.inner;
        let mut snapshot = self.snapshot();
        if self.is_stale() {
            snapshot = self.refresh().await?;
        }
        let now_ms = self.now_ms();
        let txn_id = self.id(now_ms);
        let writer = Writer { engine_info: &inner.options.engine_info, txn_id: &txn_id, now_ms };
        let mut refusals = 0;
        for _ in 0..limits::LAKE_COMMIT_TRIES_MAX {
            support::check_write(&snapshot.table.protocol, &snapshot.table.metadata)?;
            commit::check(change, &snapshot).await?;
            let lines = commit::build(change, &snapshot, writer)?;
            // An attempt of before whose outcome nobody learned may have taken it: then the journal has moved.
            let version = snapshot.version + 1;
            match commit::attempt(inner.place.store.as_ref(), version, &lines, &txn_id).await? {
                Outcome::Done => {
                    let Step::Next(next) = snapshot.apply(&lines)? else {
                        return Err(LakeError::Internal("commit metadata with a change of files".to_owned()));
                    };
                    return Ok(self.publish(next));
                }
                Outcome::Taken(actions) => {
                    tracing::debug!(version, operation = change.operation, "another writer took the version");
                    self.follow(&snapshot, &actions).await?;
                    snapshot = self.refresh().await?;
                }
                Outcome::Free(refusal) => {
                    refusals += 1;
                    if refusals == limits::LAKE_COMMIT_REFUSALS_MAX || commit::is_final(&refusal) {
                        let action = format!("commit version {version} of the lake");
                        return Err(LakeError::Storage { action, source: refusal.into() });
                    }
                    tokio::time::sleep(commit::pause(inner.options.network.commit_pause, refusals, self.random()))
                        .await;
                }
            }
        }
        Err(LakeError::Conflict(format!("gave up after {} tries", limits::LAKE_COMMIT_TRIES_MAX)))
    }

    /// A checkpoint that cannot be written costs nothing but time, later: it is tried again some commits on.
    async fn checkpoint_when_due(&self, snapshot: &Arc<LakeSnapshot>) {
        let (due, every) = (&self.inner.checkpoint_due, self.inner.options.log.checkpoint_commits.max(1));
        let version = snapshot.version;
        if version < due.load(Ordering::Acquire) {
            return;
        }
        // Whoever comes meanwhile finds that it is not due.
        due.store(version + every, Ordering::Release);
        if let Err(error) = self.checkpoint(snapshot).await {
            tracing::warn!(
                version,
                error = &error as &dyn std::error::Error,
                "failed to write a checkpoint of the lake"
            );
            due.store(version + every.div_ceil(10), Ordering::Release);
        }
    }

    /// Writes a checkpoint of a snapshot and deletes what of the log has become needless and old.
    ///
    /// # Errors
    /// The storage fails, or the checkpoint does not say the same as the table.
    pub async fn checkpoint(&self, snapshot: &LakeSnapshot) -> Result<(), LakeError> {
        self.writable()?;
        let (store, log) = (&self.inner.place.store, &self.inner.options.log);
        let based = checkpoint::write(store, snapshot).await?;
        let keeping = based.keeping();
        self.publish(based);
        let (retention, versions_max) = match keeping {
            Keeping::Forever => return Ok(()),
            // Whoever says so wants every one of them.
            Keeping::For(time) => (time, u64::MAX),
            Keeping::Unsaid => (log.retention, log.versions_max),
        };
        let keep = Keep { retention, versions_max, now_ms: self.now_ms() };
        let files = checkpoint::clean(store.as_ref(), snapshot.version, keep).await?;
        tracing::debug!(version = snapshot.version, deleted = files, "wrote a checkpoint of the lake");
        Ok(())
    }

    fn id(&self, now_ms: i64) -> String {
        new_id(now_ms, self.random()).to_string()
    }

    fn random(&self) -> u128 {
        (self.inner.options.entropy)()
    }
}

async fn upload_parts(upload: &mut dyn MultipartUpload, bytes: &Bytes) -> object_store::Result<()> {
    let starts = (0..bytes.len()).step_by(limits::LAKE_PART_BYTES);
    let parts = starts.map(|start| {
        let part = bytes.slice(start..bytes.len().min(start + limits::LAKE_PART_BYTES));
        upload.put_part(part.into())
    });
    let sent = futures::stream::iter(parts).buffer_unordered(limits::LAKE_PARTS_IN_FLIGHT_MAX);
    sent.try_collect::<()>().await?;
    upload.complete().await.map(drop)
}
