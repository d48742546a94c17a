//! A table of PostgreSQL. Owns when something is tried again; what is tried is elsewhere: `setup` makes and migrates the tables,
//! `load` brings a delivery, [`read`] reads records back, `retire` deletes old ones. Refuses to know who feeds it.
//!
//! Rows and the source's cursor change in one transaction. The guide is `docs/postgres.md`.

pub mod read;

mod connect;
mod connections;
mod encode;
mod fill;
mod json;
mod letters;
mod load;
mod names;
mod retire;
mod runs;
mod setup;
mod table;
mod tls;
mod trouble;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use deadpool_postgres::{ClientWrapper, Object, Pool};
use tokio::sync::Mutex;
use tokio_postgres::CancelToken;
use tokio_postgres_rustls::MakeRustlsConnect;

pub use connect::Options;
pub use connections::Connections;
pub use names::PrefixError;

use crate::{Delivered, Delivery, Sink, SinkError};
use names::Names;
use trouble::Trouble;

/// The sink's.
const NAME: &str = "postgres";

/// Records in a table of PostgreSQL. Clones share their connections.
#[derive(Clone)]
pub struct Postgres {
    parts: Arc<Parts>,
}

/// Can names of tables begin with it?
///
/// # Errors
/// What is wrong with it.
pub fn check_prefix(prefix: &str) -> Result<(), PrefixError> {
    Names::new(prefix).map(drop)
}

/// What its parts share.
struct Parts {
    options: Options,
    names: Names,
    pool: Pool,
    tls: MakeRustlsConnect,
    /// Are the tables there as they should be?
    ready: Mutex<bool>,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").field("options", &self.parts.options).finish_non_exhaustive()
    }
}

impl Postgres {
    /// A sink that has not connected yet: it does when it is first used, and makes or migrates the tables then. Needs a runtime
    /// of Tokio with time and network.
    ///
    /// # Errors
    /// [`SinkError::Misconfigured`] for a prefix or URL that can never do.
    pub fn new(options: Options) -> Result<Self, SinkError> {
        let prefix = &options.table_prefix;
        let names = Names::new(prefix).map_err(|error| SinkError::Misconfigured {
            problem: format!("read postgres.table_prefix: {error}: {prefix:?}"),
            source: Some(error.into()),
        })?;
        let (pool, tls) = connect::pool(&options)?;
        Ok(Self { parts: Arc::new(Parts { options, names, pool, tls, ready: Mutex::new(false) }) })
    }

    /// Does `work` until it succeeds, fails for good, or has been tried often enough.
    async fn persist<W: Work>(&self, action: &str, work: &mut W) -> Result<W::Output, SinkError> {
        let mut pauses = self.parts.pauses();
        loop {
            let trouble = match self.parts.prepared(work).await {
                Ok(done) => return Ok(done),
                Err(trouble @ (Trouble::Again(_) | Trouble::Late(_) | Trouble::Gone(_))) => trouble,
                Err(trouble) => return Err(trouble.tell(action)),
            };
            let Some(pause) = pauses.next() else { return Err(trouble.tell(action)) };
            tracing::debug!(action, error = &trouble as &dyn std::error::Error, "try PostgreSQL again");
            tokio::time::sleep(pause).await;
        }
    }
}

/// Something that is done over one connection, and may be done again over another.
#[async_trait]
trait Work: Send {
    type Output: Send;

    /// Are the tables made first? Who only reads makes none.
    const MAKES_TABLES: bool = true;

    async fn run(&mut self, parts: &Parts, client: &mut ClientWrapper) -> Result<Self::Output, Trouble>;
}

impl Parts {
    /// The pauses between tries.
    fn pauses(&self) -> impl Iterator<Item = Duration> + use<> {
        let (first, longest) = self.options.backoff;
        let tries = self.options.tries_max.max(1);
        let backoff = ExponentialBuilder::default().with_min_delay(first).with_max_delay(longest);
        backoff.with_max_times(tries - 1).with_jitter().build()
    }

    /// Does something, once the tables are there where it needs them.
    async fn prepared<W: Work>(&self, work: &mut W) -> Result<W::Output, Trouble> {
        if !W::MAKES_TABLES {
            return self.connected(work).await;
        }
        let mut ready = self.ready.lock().await;
        if !*ready {
            setup::make(self).await?;
            *ready = true;
        }
        drop(ready);
        let done = self.connected(work).await;
        if matches!(done, Err(Trouble::Gone(_))) {
            *self.ready.lock().await = false;
        }
        done
    }

    /// Does something over a connection that was just found to be alive. It is closed afterwards where nobody knows what
    /// it is doing.
    async fn connected<W: Work>(&self, work: &mut W) -> Result<W::Output, Trouble> {
        let mut client = self.pool.get().await?;
        let cancel = client.cancel_token();
        let done = work.run(self, &mut client).await;
        match &done {
            Err(Trouble::Late(_)) => {
                self.cancel(cancel).await;
                drop(Object::take(client));
            }
            Err(trouble) if !trouble.leaves_connection() => drop(Object::take(client)),
            _ => {}
        }
        done
    }

    /// Asks the server to leave a statement that nobody waits for any more. It may be past hearing.
    async fn cancel(&self, token: CancelToken) {
        let asked = token.cancel_query(self.tls.clone());
        let _ = tokio::time::timeout(self.options.connect_timeout, asked).await;
    }

    /// Waits for a statement's answer, a little longer than the server may take for it.
    async fn within<T, E: Into<Trouble>>(&self, answer: impl Future<Output = Result<T, E>>) -> Result<T, Trouble> {
        let time = self.options.statement_timeout + self.options.grace;
        match tokio::time::timeout(time, answer).await {
            Ok(answer) => answer.map_err(Into::into),
            Err(_) => Err(Trouble::Late(time)),
        }
    }
}

#[async_trait]
impl Sink for Postgres {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn cursor(&mut self, source: &str) -> Result<u64, SinkError> {
        self.persist("read the cursor in PostgreSQL", &mut load::Cursor { source }).await
    }

    async fn deliver(&mut self, delivery: Delivery<'_>) -> Result<Delivered, SinkError> {
        let mut load = load::Load::new(delivery);
        match self.persist("bring records to PostgreSQL", &mut load).await {
            Ok(dead_letters) => Ok(Delivered { dead_letters }),
            // Only the answer was lost.
            Err(SinkError::Moved { found }) if found == delivery.through && load.unsure.is_some() => {
                Ok(Delivered { dead_letters: load.unsure.unwrap_or_default() })
            }
            Err(error) => Err(error),
        }
    }
}
