//! The names of log streams. Owns which fields of a record they are made of; refuses characters that CloudWatch does not take.

use std::fmt;
use std::str::FromStr;

use runstone_record::limits::CLOUDWATCH_STREAM_BYTES_MAX;
use runstone_record::time::format_millis;
use runstone_record::{Batch, Column};

/// What stands for a field that a record has not. No identifier is like it.
const ABSENT: &str = "-";
/// Bytes of an identifier.
const IDENTIFIER_BYTES_MAX: usize = 128;

/// The name of a record's stream: text with `{source_system}`, `{stage}`, `{run_id}` and `{date}` in it. The last is the day
/// on which the journal took the record, in UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamPattern(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Column),
    Date,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A name in braces that stands for nothing, or a brace alone.
    #[error("must have nothing in braces but source_system, stage, run_id and date: {pattern:?}")]
    Field {
        /// The text.
        pattern: String,
    },
    /// A character that is not for names of streams.
    #[error("must be visible ASCII without ':' and '*': {pattern:?}")]
    Character {
        /// The text.
        pattern: String,
    },
    /// It has nothing in it, or its names could be longer than CloudWatch takes.
    #[error("must make names of 1 to {max} bytes, could make {bytes}", max = CLOUDWATCH_STREAM_BYTES_MAX)]
    Length {
        /// How long they could be.
        bytes: usize,
    },
}

impl Default for StreamPattern {
    fn default() -> Self {
        Self(vec![Part::Field(Column::SourceSystem), Part::Text("/".to_owned()), Part::Date])
    }
}

impl FromStr for StreamPattern {
    type Err = PatternError;

    fn from_str(pattern: &str) -> Result<Self, PatternError> {
        let unknown = || PatternError::Field { pattern: pattern.to_owned() };
        if !pattern.bytes().all(|byte| byte.is_ascii_graphic() && !b":*".contains(&byte)) {
            return Err(PatternError::Character { pattern: pattern.to_owned() });
        }
        let (mut parts, mut rest) = (Vec::new(), pattern);
        while let Some(brace) = rest.find(['{', '}']) {
            let (text, field) = rest.split_at(brace);
            let (name, behind) = field.strip_prefix('{').and_then(|field| field.split_once('}')).ok_or_else(unknown)?;
            if !text.is_empty() {
                parts.push(Part::Text(text.to_owned()));
            }
            parts.push(match name {
                "source_system" => Part::Field(Column::SourceSystem),
                "stage" => Part::Field(Column::Stage),
                "run_id" => Part::Field(Column::RunId),
                "date" => Part::Date,
                _ => return Err(unknown()),
            });
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        let bytes = parts.iter().map(Part::bytes_max).sum();
        if !(1..=CLOUDWATCH_STREAM_BYTES_MAX).contains(&bytes) {
            return Err(PatternError::Length { bytes });
        }
        Ok(Self(parts))
    }
}

impl fmt::Display for StreamPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Field(column) => write!(f, "{{{}}}", column.name()),
            Part::Date => f.write_str("{date}"),
        })
    }
}

impl Part {
    fn bytes_max(&self) -> usize {
        match self {
            Part::Text(text) => text.len(),
            Part::Field(_) => IDENTIFIER_BYTES_MAX,
            Part::Date => "2025-01-13".len(),
        }
    }
}

impl StreamPattern {
    /// The name of the stream of a row of a batch.
    pub(super) fn name(&self, batch: &Batch, row: usize) -> String {
        let mut name = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => name.push_str(text),
                // A colon is for identifiers, and not for streams; an equals sign the other way round.
                Part::Field(column) => {
                    name.extend(
                        batch.text(*column, row).unwrap_or(ABSENT).chars().map(|c| if c == ':' { '=' } else { c }),
                    );
                }
                Part::Date => {
                    let time = format_millis(batch.ingested_at());
                    name.push_str(time.split('T').next().unwrap_or(ABSENT));
                }
            }
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use runstone_record::{IdMint, parse};

    use super::*;

    fn name(pattern: &str, record: &str) -> String {
        let parsed = parse::json(record.as_bytes()).unwrap();
        let batch = parsed.builder.stamp(&mut IdMint::new(1, 1), 1_736_771_696_789_000, None);
        pattern.parse::<StreamPattern>().unwrap().name(&batch, 0)
    }

    #[test]
    fn a_name_is_made_of_a_record() {
        let record = r#"{"message":"m","source_system":"crm:eu","stage":"load","run_id":"r@1"}"#;
        assert_eq!(name("{source_system}/{date}", record), "crm=eu/2025-01-13");
        assert_eq!(name("a-{run_id}{stage}", record), "a-r@1load");
        assert_eq!(name("{source_system}/{date}", r#"{"message":"m"}"#), "-/2025-01-13");
        assert_eq!(name("all", r#"{"message":"m"}"#), "all");
    }

    #[test]
    fn a_pattern_is_printed_as_it_was_read() {
        for pattern in ["{source_system}/{date}", "x/{run_id}/{stage}.{date}", "all"] {
            assert_eq!(pattern.parse::<StreamPattern>().unwrap().to_string(), pattern);
        }
        assert_eq!(StreamPattern::default().to_string(), "{source_system}/{date}");
    }

    #[test]
    fn what_makes_no_names_is_refused() {
        for pattern in ["{", "}", "{}", "{message}", "{date", "date}", "{{date}}"] {
            assert!(matches!(pattern.parse::<StreamPattern>(), Err(PatternError::Field { .. })), "{pattern}");
        }
        for pattern in ["a:b", "a*", "a b", "ä", "a\n"] {
            assert!(matches!(pattern.parse::<StreamPattern>(), Err(PatternError::Character { .. })), "{pattern}");
        }
        for pattern in [String::new(), "{run_id}".repeat(5), "x".repeat(513)] {
            assert!(matches!(pattern.parse::<StreamPattern>(), Err(PatternError::Length { .. })), "{pattern}");
        }
        assert!("{run_id}".repeat(4).parse::<StreamPattern>().is_ok());
    }
}
