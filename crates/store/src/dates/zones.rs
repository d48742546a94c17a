//! Time zones by their names, and the way between an instant and what a clock in a zone shows. Owns the abbreviations, which are
//! PostgreSQL's: each stands for one offset, in summer and in winter.

use datafusion::common::Result;
use jiff::tz::{Disambiguation, Offset, TimeZone};

use super::units::{MINUTE, micros, out_of_range, wall};
use super::wrong;

/// Abbreviations and their minutes east of Greenwich: those of PostgreSQL's default set that mean the same everywhere in it.
const ABBREVIATIONS: &[(&str, i32)] = &[
    ("UTC", 0),
    ("UT", 0),
    ("GMT", 0),
    ("Z", 0),
    ("ZULU", 0),
    ("WET", 0),
    ("WEST", 60),
    ("BST", 60),
    ("CET", 60),
    ("CEST", 120),
    ("MET", 60),
    ("MEST", 120),
    ("EET", 120),
    ("EEST", 180),
    ("SAST", 120),
    ("EST", -300),
    ("EDT", -240),
    ("CST", -360),
    ("CDT", -300),
    ("MST", -420),
    ("MDT", -360),
    ("PST", -480),
    ("PDT", -420),
    ("AKST", -540),
    ("AKDT", -480),
    ("HST", -600),
    ("JST", 540),
    ("KST", 540),
    ("HKT", 480),
    ("AWST", 480),
    ("ACST", 570),
    ("AEST", 600),
    ("AEDT", 660),
    ("NZST", 720),
    ("NZDT", 780),
];

/// A zone by its name or its abbreviation.
pub(super) fn zone_of(name: &str) -> Result<TimeZone> {
    let name = name.trim();
    if let Some((_, minutes)) = ABBREVIATIONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        let offset = Offset::from_seconds(minutes * 60);
        return offset.map(Offset::to_time_zone).map_err(|_| wrong(format!("there is no offset of {minutes} minutes")));
    }
    TimeZone::get(name).map_err(|_| {
        let shown: String = name.chars().take(40).collect();
        let is_offset = name.starts_with(['+', '-']);
        let hint = if is_offset { "; an offset is none: it would mean the opposite in PostgreSQL" } else { "" };
        wrong(format!("there is no time zone {shown:?}; use a name such as 'Europe/Berlin' or 'UTC'{hint}"))
    })
}

fn instant(time: i64) -> Result<jiff::Timestamp> {
    jiff::Timestamp::from_microsecond(time).map_err(|_| out_of_range(time))
}

/// What a clock in the zone shows.
pub(super) fn to_wall(zone: &TimeZone, time: i64) -> Result<i64> {
    micros(zone.to_datetime(instant(time)?))
}

/// When a clock in the zone shows it: of two such moments the later one; where there is none, as if the clock had not been
/// put forward yet. PostgreSQL does the same.
pub(super) fn to_instant(zone: &TimeZone, time: i64) -> Result<i64> {
    let moments = zone.to_ambiguous_timestamp(wall(time)?);
    let moment = moments.disambiguate(Disambiguation::Later);
    moment.map(jiff::Timestamp::as_microsecond).map_err(|_| out_of_range(time))
}

/// Microseconds by which a clock in the zone is before one in UTC at an instant.
pub(super) fn offset_at(zone: &TimeZone, time: i64) -> Result<i64> {
    Ok(i64::from(zone.to_offset(instant(time)?).seconds()) * (MINUTE / 60))
}
