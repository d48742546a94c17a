//! What can go wrong between this client and a server, in terms of what to do about it.

use std::time::Duration;

/// A request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is no URL of a server.
    #[error("give the server's URL such as http://127.0.0.1:7867: {url}")]
    Url {
        /// What was given.
        url: String,
    },
    /// The HTTP client could not be made.
    #[error("set up the HTTP client")]
    Setup(#[source] reqwest::Error),
    /// No connection.
    #[error("reach {url}: is the server running? start it with `runstone serve`")]
    Unreachable {
        /// The server.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The connection broke or timed out before the answer was complete: the server may have done what it was asked to.
    #[error("wait for the answer of {url}: the connection was lost or too slow")]
    Lost {
        /// The server.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// A streamed answer broke off before its end: what came before is not the whole of it.
    #[error(
        "read all of the answer of {url}: it broke off, as it does where the server fails in its midst; its log says why"
    )]
    BrokenOff {
        /// The server.
        url: String,
        /// How it ended.
        #[source]
        source: reqwest::Error,
    },
    /// A streamed answer went on no longer, and did not end.
    #[error("wait for more of the answer of {url}: it has gone silent")]
    Silent {
        /// The server.
        url: String,
    },
    /// The server said no.
    #[error("{message} ({code}{})", where_more(request_id, help.as_deref()))]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The error code of the answer.
        code: String,
        /// What is wrong and what to do, in the server's words.
        message: String,
        /// May the same request succeed later?
        retryable: bool,
        /// How long the server asks to be left alone.
        retry_after: Option<Duration>,
        /// A page about the code.
        help: Option<String>,
        /// The exchange's name in the server's log; empty where it gave none.
        request_id: String,
    },
    /// A filter that cannot be followed: records are matched by what they are when they arrive.
    #[error("follow without {name}: {why}")]
    Filter {
        /// The parameter.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A row of a streamed answer cannot be read.
    #[error("read a row of the answer")]
    Row(#[source] serde_json::Error),
    /// Something answered that does not speak the API.
    #[error("check the URL: {url} answered with status {status}, but not as a Runstone server does")]
    NotRunstone {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// A proxy's answers to an absent server may pass.
        retryable: bool,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
}

impl ClientError {
    /// May the same request, with the same ids and key, succeed later?
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            ClientError::Unreachable { .. } | ClientError::Lost { .. } | ClientError::Silent { .. } => true,
            ClientError::Refused { retryable, .. } | ClientError::NotRunstone { retryable, .. } => *retryable,
            ClientError::Url { .. }
            | ClientError::Setup(_)
            | ClientError::BrokenOff { .. }
            | ClientError::Filter { .. }
            | ClientError::Row(_) => false,
        }
    }

    /// Was there no server to talk to, or not long enough?
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, ClientError::Unreachable { .. } | ClientError::Lost { .. } | ClientError::Silent { .. })
    }

    /// The error code of the answer, where the server gave one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            ClientError::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    /// The exchange's name in the server's log, where it gave one.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        match self {
            ClientError::Refused { request_id, .. } => Some(request_id.as_str()).filter(|id| !id.is_empty()),
            _ => None,
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            ClientError::Refused { retry_after, .. } | ClientError::NotRunstone { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// What helps further, behind the code.
fn where_more(request_id: &str, help: Option<&str>) -> String {
    let request = if request_id.is_empty() { String::new() } else { format!("; request {request_id}") };
    let help = help.map_or_else(String::new, |help| format!("; see {help}"));
    request + &help
}
