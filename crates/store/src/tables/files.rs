//! What a table holds, once it was looked at: its columns and its files, as one query reads them. Owns leaving out the
//! files whose paths cannot belong to an answer; refuses to look again: who opens a table does.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{and_kleene, prep_null_mask_filter};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, DataFusionError, Result as PlanResult, ScalarValue};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use runstone_record::limits::TABLE_FILES_MAX;

use super::place::Place;
use super::{TableError, TableFormat, TableSpec, delta, json, partitions, store};
use crate::lake::Base;

/// What is there before anything of it was opened.
pub(super) enum Listed {
    Files(Vec<ObjectMeta>, TableFormat),
    Delta(Base),
}

/// What a table holds.
#[derive(Debug)]
pub(super) struct Found {
    key: Key,
    schema: TableSchema,
    files: Vec<PartitionedFile>,
    reader: Arc<dyn FileFormat>,
}

/// By which it is known whether that is still so.
#[derive(Debug, PartialEq)]
enum Key {
    Files(Vec<ObjectMeta>),
    Version(u64),
}

impl Listed {
    /// Looks at what is there. What was a Delta table stays one.
    pub(super) async fn of(spec: &TableSpec, place: &Place, known: Option<&Found>) -> Result<Self, TableError> {
        if let Some(file) = &place.file {
            let format = spec.format.or_else(|| TableFormat::of_file(file.as_ref()));
            return match format {
                Some(TableFormat::Delta) => {
                    Err(TableError::Unfit("a Delta table is a directory, not a file".to_owned()))
                }
                Some(format) => {
                    // Some stores say where it is for themselves.
                    let meta = ObjectMeta { location: file.clone(), ..place.store.head(file).await? };
                    Ok(Self::Files(vec![meta], format))
                }
                None => Err(TableError::Unfit(unknown())),
            };
        }
        let was_delta = known.is_some_and(|known| matches!(known.key, Key::Version(_)));
        if spec.format == Some(TableFormat::Delta) || was_delta {
            return Ok(Self::Delta(Base::load(Arc::clone(&place.store)).await?));
        }
        let (mut files, mut entries) = (Vec::new(), place.store.list(None));
        while let Some(entry) = entries.try_next().await? {
            if spec.format.is_none() && entry.location.as_ref().starts_with("_delta_log/") {
                return Ok(Self::Delta(Base::load(Arc::clone(&place.store)).await?));
            }
            if !is_hidden(&entry.location) && entry.size > 0 {
                files.push(entry);
            }
            if files.len() > TABLE_FILES_MAX {
                return Err(TableError::Unfit(format!("it has more than {TABLE_FILES_MAX} files; merge them")));
            }
        }
        let of = |file: &ObjectMeta| TableFormat::of_file(file.location.as_ref());
        let mut formats: Vec<TableFormat> = files.iter().filter_map(of).collect();
        formats.dedup();
        let format = match (spec.format, formats.as_slice()) {
            (Some(format), _) => format,
            (None, [format, rest @ ..]) if rest.iter().all(|other| other == format) => *format,
            (None, []) if files.is_empty() => return Err(TableError::Away("there is no file in it".to_owned())),
            (None, []) => return Err(TableError::Unfit(unknown())),
            (None, _) => {
                return Err(TableError::Unfit("its files have several formats; say which with `format`".to_owned()));
            }
        };
        files.retain(|file| of(file) == Some(format));
        files.sort_by(|a, b| a.location.cmp(&b.location));
        if files.is_empty() {
            return Err(TableError::Away(format!("there is no {} file in it", format.word())));
        }
        Ok(Self::Files(files, format))
    }
}

fn unknown() -> String {
    "its files are not called .parquet, .csv, .tsv, .json, .ndjson or .jsonl; say what they are with `format` where there \
     is one file; compressed CSV and JSON are not read"
        .to_owned()
}

/// Names that begin so are of those who write, not of the data.
fn is_hidden(path: &Path) -> bool {
    path.parts().any(|part| {
        let part = part.as_ref();
        part.starts_with('.') || (part.starts_with('_') && !part.contains('='))
    })
}

impl Found {
    pub(super) fn is_of(&self, listed: &Listed) -> bool {
        match (listed, &self.key) {
            (Listed::Files(files, _), Key::Files(known)) => files == known,
            (Listed::Delta(base), Key::Version(version)) => base.version() == *version,
            _ => false,
        }
    }

    /// Opens what has to be opened to know the columns.
    pub(super) async fn read(
        spec: &TableSpec,
        place: &Place,
        listed: Listed,
        session: &dyn Session,
    ) -> Result<Self, TableError> {
        let named = |mut meta: ObjectMeta| {
            meta.location = store::path(&spec.name, &meta.location);
            meta
        };
        match listed {
            Listed::Delta(base) => {
                let contents = delta::read(&base).await?;
                let files = contents.files.into_iter().map(|(meta, values)| (named(meta), values)).collect();
                let reader = TableFormat::Delta.reader(false);
                let key = Key::Version(base.version());
                Ok(Self::with(key, contents.schema, contents.partitions, files, reader))
            }
            Listed::Files(metas, format) => {
                let array = format == TableFormat::Json && json::is_array(place, &metas).await?;
                let reader = format.reader(array);
                let (partitions, values) = partitions::find(metas.iter().map(|meta| &meta.location))?;
                let schema = match format {
                    TableFormat::Json => json::infer(place, &metas, array).await?,
                    _ => infer(&reader, session, &metas, &named).await?,
                };
                let is_partition = |name: &str| partitions.iter().any(|field| field.name() == name);
                let columns: Vec<FieldRef> =
                    schema.fields().iter().filter(|field| !is_partition(field.name())).cloned().collect();
                let files = metas.iter().cloned().map(named).zip(values).collect();
                Ok(Self::with(Key::Files(metas), Arc::new(Schema::new(columns)), partitions, files, reader))
            }
        }
    }

    fn with(
        key: Key,
        schema: SchemaRef,
        partitions: Vec<FieldRef>,
        files: Vec<(ObjectMeta, Vec<ScalarValue>)>,
        reader: Arc<dyn FileFormat>,
    ) -> Self {
        let schema = TableSchema::builder(schema).with_table_partition_cols(partitions).build();
        let files = files.into_iter().map(|(meta, values)| {
            let mut file = PartitionedFile::new_from_meta(meta);
            file.partition_values = values;
            file
        });
        Self { key, schema, files: files.collect(), reader }
    }

    /// The files that may have rows of an answer, as far as their paths tell.
    fn wanted(&self, state: &dyn Session, filters: &[Expr]) -> PlanResult<Vec<PartitionedFile>> {
        let partitions = self.schema.table_partition_cols();
        let is_of_paths = |filter: &&Expr| {
            let columns = filter.column_refs();
            !columns.is_empty()
                && !filter.is_volatile()
                && columns.iter().all(|column| partitions.iter().any(|field| field.name() == &column.name))
        };
        let filters: Vec<&Expr> = filters.iter().filter(is_of_paths).collect();
        if filters.is_empty() || self.files.is_empty() {
            return Ok(self.files.clone());
        }
        let columns = (0..partitions.len()).map(|place| {
            ScalarValue::iter_to_array(self.files.iter().map(|file| file.partition_values[place].clone()))
        });
        let schema = Arc::new(Schema::new(partitions.clone()));
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns.collect::<PlanResult<Vec<ArrayRef>>>()?)?;
        let schema = DFSchema::try_from(schema)?;
        let mut mask = BooleanArray::from(vec![true; self.files.len()]);
        for filter in filters {
            let decided = state.create_physical_expr(filter.clone(), &schema)?.evaluate(&batch)?;
            let decided = decided.into_array(self.files.len())?;
            let decided = decided.as_boolean_opt().ok_or_else(|| {
                DataFusionError::Internal("a condition on a table's paths is no condition".to_owned())
            })?;
            mask = and_kleene(&mask, decided)?;
        }
        let mask = if mask.null_count() > 0 { prep_null_mask_filter(&mask) } else { mask };
        Ok(self.files.iter().zip(mask.values()).filter(|(_, wanted)| *wanted).map(|(file, _)| file.clone()).collect())
    }
}

/// The columns of all files together.
async fn infer(
    reader: &Arc<dyn FileFormat>,
    session: &dyn Session,
    metas: &[ObjectMeta],
    named: &impl Fn(ObjectMeta) -> ObjectMeta,
) -> Result<SchemaRef, TableError> {
    let metas: Vec<ObjectMeta> = metas.iter().cloned().map(named).collect();
    let store = store::url().and_then(|url| session.runtime_env().object_store(url));
    let store = store.map_err(|error| TableError::Unfit(error.strip_backtrace()))?;
    reader.infer_schema(session, &store, &metas).await.map_err(|error| {
        let text = error.find_root().strip_backtrace();
        TableError::Away(text.lines().next().unwrap_or_default().chars().take(400).collect())
    })
}

#[async_trait::async_trait]
impl TableProvider for Found {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.schema.table_schema())
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
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let files = self.wanted(state, filters)?;
        if files.is_empty() {
            let schema = self.schema();
            let schema = match projection {
                Some(places) => Arc::new(schema.project(places)?),
                None => schema,
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let groups = files.len().min(state.config().target_partitions().max(1));
        let mut groups: Vec<Vec<PartitionedFile>> = vec![Vec::new(); groups];
        let count = groups.len();
        for (place, file) in files.into_iter().enumerate() {
            groups[place % count].push(file);
        }
        let source = self.reader.file_source(self.schema.clone());
        let config = FileScanConfigBuilder::new(store::url()?, source)
            .with_file_groups(groups.into_iter().map(FileGroup::new).collect())
            .with_projection_indices(projection.cloned())?
            .with_limit(limit.filter(|_| filters.is_empty()))
            .build();
        self.reader.create_physical_plan(state, config).await
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> PlanResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}
