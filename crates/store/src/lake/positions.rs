//! The records of one journal in the order of their positions, as the batches that the journal once held: for consumers
//! that lag behind what it still keeps, for rebuilding runs, for verifying.
//!
//! Files hold records in the order of their times, and several may hold the same stretch of positions. So this reads
//! a window of positions at a time, puts it in order, and makes the next window narrower where records are large.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{concat_batches, sort_to_indices, take_record_batch};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, Result as PlanResult};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column as Named, in_list, lit};
use datafusion::physical_expr::{PhysicalExpr, conjunction};
use datafusion::prelude::SessionConfig;
use futures::TryStreamExt;
use runstone_record::build::BatchBuilder;
use runstone_record::{Batch, Column, ColumnSet, Kind, RecordId};

use crate::columns::logs_schema;
use crate::lake::checked::damage;
use crate::lake::fetch::list_text;
use crate::lake::{FileReader, Lake, LakeError, LakeFile, LakeSnapshot};

/// Positions of a window, at most and at first.
const WINDOW_ROWS: u64 = 64 << 10;
/// Bytes of a window, decoded: one that has more is read again in halves.
const WINDOW_BYTES: usize = 32 << 20;
/// Bytes of footers that are kept from window to window.
const FOOTERS_BYTES: usize = 4 << 20;

/// Which records.
#[derive(Debug, Clone)]
pub struct Positions {
    /// Of this journal: `{journal}/{epoch}`.
    pub journal: String,
    /// After this position.
    pub after: u64,
    /// Through this position.
    pub through: u64,
    /// With these columns; without `id`, ids are made up.
    pub columns: ColumnSet,
    /// Must every position be there? Retention deletes old ones.
    pub complete: bool,
}

/// Reads records in the order of their positions.
#[derive(Debug)]
pub struct PositionReader {
    ask: Positions,
    reader: FileReader,
    columns: Vec<Column>,
    /// Those that may hold some, by their first position.
    files: Vec<Arc<LakeFile>>,
    next: u64,
    /// A condition on top of the positions.
    only: Option<Arc<dyn PhysicalExpr>>,
    window: u64,
    window_max: u64,
    ready: VecDeque<(u64, Batch)>,
}

impl Lake {
    /// Reads the records of a journal that a snapshot holds.
    ///
    /// # Errors
    /// [`LakeError::Internal`] where the reader cannot be set up.
    pub fn read_positions(&self, snapshot: &LakeSnapshot, ask: Positions) -> Result<PositionReader, LakeError> {
        PositionReader::new(self, snapshot, ask).map_err(|error| LakeError::Internal(error.strip_backtrace()))
    }
}

impl PositionReader {
    fn new(lake: &Lake, snapshot: &LakeSnapshot, ask: Positions) -> PlanResult<Self> {
        let always = |column| matches!(column, Column::Position | Column::IngestedAt);
        let stored = |column| !matches!(column, Column::Journal | Column::Date);
        let columns: Vec<Column> = Column::ALL
            .into_iter()
            .filter(|column| always(*column) || (stored(*column) && ask.columns.has(*column)))
            .collect();
        let mut files: Vec<_> = snapshot
            .files
            .iter()
            .filter(|file| file.journal().is_none_or(|journal| journal == ask.journal))
            .filter(|file| file.positions().is_none_or(|(first, last)| last > ask.after && first <= ask.through))
            .cloned()
            .collect();
        files.sort_by_key(|file| file.positions());
        let runtime = RuntimeEnvBuilder::new().with_metadata_cache_limit(FOOTERS_BYTES).build()?;
        let reader = FileReader::new(lake.store(), &columns, &runtime, &SessionConfig::new())?;
        Ok(Self {
            next: ask.after + 1,
            only: None,
            window: WINDOW_ROWS,
            window_max: WINDOW_ROWS,
            ready: VecDeque::new(),
            ask,
            reader,
            columns,
            files,
        })
    }

    /// Only the records of these runs, which are few: row groups without them are not read.
    ///
    /// # Errors
    /// [`LakeError::Internal`] where the condition cannot be made.
    pub fn only_runs(&mut self, run_ids: &[String]) -> Result<(), LakeError> {
        let column = Arc::new(Named::new(Column::RunId.name(), Column::RunId.index()));
        let ids = run_ids.iter().map(|id| lit(id.as_str())).collect();
        let only = in_list(column, ids, &false, &logs_schema()).map_err(internal)?;
        self.only = Some(only);
        // What is not there costs nothing.
        self.window_max = self.ask.through.saturating_sub(self.ask.after).max(1);
        self.window = self.window_max;
        Ok(())
    }

    /// The next records and the position of the first of them; none after the last.
    ///
    /// # Errors
    /// The storage fails, a file is damaged, two records have one position, or one is missing though all were asked for.
    pub async fn next(&mut self) -> Result<Option<(u64, Batch)>, LakeError> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            let Some((first, last)) = self.next_window()? else {
                return Ok(None);
            };
            let Some(rows) = self.read(first, last).await? else {
                self.window = (self.window / 2).max(1);
                continue;
            };
            if rows.get_array_memory_size() < WINDOW_BYTES / 4 {
                self.window = self.window.saturating_mul(2).min(self.window_max);
            }
            self.split(&rows, last)?;
            self.next = last + 1;
        }
    }

    /// The next stretch of positions that may be there.
    fn next_window(&mut self) -> Result<Option<(u64, u64)>, LakeError> {
        if self.next > self.ask.through {
            return Ok(None);
        }
        self.files.retain(|file| file.positions().is_none_or(|(_, last)| last >= self.next));
        // Files that do not say come first: they may hold anything.
        let Some(first) = self.files.first().map(|file| file.positions().map_or(self.next, |positions| positions.0))
        else {
            self.require(self.ask.through + 1)?;
            return Ok(None);
        };
        let first = first.max(self.next);
        self.require(first.min(self.ask.through + 1))?;
        self.next = first;
        let last = first.saturating_add(self.window - 1).min(self.ask.through);
        Ok((first <= last).then_some((first, last)))
    }

    /// Nothing may be missing before a position, where everything is asked for.
    fn require(&self, before: u64) -> Result<(), LakeError> {
        if !self.ask.complete || self.next >= before {
            return Ok(());
        }
        let (journal, first, last) = (&self.ask.journal, self.next, before - 1);
        Err(LakeError::Damaged(format!("positions {first} to {last} of journal {journal} are missing")))
    }

    /// The records at these positions, in no order. None where they are too many bytes, and there is more than one.
    async fn read(&self, first: u64, last: u64) -> Result<Option<RecordBatch>, LakeError> {
        let overlaps = |file: &&Arc<LakeFile>| file.positions().is_none_or(|(low, high)| low <= last && high >= first);
        let (mut batches, mut bytes) = (Vec::new(), 0);
        for file in self.files.iter().filter(overlaps) {
            let failed = |error: DataFusionError| failed(&file.path, &error);
            let reader = self.reader.clone().with_filter(self.filter(first, last)).map_err(failed)?;
            let mut stream = reader.open(file, None, None).map_err(failed)?;
            while let Some(batch) = stream.try_next().await.map_err(failed)? {
                bytes += batch.get_array_memory_size();
                if bytes > WINDOW_BYTES && first < last {
                    return Ok(None);
                }
                batches.push(batch);
            }
        }
        let Some(schema) = batches.first().map(RecordBatch::schema) else {
            return Ok(Some(RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty()))));
        };
        concat_batches(&schema, &batches).and_then(in_order).map(Some).map_err(internal)
    }

    fn filter(&self, first: u64, last: u64) -> Arc<dyn PhysicalExpr> {
        let is = |column: Column, op, value| -> Arc<dyn PhysicalExpr> {
            Arc::new(BinaryExpr::new(Arc::new(Named::new(column.name(), column.index())), op, value))
        };
        let at = |position: u64| lit(i64::try_from(position).unwrap_or(i64::MAX));
        let place = [
            is(Column::Position, Operator::GtEq, at(first)),
            is(Column::Position, Operator::LtEq, at(last)),
            is(Column::Journal, Operator::Eq, lit(self.ask.journal.as_str())),
        ];
        conjunction(place.into_iter().chain(self.only.clone()))
    }

    /// Cuts ordered records into batches: neighbours that arrived together.
    fn split(&mut self, rows: &RecordBatch, last: u64) -> Result<(), LakeError> {
        let mut expected = self.next;
        if rows.num_rows() > 0 {
            let columns = Columns::new(&self.columns, rows).map_err(internal)?;
            let mut start = 0;
            while start < rows.num_rows() {
                let end = columns.end(start);
                let first = columns.position(start);
                if first < expected {
                    let journal = &self.ask.journal;
                    return Err(LakeError::Damaged(format!("position {first} of journal {journal} is there twice")));
                }
                self.next = expected;
                self.require(first)?;
                expected = first + (end - start) as u64;
                self.ready.push_back((first, columns.batch(start, end)?));
                start = end;
            }
        }
        self.next = expected;
        self.require(last + 1)
    }
}

/// A file that has gone, or holds something else than the log says, stays like that; everything else may pass.
fn failed(path: &str, error: &DataFusionError) -> LakeError {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let of_store = causes.filter_map(|cause| cause.downcast_ref::<object_store::Error>()).last();
    match of_store {
        Some(error) if damage(error).is_some() => LakeError::Damaged(format!("{path}: {error}")),
        Some(object_store::Error::NotFound { .. }) => LakeError::Damaged(format!("{path} is gone")),
        Some(_) => LakeError::Storage { action: format!("read {path}"), source: error.strip_backtrace().into() },
        None => LakeError::Damaged(format!("{path}: {}", error.strip_backtrace())),
    }
}

fn internal(error: impl std::fmt::Display) -> LakeError {
    LakeError::Internal(format!("read by position: {error}"))
}

/// The same rows by their positions.
fn in_order(rows: RecordBatch) -> Result<RecordBatch, arrow::error::ArrowError> {
    let positions = rows.column_by_name(Column::Position.name());
    let sorted = positions.is_none_or(|positions| positions.as_primitive::<Int64Type>().values().is_sorted());
    match positions {
        Some(positions) if !sorted => take_record_batch(&rows, &sort_to_indices(positions, None, None)?),
        _ => Ok(rows),
    }
}

/// Rows of a window.
struct Columns<'a> {
    positions: &'a [i64],
    arrivals: &'a [i64],
    ids: Option<&'a ArrayRef>,
    others: Vec<(Column, &'a ArrayRef)>,
}

impl<'a> Columns<'a> {
    fn new(columns: &[Column], rows: &'a RecordBatch) -> Result<Self, LakeError> {
        let of = |column: Column| rows.column_by_name(column.name());
        let lacks = |column: Column| LakeError::Internal(format!("read {}", column.name()));
        let positions = of(Column::Position).ok_or_else(|| lacks(Column::Position))?;
        let arrivals = of(Column::IngestedAt).ok_or_else(|| lacks(Column::IngestedAt))?;
        let stamped = |column: Column| matches!(column, Column::Id | Column::Position | Column::IngestedAt);
        Ok(Self {
            positions: positions.as_primitive::<Int64Type>().values(),
            arrivals: arrivals.as_primitive::<TimestampMicrosecondType>().values(),
            ids: of(Column::Id),
            others: columns
                .iter()
                .filter(|column| !stamped(**column))
                .filter_map(|column| Some((*column, of(*column)?)))
                .collect(),
        })
    }

    fn position(&self, row: usize) -> u64 {
        u64::try_from(self.positions[row]).unwrap_or(0)
    }

    /// The row after the last that belongs to one batch with this.
    fn end(&self, start: usize) -> usize {
        let next = (start + 1..self.positions.len()).find(|row| {
            self.positions[*row] != self.positions[row - 1] + 1 || self.arrivals[*row] != self.arrivals[start]
        });
        next.unwrap_or(self.positions.len())
    }

    fn batch(&self, start: usize, end: usize) -> Result<Batch, LakeError> {
        let mut builder = BatchBuilder::default();
        for row in start..end {
            for (column, values) in self.others.iter().filter(|(_, values)| values.is_valid(row)) {
                match column.kind() {
                    Kind::Time => {
                        builder.set_int(*column, values.as_primitive::<TimestampMicrosecondType>().value(row));
                    }
                    Kind::Int => builder.set_int(*column, values.as_primitive::<Int64Type>().value(row)),
                    Kind::Float => builder.set_float(*column, values.as_primitive::<Float64Type>().value(row)),
                    Kind::List => builder.set_text(*column, &list_text(&values.as_list::<i32>().value(row))),
                    _ => builder.set_text(*column, values.as_string::<i32>().value(row)),
                }
            }
            builder.end_row(None);
        }
        let ids = match self.ids {
            Some(ids) => (start..end).map(|row| RecordId::parse(ids.as_string::<i32>().value(row))).collect(),
            None => Ok((0..(end - start) as u128).map(RecordId::from_u128).collect()),
        };
        let ids: Vec<RecordId> = ids.map_err(|error| {
            LakeError::Damaged(format!(
                "an id between positions {} and {}: {error}",
                self.position(start),
                self.position(end - 1)
            ))
        })?;
        Ok(builder.restore(ids, self.arrivals[start]))
    }
}
