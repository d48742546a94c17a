//! A delivery becomes rows. Owns the transaction that carries rows and cursor together, and finding the records that cannot be
//! taken; refuses to try again.
//!
//! The straight way is one COPY into the table. Where the server refuses one of its records, or has one with its id, all is
//! undone and done again with care: through a staging table, in pieces that are halved until a piece is taken or is one
//! record.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use deadpool_postgres::{ClientWrapper, Transaction};
use futures::SinkExt;
use runstone_record::Batch;
use runstone_record::limits::{POSTGRES_COPY_ROWS_MAX, POSTGRES_PIECE_BYTES};
use tokio_postgres::{CopyInSink, IsolationLevel, Statement};

use super::encode::{HEADER, Rows, TRAILER};
use super::table;
use super::trouble::Trouble;
use super::{Parts, Work};
use crate::{DeadLetter, Delivery};

/// The staging table. It is the session's own and ends with the transaction.
const STAGING: &str = "pg_temp.runstone_staging";

/// The last position of a source.
pub(super) struct Cursor<'a> {
    pub(super) source: &'a str,
}

#[async_trait]
impl Work for Cursor<'_> {
    type Output = u64;

    async fn run(&mut self, parts: &Parts, client: &mut ClientWrapper) -> Result<u64, Trouble> {
        let statement = format!("SELECT \"position\" FROM {} WHERE \"source\" = $1", parts.names.cursors());
        let row = parts.within(client.query_opt(&statement, &[&self.source])).await?;
        Ok(row.and_then(|row| u64::try_from(row.get::<_, i64>(0)).ok()).unwrap_or(0))
    }
}

/// A delivery on its way. It comes to the letters of what was not taken.
pub(super) struct Load<'a> {
    delivery: Delivery<'a>,
    rows: Rows<'a>,
    /// Rows that one statement brings.
    rows_max: usize,
    /// The letters of a try whose commit was not answered.
    pub(super) unsure: Option<Vec<DeadLetter>>,
}

#[async_trait]
impl Work for Load<'_> {
    type Output = Vec<DeadLetter>;

    async fn run(&mut self, parts: &Parts, client: &mut ClientWrapper) -> Result<Vec<DeadLetter>, Trouble> {
        let done = match self.straight(parts, client).await {
            Err(Trouble::Refused(_)) if self.rows.len() > 0 => self.with_care(parts, client).await,
            Err(Trouble::Refused(reason)) => Err(Trouble::refused("move the cursor", &reason)),
            done => done,
        };
        if done.as_ref().is_err_and(Trouble::is_slow) {
            self.rows_max = (self.rows_max / 4).max(1);
        }
        done
    }
}

impl<'a> Load<'a> {
    pub(super) fn new(delivery: Delivery<'a>) -> Self {
        Self { delivery, rows: Rows::of(delivery), rows_max: POSTGRES_COPY_ROWS_MAX, unsure: None }
    }

    /// The rows of each statement.
    fn pieces(&self) -> impl DoubleEndedIterator<Item = Range<usize>> + use<> {
        let (rows, rows_max) = (self.rows.len(), self.rows_max);
        (0..rows.div_ceil(rows_max)).map(move |piece| piece * rows_max..rows.min((piece + 1) * rows_max))
    }

    async fn straight(&mut self, parts: &Parts, client: &mut ClientWrapper) -> Result<Vec<DeadLetter>, Trouble> {
        let transaction = begin(parts, client).await?;
        move_cursor(parts, &transaction, self.delivery).await?;
        if self.rows.len() > 0 {
            let statement = copy_statement(&parts.names.logs());
            let statement = parts.within(transaction.prepare_cached(&statement)).await?;
            for piece in self.pieces() {
                copy(parts, &transaction, &statement, &mut self.rows, piece).await?;
            }
        }
        self.commit(parts, transaction, Vec::new()).await
    }

    async fn commit(
        &mut self,
        parts: &Parts,
        transaction: Transaction<'_>,
        letters: Vec<DeadLetter>,
    ) -> Result<Vec<DeadLetter>, Trouble> {
        match parts.within(transaction.commit()).await {
            Ok(()) => Ok(letters),
            // A constraint that is looked at only now: there is no telling which record it means.
            Err(Trouble::Refused(reason)) => Err(Trouble::refused("commit records", &reason)),
            Err(trouble) => {
                self.unsure = Some(letters);
                Err(trouble)
            }
        }
    }

    /// In pieces, through the staging table.
    async fn with_care(&mut self, parts: &Parts, client: &mut ClientWrapper) -> Result<Vec<DeadLetter>, Trouble> {
        let delivery = self.delivery;
        let mut transaction = begin(parts, client).await?;
        move_cursor(parts, &transaction, delivery).await?;
        let statement = stage(parts, &transaction).await?;
        let letter = |(batch, row, position): (&Batch, usize, u64), reason| {
            DeadLetter::of(delivery.source, batch, row, position, reason)
        };
        let mut letters = Vec::new();
        let mut work: Vec<Range<usize>> = self.pieces().rev().collect();
        while let Some(range) = work.pop() {
            let piece = parts.within(transaction.savepoint("piece")).await?;
            match take(parts, &piece, &statement, &mut self.rows, range.clone()).await {
                Ok(conflicts) => {
                    parts.within(piece.commit()).await?;
                    let found = |(position, reason)| Some(letter(self.rows.at(position)?, reason));
                    letters.extend(conflicts.into_iter().filter_map(found));
                }
                Err(Trouble::Refused(reason)) => {
                    parts.within(piece.rollback()).await?;
                    let middle = range.start + range.len() / 2;
                    if range.len() > 1 {
                        work.extend([middle..range.end, range.start..middle]);
                    } else if let Some(record) = self.rows.record(range.start) {
                        letters.push(letter(record, reason));
                    }
                }
                Err(trouble) => return Err(trouble),
            }
        }
        letters.sort_by_key(|letter| letter.position);
        super::letters::keep(parts, &transaction, &letters).await?;
        self.commit(parts, transaction, letters).await
    }
}

/// A transaction with the server's time-outs set.
pub(super) async fn begin<'c>(parts: &Parts, client: &'c mut ClientWrapper) -> Result<Transaction<'c>, Trouble> {
    let (lock, statement) = (parts.options.lock_timeout.as_millis(), parts.options.statement_timeout.as_millis());
    let begun = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start();
    let transaction = parts.within(begun).await?;
    let limits = format!("SET LOCAL lock_timeout = {lock}; SET LOCAL statement_timeout = {statement}");
    parts.within(transaction.batch_execute(&limits)).await?;
    Ok(transaction)
}

/// Moves the cursor from where it is believed to be. Whoever else moves it waits for this transaction.
async fn move_cursor(parts: &Parts, transaction: &Transaction<'_>, delivery: Delivery<'_>) -> Result<(), Trouble> {
    let Delivery { source, after, through, .. } = delivery;
    let number = |position: u64| {
        i64::try_from(position).map_err(|_| Trouble::wrong(format!("take position {position}: it is beyond 64 bits")))
    };
    let (after, through) = (number(after)?, number(through)?);
    let cursors = parts.names.cursors();
    let statement = if after == 0 {
        format!(
            "INSERT INTO {cursors} AS c (\"source\", \"position\") VALUES ($1, $3) ON CONFLICT (\"source\") DO UPDATE \
             SET \"position\" = excluded.\"position\", \"updated_at\" = CURRENT_TIMESTAMP WHERE c.\"position\" = $2"
        )
    } else {
        format!(
            "UPDATE {cursors} SET \"position\" = $3, \"updated_at\" = CURRENT_TIMESTAMP \
             WHERE \"source\" = $1 AND \"position\" = $2"
        )
    };
    let statement = parts.within(transaction.prepare_cached(&statement)).await?;
    if parts.within(transaction.execute(&statement, &[&source, &after, &through])).await? == 1 {
        return Ok(());
    }
    let statement = format!("SELECT \"position\" FROM {cursors} WHERE \"source\" = $1");
    let found = parts.within(transaction.query_opt(&statement, &[&source])).await?;
    let found = found.and_then(|row| u64::try_from(row.get::<_, i64>(0)).ok()).unwrap_or(0);
    Err(Trouble::Moved(found))
}

fn copy_statement(table: &str) -> String {
    format!("COPY {table} ({}) FROM STDIN (FORMAT binary)", table::list(""))
}

/// Sends some of the rows.
async fn copy(
    parts: &Parts,
    transaction: &Transaction<'_>,
    statement: &Statement,
    rows: &mut Rows<'_>,
    mut range: Range<usize>,
) -> Result<(), Trouble> {
    let sent = async {
        let sink: CopyInSink<Bytes> = transaction.copy_in(statement).await?;
        let mut sink = std::pin::pin!(sink);
        sink.feed(Bytes::from_static(HEADER)).await?;
        while !range.is_empty() {
            let (mut bytes, count) = rows.next(&range);
            range.start += count;
            while !bytes.is_empty() {
                sink.feed(bytes.split_to(bytes.len().min(POSTGRES_PIECE_BYTES))).await?;
            }
        }
        sink.feed(Bytes::from_static(TRAILER)).await?;
        sink.finish().await
    };
    parts.within(sent).await.map(drop)
}

/// Makes the staging table, and gives the statement that fills it.
async fn stage(parts: &Parts, transaction: &Transaction<'_>) -> Result<Statement, Trouble> {
    let (logs, list) = (parts.names.logs(), table::list(""));
    let staging =
        format!("CREATE TEMPORARY TABLE runstone_staging ON COMMIT DROP AS SELECT {list} FROM {logs} WITH NO DATA");
    parts.within(transaction.batch_execute(&staging)).await?;
    parts.within(transaction.prepare(&copy_statement(STAGING))).await
}

/// Takes one record that was put aside before, whatever the cursor says. Something: why it is not taken.
pub(super) async fn again(
    parts: &Parts,
    transaction: &mut Transaction<'_>,
    delivery: Delivery<'_>,
) -> Result<Option<String>, Trouble> {
    let statement = stage(parts, transaction).await?;
    let mut rows = Rows::of(delivery);
    let whole = 0..rows.len();
    let conflicts = take(parts, transaction, &statement, &mut rows, whole).await?;
    Ok(conflicts.into_iter().next().map(|(_, reason)| reason))
}

/// Takes some of the rows through the staging table, and gives the positions of those whose id another record has.
async fn take(
    parts: &Parts,
    transaction: &Transaction<'_>,
    statement: &Statement,
    rows: &mut Rows<'_>,
    range: Range<usize>,
) -> Result<Vec<(u64, String)>, Trouble> {
    copy(parts, transaction, statement, rows, range).await?;
    let (logs, list) = (parts.names.logs(), table::list(""));
    let insert = format!(
        "INSERT INTO {logs} ({list}) SELECT {list} FROM {STAGING} ORDER BY \"position\" ON CONFLICT (\"record_id\") DO NOTHING"
    );
    parts.within(transaction.execute(&insert, &[])).await?;
    let differing = format!(
        "SELECT s.\"position\", l.\"journal\", l.\"position\" FROM {STAGING} s JOIN {logs} l USING (\"record_id\") \
         WHERE (l.\"journal\", l.\"position\") IS DISTINCT FROM (s.\"journal\", s.\"position\") AND {}",
        differs()
    );
    let found = parts.within(transaction.query(&differing, &[])).await?;
    parts.within(transaction.batch_execute(&format!("TRUNCATE {STAGING}"))).await?;
    let letter = |row: &tokio_postgres::Row| {
        let (position, journal, first): (i64, Option<String>, Option<i64>) = (row.get(0), row.get(1), row.get(2));
        let place = format!("{} {}", journal.unwrap_or_default(), first.unwrap_or_default());
        let reason = format!("its id stands for another record, which came first: {place}");
        (u64::try_from(position).unwrap_or(0), reason)
    };
    Ok(found.iter().map(letter).collect())
}

/// Is the record in `s` another than that in `l`? All counts that the client said; where it gave no time, that of arrival
/// stands in its place, and two such times are equal. `jsonb` takes 1.0 and 1.00 for equal, its text does not.
fn differs() -> String {
    let stamped = ["journal", "position", "ingested_at", "timestamp", "record_id", "extra_data"];
    let client = table::written().map(|field| field.name).filter(|name| !stamped.contains(name));
    let differ: Vec<String> = client.map(|name| format!("l.\"{name}\" IS DISTINCT FROM s.\"{name}\"")).collect();
    format!(
        "({} OR l.\"extra_data\"::text IS DISTINCT FROM s.\"extra_data\"::text OR (l.\"timestamp\" IS DISTINCT FROM s.\"timestamp\" \
         AND NOT COALESCE(l.\"timestamp\" = l.\"ingested_at\" AND s.\"timestamp\" = s.\"ingested_at\", false)))",
        differ.join(" OR ")
    )
}
