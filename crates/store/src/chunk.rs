//! Records next to each other, in Arrow's layout: what a scan reads. Owns taking a batch over without a loop per
//! record, and making a column when a query asks for it; refuses to be changed: chunks are merged into new ones.
//!
//! Words stay indices into a dictionary, and `id`, `journal`, `position`, `ingested_at` and `date` are made only for
//! a query that names them. A column that no record has costs nothing.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Int64Array, StringArray, StringBuilder, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::compute::take;
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use runstone_record::{Batch, Column, Ids, Kind, RecordId, RecordWriter};

use crate::columns::arrow_type;
use crate::layout::stored;
use crate::list::parse_lists;
use crate::rows::{Rows, pick};

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// A column as a chunk holds it.
#[derive(Debug, Clone)]
pub(crate) enum Stored {
    /// One value a row.
    Plain(ArrayRef),
    /// One index a row into texts that differ.
    Words {
        /// The texts; of a list column, their JSON.
        words: StringArray,
        /// Unsigned integers of the narrowest width that serves.
        keys: ArrayRef,
    },
}

/// The ids of neighbouring rows.
#[derive(Debug, Clone)]
pub(crate) enum IdRun {
    /// `first`, `first + 1`, …
    Minted(u128),
    /// One for each row.
    Given(Vec<RecordId>),
}

/// Rows from one batch: what they have in common.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// The row after its last.
    pub(crate) end: usize,
    pub(crate) ingested_at: i64,
    pub(crate) ids: IdRun,
}

/// Records at consecutive positions of one journal.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) journal: Arc<str>,
    pub(crate) first: u64,
    pub(crate) rows: usize,
    pub(crate) runs: Vec<Run>,
    pub(crate) columns: Vec<Option<Stored>>,
    /// The least and greatest timestamp.
    pub(crate) times: (i64, i64),
    pub(crate) bytes: usize,
}

impl Chunk {
    /// Takes a batch over: its vectors become Arrow's buffers.
    pub(crate) fn from_batch(journal: Arc<str>, first: u64, batch: Batch) -> Result<Self, ArrowError> {
        let (rows, ingested_at) = (batch.len(), batch.ingested_at());
        let (ids, columns) = batch.into_parts();
        let ids = match ids {
            Ids::Minted { first } => IdRun::Minted(first.as_u128()),
            Ids::Given { ids, .. } => IdRun::Given(ids),
        };
        let columns = Column::ALL
            .into_iter()
            .zip(columns)
            .map(|(column, values)| values.map(|values| stored(column, values)).transpose())
            .collect::<Result<Vec<_>, _>>()?;
        let runs = vec![Run { end: rows, ingested_at, ids }];
        Ok(Self::new(journal, first, runs, columns))
    }

    pub(crate) fn new(journal: Arc<str>, first: u64, runs: Vec<Run>, columns: Vec<Option<Stored>>) -> Self {
        let rows = runs.last().map_or(0, |run| run.end);
        let arrived = (
            runs.iter().map(|run| run.ingested_at).min().unwrap_or(0),
            runs.iter().map(|run| run.ingested_at).max().unwrap_or(0),
        );
        let times = match columns.get(Column::Timestamp.index()) {
            Some(Some(Stored::Plain(times))) => {
                let times = times.as_primitive::<TimestampMicrosecondType>();
                let least = arrow::compute::min(times).unwrap_or(arrived.0);
                (least, arrow::compute::max(times).unwrap_or(arrived.1))
            }
            _ => arrived,
        };
        let ids: usize = runs
            .iter()
            .map(|run| match &run.ids {
                IdRun::Minted(_) => 0,
                IdRun::Given(ids) => ids.capacity() * size_of::<RecordId>(),
            })
            .sum();
        let held: usize = columns.iter().flatten().map(Stored::bytes).sum();
        let own = size_of::<Self>() + columns.capacity() * size_of::<Option<Stored>>();
        let bytes = own + held + ids + runs.capacity() * size_of::<Run>();
        Self { journal, first, rows, runs, columns, times, bytes }
    }

    /// The records from a row on, in the same memory; at least one.
    pub(crate) fn starting_at(&self, row: usize) -> Self {
        let row = row.min(self.rows.saturating_sub(1));
        let mut runs = Vec::new();
        let mut start = 0;
        for run in &self.runs {
            if run.end > row {
                runs.push(Run {
                    end: run.end - row,
                    ingested_at: run.ingested_at,
                    ids: run.ids.from(row.saturating_sub(start)),
                });
            }
            start = run.end;
        }
        let rest = |values: &ArrayRef| values.slice(row, self.rows - row);
        let columns = self.columns.iter().map(|stored| {
            Some(match stored.as_ref()? {
                Stored::Plain(values) => Stored::Plain(rest(values)),
                Stored::Words { words, keys } => Stored::Words { words: words.clone(), keys: rest(keys) },
            })
        });
        Self::new(Arc::clone(&self.journal), self.first + row as u64, runs, columns.collect())
    }

    /// The position of its last record.
    pub(crate) fn last(&self) -> u64 {
        self.first + (self.rows as u64).saturating_sub(1)
    }

    pub(crate) fn stored(&self, column: Column) -> Option<&Stored> {
        self.columns.get(column.index())?.as_ref()
    }

    /// A column over some rows, in the table's type.
    pub(crate) fn column(&self, column: Column, rows: &Rows) -> Result<ArrayRef, ArrowError> {
        Ok(match column {
            Column::Id => self.ids(rows),
            Column::Journal => repeat(&self.journal, rows.len()),
            Column::Position => Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| self.position(row)))),
            Column::IngestedAt => Arc::new(TimestampMicrosecondArray::from(self.arrivals(rows)).with_timezone("UTC")),
            Column::Date => Arc::new(Date32Array::from_iter_values(self.arrivals(rows).into_iter().map(day))),
            _ => match self.stored(column) {
                None => new_null_array(&arrow_type(column), rows.len()),
                Some(Stored::Plain(values)) => pick(values, rows)?,
                Some(Stored::Words { words, keys }) => {
                    let keys = pick(keys, rows)?;
                    let words: ArrayRef = match column.kind() {
                        Kind::List => parse_lists(words),
                        _ => Arc::new(words.clone()),
                    };
                    take(&words, &keys, None)?
                }
            },
        })
    }

    fn position(&self, row: usize) -> i64 {
        i64::try_from(self.first + row as u64).unwrap_or(i64::MAX)
    }

    /// The run that a row belongs to, and the row's place in it.
    fn run_of(&self, row: usize) -> Option<(&Run, usize)> {
        let place = self.runs.partition_point(|run| run.end <= row);
        let start = place.checked_sub(1).map_or(0, |before| self.runs[before].end);
        self.runs.get(place).map(|run| (run, row - start))
    }

    fn arrivals(&self, rows: &Rows) -> Vec<i64> {
        let mut place = Walk::default();
        rows.iter().map(|row| place.to(self, row).map_or(0, |(run, _)| run.ingested_at)).collect()
    }

    fn id(&self, row: usize) -> RecordId {
        self.run_of(row).map_or(RecordId::from_u128(0), |(run, within)| run.id(within))
    }

    fn ids(&self, rows: &Rows) -> ArrayRef {
        let mut out = StringBuilder::with_capacity(rows.len(), rows.len() * 36);
        let mut text = Vec::with_capacity(36);
        let mut place = Walk::default();
        for row in rows.iter() {
            text.clear();
            if let Some((run, within)) = place.to(self, row) {
                run.id(within).write(&mut text);
            }
            out.append_value(str::from_utf8(&text).unwrap_or_default());
        }
        Arc::new(out.finish())
    }

    /// When each record happened.
    #[cfg(feature = "lake")]
    pub(crate) fn timestamps(&self) -> Vec<i64> {
        match self.stored(Column::Timestamp) {
            Some(Stored::Plain(times)) => {
                let times = times.as_primitive::<TimestampMicrosecondType>();
                let arrived = self.arrivals(&Rows::Range(0, self.rows));
                times.iter().zip(arrived).map(|(time, arrived)| time.unwrap_or(arrived)).collect()
            }
            _ => self.arrivals(&Rows::Range(0, self.rows)),
        }
    }

    /// Appends one record as a JSON object of the API, as `Batch::write_json` does.
    pub(crate) fn write_json(&self, row: usize, out: &mut Vec<u8>) {
        let mut writer = RecordWriter::new(out);
        for column in Column::ALL {
            match column {
                Column::Id => writer.text(column, &self.id(row).to_string()),
                Column::Journal => writer.text(column, &self.journal),
                Column::Position => writer.int(column, self.position(row)),
                Column::IngestedAt => {
                    writer.int(column, self.run_of(row).map_or(0, |(run, _)| run.ingested_at));
                }
                Column::Date => {}
                _ => self.write_field(row, column, &mut writer),
            }
        }
        writer.end();
    }

    fn write_field(&self, row: usize, column: Column, writer: &mut RecordWriter<'_>) {
        match self.stored(column) {
            None => {}
            Some(Stored::Words { words, keys }) => {
                if let Some(key) = key_at(keys, row) {
                    writer.text(column, words.value(key));
                }
            }
            Some(Stored::Plain(values)) if values.is_null(row) => {}
            Some(Stored::Plain(values)) => match column.kind() {
                Kind::Time => writer.int(column, values.as_primitive::<TimestampMicrosecondType>().value(row)),
                Kind::Int => writer.int(column, values.as_primitive::<Int64Type>().value(row)),
                Kind::Float => writer.float(column, values.as_primitive::<Float64Type>().value(row)),
                _ => writer.text(column, values.as_string::<i32>().value(row)),
            },
        }
    }
}

/// A place among the runs that moves forward with the rows asked for: a binary search for each row is wasted on
/// neighbours.
#[derive(Default)]
struct Walk {
    place: usize,
    start: usize,
}

impl Walk {
    fn to<'a>(&mut self, chunk: &'a Chunk, row: usize) -> Option<(&'a Run, usize)> {
        if row < self.start {
            *self = Self::default();
        }
        if self.place == 0 && row >= chunk.runs.first()?.end {
            self.place = chunk.runs.partition_point(|run| run.end <= row);
            self.start = chunk.runs[self.place - 1].end;
        }
        while row >= chunk.runs.get(self.place)?.end {
            self.start = chunk.runs[self.place].end;
            self.place += 1;
        }
        chunk.runs.get(self.place).map(|run| (run, row - self.start))
    }
}

impl IdRun {
    /// Those from a row on.
    fn from(&self, row: usize) -> Self {
        match self {
            IdRun::Minted(first) => IdRun::Minted(first + row as u128),
            IdRun::Given(ids) => IdRun::Given(ids.get(row..).unwrap_or_default().to_vec()),
        }
    }
}

impl Run {
    fn id(&self, within: usize) -> RecordId {
        match &self.ids {
            IdRun::Minted(first) => RecordId::from_u128(first + within as u128),
            IdRun::Given(ids) => ids.get(within).copied().unwrap_or(RecordId::from_u128(0)),
        }
    }
}

impl Stored {
    /// Rows without a value.
    pub(crate) fn nulls(&self) -> usize {
        match self {
            Stored::Plain(values) | Stored::Words { keys: values, .. } => values.null_count(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Stored::Plain(values) => values.get_array_memory_size(),
            Stored::Words { words, keys } => words.get_array_memory_size() + keys.get_array_memory_size(),
        }
    }
}

/// A row's index into the words.
pub(crate) fn key_at(keys: &ArrayRef, row: usize) -> Option<usize> {
    use arrow::datatypes::{DataType, UInt8Type, UInt16Type, UInt32Type};
    if keys.is_null(row) {
        return None;
    }
    Some(match keys.data_type() {
        DataType::UInt8 => usize::from(keys.as_primitive::<UInt8Type>().value(row)),
        DataType::UInt16 => usize::from(keys.as_primitive::<UInt16Type>().value(row)),
        _ => keys.as_primitive::<UInt32Type>().value(row) as usize,
    })
}

fn repeat(text: &str, rows: usize) -> ArrayRef {
    let mut out = StringBuilder::with_capacity(rows, rows * text.len());
    (0..rows).for_each(|_| out.append_value(text));
    Arc::new(out.finish())
}

pub(crate) fn day(micros: i64) -> i32 {
    i32::try_from(micros.div_euclid(MICROS_PER_DAY)).unwrap_or(i32::MAX)
}
