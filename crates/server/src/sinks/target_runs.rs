//! The runs that a target has, a few at a time, each added up from its log. Owns walking through them; refuses to filter, and to
//! put into an order what the target has in none.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use runstone_record::limits::{PAGE_ROWS_MAX, TARGET_RUNS_LOOKED_AT, TARGET_RUNS_READ_AT_ONCE};
use runstone_record::logger::LogFold;
use runstone_record::run::RunFold;
use runstone_record::time::parse_rfc3339;
use runstone_sinks::SinkError;
use runstone_sinks::dynamo::Dynamo;
use runstone_sinks::postgres::Postgres;
use runstone_sinks::postgres::read::Which;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use super::status::SinkStatus;
use super::target_log::{Targets, is_there};

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
    /// The target is known to be away.
    pub(crate) async fn runs(
        &self,
        store: Store,
        after: Option<String>,
        sinks: &[Arc<SinkStatus>],
    ) -> Result<Option<TargetRuns>, SinkError> {
        let table = match store {
            Store::Dynamo => self.connected().await.map(Table::Dynamo),
            Store::Postgres => self.postgres.clone().map(Table::Postgres),
        };
        let Some(table) = table else { return Ok(None) };
        is_there(sinks, store.name())?;
        Ok(Some(TargetRuns { table, after, has_ended: false, _permit: self.permit(READ).await? }))
    }
}

impl TargetRuns {
    /// The next runs, up to so many; none: those were all. There may be others behind an empty list.
    pub(crate) async fn next(&mut self, limit: usize) -> Result<Option<Vec<TargetRun>>, SinkError> {
        if self.has_ended {
            return Ok(None);
        }
        let limit = limit.min(TARGET_RUNS_LOOKED_AT);
        let after = self.after.as_deref();
        let (ids, next) = match &self.table {
            Table::Dynamo(dynamo) => in_time(dynamo.run_ids(after, limit)).await?,
            Table::Postgres(postgres) => {
                let ids = in_time(postgres.run_ids(after, limit)).await?;
                let next = ids.last().filter(|_| ids.len() == limit).cloned();
                (ids, next)
            }
        };
        let table = &self.table;
        let runs = stream::iter(ids).map(async |run_id| {
            let fold = table.fold(&run_id).await?;
            Ok::<_, SinkError>(TargetRun { run_id, fold })
        });
        let runs = runs.buffered(TARGET_RUNS_READ_AT_ONCE).try_collect().await?;
        self.has_ended = next.is_none();
        self.after = next;
        Ok(Some(runs))
    }

    /// Behind which place there are more; none: that was all.
    pub(crate) fn place(self) -> Option<String> {
        self.after.filter(|_| !self.has_ended)
    }
}

impl Table {
    async fn fold(&self, run_id: &str) -> Result<RunFold, SinkError> {
        let mut fold = LogFold::new(run_id);
        match self {
            Table::Dynamo(dynamo) => {
                let mut number = 1;
                while let Some(mut part) = in_time(dynamo.log_part(run_id, number)).await? {
                    let taken = part.updated_at.as_deref().and_then(|at| parse_rfc3339(at).ok()).unwrap_or(0);
                    for entry in part.by_ref() {
                        fold.add(entry?.as_bytes(), taken);
                    }
                    if part.is_last {
                        break;
                    }
                    number += 1;
                }
            }
            Table::Postgres(postgres) => {
                let mut last = None;
                loop {
                    let records = postgres.records(Which::Run(run_id), last.as_ref(), PAGE_ROWS_MAX);
                    let mut records = in_time(records).await?;
                    records.iter().for_each(|record| fold.add_record(record.json.as_bytes(), record.position));
                    match records.pop() {
                        Some(record) => last = Some(record),
                        None => break,
                    }
                }
            }
        }
        Ok(fold.end())
    }
}

/// One answer of a target.
async fn in_time<T>(answer: impl Future<Output = Result<T, SinkError>>) -> Result<T, SinkError> {
    super::target_log::in_time(READ, answer).await
}
