//! `runstone query`: SQL.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use futures::stream::TryStreamExt;
use jiff::SignedDuration;
use runstone_sdk::{Format as Streamed, QueryAnswer, Row, rows};
use runstone_server::TableSpec;
use serde_json::Value;

use super::desk::{Asked, Desk, Pieces};
use super::directory::Directory;
use super::export::{ExportArgs, Way, pass};
use super::reader;
use crate::args::Global;
use crate::failure::UsageError;
use crate::output::{Format, Printer, Shape, is_paged};
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
    #[arg(long = "param", value_name = "NAME=VALUE")]
    params: Vec<Param>,
    /// End it after so long, such as 500ms, 5s or 2m: no longer than the setting query.timeout_ms
    #[arg(long, value_name = "TIME", value_parser = span)]
    timeout: Option<Duration>,
    /// Read this data directory and its lake, without a server or beside it
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// With --data or --table: the server's configuration file, which says where the lake is and what a query may take
    #[arg(long, value_name = "FILE")]
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

/// How long something may take.
fn span(text: &str) -> Result<Duration, String> {
    let span = text.parse::<SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
    span.filter(|span| !span.is_zero()).ok_or_else(|| "give a time such as 500ms, 5s or 2m".to_owned())
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
    let params = args.params.into_iter().map(|Param(name, value)| (name, value)).collect();
    let asked = Asked { sql, params, timeout: args.timeout };
    let desk = match (args.data, args.tables) {
        (None, tables) if tables.is_empty() && args.config.is_some() => {
            return Err(UsageError("give --config with --data or --table: a server has its own".to_owned()).into());
        }
        (None, tables) if tables.is_empty() => Desk::Server(reader(global)?),
        (None, tables) => Desk::Tables(Box::new(Directory { data: None, config: args.config }.open()?.0), tables),
        (data, tables) => {
            let (mut config, world) = Directory { data, config: args.config }.open()?;
            runstone_server::add_tables(&mut config, tables);
            Desk::Directory(Box::new((config, world)))
        }
    };
    answer(&desk, asked, way, global).await?;
    Ok(ExitCode::SUCCESS)
}

/// What people read is cut where nobody reads on; programs have every row, as it is made.
async fn answer(desk: &Desk, asked: Asked, way: Way, global: &Global) -> anyhow::Result<()> {
    match way {
        Way::Pass(format, path) => pass(desk.all(asked, format).await?, path.as_deref()).await,
        // Who pauses in a pager would keep a streamed answer waiting, and a server waits only so long.
        Way::Print(format) if matches!(format, Format::Table | Format::Lines) || is_paged(global) => {
            show(desk.first(asked).await?, format, global)
        }
        Way::Print(Format::Csv) => pass(desk.all(asked, Streamed::Csv).await?, None).await,
        Way::Print(format) => print(desk.all(asked, Streamed::Ndjson).await?, format, global).await,
    }
}

async fn print(lines: Pieces, format: Format, global: &Global) -> anyhow::Result<()> {
    let mut rows = rows(lines, anyhow::Error::from);
    let mut row: Option<Row> = rows.try_next().await?;
    let columns: Vec<String> = row.iter().flat_map(Row::iter).map(|(name, _)| name.to_owned()).collect();
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut printer = Printer::new(Shape { columns: &columns, dispensable: &[], line: None }, format, global);
    while let Some(next) = row {
        printer.row(next)?;
        row = rows.try_next().await?;
    }
    Ok(printer.finish()?)
}

fn show(answer: QueryAnswer, format: Format, global: &Global) -> anyhow::Result<()> {
    let columns: Vec<&str> = answer.columns.iter().map(|column| column.name.as_str()).collect();
    let shape = Shape { columns: &columns, dispensable: &[], line: None };
    Printer::new(shape, format, global).all(answer.rows)?;
    if answer.stats.truncated {
        let rows = answer.stats.rows;
        Talk::plain().say(format_args!(
            "only the first {rows} rows are shown: the answer has more, and --output FILE writes all of it"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_time_has_a_unit_and_is_some() {
        for (text, millis) in [("500ms", 500), ("5s", 5_000), ("2m", 120_000), ("1m 30s", 90_000), ("PT5S", 5_000)] {
            assert_eq!(span(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "5", "0s", "-5s", "soon", "1y"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }

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
