//! Old rows leave the table. Owns deleting them little by little, through the index on their time; refuses to ask a clock.

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use runstone_record::limits::POSTGRES_RETIRE_ROWS_MAX;
use runstone_record::time::{MICROS_MIN, format_micros};

use super::load::begin;
use super::trouble::Trouble;
use super::{Parts, Postgres, Work};
use crate::SinkError;

/// Microseconds of a day.
const DAY_US: i64 = 86_400_000_000;

impl Postgres {
    /// Deletes rows, whoever wrote them, whose `timestamp` lies more than `days` before `now_us` (microseconds since 1970), and
    /// gives their number. It does so in transactions of a few thousand, the oldest first: broken off, it has
    /// done a part. Rows that somebody has locked are left for the next time.
    ///
    /// # Errors
    /// [`SinkError::Misconfigured`] where `now_us` is more than a day ahead of the server's clock: one of the two has jumped,
    /// and nothing is deleted. Else as a delivery.
    pub async fn retain(&self, days: u32, now_us: i64) -> Result<u64, SinkError> {
        let before = now_us.saturating_sub(i64::from(days).saturating_mul(DAY_US)).max(MICROS_MIN);
        let mut total = 0;
        loop {
            let mut work = Retire { before, now: now_us };
            let deleted = self.persist("delete old records in PostgreSQL", &mut work).await?;
            total += deleted;
            if deleted == 0 {
                return Ok(total);
            }
        }
    }
}

/// One part of them.
struct Retire {
    before: i64,
    now: i64,
}

#[async_trait]
impl Work for Retire {
    type Output = u64;

    async fn run(&mut self, parts: &Parts, client: &mut ClientWrapper) -> Result<u64, Trouble> {
        match self.retire(parts, client).await {
            Err(Trouble::Refused(reason)) => Err(Trouble::refused("delete old records", &reason)),
            done => done,
        }
    }
}

impl Retire {
    async fn retire(&self, parts: &Parts, client: &mut ClientWrapper) -> Result<u64, Trouble> {
        let (logs, before, now) = (parts.names.logs(), format_micros(self.before), format_micros(self.now));
        let transaction = begin(parts, client).await?;
        let ahead = "SELECT $1::text::timestamptz > CURRENT_TIMESTAMP + interval '1 day'";
        if parts.within(transaction.query_one(ahead, &[&now])).await?.get(0) {
            return Err(Trouble::wrong(format!("delete old records: the clock is a day ahead of PostgreSQL's: {now}")));
        }
        let statement = format!(
            "DELETE FROM {logs} WHERE \"id\" IN (SELECT \"id\" FROM {logs} WHERE \"timestamp\" < $1::text::timestamptz \
             ORDER BY \"timestamp\" LIMIT {POSTGRES_RETIRE_ROWS_MAX} FOR UPDATE SKIP LOCKED)"
        );
        let deleted = parts.within(transaction.execute(&statement, &[&before])).await?;
        parts.within(transaction.commit()).await?;
        Ok(deleted)
    }
}
