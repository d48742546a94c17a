//! `runstone runs`: what ran, and one run in full.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use futures::stream::TryStreamExt;
use runstone_record::limits::PAGE_ROWS_MAX;
use runstone_sdk::{Client, LogsFilter, Order, Row, RunsFilter};

use super::filters::{Limit, Times};
use super::follow::{INTERVAL, follow, follower, live};
use super::{logs, reader};
use crate::args::Global;
use crate::clock;
use crate::failure::NotFound;
use crate::output::{Format, OutputArgs, Printer, Shape, run_line};

/// Runs, as they are shown.
const SHAPE: Shape<'_> = Shape {
    columns: &[
        "run_id",
        "state",
        "source_system",
        "stage",
        "started_at",
        "duration",
        "records",
        "warnings",
        "errors",
        "title",
    ],
    dispensable: &["warnings", "records", "errors", "duration", "stage", "source_system"],
    line: Some(run_line),
};

const LIMIT: Limit = Limit::of(100);
const LIMIT_FOLLOWED: Limit = Limit::of(10);
/// How many records are shown below one run.
const LIMIT_RECORDS: Limit = Limit::of(20);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runstone runs
  runstone runs --state failed --since -1d
  runstone runs --source-system shop --follow
  runstone runs 20260101_030000_a1b2c3

Columns of tsv and csv: run_id, state, source_system, stage, started_at, duration (seconds), records, warnings, errors,
title. One run is shown a field a line, and for people its last records below.")]
pub(crate) struct Runs {
    /// Show this run in full
    #[arg(value_name = "RUN_ID", conflicts_with_all = ["source_system", "stage", "state", "environment", "owner", "q", "duration_min", "duration_max", "order", "since", "until", "follow"])]
    run_id: Option<String>,
    /// Only this system
    #[arg(long, value_name = "NAME", help_heading = "Filters")]
    source_system: Option<String>,
    /// Only this stage
    #[arg(long, value_name = "NAME", help_heading = "Filters")]
    stage: Option<String>,
    /// Only runs that are running, succeeded or failed
    #[arg(long, value_name = "STATE", help_heading = "Filters")]
    state: Option<String>,
    /// Only systems of this environment, as the server's configuration says
    #[arg(long, value_name = "NAME", help_heading = "Filters")]
    environment: Option<String>,
    /// Only systems of this owner
    #[arg(long, value_name = "NAME", help_heading = "Filters")]
    owner: Option<String>,
    /// Only runs with this text in id, title or failure, in any case
    #[arg(
        short,
        long = "search",
        visible_alias = "q",
        value_name = "TEXT",
        allow_hyphen_values = true,
        help_heading = "Filters"
    )]
    q: Option<String>,
    /// Only runs that took at least so many seconds
    #[arg(long, value_name = "SECONDS", help_heading = "Filters")]
    duration_min: Option<f64>,
    /// Only runs that took at most so many seconds
    #[arg(long, value_name = "SECONDS", help_heading = "Filters")]
    duration_max: Option<f64>,
    /// Newest or oldest start first, or longest duration
    #[arg(long, value_enum, default_value_t = RunOrder::Newest, conflicts_with = "follow")]
    order: RunOrder,
    #[command(flatten)]
    times: Times,
    /// At most so many; 0 or `all`: all of them [default: 100, with --follow 10, and 20 records of one run]
    #[arg(short = 'n', long, value_name = "RUNS")]
    limit: Option<Limit>,
    /// The last ones, then each that begins or ends, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RunOrder {
    /// The latest start first
    Newest,
    /// The earliest start first
    Oldest,
    /// The longest duration first
    Longest,
}

pub(crate) async fn runs(args: Runs, global: &Global) -> anyhow::Result<ExitCode> {
    if let Some(run_id) = &args.run_id {
        return one(run_id, &args, global).await;
    }
    let order =
        if args.follow { None } else { args.order.to_possible_value().map(|order| order.get_name().to_owned()) };
    let given = [
        ("source_system", args.source_system),
        ("stage", args.stage),
        ("state", args.state),
        ("environment", args.environment),
        ("owner", args.owner),
        ("q", args.q),
        ("duration_min", args.duration_min.map(|seconds| seconds.to_string())),
        ("duration_max", args.duration_max.map(|seconds| seconds.to_string())),
        ("order", order),
    ];
    let given = given.into_iter().filter_map(|(name, value)| value.map(|value| (name, value)));
    let given = given.chain(args.times.given(clock::now()));
    let filter = given.fold(RunsFilter::new(), |filter, (name, value)| filter.with(name, value));
    if args.follow {
        let printer = Printer::live(SHAPE, live(&args.output)?, global);
        follow_runs(&follower(global).await?, &filter, args.limit.unwrap_or(LIMIT_FOLLOWED), printer).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut printer = Printer::new(SHAPE, args.output.format(Format::Table), global);
    let mut left = args.limit.unwrap_or(LIMIT).count();
    let filter = filter.limit(left.unwrap_or(PAGE_ROWS_MAX).clamp(1, PAGE_ROWS_MAX));
    let mut runs = reader(global)?.run_records(&filter);
    while left != Some(0)
        && let Some(run) = runs.try_next().await?
    {
        printer.row(Row::of(&run)?)?;
        left = left.map(|left| left - 1);
    }
    printer.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// One run, and for people what it said last.
async fn one(run_id: &str, args: &Runs, global: &Global) -> anyhow::Result<ExitCode> {
    let client = reader(global)?;
    let run = client.run(run_id).await?.ok_or_else(|| NotFound(format!("find a run with this id: {run_id}")))?;
    let format = args.output.format(Format::Lines);
    let format = if format == Format::Lines { Format::Table } else { format };
    let limit = args.limit.unwrap_or(LIMIT_RECORDS).count();
    let mut last = Vec::new();
    if format == Format::Table && limit != Some(0) {
        let filter = LogsFilter::new().run_id(run_id).order(Order::Newest);
        let filter = filter.limit(limit.unwrap_or(PAGE_ROWS_MAX).min(PAGE_ROWS_MAX));
        let mut records = client.log_records(&filter);
        while limit.is_none_or(|limit| last.len() < limit)
            && let Some(record) = records.try_next().await?
        {
            last.push(record);
        }
    }
    let mut printer = Printer::fields(&Row::of(&run)?, format, global)?;
    if !last.is_empty() {
        printer.then(logs::SHAPE, Format::Lines)?;
        for record in last.into_iter().rev() {
            printer.row(record)?;
        }
    }
    printer.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// The last runs, then each that begins or ends.
async fn follow_runs(client: &Client, filter: &RunsFilter, limit: Limit, mut printer: Printer) -> anyhow::Result<()> {
    let marks = client.marks().await?;
    let newest = filter.clone().limit(limit.count().unwrap_or(PAGE_ROWS_MAX).clamp(1, PAGE_ROWS_MAX));
    let mut runs = client.run_records(&newest);
    let mut last = Vec::new();
    while limit.count().is_none_or(|limit| last.len() < limit)
        && let Some(run) = runs.try_next().await?
    {
        last.push(run);
    }
    let turns = client.tail_runs(filter).from(marks).knowing(&last).interval(INTERVAL).turns();
    for run in last.iter().rev() {
        printer.row(Row::of(run)?)?;
    }
    follow(turns, printer, |printer, run| {
        printer.row(Row::of(&run)?)?;
        Ok(true)
    })
    .await
}
