//! The table `sources`: what the server's configuration says of source systems. Owns its columns; refuses to know where
//! its rows come from.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, OnceLock};

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::table::RunsSource;

/// A source system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceRow {
    /// Its name.
    pub source_system: String,
    /// Where it runs.
    pub environment: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Anything else.
    pub labels: BTreeMap<String, String>,
}

/// Labels as SQL has them: a JSON object, as text.
pub(crate) fn labels_json(labels: &BTreeMap<String, String>) -> String {
    serde_json::to_string(labels).unwrap_or_else(|_| "{}".to_owned())
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name, nullable| Field::new(name, DataType::Utf8, nullable);
    let fields = [text("source_system", false), text("environment", true), text("owner", true), text("labels", false)];
    Arc::new(Schema::new(fields.to_vec()))
});

/// The table. Its rows are made for who reads it, and not for each page that has it beside its own.
#[derive(Debug)]
pub(crate) struct SourcesTable {
    source: Arc<dyn RunsSource>,
    /// Taken once, however often a query names the table.
    taken: OnceLock<RecordBatch>,
}

impl SourcesTable {
    pub(crate) fn new(source: Arc<dyn RunsSource>) -> Self {
        Self { source, taken: OnceLock::new() }
    }

    fn batch(&self) -> Result<RecordBatch> {
        if let Some(batch) = self.taken.get() {
            return Ok(batch.clone());
        }
        let batch = sources_batch(&self.source.sources())?;
        Ok(self.taken.get_or_init(|| batch).clone())
    }
}

#[async_trait::async_trait]
impl TableProvider for SourcesTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&SCHEMA)
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
        let source = MemorySourceConfig::try_new(&[vec![self.batch()?]], self.schema(), projection.cloned())?;
        Ok(DataSourceExec::from_data_source(source.with_limit(limit)))
    }
}

fn sources_batch(rows: &[SourceRow]) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| Some(row.source_system.as_str())).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.environment.as_deref()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.owner.as_deref()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| Some(labels_json(&row.labels))).collect::<StringArray>()),
    ];
    Ok(RecordBatch::try_new(Arc::clone(&SCHEMA), columns)?)
}
