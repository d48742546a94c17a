//! The table at one version. Owns reading it whole through deltalake's kernel and carrying it forward commit by commit;
//! refuses to write.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, AsArray, MapArray, RecordBatch, StringArray, StructArray};
use arrow::datatypes::Int64Type;
use deltalake_core::kernel::Snapshot;
use deltalake_core::kernel::engine::arrow_expression::evaluate_expression::to_json;
use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use futures::TryStreamExt;
use object_store::ObjectStore;
use url::Url;

use super::actions::{self, Action, Add, MetaData, Protocol};
use super::file::LakeFile;
use super::{LakeError, support};

/// The table at one version.
#[derive(Debug, Clone)]
pub struct LakeSnapshot {
    /// The version.
    pub version: u64,
    /// Its data files, in no order that matters.
    pub files: Arc<Vec<Arc<LakeFile>>>,
    pub(super) table: Arc<Table>,
    /// What `txn` entries after `base` say.
    txns: Arc<BTreeMap<String, i64>>,
    base: Arc<Base>,
    /// The paths, as their entries have them, of files whose entry this server would have written differently.
    raw_paths: Arc<HashMap<String, String>>,
}

/// What the table is, apart from its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) protocol: Protocol,
    pub(crate) metadata: MetaData,
}

/// Answers what `txn` entries said when the table was read whole.
pub(crate) struct Base {
    snapshot: delta_kernel::snapshot::SnapshotRef,
    log: LogStoreRef,
    known: Mutex<HashMap<String, Option<i64>>>,
}

impl std::fmt::Debug for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Base({})", self.snapshot.version())
    }
}

/// What a commit does to a snapshot.
#[derive(Debug)]
pub(crate) enum Step {
    /// The snapshot after it.
    Next(LakeSnapshot),
    /// It changes the protocol or the metadata: the table is to be read whole again.
    Reload,
}

/// The kernel's view of a table: it needs a URL, and paths that follow from it. The store is rooted at the table.
pub(crate) fn log_store(store: Arc<dyn ObjectStore>) -> Result<LogStoreRef, LakeError> {
    let root = Url::parse("memory:///").map_err(|error| LakeError::Internal(format!("parse a URL: {error}")))?;
    Ok(default_logstore(Arc::clone(&store), store, &root, &StorageConfig::default()))
}

fn failed(action: &str, error: impl std::error::Error + Send + Sync + 'static) -> LakeError {
    LakeError::Storage { action: action.to_owned(), source: Box::new(error) }
}

impl LakeSnapshot {
    /// Reads the newest version whole.
    pub(crate) async fn load(store: Arc<dyn ObjectStore>) -> Result<LakeSnapshot, LakeError> {
        let log = log_store(store)?;
        let base = Base::load(&log).await?;
        let version = base.snapshot.version();
        let snapshot = Snapshot::try_new(log.as_ref(), Some(version)).await.map_err(delta_error)?;
        let table = Table { protocol: convert(snapshot.protocol())?, metadata: convert(snapshot.metadata())? };
        // Before its files: an unknown feature may say that they mean something else.
        support::check_read(&table.protocol, &table.metadata)?;
        let mut files = Vec::new();
        let mut raw_paths = HashMap::new();
        let mut batches = snapshot.files(log.as_ref(), None);
        while let Some(batch) = batches.try_next().await.map_err(delta_error)? {
            for add in adds(&batch)? {
                let file = actions::file(&add)?;
                note_raw_path(&mut raw_paths, &file, add.path);
                files.push(Arc::new(file));
            }
        }
        Ok(LakeSnapshot {
            version,
            files: Arc::new(files),
            table: Arc::new(table),
            txns: Arc::default(),
            base: Arc::new(base),
            raw_paths: Arc::new(raw_paths),
        })
    }

    /// The snapshot after the next commit.
    pub(crate) fn apply(&self, actions: &[Action]) -> Result<Step, LakeError> {
        if actions.iter().any(|action| action.protocol.is_some() || action.meta_data.is_some()) {
            return Ok(Step::Reload);
        }
        let mut next = self.clone();
        next.version += 1;
        let removed: HashSet<String> = actions
            .iter()
            .filter_map(|action| action.remove.as_ref())
            .map(|remove| actions::decode_path(&remove.path))
            .collect::<Result<_, _>>()?;
        let adds: Vec<&Add> = actions.iter().filter_map(|action| action.add.as_ref()).collect();
        if !removed.is_empty() || !adds.is_empty() {
            let mut replaced = removed;
            let mut raw_paths = HashMap::new();
            let mut files = Vec::with_capacity(adds.len());
            for add in adds {
                let file = actions::file(add)?;
                note_raw_path(&mut raw_paths, &file, add.path.clone());
                // A second `add` of a path takes the place of the first.
                replaced.insert(file.path.clone());
                files.push(Arc::new(file));
            }
            let kept = self.files.iter().filter(|file| !replaced.contains(&file.path)).cloned();
            next.files = Arc::new(kept.chain(files).collect());
            if !raw_paths.is_empty() || self.raw_paths.keys().any(|path| replaced.contains(path)) {
                let kept = self.raw_paths.iter().filter(|(path, _)| !replaced.contains(*path));
                raw_paths.extend(kept.map(|(path, raw)| (path.clone(), raw.clone())));
                next.raw_paths = Arc::new(raw_paths);
            }
        }
        let txns: Vec<_> = actions.iter().filter_map(|action| action.txn.as_ref()).collect();
        if !txns.is_empty() {
            let txns = txns.into_iter().map(|txn| (txn.app_id.clone(), txn.version));
            Arc::make_mut(&mut next.txns).extend(txns);
        }
        Ok(Step::Next(next))
    }

    /// The path of a file as its entry has it.
    pub(crate) fn raw_path(&self, file: &LakeFile) -> String {
        self.raw_paths.get(&file.path).cloned().unwrap_or_else(|| actions::encode_path(&file.path))
    }

    /// The version of an application's newest `txn`.
    pub(crate) async fn txn(&self, app_id: &str) -> Result<Option<i64>, LakeError> {
        match self.txns.get(app_id) {
            Some(version) => Ok(Some(*version)),
            None => self.base.txn(app_id).await,
        }
    }

    /// What `txn` entries say that came after the table was read whole.
    pub(crate) fn new_txns(&self) -> &BTreeMap<String, i64> {
        &self.txns
    }

    /// The same version, its older `txn` entries answered from a newer base.
    pub(crate) fn based_on(&self, base: Base) -> LakeSnapshot {
        LakeSnapshot { base: Arc::new(base), ..self.clone() }
    }

    /// How long the table wants versions of its log to be kept, if it says.
    pub(crate) fn log_retention(&self) -> Option<std::time::Duration> {
        let properties = self.base.snapshot.table_properties();
        match properties.enable_expired_log_cleanup {
            Some(false) => Some(std::time::Duration::MAX),
            _ => properties.log_retention_duration,
        }
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Rows of all files that say how many they have.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.files.iter().filter_map(|file| file.stats.rows).sum()
    }

    /// The greatest position of each journal, by the files' statistics.
    #[must_use]
    pub fn through(&self) -> BTreeMap<String, u64> {
        let mut through = BTreeMap::new();
        for file in self.files.iter() {
            if let (Some(journal), Some((_, last))) = (file.journal(), file.positions()) {
                match through.get_mut(journal) {
                    Some(known) => *known = last.max(*known),
                    None => {
                        through.insert(journal.to_owned(), last);
                    }
                }
            }
        }
        through
    }
}

impl Base {
    async fn load(log: &LogStoreRef) -> Result<Base, LakeError> {
        let (engine, root) = (log.engine(None), log.config().location().clone());
        let read = move || delta_kernel::Snapshot::builder_for(root).build(engine.as_ref());
        Ok(Base::new(blocking(READ, read).await?, Arc::clone(log)))
    }

    pub(crate) fn new(snapshot: delta_kernel::snapshot::SnapshotRef, log: LogStoreRef) -> Base {
        Base { snapshot, log, known: Mutex::default() }
    }

    async fn txn(&self, app_id: &str) -> Result<Option<i64>, LakeError> {
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(app_id) {
            return Ok(*known);
        }
        let (engine, snapshot, id) = (self.log.engine(None), Arc::clone(&self.snapshot), app_id.to_owned());
        let look = move || snapshot.get_app_id_version(&id, engine.as_ref());
        let found = blocking(READ, look).await?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(app_id.to_owned(), found);
        Ok(found)
    }
}

/// Asks the kernel, which blocks.
pub(crate) async fn blocking<T: Send + 'static>(
    action: &str,
    work: impl FnOnce() -> delta_kernel::DeltaResult<T> + Send + 'static,
) -> Result<T, LakeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| kernel_error(action, error)),
        Err(error) => Err(LakeError::Internal(format!("{action}: {error}"))),
    }
}

/// What the kernel says is the storage's, the table's or its own.
fn kernel_error(action: &str, error: delta_kernel::Error) -> LakeError {
    use delta_kernel::Error;
    match error {
        Error::Backtraced { source, .. } => kernel_error(action, *source),
        Error::Unsupported(what) | Error::InvalidProtocol(what) => LakeError::Unsupported(what),
        // Anything may be behind these; that it may pass is the careful guess.
        Error::ObjectStore(_)
        | Error::IOError(_)
        | Error::FileNotFound(_)
        | Error::JoinFailure(_)
        | Error::Cancelled => failed(action, error),
        other => LakeError::Damaged(format!("{action}: {other}")),
    }
}

fn delta_error(error: deltalake_core::DeltaTableError) -> LakeError {
    match error {
        deltalake_core::DeltaTableError::KernelError(error) => kernel_error(READ, error),
        other => failed(READ, other),
    }
}

const READ: &str = "read the lake's log";

/// The kernel's protocol and metadata, in the shape in which commits have them.
fn convert<T: serde::de::DeserializeOwned>(value: &impl serde::Serialize) -> Result<T, LakeError> {
    serde_json::to_value(value)
        .and_then(serde_json::from_value)
        .map_err(|error| LakeError::Internal(format!("read the table's protocol and metadata: {error}")))
}

fn note_raw_path(raw_paths: &mut HashMap<String, String>, file: &LakeFile, raw: String) {
    if actions::encode_path(&file.path) != raw {
        raw_paths.insert(file.path.clone(), raw);
    }
}

/// The files of a batch of the kernel's.
fn adds(batch: &RecordBatch) -> Result<Vec<Add>, LakeError> {
    let shape = || LakeError::Internal("read a file's entry: the kernel answers in another shape".to_owned());
    let column = |name: &str| batch.column_by_name(name).ok_or_else(shape);
    let paths = column("path")?.as_string_opt::<i32>().ok_or_else(shape)?;
    let sizes = column("size")?.as_primitive_opt::<Int64Type>().ok_or_else(shape)?;
    let modified = column("modificationTime")?.as_primitive_opt::<Int64Type>().ok_or_else(shape)?;
    let vectors = batch.column_by_name("deletionVector").and_then(|column| column.as_struct_opt());
    let partitions = column("fileConstantValues")?
        .as_struct_opt()
        .and_then(|constants| constants.column_by_name("partitionValues"))
        .and_then(|partitions| partitions.as_map_opt())
        .ok_or_else(shape)?;
    (0..batch.num_rows())
        .map(|row| {
            Ok(Add {
                path: paths.value(row).to_owned(),
                partition_values: partition_values(partitions, row).ok_or_else(shape)?,
                size: sizes.value(row),
                modification_time: modified.value(row),
                data_change: true,
                stats: stats(batch, row),
                deletion_vector: vectors.filter(|vectors| has_vector(vectors, row)).map(|_| true.into()),
            })
        })
        .collect()
}

fn has_vector(vectors: &StructArray, row: usize) -> bool {
    let kind = vectors.column_by_name("storageType");
    vectors.is_valid(row) && kind.is_some_and(|kind| kind.is_valid(row))
}

fn partition_values(partitions: &MapArray, row: usize) -> Option<BTreeMap<String, Option<String>>> {
    if partitions.is_null(row) {
        return Some(BTreeMap::new());
    }
    let entries = partitions.value(row);
    let texts = |column: usize| entries.column(column).as_any().downcast_ref::<StringArray>();
    let (keys, values) = (texts(0)?, texts(1)?);
    Some(keys.iter().zip(values).filter_map(|(key, value)| Some((key?.to_owned(), value.map(str::to_owned)))).collect())
}

/// Checkpoints may keep statistics as text, as columns, or as both.
fn stats(batch: &RecordBatch, row: usize) -> Option<String> {
    let text = batch.column_by_name("stats").and_then(|stats| stats.as_string_opt::<i32>());
    if let Some(text) = text.filter(|text| text.is_valid(row)) {
        return Some(text.value(row).to_owned());
    }
    let parsed = batch.column_by_name("stats_parsed")?.as_struct_opt()?;
    let json = to_json(&parsed.slice(row, 1)).ok()?;
    let json = json.as_string_opt::<i32>()?;
    (json.is_valid(0) && !json.value(0).is_empty()).then(|| json.value(0).to_owned())
}
