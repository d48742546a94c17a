//! `runstone tail`: records as they arrive.

use std::process::ExitCode;

use clap::Args;
use runstone_sdk::{LogsFilter, Marks};

use super::filters::{Limit, LogFilters};
use super::follow::{INTERVAL, follow, follower, live};
use super::logs::shape;
use crate::args::Global;
use crate::clock;
use crate::output::{OutputArgs, Printer};
use crate::when::When;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runstone tail
  runstone tail --source-system shop --level WARNING
  runstone tail --since -15m --json | jq .message

Shows each record once, in the order in which they arrive, late ones included, and waits for a server that is restarted.
Ctrl-C ends it, with exit code 0.")]
pub(crate) struct Tail {
    #[command(flatten)]
    filters: LogFilters,
    /// First what is there with a timestamp from this time on: RFC 3339, or before now such as -15m
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<When>,
    /// End after so many
    #[arg(short = 'n', long, value_name = "RECORDS")]
    limit: Option<Limit>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn tail(args: Tail, global: &Global) -> anyhow::Result<ExitCode> {
    let format = live(&args.output)?;
    let printer = Printer::live(shape(format), format, global);
    let client = follower(global).await?;
    let filter = args.filters.filter();
    let (filter, from) = match args.since {
        Some(since) => (filter.since(since.rfc3339(clock::now())), Marks::default()),
        None => (filter, client.marks().await?),
    };
    show_arrivals(&client, &filter, from, printer, args.limit.and_then(Limit::count)).await?;
    Ok(ExitCode::SUCCESS)
}

/// Shows what arrives beyond the marks, `limit` records where there is one.
pub(super) async fn show_arrivals(
    client: &runstone_sdk::Client,
    filter: &LogsFilter,
    from: Marks,
    printer: Printer,
    limit: Option<usize>,
) -> anyhow::Result<()> {
    let arrivals = client.tail(filter).from(from).interval(INTERVAL).stream();
    let mut left = limit;
    follow(arrivals, printer, |printer, record| {
        printer.row(record)?;
        if let Some(left) = &mut left {
            *left = left.saturating_sub(1);
        }
        Ok(left != Some(0))
    })
    .await
}
