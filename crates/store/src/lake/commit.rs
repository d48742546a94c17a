//! One commit: a version of the log that did not exist before. Owns the file's content, the race for its version, and
//! finding out what became of it when the storage's answer is lost; refuses to upload data.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use runstone_record::limits;

use super::actions::{self, Action, CommitInfo, SetTxn};
use super::file::LakeFile;
use super::snapshot::LakeSnapshot;
use super::{LakeError, log, support};

/// What a commit does to the table.
#[derive(Debug, Clone)]
pub struct Change {
    /// How far a journal has come with it.
    pub journal: Option<Txn>,
    /// Files that join, uploaded before.
    pub add: Vec<LakeFile>,
    /// Files that leave.
    pub remove: Vec<Arc<LakeFile>>,
    /// Are the table's records others afterwards? False for compaction.
    pub data_change: bool,
    /// `WRITE`, `OPTIMIZE`, `DELETE` or `VACUUM`.
    pub operation: &'static str,
    /// Numbers for whoever reads the table's history.
    pub metrics: Vec<(&'static str, u64)>,
}

/// A journal's records after one position and through another are in the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Txn {
    /// `{journal}/{epoch}`.
    pub journal: String,
    /// The table must have come exactly this far. None: it has nothing of this journal.
    pub after: Option<u64>,
    /// How far it has come afterwards.
    pub through: u64,
}

/// What the storage said of an attempt.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The version is ours.
    Done,
    /// It is somebody else's.
    Taken(Vec<Action>),
    /// It is nobody's: the request did not arrive, or a rival's failed.
    Free(object_store::Error),
}

/// Who writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writer<'a> {
    pub(crate) engine_info: &'a str,
    /// Told apart from every other attempt.
    pub(crate) txn_id: &'a str,
    pub(crate) now_ms: i64,
}

/// May the change be made on top of this snapshot?
pub(crate) async fn check(change: &Change, snapshot: &LakeSnapshot) -> Result<(), LakeError> {
    if let Some(txn) = &change.journal {
        let there = cursor(snapshot, &txn.journal).await?;
        if there != txn.after {
            let place = |position: Option<u64>| position.map_or("nothing".to_owned(), |position| position.to_string());
            return Err(LakeError::Conflict(format!(
                "journal {} is there through {}, not {}",
                txn.journal,
                place(there),
                place(txn.after)
            )));
        }
    }
    if change.remove.is_empty() {
        return Ok(());
    }
    if change.data_change && support::is_append_only(&snapshot.table.metadata) {
        return Err(LakeError::Unsupported("the table sets delta.appendOnly; unset it to delete records".to_owned()));
    }
    let there: HashSet<&str> = snapshot.files.iter().map(|file| file.path.as_str()).collect();
    match change.remove.iter().find(|file| !there.contains(file.path.as_str())) {
        Some(gone) => Err(LakeError::Conflict(format!("another writer removed {}", gone.path))),
        None => Ok(()),
    }
}

/// The last position of a journal in the table.
pub(crate) async fn cursor(snapshot: &LakeSnapshot, journal: &str) -> Result<Option<u64>, LakeError> {
    let Some(version) = snapshot.txn(journal).await? else {
        return Ok(None);
    };
    let position = u64::try_from(version);
    position.map(Some).map_err(|_| LakeError::Damaged(format!("journal {journal} is there through {version}")))
}

/// The lines of a commit on top of a snapshot.
pub(crate) fn build(change: &Change, snapshot: &LakeSnapshot, writer: Writer<'_>) -> Result<Vec<Action>, LakeError> {
    let mut parameters = BTreeMap::new();
    if change.operation == "WRITE" {
        parameters.insert("mode", "Append".to_owned());
    }
    let info = CommitInfo {
        timestamp: writer.now_ms,
        operation: change.operation.to_owned(),
        operation_parameters: parameters,
        read_version: Some(snapshot.version),
        is_blind_append: change.remove.is_empty() && change.data_change,
        operation_metrics: change.metrics.iter().map(|(name, value)| (*name, value.to_string())).collect(),
        engine_info: writer.engine_info.to_owned(),
        txn_id: Some(writer.txn_id.to_owned()),
    };
    let mut lines: Vec<Action> = vec![info.into()];
    if let Some(txn) = &change.journal {
        let version = i64::try_from(txn.through)
            .map_err(|_| LakeError::Internal(format!("write position {} as a txn", txn.through)))?;
        lines.push(SetTxn { app_id: txn.journal.clone(), version }.into());
    }
    for file in &change.remove {
        let raw_path = snapshot.raw_path(file);
        lines.push(actions::remove(file, raw_path, writer.now_ms, change.data_change)?.into());
    }
    for file in &change.add {
        lines.push(actions::add(file, change.data_change)?.into());
    }
    Ok(lines)
}

/// Tries to make a version ours, and finds out whether it is, whatever the storage answers.
pub(crate) async fn attempt(
    store: &dyn ObjectStore,
    version: u64,
    lines: &[Action],
    txn_id: &str,
) -> Result<Outcome, LakeError> {
    let bytes = actions::encode(lines)?;
    let refusal = match store.put_opts(&log::commit_path(version), bytes.into(), PutMode::Create.into()).await {
        Ok(_) => return Ok(Outcome::Done),
        Err(refusal) => refusal,
    };
    // Whatever it says (taken, timed out, reset, 500, 409), the version may be ours: the answer to an earlier try of the
    // same request, or a request that succeeded and then lost its answer.
    match read(store, version).await? {
        Some(actions) if is_ours(&actions, txn_id) => Ok(Outcome::Done),
        Some(actions) => Ok(Outcome::Taken(actions)),
        None => Ok(Outcome::Free(refusal)),
    }
}

fn is_ours(actions: &[Action], txn_id: &str) -> bool {
    actions.iter().filter_map(|action| action.commit_info.as_ref()).any(|info| info.txn_id.as_deref() == Some(txn_id))
}

/// A version's actions; None where there is no such version yet.
pub(crate) async fn read(store: &dyn ObjectStore, version: u64) -> Result<Option<Vec<Action>>, LakeError> {
    let path = log::commit_path(version);
    let failed = |source: object_store::Error| LakeError::Storage {
        action: format!("read version {version} of the lake's log"),
        source: source.into(),
    };
    let answer = match store.get(&path).await {
        Ok(answer) => answer,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if answer.meta.size > limits::LAKE_COMMIT_BYTES_MAX {
        return Err(LakeError::Unsupported(format!("{path} has {} bytes", answer.meta.size)));
    }
    let bytes = answer.bytes().await.map_err(failed)?;
    let actions = actions::decode(&bytes).map_err(|error| LakeError::Damaged(format!("parse {path}: {error}")))?;
    Ok(Some(actions))
}

/// How long to wait before a version is tried again: the longer, the more often it failed, and never the same as a rival.
pub(crate) fn pause(first: Duration, refusals: u32, entropy: u128) -> Duration {
    let most = first.saturating_mul(1 << refusals.min(6));
    most.mul_f64(f64::from(u16::try_from(entropy & 0xFFFF).unwrap_or(0)) / f64::from(u16::MAX) / 2.0 + 0.5)
}

/// Will the storage say the same however often it is asked?
pub(crate) fn is_final(refusal: &object_store::Error) -> bool {
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
