//! Settings shown to people: as the file that would set them, and as the reference of the documentation.

use std::fmt::Write;

use super::settings::SETTINGS;
use super::{Config, Origin, sources};

/// Spaces before a comment are at least so many.
const COMMENT_COLUMN: usize = 44;

impl Config {
    /// The settings as a YAML file that sets them all, each with a comment that says where it came from.
    #[must_use]
    pub fn print(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for setting in SETTINGS {
            let (into, name) = setting.key.rsplit_once('.').unwrap_or(("", setting.key));
            if into != section {
                section = into;
                text.push_str(&format!("{section}:\n"));
            }
            let indent = if section.is_empty() { "" } else { "  " };
            let value = setting.show(self);
            let value = if setting.is_secret() { hidden(&value) } else { value };
            let line = format!("{indent}{name}: {}", quoted(&value));
            let comment = match self.origin(setting.key) {
                origin @ (Origin::Default | Origin::Memory(_) | Origin::File(..)) => origin.to_string(),
                Origin::Env(name) => format!("environment {name}"),
                Origin::Flag(flag) => format!("flag {flag}"),
            };
            text.push_str(&format!("{line:COMMENT_COLUMN$} # {}\n", comment.escape_debug()));
        }
        self.print_tables(&mut text);
        self.print_sources(&mut text);
        text
    }

    fn print_sources(&self, text: &mut String) {
        let mut line = |indent: usize, name: &str, value: Option<&str>| {
            let value = value.map_or_else(String::new, |value| format!(" {}", quoted(value)));
            text.push_str(&format!("{:indent$}{}:{value}\n", "", quoted(name)));
        };
        if !self.sources.0.is_empty() {
            line(0, sources::SECTION, None);
        }
        for (name, source) in &self.sources.0 {
            line(2, name, None);
            for (member, value) in [("environment", &source.environment), ("owner", &source.owner)] {
                if let Some(value) = value {
                    line(4, member, Some(value));
                }
            }
            if !source.labels.is_empty() {
                line(4, "labels", None);
            }
            source.labels.iter().for_each(|(key, value)| line(6, key, Some(value)));
        }
    }

    fn print_tables(&self, text: &mut String) {
        if !self.tables.is_empty() {
            text.push_str("tables:\n");
        }
        for (name, table) in &self.tables {
            let format = table.spec.format.map(|format| format!(", format: {}", format.word())).unwrap_or_default();
            let line = format!("  {name}: {{location: {}{format}}}", quoted(&table.spec.location));
            text.push_str(&format!("{line:COMMENT_COLUMN$} # {}\n", table.origin.to_string().escape_debug()));
        }
    }
}

/// A URL, or pairs, without what is nobody's business.
fn hidden(url: &str) -> String {
    if let Ok(mut parsed) = url::Url::parse(url) {
        if parsed.query_pairs().any(|(name, _)| name == "password") {
            return "***".to_owned();
        }
        if parsed.password().is_some() && parsed.set_password(Some("***")).is_err() {
            return "***".to_owned();
        }
        return parsed.to_string();
    }
    if url.is_empty() { String::new() } else { "***".to_owned() }
}

/// Plain where YAML reads it back as it stands; else as JSON, which YAML contains.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.' | '-');
    let starts_plain = value.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.'));
    let is_word = !matches!(value, "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n");
    if starts_plain && is_word && value.chars().all(plain) {
        value.to_owned()
    } else {
        serde_json::Value::from(value).to_string()
    }
}

/// The reference of all settings, as Markdown: what `docs/configuration.md` contains.
#[must_use]
pub fn reference() -> String {
    let defaults = Config::default();
    let mut text = String::new();
    for setting in SETTINGS {
        let default = match setting.show(&defaults) {
            nothing if nothing.is_empty() => "not set".to_owned(),
            default => format!("`{default}`"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "### `{}`\n\n{}\n", setting.key, setting.doc);
        let _ = writeln!(text, "- takes {}; default {default}\n- environment `{}`\n", setting.takes(), setting.env());
    }
    text
}
