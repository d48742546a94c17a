//! Bringing events to a stream. Owns what is tried again, and what is looked up first; refuses to decide what becomes of events
//! that CloudWatch does not take.
//!
//! CloudWatch has no way to say "only if it is not there": a call whose answer was lost is not repeated before a look.

use std::ops::Range;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_sdk_cloudwatchlogs::types::{InputLogEvent, RejectedLogEventsInfo};
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use runstone_record::limits::{CLOUDWATCH_ATTEMPTS_MAX, CLOUDWATCH_BACKOFF_MS};

use super::batch::batches;
use super::event::Event;
use super::{Cloudwatch, CloudwatchError};

const TOO_NEW: &str = "it is more than 2 hours in the future";
const TOO_OLD: &str = "it is more than 14 days old";
const EXPIRED: &str = "it is older than the log group keeps events";

/// An event that CloudWatch did not take: which one, and why.
pub(super) type Refused = (usize, String);

impl Cloudwatch {
    /// Brings events, which are in the order of their times, to a stream of records. Gives those that CloudWatch does not take.
    pub(super) async fn append(&self, stream: &str, events: &[Event]) -> Result<Vec<Refused>, CloudwatchError> {
        let mut refused = Vec::new();
        let may_be_there = |range: &Range<usize>| events[range.clone()].iter().any(|event| event.may_be_there);
        let calls = batches(events).into_iter().rev();
        let mut work: Vec<(Range<usize>, bool)> = calls.map(|range| (range.clone(), may_be_there(&range))).collect();
        while let Some((range, looks)) = work.pop() {
            let own = &events[range.clone()];
            match self.put(stream, own, looks).await {
                Ok(rejected) => {
                    let place = |(place, reason): (usize, &str)| (range.start + place, reason.to_owned());
                    refused.extend(rejected.into_iter().map(place));
                }
                // Its halves may do. Of a call that is refused nothing is there, but an attempt before that may have been taken.
                Err(error) if error.is_refusal() && own.len() > 1 => {
                    let middle = range.start + own.len() / 2;
                    work.extend([(middle..range.end, true), (range.start..middle, true)]);
                }
                Err(error) if error.is_refusal() => refused.push((range.start, error.to_string())),
                Err(error) => return Err(error),
            }
        }
        Ok(refused)
    }

    /// Brings the events of one call, but for those that it finds there, where it looks. Gives those that are rejected for their
    /// times, by their place.
    async fn put(
        &self,
        stream: &str,
        events: &[Event],
        looks: bool,
    ) -> Result<Vec<(usize, &'static str)>, CloudwatchError> {
        let group = &self.options.group;
        let mut left: Vec<usize> = (0..events.len()).collect();
        if looks {
            left = self.missing(stream, events, left).await?;
        }
        let (mut pauses, mut is_made) = (pauses(), false);
        while !left.is_empty() {
            let sent = left.iter().map(|place| &events[*place]);
            let error = match self.send(group, stream, sent, true).await {
                Ok(info) => {
                    let rejected = rejected(info.as_ref(), left.len());
                    return Ok(rejected.into_iter().map(|(place, reason)| (left[place], reason)).collect());
                }
                Err(error) => error,
            };
            if error.is_missing() && !is_made {
                self.create_stream(group, stream).await?;
                is_made = true;
                continue;
            }
            if !error.may_pass() && !error.is_missing() {
                return Err(error);
            }
            let Some(pause) = pauses.next() else { return Err(error.passing()) };
            tokio::time::sleep(pause).await;
            if error.may_be_done() {
                left = self.missing_after_a_while(stream, events, left).await?;
            }
        }
        Ok(Vec::new())
    }

    /// Brings lines of our own to a stream of the group of cursors and dead letters. They may be there twice: whoever reads
    /// them knows that.
    pub(super) async fn note(&self, stream: &str, at_ms: i64, lines: Vec<String>) -> Result<(), CloudwatchError> {
        let group = self.state_group();
        let line = |message| Event { at_ms, message, place: 0, may_be_there: false };
        let events: Vec<Event> = lines.into_iter().map(line).collect();
        for range in batches(&events) {
            let mut sent = self.send(&group, stream, events[range.clone()].iter(), false).await;
            if sent.as_ref().is_err_and(CloudwatchError::is_missing) {
                self.create_stream(&group, stream).await?;
                sent = self.send(&group, stream, events[range.clone()].iter(), false).await;
                sent = sent.map_err(|error| if error.is_missing() { error.passing() } else { error });
            }
            if let Some((_, reason)) = rejected(sent?.as_ref(), range.len()).first() {
                return Err(CloudwatchError::Clock { place: group, now_ms: at_ms, reason });
            }
        }
        Ok(())
    }

    /// One call, once where its repetition would matter.
    async fn send(
        &self,
        group: &str,
        stream: &str,
        events: impl Iterator<Item = &Event>,
        once: bool,
    ) -> Result<Option<RejectedLogEventsInfo>, CloudwatchError> {
        let place = || format!("{group} {stream}");
        let input = |event: &Event| {
            let built = InputLogEvent::builder().timestamp(event.at_ms).message(&event.message).build();
            built.map_err(|error| CloudwatchError::incomplete(&place(), &error))
        };
        let events: Vec<InputLogEvent> = events.map(input).collect::<Result<_, _>>()?;
        let request = self.client.put_log_events().log_group_name(group).log_stream_name(stream);
        let mut request = request.set_log_events(Some(events)).customize();
        if once {
            let config = aws_sdk_cloudwatchlogs::config::Builder::new().retry_config(RetryConfig::disabled());
            request = request.config_override(config);
        }
        let sent = request.send().await;
        let answer = sent.map_err(|error| CloudwatchError::request("put events", &place(), &error))?;
        Ok(answer.rejected_log_events_info)
    }
}

/// Pauses of random length between attempts.
fn pauses() -> ExponentialBackoff {
    let (first, longest) = CLOUDWATCH_BACKOFF_MS;
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(first))
        .with_max_delay(Duration::from_millis(longest))
        .with_max_times(CLOUDWATCH_ATTEMPTS_MAX as usize - 1)
        .with_jitter()
        .build()
}

/// Which events of a call of so many were not taken, and why: the first ones up to an end, which is not one of them, and the last
/// ones from a start, which is.
fn rejected(info: Option<&RejectedLogEventsInfo>, count: usize) -> Vec<(usize, &'static str)> {
    let Some(info) = info else { return Vec::new() };
    let place = |index: Option<i32>| index.map(|index| usize::try_from(index).unwrap_or(0).min(count));
    let old = place(info.too_old_log_event_end_index).unwrap_or(0);
    let expired = place(info.expired_log_event_end_index).unwrap_or(0);
    let new = place(info.too_new_log_event_start_index).unwrap_or(count);
    let reason = |place: usize| match place {
        place if place < old => Some(TOO_OLD),
        place if place < expired => Some(EXPIRED),
        place if place >= new => Some(TOO_NEW),
        _ => None,
    };
    (0..count).filter_map(|place| Some((place, reason(place)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_exclusive_and_a_start_inclusive() {
        let info = |old, expired, new| {
            RejectedLogEventsInfo::builder()
                .set_too_old_log_event_end_index(old)
                .set_expired_log_event_end_index(expired)
                .set_too_new_log_event_start_index(new)
                .build()
        };
        let of = |info: RejectedLogEventsInfo| rejected(Some(&info), 5);
        assert_eq!(rejected(None, 5), []);
        assert_eq!(of(info(None, None, None)), []);
        assert_eq!(of(info(Some(1), None, Some(4))), [(0, TOO_OLD), (4, TOO_NEW)]);
        assert_eq!(of(info(Some(1), Some(2), None)), [(0, TOO_OLD), (1, EXPIRED)]);
        assert_eq!(of(info(None, Some(2), Some(9))), [(0, EXPIRED), (1, EXPIRED)]);
        assert_eq!(of(info(Some(5), None, None)).len(), 5);
        assert_eq!(of(info(Some(-1), None, Some(-1))).len(), 5);
    }
}
