//! Streamed answers: records and rows as bytes in a format, without a cap. Owns the way from a walk or a statement to
//! pieces, with back-pressure: a client that reads slowly stops the work, one that goes away ends it. Refuses to know
//! about HTTP.
//!
//! One task makes rows (`walk`, or a statement's plan), another writes them in the format (`encode`) and hands pieces
//! over (`pieces`). Both run on the threads of queries. A walk has one of few places from its beginning; a statement has that of
//! any other until it is clear that its answer is long.

mod ahead;
mod cuts;
mod encode;
mod gather;
mod pieces;
mod walk;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

pub use self::pieces::Export;

use self::ahead::ahead;
use self::encode::{Encode, parts};
use self::pieces::Pieces;
use self::walk::Walk;
use crate::columns::logs_schema;
use crate::error::{Phase, QueryError};
use crate::logs::LogsQuery;
use crate::recent::Snapshot;
use crate::session::{Question, Shared, Sql, checked};
use crate::watch::Stop;

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
type Rows = BoxStream<'static, Result<RecordBatch, QueryError>>;

impl Sql {
    /// Exports that hold a place now.
    #[must_use]
    pub fn exports_running(&self) -> usize {
        self.exports.running() + self.streams.running()
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
        let places = (&self.exports, &self.exports);
        self.piecewise(places, self.shared.limits.timeout, move |shared, stop, pieces| async move {
            let (walk, first) = shared.on_newest(|snapshot| shared.walk(&query, limit, snapshot, &stop)).await?;
            let encoder = encode::of_logs(format, &logs_schema())?;
            encode_all(ahead(first, walk.into_rows(), None), encoder, pieces).await
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
        let places = (&self.queries, &self.streams);
        self.piecewise(places, timeout, move |shared, stop, pieces| async move {
            let begin = |snapshot| shared.begin(&question, snapshot, &stop);
            let (schema, first, rest) = shared.on_newest(begin).await?;
            let encoder = encode::of_rows(format, &schema)?;
            let pool = Some(Arc::clone(&shared));
            let rest = rest.map_err(move |error| shared.sort_out(&error, Phase::Running));
            encode_all(ahead(first, rest.boxed(), pool), encoder, pieces).await
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
