//! Where a statement is answered: by a server, over a data directory, or over tables alone. Owns that each of them answers in
//! the same two ways: as a whole that may be cut, and in a format, as it is made.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use runstone_record::limits::QUERY_ROWS_MAX;
use runstone_sdk::{Client, Format, Query, QueryAnswer};
use runstone_server::config::Config;
use runstone_server::{Offline, OfflineError, Question, TableSpec, World};
use serde_json::{Map, Value};

use crate::failure::UsageError;

/// An answer in a format, piece by piece.
pub(super) type Pieces = BoxStream<'static, anyhow::Result<Bytes>>;

/// What is asked.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) sql: String,
    pub(super) params: Map<String, Value>,
    pub(super) timeout: Option<Duration>,
}

/// Who is asked.
pub(super) enum Desk {
    Server(Client),
    /// A data directory, and tables beside it.
    Directory(Box<(Config, World)>),
    Tables(Box<Config>, Vec<TableSpec>),
}

impl Desk {
    /// The first rows, as many as people may want to see.
    pub(super) async fn first(&self, asked: Asked) -> anyhow::Result<QueryAnswer> {
        let answer = match self {
            Desk::Server(client) => return Ok(client.query(asked.query().max_rows(QUERY_ROWS_MAX as u64)).await?),
            // As many as there may be at once.
            Desk::Directory(of) => Offline::query(&of.0, &of.1, &asked.question(Some(u64::MAX))?).await?,
            Desk::Tables(config, tables) => {
                runstone_server::query_tables(config, tables.clone(), asked.question(Some(u64::MAX))?).await?
            }
        };
        Ok(serde_json::from_slice(&answer.into_body())?)
    }

    /// All of it.
    pub(super) async fn all(&self, asked: Asked, format: Format) -> anyhow::Result<Pieces> {
        let streamed = match format {
            Format::Ndjson => runstone_server::Format::Ndjson,
            Format::Csv => runstone_server::Format::Csv,
            Format::Parquet => runstone_server::Format::Parquet,
            Format::Arrow => runstone_server::Format::Arrow,
        };
        let offline = match self {
            Desk::Server(client) => {
                return Ok(client.query_bytes(asked.query(), format).await?.map_err(Into::into).boxed());
            }
            Desk::Directory(of) => Offline::stream(&of.0, &of.1, &asked.question(None)?, streamed).await?,
            Desk::Tables(config, tables) => {
                runstone_server::stream_tables(config, tables.clone(), asked.question(None)?, streamed).await?
            }
        };
        Ok(offline.map_err(|error: OfflineError| error.into()).boxed())
    }
}

impl Asked {
    /// As a server takes it.
    fn query(self) -> Query {
        let query =
            self.params.into_iter().fold(Query::new(self.sql), |query, (name, value)| query.param(&name, value));
        match self.timeout {
            Some(timeout) => query.timeout_ms(milliseconds(timeout)),
            None => query,
        }
    }

    /// The same without one.
    fn question(self, max_rows: Option<u64>) -> anyhow::Result<Question> {
        // Read from the same text as a server reads it.
        let params = serde_json::to_string(&self.params)?;
        let params = serde_json::from_str(&params).map_err(|error| UsageError(format!("read --param: {error}")))?;
        Ok(Question { sql: self.sql, params, timeout: self.timeout, max_rows })
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
