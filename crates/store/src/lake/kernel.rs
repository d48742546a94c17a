//! What deltalake's kernel is asked: to read a table whole, what its `txn` and `remove` entries say, and to write a checkpoint. Owns the
//! translation of its answers and of its errors; refuses to keep the files, which the snapshot does.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{Array, AsArray, MapArray, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{Int64Type, SchemaRef};
use delta_kernel::actions::{REMOVE_NAME, SIDECAR_NAME, get_all_actions_schema};
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::snapshot::SnapshotRef;
use deltalake_core::DeltaTableError;
use deltalake_core::kernel::Snapshot;
use deltalake_core::kernel::engine::arrow_expression::evaluate_expression::to_json;
use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use url::Url;

use super::LakeError;
use super::actions::{Add, MetaData, Protocol};

const READ: &str = "read the lake's log";
/// What an application's progress is called in the log.
const TXN_NAME: &str = "txn";

/// A version of the table, as the kernel knows it: its log's files, but not what is in them.
pub(crate) struct Base {
    snapshot: SnapshotRef,
    log: LogStoreRef,
    txns: Mutex<HashMap<String, Option<i64>>>,
    /// Those of all applications, once somebody asked.
    all_txns: Mutex<Option<Arc<BTreeMap<String, i64>>>>,
}

impl std::fmt::Debug for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Base({})", self.snapshot.version())
    }
}

/// How long a table wants its log to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// It does not say.
    Unsaid,
    For(Duration),
    Forever,
}

/// The kernel wants a URL and makes paths of it. The store is rooted at the table.
fn log_store(store: Arc<dyn ObjectStore>) -> Result<LogStoreRef, LakeError> {
    let root = Url::parse("memory:///").map_err(|error| LakeError::Internal(format!("parse a URL: {error}")))?;
    Ok(default_logstore(Arc::clone(&store), store, &root, &StorageConfig::default()))
}

impl Base {
    /// The newest version.
    pub(crate) async fn load(store: Arc<dyn ObjectStore>) -> Result<Base, LakeError> {
        let log = log_store(store)?;
        let (engine, root) = (log.engine(None), log.config().location().clone());
        let snapshot = ask(READ, move || delta_kernel::Snapshot::builder_for(root).build(engine.as_ref())).await?;
        Ok(Base { snapshot, log, txns: Mutex::default(), all_txns: Mutex::default() })
    }

    /// Writes a checkpoint of a version, and the hint to it. What stands on it is answered from another store: the one
    /// that is written to may be a stand-in.
    pub(crate) async fn checkpoint(
        version: u64,
        to: Arc<dyn ObjectStore>,
        store: Arc<dyn ObjectStore>,
    ) -> Result<Base, LakeError> {
        let log = log_store(to)?;
        let (engine, root) = (log.engine(None), log.config().location().clone());
        let write = move || {
            let table = delta_kernel::Snapshot::builder_for(root).at_version(version).build(engine.as_ref())?;
            table.checkpoint(engine.as_ref(), None).map(|(_, table)| table)
        };
        let snapshot = ask("write a checkpoint", write).await?;
        Ok(Base { snapshot, log: log_store(store)?, txns: Mutex::default(), all_txns: Mutex::default() })
    }

    pub(crate) fn version(&self) -> u64 {
        self.snapshot.version()
    }

    pub(crate) fn keeping(&self) -> Keeping {
        let properties = self.snapshot.table_properties();
        match (properties.enable_expired_log_cleanup, properties.log_retention_duration) {
            (Some(false), _) => Keeping::Forever,
            (_, Some(time)) => Keeping::For(time),
            (_, None) => Keeping::Unsaid,
        }
    }

    /// The version of an application's newest `txn`.
    pub(crate) async fn txn(&self, app_id: &str) -> Result<Option<i64>, LakeError> {
        if let Some(known) = self.txns.lock().unwrap_or_else(PoisonError::into_inner).get(app_id) {
            return Ok(*known);
        }
        let found = match self.look_up(Arc::clone(&self.snapshot), app_id).await {
            Ok(found) => found,
            // The files that this version stood on may be gone, after a checkpoint of another writer: a newer one tells.
            Err(_) => {
                let newer = Base::load(self.log.object_store(None)).await?;
                self.look_up(newer.snapshot, app_id).await?
            }
        };
        self.txns.lock().unwrap_or_else(PoisonError::into_inner).insert(app_id.to_owned(), found);
        Ok(found)
    }

    async fn look_up(&self, snapshot: SnapshotRef, app_id: &str) -> Result<Option<i64>, LakeError> {
        let (engine, id) = (self.log.engine(None), app_id.to_owned());
        ask(READ, move || snapshot.get_app_id_version(&id, engine.as_ref())).await
    }

    /// The version of the newest `txn` of every application.
    pub(crate) async fn all_txns(&self) -> Result<Arc<BTreeMap<String, i64>>, LakeError> {
        let known = || self.all_txns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known().as_ref() {
            return Ok(Arc::clone(known));
        }
        let found = match self.read_txns(Arc::clone(&self.snapshot)).await {
            Ok(found) => found,
            // As with one of them.
            Err(_) => self.read_txns(Base::load(self.log.object_store(None)).await?.snapshot).await?,
        };
        let found = Arc::new(found);
        *known() = Some(Arc::clone(&found));
        Ok(found)
    }

    async fn read_txns(&self, snapshot: SnapshotRef) -> Result<BTreeMap<String, i64>, LakeError> {
        let engine = self.log.engine(None);
        let read = move || {
            let schema = get_all_actions_schema().project(&[TXN_NAME])?;
            let mut found = BTreeMap::new();
            for batch in snapshot.log_segment().read_actions(engine.as_ref(), schema)? {
                let batch = ArrowEngineData::try_from_engine_data(batch?.actions)?;
                txns(batch.record_batch(), &mut found);
            }
            Ok(found)
        };
        ask(READ, read).await
    }

    /// The entries of files that left the table, as far as the log is kept: `each` has their paths, as the entries have
    /// them, and when they left, in milliseconds since 1970.
    pub(crate) async fn removes<T: Default + Send + 'static>(
        &self,
        each: impl Fn(&mut T, &str, i64) + Send + 'static,
    ) -> Result<T, LakeError> {
        let (engine, snapshot) = (self.log.engine(None), Arc::clone(&self.snapshot));
        let read = move || {
            let schema = get_all_actions_schema().project(&[REMOVE_NAME, SIDECAR_NAME])?;
            let mut found = T::default();
            for batch in snapshot.log_segment().read_actions(engine.as_ref(), schema)? {
                let batch = ArrowEngineData::try_from_engine_data(batch?.actions)?;
                removes(batch.record_batch(), |path, left_ms| each(&mut found, path, left_ms));
            }
            Ok(found)
        };
        ask("read which files left the lake", read).await
    }

    /// Reads what is in it.
    pub(crate) async fn reader(&self) -> Result<Reader, LakeError> {
        let snapshot = Snapshot::try_new(self.log.as_ref(), Some(self.version())).await.map_err(table_error)?;
        Ok(Reader { snapshot, log: Arc::clone(&self.log) })
    }
}

/// A version of the table, about to be read.
pub(crate) struct Reader {
    snapshot: Snapshot,
    log: LogStoreRef,
}

impl Reader {
    pub(crate) fn protocol(&self) -> Result<Protocol, LakeError> {
        convert(self.snapshot.protocol())
    }

    pub(crate) fn metadata(&self) -> Result<MetaData, LakeError> {
        convert(self.snapshot.metadata())
    }

    /// Its columns.
    pub(crate) fn arrow_schema(&self) -> SchemaRef {
        self.snapshot.arrow_schema()
    }

    /// The entries of its files, many at a time.
    pub(crate) fn adds(&self) -> BoxStream<'_, Result<Vec<Add>, LakeError>> {
        let batches = self.snapshot.files(self.log.as_ref(), None);
        batches.map_err(table_error).and_then(|batch| futures::future::ready(adds(&batch))).boxed()
    }
}

/// Asks the kernel, which blocks.
async fn ask<T: Send + 'static>(
    action: &str,
    question: impl FnOnce() -> delta_kernel::DeltaResult<T> + Send + 'static,
) -> Result<T, LakeError> {
    match tokio::task::spawn_blocking(question).await {
        Ok(done) => done.map_err(|error| kernel_error(action, error)),
        Err(error) => Err(LakeError::Internal(format!("{action}: {error}"))),
    }
}

/// What the kernel complains of is what the table needs, the storage, or what is there.
fn kernel_error(action: &str, error: delta_kernel::Error) -> LakeError {
    use delta_kernel::Error;
    match error {
        Error::Backtraced { source, .. } => kernel_error(action, *source),
        Error::Unsupported(what) | Error::InvalidProtocol(what) => LakeError::Unsupported(what),
        Error::ObjectStore(_)
        | Error::IOError(_)
        | Error::FileNotFound(_)
        | Error::JoinFailure(_)
        | Error::Cancelled => LakeError::Storage { action: action.to_owned(), source: error.into() },
        other => storage_or_damage(action, other),
    }
}

fn table_error(error: DeltaTableError) -> LakeError {
    match error {
        DeltaTableError::KernelError(error) => kernel_error(READ, error),
        other => storage_or_damage(READ, other),
    }
}

/// Readers of Parquet and JSON pass the storage's errors on as their own.
fn storage_or_damage(action: &str, error: impl Error + Send + Sync + 'static) -> LakeError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(error_here) = cause {
        if error_here.is::<object_store::Error>() || error_here.is::<std::io::Error>() {
            return LakeError::Storage { action: action.to_owned(), source: Box::new(error) };
        }
        cause = error_here.source();
    }
    LakeError::Damaged(format!("{action}: {error}"))
}

/// The kernel's protocol and metadata, in the shape in which commits have them.
fn convert<T: serde::de::DeserializeOwned>(value: &impl serde::Serialize) -> Result<T, LakeError> {
    serde_json::to_value(value)
        .and_then(serde_json::from_value)
        .map_err(|error| LakeError::Internal(format!("read the table's protocol and metadata: {error}")))
}

/// The files of a batch of the kernel's.
fn adds(batch: &RecordBatch) -> Result<Vec<Add>, LakeError> {
    let shape = || LakeError::Internal("read a file's entry: the kernel answers in another shape".to_owned());
    let column = |name: &str| batch.column_by_name(name).ok_or_else(shape);
    let paths = column("path")?.as_string_opt::<i32>().ok_or_else(shape)?;
    let sizes = column("size")?.as_primitive_opt::<Int64Type>().ok_or_else(shape)?;
    let modified = column("modificationTime")?.as_primitive_opt::<Int64Type>().ok_or_else(shape)?;
    let vectors = batch.column_by_name("deletionVector").and_then(|column| column.as_struct_opt());
    let constants = column("fileConstantValues")?.as_struct_opt().ok_or_else(shape)?;
    let map = |name: &str| constants.column_by_name(name).and_then(|map| map.as_map_opt()).ok_or_else(shape);
    let (partitions, tags) = (map("partitionValues")?, map("tags")?);
    (0..batch.num_rows())
        .map(|row| {
            Ok(Add {
                path: paths.value(row).to_owned(),
                partition_values: texts(partitions, row).ok_or_else(shape)?,
                size: sizes.value(row),
                modification_time: modified.value(row),
                data_change: true,
                stats: stats(batch, row),
                tags: texts(tags, row),
                deletion_vector: vectors.filter(|vectors| has_vector(vectors, row)).map(|_| true.into()),
            })
        })
        .collect()
}

/// The files that left in a batch of the kernel's. Time 0 where an entry has none.
fn removes(batch: &RecordBatch, mut each: impl FnMut(&str, i64)) {
    let Some(entries) = batch.column_by_name(REMOVE_NAME).and_then(|entries| entries.as_struct_opt()) else { return };
    let paths = entries.column_by_name("path").and_then(|paths| paths.as_string_opt::<i32>());
    let times = entries.column_by_name("deletionTimestamp");
    let times = times.and_then(|times| times.as_primitive_opt::<Int64Type>());
    let Some(paths) = paths else { return };
    for row in (0..entries.len()).filter(|row| entries.is_valid(*row) && paths.is_valid(*row)) {
        each(paths.value(row), times.filter(|times| times.is_valid(row)).map_or(0, |times| times.value(row)));
    }
}

/// The `txn` entries of a batch of the kernel's, which come newest first.
fn txns(batch: &RecordBatch, found: &mut BTreeMap<String, i64>) {
    let Some(entries) = batch.column_by_name(TXN_NAME).and_then(|entries| entries.as_struct_opt()) else { return };
    let ids = entries.column_by_name("appId").and_then(|ids| ids.as_string_opt::<i32>());
    let versions = entries.column_by_name("version").and_then(|versions| versions.as_primitive_opt::<Int64Type>());
    let Some((ids, versions)) = ids.zip(versions) else { return };
    for row in (0..entries.len()).filter(|row| entries.is_valid(*row) && ids.is_valid(*row) && versions.is_valid(*row))
    {
        found.entry(ids.value(row).to_owned()).or_insert(versions.value(row));
    }
}

fn has_vector(vectors: &StructArray, row: usize) -> bool {
    let kind = vectors.column_by_name("storageType");
    vectors.is_valid(row) && kind.is_some_and(|kind| kind.is_valid(row))
}

/// What a map of texts has in a row.
fn texts(map: &MapArray, row: usize) -> Option<BTreeMap<String, Option<String>>> {
    if map.is_null(row) {
        return Some(BTreeMap::new());
    }
    let entries = map.value(row);
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
