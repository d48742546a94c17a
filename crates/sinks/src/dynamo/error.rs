//! What can go wrong with DynamoDB. Owns the words, and whether the same append may succeed later.

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

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
        /// May it succeed later?
        retryable: bool,
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
    /// May the same succeed later? Where not, the entry is at fault, or the table.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            DynamoError::Json { .. } | DynamoError::TooLarge { .. } | DynamoError::Unpack { .. } => false,
            DynamoError::Request { retryable, .. } => *retryable,
            DynamoError::Timeout { .. } | DynamoError::Contended { .. } => true,
        }
    }

    pub(super) fn request<E, R>(operation: &'static str, table: &str, error: &SdkError<E, R>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug + 'static,
    {
        let (reason, retryable) = match error {
            SdkError::ServiceError(refusal) => {
                let (code, message) = (refusal.err().code(), refusal.err().message());
                // Not what is wrong with the request itself: a missing table may be made, a missing right be given.
                let retryable = !matches!(code, Some("ValidationException" | "SerializationException"));
                let code = code.unwrap_or("an error without a code");
                (message.map_or_else(|| code.to_owned(), |message| format!("{code}: {message}")), retryable)
            }
            SdkError::TimeoutError(_) => ("no answer in time".to_owned(), true),
            other => (innermost(other), true),
        };
        DynamoError::Request { operation, table: table.to_owned(), reason, retryable }
    }
}

/// The cause of all causes: those before it only say that something failed.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
