//! The log of a run as the targets have it, for a run that the server does not know. Owns in which order they are asked;
//! refuses to mix what two of them have.

use std::sync::Arc;
use std::time::Duration;

use runstone_record::limits::{PAGE_ROWS_MAX, TARGET_LOG_TIMEOUT_MS, TARGET_LOGS_MAX};
use runstone_record::logger::write_entry_of;
use runstone_sinks::SinkError;
use runstone_sinks::dynamo::{Dynamo, Options as DynamoOptions, RunLog};
use runstone_sinks::postgres::Postgres;
use runstone_sinks::postgres::read::{Record, Which};
use serde_json::Value;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

use super::status::{SinkHealth, SinkStatus};
use super::targets;
use crate::config::Config;

/// What is tried here.
const READ: &str = "read the log of a run";

/// The targets that logs can be read from.
#[derive(Debug)]
pub(crate) struct Targets {
    dynamo: Option<DynamoOptions>,
    connected: OnceCell<Dynamo>,
    postgres: Option<Postgres>,
    readers: Arc<Semaphore>,
}

/// An entry, and when it was taken: RFC 3339, as far as it is known.
#[derive(Debug)]
pub(crate) struct TargetEntry {
    pub(crate) json: String,
    pub(crate) at: String,
}

/// A log that is read page by page, in the order of its times.
#[derive(Debug)]
pub(crate) struct TargetLog {
    /// When the first and the last entry of all were taken, where the target says that of a log.
    pub(crate) taken: Option<(String, String)>,
    /// Few are read at once: one of DynamoDB is in memory as a whole.
    _permit: OwnedSemaphorePermit,
    /// What was read and not yet given.
    read: Option<Vec<TargetEntry>>,
    /// Where more is to be found: the table, the run and the last of its records that was read.
    more: Option<(Postgres, String, Option<Record>)>,
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
        in_time(self.find(run_id, sinks)).await
    }

    async fn find(&self, run_id: &str, sinks: &[Arc<SinkStatus>]) -> Result<Option<TargetLog>, SinkError> {
        let permit = Arc::clone(&self.readers).acquire_owned().await;
        let permit = permit.map_err(|closed| SinkError::Away { action: READ.to_owned(), source: closed.into() })?;
        let mut log = TargetLog { taken: None, _permit: permit, read: None, more: None };
        if let Some(options) = &self.dynamo {
            is_there(sinks, "dynamodb")?;
            let dynamo = self.connected.get_or_init(|| Dynamo::connect(options.clone())).await;
            if let Some(found) = dynamo.log(run_id).await? {
                log.taken = found.created_at.clone().zip(found.updated_at.clone());
                log.read = Some(of_dynamo(found));
                return Ok(Some(log));
            }
        }
        if let Some(postgres) = &self.postgres {
            is_there(sinks, "postgres")?;
            log.more = Some((postgres.clone(), run_id.to_owned(), None));
            log.read = log.read().await?;
            return Ok(log.read.is_some().then_some(log));
        }
        Ok(None)
    }
}

/// Nobody is kept waiting for a target of which it is known that it is away.
fn is_there(sinks: &[Arc<SinkStatus>], name: &str) -> Result<(), SinkError> {
    let report = sinks.iter().find(|sink| sink.name() == name).map(|sink| sink.report());
    match report.filter(|report| report.health != SinkHealth::Ready).and_then(|report| report.reason) {
        Some(reason) => Err(SinkError::Away { action: READ.to_owned(), source: reason.into() }),
        None => Ok(()),
    }
}

impl TargetLog {
    /// The next entries; none: that was all.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<TargetEntry>>, SinkError> {
        match self.read.take() {
            Some(read) => Ok(Some(read)),
            None => in_time(self.read()).await,
        }
    }

    async fn read(&mut self) -> Result<Option<Vec<TargetEntry>>, SinkError> {
        let Some((postgres, run_id, after)) = &mut self.more else { return Ok(None) };
        let mut records = postgres.records(Which::Run(run_id), after.as_ref(), PAGE_ROWS_MAX).await?;
        let entries = records.iter().filter_map(of_record).collect();
        let Some(last) = records.pop() else { return Ok(None) };
        *after = Some(last);
        Ok(Some(entries))
    }
}

/// Somebody is waiting for it.
async fn in_time<T>(reading: impl Future<Output = Result<T, SinkError>>) -> Result<T, SinkError> {
    let limit = Duration::from_millis(TARGET_LOG_TIMEOUT_MS);
    tokio::time::timeout(limit, reading)
        .await
        .unwrap_or_else(|elapsed| Err(SinkError::Away { action: READ.to_owned(), source: elapsed.into() }))
}

/// What is no record is not in the table.
fn of_record(record: &Record) -> Option<TargetEntry> {
    let mut json = Vec::new();
    let at = write_entry_of(record.json.as_bytes(), &mut json)?;
    Some(TargetEntry { json: String::from_utf8_lossy(&json).into_owned(), at })
}

/// In the order of their times, as the server shows them; appended they were in the order in which they came.
fn of_dynamo(log: RunLog) -> Vec<TargetEntry> {
    let (created, updated) = (log.created_at.unwrap_or_default(), log.updated_at.unwrap_or_default());
    let last = log.entries.len().saturating_sub(1);
    let timed = log.entries.into_iter().enumerate().map(|(place, json)| {
        let members: Value = serde_json::from_str(&json).unwrap_or_default();
        let at = if place == last { updated.clone() } else { created.clone() };
        (members["timestamp"].as_str().unwrap_or_default().to_owned(), TargetEntry { json, at })
    });
    let mut timed: Vec<(String, TargetEntry)> = timed.collect();
    timed.sort_by(|(one, _), (other, _)| one.cmp(other));
    timed.into_iter().map(|(_, entry)| entry).collect()
}
