//! Rows as JSON. Owns how a value looks, and how many rows and bytes there may be; refuses to know which rows they are.
//!
//! PostgreSQL writes each row as a JSON object itself, and here its text is passed on as it is: so a number keeps every digit and
//! `json` its own form. A name that stands twice gets a number, for an object has each once.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::pin::pin;

use futures::TryStreamExt;
use serde::Serialize;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Column as Described, Statement, Transaction};

use super::DatabaseError;
use super::guard::Source;

/// Bytes of a name in PostgreSQL.
const NAME_BYTES_MAX: usize = 63;
/// What the rows are called within the statement. Nobody else calls something so.
const ANSWER: &str = "\"runstone: the answer\"";

/// A column of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Column {
    /// Its name in the rows.
    pub(crate) name: String,
    /// Its type, as PostgreSQL prints it.
    #[serde(rename = "type")]
    pub(crate) kind: String,
}

/// How much may be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) rows: u64,
    pub(super) bytes: usize,
    /// Of one row: a larger one does not even travel.
    pub(super) row_bytes: usize,
}

/// What becomes of a statement whose rows are too many, or too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excess {
    /// It is left where it is.
    Stop,
    /// The same, but a row that is too large by itself is only left out.
    Skip,
    /// It must come to its end.
    Drain,
}

/// The rows of one answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) columns: Vec<Column>,
    /// Objects of JSON with commas between.
    pub(crate) objects: Vec<u8>,
    pub(crate) count: u64,
    /// Were there more?
    pub(crate) truncated: bool,
    /// Is there something under way that nobody reads?
    pub(super) is_abandoned: bool,
}

impl Rows {
    /// Takes a row, unless it is more than there may be.
    fn take(&mut self, row: &str, bounds: Bounds) -> bool {
        if self.count >= bounds.rows || self.objects.len() + row.len() + 1 > bounds.bytes {
            self.truncated = true;
            return false;
        }
        if self.count > 0 {
            self.objects.push(b',');
        }
        self.objects.extend_from_slice(row.as_bytes());
        self.count += 1;
        true
    }
}

/// A name as PostgreSQL takes it literally.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Reads the rows of a query.
pub(super) async fn read(
    transaction: &Transaction<'_>,
    source: &Source,
    bounds: Bounds,
    excess: Excess,
) -> Result<Rows, DatabaseError> {
    let described = transaction.prepare(&source.text()).await?;
    without_parameters(&described)?;
    let columns = columns(transaction, described.columns()).await?;
    let types: Vec<&Type> = described.columns().iter().map(Described::type_).collect();
    let statement = transaction.prepare(&as_json(source, &columns, &types, bounds.row_bytes)).await?;
    let portal = transaction.bind(&statement, &[]).await?;
    // One more, to know whether there are more.
    let most = i32::try_from(bounds.rows.saturating_add(1)).unwrap_or(i32::MAX);
    let mut stream = pin!(transaction.query_portal_raw(&portal, most).await?);
    let mut rows = Rows { columns, ..Rows::default() };
    while let Some(row) = stream.try_next().await? {
        let text = row.try_get::<_, Option<&str>>(0)?;
        let is_over = rows.truncated && excess == Excess::Drain;
        let taken = text.is_some_and(|text| !is_over && rows.take(text, bounds));
        rows.truncated |= !taken;
        let goes_on = taken || excess == Excess::Drain || (excess == Excess::Skip && text.is_none());
        if !goes_on {
            // Behind one row too many nothing is under way.
            rows.is_abandoned = rows.count < bounds.rows;
            break;
        }
    }
    Ok(rows)
}

/// Reads a plan: one column, of text or of a document.
pub(super) async fn read_plan(
    transaction: &Transaction<'_>,
    text: &str,
    bounds: Bounds,
) -> Result<Rows, DatabaseError> {
    let statement = transaction.prepare(text).await?;
    without_parameters(&statement)?;
    let mut rows = Rows { columns: columns(transaction, statement.columns()).await?, ..Rows::default() };
    let name = rows.columns.first().map(|column| column.name.clone()).unwrap_or_default();
    let is_json = statement.columns().first().is_some_and(|column| *column.type_() == Type::JSON);
    let portal = transaction.bind(&statement, &[]).await?;
    let most = i32::try_from(bounds.rows.saturating_add(1)).unwrap_or(i32::MAX);
    for row in transaction.query_portal(&portal, most).await? {
        let Text(line) = row.try_get(0)?;
        let value = if is_json { line.to_owned() } else { text_of(line) };
        if !rows.take(&format!("{{{}:{value}}}", text_of(&name)), bounds) {
            break;
        }
    }
    Ok(rows)
}

fn text_of(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Text, whatever type it says it is of.
struct Text<'a>(&'a str);

impl<'a> FromSql<'a> for Text<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Text(std::str::from_utf8(raw)?))
    }

    fn accepts(ty: &Type) -> bool {
        [Type::TEXT, Type::JSON, Type::XML].contains(ty)
    }
}

pub(super) fn without_parameters(statement: &Statement) -> Result<(), DatabaseError> {
    match statement.params() {
        [] => Ok(()),
        _ => Err(DatabaseError::Refused("write values into the statement: there are no parameters".to_owned())),
    }
}

/// The columns with the names that they have in rows.
async fn columns(transaction: &Transaction<'_>, described: &[Described]) -> Result<Vec<Column>, DatabaseError> {
    let types: Vec<u32> = described.iter().map(|column| column.type_().oid()).collect();
    let modifiers: Vec<i32> = described.iter().map(Described::type_modifier).collect();
    let printed = "SELECT pg_catalog.format_type(t, m) FROM ROWS FROM (pg_catalog.unnest($1::oid[]), \
                   pg_catalog.unnest($2::int4[])) WITH ORDINALITY AS of (t, m, place) ORDER BY place";
    let printed = transaction.query(printed, &[&types, &modifiers]).await?;
    let mut taken = HashSet::new();
    let mut columns = Vec::with_capacity(described.len());
    for (column, kind) in described.iter().zip(printed) {
        columns.push(Column { name: unique(column.name(), &mut taken), kind: kind.try_get(0)? });
    }
    Ok(columns)
}

/// The name, or the first of `name_2`, `name_3`… that no column has; as long as a name may be.
fn unique(name: &str, taken: &mut HashSet<String>) -> String {
    let mut candidate = name.to_owned();
    let mut number = 2;
    while !taken.insert(candidate.clone()) {
        let suffix = format!("_{number}");
        let mut end = name.len().min(NAME_BYTES_MAX - suffix.len());
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        candidate = format!("{}{suffix}", &name[..end]);
        number += 1;
    }
    candidate
}

/// The query that gives each row as JSON, or null where that has too many bytes.
fn as_json(source: &Source, columns: &[Column], types: &[&Type], bytes_max: usize) -> String {
    let (mut given, mut taken) = (String::new(), String::new());
    for (place, (column, kind)) in columns.iter().zip(types).enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        let name = quoted(&column.name);
        let value = match **kind {
            // As it is, and not as `\x…`; in lines of 76 otherwise.
            Type::BYTEA => format!("pg_catalog.replace(pg_catalog.encode(\"{place}\", 'base64'), E'\\n', '')"),
            _ => format!("\"{place}\""),
        };
        // Writing to a text cannot fail.
        let _ = write!(given, "{comma}\"{place}\"");
        let _ = write!(taken, "{comma}{value} AS {name}");
    }
    let given = if given.is_empty() { given } else { format!(" ({given})") };
    let with = source.with_and(&format!("{ANSWER}{given} AS ({})", source.body));
    // `OFFSET 0`: so that the text is made once.
    format!(
        "{with}SELECT CASE WHEN pg_catalog.octet_length(j) <= {bytes_max} THEN j END FROM \
         (SELECT pg_catalog.row_to_json(o)::text AS j FROM (SELECT {taken} FROM {ANSWER}) AS o OFFSET 0) AS r"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_stands_twice_gets_a_number_that_is_free() {
        let mut taken = HashSet::new();
        let long = "é".repeat(31);
        let names = ["a", "a_2", "a", "a", "?column?", "?column?", &long, &long];
        let given = names.map(|name| unique(name, &mut taken));
        let cut = format!("{}_2", "é".repeat(30));
        assert_eq!(given, ["a", "a_2", "a_3", "a_4", "?column?", "?column?_2", &long, &cut]);
    }

    #[test]
    fn rows_end_at_either_bound() {
        let mut rows = Rows::default();
        let bounds = Bounds { rows: 2, bytes: 100, row_bytes: 100 };
        assert!(rows.take("{}", bounds) && rows.take("{\"a\":1}", bounds) && !rows.take("{}", bounds));
        assert_eq!((rows.objects.as_slice(), rows.count, rows.truncated), (&b"{},{\"a\":1}"[..], 2, true));
        let mut rows = Rows::default();
        let bounds = Bounds { rows: 9, bytes: 6, row_bytes: 6 };
        assert!(rows.take("{}", bounds) && rows.take("{}", bounds) && !rows.take("{}", bounds));
        assert_eq!((rows.count, rows.truncated), (2, true));
    }
}
