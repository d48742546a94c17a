//! The records of one slice, sorted. Owns the exact order of a walk, and never holding much more than a slice may have:
//! where more come, the last of them in the walk's order are left for the next slice.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, new_null_array};
use arrow::compute::{filter_record_batch, interleave};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use runstone_record::Column;

use super::cuts::Axis;
use crate::growth::slice_bytes;
use crate::logs::Order;
use crate::records::Key;

/// How many times a slice's bytes are held before it is cut.
const OVERFLOW: usize = 3;
/// Rows and bytes of a sorted batch.
const BATCH_ROWS: usize = 8_192;
const BATCH_BYTES: usize = 4 << 20;

/// A row among the batches, and where it comes in the walk.
#[derive(Debug, Clone, Copy)]
struct Row {
    place: i64,
    batch: u32,
    row: u32,
}

/// Records so far, in no order.
#[derive(Debug)]
pub(super) struct Gather {
    axis: Axis,
    bytes_max: usize,
    batches: Vec<RecordBatch>,
    rows: Vec<Row>,
    bytes: usize,
    /// The last record that this slice has; later ones are not taken.
    cut: Option<Key>,
}

impl Gather {
    pub(super) fn new(axis: Axis, bytes_max: usize) -> Self {
        Self { axis, bytes_max, batches: Vec::new(), rows: Vec::new(), bytes: 0, cut: None }
    }

    /// Adds records, of all columns.
    pub(super) fn push(&mut self, batch: RecordBatch) -> Result<(), ArrowError> {
        let batch = match &self.cut {
            Some(cut) => filter_record_batch(&batch, &self.up_to(cut, &batch))?,
            None => batch,
        };
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.bytes += batch_bytes(&batch);
        self.take(batch);
        if self.bytes > OVERFLOW * self.bytes_max && self.rows.len() > 1 {
            self.cut()?;
        }
        Ok(())
    }

    fn take(&mut self, batch: RecordBatch) {
        let number = u32::try_from(self.batches.len()).unwrap_or(u32::MAX);
        let rows = (0_u32..).zip(times(&batch).values());
        self.rows.extend(rows.map(|(row, time)| Row { place: self.axis.turn(*time), batch: number, row }));
        self.batches.push(batch);
    }

    /// Which rows come no later than a record.
    fn up_to(&self, cut: &Key, batch: &RecordBatch) -> BooleanArray {
        let place = self.axis.turn(cut.timestamp);
        let rows = times(batch).values().iter().enumerate().map(|(row, time)| {
            let order = self.axis.turn(*time).cmp(&place).then_with(|| {
                let (journal, position) = identity(batch, row);
                self.towards((journal, position).cmp(&(&cut.journal, cut.position)))
            });
            Some(order != Ordering::Greater)
        });
        rows.collect()
    }

    fn towards(&self, order: Ordering) -> Ordering {
        match self.axis.0 {
            Order::Oldest => order,
            Order::Newest => order.reverse(),
        }
    }

    fn sort(&mut self) {
        let mut rows = std::mem::take(&mut self.rows);
        let at = |row: &Row| identity(&self.batches[row.batch as usize], row.row as usize);
        rows.sort_unstable_by(|one, other| {
            one.place.cmp(&other.place).then_with(|| self.towards(at(one).cmp(&at(other))))
        });
        self.rows = rows;
    }

    /// Keeps the first records, as many as a slice may have, and lets go of the memory of the others.
    fn cut(&mut self) -> Result<(), ArrowError> {
        self.sort();
        let kept = (self.rows.len() * self.bytes_max / self.bytes.max(1)).clamp(1, self.rows.len());
        self.rows.truncate(kept);
        self.cut = self.rows.last().map(|last| key(&self.batches[last.batch as usize], last.row as usize));
        let mut sorted = Sorted::new(std::mem::take(&mut self.batches), std::mem::take(&mut self.rows), self.bytes);
        self.bytes = 0;
        while let Some(batch) = sorted.next_batch()? {
            self.bytes += batch_bytes(&batch);
            self.take(batch);
        }
        Ok(())
    }

    /// Bytes of the records so far.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The records in the walk's order, and the last of them where later ones were left out.
    pub(super) fn finish(mut self) -> (Sorted, Option<Key>) {
        if !self.is_sorted() {
            self.sort();
        }
        (Sorted::new(self.batches, self.rows, self.bytes), self.cut)
    }

    fn is_sorted(&self) -> bool {
        self.rows.is_sorted_by(|one, next| one.place < next.place)
    }
}

/// Records in order, a batch at a time.
#[derive(Debug)]
pub(super) struct Sorted {
    batches: Vec<RecordBatch>,
    rows: Vec<Row>,
    next: usize,
    rows_at_once: usize,
    /// Is every batch in order, and after the one before?
    is_plain: bool,
    /// Which columns have no values.
    empty: Vec<bool>,
}

impl Sorted {
    fn new(batches: Vec<RecordBatch>, rows: Vec<Row>, bytes: usize) -> Self {
        let row_bytes = (bytes / rows.len().max(1)).max(1);
        let rows_at_once = (BATCH_BYTES / row_bytes).clamp(1, BATCH_ROWS);
        let all: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let is_plain = all == rows.len() && rows.is_sorted_by_key(|row| (row.batch, row.row));
        let columns = batches.first().map_or(0, RecordBatch::num_columns);
        let is_empty = |column| batches.iter().all(|batch| batch.column(column).null_count() == batch.num_rows());
        let empty = (0..columns).map(is_empty).collect();
        Self { batches, rows, next: 0, rows_at_once, is_plain, empty }
    }

    pub(super) fn next_batch(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let Some(first) = self.rows.get(self.next) else { return Ok(None) };
        if self.is_plain {
            let batch = self.batches[first.batch as usize].slice(first.row as usize, self.run());
            self.next += batch.num_rows();
            return Ok(Some(batch));
        }
        let rows = &self.rows[self.next..self.rows.len().min(self.next + self.rows_at_once)];
        self.next += rows.len();
        let rows: Vec<(usize, usize)> = rows.iter().map(|row| (row.batch as usize, row.row as usize)).collect();
        let columns = (0..self.empty.len()).map(|column| self.interleave(column, &rows));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let schema = self.batches[0].schema();
        Ok(Some(RecordBatch::try_new(schema, columns)?))
    }

    fn interleave(&self, column: usize, rows: &[(usize, usize)]) -> Result<ArrayRef, ArrowError> {
        // Most columns of most records are.
        if self.empty[column] {
            return Ok(new_null_array(self.batches[0].schema().field(column).data_type(), rows.len()));
        }
        let values: Vec<&dyn Array> = self.batches.iter().map(|batch| batch.column(column).as_ref()).collect();
        interleave(&values, rows)
    }

    /// Rows of the next row's batch that come next.
    fn run(&self) -> usize {
        let first = self.rows[self.next];
        let left = self.batches[first.batch as usize].num_rows() - first.row as usize;
        left.min(self.rows_at_once)
    }
}

fn times(batch: &RecordBatch) -> &arrow::array::TimestampMicrosecondArray {
    batch.column(Column::Timestamp.index()).as_primitive::<TimestampMicrosecondType>()
}

/// What orders records of one time.
fn identity(batch: &RecordBatch, row: usize) -> (&str, i64) {
    let journal = batch.column(Column::Journal.index()).as_string::<i32>().value(row);
    (journal, batch.column(Column::Position.index()).as_primitive::<Int64Type>().value(row))
}

fn key(batch: &RecordBatch, row: usize) -> Key {
    let (journal, position) = identity(batch, row);
    Key { timestamp: times(batch).value(row), journal: journal.to_owned(), position }
}

fn batch_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(slice_bytes).sum()
}
