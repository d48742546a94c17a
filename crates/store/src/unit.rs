//! What a scan of `logs` reads together or not at all: a chunk in memory, a range that left memory, a file of the
//! lake. Owns what is known of each without reading it, and ruling out those that no filter lets through.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column as NamedColumn, Result, ScalarValue};
use datafusion::physical_expr::conjunction;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use runstone_record::{Column, Kind};

use crate::chunk::Chunk;
use crate::columns::{is_required, logs_schema};
use crate::filter::Filter;
use crate::lake::{Bound, LakeFile};
use crate::recent::{Evicted, Snapshot};

/// Bytes of a file that one partition reads before another may take the next.
const PART_BYTES: u64 = 16 << 20;
/// The same where rows are wanted in the order of their times: a few may be enough, and what has been begun is read to its
/// end.
const ORDERED_PART_BYTES: u64 = 4 << 20;

/// Records that are read together or not at all.
#[derive(Debug, Clone)]
pub(crate) enum Unit {
    /// In memory.
    Chunk(Arc<Chunk>),
    /// To be read back.
    Evicted(Evicted),
    /// In the lake; where it is large, the row groups that begin between these bytes.
    File(Arc<LakeFile>, Option<(u64, u64)>),
}

impl Unit {
    /// All that a snapshot holds.
    pub(crate) fn all(snapshot: &Snapshot) -> Vec<Unit> {
        let files = snapshot.lake.iter().flat_map(|lake| lake.files().iter());
        let files = files.map(|file| Unit::File(Arc::clone(file), None));
        let evicted = snapshot.evicted.iter().cloned().map(Unit::Evicted);
        files.chain(evicted).chain(snapshot.chunks.iter().cloned().map(Unit::Chunk)).collect()
    }

    /// How many records, where that is known.
    pub(crate) fn rows(&self) -> Option<usize> {
        match self {
            Unit::Chunk(chunk) => Some(chunk.rows),
            Unit::Evicted(evicted) => usize::try_from(evicted.rows()).ok(),
            Unit::File(file, _) => usize::try_from(file.stats.rows?).ok(),
        }
    }

    /// No timestamp is less, and none is greater.
    pub(crate) fn times(&self) -> Option<(i64, i64)> {
        match self {
            Unit::Chunk(chunk) => Some(chunk.times),
            Unit::Evicted(evicted) => Some(evicted.times),
            Unit::File(file, _) => file.times(),
        }
    }

    /// Do records have the least and the greatest of its times? Files may have been described with less precision.
    pub(crate) fn is_exact(&self) -> bool {
        match self {
            Unit::Chunk(_) => true,
            Unit::Evicted(evicted) => !evicted.is_cut,
            Unit::File(..) => false,
        }
    }

    /// The least and the greatest position.
    pub(crate) fn positions(&self) -> Option<(u64, u64)> {
        match self {
            Unit::Chunk(chunk) => Some((chunk.first, chunk.last())),
            Unit::Evicted(evicted) => Some((evicted.first, evicted.last)),
            Unit::File(file, _) => file.positions(),
        }
    }

    /// What an order by time reads first: where nothing is known, everything may be in it.
    pub(crate) fn newest(&self) -> std::cmp::Reverse<i64> {
        std::cmp::Reverse(self.times().map_or(i64::MAX, |times| times.1))
    }

    pub(crate) fn oldest(&self) -> i64 {
        self.times().map_or(i64::MIN, |times| times.0)
    }

    /// Into how many parts it falls at most.
    pub(crate) fn count_parts(&self) -> usize {
        match self {
            Unit::File(file, None) => {
                usize::try_from(file.bytes.div_ceil(ORDERED_PART_BYTES)).unwrap_or(usize::MAX).max(1)
            }
            _ => 1,
        }
    }

    /// The parts of a large file, in the order in which they are read; anything else as it is.
    pub(crate) fn parts(self, is_ordered: bool, newest_first: bool) -> Vec<Unit> {
        let Unit::File(file, None) = &self else {
            return vec![self];
        };
        let bytes = if is_ordered { ORDERED_PART_BYTES } else { PART_BYTES };
        let count = file.bytes.div_ceil(bytes);
        if count < 2 {
            return vec![self];
        }
        let part = |number| Unit::File(Arc::clone(file), Some((number * bytes, (number + 1) * bytes)));
        // Row groups lie in the order of their times.
        let parts = (0..count).map(part);
        if newest_first { parts.rev().collect() } else { parts.collect() }
    }

    /// A bound of a column.
    fn bound(&self, column: Column, least: bool) -> Option<Known<'_>> {
        fn side<T>((low, high): (T, T), least: bool) -> T {
            if least { low } else { high }
        }
        let journal = match (self, column) {
            (Unit::File(file, _), Column::Date) => return Some(Known::Int(file.day().into())),
            (Unit::File(file, _), _) => {
                let stats = file.stats.column(column)?;
                return side((stats.least.as_ref(), stats.greatest.as_ref()), least).map(|bound| match bound {
                    Bound::Text(text) => Known::Text(text),
                    Bound::Int(int) => Known::Int(*int),
                    Bound::Float(float) => Known::Float(*float),
                });
            }
            (Unit::Chunk(chunk), _) => &chunk.journal,
            (Unit::Evicted(evicted), _) => &evicted.journal,
        };
        match column {
            Column::Timestamp => self.times().map(|times| Known::Int(side(times, least))),
            Column::Position => i64::try_from(side(self.positions()?, least)).ok().map(Known::Int),
            Column::Journal => Some(Known::Text(journal)),
            _ => None,
        }
    }

    /// How many records have no value.
    fn nulls(&self, column: Column) -> Option<u64> {
        match self {
            _ if is_required(column) => Some(0),
            Unit::File(file, _) => file.nulls(column),
            _ => None,
        }
    }
}

impl LakeFile {
    /// How many records have no value.
    pub(crate) fn nulls(&self, column: Column) -> Option<u64> {
        match column.kind() {
            _ if is_required(column) => Some(0),
            // Of a list some writers count what is missing among its items, where an empty one looks like none.
            Kind::List => None,
            _ => self.stats.column(column)?.nulls,
        }
    }
}

/// A bound.
enum Known<'a> {
    Text(&'a str),
    Int(i64),
    Float(f64),
}

impl<'a> Known<'a> {
    fn text(self) -> Option<&'a str> {
        match self {
            Known::Text(text) => Some(text),
            _ => None,
        }
    }

    fn int(self) -> Option<i64> {
        match self {
            Known::Int(int) => Some(int),
            _ => None,
        }
    }

    fn float(self) -> Option<f64> {
        match self {
            Known::Float(float) => Some(float),
            _ => None,
        }
    }
}

/// Which units may hold records that pass, one answer each.
pub(crate) fn may_pass(filters: &[&Filter], units: &[Unit]) -> Result<Vec<bool>> {
    if filters.is_empty() || units.is_empty() {
        return Ok(vec![true; units.len()]);
    }
    let all = conjunction(filters.iter().map(|filter| Arc::clone(filter.full())));
    let pruning = PruningPredicateBuilder::new().with_file_schema(logs_schema()).build(all);
    match pruning {
        Some(pruning) => pruning.prune(&Ranges(units)),
        None => Ok(vec![true; units.len()]),
    }
}

/// What is known of units without reading them.
struct Ranges<'a>(&'a [Unit]);

impl Ranges<'_> {
    fn bounds(&self, column: &NamedColumn, least: bool) -> Option<ArrayRef> {
        let column = Column::from_field(&column.name)?;
        let each = || self.0.iter().map(|unit| unit.bound(column, least));
        let ints = || each().map(|bound| bound?.int());
        Some(match column.kind() {
            Kind::Time => Arc::new(ints().collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
            Kind::Int => Arc::new(ints().collect::<Int64Array>()),
            Kind::Date => Arc::new(ints().map(|day| i32::try_from(day?).ok()).collect::<Date32Array>()),
            Kind::Float => Arc::new(each().map(|bound| bound?.float()).collect::<Float64Array>()),
            Kind::List => return None,
            _ => Arc::new(each().map(|bound| bound?.text()).collect::<StringArray>()),
        })
    }
}

impl PruningStatistics for Ranges<'_> {
    fn min_values(&self, column: &NamedColumn) -> Option<ArrayRef> {
        self.bounds(column, true)
    }

    fn max_values(&self, column: &NamedColumn) -> Option<ArrayRef> {
        self.bounds(column, false)
    }

    fn num_containers(&self) -> usize {
        self.0.len()
    }

    fn null_counts(&self, column: &NamedColumn) -> Option<ArrayRef> {
        // Of columns that every record has too: `ORDER BY timestamp DESC` asks, because nulls would come first.
        let column = Column::from_field(&column.name)?;
        Some(Arc::new(self.0.iter().map(|unit| unit.nulls(column)).collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(self.0.iter().map(|unit| unit.rows().map(|rows| rows as u64)).collect::<UInt64Array>()))
    }

    fn contained(&self, _column: &NamedColumn, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
