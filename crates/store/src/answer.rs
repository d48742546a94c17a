//! Rows as JSON, written as they come. Owns how each SQL type looks in an answer: numbers as numbers, times as RFC
//! 3339 with microseconds, days as `YYYY-MM-DD`, lists and records as arrays and objects, JSON as it is, what has no
//! JSON form as text; not-a-number and infinity as null.

use std::io::{self, Write};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, ListArray, StringArray, StructArray,
    TimestampMicrosecondArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType, UInt64Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion_functions_json::{JsonUnionEncoder, JsonUnionValue};
use runstone_record::time::format_micros;

use crate::columns::timestamp;

/// A column, ready to be printed.
pub(crate) enum Cells {
    Null,
    Bool(BooleanArray),
    Int(Int64Array),
    Unsigned(UInt64Array),
    Float(Float64Array),
    Text(StringArray),
    /// Text that is a JSON number: decimals keep all their digits.
    Number(StringArray),
    Time(TimestampMicrosecondArray),
    /// What a clock shows, wherever it hangs.
    Wall(TimestampMicrosecondArray),
    List(ListArray, Box<Cells>),
    Record(StructArray, Vec<(String, Cells)>),
    Json(Box<JsonUnionEncoder>),
}

impl Cells {
    pub(crate) fn new(array: &ArrayRef) -> Result<Self, ArrowError> {
        let to = |kind: &DataType| cast(array, kind);
        Ok(match array.data_type() {
            DataType::Null => Cells::Null,
            DataType::Boolean => Cells::Bool(array.as_boolean().clone()),
            kind if kind.is_signed_integer() => Cells::Int(to(&DataType::Int64)?.as_primitive::<Int64Type>().clone()),
            kind if kind.is_unsigned_integer() => {
                Cells::Unsigned(to(&DataType::UInt64)?.as_primitive::<UInt64Type>().clone())
            }
            kind if kind.is_floating() => Cells::Float(to(&DataType::Float64)?.as_primitive::<Float64Type>().clone()),
            kind if kind.is_decimal() => Cells::Number(printed(array)?),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Cells::Text(to(&DataType::Utf8)?.as_string::<i32>().clone())
            }
            DataType::Dictionary(_, values) => Self::new(&to(values)?)?,
            DataType::Timestamp(_, zone) => {
                let kind = zone.as_ref().map_or(DataType::Timestamp(TimeUnit::Microsecond, None), |_| timestamp());
                let times = to(&kind)?.as_primitive::<TimestampMicrosecondType>().clone();
                if zone.is_some() { Cells::Time(times) } else { Cells::Wall(times) }
            }
            DataType::List(item) => {
                let list = array.as_list::<i32>().clone();
                let _: &Field = item;
                let items = Self::new(list.values())?;
                Cells::List(list, Box::new(items))
            }
            DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                Self::new(&to(&DataType::List(item.clone()))?)?
            }
            DataType::Struct(fields) => {
                let record = array.as_struct().clone();
                let columns = fields
                    .iter()
                    .zip(record.columns())
                    .map(|(field, column)| Ok((field.name().clone(), Self::new(column)?)))
                    .collect::<Result<Vec<_>, ArrowError>>()?;
                Cells::Record(record, columns)
            }
            DataType::Union(..) => match JsonUnionEncoder::from_union(array.as_union().clone()) {
                Some(json) => Cells::Json(Box::new(json)),
                None => Cells::Text(printed(array)?),
            },
            _ => Cells::Text(printed(array)?),
        })
    }

    /// Appends a row's value.
    pub(crate) fn write(&self, row: usize, out: &mut Vec<u8>) {
        // Writing to memory cannot fail.
        let _ = self.print(row, out);
    }

    /// Appends a row's value as a text of its own: texts as they are, everything else as in JSON. False: there is none.
    pub(crate) fn write_plain(&self, row: usize, out: &mut Vec<u8>) -> bool {
        if let Cells::Text(values) = self {
            if values.is_valid(row) {
                out.extend_from_slice(values.value(row).as_bytes());
            }
            return values.is_valid(row);
        }
        if let Cells::Time(values) = self
            && values.is_valid(row)
        {
            out.extend_from_slice(format_micros(values.value(row)).as_bytes());
            return true;
        }
        let start = out.len();
        self.write(row, out);
        let is_null = out[start..] == *b"null";
        if is_null {
            out.truncate(start);
        }
        !is_null
    }

    fn print(&self, row: usize, out: &mut impl Write) -> io::Result<()> {
        let null = b"null";
        match self {
            Cells::Bool(values) if values.is_valid(row) => write!(out, "{}", values.value(row)),
            Cells::Int(values) if values.is_valid(row) => write!(out, "{}", values.value(row)),
            Cells::Unsigned(values) if values.is_valid(row) => write!(out, "{}", values.value(row)),
            Cells::Float(values) if values.is_valid(row) => float(values.value(row), out),
            Cells::Text(values) if values.is_valid(row) => text(values.value(row), out),
            Cells::Number(values) if values.is_valid(row) => out.write_all(values.value(row).as_bytes()),
            Cells::Time(values) if values.is_valid(row) => text(&format_micros(values.value(row)), out),
            Cells::Wall(values) if values.is_valid(row) => {
                text(format_micros(values.value(row)).trim_end_matches('Z'), out)
            }
            Cells::List(list, items) if list.is_valid(row) => {
                let ends = list.value_offsets();
                let place = |end: i32| usize::try_from(end).unwrap_or(0);
                out.write_all(b"[")?;
                for (count, item) in (place(ends[row])..place(ends[row + 1])).enumerate() {
                    if count > 0 {
                        out.write_all(b",")?;
                    }
                    items.print(item, out)?;
                }
                out.write_all(b"]")
            }
            Cells::Record(record, columns) if record.is_valid(row) => print_object(columns, row, out),
            Cells::Json(json) => match json.get_value(row) {
                JsonUnionValue::JsonNull => out.write_all(null),
                JsonUnionValue::Bool(value) => write!(out, "{value}"),
                JsonUnionValue::Int(value) => write!(out, "{value}"),
                JsonUnionValue::Float(value) => float(value, out),
                JsonUnionValue::Str(value) => text(value, out),
                JsonUnionValue::Array(json) | JsonUnionValue::Object(json) => out.write_all(json.as_bytes()),
            },
            _ => out.write_all(null),
        }
    }
}

/// Appends a row as an object, every column in it.
pub(crate) fn write_object(columns: &[(String, Cells)], row: usize, out: &mut Vec<u8>) {
    // Writing to memory cannot fail.
    let _ = print_object(columns, row, out);
}

/// The same, up to so many bytes of `out`. False: it does not fit, and a part of it may have been written.
pub(crate) fn write_object_within(
    columns: &[(String, Cells)],
    row: usize,
    out: &mut Vec<u8>,
    bytes_max: usize,
) -> bool {
    print_object(columns, row, &mut Within { out, bytes_max }).is_ok()
}

fn print_object(columns: &[(String, Cells)], row: usize, out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"{")?;
    for (place, (name, cells)) in columns.iter().enumerate() {
        if place > 0 {
            out.write_all(b",")?;
        }
        text(name, out)?;
        out.write_all(b":")?;
        cells.print(row, out)?;
    }
    out.write_all(b"}")
}

/// Memory that takes no more than it may have.
struct Within<'o> {
    out: &'o mut Vec<u8>,
    bytes_max: usize,
}

impl Write for Within<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.out.len() + bytes.len() > self.bytes_max {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The number, or null for what JSON has no number for.
fn float(value: f64, out: &mut impl Write) -> io::Result<()> {
    Ok(serde_json::to_writer(out, &value)?)
}

fn text(value: &str, out: &mut impl Write) -> io::Result<()> {
    Ok(serde_json::to_writer(out, value)?)
}

fn printed(array: &ArrayRef) -> Result<StringArray, ArrowError> {
    let options = FormatOptions::new();
    let formatter = ArrayFormatter::try_new(array, &options)?;
    (0..array.len())
        .map(|row| {
            if array.is_null(row) {
                return Ok(None);
            }
            formatter.value(row).try_to_string().map(Some)
        })
        .collect()
}

/// Names that differ: a name that was there before gets a number.
pub(crate) fn unique_names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut taken = std::collections::HashSet::new();
    names
        .map(|name| {
            let mut unique = name.to_owned();
            let mut count = 1;
            while !taken.insert(unique.clone()) {
                count += 1;
                unique = format!("{name}_{count}");
            }
            unique
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ListBuilder, StringBuilder};
    use std::sync::Arc;

    #[test]
    fn a_row_is_left_as_soon_as_it_is_known_not_to_fit() {
        let mut lists = ListBuilder::new(StringBuilder::new());
        for _ in 0..10_000 {
            lists.values().append_value("\u{1}".repeat(100));
        }
        lists.append(true);
        let list: ArrayRef = Arc::new(lists.finish());
        let long: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(1_000_000)]));
        for array in [list, long] {
            let columns = [("all".to_owned(), Cells::new(&array).unwrap())];
            let mut out = Vec::new();
            assert!(!write_object_within(&columns, 0, &mut out, 10_000));
            assert!(out.capacity() <= 20_000, "{}", out.capacity());
            let mut whole = Vec::new();
            write_object(&columns, 0, &mut whole);
            out.clear();
            assert!(write_object_within(&columns, 0, &mut out, whole.len()));
            assert_eq!(out, whole);
        }
    }
}
