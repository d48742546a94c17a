//! `runstone logs`: records, filtered.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use futures::stream::TryStreamExt;
use runstone_record::Column;
use runstone_record::limits::PAGE_ROWS_MAX;
use runstone_sdk::{Client, LogsFilter, Marks};

use super::export::{ExportArgs, Way, pass};
use super::filters::{Limit, LogFilters, Times};
use super::follow::{follower, live};
use super::reader;
use super::tail::show_arrivals;
use crate::args::Global;
use crate::clock;
use crate::output::{Format, Printer, Shape, log_line};

/// Records, as they are shown.
pub(super) const SHAPE: Shape<'_> = Shape {
    columns: &["timestamp", "level", "source_system", "stage", "run_id", "type", "status", "logger_name", "message"],
    dispensable: &["status", "type", "logger_name", "run_id", "stage", "source_system"],
    line: Some(log_line),
};

/// The same in a format: CSV has every column, in a file and out of one.
pub(super) fn shape(format: Format) -> Shape<'static> {
    let columns: &[&str] = if format == Format::Csv { &Column::NAMES } else { SHAPE.columns };
    Shape { columns, ..SHAPE }
}

/// How many are shown unless it is said.
const LIMIT: Limit = Limit::of(100);
/// And before those that follow.
const LIMIT_FOLLOWED: Limit = Limit::of(10);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runstone logs --level ERROR --since -1h
  runstone logs --run-id 20260101_030000_a1b2c3 --order oldest -n all
  runstone logs -q 'connection refused' --json | jq .message
  runstone logs --source-system shop --follow
  runstone logs --since -7d --output week.parquet

Columns of tsv: timestamp, level, source_system, stage, run_id, type, status, logger_name, message. Every other format for
programs has all of them. Files (--output) hold all records unless -n says less.")]
pub(crate) struct Logs {
    #[command(flatten)]
    filters: LogFilters,
    #[command(flatten)]
    times: Times,
    /// Newest or oldest first
    #[arg(long, value_enum, default_value_t = Order::Newest, conflicts_with = "follow")]
    order: Order,
    /// At most so many; 0 or `all`: all of them [default: 100, with --follow 10]
    #[arg(short = 'n', long, value_name = "RECORDS")]
    limit: Option<Limit>,
    /// The last ones, or all since --since, then those that arrive, until Ctrl-C
    #[arg(short, long, conflicts_with = "until")]
    follow: bool,
    #[command(flatten)]
    output: ExportArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Order {
    /// Newest first
    Newest,
    /// Oldest first
    Oldest,
}

pub(crate) async fn logs(args: Logs, global: &Global) -> anyhow::Result<ExitCode> {
    let filter = args.filters.filter();
    let filter = args.times.given(clock::now()).fold(filter, |filter, (name, value)| filter.with(name, value));
    if args.follow {
        let format = live(&args.output.followed()?)?;
        let printer = Printer::live(shape(format), format, global);
        let limit = args.limit.or(args.times.since.is_none().then_some(LIMIT_FOLLOWED)).and_then(Limit::count);
        follow_logs(&follower(global).await?, &filter, limit, printer).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let filter = filter.order(match args.order {
        Order::Newest => runstone_sdk::Order::Newest,
        Order::Oldest => runstone_sdk::Order::Oldest,
    });
    let format = match args.output.way(Format::Lines)? {
        Way::Print(format) => format,
        Way::Pass(format, path) => {
            // A file is to hold all of it, unless less is asked for.
            let limit = args.limit.and_then(Limit::count);
            let filter = limit.map_or_else(|| filter.clone(), |limit| filter.clone().limit(limit));
            pass(reader(global)?.log_bytes(&filter, format).await?, path.as_deref()).await?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    let mut printer = Printer::new(shape(format), format, global);
    let mut left = args.limit.unwrap_or(LIMIT).count();
    let filter = filter.limit(left.unwrap_or(PAGE_ROWS_MAX).clamp(1, PAGE_ROWS_MAX));
    let mut records = reader(global)?.log_records(&filter);
    while left != Some(0)
        && let Some(record) = records.try_next().await?
    {
        printer.row(record)?;
        left = left.map(|left| left - 1);
    }
    printer.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// The last records, or all where there is no limit, and then what arrives.
async fn follow_logs(
    client: &Client,
    filter: &LogsFilter,
    limit: Option<usize>,
    mut printer: Printer,
) -> anyhow::Result<()> {
    let Some(limit) = limit else {
        return show_arrivals(client, filter, Marks::default(), printer, None).await;
    };
    // What comes between the two questions is in the second answer and beyond the marks: it is shown once, when it is followed.
    let marks = client.marks().await?;
    let newest = filter.clone().order(runstone_sdk::Order::Newest).limit(limit.min(PAGE_ROWS_MAX));
    let mut records = client.log_records(&newest);
    let mut last = Vec::new();
    while last.len() < limit
        && let Some(record) = records.try_next().await?
    {
        if marks.cover(&record) {
            last.push(record);
        }
    }
    for record in last.into_iter().rev() {
        printer.row(record)?;
    }
    show_arrivals(client, filter, marks, printer, None).await
}
