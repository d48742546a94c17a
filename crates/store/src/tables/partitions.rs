//! Columns that stand in the paths of files, as `day=2026-11-28/` does. Owns finding them, and the type that all their
//! values have.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use object_store::path::Path;

use super::TableError;

/// How a null is written in a path.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The columns of a path, with their values.
fn of_path(path: &Path) -> Vec<(String, Option<String>)> {
    let parts: Vec<_> = path.parts().collect();
    let directories = parts.split_last().map_or(&[][..], |(_, directories)| directories);
    directories
        .iter()
        .filter_map(|part| {
            let (name, value) = part.as_ref().split_once('=')?;
            let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
            Some((decoded(name), (value != NULL).then(|| decoded(&decoded(value)))))
        })
        .collect()
}

/// The columns that all paths have, and each path's values in their order.
pub(super) fn find<'p>(
    paths: impl Iterator<Item = &'p Path>,
) -> Result<(Vec<FieldRef>, Vec<Vec<ScalarValue>>), TableError> {
    let values: Vec<Vec<(String, Option<String>)>> = paths.map(of_path).collect();
    let names = |row: &[(String, Option<String>)]| row.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let columns = values.first().map(|row| names(row)).unwrap_or_default();
    if values.iter().any(|row| names(row) != columns) {
        let message = "its files have different columns in their paths; give every file the same directories";
        return Err(TableError::Unfit(message.to_owned()));
    }
    let fields: Vec<FieldRef> = columns
        .iter()
        .enumerate()
        .map(|(place, name)| {
            let kind = kind(&values.iter().filter_map(|row| row[place].1.as_deref()));
            Arc::new(Field::new(name, kind, true))
        })
        .collect();
    let rows = values.into_iter().map(|row| {
        let typed = row.into_iter().zip(&fields).map(|((_, value), field)| scalar(value, field.data_type()));
        typed.collect::<Result<Vec<_>, _>>()
    });
    Ok((fields.clone(), rows.collect::<Result<_, _>>()?))
}

/// Whole numbers, days, or texts.
fn kind<'v>(values: &(impl Iterator<Item = &'v str> + Clone)) -> DataType {
    let mut seen = values.clone().peekable();
    let plain = |value: &str| value.parse::<i64>().is_ok_and(|number| number.to_string() == value);
    let day = |value: &str| value.len() == 10 && value.parse::<jiff::civil::Date>().is_ok();
    match seen.peek() {
        Some(_) if values.clone().all(plain) => DataType::Int64,
        Some(_) if values.clone().all(day) => DataType::Date32,
        _ => DataType::Utf8,
    }
}

/// A value from its text.
pub(super) fn scalar(value: Option<String>, kind: &DataType) -> Result<ScalarValue, TableError> {
    match value {
        Some(text) => ScalarValue::try_from_string(text, kind),
        None => ScalarValue::try_from(kind),
    }
    .map_err(|error| TableError::Unfit(format!("a path has a wrong value: {}", error.strip_backtrace())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_paths_have_the_type_of_all() {
        let paths =
            ["y=2024/d=2024-01-02/k=a%20b/x.parquet", "y=7/d=2024-01-03/k=__HIVE_DEFAULT_PARTITION__/x.parquet"];
        let paths = paths.map(|path| Path::parse(path).unwrap());
        let (fields, rows) = find(paths.iter()).unwrap();
        let kinds: Vec<_> = fields.iter().map(|field| (field.name().as_str(), field.data_type().clone())).collect();
        assert_eq!(kinds, [("y", DataType::Int64), ("d", DataType::Date32), ("k", DataType::Utf8)]);
        assert_eq!(rows[0][0], ScalarValue::Int64(Some(2_024)));
        assert_eq!(rows[0][2], ScalarValue::from("a b"));
        assert_eq!(rows[1][2], ScalarValue::Utf8(None));
        let zeros = [Path::from("m=01/x"), Path::from("m=2/x")];
        assert_eq!(find(zeros.iter()).unwrap().0[0].data_type(), &DataType::Utf8);
        assert!(find([Path::from("a=1/x"), Path::from("x")].iter()).is_err());
    }
}
