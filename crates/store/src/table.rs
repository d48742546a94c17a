//! The tables that SQL sees: `logs` over a snapshot of the recent tier, and `runs`. Owns what DataFusion may push
//! into a scan; both are read-only and never change while a query runs.

use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use runstone_record::Column;
use runstone_record::time::parse_rfc3339;
use runstone_record::wire::RunBody;

use crate::columns::{logs_schema, runs_schema};
use crate::filter::Filter;
use crate::recent::{Older, Snapshot};
use crate::scan::LogsScan;
use crate::sources::{SourceRow, labels_json};

/// Where the tables `runs` and `sources` come from.
pub trait RunsSource: Send + Sync + std::fmt::Debug {
    /// Every run, as it stands now.
    fn snapshot(&self) -> Vec<RunBody>;

    /// What is known of source systems.
    fn sources(&self) -> Vec<SourceRow> {
        Vec::new()
    }
}

/// No runs: for a store without their consumer.
#[derive(Debug)]
pub struct NoRuns;

impl RunsSource for NoRuns {
    fn snapshot(&self) -> Vec<RunBody> {
        Vec::new()
    }
}

/// `logs`, as it was in one moment.
#[derive(Debug)]
pub(crate) struct LogsTable {
    pub(crate) snapshot: Snapshot,
    pub(crate) older: Arc<dyn Older>,
}

#[async_trait::async_trait]
impl TableProvider for LogsTable {
    fn schema(&self) -> SchemaRef {
        logs_schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let projection: Vec<Column> = match projection {
            Some(places) => places.iter().filter_map(|place| Column::ALL.get(*place).copied()).collect(),
            None => Column::ALL.to_vec(),
        };
        let schema = DFSchema::try_from(logs_schema())?;
        let mut taken = Vec::with_capacity(filters.len());
        for filter in filters {
            let filter = state.create_physical_expr(filter.clone(), &schema)?;
            taken.extend(Filter::new(&filter));
        }
        // A filter that cannot be taken here after all stands above the scan only if it was called unsupported.
        if taken.len() != filters.len() {
            return Err(datafusion::common::DataFusionError::Internal(
                "scan of logs was given a filter that it does not take".to_owned(),
            ));
        }
        let partitions = state.config().target_partitions();
        let scan = LogsScan::new(&self.snapshot, Arc::clone(&self.older), projection, partitions)
            .with_filters(taken)?
            .with_limit(limit);
        Ok(Arc::new(scan))
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(filters
            .iter()
            .map(|filter| match is_plain(filter) {
                true => TableProviderFilterPushDown::Exact,
                false => TableProviderFilterPushDown::Unsupported,
            })
            .collect())
    }
}

/// Does a condition look at one record alone, and always give the same answer?
fn is_plain(filter: &Expr) -> bool {
    let mut plain = !filter.is_volatile();
    let walked = filter.apply(|expr| {
        plain &= !matches!(
            expr,
            Expr::ScalarSubquery(_)
                | Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::Placeholder(_)
        );
        Ok(TreeNodeRecursion::Continue)
    });
    plain && walked.is_ok()
}

/// `runs`, as the consumer has them when a query begins to read.
#[derive(Debug)]
pub(crate) struct RunsTable {
    source: Arc<dyn RunsSource>,
    /// Taken once, however often a query names the table.
    taken: OnceLock<RecordBatch>,
}

impl RunsTable {
    pub(crate) fn new(source: Arc<dyn RunsSource>) -> Self {
        Self { source, taken: OnceLock::new() }
    }

    fn batch(&self) -> Result<RecordBatch> {
        if let Some(batch) = self.taken.get() {
            return Ok(batch.clone());
        }
        let batch = runs_batch(&self.source.snapshot())?;
        Ok(self.taken.get_or_init(|| batch).clone())
    }
}

#[async_trait::async_trait]
impl TableProvider for RunsTable {
    fn schema(&self) -> SchemaRef {
        runs_schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let batch = self.batch()?;
        let source = MemorySourceConfig::try_new(&[vec![batch]], runs_schema(), projection.cloned())?;
        let plan = datafusion::datasource::source::DataSourceExec::from_data_source(source.with_limit(limit));
        Ok(plan)
    }
}

fn runs_batch(runs: &[RunBody]) -> Result<RecordBatch> {
    let text =
        |get: fn(&RunBody) -> Option<&str>| -> ArrayRef { Arc::new(runs.iter().map(get).collect::<StringArray>()) };
    let time = |get: fn(&RunBody) -> Option<&str>| -> ArrayRef {
        let times: TimestampMicrosecondArray =
            runs.iter().map(|run| get(run).and_then(|text| parse_rfc3339(text).ok())).collect();
        Arc::new(times.with_timezone("UTC"))
    };
    let count = |get: fn(&RunBody) -> u64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(runs.iter().map(|run| i64::try_from(get(run)).unwrap_or(i64::MAX))))
    };
    let columns: Vec<ArrayRef> = vec![
        text(|run| Some(&run.run_id)),
        text(|run| Some(&run.state)),
        text(|run| run.source_system.as_deref()),
        text(|run| run.stage.as_deref()),
        text(|run| run.title.as_deref()),
        time(|run| Some(&run.started_at)),
        time(|run| run.ended_at.as_deref()),
        time(|run| Some(&run.last_at)),
        Arc::new(Float64Array::from_iter_values(runs.iter().map(|run| run.duration))),
        count(|run| run.records),
        count(|run| run.warnings),
        count(|run| run.errors),
        Arc::new(runs.iter().map(|run| run.row_count).collect::<Int64Array>()),
        text(|run| run.failure.as_deref()),
        count(|run| run.last_position),
        text(|run| run.environment.as_deref()),
        text(|run| run.owner.as_deref()),
        Arc::new(runs.iter().map(|run| Some(labels_json(&run.labels))).collect::<StringArray>()),
    ];
    Ok(RecordBatch::try_new(runs_schema(), columns)?)
}
