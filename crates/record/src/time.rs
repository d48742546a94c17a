//! Times as microseconds since 1970-01-01T00:00:00Z. Owns reading RFC 3339 and printing it; refuses to ask
//! what time it is.

use jiff::Timestamp;

/// Why a text is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// It is not RFC 3339 with an offset.
    #[error("must be RFC 3339 with an offset, such as 2025-01-13T12:34:56.789Z")]
    Form,
    /// It lies beyond what a nanosecond count in 64 bits can say, which other readers of the table use.
    #[error("must lie between the years 1677 and 2262")]
    Range,
}

/// 1677-09-21T00:12:43.145225Z, the first microsecond that 64 bits of nanoseconds can name.
pub const MICROS_MIN: i64 = i64::MIN / 1_000;
/// 2262-04-11T23:47:16.854775Z, the last.
pub const MICROS_MAX: i64 = i64::MAX / 1_000;

/// Reads RFC 3339 (`2025-01-13T12:34:56.789Z`, `2025-01-13 13:34:56+01:00`), cutting below the microsecond.
///
/// # Errors
/// Says whether the form or the range is wrong.
pub fn parse_rfc3339(text: &str) -> Result<i64, TimeError> {
    if let Some(micros) = parse_common(text.as_bytes()) {
        return Ok(micros);
    }
    // A leap second, an odd offset, a comma: the library knows them all. Its zone annotations (RFC 9557) do
    // not belong to RFC 3339.
    if text.len() > 64 || text.ends_with(']') || !offset_is_less_than_a_day(text) {
        return Err(TimeError::Form);
    }
    let time: Timestamp = text.parse().map_err(|_| TimeError::Form)?;
    let micros = time.as_nanosecond().div_euclid(1_000);
    i64::try_from(micros).ok().filter(|micros| (MICROS_MIN..=MICROS_MAX).contains(micros)).ok_or(TimeError::Range)
}

/// The same, and a time without an offset is UTC.
///
/// # Errors
/// As [`parse_rfc3339`].
pub fn parse_rfc3339_or_utc(text: &str) -> Result<i64, TimeError> {
    match parse_rfc3339(text) {
        Err(TimeError::Form) if text.ends_with(|last: char| last.is_ascii_digit()) => {
            parse_rfc3339(&format!("{text}Z"))
        }
        read => read,
    }
}

/// The library takes offsets up to 25:59, RFC 3339 up to 23:59.
fn offset_is_less_than_a_day(text: &str) -> bool {
    let hours = text.rsplit(['+', '-']).next().and_then(|offset| offset.get(..2));
    text.ends_with(['Z', 'z']) || hours.is_none_or(|hours| hours < "24")
}

/// `YYYY-MM-DDThh:mm:ss[.f{1,9}]Z` of the years 1700 to 2261: what nearly every client sends.
fn parse_common(text: &[u8]) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        text.get(range)?
            .iter()
            .try_fold(0_i64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
    };
    let shape = text.len() >= 20
        && text[4] == b'-'
        && text[7] == b'-'
        && text[10] == b'T'
        && text[13] == b':'
        && text[16] == b':'
        && text[text.len() - 1] == b'Z';
    if !shape {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    if !(1700..=2261).contains(&year) || !(1..=days_in_month).contains(&day) || hour > 23 || minute > 59 || second > 59
    {
        return None;
    }
    let fraction = match text.len() {
        20 => 0,
        22..=30 if text[19] == b'.' => {
            number(20..text.len() - 1)?;
            (0..6).fold(0, |sum, place| {
                let digit = text.get(20 + place).filter(|byte| byte.is_ascii_digit()).map_or(0, |byte| byte - b'0');
                sum * 10 + i64::from(digit)
            })
        }
        _ => return None,
    };
    Some((days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second) * 1_000_000 + fraction)
}

/// Days since 1970-01-01 of a Gregorian day (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// A point in time as it was asked for: a fixed one, or one that moves with the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    at: i64,
    /// Microseconds before now, where it moves.
    ago: Option<i64>,
}

impl Moment {
    /// A fixed one, in microseconds since 1970.
    #[must_use]
    pub fn at(micros: i64) -> Self {
        Self { at: micros, ago: None }
    }

    /// Reads RFC 3339 with an offset; `now`; `-15m`, so many seconds (`s`), minutes (`m`), hours (`h`), days (`d`) or
    /// weeks (`w`) before `now`; or a number since 1970 in seconds, milliseconds, microseconds or nanoseconds, by its size.
    #[must_use]
    pub fn parse(text: &str, now: i64) -> Option<Self> {
        if let Some(ago) = if text == "now" { Some(0) } else { parse_ago(text) } {
            let at = now.saturating_sub(ago).clamp(MICROS_MIN, MICROS_MAX);
            return Some(Self { at, ago: Some(ago) });
        }
        parse_rfc3339(text).ok().or_else(|| since_1970(text)).map(Self::at)
    }

    /// In microseconds since 1970.
    #[must_use]
    pub fn micros(self) -> i64 {
        self.at
    }

    /// Does it move with the clock?
    #[must_use]
    pub fn is_relative(self) -> bool {
        self.ago.is_some()
    }

    /// The same words, said at another time: what moves with the clock then meant `micros`.
    #[must_use]
    pub fn said_when(self, micros: i64) -> Self {
        Self { at: micros, ..self }
    }

    /// What stays the same however late it is said again.
    #[must_use]
    pub fn words(self) -> (bool, i64) {
        self.ago.map_or((false, self.at), |ago| (true, ago))
    }
}

/// `-15m`: microseconds before now.
fn parse_ago(text: &str) -> Option<i64> {
    let text = text.strip_prefix('-')?;
    let seconds: i64 = match text.as_bytes().last()? {
        b's' => 1,
        b'm' => 60,
        b'h' => 3_600,
        b'd' => 86_400,
        b'w' => 7 * 86_400,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    let count = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u32>().ok())??;
    Some((seconds * 1_000_000).saturating_mul(i64::from(count)))
}

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

/// Prints `2025-01-13T12:34:56.789000Z`.
#[must_use]
pub fn format_micros(micros: i64) -> String {
    Timestamp::from_microsecond(micros).map_or_else(|_| micros.to_string(), |time| format!("{time:.6}"))
}

/// Prints `2025-01-13T12:34:56.789Z`, cutting below the millisecond.
#[must_use]
pub fn format_millis(micros: i64) -> String {
    Timestamp::from_millisecond(micros.div_euclid(1_000))
        .map_or_else(|_| micros.to_string(), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_clients_send() {
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2025-01-13T12:34:56.789Z", 1_736_771_696_789_000),
            ("2025-01-13T12:34:56.7891234Z", 1_736_771_696_789_123),
            ("2025-01-13T13:34:56.789+01:00", 1_736_771_696_789_000),
            ("2025-01-13 12:34:56Z", 1_736_771_696_000_000),
            ("2024-02-29T00:00:00Z", 1_709_164_800_000_000),
            ("1969-12-31T23:59:59.999999Z", -1),
            ("1969-12-31T23:59:59.9999999+00:00", -1),
        ] {
            assert_eq!(parse_rfc3339(text), Ok(micros), "{text}");
        }
    }

    #[test]
    fn a_time_without_an_offset_may_be_utc() {
        for (text, micros) in [
            ("2025-01-13T12:34:56", 1_736_771_696_000_000),
            ("2025-01-13 12:34:56.789", 1_736_771_696_789_000),
            ("2025-01-13T12:34:56.789123", 1_736_771_696_789_123),
            ("2025-01-13T13:34:56+01:00", 1_736_771_696_000_000),
        ] {
            assert_eq!(parse_rfc3339_or_utc(text), Ok(micros), "{text}");
        }
        for text in ["", "x", "1", "2025-01-13", "2025-02-30T00:00:00", "2025-01-13T12:34:56+99:99", "12:34:56"] {
            assert_eq!(parse_rfc3339_or_utc(text), Err(TimeError::Form), "{text}");
        }
        assert_eq!(parse_rfc3339_or_utc("9999-01-01T00:00:00"), Err(TimeError::Range));
    }

    #[test]
    fn milliseconds_are_cut() {
        for (micros, text) in [
            (1_736_771_696_789_999, "2025-01-13T12:34:56.789Z"),
            (1_736_771_696_000_000, "2025-01-13T12:34:56.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(format_millis(micros), text);
        }
    }

    #[test]
    fn moments_are_fixed_or_move_with_the_clock() {
        let now = 1_736_771_696_789_000;
        for (text, micros) in [
            ("1970-01-01T00:00:01Z", 1_000_000),
            ("0", 0),
            ("1736771696", 1_736_771_696_000_000),
            ("1736771696789", 1_736_771_696_789_000),
            ("1736771696789012", 1_736_771_696_789_012),
            ("1736771696789012345", 1_736_771_696_789_012),
            ("9223372036854775807", MICROS_MAX),
        ] {
            assert_eq!(Moment::parse(text, now), Some(Moment::at(micros)), "{text}");
        }
        for (text, seconds) in
            [("now", 0), ("-30s", 30), ("-15m", 900), ("-2h", 7_200), ("-7d", 604_800), ("-2w", 1_209_600)]
        {
            let moment = Moment::parse(text, now).unwrap();
            assert_eq!((moment.micros(), moment.is_relative()), (now - seconds * 1_000_000, true), "{text}");
            assert_eq!(moment.words(), Moment::parse(text, now + 5).unwrap().words(), "{text}");
            assert_ne!(moment.words(), Moment::at(moment.micros()).words(), "{text}");
            assert_eq!(moment.said_when(7).micros(), 7);
        }
        assert_eq!(Moment::parse("-4294967295w", now).map(Moment::micros), Some(MICROS_MIN));
        let many = "9".repeat(30);
        for bad in
            ["", "-", "-m", "15m", "-1y", "-1.5h", "--1h", "-1", "-99999999999d", "-1ä", "1.5", "99999999999", &many]
        {
            assert_eq!(Moment::parse(bad, now), None, "{bad}");
        }
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in [
            "",
            "x",
            "2025-13-01T00:00:00Z",
            "2025-02-30T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2025-01-13T12:34:56",
            "2025-01-13",
            "2025-01-13T25:00:00Z",
            "2025-01-13T12:60:00Z",
            "2025-01-13T12:34:56+99:99",
            "2025-01-13T12:34:56.Z",
            "20xx-01-13T12:34:56Z",
            "2025-01-13T12:34:56Z[UTC]",
            "2025-01-13T12:34:56.7x9Z",
        ] {
            assert_eq!(parse_rfc3339(text), Err(TimeError::Form), "{text}");
        }
        for text in ["0000-01-01T00:00:00Z", "1677-01-01T00:00:00Z", "2262-12-01T00:00:00Z", "9999-01-01T00:00:00Z"] {
            assert_eq!(parse_rfc3339(text), Err(TimeError::Range), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(micros in MICROS_MIN..=MICROS_MAX) {
            prop_assert_eq!(parse_rfc3339(&format_micros(micros)), Ok(micros));
        }

        #[test]
        fn the_short_cut_agrees_with_the_library(micros in -8_520_336_000_000_000_i64..9_214_646_400_000_000) {
            let text = format_micros(micros);
            let library = text.parse::<Timestamp>().map(Timestamp::as_microsecond);
            prop_assert_eq!(parse_common(text.as_bytes()), library.ok());
        }
    }
}
