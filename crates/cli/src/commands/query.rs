//! `runstone query`: SQL.

use std::io::{self, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use runstone_server::{Offline, TableSpec};

use super::directory::Directory;
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
  runstone query --data /var/lib/runstone \"SELECT count(*) FROM logs\"
  runstone query --table orders=orders.parquet --table items=s3://bucket/items \"SELECT count(*) FROM orders\"

A table on a terminal; in a pipe tab-separated values without a header, in which \\t, \\n and \\\\ are escaped.")]
pub(crate) struct Query {
    /// One read-only statement over `logs` and `runs`; `-` reads it from standard input
    #[arg(value_name = "SQL")]
    sql: String,
    /// Read this data directory and its lake, without a server or beside it
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// With --data: the server's configuration file, where it says where the lake is
    #[arg(long, value_name = "FILE", requires = "data")]
    config: Option<PathBuf>,
    /// A table of your own, without a server: NAME=LOCATION, a file or directory, s3:// or abfss://, of Parquet, CSV, JSON or
    /// Delta. NAME:FORMAT=LOCATION where the files' names do not say what they are. May be given more than once
    #[arg(long = "table", value_name = "NAME=LOCATION", value_parser = runstone_server::parse_table)]
    tables: Vec<TableSpec>,
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
    let answer = match args.data {
        None if args.tables.is_empty() => reader(global)?.query(&sql).await?,
        None => {
            let body = runstone_server::query_tables(args.tables, sql.as_str().into()).await?.into_body();
            serde_json::from_slice(&body)?
        }
        data => {
            let (mut config, world) = Directory { data, config: args.config }.open()?;
            runstone_server::add_tables(&mut config, args.tables);
            let body = Offline::query(&config, &world, &sql).await?.into_body();
            serde_json::from_slice(&body)?
        }
    };
    let columns: Vec<&str> = answer.columns.iter().map(|column| column.name.as_str()).collect();
    Output::new(args.json, global).rows(&columns, &[], &answer.rows)?;
    if answer.stats.truncated {
        Talk::plain().say(format_args!("only the first {} rows are shown: the answer has more", answer.stats.rows));
    }
    Ok(ExitCode::SUCCESS)
}
