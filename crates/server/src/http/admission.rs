//! How many bytes of requests the server holds at once. Owns one number; refuses to make anybody wait: a request that
//! does not fit is told to come back (429), because a queue of waiting bodies is memory too.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::metrics::gauge::Gauge;
use runstone_record::ErrorCode;

use crate::http::ApiError;

/// A budget of bytes that all requests share. Clones share it.
#[derive(Debug, Clone)]
pub struct Admission {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bytes_max: usize,
    bytes: AtomicUsize,
    gauge: Gauge,
}

/// No bytes are left: the client should slow down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("hold too many bytes of requests at once: come back in a moment")]
pub struct Overloaded;

impl From<Overloaded> for ApiError {
    fn from(error: Overloaded) -> Self {
        ApiError::new(ErrorCode::Overloaded, error.to_string()).retry_after(1)
    }
}

impl Admission {
    /// A budget of `bytes_max`, whose use `gauge` shows.
    #[must_use]
    pub fn new(bytes_max: usize, gauge: Gauge) -> Self {
        Self { shared: Arc::new(Shared { bytes_max, bytes: AtomicUsize::new(0), gauge }) }
    }

    /// A reservation of nothing yet, to be grown.
    #[must_use]
    pub fn reservation(&self) -> Reservation {
        Reservation { shared: Arc::clone(&self.shared), bytes: 0 }
    }

    /// Bytes that are reserved now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shared.bytes.load(Ordering::Acquire)
    }
}

/// Bytes of an [`Admission`], given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Reservation {
    /// Bytes that this reservation holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes `more` bytes, or nothing.
    ///
    /// # Errors
    /// The budget has not that much left.
    pub fn grow(&mut self, more: usize) -> Result<(), Overloaded> {
        let taken = self.shared.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| {
            held.checked_add(more).filter(|total| *total <= self.shared.bytes_max)
        });
        taken.map_err(|_| Overloaded)?;
        self.bytes += more;
        self.shared.gauge.inc_by(as_gauge(more));
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shared.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        self.shared.gauge.dec_by(as_gauge(self.bytes));
    }
}

fn as_gauge(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_takes_all_or_nothing_and_gives_back() {
        let gauge = Gauge::default();
        let admission = Admission::new(100, gauge.clone());
        let mut first = admission.reservation();
        let mut second = admission.reservation();
        first.grow(60).unwrap();
        assert_eq!(second.grow(41), Err(Overloaded));
        assert_eq!((admission.bytes(), gauge.get()), (60, 60));
        second.grow(40).unwrap();
        assert_eq!(first.grow(usize::MAX), Err(Overloaded));
        drop(first);
        assert_eq!((admission.bytes(), gauge.get()), (40, 40));
        drop(second);
        assert_eq!((admission.bytes(), gauge.get()), (0, 0));
    }
}
