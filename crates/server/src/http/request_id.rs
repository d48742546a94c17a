//! The name of one exchange, in every answer, error body and log line of it. Owns whose it is: the client's own where it
//! may stand in a header and a log, else a new UUIDv7.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use runstone_record::ids::IdMint;
use runstone_record::limits::REQUEST_ID_CHARS_MAX;

use crate::clock::Clock;
use crate::intake::Entropy;

/// The header that carries it, both ways.
pub static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The name of one exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// Its text: visible ASCII.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// Its header's value.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// Names exchanges. Clones are the same.
#[derive(Clone)]
pub struct RequestIds {
    clock: Arc<dyn Clock>,
    entropy: Entropy,
}

impl std::fmt::Debug for RequestIds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestIds").field("clock", &self.clock).finish_non_exhaustive()
    }
}

impl RequestIds {
    /// Names from a clock and randomness.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, entropy: Entropy) -> Self {
        Self { clock, entropy }
    }

    /// The client's own name for it, or a new one. One that is no name is not worth refusing a request for.
    #[must_use]
    pub fn of(&self, headers: &HeaderMap) -> RequestId {
        let mut given = headers.get_all(&X_REQUEST_ID).iter();
        match (given.next(), given.next()) {
            (Some(value), None) if is_name(value) => RequestId(value.clone()),
            _ => self.mint(),
        }
    }

    /// A new one.
    #[must_use]
    pub fn mint(&self) -> RequestId {
        let now_ms = u64::try_from(self.clock.now_micros() / 1_000).unwrap_or(0);
        let id = IdMint::new(now_ms, (self.entropy)()).mint().to_string();
        RequestId(HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("-")))
    }
}

fn is_name(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    (1..=REQUEST_ID_CHARS_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::clock::ManualClock;

    pub(in crate::http) fn ids() -> RequestIds {
        RequestIds::new(Arc::new(ManualClock::new(1_736_771_696_789_012)), Arc::new(|| 1))
    }

    #[test]
    fn a_clients_own_name_is_taken_and_anything_else_replaced() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(&X_REQUEST_ID, HeaderValue::from_str(value).unwrap());
            }
            ids().of(&headers).as_str().to_owned()
        };
        let (longest, minted) = ("x".repeat(REQUEST_ID_CHARS_MAX), "01945fa8-f895-7000-8000-000000000001");
        for own in ["a", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "{\"a\":1}", &longest] {
            assert_eq!(of(&[own]), own);
        }
        for other in [&[][..], &[""], &["a b"], &["é"], &["a\tb"], &["a", "a"], &[&format!("{longest}x")]] {
            assert_eq!(of(other), minted, "{other:?}");
        }
    }
}
