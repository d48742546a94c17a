//! Single records of the lake by their keys, as the JSON of the API. Owns which files and row groups are opened for
//! them: those alone whose statistics allow a key.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column as Named, in_list, lit};
use datafusion::physical_expr::{PhysicalExpr, conjunction};
use datafusion::prelude::SessionConfig;
use futures::{StreamExt, TryStreamExt, stream};
use runstone_record::limits::PAGE_BYTES_MAX;
use runstone_record::{Column, Kind, RecordWriter};

use crate::columns::logs_schema;
use crate::lake::{FileReader, LakeFile, LakeView};
use crate::read::unread;
use crate::records::{Found, Key};

/// Files that are read at once: a store far away answers slowly, but many at a time.
const FILES_AT_ONCE: usize = 8;

/// Stretches of time that a file is asked for.
const SPANS_MAX: usize = 16;
/// Bytes of one file's records that are held at once, where there are more than a few.
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
    let reader = FileReader::new(Arc::clone(lake.store()), &Column::ALL, runtime, session)?;
    let files = lake.files().iter().map(|file| (file, candidates(file, &journals)));
    let reads = files.filter(|(_, keys)| !keys.is_empty()).map(|(file, keys)| read(reader.clone(), file, keys));
    let mut reads = stream::iter(reads.collect::<Vec<_>>()).buffer_unordered(FILES_AT_ONCE);
    while let Some(some) = reads.try_next().await? {
        let Some(some) = some else { return Ok(false) };
        found.extend(some);
    }
    Ok(true)
}

/// The keys whose records may be in a file.
fn candidates<'a>(file: &LakeFile, journals: &HashMap<&str, Vec<&'a Key>>) -> Vec<&'a Key> {
    let journals = journals.iter().filter(|(journal, _)| file.journal().is_none_or(|known| known == **journal));
    let (first, last) = file.positions().unwrap_or((0, u64::MAX));
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

/// Records of a file.
type Read<'a> = Vec<(&'a Key, Vec<u8>)>;

/// Those of the keys whose records are in the file; none where they are too large to be held together.
async fn read<'a>(reader: FileReader, file: &Arc<LakeFile>, keys: Vec<&'a Key>) -> Result<Option<Read<'a>>> {
    let times = keys.iter().map(|key| time(key.timestamp));
    let positions = keys.iter().filter_map(|key| i64::try_from(key.position).ok()).map(lit);
    let filter = conjunction([
        within(&spans(keys.iter().map(|key| key.timestamp).collect())),
        one_of(Column::Timestamp, times.collect())?,
        one_of(Column::Position, positions.collect())?,
    ]);
    let mut batches = reader.with_filter(filter)?.open(file, None, None).map_err(|error| unread(file, &error))?;
    let wanted: HashMap<(u64, i64, &str), &'a Key> =
        keys.into_iter().map(|key| ((key.position, key.timestamp, key.journal.as_str()), key)).collect();
    let (mut found, mut bytes) = (Vec::with_capacity(wanted.len()), 0);
    while found.len() < wanted.len()
        && let Some(batch) = batches.try_next().await.map_err(|error| unread(file, &error))?
    {
        let positions = batch.column(Column::Position.index()).as_primitive::<Int64Type>();
        let times = batch.column(Column::Timestamp.index()).as_primitive::<TimestampMicrosecondType>();
        let journals = batch.column(Column::Journal.index()).as_string::<i32>();
        for row in 0..batch.num_rows() {
            let position = u64::try_from(positions.value(row)).unwrap_or(u64::MAX);
            if let Some(key) = wanted.get(&(position, times.value(row), journals.value(row))) {
                let mut json = Vec::new();
                write_json(&batch, row, &mut json);
                bytes += json.len();
                if bytes > FETCHED_BYTES_MAX && wanted.len() > FEW_KEYS {
                    return Ok(None);
                }
                found.push((*key, json));
            }
        }
    }
    Ok(Some(found))
}

/// Stretches of time that hold all of these times, some dozen at most: row groups without any of them are ruled out by a
/// comparison with each stretch, where one with each time would cost more than it saves.
fn spans(mut times: Vec<i64>) -> Vec<(i64, i64)> {
    times.sort_unstable();
    let mut gaps: Vec<usize> = (1..times.len()).collect();
    gaps.sort_unstable_by_key(|end| std::cmp::Reverse(times[*end].abs_diff(times[end - 1])));
    gaps.truncate(SPANS_MAX - 1);
    gaps.sort_unstable();
    let starts = std::iter::once(0).chain(gaps.iter().copied());
    let ends = gaps.iter().copied().chain([times.len()]);
    starts.zip(ends).filter_map(|(start, end)| Some((*times.get(start)?, *times.get(end.checked_sub(1)?)?))).collect()
}

fn within(spans: &[(i64, i64)]) -> Arc<dyn PhysicalExpr> {
    let timestamp = || Arc::new(Named::new(Column::Timestamp.name(), Column::Timestamp.index()));
    let side =
        |operator, bound| -> Arc<dyn PhysicalExpr> { Arc::new(BinaryExpr::new(timestamp(), operator, time(bound))) };
    let between = |(start, end): &(i64, i64)| conjunction([side(Operator::GtEq, *start), side(Operator::LtEq, *end)]);
    let either = |one, other| -> Arc<dyn PhysicalExpr> { Arc::new(BinaryExpr::new(one, Operator::Or, other)) };
    spans.iter().map(between).reduce(either).unwrap_or_else(|| lit(false))
}

fn time(micros: i64) -> Arc<dyn PhysicalExpr> {
    lit(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())))
}

fn one_of(column: Column, values: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
    in_list(Arc::new(Named::new(column.name(), column.index())), values, &false, &logs_schema())
}

/// Appends a row of the whole table as a JSON object of the API, as a batch of records does.
pub(crate) fn write_json(batch: &RecordBatch, row: usize, out: &mut Vec<u8>) {
    let mut writer = RecordWriter::new(out);
    for (column, values) in Column::ALL.into_iter().zip(batch.columns()) {
        if values.is_null(row) {
            continue;
        }
        match column.kind() {
            Kind::Date => {}
            Kind::Time => writer.int(column, values.as_primitive::<TimestampMicrosecondType>().value(row)),
            Kind::Int => writer.int(column, values.as_primitive::<Int64Type>().value(row)),
            Kind::Float => writer.float(column, values.as_primitive::<Float64Type>().value(row)),
            Kind::List => writer.text(column, &list_text(&values.as_list::<i32>().value(row))),
            _ => writer.text(column, values.as_string::<i32>().value(row)),
        }
    }
    writer.end();
}

/// A list of texts as the JSON text that a record keeps.
pub(crate) fn list_text(items: &ArrayRef) -> String {
    let items: Vec<Option<&str>> = items.as_string::<i32>().iter().collect();
    serde_json::to_string(&items).unwrap_or_default()
}
