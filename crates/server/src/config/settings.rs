//! What a setting is: its kinds, how one is shown, and how a text is read as one. Owns what is wrong with a value; refuses to
//! know which settings there are: `list` does.

use std::path::PathBuf;
use std::time::Duration;

use runstone_sinks::cloudwatch::StreamPattern;

use super::Config;
use super::text::{parse_bytes, parse_millis, show_bytes, show_millis};

pub use super::list::SETTINGS;

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
    /// A URL with a password in it; nothing: none.
    Secret(fn(&mut Config) -> &mut String),
    /// A name in somebody else's service, and whether there must be one.
    Name(bool, fn(&mut Config) -> &mut String),
    /// How the names of streams of CloudWatch Logs are made.
    Stream(fn(&mut Config) -> &mut String),
    /// What names of tables begin with.
    Prefix(fn(&mut Config) -> &mut String),
    /// A filter of the log.
    Filter(fn(&mut Config) -> &mut String),
    /// One of a few words: its current one, and how to choose another.
    Word(&'static [&'static str], fn(&Config) -> &'static str, fn(&mut Config, &str)),
    /// Origins of web pages, or `*` alone; in a file a list of them, elsewhere with commas between.
    Origins(fn(&mut Config) -> &mut Vec<String>),
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
            Kind::Address(at)
            | Kind::Filter(at)
            | Kind::Location(at)
            | Kind::Name(_, at)
            | Kind::Secret(at)
            | Kind::Stream(at)
            | Kind::Prefix(at) => at(&mut config).clone(),
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
            Kind::Name(..) => "a name".to_owned(),
            Kind::Secret(_) => "a URL".to_owned(),
            Kind::Stream(_) => "a pattern".to_owned(),
            Kind::Prefix(_) => "letters, digits and `_`".to_owned(),
            Kind::Filter(_) => "a level or directives".to_owned(),
            Kind::Word(words, ..) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or "),
            Kind::Origins(_) => "origins, or `*`".to_owned(),
        }
    }

    /// Has its value a password in it?
    pub(super) fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret(_))
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
            Kind::Location(at) | Kind::Secret(at) => *at(config) = location(text)?,
            Kind::Stream(at) => {
                let pattern: Result<StreamPattern, _> = text.parse();
                pattern.map_err(|error| format!("{error}, got {text:?}"))?;
                text.clone_into(at(config));
            }
            Kind::Name(required, at) => *at(config) = name(text, required)?,
            Kind::Prefix(at) => {
                runstone_sinks::postgres::check_prefix(text).map_err(|error| format!("{error}, got {text:?}"))?;
                text.clone_into(at(config));
            }
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

/// What may stand in one is its service's to say, but for this.
fn name(text: &str, required: bool) -> Result<String, String> {
    let name = text.trim();
    if (required && name.is_empty()) || name.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err(format!("must be a name, got {text:?}"));
    }
    Ok(name.to_owned())
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
                Kind::Path(_) | Kind::Location(_) | Kind::Secret(_) => "/elsewhere".to_owned(),
                Kind::Prefix(_) | Kind::Name(..) | Kind::Stream(_) => "elsewhere".to_owned(),
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
