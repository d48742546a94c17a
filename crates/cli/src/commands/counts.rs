//! `runstone metrics` and `runstone fields`: what there is, counted.

use std::process::ExitCode;

use clap::Args;
use runstone_sdk::{MetricsQuery, Row, ValuesQuery};
use serde_json::{Map, Value, json};

use super::filters::{Limit, LogFilters, Times};
use super::reader;
use crate::args::Global;
use crate::clock;
use crate::output::{Format, OutputArgs, Printer, Shape};
use crate::talk::Talk;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runstone metrics --group-by source_system,stage --since -7d
  runstone metrics --source-system shop --bucket 1d --percentiles 50,99
  runstone metrics --group-by stage --json | jq 'select(.failed > 0)'

Columns of tsv and csv: bucket, the names of --group-by, runs, running, succeeded, failed, success_rate, mean and the
percentiles (seconds), row_count, records, warnings, errors. JSON has the API's groups.")]
pub(crate) struct Metrics {
    /// Count these apart: a list of source_system, stage, environment, owner
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    group_by: Vec<String>,
    /// Count so long at a time: 15m, 1h, 1d, 1w
    #[arg(long, value_name = "TIME")]
    bucket: Option<String>,
    /// Which percentiles of the duration
    #[arg(long, value_name = "NUMBERS", default_value = "50,95,99")]
    percentiles: String,
    /// Only this system
    #[arg(long, value_name = "NAME", help_heading = "Filters")]
    source_system: Option<String>,
    /// Only this stage
    #[arg(long, value_name = "NAME", help_heading = "Filters")]
    stage: Option<String>,
    /// Only runs that are running, succeeded or failed
    #[arg(long, value_name = "STATE", help_heading = "Filters")]
    state: Option<String>,
    /// Only systems of this environment
    #[arg(long, value_name = "NAME", help_heading = "Filters")]
    environment: Option<String>,
    /// Only systems of this owner
    #[arg(long, value_name = "NAME", help_heading = "Filters")]
    owner: Option<String>,
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn metrics(args: Metrics, global: &Global) -> anyhow::Result<ExitCode> {
    let group_by = args.group_by.join(",");
    let given = [
        ("group_by", Some(group_by).filter(|names| !names.is_empty())),
        ("bucket", args.bucket.clone()),
        ("percentiles", Some(args.percentiles.clone())),
        ("source_system", args.source_system),
        ("stage", args.stage),
        ("state", args.state),
        ("environment", args.environment),
        ("owner", args.owner),
    ];
    let given = given.into_iter().filter_map(|(name, value)| value.map(|value| (name, value)));
    let given = given.chain(args.times.given(clock::now()));
    let wanted = given.fold(MetricsQuery::new(), |wanted, (name, value)| wanted.with(name, value));
    let answer = reader(global)?.metrics(&wanted).await?;
    let format = args.output.format(Format::Table);
    let percentiles: Vec<String> = args.percentiles.split(',').map(|number| format!("p{}", number.trim())).collect();
    let mut columns: Vec<&str> = args.bucket.iter().map(|_| "bucket").collect();
    columns.extend(args.group_by.iter().map(String::as_str));
    columns.extend(["runs", "running", "succeeded", "failed", "success_rate", "mean"]);
    columns.extend(percentiles.iter().map(String::as_str));
    columns.extend(["row_count", "records", "warnings", "errors"]);
    let shape = Shape { columns: &columns, dispensable: &["warnings", "records", "running", "row_count"], line: None };
    let mut printer = Printer::new(shape, format, global);
    for group in &answer.groups {
        let group = serde_json::to_value(group)?;
        printer.row(Row::of(&if matches!(format, Format::Json | Format::Ndjson) { group } else { flat(group) })?)?;
    }
    printer.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// With the members of `duration` beside the others.
fn flat(group: Value) -> Value {
    let Value::Object(mut group) = group else { return group };
    let duration = group.remove("duration");
    let durations: Map<String, Value> = match duration {
        Some(Value::Object(durations)) => durations,
        _ => Map::new(),
    };
    group.extend(durations);
    Value::Object(group)
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runstone fields
  runstone fields stage
  runstone fields source_system --prefix sh --since -7d

Without FIELD: the fields that records have (name, type, can they be filtered by it, records). With it: its values, the most
frequent first (value, records).")]
pub(crate) struct Fields {
    /// Show the values of this field
    #[arg(value_name = "FIELD")]
    field: Option<String>,
    /// Only values that begin like this
    #[arg(long, value_name = "TEXT", requires = "field")]
    prefix: Option<String>,
    /// At most so many values, up to 1000
    #[arg(short = 'n', long, value_name = "VALUES", requires = "field")]
    limit: Option<Limit>,
    #[command(flatten)]
    filters: LogFilters,
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn fields(args: Fields, global: &Global) -> anyhow::Result<ExitCode> {
    let client = reader(global)?;
    let filter =
        args.times.given(clock::now()).fold(args.filters.filter(), |filter, (name, value)| filter.with(name, value));
    let format = args.output.format(Format::Table);
    let Some(field) = &args.field else {
        let shape = Shape { columns: &["name", "type", "filter", "records"], dispensable: &[], line: None };
        let rows: Result<Vec<_>, _> = client.fields(&filter).await?.fields.iter().map(Row::of).collect();
        Printer::new(shape, format, global).all(rows?)?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut wanted = ValuesQuery::of(field, &filter);
    if let Some(prefix) = args.prefix {
        wanted = wanted.prefix(prefix);
    }
    // As many as there may be is how the API says all.
    let limit = args.limit.map(|limit| limit.count().unwrap_or(runstone_record::limits::PAGE_ROWS_MAX));
    if let Some(limit) = limit {
        wanted = wanted.limit(limit);
    }
    let answer = client.values(&wanted).await?;
    let shape = Shape { columns: &["value", "records"], dispensable: &[], line: None };
    let rows = answer.values.iter().map(|value| Row::of(&json!({"value": value.value, "records": value.records})));
    Printer::new(shape, format, global).all(rows.collect::<Result<Vec<_>, _>>()?)?;
    if answer.truncated {
        Talk::plain().say(format_args!("only the first {} values are shown: there are more", answer.values.len()));
    }
    Ok(ExitCode::SUCCESS)
}
