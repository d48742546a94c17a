//! CloudWatch Logs: each record an event, in streams that people find in its console.
//!
//! Owns the two log groups, what an event looks like, which calls bring them there, and that none is there twice as far as
//! CloudWatch lets anybody know. Refuses to read a clock: it comes in; and to say which events are too old: CloudWatch does.
//!
//! Events are in the group that is set, and expire with its retention. Cursors and dead letters are in a group of their own
//! beside it, `GROUP/state`, which never forgets: with the events' retention a server that was quiet for so long would begin
//! anew. The guide is `docs/cloudwatch.md`.

mod batch;
mod cursor;
mod deliver;
mod error;
mod event;
mod groups;
mod letters;
mod look;
mod pattern;
mod put;

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_cloudwatchlogs::Client;
use runstone_record::limits::{
    CLOUDWATCH_ATTEMPT_TIMEOUT_MS, CLOUDWATCH_ATTEMPTS_MAX, CLOUDWATCH_BACKOFF_MS, CLOUDWATCH_CONNECT_TIMEOUT_MS,
    CLOUDWATCH_EVENT_BYTES_MAX, CLOUDWATCH_EVENT_BYTES_MIN, CLOUDWATCH_REQUEST_TIMEOUT_MS, CLOUDWATCH_SETTLE_MS,
};
use tokio::time::Instant;

pub use crate::aws::Remedy;
pub use error::CloudwatchError;
pub use groups::{RetentionError, check_retention};
pub use pattern::{PatternError, StreamPattern};

/// Tells the time of day: microseconds since 1970.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Where events go, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The name of the log group. That of the cursors and dead letters is this and `/state`.
    pub group: String,
    /// Where CloudWatch Logs is, if not where the region says.
    pub endpoint: Option<String>,
    /// Days that a group that is made keeps events: a number that [`check_retention`] takes. None: for ever.
    pub retention_days: Option<u32>,
    /// In which stream a record's event is.
    pub stream: StreamPattern,
    /// Bytes of an event beyond which the long texts of its record are cut. Values between [`CLOUDWATCH_EVENT_BYTES_MIN`] and
    /// [`CLOUDWATCH_EVENT_BYTES_MAX`]; others count as the nearest.
    pub event_bytes_max: usize,
    /// Milliseconds after which events that cannot be seen are not there, where nobody knows whether they came.
    pub settle_ms: u64,
    /// Makes the sink the log groups where there are none?
    pub create: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            group: "/runstone/logs".to_owned(),
            endpoint: None,
            retention_days: None,
            stream: StreamPattern::default(),
            event_bytes_max: CLOUDWATCH_EVENT_BYTES_MAX,
            settle_ms: CLOUDWATCH_SETTLE_MS,
            create: false,
        }
    }
}

/// Records as events of CloudWatch Logs.
pub struct Cloudwatch {
    client: Client,
    options: Options,
    clock: Clock,
    /// When something may have been sent last that nobody knows the end of: by a process before it, at its start.
    unsure_since: Arc<Mutex<Instant>>,
    /// What it knows of a source, once a delivery of it has succeeded, until the next one begins.
    known: HashMap<String, cursor::State>,
    /// Were the groups there, or made?
    made: bool,
    /// Was the group with events made here, and not told yet how long to keep them?
    owes_retention: AtomicBool,
}

/// The sink's name.
const NAME: &str = "cloudwatch";

impl std::fmt::Debug for Cloudwatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cloudwatch").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Cloudwatch {
    /// With what the environment, the profile or the machine says about region and credentials. Asks CloudWatch nothing.
    pub async fn connect(options: Options, clock: Clock) -> Self {
        Self::with(&aws_config::defaults(BehaviorVersion::latest()).load().await, options, clock)
    }

    /// With what somebody else found out about region and credentials. Needs a runtime of Tokio with time.
    #[must_use]
    pub fn with(shared: &SdkConfig, mut options: Options, clock: Clock) -> Self {
        let mut config = aws_sdk_cloudwatchlogs::config::Builder::from(shared);
        if options.endpoint.is_some() {
            config.set_endpoint_url(options.endpoint.clone());
        }
        let config = config.retry_config(retries()).timeout_config(timeouts()).build();
        options.event_bytes_max = options.event_bytes_max.clamp(CLOUDWATCH_EVENT_BYTES_MIN, CLOUDWATCH_EVENT_BYTES_MAX);
        Self {
            client: Client::from_conf(config),
            options,
            clock,
            unsure_since: Arc::new(Mutex::new(Instant::now())),
            known: HashMap::new(),
            made: false,
            owes_retention: AtomicBool::new(false),
        }
    }

    /// The settings.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The name of the log group of cursors and dead letters.
    #[must_use]
    pub fn state_group(&self) -> String {
        format!("{}/state", self.options.group)
    }

    fn now_ms(&self) -> i64 {
        (self.clock)().div_euclid(1_000)
    }

    fn settle(&self) -> Duration {
        Duration::from_millis(self.options.settle_ms)
    }
}

/// The client repeats what may pass, but for the calls that bring records: what such a call did is to be looked up first.
fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(CLOUDWATCH_ATTEMPTS_MAX)
        .with_initial_backoff(Duration::from_millis(CLOUDWATCH_BACKOFF_MS.0))
        .with_max_backoff(Duration::from_millis(CLOUDWATCH_BACKOFF_MS.1))
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_millis(CLOUDWATCH_CONNECT_TIMEOUT_MS))
        .operation_attempt_timeout(Duration::from_millis(CLOUDWATCH_ATTEMPT_TIMEOUT_MS))
        .operation_timeout(Duration::from_millis(CLOUDWATCH_REQUEST_TIMEOUT_MS))
        .build()
}
