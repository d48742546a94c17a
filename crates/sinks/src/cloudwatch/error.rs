//! What can go wrong with CloudWatch Logs. Owns the words, what helps, and whether something may have been done all the same.

use aws_sdk_cloudwatchlogs::config::http::HttpResponse;
use aws_sdk_cloudwatchlogs::error::{ProvideErrorMetadata, SdkError};

use super::RetentionError;
use crate::SinkError;
use crate::aws::{self, Remedy};

/// Why records could not be brought to CloudWatch Logs, or read there.
#[derive(Debug, thiserror::Error)]
pub enum CloudwatchError {
    /// A log group cannot keep events for so long.
    #[error(transparent)]
    Retention(#[from] RetentionError),
    /// CloudWatch refused, or could not be reached.
    #[error("{operation} in CloudWatch Logs: {place}: {reason}")]
    Request {
        /// What was asked for.
        operation: &'static str,
        /// Of which group, or stream of it.
        place: String,
        /// The code of the refusal; empty where there was none.
        code: String,
        /// In CloudWatch's words, or the connection's.
        reason: String,
        /// What helps.
        remedy: Remedy,
        /// May it have been done, and only the answer is missing?
        may_be_done: bool,
    },
    /// A cursor or a dead letter, which bear the time of now, were refused as too old or too new.
    #[error("keep cursor in CloudWatch Logs: {place}: now is {now_ms} ms since 1970, and {reason}")]
    Clock {
        /// The group.
        place: String,
        /// What our clock shows.
        now_ms: i64,
        /// In which direction it is wrong.
        reason: &'static str,
    },
    /// A dead letter cannot be read.
    #[error("read dead letter in CloudWatch Logs: {place}")]
    Letter {
        /// The stream that it is in.
        place: String,
        /// Why not.
        source: serde_json::Error,
    },
}

impl CloudwatchError {
    pub(super) fn request<E>(operation: &'static str, place: &str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let mut code = String::new();
        let (reason, remedy, may_be_done) = match error {
            SdkError::ServiceError(refusal) => {
                code = refusal.err().code().unwrap_or_default().to_owned();
                let name = if code.is_empty() { "an error without a code" } else { &code };
                let reason = refusal.err().message().map_or_else(|| name.to_owned(), |text| format!("{name}: {text}"));
                (reason, remedy(&code), refusal.raw().status().is_server_error())
            }
            SdkError::TimeoutError(_) => ("no answer in time".to_owned(), Remedy::Time, true),
            // It was not even sent.
            SdkError::ConstructionFailure(_) => {
                (aws::innermost(error), Remedy::People("set region and endpoint"), false)
            }
            other if aws::has_no_credentials(other) => (aws::innermost(other), Remedy::People(aws::CREDENTIALS), false),
            other => (aws::innermost(other), Remedy::Time, true),
        };
        CloudwatchError::Request { operation, place: place.to_owned(), code, reason, remedy, may_be_done }
    }

    pub(super) fn no_region(place: &str) -> Self {
        CloudwatchError::Request {
            operation: "read cursor",
            place: place.to_owned(),
            code: String::new(),
            reason: "no region is set".to_owned(),
            remedy: Remedy::People("set a region"),
            may_be_done: false,
        }
    }

    pub(super) fn incomplete(place: &str, error: &aws_sdk_cloudwatchlogs::error::BuildError) -> Self {
        CloudwatchError::Request {
            operation: "put events",
            place: place.to_owned(),
            code: String::new(),
            reason: error.to_string(),
            remedy: Remedy::Nothing,
            may_be_done: false,
        }
    }

    /// May the same succeed later, or after somebody did something? Where not, what was sent is at fault.
    #[must_use]
    pub fn retryable(&self) -> bool {
        !self.is_refusal() && !matches!(self, CloudwatchError::Letter { .. })
    }

    fn code(&self) -> &str {
        if let CloudwatchError::Request { code, .. } = self { code } else { "" }
    }

    /// Is the group, or its stream, not there?
    pub(super) fn is_missing(&self) -> bool {
        self.code() == "ResourceNotFoundException"
    }

    /// Is what was to be made there already?
    pub(super) fn is_there_already(&self) -> bool {
        self.code() == "ResourceAlreadyExistsException"
    }

    /// Is what was sent at fault?
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, CloudwatchError::Request { remedy: Remedy::Nothing, .. })
    }

    pub(super) fn may_pass(&self) -> bool {
        matches!(self, CloudwatchError::Request { remedy: Remedy::Time, .. })
    }

    pub(super) fn may_be_done(&self) -> bool {
        matches!(self, CloudwatchError::Request { may_be_done: true, .. })
    }

    /// The same where it is known that it may pass: a stream that was made just now is missing for a while.
    pub(super) fn passing(mut self) -> Self {
        if let CloudwatchError::Request { remedy, .. } = &mut self {
            *remedy = Remedy::Time;
        }
        self
    }

    /// What the caller of the sink is told.
    pub(super) fn tell(self) -> SinkError {
        let advice = match &self {
            CloudwatchError::Request { remedy: Remedy::Time, .. } => {
                return SinkError::Away { action: "use CloudWatch Logs".to_owned(), source: self.into() };
            }
            CloudwatchError::Request { remedy: Remedy::People(advice), .. } => advice,
            // Every record would meet it: what one of them is refused for has become a dead letter.
            CloudwatchError::Request { remedy: Remedy::Nothing, .. } => "set a name that it takes",
            CloudwatchError::Clock { .. } => "set the clock",
            CloudwatchError::Retention(_) => "set days of retention that it takes",
            CloudwatchError::Letter { .. } => "delete the stream that others wrote to",
        };
        SinkError::Misconfigured { problem: format!("use CloudWatch Logs: {advice}"), source: Some(self.into()) }
    }
}

/// What helps against an error by its code. What is not known may pass.
fn remedy(code: &str) -> Remedy {
    match code {
        "InvalidParameterException" | "ValidationException" | "SerializationException" => Remedy::Nothing,
        "ResourceNotFoundException" => Remedy::People("make the log groups, or set the name of others"),
        "AccessDeniedException" | "NotAuthorized" | "OptInRequired" => {
            Remedy::People("give it the rights to the log groups")
        }
        code if aws::is_about_credentials(code) => Remedy::People(aws::CREDENTIALS),
        "UnknownOperationException" => Remedy::People("set the endpoint of CloudWatch Logs"),
        _ => Remedy::Time,
    }
}
