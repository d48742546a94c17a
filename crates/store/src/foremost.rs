//! Fewer rows for a sort that keeps only the first of them. Owns the operator between such a sort and its input, and where
//! it is put. A file's rows lie in the order of their arrival, so that whoever asks for the newest finds, row by row,
//! one that is better than all before: the heap of the sort is turned over by every row. Here each batch is first cut
//! to the rows that may belong to the answer.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Int64Type, SchemaRef, TimestampMicrosecondType};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, RecordBatchStream};
use futures::Stream;

/// Puts the operator in.
pub(crate) fn shorten(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let Some(sort) = node.downcast_ref::<SortExec>() else {
            return Ok(Transformed::no(node));
        };
        let Some(first) = Foremost::before(sort) else {
            return Ok(Transformed::no(node));
        };
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep);
        Ok(Transformed::yes(node.replace_children(vec![Arc::new(first)], options)?))
    })
    .data()
}

/// Of each batch the rows that may be among the first.
#[derive(Debug)]
struct Foremost {
    input: Arc<dyn ExecutionPlan>,
    by: First,
}

/// Which rows come first.
#[derive(Debug, Clone, Copy)]
struct First {
    column: usize,
    descending: bool,
    rows: usize,
}

impl Foremost {
    /// For a sort by a time or a number that every row has.
    fn before(sort: &SortExec) -> Option<Self> {
        let rows = sort.fetch()?;
        let first = sort.expr().first();
        let column = first.expr.downcast_ref::<Column>()?.index();
        let schema = sort.input().schema();
        let field = schema.fields().get(column)?;
        let has_order = matches!(field.data_type(), DataType::Int64 | DataType::Timestamp(..));
        (has_order && !field.is_nullable()).then(|| Self {
            input: Arc::clone(sort.input()),
            by: First { column, descending: first.options.descending, rows },
        })
    }
}

impl First {
    /// Rows that come after the last of the first ones stay out; its equals stay.
    fn of(self, batch: RecordBatch) -> Result<RecordBatch> {
        if batch.num_rows() <= self.rows || self.rows == 0 {
            return Ok(batch);
        }
        let Some(values) = batch.columns().get(self.column).and_then(numbers) else {
            return Ok(batch);
        };
        let mut order = values.to_vec();
        let last = match self.descending {
            true => *order.select_nth_unstable_by(self.rows - 1, |one, other| other.cmp(one)).1,
            false => *order.select_nth_unstable(self.rows - 1).1,
        };
        let keeps = |value: &i64| if self.descending { *value >= last } else { *value <= last };
        Ok(filter_record_batch(&batch, &BooleanArray::from_iter(values.iter().map(|value| Some(keeps(value)))))?)
    }
}

fn numbers(values: &ArrayRef) -> Option<&[i64]> {
    match values.as_primitive_opt::<TimestampMicrosecondType>() {
        Some(times) => Some(times.values()),
        None => values.as_primitive_opt::<Int64Type>().map(|values| &values.values()[..]),
    }
}

impl DisplayAs for Foremost {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Foremost: rows={} of a batch", self.by.rows)
    }
}

impl ExecutionPlan for Foremost {
    fn name(&self) -> &'static str {
        "Foremost"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _each: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop();
        let input = input.ok_or_else(|| DataFusionError::Internal("foremost without an input".to_owned()))?;
        Ok(Arc::new(Self { input, by: self.by }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        Ok(Box::pin(Shortening { input: self.input.execute(partition, context)?, by: self.by }))
    }
}

struct Shortening {
    input: SendableRecordBatchStream,
    by: First,
}

impl Stream for Shortening {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let batch = ready!(self.input.as_mut().poll_next(context)?);
        Poll::Ready(batch.map(|batch| self.by.of(batch)))
    }
}

impl RecordBatchStream for Shortening {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use arrow::datatypes::{Field, Schema};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_row_that_a_sort_would_keep_is_left_out(
            values in prop::collection::vec(-5_i64..5, 0..40), rows in 0_usize..45, descending: bool,
        ) {
            let schema = Arc::new(Schema::new(vec![Field::new("position", DataType::Int64, false)]));
            let batch = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(values.clone()))]).unwrap();
            let kept = First { column: 0, descending, rows }.of(batch).unwrap();
            let sorted = |mut values: Vec<i64>| {
                values.sort_unstable();
                if descending {
                    values.reverse();
                }
                values.truncate(rows);
                values
            };
            let kept = kept.column(0).as_primitive::<Int64Type>().values().to_vec();
            prop_assert_eq!(sorted(kept), sorted(values));
        }
    }
}
