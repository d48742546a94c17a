//! `runstone query`: SQL.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Context;
use clap::Args;
use futures::stream::TryStreamExt;
use runstone_record::limits::QUERY_ROWS_MAX;
use runstone_sdk::{Format as Streamed, Query as Statement, QueryAnswer, Row};
use runstone_server::{Offline, TableSpec};
use serde_json::Value;

use super::directory::Directory;
use super::export::{ExportArgs, Way, pass};
use super::reader;
use crate::args::Global;
use crate::failure::UsageError;
use crate::output::{Format, Printer, Shape};
use crate::talk::Talk;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runstone query \"SELECT level, count(*) AS records FROM logs GROUP BY level\"
  runstone query --param run=nightly-1 \"SELECT message FROM logs WHERE run_id = \\$run\"
  runstone query --json \"SELECT * FROM runs WHERE state = 'failed'\"
  runstone query --file report.sql --format csv > report.csv
  runstone query --output failed.parquet \"SELECT * FROM runs WHERE state = 'failed'\"
  runstone query --data /var/lib/runstone \"SELECT count(*) FROM logs\"
  runstone query --table orders=orders.parquet --table items=s3://bucket/items \"SELECT count(*) FROM orders\"

A table on a terminal; in a pipe tab-separated values without a header, in which \\t, \\n and \\\\ are escaped.")]
pub(crate) struct Query {
    /// One read-only statement over `logs` and `runs`; `-`, or none in a pipe: read it from standard input
    #[arg(value_name = "SQL", conflicts_with = "file")]
    sql: Option<String>,
    /// Read the statement from this file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The value of $NAME in the statement: a number, true, false, null, or else text; NAME:=JSON for any JSON
    #[arg(long = "param", value_name = "NAME=VALUE", conflicts_with_all = ["data", "tables"])]
    params: Vec<Param>,
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
    #[command(flatten)]
    output: ExportArgs,
}

/// A name in the statement and its value.
#[derive(Debug, Clone, PartialEq)]
struct Param(String, Value);

impl FromStr for Param {
    type Err = String;

    fn from_str(text: &str) -> Result<Param, String> {
        let bad = || "give a name and its value: name=value, or name:=json".to_owned();
        let (name, value) = text.split_once('=').ok_or_else(bad)?;
        let (name, value) = match name.strip_suffix(':') {
            Some(name) => (name, serde_json::from_str(value).map_err(|error| format!("no JSON: {error}"))?),
            None => (name, guessed(value)),
        };
        if name.is_empty() { Err(bad()) } else { Ok(Param(name.to_owned(), value)) }
    }
}

/// A number, a truth or nothing where the text is one as JSON writes it; else the text.
fn guessed(text: &str) -> Value {
    match serde_json::from_str(text) {
        // Digits that no number of 64 bits holds stay the digits that they are.
        Ok(Value::Number(number)) if number.to_string() == text => Value::Number(number),
        Ok(value @ (Value::Bool(_) | Value::Null)) => value,
        _ => Value::from(text),
    }
}

impl Query {
    /// The statement, from where it is.
    fn statement(&self) -> anyhow::Result<String> {
        let stdin = || io::read_to_string(io::stdin()).context("read the statement from standard input");
        match (&self.sql, &self.file) {
            (_, Some(path)) => std::fs::read_to_string(path)
                .map_err(|error| UsageError(format!("read the statement from {}: {error}", path.display())).into()),
            (Some(sql), None) if sql == "-" => stdin(),
            (Some(sql), None) => Ok(sql.clone()),
            (None, None) if io::stdin().is_terminal() => {
                Err(UsageError("give a statement, --file, or a statement on standard input".to_owned()).into())
            }
            (None, None) => stdin(),
        }
    }
}

pub(crate) async fn query(args: Query, global: &Global) -> anyhow::Result<ExitCode> {
    let sql = args.statement()?;
    let way = args.output.way(Format::Table)?;
    if args.data.is_none() && args.tables.is_empty() {
        let params = args.params.into_iter();
        let statement = params.fold(Statement::new(sql), |query, Param(name, value)| query.param(&name, value));
        ask(statement, way, global).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let Way::Print(format) = way else {
        let message = "ask a server for parquet, arrow or a file: --data and --table print rows";
        return Err(UsageError(message.to_owned()).into());
    };
    let answer = match args.data {
        None => runstone_server::query_tables(args.tables, sql.as_str().into()).await?,
        data => {
            let (mut config, world) = Directory { data, config: args.config }.open()?;
            runstone_server::add_tables(&mut config, args.tables);
            Offline::query(&config, &world, &sql).await?
        }
    };
    show(serde_json::from_slice(&answer.into_body())?, format, global)?;
    Ok(ExitCode::SUCCESS)
}

/// Asks the server. What people read is cut where nobody reads on; programs have every row, as it is made.
async fn ask(statement: Statement, way: Way, global: &Global) -> anyhow::Result<()> {
    let client = reader(global)?;
    match way {
        Way::Pass(format, path) => pass(client.query_bytes(statement, format).await?, path.as_deref()).await,
        Way::Print(Format::Csv) => pass(client.query_bytes(statement, Streamed::Csv).await?, None).await,
        Way::Print(format @ (Format::Table | Format::Lines)) => {
            show(client.query(statement.max_rows(QUERY_ROWS_MAX as u64)).await?, format, global)
        }
        Way::Print(format) => {
            let mut rows = client.query_stream(statement).await?;
            let mut row = rows.try_next().await?;
            let columns: Vec<String> = row.iter().flat_map(Row::iter).map(|(name, _)| name.to_owned()).collect();
            let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
            let mut printer = Printer::new(Shape { columns: &columns, dispensable: &[], line: None }, format, global);
            while let Some(next) = row {
                printer.row(next)?;
                row = rows.try_next().await?;
            }
            Ok(printer.finish()?)
        }
    }
}

fn show(answer: QueryAnswer, format: Format, global: &Global) -> anyhow::Result<()> {
    let columns: Vec<&str> = answer.columns.iter().map(|column| column.name.as_str()).collect();
    let shape = Shape { columns: &columns, dispensable: &[], line: None };
    Printer::new(shape, format, global).all(answer.rows)?;
    if answer.stats.truncated {
        Talk::plain().say(format_args!("only the first {} rows are shown: the answer has more", answer.stats.rows));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_parameter_is_what_it_looks_like_or_what_its_json_says() {
        for (text, value) in [
            ("n=5", json!(5)),
            ("n=-1.5", json!(-1.5)),
            ("n=true", json!(true)),
            ("n=null", Value::Null),
            ("n=", json!("")),
            ("n=nightly-1", json!("nightly-1")),
            ("n=a=b", json!("a=b")),
            ("n=007", json!("007")),
            ("n=\"x\"", json!("\"x\"")),
            ("n=[1]", json!("[1]")),
            ("n=123456789012345678901", json!("123456789012345678901")),
            ("n:=\"5\"", json!("5")),
            ("n:=[1]", json!([1])),
        ] {
            assert_eq!(text.parse::<Param>().unwrap(), Param("n".to_owned(), value), "{text}");
        }
        for bad in ["n", "=5", ":=5", "n:=x"] {
            assert!(bad.parse::<Param>().is_err(), "{bad}");
        }
    }
}
