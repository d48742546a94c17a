//! Connections to a database that others fill. Owns opening, holding and leaving them; refuses to know what is asked there.

use std::fmt;
use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use tokio_postgres::CancelToken;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::connect::{self, Options};
use super::trouble::Trouble;
use crate::SinkError;

/// A pool of connections with the URL, TLS and time-outs of [`Options`]. Clones share them.
#[derive(Clone)]
pub struct Connections {
    pool: Pool,
    tls: MakeRustlsConnect,
    connect_timeout: Duration,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("status", &self.pool.status()).finish_non_exhaustive()
    }
}

impl Connections {
    /// None is opened yet. Needs a runtime of Tokio with time and network once one is.
    ///
    /// # Errors
    /// [`SinkError::Misconfigured`] for a URL that can never do.
    pub fn new(options: &Options) -> Result<Self, SinkError> {
        let (pool, tls) = connect::pool(options)?;
        Ok(Self { pool, tls, connect_timeout: options.connect_timeout })
    }

    /// One that was just found to be alive; where all are in use it is waited for, as long as connecting may take.
    ///
    /// # Errors
    /// Says what the caller is to do.
    pub async fn get(&self) -> Result<Object, SinkError> {
        self.pool.get().await.map_err(|error| Trouble::from(error).tell("connect to PostgreSQL"))
    }

    /// Leaves a connection whose statement nobody waits for any more: asks the server to end that, which may be past hearing, and
    /// closes it.
    pub async fn leave(&self, connection: Object, token: CancelToken) {
        let asked = token.cancel_query(self.tls.clone());
        let _ = tokio::time::timeout(self.connect_timeout, asked).await;
        drop(Object::take(connection));
    }
}
