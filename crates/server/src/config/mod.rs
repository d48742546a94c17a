//! What an operator can set: read from defaults, a file, the environment and flags, each over the one before. Owns the
//! settings' names, ranges and origins; refuses to read the environment or the command line itself (`main` passes them).
//!
//! [`settings::SETTINGS`] is the one list; environment names, [`Config::print`] and `docs/configuration.md` come from it.

mod file;
mod layers;
mod list;
mod memory;
mod print;
pub mod settings;
mod sources;
mod tables;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use runstone_record::limits;
use runstone_sinks::cloudwatch::StreamPattern;

use crate::database::Access;
use crate::http::Answers;

pub use layers::{ConfigErrors, Flag, Mistake, Origin, Sources, load};
pub use print::reference;
pub use tables::{TableSettings, TablesSettings};

use crate::sources::SourceSystems;

/// Every setting, resolved and valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The address that the API is served on.
    pub listen: String,
    /// The directory that everything is kept in.
    pub data: PathBuf,
    /// The journal.
    pub journal: JournalSettings,
    /// The lake.
    pub lake: LakeSettings,
    /// Recent records.
    pub recent: RecentSettings,
    /// Remembered ids.
    pub ids: IdsSettings,
    /// Connections and request bodies.
    pub http: HttpSettings,
    /// SQL.
    pub query: QuerySettings,
    /// The PostgreSQL table that records go to, too.
    pub postgres: PostgresSettings,
    /// The DynamoDB table that records of runs go to, too.
    pub dynamodb: DynamoSettings,
    /// The log group that records go to, too.
    pub cloudwatch: CloudwatchSettings,
    /// The database that the gateway's callers ask about.
    pub gateway: GatewaySettings,
    /// Tables beside `logs` and `runs`.
    pub tables: TablesSettings,
    /// The server's own log.
    pub log: LogSettings,
    /// What is known of source systems.
    pub sources: SourceSystems,
    /// Where each setting that is not the default came from.
    origins: BTreeMap<&'static str, Origin>,
}

/// The journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalSettings {
    /// Bytes of a segment file.
    pub segment_bytes: u64,
    /// When the disk is asked to make writes durable.
    pub sync: SyncPolicy,
    /// Bytes of payload that may wait for the writer.
    pub queue_bytes_max: u64,
    /// Bytes beyond which nothing is taken.
    pub bytes_max: u64,
    /// Bytes that are kept although the lake has them.
    pub keep_bytes: u64,
    /// How long a file is kept although the lake has it.
    pub keep: Duration,
}

/// The lake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LakeSettings {
    /// The table: a directory or a URL; empty: `lake` in the data directory.
    pub location: String,
    /// After which a record is in the lake.
    pub flush_interval: Duration,
    /// Bytes of payload that are brought there at once.
    pub flush_bytes: u64,
    /// Days that a record is kept; 0: for ever.
    pub retention_days: u64,
    /// How long a file stays after it has left the table.
    pub vacuum_grace: Duration,
    /// Bytes of a file that compaction aims at.
    pub file_bytes: u64,
    /// Bytes of the records in a row group, in memory.
    pub group_bytes: u64,
    /// Between looks at what the lake needs.
    pub upkeep_interval: Duration,
    /// For one request to storage over the network.
    pub request_timeout: Duration,
    /// From a request's first try to its last.
    pub retry_timeout: Duration,
}

/// When the disk is asked to make writes durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Before every acknowledgement.
    EveryGroup,
    /// When the operating system likes: a crash of the machine can lose acknowledged records.
    Never,
}

/// Recent records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentSettings {
    /// Bytes held in memory.
    pub bytes_max: u64,
}

/// Remembered ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdsSettings {
    /// Bytes of remembered record ids and idempotency keys.
    pub bytes_max: u64,
}

/// Connections and request bodies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    /// Bytes of a body as it travels.
    pub body_bytes_max: u64,
    /// Bytes of a body after decompression.
    pub decoded_bytes_max: u64,
    /// Bytes of bodies held at once.
    pub in_flight_bytes_max: u64,
    /// Bytes of answers that clients have not read yet.
    pub answers_bytes_max: u64,
    /// Open connections.
    pub connections_max: u64,
    /// For a request's headers to arrive.
    pub header_timeout: Duration,
    /// For a whole body to arrive.
    pub body_timeout: Duration,
    /// For the next 16 KiB of a body to arrive.
    pub body_progress_timeout: Duration,
    /// Between requests on one connection.
    pub idle_timeout: Duration,
    /// For requests in hand to be answered once stopping.
    pub stop_timeout: Duration,
    /// Origins whose pages may use the API, or `*`.
    pub cors_origins: Vec<String>,
}

/// SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuerySettings {
    /// For one query.
    pub timeout: Duration,
    /// Bytes that all running queries share.
    pub memory_bytes_max: u64,
    /// Rows of an answer.
    pub rows_max: u64,
    /// Queries running at once.
    pub concurrency_max: u64,
}

/// DynamoDB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamoSettings {
    /// The table; empty: records do not go there.
    pub table: String,
    /// Whether it is made.
    pub create: CreatePolicy,
    /// Where DynamoDB is, as a URL; empty: where the region says.
    pub endpoint: String,
    /// The table's partition key.
    pub key: String,
    /// Bytes of an item beyond which a log goes on in another.
    pub item_bytes_max: u64,
    /// Bytes of an entry beyond which it is stored compressed.
    pub entry_bytes_max: u64,
    /// Days after its last entry that an item is deleted; 0: never.
    pub ttl_days: u64,
    /// The attribute in which DynamoDB finds that time.
    pub ttl_attribute: String,
}

/// CloudWatch Logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudwatchSettings {
    /// The log group; empty: records do not go there.
    pub group: String,
    /// Whether it is made.
    pub create: CreatePolicy,
    /// Where CloudWatch Logs is, as a URL; empty: where the region says.
    pub endpoint: String,
    /// What a group gets that was never fed from this data directory.
    pub begin: BeginPolicy,
    /// In which stream a record's event is.
    pub stream: String,
    /// Days that the group keeps events; 0: what the group says.
    pub retention_days: u64,
}

/// What a target gets that was never fed from a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeginPolicy {
    /// All that there is.
    Oldest,
    /// What comes from now on.
    Now,
}

/// Whether what is missing in a target is made there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreatePolicy {
    /// Somebody else makes it.
    Never,
    /// It is.
    IfMissing,
}

/// PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresSettings {
    /// Where it is, with user and password; empty: records do not go there.
    pub url: String,
    /// What the names of its tables begin with.
    pub table_prefix: String,
    /// Days that a record stays there, from when it happened; 0: for ever.
    pub retention_days: u64,
}

/// The database that the gateway's callers ask about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewaySettings {
    /// Where it is, with user and password; empty: there is none.
    pub database_url: String,
    /// Which statements callers may run there.
    pub execute: Execute,
    /// For one request.
    pub timeout: Duration,
    /// Rows of a statement's answer.
    pub rows_max: u64,
}

/// Which statements the gateway's callers may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Execute {
    /// None.
    Off,
    /// Such as change nothing.
    ReadOnly,
    /// Others too.
    ReadWrite,
}

impl Execute {
    /// What a statement may do; `None`: none may run.
    #[must_use]
    pub(crate) fn access(self) -> Option<Access> {
        match self {
            Execute::Off => None,
            Execute::ReadOnly => Some(Access::ReadOnly),
            Execute::ReadWrite => Some(Access::ReadWrite),
        }
    }
}

/// The server's own log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// What is logged, as [`crate::telemetry::filter`] reads it.
    pub level: String,
    /// How it looks.
    pub format: LogFormat,
}

/// How the server's own log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `Human` on a terminal, else `Json`.
    Auto,
    /// Lines for people.
    Human,
    /// One JSON object a line.
    Json,
}

impl Default for DynamoSettings {
    fn default() -> Self {
        Self {
            table: String::new(),
            create: CreatePolicy::Never,
            endpoint: String::new(),
            key: "run_id".to_owned(),
            item_bytes_max: limits::DYNAMO_ITEM_BYTES_MAX as u64,
            entry_bytes_max: limits::DYNAMO_ENTRY_BYTES_MAX as u64,
            ttl_days: 0,
            ttl_attribute: "expires_at".to_owned(),
        }
    }
}

impl Default for CloudwatchSettings {
    fn default() -> Self {
        Self {
            group: String::new(),
            create: CreatePolicy::Never,
            endpoint: String::new(),
            begin: BeginPolicy::Now,
            stream: StreamPattern::default().to_string(),
            retention_days: 0,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7867".to_owned(),
            data: PathBuf::from("./data"),
            journal: JournalSettings {
                segment_bytes: limits::JOURNAL_SEGMENT_BYTES,
                sync: SyncPolicy::EveryGroup,
                queue_bytes_max: limits::JOURNAL_QUEUE_BYTES_MAX as u64,
                bytes_max: limits::JOURNAL_BYTES_MAX,
                keep_bytes: limits::JOURNAL_KEEP_BYTES,
                keep: Duration::from_millis(limits::JOURNAL_KEEP_MS),
            },
            lake: LakeSettings {
                location: String::new(),
                flush_interval: Duration::from_millis(limits::LAKE_FLUSH_INTERVAL_MS),
                flush_bytes: limits::LAKE_FLUSH_BYTES,
                retention_days: 0,
                vacuum_grace: Duration::from_millis(limits::LAKE_VACUUM_GRACE_MS),
                file_bytes: limits::LAKE_FILE_BYTES,
                group_bytes: limits::LAKE_GROUP_BYTES as u64,
                upkeep_interval: Duration::from_millis(limits::LAKE_UPKEEP_INTERVAL_MS),
                request_timeout: Duration::from_millis(limits::LAKE_REQUEST_TIMEOUT_MS),
                retry_timeout: Duration::from_millis(limits::LAKE_RETRY_TIMEOUT_MS),
            },
            recent: RecentSettings { bytes_max: limits::RECENT_BYTES_MAX as u64 },
            ids: IdsSettings { bytes_max: limits::IDS_BYTES_MAX as u64 },
            http: HttpSettings {
                body_bytes_max: limits::BODY_WIRE_BYTES_MAX as u64,
                decoded_bytes_max: limits::BODY_DECODED_BYTES_MAX as u64,
                in_flight_bytes_max: limits::IN_FLIGHT_BYTES_MAX as u64,
                answers_bytes_max: limits::ANSWERS_BYTES_MAX as u64,
                connections_max: limits::CONNECTIONS_MAX as u64,
                header_timeout: Duration::from_millis(limits::HEADER_TIMEOUT_MS),
                body_timeout: Duration::from_millis(limits::BODY_TIMEOUT_MS),
                body_progress_timeout: Duration::from_millis(limits::BODY_TIMEOUT_MS / 3),
                idle_timeout: Duration::from_millis(limits::IDLE_TIMEOUT_MS),
                stop_timeout: Duration::from_millis(limits::STOP_TIMEOUT_MS / 2),
                cors_origins: Vec::new(),
            },
            query: QuerySettings {
                timeout: Duration::from_millis(limits::QUERY_TIMEOUT_MS),
                memory_bytes_max: limits::QUERY_MEMORY_BYTES_MAX as u64,
                rows_max: limits::QUERY_ROWS_MAX as u64,
                concurrency_max: limits::QUERIES_RUNNING_MAX as u64,
            },
            dynamodb: DynamoSettings::default(),
            cloudwatch: CloudwatchSettings::default(),
            postgres: PostgresSettings { url: String::new(), table_prefix: "runstone".to_owned(), retention_days: 0 },
            gateway: GatewaySettings {
                database_url: String::new(),
                execute: Execute::Off,
                timeout: Duration::from_millis(limits::GATEWAY_TIMEOUT_MS),
                rows_max: limits::GATEWAY_ROWS_MAX,
            },
            tables: TablesSettings::new(),
            log: LogSettings { level: "info".to_owned(), format: LogFormat::Auto },
            sources: SourceSystems::default(),
            origins: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Where a setting's value came from; unknown keys come from nowhere but the defaults.
    #[must_use]
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }

    /// Where the lake's table is.
    #[must_use]
    pub fn lake_location(&self) -> String {
        match self.lake.location.as_str() {
            "" => self.data.join("lake").to_string_lossy().into_owned(),
            location => location.to_owned(),
        }
    }

    /// Is the lake a directory of this machine?
    #[must_use]
    pub fn lake_is_local(&self) -> bool {
        let location = self.lake_location();
        !location.contains("://") || location.starts_with("file://")
    }

    /// The limits of a connection.
    #[must_use]
    pub fn serve_options(&self, answers: Answers) -> crate::http::ServeOptions {
        crate::http::ServeOptions {
            header_timeout: self.http.header_timeout,
            idle_timeout: self.http.idle_timeout,
            connections_max: as_usize(self.http.connections_max),
            stop_timeout: self.http.stop_timeout,
            answers,
        }
    }

    /// The limits of a body.
    #[must_use]
    pub fn body_limits(&self) -> crate::http::BodyLimits {
        crate::http::BodyLimits {
            wire_bytes_max: as_usize(self.http.body_bytes_max),
            decoded_bytes_max: as_usize(self.http.decoded_bytes_max),
            timeout: self.http.body_timeout,
            progress_timeout: self.http.body_progress_timeout,
        }
    }
}

pub(crate) fn as_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
