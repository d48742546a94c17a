//! Compiled forms: a line's prefix to fields. Owns what a named piece of a form means; the forms are in `table`.

use anyhow::Context;
use jiff::Timestamp;
use regex::{Captures, Regex};
use runstone_record::Level;
use serde_json::Value;

use super::LineRecord;
use super::table::{FORMS, FRAGMENTS};
use super::time::{Pieces, Zone};

/// What a named group holds.
#[derive(Debug, Clone, Copy)]
enum Slot {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    Fraction,
    Offset,
    /// A level's word.
    Level,
    /// glog's I, W, E, F or D.
    Letter,
    /// Syslog's facility × 8 + severity.
    Priority,
    Logger,
    Host,
    Pid,
    Tid,
    Thread,
    Function,
    Filename,
    Line,
    /// No column: metadata under the group's name.
    Metadata,
}

impl Slot {
    fn of(group: &str) -> Slot {
        match group {
            "year" => Slot::Year,
            "month" => Slot::Month,
            "day" => Slot::Day,
            "hour" => Slot::Hour,
            "minute" => Slot::Minute,
            "second" => Slot::Second,
            "fraction" => Slot::Fraction,
            "offset" => Slot::Offset,
            "level" => Slot::Level,
            "letter" => Slot::Letter,
            "priority" => Slot::Priority,
            "logger" => Slot::Logger,
            "host" => Slot::Host,
            "pid" => Slot::Pid,
            "tid" => Slot::Tid,
            "thread" => Slot::Thread,
            "function" => Slot::Function,
            "filename" => Slot::Filename,
            "line" => Slot::Line,
            _ => Slot::Metadata,
        }
    }
}

#[derive(Debug)]
struct Format {
    regex: Regex,
    /// One entry for each named group: its number, its name, its meaning.
    slots: Vec<(usize, String, Slot)>,
    general: bool,
}

/// Every form, compiled.
#[derive(Debug)]
pub(crate) struct Formats(Vec<Format>);

impl Formats {
    /// Compiles the table.
    ///
    /// # Errors
    /// If an entry of the table is no regular expression, which a test excludes.
    pub(crate) fn compile() -> anyhow::Result<Formats> {
        let compiled = FORMS.iter().map(|form| {
            let mut pattern = format!("^{}", form.prefix);
            for (name, fragment) in FRAGMENTS {
                pattern = pattern.replace(name, fragment);
            }
            let regex = Regex::new(&pattern).with_context(|| format!("compile the form of log lines {}", form.name))?;
            let named = regex.capture_names().enumerate().filter_map(|(at, name)| Some((at, name?)));
            let slots = named.map(|(at, name)| (at, name.to_owned(), Slot::of(name))).collect();
            Ok(Format { regex, slots, general: form.general })
        });
        compiled.collect::<Result<_, _>>().map(Formats)
    }

    /// Reads a line's prefix, trying `first` before the others: which form it has (if that is worth trying first on the
    /// next line), its fields, and where its message begins.
    pub(super) fn read(
        &self,
        line: &str,
        first: Option<usize>,
        zone: &Zone,
        now: Timestamp,
    ) -> Option<(Option<usize>, LineRecord, usize)> {
        let order = first.into_iter().chain(0..self.0.len());
        order.into_iter().find_map(|at| {
            let format = self.0.get(at)?;
            let (record, end) = format.read(line, zone, now)?;
            Some(((!format.general).then_some(at), record, end))
        })
    }

    /// The name of the form that a line has.
    #[cfg(test)]
    pub(super) fn name_of(&self, line: &str, zone: &Zone, now: Timestamp) -> Option<&'static str> {
        let at = self.0.iter().position(|format| format.read(line, zone, now).is_some())?;
        Some(FORMS[at].name)
    }

    /// The names of the particular forms that a line has.
    #[cfg(test)]
    pub(super) fn particular_names_of(&self, line: &str, zone: &Zone, now: Timestamp) -> Vec<&'static str> {
        let with_names = self.0.iter().zip(FORMS);
        let matching = with_names.filter(|(format, _)| !format.general && format.read(line, zone, now).is_some());
        matching.map(|(_, form)| form.name).collect()
    }
}

impl Format {
    fn read(&self, line: &str, zone: &Zone, now: Timestamp) -> Option<(LineRecord, usize)> {
        let captures = self.regex.captures(line)?;
        let end = captures.get(0)?.end();
        let record = self.record(&captures, zone, now)?;
        // A prefix alone is a record too, but a lone word is its own message.
        (end < line.len() || record.timestamp.is_some()).then_some((record, end))
    }

    fn record(&self, captures: &Captures<'_>, zone: &Zone, now: Timestamp) -> Option<LineRecord> {
        let mut record = LineRecord::default();
        let mut time = Pieces::default();
        for (group, name, slot) in &self.slots {
            let Some(text) = captures.get(*group).map(|found| found.as_str()) else {
                continue;
            };
            match slot {
                Slot::Year => time.year = Some(text),
                Slot::Month => time.month = Some(text),
                Slot::Day => time.day = Some(text),
                Slot::Hour => time.hour = Some(text),
                Slot::Minute => time.minute = Some(text),
                Slot::Second => time.second = Some(text),
                Slot::Fraction => time.fraction = Some(text),
                Slot::Offset => time.offset = Some(text),
                Slot::Level => record.level = level(text),
                Slot::Letter => record.level = letter(text),
                Slot::Priority => {
                    let (facility, severity) = priority(text)?;
                    record.level = Some(severity);
                    record.metadata.insert("facility".to_owned(), facility.into());
                }
                Slot::Logger => record.logger_name = Some(text.to_owned()),
                Slot::Host => record.hostname = Some(text.to_owned()),
                Slot::Pid => record.process_id = text.parse().ok(),
                Slot::Tid => record.thread_id = text.parse().ok(),
                Slot::Thread => record.thread_name = Some(text.to_owned()),
                Slot::Function => record.function_name = Some(text.to_owned()),
                Slot::Filename => record.filename = Some(text.to_owned()),
                Slot::Line => record.lineno = text.parse().ok(),
                // A dash is how these forms write "none".
                Slot::Metadata if text == "-" => {}
                Slot::Metadata => {
                    record.metadata.insert(name.clone(), Value::from(text));
                }
            }
        }
        if time.day.is_some() {
            record.timestamp = Some(time.moment(zone, now)?);
        }
        Some(record)
    }
}

/// The level of a form's word; `TRACE1` and `DEBUG5` are numbered, `LOG` and its companions are PostgreSQL's.
fn level(word: &str) -> Option<&'static str> {
    let word = word.trim_end_matches(|last: char| last.is_ascii_digit());
    let level = match word {
        "LOG" | "DETAIL" | "HINT" | "CONTEXT" | "STATEMENT" => Level::Info,
        _ => Level::read(word)?,
    };
    Some(level.as_str())
}

fn letter(letter: &str) -> Option<&'static str> {
    let level = match letter {
        "I" => Level::Info,
        "W" => Level::Warning,
        "E" => Level::Error,
        "F" => Level::Critical,
        "D" => Level::Debug,
        _ => return None,
    };
    Some(level.as_str())
}

/// Facility and severity of RFC 5424 §6.2.1; the number is at most 191.
fn priority(text: &str) -> Option<(u8, &'static str)> {
    let number = text.parse::<u8>().ok().filter(|number| *number <= 191)?;
    let level = match number % 8 {
        0..=2 => Level::Critical,
        3 => Level::Error,
        4 => Level::Warning,
        5 | 6 => Level::Info,
        _ => Level::Debug,
    };
    Some((number / 8, level.as_str()))
}
