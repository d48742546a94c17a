//! The scan of `logs`: which units each partition reads, and what DataFusion may push into it. Owns pruning,
//! statistics and the order in which units are read.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ColumnStatistics, Result, ScalarValue, Statistics};
use datafusion::config::ConfigOptions;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr, expressions};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation, PushedDown,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SortOrderPushdownResult,
};
use runstone_record::Column;

use crate::columns::logs_schema;
use crate::filter::{Filter, Unit, may_pass};
use crate::read::{Reading, Task};
use crate::recent::{Older, Snapshot};

/// A scan over one snapshot.
#[derive(Debug, Clone)]
pub(crate) struct LogsScan {
    older: Arc<dyn Older>,
    projection: Vec<Column>,
    filters: Vec<Filter>,
    limit: Option<usize>,
    /// The units of each partition, in the order in which they are read.
    partitions: Vec<Vec<Unit>>,
    /// Units that the filters ruled out.
    pruned: usize,
    /// Are the newest read first? Most questions are about now, and the first rows narrow what else must be read.
    newest_first: bool,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl LogsScan {
    pub(crate) fn new(snapshot: &Snapshot, older: Arc<dyn Older>, projection: Vec<Column>, partitions: usize) -> Self {
        let evicted = snapshot.evicted.iter().cloned().map(Unit::Evicted);
        let mut units: Vec<Unit> = evicted.chain(snapshot.chunks.iter().cloned().map(Unit::Chunk)).collect();
        units.sort_by_key(|unit| std::cmp::Reverse(unit.times().1));
        let count = partitions.clamp(1, units.len().max(1));
        let mut shares: Vec<Vec<Unit>> = vec![Vec::new(); count];
        for (place, unit) in units.into_iter().enumerate() {
            shares[place % count].push(unit);
        }
        let fields: Vec<_> =
            projection.iter().map(|column| Arc::clone(&logs_schema().fields()[column.index()])).collect();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(count),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            older,
            projection,
            filters: Vec::new(),
            limit: None,
            partitions: shares,
            pruned: 0,
            newest_first: true,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
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
        for units in &mut self.partitions {
            let mut may = may_pass(&constant, units)?.into_iter();
            let before = units.len();
            units.retain(|_| may.next().unwrap_or(true));
            self.pruned += before - units.len();
        }
        self.filters.extend(filters);
        // Those that grow narrower leave the fewest rows to the others.
        self.filters.sort_by_key(|filter| !filter.is_dynamic());
        Ok(self)
    }

    fn statistics(&self, partition: Option<usize>) -> Statistics {
        let units: Vec<&Unit> = match partition {
            Some(partition) => self.partitions.get(partition).into_iter().flatten().collect(),
            None => self.partitions.iter().flatten().collect(),
        };
        let rows = units.iter().map(|unit| unit.rows()).fold(0, usize::saturating_add);
        if !self.filters.is_empty() || self.limit.is_some_and(|limit| limit < rows) {
            let mut unknown = Statistics::new_unknown(&self.schema());
            unknown.num_rows = Precision::Inexact(self.limit.map_or(rows, |limit| limit.min(rows)));
            return unknown;
        }
        let columns = self.projection.iter().map(|column| match column {
            Column::Timestamp => {
                let bound = |micros| ScalarValue::TimestampMicrosecond(micros, Some("UTC".into()));
                let known = ranges(
                    bound(units.iter().map(|unit| unit.times().0).min()),
                    bound(units.iter().map(|unit| unit.times().1).max()),
                );
                if units.iter().all(|unit| unit.is_exact()) { known } else { known.to_inexact() }
            }
            Column::Position => {
                let bound = |position: Option<u64>| ScalarValue::Int64(position.and_then(|at| i64::try_from(at).ok()));
                ranges(
                    bound(units.iter().map(|unit| unit.positions().0).min()),
                    bound(units.iter().map(|unit| unit.positions().1).max()),
                )
            }
            _ => ColumnStatistics::new_unknown(),
        });
        Statistics {
            num_rows: Precision::Exact(rows),
            total_byte_size: Precision::Absent,
            column_statistics: columns.collect(),
        }
    }
}

fn ranges(least: ScalarValue, greatest: ScalarValue) -> ColumnStatistics {
    let mut known = ColumnStatistics::new_unknown();
    known.null_count = Precision::Exact(0);
    known.min_value = Precision::Exact(least);
    known.max_value = Precision::Exact(greatest);
    known
}

impl DisplayAs for LogsScan {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = || self.partitions.iter().flatten();
        let older = units().filter(|unit| matches!(unit, Unit::Evicted(_))).count();
        let columns: Vec<_> = self.projection.iter().map(|column| column.name()).collect();
        if kind == DisplayFormatType::TreeRender {
            return write!(f, "columns={}", columns.join(", "));
        }
        write!(
            f,
            "LogsScan: partitions={}, chunks={}, older_ranges={older}, pruned={}, columns=[{}]",
            self.partitions.len(),
            units().count() - older,
            self.pruned,
            columns.join(", ")
        )?;
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
        let task = Task {
            older: Arc::clone(&self.older),
            schema: self.schema(),
            projection: self.projection.clone(),
            filters: self.filters.clone(),
            newest_first: self.newest_first,
            rows_per_batch: context.session_config().batch_size(),
        };
        let skipped = MetricBuilder::new(&self.metrics).counter("chunks_skipped", partition);
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let units = self.partitions.get(partition).map_or(&[][..], Vec::as_slice);
        Ok(Box::pin(Reading::new(task, units, self.limit, metrics, skipped)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
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
        for units in &mut inner.partitions {
            if inner.newest_first {
                units.sort_by_key(|unit| std::cmp::Reverse(unit.times().1));
            } else {
                units.sort_by_key(|unit| unit.times().0);
            }
        }
        Ok(SortOrderPushdownResult::Inexact { inner: Arc::new(inner) })
    }
}
