//! Every record of a walk in its exact order, over one snapshot, a slice of time after the other. Owns how much of it is in
//! memory at once; refuses to know in what format it goes out.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::Result as PlanResult;
use datafusion::logical_expr::Expr;
use futures::{StreamExt, TryStreamExt, stream};
use runstone_record::Column;
use runstone_record::limits::PAGE_ROWS_MAX;
use runstone_record::time::Moment;

use super::Rows;
use super::cuts::{Axis, Cuts};
use super::gather::{Gather, Sorted};
use crate::cursor::{Bounds, Cursor};
use crate::error::{Phase, QueryError, sort_out};
use crate::logs::{LogsQuery, Order, name, time};
use crate::recent::Snapshot;
use crate::records::Key;
use crate::session::{Shared, start_own};
use crate::watch::Stop;

/// How much longer slices become while they have few records of those that were guessed, as behind a filter.
const STRETCH: f64 = 4.0;
const STRETCH_MAX: f64 = 1e6;

/// A walk that is under way.
pub(super) struct Walk {
    shared: Arc<Shared>,
    query: LogsQuery,
    snapshot: Snapshot,
    stop: Arc<Stop>,
    axis: Axis,
    cuts: Cuts,
    /// Records that are still wanted; none: all.
    left: Option<u64>,
    stretch: f64,
    /// Where the slice before was cut short.
    after: Option<Key>,
    sorted: Option<Sorted>,
}

impl Walk {
    pub(super) async fn begin(
        shared: Arc<Shared>,
        mut query: LogsQuery,
        limit: Option<u64>,
        snapshot: Snapshot,
        stop: Arc<Stop>,
    ) -> Result<Self, QueryError> {
        let axis = Axis(query.order);
        let (since, until) = (query.since.map(Moment::micros), query.until.map(Moment::micros));
        let mut range =
            axis.range((since.unwrap_or(i64::MIN), until.map_or(i64::MAX, |until| until.saturating_sub(1))));
        if let Some(cursor) = &query.cursor {
            range.0 = range.0.max(axis.turn(cursor.timestamp));
        }
        let few = limit.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit <= PAGE_ROWS_MAX);
        if let Some(few) = few {
            // A few are found as a page is: no slice is read to its end for them.
            query.limit = few;
            let keys = shared.keys(&query, snapshot.clone(), &stop).await;
            let mut keys = keys.map_err(|error| sort_out(&error, Phase::Running))?;
            keys.truncate(few);
            match (keys.first(), keys.last()) {
                (Some(first), Some(last)) => range = (axis.turn(first.timestamp), axis.turn(last.timestamp)),
                _ => range = (0, -1),
            }
        }
        let cuts = Cuts::new(axis, &snapshot, range);
        let (stretch, after, sorted) = (1.0, None, None);
        Ok(Self { shared, query, snapshot, stop, axis, cuts, left: limit, stretch, after, sorted })
    }

    /// The next records; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        while self.left != Some(0) {
            if let Some(sorted) = &mut self.sorted {
                if let Some(batch) = sorted.next_batch().map_err(failed)? {
                    return Ok(Some(self.within_limit(batch)));
                }
                self.sorted = None;
            }
            if !self.next_slice().await? {
                break;
            }
        }
        Ok(None)
    }

    fn within_limit(&mut self, batch: RecordBatch) -> RecordBatch {
        let Some(left) = &mut self.left else { return batch };
        let rows = batch.num_rows().min(usize::try_from(*left).unwrap_or(usize::MAX));
        *left -= rows as u64;
        batch.slice(0, rows)
    }

    /// Reads and sorts the next slice. False: there is none.
    async fn next_slice(&mut self) -> Result<bool, QueryError> {
        let bytes_max = self.shared.limits.export_slice_bytes;
        let Some(slice) = self.cuts.next(self.stretch * bytes_max as f64).await? else { return Ok(false) };
        let gathered = self.gather(slice).await.map_err(|error| sort_out(&error, Phase::Running))?;
        let bytes = gathered.bytes();
        let (sorted, cut) = gathered.finish();
        self.stretch = match &cut {
            Some(_) => self.stretch / STRETCH,
            None if bytes < bytes_max / 4 => self.stretch * STRETCH,
            None if bytes > 2 * bytes_max => self.stretch / 2.0,
            None => self.stretch,
        };
        self.stretch = self.stretch.clamp(1.0 / STRETCH_MAX, STRETCH_MAX);
        match &cut {
            Some(cut) => self.cuts.go_back(self.axis.turn(cut.timestamp), slice),
            // What was read is not held any longer: a slow client keeps its export open for long.
            None => self.snapshot.chunks.retain(|chunk| self.axis.range(chunk.times).1 > slice.1),
        }
        self.after = cut;
        self.sorted = Some(sorted);
        Ok(true)
    }

    /// The records of a slice.
    async fn gather(&self, (first, last): (i64, i64)) -> PlanResult<Gather> {
        let (least, greatest) = match self.axis.0 {
            Order::Oldest => (first, last),
            Order::Newest => (self.axis.turn(last), self.axis.turn(first)),
        };
        let timestamp = || name(Column::Timestamp);
        let mut filters: Vec<Expr> = self.query.filters();
        if least > i64::MIN {
            filters.push(timestamp().gt_eq(time(least)));
        }
        if greatest < i64::MAX {
            filters.push(timestamp().lt_eq(time(greatest)));
        }
        if let Some(Key { timestamp, journal, position }) = self.after.clone() {
            let bounds = Bounds::default();
            filters.extend(self.query.after(&Cursor {
                query: 0,
                timestamp,
                journal,
                position,
                since: None,
                until: None,
                bounds,
            }));
        }
        let session = self.shared.session(self.snapshot.clone())?;
        let mut logs = session.table("logs").await?;
        for filter in filters {
            logs = logs.filter(filter)?;
        }
        let plan = logs.into_unoptimized_plan();
        let mut stream = start_own(&session, &plan, &self.stop).await?;
        let mut gather = Gather::new(self.axis, self.shared.limits.export_slice_bytes);
        while let Some(batch) = stream.try_next().await? {
            gather.push(batch)?;
        }
        Ok(gather)
    }

    /// The records that are still to come.
    pub(super) fn into_rows(self) -> Rows {
        stream::try_unfold(self, |mut walk| async move { Ok(walk.next().await?.map(|batch| (batch, walk))) }).boxed()
    }
}

fn failed(error: impl std::fmt::Display) -> QueryError {
    QueryError::Internal(format!("sort records: {error}"))
}
