//! Which pages of other origins a browser lets read answers (the Fetch standard's CORS). Owns the list of what they may send
//! and see; refuses everything unless the operator named origins.

use std::time::Duration;

use http::Method;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH, RETRY_AFTER};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::request_id::X_REQUEST_ID;

/// How long a browser may remember what it was told.
const MAX_AGE: Duration = Duration::from_secs(3_600);

/// The layer for these origins, each as a browser writes it, or `*`; none where there are none.
pub(super) fn layer(origins: &[String]) -> Option<CorsLayer> {
    let named = match origins {
        [] => return None,
        [any] if any == "*" => AllowOrigin::any(),
        origins => AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok())),
    };
    let key = HeaderName::from_static("idempotency-key");
    let replayed = HeaderName::from_static("idempotency-replayed");
    Some(
        CorsLayer::new()
            .allow_origin(named)
            .allow_methods([Method::GET, Method::HEAD, Method::POST])
            .allow_headers([ACCEPT, CONTENT_TYPE, CONTENT_ENCODING, IF_NONE_MATCH, key, X_REQUEST_ID.clone()])
            .expose_headers([ETAG, RETRY_AFTER, replayed, X_REQUEST_ID.clone()])
            .max_age(MAX_AGE),
    )
}
