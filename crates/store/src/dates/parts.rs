//! A time, or a stretch of time, in the parts that people name: what `extract` answers and `to_char` prints.

use arrow::datatypes::IntervalMonthDayNano;
use datafusion::common::Result;
use jiff::civil::DateTime;

use super::units::{DAY, HOUR, MINUTE, SECOND, Unit, micros_of_second, wall};
use super::wrong;

/// What a value is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Parts {
    /// A moment; microseconds since 1970, and the same as date and clock.
    Moment(i64, DateTime),
    /// Months, days and microseconds.
    Stretch(i64, i64, i64),
}

/// What parts are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Instant,
    Wall,
    Day,
    Clock,
    Stretch,
}

impl Of {
    /// Refuses a unit that it has not. A day has hours where nobody is strict about it.
    pub(super) fn check(self, unit: Unit, strictly: bool) -> Result<()> {
        let of_zone = matches!(unit, Unit::Zone | Unit::ZoneHour | Unit::ZoneMinute);
        let of_clock = unit.is_within_day();
        let what = match self {
            Of::Instant => return Ok(()),
            Of::Wall if of_zone => "a timestamp without time zone",
            Of::Day if of_zone || (of_clock && strictly) => "a date",
            Of::Clock if !(of_clock || unit == Unit::Epoch) => "a time",
            Of::Stretch if of_zone => "an interval",
            _ => return Ok(()),
        };
        Err(wrong(format!("{what} has no {}", unit.name())))
    }
}

/// A number that `extract` answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Whole(i64),
    Fraction(f64),
}

impl Number {
    pub(super) fn whole(self) -> i64 {
        match self {
            Number::Whole(value) => value,
            #[expect(clippy::cast_possible_truncation, reason = "only fractions of seconds are asked for so")]
            Number::Fraction(value) => value as i64,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a double is what was asked for")]
    pub(super) fn float(self) -> f64 {
        match self {
            Number::Whole(value) => value as f64,
            Number::Fraction(value) => value,
        }
    }
}

/// Does a unit have fractions?
pub(super) fn is_fraction(unit: Unit) -> bool {
    matches!(unit, Unit::Second | Unit::Millisecond | Unit::Epoch | Unit::Julian)
}

impl Parts {
    pub(super) fn moment(time: i64) -> Result<Parts> {
        Ok(Parts::Moment(time, wall(time)?))
    }

    pub(super) fn stretch(value: IntervalMonthDayNano) -> Parts {
        Parts::Stretch(value.months.into(), value.days.into(), value.nanoseconds / 1_000)
    }

    /// Days and what is left of them: how PostgreSQL subtracts times.
    pub(super) fn duration(time: i64) -> Parts {
        Parts::Stretch(0, time / DAY, time % DAY)
    }

    /// The year as people count: there is no year 0.
    pub(super) fn year(&self) -> i64 {
        match self {
            Parts::Moment(_, wall) if wall.year() <= 0 => i64::from(wall.year()) - 1,
            Parts::Moment(_, wall) => wall.year().into(),
            Parts::Stretch(months, ..) => months / 12,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers of seconds and days are far below 2^53")]
    pub(super) fn get(&self, unit: Unit) -> Result<Number> {
        let whole = |value: i64| Ok(Number::Whole(value));
        let micros = match self {
            Parts::Moment(_, wall) => micros_of_second(wall),
            Parts::Stretch(_, _, micros) => micros % MINUTE,
        };
        let year = self.year();
        match (unit, self) {
            (Unit::Microsecond, _) => whole(micros),
            (Unit::Millisecond, _) => Ok(Number::Fraction(micros as f64 / 1e3)),
            (Unit::Second, _) => Ok(Number::Fraction(micros as f64 / 1e6)),
            (Unit::Minute, Parts::Moment(_, wall)) => whole(wall.minute().into()),
            (Unit::Minute, Parts::Stretch(_, _, micros)) => whole(micros % HOUR / MINUTE),
            (Unit::Hour, Parts::Moment(_, wall)) => whole(wall.hour().into()),
            (Unit::Hour, Parts::Stretch(_, _, micros)) => whole(micros / HOUR),
            (Unit::Day, Parts::Moment(_, wall)) => whole(wall.day().into()),
            (Unit::Day, Parts::Stretch(_, days, _)) => whole(*days),
            (Unit::Month, Parts::Moment(_, wall)) => whole(wall.month().into()),
            (Unit::Month, Parts::Stretch(months, ..)) => whole(months % 12),
            (Unit::Quarter, Parts::Moment(_, wall)) => whole((i64::from(wall.month()) + 2) / 3),
            (Unit::Quarter, Parts::Stretch(months, ..)) => whole(months % 12 / 3 + 1),
            (Unit::Year, _) => whole(year),
            (Unit::Decade, Parts::Moment(_, wall)) => whole(i64::from(wall.year()).div_euclid(10)),
            (Unit::Decade, Parts::Stretch(..)) => whole(year / 10),
            (Unit::Century, Parts::Moment(..)) => whole(nth(year, 100)),
            (Unit::Century, Parts::Stretch(..)) => whole(year / 100),
            (Unit::Millennium, Parts::Moment(..)) => whole(nth(year, 1_000)),
            (Unit::Millennium, Parts::Stretch(..)) => whole(year / 1_000),
            (Unit::Epoch, Parts::Moment(time, _)) => Ok(Number::Fraction(*time as f64 / 1e6)),
            (Unit::Epoch, Parts::Stretch(months, days, micros)) => {
                // A year is 365.25 days and a month is 30 of them.
                let days = *days as f64 + (months % 12 * 30) as f64 + (months / 12) as f64 * 365.25;
                Ok(Number::Fraction(days * 86_400.0 + *micros as f64 / 1e6))
            }
            (Unit::Week, Parts::Moment(_, wall)) => whole(wall.date().iso_week_date().week().into()),
            (Unit::Dow, Parts::Moment(_, wall)) => whole(wall.weekday().to_sunday_zero_offset().into()),
            (Unit::IsoDow, Parts::Moment(_, wall)) => whole(wall.weekday().to_monday_one_offset().into()),
            (Unit::Doy, Parts::Moment(_, wall)) => whole(wall.day_of_year().into()),
            (Unit::IsoYear, Parts::Moment(_, wall)) => {
                let year = i64::from(wall.date().iso_week_date().year());
                whole(if year <= 0 { year - 1 } else { year })
            }
            (Unit::Julian, Parts::Moment(time, _)) => Ok(Number::Fraction(julian(*time) as f64 + part_of_day(*time))),
            (Unit::Zone | Unit::ZoneHour | Unit::ZoneMinute, Parts::Moment(..)) => whole(0),
            (unit, Parts::Stretch(..)) => Err(wrong(format!("an interval has no {}", unit.name()))),
        }
    }
}

/// The Julian day.
pub(super) fn julian(time: i64) -> i64 {
    time.div_euclid(DAY) + 2_440_588
}

#[expect(clippy::cast_precision_loss, reason = "a day has far fewer microseconds than 2^53")]
fn part_of_day(time: i64) -> f64 {
    time.rem_euclid(DAY) as f64 / DAY as f64
}

/// In which hundred or thousand years a year is, the first beginning with year 1.
fn nth(year: i64, years: i64) -> i64 {
    match year > 0 {
        true => (year + years - 1) / years,
        false => -((years - 1 - year) / years),
    }
}

/// How much older `end` is than `start`, in months, days and microseconds, each as people count.
pub(super) fn age(end: i64, start: i64) -> Result<IntervalMonthDayNano> {
    let (later, earlier) = (end.max(start), end.min(start));
    let (a, b) = (wall(later)?, wall(earlier)?);
    let clock =
        |wall: &DateTime| i64::from(wall.hour()) * HOUR + i64::from(wall.minute()) * MINUTE + micros_of_second(wall);
    let mut micros = clock(&a) - clock(&b);
    let mut days = i64::from(a.day()) - i64::from(b.day());
    let mut months = (i64::from(a.year()) - i64::from(b.year())) * 12 + i64::from(a.month()) - i64::from(b.month());
    if micros < 0 {
        micros += DAY;
        days -= 1;
    }
    // A month that is borrowed has the days of the earlier date's month.
    while days < 0 {
        days += i64::from(b.date().days_in_month());
        months -= 1;
    }
    let sign = if end < start { -1 } else { 1 };
    let narrow = |value: i64| i32::try_from(value * sign).map_err(|_| wrong("the age is out of range".to_owned()));
    Ok(IntervalMonthDayNano::new(narrow(months)?, narrow(days)?, micros * sign * 1_000))
}

/// Microseconds of a day as hours, minutes, seconds and the rest.
pub(super) fn clock(micros: i64) -> (i64, i64, i64, i64) {
    (micros / HOUR, micros % HOUR / MINUTE, micros % MINUTE / SECOND, micros % SECOND)
}
