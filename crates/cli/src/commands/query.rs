//! `runstone query`: SQL.

use std::io::{self, Read};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::reader;
use crate::args::Global;
use crate::output::Output;
use crate::talk::Talk;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runstone query \"SELECT level, count(*) AS records FROM logs GROUP BY level\"
  runstone query --json \"SELECT * FROM runs WHERE state = 'failed'\"
  runstone query - < report.sql

A table on a terminal; in a pipe tab-separated values without a header, in which \\t, \\n and \\\\ are escaped.")]
pub(crate) struct Query {
    /// One read-only statement over `logs` and `runs`; `-` reads it from standard input
    #[arg(value_name = "SQL")]
    sql: String,
    /// One JSON object a row
    #[arg(long)]
    json: bool,
}

pub(crate) async fn query(args: Query, global: &Global) -> anyhow::Result<ExitCode> {
    let mut sql = args.sql;
    if sql == "-" {
        sql.clear();
        io::stdin().read_to_string(&mut sql).context("read the statement from standard input")?;
    }
    let answer = reader(global)?.query(&sql).await?;
    let columns: Vec<&str> = answer.columns.iter().map(|column| column.name.as_str()).collect();
    Output::new(args.json, global).rows(&columns, &[], &answer.rows)?;
    if answer.stats.truncated {
        Talk::plain().say(format_args!("only the first {} rows are shown: the answer has more", answer.stats.rows));
    }
    Ok(ExitCode::SUCCESS)
}
