//! The Logger's answers. Owns their words and their two forms: the body with its status, for HTTP, and the envelope
//! `{"statusCode", "body"}`, for a function. Refuses to know what became of an entry.

use serde::Serialize;

use super::{Entry, Shape};
use crate::code::{ErrorCode, STATUS_ALL};
use crate::time::format_millis;

/// An answer: its status and its body, a JSON object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

#[derive(Serialize)]
struct Success<'a> {
    success: bool,
    message: &'a str,
    run_id: &'a str,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'a str>,
}

/// The body of a request that failed.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "GatewayError"))]
pub struct Failure<'a> {
    /// Always true.
    error: bool,
    /// What is wrong, and what to do.
    message: &'a str,
}

impl Failure<'_> {
    /// The body as text.
    #[must_use]
    pub fn body(message: &str) -> String {
        json(&Failure { error: true, message })
    }
}

/// What is said of an entry that was fine and could not be appended.
#[must_use]
pub fn not_appended(reason: &str) -> String {
    format!("Failed to append log: {reason}")
}

fn json(body: &impl Serialize) -> String {
    // Texts and booleans: there is nothing in them that could not be written.
    serde_json::to_string(body).unwrap_or_default()
}

impl Answer {
    /// The entry is where it belongs.
    #[must_use]
    pub fn appended(entry: &Entry) -> Self {
        let body = json(&Success {
            success: true,
            message: "Log entry appended successfully",
            run_id: &entry.run_id,
            timestamp: format_millis(entry.timestamp),
            warning: entry.warning.as_deref(),
        });
        Self { status: STATUS_ALL, body }
    }

    /// The entry was fine and could not be appended. A function answers with [`ErrorCode::Internal`].
    #[must_use]
    pub fn failed(code: ErrorCode, reason: &str) -> Self {
        Self::error(code, &not_appended(reason))
    }

    pub(super) fn error(code: ErrorCode, message: &str) -> Self {
        Self { status: code.status(), body: Failure::body(message) }
    }

    /// What a function answers: the body as an object, or, where an HTTP request is to be answered, as text with its type.
    #[must_use]
    pub fn envelope(&self, shape: Shape) -> String {
        let (status, body) = (self.status, &self.body);
        match shape {
            Shape::Direct => format!(r#"{{"statusCode":{status},"body":{body}}}"#),
            Shape::Gateway => {
                let body = json(body);
                format!(
                    r#"{{"statusCode":{status},"headers":{{"content-type":"application/json"}},"isBase64Encoded":false,"body":{body}}}"#
                )
            }
        }
    }
}
