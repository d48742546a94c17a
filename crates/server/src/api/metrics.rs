//! `GET /api/v1/metrics`: runs counted by group and time.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use runstone_record::run::RunState;
use runstone_record::time::{Moment, format_micros};
use runstone_record::wire::{MetricsAnswer, MetricsDuration, MetricsGroup};
use runstone_record::{Column, ErrorCode, limits};

use super::params::Params;
use super::{App, json};
use crate::http::ApiError;
use crate::runs::{Bucket, Group, GroupBy, MetricsQuery, RunFilter, TooManyGroups};

const MICROS: i64 = 1_000_000;
const DAY: i64 = 86_400;
const WEEK: i64 = 7 * DAY;
/// The first Monday after 1970-01-01, which was a Thursday.
const MONDAY: i64 = 4 * DAY;
const PERCENTILES: [f64; 3] = [50.0, 95.0, 99.0];

impl From<TooManyGroups> for ApiError {
    fn from(error: TooManyGroups) -> Self {
        ApiError::new(ErrorCode::InvalidParameter, error.to_string())
    }
}

pub(super) async fn answer(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let wanted = read_query(app.params(query.as_deref())?)?;
    app.fresh(&app.runs_progress).await?;
    let runs = app.runs.clone();
    // Hundreds of thousands of runs take milliseconds, which the threads that serve connections have not.
    let body = app.sql.aside(move || runs.metrics(&wanted).map(|groups| body(&wanted, &groups))).await??;
    json(StatusCode::OK, &body)
}

/// What runs are filtered by, here and on their pages.
pub(super) fn read_filter(params: &mut Params) -> Result<RunFilter, ApiError> {
    Ok(RunFilter {
        state: params.read("state", "running, succeeded or failed", RunState::from_text)?,
        source_system: params.stored(Column::SourceSystem)?,
        stage: params.stored(Column::Stage)?,
        environment: params.text("environment"),
        owner: params.text("owner"),
        since: params.time("since")?.map(Moment::micros),
        until: params.time("until")?.map(Moment::micros),
    })
}

pub(super) fn read_query(mut params: Params) -> Result<MetricsQuery, ApiError> {
    let filter = read_filter(&mut params)?;
    let names = GroupBy::ALL.map(GroupBy::name).join(", ");
    let group_by = params.read("group_by", &format!("a list of some of {names}, each once"), group_by)?;
    let bucket = "a whole number and s, m, h, d or w, such as 5m, 1h, 7d, up to 100 years";
    let bucket = params.read("bucket", bucket, bucket_of)?;
    let some = format!("a list of up to {} numbers from 0 to 100, each once", limits::METRICS_PERCENTILES_MAX);
    let percentiles = params.read("percentiles", &some, percentiles)?;
    params.finish()?;
    Ok(MetricsQuery {
        filter,
        group_by: group_by.unwrap_or_default(),
        bucket,
        percentiles: percentiles.unwrap_or_else(|| PERCENTILES.to_vec()),
    })
}

fn group_by(text: &str) -> Option<Vec<GroupBy>> {
    let each = |name: &str| GroupBy::ALL.into_iter().find(|by| by.name() == name.trim());
    let by: Vec<GroupBy> = text.split(',').map(each).collect::<Option<_>>()?;
    all_differ(&by).then_some(by)
}

fn bucket_of(text: &str) -> Option<Bucket> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let (unit, origin) = match unit {
        "s" => (1, 0),
        "m" => (60, 0),
        "h" => (3_600, 0),
        "d" => (DAY, 0),
        "w" => (WEEK, MONDAY),
        _ => return None,
    };
    let count: i64 = digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())??;
    let seconds = count.checked_mul(unit)?;
    let is_right = (1..=100 * 366 * DAY).contains(&seconds);
    is_right.then_some(Bucket { micros: seconds * MICROS, origin: origin * MICROS })
}

fn percentiles(text: &str) -> Option<Vec<f64>> {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let each =
        |text: &str| text.trim().parse::<f64>().ok().filter(|at| digits(text.trim()) && (0.0..=100.0).contains(at));
    let found: Vec<f64> = text.split(',').map(each).collect::<Option<_>>()?;
    (found.len() <= limits::METRICS_PERCENTILES_MAX && all_differ(&found)).then_some(found)
}

fn all_differ<T: PartialEq>(items: &[T]) -> bool {
    items.iter().enumerate().all(|(place, item)| !items[..place].contains(item))
}

fn body(wanted: &MetricsQuery, groups: &[Group]) -> MetricsAnswer {
    MetricsAnswer {
        since: wanted.filter.since.map(format_micros),
        until: wanted.filter.until.map(format_micros),
        bucket_seconds: wanted.bucket.and_then(|bucket| u64::try_from(bucket.micros / MICROS).ok()),
        groups: groups.iter().map(|group| group_body(wanted, group)).collect(),
    }
}

fn group_body(wanted: &MetricsQuery, group: &Group) -> MetricsGroup {
    let by = wanted.group_by.iter().zip(group.by.iter());
    let duration = group.durations.as_ref().map(|durations| MetricsDuration {
        sum: durations.sum,
        mean: durations.mean,
        min: durations.min,
        max: durations.max,
        percentiles: wanted
            .percentiles
            .iter()
            .zip(&durations.percentiles)
            .map(|(percentile, value)| (format!("p{percentile}"), *value))
            .collect(),
    });
    MetricsGroup {
        bucket: group.bucket.map(format_micros),
        by: by.map(|(by, name)| (by.name().to_owned(), name.as_deref().map(str::to_owned))).collect(),
        runs: group.runs(),
        running: group.running,
        succeeded: group.succeeded,
        failed: group.failed,
        success_rate: group.success_rate(),
        duration,
        row_count: group.row_count(),
        records: group.records(),
        warnings: group.warnings(),
        errors: group.errors(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_whole_numbers_of_a_unit() {
        let seconds = |text: &str| bucket_of(text).map(|bucket| (bucket.micros / MICROS, bucket.origin / MICROS));
        for (text, right) in [("1s", (1, 0)), ("5m", (300, 0)), ("7d", (7 * DAY, 0)), ("2w", (2 * WEEK, MONDAY))] {
            assert_eq!(seconds(text), Some(right), "{text}");
        }
        for wrong in ["", "s", "0s", "5", "-5m", "+5m", "1.5h", "1y", "5 m", "1µ", "36601d", "9223372036854775807w"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn percentiles_and_groups_are_lists_of_what_differs() {
        assert_eq!(percentiles("50,99.9, 0,100.0"), Some(vec![50.0, 99.9, 0.0, 100.0]));
        for wrong in ["", "50,", "101", "-1", "nan", "inf", "1e1", "5,5.0", "1,2,3,4,5,6,7,8,9,10,11"] {
            assert_eq!(percentiles(wrong), None, "{wrong}");
        }
        assert_eq!(group_by("stage,owner"), Some(vec![GroupBy::Stage, GroupBy::Owner]));
        for wrong in ["", "stage,", "stage,stage", "run_id"] {
            assert_eq!(group_by(wrong), None, "{wrong}");
        }
    }
}
