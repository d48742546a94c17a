//! The Logger as a function: an event's entry is appended to the log of its run in DynamoDB.
//!
//! Owns that a caller is always answered, and that no entry is gone without a trace: where it could not be appended, it
//! stands in the function's own log. What is valid and how answers are worded is `runstone_record::logger`'s, appends are
//! `runstone_sinks::dynamo`'s.

mod report;
mod same;
mod settings;
mod trace;

use std::io::Write;
use std::time::Duration;

use runstone_record::ids::ID_CONFLICT;
use runstone_record::limits::{LAMBDA_ANSWER_MS, LAMBDA_SECRET_MS};
use runstone_record::logger::{self, Answer, Entry, Refusal};
use runstone_record::{ErrorCode, RecordId};
use runstone_sinks::dynamo::{Appended, Dynamo, DynamoError};

use report::Came;
pub use report::Report;
pub use settings::{Secrets, Settings, SettingsError};
pub use trace::Tracer;

/// Reads a variable of the environment.
pub type Environment = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;
/// Microseconds since 1970, now.
pub type Clock = Box<dyn Fn() -> i64 + Send + Sync>;

/// What is known of an invocation beside its event.
#[derive(Debug, Clone, Default)]
pub struct Invocation {
    /// Its id: the same when an asynchronous event is tried again.
    pub request_id: String,
    /// When it will be stopped: milliseconds since 1970.
    pub deadline_ms: u64,
    /// The header of its trace, where it has one.
    pub trace: Option<String>,
}

/// Why an entry could not be appended.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Dynamo(#[from] DynamoError),
    #[error("append to log in DynamoDB: the function's time is up")]
    Deadline,
    /// The log has another entry under the id that the client gave.
    #[error("{ID_CONFLICT}")]
    Conflict,
}

/// What is in use, and since when.
struct Ready {
    settings: Settings,
    dynamo: Dynamo,
    read_at: i64,
}

/// The function.
pub struct Logger {
    environment: Environment,
    clock: Clock,
    secrets: Secrets,
    tracer: Tracer,
    report: Report,
    ready: Option<Ready>,
}

impl Logger {
    /// Reads nothing yet: what is wrong with the settings is said to whoever calls. `out` is the function's log.
    pub fn new(secrets: Secrets, environment: Environment, clock: Clock, out: Box<dyn Write + Send>) -> Self {
        let (report, tracer) = (Report::new(&environment, out), Tracer::new(&environment));
        Self { environment, clock, secrets, tracer, report, ready: None }
    }

    /// Makes ready what the first event needs, so that it need not wait for it.
    pub async fn prepare(&mut self) {
        // What fails now is tried again with the event, which is then told.
        let _ = self.dynamo((self.clock)()).await;
    }

    /// Handles an event and gives the function's answer, a JSON object.
    pub async fn handle(&mut self, event: &[u8], invocation: &Invocation) -> String {
        let began = (self.clock)();
        let (shape, read) = logger::read(event, began);
        let (answer, came) = match read {
            Err(refusal) => (refusal.answer(), Came::Refused),
            Ok(entry) => match self.append(&entry, invocation, began).await {
                Ok(()) => (Answer::appended(&entry), Came::Appended),
                Err(Failure::Conflict) => (Refusal::of_entry(ID_CONFLICT).answer(), Came::Refused),
                Err(failure) => {
                    let reason = failure.to_string();
                    self.report.lost(&entry, &reason, &invocation.request_id);
                    (Answer::failed(ErrorCode::Internal, &reason), Came::Failed)
                }
            },
        };
        self.report.metrics(came, began, (self.clock)());
        answer.envelope(shape)
    }

    async fn append(&mut self, entry: &Entry, invocation: &Invocation, now: i64) -> Result<(), Failure> {
        let id = entry.id.or_else(|| RecordId::parse(&invocation.request_id).ok()).unwrap_or_else(random_id);
        let now_ms = u64::try_from(now.div_euclid(1_000)).unwrap_or(0);
        let left = Duration::from_millis(invocation.deadline_ms.saturating_sub(now_ms + LAMBDA_ANSWER_MS));
        let work = async {
            let dynamo = self.dynamo(now).await?;
            let appended = append_once(dynamo, entry, id, now).await;
            Ok::<_, Failure>((dynamo.options().table.clone(), appended))
        };
        let (table, appended) = tokio::time::timeout(left, work).await.unwrap_or(Err(Failure::Deadline))?;
        self.tracer.append(invocation.trace.as_deref(), &table, (now, (self.clock)()), appended.is_ok());
        appended?;
        Ok(())
    }

    /// The table, by settings that are not too old. Those that cannot be read anew stay in use.
    async fn dynamo(&mut self, now: i64) -> Result<&Dynamo, SettingsError> {
        let fresh_us = i64::try_from(LAMBDA_SECRET_MS * 1_000).unwrap_or(i64::MAX);
        let is_fresh = |ready: &Ready| !ready.settings.has_secret || now - ready.read_at < fresh_us;
        if !self.ready.as_ref().is_some_and(is_fresh) {
            match Settings::read(&self.environment, &self.secrets).await {
                Ok(settings) => self.renew(settings, now),
                Err(error) => {
                    let Some(ready) = &mut self.ready else { return Err(error) };
                    ready.read_at = now;
                    self.report.say("WARNING", &error.to_string());
                }
            }
        }
        self.ready.as_ref().map(|ready| &ready.dynamo).ok_or(SettingsError::Missing)
    }

    fn renew(&mut self, settings: Settings, now: i64) {
        match &mut self.ready {
            Some(ready) if ready.settings == settings => ready.read_at = now,
            _ => {
                let dynamo = Dynamo::with(self.secrets.shared(), settings.options.clone());
                self.ready = Some(Ready { settings, dynamo, read_at: now });
            }
        }
    }
}

impl std::fmt::Debug for Logger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logger").finish_non_exhaustive()
    }
}

/// Appends an entry, unless the log has it. What comes under the invocation's own id is the same, whatever Lambda does.
async fn append_once(dynamo: &Dynamo, entry: &Entry, id: RecordId, now: i64) -> Result<(), Failure> {
    let appended = dynamo.append(&entry.run_id, &entry.json, id, now).await?;
    if appended == Appended::Before
        && entry.id.is_some()
        && let Some(stored) = dynamo.find(&entry.run_id, id).await?
        && !same::is_same(entry, &stored)
    {
        return Err(Failure::Conflict);
    }
    Ok(())
}

/// For an invocation that is known by no UUID: then only its own attempts are recognised.
fn random_id() -> RecordId {
    RecordId::from_u128(u128::from(trace::random()) << 64 | u128::from(trace::random()))
}
