//! The HTTP client: its settings, one request and its answer, and sending batches until they are acknowledged.
//!
//! Owns retrying. A batch is sent again only when the answer's `retryable` says so or none arrived, and always with the
//! same bytes and key, so that the server stores it once. A single read (`read.rs`) is not tried again: somebody is
//! waiting for it. A walk (`walk.rs`, `tail.rs`) tries each of its reads again, as a batch is.

use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use runstone_record::code::{STATUS_ALL, STATUS_NONE, STATUS_SOME};
use runstone_record::wire::{ErrorBody, IngestAnswer};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::batch::Batch;
use crate::error::ClientError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For one try. A batch is written to disk before it is answered, and a query may run for half a minute.
pub(crate) const TRY_TIMEOUT: Duration = Duration::from_secs(45);
const DEADLINE: Duration = Duration::from_secs(120);
const RETRY_DELAY_MIN: Duration = Duration::from_millis(100);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(10);
/// As good as never: a time that can be added to any clock.
pub(crate) const NEVER: Duration = Duration::from_secs(30 * 365 * 86_400);
const REQUEST_ID: &str = "x-request-id";

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
    pub(crate) http: reqwest::Client,
    base: Url,
    deadline: Duration,
    on_retry: OnRetry,
}

impl ClientBuilder {
    /// How long to try one batch, or one read of a walk, before giving up; two minutes unless set. `Duration::MAX` never
    /// gives up.
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
        Ok(Client { http, base, deadline: self.deadline.min(NEVER), on_retry: self.on_retry })
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
        let attempt = || {
            tries += 1;
            self.post(batch, end)
        };
        let answer = self.retried(end, attempt).await?;
        Ok(SendReport { answer, tries })
    }

    /// Tries until it succeeds, until an error that stays, or until `end`.
    async fn retried<T, F>(&self, end: Instant, attempt: impl FnMut() -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let policy = ExponentialBuilder::default()
            .with_min_delay(RETRY_DELAY_MIN)
            .with_max_delay(RETRY_DELAY_MAX)
            .with_jitter()
            .without_max_times();
        attempt
            .retry(policy)
            .when(ClientError::is_retryable)
            .adjust(|error, delay| {
                let delay = delay?.max(error.retry_after().unwrap_or_default());
                (Instant::now() + delay < end).then_some(delay)
            })
            .notify(|error, delay| (self.on_retry)(error, delay))
            .await
    }

    /// The same for a read, within the client's deadline from now on.
    pub(crate) async fn patiently<T, F>(&self, attempt: impl FnMut() -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        self.retried(Instant::now() + self.deadline, attempt).await
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

    /// A path below the base; each segment is escaped.
    pub(crate) fn at(&self, segments: &[&str]) -> Result<Url, ClientError> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| ClientError::Url { url: self.base.to_string() })?
            .pop_if_empty()
            .extend(segments);
        Ok(url)
    }

    /// Sends a request once and reads its answer, which is a `T` where `expected` says so of the status.
    pub(crate) async fn answer<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        expected: impl Fn(u16) -> bool,
    ) -> Result<T, ClientError> {
        let response = request.send().await.map_err(|source| self.transport(source))?;
        let head = Head::of(&response);
        let body = response.bytes().await.map_err(|source| self.transport(source))?;
        if expected(head.status)
            && let Ok(answer) = serde_json::from_slice(&body)
        {
            return Ok(answer);
        }
        Err(self.refusal(head, &body))
    }

    /// Sends a request once; its answer is still to be read, however long it is, once it has begun within `silence`.
    pub(crate) async fn begun(&self, request: RequestBuilder, silence: Duration) -> Result<Response, ClientError> {
        let begun = tokio::time::timeout(silence, request.timeout(NEVER).send()).await;
        let begun = begun.map_err(|_| ClientError::Silent { url: self.url().to_owned() })?;
        let response = begun.map_err(|source| self.transport(source))?;
        let head = Head::of(&response);
        if head.status == STATUS_ALL {
            return Ok(response);
        }
        let body = response.bytes().await.map_err(|source| self.transport(source))?;
        Err(self.refusal(head, &body))
    }

    /// What an answer says that is not the one that was asked for.
    fn refusal(&self, head: Head, body: &[u8]) -> ClientError {
        let Head { status, retry_after, request_id } = head;
        match serde_json::from_slice::<ErrorBody>(body) {
            Ok(ErrorBody { error: code, message, retryable, help, request_id: told }) => {
                let path = help.trim_start_matches('/');
                let help = self.base.join(path).ok().filter(|_| !path.is_empty()).map(String::from);
                let request_id = request_id.unwrap_or(told);
                ClientError::Refused { status, code, message, retryable, retry_after, help, request_id }
            }
            Err(_) => {
                let retryable = passes(status);
                ClientError::NotRunstone { url: self.url().to_owned(), status, retryable, retry_after }
            }
        }
    }

    pub(crate) fn transport(&self, source: reqwest::Error) -> ClientError {
        let url = self.url().to_owned();
        if source.is_connect() { ClientError::Unreachable { url, source } } else { ClientError::Lost { url, source } }
    }
}

/// What stands above an answer.
struct Head {
    status: u16,
    retry_after: Option<Duration>,
    request_id: Option<String>,
}

impl Head {
    fn of(response: &Response) -> Head {
        let header = |name: &str| response.headers().get(name)?.to_str().ok();
        Head {
            status: response.status().as_u16(),
            retry_after: header(RETRY_AFTER.as_str()).and_then(|value| value.parse().ok()).map(Duration::from_secs),
            request_id: header(REQUEST_ID).map(str::to_owned),
        }
    }
}

/// Statuses with which a proxy speaks for a server that it cannot reach now.
fn passes(status: u16) -> bool {
    [
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ]
    .iter()
    .any(|passing| *passing == status)
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("url", &self.url()).field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
