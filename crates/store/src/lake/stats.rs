//! Statistics of a data file as the log's JSON has them. Owns both directions; refuses to invent a bound: what it cannot
//! read is missing.

use arrow::array::temporal_conversions::date32_to_datetime;
use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::Date32Type;
use runstone_record::time::{format_micros, parse_rfc3339};
use runstone_record::{Column, Kind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::file::{Bound, ColumnStats, FileStats};

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Json {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    num_records: Option<u64>,
    #[serde(default)]
    min_values: Map<String, Value>,
    #[serde(default)]
    max_values: Map<String, Value>,
    #[serde(default)]
    null_count: Map<String, Value>,
}

/// The text of an `add`'s `stats`; None where nothing is known.
pub(crate) fn to_json(stats: &FileStats) -> Option<String> {
    let mut json = Json { num_records: stats.rows, ..Json::default() };
    for column in &stats.columns {
        let name = column.column.name();
        if let Some(least) = column.least.as_ref().and_then(|bound| value(column.column, bound)) {
            json.min_values.insert(name.to_owned(), least);
        }
        if let Some(greatest) = column.greatest.as_ref().and_then(|bound| value(column.column, bound)) {
            json.max_values.insert(name.to_owned(), greatest);
        }
        if let Some(nulls) = column.nulls {
            json.null_count.insert(name.to_owned(), Value::from(nulls));
        }
    }
    let known = json.num_records.is_some() || !stats.columns.is_empty();
    known.then(|| serde_json::to_string(&json).ok()).flatten()
}

/// What an `add`'s `stats` says; nothing where it cannot be read.
pub(crate) fn from_json(text: &str) -> FileStats {
    let Ok(mut json) = serde_json::from_str::<Json>(text) else {
        return FileStats::default();
    };
    let mut columns = Vec::new();
    for column in Column::ALL {
        let name = column.name();
        let least = json.min_values.remove(name).and_then(|value| bound(column, value, false));
        let greatest = json.max_values.remove(name).and_then(|value| bound(column, value, true));
        let nulls = json.null_count.get(name).and_then(Value::as_u64);
        if least.is_some() || greatest.is_some() || nulls.is_some() {
            columns.push(ColumnStats { column, least, greatest, nulls });
        }
    }
    FileStats { rows: json.num_records, columns }
}

fn value(column: Column, bound: &Bound) -> Option<Value> {
    match bound {
        Bound::Text(text) => Some(Value::from(text.as_str())),
        Bound::Int(micros) if column.kind() == Kind::Time => Some(Value::from(format_micros(*micros))),
        Bound::Int(int) => Some(Value::from(*int)),
        Bound::Float(float) => serde_json::Number::from_f64(*float).map(Value::Number),
    }
}

fn bound(column: Column, value: Value, greatest: bool) -> Option<Bound> {
    match column.kind() {
        Kind::Time => time(value.as_str()?, greatest).map(Bound::Int),
        Kind::Int => value.as_i64().map(Bound::Int),
        Kind::Float => value.as_f64().map(Bound::Float),
        Kind::List | Kind::Date => None,
        _ => match value {
            Value::String(text) => Some(Bound::Text(text)),
            _ => None,
        },
    }
}

/// Most writers cut times to milliseconds, and leave readers to know that a greatest one may be up to one greater.
fn time(text: &str, greatest: bool) -> Option<i64> {
    let micros = parse_rfc3339(text).ok()?;
    let fraction = text.split_once('.').map_or("", |(_, rest)| rest);
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    let exact = digits >= 6;
    Some(if greatest && !exact { micros.saturating_add(999) } else { micros })
}

/// `2026-11-20`, of days since 1970.
pub(crate) fn format_date(days: i32) -> Option<String> {
    date32_to_datetime(days).map(|time| time.date().to_string())
}

/// Days since 1970, of `2026-11-20`.
pub(crate) fn parse_date(text: &str) -> Option<i32> {
    Date32Type::parse(text)
}
