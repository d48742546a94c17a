//! Points in time on the command line: absolute, or so long ago.

use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use runstone_record::time::{format_micros, parse_rfc3339};

/// A point in time, as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Microseconds since 1970.
    At(i64),
    /// Before now.
    Ago(SignedDuration),
}

impl When {
    /// RFC 3339, as the server takes it.
    pub(crate) fn rfc3339(self, now: Timestamp) -> String {
        format_micros(match self {
            When::At(micros) => micros,
            When::Ago(long) => now.checked_sub(long).unwrap_or(Timestamp::UNIX_EPOCH).as_microsecond(),
        })
    }
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<When, String> {
        let ago = text.strip_prefix('-').and_then(ago).map(When::Ago);
        ago.or_else(|| parse_rfc3339(text).ok().map(When::At)).ok_or_else(|| {
            "give RFC 3339 with an offset such as 2026-01-13T12:34:56Z, or a time before now such as -15m, -2h or -7d".to_owned()
        })
    }
}

fn ago(text: &str) -> Option<SignedDuration> {
    let seconds = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    let count = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u32>().ok())??;
    Some(SignedDuration::from_secs(i64::from(count) * seconds))
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
            ("-15m", "2026-01-13T11:45:00.000000Z"),
            ("-2h", "2026-01-13T10:00:00.000000Z"),
            ("-7d", "2026-01-06T12:00:00.000000Z"),
            ("-4294967295d", "1970-01-01T00:00:00.000000Z"),
        ] {
            assert_eq!(text.parse::<When>().unwrap().rfc3339(now), expected, "{text}");
        }
        for bad in ["", "-", "-m", "15m", "-1y", "-1.5h", "--1h", "-99999999999d", "2026-01-01", "yesterday", "-1é"] {
            assert!(bad.parse::<When>().is_err(), "{bad}");
        }
    }
}
