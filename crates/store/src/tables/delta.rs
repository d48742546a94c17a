//! A Delta table's files, as its log has them. Owns what of a table cannot be read here; refuses to follow commits: the log
//! is looked at anew when there is a newer version.

use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::ScalarValue;
use futures::TryStreamExt;
use object_store::ObjectMeta;
use object_store::path::Path;
use runstone_record::limits::TABLE_FILES_MAX;

use super::TableError;
use super::partitions::scalar;
use crate::lake::{Base, decode_path};

/// Features that ask nothing of who reads the files of the log, where no file has what they bring.
const FEATURES: &[&str] =
    &["timestampNtz", "v2Checkpoint", "vacuumProtocolCheck", "deletionVectors", "columnMapping", "domainMetadata"];

/// What the log says.
pub(super) struct Contents {
    /// The columns that stand in the files, and those that do not.
    pub(super) schema: SchemaRef,
    pub(super) partitions: Vec<FieldRef>,
    pub(super) files: Vec<(ObjectMeta, Vec<ScalarValue>)>,
}

pub(super) async fn read(base: &Base) -> Result<Contents, TableError> {
    let reader = base.reader().await?;
    let (protocol, metadata) = (reader.protocol()?, reader.metadata()?);
    let features = protocol.reader_features.unwrap_or_default();
    if let Some(feature) = features.iter().find(|feature| !FEATURES.contains(&feature.as_str())) {
        return Err(TableError::Unfit(format!(
            "the table needs the reader feature {feature}, which is not known here"
        )));
    }
    if protocol.min_reader_version > 3 {
        let version = protocol.min_reader_version;
        return Err(TableError::Unfit(format!("the table needs reader version {version}, and 3 is read here")));
    }
    let mapping = metadata.configuration.get("delta.columnMapping.mode");
    if mapping.is_some_and(|mode| !mode.eq_ignore_ascii_case("none")) {
        return Err(TableError::Unfit("the table maps its columns' names, which is not read here".to_owned()));
    }
    let whole = reader.arrow_schema();
    let is_partition = |name: &String| metadata.partition_columns.contains(name);
    let partitions: Vec<FieldRef> = metadata
        .partition_columns
        .iter()
        .filter_map(|name| whole.fields().iter().find(|field| field.name() == name).cloned())
        .collect();
    let columns: Vec<FieldRef> = whole.fields().iter().filter(|field| !is_partition(field.name())).cloned().collect();
    let mut files = Vec::new();
    let mut batches = reader.adds();
    while let Some(batch) = batches.try_next().await? {
        for add in batch {
            if add.deletion_vector.is_some() {
                let message =
                    "it has deletion vectors, which are not read here; purge them (REORG TABLE … APPLY (PURGE))";
                return Err(TableError::Unfit(message.to_owned()));
            }
            let path = decode_path(&add.path)?;
            let mut values = add.partition_values;
            let values: Result<Vec<_>, _> = partitions
                .iter()
                .map(|field| {
                    let text = values.remove(field.name()).flatten().filter(|text| !text.is_empty());
                    scalar(text, field.data_type())
                })
                .collect();
            let meta = ObjectMeta {
                location: Path::parse(&path).map_err(|error| TableError::Unfit(error.to_string()))?,
                last_modified: Default::default(),
                size: u64::try_from(add.size).unwrap_or(0),
                e_tag: None,
                version: None,
            };
            files.push((meta, values?));
            if files.len() > TABLE_FILES_MAX {
                return Err(TableError::Unfit(format!("it has more than {TABLE_FILES_MAX} files; compact it")));
            }
        }
    }
    drop(batches);
    let schema = arrow::datatypes::Schema::new(columns);
    Ok(Contents { schema: schema.into(), partitions, files })
}
