//! A statement and what goes with it. Owns its shape on the wire.

use std::time::Duration;

use runstone_record::wire::{QueryColumn, QueryStats};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::row::Row;

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
        Query { sql: sql.into(), params: Map::new(), max_rows: None, format: None, timeout: None }
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

    /// How long to wait for the answer. The server ends a query whose client is gone.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Query {
        self.timeout = Some(timeout);
        self
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
