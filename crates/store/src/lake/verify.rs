//! Is a checkpoint whole? Owns reading one to its end, every column of it; refuses to believe its footer.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray, RecordBatch, StructArray};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::log::{self, Checkpoint};
use super::{LakeError, LakeSnapshot};

/// What a checkpoint holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Of its files, as their entries have them.
    pub(crate) paths: BTreeSet<String>,
    pub(crate) txns: BTreeMap<String, i64>,
    pub(crate) protocols: usize,
    pub(crate) metadata: usize,
    /// More of it lies in other files.
    pub(crate) sidecars: usize,
}

/// Reads a checkpoint whole. `Ok(Err)`: it is damaged, and how.
pub(crate) async fn read(
    store: &dyn ObjectStore,
    checkpoint: &Checkpoint,
) -> Result<Result<Contents, String>, LakeError> {
    let mut contents = Contents::default();
    for file in &checkpoint.files {
        if file.location.as_ref().ends_with(".json") {
            // The manifest of sidecars, in text; only other writers make one.
            contents.sidecars += 1;
            continue;
        }
        let bytes = match store.get(&file.location).await {
            Ok(answer) => answer.bytes().await,
            Err(error) => Err(error),
        };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(object_store::Error::NotFound { .. }) => return Ok(Err("it is gone".to_owned())),
            Err(error) => return Err(log::failed(&format!("read {}", file.location), error)),
        };
        let more = tokio::task::spawn_blocking(move || decode(bytes)).await;
        match more.map_err(|error| LakeError::Internal(format!("read a checkpoint: {error}")))? {
            Ok(more) => contents.extend(more),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(contents))
}

impl Contents {
    fn extend(&mut self, more: Contents) {
        self.paths.extend(more.paths);
        self.txns.extend(more.txns);
        self.protocols += more.protocols;
        self.metadata += more.metadata;
        self.sidecars += more.sidecars;
    }

    /// Does it say the same as a snapshot of its version?
    pub(crate) fn compare(&self, snapshot: &LakeSnapshot) -> Result<(), String> {
        if self.sidecars == 0 {
            let files: BTreeSet<String> = snapshot.files.iter().map(|file| snapshot.raw_path(file)).collect();
            if files != self.paths {
                return Err(format!("it has {} files, and the table {}", self.paths.len(), files.len()));
            }
        }
        if (self.protocols, self.metadata) != (1, 1) {
            return Err(format!("it has {} protocols and {} metadata", self.protocols, self.metadata));
        }
        match snapshot.new_txns().iter().find(|(id, version)| self.txns.get(*id) != Some(version)) {
            Some((id, version)) => Err(format!("it has not that {id} came through {version}")),
            None => Ok(()),
        }
    }
}

fn decode(bytes: Bytes) -> Result<Contents, String> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(ParquetRecordBatchReaderBuilder::build);
    let mut contents = Contents::default();
    for batch in reader.map_err(|error| error.to_string())? {
        contents.read(&batch.map_err(|error| error.to_string())?);
    }
    Ok(contents)
}

impl Contents {
    fn read(&mut self, batch: &RecordBatch) {
        let action = |name: &str| batch.column_by_name(name).and_then(|column| column.as_struct_opt());
        let count = |actions: Option<&StructArray>| actions.map_or(0, |actions| actions.len() - actions.null_count());
        self.protocols += count(action("protocol"));
        self.metadata += count(action("metaData"));
        self.sidecars += count(action("sidecar"));
        if let Some(adds) = action("add") {
            self.paths.extend(rows(adds).filter_map(|row| text(adds, "path", row)));
        }
        if let Some(txns) = action("txn") {
            let versions = txns.column_by_name("version").and_then(|column| column.as_primitive_opt::<Int64Type>());
            let found = rows(txns).filter_map(|row| Some((text(txns, "appId", row)?, versions?.value(row))));
            self.txns.extend(found);
        }
    }
}

fn rows(actions: &StructArray) -> impl Iterator<Item = usize> {
    (0..actions.len()).filter(|row| actions.is_valid(*row))
}

/// Writers choose among the layouts of text.
fn text(actions: &StructArray, field: &str, row: usize) -> Option<String> {
    let column = actions.column_by_name(field)?;
    let column = column.is_valid(row).then_some(column)?;
    if let Some(texts) = column.as_string_opt::<i32>() {
        return Some(texts.value(row).to_owned());
    }
    if let Some(texts) = column.as_string_opt::<i64>() {
        return Some(texts.value(row).to_owned());
    }
    column.as_string_view_opt().map(|texts| texts.value(row).to_owned())
}
