//! What a plan may hold. Owns the checks that need names and constants resolved: functions, regular expressions and
//! the volume of constants, and types whose values are large by themselves.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::expr::{Cast, Like, ScalarFunction, TryCast};
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use runstone_record::limits::{SQL_COLUMNS_MAX, SQL_CONSTANT_BYTES_MAX, SQL_REGEX_BYTES_MAX};

use crate::error::{Carried, QueryError};
use crate::functions::{is_allowed, takes_regex};

/// Texts up to this length are not counted as constants.
const SHORT_TEXT_BYTES: usize = 64;

fn invalid(message: String) -> DataFusionError {
    DataFusionError::External(Box::new(Carried(QueryError::Invalid(message))))
}

/// Checks the functions of a plan, those that operators stand for included.
pub(crate) fn check_functions(plan: &LogicalPlan) -> Result<()> {
    each_expr(plan, &mut |expr| match expr {
        Expr::ScalarFunction(call) if !is_allowed(call.func.name()) => {
            Err(invalid(format!("refuse SQL: function {} is not available here", call.func.name())))
        }
        Expr::HigherOrderFunction(_) | Expr::Lambda(_) => {
            Err(invalid("refuse SQL: lambdas are not available here".to_owned()))
        }
        // A value of these types has its full size even when it is null, and constants are computed while planning.
        Expr::Cast(Cast { field, .. }) | Expr::TryCast(TryCast { field, .. }) if has_fixed_size(field.data_type()) => {
            Err(invalid(
                "refuse SQL: types with a length, such as int[10], are not available here; use int[]".to_owned(),
            ))
        }
        _ => Ok(()),
    })
}

fn has_fixed_size(kind: &DataType) -> bool {
    match kind {
        DataType::FixedSizeList(..) | DataType::FixedSizeBinary(_) => true,
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field) => has_fixed_size(field.data_type()),
        DataType::Map(field, _) => has_fixed_size(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_fixed_size(field.data_type())),
        DataType::Dictionary(_, values) => has_fixed_size(values),
        DataType::RunEndEncoded(_, values) => has_fixed_size(values.data_type()),
        _ => false,
    }
}

/// Checks what an optimised plan holds once its constants are computed. Parameters have a limit of their own: twice as many
/// bytes as theirs are let through, because a condition may be copied to where it is decided.
pub(crate) fn check_constants(plan: &LogicalPlan, bound_bytes: usize) -> Result<()> {
    let bytes_max = SQL_CONSTANT_BYTES_MAX + 2 * bound_bytes;
    let mut bytes = 0;
    each_expr(plan, &mut |expr| {
        match expr {
            Expr::Literal(value, _) => {
                bytes += text(value).map_or(0, str::len).saturating_sub(SHORT_TEXT_BYTES);
                if bytes > bytes_max {
                    return Err(invalid(format!(
                        "refuse SQL: its text constants may have {SQL_CONSTANT_BYTES_MAX} bytes together; use shorter \
                         ones, or send them as params"
                    )));
                }
            }
            Expr::ScalarFunction(ScalarFunction { func, args }) if takes_regex(func.name()) => {
                check_regex(args.get(1))?;
            }
            Expr::BinaryExpr(BinaryExpr {
                op: Operator::RegexMatch | Operator::RegexIMatch | Operator::RegexNotMatch | Operator::RegexNotIMatch,
                right,
                ..
            }) => check_regex(Some(right))?,
            Expr::SimilarTo(Like { pattern, .. }) => check_regex(Some(pattern))?,
            _ => {}
        }
        Ok(())
    })
}

fn check_regex(pattern: Option<&Expr>) -> Result<()> {
    let constant = match pattern {
        Some(Expr::Literal(value, _)) => Some(value),
        _ => None,
    };
    match constant {
        Some(value) if text(value).is_none_or(|text| text.len() <= SQL_REGEX_BYTES_MAX) => Ok(()),
        Some(_) => Err(invalid(format!("refuse SQL: a regular expression may have {SQL_REGEX_BYTES_MAX} bytes"))),
        None => Err(invalid("refuse SQL: a regular expression must be a constant, not a column".to_owned())),
    }
}

fn text(value: &ScalarValue) -> Option<&str> {
    value.try_as_str().flatten()
}

fn each_expr(plan: &LogicalPlan, each: &mut dyn FnMut(&Expr) -> Result<()>) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        if node.schema().fields().len() > SQL_COLUMNS_MAX {
            return Err(invalid(format!("refuse SQL: a step of it has more than {SQL_COLUMNS_MAX} columns")));
        }
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                each(expr)?;
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(())
}
