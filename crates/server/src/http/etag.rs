//! Validators of answers (RFC 9110 §8.8) and what `If-None-Match` makes of them. Owns the tag: strong, a hash of the whole
//! body; refuses to look at an answer that is streamed, because its end would have to be awaited.

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH,
};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use xxhash_rust::xxh3::xxh3_128;

/// Digits of a hash.
const DIGITS: usize = 32;

/// Gives whole answers to `GET` and `HEAD` a tag and answers 304 where the client has that one already.
pub async fn validate(request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let known: Vec<HeaderValue> = request.headers().get_all(IF_NONE_MATCH).iter().cloned().collect();
    let response = next.run(request).await;
    let is_whole = response.size_hint().exact().is_some();
    if !reads || response.status() != StatusCode::OK || !is_whole || response.headers().contains_key(ETAG) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // In memory already: nothing is waited for.
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let digits = format!("{:032x}", xxh3_128(&body));
    // Each use asks whether it is still so: what was acknowledged a moment ago is part of the next answer.
    parts.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let has = known.iter().find_map(|list| find(list, &digits));
    let tag = has.clone().unwrap_or_else(|| format!("\"{digits}\""));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        parts.headers.insert(ETAG, tag);
    }
    if has.is_none() {
        return Response::from_parts(parts, Body::from(body));
    }
    parts.status = StatusCode::NOT_MODIFIED;
    not_of_304(&mut parts.headers);
    Response::from_parts(parts, Body::new(Nothing))
}

/// RFC 9110 §15.4.5: what describes the content is the cache's already.
fn not_of_304(headers: &mut HeaderMap) {
    headers.remove(CONTENT_TYPE);
    headers.remove(CONTENT_LENGTH);
}

/// Gives a compressed answer a tag of its own (RFC 9110 §8.8.3.3): the coding behind the hash. For a layer outside of what
/// compresses.
pub async fn mark_coding(mut response: Response) -> Response {
    let coding = response.headers().get(CONTENT_ENCODING).and_then(|coding| coding.to_str().ok());
    let tag = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok());
    if let (Some(coding), Some(tag)) = (coding, tag)
        && let Some(opaque) = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'))
        && opaque.len() == DIGITS
        && let Ok(tag) = HeaderValue::from_str(&format!("\"{opaque}-{coding}\""))
    {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// The tag in a list that stands for this hash, in whatever coding the client has it; for `*` the plain one.
fn find(list: &HeaderValue, digits: &str) -> Option<String> {
    let list = list.to_str().ok()?;
    if list.trim() == "*" {
        return Some(format!("\"{digits}\""));
    }
    // The opaque parts, weak or not: every second piece between quotes.
    list.split('"').skip(1).step_by(2).find_map(|opaque| {
        let coding = opaque.strip_prefix(digits)?;
        (coding.is_empty() || matches!(coding, "-gzip" | "-zstd")).then(|| format!("\"{opaque}\""))
    })
}

/// No content, and no `Content-Length: 0` either: in a 304 that would be the length of what is not sent (RFC 9110 §8.6).
struct Nothing;

impl HttpBody for Nothing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        std::task::Poll::Ready(None)
    }
}
