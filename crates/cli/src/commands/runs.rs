//! `runstone runs`: what ran, and one run in full.

use std::process::ExitCode;

use clap::Args;
use runstone_record::limits::PAGE_ROWS_MAX;
use runstone_sdk::RunFilter;
use serde_json::Value;

use super::reader;
use crate::args::Global;
use crate::clock;
use crate::output::Output;
use crate::when::When;

/// What a table and tab-separated values show.
const COLUMNS: &[&str] =
    &["run_id", "state", "source_system", "stage", "started_at", "duration", "records", "warnings", "errors", "title"];

/// What a narrow terminal does without.
const DISPENSABLE: &[&str] = &["warnings", "records", "errors", "duration", "stage", "source_system"];

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runstone runs
  runstone runs --state failed --since -1d
  runstone runs 20260101_030000_a1b2c3

Columns in a pipe: run_id, state, source_system, stage, started_at, duration (seconds), records, warnings, errors, title;
tab-separated. One run is shown a field a line.")]
pub(crate) struct Runs {
    /// Show this run in full
    #[arg(value_name = "RUN_ID", conflicts_with_all = ["source_system", "stage", "state", "since", "until", "limit"])]
    run_id: Option<String>,
    /// Only this system
    #[arg(long, value_name = "NAME")]
    source_system: Option<String>,
    /// Only this stage
    #[arg(long, value_name = "NAME")]
    stage: Option<String>,
    /// Only runs that are running, succeeded or failed
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Started at this time or later: RFC 3339, or before now such as -15m, -2h, -7d
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<When>,
    /// Started before this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    until: Option<When>,
    /// At most so many
    #[arg(long, value_name = "RUNS", default_value_t = 100)]
    limit: usize,
    /// One JSON object a run
    #[arg(long)]
    json: bool,
}

pub(crate) async fn runs(args: Runs, global: &Global) -> anyhow::Result<ExitCode> {
    let client = reader(global)?;
    let output = Output::new(args.json, global);
    if let Some(run_id) = &args.run_id {
        let run = client.run(run_id).await?;
        output.fields(&serde_json::to_value(run)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let now = clock::now();
    let mut filter = RunFilter {
        source_system: args.source_system,
        stage: args.stage,
        state: args.state,
        since: args.since.map(|when| when.rfc3339(now)),
        until: args.until.map(|when| when.rfc3339(now)),
        ..RunFilter::default()
    };
    let mut runs: Vec<Value> = Vec::new();
    while runs.len() < args.limit {
        filter.limit = Some((args.limit - runs.len()).min(PAGE_ROWS_MAX));
        let page = client.runs(&filter).await?;
        for run in page.runs {
            runs.push(serde_json::to_value(run)?);
        }
        filter.cursor = page.next;
        if filter.cursor.is_none() {
            break;
        }
    }
    output.rows(COLUMNS, DISPENSABLE, &runs)?;
    Ok(ExitCode::SUCCESS)
}
