//! The functions themselves: each checks its arguments and goes through the rows.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, IntervalMonthDayNanoArray, StringArray,
    StringBuilder, TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::{
    DataType, DurationMicrosecondType, Float64Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType,
    IntervalUnit, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::ReturnFieldArgs;
use jiff::civil::DateTime;

use super::parts::{Number, Of, Parts, age as age_of, is_fraction};
use super::stretch::Stretch;
use super::units::{Cut, DAY, Unit, micros};
use super::zones::{offset_at, to_instant, to_wall, zone_of};
use super::{Call, Spec, cast, map_times, naive, pattern, read, time_type, utc, with_type, wrong};

pub(super) static ALL: [Spec; 21] = [
    Spec { args: 2..=3, returns: cut_type, keeps_order: true, ..spec("date_trunc", &["datetrunc"], date_trunc) },
    Spec { args: 2..=2, returns: part_type, ..spec("date_part", &["datepart"], |call| part_of(call, false)) },
    // What `extract(hour from …)` is spelled as.
    Spec { args: 2..=2, returns: part_type, ..spec("extract", &[], |call| part_of(call, true)) },
    Spec { args: 2..=2, returns: |_| Ok(interval()), ..spec("age", &[], age) },
    Spec { args: 2..=2, returns: |_| Ok(DataType::Utf8), ..spec("to_char", &["date_format"], to_char) },
    Spec { args: 1..=2, returns: |_| Ok(utc()), ..spec("to_timestamp", &[], to_timestamp) },
    Spec { args: 1..=2, returns: |_| Ok(DataType::Date32), ..spec("to_date", &[], to_date) },
    Spec { args: 6..=6, returns: |_| Ok(naive()), ..spec("make_timestamp", &[], make_timestamp) },
    Spec { args: 6..=7, returns: |_| Ok(utc()), ..spec("make_timestamptz", &[], make_timestamptz) },
    Spec { args: 2..=2, returns: sum_type, ..spec("date_add", &[], |call| add(call, 1)) },
    Spec { args: 2..=2, returns: sum_type, ..spec("date_sub", &[], |call| add(call, -1)) },
    Spec { args: 3..=3, returns: as_third, ..spec("dateadd", &["timestampadd"], dateadd) },
    Spec {
        args: 2..=3,
        returns: |_| Ok(DataType::Int64),
        ..spec("datediff", &["date_diff", "timestampdiff"], datediff)
    },
    Spec { args: 2..=2, returns: other_zone, ..spec("timezone", &[], timezone) },
    Spec { args: 1..=1, returns: |_| Ok(utc()), ..spec("to_timestamp_seconds", &[], to_timestamp) },
    Spec { args: 0..=0, returns: |_| Ok(DataType::Utf8), ..spec("version", &[], version) },
    Spec { args: 7..=7, returns: |_| Ok(interval()), ..spec("make_interval", &[], make_interval) },
    Spec {
        args: 1..=1,
        returns: |_| Ok(interval()),
        ..spec("justify_hours", &[], |call| justify(call, Stretch::with_days))
    },
    Spec {
        args: 1..=1,
        returns: |_| Ok(interval()),
        ..spec("justify_days", &[], |call| justify(call, Stretch::with_months))
    },
    Spec {
        args: 1..=1,
        returns: |_| Ok(interval()),
        ..spec("justify_interval", &[], |call| justify(call, Stretch::justified))
    },
    Spec { args: 1..=1, returns: |_| Ok(DataType::Boolean), ..spec("isfinite", &[], isfinite) },
];

const fn spec(name: &'static str, aliases: &'static [&'static str], call: fn(&Call) -> Result<ArrayRef>) -> Spec {
    Spec { name, aliases, args: 0..=0, returns: as_second, call, keeps_order: false }
}

fn interval() -> DataType {
    DataType::Interval(IntervalUnit::MonthDayNano)
}

fn kind_of<'a>(args: &'a ReturnFieldArgs<'_>, place: usize) -> &'a DataType {
    args.arg_fields.get(place).map_or(&DataType::Null, |field| field.data_type())
}

fn as_second(args: &ReturnFieldArgs<'_>) -> Result<DataType> {
    Ok(time_type(kind_of(args, 1)))
}

/// A time is cut to a time, and an interval to an interval.
fn cut_type(args: &ReturnFieldArgs<'_>) -> Result<DataType> {
    if is_stretch(kind_of(args, 1)) { Ok(interval()) } else { as_second(args) }
}

fn is_stretch(kind: &DataType) -> bool {
    matches!(kind, DataType::Interval(_) | DataType::Duration(_))
}

fn as_third(args: &ReturnFieldArgs<'_>) -> Result<DataType> {
    Ok(time_type(kind_of(args, 2)))
}

/// A wall clock's time becomes an instant, and the other way round.
fn other_zone(args: &ReturnFieldArgs<'_>) -> Result<DataType> {
    Ok(if time_type(kind_of(args, 1)) == naive() { utc() } else { naive() })
}

/// A date and a number of days are a date.
fn sum_type(args: &ReturnFieldArgs<'_>) -> Result<DataType> {
    Ok(match kind_of(args, 0) {
        DataType::Date32 | DataType::Date64 if kind_of(args, 1).is_integer() => DataType::Date32,
        kind => time_type(kind),
    })
}

fn part_type(args: &ReturnFieldArgs<'_>) -> Result<DataType> {
    let unit = args
        .scalar_arguments
        .first()
        .copied()
        .flatten()
        .and_then(datafusion::common::ScalarValue::try_as_str)
        .flatten();
    let unit = unit.ok_or_else(|| wrong("date_part takes a constant first, such as 'hour'".to_owned()))?;
    Ok(if is_fraction(Unit::of(unit)?) { DataType::Float64 } else { DataType::Int64 })
}

fn nulls(kind: &DataType, call: &Call) -> ArrayRef {
    new_null_array(kind, call.rows)
}

fn date_trunc(call: &Call) -> Result<ArrayRef> {
    if is_stretch(call.array(1)?.data_type()) {
        return cut_stretch(call);
    }
    let (times, kind) = call.times(1)?;
    let Some(unit) = call.constant(0)? else { return Ok(nulls(&kind, call)) };
    let cut = Unit::of(unit)?.cut()?;
    if call.len() == 3 {
        let Some(zone) = call.constant(2)? else { return Ok(nulls(&kind, call)) };
        let zone = zone_of(zone)?;
        return match cut {
            // Within a day the clock is as far from UTC as at the time itself: an hour that comes twice stays what it is.
            Cut::Length(length, _) if length < DAY => map_times(&times, &kind, |time| {
                let offset = offset_at(&zone, time)?;
                Ok(cut.of(time.saturating_add(offset))?.saturating_sub(offset))
            }),
            _ => map_times(&times, &kind, |time| to_instant(&zone, cut.of(to_wall(&zone, time)?)?)),
        };
    }
    match cut {
        // Nothing that could fail: the processor does several at once.
        Cut::Length(length, shift) => {
            let cut = times.unary::<_, TimestampMicrosecondType>(|time| {
                time.wrapping_sub(time.wrapping_add(shift).rem_euclid(length))
            });
            Ok(with_type(cut, &kind))
        }
        Cut::Months(..) => map_times(&times, &kind, |time| cut.of(time)),
    }
}

/// Each row's value in parts, and what they are of.
fn parts(call: &Call, place: usize) -> Result<(Vec<Option<Parts>>, Of)> {
    let array = call.array(place)?;
    let micros = DataType::Duration(TimeUnit::Microsecond);
    Ok(match array.data_type() {
        DataType::Interval(_) => {
            let values = call.primitive::<IntervalMonthDayNanoType>(place, &interval())?;
            (values.iter().map(|value| value.map(Parts::stretch)).collect(), Of::Stretch)
        }
        DataType::Duration(_) => {
            let values = call.primitive::<DurationMicrosecondType>(place, &micros)?;
            (values.iter().map(|value| value.map(Parts::duration)).collect(), Of::Stretch)
        }
        DataType::Time32(_) | DataType::Time64(_) => {
            let time = DataType::Time64(TimeUnit::Microsecond);
            let values = call.primitive::<Time64MicrosecondType>(place, &time)?;
            (values.iter().map(|value| value.map(|time| Parts::Stretch(0, 0, time))).collect(), Of::Clock)
        }
        kind => {
            let of = match kind {
                DataType::Timestamp(_, None) => Of::Wall,
                DataType::Date32 | DataType::Date64 => Of::Day,
                _ => Of::Instant,
            };
            let times = call.times(place)?.0;
            let values = times.iter().map(|time| time.map(Parts::moment).transpose());
            (values.collect::<Result<_>>()?, of)
        }
    })
}

/// `date_part` takes a date for its midnight; `extract` asks it for no hours.
fn part_of(call: &Call, strictly: bool) -> Result<ArrayRef> {
    let Some(unit) = call.constant(0)? else { return Ok(nulls(&DataType::Int64, call)) };
    let unit = Unit::of(unit)?;
    let (parts, of) = parts(call, 1)?;
    of.check(unit, strictly)?;
    let numbers = parts.iter().map(|parts| parts.as_ref().map(|parts| parts.get(unit)).transpose());
    if is_fraction(unit) {
        let numbers = numbers.map(|number| number.map(|number| number.map(Number::float)));
        return Ok(Arc::new(numbers.collect::<Result<Float64Array>>()?));
    }
    let numbers = numbers.map(|number| number.map(|number| number.map(Number::whole)));
    Ok(Arc::new(numbers.collect::<Result<Int64Array>>()?))
}

fn age(call: &Call) -> Result<ArrayRef> {
    let ((ends, _), (starts, _)) = (call.times(0)?, call.times(1)?);
    let pairs = ends.iter().zip(starts.iter()).map(|(end, start)| end.zip(start));
    let ages = pairs.map(|pair| pair.map(|(end, start)| age_of(end, start)).transpose());
    Ok(Arc::new(
        ages.collect::<Result<Vec<Option<IntervalMonthDayNano>>>>()?.into_iter().collect::<IntervalMonthDayNanoArray>(),
    ))
}

fn to_char(call: &Call) -> Result<ArrayRef> {
    let Some(pattern) = call.constant(1)? else { return Ok(nulls(&DataType::Utf8, call)) };
    let pieces = pattern::parse(pattern)?;
    let (parts, of) = parts(call, 0)?;
    // A date is printed as an instant: PostgreSQL takes it for its midnight in the session's zone.
    let zoned = matches!(of, Of::Instant | Of::Day);
    let (mut texts, mut text) = (StringBuilder::new(), String::new());
    for parts in &parts {
        text.clear();
        match parts {
            Some(parts) => {
                pattern::print(&pieces, parts, zoned, &mut text)?;
                texts.append_value(&text);
            }
            None => texts.append_null(),
        }
    }
    Ok(Arc::new(texts.finish()))
}

/// Texts read by the pattern that is the second argument.
fn by_pattern(call: &Call) -> Result<TimestampMicrosecondArray> {
    let Some(pattern) = call.constant(1)? else { return Ok(TimestampMicrosecondArray::new_null(call.rows)) };
    let pieces = pattern::parse(pattern)?;
    let array = cast(&call.array(0)?, &DataType::Utf8)?;
    let texts = array.as_any().downcast_ref::<StringArray>();
    let texts = texts.ok_or_else(|| wrong("a text is needed".to_owned()))?;
    texts.iter().map(|text| text.map(|text| read::read(&pieces, text)).transpose()).collect()
}

fn to_timestamp(call: &Call) -> Result<ArrayRef> {
    if call.len() == 2 {
        return Ok(with_type(by_pattern(call)?, &utc()));
    }
    let kind = call.array(0)?.data_type().clone();
    if kind.is_integer() {
        let seconds = call.primitive::<Int64Type>(0, &DataType::Int64)?;
        let far = |seconds: i64| wrong(format!("the time is out of range: {seconds} seconds since 1970"));
        let times = seconds.try_unary::<_, TimestampMicrosecondType, DataFusionError>(|seconds| {
            seconds.checked_mul(1_000_000).ok_or_else(|| far(seconds))
        })?;
        return Ok(with_type(times, &utc()));
    }
    if kind.is_floating() || kind.is_decimal() {
        let seconds = call.primitive::<Float64Type>(0, &DataType::Float64)?;
        let times = seconds.try_unary::<_, TimestampMicrosecondType, DataFusionError>(|seconds| {
            let micros = (seconds * 1e6).round();
            #[expect(clippy::cast_possible_truncation, reason = "it was compared with what fits")]
            let fits = (micros.abs() < 9e18).then_some(micros as i64);
            fits.ok_or_else(|| wrong(format!("the time is out of range: {seconds} seconds since 1970")))
        })?;
        return Ok(with_type(times, &utc()));
    }
    Ok(with_type(call.times(0)?.0, &utc()))
}

fn to_date(call: &Call) -> Result<ArrayRef> {
    if call.len() == 1 {
        return cast(&call.array(0)?, &DataType::Date32);
    }
    let days = by_pattern(call)?;
    let days = days.iter().map(|time| time.map(|time| i32::try_from(time.div_euclid(DAY))).transpose());
    let days: std::result::Result<Date32Array, _> = days.collect();
    Ok(Arc::new(days.map_err(|_| wrong("the date is out of range".to_owned()))?))
}

/// Six numbers for each row.
fn made(call: &Call) -> Result<TimestampMicrosecondArray> {
    let whole = (0..5).map(|place| call.primitive::<Int64Type>(place, &DataType::Int64)).collect::<Result<Vec<_>>>()?;
    let seconds = call.primitive::<Float64Type>(5, &DataType::Float64)?;
    (0..call.rows)
        .map(|row| {
            if seconds.is_null(row) || whole.iter().any(|values| values.is_null(row)) {
                return Ok(None);
            }
            let numbers: Vec<i64> = whole.iter().map(|values| values.value(row)).collect();
            moment(&numbers, seconds.value(row)).map(Some)
        })
        .collect()
}

fn moment(numbers: &[i64], seconds: f64) -> Result<i64> {
    let [year, month, day, hour, minute] = numbers else { return Err(wrong("six numbers are needed".to_owned())) };
    let no_time = || wrong(format!("there is no time {year}-{month:02}-{day:02} {hour:02}:{minute:02}:{seconds}"));
    // Before year 1 comes year -1.
    let year_of = if *year < 0 { year + 1 } else { *year };
    let small = |value: i64| i8::try_from(value).map_err(|_| no_time());
    let year_of = i16::try_from(year_of).map_err(|_| no_time())?;
    if *year == 0 || !(0.0..60.000_001).contains(&seconds) {
        return Err(no_time());
    }
    let midnight = DateTime::new(year_of, small(*month)?, small(*day)?, small(*hour)?, small(*minute)?, 0, 0);
    #[expect(clippy::cast_possible_truncation, reason = "a minute has few microseconds")]
    let rest = (seconds * 1e6).round() as i64;
    Ok(micros(midnight.map_err(|_| no_time())?)? + rest)
}

fn make_timestamp(call: &Call) -> Result<ArrayRef> {
    Ok(with_type(made(call)?, &naive()))
}

fn make_timestamptz(call: &Call) -> Result<ArrayRef> {
    let times = made(call)?;
    if call.len() == 6 {
        return Ok(with_type(times, &utc()));
    }
    let Some(zone) = call.constant(6)? else { return Ok(nulls(&utc(), call)) };
    let zone = zone_of(zone)?;
    map_times(&times, &utc(), |time| to_instant(&zone, time))
}

/// Days, or an interval, added to a time or a date.
fn add(call: &Call, sign: i64) -> Result<ArrayRef> {
    let array = call.array(1)?;
    let (times, kind) = call.times(0)?;
    let far = || wrong("the time is out of range".to_owned());
    if array.data_type().is_integer() {
        let days = call.primitive::<Int64Type>(1, &DataType::Int64)?;
        let is_date = matches!(call.array(0)?.data_type(), DataType::Date32 | DataType::Date64);
        let later: TimestampMicrosecondArray = times
            .iter()
            .zip(days.iter())
            .map(|pair| {
                let (Some(time), Some(days)) = pair else { return Ok(None) };
                Unit::Day.later(time, days.checked_mul(sign).ok_or_else(far)?).map(Some)
            })
            .collect::<Result<_>>()?;
        let later = with_type(later, &kind);
        return if is_date { cast(&later, &DataType::Date32) } else { Ok(later) };
    }
    let array = cast(&array, &interval())?;
    let steps = array.as_any().downcast_ref::<IntervalMonthDayNanoArray>();
    let steps = steps.ok_or_else(|| wrong("days or an interval are needed".to_owned()))?;
    let later: TimestampMicrosecondArray = times
        .iter()
        .zip(steps.iter())
        .map(|pair| {
            let (Some(time), Some(step)) = pair else { return Ok(None) };
            let time = Unit::Month.later(time, i64::from(step.months) * sign)?;
            let time = Unit::Day.later(time, i64::from(step.days) * sign)?;
            Unit::Microsecond.later(time, step.nanoseconds / 1_000 * sign).map(Some)
        })
        .collect::<Result<_>>()?;
    Ok(with_type(later, &kind))
}

fn dateadd(call: &Call) -> Result<ArrayRef> {
    let (times, kind) = call.times(2)?;
    let Some(unit) = call.constant(0)? else { return Ok(nulls(&kind, call)) };
    let (unit, counts) = (Unit::of(unit)?, call.primitive::<Int64Type>(1, &DataType::Int64)?);
    let later: TimestampMicrosecondArray = times
        .iter()
        .zip(counts.iter())
        .map(|(time, count)| time.zip(count).map(|(time, count)| unit.later(time, count)).transpose())
        .collect::<Result<_>>()?;
    Ok(with_type(later, &kind))
}

/// Spark's form answers days and has the end first; Redshift's and Snowflake's has a unit, the start, and the end.
fn datediff(call: &Call) -> Result<ArrayRef> {
    let (unit, starts, ends) = match call.len() {
        2 => (Some("day"), call.times(1)?.0, call.times(0)?.0),
        _ => (call.constant(0)?, call.times(1)?.0, call.times(2)?.0),
    };
    let Some(unit) = unit else { return Ok(nulls(&DataType::Int64, call)) };
    let unit = Unit::of(unit)?;
    let pairs = starts.iter().zip(ends.iter()).map(|(start, end)| start.zip(end));
    let counts = pairs.map(|pair| pair.map(|(start, end)| unit.between(start, end)).transpose());
    Ok(Arc::new(counts.collect::<Result<Int64Array>>()?))
}

/// Each row's interval.
fn stretches(call: &Call, place: usize) -> Result<Vec<Option<Stretch>>> {
    let (parts, _) = parts(call, place)?;
    let stretches = parts.into_iter().map(|parts| match parts {
        Some(Parts::Stretch(months, days, micros)) => Ok(Some(Stretch { months, days, micros })),
        Some(Parts::Moment(..)) => Err(wrong("an interval is needed, not a time".to_owned())),
        None => Ok(None),
    });
    stretches.collect()
}

fn of_stretches(stretches: impl Iterator<Item = Result<Option<Stretch>>>) -> Result<ArrayRef> {
    let values = stretches.map(|stretch| stretch?.map(Stretch::value).transpose());
    Ok(Arc::new(values.collect::<Result<Vec<_>>>()?.into_iter().collect::<IntervalMonthDayNanoArray>()))
}

fn cut_stretch(call: &Call) -> Result<ArrayRef> {
    if call.len() == 3 {
        return Err(wrong("date_trunc of an interval takes no zone".to_owned()));
    }
    let Some(unit) = call.constant(0)? else { return Ok(nulls(&interval(), call)) };
    let unit = Unit::of(unit)?;
    of_stretches(stretches(call, 1)?.into_iter().map(|stretch| stretch.map(|stretch| stretch.cut(unit)).transpose()))
}

fn justify(call: &Call, how: fn(Stretch) -> Stretch) -> Result<ArrayRef> {
    of_stretches(stretches(call, 0)?.into_iter().map(|stretch| Ok(stretch.map(how))))
}

fn make_interval(call: &Call) -> Result<ArrayRef> {
    let whole = (0..6).map(|place| call.primitive::<Int64Type>(place, &DataType::Int64)).collect::<Result<Vec<_>>>()?;
    let seconds = call.primitive::<Float64Type>(6, &DataType::Float64)?;
    of_stretches((0..call.rows).map(|row| {
        if seconds.is_null(row) || whole.iter().any(|values| values.is_null(row)) {
            return Ok(None);
        }
        let numbers: [i64; 6] = std::array::from_fn(|place| whole[place].value(row));
        Stretch::made(numbers, seconds.value(row)).map(Some)
    }))
}

/// Every time that there is here is.
fn isfinite(call: &Call) -> Result<ArrayRef> {
    let (parts, _) = parts(call, 0)?;
    Ok(Arc::new(parts.iter().map(|parts| parts.as_ref().map(|_| true)).collect::<BooleanArray>()))
}

fn timezone(call: &Call) -> Result<ArrayRef> {
    let (times, kind) = call.times(1)?;
    let is_wall = kind == naive();
    let answered = if is_wall { utc() } else { naive() };
    let Some(zone) = call.constant(0)? else { return Ok(nulls(&answered, call)) };
    let zone = zone_of(zone)?;
    map_times(&times, &answered, |time| if is_wall { to_instant(&zone, time) } else { to_wall(&zone, time) })
}

fn version(_: &Call) -> Result<ArrayRef> {
    Ok(Arc::new(StringArray::from_iter_values([concat!("Runstone ", env!("CARGO_PKG_VERSION"))])))
}
