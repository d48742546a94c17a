//! `GET /errors` and `/errors/{code}`: what each error code means and what to do, the pages of `docs/errors` out of the
//! binary. Owns their form for browsers: the text as it is.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, VARY, X_CONTENT_TYPE_OPTIONS};
use runstone_record::ErrorCode;

use super::params::NoParams;
use crate::http::ApiError;
use crate::http::error::{HELP, echo};

/// Where the pages that these pages point to are.
const DOCS: &str = concat!("](", env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/");

macro_rules! pages {
    ($($name:ident = $file:literal;)*) => {
        /// The page about a code.
        fn page(code: ErrorCode) -> String {
            let page = match code {
                $(ErrorCode::$name => {
                    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors/", $file, ".md"))
                })*
            };
            page.replace("](../", DOCS)
        }
    };
}

pages! {
    InvalidRequest = "invalid_request";
    EmptyBody = "empty_body";
    InvalidJson = "invalid_json";
    InvalidEncoding = "invalid_encoding";
    InvalidParameter = "invalid_parameter";
    InvalidQuery = "invalid_query";
    QueryFailed = "query_failed";
    QueryLimit = "query_limit";
    NotFound = "not_found";
    MethodNotAllowed = "method_not_allowed";
    NotAcceptable = "not_acceptable";
    RequestTimeout = "request_timeout";
    QueryTimeout = "query_timeout";
    BodyTooLarge = "body_too_large";
    TooManyRecords = "too_many_records";
    UnsupportedMediaType = "unsupported_media_type";
    UnsupportedEncoding = "unsupported_encoding";
    WrongType = "wrong_type";
    InvalidValue = "invalid_value";
    InvalidIdentifier = "invalid_identifier";
    InvalidTime = "invalid_time";
    InvalidId = "invalid_id";
    NotAnObject = "not_an_object";
    EmptyRecord = "empty_record";
    DuplicateField = "duplicate_field";
    RecordTooLarge = "record_too_large";
    TooDeep = "too_deep";
    TooManyKeys = "too_many_keys";
    IdConflict = "id_conflict";
    IdempotencyKeyReused = "idempotency_key_reused";
    Overloaded = "overloaded";
    HeadersTooLarge = "headers_too_large";
    Internal = "internal";
    NotConfigured = "not_configured";
    Unavailable = "unavailable";
    DiskFull = "disk_full";
    JournalFull = "journal_full";
}

/// The answer that a code's page shows, where it is one to a request that failed as a whole.
pub(super) fn example(code: ErrorCode) -> Option<serde_json::Value> {
    let page = page(code);
    let (_, shown) = page.rsplit_once("```json\n")?;
    let shown: serde_json::Value = serde_json::from_str(shown.split("```").next()?).ok()?;
    shown.get("error").is_some().then_some(shown)
}

pub(super) async fn list(_: NoParams, headers: HeaderMap) -> Response {
    if !wants_html(&headers) {
        let line = |code: &ErrorCode| format!("- [`{code}`]({HELP}{code}): {}\n", code.status());
        let lines: String = ErrorCode::ALL.iter().map(line).collect();
        return text("text/markdown; charset=utf-8", format!("# Error codes\n\n{lines}"));
    }
    let line = |code: &ErrorCode| format!("<li><a href=\"{HELP}{code}\">{code}</a>: {}</li>\n", code.status());
    let lines: String = ErrorCode::ALL.iter().map(line).collect();
    html("Error codes", &format!("<h1>Error codes</h1>\n<ul>\n{lines}</ul>\n"))
}

pub(super) async fn one(
    code: Result<Path<String>, PathRejection>,
    _: NoParams,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Path(code) = code.map_err(|error| ApiError::new(ErrorCode::InvalidParameter, error.body_text()))?;
    let Some(code) = ErrorCode::from_text(&code) else {
        let message = format!("no error has this code: {}; {} lists all", echo(&code), HELP.trim_end_matches('/'));
        return Err(ApiError::new(ErrorCode::NotFound, message));
    };
    Ok(match wants_html(&headers) {
        false => text("text/markdown; charset=utf-8", page(code)),
        true => html(code.as_str(), &format!("<pre>{}</pre>\n", escape(&page(code)))),
    })
}

/// Browsers do, and say so; they would save Markdown to a file.
fn wants_html(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT).iter().any(|accept| accept.to_str().is_ok_and(|accept| accept.contains("text/html")))
}

fn html(title: &str, body: &str) -> Response {
    let head = format!("<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n");
    let mut response = text("text/html; charset=utf-8", head + body);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
    response
}

fn text(content_type: &'static str, text: String) -> Response {
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    response
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
