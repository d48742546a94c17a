//! The lake, open: one handle that reads the table's newest version and commits to it. Owns opening, creating, the order
//! of this process's commits and the snapshot that it last saw; refuses to know what is in the files.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, WriteMultipart};
use runstone_record::{IdMint, RecordId, limits};
use url::Url;

use super::actions::{self, Action, Format, MetaData, Protocol};
use super::commit::{self, Change, Outcome, Writer};
use super::encode::Encoded;
use super::local::LocalStore;
use super::place::{LakeNetwork, Place};
use super::snapshot::LakeSnapshot;
use super::{LakeError, LakeFile, stats, support};

/// Where the table is and how the storage is spoken to.
#[derive(Clone)]
pub struct LakeOptions {
    /// A path, `file://`, `s3://bucket/prefix` or `abfss://container@account.dfs.core.windows.net/path`.
    pub location: String,
    /// Who writes, for the table's history: name and version.
    pub engine_info: String,
    /// Milliseconds since 1970.
    pub clock_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// Random bits.
    pub entropy: Arc<dyn Fn() -> u128 + Send + Sync>,
    /// How storage over the network is asked.
    pub network: LakeNetwork,
}

impl LakeOptions {
    /// With what the rest of the system would set by itself.
    #[must_use]
    pub fn new(
        location: impl Into<String>,
        engine_info: impl Into<String>,
        clock_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
        entropy: Arc<dyn Fn() -> u128 + Send + Sync>,
    ) -> Self {
        Self {
            location: location.into(),
            engine_info: engine_info.into(),
            clock_ms,
            entropy,
            network: LakeNetwork::default(),
        }
    }
}

impl std::fmt::Debug for LakeOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LakeOptions").field("location", &self.location).field("network", &self.network).finish()
    }
}

/// The table, open. Clones share it.
#[derive(Debug, Clone)]
pub struct Lake {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: LakeOptions,
    place: Place,
    read_only: bool,
    newest: RwLock<Arc<LakeSnapshot>>,
    /// One commit at a time: those of one process would only race each other.
    turn: tokio::sync::Mutex<()>,
    /// An attempt's outcome is not known: look before the next.
    uncertain: AtomicBool,
}

impl Lake {
    /// Opens the table to write it, and creates it where there is none.
    ///
    /// # Errors
    /// The location is wrong, the storage fails, or the table needs more than this server can do.
    pub async fn open(options: LakeOptions) -> Result<Lake, LakeError> {
        let place = Place::find(&options.location, &options.network, true)?;
        Lake::open_at(place, options).await
    }

    pub(crate) async fn open_at(place: Place, options: LakeOptions) -> Result<Lake, LakeError> {
        if let Some(local) = &place.local {
            remove_unfinished(local, (options.clock_ms)()).await?;
        }
        if !exists(place.store.as_ref()).await? {
            create(&place, &options).await?;
        }
        let snapshot = LakeSnapshot::load(Arc::clone(&place.store)).await?;
        support::check_write(&snapshot.table.protocol, &snapshot.table.metadata)?;
        Ok(Lake::with(options, place, snapshot, false))
    }

    /// Opens an existing table for reading only: creates, repairs and writes nothing.
    ///
    /// # Errors
    /// There is no table, the storage fails, or the table needs more than this server can do.
    pub async fn open_read_only(options: LakeOptions) -> Result<Lake, LakeError> {
        let place = Place::find(&options.location, &options.network, false)?;
        if !exists(place.store.as_ref()).await? {
            return Err(LakeError::Location(format!("open the lake: {} holds no table", place.url)));
        }
        let snapshot = LakeSnapshot::load(Arc::clone(&place.store)).await?;
        Ok(Lake::with(options, place, snapshot, true))
    }

    fn with(options: LakeOptions, place: Place, snapshot: LakeSnapshot, read_only: bool) -> Lake {
        let newest = RwLock::new(Arc::new(snapshot));
        let turn = tokio::sync::Mutex::new(());
        Lake { inner: Arc::new(Inner { options, place, read_only, newest, turn, uncertain: AtomicBool::new(false) }) }
    }

    /// The newest snapshot that was loaded.
    #[must_use]
    pub fn snapshot(&self) -> Arc<LakeSnapshot> {
        Arc::clone(&self.inner.newest.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks for newer commits.
    ///
    /// # Errors
    /// The storage fails, or a commit makes the table one that this server cannot use.
    pub async fn refresh(&self) -> Result<Arc<LakeSnapshot>, LakeError> {
        let mut snapshot = self.snapshot();
        while let Some(actions) = commit::read(self.inner.place.store.as_ref(), snapshot.version + 1).await? {
            snapshot = self.follow(&snapshot, &actions).await?;
        }
        Ok(snapshot)
    }

    /// The last position of a journal in the table. None: nothing of it was ever committed.
    ///
    /// # Errors
    /// The storage fails, or the entry is no position.
    pub async fn cursor(&self, snapshot: &LakeSnapshot, journal: &str) -> Result<Option<u64>, LakeError> {
        commit::cursor(snapshot, journal).await
    }

    /// Uploads a data file; durable on return. It is no part of the table until it is committed.
    ///
    /// # Errors
    /// The storage fails.
    pub async fn put(&self, file: Encoded, date: i32) -> Result<LakeFile, LakeError> {
        self.writable()?;
        let day = stats::format_date(date).ok_or_else(|| LakeError::Internal(format!("write a file of day {date}")))?;
        let now_ms = (self.inner.options.clock_ms)();
        let path = format!("date={day}/{}.parquet", self.id(now_ms));
        let bytes = file.bytes.len() as u64;
        self.upload(&Path::from(path.as_str()), file.bytes).await.map_err(|source| LakeError::Storage {
            action: format!("upload {path}, {bytes} bytes"),
            source: source.into(),
        })?;
        Ok(LakeFile { path, bytes, date: Some(date), modified_ms: now_ms, stats: file.stats })
    }

    async fn upload(&self, path: &Path, bytes: Bytes) -> object_store::Result<()> {
        let store = &self.inner.place.store;
        if self.inner.place.local.is_some() || bytes.len() <= limits::LAKE_PART_BYTES {
            return store.put(path, bytes.into()).await.map(|_| ());
        }
        // In parts, so that one request stays within its time on a slow line.
        let upload = store.put_multipart(path).await?;
        let mut write = WriteMultipart::new_with_chunk_size(upload, limits::LAKE_PART_BYTES);
        for part in 0..bytes.len().div_ceil(limits::LAKE_PART_BYTES) {
            write.wait_for_capacity(limits::LAKE_PARTS_IN_FLIGHT_MAX).await?;
            let start = part * limits::LAKE_PART_BYTES;
            write.put(bytes.slice(start..bytes.len().min(start + limits::LAKE_PART_BYTES)));
        }
        write.finish().await.map(|_| ())
    }

    /// Commits a change, over commits of others that do not matter to it. The answer includes it.
    ///
    /// # Errors
    /// [`LakeError::Conflict`] where another writer moved the journal or removed a file of it; the storage fails, after
    /// which it is not known whether the change is in the table: the next commit of the same journal will tell.
    pub async fn commit(&self, change: Change) -> Result<Arc<LakeSnapshot>, LakeError> {
        self.writable()?;
        let _turn = self.inner.turn.lock().await;
        let inner = &self.inner;
        let mut snapshot = self.snapshot();
        if inner.uncertain.load(Ordering::Acquire) {
            snapshot = self.refresh().await?;
        }
        let now_ms = (inner.options.clock_ms)();
        let txn_id = self.id(now_ms);
        let writer = Writer { engine_info: &inner.options.engine_info, txn_id: &txn_id, now_ms };
        let mut refusals = 0;
        for tries in 0..limits::LAKE_COMMIT_TRIES_MAX {
            support::check_write(&snapshot.table.protocol, &snapshot.table.metadata)?;
            commit::check(&change, &snapshot).await?;
            let lines = commit::build(&change, &snapshot, writer)?;
            let version = snapshot.version + 1;
            inner.uncertain.store(true, Ordering::Release);
            match commit::attempt(inner.place.store.as_ref(), version, &lines, &txn_id).await? {
                Outcome::Done => {
                    let next = self.publish(commit::step(&inner.place.store, &snapshot, &lines).await?);
                    inner.uncertain.store(false, Ordering::Release);
                    return Ok(next);
                }
                Outcome::Taken(actions) => {
                    tracing::debug!(version, operation = change.operation, "rebased a commit over another writer's");
                    self.follow(&snapshot, &actions).await?;
                    snapshot = self.refresh().await?;
                    inner.uncertain.store(false, Ordering::Release);
                }
                Outcome::Free(refusal) => {
                    refusals += 1;
                    if refusals == REFUSALS_MAX || is_final(&refusal) {
                        let action = format!("commit version {version} of the lake");
                        return Err(LakeError::Storage { action, source: refusal.into() });
                    }
                    tokio::time::sleep(commit::pause(tries, (inner.options.entropy)())).await;
                }
            }
        }
        Err(LakeError::Conflict(format!("gave up after {} tries", limits::LAKE_COMMIT_TRIES_MAX)))
    }

    /// Goes on to the next version, another writer's.
    async fn follow(&self, snapshot: &LakeSnapshot, actions: &[Action]) -> Result<Arc<LakeSnapshot>, LakeError> {
        if let Some(local) = self.inner.place.local.as_ref().filter(|_| !self.inner.read_only) {
            // What we commit stands on it: it must not be the first to go in a power cut.
            let path = commit::path(snapshot.version + 1);
            local
                .sync(&path)
                .await
                .map_err(|source| LakeError::Storage { action: format!("sync {path}"), source: source.into() })?;
        }
        Ok(self.publish(commit::step(&self.inner.place.store, snapshot, actions).await?))
    }

    /// Keeps a snapshot where it is the newest, and answers the newest.
    fn publish(&self, snapshot: LakeSnapshot) -> Arc<LakeSnapshot> {
        let mut newest = self.inner.newest.write().unwrap_or_else(PoisonError::into_inner);
        if snapshot.version > newest.version {
            *newest = Arc::new(snapshot);
        }
        Arc::clone(&newest)
    }

    fn writable(&self) -> Result<(), LakeError> {
        if self.inner.read_only {
            return Err(LakeError::Internal("write to a lake that was opened for reading".to_owned()));
        }
        Ok(())
    }

    fn id(&self, now_ms: i64) -> String {
        new_id(now_ms, (self.inner.options.entropy)()).to_string()
    }

    /// The storage, rooted at the table.
    #[must_use]
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.inner.place.store)
    }

    /// Of the table's root, ending in `/`.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.inner.place.url
    }
}

/// How often a version that stays free is tried; the storage has tried each of them for long itself.
const REFUSALS_MAX: u32 = 10;

/// Will the storage say the same however often it is asked?
fn is_final(refusal: &object_store::Error) -> bool {
    use object_store::Error;
    matches!(
        refusal,
        Error::PermissionDenied { .. }
            | Error::Unauthenticated { .. }
            | Error::NotImplemented { .. }
            | Error::NotSupported { .. }
            | Error::InvalidPath { .. }
            | Error::UnknownConfigurationKey { .. }
    )
}

fn new_id(now_ms: i64, random: u128) -> RecordId {
    IdMint::new(u64::try_from(now_ms).unwrap_or(0), random).mint()
}

/// How old an unfinished file must be before it is known that nobody goes on writing it.
const UNFINISHED_MS: i64 = 3_600_000;

async fn remove_unfinished(local: &LocalStore, now_ms: i64) -> Result<(), LakeError> {
    let removed = local.remove_unfinished(now_ms.saturating_sub(UNFINISHED_MS)).await.map_err(|error| {
        LakeError::Storage { action: format!("look for unfinished files in {local}"), source: error.into() }
    })?;
    if removed > 0 {
        tracing::info!(files = removed, "removed unfinished files that a crash left in the lake");
    }
    Ok(())
}

/// Is there a log?
async fn exists(store: &dyn ObjectStore) -> Result<bool, LakeError> {
    let mut entries = store.list(Some(&Path::from("_delta_log")));
    loop {
        let entry = entries.try_next().await;
        let entry =
            entry.map_err(|error| LakeError::Storage { action: "list _delta_log".into(), source: error.into() })?;
        let Some(entry) = entry else {
            return Ok(false);
        };
        let name = entry.location.filename().unwrap_or_default();
        let numbered = name.len() > 21 && name.bytes().take(20).all(|byte| byte.is_ascii_digit());
        if numbered && (name.ends_with(".json") || name.ends_with(".parquet")) {
            return Ok(true);
        }
    }
}

/// Writes version 0. Where another creator is faster, its table is as good.
async fn create(place: &Place, options: &LakeOptions) -> Result<(), LakeError> {
    let now_ms = (options.clock_ms)();
    let txn_id = new_id(now_ms, (options.entropy)()).to_string();
    let info = actions::CommitInfo {
        timestamp: now_ms,
        operation: "CREATE TABLE".to_owned(),
        is_blind_append: true,
        engine_info: options.engine_info.clone(),
        txn_id: Some(txn_id.clone()),
        ..Default::default()
    };
    let protocol =
        Protocol { min_reader_version: 1, min_writer_version: 2, reader_features: None, writer_features: None };
    let metadata = MetaData {
        id: new_id(now_ms, (options.entropy)()).to_string(),
        name: Some("logs".to_owned()),
        description: None,
        format: Format { provider: "parquet".to_owned(), options: Default::default() },
        schema_string: support::schema_string(),
        partition_columns: vec![support::PARTITION.to_owned()],
        configuration: Default::default(),
        created_time: Some(now_ms),
    };
    let lines: [Action; 3] = [info.into(), protocol.into(), metadata.into()];
    for tries in 0..REFUSALS_MAX {
        match commit::attempt(place.store.as_ref(), 0, &lines, &txn_id).await? {
            Outcome::Done => {
                tracing::info!(location = %place.url, "created the lake");
                return Ok(());
            }
            Outcome::Taken(_) => return Ok(()),
            Outcome::Free(refusal) if tries + 1 == REFUSALS_MAX || is_final(&refusal) => {
                return Err(LakeError::Storage { action: "create the lake".to_owned(), source: refusal.into() });
            }
            Outcome::Free(_) => tokio::time::sleep(commit::pause(tries, (options.entropy)())).await,
        }
    }
    Ok(())
}
