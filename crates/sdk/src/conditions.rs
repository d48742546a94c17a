//! Filters as conditions in SQL, for what is followed. Owns saying the same as the routes do with the same parameters;
//! refuses what it cannot say.

use runstone_record::stored::{stored, without_nul};
use runstone_record::terms::terms;
use runstone_record::time::{Moment, format_micros};
use runstone_record::{Column, Kind, Level, RecordType};

use crate::error::ClientError;
use crate::filter::{LogsFilter, Params, RunsFilter};

/// A text in a statement.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// What a record must be. Nothing where all are wanted; else each condition follows an ` AND `.
pub(crate) fn of_logs(filter: &LogsFilter) -> Result<String, ClientError> {
    conditions(&filter.0, "timestamp", |name, value| match name {
        "level" => {
            let least = Level::read(value).ok_or("it is no level")?;
            let levels = Level::ALL.iter().filter(|level| **level >= least).map(|level| quoted(level.as_str()));
            Ok(format!("level IN ({})", levels.collect::<Vec<_>>().join(", ")))
        }
        "type" => {
            let kind = RecordType::read(value).ok_or("it is no type of a record")?;
            Ok(format!("type = {}", quoted(kind.as_str())))
        }
        "q" => match terms(value) {
            terms if terms.is_empty() => Err("it has no word or phrase"),
            terms => Ok(terms.iter().map(|term| has_text(term)).collect::<Vec<_>>().join(" AND ")),
        },
        // What the server's configuration says of a record's system is in a table of its own.
        "environment" | "owner" => {
            Ok(format!("source_system IN (SELECT source_system FROM sources WHERE {name} = {})", quoted(value)))
        }
        _ if name.starts_with("metadata.") => Ok(has_member(&name["metadata.".len()..], value)),
        _ => {
            let found = Column::from_field(name).filter(|column| column.name() == name && is_filter(*column));
            let column = found.ok_or("it is no filter")?;
            let kept = stored(column, value).map_err(|_| "no record can have this value")?;
            Ok(format!("{} = {}", column.name(), quoted(&kept)))
        }
    })
}

/// Is the text in title, message or exception, in any case?
fn has_text(text: &str) -> String {
    let pattern = pattern(text);
    format!("(message ILIKE {pattern} OR title ILIKE {pattern} OR exception ILIKE {pattern})")
}

/// A pattern of ILIKE in which the text stands for itself.
fn pattern(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    quoted(&format!("%{escaped}%"))
}

/// Does the metadata say this? A dot in a key may also be a step into an object.
fn has_member(key: &str, value: &str) -> String {
    let value = quoted(value);
    let whole = format!("metadata->>{} = {value}", quoted(key));
    match key.contains('.') {
        true => {
            let mut steps: Vec<_> = key.split('.').map(quoted).collect();
            let last = steps.pop().unwrap_or_default();
            format!("({whole} OR metadata->{}->>{last} = {value})", steps.join("->"))
        }
        false => whole,
    }
}

/// What a run must be.
pub(crate) fn of_runs(filter: &RunsFilter) -> Result<String, ClientError> {
    conditions(&filter.0, "started_at", |name, value| match name {
        "source_system" | "stage" => {
            let column = Column::from_field(name).ok_or("it is no filter")?;
            let kept = stored(column, value).map_err(|_| "no run can have this value")?;
            Ok(format!("{name} = {}", quoted(&kept)))
        }
        "state" | "environment" | "owner" => Ok(format!("{name} = {}", quoted(value))),
        "duration_min" | "duration_max" => {
            let seconds: f64 = value.parse().map_err(|_| "it must be seconds")?;
            let seconds = Some(seconds).filter(|seconds| seconds.is_finite()).ok_or("it must be seconds")?;
            let compared = if name == "duration_min" { ">=" } else { "<=" };
            Ok(format!("duration {compared} {seconds:?}"))
        }
        "q" => {
            let pattern = pattern(value);
            Ok(format!("(run_id ILIKE {pattern} OR title ILIKE {pattern} OR failure ILIKE {pattern})"))
        }
        _ => Err("it is no filter"),
    })
}

fn conditions(
    params: &Params,
    time: &str,
    condition: impl Fn(&str, &str) -> Result<String, &'static str>,
) -> Result<String, ClientError> {
    let mut all = String::new();
    for (name, value) in params.iter().filter(|(_, value)| !value.is_empty()) {
        // As records keep it.
        let (name, value) = (&*without_nul(name), &*without_nul(value));
        let at = || {
            let moment = Moment::parse(value, 0).filter(|moment| !moment.is_relative());
            let moment = moment.ok_or("it must be RFC 3339 with an offset, or a number since 1970")?;
            Ok(format!("TIMESTAMP {}", quoted(&format_micros(moment.micros()))))
        };
        let said = match name {
            // How pages are cut and ordered is nothing to what arrives.
            "limit" | "order" => continue,
            "cursor" => Err("what arrives has no pages"),
            "since" => at().map(|at| format!("{time} >= {at}")),
            "until" => at().map(|at| format!("{time} < {at}")),
            _ => condition(name, value),
        };
        let said = said.map_err(|why| ClientError::Filter { name: name.to_owned(), why })?;
        all.push_str(" AND ");
        all.push_str(&said);
    }
    Ok(all)
}

/// The columns that a record is looked up by.
fn is_filter(column: Column) -> bool {
    matches!(column.kind(), Kind::Id | Kind::Identifier | Kind::Label | Kind::Hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_says_the_same_in_sql() {
        let filter =
            LogsFilter::new().level("warn").kind("ERROR").status("it's").q("50%").with("metadata.a.b", "c").limit(5);
        assert_eq!(
            of_logs(&filter.with("trace_id", "4BF9").since("2026-01-01T01:00:00+01:00")).unwrap(),
            " AND level IN ('WARNING', 'ERROR', 'CRITICAL') AND type = 'error' AND status = 'it''s' \
             AND (message ILIKE '%50\\%%' OR title ILIKE '%50\\%%' OR exception ILIKE '%50\\%%') \
             AND (metadata->>'a.b' = 'c' OR metadata->'a'->>'b' = 'c') AND trace_id = '4bf9' \
             AND timestamp >= TIMESTAMP '2026-01-01T00:00:00.000000Z'"
        );
        let runs = RunsFilter::new().state("failed").with("duration_min", "5").with("order", "longest");
        assert_eq!(of_runs(&runs).unwrap(), " AND state = 'failed' AND duration >= 5.0");
        assert_eq!(of_logs(&LogsFilter::new()).unwrap(), "");
    }

    #[test]
    fn what_cannot_be_followed_is_named() {
        for name in ["cursor", "level", "type", "since", "id", "stage", "message", "position", "description", "x"] {
            let error = of_logs(&LogsFilter::new().with(name, "?")).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        assert!(of_logs(&LogsFilter::new().q(" ")).is_err());
        assert!(of_runs(&RunsFilter::new().with("level", "ERROR")).is_err());
    }
}
