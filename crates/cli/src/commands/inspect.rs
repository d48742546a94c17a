//! `runstone inspect`: what a data directory and its lake consist of.

use std::process::ExitCode;

use clap::Args;
use runstone_sdk::Row;
use runstone_server::Offline;

use super::directory::Directory;
use crate::args::Global;
use crate::output::{Format, OutputArgs, Printer, Shape};

/// What a table and tab-separated values show.
const COLUMNS: &[&str] = &["what", "name", "first", "last", "records", "bytes", "note"];

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runstone inspect
  runstone inspect --data /var/lib/runstone --files
  runstone inspect --json | jq 'select(.what == \"cursor\")'

Shows the journal and its segments, how far the lake and the table of runs have come, the lake's newest versions, and its
partitions. Reads little and changes nothing; the server may run meanwhile.

Columns in a pipe: what, name, first and last position, records, bytes, note; tab-separated.")]
pub(crate) struct Inspect {
    #[command(flatten)]
    directory: Directory,
    /// Every file of the lake, too
    #[arg(long)]
    files: bool,
    /// So many of the lake's newest versions
    #[arg(long, value_name = "VERSIONS", default_value_t = 5)]
    versions: u64,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn inspect(args: Inspect, global: &Global) -> anyhow::Result<ExitCode> {
    let (config, world) = args.directory.open()?;
    let offline = Offline::open(&config, &world).await?;
    let items = offline.items(args.files, args.versions).await?;
    let rows: Vec<_> = items.iter().map(Row::of).collect::<Result<_, _>>()?;
    let shape = Shape { columns: COLUMNS, dispensable: &["first"], line: None };
    Printer::new(shape, args.output.format(Format::Table), global).all(rows)?;
    Ok(ExitCode::SUCCESS)
}
