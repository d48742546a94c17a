//! Who ran which statement, and what came of it: two records of the server's own log, one durable before the statement runs, one
//! after. Owns what stands in them; a call is a run, `source_system` `runstone`, `stage` `gateway`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use runstone_record::limits::SQL_BYTES_MAX;
use runstone_record::{IdMint, parse};
use serde_json::{Map, Value, json};

use super::{Access, DatabaseError, Executed};
use crate::clock::Clock;
use crate::intake::{Entropy, Intake, IntakeError};

/// Characters of a header that says for whom a proxy asks.
const FORWARDED_CHARS_MAX: usize = 256;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Who {
    /// The other end of the connection.
    pub(crate) remote: Option<SocketAddr>,
    /// For whom that asks, in its own words.
    pub(crate) forwarded_for: Option<String>,
    /// The exchange's name.
    pub(crate) request_id: String,
}

/// Why a record was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditError {
    /// The journal did not take it.
    #[error("write to the log who runs a statement")]
    Intake(#[from] IntakeError),
    /// It is no record.
    #[error("write to the log who runs a statement: {0}")]
    Unfit(String),
}

/// The log that calls are written to. Clones are the same.
#[derive(Clone)]
pub(crate) struct Audit {
    intake: Intake,
    clock: Arc<dyn Clock>,
    entropy: Entropy,
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit").field("intake", &self.intake).finish_non_exhaustive()
    }
}

/// A call that has begun.
pub(crate) struct Call {
    audit: Audit,
    run_id: String,
    started: Instant,
    about: Map<String, Value>,
}

impl Audit {
    pub(crate) fn new(intake: Intake, clock: Arc<dyn Clock>, entropy: Entropy) -> Self {
        Self { intake, clock, entropy }
    }

    /// Writes that a statement is about to run. It is durable then.
    ///
    /// # Errors
    /// It is not: nothing may run.
    pub(crate) async fn begin(&self, who: Who, statement: &str, access: Access) -> Result<Call, AuditError> {
        let mut about = Map::new();
        about.insert("access".to_owned(), access.word().into());
        about.insert("request_id".to_owned(), who.request_id.into());
        if let Some(remote) = who.remote {
            about.insert("remote".to_owned(), remote.to_string().into());
        }
        if let Some(forwarded) = who.forwarded_for {
            let forwarded: String = forwarded.chars().take(FORWARDED_CHARS_MAX).collect();
            about.insert("forwarded_for".to_owned(), forwarded.into());
        }
        let now_ms = u64::try_from(self.clock.now_micros() / 1_000).unwrap_or(0);
        let run_id = format!("gateway-{}", IdMint::new(now_ms, (self.entropy)()).mint());
        // One that is longer is refused; its beginning tells whose it was.
        let statement = &statement[..statement.floor_char_boundary(SQL_BYTES_MAX)];
        let call = Call { audit: self.clone(), run_id, started: Instant::now(), about };
        call.write("start", statement, json!({"title": "run a statement"})).await?;
        Ok(call)
    }
}

impl Call {
    /// Writes what came of it. The answer does not depend on it any more.
    pub(crate) async fn end(self, outcome: &Result<Executed, DatabaseError>) {
        let duration = self.started.elapsed().as_secs_f64();
        let written = match outcome {
            Ok(executed) => {
                let more = json!({
                    "duration": duration, "row_count": executed.row_count, "truncated": executed.rows.truncated,
                });
                self.write("success", "the statement has run", more).await
            }
            Err(error) => {
                let more = json!({"duration": duration, "code": error.code().as_str()});
                self.write("error", &crate::lake::chain(error), more).await
            }
        };
        if let Err(error) = written {
            let run_id = self.run_id.as_str();
            tracing::error!(run_id, error = %crate::lake::chain(&error), "write what came of a statement");
        }
    }

    async fn write(&self, kind: &str, message: &str, more: Value) -> Result<(), AuditError> {
        let mut record = json!({
            "source_system": "runstone", "stage": "gateway", "run_id": self.run_id, "type": kind, "message": message,
        });
        let mut about = self.about.clone();
        if let (Some(record), Value::Object(more)) = (record.as_object_mut(), more) {
            for (name, value) in more {
                let is_ours = matches!(name.as_str(), "title" | "duration" | "row_count");
                let place = if is_ours { &mut *record } else { &mut about };
                place.insert(name, value);
            }
            record.insert("metadata".to_owned(), about.into());
        }
        let parsed =
            parse::json(record.to_string().as_bytes()).map_err(|error| AuditError::Unfit(error.to_string()))?;
        let taken = self.audit.intake.take(parsed, None).await?;
        match taken.answer.errors.first() {
            None => Ok(()),
            Some(refused) => Err(AuditError::Unfit(refused.message.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runstone_record::parse::Parsed;

    fn read(record: &Value) -> Parsed {
        parse::json(record.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn the_longest_statement_fits_into_a_record() {
        // Six bytes of JSON for each of its own.
        let record = json!({"run_id": "r", "message": "\u{1}".repeat(SQL_BYTES_MAX)});
        assert_eq!(read(&record).errors.len(), 0);
    }
}
