//! Times as log lines write them: with or without a year, a fraction, an offset.
//!
//! Owns turning the pieces of a time into one moment. Refuses to guess: a field out of its range means that it was no time.

use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{Offset, TimeZone};
use runstone_record::time::{MICROS_MAX, MICROS_MIN};

/// What a time without an offset is read in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Zone(TimeZone);

impl Zone {
    pub(crate) const UTC: Zone = Zone(TimeZone::UTC);
}

impl FromStr for Zone {
    type Err = String;

    fn from_str(text: &str) -> Result<Zone, String> {
        if let Some(offset) = parse_offset(text) {
            return Ok(Zone(TimeZone::fixed(offset)));
        }
        TimeZone::get(text)
            .map(Zone)
            .map_err(|_| format!("name a time zone such as Europe/Berlin, an offset such as +02:00, or UTC: {text}"))
    }
}

/// The pieces of a time. `None` where the format has no place for them.
#[derive(Debug, Default)]
pub(super) struct Pieces<'t> {
    pub(super) year: Option<&'t str>,
    pub(super) month: Option<&'t str>,
    pub(super) day: Option<&'t str>,
    pub(super) hour: Option<&'t str>,
    pub(super) minute: Option<&'t str>,
    pub(super) second: Option<&'t str>,
    pub(super) fraction: Option<&'t str>,
    pub(super) offset: Option<&'t str>,
}

impl Pieces<'_> {
    /// The moment; `None` if some piece is out of its range.
    pub(super) fn moment(&self, zone: &Zone, now: Timestamp) -> Option<Timestamp> {
        let zone = match self.offset {
            Some(text) => TimeZone::fixed(parse_offset(text.trim_start())?),
            None => zone.0.clone(),
        };
        let time = self.time_of_day()?;
        let month = month(self.month?)?;
        let day = number::<i8>(self.day?.trim_start())?;
        let moment = match self.year {
            Some(year) => at(Date::new(full_year(year)?, month, day).ok()?.to_datetime(time), &zone)?,
            None => latest(month, day, time, &zone, now)?,
        };
        (MICROS_MIN..=MICROS_MAX).contains(&moment.as_microsecond()).then_some(moment)
    }

    fn time_of_day(&self) -> Option<Time> {
        // A leap second has no place in the record's time line: it is read as the second before.
        let second = number::<i8>(self.second?)?;
        let second = if second == 60 { 59 } else { second };
        let micros = self.fraction.map_or(Some(0), micros)?;
        Time::new(number(self.hour?)?, number(self.minute?)?, second, micros * 1_000).ok()
    }
}

/// The latest moment with this month, day and time that is not after `now`. Leap days can be eight years apart.
fn latest(month: i8, day: i8, time: Time, zone: &TimeZone, now: Timestamp) -> Option<Timestamp> {
    let this_year = now.to_zoned(zone.clone()).year();
    (0..=8).find_map(|back| {
        let date = Date::new(this_year.checked_sub(back)?, month, day).ok()?;
        at(date.to_datetime(time), zone).filter(|moment| *moment <= now)
    })
}

/// In a gap the moment after it, of an overlap the first: what most software does.
fn at(civil: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    zone.to_ambiguous_timestamp(civil).compatible().ok()
}

/// A fraction of one to nine digits; what is finer than a microsecond is cut off.
fn micros(fraction: &str) -> Option<i32> {
    let digits = fraction.get(..6).unwrap_or(fraction);
    let scale = 10_i32.checked_pow(6_u32.checked_sub(u32::try_from(digits.len()).ok()?)?)?;
    Some(number::<i32>(digits)? * scale)
}

fn full_year(text: &str) -> Option<i16> {
    let year = number::<i16>(text)?;
    Some(match text.len() {
        2 if year < 69 => 2000 + year,
        2 => 1900 + year,
        _ => year,
    })
}

fn month(text: &str) -> Option<i8> {
    const NAMES: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    if text.as_bytes().first()?.is_ascii_digit() {
        return number(text);
    }
    let at = NAMES.iter().position(|name| text.eq_ignore_ascii_case(name))?;
    i8::try_from(at + 1).ok()
}

/// `Z`, `UTC`, `GMT`, `+02`, `+0200` or `+02:00`; the hour below 24, the minute below 60.
fn parse_offset(text: &str) -> Option<Offset> {
    if ["Z", "UTC", "GMT"].iter().any(|name| text.eq_ignore_ascii_case(name)) {
        return Some(Offset::UTC);
    }
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let hours = number::<i32>(rest.get(..2)?)?;
    let minutes = match rest.get(2..)? {
        "" => 0,
        more => {
            let digits = more.strip_prefix(':').unwrap_or(more);
            number::<i32>(digits).filter(|_| digits.len() == 2)?
        }
    };
    let valid = hours < 24 && minutes < 60;
    valid.then(|| Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()).flatten()
}

/// Digits only: no sign, no blank.
fn number<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces<'t>(year: Option<&'t str>, month: &'t str, day: &'t str, hour: &'t str) -> Pieces<'t> {
        let (month, day, hour) = (Some(month), Some(day), Some(hour));
        Pieces { year, month, day, hour, minute: Some("30"), second: Some("00"), ..Pieces::default() }
    }

    fn read(pieces: &Pieces<'_>, zone: &str, now: &str) -> Option<String> {
        let moment = pieces.moment(&zone.parse().unwrap(), now.parse().unwrap());
        moment.map(|moment| moment.to_string())
    }

    const NOW: &str = "2025-03-01T12:00:00Z";

    #[test]
    fn a_gap_moves_forward_and_an_overlap_takes_the_first() {
        let gap = pieces(Some("2025"), "03", "30", "02");
        assert_eq!(read(&gap, "Europe/Berlin", NOW).as_deref(), Some("2025-03-30T01:30:00Z"));
        let overlap = pieces(Some("2025"), "10", "26", "02");
        assert_eq!(read(&overlap, "Europe/Berlin", NOW).as_deref(), Some("2025-10-26T00:30:00Z"));
    }

    #[test]
    fn without_a_year_it_is_the_latest_that_is_not_in_the_future() {
        assert_eq!(read(&pieces(None, "Mar", " 1", "11"), "UTC", NOW).as_deref(), Some("2025-03-01T11:30:00Z"));
        assert_eq!(read(&pieces(None, "Mar", " 1", "12"), "UTC", NOW).as_deref(), Some("2024-03-01T12:30:00Z"));
        assert_eq!(read(&pieces(None, "Dec", "31", "23"), "UTC", NOW).as_deref(), Some("2024-12-31T23:30:00Z"));
        assert_eq!(read(&pieces(None, "Feb", "29", "10"), "UTC", NOW).as_deref(), Some("2024-02-29T10:30:00Z"));
        assert_eq!(
            read(&pieces(None, "Feb", "29", "10"), "UTC", "2103-01-01T00:00:00Z").as_deref(),
            Some("2096-02-29T10:30:00Z")
        );
    }

    #[test]
    fn the_new_year_begins_in_the_zone_of_the_line() {
        let eve = "2024-12-31T23:45:00Z";
        assert_eq!(read(&pieces(None, "Jan", "1", "00"), "+01:00", eve).as_deref(), Some("2024-12-31T23:30:00Z"));
        assert_eq!(read(&pieces(None, "Jan", "1", "00"), "UTC", eve).as_deref(), Some("2024-01-01T00:30:00Z"));
    }

    #[test]
    fn a_field_out_of_its_range_is_no_time() {
        for (year, month, day, hour) in [
            ("2025", "13", "01", "00"),
            ("2025", "02", "30", "00"),
            ("2025", "01", "00", "00"),
            ("2025", "01", "01", "24"),
            ("0000", "01", "01", "00"),
            ("9999", "01", "01", "00"),
            ("1600", "01", "01", "00"),
            ("2025", "Foo", "01", "00"),
        ] {
            assert_eq!(read(&pieces(Some(year), month, day, hour), "UTC", NOW), None, "{year}-{month}-{day} {hour}");
        }
    }

    #[test]
    fn offsets() {
        for (text, seconds) in [("Z", 0), ("+02:00", 7_200), ("-0530", -19_800), ("+02", 7_200), ("UTC", 0)] {
            assert_eq!(parse_offset(text).map(Offset::seconds), Some(seconds), "{text}");
        }
        for text in ["+99:99", "+24:00", "+02:60", "+2", "+02:0", "+02:000", "02:00", "CET", ""] {
            assert_eq!(parse_offset(text), None, "{text}");
        }
    }

    #[test]
    fn two_digits_of_a_year_and_fractions() {
        assert_eq!(full_year("68"), Some(2068));
        assert_eq!(full_year("69"), Some(1969));
        assert_eq!(micros("7"), Some(700_000));
        assert_eq!(micros("789"), Some(789_000));
        assert_eq!(micros("789012345"), Some(789_012));
    }

    #[test]
    fn an_unknown_zone_is_named() {
        assert!("Mars/Olympus".parse::<Zone>().unwrap_err().ends_with("Mars/Olympus"));
    }
}
