//! A statement and what goes with it. Owns its shape on the wire.

use std::time::Duration;

use runstone_record::wire::{QueryColumn, QueryStats};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::client::NEVER;
use crate::row::Row;

/// What an answer may take beside the server's work at it.
const WAY: Duration = Duration::from_secs(15);

/// A read-only SQL statement over `logs` and `runs`, with values for the names in it.
///
/// ```
/// use runstone_sdk::Query;
/// let query = Query::new("SELECT message FROM logs WHERE run_id = $run").param("run", "nightly-1").max_rows(100);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Query {
    sql: String,
    #[serde(skip_serializing_if = "Map::is_empty")]
    params: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_rows: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) format: Option<&'static str>,
    #[serde(skip)]
    pub(crate) timeout: Option<Duration>,
}

impl Query {
    /// A statement without parameters.
    #[must_use]
    pub fn new(sql: impl Into<String>) -> Query {
        Query { sql: sql.into(), params: Map::new(), timeout_ms: None, max_rows: None, format: None, timeout: None }
    }

    /// The value of `$name` in the statement. It is a value wherever it stands, never SQL.
    #[must_use]
    pub fn param(mut self, name: &str, value: impl Into<Value>) -> Query {
        self.params.insert(name.to_owned(), value.into());
        self
    }

    /// Cut the answer there, and say so in its `truncated`; without it an answer of too many rows is an error.
    #[must_use]
    pub fn max_rows(mut self, rows: u64) -> Query {
        self.max_rows = Some(rows);
        self
    }

    /// Milliseconds that the server may work at it, where that is less than its own `query.timeout_ms`; of a streamed answer to
    /// its first row and from piece to piece. Beyond them it is refused as `query_timeout`.
    #[must_use]
    pub fn timeout_ms(mut self, milliseconds: u64) -> Query {
        self.timeout_ms = Some(milliseconds);
        self
    }

    /// How long this client waits for the answer, whatever the server does; of a streamed one for its beginning and for more of it.
    /// The server ends a query whose client is gone.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Query {
        self.timeout = Some(timeout);
        self
    }
}

impl Query {
    /// How long to wait for the server: as was said, else so long at least that the server says first that it takes too long.
    pub(crate) fn wait(&self, least: Duration) -> Duration {
        let working = self.timeout_ms.map_or(Duration::ZERO, |milliseconds| Duration::from_millis(milliseconds) + WAY);
        self.timeout.unwrap_or(least.max(working)).min(NEVER)
    }
}

impl From<&str> for Query {
    fn from(sql: &str) -> Query {
        Query::new(sql)
    }
}

impl From<String> for Query {
    fn from(sql: String) -> Query {
        Query::new(sql)
    }
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct QueryAnswer {
    /// The columns, in order.
    pub columns: Vec<QueryColumn>,
    /// The rows, each with every column.
    pub rows: Vec<Row>,
    /// What it cost, and whether rows were cut off.
    pub stats: QueryStats,
}

impl QueryAnswer {
    /// Each row as a type of the caller's own.
    ///
    /// # Errors
    /// What `T` lacks or cannot hold in the first row that does not fit.
    pub fn rows_as<T: DeserializeOwned>(&self) -> Result<Vec<T>, serde_json::Error> {
        self.rows.iter().map(Row::parse).collect()
    }
}
