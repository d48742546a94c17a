//! What an error of PostgreSQL means. Owns telling a record's fault from the server's and from that of people; refuses to act
//! on it.

use std::error::Error;
use std::time::Duration;

use deadpool_postgres::PoolError;
use tokio_postgres::error::{DbError, SqlState};

use crate::{Cause, SinkError};

/// What went wrong with one try.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// Another try may go well.
    #[error("try again")]
    Again(#[source] Cause),
    /// The server gave no answer in time.
    #[error("wait for an answer for more than {0:?}")]
    Late(Duration),
    /// The cursor is elsewhere.
    #[error("find the cursor at {0}")]
    Moved(u64),
    /// At least one of the records cannot be taken, or not so.
    #[error("{}", first_line(.0))]
    Refused(String),
    /// A table or a column is missing that was there.
    #[error("miss a table")]
    Gone(#[source] Cause),
    /// People must help.
    #[error("{problem}")]
    Wrong {
        problem: String,
        #[source]
        source: Option<Cause>,
    },
}

impl Trouble {
    pub(super) fn wrong(problem: impl Into<String>) -> Self {
        Trouble::Wrong { problem: problem.into(), source: None }
    }

    /// What the server refused, where no record is to be put aside for it.
    pub(super) fn refused(action: &str, reason: &str) -> Self {
        Trouble::wrong(format!("{action}: {}", first_line(reason)))
    }

    /// May the connection be used again?
    pub(super) fn leaves_connection(&self) -> bool {
        matches!(self, Trouble::Moved(_) | Trouble::Refused(_))
    }

    /// Did a statement take too long? A smaller one may not.
    pub(super) fn is_slow(&self) -> bool {
        match self {
            Trouble::Late(_) => true,
            Trouble::Again(cause) => {
                let said = cause.downcast_ref::<tokio_postgres::Error>().and_then(tokio_postgres::Error::code);
                said == Some(&SqlState::QUERY_CANCELED)
            }
            _ => false,
        }
    }

    /// What the caller of the sink is told; `action` is what was tried.
    pub(super) fn tell(self, action: &str) -> SinkError {
        let away = |source: Cause| SinkError::Away { action: action.to_owned(), source };
        match self {
            Trouble::Again(source) | Trouble::Gone(source) => away(source),
            Trouble::Moved(found) => SinkError::Moved { found },
            Trouble::Wrong { problem, source } => SinkError::Misconfigured { problem, source },
            Trouble::Late(_) | Trouble::Refused(_) => away(Box::new(self)),
        }
    }
}

/// What the server said, in one line. Its DETAIL is left out: a whole row may stand there, which is no log's to show.
fn words(error: &DbError) -> String {
    format!("{} ({})", in_one_line(error.message()), error.code().code())
}

/// Why a record is not taken: the server's words, and on a second line its DETAIL.
fn reason(error: &DbError) -> String {
    let detail = error.detail().map(|detail| format!("\n{}", in_one_line(detail))).unwrap_or_default();
    format!("{}{detail}", words(error))
}

/// A trigger may say anything.
fn in_one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

fn first_line(reason: &str) -> &str {
    reason.lines().next().unwrap_or_default()
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else { return without_answer(error) };
        let text = words(said);
        let code = said.code();
        if *code == SqlState::UNDEFINED_TABLE || *code == SqlState::UNDEFINED_COLUMN {
            return Trouble::Gone(error.into());
        }
        if is_the_tables(said) {
            // What lies beneath has the row.
            return Trouble::wrong(format!("write records: the table is not what is expected: {text}"));
        }
        match code.code().get(..2).unwrap_or_default() {
            // Data exceptions, constraints, limits of a program (a value too large for an index), triggers' own.
            "22" | "23" | "54" | "P0" | "44" => Trouble::Refused(reason(said)),
            // Authorisation, no such database or schema, privileges and statements, what is not supported.
            "28" | "3D" | "3F" | "42" | "0A" | "0L" | "0P" => {
                Trouble::Wrong { problem: format!("use PostgreSQL: {text}"), source: Some(error.into()) }
            }
            // Connections, resources, shutdowns, deadlocks, locks, cancelled statements, standbys; and whatever else there is.
            _ => Trouble::Again(error.into()),
        }
    }
}

/// Is this the table's fault, although its class is that of bad data? Every record would meet it.
fn is_the_tables(said: &DbError) -> bool {
    let code = said.code();
    // All of our records have values there, and what we send has the form of the types that we expect.
    *code == SqlState::NOT_NULL_VIOLATION
        || *code == SqlState::INVALID_BINARY_REPRESENTATION
        // The numbers of rows have run out, or begin below those that are there.
        || *code == SqlState::SEQUENCE_GENERATOR_LIMIT_EXCEEDED
        || (*code == SqlState::UNIQUE_VIOLATION && said.constraint().is_some_and(|name| name.ends_with("_pkey")))
        // No partition is there for the row: that has the code of a constraint, and no constraint's name.
        || (*code == SqlState::CHECK_VIOLATION && said.constraint().is_none())
}

/// An error that is not the server's word.
fn without_answer(error: tokio_postgres::Error) -> Trouble {
    let mut beneath: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(cause) = beneath {
        if cause
            .downcast_ref::<rustls::Error>()
            .is_some_and(|error| matches!(error, rustls::Error::InvalidCertificate(_)))
        {
            let problem = format!("trust PostgreSQL's certificate: set sslrootcert or another sslmode: {cause}");
            return Trouble::Wrong { problem, source: Some(error.into()) };
        }
        beneath = match cause.downcast_ref::<std::io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => cause.source(),
        };
    }
    Trouble::Again(error.into())
}

impl From<PoolError> for Trouble {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => error.into(),
            other => Trouble::Again(other.into()),
        }
    }
}
