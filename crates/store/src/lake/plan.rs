//! From waiting records to files, one at a time. Owns which records share a file and a row group; refuses to upload them.
//!
//! A file has records of one day of arrival. Row groups hold disjoint times, over all files of a flush.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, DictionaryArray, RecordBatch, StringArray, UInt8Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimestampMicrosecondType, UInt32Type};
use runstone_record::limits::LAKE_GROUP_BYTES;
use runstone_record::{Column, Kind};

use super::LakeError;
use super::encode::{EncodeOptions, Encoded, FileEncoder, internal};
use super::flush::WriterOptions;
use super::order::groups;
use crate::chunk::{Chunk, Stored};
use crate::rows::{Rows, pick};

/// Bytes of records that are laid out as one: what waits while the lake is away may be far more.
const PART_BYTES: usize = 128 << 20;

/// What is to be encoded.
pub(crate) struct Plan {
    parts: VecDeque<Vec<Arc<Chunk>>>,
    /// The part that is being encoded.
    chunk: Option<Arc<Chunk>>,
    /// Its row groups that are still to come, each with its day.
    groups: VecDeque<(i32, Rows)>,
    /// Positions that are not to be written, in order.
    dropped: Vec<u64>,
    options: WriterOptions,
}

impl Plan {
    /// For records of one journal, in the order of their positions, without those that are `dropped`.
    pub(crate) fn new(chunks: Vec<Arc<Chunk>>, dropped: Vec<u64>, options: WriterOptions) -> Self {
        let mut parts: VecDeque<Vec<Arc<Chunk>>> = VecDeque::new();
        let (mut bytes, mut next) = (0, None);
        for chunk in chunks {
            bytes += chunk.bytes;
            // Records that were lost leave a gap, and a chunk has none.
            let follows = next == Some(chunk.first);
            next = Some(chunk.last() + 1);
            match parts.back_mut() {
                Some(part) if follows && bytes <= PART_BYTES => part.push(chunk),
                _ => {
                    bytes = chunk.bytes;
                    parts.push_back(vec![chunk]);
                }
            }
        }
        Self { parts, chunk: None, groups: VecDeque::new(), dropped, options }
    }

    /// The next file and its day; none after the last.
    pub(crate) fn next_file(&mut self) -> Result<Option<(i32, Encoded)>, LakeError> {
        while self.groups.is_empty() {
            if !self.next_part()? {
                return Ok(None);
            }
        }
        let (Some(chunk), Some((day, _))) = (self.chunk.clone(), self.groups.front()) else { return Ok(None) };
        let day = *day;
        let mut file = FileEncoder::new(EncodeOptions::default())?;
        while let Some((_, rows)) = self.groups.pop_front_if(|(next, _)| *next == day) {
            file.write_group(&batch(&chunk, &rows)?)?;
            if file.bytes_written() as u64 >= self.options.file_bytes {
                break;
            }
        }
        file.finish().map(|encoded| Some((day, encoded)))
    }

    fn next_part(&mut self) -> Result<bool, LakeError> {
        self.chunk = None;
        let Some(mut part) = self.parts.pop_front() else { return Ok(false) };
        let chunk = match part.pop() {
            Some(only) if part.is_empty() => only,
            last => {
                part.extend(last);
                Arc::new(Chunk::merge(&part).map_err(internal)?)
            }
        };
        let times = times(&chunk)?;
        let rows_max =
            (LAKE_GROUP_BYTES / (chunk.bytes / chunk.rows.max(1)).max(1)).clamp(1, self.options.group_rows.max(1));
        for (day, rows) in days(&chunk) {
            let rows = without(&chunk, rows, &self.dropped);
            self.groups.extend(groups(&times, &rows, rows_max).into_iter().map(|rows| (day, rows)));
        }
        self.chunk = Some(chunk);
        Ok(true)
    }
}

/// The rows of each day of arrival.
fn days(chunk: &Chunk) -> BTreeMap<i32, Rows> {
    let mut ranges: BTreeMap<i32, Vec<std::ops::Range<usize>>> = BTreeMap::new();
    let mut start = 0;
    for run in &chunk.runs {
        let ranges = ranges.entry(crate::chunk::day(run.ingested_at)).or_default();
        match ranges.last_mut() {
            Some(last) if last.end == start => last.end = run.end,
            _ => ranges.push(start..run.end),
        }
        start = run.end;
    }
    let rows = |ranges: Vec<std::ops::Range<usize>>| match ranges.as_slice() {
        [only] => Rows::Range(only.start, only.len()),
        _ => Rows::Picked(ranges.into_iter().flatten().filter_map(|row| u32::try_from(row).ok()).collect()),
    };
    ranges.into_iter().map(|(day, ranges)| (day, rows(ranges))).collect()
}

/// The rows whose positions are not among these.
fn without(chunk: &Chunk, rows: Rows, dropped: &[u64]) -> Rows {
    let here = dropped.partition_point(|position| *position < chunk.first)
        ..dropped.partition_point(|position| *position <= chunk.last());
    let dropped = &dropped[here];
    if dropped.is_empty() {
        return rows;
    }
    let stays = |row: &usize| dropped.binary_search(&(chunk.first + *row as u64)).is_err();
    Rows::Picked(rows.iter().filter(stays).filter_map(|row| u32::try_from(row).ok()).collect::<Vec<_>>().into())
}

fn times(chunk: &Chunk) -> Result<Vec<i64>, LakeError> {
    let times = chunk.column(Column::Timestamp, &Rows::Range(0, chunk.rows)).map_err(internal)?;
    Ok(times.as_primitive::<TimestampMicrosecondType>().values().to_vec())
}

/// Some rows as the encoder takes them. Columns that no row has are left out.
fn batch(chunk: &Chunk, rows: &Rows) -> Result<RecordBatch, LakeError> {
    let stamped = |column| matches!(column, Column::Id | Column::Position | Column::IngestedAt);
    let mut columns: Vec<(&str, ArrayRef)> = Vec::new();
    for column in Column::ALL {
        let values = match chunk.stored(column) {
            _ if column == Column::Journal => repeated(&chunk.journal, rows.len())?,
            Some(Stored::Words { words, keys }) if column.kind() != Kind::List => {
                dictionary(words, &pick(keys, rows).map_err(internal)?)?
            }
            None if !stamped(column) => continue,
            _ => chunk.column(column, rows).map_err(internal)?,
        };
        columns.push((column.name(), values));
    }
    RecordBatch::try_from_iter(columns).map_err(internal)
}

fn dictionary(words: &StringArray, keys: &ArrayRef) -> Result<ArrayRef, LakeError> {
    let keys = cast(keys, &DataType::UInt32).map_err(internal)?;
    let keys = keys.as_primitive::<UInt32Type>().clone();
    Ok(Arc::new(DictionaryArray::try_new(keys, Arc::new(words.clone())).map_err(internal)?))
}

fn repeated(text: &str, rows: usize) -> Result<ArrayRef, LakeError> {
    let words = StringArray::from(vec![text]);
    Ok(Arc::new(DictionaryArray::try_new(UInt8Array::from(vec![0; rows]), Arc::new(words)).map_err(internal)?))
}
