//! DynamoDB: the log of a run as one list of entries, in the shape that the Logger's readers know.
//!
//! Owns the table, the shape of its items, and appends that happen once: an append is one atomic update under a condition
//! that fails where the entry is there already. Refuses to read a clock and to mint ids: both come in as values.
//!
//! A run's log begins in the item of the run's id. Near its limit that item is closed and the log goes on in `RUN#2`,
//! `RUN#3`, …: no run has such an id.

mod append;
mod cursor;
mod deliver;
mod entry;
mod error;
mod item;
mod letters;
mod names;
mod number;
mod place;
mod read;
mod runs;
mod table;
mod value;
mod word;

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_dynamodb::Client;
use runstone_record::limits::{
    DYNAMO_ATTEMPT_TIMEOUT_MS, DYNAMO_ATTEMPTS_MAX, DYNAMO_BACKOFF_MS, DYNAMO_CONNECT_TIMEOUT_MS,
    DYNAMO_ENTRY_BYTES_MAX, DYNAMO_ITEM_BYTES_MAX, DYNAMO_PARTS_REMEMBERED_MAX, DYNAMO_REQUEST_TIMEOUT_MS,
};

pub use crate::aws::Remedy;
pub use append::{Appended, PositionedEntry};
pub use error::DynamoError;
pub use names::{NameError, check_names};
pub use read::{LogPart, RunLog};

/// Where logs are kept, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The table's name.
    pub table: String,
    /// Its partition key, of type string: a name that [`check_names`] takes.
    pub key: String,
    /// Where DynamoDB is, if not where the region says.
    pub endpoint: Option<String>,
    /// Bytes of an item beyond which a log goes on in another; lower costs fewer write units an append.
    pub item_bytes_max: usize,
    /// Bytes of an entry beyond which it is stored compressed.
    pub entry_bytes_max: usize,
    /// When items are deleted, if ever.
    pub ttl: Option<Ttl>,
    /// Makes the sink the table where there is none?
    pub create: bool,
}

/// When items are deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ttl {
    /// The attribute in which DynamoDB finds the time: a name that [`check_names`] takes.
    pub attribute: String,
    /// Days after an item's last entry.
    pub days: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            table: "dmdb_logs".to_owned(),
            key: "run_id".to_owned(),
            endpoint: None,
            item_bytes_max: DYNAMO_ITEM_BYTES_MAX,
            entry_bytes_max: DYNAMO_ENTRY_BYTES_MAX,
            ttl: None,
            create: false,
        }
    }
}

/// The sink's name.
const NAME: &str = "dynamodb";

/// The table of logs.
#[derive(Debug)]
pub struct Dynamo {
    client: Client,
    options: Options,
    /// In which item a log goes on, where that is not the first.
    parts: Mutex<HashMap<String, u32>>,
    /// Was the table there, or made?
    made: AtomicBool,
}

impl Dynamo {
    /// With what the environment, the profile or the machine says about region and credentials. Asks DynamoDB nothing.
    pub async fn connect(options: Options) -> Self {
        Self::with(&aws_config::defaults(BehaviorVersion::latest()).load().await, options)
    }

    /// With what somebody else found out about region and credentials.
    #[must_use]
    pub fn with(shared: &SdkConfig, options: Options) -> Self {
        let mut config = aws_sdk_dynamodb::config::Builder::from(shared);
        if options.endpoint.is_some() {
            config.set_endpoint_url(options.endpoint.clone());
        }
        let config = config.retry_config(retries()).timeout_config(timeouts()).build();
        Self { client: Client::from_conf(config), options, parts: Mutex::default(), made: AtomicBool::new(false) }
    }

    /// The settings.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    fn part(&self, run_id: &str) -> u32 {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).get(run_id).copied().unwrap_or(1)
    }

    fn remember(&self, run_id: &str, part: u32) {
        if part == 1 {
            return;
        }
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        // What is forgotten is found again: an item says that it was closed.
        if parts.len() >= DYNAMO_PARTS_REMEMBERED_MAX && !parts.contains_key(run_id) {
            parts.clear();
        }
        parts.insert(run_id.to_owned(), part);
    }

    fn forget(&self, run_id: &str) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).remove(run_id);
    }
}

/// The client repeats what throttling, a server's failure, a time-out or a lost connection stopped, and nothing else, after
/// pauses of random length. An append that was done and not answered is recognised by its condition.
fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(DYNAMO_ATTEMPTS_MAX)
        .with_initial_backoff(Duration::from_millis(DYNAMO_BACKOFF_MS.0))
        .with_max_backoff(Duration::from_millis(DYNAMO_BACKOFF_MS.1))
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_millis(DYNAMO_CONNECT_TIMEOUT_MS))
        .operation_attempt_timeout(Duration::from_millis(DYNAMO_ATTEMPT_TIMEOUT_MS))
        .operation_timeout(Duration::from_millis(DYNAMO_REQUEST_TIMEOUT_MS))
        .build()
}
