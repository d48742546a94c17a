//! Which events go into one call. Owns CloudWatch's limits of a call; refuses to know what is in an event.

use std::ops::Range;

use runstone_record::limits::{
    CLOUDWATCH_BATCH_BYTES_MAX, CLOUDWATCH_BATCH_EVENTS_MAX, CLOUDWATCH_BATCH_SPAN_MS, CLOUDWATCH_EVENT_OVERHEAD_BYTES,
};

use super::event::Event;

/// Calls that bring all events, which are in the order of their times. An event that is larger than a call has one for itself.
pub(super) fn batches(events: &[Event]) -> Vec<Range<usize>> {
    let (mut batches, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (place, event) in events.iter().enumerate() {
        let own = event.message.len() + CLOUDWATCH_EVENT_OVERHEAD_BYTES;
        let is_full = bytes + own > CLOUDWATCH_BATCH_BYTES_MAX
            || place - start == CLOUDWATCH_BATCH_EVENTS_MAX
            || event.at_ms.saturating_sub(events[start].at_ms) >= CLOUDWATCH_BATCH_SPAN_MS;
        if is_full && place > start {
            batches.push(start..place);
            (start, bytes) = (place, 0);
        }
        bytes += own;
    }
    if start < events.len() {
        batches.push(start..events.len());
    }
    batches
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(at_ms: i64, bytes: usize) -> Event {
        Event { at_ms, message: "x".repeat(bytes), place: 0, may_be_there: false }
    }

    /// Within all limits, in order, nothing lost; and no call could have taken what the next one begins with.
    fn check(events: &[Event]) {
        let batches = batches(events);
        let all: Vec<usize> = batches.iter().cloned().flatten().collect();
        assert_eq!(all, (0..events.len()).collect::<Vec<_>>());
        let fits = |range: Range<usize>| {
            let events = &events[range];
            let bytes: usize = events.iter().map(|event| event.message.len() + 26).sum();
            let span = events.last().unwrap().at_ms - events[0].at_ms;
            bytes <= 1_048_576 && events.len() <= 10_000 && span < 86_400_000
        };
        for batch in &batches {
            assert!(!batch.is_empty() && fits(batch.clone()), "{batch:?}");
            assert!(batch.end == events.len() || !fits(batch.start..batch.end + 1), "{batch:?}");
        }
    }

    proptest! {
        #[test]
        fn calls_are_within_the_limits(
            mut events in prop::collection::vec((0..400_000_000_i64, prop_oneof![
                4 => 1..400_usize, 1 => 100_000..300_000_usize, 1 => Just(1_048_550_usize),
            ]), 0..60)
        ) {
            events.sort_unstable();
            check(&events.into_iter().map(|(at_ms, bytes)| event(at_ms, bytes)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn each_limit_ends_a_call() {
        let counts = |events: &[Event]| batches(events).iter().map(ExactSizeIterator::len).collect::<Vec<_>>();
        let many: Vec<Event> = (0..10_001).map(|at_ms| event(at_ms, 1)).collect();
        check(&many);
        assert_eq!(counts(&many), [10_000, 1]);
        assert_eq!(counts(&[event(0, 1), event(86_399_999, 1)]), [2]);
        assert_eq!(counts(&[event(0, 1), event(86_400_000, 1)]), [1, 1]);
        assert_eq!(counts(&[event(0, 1_048_550 - 27), event(0, 1)]), [2]);
        assert_eq!(counts(&[event(0, 1_048_550 - 26), event(0, 1)]), [1, 1]);
        assert_eq!(counts(&[event(i64::MIN, 1), event(i64::MAX, 1)]), [1, 1]);
        assert!(batches(&[]).is_empty());
    }
}
