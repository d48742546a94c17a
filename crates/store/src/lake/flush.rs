//! Frames on their way into the lake: gathered, laid out as row groups whose times do not overlap, and brought in by
//! one commit. Owns which rows go into which file; refuses to decide when, and to read a journal.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, RecordBatch, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, TimestampMicrosecondType, UInt32Type};
use runstone_record::limits::{LAKE_FILE_BYTES, LAKE_GROUP_ROWS, LAKE_UPLOADED_MS_MAX};
use runstone_record::{Batch, Column, Kind};

use super::encode::{EncodeOptions, FileEncoder, internal};
use super::{Change, Encoded, Lake, LakeError, LakeFile, LakeSnapshot, Txn};
use crate::chunk::{Chunk, Stored, day};
use crate::rows::{Rows, pick};

/// Small chunks that are merged into one while more come.
const MERGE_CHUNKS: usize = 64;

/// How a flush lays its rows out.
#[derive(Debug, Clone, Copy)]
pub struct WriterOptions {
    /// Rows of a row group.
    pub group_rows: usize,
    /// Bytes after which a file is closed.
    pub file_bytes: u64,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { group_rows: LAKE_GROUP_ROWS, file_bytes: LAKE_FILE_BYTES }
    }
}

/// What waits for the next flush.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pending {
    /// Records.
    pub rows: usize,
    /// Bytes that they take in memory.
    pub bytes: usize,
    /// The least time of arrival, in microseconds since 1970.
    pub oldest: Option<i64>,
    /// The first position.
    pub first: Option<u64>,
    /// The last position.
    pub last: Option<u64>,
}

/// What a flush did.
#[derive(Debug, Clone)]
pub struct Flushed {
    /// The table with it.
    pub snapshot: Arc<LakeSnapshot>,
    /// The journal whose records these are.
    pub journal: String,
    /// Its last position in the table.
    pub through: u64,
    /// Records.
    pub rows: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Files.
    pub files: u64,
}

/// Frames that wait for the next flush.
#[derive(Debug)]
pub struct LakeWriter {
    lake: Lake,
    options: WriterOptions,
    /// In the order of their positions, of one journal.
    chunks: Vec<Arc<Chunk>>,
    /// Chunks before this one are merged.
    merged: usize,
    pending: Pending,
    /// Files of exactly what is pending, where only the commit failed, and when they were uploaded.
    uploaded: Option<(i64, Vec<LakeFile>)>,
}

impl LakeWriter {
    /// Nothing pending.
    #[must_use]
    pub fn new(lake: Lake, options: WriterOptions) -> Self {
        Self { lake, options, chunks: Vec::new(), merged: 0, pending: Pending::default(), uploaded: None }
    }

    /// Adds the records of a frame whose first position is `first`. Frames come in the order of their positions, and
    /// all that are pending belong to one journal.
    ///
    /// # Errors
    /// [`LakeError::Internal`] where they do not; nothing was added.
    pub fn push(&mut self, journal: &str, first: u64, batch: Batch) -> Result<(), LakeError> {
        if batch.is_empty() {
            return Ok(());
        }
        let newest = self.chunks.last();
        if let Some(other) = newest.filter(|newest| &*newest.journal != journal) {
            return Err(LakeError::Internal(format!("flush {} before {journal}", other.journal)));
        }
        if self.pending.last.is_some_and(|last| first <= last) {
            return Err(LakeError::Internal(format!("take position {first} after {:?}", self.pending.last)));
        }
        let journal = newest.map_or_else(|| journal.into(), |newest| Arc::clone(&newest.journal));
        let arrived = batch.ingested_at();
        let chunk = Chunk::from_batch(journal, first, batch).map_err(internal)?;
        self.uploaded = None;
        self.pending.rows += chunk.rows;
        self.pending.bytes += chunk.bytes;
        self.pending.oldest = Some(self.pending.oldest.map_or(arrived, |oldest| oldest.min(arrived)));
        self.pending.first.get_or_insert(first);
        self.pending.last = Some(chunk.last());
        self.chunks.push(Arc::new(chunk));
        if self.chunks.len() - self.merged >= MERGE_CHUNKS {
            self.merge_small()?;
        }
        Ok(())
    }

    /// Small frames cost more than their records.
    fn merge_small(&mut self) -> Result<(), LakeError> {
        let small = self.chunks.split_off(self.merged);
        for neighbours in small.chunk_by(|one, next| one.last() + 1 == next.first) {
            let before: usize = neighbours.iter().map(|chunk| chunk.bytes).sum();
            let merged = match neighbours {
                [one] => Arc::clone(one),
                several => Arc::new(Chunk::merge(several).map_err(internal)?),
            };
            self.pending.bytes = self.pending.bytes.saturating_sub(before) + merged.bytes;
            self.chunks.push(merged);
        }
        self.merged = self.chunks.len();
        Ok(())
    }

    /// What waits.
    #[must_use]
    pub fn pending(&self) -> Pending {
        self.pending
    }

    /// Forgets what is pending: the caller reads the journal again.
    pub fn clear(&mut self) {
        self.chunks.clear();
        self.merged = 0;
        self.pending = Pending::default();
        self.uploaded = None;
    }

    /// Brings what is pending into the lake as one commit, on top of a journal that is there through `after`. None:
    /// nothing was pending.
    ///
    /// # Errors
    /// What is pending stays so. [`LakeError::Conflict`]: the journal is not there through `after`.
    pub async fn flush(&mut self, after: Option<u64>) -> Result<Option<Flushed>, LakeError> {
        let (Some(newest), Some(through)) = (self.chunks.last(), self.pending.last) else {
            return Ok(None);
        };
        let journal = newest.journal.to_string();
        let now_ms = self.lake.now_ms();
        // A file that no commit names is removed after the grace of vacuum: an old upload must not be committed.
        let files = match self.uploaded.take() {
            Some((at, files)) if (0..LAKE_UPLOADED_MS_MAX).contains(&(now_ms - at)) => files,
            _ => self.upload().await?,
        };
        let rows = self.pending.rows as u64;
        let bytes = files.iter().map(|file| file.bytes).sum();
        let change = Change {
            journal: Some(Txn { journal: journal.clone(), after, through }),
            add: files.clone(),
            remove: Vec::new(),
            data_change: true,
            operation: "WRITE",
            metrics: vec![("numFiles", files.len() as u64), ("numOutputRows", rows), ("numOutputBytes", bytes)],
        };
        match self.lake.commit(change).await {
            Ok(snapshot) => {
                self.clear();
                Ok(Some(Flushed { snapshot, journal, through, rows, bytes, files: files.len() as u64 }))
            }
            Err(error) => {
                self.uploaded = Some((now_ms, files));
                Err(error)
            }
        }
    }

    async fn upload(&mut self) -> Result<Vec<LakeFile>, LakeError> {
        let mut files = Vec::new();
        for neighbours in self.chunks.chunk_by(|one, next| one.last() + 1 == next.first) {
            let chunk = match neighbours {
                [one] => Arc::clone(one),
                several => Arc::new(Chunk::merge(several).map_err(internal)?),
            };
            for (date, rows) in days(&chunk) {
                let mut groups = Groups::new(&chunk, rows, self.options.group_rows).peekable();
                while groups.peek().is_some() {
                    let file = encode_file(&chunk, &mut groups, self.options.file_bytes)?;
                    files.push(self.lake.put(file, date).await?);
                }
            }
        }
        Ok(files)
    }
}

/// One file of as many groups as it has room for.
fn encode_file(chunk: &Chunk, groups: &mut impl Iterator<Item = Rows>, file_bytes: u64) -> Result<Encoded, LakeError> {
    let mut file = FileEncoder::new(EncodeOptions { small: true })?;
    for rows in groups {
        file.write_group(&batch(chunk, &rows)?)?;
        if file.bytes_written() as u64 >= file_bytes {
            break;
        }
    }
    file.finish()
}

/// The rows of each day of arrival: nearly always one range.
fn days(chunk: &Chunk) -> Vec<(i32, Vec<Range<usize>>)> {
    let mut days: Vec<(i32, Vec<Range<usize>>)> = Vec::new();
    let mut start = 0;
    for run in &chunk.runs {
        let date = day(run.ingested_at);
        let place = match days.iter().position(|(known, _)| *known == date) {
            Some(place) => place,
            None => {
                days.push((date, Vec::new()));
                days.len() - 1
            }
        };
        let ranges = &mut days[place].1;
        match ranges.last_mut() {
            Some(last) if last.end == start => last.end = run.end,
            _ => ranges.push(start..run.end),
        }
        start = run.end;
    }
    days
}

/// Row groups: rows in the order of their times, cut into pieces, each in the order of its positions.
struct Groups {
    /// All rows, by time; empty where they are one group as they lie.
    by_time: Vec<u32>,
    whole: Option<Rows>,
    group_rows: usize,
    next: usize,
}

impl Groups {
    fn new(chunk: &Chunk, ranges: Vec<Range<usize>>, group_rows: usize) -> Self {
        let rows: usize = ranges.iter().map(Range::len).sum();
        if let [only] = &ranges[..]
            && rows <= group_rows
        {
            let whole = Some(Rows::Range(only.start, rows));
            return Self { by_time: Vec::new(), whole, group_rows, next: 0 };
        }
        let mut by_time: Vec<u32> =
            ranges.into_iter().flatten().map(|row| u32::try_from(row).unwrap_or(u32::MAX)).collect();
        if let Some(Stored::Plain(times)) = chunk.stored(Column::Timestamp)
            && let Some(times) = times.as_primitive_opt::<TimestampMicrosecondType>()
        {
            let times = times.values();
            // Stable: rows of one time keep the order of their positions.
            by_time.sort_by_key(|row| times[*row as usize]);
        }
        Self { by_time, whole: None, group_rows, next: 0 }
    }
}

impl Iterator for Groups {
    type Item = Rows;

    fn next(&mut self) -> Option<Rows> {
        if let Some(whole) = self.whole.take() {
            return Some(whole);
        }
        let left = self.by_time.len() - self.next;
        if left == 0 {
            return None;
        }
        // Groups of about one size: a last one of a few rows would cost its own dictionaries.
        let count = left.div_ceil(left.div_ceil(self.group_rows));
        let group = &mut self.by_time[self.next..self.next + count];
        group.sort_unstable();
        self.next += count;
        let (first, last) = (group[0] as usize, group[count - 1] as usize);
        Some(match last - first + 1 == count {
            true => Rows::Range(first, count),
            false => Rows::Picked(UInt32Array::from(group.to_vec())),
        })
    }
}

/// Some rows of a chunk as the file has them. Words stay words: the encoder need not find out again which are equal.
fn batch(chunk: &Chunk, rows: &Rows) -> Result<RecordBatch, LakeError> {
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for column in Column::ALL.into_iter().filter(|column| *column != Column::Date) {
        let stamped = column == Column::Id || column.is_stamped();
        let values = match chunk.stored(column) {
            None if !stamped => continue,
            Some(Stored::Words { words, keys }) if column.kind() != Kind::List => {
                let keys = cast(&pick(keys, rows).map_err(internal)?, &DataType::UInt32).map_err(internal)?;
                let keys = keys.as_primitive::<UInt32Type>().clone();
                Arc::new(DictionaryArray::try_new(keys, Arc::new(words.clone())).map_err(internal)?)
            }
            _ => chunk.column(column, rows).map_err(internal)?,
        };
        fields.push(Field::new(column.name(), values.data_type().clone(), true));
        columns.push(values);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(internal)
}
