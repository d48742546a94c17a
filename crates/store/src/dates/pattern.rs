//! The patterns of `to_char`, `to_timestamp` and `to_date`: PostgreSQL's template patterns for times, as
//! <https://www.postgresql.org/docs/current/functions-formatting.html> lists them. Owns reading a pattern, and printing
//! by one; `read.rs` reads texts by them. Patterns for numbers are not known here.

use datafusion::common::Result;

use super::parts::{Parts, clock, julian};
use super::units::Unit;
use super::wrong;

/// One piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// To be printed as it is.
    Text(String),
    Field(Field),
}

/// A field, with what modifies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) kind: Kind,
    /// As the pattern writes it, for errors.
    pub(super) word: &'static str,
    /// Without leading zeros and blanks.
    pub(super) fill: bool,
    /// A name in the server's language, which has no blanks either.
    localized: bool,
    /// `th`, or `TH`.
    ordinal: Option<bool>,
    case: Case,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Upper,
    Capital,
    Lower,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// With so many digits.
    Year(u32),
    YearComma,
    IsoYear(u32),
    Month,
    MonthName,
    MonthShort,
    Roman,
    Day,
    DayOfYear,
    IsoDayOfYear,
    Dow,
    IsoDow,
    DayName,
    DayShort,
    Hour24,
    Hour12,
    Minute,
    Second,
    SecondOfDay,
    /// Digits of a second's fraction.
    Fraction(u32),
    /// AM or PM; with points?
    Half(bool),
    /// BC or AD; with points?
    Era(bool),
    Week,
    IsoWeek,
    WeekOfMonth,
    Quarter,
    Century,
    Julian,
    Zone,
    ZoneHour,
    ZoneMinute,
    Offset,
}

/// The words, longer ones before those that they begin with. A word may be written in capitals or without.
const WORDS: &[(&str, Kind)] = &[
    ("A.D.", Kind::Era(true)),
    ("B.C.", Kind::Era(true)),
    ("A.M.", Kind::Half(true)),
    ("P.M.", Kind::Half(true)),
    ("AD", Kind::Era(false)),
    ("BC", Kind::Era(false)),
    ("AM", Kind::Half(false)),
    ("PM", Kind::Half(false)),
    ("CC", Kind::Century),
    ("DAY", Kind::DayName),
    ("DDD", Kind::DayOfYear),
    ("DD", Kind::Day),
    ("DY", Kind::DayShort),
    ("D", Kind::Dow),
    ("FF1", Kind::Fraction(1)),
    ("FF2", Kind::Fraction(2)),
    ("FF3", Kind::Fraction(3)),
    ("FF4", Kind::Fraction(4)),
    ("FF5", Kind::Fraction(5)),
    ("FF6", Kind::Fraction(6)),
    ("HH24", Kind::Hour24),
    ("HH12", Kind::Hour12),
    ("HH", Kind::Hour12),
    ("IDDD", Kind::IsoDayOfYear),
    ("ID", Kind::IsoDow),
    ("IW", Kind::IsoWeek),
    ("IYYY", Kind::IsoYear(4)),
    ("IYY", Kind::IsoYear(3)),
    ("IY", Kind::IsoYear(2)),
    ("I", Kind::IsoYear(1)),
    ("J", Kind::Julian),
    ("MI", Kind::Minute),
    ("MM", Kind::Month),
    ("MONTH", Kind::MonthName),
    ("MON", Kind::MonthShort),
    ("MS", Kind::Fraction(3)),
    ("OF", Kind::Offset),
    ("Q", Kind::Quarter),
    ("RM", Kind::Roman),
    ("SSSSS", Kind::SecondOfDay),
    ("SSSS", Kind::SecondOfDay),
    ("SS", Kind::Second),
    ("TZH", Kind::ZoneHour),
    ("TZM", Kind::ZoneMinute),
    ("TZ", Kind::Zone),
    ("US", Kind::Fraction(6)),
    ("WW", Kind::Week),
    ("W", Kind::WeekOfMonth),
    ("Y,YYY", Kind::YearComma),
    ("YYYY", Kind::Year(4)),
    ("YYY", Kind::Year(3)),
    ("YY", Kind::Year(2)),
    ("Y", Kind::Year(1)),
];

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const ROMAN: [&str; 12] = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];

/// Bytes of a pattern: it is printed once a row.
const PATTERN_BYTES_MAX: usize = 256;

/// Reads a pattern.
pub(super) fn parse(pattern: &str) -> Result<Vec<Piece>> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(wrong(format!("a pattern may have {PATTERN_BYTES_MAX} bytes, this has {}", pattern.len())));
    }
    let mut pieces: Vec<Piece> = Vec::new();
    let mut rest = pattern;
    while !rest.is_empty() {
        let before = |words: [&str; 2]| words.iter().find_map(|word| rest.strip_prefix(word));
        // A prefix is for what follows at once, and for that alone.
        let (fill, localized) = (before(["FM", "fm"]), before(["TM", "tm"]));
        let prefixed = fill.or(localized);
        rest = prefixed.unwrap_or(rest);
        let Some(next) = rest.chars().next() else { break };
        if let Some(after) = rest.strip_prefix("FX").or_else(|| rest.strip_prefix("fx")) {
            rest = after;
        } else if let Some((mut field, after)) = field(rest) {
            (field.fill, field.localized, rest) = (fill.is_some(), localized.is_some(), after);
            if let Some(after) = rest.strip_prefix("TH").filter(|after| !after.starts_with(['H', 'M'])) {
                (field.ordinal, rest) = (Some(true), after);
            } else if let Some(after) = rest.strip_prefix("th") {
                (field.ordinal, rest) = (Some(false), after);
            }
            pieces.push(Piece::Field(field));
        } else if next == '"' {
            let (text, after) = quoted(&rest[1..]);
            push_text(&mut pieces, &text);
            rest = after;
        } else {
            let escaped = rest.strip_prefix('\\').filter(|after| after.starts_with('"'));
            let from = escaped.unwrap_or(rest);
            let length = from.chars().next().map_or(0, char::len_utf8);
            push_text(&mut pieces, &from[..length]);
            rest = &from[length..];
        }
    }
    Ok(pieces)
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        Some(Piece::Text(before)) => before.push_str(text),
        _ => pieces.push(Piece::Text(text.to_owned())),
    }
}

fn quoted(mut rest: &str) -> (String, &str) {
    let mut text = String::new();
    while let Some(next) = rest.chars().next() {
        rest = &rest[next.len_utf8()..];
        match next {
            '"' => return (text, rest),
            '\\' => {
                let escaped = rest.chars().next();
                text.extend(escaped);
                rest = &rest[escaped.map_or(0, char::len_utf8)..];
            }
            other => text.push(other),
        }
    }
    (text, rest)
}

fn field(text: &str) -> Option<(Field, &str)> {
    let named = |kind: &Kind| matches!(kind, Kind::MonthName | Kind::MonthShort | Kind::DayName | Kind::DayShort);
    WORDS.iter().find_map(|(word, kind)| {
        let start = text.get(..word.len())?;
        let capital = || word[..1].to_owned() + &word[1..].to_ascii_lowercase();
        let case = match start {
            start if start == *word => Case::Upper,
            start if start == word.to_ascii_lowercase() => Case::Lower,
            start if named(kind) && start == capital() => Case::Capital,
            _ => return None,
        };
        let field = Field { kind: *kind, word, fill: false, localized: false, ordinal: None, case };
        Some((field, &text[word.len()..]))
    })
}

/// Prints a value.
pub(super) fn print(pieces: &[Piece], value: &Parts, zoned: bool, out: &mut String) -> Result<()> {
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Field(field) => field.print(value, zoned, out)?,
        }
    }
    Ok(())
}

impl Field {
    fn print(&self, value: &Parts, zoned: bool, out: &mut String) -> Result<()> {
        let whole = |unit| value.get(unit).map(super::parts::Number::whole);
        let year = |digits: u32, year: i64| match digits {
            4 => self.number(year.abs(), 4),
            _ => self.number(year.abs() % 10_i64.pow(digits), digits),
        };
        let micros = match value {
            Parts::Moment(time, _) => time.rem_euclid(super::units::DAY),
            Parts::Stretch(_, _, micros) => *micros,
        };
        let (hour, minute, second, rest) = clock(micros);
        let text = match self.kind {
            Kind::Year(digits) => year(digits, value.year()),
            Kind::YearComma => {
                let year = value.year().abs();
                self.ordinal_of(year, format!("{},{:03}", year / 1_000, year % 1_000))
            }
            Kind::IsoYear(digits) => year(digits, whole(Unit::IsoYear)?),
            Kind::Month => self.number(whole(Unit::Month)?, 2),
            Kind::Day => self.number(whole(Unit::Day)?, 2),
            Kind::DayOfYear => self.number(whole(Unit::Doy)?, 3),
            Kind::IsoDayOfYear => self.number((whole(Unit::Week)? - 1) * 7 + whole(Unit::IsoDow)?, 3),
            Kind::Dow => self.number(whole(Unit::Dow)? + 1, 1),
            Kind::IsoDow => self.number(whole(Unit::IsoDow)?, 1),
            Kind::Hour24 => self.number(hour, 2),
            Kind::Hour12 => self.number(if hour % 12 == 0 { 12 } else { hour % 12 }, 2),
            Kind::Minute => self.number(minute, 2),
            Kind::Second => self.number(second, 2),
            Kind::SecondOfDay => self.number(micros / super::units::SECOND, 1),
            Kind::Fraction(digits) => {
                let value = rest.abs() / 10_i64.pow(6 - digits);
                self.ordinal_of(value, format!("{value:0width$}", width = digits as usize))
            }
            Kind::Week => self.number((whole(Unit::Doy)? - 1) / 7 + 1, 2),
            Kind::IsoWeek => self.number(whole(Unit::Week)?, 2),
            Kind::WeekOfMonth => self.number((whole(Unit::Day)? - 1) / 7 + 1, 1),
            Kind::Quarter => self.number(whole(Unit::Quarter)?, 1),
            Kind::Century => self.number(whole(Unit::Century)?, 2),
            Kind::Julian => match value {
                Parts::Moment(time, _) => self.number(julian(*time), 1),
                Parts::Stretch(..) => return Err(wrong("an interval has no J".to_owned())),
            },
            Kind::MonthName | Kind::MonthShort | Kind::Roman => self.month(whole(Unit::Month)?),
            Kind::DayName | Kind::DayShort => self.day(whole(Unit::Dow)?),
            Kind::Half(points) => self.cased(match (hour % 24 < 12, points) {
                (true, true) => "A.M.",
                (true, false) => "AM",
                (false, true) => "P.M.",
                (false, false) => "PM",
            }),
            Kind::Era(points) => self.cased(match (value.year() > 0, points) {
                (true, true) => "A.D.",
                (true, false) => "AD",
                (false, true) => "B.C.",
                (false, false) => "BC",
            }),
            Kind::Zone => self.cased(if zoned { "UTC" } else { "" }),
            Kind::ZoneHour | Kind::Offset => "+00".to_owned(),
            Kind::ZoneMinute => "00".to_owned(),
        };
        out.push_str(&text);
        Ok(())
    }

    fn number(&self, value: i64, width: u32) -> String {
        let width = if self.fill { 0 } else { width as usize };
        // The sign comes before the zeros, and does not count as one of them.
        let text = if value < 0 { format!("-{:0width$}", -value) } else { format!("{value:0width$}") };
        self.ordinal_of(value, text)
    }

    fn ordinal_of(&self, value: i64, mut text: String) -> String {
        if let Some(upper) = self.ordinal {
            let suffix = match (value.abs() % 100, value.abs() % 10) {
                (11..=13, _) => "th",
                (_, 1) => "st",
                (_, 2) => "nd",
                (_, 3) => "rd",
                _ => "th",
            };
            text.push_str(&if upper { suffix.to_ascii_uppercase() } else { suffix.to_owned() });
        }
        text
    }

    fn cased(&self, text: &str) -> String {
        match self.case {
            Case::Upper => text.to_ascii_uppercase(),
            Case::Capital => text.to_owned(),
            Case::Lower => text.to_ascii_lowercase(),
        }
    }

    fn month(&self, month: i64) -> String {
        // An interval may have none.
        let Ok(place @ 1..=12) = usize::try_from(month) else { return String::new() };
        match self.kind {
            Kind::Roman => self.padded(&self.cased(ROMAN[place - 1]), 4),
            Kind::MonthShort => self.cased(&MONTHS[place - 1][..3]),
            _ => self.padded(&self.cased(MONTHS[place - 1]), 9),
        }
    }

    fn day(&self, day: i64) -> String {
        let name = usize::try_from(day).ok().and_then(|day| DAYS.get(day)).copied().unwrap_or_default();
        match self.kind {
            Kind::DayShort => self.cased(name.get(..3).unwrap_or_default()),
            _ => self.padded(&self.cased(name), 9),
        }
    }

    fn padded(&self, text: &str, width: usize) -> String {
        if self.fill || self.localized { text.to_owned() } else { format!("{text:width$}") }
    }
}
