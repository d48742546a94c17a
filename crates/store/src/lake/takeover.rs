//! A row group of one file becomes one of another, byte for byte. Owns what has to go with it: bloom filters, the places and
//! bounds of its pages, and what is known of its values; refuses groups that were not made by `encode`.

use parquet::bloom_filter::Sbbf;
use parquet::column::writer::ColumnCloseResult;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use runstone_record::Column;

use super::LakeError;
use super::encode::{FileEncoder, internal};
use super::source::{Pieces, int_bounds};

/// A row group with all its bytes.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) bytes: Pieces,
    /// Of its file, with the page index.
    pub(crate) metadata: ParquetMetaData,
    pub(crate) group: usize,
}

impl Stored {
    fn group(&self) -> &RowGroupMetaData {
        self.metadata.row_group(self.group)
    }
}

impl FileEncoder {
    /// Could the groups of a file be groups of this one?
    pub(crate) fn takes(&self, metadata: &ParquetMetaData) -> bool {
        metadata.file_metadata().schema_descr().root_schema() == self.writer.schema_descr().root_schema()
    }

    /// One row group of another file, as it is. Its times must lie after all groups' before it.
    pub(crate) fn take_over(&mut self, stored: &Stored) -> Result<(), LakeError> {
        let from = stored.group();
        let (least, greatest) = int_bounds(from, Column::Timestamp);
        self.check_order(Some(least), Some(greatest))?;
        let rows = u64::try_from(from.num_rows()).map_err(internal)?;
        let mut group = self.writer.next_row_group().map_err(internal)?;
        for (place, chunk) in from.columns().iter().enumerate() {
            self.bounds.add_chunk(chunk, rows);
            let pages = stored.metadata.offset_index().and_then(|index| index.get(stored.group)?.get(place).cloned());
            let bounds = stored.metadata.column_index().and_then(|index| index.get(stored.group)?.get(place).cloned());
            let close = ColumnCloseResult {
                bytes_written: u64::try_from(chunk.compressed_size()).map_err(internal)?,
                rows_written: rows,
                metadata: chunk.clone(),
                bloom_filter: Sbbf::read_from_column_chunk(chunk, &stored.bytes).map_err(internal)?,
                column_index: bounds.filter(|bounds| !matches!(bounds, ColumnIndexMetaData::NONE)),
                offset_index: pages,
            };
            group.append_column(&stored.bytes, close).map_err(internal)?;
        }
        group.close().map_err(internal)?;
        self.bounds.rows += rows;
        Ok(())
    }
}
