//! What keeps a running plan stoppable, polite and accounted for: wrappers around the operators that can work for
//! long between two rows, or hold rows without saying so. Owns where they are put; DataFusion's own yielding counts
//! batches, and one batch of a join of everything with everything can take seconds.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::joins::{CrossJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::windows::WindowAggExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, RecordBatchStream};
use futures::Stream;

use crate::growth::slice_bytes;

/// After so long others get their turn.
const TURN: Duration = Duration::from_millis(10);
/// Rows that a join without a key compares with its whole other side at once.
const PROBE_ROWS: usize = 128;

/// Set when nobody waits for the answer any more.
#[derive(Debug, Default)]
pub(crate) struct Stop(AtomicBool);

impl Stop {
    pub(crate) fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            return Err(DataFusionError::Execution("the query was stopped".to_owned()));
        }
        Ok(())
    }
}

/// Puts the wrappers in.
pub(crate) fn watch(plan: Arc<dyn ExecutionPlan>, stop: &Arc<Stop>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let every_pair = node.is::<NestedLoopJoinExec>() || node.is::<CrossJoinExec>();
        let long = every_pair || node.is::<UnnestExec>() || node.name().contains("Join");
        if node.children().is_empty() || (long && !every_pair) {
            return Ok(Transformed::yes(Watched::around(node, stop, Kind::Plain)));
        }
        let kinds: [Kind; 2] = match () {
            () if every_pair => [Kind::Plain, Kind::Pieces],
            () if node.is::<WindowAggExec>() => [Kind::Counted, Kind::Plain],
            () => return Ok(Transformed::no(node)),
        };
        let children: Vec<_> = node
            .children()
            .into_iter()
            .zip(kinds)
            .map(|(child, kind)| Watched::around(Arc::clone(child), stop, kind))
            .collect();
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep);
        let node = node.replace_children(children, options)?;
        Ok(Transformed::yes(match every_pair {
            true => Watched::around(node, stop, Kind::Plain),
            false => node,
        }))
    })
    .data()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    /// Rows come a few at a time.
    Pieces,
    /// Whoever reads keeps all rows: they count as memory of the query.
    Counted,
}

#[derive(Debug)]
struct Watched {
    input: Arc<dyn ExecutionPlan>,
    stop: Arc<Stop>,
    kind: Kind,
}

impl Watched {
    fn around(input: Arc<dyn ExecutionPlan>, stop: &Arc<Stop>, kind: Kind) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self { input, stop: Arc::clone(stop), kind })
    }
}

impl DisplayAs for Watched {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

impl ExecutionPlan for Watched {
    fn name(&self) -> &'static str {
        "Watched"
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
        let input = input.ok_or_else(|| DataFusionError::Internal("watched without an input".to_owned()))?;
        Ok(Self::around(input, &self.stop, self.kind))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let consumer = MemoryConsumer::new("rows of a window");
        Ok(Box::pin(Watching {
            held: (self.kind == Kind::Counted).then(|| consumer.register(context.memory_pool())),
            input: self.input.execute(partition, context)?,
            stop: Arc::clone(&self.stop),
            pieces: self.kind == Kind::Pieces,
            rest: None,
            turn: Instant::now(),
        }))
    }
}

struct Watching {
    input: SendableRecordBatchStream,
    stop: Arc<Stop>,
    held: Option<MemoryReservation>,
    pieces: bool,
    rest: Option<RecordBatch>,
    turn: Instant,
}

impl Watching {
    /// A batch, or its first rows, the others being kept for later.
    fn piece(&mut self, batch: RecordBatch) -> RecordBatch {
        if !self.pieces || batch.num_rows() <= PROBE_ROWS {
            return batch;
        }
        self.rest = Some(batch.slice(PROBE_ROWS, batch.num_rows() - PROBE_ROWS));
        batch.slice(0, PROBE_ROWS)
    }
}

impl Stream for Watching {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.stop.check()?;
        if self.turn.elapsed() >= TURN {
            self.turn = Instant::now();
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(rest) = self.rest.take() {
            return Poll::Ready(Some(Ok(self.piece(rest))));
        }
        let Some(batch) = ready!(self.input.as_mut().poll_next(context)?) else {
            return Poll::Ready(None);
        };
        if let Some(held) = &self.held {
            held.try_grow(batch.columns().iter().map(slice_bytes).sum())?;
        }
        Poll::Ready(Some(Ok(self.piece(batch))))
    }
}

impl RecordBatchStream for Watching {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}
