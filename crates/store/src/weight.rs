//! How much memory the expressions of one step of a plan take for a batch, known before they are computed. Owns the
//! estimate, and how many rows at once stay below a bound by it: a step computes all of its columns for a batch together, and
//! nobody else counts them. Refuses to know when a step runs.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateInputMode};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use runstone_record::limits::SQL_CALL_BYTES_MAX;

use crate::growth::{Growth, PIECE_ROWS, growth, slice_bytes};

/// What a value of no known length takes beside what it is made of: its offset, its null, and the text of a number.
const VALUE_BYTES: f64 = 24.0;
/// Values of a known length up to which a step is not looked at: a batch of them is small.
const NARROW: usize = 64;
/// Columns of a step for which a batch has its usual number of rows.
const COLUMNS_FULL: usize = 64;
/// Rows of a batch, however wide.
const ROWS_MIN: usize = 64;

/// Bytes of a value in each row, on average.
#[derive(Debug)]
enum Size {
    Column(usize),
    Constant(f64),
    /// Made of others, in so many bytes or in about as many as they have.
    Made {
        of: Vec<Size>,
        width: Option<f64>,
        growth: Option<(Growth, String)>,
    },
}

/// What a step makes of a batch.
#[derive(Debug)]
pub(crate) struct Weight {
    /// What it makes; a column that it hands on is nothing new.
    made: Vec<Size>,
    /// The columns that these are made of.
    columns: Vec<usize>,
}

/// The bytes of each column, a row, and how many rows a call has at once.
struct Means<'w> {
    columns: Vec<(usize, f64)>,
    rows: usize,
    /// A call that would multiply what it gets to more than it may make.
    refused: Option<&'w str>,
}

impl Weight {
    /// What the expressions of a step with one input make. None: next to nothing.
    pub(crate) fn of(step: &dyn ExecutionPlan) -> Result<Option<Self>> {
        let children = step.children();
        let [input] = children.as_slice() else { return Ok(None) };
        let schema = input.schema();
        let mut made = Vec::new();
        // Others copy what they look at: a sort its keys, an aggregate what it keeps.
        let hands_on = step.is::<ProjectionExec>() || step.is::<FilterExec>();
        if merges(step) {
            made.extend((0..schema.fields().len()).map(Size::Column));
        } else {
            step.apply_expressions(&mut |expr| {
                if !(hands_on && expr.is::<Column>()) {
                    made.push(size(expr, &schema));
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        let (mut columns, mut values, mut of_any_length) = (Vec::new(), 0, false);
        for size in &made {
            size.look(&mut columns, &mut values, &mut of_any_length);
        }
        columns.sort_unstable();
        columns.dedup();
        Ok((of_any_length || values > NARROW).then_some(Self { made, columns }))
    }

    /// The bytes that the step makes of these rows.
    pub(crate) fn bytes(&self, rows: &RecordBatch) -> usize {
        self.weigh(rows).0
    }

    /// The call of a function that would make too much of a batch. Fewer rows at once would only hide that.
    pub(crate) fn refused(&self, batch: &RecordBatch) -> Option<&str> {
        self.weigh(batch).1
    }

    fn weigh(&self, rows: &RecordBatch) -> (usize, Option<&str>) {
        let count = rows.num_rows().max(1) as f64;
        let mean = |column: &usize| rows.columns().get(*column).map(|array| (*column, bytes_of(array) / count));
        let columns = self.columns.iter().filter_map(mean).collect();
        let mut means = Means { columns, rows: rows.num_rows().min(PIECE_ROWS), refused: None };
        let mut made = 0.0;
        for size in &self.made {
            let own = size.bytes(&mut means, &mut made);
            if !matches!(size, Size::Made { .. }) {
                made += own;
            }
        }
        (whole(made * rows.num_rows() as f64), means.refused)
    }

    /// How many of the first rows of a batch stay below so many bytes, and what they take: one row at least.
    pub(crate) fn rows_within(&self, batch: &RecordBatch, bytes_max: usize) -> (usize, usize) {
        let mut rows = batch.num_rows();
        loop {
            let bytes = self.bytes(&batch.slice(0, rows));
            if bytes <= bytes_max || rows <= 1 {
                return (rows, bytes);
            }
            let fitting = (rows as u128 * bytes_max as u128 / bytes as u128) as usize;
            rows = fitting.clamp(1, rows / 2);
        }
    }

    /// Values that it makes of a row.
    fn values(&self) -> usize {
        self.made.len()
    }
}

/// Does a step put aggregates of parts together? Its expressions are those of the rows that the parts were made of.
fn merges(step: &dyn ExecutionPlan) -> bool {
    let aggregate = step.downcast_ref::<AggregateExec>();
    aggregate.is_some_and(|aggregate| aggregate.mode().input_mode() == AggregateInputMode::Partial)
}

fn whole(bytes: f64) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
    let whole = bytes as usize;
    whole
}

/// Rows of a batch of this plan: the wider its steps are, the fewer.
pub(crate) fn batch_rows(plan: &Arc<dyn ExecutionPlan>, usual: usize) -> Result<usize> {
    let widest = widest(plan.as_ref())?;
    Ok((usual * COLUMNS_FULL / widest.max(COLUMNS_FULL)).clamp(ROWS_MIN.min(usual), usual))
}

fn widest(step: &dyn ExecutionPlan) -> Result<usize> {
    let mut most = step.schema().fields().len();
    most = most.max(match step.children().len() {
        1 => Weight::of(step)?.map_or(0, |weight| weight.values()),
        // A scan's conditions, or a join's: how large their values are is known only within.
        _ => texts_made(step)?,
    });
    for child in step.children() {
        most = most.max(widest(child.as_ref())?);
    }
    Ok(most)
}

/// How many calls and conversions are in a step's expressions.
fn texts_made(step: &dyn ExecutionPlan) -> Result<usize> {
    let mut count = 0;
    step.apply_expressions(&mut |expr| {
        expr.apply(|expr| {
            let joins = expr.downcast_ref::<BinaryExpr>().is_some_and(|expr| *expr.op() == Operator::StringConcat);
            count += usize::from(joins || expr.is::<ScalarFunctionExpr>() || expr.is::<CastExpr>());
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(count)
}

fn size(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Size {
    if let Some(column) = expr.downcast_ref::<Column>() {
        return Size::Column(column.index());
    }
    if let Some(constant) = expr.downcast_ref::<Literal>() {
        return Size::Constant(scalar_bytes(constant.value()));
    }
    let of = expr.children().into_iter().map(|child| size(child, schema)).collect();
    let width = expr.data_type(schema).ok().and_then(|kind| width(&kind));
    let call = expr.downcast_ref::<ScalarFunctionExpr>().map(|call| call.fun().name());
    let growth = call.and_then(|name| Some((growth(name)?, name.to_owned())));
    Size::Made { of, width, growth }
}

impl Size {
    /// Which columns it is made of, how many values that makes, and whether one of them may be of any length.
    fn look(&self, columns: &mut Vec<usize>, values: &mut usize, of_any_length: &mut bool) {
        match self {
            Size::Column(column) => columns.push(*column),
            Size::Constant(_) => {}
            Size::Made { of, width, .. } => {
                *of_any_length |= width.is_none();
                of.iter().for_each(|size| size.look(columns, values, of_any_length));
            }
        }
        *values += 1;
    }

    /// Its bytes; what had to be made for it is added up.
    fn bytes<'w>(&'w self, means: &mut Means<'w>, made: &mut f64) -> f64 {
        let (of, width, growth) = match self {
            Size::Column(column) => return means.of(*column),
            Size::Constant(bytes) => return *bytes,
            Size::Made { of, width, growth } => (of, width, growth),
        };
        let parts: Vec<f64> = of.iter().map(|size| size.bytes(means, made)).collect();
        let sum: f64 = parts.iter().sum();
        let own = match (width, growth) {
            (Some(width), _) => *width,
            (None, Some((Growth::Sum(times), _))) => sum * *times as f64 + VALUE_BYTES,
            (None, Some((Growth::Spread(place), name))) => {
                let put_in = parts.get(*place).copied().unwrap_or(0.0);
                let spread = sum + (parts.first().copied().unwrap_or(0.0) + 1.0) * put_in;
                if spread * means.rows as f64 > SQL_CALL_BYTES_MAX as f64 {
                    means.refused = Some(name);
                }
                spread + VALUE_BYTES
            }
            (None, None) => sum + VALUE_BYTES,
        };
        *made += own;
        own
    }
}

impl Means<'_> {
    fn of(&self, column: usize) -> f64 {
        let place = self.columns.binary_search_by_key(&column, |known| known.0);
        place.map_or(0.0, |place| self.columns[place].1)
    }
}

/// Bytes of a value of a type whose values all have as many.
fn width(kind: &DataType) -> Option<f64> {
    match kind {
        DataType::Null => Some(0.0),
        DataType::Boolean => Some(0.25),
        kind => kind.primitive_width().map(|bytes| bytes as f64 + 0.125),
    }
}

fn scalar_bytes(value: &ScalarValue) -> f64 {
    match value.try_as_str() {
        Some(text) => text.map_or(0, str::len) as f64,
        None => width(&value.data_type()).unwrap_or_else(|| value.size() as f64),
    }
}

/// Bytes of the values of an array, as they would be written out.
fn bytes_of(array: &ArrayRef) -> f64 {
    match array.data_type() {
        // What lies behind a view may be shared by many.
        DataType::Utf8View => array.as_string_view().lengths().map(f64::from).sum::<f64>() + array.len() as f64 * 16.0,
        DataType::BinaryView => {
            array.as_binary_view().lengths().map(f64::from).sum::<f64>() + array.len() as f64 * 16.0
        }
        DataType::Dictionary(..) => array.as_any_dictionary_opt().map_or(0.0, |words| {
            let mean = slice_bytes(words.values()) as f64 / words.values().len().max(1) as f64;
            mean * array.len() as f64
        }),
        _ => slice_bytes(array) as f64,
    }
}
