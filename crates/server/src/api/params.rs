//! Parameters of a URL. Owns reading each once and naming what is wrong; a parameter that no handler asked for is
//! refused, because a filter that is silently ignored gives an answer that looks right.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use runstone_record::time::{MICROS_MAX, parse_rfc3339};
use runstone_record::{ErrorCode, identifier, limits};

use crate::http::ApiError;
use crate::http::error::echo;

/// The parameters of one request.
#[derive(Debug)]
pub(super) struct Params {
    given: Vec<(String, String)>,
    known: Vec<&'static str>,
}

fn bad(name: &str, message: &str) -> ApiError {
    ApiError::new(ErrorCode::InvalidParameter, format!("parameter {}: {message}", echo(name)))
}

impl Params {
    /// Reads a query string.
    pub(super) fn parse(query: Option<&str>) -> Result<Self, ApiError> {
        let given: Vec<(String, String)> =
            form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
        for (place, (name, value)) in given.iter().enumerate() {
            if given[..place].iter().any(|(before, _)| before == name) {
                return Err(bad(name, "is given twice"));
            }
            if value.len() > limits::PARAMETER_BYTES_MAX {
                return Err(bad(name, &format!("must have at most {} bytes", limits::PARAMETER_BYTES_MAX)));
            }
        }
        Ok(Self { given, known: Vec::new() })
    }

    /// A parameter's value. An empty one counts as not given.
    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        let value = self.given.iter().find(|(given, _)| given == name).map(|(_, value)| value.clone());
        value.filter(|value| !value.is_empty())
    }

    /// A parameter that `read` understands, or the message that says what it takes.
    pub(super) fn read<T>(
        &mut self,
        name: &'static str,
        takes: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        read(&text).map(Some).ok_or_else(|| bad(name, &format!("must be {takes}, got {}", echo(&text))))
    }

    /// The number of rows of a page.
    pub(super) fn limit(&mut self) -> Result<usize, ApiError> {
        let takes = format!("between 1 and {}", limits::PAGE_ROWS_MAX);
        let read = |text: &str| text.parse().ok().filter(|rows| (1..=limits::PAGE_ROWS_MAX).contains(rows));
        Ok(self.read("limit", &takes, read)?.unwrap_or(limits::PAGE_ROWS_DEFAULT))
    }

    /// A time.
    pub(super) fn time(&mut self, name: &'static str) -> Result<Option<i64>, ApiError> {
        let takes = "RFC 3339 with an offset, such as 2025-01-13T12:34:56Z, or a number since 1970-01-01 UTC";
        self.read(name, takes, |text| parse_rfc3339(text).ok().or_else(|| since_1970(text)))
    }

    /// Refuses a parameter that has no place here, and why.
    pub(super) fn refuse(&self, name: &str, why: &str) -> Result<(), ApiError> {
        match self.given.iter().any(|(given, _)| given == name) {
            true => Err(bad(name, why)),
            false => Ok(()),
        }
    }

    /// Refuses what nobody asked for.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        let Some((name, _)) = self.given.iter().find(|(name, _)| !self.known.contains(&name.as_str())) else {
            return Ok(());
        };
        let likeness = |known: &str| strsim::jaro_winkler(known, name);
        let nearest = self.known.iter().max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
        let meant = nearest.filter(|known| likeness(known) >= LIKENESS_MIN);
        let meant = meant.map_or_else(String::new, |known| format!("is {known} meant? "));
        Err(bad(name, &format!("is not known here; {meant}these are: {}", self.known.join(", "))))
    }
}

/// How like a name must be for it to be what was meant.
const LIKENESS_MIN: f64 = 0.8;

/// Seconds, milliseconds, microseconds or nanoseconds since 1970: each has digits of its own number for the years from
/// 1973 to 5138, and below is a second. In microseconds.
fn since_1970(text: &str) -> Option<i64> {
    let digits = text.len() <= 19 && text.bytes().all(|byte| byte.is_ascii_digit());
    let number: i64 = digits.then(|| text.parse().ok())??;
    let micros = match number {
        0..100_000_000_000 => number * 1_000_000,
        100_000_000_000..100_000_000_000_000 => number * 1_000,
        100_000_000_000_000..100_000_000_000_000_000 => number,
        _ => number / 1_000,
    };
    (micros <= MICROS_MAX).then_some(micros)
}

/// The run's id in a path.
pub(super) fn path_run(run_id: Result<Path<String>, PathRejection>) -> Result<String, ApiError> {
    // What is no UTF-8 once its percent signs are read is no identifier either.
    let Path(run_id) = run_id.map_err(|error| ApiError::new(ErrorCode::InvalidParameter, error.body_text()))?;
    identifier::check(&run_id).map_err(|error| bad("run_id", &error.to_string()))?;
    Ok(run_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_an_offset() {
        let read = |text: &str| Params::parse(Some(&format!("since={text}"))).unwrap().time("since");
        assert_eq!(read("1970-01-01T00:00:01Z").unwrap(), Some(1_000_000));
        assert_eq!(read("1970-01-01T01:00:01%2B01:00").unwrap(), Some(1_000_000));
        assert_eq!(read("").unwrap(), None);
        for (text, micros) in [
            ("0", 0),
            ("1736771696", 1_736_771_696_000_000),
            ("1736771696789", 1_736_771_696_789_000),
            ("1736771696789012", 1_736_771_696_789_012),
            ("1736771696789012345", 1_736_771_696_789_012),
            ("9223372036854775807", MICROS_MAX),
        ] {
            assert_eq!(read(text).unwrap(), Some(micros), "{text}");
        }
        let many = "9".repeat(30);
        for bad in [
            "1970-01-01T00:00:01",
            "-15m",
            "yesterday",
            "-%C3%A4",
            "%FF",
            "-1",
            "1.5",
            "99999999999",
            &many,
            "9223372036854775808",
        ] {
            assert_eq!(read(bad).unwrap_err().code(), ErrorCode::InvalidParameter, "{bad}");
        }
    }

    #[test]
    fn what_nobody_asked_for_is_refused_by_name() {
        let mut params = Params::parse(Some("limit=5&stagee=x")).unwrap();
        assert_eq!(params.limit().unwrap(), 5);
        params.text("stage");
        let message = params.finish().unwrap_err().message().to_owned();
        assert!(message.contains("stagee") && message.contains("is stage meant? these are: limit, stage"), "{message}");
        let mut params = Params::parse(Some("zzz=x")).unwrap();
        params.text("stage");
        let message = params.finish().unwrap_err().message().to_owned();
        assert!(!message.contains("meant"), "{message}");
    }

    #[test]
    fn limits_and_repetitions_are_refused() {
        for query in ["limit=0", "limit=-1", "limit=1000000000000", "limit=x", "limit=1&limit=2"] {
            assert!(Params::parse(Some(query)).and_then(|mut params| params.limit()).is_err(), "{query}");
        }
    }
}
