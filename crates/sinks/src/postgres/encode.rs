//! Rows in PostgreSQL's binary COPY format (its manual, "COPY", "Binary Format"). Owns the layout of a row; a row is laid
//! out once, however often it is sent.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use runstone_record::limits::POSTGRES_PIECE_ROWS;
use runstone_record::{Batch, Column};

use super::fill::{Filled, fill};
use super::table::FIELDS;
use crate::Delivery;

/// Microseconds from 1970 to 2000, where PostgreSQL begins to count.
pub(super) const EPOCH_US: i64 = 946_684_800_000_000;
/// The first byte of a `jsonb`: its version.
const JSONB_VERSION: u8 = 1;
/// The type `text` as the element of an array.
const TEXT_OID: u32 = 25;

/// The columns of FIELDS that have defaults.
const DEFAULTED: usize = 2;

/// What comes before the first row and behind the last.
pub(super) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// See [`HEADER`].
pub(super) const TRAILER: &[u8] = b"\xff\xff";

/// The rows of a delivery. Each few hundred are laid out when they are first sent, so that the server works on those before.
pub(super) struct Rows<'a> {
    source: &'a str,
    records: Vec<(&'a Batch, usize, u64)>,
    pieces: Vec<Option<Piece>>,
}

/// Some rows, back to back.
struct Piece {
    bytes: Bytes,
    /// Where each ends.
    ends: Vec<usize>,
}

impl<'a> Rows<'a> {
    pub(super) fn of(delivery: Delivery<'a>) -> Self {
        let records: Vec<_> = delivery.records().collect();
        let pieces = (0..records.len().div_ceil(POSTGRES_PIECE_ROWS)).map(|_| None).collect();
        Self { source: delivery.source, records, pieces }
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// A row's batch, its row there and its position.
    pub(super) fn record(&self, row: usize) -> Option<(&'a Batch, usize, u64)> {
        self.records.get(row).copied()
    }

    /// The same of the row with a position.
    pub(super) fn at(&self, position: u64) -> Option<(&'a Batch, usize, u64)> {
        let place = self.records.binary_search_by_key(&position, |(_, _, other)| *other).ok()?;
        self.record(place)
    }

    /// The bytes of the first of some rows, and how many they are.
    pub(super) fn next(&mut self, rows: &Range<usize>) -> (Bytes, usize) {
        let place = rows.start / POSTGRES_PIECE_ROWS;
        let first = place * POSTGRES_PIECE_ROWS;
        let last = rows.end.min(first + POSTGRES_PIECE_ROWS);
        let Some(piece) = self.pieces.get_mut(place) else { return (Bytes::new(), rows.len()) };
        let records = self.records.get(first..).unwrap_or_default();
        let piece = piece.get_or_insert_with(|| Piece::of(self.source, records));
        let at = |row: usize| (row - first).checked_sub(1).and_then(|row| piece.ends.get(row).copied()).unwrap_or(0);
        (piece.bytes.slice(at(rows.start)..at(last)), last - rows.start)
    }
}

impl Piece {
    fn of(source: &str, records: &[(&Batch, usize, u64)]) -> Self {
        let mut rows = Row { out: BytesMut::new() };
        let mut ends = Vec::with_capacity(POSTGRES_PIECE_ROWS);
        for (batch, row, position) in records.iter().take(POSTGRES_PIECE_ROWS) {
            rows.record(batch, *row, source, *position);
            ends.push(rows.out.len());
        }
        Self { bytes: rows.out.freeze(), ends }
    }
}

/// Where rows are written.
struct Row {
    out: BytesMut,
}

/// A record's text has less than 2³¹ bytes by far: so has its request.
fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}

impl Row {
    fn text(&mut self, text: &str) {
        self.out.put_i32(length(text.len()));
        self.out.put_slice(text.as_bytes());
    }

    fn null(&mut self) {
        self.out.put_i32(-1);
    }

    fn maybe_text(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.null(),
        }
    }

    fn int(&mut self, value: Option<i32>) {
        match value {
            Some(value) => {
                self.out.put_i32(4);
                self.out.put_i32(value);
            }
            None => self.null(),
        }
    }

    fn long(&mut self, value: Option<i64>) {
        match value {
            Some(value) => {
                self.out.put_i32(8);
                self.out.put_i64(value);
            }
            None => self.null(),
        }
    }

    fn time(&mut self, micros: i64) {
        self.long(Some(micros.saturating_sub(EPOCH_US)));
    }

    fn float(&mut self, value: Option<f64>) {
        match value {
            Some(value) => {
                self.out.put_i32(8);
                self.out.put_f64(value);
            }
            None => self.null(),
        }
    }

    fn json(&mut self, text: Option<&str>) {
        match text {
            Some(text) => {
                self.out.put_i32(length(text.len() + 1));
                self.out.put_u8(JSONB_VERSION);
                self.out.put_slice(text.as_bytes());
            }
            None => self.null(),
        }
    }

    fn list<T: AsRef<str>>(&mut self, items: Option<&[T]>) {
        let Some(items) = items else { return self.null() };
        let bytes: usize = items.iter().map(|item| 4 + item.as_ref().len()).sum();
        let dimensions: usize = usize::from(!items.is_empty());
        self.out.put_i32(length(12 + 8 * dimensions + bytes));
        self.out.put_i32(length(dimensions));
        // No item is null.
        self.out.put_i32(0);
        self.out.put_u32(TEXT_OID);
        if dimensions == 1 {
            self.out.put_i32(length(items.len()));
            self.out.put_i32(1);
        }
        items.iter().for_each(|item| self.text(item.as_ref()));
    }

    /// One row, its columns in the order of the table.
    fn record(&mut self, batch: &Batch, row: usize, source: &str, position: u64) {
        let filled = fill(batch, row);
        self.out.put_i16(i16::try_from(FIELDS.len() - DEFAULTED).unwrap_or(i16::MAX));
        self.line(&filled, batch, row);
        self.text(source);
        self.long(Some(i64::try_from(position).unwrap_or(i64::MAX)));
        self.time(batch.ingested_at());
        for column in [Column::SourceSystem, Column::Stage, Column::RunId, Column::Type, Column::Title, Column::Status]
        {
            self.maybe_text(batch.text(column, row));
        }
        self.float(batch.float(Column::Duration, row));
        self.long(batch.int(Column::RowCount, row));
        for column in
            [Column::EntityName, Column::TargetTable, Column::NotebookName, Column::WorkspaceId, Column::LakehouseId]
        {
            self.maybe_text(batch.text(column, row));
        }
        self.list(filled.capabilities.as_deref());
        self.maybe_text(batch.text(Column::TraceId, row));
        self.maybe_text(batch.text(Column::SpanId, row));
        self.out.put_i32(16);
        self.out.put_u128(batch.ids().get(row).as_u128());
        self.int(Some(filled.filled));
    }

    /// The columns of the Python module.
    fn line(&mut self, filled: &Filled<'_>, batch: &Batch, row: usize) {
        self.time(filled.timestamp);
        self.text(filled.level);
        self.text(filled.logger_name);
        self.int(Some(filled.process_id));
        self.long(Some(filled.thread_id));
        self.maybe_text(filled.thread_name);
        self.text(filled.hostname);
        self.text(filled.message);
        self.maybe_text(batch.text(Column::Exception, row));
        self.maybe_text(filled.function_name);
        self.maybe_text(filled.module);
        self.maybe_text(filled.filename);
        self.int(filled.lineno);
        self.maybe_text(batch.text(Column::Pathname, row));
        self.json(filled.extra_data.as_deref());
    }
}
