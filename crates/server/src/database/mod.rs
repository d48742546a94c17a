//! The database that the gateway's callers ask about: what its tables are like, some of their rows, and statements. Owns the
//! connections, the transaction that every request runs in, and what a failure means; refuses to know HTTP.
//!
//! Everything runs in one transaction: READ ONLY, unless `gateway.execute` says otherwise, with time-outs that PostgreSQL keeps,
//! and given up from here where it does not. What is given up is asked to stop, and its connection closed.

mod audit;
mod execute;
mod functions;
mod guard;
mod names;
mod rows;
mod sample;
mod schema;

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::Object;
use runstone_record::ErrorCode;
use runstone_record::limits::{
    GATEWAY_ANSWER_BYTES_MAX, GATEWAY_CONNECTIONS_MAX, GATEWAY_GRACE_MS, GATEWAY_WAITING_MAX, POSTGRES_LOCK_TIMEOUT_MS,
};
use runstone_sinks::SinkError;
use runstone_sinks::postgres::{Connections, Options};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::{CancelToken, Client, IsolationLevel, Transaction};

pub(crate) use self::audit::{Audit, AuditError, Who};
pub(crate) use self::execute::Executed;
pub(crate) use self::rows::Rows;

use self::rows::Bounds;
use crate::lake::chain;

/// What a request may do there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing changes.
    ReadOnly,
    /// One statement may change something.
    ReadWrite,
}

impl Access {
    fn word(self) -> &'static str {
        match self {
            Access::ReadOnly => "read-only",
            Access::ReadWrite => "read-write",
        }
    }
}

/// Why a request got no answer from the database.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseError {
    /// There is none, or not for this.
    #[error("{0}")]
    NotConfigured(&'static str),
    /// No table has the name.
    #[error("find no table called {name:?}{hint}")]
    NoTable { name: String, hint: String },
    /// The statement is not allowed, or none.
    #[error("refuse the statement: {0}")]
    Refused(String),
    /// It met something in the data, or what it may not read.
    #[error("run it in the database: {0}")]
    Failed(String),
    /// A row of its answer has more bytes than an answer may have.
    #[error("send fewer columns: one row has more than {0} bytes")]
    TooLarge(usize),
    /// It took too long, and PostgreSQL said so.
    #[error("stop it in the database: {0}")]
    Stopped(String),
    /// It took too long, and PostgreSQL said nothing.
    #[error("stop it in the database: it took more than {0:?}")]
    Late(Duration),
    /// Too many wait.
    #[error("connect to the database: {0} requests wait for a connection")]
    Busy(usize),
    /// The caller has gone.
    #[error("stop it in the database: its caller has gone")]
    Left,
    /// There is no reaching it, now.
    #[error("use the database of gateway.database_url")]
    Away(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl DatabaseError {
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            DatabaseError::NotConfigured(_) => ErrorCode::NotConfigured,
            DatabaseError::NoTable { .. } => ErrorCode::NotFound,
            DatabaseError::Refused(_) => ErrorCode::InvalidQuery,
            DatabaseError::Failed(_) => ErrorCode::QueryFailed,
            DatabaseError::TooLarge(_) => ErrorCode::QueryLimit,
            DatabaseError::Stopped(_) | DatabaseError::Late(_) => ErrorCode::QueryTimeout,
            DatabaseError::Busy(_) => ErrorCode::Overloaded,
            DatabaseError::Left | DatabaseError::Away(_) => ErrorCode::Unavailable,
        }
    }

    /// Is the connection in the state that it was taken in, once the transaction is rolled back?
    fn leaves_connection(&self) -> bool {
        !matches!(self, DatabaseError::Away(_) | DatabaseError::Left)
    }
}

/// What PostgreSQL said, in one line.
fn words(error: &DbError) -> String {
    let more = [error.detail(), error.hint()].into_iter().flatten().map(|more| format!("; {more}"));
    format!("{}{} ({})", error.message(), more.collect::<String>(), error.code().code())
}

impl From<tokio_postgres::Error> for DatabaseError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else {
            let is_cut = error.is_closed() || matches!(error.source(), Some(cause) if cause.is::<std::io::Error>());
            // Else an answer cannot be read, such as text that is no UTF-8.
            return if is_cut { DatabaseError::Away(error.into()) } else { DatabaseError::Failed(chain(&error)) };
        };
        let code = said.code();
        let stops = [
            SqlState::QUERY_CANCELED,
            SqlState::LOCK_NOT_AVAILABLE,
            // The time was over between two steps of a statement: that was said to nobody.
            SqlState::IN_FAILED_SQL_TRANSACTION,
        ];
        if stops.contains(code) {
            return DatabaseError::Stopped(words(said));
        }
        if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
            return DatabaseError::Refused(words(said));
        }
        match code.code().get(..2).unwrap_or_default() {
            // Syntax, names and privileges; what is not supported.
            "42" | "0A" | "26" | "34" | "3F" => DatabaseError::Refused(words(said)),
            // Connections, deadlocks, resources, shutdowns.
            "08" | "25" | "28" | "3D" | "40" | "53" | "57" => DatabaseError::Away(error.into()),
            _ => DatabaseError::Failed(words(said)),
        }
    }
}

impl From<SinkError> for DatabaseError {
    fn from(error: SinkError) -> Self {
        DatabaseError::Away(error.into())
    }
}

/// What the gateway's callers may ask, and where it is written down.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    pub(crate) database: Option<Database>,
    pub(crate) execute: Option<Access>,
    pub(crate) audit: Audit,
}

impl Gateway {
    /// The database, if there is one.
    pub(crate) fn database(&self) -> Result<&Database, DatabaseError> {
        self.database.as_ref().ok_or(DatabaseError::NotConfigured("ask about a database: set gateway.database_url"))
    }

    /// What statements may do there, if any may run.
    pub(crate) fn access(&self) -> Result<Access, DatabaseError> {
        let set = "run statements: set gateway.execute to read-only, or to read-write";
        self.execute.ok_or(DatabaseError::NotConfigured(set))
    }
}

/// The database. Clones share its connections.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    connections: Connections,
    /// Of those that are asking and of those that wait.
    places: Arc<Semaphore>,
    timeout: Duration,
    rows_max: u64,
}

/// Something that is done in one transaction.
#[async_trait]
trait Work: Send {
    type Output: Send;

    async fn run(&mut self, transaction: &Transaction<'_>) -> Result<Done<Self::Output>, DatabaseError>;
}

/// What came of it.
struct Done<T> {
    output: T,
    /// Is something under way that nobody waits for?
    is_abandoned: bool,
}

impl<T> Done<T> {
    fn all(output: T) -> Self {
        Self { output, is_abandoned: false }
    }
}

/// A connection in use. Dropped before its work is done, it is left: nobody knows what it is doing.
struct InUse<'a> {
    connections: &'a Connections,
    connection: Option<Object>,
    cancel: CancelToken,
}

impl InUse<'_> {
    /// Its work is done: others may have it.
    fn give_back(&mut self) {
        self.connection = None;
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        if let (Some(connection), Ok(handle)) = (self.connection.take(), Handle::try_current()) {
            let (connections, cancel) = (self.connections.clone(), self.cancel.clone());
            handle.spawn(async move { connections.leave(connection, cancel).await });
        }
    }
}

impl Database {
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// The URL can never do.
    pub(crate) fn new(url: &str, timeout: Duration, rows_max: u64) -> Result<Self, SinkError> {
        let options = Options {
            connections_max: GATEWAY_CONNECTIONS_MAX,
            setting: "gateway.database_url",
            // A standby can be read.
            writes: false,
            ..Options::new(url, "")
        };
        let places = Arc::new(Semaphore::new(GATEWAY_CONNECTIONS_MAX + GATEWAY_WAITING_MAX));
        Ok(Self { connections: Connections::new(&options)?, places, timeout, rows_max })
    }

    fn bounds(&self) -> Bounds {
        Bounds { rows: self.rows_max, bytes: GATEWAY_ANSWER_BYTES_MAX, row_bytes: GATEWAY_ANSWER_BYTES_MAX }
    }

    /// Does something in one transaction; one that only reads is rolled back.
    async fn run<W: Work>(&self, access: Access, mut work: W) -> Result<W::Output, DatabaseError> {
        let _place = self.places.try_acquire().map_err(|_| DatabaseError::Busy(GATEWAY_WAITING_MAX))?;
        let connection = self.connections.get().await?;
        let cancel = connection.cancel_token();
        let mut held = InUse { connections: &self.connections, connection: Some(connection), cancel };
        let Some(connection) = held.connection.as_mut() else { return Err(DatabaseError::Left) };
        let time = self.timeout + Duration::from_millis(GATEWAY_GRACE_MS);
        let done = tokio::time::timeout(time, transact(connection, access, self.timeout, &mut work)).await;
        // Dropped with the connection, where it took too long.
        let done = done.map_err(|_| DatabaseError::Late(self.timeout))?;
        match done {
            Ok(done) => {
                if !done.is_abandoned {
                    held.give_back();
                }
                Ok(done.output)
            }
            Err(error) => {
                if error.leaves_connection() {
                    held.give_back();
                }
                Err(error)
            }
        }
    }
}

async fn transact<W: Work>(
    client: &mut Client,
    access: Access,
    timeout: Duration,
    work: &mut W,
) -> Result<Done<W::Output>, DatabaseError> {
    let builder = client.build_transaction();
    let builder = match access {
        // All of an answer is of one moment.
        Access::ReadOnly => builder.isolation_level(IsolationLevel::RepeatableRead).read_only(true),
        Access::ReadWrite => builder.read_only(false),
    };
    let transaction = builder.start().await?;
    transaction.batch_execute(&settings(timeout)).await?;
    let done = match work.run(&transaction).await {
        Ok(done) => done,
        Err(error) => {
            // It is rolled back when it is dropped, too; but then nobody waits for it.
            if error.leaves_connection() {
                transaction.rollback().await?;
            }
            return Err(error);
        }
    };
    match (access, done.is_abandoned) {
        // The connection is closed.
        (_, true) => {}
        (Access::ReadOnly, false) => transaction.rollback().await?,
        (Access::ReadWrite, false) => transaction.commit().await?,
    }
    Ok(done)
}

/// What holds for the transaction. The last of it takes its snapshot: from then on PostgreSQL lets nobody, not even itself, make
/// it one that writes.
fn settings(timeout: Duration) -> String {
    let (time, lock) = (timeout.as_millis(), POSTGRES_LOCK_TIMEOUT_MS);
    let idle = time + u128::from(GATEWAY_GRACE_MS);
    format!(
        "SET LOCAL statement_timeout = {time}; SET LOCAL lock_timeout = {lock}; \
         SET LOCAL idle_in_transaction_session_timeout = {idle}; SET LOCAL standard_conforming_strings = on; \
         SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL IntervalStyle = 'postgres'; \
         SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'; SELECT 1"
    )
}
