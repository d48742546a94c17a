//! The HTTP client: sends batches until they are acknowledged and reads what is stored.
//!
//! Owns retrying. A batch is sent again only when the answer's `retryable` says so or none arrived, and always with the
//! same bytes and key, so that the server stores it once. Reads are not retried: somebody is waiting for them.

use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{RequestBuilder, StatusCode, Url};
use runstone_record::code::{STATUS_ALL, STATUS_NONE, STATUS_SOME};
use runstone_record::wire::{ErrorBody, IngestAnswer, LogsPage, QueryAnswer, QueryRequest, RunBody, RunsPage};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::batch::Batch;
use crate::error::ClientError;
use crate::filter::{LogFilter, RunFilter};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For one try. A batch is written to disk before it is answered, and a query may run for half a minute.
const TRY_TIMEOUT: Duration = Duration::from_secs(45);
const DEADLINE: Duration = Duration::from_secs(120);
const RETRY_DELAY_MIN: Duration = Duration::from_millis(100);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(10);

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendReport {
    /// The server's answer: counts, positions, and the refused records by their index in the batch.
    pub answer: IngestAnswer,
    /// How often it was sent.
    pub tries: u32,
}

impl std::ops::Deref for SendReport {
    type Target = IngestAnswer;

    fn deref(&self) -> &IngestAnswer {
        &self.answer
    }
}

type OnRetry = Arc<dyn Fn(&ClientError, Duration) + Send + Sync>;

/// Settings of a [`Client`].
pub struct ClientBuilder {
    url: String,
    deadline: Duration,
    on_retry: OnRetry,
}

/// Talks to one server. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    deadline: Duration,
    on_retry: OnRetry,
}

impl ClientBuilder {
    /// How long to try one batch before giving up; two minutes unless set.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> ClientBuilder {
        self.deadline = deadline;
        self
    }

    /// Called before each wait for the next try, with what went wrong and how long the wait is.
    #[must_use]
    pub fn on_retry(mut self, call: impl Fn(&ClientError, Duration) + Send + Sync + 'static) -> ClientBuilder {
        self.on_retry = Arc::new(call);
        self
    }

    /// The client. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ClientError::Url`] if the URL is none, [`ClientError::Setup`] if TLS cannot be set up.
    pub fn build(self) -> Result<Client, ClientError> {
        let bad = || ClientError::Url { url: self.url.clone() };
        // A base without a final slash would lose its last segment to every path that is joined to it.
        let base = Url::parse(&format!("{}/", self.url.trim_end_matches('/'))).map_err(|_| bad())?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(bad());
        }
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TRY_TIMEOUT)
            .user_agent(concat!("runstone/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(ClientError::Setup)?;
        Ok(Client { http, base, deadline: self.deadline, on_retry: self.on_retry })
    }
}

impl Client {
    /// A client for the server at `url`, such as `http://127.0.0.1:7867`.
    pub fn builder(url: &str) -> ClientBuilder {
        ClientBuilder { url: url.to_owned(), deadline: DEADLINE, on_retry: Arc::new(|_, _| ()) }
    }

    /// The server's address.
    #[must_use]
    pub fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Sends a batch until the server has answered for it.
    ///
    /// Records that the server refuses are in the report's `errors`; they are never sent again.
    ///
    /// # Errors
    /// [`ClientError`] if the batch was refused as a whole, or could not be delivered before the deadline. The same
    /// batch may be given to `send` again: what was stored is not stored twice.
    pub async fn send(&self, batch: &Batch) -> Result<SendReport, ClientError> {
        let end = Instant::now() + self.deadline;
        let mut tries = 0;
        let policy = ExponentialBuilder::default()
            .with_min_delay(RETRY_DELAY_MIN)
            .with_max_delay(RETRY_DELAY_MAX)
            .with_jitter()
            .without_max_times();
        let attempt = || {
            tries += 1;
            self.post(batch, end)
        };
        let answer = attempt
            .retry(policy)
            .when(ClientError::is_retryable)
            .adjust(|error, delay| {
                let delay = delay?.max(error.retry_after().unwrap_or_default());
                (Instant::now() + delay < end).then_some(delay)
            })
            .notify(|error, delay| (self.on_retry)(error, delay))
            .await?;
        Ok(SendReport { answer, tries })
    }

    async fn post(&self, batch: &Batch, end: Instant) -> Result<IngestAnswer, ClientError> {
        let left = end.saturating_duration_since(Instant::now()).max(RETRY_DELAY_MIN);
        let request = self
            .http
            .post(self.at(&["api", "v1", "logs"])?)
            .header(CONTENT_TYPE, "application/x-ndjson")
            .header(CONTENT_ENCODING, "zstd")
            .header("idempotency-key", batch.key())
            .body(batch.body())
            .timeout(left.min(TRY_TIMEOUT));
        self.answer(request, |status| [STATUS_ALL, STATUS_SOME, STATUS_NONE].contains(&status)).await
    }

    /// Is anybody there?
    ///
    /// # Errors
    /// [`ClientError`], after one try.
    pub async fn health(&self) -> Result<(), ClientError> {
        self.get::<serde_json::Value>(&["health"], &()).await.map(|_| ())
    }

    /// Runs one read-only SQL statement over `logs` and `runs`.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the statement is wrong or too expensive; else what kept it from the server.
    pub async fn query(&self, sql: &str) -> Result<QueryAnswer, ClientError> {
        // As many rows as the server gives at once: the answer says whether there are more.
        let body = QueryRequest { sql: sql.to_owned(), max_rows: Some(u64::MAX), ..QueryRequest::default() };
        let request = self.http.post(self.at(&["api", "v1", "query"])?).json(&body);
        self.answer(request, |status| status == STATUS_ALL).await
    }

    /// A page of records; the next one has the page's `next` as its cursor.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if a filter is wrong; else what kept it from the server.
    pub async fn logs(&self, filter: &LogFilter) -> Result<LogsPage, ClientError> {
        self.get(&["api", "v1", "logs"], filter).await
    }

    /// A page of runs; the next one has the page's `next` as its cursor.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if a filter is wrong; else what kept it from the server.
    pub async fn runs(&self, filter: &RunFilter) -> Result<RunsPage, ClientError> {
        self.get(&["api", "v1", "runs"], filter).await
    }

    /// One run.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the code `not_found` if there is no such run; else what kept it from the server.
    pub async fn run(&self, run_id: &str) -> Result<RunBody, ClientError> {
        self.get(&["api", "v1", "runs", run_id], &()).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &[&str], filter: &impl serde::Serialize) -> Result<T, ClientError> {
        let request = self.http.get(self.at(path)?).query(filter);
        self.answer(request, |status| status == STATUS_ALL).await
    }

    /// A path below the base; each segment is escaped.
    fn at(&self, segments: &[&str]) -> Result<Url, ClientError> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| ClientError::Url { url: self.base.to_string() })?
            .pop_if_empty()
            .extend(segments);
        Ok(url)
    }

    /// Sends a request once and reads its answer, which is a `T` where `expected` says so of the status.
    async fn answer<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        expected: impl Fn(u16) -> bool,
    ) -> Result<T, ClientError> {
        let response = request.send().await.map_err(|source| self.transport(source))?;
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let retry_after = retry_after.map(Duration::from_secs);
        let body = response.bytes().await.map_err(|source| self.transport(source))?;
        if expected(status.as_u16())
            && let Ok(answer) = serde_json::from_slice(&body)
        {
            return Ok(answer);
        }
        Err(match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(ErrorBody { error, message, retryable, help, request_id }) => {
                let path = help.trim_start_matches('/');
                let help = self.base.join(path).ok().filter(|_| !path.is_empty()).map(String::from);
                let (status, code) = (status.as_u16(), error);
                ClientError::Refused { status, code, message, retryable, retry_after, help, request_id }
            }
            Err(_) => {
                let retryable = passes(status);
                ClientError::NotRunstone { url: self.url().to_owned(), status: status.as_u16(), retryable, retry_after }
            }
        })
    }

    fn transport(&self, source: reqwest::Error) -> ClientError {
        let url = self.url().to_owned();
        if source.is_connect() { ClientError::Unreachable { url, source } } else { ClientError::Lost { url, source } }
    }
}

/// Statuses with which a proxy speaks for a server that it cannot reach now.
fn passes(status: StatusCode) -> bool {
    [
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ]
    .contains(&status)
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("url", &self.url()).field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
