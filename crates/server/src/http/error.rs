//! The one shape of a failed request, and the one place where an error code becomes a response. Status numbers come
//! from [`ErrorCode`]; refuses to know which failure deserves which code.

use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode, Uri};
use runstone_record::ErrorCode;
use runstone_record::wire::ErrorBody;

/// Seconds after which a refused request is worth another try, where the caller knows no better.
const RETRY_AFTER_SECONDS_DEFAULT: u32 = 1;
/// The same, where room comes only with a whole journal file that the lake has taken.
const RETRY_AFTER_SECONDS_FULL: u32 = 5;
/// Where the pages about codes are.
pub const HELP: &str = "/errors/";
/// Characters of a client's text that are echoed in a message.
const ECHO_CHARS_MAX: usize = 64;

/// A request that failed as a whole. Its answer is an [`ErrorBody`] with the code's status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    code: ErrorCode,
    message: String,
    retry_after_seconds: Option<u32>,
}

impl ApiError {
    /// A failure with its code and a message that says what is wrong and what to do.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let message = message.into();
        let retry_after_seconds = match code {
            ErrorCode::Overloaded | ErrorCode::Unavailable | ErrorCode::DiskFull => Some(RETRY_AFTER_SECONDS_DEFAULT),
            ErrorCode::JournalFull => Some(RETRY_AFTER_SECONDS_FULL),
            _ => None,
        };
        Self { code, message, retry_after_seconds }
    }

    /// The same failure, worth another try after `seconds`.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// What the client is told.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The body of the answer to an exchange of this name, as JSON text.
    #[must_use]
    pub fn to_json(&self, request_id: &str) -> Vec<u8> {
        let body = ErrorBody {
            error: self.code.as_str().to_owned(),
            message: self.message.clone(),
            retryable: self.code.retryable(),
            help: format!("{HELP}{}", self.code),
            request_id: request_id.to_owned(),
        };
        // A few plain fields cannot fail to be written; an empty body would still carry the status.
        serde_json::to_vec(&body).unwrap_or_default()
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        // Without a body: the layer that knows the exchange's name writes it.
        let mut response = self.status().into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if matches!(self.code, ErrorCode::RequestTimeout) {
            // RFC 9110 §15.5.9: the rest of the request would be read as the next one.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        // The layers see the answer, not the error.
        response.extensions_mut().insert(self);
        response
    }
}

/// How the body of a failure is written on paths whose clients expect another shape. `None`: in the one shape.
pub type OwnBody = fn(path: &str) -> Option<fn(&ApiError) -> Vec<u8>>;

/// The answer to a path that no route has.
pub async fn not_found(uri: Uri) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("no route has this path: {}", echo(uri.path())))
}

/// The answer to a method that the path's route does not take. The router adds `Allow`.
pub async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} does not take {}; see the Allow header", echo(uri.path()), echo(method.as_str()));
    ApiError::new(ErrorCode::MethodNotAllowed, message)
}

/// A client's text as it may stand in a message: cut, and with control characters escaped.
#[must_use]
pub fn echo(text: &str) -> String {
    let mut shown: String = text.chars().take(ECHO_CHARS_MAX).flat_map(escape).collect();
    if text.chars().nth(ECHO_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

fn escape(c: char) -> impl Iterator<Item = char> {
    let (raw, escaped) = if c.is_control() { (None, Some(c.escape_unicode())) } else { (Some(c), None) };
    raw.into_iter().chain(escaped.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_becomes_its_status_and_the_one_shape() {
        for code in ErrorCode::ALL {
            let error = ApiError::new(*code, "say \"why\"");
            let response = error.clone().into_response();
            assert_eq!(response.status().as_u16(), code.status());
            assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
            assert_eq!(response.extensions().get(), Some(&error));
            let must_wait = matches!(code.status(), 429 | 503);
            assert_eq!(response.headers().contains_key(RETRY_AFTER), must_wait, "{code}");
            let body: ErrorBody = serde_json::from_slice(&error.to_json("r-1")).unwrap();
            assert_eq!(body.error, code.as_str());
            assert_eq!(body.message, "say \"why\"");
            assert_eq!(body.retryable, code.retryable());
            assert_eq!((body.help, body.request_id), (format!("/errors/{code}"), "r-1".to_owned()));
        }
    }

    #[test]
    fn a_given_wait_is_kept() {
        let response = ApiError::new(ErrorCode::Overloaded, "slow down").retry_after(7).into_response();
        assert_eq!(response.headers()[RETRY_AFTER], "7");
    }

    #[test]
    fn echoes_are_short_and_without_control_characters() {
        assert_eq!(echo("a\r\nb\u{9b}"), "a\\u{d}\\u{a}b\\u{9b}");
        assert_eq!(echo(&"é".repeat(65)), format!("{}…", "é".repeat(64)));
        assert_eq!(echo(&"é".repeat(64)), "é".repeat(64));
    }
}
