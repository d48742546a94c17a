//! Is a data file what its entry in the log says? Owns reading one to its end, every column of it, and naming what is damaged;
//! refuses to believe its footer.

use std::ops::Range;

use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaDataReader};
use runstone_record::Column;

use super::source::{blocking, int_bounds};
use super::{Lake, LakeError, LakeFile, log};

/// Stretches of bytes or positions that are named one by one.
const NAMED_MAX: usize = 8;
/// Bytes after the footer: its length and the end's mark.
const FOOTER_END_BYTES: usize = 8;

impl Lake {
    /// Reads a data file whole, and gives the number of its records.
    ///
    /// # Errors
    /// [`LakeError::Damaged`] where the file is gone, cannot be read or holds something else than its entry says;
    /// [`LakeError::Storage`] where the storage fails.
    pub async fn check_file(&self, file: &LakeFile) -> Result<u64, LakeError> {
        let damaged = |what: String| LakeError::Damaged(format!("{}: {what}", file.path));
        let path = Path::parse(&file.path).map_err(|error| damaged(error.to_string()))?;
        let answer = match self.store().get(&path).await {
            Ok(answer) => answer.bytes().await,
            Err(object_store::Error::NotFound { .. }) => return Err(damaged("the file is gone".to_owned())),
            Err(error) => Err(error),
        };
        let bytes = answer.map_err(|error| log::failed(&format!("read {}", file.path), error))?;
        if bytes.len() as u64 != file.bytes {
            return Err(damaged(format!("it has {} bytes, the log says {}", bytes.len(), file.bytes)));
        }
        let checked = file.clone();
        let rows = blocking(move || Ok(check(&checked, bytes))).await?.map_err(damaged)?;
        match file.stats.rows {
            Some(said) if said != rows => Err(damaged(format!("it has {rows} records, the log says {said}"))),
            _ => Ok(rows),
        }
    }
}

/// The records in a file's bytes, or what is wrong with them.
fn check(file: &LakeFile, bytes: Bytes) -> Result<u64, String> {
    let differing = file.sums.iter().flat_map(|sums| sums.differing(0, &bytes));
    let differing = joined(differing.map(|range| (range.start, range.end)).collect());
    if !differing.is_empty() {
        return Err(describe(file, &bytes, &differing));
    }
    let read = || {
        let mut rows = 0;
        for batch in ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()? {
            rows += batch?.num_rows() as u64;
        }
        Ok(rows)
    };
    read().map_err(|error: ParquetError| error.to_string())
}

/// Which bytes are not what was written, and whose they are.
fn describe(file: &LakeFile, bytes: &Bytes, differing: &[(u64, u64)]) -> String {
    let what = format!("bytes {} are not what was written", named(differing));
    let overlaps = |range: &Range<u64>| differing.iter().any(|(start, end)| *start < range.end && range.start < *end);
    if footer(bytes).is_none_or(|footer| overlaps(&footer)) {
        return format!("{what}: without its footer none of its records can be read");
    }
    let positions = ParquetMetaDataReader::new().parse_and_finish(bytes).map(|metadata| {
        let groups = metadata.row_groups().iter().filter(|group| {
            let mut chunks = group.columns().iter().map(ColumnChunkMetaData::byte_range);
            chunks.any(|(start, length)| overlaps(&(start..start + length)))
        });
        let bounds = groups.map(|group| int_bounds(group, Column::Position));
        joined(bounds.map(|(first, last)| (first, last.saturating_add(1))).collect())
    });
    match positions {
        Ok(positions) if positions.is_empty() => format!("{what}: no records are among them"),
        Ok(positions) => {
            let journal = file.journal().unwrap_or("unknown");
            format!("{what}: among them are records at positions {} of journal {journal}", named(&positions))
        }
        Err(error) => format!("{what}: {error}"),
    }
}

/// Where the footer and its length lie, by its length.
fn footer(bytes: &Bytes) -> Option<Range<u64>> {
    let (rest, end) = bytes.split_at_checked(bytes.len().checked_sub(FOOTER_END_BYTES)?)?;
    let length = u32::from_le_bytes(*end.first_chunk()?);
    let start = (rest.len() as u64).checked_sub(u64::from(length))?;
    Some(start..bytes.len() as u64)
}

/// Stretches of which none touches another, in order.
fn joined<T: Copy + Ord>(mut stretches: Vec<(T, T)>) -> Vec<(T, T)> {
    stretches.sort_unstable();
    let mut joined: Vec<(T, T)> = Vec::with_capacity(stretches.len());
    for (start, end) in stretches {
        match joined.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => joined.push((start, end)),
        }
    }
    joined
}

/// Stretches in words, their last place in place of their end.
fn named<T: Copy + std::fmt::Display + std::ops::Sub<Output = T> + From<u8>>(stretches: &[(T, T)]) -> String {
    let words = stretches.iter().take(NAMED_MAX).map(|(start, end)| format!("{start} to {}", *end - T::from(1)));
    let mut words = words.collect::<Vec<_>>().join(", ");
    if let more @ 1.. = stretches.len().saturating_sub(NAMED_MAX) {
        words.push_str(&format!(" and {more} more stretches"));
    }
    words
}
