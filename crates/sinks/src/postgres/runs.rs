//! Which runs have records in the table. Owns walking through them; refuses to read a record.

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;

use super::read::if_there;
use super::trouble::Trouble;
use super::{Parts, Postgres, Work};
use crate::SinkError;

impl Postgres {
    /// The next runs in the order of PostgreSQL's collation, behind the run `after`: at most `limit`, and none where there is no
    /// table of records.
    ///
    /// # Errors
    /// Says what the caller is to do.
    pub async fn run_ids(&self, after: Option<&str>, limit: usize) -> Result<Vec<String>, SinkError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.persist("find runs in PostgreSQL", &mut Runs { after: after.unwrap_or_default(), limit }).await
    }
}

struct Runs<'a> {
    after: &'a str,
    limit: i64,
}

#[async_trait]
impl Work for Runs<'_> {
    type Output = Vec<String>;

    const MAKES_TABLES: bool = false;

    async fn run(&mut self, parts: &Parts, client: &mut ClientWrapper) -> Result<Vec<String>, Trouble> {
        let table = parts.names.logs();
        // One look into the index for each run, however many records it has.
        let next = |behind: &str| {
            format!(
                "SELECT \"run_id\" FROM {table} WHERE \"run_id\" > {behind} AND \"record_id\" IS NOT NULL \
                 ORDER BY \"run_id\" LIMIT 1"
            )
        };
        let statement = format!(
            "WITH RECURSIVE \"runs\" (\"id\", \"place\") AS (SELECT ({}), 1::bigint UNION ALL SELECT ({}), \"place\" + 1 FROM \
             \"runs\" WHERE \"runs\".\"id\" IS NOT NULL AND \"place\" < $2) SELECT \"id\" FROM \"runs\" WHERE \"id\" IS NOT NULL \
             ORDER BY \"place\"",
            next("$1::text"),
            next("\"runs\".\"id\"")
        );
        let rows = parts.within(client.query(&statement, &[&self.after, &self.limit])).await;
        let rows = if_there(parts, client, &table, rows).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}
