//! From waiting records to files, one at a time. Owns which records share a file and a row group; refuses to upload them.
//!
//! A file has records of one day of arrival. Row groups hold disjoint times, over all files of a flush.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, RecordBatch, StringArray, UInt8Array, new_null_array};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, TimestampMicrosecondType, UInt32Type};
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
    parts: VecDeque<Part>,
    /// The part that is being encoded.
    part: Part,
    /// Its row groups that are still to come, each with its day.
    groups: VecDeque<(i32, Rows)>,
    /// Positions that are not to be written, in order.
    dropped: Vec<u64>,
    options: WriterOptions,
}

impl Plan {
    /// For records of one journal, in the order of their positions, without those that are `dropped`.
    pub(crate) fn new(chunks: Vec<Arc<Chunk>>, dropped: Vec<u64>, options: WriterOptions) -> Self {
        let mut parts: VecDeque<Part> = VecDeque::new();
        for chunk in chunks {
            match parts.back_mut() {
                // Records that were lost leave a gap, and a file has none.
                Some(part) if part.last() + 1 == chunk.first && part.bytes + chunk.bytes <= PART_BYTES => {
                    part.push(chunk);
                }
                _ => parts.push_back(Part::of(chunk)),
            }
        }
        Self { parts, part: Part::default(), groups: VecDeque::new(), dropped, options }
    }

    /// The next file and its day; none after the last.
    pub(crate) fn next_file(&mut self) -> Result<Option<(i32, Encoded)>, LakeError> {
        while self.groups.is_empty() {
            if !self.next_part()? {
                return Ok(None);
            }
        }
        let Some((day, _)) = self.groups.front() else { return Ok(None) };
        let day = *day;
        let mut file = FileEncoder::new(EncodeOptions::default())?;
        while let Some((_, rows)) = self.groups.pop_front_if(|(next, _)| *next == day) {
            file.write_group(&self.part.batch(&rows)?)?;
            if file.bytes_written() as u64 >= self.options.file_bytes {
                break;
            }
        }
        file.finish().map(|encoded| Some((day, encoded)))
    }

    fn next_part(&mut self) -> Result<bool, LakeError> {
        self.part = Part::default();
        let Some(part) = self.parts.pop_front() else { return Ok(false) };
        let times = part.times()?;
        let rows_max = (self.options.group_bytes / (part.bytes / part.rows.max(1)).max(1))
            .clamp(1, self.options.group_rows.max(1));
        for (day, rows) in part.days() {
            let rows = part.without(rows, &self.dropped);
            self.groups.extend(groups(&times, &rows, rows_max).into_iter().map(|rows| (day, rows)));
        }
        self.part = part;
        Ok(true)
    }
}

/// Records that share row groups. They stay where they are: their rows are counted over all chunks, and only those of a
/// row group are ever laid out next to each other.
#[derive(Default)]
struct Part {
    /// Each with the rows before it.
    chunks: Vec<(usize, Arc<Chunk>)>,
    rows: usize,
    bytes: usize,
}

impl Part {
    fn of(chunk: Arc<Chunk>) -> Self {
        let mut part = Self::default();
        part.push(chunk);
        part
    }

    fn push(&mut self, chunk: Arc<Chunk>) {
        let before = self.rows;
        self.rows += chunk.rows;
        self.bytes += chunk.bytes;
        self.chunks.push((before, chunk));
    }

    fn last(&self) -> u64 {
        self.chunks.last().map_or(0, |(_, chunk)| chunk.last())
    }

    /// The rows of each day of arrival.
    fn days(&self) -> BTreeMap<i32, Rows> {
        let mut ranges: BTreeMap<i32, Vec<Range<usize>>> = BTreeMap::new();
        for (before, chunk) in &self.chunks {
            let mut start = *before;
            for run in &chunk.runs {
                let (end, ranges) = (before + run.end, ranges.entry(crate::chunk::day(run.ingested_at)).or_default());
                match ranges.last_mut() {
                    Some(last) if last.end == start => last.end = end,
                    _ => ranges.push(start..end),
                }
                start = end;
            }
        }
        let rows = |ranges: Vec<Range<usize>>| match ranges.as_slice() {
            [only] => Rows::Range(only.start, only.len()),
            _ => picked(ranges.into_iter().flatten()),
        };
        ranges.into_iter().map(|(day, ranges)| (day, rows(ranges))).collect()
    }

    /// The rows whose positions are not among these.
    fn without(&self, rows: Rows, dropped: &[u64]) -> Rows {
        let of = |(before, chunk): &(usize, Arc<Chunk>)| {
            let here = dropped.partition_point(|position| *position < chunk.first)
                ..dropped.partition_point(|position| *position <= chunk.last());
            let (before, first) = (*before, chunk.first);
            dropped[here].iter().filter_map(move |position| Some(before + usize::try_from(position - first).ok()?))
        };
        let dropped: Vec<usize> = self.chunks.iter().flat_map(of).collect();
        if dropped.is_empty() {
            return rows;
        }
        picked(rows.iter().filter(|row| dropped.binary_search(row).is_err()))
    }

    fn times(&self) -> Result<Vec<i64>, LakeError> {
        let mut times = Vec::with_capacity(self.rows);
        for (_, chunk) in &self.chunks {
            let here = chunk.column(Column::Timestamp, &Rows::Range(0, chunk.rows)).map_err(internal)?;
            times.extend_from_slice(here.as_primitive::<TimestampMicrosecondType>().values());
        }
        Ok(times)
    }

    /// Rows in their order, for each chunk those that it has, by their place in it.
    fn pieces(&self, rows: &Rows) -> Vec<(&Chunk, Rows)> {
        let of = |(before, chunk): &'_ (usize, Arc<Chunk>)| {
            let end = before + chunk.rows;
            match rows {
                Rows::Range(start, len) => {
                    let (from, to) = (*start.max(before), (start + len).min(end));
                    Rows::Range(from.saturating_sub(*before), to.saturating_sub(from))
                }
                Rows::Picked(places) => {
                    let places = places.values();
                    let until = |end: usize| places.partition_point(|place| (*place as usize) < end);
                    picked(places[until(*before)..until(end)].iter().map(|place| *place as usize - before))
                }
            }
        };
        let pieces = self.chunks.iter().map(|chunk| (&*chunk.1, of(chunk)));
        pieces.filter(|(_, rows)| rows.len() > 0).collect()
    }

    /// Some rows as the encoder takes them. Columns that no row has are left out.
    fn batch(&self, rows: &Rows) -> Result<RecordBatch, LakeError> {
        let pieces = self.pieces(rows);
        let mut columns: Vec<(&str, ArrayRef)> = Vec::new();
        for column in Column::ALL {
            if let Some(values) = join(column, &pieces)? {
                columns.push((column.name(), values));
            }
        }
        RecordBatch::try_from_iter(columns).map_err(internal)
    }
}

/// Places in their order.
fn picked(places: impl Iterator<Item = usize>) -> Rows {
    Rows::Picked(places.filter_map(|place| u32::try_from(place).ok()).collect::<Vec<_>>().into())
}

/// A column of some rows of a chunk, words as a dictionary; none where no row has a value.
fn values(chunk: &Chunk, column: Column, rows: &Rows) -> Result<Option<ArrayRef>, LakeError> {
    let is_stamped = matches!(column, Column::Id | Column::Position | Column::IngestedAt);
    Ok(Some(match chunk.stored(column) {
        _ if column == Column::Journal => repeated(&chunk.journal, rows.len())?,
        Some(Stored::Words { words, keys }) if column.kind() != Kind::List => {
            dictionary(words, &pick(keys, rows).map_err(internal)?)?
        }
        None if !is_stamped => return Ok(None),
        _ => chunk.column(column, rows).map_err(internal)?,
    }))
}

/// A column over all pieces; none where no row has a value.
fn join(column: Column, pieces: &[(&Chunk, Rows)]) -> Result<Option<ArrayRef>, LakeError> {
    let mut found = Vec::with_capacity(pieces.len());
    for (chunk, rows) in pieces {
        found.push((values(chunk, column, rows)?, rows.len()));
    }
    let Some(kind) = found.iter().find_map(|(values, _)| Some(values.as_ref()?.data_type().clone())) else {
        return Ok(None);
    };
    let found: Vec<ArrayRef> =
        found.into_iter().map(|(values, rows)| values.unwrap_or_else(|| new_null_array(&kind, rows))).collect();
    match found.as_slice() {
        [only] => Ok(Some(Arc::clone(only))),
        _ => concat(&found.iter().map(AsRef::as_ref).collect::<Vec<_>>()).map(Some).map_err(internal),
    }
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
