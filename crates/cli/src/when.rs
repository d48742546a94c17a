//! Points in time on the command line: the API's words for them, read here so that a wrong one is found before anything is sent,
//! and so that what moves with the clock means one moment for all that a command asks.

use std::str::FromStr;

use jiff::Timestamp;
use runstone_record::time::{Moment, format_micros};

/// A point in time, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct When(String);

impl When {
    /// RFC 3339, as the server takes it.
    pub(crate) fn rfc3339(&self, now: Timestamp) -> String {
        let moment = Moment::parse(&self.0, now.as_microsecond());
        moment.map_or_else(|| self.0.clone(), |moment| format_micros(moment.micros()))
    }
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<When, String> {
        let wrong = "give RFC 3339 with an offset such as 2026-01-13T12:34:56Z, or a time before now such as -15m, -2h, -7d or -1w";
        Moment::parse(text, 0).map(|_| When(text.to_owned())).ok_or_else(|| wrong.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_or_so_long_ago() {
        let now = "2026-01-13T12:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00.000000Z"),
            ("-90s", "2026-01-13T11:58:30.000000Z"),
            ("-1w", "2026-01-06T12:00:00.000000Z"),
            ("now", "2026-01-13T12:00:00.000000Z"),
            ("1736771696", "2025-01-13T12:34:56.000000Z"),
        ] {
            assert_eq!(text.parse::<When>().unwrap().rfc3339(now), expected, "{text}");
        }
        for bad in ["", "-", "15m", "-1y", "-1.5h", "2026-01-01", "yesterday", "-1é"] {
            assert!(bad.parse::<When>().is_err(), "{bad}");
        }
    }
}
