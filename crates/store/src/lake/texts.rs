//! The texts of one column in a row group, laid out so that they compress. Owns the order of a dictionary's words and
//! whether there is a dictionary; the bytes are made in `pages`.
//!
//! Words lie by length and then by text: log lines of one shape are then neighbours, and differ in a few digits at the
//! same places. The rows keep their own order, which makes ids, positions and times cheap, at the price of one index a
//! row. Sorting the rows by message instead would make those cost more than the messages save.

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, UInt32Type};
use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::bloom_filter::Sbbf;
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::ByteArray;
use parquet::file::statistics::{Statistics, ValueStatistics};
use parquet::schema::types::ColumnDescPtr;
use runstone_record::{Column, Kind};

use super::LakeError;
use super::bounds::{has_bounds, prefix, raised};
use super::encode::internal;
use super::pages::{ChunkWriter, PAGE_ROWS, indices, levels, plain};

/// Bytes of a dictionary: readers hold all of it at once.
const DICTIONARY_BYTES_MAX: usize = 64 << 20;
/// Bytes of a page of texts.
const PAGE_BYTES: usize = 1 << 20;
/// The share of false answers of a bloom filter.
pub(crate) const BLOOM_FALSE: f64 = 0.03;

/// A column's texts.
pub(crate) struct Texts {
    /// Texts that rows refer to.
    words: StringArray,
    /// The words that differ and that some row has, by length and text.
    sorted: Vec<u32>,
    /// Each row's place in `sorted`; 0 where it has no value.
    keys: Vec<u32>,
    nulls: Option<NullBuffer>,
}

impl Texts {
    /// Of texts, or of a dictionary of texts.
    pub(crate) fn new(values: &ArrayRef) -> Result<Self, LakeError> {
        match values.data_type() {
            DataType::Dictionary(_, _) => {
                let dictionary = values.as_any_dictionary();
                let words = cast(dictionary.values(), &DataType::Utf8).map_err(internal)?;
                let words = words.as_string::<i32>().clone();
                let keys = cast(&dictionary.keys().slice(0, values.len()), &DataType::UInt32).map_err(internal)?;
                // A key may name a word that is null.
                let nulls = values.logical_nulls().filter(|nulls| nulls.null_count() > 0);
                let keys = keys.as_primitive::<UInt32Type>().values().to_vec();
                Ok(Self::sort(words, Some(keys), nulls))
            }
            _ => {
                let words = cast(values, &DataType::Utf8).map_err(internal)?;
                let nulls = words.logical_nulls().filter(|nulls| nulls.null_count() > 0);
                Ok(Self::sort(words.as_string::<i32>().clone(), None, nulls))
            }
        }
    }

    fn sort(words: StringArray, keys: Option<Vec<u32>>, nulls: Option<NullBuffer>) -> Self {
        let rows = keys.as_ref().map_or(words.len(), Vec::len);
        let is_valid = |row: usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
        let mut used = vec![keys.is_none() && nulls.is_none(); words.len()];
        match &keys {
            Some(keys) => (0..rows).filter(|row| is_valid(*row)).for_each(|row| used[keys[row] as usize] = true),
            None => (0..rows).filter(|row| is_valid(*row)).for_each(|row| used[row] = true),
        }
        let mut order: Vec<(u128, u32)> = (0_u32..)
            .zip(&used)
            .filter(|(_, used)| **used)
            .map(|(word, _)| (rank(words.value(word as usize)), word))
            .collect();
        let rest = |word: u32| words.value(word as usize).as_bytes().get(RANK_BYTES..);
        // The stable sort, for it is fast over what is partly in order: dictionaries of files that are merged.
        order.sort_by(|(a, x), (b, y)| a.cmp(b).then_with(|| rest(*x).cmp(&rest(*y))));

        let mut places = vec![0_u32; words.len()];
        let mut sorted: Vec<u32> = Vec::with_capacity(order.len());
        for (_, word) in order {
            if sorted.last().is_none_or(|last| words.value(*last as usize) != words.value(word as usize)) {
                sorted.push(word);
            }
            places[word as usize] = u32::try_from(sorted.len() - 1).unwrap_or(u32::MAX);
        }
        let keys = match keys {
            None => places,
            Some(mut keys) => {
                for (row, key) in keys.iter_mut().enumerate() {
                    *key = if is_valid(row) { places[*key as usize] } else { 0 };
                }
                keys
            }
        };
        Self { words, sorted, keys, nulls }
    }

    fn word(&self, place: usize) -> &str {
        self.words.value(self.sorted[place] as usize)
    }

    fn all(&self) -> impl Iterator<Item = &str> {
        self.sorted.iter().map(|word| self.words.value(*word as usize))
    }

    /// The least and the greatest.
    pub(crate) fn range(&self) -> Option<(&str, &str)> {
        Some((self.all().min()?, self.all().max()?))
    }

    /// Rows without a value.
    pub(crate) fn nulls(&self) -> usize {
        self.nulls.as_ref().map_or(0, NullBuffer::null_count)
    }

    /// Bytes of all rows' texts.
    fn bytes(&self) -> u64 {
        let lengths: Vec<u64> = self.all().map(|word| word.len() as u64).collect();
        let of = |row: usize| if self.is_valid(row) { lengths[self.keys[row] as usize] } else { 0 };
        (0..self.keys.len()).map(of).sum()
    }

    /// The column chunk.
    pub(crate) fn encode(
        &self,
        column: Column,
        descriptor: ColumnDescPtr,
        level: i32,
    ) -> Result<(Bytes, ColumnCloseResult), LakeError> {
        let mut chunk = ChunkWriter::new(descriptor, level)?;
        let bytes: usize = self.all().map(str::len).sum();
        // Random digits do not become shorter by lying in order: an index a row would be added for nothing.
        let random = column.kind() == Kind::Hex && self.sorted.len() * 2 > self.keys.len();
        // Where no row has a value there is no dictionary that a page could refer to.
        if random || self.sorted.is_empty() || bytes > DICTIONARY_BYTES_MAX {
            self.write_plain(&mut chunk)?;
        } else {
            self.write_dictionary(&mut chunk, bytes)?;
        }
        chunk.finish(self.bytes(), self.statistics(column), self.bloom(column)?)
    }

    fn write_dictionary(&self, chunk: &mut ChunkWriter, bytes: usize) -> Result<(), LakeError> {
        let mut words = Vec::with_capacity(bytes + 4 * self.sorted.len());
        self.all().try_for_each(|word| plain(&mut words, word))?;
        chunk.dictionary(&words, self.sorted.len())?;
        let width = width(self.sorted.len());
        let mut body = Vec::new();
        let mut present = Vec::new();
        // Where all rows are equal, one page is as good as many.
        let page_rows = if self.sorted.len() == 1 && self.nulls.is_none() { self.keys.len() } else { PAGE_ROWS };
        for start in (0..self.keys.len()).step_by(page_rows.max(1)) {
            let rows = page_rows.min(self.keys.len() - start);
            let keys = &self.keys[start..start + rows];
            body.clear();
            let valid = self.write_levels(chunk, &mut body, start, rows);
            match valid {
                None => indices(&mut body, width, keys),
                Some(valid) => {
                    present.clear();
                    present.extend(valid.valid_indices().map(|row| keys[row]));
                    indices(&mut body, width, &present);
                }
            }
            chunk.data(&body, rows, Encoding::RLE_DICTIONARY)?;
        }
        Ok(())
    }

    fn write_plain(&self, chunk: &mut ChunkWriter) -> Result<(), LakeError> {
        let mut body = Vec::new();
        let page_rows = if self.sorted.is_empty() { self.keys.len() } else { PAGE_ROWS };
        let mut start = 0;
        while start < self.keys.len() {
            let (mut rows, mut bytes) = (0, 0);
            while start + rows < self.keys.len() && rows < page_rows && bytes < PAGE_BYTES {
                if self.is_valid(start + rows) {
                    bytes += self.word(self.keys[start + rows] as usize).len();
                }
                rows += 1;
            }
            body.clear();
            self.write_levels(chunk, &mut body, start, rows);
            for row in (start..start + rows).filter(|row| self.is_valid(*row)) {
                plain(&mut body, self.word(self.keys[row] as usize))?;
            }
            chunk.data(&body, rows, Encoding::PLAIN)?;
            start += rows;
        }
        Ok(())
    }

    /// The nulls of some rows, where there are any.
    fn write_levels(&self, chunk: &ChunkWriter, body: &mut Vec<u8>, start: usize, rows: usize) -> Option<NullBuffer> {
        let nulls = self.nulls.as_ref().map(|nulls| nulls.slice(start, rows)).filter(|nulls| nulls.null_count() > 0);
        if chunk.is_nullable() {
            let bits = nulls.as_ref().map(|nulls| nulls.inner().sliced());
            levels(body, rows, bits.as_deref());
        }
        nulls
    }

    fn is_valid(&self, row: usize) -> bool {
        self.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row))
    }

    fn statistics(&self, column: Column) -> Statistics {
        let nulls = Some(self.nulls() as u64);
        let range = if has_bounds(column) { self.range() } else { None };
        let (least, greatest) = range.map_or((None, None), |(least, greatest)| {
            let bytes = |text: &str| ByteArray::from(text.as_bytes().to_vec());
            (
                Some((bytes(prefix(least)), prefix(least) == least)),
                raised(greatest).map(|up| (bytes(&up), up == greatest)),
            )
        });
        let (least, least_exact) = least.unzip();
        let (greatest, greatest_exact) = greatest.unzip();
        Statistics::ByteArray(
            ValueStatistics::new(least, greatest, None, nulls, false)
                .with_min_is_exact(least_exact.unwrap_or(false))
                .with_max_is_exact(greatest_exact.unwrap_or(false)),
        )
    }

    fn bloom(&self, column: Column) -> Result<Option<Sbbf>, LakeError> {
        if column != Column::RunId || self.sorted.is_empty() {
            return Ok(None);
        }
        let mut bloom = Sbbf::new_with_ndv_fpp(self.sorted.len() as u64, BLOOM_FALSE).map_err(internal)?;
        self.all().for_each(|word| bloom.insert(word.as_bytes()));
        Ok(Some(bloom))
    }
}

/// Bytes of a text in its rank.
const RANK_BYTES: usize = 12;

/// A text's length and beginning, as a number that orders like them.
fn rank(text: &str) -> u128 {
    let mut bytes = [0; 16];
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    let kept = text.len().min(RANK_BYTES);
    bytes[4..4 + kept].copy_from_slice(&text.as_bytes()[..kept]);
    u128::from_be_bytes(bytes)
}

/// Bits of an index. Whole bytes and halves let the compressor see one index as one symbol.
fn width(words: usize) -> u32 {
    match words {
        0 | 1 => 0,
        2 => 1,
        3..=4 => 2,
        5..=16 => 4,
        17..=256 => 8,
        _ => usize::BITS - (words - 1).leading_zeros(),
    }
}
