//! How much of the journal may go: whole segments that the lake has, that no query reads any more, and that the settings
//! do not keep. Owns the rule; refuses to delete anything.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use runstone_journal::SegmentInfo;

/// What is kept although the lake has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keep {
    /// Bytes of the newest segments.
    pub(crate) bytes: u64,
    /// From a segment's last record on.
    pub(crate) time: Duration,
    /// How large the journal may become: near it nothing is kept.
    pub(crate) bytes_max: u64,
    /// How long a query may still read what it saw before the lake had it.
    pub(crate) grace: Duration,
}

/// Remembers since when the lake has what.
#[derive(Debug)]
pub(crate) struct Trimmer {
    keep: Keep,
    /// Oldest first: since when everything up to a position is read from the lake.
    settled: VecDeque<(Instant, u64)>,
    /// Up to here nothing else is read any more.
    safe: u64,
}

impl Trimmer {
    pub(crate) fn new(keep: Keep) -> Self {
        Self { keep, settled: VecDeque::new(), safe: 0 }
    }

    /// From now on queries read everything up to `through` from the lake.
    pub(crate) fn settled(&mut self, through: u64, now: Instant) {
        if self.settled.back().is_none_or(|(_, known)| *known < through) {
            self.settled.push_back((now, through));
        }
    }

    /// The position to trim the journal at; none: nothing may go. `now_micros` is the time of day.
    pub(crate) fn point(&mut self, segments: &[SegmentInfo], now: Instant, now_micros: i64) -> Option<u64> {
        while let Some((since, through)) = self.settled.front().copied()
            && now.duration_since(since) >= self.keep.grace
        {
            self.safe = self.safe.max(through);
            self.settled.pop_front();
        }
        let newest = self.settled.back().map_or(self.safe, |(_, through)| *through);
        let mut left: u64 = segments.iter().map(|segment| segment.bytes).sum();
        let mut point = None;
        for pair in segments.windows(2) {
            let (segment, next) = (&pair[0], &pair[1]);
            let is_pressed = left >= self.keep.bytes_max / 4 * 3;
            let limit = if is_pressed { newest } else { self.safe };
            left -= segment.bytes;
            let is_kept = left < self.keep.bytes || self.is_young(next.created_at, now_micros);
            if segment.last > limit || (is_kept && !is_pressed) {
                break;
            }
            point = Some(segment.last);
        }
        point
    }

    /// Was the segment's last record written lately? Its successor was made right after. A time that is not known, or
    /// lies ahead because the clock was set, keeps nothing.
    fn is_young(&self, ended_micros: i64, now_micros: i64) -> bool {
        let age = u64::try_from(now_micros.saturating_sub(ended_micros));
        age.is_ok_and(|age| Duration::from_micros(age) < self.keep.time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;

    /// Ten segments of 100 positions and 1,000 bytes, one made every minute.
    fn segments() -> Vec<SegmentInfo> {
        (0..10)
            .map(|n| SegmentInfo {
                first: n * 100 + 1,
                last: n * 100 + 100,
                bytes: 1_000,
                created_at: i64::try_from(n).unwrap() * MINUTE,
            })
            .collect()
    }

    fn keep(bytes: u64, minutes: u64) -> Keep {
        let time = Duration::from_secs(60 * minutes);
        Keep { bytes, time, bytes_max: 1 << 40, grace: Duration::from_secs(30) }
    }

    fn point(keep: Keep, through: u64, now_micros: i64) -> Option<u64> {
        let (mut trimmer, start) = (Trimmer::new(keep), Instant::now());
        trimmer.settled(through, start);
        assert_eq!(trimmer.point(&segments(), start + Duration::from_secs(29), now_micros), None, "queries read it");
        trimmer.point(&segments(), start + Duration::from_secs(30), now_micros)
    }

    #[test]
    fn only_whole_segments_that_the_lake_has_go_and_never_the_newest() {
        let late = 1_000 * MINUTE;
        assert_eq!(point(keep(0, 0), 99, late), None);
        assert_eq!(point(keep(0, 0), 100, late), Some(100));
        assert_eq!(point(keep(0, 0), 555, late), Some(500));
        assert_eq!(point(keep(0, 0), 5_000, late), Some(900));
    }

    #[test]
    fn both_floors_must_allow_it() {
        assert_eq!(point(keep(3_500, 0), 1_000, 1_000 * MINUTE), Some(600));
        assert_eq!(point(keep(0, 5), 1_000, 10 * MINUTE), Some(500));
        assert_eq!(point(keep(3_500, 5), 1_000, 10 * MINUTE), Some(500));
        assert_eq!(point(keep(8_000, 5), 1_000, 10 * MINUTE), Some(200));
        assert_eq!(point(keep(0, 5), 1_000, -10 * MINUTE), Some(900), "the clock was set back");
    }

    #[test]
    fn near_its_limit_the_journal_keeps_nothing_that_the_lake_has() {
        let pressed = Keep { bytes_max: 12_000, ..keep(1 << 30, 1_000) };
        let (mut trimmer, start) = (Trimmer::new(pressed), Instant::now());
        assert_eq!(trimmer.point(&segments(), start, 0), None);
        trimmer.settled(950, start);
        assert_eq!(trimmer.point(&segments(), start, 0), Some(200), "until it is below three quarters");
    }

    #[test]
    fn what_was_settled_earlier_is_safe_earlier() {
        let (mut trimmer, start) = (Trimmer::new(keep(0, 0)), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        trimmer.settled(250, start);
        trimmer.settled(250, after(5));
        trimmer.settled(800, after(20));
        assert_eq!(trimmer.point(&segments(), after(31), 0), Some(200));
        assert_eq!(trimmer.point(&segments(), after(51), 0), Some(800));
    }
}
