//! Some rows of tables, at random. Owns how they are drawn without reading a large table.

use async_trait::async_trait;
use runstone_record::limits::{
    GATEWAY_SAMPLE_PAGES, GATEWAY_SAMPLE_ROW_BYTES_MAX, GATEWAY_SMALL_TABLE_PAGES, GATEWAY_VIEW_ROWS,
};
use tokio_postgres::Transaction;

use super::guard::Source;
use super::names::{self, Kind, Table};
use super::rows::{self, Bounds, Excess, Rows};
use super::{Access, Database, DatabaseError, Done, Work};

/// By how much a sample of pages grows that had too few rows.
const GROWTH: f64 = 16.0;

/// The pages of a table and of all below it, its partitions. Sizes are always right; the number of rows is known only after
/// the first `ANALYZE`.
const PAGES: &str = "\
WITH RECURSIVE below (oid) AS (SELECT $1::oid UNION \
SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN below ON i.inhparent = below.oid) \
SELECT (coalesce(sum(pg_catalog.pg_relation_size(below.oid)), 0) / pg_catalog.current_setting('block_size')::bigint)::bigint \
FROM below";

impl Database {
    /// So many rows of each table at most, under the name that was given for it.
    pub(crate) async fn samples(&self, tables: Vec<String>, rows: u64) -> Result<Vec<(String, Rows)>, DatabaseError> {
        let bounds = Bounds { rows, row_bytes: GATEWAY_SAMPLE_ROW_BYTES_MAX, ..self.bounds() };
        self.run(Access::ReadOnly, Samples { tables, bounds }).await
    }
}

struct Samples {
    tables: Vec<String>,
    bounds: Bounds,
}

#[async_trait]
impl Work for Samples {
    type Output = Vec<(String, Rows)>;

    async fn run(&mut self, transaction: &Transaction<'_>) -> Result<Done<Self::Output>, DatabaseError> {
        let tables = names::find_all(transaction, &self.tables).await?;
        let mut samples = Vec::with_capacity(tables.len());
        let (mut bounds, mut is_abandoned) = (self.bounds, false);
        for (name, table) in tables {
            // Where there is no room for one table's rows, there is none for the next one's.
            let rows = match is_abandoned {
                false => draw(transaction, &table, bounds).await?,
                true => Rows { truncated: true, ..Rows::default() },
            };
            bounds.bytes -= rows.objects.len();
            is_abandoned |= rows.is_abandoned;
            samples.push((name, rows));
        }
        Ok(Done { output: samples, is_abandoned })
    }
}

async fn draw(transaction: &Transaction<'_>, table: &Table, bounds: Bounds) -> Result<Rows, DatabaseError> {
    let (name, limit) = (table.quoted(), bounds.rows);
    let shuffled =
        |from: &str| Source::plain(format!("SELECT * FROM {from} ORDER BY pg_catalog.random() LIMIT {limit}"));
    match table.kind {
        // What stands behind them may be large, or far away.
        Kind::View | Kind::ForeignTable => {
            let from = format!("(SELECT * FROM {name} LIMIT {GATEWAY_VIEW_ROWS}) AS beginning");
            return rows::read(transaction, &shuffled(&from), bounds, Excess::Skip).await;
        }
        Kind::Table | Kind::PartitionedTable | Kind::MaterializedView => {}
    }
    let pages: i64 = transaction.query_one(PAGES, &[&table.oid]).await?.try_get(0)?;
    if pages > GATEWAY_SMALL_TABLE_PAGES
        && let Some(rows) = draw_from_pages(transaction, &shuffled, &name, pages, bounds).await?
    {
        return Ok(rows);
    }
    rows::read(transaction, &shuffled(&name), bounds, Excess::Skip).await
}

/// From some of so many pages; from more of them, while those have too few rows. None: from all of them.
async fn draw_from_pages(
    transaction: &Transaction<'_>,
    shuffled: &(dyn Fn(&str) -> Source + Sync),
    name: &str,
    pages: i64,
    bounds: Bounds,
) -> Result<Option<Rows>, DatabaseError> {
    let mut percent = GATEWAY_SAMPLE_PAGES as f64 * 100.0 / pages as f64;
    while percent < 100.0 {
        let from = format!("(SELECT * FROM {name} TABLESAMPLE SYSTEM ({percent})) AS pages");
        let rows = rows::read(transaction, &shuffled(&from), bounds, Excess::Skip).await?;
        if rows.count >= bounds.rows || rows.truncated {
            return Ok(Some(rows));
        }
        percent *= GROWTH;
    }
    Ok(None)
}
