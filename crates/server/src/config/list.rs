//! The list of settings: key, kind, range and what each is for. Owns nothing else; everything that has to name settings
//! reads it from here.

use runstone_record::limits;

use super::settings::{Kind, Setting};
use super::{BeginPolicy, CreatePolicy, Execute, LogFormat, SyncPolicy};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;
const DAY: u64 = 24 * HOUR;

/// Every setting, in the order of the documentation.
pub const SETTINGS: &[Setting] = &[
    Setting {
        key: "listen",
        kind: Kind::Address(|c| &mut c.listen),
        doc: "The address that the API and the dashboard are served on. Port 0 picks a free one.",
    },
    Setting {
        key: "data",
        kind: Kind::Path(|c| &mut c.data),
        doc: "The directory that everything is kept in; made when missing. One process at a time may use it.",
    },
    Setting {
        key: "journal.segment_bytes",
        kind: Kind::Bytes(MIB, 4 * GIB, |c| &mut c.journal.segment_bytes),
        doc: "The size of one journal file. The journal is trimmed by whole files.",
    },
    Setting {
        key: "journal.sync",
        kind: Kind::Word(
            &["every_group", "never"],
            |c| c.journal.sync.word(),
            |c, word| {
                c.journal.sync = if word == "never" { SyncPolicy::Never } else { SyncPolicy::EveryGroup };
            },
        ),
        doc: "When writes are made durable: before every acknowledgement, or when the operating system likes. With \
              `never` a crash of the machine can lose records that were acknowledged.",
    },
    Setting {
        key: "journal.queue_bytes_max",
        kind: Kind::Bytes(MIB, 16 * GIB, |c| &mut c.journal.queue_bytes_max),
        doc: "Payload that may wait for the journal's writer. Beyond it requests are answered 429.",
    },
    Setting {
        key: "journal.bytes_max",
        kind: Kind::Bytes(2 * MIB, 1_024 * 1_024 * GIB, |c| &mut c.journal.bytes_max),
        doc: "How large the journal may grow while the lake takes nothing. Beyond it records are answered 503 \
              `journal_full`; reading goes on. Choose less than the disk has, and at least twice `journal.segment_bytes`.",
    },
    Setting {
        key: "journal.keep_bytes",
        kind: Kind::Bytes(0, 1_024 * 1_024 * GIB, |c| &mut c.journal.keep_bytes),
        doc: "How much of the journal is kept although the lake has it: repeated deliveries are recognised for as long \
              as the journal has their ids, and a start reads it. It is trimmed by whole files, of those that are in \
              the lake, and only where both `journal.keep_bytes` and `journal.keep_ms` allow it; a journal that is \
              three quarters of `journal.bytes_max` large is trimmed all the same.",
    },
    Setting {
        key: "journal.keep_ms",
        kind: Kind::Millis(0, 366 * DAY, |c| &mut c.journal.keep),
        doc: "How long a file of the journal is kept although the lake has it, from its last record on.",
    },
    Setting {
        key: "lake.location",
        kind: Kind::Location(|c| &mut c.lake.location),
        doc: "Where the lake is, a Delta table: a directory, `s3://bucket/prefix` or \
              `abfss://container@account.dfs.core.windows.net/path`, with credentials from the environment (see \
              [The lake's storage](#the-lakes-storage)). Several servers may write to one. Unless it is set: `lake` in \
              the data directory.",
    },
    Setting {
        key: "lake.flush_interval_ms",
        kind: Kind::Millis(SECOND, DAY, |c| &mut c.lake.flush_interval),
        doc: "How long a record may wait before it is in the lake. Queries do not wait for it: they read both.",
    },
    Setting {
        key: "lake.flush_bytes",
        kind: Kind::Bytes(MIB, GIB, |c| &mut c.lake.flush_bytes),
        doc: "How much waits in memory for the lake at most: then it is brought there before its time.",
    },
    Setting {
        key: "lake.retention_days",
        kind: Kind::Count(0, 36_500, |c| &mut c.lake.retention_days),
        doc: "Days that a record stays in the lake, from its arrival; 0 keeps all.",
    },
    Setting {
        key: "lake.vacuum_grace_ms",
        kind: Kind::Millis(SECOND, limits::LAKE_VACUUM_GRACE_MS_MAX, |c| &mut c.lake.vacuum_grace),
        doc: "How long a file stays after it has left the table, for those who still read an older version; longer than \
              `query.timeout_ms`. No more than a week: that is how long the table's log remembers when a file left it.",
    },
    Setting {
        key: "lake.file_bytes",
        kind: Kind::Bytes(MIB, 4 * GIB, |c| &mut c.lake.file_bytes),
        doc: "How large the files are that compaction makes of small ones.",
    },
    Setting {
        key: "lake.group_bytes",
        kind: Kind::Bytes(MIB, GIB, |c| &mut c.lake.group_bytes),
        doc: "How large the records of a row group are in memory, about. Who writes files, merges them or reads whole \
              records has a few of them in memory at a time; of ordinary records a row group has 32,768 and is smaller.",
    },
    Setting {
        key: "lake.upkeep_interval_ms",
        kind: Kind::Millis(SECOND, DAY, |c| &mut c.lake.upkeep_interval),
        doc: "How often the lake is looked after: small files become larger ones, old ones go. SIGUSR1 does it now.",
    },
    Setting {
        key: "lake.request_timeout_ms",
        kind: Kind::Millis(100, HOUR, |c| &mut c.lake.request_timeout),
        doc: "How long one request to S3 or Azure may take. A file goes there in parts of 8 MiB: give a slow line more.",
    },
    Setting {
        key: "lake.retry_timeout_ms",
        kind: Kind::Millis(0, HOUR, |c| &mut c.lake.retry_timeout),
        doc: "How long a request to S3 or Azure that fails is tried again, with growing pauses, before the lake counts \
              as away. Then records wait in the journal, and all of it is tried again later.",
    },
    Setting {
        key: "postgres.url",
        kind: Kind::Secret(|c| &mut c.postgres.url),
        doc: "A PostgreSQL database that every record goes to as well, within a second, in a table that is made there \
              ([PostgreSQL](postgres.md)): `postgres://user:password@host:5432/database?sslmode=require`. While it is away, \
              records wait in the journal and then in the lake.",
    },
    Setting {
        key: "postgres.table_prefix",
        kind: Kind::Prefix(|c| &mut c.postgres.table_prefix),
        doc: "What the names of the tables there begin with: `{prefix}_logs`.",
    },
    Setting {
        key: "postgres.retention_days",
        kind: Kind::Count(0, 36_500, |c| &mut c.postgres.retention_days),
        doc: "Days that a row stays there, from its `timestamp` on, whoever wrote it; 0 keeps all.",
    },
    Setting {
        key: "dynamodb.table",
        kind: Kind::Name(false, |c| &mut c.dynamodb.table),
        doc: "A table of DynamoDB that every record with a run goes to as well, to the log of its run, in the shape that the \
              Logger's readers know ([DynamoDB](dynamodb.md)): `dmdb_logs`. Region and credentials come from the environment, \
              as for any client of AWS. Unless it is set: none.",
    },
    Setting {
        key: "dynamodb.create",
        kind: Kind::Word(
            &["never", "if_missing"],
            |c| c.dynamodb.create.word(),
            |c, word| {
                c.dynamodb.create = if word == "if_missing" { CreatePolicy::IfMissing } else { CreatePolicy::Never };
            },
        ),
        doc: "Whether that table is made where there is none, billed by request, and told its time to live.",
    },
    Setting {
        key: "dynamodb.endpoint",
        kind: Kind::Location(|c| &mut c.dynamodb.endpoint),
        doc: "Where DynamoDB is, as a URL; nothing: where the region says.",
    },
    Setting {
        key: "dynamodb.key",
        kind: Kind::Name(true, |c| &mut c.dynamodb.key),
        doc: "The table's partition key, of type string.",
    },
    Setting {
        key: "dynamodb.item_bytes_max",
        kind: Kind::Bytes(4 * KIB, limits::DYNAMO_ITEM_BYTES_MAX as u64, |c| &mut c.dynamodb.item_bytes_max),
        doc: "The size of an item beyond which a run's log goes on in another. An append costs a write unit for each KiB of \
              the item that it makes longer: less is cheaper, and reading takes more requests.",
    },
    Setting {
        key: "dynamodb.entry_bytes_max",
        kind: Kind::Bytes(KIB, limits::DYNAMO_ITEM_BYTES_MAX as u64, |c| &mut c.dynamodb.entry_bytes_max),
        doc: "The size of an entry beyond which it is stored compressed: its time, type and title can still be read there.",
    },
    Setting {
        key: "dynamodb.ttl_days",
        kind: Kind::Count(0, 36_500, |c| &mut c.dynamodb.ttl_days),
        doc: "Days after its last entry that an item is deleted by DynamoDB; 0 keeps all. Longer than a run lasts.",
    },
    Setting {
        key: "dynamodb.ttl_attribute",
        kind: Kind::Name(true, |c| &mut c.dynamodb.ttl_attribute),
        doc: "The attribute in which DynamoDB finds that time.",
    },
    Setting {
        key: "cloudwatch.group",
        kind: Kind::Name(false, |c| &mut c.cloudwatch.group),
        doc: "A log group of CloudWatch Logs that every record goes to as well, as an event ([CloudWatch](cloudwatch.md)): \
              `/runstone/logs`. Unless it is set: none.",
    },
    Setting {
        key: "cloudwatch.create",
        kind: Kind::Word(
            &["never", "if_missing"],
            |c| c.cloudwatch.create.word(),
            |c, word| {
                c.cloudwatch.create = if word == "if_missing" { CreatePolicy::IfMissing } else { CreatePolicy::Never };
            },
        ),
        doc: "Whether that group and the one of the cursors beside it are made where there are none.",
    },
    Setting {
        key: "cloudwatch.endpoint",
        kind: Kind::Location(|c| &mut c.cloudwatch.endpoint),
        doc: "Where CloudWatch Logs is, as a URL; nothing: where the region says.",
    },
    Setting {
        key: "cloudwatch.begin",
        kind: Kind::Word(
            &["now", "oldest"],
            |c| c.cloudwatch.begin.word(),
            |c, word| c.cloudwatch.begin = if word == "oldest" { BeginPolicy::Oldest } else { BeginPolicy::Now },
        ),
        doc: "What a group gets that never had anything of this data directory: what comes from the moment on that it is first reached, or \
              all that there is, of which it takes nothing that is older than 14 days.",
    },
    Setting {
        key: "cloudwatch.stream",
        kind: Kind::Stream(|c| &mut c.cloudwatch.stream),
        doc: "In which stream of the group a record's event is. `{source_system}`, `{stage}`, `{run_id}` and `{date}`, its day of \
              arrival, stand for what the record has.",
    },
    Setting {
        key: "cloudwatch.retention_days",
        kind: Kind::Count(0, 3_653, |c| &mut c.cloudwatch.retention_days),
        doc: "Days that a group that was made here keeps events: 1, 3, 5, 7, 14, 30, 60, 90 or what else CloudWatch knows; 0: what \
              the group says.",
    },
    Setting {
        key: "gateway.database_url",
        kind: Kind::Secret(|c| &mut c.gateway.database_url),
        doc: "The PostgreSQL database that [the gateway's](gateway.md) callers ask about, with their pipelines' tables: \
              `postgres://user:password@host:5432/database?sslmode=require`. It is none unless set, whatever `postgres.url` \
              says: where logs are kept is another question. Give it a role that may read those tables and nothing else.",
    },
    Setting {
        key: "gateway.execute",
        kind: Kind::Word(
            &["off", "read-only", "read-write"],
            |c| c.gateway.execute.word(),
            |c, word| {
                c.gateway.execute = match word {
                    "read-only" => Execute::ReadOnly,
                    "read-write" => Execute::ReadWrite,
                    _ => Execute::Off,
                };
            },
        ),
        doc: "Which statements callers may run there (`POST /execute/query`): none, such as change nothing, or others too. \
              Each is written to the log with who ran it.",
    },
    Setting {
        key: "gateway.timeout_ms",
        kind: Kind::Millis(10, HOUR, |c| &mut c.gateway.timeout),
        doc: "How long a request may take there. Beyond it: 408, and it is stopped.",
    },
    Setting {
        key: "gateway.rows_max",
        kind: Kind::Count(1, 1_000_000, |c| &mut c.gateway.rows_max),
        doc: "Rows of a statement's answer. It ends behind them, and says so.",
    },
    Setting {
        key: "recent.bytes_max",
        kind: Kind::Bytes(MIB, 1_024 * GIB, |c| &mut c.recent.bytes_max),
        doc: "Memory for recent records. Older ones are read from disk.",
    },
    Setting {
        key: "ids.bytes_max",
        kind: Kind::Bytes(MIB, 1_024 * GIB, |c| &mut c.ids.bytes_max),
        doc: "Memory for the record ids and idempotency keys that repeats are recognised by.",
    },
    Setting {
        key: "http.body_bytes_max",
        kind: Kind::Bytes(KIB, GIB, |c| &mut c.http.body_bytes_max),
        doc: "The largest request body as it travels. Beyond it: 413.",
    },
    Setting {
        key: "http.decoded_bytes_max",
        kind: Kind::Bytes(KIB, 4 * GIB, |c| &mut c.http.decoded_bytes_max),
        doc: "The largest request body after decompression. Beyond it: 413.",
    },
    Setting {
        key: "http.in_flight_bytes_max",
        kind: Kind::Bytes(MIB, 1_024 * GIB, |c| &mut c.http.in_flight_bytes_max),
        doc: "Memory for the request bodies that are held at once, from their first byte until they are durable. \
              Beyond it: 429.",
    },
    Setting {
        key: "http.answers_bytes_max",
        kind: Kind::Bytes(MIB, 1_024 * GIB, |c| &mut c.http.answers_bytes_max),
        doc: "Memory for answers that their clients have not read yet. Beyond it: 429, and the connections of those that \
              take nothing are closed.",
    },
    Setting {
        key: "http.connections_max",
        kind: Kind::Count(1, 1_000_000, |c| &mut c.http.connections_max),
        doc: "Open connections. When there are more, the one that has waited longest for its client is closed; while \
              all are at work, new ones are answered 503. Each needs an open file (`ulimit -n`).",
    },
    Setting {
        key: "http.header_timeout_ms",
        kind: Kind::Millis(10, HOUR, |c| &mut c.http.header_timeout),
        doc: "How long a request's headers may take to arrive.",
    },
    Setting {
        key: "http.body_timeout_ms",
        kind: Kind::Millis(10, HOUR, |c| &mut c.http.body_timeout),
        doc: "How long a request's body may take to arrive. Beyond it: 408.",
    },
    Setting {
        key: "http.body_progress_timeout_ms",
        kind: Kind::Millis(10, HOUR, |c| &mut c.http.body_progress_timeout),
        doc: "How long each 16 KiB of a request's body, or its end, may take to arrive. Beyond it: 408.",
    },
    Setting {
        key: "http.idle_timeout_ms",
        kind: Kind::Millis(10, 24 * HOUR, |c| &mut c.http.idle_timeout),
        doc: "How long a connection may stay open between requests, or its client may not take an answer.",
    },
    Setting {
        key: "http.stop_timeout_ms",
        kind: Kind::Millis(0, HOUR, |c| &mut c.http.stop_timeout),
        doc: "How long a stopping server waits for the requests in hand.",
    },
    Setting {
        key: "http.cors_origins",
        kind: Kind::Origins(|c| &mut c.http.cors_origins),
        doc: "Origins of web pages that may use the API from a browser (CORS), such as `https://logs.example.com`, exactly \
              as the browser sends them: scheme, host and a port that is not the scheme's own. `*`: every page that can \
              reach the server, which in this version means that it can read everything. Not set: none.",
    },
    Setting {
        key: "query.timeout_ms",
        kind: Kind::Millis(10, 24 * HOUR, |c| &mut c.query.timeout),
        doc: "How long a query may run, and a streamed answer may take to its first row and from piece to piece. \
              Beyond it: 408.",
    },
    Setting {
        key: "query.memory_bytes_max",
        kind: Kind::Bytes(MIB, 1_024 * GIB, |c| &mut c.query.memory_bytes_max),
        doc: "Memory that all running queries share.",
    },
    Setting {
        key: "query.rows_max",
        kind: Kind::Count(1, 10_000_000, |c| &mut c.query.rows_max),
        doc: "Rows of a query's answer in JSON. More are an error, unless the query asks for its beginning (`max_rows`).",
    },
    Setting {
        key: "query.concurrency_max",
        kind: Kind::Count(1, 1_024, |c| &mut c.query.concurrency_max),
        doc: "Queries that run at once. More wait for their turn.",
    },
    Setting {
        key: "log.level",
        kind: Kind::Filter(|c| &mut c.log.level),
        doc: "What the server logs about itself: a level (`error`, `warn`, `info`, `debug`, `trace`, `off`) or \
              directives such as `info,runstone_server::http=debug`. `RUNSTONE_LOG` is another name for it.",
    },
    Setting {
        key: "log.format",
        kind: Kind::Word(
            &["auto", "human", "json"],
            |c| c.log.format.word(),
            |c, word| {
                c.log.format = match word {
                    "human" => LogFormat::Human,
                    "json" => LogFormat::Json,
                    _ => LogFormat::Auto,
                };
            },
        ),
        doc: "How the server's own log looks. `auto`: for people on a terminal, JSON elsewhere.",
    },
];

impl SyncPolicy {
    fn word(self) -> &'static str {
        match self {
            SyncPolicy::EveryGroup => "every_group",
            SyncPolicy::Never => "never",
        }
    }
}

impl Execute {
    fn word(self) -> &'static str {
        match self {
            Execute::Off => "off",
            Execute::ReadOnly => "read-only",
            Execute::ReadWrite => "read-write",
        }
    }
}

impl LogFormat {
    fn word(self) -> &'static str {
        match self {
            LogFormat::Auto => "auto",
            LogFormat::Human => "human",
            LogFormat::Json => "json",
        }
    }
}

impl CreatePolicy {
    fn word(self) -> &'static str {
        match self {
            CreatePolicy::Never => "never",
            CreatePolicy::IfMissing => "if_missing",
        }
    }
}

impl BeginPolicy {
    fn word(self) -> &'static str {
        match self {
            BeginPolicy::Now => "now",
            BeginPolicy::Oldest => "oldest",
        }
    }
}
