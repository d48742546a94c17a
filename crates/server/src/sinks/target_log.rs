//! The log of a run as the targets have it, for a run that the server does not know. Owns in which order they are asked;
//! refuses to mix what two of them have.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use runstone_record::RecordId;
use runstone_record::limits::{
    TARGET_LOG_PAGE_ROWS, TARGET_LOG_PIECE_BYTES, TARGET_LOG_SORTED_BYTES_MAX, TARGET_LOG_TIMEOUT_MS, TARGET_LOGS_MAX,
    TARGET_RUNS_WALKS_MAX,
};
use runstone_record::logger::{write_entry_of, write_foreign_entry};
use runstone_sinks::SinkError;
use runstone_sinks::dynamo::{Dynamo, LogPart, Options as DynamoOptions};
use runstone_sinks::postgres::Postgres;
use runstone_sinks::postgres::read::{Record, Which};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

use super::status::{SinkHealth, SinkStatus};
use super::target_runs::Store;
use super::targets;
use crate::config::Config;

/// What is tried here.
const READ: &str = "read the log of a run";

/// The targets that logs can be read from.
#[derive(Debug)]
pub(crate) struct Targets {
    pub(super) dynamo: Option<DynamoOptions>,
    connected: OnceCell<Arc<Dynamo>>,
    pub(super) postgres: Option<Postgres>,
    readers: Arc<Semaphore>,
    /// Who goes through all runs of a target has places of its own.
    pub(super) walkers: Arc<Semaphore>,
}

/// An entry, and when it was taken: RFC 3339, as far as it is known.
#[derive(Debug)]
pub(crate) struct TargetEntry {
    /// When it happened, as far as it says that: microseconds since 1970.
    pub(crate) time: Option<i64>,
    pub(crate) json: String,
    pub(crate) at: String,
}

/// A log that is read page by page, in the order of its times. One of DynamoDB, which has no such order, has it as far as
/// all of the log may be held in memory, and else that in which it was appended.
#[derive(Debug)]
pub(crate) struct TargetLog {
    /// When the first and the last entry of what was read were taken, where the target says that of a log.
    pub(crate) taken: Option<(String, String)>,
    /// Few are read at once.
    _permit: OwnedSemaphorePermit,
    /// What was read and not yet given.
    read: Option<Vec<TargetEntry>>,
    /// The ids that entries of DynamoDB had: a repetition that came too late for the server to know is in its list twice.
    seen: HashSet<RecordId>,
    rest: Rest,
}

/// Where more is to be found.
#[derive(Debug)]
enum Rest {
    Nowhere,
    /// What an item still has, and the number of the next.
    Dynamo {
        dynamo: Arc<Dynamo>,
        run_id: String,
        part: Option<LogPart>,
        next: u32,
    },
    /// The table, the run and the last of its records that was read.
    Postgres {
        postgres: Postgres,
        run_id: String,
        after: Option<Record>,
    },
}

impl Targets {
    /// # Errors
    /// Settings that can never do.
    pub(crate) fn new(config: &Config) -> Result<Self, SinkError> {
        Ok(Self {
            dynamo: targets::dynamo_options(&config.dynamodb)?,
            connected: OnceCell::new(),
            postgres: targets::postgres(&config.postgres)?,
            readers: Arc::new(Semaphore::new(TARGET_LOGS_MAX)),
            walkers: Arc::new(Semaphore::new(TARGET_RUNS_WALKS_MAX)),
        })
    }

    /// The log of a run, of the first target that has it: DynamoDB, where functions append it, then PostgreSQL.
    ///
    /// # Errors
    /// A target cannot be read, or is known to be away. Those before it do not have the run.
    pub(crate) async fn log(&self, run_id: &str, sinks: &[Arc<SinkStatus>]) -> Result<Option<TargetLog>, SinkError> {
        if self.dynamo.is_none() && self.postgres.is_none() {
            return Ok(None);
        }
        in_time(READ, self.find(run_id, sinks)).await
    }

    /// The connection to DynamoDB, if the settings name a table there.
    pub(super) async fn connected(&self) -> Option<Arc<Dynamo>> {
        let options = self.dynamo.as_ref()?;
        let connect = async || Arc::new(Dynamo::connect(options.clone()).await);
        Some(Arc::clone(self.connected.get_or_init(connect).await))
    }

    async fn find(&self, run_id: &str, sinks: &[Arc<SinkStatus>]) -> Result<Option<TargetLog>, SinkError> {
        let permit = permit(READ, &self.readers).await?;
        let mut log = TargetLog { taken: None, _permit: permit, read: None, seen: HashSet::new(), rest: Rest::Nowhere };
        if let Some(dynamo) = self.connected().await {
            is_there(READ, sinks, Store::Dynamo.name())?;
            log.rest = Rest::Dynamo { dynamo, run_id: run_id.to_owned(), part: None, next: 1 };
            if log.read_sorted().await? {
                return Ok(Some(log));
            }
        }
        if let Some(postgres) = &self.postgres {
            is_there(READ, sinks, Store::Postgres.name())?;
            log.rest = Rest::Postgres { postgres: postgres.clone(), run_id: run_id.to_owned(), after: None };
            log.read = log.read().await?;
            return Ok(log.read.is_some().then_some(log));
        }
        Ok(None)
    }
}

/// Few read at once.
pub(super) async fn permit(action: &str, readers: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, SinkError> {
    let permit = Arc::clone(readers).acquire_owned().await;
    permit.map_err(|closed| SinkError::Away { action: action.to_owned(), source: closed.into() })
}

/// Nobody is kept waiting for a target of which it is known that it is away.
pub(super) fn is_there(action: &str, sinks: &[Arc<SinkStatus>], name: &str) -> Result<(), SinkError> {
    let report = sinks.iter().find(|sink| sink.name() == name).map(|sink| sink.report());
    match report.filter(|report| report.health != SinkHealth::Ready).and_then(|report| report.reason) {
        Some(reason) => Err(SinkError::Away { action: action.to_owned(), source: reason.into() }),
        None => Ok(()),
    }
}

impl TargetLog {
    /// The next entries; none: that was all.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<TargetEntry>>, SinkError> {
        match self.read.take() {
            Some(read) => Ok(Some(read)),
            None => in_time(READ, self.read()).await,
        }
    }

    /// Reads what may be held in memory, and puts it into order where that is all. False: there is no such run.
    async fn read_sorted(&mut self) -> Result<bool, SinkError> {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while let Some(more) = self.read().await? {
            bytes += more.iter().map(|entry| entry.json.len()).sum::<usize>();
            entries.extend(more);
            if bytes > TARGET_LOG_SORTED_BYTES_MAX {
                self.read = Some(entries);
                return Ok(true);
            }
        }
        self.rest = Rest::Nowhere;
        let has_run = self.taken.is_some();
        self.read = has_run.then(|| in_order(entries));
        Ok(has_run)
    }

    async fn read(&mut self) -> Result<Option<Vec<TargetEntry>>, SinkError> {
        match &mut self.rest {
            Rest::Nowhere => Ok(None),
            Rest::Dynamo { dynamo, run_id, part, next } => {
                if part.is_none() {
                    *part = dynamo.log_part(run_id, *next).await?;
                    *next += 1;
                }
                // The next part of one that was closed may not be written yet.
                let Some(found) = part else { return Ok(None) };
                let (entries, has_ended) = of_dynamo(run_id, found, &mut self.seen)?;
                let (created, updated) = (found.created_at.clone(), found.updated_at.clone().unwrap_or_default());
                let first = self.taken.take().map(|(first, _)| first).or(created).unwrap_or_else(|| updated.clone());
                self.taken = Some((first, updated));
                match (has_ended, found.is_last) {
                    (true, true) => self.rest = Rest::Nowhere,
                    (true, false) => *part = None,
                    (false, _) => {}
                }
                Ok(Some(entries))
            }
            Rest::Postgres { postgres, run_id, after } => {
                let mut records = postgres.records(Which::Run(run_id), after.as_ref(), TARGET_LOG_PAGE_ROWS).await?;
                let entries = records.iter().filter_map(of_record).collect();
                let Some(last) = records.pop() else { return Ok(None) };
                *after = Some(last);
                Ok(Some(entries))
            }
        }
    }
}

/// Somebody is waiting for it.
pub(super) async fn in_time<T>(
    action: &str,
    reading: impl Future<Output = Result<T, SinkError>>,
) -> Result<T, SinkError> {
    let limit = Duration::from_millis(TARGET_LOG_TIMEOUT_MS);
    tokio::time::timeout(limit, reading)
        .await
        .unwrap_or_else(|elapsed| Err(SinkError::Away { action: action.to_owned(), source: elapsed.into() }))
}

/// What is no record is not in the table.
fn of_record(record: &Record) -> Option<TargetEntry> {
    let mut json = Vec::new();
    let (time, at) = write_entry_of(record.json.as_bytes(), &mut json)?;
    Some(TargetEntry { time: Some(time), json: String::from_utf8_lossy(&json).into_owned(), at })
}

/// The next entries of a part, and whether those were its last.
fn of_dynamo(
    run_id: &str,
    part: &mut LogPart,
    seen: &mut HashSet<RecordId>,
) -> Result<(Vec<TargetEntry>, bool), SinkError> {
    let (mut entries, mut bytes) = (Vec::new(), 0);
    let at = part.updated_at.clone().unwrap_or_default();
    for entry in part.by_ref() {
        let mut json = Vec::new();
        let (time, id) = write_foreign_entry(run_id, entry?.as_bytes(), &mut json);
        bytes += json.len();
        if id.is_none_or(|id| seen.insert(id)) {
            let json = String::from_utf8_lossy(&json).into_owned();
            entries.push(TargetEntry { time, json, at: at.clone() });
        }
        if bytes > TARGET_LOG_PIECE_BYTES {
            return Ok((entries, false));
        }
    }
    Ok((entries, true))
}

/// In the order of their times, as the server shows them; appended they were in the order in which they came.
fn in_order(mut entries: Vec<TargetEntry>) -> Vec<TargetEntry> {
    entries.sort_by_key(|entry| entry.time);
    entries
}
