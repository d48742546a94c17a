//! What there is, counted: runs by group and time, the fields of records, and the values of a field. Owns the parameters'
//! names; the server counts.

use runstone_record::wire::{FieldsAnswer, MetricsAnswer, ValuesAnswer};
use serde::Serialize;

use crate::client::Client;
use crate::error::ClientError;
use crate::filter::{LogsFilter, Params};

/// Which runs to count, and how.
///
/// ```
/// use runstone_sdk::MetricsQuery;
/// let daily = MetricsQuery::new().group_by(&["source_system", "stage"]).bucket("1d").since("-30d");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct MetricsQuery(Params);

impl MetricsQuery {
    /// All runs, together.
    #[must_use]
    pub fn new() -> MetricsQuery {
        MetricsQuery::default()
    }

    /// Any parameter of the route, by its name in the API: a filter of runs, such as `source_system`.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> MetricsQuery {
        self.0.set(name, value.into());
        self
    }

    /// Apart by some of `source_system`, `stage`, `environment` and `owner`.
    #[must_use]
    pub fn group_by(self, names: &[&str]) -> MetricsQuery {
        self.with("group_by", names.join(","))
    }

    /// So long at a time, such as `1h`.
    #[must_use]
    pub fn bucket(self, length: &str) -> MetricsQuery {
        self.with("bucket", length)
    }

    /// Started at this time or later.
    #[must_use]
    pub fn since(self, time: impl Into<String>) -> MetricsQuery {
        self.with("since", time)
    }

    /// Started before this time.
    #[must_use]
    pub fn until(self, time: impl Into<String>) -> MetricsQuery {
        self.with("until", time)
    }
}

/// Which values of which field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ValuesQuery(Params);

impl ValuesQuery {
    /// Those of a field in the records that the filter matches.
    #[must_use]
    pub fn of(field: &str, filter: &LogsFilter) -> ValuesQuery {
        let mut params = filter.0.clone();
        params.set("field", field.to_owned());
        ValuesQuery(params)
    }

    /// Those that begin like this, in any case.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> ValuesQuery {
        self.0.set("prefix", prefix.into());
        self
    }

    /// At most so many, 1 to 1,000.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> ValuesQuery {
        self.0.set("limit", limit.to_string());
        self
    }
}

impl Client {
    /// Runs, counted.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if a parameter is wrong; else what kept it from the server.
    pub async fn metrics(&self, query: &MetricsQuery) -> Result<MetricsAnswer, ClientError> {
        self.get(&["api", "v1", "metrics"], query).await
    }

    /// The fields that the records have which the filter matches.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if a filter is wrong; else what kept it from the server.
    pub async fn fields(&self, filter: &LogsFilter) -> Result<FieldsAnswer, ClientError> {
        self.get(&["api", "v1", "fields"], filter).await
    }

    /// The values of a field, the most frequent first.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if a parameter is wrong; else what kept it from the server.
    pub async fn values(&self, query: &ValuesQuery) -> Result<ValuesAnswer, ClientError> {
        self.get(&["api", "v1", "values"], query).await
    }
}
