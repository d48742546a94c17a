//! Parameters of a URL. Owns reading each once and naming what is wrong; a parameter that no handler asked for is
//! refused, because a filter that is silently ignored gives an answer that looks right.

use runstone_record::time::parse_rfc3339;
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
        let takes = "RFC 3339 with an offset, such as 2025-01-13T12:34:56Z";
        self.read(name, takes, |text| parse_rfc3339(text).ok())
    }

    /// Refuses what nobody asked for.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        match self.given.iter().find(|(name, _)| !self.known.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => Err(bad(name, &format!("is not known here; these are: {}", self.known.join(", ")))),
        }
    }
}

/// An identifier in a path.
pub(super) fn path_identifier(name: &str, text: &str) -> Result<(), ApiError> {
    identifier::check(text).map_err(|error| bad(name, &error.to_string()))
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
        for bad in ["1970-01-01T00:00:01", "-15m", "yesterday", "-%C3%A4", "%FF"] {
            assert_eq!(read(bad).unwrap_err().code(), ErrorCode::InvalidParameter, "{bad}");
        }
    }

    #[test]
    fn what_nobody_asked_for_is_refused_by_name() {
        let mut params = Params::parse(Some("limit=5&stagee=x")).unwrap();
        assert_eq!(params.limit().unwrap(), 5);
        params.text("stage");
        let message = params.finish().unwrap_err().message().to_owned();
        assert!(message.contains("stagee") && message.contains("limit, stage"), "{message}");
    }

    #[test]
    fn limits_and_repetitions_are_refused() {
        for query in ["limit=0", "limit=-1", "limit=1000000000000", "limit=x", "limit=1&limit=2"] {
            assert!(Params::parse(Some(query)).and_then(|mut params| params.limit()).is_err(), "{query}");
        }
    }
}
