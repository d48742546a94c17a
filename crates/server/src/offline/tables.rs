//! Tables of others without a server: files and Delta tables that the command line names. Owns how it names them.

use std::collections::BTreeMap;
use std::sync::Arc;

use runstone_store::{
    Format, NoRuns, NothingOlder, QueryAnswer, Question, Recent, RecentOptions, Sql, TableFormat, TableSpec, Tables,
    check_table_name,
};

use super::{OfflineError, OfflineStream, limits};
use crate::config::{Config, Origin, TableSettings};
use crate::lake::network;

/// Reads `NAME=LOCATION`, or `NAME:FORMAT=LOCATION` where the files' names do not say what they are.
///
/// # Errors
/// What is wrong with it.
pub fn parse_table(text: &str) -> Result<TableSpec, String> {
    let (name, location) = text.split_once('=').ok_or("write NAME=LOCATION, such as orders=./orders.parquet")?;
    let (name, format) = match name.split_once(':') {
        Some((name, word)) => {
            let format = TableFormat::of(word);
            let known = TableFormat::WORDS.join(", ");
            (name, Some(format.ok_or_else(|| format!("there is no format {word}; use {known}"))?))
        }
        None => (name, None),
    };
    check_table_name(name)?;
    match location {
        "" => Err("the location is empty".to_owned()),
        location => Ok(TableSpec { name: name.to_owned(), location: location.to_owned(), format }),
    }
}

/// Adds tables to those of a configuration.
pub fn add_tables(config: &mut Config, specs: Vec<TableSpec>) {
    let named =
        specs.into_iter().map(|spec| (spec.name.clone(), TableSettings { spec, origin: Origin::Flag("--table") }));
    config.tables.extend(named.collect::<BTreeMap<_, _>>());
}

/// Answers a statement over these tables alone, within the limits of a configuration.
///
/// # Errors
/// One of them cannot be read, or the statement is refused.
pub async fn query_tables(
    config: &Config,
    specs: Vec<TableSpec>,
    question: Question,
) -> Result<QueryAnswer, OfflineError> {
    session(config, specs)?.query(question).await.map_err(OfflineError::Query)
}

/// The same in a format and without a cap of rows, as it is made.
///
/// # Errors
/// As [`query_tables`], until the first rows were found; what fails later stands in the stream, and ends it.
pub async fn stream_tables(
    config: &Config,
    specs: Vec<TableSpec>,
    question: Question,
    format: Format,
) -> Result<OfflineStream, OfflineError> {
    OfflineStream::begin(session(config, specs)?, question, format).await.map_err(OfflineError::Query)
}

fn session(config: &Config, specs: Vec<TableSpec>) -> Result<Sql, OfflineError> {
    let tables = Tables::new(specs, network(config)).map_err(OfflineError::Astray)?.alone();
    let recent = Arc::new(Recent::new(RecentOptions::default()));
    let sql = Sql::with_tables(recent, Arc::new(NothingOlder), Arc::new(NoRuns), tables, limits(config));
    sql.map_err(OfflineError::Sql)
}
