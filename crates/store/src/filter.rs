//! Filters that a scan applies itself, before it makes the columns that a query asked for. Owns evaluating them on
//! as few values as will do: a filter on one column of words is decided once for each distinct word of a chunk.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, StringArray, new_null_array,
};
use arrow::compute::{concat, filter, is_null, or, prep_null_mask_filter, take};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::expressions::{
    self, BinaryExpr, DynamicFilterPhysicalExpr, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};
use datafusion::physical_expr::scalar_subquery::ScalarSubqueryExpr;
use datafusion::physical_expr::simplifier::PhysicalExprSimplifier;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_expr::{DynamicFilterTracking, PhysicalExpr};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use runstone_record::{Column, Kind};

use crate::chunk::{Chunk, Stored};
use crate::columns::{arrow_type, logs_schema};
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
    /// Is it known, or narrower, only once the query runs?
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
            dynamic: DynamicFilterTracking::classify(expr).contains_dynamic_filter() || has_subquery(expr),
            schema,
            columns,
        })
    }

    pub(crate) fn is_dynamic(&self) -> bool {
        self.dynamic
    }

    /// With values in the place of subqueries, which have run when the query's scans begin: a value rules out files, by
    /// its statistics and bloom filters, and a subquery none.
    pub(crate) fn with_values(&self) -> Result<Self> {
        if !has_subquery(&self.full) {
            return Ok(self.clone());
        }
        let none = RecordBatch::new_empty(logs_schema());
        let value = |expr: Arc<dyn PhysicalExpr>| -> Result<_> {
            if !expr.is::<ScalarSubqueryExpr>() {
                return Ok(Transformed::no(expr));
            }
            match expr.evaluate(&none)? {
                ColumnarValue::Scalar(value) => Ok(Transformed::yes(expressions::lit(value))),
                ColumnarValue::Array(_) => Err(DataFusionError::Internal(format!("{expr} has no one value"))),
            }
        };
        let filled = Arc::clone(&self.full).transform(value).data()?;
        let filter = Self::new(&filled);
        filter.ok_or_else(|| DataFusionError::Internal(format!("filter is none with its values: {filled}")))
    }

    /// Can it be decided for every value, without an error and without a function? Then whoever decodes values may
    /// decide it.
    pub(crate) fn is_simple(&self) -> bool {
        !self.columns.iter().any(|column| column.kind() == Kind::List) && is_simple(&self.full)
    }

    /// The opposite, where times, journals and positions decide it: what is known of a chunk may rule it out, and then
    /// no row needs to be looked at.
    pub(crate) fn opposite(&self) -> Option<Self> {
        let known = [Column::Timestamp, Column::Journal, Column::Position];
        if self.dynamic || !self.is_simple() || self.columns.iter().any(|column| !known.contains(column)) {
            return None;
        }
        let opposite: Arc<dyn PhysicalExpr> = Arc::new(NotExpr::new(Arc::clone(&self.full)));
        Self::new(&PhysicalExprSimplifier::new(&logs_schema()).simplify(opposite).ok()?)
    }

    pub(crate) fn full(&self) -> &Arc<dyn PhysicalExpr> {
        &self.full
    }

    /// Which rows pass, given the values of its columns.
    pub(crate) fn evaluate(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<BooleanArray> {
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

/// Does it stand on the answer of another query?
fn has_subquery(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.is::<ScalarSubqueryExpr>() || expr.children().into_iter().any(has_subquery)
}

fn is_simple(expr: &Arc<dyn PhysicalExpr>) -> bool {
    use Operator::{And, Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq, Or};
    let itself = if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        matches!(binary.op(), And | Or | Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
    } else {
        expr.is::<DynamicFilterPhysicalExpr>()
            || expr.is::<expressions::Column>()
            || expr.is::<InListExpr>()
            || expr.is::<IsNotNullExpr>()
            || expr.is::<IsNullExpr>()
            || expr.is::<LikeExpr>()
            || expr.is::<Literal>()
            || expr.is::<NotExpr>()
    };
    itself && expr.children().into_iter().all(is_simple)
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
