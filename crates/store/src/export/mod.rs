//! Streamed answers: records and rows as bytes in a format, without a cap. Owns the way from a walk or a statement to
//! pieces, with back-pressure: a client that reads slowly stops the work, one that goes away ends it. Refuses to know
//! about HTTP.
//!
//! One task makes rows (`walk`, or a statement's plan), another writes them in the format (`encode`) and hands pieces
//! over (`pieces`). Both run on the threads of queries, in places of their own.

mod cuts;
mod encode;
mod gather;
mod pieces;
mod walk;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;

pub use self::pieces::Export;

use self::encode::{Encode, parts};
use self::pieces::Pieces;
use self::walk::Walk;
use crate::columns::logs_schema;
use crate::error::{Phase, QueryError};
use crate::logs::LogsQuery;
use crate::recent::Snapshot;
use crate::runner::outcome;
use crate::session::{Question, Shared, Sql, checked};
use crate::watch::Stop;

/// Batches that are made ahead of the encoder: about a slice.
const BATCHES_AHEAD: usize = 8;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// A JSON object a line.
    Ndjson,
    /// RFC 4180, with a line of names.
    Csv,
    /// A Parquet file, compressed with zstd.
    Parquet,
    /// Arrow's IPC stream.
    Arrow,
}

/// Rows, in order.
type Rows = stream::BoxStream<'static, Result<RecordBatch, QueryError>>;

impl Sql {
    /// Exports that hold a place now.
    #[must_use]
    pub fn exports_running(&self) -> usize {
        self.exports.running()
    }

    /// Every record of a walk from its cursor on, at most `limit` of them, as of now. The query's own limit is not looked
    /// at. Must be awaited and read in a Tokio runtime with a timer; dropping the answer stops the work.
    ///
    /// # Errors
    /// As [`Sql::logs`], until the first records were found; what fails later stands in the stream, and ends it.
    pub async fn export(&self, mut query: LogsQuery, limit: Option<u64>, format: Format) -> Result<Export, QueryError> {
        query.check_filters()?;
        query.keep_times();
        if limit == Some(0) {
            return Err(QueryError::Parameter("limit: must be 1 at least".to_owned()));
        }
        self.piecewise(self.shared.limits.timeout, move |shared, stop, pieces| async move {
            let (walk, first) = shared.on_newest(|snapshot| shared.walk(&query, limit, snapshot, &stop)).await?;
            let encoder = encode::of_logs(format, &logs_schema())?;
            encode_all(ahead(first, walk.into_rows()), encoder, pieces).await
        })
        .await
    }

    /// Every row of a statement's answer, at most its `max_rows` of them.
    ///
    /// # Errors
    /// As [`Sql::query`], until the first rows were found; what fails later stands in the stream, and ends it.
    pub async fn stream(&self, question: impl Into<Question>, format: Format) -> Result<Export, QueryError> {
        let question = question.into();
        let timeout = self.timeout(&question)?;
        self.piecewise(timeout, move |shared, stop, pieces| async move {
            let begin = |snapshot| shared.begin(&question, snapshot, &stop);
            let (schema, first, rest) = shared.on_newest(begin).await?;
            let encoder = encode::of_rows(format, &schema)?;
            let rest = rest.map_err(move |error| shared.sort_out(&error, Phase::Running));
            encode_all(ahead(first, rest.boxed()), encoder, pieces).await
        })
        .await
    }
}

impl Shared {
    /// A walk that has begun, and its first records.
    async fn walk(
        self: &Arc<Self>,
        query: &LogsQuery,
        limit: Option<u64>,
        snapshot: Snapshot,
        stop: &Arc<Stop>,
    ) -> Result<(Walk, Option<RecordBatch>), QueryError> {
        let mut walk = Walk::begin(Arc::clone(self), query.clone(), limit, snapshot, Arc::clone(stop)).await?;
        let first = walk.next().await?;
        Ok((walk, first))
    }

    /// A statement's columns, its first rows and the others.
    async fn begin(
        &self,
        question: &Question,
        snapshot: Snapshot,
        stop: &Arc<Stop>,
    ) -> Result<(SchemaRef, Option<RecordBatch>, SendableRecordBatchStream), QueryError> {
        let checked = checked(question)?;
        let limit = question.max_rows.map(|rows| usize::try_from(rows).unwrap_or(usize::MAX));
        let stream = self.plan(checked, limit, snapshot, stop).await;
        let mut stream = stream.map_err(|error| self.sort_out(&error, Phase::Planning))?;
        let first = stream.try_next().await.map_err(|error| self.sort_out(&error, Phase::Running))?;
        Ok((stream.schema(), first, stream))
    }
}

/// Stops a task that nobody waits for any more.
struct Ending(tokio::task::AbortHandle);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The same rows, made by a task of their own while others are written.
fn ahead(first: Option<RecordBatch>, rest: Rows) -> Rows {
    let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
    let task = tokio::spawn(async move {
        let mut rest = rest;
        loop {
            // Room first: what was made and waits for room is memory.
            let Ok(room) = sender.reserve().await else { return };
            match rest.next().await {
                Some(batch) => room.send(batch),
                None => return,
            }
        }
    });
    let ending = Ending(task.abort_handle());
    let first = stream::iter(first.into_iter().map(Ok));
    let rest = stream::unfold((receiver, Some(task), ending), |(mut receiver, mut task, ending)| async move {
        if let Some(batch) = receiver.recv().await {
            return Some((batch, (receiver, task, ending)));
        }
        // An end is one only where the task came to it.
        let ended = task.take()?.await.map(Ok);
        let error = outcome(ended).err()?;
        Some((Err(error), (receiver, None, ending)))
    });
    first.chain(rest).boxed()
}

/// Writes all rows. Nothing is sent before the first of them is there.
async fn encode_all(rows: Rows, mut encoder: Box<dyn Encode>, mut pieces: Pieces) -> Result<(), QueryError> {
    let mut rows = std::pin::pin!(rows);
    let mut next = rows.as_mut().try_next().await?;
    let mut out = Vec::new();
    encoder.begin(&mut out)?;
    pieces.send(std::mem::take(&mut out)).await?;
    while let Some(batch) = next {
        for part in parts(&batch) {
            encoder.write(&part, &mut out)?;
            pieces.send(std::mem::take(&mut out)).await?;
            // Others get their turn.
            tokio::task::yield_now().await;
        }
        drop(batch);
        next = rows.as_mut().try_next().await?;
    }
    encoder.finish(&mut out)?;
    pieces.send(out).await
}
