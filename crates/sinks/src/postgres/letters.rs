//! Dead letters in their table: kept as the cursor passes them, read, sent again,
//! removed. Refuses to decide what becomes one.

use async_trait::async_trait;
use deadpool_postgres::{ClientWrapper, Transaction};
use runstone_record::RecordId;
use runstone_record::limits::PAGE_ROWS_MAX;

use super::read::if_there;
use super::trouble::Trouble;
use super::{NAME, Parts, Postgres, Work, load};
use crate::{DeadLetter, DeadLetters, Delivery, Frame, Redelivered, SinkError};

#[async_trait]
impl DeadLetters for Postgres {
    fn sink(&self) -> &'static str {
        NAME
    }

    async fn dead_letters(&self, after: Option<(&str, u64)>, limit: usize) -> Result<Vec<DeadLetter>, SinkError> {
        let (source, position) = after.unwrap_or(("", 0));
        let limit = i64::try_from(limit.min(PAGE_ROWS_MAX)).unwrap_or(i64::MAX);
        let mut page = Page { source, position: number(position), limit };
        self.persist("read dead letters in PostgreSQL", &mut page).await
    }

    async fn remove_dead_letters(&self, source: &str, positions: &[u64]) -> Result<u64, SinkError> {
        let positions = positions.iter().copied().map(number).collect();
        self.persist("remove dead letters in PostgreSQL", &mut Remove { source, positions }).await
    }

    async fn redeliver(&self, letter: &DeadLetter, _now: i64) -> Result<Redelivered, SinkError> {
        let frame = match letter.frame() {
            Ok(frame) => frame,
            Err(error) => return Ok(Redelivered::Refused { reason: error.to_string() }),
        };
        self.persist("bring a dead letter to PostgreSQL", &mut Again { letter, frames: [frame], unsure: false }).await
    }
}

fn number(position: u64) -> i64 {
    i64::try_from(position).unwrap_or(i64::MAX)
}

struct Page<'a> {
    source: &'a str,
    position: i64,
    limit: i64,
}

#[async_trait]
impl Work for Page<'_> {
    type Output = Vec<DeadLetter>;

    const MAKES_TABLES: bool = false;

    async fn run(&mut self, parts: &Parts, client: &mut ClientWrapper) -> Result<Vec<DeadLetter>, Trouble> {
        let statement = format!(
            "SELECT \"source\", \"position\", \"record_id\"::text, \"reason\", \"record\" FROM {} \
             WHERE (\"source\", \"position\") > ($1, $2) ORDER BY \"source\", \"position\" LIMIT $3",
            parts.names.dead_letters()
        );
        let rows = parts.within(client.query(&statement, &[&self.source, &self.position, &self.limit])).await;
        let rows = if_there(parts, client, &parts.names.dead_letters(), rows).await?;
        let letter = |row: &tokio_postgres::Row| {
            let id = RecordId::parse(row.get(2)).map_err(|error| Trouble::Wrong {
                problem: "read a dead letter in PostgreSQL".to_owned(),
                source: Some(error.into()),
            });
            let position = u64::try_from(row.get::<_, i64>(1)).unwrap_or(0);
            Ok(DeadLetter { source: row.get(0), position, id: id?, reason: row.get(3), record: row.get(4) })
        };
        rows.iter().map(letter).collect()
    }
}

struct Remove<'a> {
    source: &'a str,
    positions: Vec<i64>,
}

#[async_trait]
impl Work for Remove<'_> {
    type Output = u64;

    const MAKES_TABLES: bool = false;

    async fn run(&mut self, parts: &Parts, client: &mut ClientWrapper) -> Result<u64, Trouble> {
        let table = parts.names.dead_letters();
        let statement = format!("DELETE FROM {table} WHERE \"source\" = $1 AND \"position\" = ANY($2)");
        let removed = parts.within(client.execute(&statement, &[&self.source, &self.positions])).await;
        if_there(parts, client, &table, removed).await
    }
}

struct Again<'a> {
    letter: &'a DeadLetter,
    frames: [Frame; 1],
    /// Was a commit not answered?
    unsure: bool,
}

#[async_trait]
impl Work for Again<'_> {
    type Output = Redelivered;

    async fn run(&mut self, parts: &Parts, client: &mut ClientWrapper) -> Result<Redelivered, Trouble> {
        let (source, position) = (self.letter.source.as_str(), self.letter.position);
        let mut transaction = load::begin(parts, client).await?;
        // First: whoever else wants this letter waits here, and what is gone is not brought.
        let statement =
            format!("DELETE FROM {} WHERE \"source\" = $1 AND \"position\" = $2", parts.names.dead_letters());
        if parts.within(transaction.execute(&statement, &[&source, &number(position)])).await? == 0 {
            let was_taken = self.unsure && has(parts, &transaction, self.letter.id).await?;
            parts.within(transaction.rollback()).await?;
            return Ok(if was_taken { Redelivered::Taken } else { Redelivered::Gone });
        }
        let delivery = Delivery { source, after: position.saturating_sub(1), frames: &self.frames, through: position };
        match load::again(parts, &mut transaction, delivery).await {
            Ok(None) => {}
            Ok(Some(reason)) | Err(Trouble::Refused(reason)) => {
                parts.within(transaction.rollback()).await?;
                return Ok(Redelivered::Refused { reason });
            }
            Err(trouble) => return Err(trouble),
        }
        match parts.within(transaction.commit()).await {
            // A constraint that is looked at only now.
            Err(Trouble::Refused(reason)) => Ok(Redelivered::Refused { reason }),
            Err(trouble) => {
                self.unsure = true;
                Err(trouble)
            }
            Ok(()) => Ok(Redelivered::Taken),
        }
    }
}

/// Is there a record with this id?
async fn has(parts: &Parts, transaction: &Transaction<'_>, id: RecordId) -> Result<bool, Trouble> {
    let statement = format!("SELECT EXISTS (SELECT FROM {} WHERE \"record_id\" = $1::text::uuid)", parts.names.logs());
    Ok(parts.within(transaction.query_one(&statement, &[&id.to_string()])).await?.get(0))
}

/// Keeps letters, in the transaction that moves the cursor past them.
pub(super) async fn keep(parts: &Parts, transaction: &Transaction<'_>, letters: &[DeadLetter]) -> Result<(), Trouble> {
    if letters.is_empty() {
        return Ok(());
    }
    let column = |text: fn(&DeadLetter) -> String| -> Vec<String> { letters.iter().map(text).collect() };
    let sources = column(|letter| letter.source.clone());
    let positions: Vec<i64> = letters.iter().map(|letter| number(letter.position)).collect();
    let ids = column(|letter| letter.id.to_string());
    let reasons = column(|letter| letter.reason.replace('\0', "\u{FFFD}"));
    let records = column(|letter| letter.record.clone());
    let insert = format!(
        "INSERT INTO {} (\"source\", \"position\", \"record_id\", \"reason\", \"record\") \
         SELECT s, p, i::uuid, w, r FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[]) \
         AS letters(s, p, i, w, r) ON CONFLICT (\"source\", \"position\") DO NOTHING",
        parts.names.dead_letters()
    );
    match parts.within(transaction.execute(&insert, &[&sources, &positions, &ids, &reasons, &records])).await {
        Ok(_) => Ok(()),
        Err(Trouble::Refused(reason)) => Err(Trouble::refused("keep dead letters", &reason)),
        Err(trouble) => Err(trouble),
    }
}
