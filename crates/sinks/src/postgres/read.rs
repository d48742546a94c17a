//! Rows become records again: exactly those that were sent. Owns taking fills out and putting what was cut back in; refuses
//! rows of other writers, which are no records.

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use runstone_record::limits::PAGE_ROWS_MAX;
use runstone_record::time::format_micros;
use runstone_record::{Column, Kind, RecordWriter};
use serde_json::value::RawValue;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Client, Row};

use super::encode::EPOCH_US;
use super::fill::{HOSTNAME, KEPT, LEVEL, LOGGER_NAME, MESSAGE, PROCESS_ID, THREAD_ID, TIMESTAMP};
use super::json::{OWN, members, write_object};
use super::trouble::Trouble;
use super::{Parts, Postgres, Work};
use crate::{Cause, SinkError};

/// Which records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which<'a> {
    /// Those of a run, in the order of their time. There is an index for it.
    Run(&'a str),
    /// Those of a source, in the order of their positions. There is no index for it.
    Source(&'a str),
}

/// A record of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The journal that took it.
    pub journal: String,
    /// Its place there.
    pub position: u64,
    /// The record as JSON of the API, version 1.
    pub json: String,
    /// The row's time, in microseconds since 1970: the record may have none.
    at: i64,
}

impl Postgres {
    /// A page of records, none where there is no table of records: at most `limit` and at most a page of the API, behind the record `after` in their order. A row
    /// that comes or goes between two pages moves no other.
    ///
    /// # Errors
    /// Says what the caller is to do.
    pub async fn records(
        &self,
        which: Which<'_>,
        after: Option<&Record>,
        limit: usize,
    ) -> Result<Vec<Record>, SinkError> {
        let limit = i64::try_from(limit.min(PAGE_ROWS_MAX)).unwrap_or(i64::MAX);
        self.persist("read records in PostgreSQL", &mut Page { which, after, limit }).await
    }
}

/// A page of records.
struct Page<'a> {
    which: Which<'a>,
    after: Option<&'a Record>,
    limit: i64,
}

#[async_trait]
impl Work for Page<'_> {
    type Output = Vec<Record>;

    const MAKES_TABLES: bool = false;

    async fn run(&mut self, parts: &Parts, client: &mut ClientWrapper) -> Result<Vec<Record>, Trouble> {
        let (of, order, value) = match &self.which {
            Which::Run(run) => ("run_id", "\"timestamp\", \"journal\", \"position\"", run),
            Which::Source(source) => ("journal", "\"position\"", source),
        };
        let place = self.after.map(|record| {
            (format_micros(record.at), &record.journal, i64::try_from(record.position).unwrap_or(i64::MAX))
        });
        let mut given: Vec<&(dyn ToSql + Sync)> = vec![value, &self.limit];
        let behind = match (&place, self.which) {
            (None, _) => String::new(),
            (Some((at, journal, position)), Which::Run(_)) => {
                given.extend([at as &(dyn ToSql + Sync), journal, position]);
                format!("AND ({order}) > ($3::text::timestamptz, $4::text, $5::bigint)")
            }
            (Some((_, _, position)), Which::Source(_)) => {
                given.push(position);
                format!("AND {order} > $3::bigint")
            }
        };
        let columns: Vec<String> = Column::ALL.into_iter().filter_map(selected).collect();
        let statement = format!(
            "SELECT {}, \"filled\" FROM {} WHERE \"{of}\" = $1 AND \"record_id\" IS NOT NULL {behind} ORDER BY {order} \
             LIMIT $2",
            columns.join(", "),
            parts.names.logs()
        );
        let rows = parts.within(client.query(&statement, &given)).await;
        let rows = if_there(parts, client, &parts.names.logs(), rows).await?;
        rows.iter().map(record).collect()
    }
}

/// An answer; nothing, where the table is missing or is not ours yet.
pub(super) async fn if_there<T: Default>(
    parts: &Parts,
    client: &Client,
    table: &str,
    answer: Result<T, Trouble>,
) -> Result<T, Trouble> {
    let Err(Trouble::Gone(cause)) = answer else { return answer };
    // Ours have it, all of them. What is missing there is another thing.
    let asked = "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = 'record_id' \
                 AND NOT attisdropped)";
    let row = parts.within(client.query_one(asked, &[&table])).await?;
    if row.get(0) { Err(Trouble::Gone(cause)) } else { Ok(T::default()) }
}

/// A column as it is asked for.
fn selected(column: Column) -> Option<String> {
    match column {
        Column::Date => None,
        Column::Id => Some("\"record_id\"::text".to_owned()),
        Column::Metadata => Some("\"extra_data\"::text".to_owned()),
        _ => Some(format!("\"{}\"", column.name())),
    }
}

/// Microseconds since 1970.
struct Micros(i64);

impl<'a> FromSql<'a> for Micros {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Cause> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?).saturating_add(EPOCH_US)))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TIMESTAMPTZ
    }
}

/// What `extra_data` has.
struct Extra<'a> {
    /// Our own member's.
    kept: Vec<(String, &'a RawValue)>,
    metadata: Option<String>,
}

impl<'a> Extra<'a> {
    fn of(text: Option<&'a str>, filled: i32) -> Result<Self, Cause> {
        let Some(text) = text else { return Ok(Self { kept: Vec::new(), metadata: None }) };
        let mut found = members(text)?;
        let mut kept = Vec::new();
        if filled & KEPT != 0
            && let Some(own) = found.iter().position(|(name, _)| name == OWN)
        {
            kept = members(found.remove(own).1.get())?;
        }
        let mut metadata = None;
        if let Some((_, whole)) = kept.iter().find(|(name, _)| name == Column::Metadata.name()) {
            metadata = Some(serde_json::from_str(whole.get())?);
        } else if !found.is_empty() {
            let mut out = Vec::new();
            write_object(&found, &mut out)?;
            metadata = Some(String::from_utf8(out)?);
        }
        Ok(Self { kept, metadata })
    }

    fn kept(&self, column: Column) -> Option<&'a RawValue> {
        self.kept.iter().find(|(name, _)| name == column.name()).map(|(_, value)| *value)
    }
}

/// The bit of a column that is filled where the record has nothing.
fn bit(column: Column) -> i32 {
    match column {
        Column::Level => LEVEL,
        Column::LoggerName => LOGGER_NAME,
        Column::ProcessId => PROCESS_ID,
        Column::ThreadId => THREAD_ID,
        Column::Hostname => HOSTNAME,
        Column::Message => MESSAGE,
        Column::Timestamp => TIMESTAMP,
        _ => 0,
    }
}

fn record(row: &Row) -> Result<Record, Trouble> {
    print(row).map_err(|source| Trouble::Wrong {
        problem: "read a record in PostgreSQL: its row was changed".to_owned(),
        source: Some(source),
    })
}

fn print(row: &Row) -> Result<Record, Cause> {
    let filled: i32 = row.try_get("filled")?;
    let extra: Option<&str> = row.try_get(Column::Metadata.index())?;
    let extra = Extra::of(extra, filled)?;
    let mut json = Vec::new();
    let mut writer = RecordWriter::new(&mut json);
    for (place, column) in Column::ALL.into_iter().filter(|column| *column != Column::Date).enumerate() {
        if let Some(kept) = extra.kept(column).filter(|_| column != Column::Metadata) {
            match column.kind() {
                Kind::Int => writer.int(column, kept.get().parse()?),
                _ => writer.text(column, &serde_json::from_str::<String>(kept.get())?),
            }
        } else if column == Column::Metadata {
            if let Some(metadata) = &extra.metadata {
                writer.text(column, metadata);
            }
        } else if filled & bit(column) == 0 {
            field(row, place, column, &mut writer)?;
        }
    }
    writer.end();
    let position: i64 = row.try_get(Column::Position.index())?;
    let Micros(at) = row.try_get(Column::Timestamp.name())?;
    Ok(Record {
        journal: row.try_get(Column::Journal.index())?,
        position: u64::try_from(position)?,
        json: String::from_utf8(json)?,
        at,
    })
}

fn field(row: &Row, place: usize, column: Column, writer: &mut RecordWriter<'_>) -> Result<(), Cause> {
    match column.kind() {
        Kind::Time => {
            if let Some(Micros(time)) = row.try_get(place)? {
                writer.int(column, time);
            }
        }
        Kind::Int if matches!(column, Column::ProcessId | Column::Lineno) => {
            if let Some(value) = row.try_get::<_, Option<i32>>(place)? {
                writer.int(column, value.into());
            }
        }
        Kind::Int | Kind::Date => {
            if let Some(value) = row.try_get(place)? {
                writer.int(column, value);
            }
        }
        Kind::Float => {
            if let Some(value) = row.try_get(place)? {
                writer.float(column, value);
            }
        }
        Kind::List => {
            if let Some(list) = row.try_get::<_, Option<Vec<String>>>(place)? {
                writer.text(column, &serde_json::to_string(&list)?);
            }
        }
        _ => {
            if let Some(text) = row.try_get(place)? {
                writer.text(column, text);
            }
        }
    }
    Ok(())
}
