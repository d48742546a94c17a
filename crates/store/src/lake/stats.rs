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

#[cfg(test)]
mod tests {
    use super::*;

    fn column(column: Column, least: Option<Bound>, greatest: Option<Bound>, nulls: Option<u64>) -> ColumnStats {
        ColumnStats { column, least, greatest, nulls }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let text = |text: &str| Some(Bound::Text(text.to_owned()));
        let int = |int| Some(Bound::Int(int));
        let stats = FileStats {
            rows: Some(u64::MAX),
            columns: vec![
                column(Column::Journal, text("a"), text("a"), Some(0)),
                column(Column::Position, int(i64::MIN), int(i64::MAX), None),
                column(Column::Timestamp, int(-1), int(1_795_179_600_123_456), Some(3)),
                column(Column::IngestedAt, int(1_795_179_600_000_000), int(1_795_179_600_000_000), None),
                column(Column::Stage, None, text("\"ä\u{10ffff}\0\\"), None),
                column(Column::Duration, Some(Bound::Float(-0.1)), Some(Bound::Float(1e300)), Some(1)),
                column(Column::Message, None, None, Some(7)),
            ],
        };
        let json = to_json(&stats).unwrap();
        assert!(json.contains(r#""timestamp":"2026-11-20T13:00:00.123456Z""#), "{json}");
        assert_eq!(from_json(&json), stats);
        assert_eq!(to_json(&FileStats::default()), None);
        let empty = FileStats { rows: Some(0), columns: Vec::new() };
        assert_eq!(to_json(&empty).as_deref().map(from_json), Some(empty));
    }

    #[test]
    fn a_float_that_json_has_no_word_for_is_no_bound() {
        let bounds = column(Column::Duration, Some(Bound::Float(f64::NAN)), Some(Bound::Float(f64::INFINITY)), Some(0));
        let read = from_json(&to_json(&FileStats { rows: Some(1), columns: vec![bounds] }).unwrap());
        assert_eq!(read.columns, [column(Column::Duration, None, None, Some(0))]);
    }

    #[test]
    fn times_that_others_cut_hold_what_they_held() {
        for (text, least, greatest) in [
            ("2026-11-20T13:00:00.123456Z", 123_456, 123_456),
            ("2026-11-20T13:00:00.123Z", 123_000, 123_999),
            ("2026-11-20T13:00:00Z", 0, 999),
            ("2026-11-20T14:00:00.123+01:00", 123_000, 123_999),
        ] {
            let json = format!(r#"{{"minValues":{{"timestamp":"{text}"}},"maxValues":{{"timestamp":"{text}"}}}}"#);
            let base = 1_795_179_600_000_000;
            let (least, greatest) = (Some(Bound::Int(base + least)), Some(Bound::Int(base + greatest)));
            assert_eq!(from_json(&json).columns, [column(Column::Timestamp, least, greatest, None)], "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_known() {
        for text in ["", "null", "[]", "{", r#"{"numRecords":"x"}"#] {
            assert_eq!(from_json(text), FileStats::default(), "{text}");
        }
        let odd = r#"{"numRecords":3,"tightBounds":false,"minValues":{"position":"1","journal":5,"timestamp":7,"theirs":1,
            "duration":"NaN","date":"2026-11-20"},"nullCount":{"position":-1,"capabilities":{"element":0},"stage":2}}"#;
        let stats = from_json(odd);
        assert_eq!((stats.rows, &stats.columns[..]), (Some(3), &[column(Column::Stage, None, None, Some(2))][..]));
    }

    #[test]
    fn days_have_one_text() {
        for (days, text) in [(0, "1970-01-01"), (20_777, "2026-11-20"), (-1, "1969-12-31")] {
            assert_eq!((format_date(days).as_deref(), parse_date(text)), (Some(text), Some(days)));
        }
        for text in ["", "x", "2026-13-01", "__HIVE_DEFAULT_PARTITION__"] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }
}
