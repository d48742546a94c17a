//! What there is to filter by: the values of a column, and the columns and keys of metadata that records have, each with
//! how many. Owns counting them without reading what statistics know; refuses columns whose values are no words.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::common::Result as PlanResult;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{Expr, lit};
use datafusion::prelude::{DataFrame, SessionContext};
use futures::TryStreamExt;
use runstone_record::limits::METADATA_SAMPLE_RECORDS;
use runstone_record::{Column, Kind};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::chunk::Chunk;
use crate::columns::is_required;
use crate::error::{Phase, QueryError, sort_out};
use crate::lake::{LakeFile, LakeView, is_ours};
use crate::logs::{LogsQuery, Order, escaped, name};
use crate::recent::Snapshot;
use crate::session::{Shared, Sql, start_own};
use crate::watch::Stop;

/// The values of a column.
#[derive(Debug, Clone)]
pub struct ValuesQuery {
    /// Which records; order, limit and cursor mean nothing here.
    pub filter: LogsQuery,
    /// Which column.
    pub column: Column,
    /// What they begin with, in whatever case.
    pub prefix: Option<String>,
    /// How many at most.
    pub limit: usize,
}

/// Values, the most frequent first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values {
    /// Each with its records.
    pub values: Vec<(String, u64)>,
    /// Are there more?
    pub truncated: bool,
}

/// What records have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    /// Columns that some record has, with how many do.
    pub columns: Vec<(Column, u64)>,
    /// Keys of metadata, with how many records of the sample have them.
    pub metadata: Vec<(String, u64)>,
    /// Records whose metadata was looked at, the newest.
    pub sample: u64,
    /// Are there others with metadata?
    pub is_sampled: bool,
}

/// Can a column's values be counted one by one? Those of others are no words, or each record has its own.
#[must_use]
pub fn has_values(column: Column) -> bool {
    matches!(column.kind(), Kind::Identifier | Kind::Word | Kind::Label | Kind::Hex) && column != Column::Journal
}

impl Sql {
    /// Counts the values of a column. Must be awaited in a Tokio runtime with a timer.
    ///
    /// # Errors
    /// [`QueryError::Parameter`] for a column that [`has_values`] refuses; the others as for SQL.
    pub async fn values(&self, query: ValuesQuery) -> Result<Values, QueryError> {
        if !has_values(query.column) {
            return Err(QueryError::Parameter(format!("field: {} has no values to choose from", query.column.name())));
        }
        self.page(|shared, stop| async move { shared.values(&query, &stop).await }).await
    }

    /// Counts what records have. Must be awaited in a Tokio runtime with a timer.
    ///
    /// # Errors
    /// As for SQL.
    pub async fn fields(&self, filter: LogsQuery) -> Result<Fields, QueryError> {
        self.page(|shared, stop| async move { shared.fields(&filter, &stop).await }).await
    }
}

impl Shared {
    async fn values(&self, query: &ValuesQuery, stop: &Arc<Stop>) -> Result<Values, QueryError> {
        let answer = |snapshot| async move {
            self.values_of(snapshot, query, stop).await.map_err(|error| sort_out(&error, Phase::Running))
        };
        self.on_newest(answer).await
    }

    async fn values_of(&self, snapshot: Snapshot, query: &ValuesQuery, stop: &Arc<Stop>) -> PlanResult<Values> {
        let session = self.session(snapshot)?;
        let column = || name(query.column);
        let mut logs = filtered(&session, &query.filter).await?.filter(column().is_not_null())?;
        if let Some(prefix) = &query.prefix {
            logs = logs.filter(column().ilike(lit(format!("{}%", escaped(prefix)))))?;
        }
        let records = || count(lit(1)).alias("records");
        let plan = logs
            .aggregate(vec![column()], vec![records()])?
            .sort(vec![datafusion::logical_expr::ident("records").sort(false, false), column().sort(true, false)])?
            .limit(0, Some(query.limit.saturating_add(1)))?
            .into_unoptimized_plan();
        let mut stream = start_own(&session, &plan, stop).await?;
        let mut values = Vec::new();
        while let Some(batch) = stream.try_next().await? {
            let (texts, records) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
            values.extend((0..batch.num_rows()).map(|row| (texts.value(row).to_owned(), number(records.value(row)))));
        }
        let truncated = values.len() > query.limit;
        values.truncate(query.limit);
        Ok(Values { values, truncated })
    }

    async fn fields(&self, filter: &LogsQuery, stop: &Arc<Stop>) -> Result<Fields, QueryError> {
        self.on_newest(|snapshot| self.fields_of(snapshot, filter, stop)).await
    }

    async fn fields_of(&self, snapshot: Snapshot, filter: &LogsQuery, stop: &Arc<Stop>) -> Result<Fields, QueryError> {
        let counts = match filter.filters().is_empty() {
            true => self.count_all(&snapshot, stop).await,
            false => self.count_columns(snapshot.clone(), filter, &Column::ALL, stop).await,
        };
        let counts = counts.map_err(|error| sort_out(&error, Phase::Running))?;
        let of = |column: Column| counts.get(&column).copied().unwrap_or(0);
        let columns = Column::ALL.into_iter().map(|column| (column, of(column))).filter(|(_, records)| *records > 0);
        let (metadata, sample) = match of(Column::Metadata) {
            0 => Default::default(),
            _ => self.metadata_keys(snapshot, filter, stop).await?,
        };
        let is_sampled = sample < of(Column::Metadata);
        Ok(Fields { columns: columns.collect(), metadata, sample, is_sampled })
    }

    /// How many records have each column: from what memory and the lake's log know, and by reading only what is left.
    async fn count_all(&self, snapshot: &Snapshot, stop: &Arc<Stop>) -> PlanResult<HashMap<Column, u64>> {
        let mut counts = HashMap::new();
        let mut add = |column, records| *counts.entry(column).or_insert(0) += records;
        for (chunk, column) in snapshot.chunks.iter().flat_map(|chunk| Column::ALL.map(|column| (chunk, column))) {
            add(column, chunk.count(column));
        }
        let mut unknown = Vec::new();
        for column in Column::ALL {
            match snapshot.lake.as_ref().map_or(Some(0), |lake| lake.count(column)) {
                Some(records) => add(column, records),
                None => unknown.push(column),
            }
        }
        let everything = LogsQuery::default();
        if !unknown.is_empty() {
            let lake = Snapshot { lake: snapshot.lake.clone(), ..Snapshot::default() };
            let read = self.count_columns(lake, &everything, &unknown, stop).await?;
            read.into_iter().for_each(|(column, records)| add(column, records));
        }
        if !snapshot.evicted.is_empty() {
            let evicted = Snapshot { evicted: Arc::clone(&snapshot.evicted), ..Snapshot::default() };
            let read = self.count_columns(evicted, &everything, &Column::ALL, stop).await?;
            read.into_iter().for_each(|(column, records)| add(column, records));
        }
        Ok(counts)
    }

    /// The same by reading.
    async fn count_columns(
        &self,
        snapshot: Snapshot,
        filter: &LogsQuery,
        columns: &[Column],
        stop: &Arc<Stop>,
    ) -> PlanResult<HashMap<Column, u64>> {
        let session = self.session(snapshot)?;
        let counts: Vec<Expr> = columns.iter().map(|column| count(name(*column)).alias(column.name())).collect();
        let plan = filtered(&session, filter).await?.aggregate(Vec::new(), counts)?.into_unoptimized_plan();
        let batches: Vec<_> = start_own(&session, &plan, stop).await?.try_collect().await?;
        let count = |place: usize| {
            let counts = batches.iter().filter(|batch| batch.num_rows() > 0);
            counts.map(|batch| number(batch.column(place).as_primitive::<Int64Type>().value(0))).sum()
        };
        Ok(columns.iter().enumerate().map(|(place, column)| (*column, count(place))).collect())
    }

    /// The keys of the newest records' metadata, the most frequent first, and how many records were looked at. They are found
    /// and read as a page is: so many large ones are not held at once, and the sample ends early where a page would.
    async fn metadata_keys(
        &self,
        snapshot: Snapshot,
        filter: &LogsQuery,
        stop: &Arc<Stop>,
    ) -> Result<(Vec<(String, u64)>, u64), QueryError> {
        let newest = LogsQuery { order: Order::Newest, limit: METADATA_SAMPLE_RECORDS, ..LogsQuery::default() };
        let mut filters = filter.filters();
        filters.push(name(Column::Metadata).is_not_null());
        let found = self.keys_where(&newest, filters, snapshot.clone(), stop).await;
        let mut found = found.map_err(|error| sort_out(&error, Phase::Running))?;
        found.truncate(METADATA_SAMPLE_RECORDS);
        let (records, sample) = self.records(&snapshot, &found).await?;
        let unread = |error| QueryError::Internal(format!("read metadata: {error}"));
        let records: Vec<WithMetadata<'_>> = serde_json::from_slice(&records).map_err(unread)?;
        let mut keys = BTreeMap::<String, u64>::new();
        for metadata in records.iter().filter_map(|record| record.metadata) {
            let found: BTreeMap<String, IgnoredAny> = serde_json::from_str(metadata.get()).unwrap_or_default();
            for key in found.into_keys() {
                *keys.entry(key).or_default() += 1;
            }
        }
        let mut keys: Vec<(String, u64)> = keys.into_iter().collect();
        keys.sort_by_key(|(_, records)| std::cmp::Reverse(*records));
        Ok((keys, sample as u64))
    }
}

/// A record as a page has it.
#[derive(Deserialize)]
struct WithMetadata<'r> {
    #[serde(borrow)]
    metadata: Option<&'r RawValue>,
}

async fn filtered(session: &SessionContext, filter: &LogsQuery) -> PlanResult<DataFrame> {
    let mut logs = session.table("logs").await?;
    for filter in filter.filters() {
        logs = logs.filter(filter)?;
    }
    Ok(logs)
}

fn number(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

impl Chunk {
    /// How many records have a column.
    fn count(&self, column: Column) -> u64 {
        let rows = match self.stored(column) {
            _ if is_required(column) => self.rows,
            None => 0,
            Some(stored) => self.rows - stored.nulls(),
        };
        rows as u64
    }
}

impl LakeView {
    /// How many records have a column. None: some file does not say.
    fn count(&self, column: Column) -> Option<u64> {
        self.files().iter().map(|file| Some(file.stats.rows?.saturating_sub(nulls(file, column)?))).sum()
    }
}

/// How many records of a file have no value. A count of lists is believed of files that are named as ours are: were it wrong,
/// it would be wrong here, in a number, while what [`LakeFile::nulls`] says may leave records out.
fn nulls(file: &LakeFile, column: Column) -> Option<u64> {
    match column.kind() {
        Kind::List if is_ours(&file.path) => file.stats.column(column)?.nulls,
        _ => file.nulls(column),
    }
}
