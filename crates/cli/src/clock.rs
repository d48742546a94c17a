//! The time, for commands. Owns only its form: the machine's clock is read by the server's `SystemClock` alone.

use jiff::Timestamp;
use runstone_server::clock::{Clock as _, SystemClock};

/// Tells the time.
pub(crate) type Clock = fn() -> Timestamp;

/// The machine's clock.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_microsecond(SystemClock.now_micros()).unwrap_or_default()
}

/// Milliseconds since 1970, for the time in record ids.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(now().as_millisecond()).unwrap_or(0)
}
