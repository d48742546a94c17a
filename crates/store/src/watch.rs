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
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::joins::{CrossJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::windows::WindowAggExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, RecordBatchStream};
use futures::Stream;
use runstone_record::limits::SQL_STEP_BYTES;

use crate::growth::{slice_bytes, too_large};
use crate::parted::Parted;
use crate::weight::Weight;

/// After so long others get their turn.
const TURN: Duration = Duration::from_millis(10);
/// Rows that a join without a key compares with its whole other side at once.
const PROBE_ROWS: usize = 128;
/// Bytes that a batch of a join has without being counted before it is made.
const WIDE_BYTES: usize = 16 << 20;

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
        let wrap = |node, duty| Watched::around(node, stop, duty);
        if node.children().is_empty() {
            return Ok(Transformed::yes(wrap(node, Duty::None)));
        }
        let every_pair = node.is::<NestedLoopJoinExec>() || node.is::<CrossJoinExec>();
        let is_join = every_pair || node.name().contains("Join");
        // What is parted by its values is copied, and waits until there is a batch of it for whoever gets it.
        if let Some(parted) = Parted::by(node.as_ref()) {
            let weight = Weight::of(node.as_ref())?.map(Arc::new);
            let input = Arc::clone(node.children()[0]);
            let input = match weight {
                Some(weight) => wrap(input, Duty::Made(weight)),
                None => input,
            };
            let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep);
            let node = node.replace_children(vec![wrap(input, Duty::Parted(parted.clone()))], options)?;
            return Ok(Transformed::yes(wrap(node, Duty::Joined(parted))));
        }
        let duties: Vec<Duty> = match () {
            () if every_pair => vec![Duty::Repeated, Duty::Compared],
            () if is_join => node.children().iter().map(|_| Duty::Repeated).collect(),
            () if node.is::<WindowAggExec>() => vec![Duty::Kept(Weight::of(node.as_ref())?.map(Arc::new))],
            () => match Weight::of(node.as_ref())? {
                Some(weight) => vec![Duty::Made(Arc::new(weight))],
                None if node.is::<UnnestExec>() => return Ok(Transformed::yes(wrap(node, Duty::Handed))),
                None => return Ok(Transformed::no(node)),
            },
        };
        let children: Vec<_> =
            node.children().into_iter().zip(duties).map(|(child, duty)| wrap(Arc::clone(child), duty)).collect();
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep);
        let node = node.replace_children(children, options)?;
        Ok(Transformed::yes(if is_join { wrap(node, Duty::Handed) } else { node }))
    })
    .data()
}

/// What is done with rows beside stopping and taking turns. What counts as memory of the query does so until the next rows
/// are asked for.
#[derive(Debug, Clone)]
enum Duty {
    None,
    /// They count.
    Handed,
    /// A join repeats each of them: rows that are wide count as often as a batch has rows.
    Repeated,
    /// The same, and they come a few at a time.
    Compared,
    /// A step makes so much of them: it counts, and few enough rows come at a time.
    Made(Arc<Weight>),
    /// They count until they come out of the step that they go into.
    Parted(Parted),
    /// They came out of it.
    Joined(Parted),
    /// Whoever reads keeps all of them, twice, and what it makes of them: all that counts, to the end.
    Kept(Option<Arc<Weight>>),
}

#[derive(Debug)]
struct Watched {
    input: Arc<dyn ExecutionPlan>,
    stop: Arc<Stop>,
    duty: Duty,
}

impl Watched {
    fn around(input: Arc<dyn ExecutionPlan>, stop: &Arc<Stop>, duty: Duty) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self { input, stop: Arc::clone(stop), duty })
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
        Ok(Self::around(input, &self.stop, self.duty.clone()))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let consumer = MemoryConsumer::new("rows of a step");
        Ok(Box::pin(Watching {
            held: consumer.register(context.memory_pool()),
            pool: Arc::clone(context.memory_pool()),
            batch_rows: context.session_config().batch_size(),
            input: self.input.execute(partition, context)?,
            stop: Arc::clone(&self.stop),
            duty: self.duty.clone(),
            rest: None,
            has_ended: false,
            turn: Instant::now(),
        }))
    }
}

struct Watching {
    input: SendableRecordBatchStream,
    stop: Arc<Stop>,
    duty: Duty,
    held: MemoryReservation,
    pool: Arc<dyn MemoryPool>,
    batch_rows: usize,
    rest: Option<RecordBatch>,
    has_ended: bool,
    turn: Instant,
}

impl Watching {
    /// A batch, or its first rows, the others being kept for later.
    fn piece(&mut self, batch: RecordBatch) -> Result<RecordBatch> {
        let rows = match &self.duty {
            Duty::Compared => PROBE_ROWS,
            Duty::Made(weight) => self.afforded(weight, &batch)?,
            _ => return Ok(batch),
        };
        if rows >= batch.num_rows() {
            return Ok(batch);
        }
        self.rest = Some(batch.slice(rows, batch.num_rows() - rows));
        Ok(batch.slice(0, rows))
    }

    /// How many of the first rows a step may have at once. Where memory is short it has fewer.
    fn afforded(&self, weight: &Weight, batch: &RecordBatch) -> Result<usize> {
        let (mut rows, mut bytes) = weight.rows_within(batch, SQL_STEP_BYTES);
        loop {
            match self.held.try_resize(bytes) {
                Ok(()) => return Ok(rows),
                Err(short) if rows <= 1 => return Err(short),
                Err(_) => (rows, bytes) = weight.rows_within(batch, bytes / 4),
            }
        }
    }

    /// Counts a batch that has just come.
    fn count(&self, batch: &RecordBatch) -> Result<()> {
        let bytes = || batch.columns().iter().map(slice_bytes).sum::<usize>();
        match &self.duty {
            Duty::None => Ok(()),
            Duty::Parted(parted) => parted.comes(batch, &self.pool),
            Duty::Joined(parted) => {
                parted.goes(batch, &self.pool);
                Ok(())
            }
            Duty::Made(weight) => weight.refused(batch).map_or(Ok(()), |name| Err(too_large(name))),
            Duty::Handed => self.held.try_resize(bytes()),
            Duty::Repeated | Duty::Compared => {
                let repeated = bytes() / batch.num_rows().max(1) * self.batch_rows;
                let wide = repeated.saturating_sub(WIDE_BYTES);
                self.held.try_resize(self.held.size().max(wide))
            }
            Duty::Kept(weight) => {
                let made = weight.as_ref().map_or(0, |weight| weight.bytes(batch));
                self.held.try_grow(2 * bytes() + made)
            }
        }
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
            return Poll::Ready(Some(self.piece(rest)));
        }
        if matches!(self.duty, Duty::Handed | Duty::Made(_)) {
            self.held.free();
        }
        let Some(batch) = ready!(self.input.as_mut().poll_next(context)?) else {
            self.has_ended = true;
            return Poll::Ready(None);
        };
        self.count(&batch)?;
        Poll::Ready(Some(self.piece(batch)))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Duty::Joined(parted) = &self.duty
            && !self.has_ended
        {
            parted.leave(&self.pool);
        }
    }
}

impl RecordBatchStream for Watching {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}
