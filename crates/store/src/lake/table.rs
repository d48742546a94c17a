//! The lake, open: one handle to read the table's newest version and to write to it. Owns opening it and the snapshot that
//! was last seen; refuses to know what is in the files.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use object_store::ObjectStore;
use object_store::path::Path;
use runstone_record::{IdMint, RecordId, limits};
use url::Url;

use super::actions::Action;
use super::checkpoint::LakeLog;
use super::found::Found;
use super::local::LocalStore;
use super::log::{self, Log};
use super::place::{LakeNetwork, Place};
use super::snapshot::{LakeSnapshot, Step};
use super::{LakeError, commit, create, repair, support};

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
    /// How the log is kept short.
    pub log: LakeLog,
    /// Set where a local directory could not be synced: clones share it.
    pub(super) unsynced: Arc<AtomicBool>,
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
            log: LakeLog::default(),
            unsynced: Arc::default(),
        }
    }

    /// Could a directory of a lake that was opened with these options not be synced? Then nobody knows what of it a power cut
    /// leaves, and only a new process may read it again.
    #[must_use]
    pub fn is_unsynced(&self) -> bool {
        self.unsynced.load(Ordering::Acquire)
    }
}

impl std::fmt::Debug for LakeOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LakeOptions")
            .field("location", &self.location)
            .field("network", &self.network)
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}

/// The table, open. Clones share it.
#[derive(Clone)]
pub struct Lake {
    pub(super) inner: Arc<Inner>,
}

impl std::fmt::Debug for Lake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lake({}, version {})", self.inner.place.url, self.snapshot().version)
    }
}

pub(super) struct Inner {
    pub(super) options: LakeOptions,
    pub(super) place: Place,
    read_only: bool,
    newest: RwLock<Arc<LakeSnapshot>>,
    /// What the table said of the time before this process wrote to it.
    pub(super) found: Option<Found>,
    /// When the log was last listed, in milliseconds since 1970.
    listed_ms: AtomicI64,
    /// One commit at a time: those of one process would only race each other.
    pub(super) turn: tokio::sync::Mutex<()>,
    /// At this version a checkpoint is due.
    pub(super) checkpoint_due: AtomicU64,
}

/// After so long without a list of the log, asking for the next version is not enough to know that there is none: others
/// may have gone on, written a checkpoint, and deleted it.
const LISTED_MS: i64 = 600_000;

/// How many versions are followed one by one before the table is read whole instead.
const STEPS_MAX: u32 = 200;

impl Lake {
    /// Opens the table to write it, and creates it where there is none.
    ///
    /// # Errors
    /// The location is wrong, the storage fails, or the table needs more than this server can do.
    pub async fn open(options: LakeOptions) -> Result<Lake, LakeError> {
        let place = Place::find(&options.location, &options.network, true, &options.unsynced)?;
        Lake::open_at(place, options).await
    }

    pub(crate) async fn open_at(place: Place, options: LakeOptions) -> Result<Lake, LakeError> {
        if let Some(local) = &place.local {
            remove_unfinished(local, (options.clock_ms)()).await?;
        }
        let loaded = match repair::load(&place, true).await? {
            Some(loaded) => Some(loaded),
            None => {
                create::create(&place, &options).await?;
                repair::load(&place, true).await?
            }
        };
        let Some((snapshot, survey)) = loaded else {
            return Err(LakeError::Damaged(format!("{} was created and is gone", place.url)));
        };
        support::check_write(&snapshot.table.protocol, &snapshot.table.metadata)?;
        let due = survey.checkpoint.unwrap_or(0) + options.log.checkpoint_commits;
        Ok(Lake::with(options, place, snapshot, false, due))
    }

    /// Opens an existing table for reading only: creates, repairs and writes nothing.
    ///
    /// # Errors
    /// There is no table, the storage fails, or the table needs more than this server can do.
    pub async fn open_read_only(options: LakeOptions) -> Result<Lake, LakeError> {
        let place = Place::find(&options.location, &options.network, false, &options.unsynced)?;
        let Some((snapshot, _)) = repair::load(&place, false).await? else {
            return Err(LakeError::Location(format!("open the lake: {} holds no table", place.url)));
        };
        Ok(Lake::with(options, place, snapshot, true, u64::MAX))
    }

    fn with(options: LakeOptions, place: Place, snapshot: LakeSnapshot, read_only: bool, due: u64) -> Lake {
        let listed_ms = AtomicI64::new((options.clock_ms)());
        let inner = Inner {
            options,
            place,
            read_only,
            found: Found::of(&snapshot),
            newest: RwLock::new(Arc::new(snapshot)),
            listed_ms,
            turn: tokio::sync::Mutex::new(()),
            checkpoint_due: AtomicU64::new(due),
        };
        Lake { inner: Arc::new(inner) }
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
        for _ in 0..STEPS_MAX {
            match commit::read(self.inner.place.store.as_ref(), snapshot.version + 1).await {
                Ok(Some(actions)) => snapshot = self.follow(&snapshot, &actions).await?,
                Ok(None) => return self.look_further(snapshot).await,
                // Whoever writes the table will move it aside, or finish it.
                Err(LakeError::Damaged(why)) if self.inner.read_only => {
                    tracing::warn!(%why, "cannot read the lake's newest version yet");
                    return Ok(snapshot);
                }
                Err(error) => return Err(error),
            }
        }
        self.reload().await
    }

    /// Is the next version missing because it is gone?
    async fn look_further(&self, snapshot: Arc<LakeSnapshot>) -> Result<Arc<LakeSnapshot>, LakeError> {
        let now_ms = self.now_ms();
        if !self.is_stale() {
            return Ok(snapshot);
        }
        let log = Log::list(self.inner.place.store.as_ref(), Some(snapshot.version + 1)).await?;
        self.inner.listed_ms.store(now_ms, Ordering::Relaxed);
        if log.is_empty() { Ok(snapshot) } else { self.reload().await }
    }

    /// Is it long since the log was listed?
    pub(super) fn is_stale(&self) -> bool {
        self.now_ms().abs_diff(self.inner.listed_ms.load(Ordering::Relaxed)) > LISTED_MS.unsigned_abs()
    }

    async fn reload(&self) -> Result<Arc<LakeSnapshot>, LakeError> {
        match repair::load(&self.inner.place, !self.inner.read_only).await? {
            Some((snapshot, _)) => Ok(self.publish(snapshot)),
            None => Err(LakeError::Damaged(format!("the table at {} is gone", self.inner.place.url))),
        }
    }

    /// Goes on to the next version, another writer's.
    pub(super) async fn follow(
        &self,
        snapshot: &LakeSnapshot,
        actions: &[Action],
    ) -> Result<Arc<LakeSnapshot>, LakeError> {
        if let Some(local) = self.inner.place.local.as_ref().filter(|_| !self.inner.read_only) {
            // What we commit stands on it: it must not be the first to go in a power cut.
            let files = actions.iter().filter_map(|action| action.add.as_ref());
            let files = files.filter_map(|add| Path::parse(super::actions::decode_path(&add.path).ok()?).ok());
            let files = files.chain([log::commit_path(snapshot.version + 1)]).collect();
            local.sync_all(files).await.map_err(|error| log::failed("sync another writer's commit", error))?;
        }
        match snapshot.apply(actions)? {
            Step::Next(next) => Ok(self.publish(next)),
            Step::Reload => self.reload().await,
        }
    }

    /// Keeps a snapshot where it is newer, and answers the newest.
    pub(super) fn publish(&self, snapshot: LakeSnapshot) -> Arc<LakeSnapshot> {
        let mut newest = self.inner.newest.write().unwrap_or_else(PoisonError::into_inner);
        if snapshot.version >= newest.version {
            *newest = Arc::new(snapshot);
        }
        Arc::clone(&newest)
    }

    /// The last position of a journal in the table. None: nothing of it was ever committed.
    ///
    /// # Errors
    /// The storage fails, or the entry is no position.
    pub async fn cursor(&self, snapshot: &LakeSnapshot, journal: &str) -> Result<Option<u64>, LakeError> {
        commit::cursor(snapshot, journal).await
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

    pub(super) fn writable(&self) -> Result<(), LakeError> {
        if self.inner.read_only {
            return Err(LakeError::Internal("write to a lake that was opened for reading".to_owned()));
        }
        Ok(())
    }

    pub(super) fn now_ms(&self) -> i64 {
        (self.inner.options.clock_ms)()
    }
}

pub(super) fn new_id(now_ms: i64, random: u128) -> RecordId {
    IdMint::new(u64::try_from(now_ms).unwrap_or(0), random).mint()
}

async fn remove_unfinished(local: &LocalStore, now_ms: i64) -> Result<(), LakeError> {
    let before_ms = now_ms.saturating_sub(limits::LAKE_UNFINISHED_MS);
    let removed = local.remove_unfinished(before_ms).await;
    let removed = removed.map_err(|error| log::failed("look for unfinished files of the lake", error))?;
    if removed > 0 {
        tracing::info!(files = removed, "removed unfinished files that a crash left in the lake");
    }
    Ok(())
}
