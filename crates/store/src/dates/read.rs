//! Texts read by a pattern, as PostgreSQL's `to_timestamp` and `to_date` do: separators match any separators, numbers end
//! where their digits do. Owns what is wrong with a text; refuses values that no calendar has.

use datafusion::common::Result;
use jiff::civil::{Date, DateTime, ISOWeekDate, Weekday};

use super::pattern::{Field, Kind, MONTHS, Piece};
use super::units::{HOUR, MINUTE, SECOND, micros};
use super::wrong;

/// What was read so far.
#[derive(Debug, Default)]
struct Found {
    year: Option<i64>,
    iso_year: Option<i64>,
    before_christ: bool,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    iso_week: Option<i64>,
    iso_day: Option<i64>,
    julian: Option<i64>,
    hour: Option<i64>,
    half: Option<bool>,
    minute: Option<i64>,
    second: Option<i64>,
    second_of_day: Option<i64>,
    micros: Option<i64>,
    offset: i64,
    offset_sign: i64,
}

/// Reads a text. Microseconds since 1970.
pub(super) fn read(pieces: &[Piece], text: &str) -> Result<i64> {
    let mut found = Found { offset_sign: 1, ..Found::default() };
    let mut rest = text.trim_start();
    for (place, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Text(separators) => rest = pass(separators, rest),
            Piece::Field(field) => {
                let alone = !matches!(pieces.get(place + 1), Some(Piece::Field(_)));
                rest = found.take(field, rest, alone)?;
            }
        }
    }
    found.time()
}

/// Passes what stands for a pattern's text: any separators for separators, any character for a letter.
fn pass<'t>(pattern: &str, mut rest: &'t str) -> &'t str {
    let separates = |c: char| !c.is_alphanumeric();
    for wanted in pattern.chars() {
        if wanted.is_alphanumeric() {
            rest = rest.strip_prefix(|_: char| true).unwrap_or(rest);
        } else if let Some(after) = rest.strip_prefix(separates) {
            // A sign belongs to what comes after it.
            let signed =
                rest.starts_with(['+', '-']) && wanted != '-' && after.starts_with(|c: char| c.is_ascii_digit());
            rest = if signed { rest } else { after };
        }
    }
    rest
}

impl Found {
    fn take<'t>(&mut self, field: &Field, rest: &'t str, alone: bool) -> Result<&'t str> {
        let rest = rest.trim_start();
        let number = |most: usize| number(field, rest, if alone || field.fill { 18 } else { most });
        let (set, most): (&mut Option<i64>, usize) = match field.kind {
            Kind::Year(digits @ 1..=3) => {
                let (value, length) = number(digits as usize)?;
                self.year = Some(if length < 4 { near_2020(value) } else { value });
                return Ok(&rest[length..]);
            }
            Kind::YearComma => {
                let (thousands, length) = number(4)?;
                let after = rest[length..].strip_prefix(',').ok_or_else(|| invalid(field, rest))?;
                let (ones, more) = self::number(field, after, 3)?;
                self.year = Some(thousands * 1_000 + ones);
                return Ok(&after[more..]);
            }
            Kind::MonthName | Kind::MonthShort => {
                let (month, after) = month(field, rest)?;
                self.month = Some(month);
                return Ok(after);
            }
            Kind::DayName | Kind::DayShort | Kind::Zone | Kind::Roman => {
                let end = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
                if field.kind == Kind::Roman || end == 0 || (field.kind == Kind::Zone && !is_utc(&rest[..end])) {
                    return Err(invalid(field, rest));
                }
                return Ok(&rest[end..]);
            }
            Kind::Half(_) | Kind::Era(_) => return self.letters(field, rest),
            Kind::Fraction(digits) => {
                let (value, length) = number(digits as usize)?;
                let length_of_six = u32::try_from(length.min(6)).unwrap_or(6);
                self.micros = Some(
                    value / 10_i64.pow(u32::try_from(length).unwrap_or(6) - length_of_six)
                        * 10_i64.pow(6 - length_of_six),
                );
                return Ok(&rest[length..]);
            }
            Kind::ZoneHour | Kind::ZoneMinute | Kind::Offset => return self.offset(field, rest),
            Kind::Dow | Kind::Quarter | Kind::Century | Kind::Week | Kind::WeekOfMonth | Kind::IsoDayOfYear => {
                // They say nothing that a year, a month and a day do not.
                let (_, length) = number(5)?;
                return Ok(&rest[length..]);
            }
            Kind::Year(_) => (&mut self.year, 4),
            Kind::IsoYear(_) => (&mut self.iso_year, 4),
            Kind::Month => (&mut self.month, 2),
            Kind::Day => (&mut self.day, 2),
            Kind::DayOfYear => (&mut self.day_of_year, 3),
            Kind::IsoDow => (&mut self.iso_day, 1),
            Kind::Hour24 | Kind::Hour12 => (&mut self.hour, 2),
            Kind::Minute => (&mut self.minute, 2),
            Kind::Second => (&mut self.second, 2),
            Kind::SecondOfDay => (&mut self.second_of_day, 5),
            Kind::IsoWeek => (&mut self.iso_week, 2),
            Kind::Julian => (&mut self.julian, 18),
        };
        let (value, length) = number(most)?;
        *set = Some(value);
        Ok(&rest[length..])
    }

    fn letters<'t>(&mut self, field: &Field, rest: &'t str) -> Result<&'t str> {
        let words = [("a.m.", 0), ("p.m.", 1), ("am", 0), ("pm", 1), ("a.d.", 2), ("b.c.", 3), ("ad", 2), ("bc", 3)];
        let starts = |word: &str| rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
        let word = words.into_iter().find(|(word, _)| starts(word)).ok_or_else(|| invalid(field, rest))?;
        match (word.1, matches!(field.kind, Kind::Half(_))) {
            (half @ 0..=1, true) => self.half = Some(half == 1),
            (era @ 2..=3, false) => self.before_christ = era == 3,
            _ => return Err(invalid(field, rest)),
        }
        Ok(&rest[word.0.len()..])
    }

    fn offset<'t>(&mut self, field: &Field, rest: &'t str) -> Result<&'t str> {
        let mut rest = rest;
        if field.kind != Kind::ZoneMinute {
            let signed = rest.strip_prefix(['+', '-']);
            self.offset_sign = if rest.starts_with('-') { -1 } else { 1 };
            rest = signed.unwrap_or(rest);
        }
        let (value, length) = number(field, rest, 2)?;
        self.offset += value * if field.kind == Kind::ZoneMinute { MINUTE } else { HOUR };
        rest = &rest[length..];
        if field.kind == Kind::Offset
            && let Some(after) = rest.strip_prefix(':')
        {
            let (minutes, length) = number(field, after, 2)?;
            self.offset += minutes * MINUTE;
            rest = &after[length..];
        }
        Ok(rest)
    }

    fn date(&self) -> Result<Date> {
        let wrong_date = || wrong("the text names no date of the calendar".to_owned());
        let small = |value: i64| i8::try_from(value).map_err(|_| wrong_date());
        if let Some(day) = self.julian {
            return super::units::wall((day - 2_440_588).saturating_mul(super::units::DAY)).map(DateTime::date);
        }
        let year = match self.year.or(self.iso_year) {
            // Before year 1 comes year -1.
            Some(year) if self.before_christ => 1 - year,
            Some(year) => year,
            None => 0,
        };
        let year = i16::try_from(year).map_err(|_| wrong_date())?;
        if self.iso_year.is_some()
            && let Some(week) = self.iso_week
        {
            let day = Weekday::from_monday_one_offset(small(self.iso_day.unwrap_or(1))?).map_err(|_| wrong_date())?;
            return ISOWeekDate::new(year, small(week)?, day).map(Date::from).map_err(|_| wrong_date());
        }
        if let Some(day) = self.day_of_year {
            let first = Date::new(year, 1, 1).map_err(|_| wrong_date())?;
            let day = i16::try_from(day).map_err(|_| wrong_date())?;
            return first.with().day_of_year(day).build().map_err(|_| wrong_date());
        }
        Date::new(year, small(self.month.unwrap_or(1))?, small(self.day.unwrap_or(1))?).map_err(|_| wrong_date())
    }

    fn time(&self) -> Result<i64> {
        let within = |value: Option<i64>, most: i64, what: &str| match value.unwrap_or(0) {
            value if (0..=most).contains(&value) => Ok(value),
            value => Err(wrong(format!("there is no {what} {value}"))),
        };
        let mut hour = within(self.hour, 24, "hour")?;
        if let Some(afternoon) = self.half {
            if !(1..=12).contains(&hour) {
                return Err(wrong(format!("there is no hour {hour} with AM and PM; use HH24")));
            }
            hour = hour % 12 + if afternoon { 12 } else { 0 };
        }
        let clock = match self.second_of_day {
            Some(seconds) => within(Some(seconds), 86_400, "second of a day")? * SECOND,
            None => {
                hour * HOUR + within(self.minute, 59, "minute")? * MINUTE + within(self.second, 60, "second")? * SECOND
            }
        };
        let midnight = micros(self.date()?.at(0, 0, 0, 0))?;
        Ok(midnight + clock + self.micros.unwrap_or(0) - self.offset_sign * self.offset)
    }
}

fn invalid(field: &Field, rest: &str) -> datafusion::common::DataFusionError {
    let shown: String = rest.chars().take(20).collect();
    wrong(format!("{shown:?} does not begin with what {} stands for", field.word))
}

fn number(field: &Field, rest: &str, most: usize) -> Result<(i64, usize)> {
    let length = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
    rest[..length].parse().map(|value| (value, length)).map_err(|_| invalid(field, rest))
}

fn month<'t>(field: &Field, rest: &'t str) -> Result<(i64, &'t str)> {
    let found = MONTHS.iter().zip(1..).find_map(|(name, month)| {
        let length = if field.kind == Kind::MonthShort { 3 } else { name.len() };
        let start = rest.get(..length)?;
        start.eq_ignore_ascii_case(&name[..length]).then(|| (month, &rest[length..]))
    });
    found.ok_or_else(|| invalid(field, rest))
}

fn is_utc(zone: &str) -> bool {
    ["utc", "z", "gmt"].iter().any(|known| zone.eq_ignore_ascii_case(known))
}

/// A year of less than four digits is the nearest to 2020 that ends with them.
fn near_2020(year: i64) -> i64 {
    match year {
        0..=69 => year + 2_000,
        70..=99 => year + 1_900,
        100..=519 => year + 2_000,
        520..=999 => year + 1_000,
        other => other,
    }
}
