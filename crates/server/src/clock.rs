//! The one place of the wall clock. Owns "what time is it"; refuses to measure durations (`std::time::Instant` does).
//!
//! Everything that stamps, expires or orders by time takes a [`Clock`], so that a test can replay any moment.

use std::fmt::Debug;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

/// Tells the time of day.
pub trait Clock: Send + Sync + Debug {
    /// Microseconds since 1970-01-01T00:00:00Z. May step back when the operator or NTP sets the clock.
    fn now_micros(&self) -> i64;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    fn now_micros(&self) -> i64 {
        match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros),
        }
    }
}

/// A clock that stands still until it is told to move: for tests and replays.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `micros` since 1970.
    #[must_use]
    pub fn new(micros: i64) -> Self {
        Self(AtomicI64::new(micros))
    }

    /// Shows `micros` from now on, earlier or later than before.
    pub fn set(&self, micros: i64) {
        self.0.store(micros, Ordering::Release);
    }

    /// Moves by `micros` and returns the new time.
    pub fn advance(&self, micros: i64) -> i64 {
        self.0.fetch_add(micros, Ordering::AcqRel).wrapping_add(micros)
    }
}

impl Clock for ManualClock {
    fn now_micros(&self) -> i64 {
        self.0.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_is_in_this_century() {
        let year_2025 = 1_735_689_600_000_000;
        let year_2100 = 4_102_444_800_000_000;
        assert!((year_2025..year_2100).contains(&SystemClock.now_micros()));
    }

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::new(5);
        assert_eq!(clock.now_micros(), 5);
        assert_eq!(clock.advance(10), 15);
        clock.set(-1);
        assert_eq!(clock.now_micros(), -1);
    }
}
