//! `runstone logs`: records, filtered.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use runstone_record::limits::PAGE_ROWS_MAX;
use runstone_sdk::LogFilter;

use super::reader;
use crate::args::Global;
use crate::clock;
use crate::output::Output;
use crate::when::When;

/// What a table and tab-separated values show.
const COLUMNS: &[&str] =
    &["timestamp", "level", "source_system", "stage", "run_id", "type", "status", "logger_name", "message"];

/// What a narrow terminal does without.
const DISPENSABLE: &[&str] = &["status", "type", "logger_name", "run_id", "stage", "source_system"];

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runstone logs --level ERROR --since -1h
  runstone logs --run-id 20260101_030000_a1b2c3 --order oldest --limit 1000
  runstone logs --q 'connection refused' --json | jq .message

Columns in a pipe: timestamp, level, source_system, stage, run_id, type, status, logger_name, message; tab-separated.
--json prints every field.")]
pub(crate) struct Logs {
    /// Only this system
    #[arg(long, value_name = "NAME")]
    source_system: Option<String>,
    /// Only this stage
    #[arg(long, value_name = "NAME")]
    stage: Option<String>,
    /// Only this run
    #[arg(long, value_name = "ID")]
    run_id: Option<String>,
    /// Only this type: start, status, code, info, result, warning, error, success, end, log, activity
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only this level and graver ones: DEBUG, INFO, WARNING, ERROR, CRITICAL
    #[arg(long, value_name = "LEVEL")]
    level: Option<String>,
    /// Only this status
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// From this time on: RFC 3339, or before now such as -15m, -2h, -7d
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<When>,
    /// Before this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    until: Option<When>,
    /// Only messages with this text, in any case
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    q: Option<String>,
    /// Newest or oldest first
    #[arg(long, value_enum, default_value_t = Order::Newest)]
    order: Order,
    /// At most so many
    #[arg(long, value_name = "RECORDS", default_value_t = 100)]
    limit: usize,
    /// One JSON object a record, with every field
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Order {
    /// Newest first
    Newest,
    /// Oldest first
    Oldest,
}

pub(crate) async fn logs(args: Logs, global: &Global) -> anyhow::Result<ExitCode> {
    let order = match args.order {
        Order::Newest => "newest",
        Order::Oldest => "oldest",
    };
    let now = clock::now();
    let mut filter = LogFilter {
        source_system: args.source_system,
        stage: args.stage,
        run_id: args.run_id,
        kind: args.kind,
        level: args.level,
        status: args.status,
        since: args.since.map(|when| when.rfc3339(now)),
        until: args.until.map(|when| when.rfc3339(now)),
        q: args.q,
        order: Some(order.to_owned()),
        ..LogFilter::default()
    };
    let client = reader(global)?;
    let mut records = Vec::new();
    while records.len() < args.limit {
        filter.limit = Some((args.limit - records.len()).min(PAGE_ROWS_MAX));
        let page = client.logs(&filter).await?;
        records.extend(page.records);
        filter.cursor = page.next;
        if filter.cursor.is_none() {
            break;
        }
    }
    Output::new(args.json, global).rows(COLUMNS, DISPENSABLE, &records)?;
    Ok(ExitCode::SUCCESS)
}
