//! Reads that go on: page after page, row after row. Owns where a walk is. Each page but the first is tried again as a batch is;
//! what has been handed out is never asked for twice.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt};
use reqwest::Response;
use runstone_record::limits::PAGE_ROWS_MAX;
use runstone_record::wire::{RunBody, RunsPage};
use tokio::time::timeout;

use crate::client::Client;
use crate::error::ClientError;
use crate::filter::{LogsFilter, RunsFilter};
use crate::query::Query;
use crate::read::{LogsPage, if_found};
use crate::row::Row;

/// An answer that says nothing for so long has been forgotten. A statement may run for half a minute before its first row.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// Things that come one after the other, or the error that ends them.
pub type Items<T> = BoxStream<'static, Result<T, ClientError>>;

/// What an answer can be streamed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Ndjson,
    /// Comma-separated values under a line of names.
    Csv,
    /// Apache Parquet.
    Parquet,
    /// Apache Arrow's streaming format.
    Arrow,
}

impl Format {
    /// Its name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Ndjson => "ndjson",
            Format::Csv => "csv",
            Format::Parquet => "parquet",
            Format::Arrow => "arrow",
        }
    }
}

impl Client {
    /// Page after page of records, each record once, and none that came after the first page.
    pub fn log_pages(&self, filter: &LogsFilter) -> Items<LogsPage> {
        let client = self.clone();
        let pages = stream::try_unfold((Some(filter.clone()), true), move |(filter, is_first)| {
            let client = client.clone();
            async move {
                let Some(filter) = filter else { return Ok(None) };
                let page = client.walk(is_first, || client.logs(&filter)).await?;
                let next = page.next.clone().map(|next| filter.cursor(next));
                Ok(Some((page, (next, false))))
            }
        });
        pages.boxed()
    }

    /// One read of a walk. The first is tried once: somebody is waiting to hear that nobody is there, or that a filter is wrong.
    async fn walk<T, F>(&self, is_first: bool, mut read: impl FnMut() -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        if is_first { read().await } else { self.patiently(read).await }
    }

    /// Record after record, as the pages have them.
    ///
    /// ```no_run
    /// # async fn example(client: runstone_sdk::Client) -> Result<(), runstone_sdk::ClientError> {
    /// use futures::TryStreamExt;
    /// use runstone_sdk::LogsFilter;
    ///
    /// let mut records = client.log_records(&LogsFilter::new().run_id("nightly-1"));
    /// while let Some(record) = records.try_next().await? {
    ///     println!("{:?}", record.text("message"));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn log_records(&self, filter: &LogsFilter) -> Items<Row> {
        let mut filter = filter.clone();
        if filter.0.get("limit").is_none() {
            filter = filter.limit(PAGE_ROWS_MAX);
        }
        self.log_pages(&filter).map_ok(|page| each(page.records)).try_flatten().boxed()
    }

    /// Page after page of the runs that are there at the first one. A run that moves in their order on the way comes last, and then
    /// a second time where it came already.
    pub fn run_pages(&self, filter: &RunsFilter) -> Items<RunsPage> {
        let client = self.clone();
        let pages = stream::try_unfold((Some(filter.clone()), true), move |(filter, is_first)| {
            let client = client.clone();
            async move {
                let Some(filter) = filter else { return Ok(None) };
                let page = client.walk(is_first, || client.runs(&filter)).await?;
                let next = page.next.clone().map(|next| filter.cursor(next));
                Ok(Some((page, (next, false))))
            }
        });
        pages.boxed()
    }

    /// Run after run, as the pages have them.
    pub fn run_records(&self, filter: &RunsFilter) -> Items<RunBody> {
        let mut filter = filter.clone();
        if filter.0.get("limit").is_none() {
            filter = filter.limit(PAGE_ROWS_MAX);
        }
        self.run_pages(&filter).map_ok(|page| each(page.runs)).try_flatten().boxed()
    }

    /// The rows of a statement's answer as they are made, without a limit to their number.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the statement is wrong; else what kept it from the server. The stream ends with
    /// [`ClientError::BrokenOff`] where the answer broke off: what came before is not the whole of it.
    pub async fn query_stream(&self, query: Query) -> Result<Items<Row>, ClientError> {
        Ok(rows(self.query_bytes(query, Format::Ndjson).await?, ClientError::Row))
    }

    /// A statement's answer in another format, as bytes, without a limit to its length.
    ///
    /// # Errors
    /// As [`Client::query_stream`].
    pub async fn query_bytes(&self, mut query: Query, format: Format) -> Result<Items<Bytes>, ClientError> {
        query.format = Some(format.as_str());
        let silence = query.wait(SILENCE_MAX);
        let request = self.http.post(self.at(&["api", "v1", "query"])?).json(&query);
        Ok(self.bytes(self.begun(request, silence).await?, silence))
    }

    /// All records that the filter matches in another format, as bytes, without a limit to their number but the filter's
    /// own.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if a filter is wrong; else what kept it from the server. The stream ends with
    /// [`ClientError::BrokenOff`] where the answer broke off: what came before is not the whole of it.
    pub async fn log_bytes(&self, filter: &LogsFilter, format: Format) -> Result<Items<Bytes>, ClientError> {
        let filter = filter.clone().with("format", format.as_str());
        let request = self.http.get(self.at(&["api", "v1", "logs"])?).query(&filter);
        Ok(self.bytes(self.begun(request, SILENCE_MAX).await?, SILENCE_MAX))
    }

    /// All records of one run in another format, as bytes, the first one first unless the filter says otherwise; none where
    /// no record names the run.
    ///
    /// ```no_run
    /// # async fn example(client: runstone_sdk::Client) -> Result<(), runstone_sdk::ClientError> {
    /// use futures::TryStreamExt;
    /// use runstone_sdk::{ClientError, Format, LogsFilter, rows};
    ///
    /// if let Some(bytes) = client.run_log_bytes("nightly-1", &LogsFilter::new(), Format::Ndjson).await? {
    ///     let mut records = rows(bytes, ClientError::Row);
    ///     while let Some(record) = records.try_next().await? {
    ///         println!("{:?}", record.text("message"));
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::log_bytes`].
    pub async fn run_log_bytes(
        &self,
        run_id: &str,
        filter: &LogsFilter,
        format: Format,
    ) -> Result<Option<Items<Bytes>>, ClientError> {
        let filter = filter.clone().with("format", format.as_str());
        let request = self.http.get(self.at(&["api", "v1", "runs", run_id, "logs"])?).query(&filter);
        let begun = if_found(self.begun(request, SILENCE_MAX).await)?;
        Ok(begun.map(|response| self.bytes(response, SILENCE_MAX)))
    }

    fn bytes(&self, response: Response, silence: Duration) -> Items<Bytes> {
        let url = self.url().to_owned();
        let broken_off = move |source| ClientError::BrokenOff { url: url.clone(), source };
        let chunks = response.bytes_stream().map_err(broken_off);
        watched(chunks, silence, self.url().to_owned()).boxed()
    }
}

fn each<T>(items: Vec<T>) -> impl Stream<Item = Result<T, ClientError>> {
    stream::iter(items).map(Ok)
}

/// Ends a stream that has gone silent.
fn watched(
    chunks: impl Stream<Item = Result<Bytes, ClientError>> + Send + 'static,
    silence: Duration,
    url: String,
) -> impl Stream<Item = Result<Bytes, ClientError>> + Send {
    stream::try_unfold((chunks.boxed(), url), move |(mut chunks, url)| async move {
        match timeout(silence, chunks.try_next()).await {
            Ok(chunk) => Ok(chunk?.map(|chunk| (chunk, (chunks, url)))),
            Err(_) => Err(ClientError::Silent { url }),
        }
    })
}

/// A row for each line of an answer in [`Format::Ndjson`], as its bytes come. `unreadable` says what a line is that is none.
pub fn rows<E: Send + 'static>(
    bytes: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    unreadable: fn(serde_json::Error) -> E,
) -> BoxStream<'static, Result<Row, E>> {
    let state = (bytes.boxed(), BytesMut::new(), VecDeque::new());
    let rows = stream::try_unfold(state, move |(mut bytes, mut rest, mut rows)| async move {
        let row = |line: &[u8]| serde_json::from_slice(line).map_err(unreadable);
        loop {
            if let Some(row) = rows.pop_front() {
                return Ok(Some((row, (bytes, rest, rows))));
            }
            let Some(chunk) = bytes.try_next().await? else {
                // The last line needs no end.
                return match std::mem::take(&mut rest) {
                    rest if rest.is_empty() => Ok(None),
                    rest => Ok(Some((row(&rest)?, (bytes, BytesMut::new(), rows)))),
                };
            };
            let seen = rest.len();
            rest.extend_from_slice(&chunk);
            let mut looked_at = seen;
            while let Some(at) = rest[looked_at..].iter().position(|byte| *byte == b'\n') {
                let line = rest.split_to(looked_at + at);
                rest.advance(1);
                looked_at = 0;
                if !line.is_empty() {
                    rows.push_back(row(&line)?);
                }
            }
        }
    });
    rows.boxed()
}
