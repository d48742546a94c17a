//! The list of settings: key, kind, range and what each is for. Owns nothing else; everything that has to name settings
//! reads it from here.

use std::path::PathBuf;
use std::time::Duration;

use runstone_record::limits;

use super::text::{parse_bytes, parse_millis, show_bytes, show_millis};
use super::{Config, LogFormat, SyncPolicy};

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its place in the file, with dots between the levels.
    pub key: &'static str,
    /// What it takes, and where it goes.
    pub kind: Kind,
    /// What it is for, for people.
    pub doc: &'static str,
}

/// What a setting takes, and the field of [`Config`] that it goes to.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// `host:port`.
    Address(fn(&mut Config) -> &mut String),
    /// A directory.
    Path(fn(&mut Config) -> &mut PathBuf),
    /// A directory or the URL of an object store's; nothing: the default.
    Location(fn(&mut Config) -> &mut String),
    /// A size in bytes, within a range.
    Bytes(u64, u64, fn(&mut Config) -> &mut u64),
    /// A number, within a range.
    Count(u64, u64, fn(&mut Config) -> &mut u64),
    /// Milliseconds, within a range.
    Millis(u64, u64, fn(&mut Config) -> &mut Duration),
    /// A filter of the log.
    Filter(fn(&mut Config) -> &mut String),
    /// One of a few words: its current one, and how to choose another.
    Word(&'static [&'static str], fn(&Config) -> &'static str, fn(&mut Config, &str)),
    /// Origins of web pages, or `*` alone; in a file a list of them, elsewhere with commas between.
    Origins(fn(&mut Config) -> &mut Vec<String>),
}

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

impl LogFormat {
    fn word(self) -> &'static str {
        match self {
            LogFormat::Auto => "auto",
            LogFormat::Human => "human",
            LogFormat::Json => "json",
        }
    }
}

impl Setting {
    /// The name of its environment variable.
    #[must_use]
    pub fn env(&self) -> String {
        format!("RUNSTONE_{}", self.key.replace('.', "_").to_ascii_uppercase())
    }

    /// Its value in `config`, as it would be written in a file.
    #[must_use]
    pub fn show(&self, config: &Config) -> String {
        let mut config = config.clone();
        match self.kind {
            Kind::Address(at) | Kind::Filter(at) | Kind::Location(at) => at(&mut config).clone(),
            Kind::Path(at) => at(&mut config).display().to_string(),
            Kind::Bytes(_, _, at) => show_bytes(*at(&mut config)),
            Kind::Count(_, _, at) => at(&mut config).to_string(),
            Kind::Millis(_, _, at) => show_millis(*at(&mut config)),
            Kind::Word(_, word, _) => word(&config).to_owned(),
            Kind::Origins(at) => at(&mut config).join(","),
        }
    }

    /// What it takes, for people.
    #[must_use]
    pub fn takes(&self) -> String {
        match self.kind {
            Kind::Address(_) => "`host:port`".to_owned(),
            Kind::Path(_) => "a path".to_owned(),
            Kind::Location(_) => "a path or a URL".to_owned(),
            Kind::Bytes(min, max, _) => format!("a size between {} and {}", show_bytes(min), show_bytes(max)),
            Kind::Count(min, max, _) => format!("a number between {min} and {max}"),
            Kind::Millis(min, max, _) => {
                let [min, max] = [min, max].map(|millis| show_millis(Duration::from_millis(millis)));
                format!("a duration between {min} and {max}")
            }
            Kind::Filter(_) => "a level or directives".to_owned(),
            Kind::Word(words, ..) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or "),
            Kind::Origins(_) => "origins, or `*`".to_owned(),
        }
    }

    /// May a file give a list for it?
    pub(super) fn is_list(&self) -> bool {
        matches!(self.kind, Kind::Origins(_))
    }

    /// Puts `text` into `config`, or says what is wrong with it.
    pub(super) fn set(&self, config: &mut Config, text: &str) -> Result<(), String> {
        match self.kind {
            Kind::Address(at) => *at(config) = address(text)?,
            Kind::Path(at) => *at(config) = path(text)?,
            Kind::Location(at) => *at(config) = location(text)?,
            Kind::Bytes(min, max, at) => *at(config) = within(parse_bytes(text), text, (min, max), show_bytes)?,
            Kind::Count(min, max, at) => {
                *at(config) = within(text.trim().parse().ok(), text, (min, max), |value| value.to_string())?;
            }
            Kind::Millis(min, max, at) => {
                let range = (Duration::from_millis(min), Duration::from_millis(max));
                *at(config) = within(parse_millis(text), text, range, show_millis)?;
            }
            Kind::Filter(at) => {
                crate::telemetry::filter(text).map_err(|error| format!("must be {}: {error}", self.takes()))?;
                text.clone_into(at(config));
            }
            Kind::Word(words, _, choose) => match words.iter().find(|word| **word == text) {
                Some(word) => choose(config, word),
                None => return Err(format!("must be {}, got {text:?}", words.join(" or "))),
            },
            Kind::Origins(at) => *at(config) = origins(text)?,
        }
        Ok(())
    }
}

fn within<T: PartialOrd + Copy>(
    parsed: Option<T>,
    text: &str,
    (min, max): (T, T),
    show: impl Fn(T) -> String,
) -> Result<T, String> {
    match parsed {
        Some(value) if min <= value && value <= max => Ok(value),
        _ => Err(format!("must be between {} and {}, got {text}", show(min), show(max))),
    }
}

fn address(text: &str) -> Result<String, String> {
    let wrong = || format!("must be host:port, such as 127.0.0.1:7867, got {text:?}");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || port.parse::<u16>().is_err() || (host.contains(':') && !bracketed) {
        return Err(wrong());
    }
    Ok(text.to_owned())
}

/// Nothing is no origin: then nobody is let in.
fn origins(text: &str) -> Result<Vec<String>, String> {
    let named: Vec<String> = text.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect();
    if named.len() > 1 && named.iter().any(|one| one == "*") {
        return Err("must be origins, or * alone".to_owned());
    }
    match named.iter().find(|one| *one != "*" && !is_origin(one)) {
        None => Ok(named),
        Some(wrong) => {
            Err(format!("must be an origin such as https://logs.example.com or http://localhost:5173, got {wrong:?}"))
        }
    }
}

/// As a browser writes one: another spelling of the same, or a pattern, would never match.
fn is_origin(text: &str) -> bool {
    !text.contains('*')
        && url::Url::parse(text)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == text)
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text.contains('\0') { Err("must be a path, got none".to_owned()) } else { Ok(text.into()) }
}

fn location(text: &str) -> Result<String, String> {
    if text.contains(|c: char| c.is_control()) {
        return Err("must be a path or a URL".to_owned());
    }
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_within_its_own_range() {
        let defaults = Config::default();
        for setting in SETTINGS {
            let mut config = Config::default();
            setting.set(&mut config, &setting.show(&defaults)).unwrap();
            assert_eq!(config, defaults, "{}", setting.key);
        }
    }

    #[test]
    fn keys_and_environment_names_are_unique() {
        let mut names: Vec<String> = SETTINGS.iter().map(Setting::env).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SETTINGS.len());
    }

    #[test]
    fn each_setting_has_a_field_of_its_own() {
        for (index, setting) in SETTINGS.iter().enumerate() {
            let mut config = Config::default();
            let other = match setting.kind {
                Kind::Address(_) => "localhost:1".to_owned(),
                Kind::Path(_) | Kind::Location(_) => "/elsewhere".to_owned(),
                Kind::Filter(_) => "trace".to_owned(),
                Kind::Origins(_) => "*".to_owned(),
                Kind::Count(min, max, _) if setting.show(&config) == min.to_string() => max.to_string(),
                Kind::Bytes(min, ..) | Kind::Count(min, ..) | Kind::Millis(min, ..) => min.to_string(),
                Kind::Word(words, ..) => words[words.len() - 1].to_owned(),
            };
            setting.set(&mut config, &other).unwrap();
            let changed = |other: &Setting| other.show(&config) != other.show(&Config::default());
            let changed: Vec<_> = SETTINGS.iter().enumerate().filter(|(_, s)| changed(s)).map(|(i, _)| i).collect();
            assert_eq!(changed, [index], "{}", setting.key);
        }
    }

    #[test]
    fn origins_are_as_browsers_send_them() {
        let two = "https://logs.example.com, http://localhost:5173";
        assert_eq!(origins(two).unwrap(), ["https://logs.example.com", "http://localhost:5173"]);
        assert_eq!((origins("*").unwrap(), origins(" ").unwrap()), (vec!["*".to_owned()], vec![]));
        for wrong in [
            "logs.example.com",
            "https://logs.example.com/",
            "https://LOGS.example.com",
            "https://a.example:443",
            "null",
            "file:///",
            "https://a.example/x",
            "*,https://a.example",
            "https://*.example.com",
            "https://u@a.example",
        ] {
            assert!(origins(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_need_a_host_and_a_port() {
        for right in ["127.0.0.1:0", "localhost:7867", "[::1]:80", "0.0.0.0:65535"] {
            assert!(address(right).is_ok(), "{right}");
        }
        for wrong in ["", "7867", ":7867", "localhost", "localhost:70000", "::1:80", "localhost:http"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
