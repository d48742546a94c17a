//! The wall clock of the command line. Owns the one reading of it here; everything else takes a time or this function.

use jiff::Timestamp;

/// Tells the time.
pub(crate) type Clock = fn() -> Timestamp;

/// The machine's clock.
#[expect(clippy::disallowed_methods, reason = "the one place in the command line that reads the wall clock")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// Milliseconds since 1970, for the time in record ids.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(now().as_millisecond()).unwrap_or(0)
}
