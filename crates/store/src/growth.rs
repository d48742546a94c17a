//! What keeps one call of a function from making gigabytes. Owns which functions make more than they read, and the
//! bounds that are put around them and around what `||` joins.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::concat;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use runstone_record::limits::SQL_CALL_BYTES_MAX;

use crate::error::{Carried, QueryError};

/// Rows that a function which can multiply its input works on at once.
pub(crate) const PIECE_ROWS: usize = 64;

/// The name of the function that lets a value through as long as it is not too large. Queries cannot call it.
pub(crate) const LIMITED: &str = "limited";

/// How much a call can make of its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Growth {
    /// About the sum of them, times a number.
    Sum(usize),
    /// Its first, with this one put in once for every byte.
    Spread(usize),
}

pub(crate) fn growth(name: &str) -> Option<Growth> {
    Some(match name {
        "concat" | "concat_ws" | "overlay" | "make_array" | "array_concat" | "array_append" | "array_prepend"
        | "named_struct" | "struct" => Growth::Sum(1),
        "string_to_array" => Growth::Sum(8),
        "to_char" => Growth::Sum(16),
        "array_to_string" => Growth::Spread(1),
        "replace" | "regexp_replace" => Growth::Spread(2),
        _ => return None,
    })
}

pub(crate) fn too_large(name: &str) -> DataFusionError {
    let mebibytes = SQL_CALL_BYTES_MAX >> 20;
    DataFusionError::External(Box::new(Carried(QueryError::Limit(format!(
        "stop query: one call of {name} would make more than {mebibytes} MiB; ask for fewer or shorter values"
    )))))
}

/// Puts the limits into a query's plan: around functions that make more than they read, and around what `||` joins.
#[derive(Debug)]
pub(crate) struct LimitGrowth;

impl FunctionRewrite for LimitGrowth {
    fn name(&self) -> &'static str {
        "limit_growth"
    }

    fn rewrite(&self, expr: Expr, _schema: &DFSchema, _config: &ConfigOptions) -> Result<Transformed<Expr>> {
        Ok(match expr {
            Expr::ScalarFunction(call) => match growth(call.func.name()) {
                Some(growth) if call.func.inner().downcast_ref::<Bounded>().is_none() => {
                    let inner = call.func;
                    let func = Arc::new(ScalarUDF::from(Bounded { inner, growth }));
                    Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args: call.args }))
                }
                _ => Transformed::no(Expr::ScalarFunction(call)),
            },
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right }) => {
                let joined =
                    BinaryExpr::new(Box::new(limited(*left)), Operator::StringConcat, Box::new(limited(*right)));
                Transformed::yes(Expr::BinaryExpr(joined))
            }
            other => Transformed::no(other),
        })
    }
}

fn limited(expr: Expr) -> Expr {
    match expr {
        // A constant is as long as the query's text at most.
        Expr::Literal(..) => expr,
        expr => {
            Expr::ScalarFunction(ScalarFunction { func: Arc::new(ScalarUDF::from(Limited::new())), args: vec![expr] })
        }
    }
}

/// Bytes of an argument over so many rows.
fn bytes_of(value: &ColumnarValue, rows: usize) -> usize {
    match value {
        ColumnarValue::Array(array) => slice_bytes(array),
        ColumnarValue::Scalar(scalar) => scalar.size().saturating_mul(rows),
    }
}

pub(crate) fn slice_bytes(array: &ArrayRef) -> usize {
    array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size())
}

/// The longest value of an argument.
fn longest(value: &ColumnarValue) -> usize {
    match value {
        ColumnarValue::Scalar(scalar) => scalar.size(),
        // Within a piece of few rows their sum is near enough.
        ColumnarValue::Array(array) => slice_bytes(array),
    }
}

/// The value itself, where it is not too large.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Limited {
    signature: Signature,
}

impl Limited {
    fn new() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Limited {
    fn name(&self) -> &'static str {
        LIMITED
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args.iter().map(|arg| arg.schema_name().to_string()).collect())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types.first().cloned().unwrap_or(DataType::Null))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let value = args.args.into_iter().next();
        let value = value.ok_or_else(|| DataFusionError::Internal("limited takes one value".to_owned()))?;
        if bytes_of(&value, args.number_rows) > SQL_CALL_BYTES_MAX {
            return Err(too_large("||"));
        }
        Ok(value)
    }
}

/// A function whose result is bounded before it is made.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    growth: Growth,
}

impl Bounded {
    fn check(&self, args: &ScalarFunctionArgs) -> Result<()> {
        let rows = args.number_rows;
        let sum = args.args.iter().map(|value| bytes_of(value, rows)).fold(0, usize::saturating_add);
        let made = match self.growth {
            Growth::Sum(times) => sum.saturating_mul(times),
            Growth::Spread(place) => {
                let places = args.args.first().map_or(0, |value| bytes_of(value, rows)).saturating_add(rows);
                let put_in = args.args.get(place).map_or(0, longest);
                sum.saturating_add(places.saturating_mul(put_in))
            }
        };
        if made > SQL_CALL_BYTES_MAX {
            return Err(too_large(self.inner.name()));
        }
        Ok(())
    }

    /// The bound of a whole batch would be far above what nearly every call makes: a few rows are bounded at a time,
    /// and what they make is counted.
    fn in_pieces(&self, args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut made = 0_usize;
        let mut pieces: Vec<ArrayRef> = Vec::new();
        for start in (0..args.number_rows).step_by(PIECE_ROWS) {
            let rows = PIECE_ROWS.min(args.number_rows - start);
            let mut piece = args.clone();
            piece.number_rows = rows;
            for value in &mut piece.args {
                if let ColumnarValue::Array(array) = value {
                    *array = array.slice(start, rows);
                }
            }
            self.check(&piece)?;
            let array = self.inner.invoke_with_args(piece)?.into_array(rows)?;
            made = made.saturating_add(slice_bytes(&array));
            if made > SQL_CALL_BYTES_MAX {
                return Err(too_large(self.inner.name()));
            }
            pieces.push(array);
        }
        let pieces: Vec<&dyn Array> = pieces.iter().map(AsRef::as_ref).collect();
        Ok(ColumnarValue::Array(concat(&pieces)?))
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let any_array = args.args.iter().any(|value| matches!(value, ColumnarValue::Array(_)));
        if any_array && args.number_rows > PIECE_ROWS && matches!(self.growth, Growth::Spread(_)) {
            return self.in_pieces(&args);
        }
        self.check(&args)?;
        self.inner.invoke_with_args(args)
    }
}
