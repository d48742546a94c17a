//! The memory of rows that a plan parts by their values, to group or to join them: each part is copied, and waits until there is
//! a batch of it, of which DataFusion counts nothing. Owns how much is on its way; refuses to touch a row.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait, RecordBatch};
use datafusion::common::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, Partitioning};

use crate::growth::slice_bytes;

/// All that is on its way through a step, whichever of its parts it goes to.
#[derive(Debug, Clone)]
pub(crate) struct Parted(Arc<Way>);

#[derive(Debug)]
struct Way {
    held: OnceLock<MemoryReservation>,
    parts: usize,
    /// Parts that nobody reads any more: what would go there is thrown away.
    left: AtomicUsize,
}

impl Parted {
    /// What a step parts; none, where it does not or copies nothing.
    pub(crate) fn by(step: &dyn ExecutionPlan) -> Option<Self> {
        let Partitioning::Hash(_, parts) = step.downcast_ref::<RepartitionExec>()?.partitioning() else { return None };
        Some(Self(Arc::new(Way { held: OnceLock::new(), parts: *parts, left: AtomicUsize::new(0) })))
    }

    fn held(&self, pool: &Arc<dyn MemoryPool>) -> &MemoryReservation {
        self.0.held.get_or_init(|| MemoryConsumer::new("rows on their way").register(pool))
    }

    /// Rows go in. Of each part that is left there are about as many as of any other.
    pub(crate) fn comes(&self, batch: &RecordBatch, pool: &Arc<dyn MemoryPool>) -> Result<()> {
        let read = self.0.parts.saturating_sub(self.0.left.load(Ordering::Relaxed));
        self.held(pool).try_grow(bytes(batch) * read / self.0.parts.max(1))
    }

    /// Rows come out.
    pub(crate) fn goes(&self, batch: &RecordBatch, pool: &Arc<dyn MemoryPool>) {
        self.shrink(bytes(batch), pool);
    }

    /// A part is left before its end.
    pub(crate) fn leave(&self, pool: &Arc<dyn MemoryPool>) {
        let read = self.0.parts.saturating_sub(self.0.left.fetch_add(1, Ordering::Relaxed));
        self.shrink(self.held(pool).size() / read.max(1), pool);
    }

    fn shrink(&self, bytes: usize, pool: &Arc<dyn MemoryPool>) {
        let held = self.held(pool);
        // Copied together, rows may take a little more than before.
        if held.try_shrink(bytes).is_err() {
            held.free();
        }
    }
}

fn bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(copied_bytes).sum()
}

/// What the rows of an array take once they were copied out of it: of lists their own part of the values, of words that a
/// dictionary has their numbers.
fn copied_bytes(array: &ArrayRef) -> usize {
    if let Some(lists) = array.as_list_opt::<i32>() {
        return within(lists.value_offsets(), lists.values());
    }
    if let Some(lists) = array.as_list_opt::<i64>() {
        return within(lists.value_offsets(), lists.values());
    }
    if let Some(maps) = array.as_map_opt() {
        let entries: ArrayRef = Arc::new(maps.entries().clone());
        return within(maps.value_offsets(), &entries);
    }
    if let Some(structs) = array.as_struct_opt() {
        return structs.columns().iter().map(copied_bytes).sum();
    }
    match array.as_any_dictionary_opt() {
        Some(words) => words.keys().to_data().get_slice_memory_size().unwrap_or_default(),
        None => slice_bytes(array),
    }
}

fn within<O: OffsetSizeTrait>(ends: &[O], values: &ArrayRef) -> usize {
    let (Some(first), Some(last)) = (ends.first(), ends.last()) else { return 0 };
    size_of_val(ends) + copied_bytes(&values.slice(first.as_usize(), last.as_usize() - first.as_usize()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arrow::array::{ListArray, StringArray};
    use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
    use datafusion::common::DataFusionError;
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::execution::{SendableRecordBatchStream, TaskContext};
    use datafusion::physical_expr::expressions::Column;
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
    use futures::stream::{self, StreamExt};

    use super::*;
    use crate::watch::watch;

    const ROWS: usize = 20;
    const WIDE: usize = 100_000;

    /// A few wide rows, and then nothing for ever, or the end.
    #[derive(Debug)]
    struct Wide {
        schema: SchemaRef,
        ends: bool,
    }

    impl PartitionStream for Wide {
        fn schema(&self) -> &SchemaRef {
            &self.schema
        }

        fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
            let texts = (0..ROWS).map(|row| Some(row.to_string().repeat(WIDE / row.to_string().len())));
            let texts: ArrayRef = Arc::new(texts.collect::<StringArray>());
            let batch = RecordBatch::try_new(Arc::clone(&self.schema), vec![texts]);
            let rows = stream::iter([batch.map_err(DataFusionError::from)]);
            let schema = Arc::clone(&self.schema);
            match self.ends {
                true => Box::pin(RecordBatchStreamAdapter::new(schema, rows)),
                false => Box::pin(RecordBatchStreamAdapter::new(schema, rows.chain(stream::pending()))),
            }
        }
    }

    fn step(ends: bool) -> Arc<dyn ExecutionPlan> {
        let schema = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, true)]));
        let table = Wide { schema: Arc::clone(&schema), ends };
        let table = StreamingTableExec::try_new(schema, vec![Arc::new(table)], None, [], false, None).unwrap();
        let by = Partitioning::Hash(vec![Arc::new(Column::new("text", 0))], 2);
        Arc::new(RepartitionExec::try_new(Arc::new(table), by).unwrap())
    }

    fn parted(ends: bool) -> Arc<dyn ExecutionPlan> {
        watch(step(ends), &Arc::default()).unwrap()
    }

    fn context(pool: &Arc<dyn MemoryPool>) -> Arc<TaskContext> {
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::clone(pool)).build_arc().unwrap();
        Arc::new(TaskContext::default().with_runtime(runtime))
    }

    #[tokio::test]
    async fn rows_that_wait_between_partitions_count() {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1 << 30));
        let mut parts = parted(false).execute(0, context(&pool)).unwrap();
        let nothing = tokio::time::timeout(Duration::from_millis(200), parts.next()).await;
        assert!(nothing.is_err(), "a batch is full with so few rows: {nothing:?}");
        assert!(pool.reserved() >= ROWS * (WIDE - 1), "{}", pool.reserved());
        drop(parts);
        // What feeds the step is told to end, and does when it has its turn.
        let freed = async {
            while pool.reserved() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), freed).await.unwrap();
    }

    #[tokio::test]
    async fn rows_that_came_out_count_no_more_and_too_many_are_refused() {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1 << 30));
        let (plan, context_) = (parted(true), context(&pool));
        let mut rows = 0;
        for part in 0..2 {
            let batches: Vec<_> = plan.execute(part, Arc::clone(&context_)).unwrap().collect().await;
            rows += batches.into_iter().map(|batch| batch.unwrap().num_rows()).sum::<usize>();
        }
        assert_eq!((rows, pool.reserved()), (ROWS, 0));
        let little: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(ROWS * WIDE / 2));
        let error = parted(true).execute(0, context(&little)).unwrap().next().await.unwrap().unwrap_err();
        assert!(error.to_string().contains("rows on their way"), "{error}");
    }

    #[test]
    fn a_part_that_nobody_reads_counts_no_more() {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1 << 30));
        let parted = Parted::by(step(false).as_ref()).unwrap();
        let texts: ArrayRef = Arc::new((0..ROWS).map(|row| Some(row.to_string())).collect::<StringArray>());
        let batch = RecordBatch::try_from_iter([("text", texts)]).unwrap();
        let whole = bytes(&batch);
        let mut seen = Vec::new();
        for _ in 0..3 {
            parted.comes(&batch, &pool).unwrap();
            seen.push(pool.reserved());
            parted.leave(&pool);
            seen.push(pool.reserved());
        }
        // Of two parts: one is left, then both.
        let half = whole - whole / 2;
        assert_eq!(seen, [whole, half, half + whole / 2, 0, 0, 0]);
    }

    #[test]
    fn slices_count_for_their_own_rows() {
        let lists = (0..1_000).map(|row| Some((0..row % 7).map(Some)));
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists));
        let words: ArrayRef = Arc::new((0..1_000).map(|row| Some(format!("word {row}"))).collect::<StringArray>());
        for array in [lists, words] {
            let apart: usize = (0..1_000).step_by(100).map(|first| copied_bytes(&array.slice(first, 100))).sum();
            let whole = copied_bytes(&array);
            // Each slice has an end more of its own.
            assert!(apart >= whole && apart < whole + 1_000, "{apart} {whole}");
        }
    }
}
