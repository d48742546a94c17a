//! The units of time that functions take by name, as PostgreSQL spells them, and arithmetic on microseconds since 1970 in
//! UTC. Owns calendar rules; refuses to know arrays.

use datafusion::common::{DataFusionError, Result};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use super::wrong;

pub(super) const SECOND: i64 = 1_000_000;
pub(super) const MINUTE: i64 = 60 * SECOND;
pub(super) const HOUR: i64 = 60 * MINUTE;
pub(super) const DAY: i64 = 24 * HOUR;
/// Days from the Monday before 1970 to its first day, a Thursday.
const MONDAY: i64 = 3;

/// A unit, or a field of a time that is no unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Microsecond,
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
    Decade,
    Century,
    Millennium,
    Dow,
    IsoDow,
    Doy,
    IsoYear,
    Epoch,
    Julian,
    Zone,
    ZoneHour,
    ZoneMinute,
}

/// Every name, the one of the documentation first.
const NAMES: &[(Unit, &str)] = &[
    (Unit::Microsecond, "microsecond microseconds us usec usecs usecond useconds microsecon"),
    (Unit::Millisecond, "millisecond milliseconds ms msec msecs msecond mseconds"),
    (Unit::Second, "second seconds s sec secs"),
    (Unit::Minute, "minute minutes m min mins"),
    (Unit::Hour, "hour hours h hr hrs hh"),
    (Unit::Day, "day days d dd"),
    (Unit::Week, "week weeks w wk"),
    (Unit::Month, "month months mon mons mm"),
    (Unit::Quarter, "quarter quarters qtr q"),
    (Unit::Year, "year years y yr yrs yyyy"),
    (Unit::Decade, "decade decades dec decs"),
    (Unit::Century, "century centuries c cent"),
    (Unit::Millennium, "millennium millenniums millennia mil mils"),
    (Unit::Dow, "dow"),
    (Unit::IsoDow, "isodow"),
    (Unit::Doy, "doy"),
    (Unit::IsoYear, "isoyear"),
    (Unit::Epoch, "epoch"),
    (Unit::Julian, "julian jd"),
    (Unit::Zone, "timezone"),
    (Unit::ZoneHour, "timezone_hour"),
    (Unit::ZoneMinute, "timezone_minute"),
];

impl Unit {
    pub(super) fn of(text: &str) -> Result<Unit> {
        let wanted = text.trim().to_ascii_lowercase();
        let found = NAMES.iter().find(|(_, names)| names.split(' ').any(|name| name == wanted));
        found.map(|(unit, _)| *unit).ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            wrong(format!("there is no unit of time {shown:?}; use microsecond to year, such as 'hour'"))
        })
    }

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        let known = NAMES.iter().find(|(unit, _)| *unit == self);
        known.and_then(|(_, names)| names.split(' ').next()).unwrap_or_default()
    }

    /// Is it a part of what a clock shows?
    pub(super) fn is_within_day(self) -> bool {
        self.length().is_some_and(|(length, _)| length < DAY)
    }

    /// Microseconds of a unit that always has as many; a week begins on Monday.
    fn length(self) -> Option<(i64, i64)> {
        Some(match self {
            Unit::Microsecond => (1, 0),
            Unit::Millisecond => (1_000, 0),
            Unit::Second => (SECOND, 0),
            Unit::Minute => (MINUTE, 0),
            Unit::Hour => (HOUR, 0),
            Unit::Day => (DAY, 0),
            Unit::Week => (7 * DAY, MONDAY * DAY),
            _ => return None,
        })
    }

    /// Months of a unit that is made of them.
    fn months(self) -> Option<i64> {
        Some(match self {
            Unit::Month => 1,
            Unit::Quarter => 3,
            Unit::Year => 12,
            Unit::Decade => 120,
            Unit::Century => 1_200,
            Unit::Millennium => 12_000,
            _ => return None,
        })
    }

    /// How to cut a time to the unit.
    pub(super) fn cut(self) -> Result<Cut> {
        match (self.length(), self.months()) {
            (Some((length, shift)), _) => Ok(Cut::Length(length, shift)),
            // Centuries and millennia begin with their year 1.
            (_, Some(months)) if months >= 1_200 => Ok(Cut::Months(months, 12)),
            (_, Some(months)) => Ok(Cut::Months(months, 0)),
            _ => Err(wrong("date_trunc takes microsecond to millennium".to_owned())),
        }
    }

    /// How many borders of the unit lie between two times.
    pub(super) fn between(self, start: i64, end: i64) -> Result<i64> {
        let counted = |time: i64| match (self.length(), self.months()) {
            (Some((length, shift)), _) => {
                Ok(time.checked_add(shift).ok_or_else(|| out_of_range(time))?.div_euclid(length))
            }
            (_, Some(months)) => Ok(month_number(time)?.div_euclid(months)),
            _ => Err(wrong("datediff takes microsecond to year".to_owned())),
        };
        let (end, start) = (counted(end)?, counted(start)?);
        end.checked_sub(start).ok_or_else(|| wrong("the times are too far from each other".to_owned()))
    }

    /// A time so many units later. The last days of a month stay within it.
    pub(super) fn later(self, time: i64, count: i64) -> Result<i64> {
        let far = || out_of_range(time);
        match (self.length(), self.months()) {
            (Some((length, _)), _) => count.checked_mul(length).and_then(|add| time.checked_add(add)).ok_or_else(far),
            (_, Some(months)) => {
                let months = count.checked_mul(months).ok_or_else(far)?;
                let span = Span::new().try_months(months).map_err(|_| far())?;
                micros(wall(time)?.checked_add(span).map_err(|_| far())?)
            }
            _ => Err(wrong("dateadd takes microsecond to year".to_owned())),
        }
    }
}

/// What a time is cut to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cut {
    Length(i64, i64),
    Months(i64, i64),
}

impl Cut {
    #[inline]
    pub(super) fn of(self, time: i64) -> Result<i64> {
        match self {
            Cut::Length(length, shift) => Ok(time.wrapping_sub(time.wrapping_add(shift).rem_euclid(length))),
            Cut::Months(months, shift) => {
                let number = (month_number(time)? - shift).div_euclid(months) * months + shift;
                let year = i16::try_from(number.div_euclid(12)).map_err(|_| out_of_range(time))?;
                let month = i8::try_from(number.rem_euclid(12) + 1).map_err(|_| out_of_range(time))?;
                micros(DateTime::new(year, month, 1, 0, 0, 0, 0).map_err(|_| out_of_range(time))?)
            }
        }
    }
}

pub(super) fn out_of_range(time: i64) -> DataFusionError {
    wrong(format!("the time is out of range: {time} microseconds since 1970"))
}

/// The date and the clock of a time in UTC.
pub(super) fn wall(time: i64) -> Result<DateTime> {
    let time = Timestamp::from_microsecond(time).map_err(|_| out_of_range(time))?;
    Ok(TimeZone::UTC.to_datetime(time))
}

/// And back.
pub(super) fn micros(wall: DateTime) -> Result<i64> {
    let time = TimeZone::UTC.to_timestamp(wall);
    time.map(Timestamp::as_microsecond).map_err(|_| wrong(format!("the time is out of range: {wall}")))
}

fn month_number(time: i64) -> Result<i64> {
    let wall = wall(time)?;
    Ok(i64::from(wall.year()) * 12 + i64::from(wall.month()) - 1)
}

pub(super) fn micros_of_second(wall: &DateTime) -> i64 {
    i64::from(wall.second()) * SECOND + i64::from(wall.subsec_nanosecond()) / 1_000
}
