//! Arithmetic on intervals as PostgreSQL does it: months, days and microseconds, each by itself. Refuses to know arrays.

use arrow::datatypes::IntervalMonthDayNano;
use datafusion::common::{DataFusionError, Result};

use super::units::{Cut, DAY, HOUR, MINUTE, Unit};
use super::wrong;

const MONTH_DAYS: i64 = 30;

/// An interval in its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) months: i64,
    pub(super) days: i64,
    pub(super) micros: i64,
}

fn too_long() -> DataFusionError {
    wrong("the interval is out of range".to_owned())
}

impl From<IntervalMonthDayNano> for Stretch {
    fn from(value: IntervalMonthDayNano) -> Self {
        Self { months: value.months.into(), days: value.days.into(), micros: value.nanoseconds / 1_000 }
    }
}

impl Stretch {
    pub(super) fn value(self) -> Result<IntervalMonthDayNano> {
        let small = |value: i64| i32::try_from(value).map_err(|_| too_long());
        let nanos = self.micros.checked_mul(1_000).ok_or_else(too_long)?;
        Ok(IntervalMonthDayNano::new(small(self.months)?, small(self.days)?, nanos))
    }

    /// Of years, months, weeks, days, hours and minutes, and seconds with their fraction.
    pub(super) fn made(whole: [i64; 6], seconds: f64) -> Result<Self> {
        let [years, months, weeks, days, hours, minutes] = whole;
        let sum = |one: i64, times: i64, other: i64| one.checked_mul(times).and_then(|value| value.checked_add(other));
        let rest = (seconds * 1e6).round();
        #[expect(clippy::cast_possible_truncation, reason = "it was compared with what fits")]
        let rest = (rest.abs() < 9e18).then_some(rest as i64);
        let made = || {
            Some(Self {
                months: sum(years, 12, months)?,
                days: sum(weeks, 7, days)?,
                micros: sum(hours, HOUR, sum(minutes, MINUTE, rest?)?)?,
            })
        };
        made().ok_or_else(too_long)
    }

    /// Without what is smaller than the unit.
    pub(super) fn cut(self, unit: Unit) -> Result<Self> {
        let Self { months, days, micros } = self;
        Ok(match unit.cut()? {
            _ if unit == Unit::Week => return Err(wrong("an interval cannot be cut to weeks".to_owned())),
            Cut::Months(count, _) => Self { months: months / count * count, days: 0, micros: 0 },
            _ if unit == Unit::Day => Self { months, days, micros: 0 },
            Cut::Length(length, _) => Self { months, days, micros: micros / length * length },
        })
    }

    /// Each 24 hours become a day.
    pub(super) fn with_days(mut self) -> Self {
        self.days += self.micros / DAY;
        self.micros %= DAY;
        self.same_sign()
    }

    /// Each 30 days become a month.
    pub(super) fn with_months(mut self) -> Self {
        self.months += self.days / MONTH_DAYS;
        self.days %= MONTH_DAYS;
        if self.months > 0 && self.days < 0 {
            (self.days, self.months) = (self.days + MONTH_DAYS, self.months - 1);
        } else if self.months < 0 && self.days > 0 {
            (self.days, self.months) = (self.days - MONTH_DAYS, self.months + 1);
        }
        self
    }

    /// Both, and all parts with one sign.
    pub(super) fn justified(mut self) -> Self {
        self.days += self.micros / DAY;
        self.micros %= DAY;
        self.months += self.days / MONTH_DAYS;
        self.days %= MONTH_DAYS;
        let rest = (self.days, self.micros);
        if self.months > 0 && rest < (0, 0) {
            (self.days, self.months) = (self.days + MONTH_DAYS, self.months - 1);
        } else if self.months < 0 && rest > (0, 0) {
            (self.days, self.months) = (self.days - MONTH_DAYS, self.months + 1);
        }
        self.same_sign()
    }

    fn same_sign(mut self) -> Self {
        if self.days > 0 && self.micros < 0 {
            (self.micros, self.days) = (self.micros + DAY, self.days - 1);
        } else if self.days < 0 && self.micros > 0 {
            (self.micros, self.days) = (self.micros - DAY, self.days + 1);
        }
        self
    }
}
