//! Functions over times that are PostgreSQL's, or those of Spark, Redshift and Snowflake where PostgreSQL has none. Owns
//! their names, types and answers; what has only to be spelled differently is in `dialect.rs`.
//!
//! A time of an instant has the zone UTC; one without a zone is what a clock on a wall shows.

mod calls;
mod parts;
mod pattern;
mod read;
mod stretch;
mod units;
mod zones;

use std::hash::{Hash, Hasher};
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, TimestampMicrosecondArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// A mistake of the statement where it is planned, and of the data where it runs.
fn wrong(message: String) -> DataFusionError {
    DataFusionError::Execution(message)
}

/// The functions.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    calls::ALL.iter().map(|spec| Arc::new(ScalarUDF::from(Dated::new(spec)))).collect()
}

/// Is this one of them?
pub(crate) fn is_one(name: &str) -> bool {
    calls::ALL.iter().any(|spec| spec.name == name)
}

/// Is this the name of a unit of time?
pub(crate) fn is_unit(name: &str) -> bool {
    units::Unit::of(name).is_ok()
}

/// A function: what it is called, what it takes, answers and does.
#[derive(Debug)]
struct Spec {
    name: &'static str,
    aliases: &'static [&'static str],
    args: RangeInclusive<usize>,
    returns: fn(&ReturnFieldArgs<'_>) -> Result<DataType>,
    call: fn(&Call) -> Result<ArrayRef>,
    /// Does its answer grow with its second argument, where that is a time and the last one?
    keeps_order: bool,
}

/// The arguments of a call.
struct Call {
    args: Vec<ColumnarValue>,
    rows: usize,
}

#[derive(Debug)]
struct Dated {
    spec: &'static Spec,
    aliases: Vec<String>,
    signature: Signature,
}

impl Dated {
    fn new(spec: &'static Spec) -> Self {
        let aliases = spec.aliases.iter().map(|alias| (*alias).to_owned()).collect();
        Self { spec, aliases, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl PartialEq for Dated {
    fn eq(&self, other: &Self) -> bool {
        self.spec.name == other.spec.name
    }
}

impl Eq for Dated {}

impl Hash for Dated {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.spec.name.hash(state);
    }
}

impl ScalarUDFImpl for Dated {
    fn name(&self) -> &str {
        self.spec.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let (least, most) = (self.spec.args.start(), self.spec.args.end());
        if self.spec.args.contains(&types.len()) {
            return Ok(types.to_vec());
        }
        let wanted = if least == most { least.to_string() } else { format!("{least} to {most}") };
        let message = format!("{} takes {wanted} arguments, got {}", self.spec.name, types.len());
        Err(DataFusionError::Plan(message))
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Err(DataFusionError::Internal(format!("{} looks at its arguments", self.spec.name)))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        if let Some(null) = args.arg_fields.iter().find(|field| has_no_time(field.data_type())) {
            let kind = crate::sql_type_name(null.data_type());
            return Err(DataFusionError::Plan(format!("{} does not take a {kind}", self.spec.name)));
        }
        Ok(Arc::new(Field::new(self.spec.name, (self.spec.returns)(&args)?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let call = Call { rows: if is_constant { 1 } else { args.number_rows }, args: args.args };
        let answer = (self.spec.call)(&call)?;
        match is_constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&answer, 0)?)),
            false => Ok(ColumnarValue::Array(answer)),
        }
    }

    fn output_ordering(&self, input: &[ExprProperties]) -> Result<SortProperties> {
        // In a zone a clock is put back, and texts have another order than times.
        let is_time = |kind: &DataType| matches!(kind, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64);
        Ok(match input {
            [_, time] if self.spec.keeps_order && is_time(&time.range.data_type()) => time.sort_properties,
            _ => SortProperties::Unordered,
        })
    }
}

/// Types that no function here can make anything of.
fn has_no_time(kind: &DataType) -> bool {
    matches!(kind, DataType::Boolean | DataType::Struct(_) | DataType::List(_) | DataType::Union(..))
        || matches!(kind, DataType::Map(..) | DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn naive() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

/// The type of a time, as it is answered: of an instant, unless the value is a wall clock's.
fn time_type(kind: &DataType) -> DataType {
    if matches!(kind, DataType::Timestamp(_, None)) { naive() } else { utc() }
}

fn cast(array: &ArrayRef, kind: &DataType) -> Result<ArrayRef> {
    Ok(cast_with_options(array, kind, &CastOptions { safe: false, ..CastOptions::default() })?)
}

impl Call {
    fn len(&self) -> usize {
        self.args.len()
    }

    fn array(&self, place: usize) -> Result<ArrayRef> {
        let value = self.args.get(place).ok_or_else(|| wrong("an argument is missing".to_owned()))?;
        value.clone().into_array(self.rows)
    }

    /// An argument that must be one text for all rows. None: it is null.
    fn constant(&self, place: usize) -> Result<Option<&str>> {
        match self.args.get(place) {
            Some(ColumnarValue::Scalar(ScalarValue::Null)) => Ok(None),
            Some(ColumnarValue::Scalar(value)) => match value.try_as_str() {
                Some(text) => Ok(text),
                None => Err(wrong(format!("argument {} must be a text", place + 1))),
            },
            _ => Err(wrong(format!("argument {} must be a constant, such as 'hour'", place + 1))),
        }
    }

    /// An argument that is a time, in microseconds, with the type in which it is answered.
    fn times(&self, place: usize) -> Result<(TimestampMicrosecondArray, DataType)> {
        let array = self.array(place)?;
        let kind = time_type(array.data_type());
        let times = match array.data_type() {
            DataType::Timestamp(_, None) => cast(&array, &naive())?,
            // A date is its midnight.
            DataType::Date32 | DataType::Date64 => cast(&cast(&array, &naive())?, &utc())?,
            DataType::Timestamp(..) | DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                cast(&array, &utc())?
            }
            other => return Err(wrong(format!("a time is needed, not a {}", crate::sql_type_name(other)))),
        };
        let times = times.as_any().downcast_ref::<TimestampMicrosecondArray>().cloned();
        Ok((times.ok_or_else(|| wrong("a time is needed".to_owned()))?, kind))
    }

    fn primitive<T: arrow::datatypes::ArrowPrimitiveType>(
        &self,
        place: usize,
        kind: &DataType,
    ) -> Result<arrow::array::PrimitiveArray<T>> {
        let array = cast(&self.array(place)?, kind)?;
        let values = array.as_any().downcast_ref::<arrow::array::PrimitiveArray<T>>().cloned();
        values.ok_or_else(|| wrong(format!("argument {} must be a number", place + 1)))
    }
}

fn with_type(times: TimestampMicrosecondArray, kind: &DataType) -> ArrayRef {
    Arc::new(times.with_data_type(kind.clone()))
}

/// Maps the times that are there.
fn map_times(times: &TimestampMicrosecondArray, kind: &DataType, map: impl Fn(i64) -> Result<i64>) -> Result<ArrayRef> {
    let times = times.try_unary::<_, TimestampMicrosecondType, DataFusionError>(map)?;
    Ok(with_type(times, kind))
}
