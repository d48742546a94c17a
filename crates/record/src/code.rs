//! What an answer means: one code for each kind of failure, the HTTP status that goes with it, whether the
//! same request may be sent again, and whether anything happened. The only file that knows status numbers.

/// Did a failed request change anything?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// Nothing was stored.
    Nothing,
    /// The answer was lost or cut: the records may be stored. Send them again under the same ids.
    Unknown,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal, $retryable:literal;)*) => {
        /// Why a request or one of its records was refused. The text is part of the public contract.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $name,)* }

        impl ErrorCode {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)*];

            /// The code as it stands in answers.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$name => $text,)* }
            }

            /// The HTTP status (RFC 9110, RFC 6585) of a request that fails with this code.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(ErrorCode::$name => $status,)* }
            }

            /// May the same request succeed later?
            #[must_use]
            pub fn retryable(self) -> bool {
                match self { $(ErrorCode::$name => $retryable,)* }
            }
        }
    };
}

codes! {
    /// The bytes are no HTTP request.
    InvalidRequest = "invalid_request", 400, false;
    /// The body is empty or only white space.
    EmptyBody = "empty_body", 400, false;
    /// The body is not JSON, or a line of NDJSON is not.
    InvalidJson = "invalid_json", 400, false;
    /// The body cannot be decompressed, or ended early.
    InvalidEncoding = "invalid_encoding", 400, false;
    /// A parameter of the URL or a header is wrong.
    InvalidParameter = "invalid_parameter", 400, false;
    /// The SQL cannot be parsed, planned or is not allowed.
    InvalidQuery = "invalid_query", 400, false;
    /// The SQL is fine but its execution met an error in the data, such as a division by zero.
    QueryFailed = "query_failed", 400, false;
    /// The query needs more memory or rows than it may have.
    QueryLimit = "query_limit", 400, false;
    /// No route has this path, or no run this id.
    NotFound = "not_found", 404, false;
    /// The route does not take this method.
    MethodNotAllowed = "method_not_allowed", 405, false;
    /// The client accepts none of the formats that there are.
    NotAcceptable = "not_acceptable", 406, false;
    /// The body came too slowly.
    RequestTimeout = "request_timeout", 408, true;
    /// The query ran longer than it may.
    QueryTimeout = "query_timeout", 408, false;
    /// The body is too large, as sent or decompressed.
    BodyTooLarge = "body_too_large", 413, false;
    /// The request has too many records.
    TooManyRecords = "too_many_records", 413, false;
    /// The `Content-Type` is missing or not taken here.
    UnsupportedMediaType = "unsupported_media_type", 415, false;
    /// The `Content-Encoding` is not taken here.
    UnsupportedEncoding = "unsupported_encoding", 415, false;
    /// The value has another JSON type than its field takes.
    WrongType = "wrong_type", 422, false;
    /// A field has a value outside its range or form.
    InvalidValue = "invalid_value", 422, false;
    /// An identifier has characters or a length that it may not have.
    InvalidIdentifier = "invalid_identifier", 422, false;
    /// A time is not RFC 3339 with an offset, or beyond 1677 to 2262.
    InvalidTime = "invalid_time", 422, false;
    /// `id` is not a UUID.
    InvalidId = "invalid_id", 422, false;
    /// The record is not a JSON object.
    NotAnObject = "not_an_object", 422, false;
    /// The record has no known field that is not null.
    EmptyRecord = "empty_record", 422, false;
    /// A known field stands there twice.
    DuplicateField = "duplicate_field", 422, false;
    /// The record is too large.
    RecordTooLarge = "record_too_large", 422, false;
    /// The record is nested too deeply.
    TooDeep = "too_deep", 422, false;
    /// The record has too many keys or too long a key.
    TooManyKeys = "too_many_keys", 422, false;
    /// The id was used before with another payload.
    IdConflict = "id_conflict", 422, false;
    /// The idempotency key was used before with another body.
    IdempotencyKeyReused = "idempotency_key_reused", 422, false;
    /// More is being sent than the server can hold: slow down.
    Overloaded = "overloaded", 429, true;
    /// The request's headers are too large.
    HeadersTooLarge = "headers_too_large", 431, false;
    /// The server failed; the request was not at fault.
    Internal = "internal", 500, true;
    /// The settings have nothing for this route.
    NotConfigured = "not_configured", 501, false;
    /// The server cannot take this now.
    Unavailable = "unavailable", 503, true;
    /// The server's disk is full.
    DiskFull = "disk_full", 503, true;
    /// The journal holds as much as it may, because the lake takes nothing.
    JournalFull = "journal_full", 503, true;
}

impl ErrorCode {
    /// Did a request that was answered with this code change anything?
    #[must_use]
    pub fn happened(self) -> Happened {
        match self {
            ErrorCode::Internal | ErrorCode::Unavailable => Happened::Unknown,
            _ => Happened::Nothing,
        }
    }

    /// The code of an answer's text.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The status of an answer in which every record is durable.
pub const STATUS_ALL: u16 = 200;
/// The status of an answer in which some records are durable and some were refused.
pub const STATUS_SOME: u16 = 207;
/// The status of an answer in which no record was valid.
pub const STATUS_NONE: u16 = 422;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_unique_and_come_back() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_text(code.as_str()), Some(*code));
        }
    }

    #[test]
    fn only_pressure_and_our_own_failures_are_retryable() {
        for code in ErrorCode::ALL {
            let status = code.status();
            assert!((400..=599).contains(&status), "{code}");
            let may_retry = matches!(status, 408 | 429 | 500 | 503);
            assert!(!code.retryable() || may_retry, "{code} says retry with status {status}");
        }
    }
}
