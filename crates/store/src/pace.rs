//! How fast a client takes a streamed answer. Owns telling a client that is slow from an answer that is: only the time counts
//! in which something was there for the client. Refuses to break an answer off that nobody waits for.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use runstone_record::limits::EXPORT_PACE_BYTES;

use crate::runner::StopOnDrop;

/// The pace of one client.
#[derive(Debug)]
pub(crate) struct Pace {
    /// In how long it must take [`EXPORT_PACE_BYTES`].
    within: Duration,
    taken: Mutex<Taken>,
    stop: StopOnDrop,
}

#[derive(Debug)]
struct Taken {
    /// Since it last had taken enough.
    bytes: usize,
    /// How long it was waited for meanwhile.
    waited: Duration,
    /// Since when it is waited for.
    since: Option<Instant>,
    broken_off: bool,
}

impl Pace {
    pub(crate) fn new(within: Duration, stop: StopOnDrop) -> Self {
        let taken = Taken { bytes: 0, waited: Duration::ZERO, since: None, broken_off: false };
        Self { within, taken: Mutex::new(taken), stop }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is there for the client.
    pub(crate) fn wait(&self) {
        self.lock().since = Some(Instant::now());
    }

    /// The client is ready for more.
    pub(crate) fn ready(&self) {
        let mut taken = self.lock();
        if let Some(since) = taken.since.take() {
            taken.waited += since.elapsed();
        }
    }

    /// It gets so many bytes.
    pub(crate) fn took(&self, bytes: usize) {
        let mut taken = self.lock();
        taken.bytes += bytes;
        if taken.bytes >= EXPORT_PACE_BYTES {
            (taken.bytes, taken.waited) = (0, Duration::ZERO);
        }
    }

    /// Bytes a second of a client that is too slow.
    pub(crate) fn slowness(&self) -> Option<u64> {
        let taken = self.lock();
        let waited = taken.waited + taken.since.map_or(Duration::ZERO, |since| since.elapsed());
        if taken.broken_off || waited < self.within {
            return None;
        }
        let millis = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX).max(1);
        Some(taken.bytes as u64 * 1_000 / millis)
    }

    /// Ends what the client reads: its place is free, and it is told once it has read what was on its way.
    pub(crate) fn break_off(&self) {
        self.lock().broken_off = true;
        self.stop.stop();
    }

    /// Was it broken off, and does it still hold its place?
    pub(crate) fn is_ending(&self) -> bool {
        self.lock().broken_off && !self.stop.has_ended()
    }

    /// In how long it did not take enough, where it was broken off for that.
    pub(crate) fn broken_off(&self) -> Option<Duration> {
        self.lock().broken_off.then_some(self.within)
    }
}
