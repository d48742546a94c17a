//! A column chunk of texts, page by page, as Parquet's specification has it: one dictionary page and pages of indices,
//! or pages of the texts themselves. Owns the bytes and their compression; refuses to choose between the two.
//!
//! The writer of the `parquet` crate numbers words in the order in which rows name them, so that neighbours in its
//! dictionary are strangers. Here the caller lays the words out (see `texts`), which is worth a quarter of a file.

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, PageType, ZstdLevel};
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{CompressedPage, Page, PageWriteSpec, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use super::LakeError;
use super::encode::internal;

/// Rows of a page of indices: enough for the compressor to learn what is frequent, few enough to forget it in time.
pub(crate) const PAGE_ROWS: usize = 8_192;

/// One column chunk that grows in memory.
pub(crate) struct ChunkWriter {
    column: ColumnDescPtr,
    level: i32,
    zstd: zstd::bulk::Compressor<'static>,
    sink: TrackedWrite<Vec<u8>>,
    dictionary: Option<u64>,
    data: Option<u64>,
    pages: i32,
    encoding: Encoding,
    rows: u64,
    uncompressed: usize,
    offsets: OffsetIndexBuilder,
}

impl ChunkWriter {
    /// Without pages yet.
    pub(crate) fn new(column: ColumnDescPtr, level: i32) -> Result<Self, LakeError> {
        let mut zstd = zstd::bulk::Compressor::new(level).map_err(internal)?;
        // Whoever decompresses a page then sees a bit that flipped.
        zstd.include_checksum(true).map_err(internal)?;
        Ok(Self {
            column,
            level,
            zstd,
            sink: TrackedWrite::new(Vec::new()),
            dictionary: None,
            data: None,
            pages: 0,
            encoding: Encoding::PLAIN,
            rows: 0,
            uncompressed: 0,
            offsets: OffsetIndexBuilder::new(),
        })
    }

    /// The dictionary, before any other page: its words as `plain` makes them.
    pub(crate) fn dictionary(&mut self, plain: &[u8], words: usize) -> Result<(), LakeError> {
        let num_values = u32::try_from(words).map_err(internal)?;
        let compressed = self.compress(plain)?;
        let page = Page::DictionaryPage { buf: compressed, num_values, encoding: Encoding::PLAIN, is_sorted: false };
        let written = self.write(page, plain.len())?;
        self.dictionary = Some(written.offset);
        Ok(())
    }

    /// A page of rows: their definition levels, where the column has them, and their values.
    pub(crate) fn data(&mut self, body: &[u8], rows: usize, encoding: Encoding) -> Result<(), LakeError> {
        let num_values = u32::try_from(rows).map_err(internal)?;
        let page = Page::DataPage {
            buf: self.compress(body)?,
            num_values,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let written = self.write(page, body.len())?;
        self.data.get_or_insert(written.offset);
        self.pages += 1;
        self.encoding = encoding;
        self.rows += rows as u64;
        let at = i64::try_from(written.offset).map_err(internal)?;
        let size = i32::try_from(written.bytes_written).map_err(internal)?;
        self.offsets.append_row_count(i64::from(num_values));
        self.offsets.append_offset_and_size(at, size);
        Ok(())
    }

    /// Has the column definition levels?
    pub(crate) fn is_nullable(&self) -> bool {
        self.column.max_def_level() > 0
    }

    fn compress(&mut self, bytes: &[u8]) -> Result<Bytes, LakeError> {
        self.zstd.compress(bytes).map(Bytes::from).map_err(internal)
    }

    fn write(&mut self, page: Page, uncompressed: usize) -> Result<PageWriteSpec, LakeError> {
        let page = CompressedPage::new(page, uncompressed);
        let written = SerializedPageWriter::new(&mut self.sink).write_page(page).map_err(internal)?;
        self.uncompressed += written.uncompressed_size;
        Ok(written)
    }

    /// The chunk's bytes, and what the file's footer says about it: among other things how many bytes the texts of all
    /// rows have.
    pub(crate) fn finish(
        self,
        text_bytes: u64,
        statistics: Statistics,
        bloom_filter: Option<Sbbf>,
    ) -> Result<(Bytes, ColumnCloseResult), LakeError> {
        let bytes = Bytes::from(self.sink.into_inner().map_err(internal)?);
        let mut encodings = vec![self.encoding, Encoding::RLE];
        let mut kinds =
            vec![PageEncodingStats { page_type: PageType::DATA_PAGE, encoding: self.encoding, count: self.pages }];
        if self.dictionary.is_some() {
            encodings.push(Encoding::PLAIN);
            let (page_type, encoding) = (PageType::DICTIONARY_PAGE, Encoding::PLAIN);
            kinds.insert(0, PageEncodingStats { page_type, encoding, count: 1 });
        }
        let offset = |at: u64| i64::try_from(at).map_err(internal);
        let metadata = ColumnChunkMetaData::builder(self.column)
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(self.level).map_err(internal)?))
            .set_encodings(encodings)
            .set_page_encoding_stats(kinds)
            .set_total_compressed_size(offset(bytes.len() as u64)?)
            .set_total_uncompressed_size(offset(self.uncompressed as u64)?)
            .set_num_values(offset(self.rows)?)
            .set_data_page_offset(offset(self.data.unwrap_or(0))?)
            .set_dictionary_page_offset(self.dictionary.map(offset).transpose()?)
            .set_unencoded_byte_array_data_bytes(Some(offset(text_bytes)?))
            .set_statistics(statistics)
            .build()
            .map_err(internal)?;
        let close = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: self.rows,
            metadata,
            bloom_filter,
            column_index: None,
            offset_index: Some(self.offsets.build()),
        };
        Ok((bytes, close))
    }
}

/// A text as `PLAIN` has it.
pub(crate) fn plain(out: &mut Vec<u8>, text: &str) -> Result<(), LakeError> {
    out.extend_from_slice(&u32::try_from(text.len()).map_err(internal)?.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// Definition levels: which of `rows` rows have a value, by a bitmap whose first bit is the first row's; none: all have.
pub(crate) fn levels(out: &mut Vec<u8>, rows: usize, valid: Option<&[u8]>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    match valid {
        None => repeated(out, rows, 1, 1),
        Some(bits) => {
            let groups = rows.div_ceil(8);
            varint(out, (groups as u64) << 1 | 1);
            out.extend_from_slice(&bits[..groups]);
        }
    }
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Indices into a dictionary: their width, and one run of them.
pub(crate) fn indices(out: &mut Vec<u8>, width: u32, keys: &[u32]) {
    out.push(u8::try_from(width).unwrap_or(32));
    match keys {
        [] => {}
        [first, rest @ ..] if rest.iter().all(|key| key == first) => repeated(out, keys.len(), *first, width),
        _ => packed(out, width, keys),
    }
}

/// A run of equal values.
fn repeated(out: &mut Vec<u8>, count: usize, value: u32, width: u32) {
    varint(out, (count as u64) << 1);
    out.extend_from_slice(&value.to_le_bytes()[..width.div_ceil(8) as usize]);
}

/// A run of values, each in as many bits, the lowest first.
fn packed(out: &mut Vec<u8>, width: u32, keys: &[u32]) {
    let groups = keys.len().div_ceil(8);
    varint(out, (groups as u64) << 1 | 1);
    let end = out.len() + groups * width as usize;
    let (mut bits, mut held) = (0_u64, 0);
    for key in keys {
        bits |= u64::from(*key) << held;
        held += width;
        while held >= 8 {
            out.push(bits.to_le_bytes()[0]);
            bits >>= 8;
            held -= 8;
        }
    }
    if held > 0 {
        out.push(bits.to_le_bytes()[0]);
    }
    out.resize(end, 0);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}
