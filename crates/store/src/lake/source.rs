//! A data file as it is read again: by compaction, and by the search for copies. Owns fetching exactly the bytes that are
//! needed, and decoding them away from the threads that serve requests; refuses to choose what to read.
//!
//! Columns come in the types of [`read_schema`], whoever wrote the file; a file that cannot give them is `Foreign`.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, DictionaryArray, Int32Array, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::buf::Reader;
use bytes::{Buf, Bytes};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, RowSelection};
use parquet::arrow::push_decoder::ParquetPushDecoderBuilder;
use parquet::bloom_filter::Sbbf;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{
    ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataPushDecoder, RowGroupMetaData,
};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::statistics::Statistics;
use runstone_record::{Column, Kind, limits};

use super::checked::{checked, damage};
use super::encode::{file_schema, is_text};
use super::sums::Sums;
use super::takeover::Stored;
use super::{LakeError, LakeFile};

/// Rows that are decoded at a time.
const BATCH_ROWS: usize = limits::LAKE_GROUP_ROWS;
/// Bytes of a file's end that are fetched first: its metadata, most of the time.
const TAIL_BYTES: u64 = 64 << 10;

static READ: LazyLock<SchemaRef> = LazyLock::new(|| {
    let fields: Vec<Field> = file_schema()
        .fields()
        .iter()
        .map(|field| match Column::from_field(field.name()) {
            Some(column) if is_text(column) => field.as_ref().clone().with_data_type(dictionary()),
            _ => field.as_ref().clone(),
        })
        .collect();
    Arc::new(Schema::new(fields))
});

/// The columns of a data file as they are read: texts as dictionaries, as they are stored; their words may repeat.
pub(crate) fn read_schema() -> SchemaRef {
    Arc::clone(&READ)
}

fn dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// A data file, open.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    bytes: FileBytes,
    length: u64,
    reader: ArrowReaderMetadata,
    /// What it is called, for errors.
    name: String,
}

/// Where the bytes come from.
#[derive(Debug, Clone)]
enum FileBytes {
    /// A small file, fetched whole, and the sums that parts of it are compared with.
    Whole(Bytes, Option<Sums>),
    Stored(Arc<dyn ObjectStore>, Path),
}

/// A file as its reader finds it.
#[derive(Debug)]
pub(crate) enum Opened {
    Source(Source),
    /// It holds columns that are not ours, or ours in types that are not.
    Foreign(String),
}

/// What of a file to read.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) group: usize,
    /// None: all.
    pub(crate) columns: Option<Vec<Column>>,
    /// None: all.
    pub(crate) rows: Option<RowSelection>,
}

/// Where a file of the table lies in its store.
pub(crate) fn object_path(path: &str) -> Path {
    Path::parse(path).unwrap_or_else(|_| Path::from(path))
}

impl Source {
    /// Opens a file of the table.
    pub(crate) async fn open(store: &Arc<dyn ObjectStore>, file: &LakeFile) -> Result<Opened, LakeError> {
        let path = object_path(&file.path);
        let bytes = if file.bytes <= limits::LAKE_READ_WHOLE_BYTES {
            let answer = store.get(&path).await.map_err(|error| unread(&file.path, error))?;
            FileBytes::Whole(answer.bytes().await.map_err(|error| unread(&file.path, error))?, file.sums.clone())
        } else {
            FileBytes::Stored(checked(store, file.sums.as_ref()), path)
        };
        Self::with(bytes, file.bytes, file.path.clone()).await
    }

    /// Opens a file that is in memory.
    pub(crate) async fn of(bytes: Bytes, name: &str) -> Result<Opened, LakeError> {
        let length = bytes.len() as u64;
        Self::with(FileBytes::Whole(bytes, None), length, name.to_owned()).await
    }

    async fn with(bytes: FileBytes, length: u64, name: String) -> Result<Opened, LakeError> {
        let damaged = |error: ParquetError| LakeError::Damaged(format!("{name}: {error}"));
        let decoder = ParquetMetaDataPushDecoder::try_new(length).map_err(damaged)?;
        let decoder = decoder.with_page_index_policy(PageIndexPolicy::Skip);
        let tail = length.saturating_sub(TAIL_BYTES)..length;
        let metadata = decode(decoder, &bytes, &name, vec![tail]).await?;
        Ok(match reader(Arc::new(metadata)) {
            Ok(reader) => Opened::Source(Source { bytes, length, reader, name }),
            Err(why) => Opened::Foreign(format!("{name}: {why}")),
        })
    }

    pub(crate) fn metadata(&self) -> &ParquetMetaData {
        self.reader.metadata()
    }

    pub(crate) fn group(&self, group: usize) -> &RowGroupMetaData {
        self.reader.metadata().row_group(group)
    }

    /// A whole row group, with its bloom filters and the index of its pages.
    pub(crate) async fn stored(&self, group: usize) -> Result<Stored, LakeError> {
        let mut ranges = Vec::new();
        for chunk in self.group(group).columns() {
            let (start, length) = chunk.byte_range();
            ranges.push(start..start + length);
            ranges.extend(bloom_range(chunk));
        }
        ranges.sort_unstable_by_key(|range| range.start);
        let bytes = self.bytes.fetch(&self.name, &ranges).await?;
        let pieces = ranges.into_iter().map(|range| range.start).zip(bytes).collect();
        let metadata = ParquetMetaDataPushDecoder::try_new_with_metadata(self.length, self.metadata().clone());
        let metadata =
            metadata.map_err(|error| self.damaged(&error))?.with_page_index_policy(PageIndexPolicy::Optional);
        let metadata = decode(metadata, &self.bytes, &self.name, Vec::new()).await?;
        Ok(Stored { bytes: Pieces { length: self.length, pieces }, metadata, group })
    }

    /// The bloom filters of a column, of each row group: none where it has none, or one that cannot be read.
    pub(crate) async fn blooms(&self, column: Column) -> Result<Vec<Option<Sbbf>>, LakeError> {
        let chunks = || self.metadata().row_groups().iter().map(|group| chunk(group, column));
        let mut ranges: Vec<_> = chunks().flatten().filter_map(bloom_range).collect();
        ranges.sort_unstable_by_key(|range| range.start);
        let bytes = match self.bytes.fetch(&self.name, &ranges).await {
            Err(LakeError::Damaged(_)) => Vec::new(),
            bytes => bytes?,
        };
        let pieces = ranges.into_iter().map(|range| range.start).zip(bytes).collect();
        let pieces = Pieces { length: self.length, pieces };
        let filter = |chunk: &ColumnChunkMetaData| {
            bloom_range(chunk)?;
            Sbbf::read_from_column_chunk(chunk, &pieces).ok().flatten()
        };
        Ok(chunks().map(|chunk| chunk.and_then(filter)).collect())
    }

    fn damaged(&self, error: &ParquetError) -> LakeError {
        LakeError::Damaged(format!("{}: {error}", self.name))
    }

    /// Reads rows of one group. `each` has every batch as it comes, where it may take its time.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        reading: Reading,
        each: impl FnOnce(&mut dyn Iterator<Item = Result<RecordBatch, LakeError>>) -> Result<T, LakeError> + Send + 'static,
    ) -> Result<T, LakeError> {
        let schema = self.reader.parquet_schema();
        let mask = match &reading.columns {
            None => ProjectionMask::all(),
            Some(columns) => ProjectionMask::columns(schema, columns.iter().map(|column| column.name())),
        };
        let wanted = wanted(reading.columns.as_deref());
        let mut builder = ParquetPushDecoderBuilder::new_with_metadata(self.reader.clone())
            .with_row_groups(vec![reading.group])
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS);
        if let Some(rows) = reading.rows {
            builder = builder.with_row_selection(rows);
        }
        let name = self.name.clone();
        let damaged = move |error: ParquetError| LakeError::Damaged(format!("{name}: {error}"));
        let mut decoder = builder.build().map_err(&damaged)?;
        let reader = loop {
            match decoder.try_next_reader().map_err(&damaged)? {
                DecodeResult::NeedsData(ranges) => {
                    let data = self.bytes.fetch(&self.name, &ranges).await?;
                    decoder.push_ranges(ranges, data).map_err(&damaged)?;
                }
                DecodeResult::Data(reader) => break Some(reader),
                DecodeResult::Finished => break None,
            }
        };
        blocking(move || {
            let decoded = reader.into_iter().flat_map(ParquetRecordBatchReader::into_iter);
            let mut batches = decoded.map(|batch| {
                let batch = batch.map_err(|error| damaged(ParquetError::General(error.to_string())))?;
                conform(&batch, &wanted).map_err(|error| damaged(ParquetError::General(error)))
            });
            each(&mut batches)
        })
        .await
    }
}

/// Feeds a decoder of metadata, with these ranges first.
async fn decode(
    mut decoder: ParquetMetaDataPushDecoder,
    bytes: &FileBytes,
    name: &str,
    mut needed: Vec<Range<u64>>,
) -> Result<ParquetMetaData, LakeError> {
    let damaged = |error: ParquetError| LakeError::Damaged(format!("{name}: {error}"));
    loop {
        if !needed.is_empty() {
            let data = bytes.fetch(name, &needed).await?;
            decoder.push_ranges(needed, data).map_err(damaged)?;
        }
        match decoder.try_decode().map_err(damaged)? {
            DecodeResult::NeedsData(ranges) => needed = ranges,
            DecodeResult::Data(metadata) => return Ok(metadata),
            DecodeResult::Finished => return Err(damaged(ParquetError::EOF("its metadata is missing".to_owned()))),
        }
    }
}

/// Parts of a file, fetched before a reader that cannot wait asks for them.
#[derive(Debug)]
pub(crate) struct Pieces {
    length: u64,
    /// Where each begins, in order.
    pieces: Vec<(u64, Bytes)>,
}

impl Pieces {
    fn from(&self, start: u64) -> ParquetResult<Bytes> {
        let place = self.pieces.partition_point(|(first, _)| *first <= start).checked_sub(1);
        let found = place.and_then(|place| {
            let (first, bytes) = &self.pieces[place];
            let skip = usize::try_from(start - first).ok()?;
            (skip <= bytes.len()).then(|| bytes.slice(skip..))
        });
        found.ok_or_else(|| ParquetError::EOF(format!("nothing was fetched at {start}")))
    }
}

impl Length for Pieces {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for Pieces {
    type T = Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        self.from(start).map(Bytes::reader)
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let bytes = self.from(start)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF(format!("fewer than {length} bytes were fetched at {start}")));
        }
        Ok(bytes.slice(..length))
    }
}

/// A column of a row group.
pub(crate) fn chunk(group: &RowGroupMetaData, column: Column) -> Option<&ColumnChunkMetaData> {
    group.columns().iter().find(|chunk| chunk.column_path().parts() == [column.name()])
}

/// Where a bloom filter lies. None too where the file does not say how long it is, as some writers leave out.
fn bloom_range(chunk: &ColumnChunkMetaData) -> Option<Range<u64>> {
    let start = u64::try_from(chunk.bloom_filter_offset()?).ok()?;
    let length = chunk.bloom_filter_length().and_then(|length| u64::try_from(length).ok());
    Some(start..start + length?)
}

/// Runs work that takes the processor for long where that holds nobody up.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LakeError> + Send + 'static,
) -> Result<T, LakeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(LakeError::Internal(format!("work on a data file: {error}"))),
    }
}

fn unread(path: &str, error: object_store::Error) -> LakeError {
    if let Some(damage) = damage(&error) {
        return LakeError::Damaged(format!("{path}: {damage}"));
    }
    match error {
        object_store::Error::NotFound { .. } => LakeError::Conflict(format!("another writer deleted {path}")),
        error => LakeError::Storage { action: format!("read {path}"), source: error.into() },
    }
}

/// Stores answer in many ways to who asks for more than a file has; asking again will not help.
async fn cut_short(store: &Arc<dyn ObjectStore>, path: &Path, ranges: &[Range<u64>]) -> Option<LakeError> {
    let end = ranges.iter().map(|range| range.end).max()?;
    let size = store.head(path).await.ok()?.size;
    (size < end).then(|| LakeError::Damaged(format!("{path} has {size} bytes, not {end}")))
}

impl FileBytes {
    async fn fetch(&self, name: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, LakeError> {
        match self {
            FileBytes::Stored(store, path) => match store.get_ranges(path, ranges).await {
                Ok(data) => Ok(data),
                Err(error) => Err(cut_short(store, path, ranges).await.unwrap_or_else(|| unread(name, error))),
            },
            FileBytes::Whole(bytes, Some(sums)) => {
                sums.cut(bytes, ranges).map_err(|damage| LakeError::Damaged(format!("{name}: {damage}")))
            }
            FileBytes::Whole(bytes, None) => ranges
                .iter()
                .map(|range| {
                    let within = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
                    let within = within.filter(|(start, end)| start <= end && *end <= bytes.len());
                    let short = || LakeError::Damaged(format!("{name} has {} bytes, not {}", bytes.len(), range.end));
                    within.map(|(start, end)| bytes.slice(start..end)).ok_or_else(short)
                })
                .collect(),
        }
    }
}

/// How to read a file's columns; an error says why they are not ours.
fn reader(metadata: Arc<ParquetMetaData>) -> Result<ArrowReaderMetadata, String> {
    let plain = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let inferred = ArrowReaderMetadata::try_new(Arc::clone(&metadata), plain).map_err(|error| error.to_string())?;
    let mut hints = Vec::new();
    for field in inferred.schema().fields() {
        let column = Column::ALL.into_iter().find(|column| column.name() == field.name());
        let column = column.filter(|column| *column != Column::Date);
        let column = column.ok_or_else(|| format!("it has a column {}", field.name()))?;
        let wanted = match (column.kind(), field.data_type()) {
            // Words that are stored only once are not spelt out row by row, only to be found again.
            (_, DataType::Utf8) if is_text(column) && has_words(&metadata, column) => dictionary(),
            // What Spark writes where it is not told otherwise.
            (Kind::Time, DataType::Timestamp(TimeUnit::Nanosecond, None)) => crate::columns::timestamp(),
            (_, kind) => kind.clone(),
        };
        hints.push(Arc::new(field.as_ref().clone().with_data_type(wanted)));
    }
    let schema = Arc::new(Schema::new(hints));
    let found = ArrowReaderMetadata::try_new(metadata, ArrowReaderOptions::new().with_schema(schema))
        .map_err(|error| error.to_string())?;
    for field in file_schema().fields() {
        match found.schema().field_with_name(field.name()) {
            Ok(theirs) if same_kind(theirs.data_type(), field.data_type()) => {}
            Ok(theirs) => return Err(format!("its column {} is {}", field.name(), theirs.data_type())),
            Err(_) if field.is_nullable() => {}
            Err(_) => return Err(format!("it has no column {}", field.name())),
        }
    }
    Ok(found)
}

/// Does every row group store the words of a column apart from its rows?
fn has_words(metadata: &ParquetMetaData, column: Column) -> bool {
    let chunks = metadata.row_groups().iter().map(|group| chunk(group, column));
    chunks.into_iter().all(|chunk| chunk.is_some_and(|chunk| chunk.dictionary_page_offset().is_some()))
}

/// Lists may call their items by other names.
fn same_kind(theirs: &DataType, ours: &DataType) -> bool {
    match (theirs, ours) {
        (DataType::Dictionary(_, theirs), ours) => theirs.as_ref() == ours,
        (DataType::List(theirs), DataType::List(ours)) => theirs.data_type() == ours.data_type(),
        _ => theirs == ours,
    }
}

fn wanted(columns: Option<&[Column]>) -> SchemaRef {
    let Some(columns) = columns else { return read_schema() };
    let named = |field: &&Arc<Field>| columns.iter().any(|column| column.name() == field.name());
    Arc::new(Schema::new(read_schema().fields().iter().filter(named).cloned().collect::<Vec<_>>()))
}

/// The batch in the schema's columns: what the file does not have is null.
fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, String> {
    let columns = schema.fields().iter().map(|field| -> Result<ArrayRef, String> {
        match batch.column_by_name(field.name()) {
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
            Some(values) if values.data_type() == field.data_type() => Ok(Arc::clone(values)),
            Some(values) if *field.data_type() == dictionary() => one_word_each(values),
            Some(values) => cast(values, field.data_type()).map_err(|error| error.to_string()),
        }
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(|error| error.to_string())
}

/// The least and the greatest id in a row group, where that is said.
pub(crate) fn id_bounds(group: &RowGroupMetaData) -> Option<(String, String)> {
    let text = |bytes: &[u8]| str::from_utf8(bytes).ok().map(str::to_owned);
    let stats = chunk(group, Column::Id)?.statistics()?;
    Some((text(stats.min_bytes_opt()?)?, text(stats.max_bytes_opt()?)?))
}

/// Texts as a dictionary, without looking for words that repeat.
fn one_word_each(texts: &ArrayRef) -> Result<ArrayRef, String> {
    let rows = i32::try_from(texts.len()).map_err(|error| error.to_string())?;
    let keys = Int32Array::new((0..rows).collect(), texts.nulls().cloned());
    let array = DictionaryArray::try_new(keys, Arc::clone(texts)).map_err(|error| error.to_string())?;
    Ok(Arc::new(array))
}

/// The least and greatest value of an integer or time column in a row group; everything where that is not said.
pub(crate) fn int_bounds(group: &RowGroupMetaData, column: Column) -> (i64, i64) {
    match chunk(group, column).and_then(ColumnChunkMetaData::statistics) {
        Some(Statistics::Int64(values)) => match (values.min_opt(), values.max_opt()) {
            (Some(least), Some(greatest)) => (*least, *greatest),
            _ => (i64::MIN, i64::MAX),
        },
        _ => (i64::MIN, i64::MAX),
    }
}

/// What a row group's rows take in memory, roughly.
pub(crate) fn decoded_bytes(group: &RowGroupMetaData) -> u64 {
    let rows = u64::try_from(group.num_rows()).unwrap_or(0);
    let of = |chunk: &ColumnChunkMetaData| {
        let stored = u64::try_from(chunk.uncompressed_size()).unwrap_or(0);
        match chunk.unencoded_byte_array_data_bytes().and_then(|bytes| u64::try_from(bytes).ok()) {
            _ if chunk.dictionary_page_offset().is_some() => stored + 4 * rows,
            Some(texts) => texts + 8 * rows,
            None => stored.max(8 * rows),
        }
    };
    group.columns().iter().map(of).sum()
}
