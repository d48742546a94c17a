//! Reading streams. Owns pages of events, and which records are there already; refuses to write.
//!
//! CloudWatch does not promise that an event is seen at once. So that what may have come is missed only where it is not
//! seen for a while.

use std::collections::HashSet;
use std::time::Duration;

use aws_sdk_cloudwatchlogs::types::OutputLogEvent;
use backon::{BackoffBuilder, ExponentialBuilder};
use runstone_record::limits::CLOUDWATCH_LOOK_MS;
use tokio::time::Instant;

use super::event::{self, Event};
use super::{Cloudwatch, CloudwatchError};

/// What to read of a stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading<'a> {
    pub(super) group: &'a str,
    pub(super) stream: &'a str,
    /// From this millisecond to the one before that; else all.
    pub(super) times: Option<(i64, i64)>,
}

impl Cloudwatch {
    /// Reads a stream's events from the first on, until `each` says that it has enough. A stream that is not there has none.
    pub(super) async fn read(
        &self,
        reading: Reading<'_>,
        each: &mut (dyn FnMut(&OutputLogEvent) -> Result<bool, CloudwatchError> + Send),
    ) -> Result<(), CloudwatchError> {
        let Reading { group, stream, times } = reading;
        let mut token = None;
        loop {
            let answer = self
                .client
                .get_log_events()
                .log_group_name(group)
                .log_stream_name(stream)
                .start_from_head(true)
                .set_start_time(times.map(|(from, _)| from))
                .set_end_time(times.map(|(_, to)| to))
                .set_next_token(token.clone())
                .send()
                .await;
            let page = match answer.map_err(|error| CloudwatchError::request("read events", group, &error)) {
                Ok(page) => page,
                Err(error) if error.is_missing() => return Ok(()),
                Err(error) => return Err(error),
            };
            for event in page.events() {
                if each(event)? {
                    return Ok(());
                }
            }
            // A page may be empty before the end; at the end the token stays.
            if page.next_forward_token.is_none() || page.next_forward_token == token {
                return Ok(());
            }
            token = page.next_forward_token;
        }
    }

    /// Of the events at these places those whose records a stream has not.
    pub(super) async fn missing(
        &self,
        stream: &str,
        events: &[Event],
        mut places: Vec<usize>,
    ) -> Result<Vec<usize>, CloudwatchError> {
        let (Some(first), Some(last)) = (places.first(), places.last()) else { return Ok(places) };
        let times = Some((events[*first].at_ms.max(0), events[*last].at_ms.max(0).saturating_add(1)));
        let wanted: HashSet<&str> = places.iter().filter_map(|place| event::id(&events[*place].message)).collect();
        let mut found: HashSet<String> = HashSet::new();
        let reading = Reading { group: &self.options.group, stream, times };
        self.read(reading, &mut |event| {
            if let Some(id) = event.message().and_then(event::id).filter(|id| wanted.contains(id)) {
                found.insert(id.to_owned());
            }
            Ok(found.len() == wanted.len())
        })
        .await?;
        places.retain(|place| event::id(&events[*place].message).is_none_or(|id| !found.contains(id)));
        Ok(places)
    }

    /// The same where they may have come just now: it looks again until all are seen, or have had their time.
    pub(super) async fn missing_after_a_while(
        &self,
        stream: &str,
        events: &[Event],
        mut places: Vec<usize>,
    ) -> Result<Vec<usize>, CloudwatchError> {
        let (began, settle) = (Instant::now(), self.settle());
        let (first, longest) = CLOUDWATCH_LOOK_MS;
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(first))
            .with_max_delay(Duration::from_millis(longest))
            .without_max_times()
            .build();
        loop {
            // It is asked before the look: what came before then has had its time.
            let left = settle.saturating_sub(began.elapsed());
            places = self.missing(stream, events, places).await?;
            if places.is_empty() || left.is_zero() {
                return Ok(places);
            }
            tokio::time::sleep(pauses.next().unwrap_or(left).min(left)).await;
        }
    }
}
