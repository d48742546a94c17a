//! Defaults, file, environment and flags, each over the one before. Owns the finding of every mistake at once and the
//! naming of where each stands; refuses to stop at the first.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::file::Value;
use super::settings::{SETTINGS, Setting};
use super::text::{show_bytes, show_millis};
use super::{Config, file, memory, sources, tables};

/// Variables with our prefix that are not settings of the server.
const ENV_OF_OTHERS: [&str; 3] = ["RUNSTONE_CONFIG", "RUNSTONE_PAGER", "RUNSTONE_URL"];
/// Another name for a setting's variable.
const ENV_ALIASES: [(&str, &str); 1] = [("RUNSTONE_LOG", "log.level")];
/// How alike (0 to 1) a name must be to be suggested.
const SUGGESTION_LIKENESS_MIN: f64 = 0.7;

/// Where a setting's value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// Nobody set it, and there are only so many bytes of memory.
    Memory(u64),
    /// The file, at a line; at none where it is the file itself.
    File(PathBuf, Option<u64>),
    /// An environment variable.
    Env(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl Origin {
    /// Did nobody set it?
    #[must_use]
    pub fn is_default(&self) -> bool {
        matches!(self, Origin::Default | Origin::Memory(_))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::Memory(bytes) => write!(f, "default for {} of memory", show_bytes(*bytes)),
            Origin::File(path, Some(line)) => write!(f, "{}:{line}", path.display()),
            Origin::File(path, None) => path.display().fmt(f),
            Origin::Env(name) => f.write_str(name),
            Origin::Flag(flag) => f.write_str(flag),
        }
    }
}

/// A setting given on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// As typed, with its dashes: `--listen`.
    pub flag: &'static str,
    /// The setting's key.
    pub key: &'static str,
    /// The value.
    pub value: String,
}

/// What settings are read from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file, where one is named: by `--config`, or `RUNSTONE_CONFIG`.
    pub file: Option<PathBuf>,
    /// The whole environment; what does not start with `RUNSTONE_` is passed over.
    pub env: Vec<(OsString, OsString)>,
    /// What the command line sets.
    pub flags: Vec<Flag>,
    /// Bytes of memory that the server may use; `None`: enough.
    pub memory: Option<u64>,
}

/// One thing that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where it stands.
    pub origin: Origin,
    /// The key, where the origin does not say it.
    pub key: Option<String>,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Everything that is wrong with the settings, one line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigErrors(pub Vec<Mistake>);

/// Reads and checks all settings.
///
/// # Errors
/// All mistakes of all sources.
pub fn load(sources: &Sources) -> Result<Config, ConfigErrors> {
    let mut loading = Loading::default();
    if let Some(bytes) = sources.memory {
        memory::fit(&mut loading.config, bytes);
    }
    if let Some(path) = &sources.file {
        loading.file(path);
    }
    loading.env(&sources.env);
    for flag in &sources.flags {
        loading.set(flag.key, &flag.value, Origin::Flag(flag.flag));
    }
    loading.check_together();
    if loading.mistakes.is_empty() { Ok(loading.config) } else { Err(ConfigErrors(loading.mistakes)) }
}

#[derive(Default)]
struct Loading {
    config: Config,
    mistakes: Vec<Mistake>,
}

impl Loading {
    fn file(&mut self, path: &Path) {
        let at = |line| Origin::File(path.to_owned(), line);
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.mistake(at(None), None, format!("cannot be read: {error}")),
        };
        let entries = match file::parse(&text) {
            Ok(entries) => entries,
            Err(wrong) => return self.mistake(at(wrong.line), None, wrong.message),
        };
        for entry in entries {
            let origin = at(Some(entry.line));
            if tables::is_about(&entry.key) {
                if let Err(why) = tables::take(&mut self.config.tables, &entry, origin.clone()) {
                    self.mistake(origin, Some(entry.key), why);
                }
                continue;
            }
            if let Some((sources::SECTION, levels)) = entry.levels.split_first().map(|(top, rest)| (top.as_str(), rest))
            {
                let set = sources::set(&mut self.config.sources, levels, entry.value.as_ref());
                set.unwrap_or_else(|message| self.mistake(origin, Some(entry.key), message));
                continue;
            }
            match entry.value {
                Some(_) if is_section(&entry.key) => {
                    self.mistake(origin, Some(entry.key), "holds settings, not a value".to_owned());
                }
                Some(Value::One(text)) => self.set(&entry.key, &text, origin),
                Some(Value::List(texts)) if find(&entry.key).is_some_and(Setting::is_list) => {
                    self.set(&entry.key, &texts.join(","), origin);
                }
                // A section without settings sets nothing.
                None if is_section(&entry.key) => {}
                _ if find(&entry.key).is_some() => {
                    self.mistake(origin, Some(entry.key), "needs one value".to_owned());
                }
                _ => self.unknown(&entry.key, origin),
            }
        }
    }

    fn env(&mut self, env: &[(OsString, OsString)]) {
        let ours = env.iter().filter_map(|(name, value)| Some((name.to_str()?, value)));
        // In the order of their names, so that mistakes are in the same order each time.
        let ours: BTreeMap<_, _> = ours.filter(|(name, _)| name.starts_with("RUNSTONE_")).collect();
        for (name, value) in ours {
            if ENV_OF_OTHERS.contains(&name) {
                continue;
            }
            let origin = Origin::Env(name.to_owned());
            let alias = ENV_ALIASES.iter().find(|(alias, _)| *alias == name).and_then(|(_, key)| find(key));
            let setting = alias.or_else(|| SETTINGS.iter().find(|setting| setting.env() == name));
            match (setting, value.to_str()) {
                (Some(setting), Some(value)) => self.set(setting.key, value, origin),
                (Some(_), None) => self.mistake(origin, None, "must be UTF-8".to_owned()),
                (None, _) => {
                    let names: Vec<String> = SETTINGS.iter().map(Setting::env).collect();
                    let message = no_such("variable", name, names.iter().map(String::as_str));
                    self.mistake(origin, None, message);
                }
            }
        }
    }

    fn set(&mut self, key: &str, value: &str, origin: Origin) {
        let Some(setting) = find(key) else {
            return self.unknown(key, origin);
        };
        match setting.set(&mut self.config, value) {
            Ok(()) => {
                self.config.origins.insert(setting.key, origin);
            }
            Err(message) => self.mistake(origin, Some(key.to_owned()), message),
        }
    }

    fn unknown(&mut self, key: &str, origin: Origin) {
        let known = SETTINGS.iter().map(|setting| setting.key).chain([sources::SECTION]);
        let message = no_such("setting", key, known);
        self.mistake(origin, None, message);
    }

    fn mistake(&mut self, origin: Origin, key: Option<String>, message: String) {
        self.mistakes.push(Mistake { origin, key, message });
    }

    /// Settings that are right alone and wrong together.
    fn check_together(&mut self) {
        if let Some(table) = tables::without_location(&self.config.tables) {
            let (origin, key) = (table.origin.clone(), format!("tables.{}", table.spec.name));
            self.mistake(origin, Some(key), "needs a location: a path, or a URL such as s3://bucket/prefix".to_owned());
        }
        let http = &self.config.http;
        let pairs = [
            ("http.decoded_bytes_max", http.decoded_bytes_max, "http.body_bytes_max", http.body_bytes_max),
            ("http.in_flight_bytes_max", http.in_flight_bytes_max, "http.decoded_bytes_max", http.decoded_bytes_max),
        ];
        for (larger, larger_bytes, smaller, smaller_bytes) in pairs {
            if larger_bytes < smaller_bytes {
                let message = format!("{larger} must be at least {smaller}, got {larger_bytes} and {smaller_bytes}");
                self.mistake_of_two(larger, smaller, message);
            }
        }
        let (journal, lake) = (&self.config.journal, &self.config.lake);
        // One file is being written, and only whole ones are trimmed: with less there would never be room again.
        let (total, segment) = (journal.bytes_max, journal.segment_bytes);
        let (grace, timeout) = (show_millis(lake.vacuum_grace), show_millis(self.config.query.timeout));
        let too_short = lake.vacuum_grace <= self.config.query.timeout;
        if total < 2 * segment {
            let (total_key, segment_key) = ("journal.bytes_max", "journal.segment_bytes");
            let message = format!("{total_key} must be at least twice {segment_key}, got {total} and {segment}");
            self.mistake_of_two(total_key, segment_key, message);
        }
        if too_short {
            let (grace_key, timeout_key) = ("lake.vacuum_grace_ms", "query.timeout_ms");
            let message = format!("{grace_key} must be longer than {timeout_key}, got {grace} and {timeout}");
            self.mistake_of_two(grace_key, timeout_key, message);
        }
    }

    /// Said of the one that somebody set.
    fn mistake_of_two(&mut self, larger: &str, smaller: &str, message: String) {
        let set = if self.config.origin(larger).is_default() { smaller } else { larger };
        self.mistake(self.config.origin(set).clone(), None, message);
    }
}

pub(super) fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

fn is_section(key: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.key.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}

fn no_such<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    // The prefix that all variables share would make any two of them alike.
    let own = |name: &'a str| name.strip_prefix("RUNSTONE_").unwrap_or(name);
    let wanted = name.strip_prefix("RUNSTONE_").unwrap_or(name);
    let likeness = |known: &'a str| strsim::jaro_winkler(own(known), wanted);
    let nearest = known.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest.filter(|nearest| likeness(nearest) >= SUGGESTION_LIKENESS_MIN) {
        Some(nearest) => format!("no {what} has the name {name}; is {nearest} meant?"),
        None => format!("no {what} has the name {name}; `runstone config --print` shows all"),
    }
}
