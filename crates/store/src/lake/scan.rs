//! Data files as `logs` shows them: the table's columns in the table's types, whoever wrote the file. Owns what
//! DataFusion's Parquet reader is told (row groups and pages are ruled out by statistics and bloom filters, rows while
//! they are decoded) and how much it may hold; refuses to choose files: a scan does.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Schema};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::metadata::CachedParquetMetaData;
use datafusion::datasource::physical_plan::parquet::{CachedParquetFileReaderFactory, ParquetFileReaderFactory};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSource;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::execution::object_store::{ObjectStoreRegistry, ObjectStoreUrl};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::SortOrderPushdownResult;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::prelude::SessionConfig;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::basic::{ConvertedType, LogicalType, TimeUnit};
use parquet::file::metadata::RowGroupMetaData;
use runstone_record::Column;
use url::Url;

use crate::columns::logs_schema;
use crate::lake::checked::checked;
use crate::lake::source::int_bounds;
use crate::lake::{LakeFile, Sums};

/// Bytes of decoded values that filters and answers share, for each open file.
const PREDICATE_CACHE_BYTES: usize = 8 << 20;
/// Bytes at a file's end that the first read takes: most footers are smaller.
const FOOTER_BYTES: usize = 64 << 10;
/// Bytes that the rows of one batch should take, once decoded: this much, or their share of what queries may have in memory,
/// as which they are not counted.
const BATCH_BYTES: u64 = 16 << 20;
const BATCH_SHARE: u64 = 16;
/// How much larger decoded rows are than their file, about.
const GROWTH: u64 = 10;
/// Values of `IN (…)` by which row groups are ruled out.
const IN_LIST_MAX: usize = 50;
/// Rows of a batch, however large they are.
const BATCH_ROWS_MIN: u64 = 16;

static TABLE: LazyLock<TableSchema> = LazyLock::new(|| table(&logs_schema()));
/// The table with views of texts: of a dictionary only those words are copied that somebody takes.
static TABLE_OF_VIEWS: LazyLock<TableSchema> = LazyLock::new(|| {
    let schema = logs_schema();
    let viewed = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Utf8 => field.as_ref().clone().with_data_type(DataType::Utf8View),
        _ => field.as_ref().clone(),
    });
    table(&Schema::new(viewed.collect::<Vec<_>>()))
});

fn table(schema: &Schema) -> TableSchema {
    let (columns, partition) = schema.fields().split_at(Column::Date.index());
    TableSchema::builder(Arc::new(Schema::new(columns.to_vec()))).with_table_partition_cols(partition.to_vec()).build()
}

/// Opens data files.
#[derive(Debug, Clone)]
pub(crate) struct FileReader {
    config: FileScanConfig,
    context: Arc<TaskContext>,
}

impl FileReader {
    /// A reader of some columns. Memory and the cache of footers are those of `runtime`; its stores are not: nothing
    /// but the lake can be reached.
    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        columns: &[Column],
        runtime: &RuntimeEnv,
        session: &SessionConfig,
    ) -> Result<Self> {
        Self::of(&TABLE, store, columns, runtime, session)
    }

    /// The same with texts as views, for whoever takes few of many.
    pub(crate) fn with_views(
        store: Arc<dyn ObjectStore>,
        columns: &[Column],
        runtime: &RuntimeEnv,
        session: &SessionConfig,
    ) -> Result<Self> {
        Self::of(&TABLE_OF_VIEWS, store, columns, runtime, session)
    }

    fn of(
        table: &TableSchema,
        store: Arc<dyn ObjectStore>,
        columns: &[Column],
        runtime: &RuntimeEnv,
        session: &SessionConfig,
    ) -> Result<Self> {
        let footers = runtime.cache_manager.get_file_metadata_cache();
        let readers = Arc::new(CheckedReaders { store: Arc::clone(&store), footers });
        let source = ParquetSource::new(table.clone())
            .with_table_parquet_options(options())
            .with_metadata_size_hint(FOOTER_BYTES)
            .with_parquet_file_reader_factory(readers);
        let places = columns.iter().map(|column| column.index()).collect();
        let url = ObjectStoreUrl::parse("lake://logs")?;
        let config = FileScanConfigBuilder::new(url, Arc::new(source)).with_projection_indices(Some(places))?.build();
        let runtime = RuntimeEnv {
            memory_pool: Arc::clone(&runtime.memory_pool),
            disk_manager: Arc::clone(&runtime.disk_manager),
            cache_manager: Arc::clone(&runtime.cache_manager),
            object_store_registry: Arc::new(Stores(store)),
        };
        let (scalar, higher, aggregate, window) = (HashMap::new(), HashMap::new(), HashMap::new(), HashMap::new());
        let (name, session) = ("lake".to_owned(), session.clone());
        let context = TaskContext::new(None, name, session, scalar, higher, aggregate, window, Arc::new(runtime));
        Ok(Self { config, context: Arc::new(context) })
    }

    /// The row groups of a file that may have one of these times, in their order, each as the part of the file that it is. None
    /// where the footer would have to be read first.
    pub(crate) fn parts(&self, file: &LakeFile, times: &[i64]) -> Option<Vec<(u64, u64)>> {
        let footers = self.context.runtime_env().cache_manager.get_file_metadata_cache();
        let footer = footers.get(&Path::parse(&file.path).ok()?).filter(|footer| footer.meta.size == file.bytes)?;
        let footer = footer.file_metadata.as_any().downcast_ref::<CachedParquetMetaData>()?;
        let columns = footer.parquet_metadata().file_metadata().schema_descr().columns();
        let timestamp = columns.iter().find(|column| column.path().parts() == [Column::Timestamp.name()])?;
        let is_micros = match timestamp.logical_type_ref() {
            Some(LogicalType::Timestamp(kind)) => kind.unit == TimeUnit::MICROS,
            _ => timestamp.converted_type() == ConvertedType::TIMESTAMP_MICROS,
        };
        if !is_micros {
            return None;
        }
        let groups = footer.parquet_metadata().row_groups().iter().filter(|group| {
            let (least, greatest) = int_bounds(group, Column::Timestamp);
            times.get(times.partition_point(|time| *time < least)).is_some_and(|time| *time <= greatest)
        });
        let part = |group: &RowGroupMetaData| {
            let chunk = group.columns().first()?;
            // What tells a reader of parts that a row group begins in one.
            let start = chunk.dictionary_page_offset().unwrap_or_else(|| chunk.data_page_offset());
            let start = u64::try_from(start).ok()?;
            Some((start, start + 1))
        };
        groups.map(part).collect()
    }

    /// Gives only rows that pass a condition over the table's columns, one that can be decided without an error.
    pub(crate) fn with_filter(mut self, filter: Arc<dyn PhysicalExpr>) -> Result<Self> {
        let source = self.config.file_source().downcast_ref::<ParquetSource>();
        let source = source.ok_or_else(|| DataFusionError::Internal("lake files are not Parquet".to_owned()))?;
        self.config.file_source = Arc::new(source.with_predicate(filter));
        Ok(self)
    }

    /// Reads the row groups first that an order wants first.
    pub(crate) fn with_order(mut self, order: &[PhysicalSortExpr]) -> Result<Self> {
        let unordered = EquivalenceProperties::new(logs_schema());
        if let SortOrderPushdownResult::Inexact { inner } =
            self.config.file_source().try_pushdown_sort(order, &unordered)?
        {
            self.config.file_source = inner;
        }
        Ok(self)
    }

    /// The rows of a file, or of those of its row groups that lie between two places in it; at most `limit` of them.
    pub(crate) fn open(
        &self,
        file: &LakeFile,
        part: Option<(u64, u64)>,
        limit: Option<usize>,
    ) -> Result<SendableRecordBatchStream> {
        let location = Path::parse(&file.path).map_err(|error| DataFusionError::External(Box::new(error)))?;
        let (size, last_modified) = (file.bytes, Default::default());
        let meta = ObjectMeta { location, last_modified, size, e_tag: None, version: None };
        let day = ScalarValue::Date32(Some(file.day()));
        let mut opened = PartitionedFile::new_from_meta(meta).with_partition_values(vec![day]);
        if let Some((start, end)) = part {
            let place = |place| i64::try_from(place).unwrap_or(i64::MAX);
            opened = opened.with_range(place(start), place(end));
        }
        if let Some(sums) = &file.sums {
            opened = opened.with_extension(sums.clone());
        }
        let rows_max = self.context.session_config().batch_size();
        let mut config = self.config.clone();
        config.file_groups = vec![FileGroup::new(vec![opened])];
        config.limit = limit;
        let bytes_max = match self.context.memory_pool().memory_limit() {
            MemoryLimit::Finite(bytes) => BATCH_BYTES.min(bytes as u64 / BATCH_SHARE),
            MemoryLimit::Infinite | MemoryLimit::Unknown => BATCH_BYTES,
        };
        config.batch_size = Some(batch_rows(file, bytes_max).min(rows_max));
        config.open(0, Arc::clone(&self.context))
    }

    /// What was read and ruled out so far.
    pub(crate) fn metrics(&self) -> MetricsSet {
        self.config.file_source().metrics().clone_inner()
    }
}

fn options() -> TableParquetOptions {
    let mut options = TableParquetOptions::default();
    let global = &mut options.global;
    global.pruning = true;
    global.enable_page_index = true;
    global.bloom_filter_on_read = true;
    global.pushdown_filters = true;
    // What is cheap to read is decided first.
    global.reorder_filters = true;
    global.max_predicate_cache_size = Some(PREDICATE_CACHE_BYTES);
    // Each value costs a comparison with the bounds of each row group.
    global.max_in_list_size = IN_LIST_MAX;
    options
}

/// Large records come a few at a time.
fn batch_rows(file: &LakeFile, bytes_max: u64) -> usize {
    let row = file.stats.rows.map_or(0, |rows| file.bytes.saturating_mul(GROWTH) / rows.max(1));
    usize::try_from((bytes_max / row.max(1)).max(BATCH_ROWS_MIN)).unwrap_or(usize::MAX)
}

/// Readers of files that compare what they read with the files' sums, the first time footers too.
#[derive(Debug)]
struct CheckedReaders {
    store: Arc<dyn ObjectStore>,
    footers: Arc<FileMetadataCache>,
}

impl ParquetFileReaderFactory for CheckedReaders {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        footer_bytes: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let store = checked(&self.store, file.extension::<Sums>());
        let readers = CachedParquetFileReaderFactory::new(store, Arc::clone(&self.footers));
        readers.create_reader(partition, file, footer_bytes, metrics)
    }
}

/// The stores that a scan can reach: the lake's.
#[derive(Debug)]
struct Stores(Arc<dyn ObjectStore>);

impl ObjectStoreRegistry for Stores {
    fn register_store(&self, _url: &Url, _store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, _: &Url) -> Result<Arc<dyn ObjectStore>> {
        Ok(Arc::clone(&self.0))
    }
}
