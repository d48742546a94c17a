//! The scan of `logs`: what is read in which order, and what DataFusion may push into it. Owns pruning, statistics
//! and how a plan shows them.
//!
//! Memory, the journal and the lake stand behind one operator, and not behind a union of three: its partitions share
//! one queue, the newest records first, so that the first rows of a page rule the lake's files out before any of them
//! is opened.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ColumnStatistics, DataFusionError, Result, ScalarValue, Statistics};
use datafusion::config::ConfigOptions;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr, conjunction, expressions};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation, PushedDown,
};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricValue, MetricsSet,
};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SortOrderPushdownResult,
};
use runstone_record::Column;

use crate::columns::logs_schema;
use crate::filter::Filter;
use crate::lake::{FileReader, LakeView};
use crate::read::{Counts, Files, Reading, Task};
use crate::recent::{Older, Snapshot};
use crate::unit::{Unit, may_pass};

/// Partitions that wait for a store that is far away.
const FAR_PARTITIONS: usize = 8;

/// A scan over one snapshot.
#[derive(Debug, Clone)]
pub(crate) struct LogsScan {
    older: Arc<dyn Older>,
    lake: Option<Arc<LakeView>>,
    projection: Vec<Column>,
    filters: Vec<Filter>,
    limit: Option<usize>,
    /// In the order in which they are read.
    units: Vec<Unit>,
    pruned: Pruned,
    /// Are the newest read first? Most questions are about now, and the first rows narrow what else must be read.
    newest_first: bool,
    /// The order that is asked for, where it is one of time.
    order: Vec<PhysicalSortExpr>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    run: OnceLock<Run>,
}

/// Units that filters ruled out while the query was planned.
#[derive(Debug, Clone, Copy, Default)]
struct Pruned {
    /// In memory and in the journal.
    recent: usize,
    /// Files of other days.
    by_date: usize,
    by_statistics: usize,
}

/// A scan that runs.
#[derive(Debug, Clone)]
struct Run {
    task: Arc<Task>,
    started: Arc<Mutex<Vec<usize>>>,
}

impl LogsScan {
    pub(crate) fn new(snapshot: &Snapshot, older: Arc<dyn Older>, projection: Vec<Column>, partitions: usize) -> Self {
        // A store far away answers late, but many at once.
        let is_far = snapshot.lake.as_ref().is_some_and(|lake| !lake.is_local() && !lake.files().is_empty());
        let partitions = if is_far { partitions.max(FAR_PARTITIONS) } else { partitions };
        let mut units = Unit::all(snapshot);
        units.sort_by_key(Unit::newest);
        let parts: usize = units.iter().map(Unit::count_parts).sum();
        let fields: Vec<_> =
            projection.iter().map(|column| Arc::clone(&logs_schema().fields()[column.index()])).collect();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions.clamp(1, parts.max(1))),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            older,
            lake: snapshot.lake.clone(),
            projection,
            filters: Vec::new(),
            limit: None,
            units,
            pruned: Pruned::default(),
            newest_first: true,
            order: Vec::new(),
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
            run: OnceLock::new(),
        }
    }

    /// At most so many rows of each partition.
    pub(crate) fn with_limit(mut self, limit: Option<usize>) -> Self {
        self.limit = limit;
        self
    }

    /// Applies filters, and forgets units that cannot pass.
    pub(crate) fn with_filters(mut self, filters: Vec<Filter>) -> Result<Self> {
        let constant: Vec<&Filter> = filters.iter().filter(|filter| !filter.is_dynamic()).collect();
        let of_date: Vec<&Filter> =
            constant.iter().filter(|filter| filter.columns == [Column::Date]).copied().collect();
        self.pruned.by_date += self.prune(&of_date)?.1;
        let (recent, files) = self.prune(&constant)?;
        self.pruned.recent += recent;
        self.pruned.by_statistics += files;
        self.filters.extend(filters);
        // Those that grow narrower leave the fewest rows to the others.
        self.filters.sort_by_key(|filter| !filter.is_dynamic());
        Ok(self)
    }

    /// Forgets units that cannot pass: how many of the recent ones, and how many files.
    fn prune(&mut self, filters: &[&Filter]) -> Result<(usize, usize)> {
        let mut may = may_pass(filters, &self.units)?.into_iter();
        let (mut recent, mut files) = (0, 0);
        self.units.retain(|unit| {
            let stays = may.next().unwrap_or(true);
            match unit {
                Unit::File(..) => files += usize::from(!stays),
                _ => recent += usize::from(!stays),
            }
            stays
        });
        Ok((recent, files))
    }

    /// What all partitions share, made when the first of them starts.
    fn run(&self, partition: usize, context: &TaskContext) -> Result<Arc<Task>> {
        let run = match self.run.get() {
            Some(run) => run,
            None => {
                let task = self.task(context)?;
                self.run.get_or_init(|| Run { task: Arc::new(task), started: Arc::default() })
            }
        };
        let mut started = run.started.lock().unwrap_or_else(PoisonError::into_inner);
        if started.contains(&partition) {
            return Err(DataFusionError::Internal("a scan of logs was started twice".to_owned()));
        }
        started.push(partition);
        Ok(Arc::clone(&run.task))
    }

    fn task(&self, context: &TaskContext) -> Result<Task> {
        let filters = self.filters.iter().map(Filter::with_values).collect::<Result<Vec<_>>>()?;
        let late: Vec<&Filter> = filters
            .iter()
            .zip(&self.filters)
            .filter(|(now, before)| before.is_dynamic() && !now.is_dynamic())
            .map(|(now, _)| now)
            .collect();
        let mut may = may_pass(&late, &self.units)?.into_iter();
        let units = self.units.iter().filter(|_| may.next().unwrap_or(true));
        let units = units.cloned().flat_map(|unit| unit.parts(!self.order.is_empty(), self.newest_first));
        let files = match &self.lake {
            Some(lake) if self.count_files() > 0 => Some(self.files(lake, &filters, context)?),
            _ => None,
        };
        Ok(Task {
            older: Arc::clone(&self.older),
            schema: self.schema(),
            projection: self.projection.clone(),
            queue: Mutex::new(units.collect::<VecDeque<_>>()),
            opposites: filters.iter().map(Filter::opposite).collect(),
            filters,
            files,
            newest_first: self.newest_first,
            rows_per_batch: context.session_config().batch_size(),
        })
    }

    fn files(&self, lake: &LakeView, filters: &[Filter], context: &TaskContext) -> Result<Files> {
        let (simple, rest): (Vec<Filter>, Vec<Filter>) = filters.iter().cloned().partition(Filter::is_simple);
        let mut columns = self.projection.clone();
        for column in rest.iter().flat_map(|filter| &filter.columns) {
            if !columns.contains(column) {
                columns.push(*column);
            }
        }
        let (runtime, session) = (context.runtime_env(), context.session_config());
        let mut reader = FileReader::new(Arc::clone(lake.store()), &columns, &runtime, session)?;
        if !simple.is_empty() {
            reader = reader.with_filter(conjunction(simple.iter().map(|filter| Arc::clone(filter.full()))))?;
        }
        if !self.order.is_empty() {
            reader = reader.with_order(&self.order)?;
        }
        Ok(Files { reader, columns, rest })
    }

    fn count_files(&self) -> usize {
        self.units.iter().filter(|unit| matches!(unit, Unit::File(..))).count()
    }

    /// What is known of the rows without reading them. Which partition reads which of them is not known.
    fn statistics(&self, partition: Option<usize>) -> Statistics {
        let rows: Option<usize> = self.units.iter().map(Unit::rows).sum();
        let limited = rows.filter(|rows| self.limit.is_none_or(|limit| *rows <= limit));
        let (Some(rows), None, true) = (limited, partition, self.filters.is_empty()) else {
            let mut unknown = Statistics::new_unknown(&self.schema());
            let most = self.limit.into_iter().chain(rows).min();
            unknown.num_rows = most.map_or(Precision::Absent, Precision::Inexact);
            return unknown;
        };
        let columns = self.projection.iter().map(|column| match column {
            Column::Timestamp => {
                let time = |micros| ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into()));
                let known = bounds(self.units.iter().map(Unit::times), time);
                if self.units.iter().all(Unit::is_exact) { known } else { known.to_inexact() }
            }
            Column::Position => bounds(self.units.iter().map(Unit::positions), |position| {
                ScalarValue::Int64(i64::try_from(position).ok())
            }),
            _ => ColumnStatistics::new_unknown(),
        });
        Statistics {
            num_rows: Precision::Exact(rows),
            total_byte_size: Precision::Absent,
            column_statistics: columns.collect(),
        }
    }
}

/// The least and the greatest of some ranges, if each of them is known.
fn bounds<T: Ord + Copy>(
    ranges: impl Iterator<Item = Option<(T, T)>>,
    scalar: impl Fn(T) -> ScalarValue,
) -> ColumnStatistics {
    let mut known = ColumnStatistics::new_unknown();
    known.null_count = Precision::Exact(0);
    let ranges: Option<Vec<(T, T)>> = ranges.collect();
    let least = ranges.iter().flatten().map(|range| range.0).min();
    let greatest = ranges.iter().flatten().map(|range| range.1).max();
    if let (Some(least), Some(greatest)) = (least, greatest) {
        known.min_value = Precision::Exact(scalar(least));
        known.max_value = Precision::Exact(scalar(greatest));
    }
    known
}

impl DisplayAs for LogsScan {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let older = self.units.iter().filter(|unit| matches!(unit, Unit::Evicted(_))).count();
        let files = self.count_files();
        let columns: Vec<_> = self.projection.iter().map(|column| column.name()).collect();
        if kind == DisplayFormatType::TreeRender {
            return write!(f, "columns={}", columns.join(", "));
        }
        write!(
            f,
            "LogsScan: partitions={}, chunks={}, older_ranges={older}, pruned={}",
            self.properties.partitioning.partition_count(),
            self.units.len() - older - files,
            self.pruned.recent
        )?;
        if let Some(lake) = &self.lake {
            let (version, all) = (lake.version(), lake.files().len());
            let Pruned { by_date, by_statistics, .. } = self.pruned;
            write!(f, ", lake=[version={version}, files={files} of {all}")?;
            write!(f, ", pruned_by_date={by_date}, pruned_by_statistics={by_statistics}]")?;
        }
        write!(f, ", columns=[{}]", columns.join(", "))?;
        if let Some(limit) = self.limit {
            write!(f, ", limit={limit}")?;
        }
        if !self.filters.is_empty() {
            let filters: Vec<_> = self.filters.iter().map(ToString::to_string).collect();
            write!(f, ", filters=[{}]", filters.join(", "))?;
        }
        Ok(())
    }
}

impl ExecutionPlan for LogsScan {
    fn name(&self) -> &'static str {
        "LogsScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        each: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for filter in &self.filters {
            if each(filter.full())? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let task = self.run(partition, &context)?;
        let count = |name| MetricBuilder::new(&self.metrics).counter(name, partition);
        let counts = Counts {
            skipped: count("chunks_skipped"),
            files: count("files_read"),
            files_skipped: count("files_skipped"),
        };
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        Ok(Box::pin(Reading::new(task, self.limit, metrics, counts)))
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self { run: OnceLock::new(), ..Self::clone(&self) }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        let mut metrics = self.metrics.clone_inner();
        let files = self.run.get().and_then(|run| run.task.files.as_ref());
        for metric in files.iter().flat_map(|files| files.reader.metrics().iter().cloned().collect::<Vec<_>>()) {
            // What we count ourselves is not counted twice.
            let is_ours = matches!(
                metric.value(),
                MetricValue::OutputRows(_)
                    | MetricValue::OutputBytes(_)
                    | MetricValue::OutputBatches(_)
                    | MetricValue::ElapsedCompute(_)
                    | MetricValue::StartTimestamp(_)
                    | MetricValue::EndTimestamp(_)
            );
            if !is_ours {
                metrics.push(metric);
            }
        }
        Some(metrics)
    }

    fn statistics_from_inputs(&self, _inputs: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        Ok(Arc::new(self.statistics(args.partition())))
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(Arc::new(self.clone().with_limit(limit)))
    }

    fn fetch(&self) -> Option<usize> {
        self.limit
    }

    fn handle_child_pushdown_result(
        &self,
        _phase: FilterPushdownPhase,
        result: ChildPushdownResult,
        _config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        if self.limit.is_some() {
            // A filter above a limit must not come to stand below it.
            return Ok(FilterPushdownPropagation::all_unsupported(result));
        }
        let taken: Vec<Option<Filter>> =
            result.parent_filters.iter().map(|parent| Filter::new(&parent.filter)).collect();
        let answers =
            taken.iter().map(|filter| if filter.is_some() { PushedDown::Yes } else { PushedDown::No }).collect();
        let updated = self.clone().with_filters(taken.into_iter().flatten().collect())?;
        Ok(FilterPushdownPropagation::with_parent_pushdown_result(answers).with_updated_node(Arc::new(updated)))
    }

    fn try_pushdown_sort(&self, order: &[PhysicalSortExpr]) -> Result<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        let by_time = order.first().filter(|sort| {
            sort.expr
                .downcast_ref::<expressions::Column>()
                .is_some_and(|column| [Column::Timestamp.name(), Column::Position.name()].contains(&column.name()))
        });
        let Some(sort) = by_time else {
            return Ok(SortOrderPushdownResult::Unsupported);
        };
        let mut inner = self.clone();
        inner.newest_first = sort.options.descending;
        inner.order = order.to_vec();
        if inner.newest_first {
            inner.units.sort_by_key(Unit::newest);
        } else {
            inner.units.sort_by_key(Unit::oldest);
        }
        Ok(SortOrderPushdownResult::Inexact { inner: Arc::new(inner) })
    }
}
