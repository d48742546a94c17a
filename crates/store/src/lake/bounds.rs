//! The bounds of a file's columns, gathered while its row groups are written. Owns which columns have bounds and how
//! long texts are cut; refuses to know how the log writes them.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{max, max_string, min, min_string};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMicrosecondType};
use parquet::data_type::ByteArray;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::Statistics;
use runstone_record::{Column, Kind};

use super::file::{Bound, ColumnStats, FileStats};

/// Bytes of a text in statistics. A journal's name is shorter: what is cut is never equal to anything.
pub(crate) const BOUND_BYTES_MAX: usize = 64;

/// The bounds so far.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    pub(crate) rows: u64,
    columns: Vec<Gathered>,
}

#[derive(Debug)]
struct Gathered {
    column: Column,
    range: Option<(Bound, Bound)>,
    /// None: not known.
    nulls: Option<u64>,
    /// A value that no bound can bound.
    is_unbounded: bool,
}

/// Do queries look for values of this column, so that its bounds are worth their bytes?
pub(crate) fn has_bounds(column: Column) -> bool {
    !matches!(column.kind(), Kind::Text | Kind::Json | Kind::List | Kind::Date) && column != Column::Pathname
}

impl Bounds {
    /// A column's numbers, times or ids in the next row group.
    pub(crate) fn add(&mut self, column: Column, values: &ArrayRef) {
        let range = if has_bounds(column) { range(values) } else { Range::None };
        self.extend(column, range, Some(values.logical_null_count() as u64));
    }

    /// A column's texts in the next row group; none where they are not to have bounds.
    pub(crate) fn add_texts(&mut self, column: Column, range: Option<(&str, &str)>, nulls: usize) {
        let range = match range {
            Some((least, greatest)) => Range::Of(Bound::Text(least.into()), Bound::Text(greatest.into())),
            None => Range::None,
        };
        self.extend(column, range, Some(nulls as u64));
    }

    /// A column of a row group that is taken over, by its own statistics.
    pub(crate) fn add_chunk(&mut self, chunk: &ColumnChunkMetaData, rows: u64) {
        // A list is stored in a column below its own.
        let name = chunk.column_path().parts().first().map_or("", String::as_str);
        let Some(column) = Column::ALL.into_iter().find(|column| column.name() == name) else { return };
        let nulls = stored_nulls(chunk, column);
        let range = match chunk.statistics().and_then(stored) {
            _ if !has_bounds(column) => Range::None,
            Some((least, greatest)) => Range::Of(least, greatest),
            None if nulls == Some(rows) => Range::None,
            None => Range::Unbounded,
        };
        self.extend(column, range, nulls);
    }

    fn extend(&mut self, column: Column, range: Range, nulls: Option<u64>) {
        let place = match self.columns.iter().position(|known| known.column == column) {
            Some(place) => place,
            None => {
                self.columns.push(Gathered { column, range: None, nulls: Some(0), is_unbounded: false });
                self.columns.len() - 1
            }
        };
        self.columns[place].extend(range, nulls);
    }

    /// What is known of the file.
    pub(crate) fn finish(self) -> FileStats {
        let columns = self.columns.into_iter().map(Gathered::finish).collect();
        FileStats { rows: Some(self.rows), columns }
    }
}

enum Range {
    None,
    Of(Bound, Bound),
    Unbounded,
}

impl Gathered {
    fn extend(&mut self, range: Range, nulls: Option<u64>) {
        self.nulls = self.nulls.zip(nulls).map(|(known, more)| known + more);
        match range {
            Range::None => {}
            Range::Unbounded => self.is_unbounded = true,
            Range::Of(least, greatest) => {
                self.range = Some(match self.range.take() {
                    None => (least, greatest),
                    Some((low, high)) => (lesser(low, least), greater(high, greatest)),
                });
            }
        }
    }

    fn finish(self) -> ColumnStats {
        let (least, greatest) = match self.range {
            Some((least, greatest)) if !self.is_unbounded => (Some(cut(least)), raise(greatest)),
            _ => (None, None),
        };
        ColumnStats { column: self.column, least, greatest, nulls: self.nulls }
    }
}

fn range(values: &ArrayRef) -> Range {
    let of = |least: Option<Bound>, greatest: Option<Bound>| match (least, greatest) {
        (Some(least), Some(greatest)) => Range::Of(least, greatest),
        _ => Range::None,
    };
    match values.data_type() {
        DataType::Utf8 => {
            let texts = values.as_string::<i32>();
            let own = |text: &str| Bound::Text(text.to_owned());
            of(min_string(texts).map(own), max_string(texts).map(own))
        }
        DataType::Int64 => {
            let values = values.as_primitive::<Int64Type>();
            of(min(values).map(Bound::Int), max(values).map(Bound::Int))
        }
        DataType::Timestamp(_, _) => {
            let values = values.as_primitive::<TimestampMicrosecondType>();
            of(min(values).map(Bound::Int), max(values).map(Bound::Int))
        }
        DataType::Float64 => {
            let values = values.as_primitive::<Float64Type>();
            match (min(values), max(values)) {
                _ if values.iter().flatten().any(f64::is_nan) => Range::Unbounded,
                // Readers may take -0 and 0 for different numbers, or for one.
                (Some(least), Some(greatest)) => {
                    let least = if least == 0.0 { -0.0 } else { least };
                    let greatest = if greatest == 0.0 { 0.0 } else { greatest };
                    Range::Of(Bound::Float(least), Bound::Float(greatest))
                }
                _ => Range::None,
            }
        }
        _ => Range::Unbounded,
    }
}

/// How many rows have no value in a stored column. What a list's statistics count are items that are not there, and an empty
/// list has none either; its levels tell that apart from no list.
fn stored_nulls(chunk: &ColumnChunkMetaData, column: Column) -> Option<u64> {
    match column.kind() {
        Kind::List => chunk.definition_level_histogram()?.get(0).and_then(|rows| u64::try_from(rows).ok()),
        _ => chunk.statistics().and_then(Statistics::null_count_opt),
    }
}

/// The bounds of a stored column, which may be cut and raised already.
fn stored(stats: &Statistics) -> Option<(Bound, Bound)> {
    let text = |bytes: &ByteArray| bytes.as_utf8().ok().map(|text| Bound::Text(text.to_owned()));
    match stats {
        Statistics::Int64(values) => Some((Bound::Int(*values.min_opt()?), Bound::Int(*values.max_opt()?))),
        Statistics::Double(values) => Some((Bound::Float(*values.min_opt()?), Bound::Float(*values.max_opt()?))),
        Statistics::ByteArray(values) => Some((text(values.min_opt()?)?, text(values.max_opt()?)?)),
        _ => None,
    }
}

fn lesser(one: Bound, other: Bound) -> Bound {
    match (&one, &other) {
        (Bound::Text(a), Bound::Text(b)) if b < a => other,
        (Bound::Int(a), Bound::Int(b)) if b < a => other,
        (Bound::Float(a), Bound::Float(b)) if b.total_cmp(a).is_lt() => other,
        _ => one,
    }
}

fn greater(one: Bound, other: Bound) -> Bound {
    match (&one, &other) {
        (Bound::Text(a), Bound::Text(b)) if b > a => other,
        (Bound::Int(a), Bound::Int(b)) if b > a => other,
        (Bound::Float(a), Bound::Float(b)) if b.total_cmp(a).is_gt() => other,
        _ => one,
    }
}

fn cut(bound: Bound) -> Bound {
    match bound {
        Bound::Text(text) => Bound::Text(prefix(&text).to_owned()),
        other => other,
    }
}

/// A bound that is not less: a text that is cut ends in the character after its last.
fn raise(bound: Bound) -> Option<Bound> {
    match bound {
        Bound::Text(text) => raised(&text).map(Bound::Text),
        other => Some(other),
    }
}

pub(crate) fn prefix(text: &str) -> &str {
    &text[..text.floor_char_boundary(BOUND_BYTES_MAX)]
}

/// The least short text that is not less than `text`; none where there is none.
pub(crate) fn raised(text: &str) -> Option<String> {
    if text.len() <= BOUND_BYTES_MAX {
        return Some(text.to_owned());
    }
    let mut kept: Vec<char> = prefix(text).chars().collect();
    while let Some(last) = kept.pop() {
        // The characters before and after the surrogates are neighbours.
        let next = if last == '\u{D7FF}' { Some('\u{E000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            kept.push(next);
            return Some(kept.into_iter().collect());
        }
    }
    None
}
