//! The table as a sink: a delivery's records to the logs of their runs, and then the cursor. Owns that order, and finding the
//! records that cannot be taken; refuses to try again.
//!
//! DynamoDB's transactions take a hundred items and twice the price, so that a delivery is one update for each run that it has
//! records of, several at once, and the cursor's when all are done. Broken off in between, it is there in part: what is there
//! is known by the positions in the items, and passed over when it comes again. A record that has no run has no log: it counts
//! as taken.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::{self, TryStreamExt as _};
use futures::{FutureExt as _, StreamExt as _};
use runstone_record::limits::DYNAMO_APPENDS_MAX;
use runstone_record::logger::write_kept_entry_of;
use runstone_record::{Batch, Column};

use super::cursor::Moved;
use super::{Dynamo, DynamoError, NAME, PositionedEntry, Remedy};
use crate::{DeadLetter, Delivered, Delivery, Sink, SinkError};

/// A record's batch, its row there, its position.
type Place<'a> = (&'a Batch, usize, u64);

#[async_trait]
impl Sink for Dynamo {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn cursor(&mut self, source: &str) -> Result<u64, SinkError> {
        let found = async {
            self.make().await?;
            self.find_cursor(source).await
        };
        let found = found.await;
        // The table may have been deleted meanwhile.
        self.made.store(found.is_ok(), Ordering::Relaxed);
        found.map_err(DynamoError::tell)
    }

    async fn deliver(&mut self, delivery: Delivery<'_>) -> Result<Delivered, SinkError> {
        let Delivery { source, after, through, .. } = delivery;
        // Were it behind, records between it and these would be passed over when they come.
        let found = self.find_cursor(source).await.map_err(DynamoError::tell)?;
        if found != after {
            return Err(SinkError::Moved { found });
        }
        let dead_letters = self.append_runs(delivery).await.map_err(DynamoError::tell)?;
        match self.move_cursor(source, after, through).await.map_err(DynamoError::tell)? {
            Moved::Now => Ok(Delivered { dead_letters }),
            Moved::Found(found) => Err(SinkError::Moved { found }),
        }
    }
}

impl Dynamo {
    /// Makes the table, where that was asked for and was not done yet.
    async fn make(&self) -> Result<(), DynamoError> {
        if self.options.create && !self.made.load(Ordering::Relaxed) && self.create_table().await? {
            tracing::info!(table = self.options.table, "make the table in DynamoDB");
        }
        Ok(())
    }

    async fn append_runs(&self, delivery: Delivery<'_>) -> Result<Vec<DeadLetter>, DynamoError> {
        let appends: Vec<BoxFuture<'_, Result<Vec<DeadLetter>, DynamoError>>> = runs(delivery)
            .into_iter()
            .map(|(run_id, places)| self.append_run(run_id, delivery, places).boxed())
            .collect();
        let mut letters: Vec<Vec<DeadLetter>> =
            stream::iter(appends).buffer_unordered(DYNAMO_APPENDS_MAX).try_collect().await?;
        let mut letters: Vec<DeadLetter> = letters.drain(..).flatten().collect();
        letters.sort_by_key(|letter| letter.position);
        Ok(letters)
    }

    /// Appends the records of a run in pieces that are halved until a piece is taken or is one record. In order: a letter is
    /// kept before the item's position passes it.
    async fn append_run(
        &self,
        run_id: &str,
        delivery: Delivery<'_>,
        places: Vec<Place<'_>>,
    ) -> Result<Vec<DeadLetter>, DynamoError> {
        let source = delivery.source;
        let json: Vec<String> = places.iter().map(|place| entry(source, *place)).collect();
        let entries: Vec<PositionedEntry<'_>> = places
            .iter()
            .zip(&json)
            .map(|((batch, _, position), json)| PositionedEntry { position: *position, at: batch.ingested_at(), json })
            .collect();
        let (mut after, mut letters) = (delivery.after, Vec::new());
        let mut work: Vec<Range<usize>> = std::iter::once(0..entries.len()).collect();
        while let Some(range) = work.pop() {
            let Some(last) = entries[range.clone()].last() else { continue };
            match self.append_entries(run_id, source, &entries[range.clone()], after).await {
                Ok(_) => after = last.position,
                Err(error) if !is_refusal(&error) => return Err(error),
                Err(_) if range.len() > 1 => {
                    let middle = range.start + range.len() / 2;
                    work.extend([middle..range.end, range.start..middle]);
                }
                Err(error) => {
                    let (batch, row, position) = places[range.start];
                    let letter = DeadLetter::of(source, batch, row, position, error.to_string());
                    self.keep(&letter).await?;
                    letters.push(letter);
                }
            }
        }
        Ok(letters)
    }
}

/// Is it the entries' fault, or their run's?
pub(super) fn is_refusal(error: &DynamoError) -> bool {
    matches!(
        error,
        DynamoError::Json { .. }
            | DynamoError::TooLarge { .. }
            | DynamoError::NoLog { .. }
            | DynamoError::Request { remedy: Remedy::Nothing, .. }
    )
}

/// The records of each run, in their order.
fn runs(delivery: Delivery<'_>) -> HashMap<&str, Vec<Place<'_>>> {
    let mut runs: HashMap<&str, Vec<Place<'_>>> = HashMap::new();
    for (batch, row, position) in delivery.records() {
        if let Some(run_id) = batch.text(Column::RunId, row) {
            runs.entry(run_id).or_default().push((batch, row, position));
        }
    }
    runs
}

/// A record as the Logger's readers know it, with its id.
pub(super) fn entry(source: &str, (batch, row, position): Place<'_>) -> String {
    let (mut record, mut entry) = (Vec::new(), Vec::new());
    batch.write_json(row, source, position, &mut record);
    // It is a record, and made of texts.
    let _ = write_kept_entry_of(&record, &mut entry);
    String::from_utf8_lossy(&entry).into_owned()
}
