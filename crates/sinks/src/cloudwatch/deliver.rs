//! The log group as a sink: a delivery's records to their streams, its dead letters, and then the cursor. Owns that order, and
//! which records may be there already; refuses to try again.
//!
//! CloudWatch has no transactions and takes an event as often as it comes. What this process has brought it knows; where
//! it does not, at its first delivery of a source and after one that was broken off, the records' ids are looked up in the
//! streams before anything is sent. So are those of records that a journal took before it was first brought here: it may be
//! the copy of one that was.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::{self, TryStreamExt as _};
use futures::{FutureExt as _, StreamExt as _};
use runstone_record::Batch;
use runstone_record::limits::CLOUDWATCH_STREAMS_MAX;
use tokio::time::Instant;

use super::cursor::State;
use super::event::{self, Event};
use super::put::Refused;
use super::{Cloudwatch, CloudwatchError, NAME};
use crate::{DeadLetter, Delivered, Delivery, Sink, SinkError};

#[async_trait]
impl Sink for Cloudwatch {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn cursor(&mut self, source: &str) -> Result<u64, SinkError> {
        let found = self.find(source).await;
        // The groups may have been deleted meanwhile.
        self.made = found.is_ok();
        let found = found.map_err(CloudwatchError::tell)?;
        // What was just written is not always seen at once.
        let known = self.known.get(source).map_or(0, |state| state.position);
        Ok(found.position.max(known))
    }

    async fn deliver(&mut self, delivery: Delivery<'_>) -> Result<Delivered, SinkError> {
        // Until it has succeeded nobody knows what of it is there.
        let known = self.known.remove(delivery.source);
        let brought = self.bring(delivery, known).await;
        if brought.as_ref().is_err_and(CloudwatchError::is_missing) {
            // Whoever asks for the cursor next makes the groups, where that was asked for.
            self.made = false;
        }
        brought.map_err(CloudwatchError::tell)?
    }
}

/// A delivery under way. Where it ends before it is done, by an error or because nobody waits for it, its time is kept.
struct Sending {
    is_done: bool,
    unsure_since: Arc<Mutex<Instant>>,
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.is_done {
            *self.unsure_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }
}

impl Cloudwatch {
    /// What CloudWatch says of a source, in groups that are made first where that was asked for and was not done yet.
    async fn find(&mut self, source: &str) -> Result<State, CloudwatchError> {
        if self.options.create && !self.made {
            let made = self.create_both().await?;
            if made.events || made.state {
                tracing::info!(group = self.options.group, "make the log groups in CloudWatch Logs");
            }
            if made.state {
                // It has no cursors.
                self.known.clear();
            }
        }
        self.state_of(source).await
    }

    /// What CloudWatch says of a source. Without the group of the cursors nothing is true any more that was known of any.
    async fn state_of(&mut self, source: &str) -> Result<State, CloudwatchError> {
        let found = self.find_state(source).await;
        if found.as_ref().is_err_and(CloudwatchError::is_missing) {
            self.known.clear();
        }
        found
    }

    /// What came before may be seen only a while later.
    pub(super) async fn settled(&self) {
        let since = *self.unsure_since.lock().unwrap_or_else(PoisonError::into_inner);
        tokio::time::sleep_until(since + self.settle()).await;
    }

    async fn bring(
        &mut self,
        delivery: Delivery<'_>,
        known: Option<State>,
    ) -> Result<Result<Delivered, SinkError>, CloudwatchError> {
        let Delivery { source, after, through, .. } = delivery;
        let mut state = self.state_of(source).await?;
        if let Some(known) = known.filter(|known| known.position >= state.position) {
            state = known;
        }
        if state.position != after {
            return Ok(Err(SinkError::Moved { found: state.position }));
        }
        let is_sure = known == Some(state);
        if !is_sure {
            self.settled().await;
        }
        let mut sending = Sending { is_done: false, unsure_since: Arc::clone(&self.unsure_since) };
        state.began.get_or_insert_with(|| (self.clock)());
        let dead_letters = self.append_records(delivery, is_sure, state.began).await?;
        self.keep(source, &dead_letters).await?;
        let state = self.move_cursor(source, state, through).await?;
        sending.is_done = true;
        self.known.insert(source.to_owned(), state);
        Ok(Ok(Delivered { dead_letters }))
    }

    /// Brings a delivery's records to their streams, looking for them first unless it is sure that none is there. Gives those
    /// that are not taken.
    pub(super) async fn append_records(
        &self,
        delivery: Delivery<'_>,
        is_sure: bool,
        began: Option<i64>,
    ) -> Result<Vec<DeadLetter>, CloudwatchError> {
        let places: Vec<(&Batch, usize, u64)> = delivery.records().collect();
        let mut streams: BTreeMap<String, Vec<Event>> = BTreeMap::new();
        for (place, (batch, row, position)) in places.iter().copied().enumerate() {
            let event = Event {
                at_ms: batch.timestamp(row).div_euclid(1_000),
                message: event::message(delivery.source, (batch, row, position), self.options.event_bytes_max),
                place,
                may_be_there: !is_sure || began.is_none_or(|began| batch.ingested_at() < began),
            };
            streams.entry(self.options.stream.name(batch, row)).or_default().push(event);
        }
        let appends: Vec<BoxFuture<'_, Result<Vec<Refused>, CloudwatchError>>> =
            streams.into_iter().map(|(stream, events)| self.append_stream(stream, events).boxed()).collect();
        let refused: Vec<Vec<Refused>> =
            stream::iter(appends).buffer_unordered(CLOUDWATCH_STREAMS_MAX).try_collect().await?;
        let letter = |(place, reason): Refused| {
            let (batch, row, position) = places[place];
            DeadLetter::of(delivery.source, batch, row, position, reason)
        };
        let mut letters: Vec<DeadLetter> = refused.into_iter().flatten().map(letter).collect();
        letters.sort_by_key(|letter| letter.position);
        Ok(letters)
    }

    /// Brings the events of one stream in the order of their times, and in that of the journal where these are the same.
    async fn append_stream(&self, stream: String, mut events: Vec<Event>) -> Result<Vec<Refused>, CloudwatchError> {
        events.sort_by_key(|event| event.at_ms);
        let refused = self.append(&stream, &events).await?;
        Ok(refused.into_iter().map(|(place, reason)| (events[place].place, reason)).collect())
    }
}
