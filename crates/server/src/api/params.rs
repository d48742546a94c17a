//! Parameters of a URL. Owns reading each once and naming what is wrong; a parameter that no handler asked for is
//! refused, because a filter that is silently ignored gives an answer that looks right.

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use percent_encoding::percent_decode_str;
use runstone_record::stored::{stored, without_nul};
use runstone_record::time::Moment;
use runstone_record::{Column, ErrorCode, identifier, limits};

use crate::http::ApiError;
use crate::http::error::echo;

/// The parameters of one request.
#[derive(Debug)]
pub(super) struct Params {
    given: Vec<(String, String)>,
    known: Vec<&'static str>,
    /// What is read elsewhere, and not to be listed here.
    refused: Vec<&'static str>,
    /// What relative times are before.
    now: i64,
}

pub(super) fn bad(name: &str, message: &str) -> ApiError {
    ApiError::new(ErrorCode::InvalidParameter, format!("parameter {}: {message}", echo(name)))
}

impl Params {
    /// Reads a query string, at this time.
    pub(super) fn parse(query: Option<&str>, now: i64) -> Result<Self, ApiError> {
        let mut given: Vec<(String, String)> = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decode(name), decode(value)) else {
                return Err(bad(name, "is not UTF-8 once its percent signs are read"));
            };
            // As records keep it: what was sent with NUL is found with NUL.
            let name = without_nul(&name).into_owned();
            if given.iter().any(|(before, _)| *before == name) {
                return Err(bad(&name, "is given twice"));
            }
            if value.len() > limits::PARAMETER_BYTES_MAX {
                return Err(bad(&name, &format!("must have at most {} bytes", limits::PARAMETER_BYTES_MAX)));
            }
            given.push((name, without_nul(&value).into_owned()));
        }
        Ok(Self { given, known: Vec::new(), refused: Vec::new(), now })
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

    /// What a column must be, as records keep it.
    pub(super) fn stored(&mut self, column: Column) -> Result<Option<String>, ApiError> {
        let Some(text) = self.text(column.name()) else { return Ok(None) };
        match stored(column, &text) {
            Ok(kept) => Ok(Some(kept.into_owned())),
            Err(why) => Err(bad(column.name(), &format!("{why}, got {}", echo(&text)))),
        }
    }

    /// The number of rows of a page.
    pub(super) fn limit(&mut self) -> Result<usize, ApiError> {
        let takes = format!("between 1 and {}", limits::PAGE_ROWS_MAX);
        let read = |text: &str| text.parse().ok().filter(|rows| (1..=limits::PAGE_ROWS_MAX).contains(rows));
        Ok(self.read("limit", &takes, read)?.unwrap_or(limits::PAGE_ROWS_DEFAULT))
    }

    /// A time.
    pub(super) fn time(&mut self, name: &'static str) -> Result<Option<Moment>, ApiError> {
        let takes = "RFC 3339 with an offset, such as 2025-01-13T12:34:56Z, a number since 1970-01-01 UTC, or a time \
                     before now, such as -15m, -2h or -7d";
        let now = self.now;
        self.read(name, takes, |text| Moment::parse(text, now))
    }

    /// Parameters whose names begin as this one does, up to its placeholder `KEY`: each is known here, whatever follows.
    pub(super) fn family(&mut self, name: &'static str) -> Vec<(String, String)> {
        self.known.push(name);
        let prefix = name.trim_end_matches("KEY");
        let rest = |name: &str| name.strip_prefix(prefix).filter(|rest| !rest.is_empty()).map(str::to_owned);
        let (taken, given) = std::mem::take(&mut self.given).into_iter().partition(|(name, _)| rest(name).is_some());
        self.given = given;
        let taken: Vec<(String, String)> = taken;
        let taken = taken.into_iter().filter(|(_, value)| !value.is_empty());
        taken.filter_map(|(name, value)| Some((rest(&name)?, value))).collect()
    }

    /// Refuses a parameter that has no place here, and why.
    pub(super) fn refuse(&mut self, name: &'static str, why: &str) -> Result<(), ApiError> {
        self.refused.push(name);
        match self.given.iter().any(|(given, _)| given == name) {
            true => Err(bad(name, why)),
            false => Ok(()),
        }
    }

    /// Refuses what nobody asked for.
    pub(super) fn finish(mut self) -> Result<(), ApiError> {
        self.known.retain(|known| !self.refused.contains(known));
        let Some((name, _)) = self.given.iter().find(|(name, _)| !self.known.contains(&name.as_str())) else {
            return Ok(());
        };
        if self.known.is_empty() {
            return Err(bad(name, "is not known here: there are none"));
        }
        let likeness = |known: &str| strsim::jaro_winkler(known, name);
        let nearest = self.known.iter().max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
        let meant = nearest.filter(|known| likeness(known) >= LIKENESS_MIN);
        let meant = meant.map_or_else(String::new, |known| format!("is {known} meant? "));
        Err(bad(name, &format!("is not known here; {meant}these are: {}", self.known.join(", "))))
    }
}

/// A name or a value as it was before it stood in a URL (application/x-www-form-urlencoded); none where that is no UTF-8:
/// what took the place of the bytes would be another text.
fn decode(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    Some(percent_decode_str(&text).decode_utf8().ok()?.into_owned())
}

/// Of a route that takes none.
pub(super) struct NoParams;

impl<S: Sync> FromRequestParts<S> for NoParams {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Params::parse(parts.uri.query(), 0)?.finish()?;
        Ok(NoParams)
    }
}

/// How like a name must be for it to be what was meant.
const LIKENESS_MIN: f64 = 0.8;

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
    fn times_are_fixed_or_before_now() {
        let read = |text: &str| Params::parse(Some(&format!("since={text}")), 9_000_000).unwrap().time("since");
        assert_eq!(read("1970-01-01T01:00:01%2B01:00").unwrap(), Some(Moment::at(1_000_000)));
        assert_eq!(read("-2s").unwrap().map(Moment::micros), Some(7_000_000));
        assert_eq!(read("").unwrap(), None);
        for bad in ["1970-01-01T00:00:01", "yesterday", "-%C3%A4", "%00", "-1", "15m"] {
            assert_eq!(read(bad).unwrap_err().code(), ErrorCode::InvalidParameter, "{bad}");
        }
    }

    #[test]
    fn a_family_of_parameters_is_known_whatever_follows() {
        let mut params = Params::parse(Some("metadata.a=1&metadata.b.c=x&metadata.d=&metadata.=y&limit=5"), 0).unwrap();
        let taken = params.family("metadata.KEY");
        assert_eq!(taken, [("a".to_owned(), "1".to_owned()), ("b.c".to_owned(), "x".to_owned())]);
        params.limit().unwrap();
        assert!(params.finish().unwrap_err().message().contains("parameter metadata.: "));
    }

    #[test]
    fn what_nobody_asked_for_is_refused_by_name() {
        let mut params = Params::parse(Some("limit=5&stagee=x"), 0).unwrap();
        assert_eq!(params.limit().unwrap(), 5);
        params.text("stage");
        let message = params.finish().unwrap_err().message().to_owned();
        assert!(message.contains("stagee") && message.contains("is stage meant? these are: limit, stage"), "{message}");
        let mut params = Params::parse(Some("zzz=x"), 0).unwrap();
        params.text("stage");
        let message = params.finish().unwrap_err().message().to_owned();
        assert!(!message.contains("meant"), "{message}");
    }

    #[test]
    fn what_is_no_utf8_is_refused_and_nul_becomes_what_records_have() {
        for query in ["stage=%FF", "a=1&%ED%A0%80=x", "q=%C3&x=%A4"] {
            let message = Params::parse(Some(query), 0).unwrap_err().message().to_owned();
            assert!(message.contains("is not UTF-8"), "{query}: {message}");
        }
        let mut params = Params::parse(Some("q=a%00+%2B&&metadata.k%00=%c3%a4&limit"), 0).unwrap();
        assert_eq!(params.text("q").as_deref(), Some("a\u{FFFD} +"));
        assert_eq!(params.family("metadata.KEY"), [("k\u{FFFD}".to_owned(), "ä".to_owned())]);
        assert_eq!(params.text("limit"), None);
    }

    #[test]
    fn limits_and_repetitions_are_refused() {
        for query in ["limit=0", "limit=-1", "limit=1000000000000", "limit=x", "limit=1&limit=2"] {
            assert!(Params::parse(Some(query), 0).and_then(|mut params| params.limit()).is_err(), "{query}");
        }
    }
}
