//! Single records of the lake by their keys, as the JSON of the API. Owns which files and row groups are opened for
//! them: those alone whose statistics allow a key.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column as Named, lit};
use datafusion::physical_expr::{PhysicalExpr, conjunction};
use datafusion::prelude::SessionConfig;
use futures::{StreamExt, TryStreamExt, stream};
use runstone_record::limits::PAGE_BYTES_MAX;
use runstone_record::{Column, Kind, RecordWriter};
use tokio::task::JoinSet;

use super::among::Among;
use crate::lake::{FileReader, LakeFile, LakeView};
use crate::read::unread;
use crate::records::{Found, Key};

/// Files that are read at once: a store far away answers slowly, but many at a time.
const FILES_AT_ONCE: usize = 8;

/// Row groups of a file that are read beside each other.
const PARTS_MAX: usize = 8;

/// Stretches of positions that a file is asked for.
const SPANS_MAX: usize = 16;
/// Bytes of records that are held at once, where there are more than a few.
pub(crate) const FETCHED_BYTES_MAX: usize = PAGE_BYTES_MAX;
/// Records that are held at once however large they are.
pub(crate) const FEW_KEYS: usize = 128;

/// Adds the records of these keys that the lake holds. False where there are more than [`FEW_KEYS`], and their records are
/// too large to be held together.
pub(crate) async fn fetch<'a>(
    lake: &LakeView,
    keys: &[&'a Key],
    runtime: &RuntimeEnv,
    session: &SessionConfig,
    found: &mut Found<'a>,
) -> Result<bool> {
    let mut journals: HashMap<&str, Vec<&'a Key>> = HashMap::new();
    for key in keys {
        journals.entry(&key.journal).or_default().push(key);
    }
    journals.values_mut().for_each(|keys| keys.sort_unstable_by_key(|key| key.position));
    let held = Arc::new(Held { bytes: AtomicUsize::new(0), is_bounded: keys.len() > FEW_KEYS });
    let files = lake.files().iter().map(|file| (file, candidates(file, &journals)));
    let reads = files.filter(|(_, keys)| !keys.is_empty()).map(|(file, keys)| {
        let columns = filled(file);
        let reader = FileReader::with_views(Arc::clone(lake.store()), &columns, runtime, session);
        let held = Arc::clone(&held);
        async move { read(reader?, columns, file, keys, held).await }
    });
    let mut reads = stream::iter(reads.collect::<Vec<_>>()).buffer_unordered(FILES_AT_ONCE);
    while let Some(some) = reads.try_next().await? {
        let Some(some) = some else { return Ok(false) };
        found.extend(some);
    }
    Ok(true)
}

/// The columns in which some record of a file may have a value that JSON shows: to read one costs something even where all
/// of it is null.
fn filled(file: &LakeFile) -> Vec<Column> {
    let is_null = |column| file.nulls(column).is_some_and(|nulls| Some(nulls) == file.stats.rows);
    Column::ALL.into_iter().filter(|column| column.kind() != Kind::Date && !is_null(*column)).collect()
}

/// The keys whose records may be in a file.
fn candidates<'a>(file: &LakeFile, journals: &HashMap<&str, Vec<&'a Key>>) -> Vec<&'a Key> {
    let journals = journals.iter().filter(|(journal, _)| file.journal().is_none_or(|known| known == **journal));
    let (first, last) = file.position_bounds().unwrap_or((i64::MIN, i64::MAX));
    let (least, greatest) = file.times().unwrap_or((i64::MIN, i64::MAX));
    journals
        .flat_map(|(_, keys)| {
            let from = keys.partition_point(|key| key.position < first);
            keys[from..].iter().take_while(|key| key.position <= last)
        })
        .filter(|key| (least..=greatest).contains(&key.timestamp))
        .copied()
        .collect()
}

/// What the records have that are read for one answer.
#[derive(Debug)]
struct Held {
    bytes: AtomicUsize,
    is_bounded: bool,
}

impl Held {
    /// False where it is too much together.
    fn add(&self, bytes: usize) -> bool {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        !self.is_bounded || before.saturating_add(bytes) <= FETCHED_BYTES_MAX
    }
}

/// Records of a file.
type Read<'a> = Vec<(&'a Key, Vec<u8>)>;

/// Those of the keys whose records are in the file; none where they are too large to be held together.
async fn read<'a>(
    reader: FileReader,
    columns: Vec<Column>,
    file: &Arc<LakeFile>,
    keys: Vec<&'a Key>,
    held: Arc<Held>,
) -> Result<Option<Read<'a>>> {
    let mut times: Vec<i64> = keys.iter().map(|key| key.timestamp).collect();
    times.sort_unstable();
    let mut positions: Vec<i64> = keys.iter().map(|key| key.position).collect();
    positions.sort_unstable();
    let is_wanted = Among::new(position(), positions.iter().copied());
    let filter = conjunction([within(&spans(&positions)), Arc::new(is_wanted)]);
    let parts = reader.parts(file, &times).filter(|parts| (2..=PARTS_MAX).contains(&parts.len()));
    let (file, reader, keys_of) = (Arc::clone(file), reader.with_filter(filter)?, owned(&keys));
    let wanted = Arc::new(Wanted { file, reader, columns, keys: keys_of, count: keys.len(), held });
    // Most of the work is to decompress: row groups have that done beside each other.
    let mut tasks = JoinSet::new();
    match parts {
        None => drop(tasks.spawn(Arc::clone(&wanted).read(None))),
        Some(parts) => parts.into_iter().for_each(|part| drop(tasks.spawn(Arc::clone(&wanted).read(Some(part))))),
    }
    let mut found = Vec::with_capacity(keys.len());
    while let Some(part) = tasks.join_next().await {
        let part = part.map_err(|error| DataFusionError::External(Box::new(error)))??;
        let Some(part) = part else { return Ok(None) };
        found.extend(part.into_iter().filter_map(|(place, json)| Some((*keys.get(place)?, json))));
    }
    Ok(Some(found))
}

fn owned(keys: &[&Key]) -> HashMap<(i64, i64), Vec<(usize, String)>> {
    let mut owned = HashMap::<_, Vec<_>>::with_capacity(keys.len());
    for (place, key) in keys.iter().enumerate() {
        owned.entry((key.position, key.timestamp)).or_default().push((place, key.journal.clone()));
    }
    owned
}

/// What is looked for in a file.
struct Wanted {
    file: Arc<LakeFile>,
    reader: FileReader,
    /// What it reads.
    columns: Vec<Column>,
    /// By position and time: the places of the keys, and their journals.
    keys: HashMap<(i64, i64), Vec<(usize, String)>>,
    /// How many keys.
    count: usize,
    held: Arc<Held>,
}

impl Wanted {
    fn values<'b>(&self, batch: &'b RecordBatch, column: Column) -> Result<&'b ArrayRef> {
        let place = self.columns.iter().position(|known| *known == column);
        let values = place.and_then(|place| batch.columns().get(place));
        values.ok_or_else(|| DataFusionError::Internal(format!("{} is not read", column.name())))
    }

    /// What is found in a part of the file, by the places of the keys; none where all that is read is too much to be held.
    async fn read(self: Arc<Self>, part: Option<(u64, u64)>) -> Result<Option<HashMap<usize, Vec<u8>>>> {
        let unread = |error: &DataFusionError| unread(&self.file, error);
        let mut batches = self.reader.open(&self.file, part, None).map_err(|error| unread(&error))?;
        let mut found = HashMap::new();
        while found.len() < self.count
            && let Some(batch) = batches.try_next().await.map_err(|error| unread(&error))?
        {
            let positions = self.values(&batch, Column::Position)?.as_primitive::<Int64Type>();
            let times = self.values(&batch, Column::Timestamp)?.as_primitive::<TimestampMicrosecondType>();
            let journals = self.values(&batch, Column::Journal)?.as_string_view();
            for row in 0..batch.num_rows() {
                let known = self.keys.get(&(positions.value(row), times.value(row))).into_iter().flatten();
                for (place, _) in known.filter(|(_, journal)| journal == journals.value(row)) {
                    let mut json = Vec::new();
                    write_json(&self.columns, &batch, row, &mut json);
                    if !self.held.add(json.len()) {
                        return Ok(None);
                    }
                    found.insert(*place, json);
                }
            }
        }
        Ok(Some(found))
    }
}

/// Stretches that hold all of these sorted positions, some dozen at most: row groups and pages without any of them are ruled
/// out by a comparison with each stretch, where one with each position would cost more than it saves.
fn spans(positions: &[i64]) -> Vec<(i64, i64)> {
    let mut gaps: Vec<usize> = (1..positions.len()).collect();
    gaps.sort_unstable_by_key(|end| std::cmp::Reverse(positions[*end].abs_diff(positions[end - 1])));
    gaps.truncate(SPANS_MAX - 1);
    gaps.sort_unstable();
    let starts = std::iter::once(0).chain(gaps.iter().copied());
    let ends = gaps.iter().copied().chain([positions.len()]);
    starts
        .zip(ends)
        .filter_map(|(start, end)| Some((*positions.get(start)?, *positions.get(end.checked_sub(1)?)?)))
        .collect()
}

fn position() -> Arc<dyn PhysicalExpr> {
    Arc::new(Named::new(Column::Position.name(), Column::Position.index()))
}

fn within(spans: &[(i64, i64)]) -> Arc<dyn PhysicalExpr> {
    let side =
        |operator, bound: i64| -> Arc<dyn PhysicalExpr> { Arc::new(BinaryExpr::new(position(), operator, lit(bound))) };
    let between = |(start, end): &(i64, i64)| conjunction([side(Operator::GtEq, *start), side(Operator::LtEq, *end)]);
    let either = |one, other| -> Arc<dyn PhysicalExpr> { Arc::new(BinaryExpr::new(one, Operator::Or, other)) };
    spans.iter().map(between).reduce(either).unwrap_or_else(|| lit(false))
}

/// Appends a row as a JSON object of the API, as a batch of records does. `columns` are those of the batch, in the order of the
/// table's; what is not among them is null.
pub(crate) fn write_json(columns: &[Column], batch: &RecordBatch, row: usize, out: &mut Vec<u8>) {
    let mut writer = RecordWriter::new(out);
    for (&column, values) in columns.iter().zip(batch.columns()) {
        if values.is_null(row) {
            continue;
        }
        match column.kind() {
            Kind::Date => {}
            Kind::Time => writer.int(column, values.as_primitive::<TimestampMicrosecondType>().value(row)),
            Kind::Int => writer.int(column, values.as_primitive::<Int64Type>().value(row)),
            Kind::Float => writer.float(column, values.as_primitive::<Float64Type>().value(row)),
            Kind::List => writer.text(column, &list_text(&values.as_list::<i32>().value(row))),
            _ => writer.text(
                column,
                values
                    .as_string_view_opt()
                    .map_or_else(|| values.as_string::<i32>().value(row), |views| views.value(row)),
            ),
        }
    }
    writer.end();
}

/// A list of texts as the JSON text that a record keeps.
pub(crate) fn list_text(items: &ArrayRef) -> String {
    let items: Vec<Option<&str>> = items.as_string::<i32>().iter().collect();
    serde_json::to_string(&items).unwrap_or_default()
}
