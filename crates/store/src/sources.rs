//! The table `sources`: what the server's configuration says of source systems. Owns its columns; refuses to know where
//! its rows come from.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::common::Result;

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

pub(crate) fn sources_table(rows: &[SourceRow]) -> Result<Arc<dyn TableProvider>> {
    let text = |name, nullable| Field::new(name, DataType::Utf8, nullable);
    let fields = [text("source_system", false), text("environment", true), text("owner", true), text("labels", false)];
    let schema = Arc::new(Schema::new(fields.to_vec()));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| Some(row.source_system.as_str())).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.environment.as_deref()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.owner.as_deref()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| Some(labels_json(&row.labels))).collect::<StringArray>()),
    ];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
}
