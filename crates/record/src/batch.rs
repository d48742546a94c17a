//! A batch: records accepted together, in columns, with everything stamped on but their positions, which the
//! journal gives. Valid by construction: made by `parse` and [`crate::build`], or decoded from a frame.

use crate::bits::Bits;
use crate::columns::{Column, Kind};
use crate::ids::Ids;
use crate::json::RecordWriter;
use crate::values::Values;

/// The request that a batch came from, where it had an `Idempotency-Key`: what a repetition must match and be
/// answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The key.
    pub key: String,
    /// XXH3-64 of the decoded body.
    pub body_hash: u64,
    /// Records of the request that were there before.
    pub duplicates: u32,
    /// Records of the request that were refused.
    pub rejected: u32,
    /// Their errors, as the JSON array of the answer.
    pub errors: String,
}

/// Records accepted together, column-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    pub(crate) rows: usize,
    pub(crate) ingested_at: i64,
    pub(crate) ids: Ids,
    pub(crate) origin: Option<Origin>,
    pub(crate) columns: Vec<Option<Values>>,
}

impl Batch {
    /// How many records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Are there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// When the server took them, in microseconds since 1970.
    #[must_use]
    pub fn ingested_at(&self) -> i64 {
        self.ingested_at
    }

    /// Their ids.
    #[must_use]
    pub fn ids(&self) -> &Ids {
        &self.ids
    }

    /// The request that they came from, where it can be repeated.
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// Names the request that they came from.
    #[must_use]
    pub fn with_origin(mut self, origin: Option<Origin>) -> Self {
        self.origin = origin;
        self
    }

    /// A column; none where no record has a value, or where the column is not stored in a batch (`id`,
    /// `journal`, `position`, `ingested_at`, `date`).
    #[must_use]
    pub fn column(&self, column: Column) -> Option<&Values> {
        self.columns[column.index()].as_ref()
    }

    /// The ids and the columns, in the order of the table, to be taken over as they are.
    #[must_use]
    pub fn into_parts(self) -> (Ids, Vec<Option<Values>>) {
        (self.ids, self.columns)
    }

    /// A record's text in a column.
    #[must_use]
    pub fn text(&self, column: Column, row: usize) -> Option<&str> {
        self.column(column)?.text(row)
    }

    /// A record's integer, or time in microseconds, in a column.
    #[must_use]
    pub fn int(&self, column: Column, row: usize) -> Option<i64> {
        self.column(column)?.int(row)
    }

    /// A record's float in a column.
    #[must_use]
    pub fn float(&self, column: Column, row: usize) -> Option<f64> {
        self.column(column)?.float(row)
    }

    /// When a record happened, in microseconds since 1970.
    #[must_use]
    pub fn timestamp(&self, row: usize) -> i64 {
        self.int(Column::Timestamp, row).unwrap_or(self.ingested_at)
    }

    /// The records that `keep` names.
    #[must_use]
    pub fn filter(&self, keep: &Bits) -> Self {
        let rows: Vec<usize> = (0..self.rows).filter(|row| keep.get(*row)).collect();
        let mut client = Bits::default();
        rows.iter().for_each(|row| client.push(self.ids.client_hash(*row).is_some()));
        let ids = Ids::Given {
            ids: rows.iter().map(|row| self.ids.get(*row)).collect(),
            hashes: rows.iter().map(|row| self.ids.client_hash(*row).unwrap_or(0)).collect(),
            client,
        };
        let columns = self.columns.iter().map(|values| values.as_ref()?.pick(&rows)).collect();
        Self { rows: rows.len(), ingested_at: self.ingested_at, ids, origin: self.origin.clone(), columns }
    }

    /// Appends one record as a JSON object of the API, version 1.
    pub fn write_json(&self, row: usize, journal: &str, position: u64, out: &mut Vec<u8>) {
        let mut writer = RecordWriter::new(out);
        for column in Column::ALL {
            match column {
                Column::Id => writer.text(column, &self.ids.get(row).to_string()),
                Column::Journal => writer.text(column, journal),
                Column::Position => writer.int(column, i64::try_from(position).unwrap_or(i64::MAX)),
                Column::IngestedAt => writer.int(column, self.ingested_at),
                Column::Date => {}
                _ => self.write_field(row, column, &mut writer),
            }
        }
        writer.end();
    }

    fn write_field(&self, row: usize, column: Column, writer: &mut RecordWriter<'_>) {
        match column.kind() {
            Kind::Time | Kind::Int | Kind::Date => {
                if let Some(value) = self.int(column, row) {
                    writer.int(column, value);
                }
            }
            Kind::Float => {
                if let Some(value) = self.float(column, row) {
                    writer.float(column, value);
                }
            }
            _ => {
                if let Some(text) = self.text(column, row) {
                    writer.text(column, text);
                }
            }
        }
    }
}
