//! Whether the wall clock can be believed enough to delete by it. Owns telling a jump of the clock from time that passed;
//! refuses to read a clock itself.
//!
//! A clock that is off by more than a day against the newest record that the table had when it was opened, or against how
//! long this process has been running, is not believed. It may be right all the same: the server was off for a week, or
//! the clock was wrong before. So it is believed once it has gone on evenly for a day, by what arrived since, where the
//! process has started anew.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use runstone_record::limits::LAKE_CLOCK_JUMP_MS;

use crate::lake::found::Found;

/// What is known of the clock.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    state: Mutex<Option<State>>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// The last time that was read, and when in the life of the process.
    wall_ms: i64,
    uptime_ms: i64,
    /// The last jump, and when in the life of the process; None: it is believed.
    doubt: Option<(Jump, i64)>,
}

/// The clock jumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Jump {
    /// By how much, against what was expected.
    pub(crate) by_ms: i64,
}

impl Clock {
    /// Checks a time that was just read. `found` is what the table said of it before this process wrote to it.
    pub(crate) fn check(&self, now_ms: i64, uptime: Duration, found: Option<Found>) -> Result<(), Jump> {
        let uptime_ms = i64::try_from(uptime.as_millis()).unwrap_or(i64::MAX);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (expected, doubt) = match *state {
            Some(last) => (last.wall_ms.saturating_add(uptime_ms - last.uptime_ms), last.doubt),
            None => (found.map_or(now_ms, |found| found.newest_ms), earlier_doubt(found, now_ms, uptime_ms)),
        };
        let by_ms = now_ms.saturating_sub(expected);
        let doubt = match doubt {
            // Also one back to what was believed before: it cannot be told from another wrong time.
            _ if by_ms.saturating_abs() > LAKE_CLOCK_JUMP_MS => Some((Jump { by_ms }, uptime_ms)),
            doubt => doubt.filter(|(_, since)| uptime_ms - since < LAKE_CLOCK_JUMP_MS),
        };
        *state = Some(State { wall_ms: now_ms, uptime_ms, doubt });
        doubt.map_or(Ok(()), |(jump, _)| Err(jump))
    }
}

/// What arrived before a pause was stamped by a clock that may have been another: that of now is as old as what came after.
fn earlier_doubt(found: Option<Found>, now_ms: i64, uptime_ms: i64) -> Option<(Jump, i64)> {
    let pause = found?.pause?;
    let age_ms = now_ms.saturating_sub(pause.to_ms);
    Some((Jump { by_ms: pause.to_ms.saturating_sub(pause.from_ms) }, uptime_ms.saturating_sub(age_ms)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::found::Pause;

    const HOUR_MS: i64 = 3_600_000;
    const NOW_MS: i64 = 1_795_179_600_000;

    fn hours(hours: i64) -> Duration {
        Duration::from_millis(u64::try_from(hours * HOUR_MS).unwrap())
    }

    fn at(clock: &Clock, wall: i64, uptime: i64) -> bool {
        clock.check(NOW_MS + wall * HOUR_MS, hours(uptime), found(0)).is_ok()
    }

    fn found(newest: i64) -> Option<Found> {
        Some(Found { newest_ms: NOW_MS + newest * HOUR_MS, pause: None })
    }

    #[test]
    fn time_that_passes_is_believed() {
        let clock = Clock::default();
        assert!(at(&clock, 0, 0) && at(&clock, 10, 10) && at(&clock, 900, 900));
        // An hour back, or drifting: nobody's business.
        assert!(at(&clock, 899, 900) && at(&clock, 1_100, 1_080));
    }

    #[test]
    fn a_jump_is_not_believed_until_it_lasted_a_day() {
        let clock = Clock::default();
        assert!(at(&clock, 0, 0));
        let ten_years = 87_600;
        let jump = clock.check(NOW_MS + ten_years * HOUR_MS, hours(1), found(0)).unwrap_err();
        assert_eq!(jump.by_ms, (ten_years - 1) * HOUR_MS);
        // New commits carry the new time; that proves nothing.
        assert!(clock.check(NOW_MS + ten_years * HOUR_MS, hours(1), found(ten_years)).is_err());
        assert!(!at(&clock, ten_years + 22, 23));
        // Set right again: doubted afresh, and believed a day later.
        assert!(!at(&clock, 24, 24));
        assert!(!at(&clock, 47, 47));
        assert!(at(&clock, 48, 48));
    }

    #[test]
    fn a_jump_is_not_believed_by_the_next_process_either() {
        for (since, believed) in [(0, false), (-23, false), (-24, true), (-900, true)] {
            let pause = Some(Pause { from_ms: 0, to_ms: NOW_MS + since * HOUR_MS });
            let found = Some(Found { newest_ms: NOW_MS, pause });
            let clock = Clock::default();
            assert_eq!(clock.check(NOW_MS, hours(2), found).is_ok(), believed, "since {since} hours");
            // It goes on evenly until that has lasted a day.
            assert_eq!(clock.check(NOW_MS + HOUR_MS, hours(3), None).is_ok(), since <= -23, "since {since} hours");
        }
    }

    #[test]
    fn the_first_time_is_measured_against_the_newest_record() {
        for (wall, believed) in [(0, true), (23, true), (-23, true), (25, false), (-25, false)] {
            assert_eq!(at(&Clock::default(), wall, 0), believed, "{wall} hours");
        }
        // Nothing was ever committed: nothing can be lost.
        assert!(Clock::default().check(0, Duration::ZERO, None).is_ok());
    }
}
