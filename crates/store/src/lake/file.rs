//! A file of the table, as its entry in the log describes it.

use runstone_record::Column;

use super::sums::Sums;

/// A data file of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct LakeFile {
    /// Where, relative to the table's root, not percent-encoded.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// The partition: days since 1970. None where a foreign writer gave none.
    pub date: Option<i32>,
    /// When it was added, in milliseconds since 1970.
    pub modified_ms: i64,
    /// What its entry says about its rows.
    pub stats: FileStats,
    /// The checksums of its bytes; None where another writer, or an older server, wrote it.
    pub sums: Option<Sums>,
}

/// What is known of a file's rows without opening it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FileStats {
    /// How many; None where the writer did not say.
    pub rows: Option<u64>,
    /// In the order of the columns; those without statistics are missing.
    pub columns: Vec<ColumnStats>,
}

/// Bounds of one column.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnStats {
    /// Which.
    pub column: Column,
    /// No value is less. Texts may be cut.
    pub least: Option<Bound>,
    /// No value is greater. Texts may be cut, and are then raised.
    pub greatest: Option<Bound>,
    /// How many rows have none.
    pub nulls: Option<u64>,
}

/// A value in statistics.
#[derive(Debug, Clone, PartialEq)]
pub enum Bound {
    /// Of a text.
    Text(String),
    /// Of an integer, or of a time in microseconds since 1970.
    Int(i64),
    /// Of a float.
    Float(f64),
}

impl FileStats {
    /// What is known of a column.
    #[must_use]
    pub fn column(&self, column: Column) -> Option<&ColumnStats> {
        self.columns.iter().find(|stats| stats.column == column)
    }

    fn ints(&self, column: Column) -> Option<(i64, i64)> {
        match self.column(column)? {
            ColumnStats { least: Some(Bound::Int(least)), greatest: Some(Bound::Int(greatest)), .. } => {
                Some((*least, *greatest))
            }
            _ => None,
        }
    }
}

impl LakeFile {
    /// The journal that all its rows came from; None where they came from several, or where that is not known.
    #[must_use]
    pub fn journal(&self) -> Option<&str> {
        match self.stats.column(Column::Journal)? {
            ColumnStats { least: Some(Bound::Text(least)), greatest: Some(Bound::Text(greatest)), .. }
                if least == greatest =>
            {
                Some(least)
            }
            _ => None,
        }
    }

    /// May a journal's rows be in it, by what is known?
    pub(super) fn may_be_of(&self, journal: &str) -> bool {
        let Some(stats) = self.stats.column(Column::Journal) else { return true };
        let is_less = matches!(&stats.least, Some(Bound::Text(least)) if journal < least.as_str());
        let is_greater = matches!(&stats.greatest, Some(Bound::Text(greatest)) if journal > greatest.as_str());
        !is_less && !is_greater
    }

    /// The least and greatest position, where known and such as journals give them.
    #[must_use]
    pub fn positions(&self) -> Option<(u64, u64)> {
        let (least, greatest) = self.position_bounds()?;
        Some((u64::try_from(least).ok()?, u64::try_from(greatest).ok()?))
    }

    /// The same of any file: other writers may give any number.
    pub(crate) fn position_bounds(&self) -> Option<(i64, i64)> {
        self.stats.ints(Column::Position)
    }

    /// The least and greatest timestamp in microseconds, where known.
    #[must_use]
    pub fn times(&self) -> Option<(i64, i64)> {
        self.stats.ints(Column::Timestamp)
    }

    /// The day of arrival that its rows show: its partition, or as near as is known.
    #[must_use]
    pub fn day(&self) -> i32 {
        const MICROS: i64 = 86_400_000_000;
        let arrived = || self.arrivals().map_or(self.modified_ms.saturating_mul(1_000), |arrivals| arrivals.0);
        self.date.unwrap_or_else(|| i32::try_from(arrived().div_euclid(MICROS)).unwrap_or(i32::MAX))
    }

    /// The least and greatest time of arrival in microseconds, where known.
    #[must_use]
    pub fn arrivals(&self) -> Option<(i64, i64)> {
        self.stats.ints(Column::IngestedAt)
    }
}
