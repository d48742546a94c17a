//! Pages of `logs`: filters, exact order, and walking on from a cursor. Owns `GET /api/v1/logs` behind HTTP. Values
//! are compared as they are: nothing here is ever read as SQL.
//!
//! A page is found in two steps: the keys of its records first, over the columns of the filters alone, then these
//! records whole. The scan reads the newest (or oldest) chunks first and skips the rest once the page is full.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use datafusion::common::{Result as PlanResult, ScalarValue};
use datafusion::logical_expr::{Expr, ident, lit};
use datafusion_functions_json::udfs::json_as_text_udf;
use futures::TryStreamExt;
use runstone_record::limits::PAGE_ROWS_MAX;
use runstone_record::time::Moment;
use runstone_record::{Column, Kind, Level};
use xxhash_rust::xxh3::Xxh3Default;

use crate::cursor::{Bounds, Cursor};
use crate::error::{Phase, QueryError, sort_out};
use crate::recent::Snapshot;
use crate::records::Key;
use crate::session::{Shared, Sql, start_own};
use crate::watch::Stop;

/// Which end a walk begins at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// The latest timestamp first.
    #[default]
    Newest,
    /// The earliest timestamp first.
    Oldest,
}

/// A page of logs.
#[derive(Debug, Clone, Default)]
pub struct LogsQuery {
    /// Columns of text and what they must be.
    pub equals: Vec<(Column, String)>,
    /// Columns of text and what they must be one of.
    pub any_of: Vec<(Column, Vec<String>)>,
    /// The least level.
    pub min_level: Option<Level>,
    /// The earliest timestamp, itself included.
    pub since: Option<Moment>,
    /// The timestamp before which records must lie.
    pub until: Option<Moment>,
    /// Texts each of which title, message or exception must have in it, in whatever case.
    pub contains: Vec<String>,
    /// Keys of the metadata and the values that they must have, as text. A dot in a key may also be a step into an object.
    pub metadata: Vec<(String, String)>,
    /// Which end first.
    pub order: Order,
    /// Records of the page.
    pub limit: usize,
    /// Where the page before ended.
    pub cursor: Option<Cursor>,
}

/// A page.
#[derive(Debug, Clone)]
pub struct LogsPage {
    /// The records: a JSON array of objects, as text.
    pub records_json: Vec<u8>,
    /// How many.
    pub count: usize,
    /// Where the next page begins; none on the last.
    pub next: Option<Cursor>,
}

impl LogsPage {
    /// The body of the API's answer.
    #[must_use]
    pub fn into_body(self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.records_json.len() + 128);
        body.extend_from_slice(b"{\"records\":");
        body.extend_from_slice(&self.records_json);
        body.extend_from_slice(b",\"next\":");
        match self.next {
            // The alphabet of a cursor needs no escape.
            Some(next) => body.extend_from_slice(format!("\"{}\"", next.encode()).as_bytes()),
            None => body.extend_from_slice(b"null"),
        }
        body.push(b'}');
        body
    }
}

impl Sql {
    /// Reads a page of logs. Must be awaited in a Tokio runtime with a timer.
    ///
    /// # Errors
    /// [`QueryError::Parameter`] for a cursor of another query, a limit of 0 or above `PAGE_ROWS_MAX`, or a column
    /// that is no text; the others as for SQL.
    pub async fn logs(&self, mut query: LogsQuery) -> Result<LogsPage, QueryError> {
        query.check()?;
        query.keep_times();
        self.page(|shared, stop| async move { shared.logs(query, &stop).await }).await
    }
}

impl LogsQuery {
    fn check(&self) -> Result<(), QueryError> {
        if !(1..=PAGE_ROWS_MAX).contains(&self.limit) {
            let message = format!("limit: must be 1 to {PAGE_ROWS_MAX}, is {}", self.limit);
            return Err(QueryError::Parameter(message));
        }
        self.check_filters()
    }

    /// The same but for the limit.
    pub(crate) fn check_filters(&self) -> Result<(), QueryError> {
        let wrong = |message: String| Err(QueryError::Parameter(message));
        let listed = self.any_of.iter().map(|(column, _)| column);
        for column in self.equals.iter().map(|(column, _)| column).chain(listed) {
            if !is_text(*column) {
                return wrong(format!("{}: cannot be filtered by its text", column.name()));
            }
        }
        if self.cursor.as_ref().is_some_and(|cursor| cursor.query != self.hash()) {
            return wrong("cursor: it comes from a page of another query; repeat that query's parameters".to_owned());
        }
        Ok(())
    }

    /// On later pages a time that moves with the clock is what it was on the first.
    pub(crate) fn keep_times(&mut self) {
        let Some(cursor) = &self.cursor else { return };
        let kept = |asked: Option<Moment>, was: Option<i64>| match (asked, was) {
            (Some(moment), Some(was)) => Some(moment.said_when(was)),
            _ => asked,
        };
        self.since = kept(self.since, cursor.since);
        self.until = kept(self.until, cursor.until);
    }

    /// A hash of everything that a walk must keep from page to page; the limit may change.
    fn hash(&self) -> u64 {
        let mut hasher = Xxh3Default::new();
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        let mut equals: Vec<_> = self.equals.iter().map(|(column, text)| (column.code(), text)).collect();
        equals.sort_unstable();
        for (code, text) in equals {
            part(&[code]);
            part(text.as_bytes());
        }
        for (column, texts) in &self.any_of {
            part(&[column.code()]);
            texts.iter().for_each(|text| part(text.as_bytes()));
        }
        part(self.min_level.map_or("", Level::as_str).as_bytes());
        for bound in [self.since, self.until] {
            match bound.map(Moment::words) {
                Some((is_relative, micros)) => part(&[&[u8::from(is_relative)], &micros.to_le_bytes()[..]].concat()),
                None => part(&[]),
            }
        }
        let sorted = |mut texts: Vec<String>| {
            texts.sort_unstable();
            texts
        };
        let metadata = self.metadata.iter().map(|(key, value)| format!("{}:{key}{value}", key.len()));
        for texts in [sorted(self.contains.clone()), sorted(metadata.collect())] {
            part(&texts.len().to_le_bytes());
            texts.iter().for_each(|text| part(text.as_bytes()));
        }
        part(&[u8::from(self.order == Order::Oldest)]);
        hasher.digest()
    }

    pub(crate) fn filters(&self) -> Vec<Expr> {
        let mut filters: Vec<Expr> =
            self.equals.iter().map(|(column, text)| name(*column).eq(lit(text.as_str()))).collect();
        filters.extend(self.any_of.iter().map(|(column, texts)| {
            name(*column).in_list(texts.iter().map(|text| lit(text.as_str())).collect(), false)
        }));
        if let Some(least) = self.min_level {
            let levels = Level::ALL.iter().filter(|level| **level >= least).map(|level| lit(level.as_str()));
            filters.push(name(Column::Level).in_list(levels.collect(), false));
        }
        let timestamp = || name(Column::Timestamp);
        filters.extend(self.since.map(|since| timestamp().gt_eq(time(since.micros()))));
        filters.extend(self.until.map(|until| timestamp().lt(time(until.micros()))));
        for text in &self.contains {
            let pattern = format!("%{}%", escaped(text));
            let has = |column| name(column).ilike(lit(pattern.as_str()));
            filters.push(has(Column::Message).or(has(Column::Title)).or(has(Column::Exception)));
        }
        filters.extend(self.metadata.iter().flat_map(|(key, value)| has_member(key, value)));
        if let Some(cursor) = &self.cursor {
            filters.push(within(&cursor.bounds));
            filters.extend(self.after(cursor));
        }
        filters
    }

    /// What lies beyond a cursor.
    pub(crate) fn after(&self, cursor: &Cursor) -> [Expr; 2] {
        let beyond = |column, value: Expr| match self.order {
            Order::Newest => name(column).lt(value),
            Order::Oldest => name(column).gt(value),
        };
        let at = || time(cursor.timestamp);
        let journal = || lit(cursor.journal.as_str());
        let same_journal = name(Column::Journal).eq(journal()).and(beyond(Column::Position, lit(cursor.position)));
        let same_time = name(Column::Timestamp).eq(at()).and(beyond(Column::Journal, journal()).or(same_journal));
        // The first is implied by the second; alone it rules chunks out.
        let bound = match self.order {
            Order::Newest => name(Column::Timestamp).lt_eq(at()),
            Order::Oldest => name(Column::Timestamp).gt_eq(at()),
        };
        [bound, beyond(Column::Timestamp, at()).or(same_time)]
    }
}

fn is_text(column: Column) -> bool {
    matches!(column.kind(), Kind::Id | Kind::Identifier | Kind::Word | Kind::Label | Kind::Hex)
}

/// The column itself: its name is never parsed.
pub(crate) fn name(column: Column) -> Expr {
    ident(column.name())
}

pub(crate) fn time(micros: i64) -> Expr {
    lit(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())))
}

fn position(position: u64) -> Expr {
    lit(i64::try_from(position).unwrap_or(i64::MAX))
}

/// Does the metadata say this? The first conditions can be decided without reading JSON, and leave few rows to the last.
fn has_member(key: &str, value: &str) -> Vec<Expr> {
    let get = |steps: &[&str]| {
        let path = steps.iter().map(|step| lit(*step));
        json_as_text_udf().call(std::iter::once(name(Column::Metadata)).chain(path).collect()).eq(lit(value))
    };
    let steps: Vec<&str> = key.split('.').collect();
    let mut conditions: Vec<Expr> =
        [steps.last().copied(), Some(value)].into_iter().flatten().filter_map(may_have).collect();
    conditions.push(if steps.len() > 1 { get(&[key]).or(get(&steps)) } else { get(&[key]) });
    conditions
}

/// Is the text in the metadata, as it stands or escaped? None where JSON may write it in more ways than these.
fn may_have(text: &str) -> Option<Expr> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':' | b' ');
    let has = |text: &str| name(Column::Metadata).like(lit(format!("%{}%", escaped(text))));
    (!text.is_empty() && text.bytes().all(is_plain)).then(|| has(text).or(has("\\u")))
}

/// Only what was there when a walk began.
fn within(bounds: &Bounds) -> Expr {
    let journal = |journal: &str| name(Column::Journal).eq(lit(journal));
    let listed = bounds.through.iter();
    let listed =
        listed.map(|(name_of, through)| journal(name_of).and(name(Column::Position).lt_eq(position(*through))));
    let names = || bounds.through.iter().map(|(name_of, _)| lit(name_of.as_str())).collect();
    let others = bounds.others.then(|| name(Column::Journal).in_list(names(), true));
    listed.chain(others).reduce(Expr::or).unwrap_or_else(|| lit(bounds.others))
}

/// The text with the pattern characters of LIKE taken literally.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

impl Shared {
    async fn logs(&self, query: LogsQuery, stop: &Arc<Stop>) -> Result<LogsPage, QueryError> {
        self.on_newest(|snapshot| self.logs_of(snapshot, &query, stop)).await
    }

    async fn logs_of(&self, snapshot: Snapshot, query: &LogsQuery, stop: &Arc<Stop>) -> Result<LogsPage, QueryError> {
        let mut keys =
            self.keys(query, snapshot.clone(), stop).await.map_err(|error| sort_out(&error, Phase::Running))?;
        let found = keys.len();
        keys.truncate(query.limit);
        let (records_json, count) = self.records(&snapshot, &keys).await?;
        keys.truncate(count);
        let more = found > count;
        let next = keys.last().filter(|_| more).map(|last| Cursor {
            query: query.hash(),
            timestamp: last.timestamp,
            journal: last.journal.clone(),
            position: last.position,
            since: query.since.filter(|since| since.is_relative()).map(Moment::micros),
            until: query.until.filter(|until| until.is_relative()).map(Moment::micros),
            bounds: query.cursor.as_ref().map_or_else(|| Bounds::of(&snapshot), |cursor| cursor.bounds.clone()),
        });
        Ok(LogsPage { records_json, count, next })
    }

    /// The keys of the page's records, and of one more.
    pub(crate) async fn keys(&self, query: &LogsQuery, snapshot: Snapshot, stop: &Arc<Stop>) -> PlanResult<Vec<Key>> {
        self.keys_where(query, query.filters(), snapshot, stop).await
    }

    /// The same of those that pass these filters.
    pub(crate) async fn keys_where(
        &self,
        query: &LogsQuery,
        filters: Vec<Expr>,
        snapshot: Snapshot,
        stop: &Arc<Stop>,
    ) -> PlanResult<Vec<Key>> {
        let session = self.session(snapshot)?;
        let key = [Column::Timestamp, Column::Journal, Column::Position];
        let mut logs = session.table("logs").await?;
        for filter in filters {
            logs = logs.filter(filter)?;
        }
        let ascending = query.order == Order::Oldest;
        let plan = logs
            .select(key.map(name))?
            .sort(key.map(|column| name(column).sort(ascending, false)).to_vec())?
            .limit(0, Some(query.limit + 1))?
            .into_unoptimized_plan();
        let mut stream = start_own(&session, &plan, stop).await?;
        let mut keys = Vec::new();
        while let Some(batch) = stream.try_next().await? {
            let times = batch.column(0).as_primitive::<TimestampMicrosecondType>();
            let journals = batch.column(1).as_string::<i32>();
            let positions = batch.column(2).as_primitive::<Int64Type>();
            keys.extend((0..batch.num_rows()).map(|row| Key {
                timestamp: times.value(row),
                journal: journals.value(row).to_owned(),
                position: positions.value(row),
            }));
        }
        Ok(keys)
    }
}
