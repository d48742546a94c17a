//! Filters that a scan applies itself, before it makes the columns that a query asked for. Owns evaluating them on
//! as few values as will do: a filter on one column of words is decided once for each distinct word of a chunk, and
//! ranges of times and positions rule whole chunks out.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::array::{RecordBatch, RecordBatchOptions, UInt64Array, new_null_array};
use arrow::compute::{concat, filter, is_null, or, prep_null_mask_filter, take};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column as NamedColumn, DataFusionError, Result, ScalarValue};
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_expr::{DynamicFilterTracking, PhysicalExpr, conjunction};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use runstone_record::{Column, Kind};

use crate::chunk::{Chunk, Stored};
use crate::columns::{arrow_type, logs_schema};
use crate::recent::Evicted;
use crate::rows::{Rows, pick};

/// A condition on records.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    /// Over `schema`, which has only the columns that it reads.
    expr: Arc<dyn PhysicalExpr>,
    schema: SchemaRef,
    pub(crate) columns: Vec<Column>,
    /// The same over the whole table.
    full: Arc<dyn PhysicalExpr>,
    /// Does it become narrower while the query runs?
    dynamic: bool,
}

impl std::fmt::Display for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.full.fmt(f)
    }
}

/// What a filter says about a whole chunk.
pub(crate) enum Verdict {
    /// Every row passes.
    All,
    /// No row passes.
    None,
    /// For each word of a column, and for a row without one.
    Words(Column, BooleanArray, bool),
    /// Rows must be looked at.
    Rows,
}

impl Filter {
    /// None where the filter cannot be applied here: it reads something that is no column of the table, or gives
    /// another answer each time.
    pub(crate) fn new(expr: &Arc<dyn PhysicalExpr>) -> Option<Self> {
        if is_volatile(expr) {
            return None;
        }
        let named: Vec<String> = collect_columns(expr).into_iter().map(|column| column.name().to_owned()).collect();
        let columns: Vec<Column> =
            Column::ALL.into_iter().filter(|column| named.iter().any(|name| name == column.name())).collect();
        if columns.len() != named.len() {
            return None;
        }
        let fields: Vec<_> = columns
            .iter()
            .map(|column| logs_schema().fields()[column.index()].as_ref().clone().with_nullable(true))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        Some(Self {
            expr: reassign_expr_columns(Arc::clone(expr), &schema).ok()?,
            full: reassign_expr_columns(Arc::clone(expr), &logs_schema()).ok()?,
            dynamic: DynamicFilterTracking::classify(expr).contains_dynamic_filter(),
            schema,
            columns,
        })
    }

    pub(crate) fn is_dynamic(&self) -> bool {
        self.dynamic
    }

    pub(crate) fn full(&self) -> &Arc<dyn PhysicalExpr> {
        &self.full
    }

    fn evaluate(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<BooleanArray> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        let verdict = self.expr.evaluate(&batch)?.into_array(rows)?;
        let verdict = verdict
            .as_boolean_opt()
            .ok_or_else(|| DataFusionError::Internal(format!("filter is no condition: {}", self.expr)))?;
        Ok(match verdict.null_count() {
            0 => verdict.clone(),
            _ => prep_null_mask_filter(verdict),
        })
    }

    /// Decides as much as can be decided without looking at rows.
    pub(crate) fn judge(&self, chunk: &Chunk) -> Result<Verdict> {
        let absent = |column: &Column| !is_made(*column) && chunk.stored(*column).is_none();
        if self.columns.iter().all(absent) {
            let nulls = self.columns.iter().map(|column| new_null_array(&arrow_type(*column), 1));
            let verdict = self.evaluate(nulls.collect(), 1)?;
            return Ok(if verdict.value(0) { Verdict::All } else { Verdict::None });
        }
        if let [column] = self.columns[..]
            && column.kind() != Kind::List
            && let Some(Stored::Words { words, keys }) = chunk.stored(column)
        {
            let null = StringArray::new_null(1);
            let words = concat(&[words, &null])?;
            // A word may fail, though no row has it any more: then rows decide.
            if let Ok(verdict) = self.evaluate(vec![words], chunk_words(chunk, column) + 1) {
                let nulls_pass = verdict.value(verdict.len() - 1);
                let passing = verdict.true_count();
                let has_nulls = keys.null_count() > 0;
                let verdict = verdict.slice(0, verdict.len() - 1);
                return Ok(if passing == 0 || (!has_nulls && verdict.true_count() == 0) {
                    Verdict::None
                } else if verdict.true_count() == verdict.len() && (nulls_pass || !has_nulls) {
                    Verdict::All
                } else {
                    Verdict::Words(column, verdict, nulls_pass)
                });
            }
        }
        Ok(Verdict::Rows)
    }

    /// Which of these rows pass.
    pub(crate) fn mask(&self, chunk: &Chunk, rows: &Rows) -> Result<BooleanArray> {
        let columns = self
            .columns
            .iter()
            .map(|column| chunk.column(*column, rows))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        self.evaluate(columns, rows.len())
    }
}

/// Columns that no batch stores: they are made when asked for, and never absent.
fn is_made(column: Column) -> bool {
    column == Column::Id || column.is_stamped()
}

fn chunk_words(chunk: &Chunk, column: Column) -> usize {
    match chunk.stored(column) {
        Some(Stored::Words { words, .. }) => words.len(),
        _ => 0,
    }
}

/// Which rows pass, given the verdict on each word.
pub(crate) fn mask_words(
    chunk: &Chunk,
    column: Column,
    words: &BooleanArray,
    nulls: bool,
    rows: &Rows,
) -> Result<BooleanArray> {
    let Some(Stored::Words { keys, .. }) = chunk.stored(column) else {
        return Ok(BooleanArray::from(vec![nulls; rows.len()]));
    };
    let keys = pick(keys, rows)?;
    let mask = take(words, &keys, None)?;
    let mask = mask.as_boolean();
    if keys.null_count() == 0 {
        return Ok(mask.clone());
    }
    let mask = prep_null_mask_filter(mask);
    if nulls { Ok(or(&mask, &is_null(&keys)?)?) } else { Ok(mask) }
}

/// The rows that a mask leaves.
pub(crate) fn narrow(rows: &Rows, mask: &BooleanArray) -> Result<Rows> {
    if mask.true_count() == mask.len() {
        return Ok(rows.clone());
    }
    Ok(match rows {
        Rows::Range(start, _) => Rows::Picked(
            mask.values()
                .set_indices()
                .map(|row| u32::try_from(start + row).unwrap_or(u32::MAX))
                .collect::<Vec<_>>()
                .into(),
        ),
        Rows::Picked(picked) => Rows::Picked(filter(picked, mask)?.as_primitive().clone()),
    })
}

/// Records that are read together or not at all.
#[derive(Debug, Clone)]
pub(crate) enum Unit {
    /// In memory.
    Chunk(Arc<Chunk>),
    /// To be read back.
    Evicted(Evicted),
}

impl Unit {
    pub(crate) fn rows(&self) -> usize {
        match self {
            Unit::Chunk(chunk) => chunk.rows,
            Unit::Evicted(evicted) => usize::try_from(evicted.rows()).unwrap_or(usize::MAX),
        }
    }

    pub(crate) fn times(&self) -> (i64, i64) {
        match self {
            Unit::Chunk(chunk) => chunk.times,
            Unit::Evicted(evicted) => evicted.times,
        }
    }

    pub(crate) fn positions(&self) -> (u64, u64) {
        match self {
            Unit::Chunk(chunk) => (chunk.first, chunk.last()),
            Unit::Evicted(evicted) => (evicted.first, evicted.last),
        }
    }

    /// Do records have the least and the greatest of its times?
    pub(crate) fn is_exact(&self) -> bool {
        match self {
            Unit::Chunk(_) => true,
            Unit::Evicted(evicted) => !evicted.is_cut,
        }
    }

    fn journal(&self) -> &str {
        match self {
            Unit::Chunk(chunk) => &chunk.journal,
            Unit::Evicted(evicted) => &evicted.journal,
        }
    }
}

/// Which units may hold records that pass, one answer each.
pub(crate) fn may_pass(filters: &[&Filter], units: &[Unit]) -> Result<Vec<bool>> {
    if filters.is_empty() || units.is_empty() {
        return Ok(vec![true; units.len()]);
    }
    let all = conjunction(filters.iter().map(|filter| Arc::clone(&filter.full)));
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
        let side = |(low, high): (i64, i64)| if least { low } else { high };
        match Column::from_field(&column.name)? {
            Column::Timestamp => {
                let times = self.0.iter().map(|unit| side(unit.times()));
                Some(Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC")))
            }
            Column::Position => Some(Arc::new(Int64Array::from_iter_values(self.0.iter().map(|unit| {
                let (low, high) = unit.positions();
                i64::try_from(if least { low } else { high }).unwrap_or(i64::MAX)
            })))),
            Column::Journal => Some(Arc::new(StringArray::from_iter_values(self.0.iter().map(Unit::journal)))),
            _ => None,
        }
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
        // Every record has these; `ORDER BY timestamp DESC` asks, because nulls would come first.
        self.bounds(column, true)?;
        Some(Arc::new(UInt64Array::from(vec![0; self.0.len()])))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from_iter_values(self.0.iter().map(|unit| unit.rows() as u64))))
    }

    fn contained(
        &self,
        _column: &NamedColumn,
        _values: &std::collections::HashSet<ScalarValue>,
    ) -> Option<BooleanArray> {
        None
    }
}
