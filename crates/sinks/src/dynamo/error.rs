//! What can go wrong with DynamoDB. Owns the words, and what helps: time, people, or nothing.

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

use super::table::SET_TTL;
use crate::SinkError;
use crate::aws::{self, Remedy};

/// Why logs could not be appended to or read.
#[derive(Debug, thiserror::Error)]
pub enum DynamoError {
    /// The entry is no JSON object.
    #[error("read entry as a JSON object: {reason}")]
    Json {
        /// What it is.
        reason: String,
    },
    /// The entry does not fit into an item, compressed as it is.
    #[error("fit entry into an item: {bytes} bytes, at most {max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// What there is place for.
        max: usize,
    },
    /// A compressed entry cannot be read.
    #[error("decompress entry: {run_id}")]
    Unpack {
        /// Whose log it is in.
        run_id: String,
        /// Why not.
        source: std::io::Error,
    },
    /// DynamoDB refused, or could not be reached.
    #[error("{operation} in DynamoDB: {table}: {reason}")]
    Request {
        /// What was asked for.
        operation: &'static str,
        /// Of which table.
        table: String,
        /// In DynamoDB's words, or the connection's.
        reason: String,
        /// What helps.
        remedy: Remedy,
    },
    /// The item of the run's id is no log: somebody else keeps something there.
    #[error("append to log in DynamoDB: {table}: logs of {run_id} is no list")]
    NoLog {
        /// Of which table.
        table: String,
        /// Whose item it is.
        run_id: String,
    },
    /// There is no place for another dead letter.
    #[error("keep dead letter in DynamoDB: {table}: it has {max} of {journal}")]
    LettersFull {
        /// Of which table.
        table: String,
        /// The source whose they are.
        journal: String,
        /// How many there may be.
        max: usize,
    },
    /// It took too long altogether.
    #[error("append to log in DynamoDB: {table}: no end after {ms} ms")]
    Timeout {
        /// Of which table.
        table: String,
        /// How long it was tried.
        ms: u64,
    },
    /// Others changed the item each time.
    #[error("append to log in DynamoDB: {table}: the item of {run_id} changed {tries} times in between")]
    Contended {
        /// Of which table.
        table: String,
        /// Whose log it is.
        run_id: String,
        /// How often it was tried.
        tries: u32,
    },
}

impl DynamoError {
    /// May the same succeed later? Where not, the entry is at fault, or the run's item.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            DynamoError::Json { .. }
            | DynamoError::TooLarge { .. }
            | DynamoError::Unpack { .. }
            | DynamoError::NoLog { .. } => false,
            DynamoError::Request { remedy, .. } => *remedy != Remedy::Nothing,
            DynamoError::LettersFull { .. } | DynamoError::Timeout { .. } | DynamoError::Contended { .. } => true,
        }
    }

    pub(super) fn request<E, R>(operation: &'static str, table: &str, error: &SdkError<E, R>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug + 'static,
    {
        let (reason, remedy) = match error {
            SdkError::ServiceError(refusal) => {
                let (code, message) = (refusal.err().code(), refusal.err().message());
                let remedy = code.map_or(Remedy::Time, remedy);
                let code = code.unwrap_or("an error without a code");
                (message.map_or_else(|| code.to_owned(), |message| format!("{code}: {message}")), remedy)
            }
            SdkError::TimeoutError(_) => ("no answer in time".to_owned(), Remedy::Time),
            // It was not even sent.
            SdkError::ConstructionFailure(_) => (aws::innermost(error), Remedy::People("set region and endpoint")),
            other if aws::has_no_credentials(other) => (aws::innermost(other), Remedy::People(aws::CREDENTIALS)),
            other => (aws::innermost(other), Remedy::Time),
        };
        DynamoError::Request { operation, table: table.to_owned(), reason, remedy }
    }

    /// What the caller of the sink is told.
    pub(super) fn tell(self) -> SinkError {
        let advice = match &self {
            DynamoError::Request { remedy: Remedy::People(advice), .. } => advice,
            DynamoError::Request { remedy: Remedy::Nothing, operation: SET_TTL, .. } => {
                "set dynamodb.ttl_attribute to the one on which the table's time to live is enabled, or no days"
            }
            // Every record would meet it: what one of them is refused for has become a dead letter.
            DynamoError::Request { remedy: Remedy::Nothing, .. } => {
                "make the table's key the one that is set, a string"
            }
            DynamoError::LettersFull { .. } => "send the dead letters again, or remove them",
            DynamoError::Json { .. }
            | DynamoError::TooLarge { .. }
            | DynamoError::Unpack { .. }
            | DynamoError::NoLog { .. } => "repair what others wrote into the table",
            DynamoError::Request { remedy: Remedy::Time, .. }
            | DynamoError::Timeout { .. }
            | DynamoError::Contended { .. } => {
                return SinkError::Away { action: "use DynamoDB".to_owned(), source: self.into() };
            }
        };
        SinkError::Misconfigured { problem: format!("use DynamoDB: {advice}"), source: Some(self.into()) }
    }
}

/// What helps against an error by its code. What is not known may pass.
fn remedy(code: &str) -> Remedy {
    match code {
        "ValidationException" | "SerializationException" => Remedy::Nothing,
        "ResourceNotFoundException" => Remedy::People("make the table, or set the name of another"),
        "AccessDeniedException" | "NotAuthorized" | "OptInRequired" => {
            Remedy::People("give it the rights to the table")
        }
        code if aws::is_about_credentials(code) => Remedy::People(aws::CREDENTIALS),
        "UnknownOperationException" => Remedy::People("set the endpoint of DynamoDB"),
        _ => Remedy::Time,
    }
}
