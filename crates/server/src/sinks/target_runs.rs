//! The runs that a target has, a few at a time, each added up from its log. Owns walking through them; refuses to filter, and to
//! put into an order what the target has in none.

use std::sync::Arc;
use std::time::Instant;

use futures::{StreamExt, stream};
use runstone_record::limits::{
    PAGE_ROWS_MAX, TARGET_LOG_PAGE_ROWS, TARGET_LOG_PIECE_BYTES, TARGET_RUNS_LOOKED_AT, TARGET_RUNS_READ_AT_ONCE,
};
use runstone_record::logger::LogFold;
use runstone_record::run::RunFold;
use runstone_record::time::parse_rfc3339_or_utc;
use runstone_sinks::SinkError;
use runstone_sinks::dynamo::Dynamo;
use runstone_sinks::postgres::Postgres;
use runstone_sinks::postgres::read::Which;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use super::status::{SinkStatus, shown};
use super::target_log::{Targets, in_time, is_there, permit};
use crate::lake::chain;

/// What is tried here.
const READ: &str = "read runs";

/// A target that has runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Store {
    Dynamo,
    Postgres,
}

impl Store {
    pub(crate) const ALL: [Store; 2] = [Store::Dynamo, Store::Postgres];

    /// As settings, metrics and parameters name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Store::Dynamo => "dynamodb",
            Store::Postgres => "postgres",
        }
    }
}

/// A run, and what its log adds up to.
#[derive(Debug)]
pub(crate) struct TargetRun {
    pub(crate) run_id: String,
    pub(crate) fold: RunFold,
}

#[derive(Debug, Clone)]
enum Table {
    Dynamo(Arc<Dynamo>),
    Postgres(Postgres),
}

/// A walk through the runs of a target.
#[derive(Debug)]
pub(crate) struct TargetRuns {
    table: Table,
    after: Option<String>,
    has_ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl Targets {
    /// Does a target have runs that can be read?
    pub(crate) fn has(&self, store: Store) -> bool {
        match store {
            Store::Dynamo => self.dynamo.is_some(),
            Store::Postgres => self.postgres.is_some(),
        }
    }

    /// A walk through the runs of a target, behind a place; none where the settings do not name it.
    ///
    /// # Errors
    /// The target is known to be away, or too many read.
    pub(crate) async fn runs(
        &self,
        store: Store,
        after: Option<String>,
        sinks: &[Arc<SinkStatus>],
    ) -> Result<Option<TargetRuns>, SinkError> {
        if !self.has(store) {
            return Ok(None);
        }
        is_there(READ, sinks, store.name())?;
        let begin = async {
            let permit = permit(READ, &self.walkers).await?;
            let table = match store {
                Store::Dynamo => self.connected().await.map(Table::Dynamo),
                Store::Postgres => self.postgres.clone().map(Table::Postgres),
            };
            Ok(table.map(|table| TargetRuns { table, after, has_ended: false, _permit: permit }))
        };
        in_time(READ, begin).await
    }
}

impl TargetRuns {
    /// What `keep` makes of the next runs, up to so many, and after `until` of no more than one run; none: those were all. There
    /// may be others behind an empty list.
    pub(crate) async fn next<T>(
        &mut self,
        limit: usize,
        until: Instant,
        keep: impl Fn(&TargetRun) -> Option<T>,
    ) -> Result<Option<Vec<T>>, SinkError> {
        if self.has_ended {
            return Ok(None);
        }
        let (ids, next) = self.ids().await?;
        let (count, mut read, mut kept) = (ids.len(), 0, Vec::new());
        let table = self.table.clone();
        let mut folds = stream::iter(ids).map(|run_id| fold(&table, run_id)).buffered(TARGET_RUNS_READ_AT_ONCE);
        while kept.len() < limit && (read == 0 || Instant::now() < until) {
            let Some(run) = folds.next().await.transpose()? else { break };
            read += 1;
            // A log that is closed before its first entry came says nothing of a run.
            kept.extend(Some(&run).filter(|run| run.fold.records() > 0).and_then(&keep));
            self.after = Some(run.run_id);
        }
        if read == count {
            self.has_ended = next.is_none();
            self.after = next;
        }
        Ok(Some(kept))
    }

    async fn ids(&self) -> Result<(Vec<String>, Option<String>), SinkError> {
        let after = self.after.as_deref();
        match &self.table {
            Table::Dynamo(dynamo) => in_time(READ, dynamo.run_ids(after, TARGET_RUNS_LOOKED_AT)).await,
            Table::Postgres(postgres) => {
                let ids = in_time(READ, postgres.run_ids(after, TARGET_RUNS_LOOKED_AT)).await?;
                let next = ids.last().filter(|_| ids.len() == TARGET_RUNS_LOOKED_AT).cloned();
                Ok((ids, next))
            }
        }
    }

    /// Behind which place there are more; none: that was all.
    pub(crate) fn place(self) -> Option<String> {
        self.after.filter(|_| !self.has_ended)
    }
}

/// A run, added up. One of which somebody changed a row so that it is no record any more has none: others are shown all the
/// same.
async fn fold(table: &Table, run_id: String) -> Result<TargetRun, SinkError> {
    let fold = match table.fold(&run_id).await {
        Err(error @ SinkError::Misconfigured { .. }) => {
            tracing::warn!(run_id, error = shown(chain(&error)), "leave out a run that a target has");
            RunFold::default()
        }
        fold => fold?,
    };
    Ok(TargetRun { run_id, fold })
}

impl Table {
    async fn fold(&self, run_id: &str) -> Result<RunFold, SinkError> {
        let mut fold = LogFold::new(run_id);
        match self {
            Table::Dynamo(dynamo) => {
                let mut number = 1;
                while let Some(mut part) = in_time(READ, dynamo.log_part(run_id, number)).await? {
                    let times = [&part.updated_at, &part.created_at].into_iter().flatten();
                    let taken = times.filter_map(|at| parse_rfc3339_or_utc(at).ok()).next().unwrap_or(0);
                    for entry in part.by_ref() {
                        // One that cannot be unpacked is there all the same.
                        fold.add(entry.unwrap_or_default().as_bytes(), taken);
                    }
                    if part.is_last {
                        break;
                    }
                    number += 1;
                }
            }
            Table::Postgres(postgres) => {
                let (mut last, mut rows) = (None, TARGET_LOG_PAGE_ROWS);
                loop {
                    let records = postgres.records(Which::Run(run_id), last.as_ref(), rows);
                    let mut records = in_time(READ, records).await?;
                    records.iter().for_each(|record| fold.add_record(record.json.as_bytes(), record.position));
                    if records.len() < rows {
                        break;
                    }
                    // Small ones are read more at a time.
                    let bytes: usize = records.iter().map(|record| record.json.len()).sum();
                    let fitting = TARGET_LOG_PIECE_BYTES / (bytes / records.len()).max(1);
                    rows = fitting.clamp(TARGET_LOG_PAGE_ROWS, PAGE_ROWS_MAX);
                    last = records.pop();
                }
            }
        }
        Ok(fold.end())
    }
}
