//! One read each: the typed routes of the HTTP API. Owns which route a read is; a read is tried once.

use runstone_record::code::STATUS_ALL;
use runstone_record::wire::{RunBody, RunsPage};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::client::{Client, TRY_TIMEOUT};
use crate::error::ClientError;
use crate::filter::{LogsFilter, RunsFilter};
use crate::query::{Query, QueryAnswer};
use crate::row::Row;

/// The code of what does not exist.
const NOT_FOUND: &str = "not_found";

/// A page of records.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct LogsPage {
    /// The records, each with the fields that it has.
    pub records: Vec<Row>,
    /// The cursor of the next page; none on the last.
    pub next: Option<String>,
}

/// Who answers: `GET /health`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Health {
    /// `healthy`.
    pub status: String,
    /// The server's version.
    pub version: String,
}

/// Whether the server can do its work: `GET /ready`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Ready {
    /// `ready` or `degraded`, or why it takes nothing.
    pub status: String,
    /// The journal that takes records, as `uuid/epoch`.
    pub journal: String,
    /// The last position that is on disk.
    pub durable_position: u64,
    /// The last position that reads see.
    pub readable_position: u64,
    /// How the lake is doing.
    pub lake: ReadyLake,
    /// Why it is not `ready`.
    pub reason: Option<String>,
}

/// Whether records reach the lake.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ReadyLake {
    /// `ready`, `opening`, `degraded`, `paused` or `failed`.
    pub status: String,
    /// How far this server's records are in the table.
    pub position: u64,
    /// The table's version.
    pub version: u64,
}

impl Ready {
    /// Does it take records?
    #[must_use]
    pub fn takes_records(&self) -> bool {
        matches!(self.status.as_str(), "ready" | "degraded")
    }
}

impl Client {
    /// Is anybody there?
    ///
    /// # Errors
    /// What kept it from the server.
    pub async fn health(&self) -> Result<Health, ClientError> {
        self.get(&["health"], &()).await
    }

    /// Can the server do its work? It answers also when it cannot, and says why.
    ///
    /// # Errors
    /// What kept it from the server.
    pub async fn ready(&self) -> Result<Ready, ClientError> {
        self.answer(self.http.get(self.at(&["ready"])?), |_| true).await
    }

    /// Runs one read-only SQL statement over `logs` and `runs`; its answer as a whole.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the statement is wrong or takes too much; else what kept it from the server.
    pub async fn query(&self, query: impl Into<Query>) -> Result<QueryAnswer, ClientError> {
        let query = query.into();
        let request = self.http.post(self.at(&["api", "v1", "query"])?).json(&query).timeout(query.wait(TRY_TIMEOUT));
        self.answer(request, |status| status == STATUS_ALL).await
    }

    /// A page of records; the next one has the page's `next` as its cursor.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if a filter is wrong; else what kept it from the server.
    pub async fn logs(&self, filter: &LogsFilter) -> Result<LogsPage, ClientError> {
        self.get(&["api", "v1", "logs"], filter).await
    }

    /// A page of runs; the next one has the page's `next` as its cursor.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if a filter is wrong; else what kept it from the server.
    pub async fn runs(&self, filter: &RunsFilter) -> Result<RunsPage, ClientError> {
        self.get(&["api", "v1", "runs"], filter).await
    }

    /// One run; none where no record names it.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if it cannot be a run's id; else what kept it from the server.
    pub async fn run(&self, run_id: &str) -> Result<Option<RunBody>, ClientError> {
        if_found(self.get(&["api", "v1", "runs", run_id], &()).await)
    }

    /// A page of one run's records, the first one first unless the filter says otherwise; none where no record names
    /// the run.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if a filter is wrong; else what kept it from the server.
    pub async fn run_logs(&self, run_id: &str, filter: &LogsFilter) -> Result<Option<LogsPage>, ClientError> {
        if_found(self.get(&["api", "v1", "runs", run_id, "logs"], filter).await)
    }

    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        filter: &impl Serialize,
    ) -> Result<T, ClientError> {
        let request = self.http.get(self.at(path)?).query(filter);
        self.answer(request, |status| status == STATUS_ALL).await
    }
}

/// None for what is not there.
pub(crate) fn if_found<T>(answer: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match answer {
        Err(error) if error.code() == Some(NOT_FOUND) => Ok(None),
        answer => answer.map(Some),
    }
}
