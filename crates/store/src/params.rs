//! Binding: `$name` in a statement becomes the value of that name, as a constant of the parsed statement, never as text
//! that is read again. Owns finding the names, and the word about each that is missing, unused or in a wrong place.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Array, BinaryOperator, Expr, GroupByExpr, OrderByKind, Query, Select, UnaryOperator, Value, ValueWithSpan,
    VisitMut, VisitorMut,
};
use runstone_record::limits::SQL_PARAM_BYTES_MAX;
use runstone_record::params::{Param, Params};

use crate::error::QueryError;

/// Puts the values in: how many bytes they have, each wherever it stands.
pub(crate) fn bind(statement: &mut Statement, params: &Params) -> Result<usize, QueryError> {
    let mut inner = statement;
    while let Statement::Explain(explain) = inner {
        inner = explain.statement.as_mut();
    }
    let mut binding = Binding { params, used: HashSet::new(), bytes: 0 };
    if let Statement::Statement(statement) = inner
        && let ControlFlow::Break(why) = statement.visit(&mut binding)
    {
        return Err(QueryError::Invalid(format!("bind parameters: {why}")));
    }
    match params.names().find(|name| !binding.used.contains(*name)) {
        Some(name) => Err(QueryError::Invalid(format!(
            "bind parameters: the statement does not use {name}: write ${name} where its value belongs"
        ))),
        None => Ok(binding.bytes),
    }
}

struct Binding<'p> {
    params: &'p Params,
    used: HashSet<String>,
    bytes: usize,
}

type Flow = ControlFlow<String>;

/// The text of a placeholder.
fn placeholder(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::Placeholder(text), .. }) => Some(text),
        Expr::Nested(inner) => placeholder(inner),
        _ => None,
    }
}

impl Binding<'_> {
    fn value(&mut self, text: &str) -> Result<Param, String> {
        let name = match text.strip_prefix('$') {
            Some(name) if name.starts_with(|c: char| c.is_ascii_digit()) => {
                return Err(format!("{text} counts; name it, such as $run, and send {{\"params\": {{\"run\": …}}}}"));
            }
            Some(name) if !name.is_empty() => name,
            _ => return Err(format!("{text} is no parameter: write $name")),
        };
        let Some(value) = self.params.get(name) else {
            return Err(format!("{text} has no value: send {{\"params\": {{\"{name}\": …}}}}"));
        };
        self.used.insert(name.to_owned());
        self.bytes = self.bytes.saturating_add(bytes(value));
        if self.bytes > SQL_PARAM_BYTES_MAX {
            return Err(format!(
                "the values may have {SQL_PARAM_BYTES_MAX} bytes wherever they are put in; send fewer"
            ));
        }
        Ok(value.clone())
    }

    /// The items of a list, where an expression is the name of one.
    fn list(&mut self, expr: &Expr) -> Result<Option<Vec<Expr>>, String> {
        let Some(text) = placeholder(expr).map(str::to_owned) else { return Ok(None) };
        match self.value(&text)? {
            Param::List(items) => Ok(Some(items.into_iter().map(constant).collect())),
            _ => Ok(None),
        }
    }

    fn replace(&mut self, expr: &mut Expr) -> Result<(), String> {
        match expr {
            Expr::InList { expr: tested, list, negated } => {
                let mut items = Vec::with_capacity(list.len());
                for item in std::mem::take(list) {
                    match self.list(&item)? {
                        Some(values) => items.extend(values),
                        None => items.push(item),
                    }
                }
                *expr = in_list(std::mem::replace(tested, null()), items, *negated);
            }
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => {
                if let Some(items) = self.list(right)? {
                    *expr = in_list(std::mem::replace(left, null()), items, false);
                }
            }
            Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => {
                if let Some(items) = self.list(right)? {
                    *expr = in_list(std::mem::replace(left, null()), items, true);
                }
            }
            Expr::Value(ValueWithSpan { value: Value::Placeholder(text), .. }) => {
                let text = text.clone();
                *expr = constant(self.value(&text)?);
            }
            _ => {}
        }
        Ok(())
    }
}

fn bytes(value: &Param) -> usize {
    match value {
        Param::Text(text) => text.len().max(8),
        Param::List(items) => items.iter().map(bytes).sum(),
        _ => 8,
    }
}

fn null() -> Box<Expr> {
    Box::new(Expr::value(Value::Null))
}

/// Nothing is in an empty list.
fn in_list(expr: Box<Expr>, list: Vec<Expr>, negated: bool) -> Expr {
    match list.is_empty() {
        true => Expr::value(Value::Boolean(negated)),
        false => Expr::InList { expr, list, negated },
    }
}

fn constant(value: Param) -> Expr {
    let number = |digits: String| match digits.strip_prefix('-') {
        // The parser knows no negative numbers, and in parentheses nothing binds more closely than the sign.
        Some(digits) => Expr::Nested(Box::new(Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr: Box::new(Expr::value(Value::Number(digits.to_owned(), false))),
        })),
        None => Expr::value(Value::Number(digits, false)),
    };
    match value {
        Param::Null => Expr::value(Value::Null),
        Param::Bool(value) => Expr::value(Value::Boolean(value)),
        Param::Int(value) => number(value.to_string()),
        // With an exponent or a point, so that it stays a float.
        Param::Float(value) => number(format!("{value:e}")),
        Param::Text(value) => Expr::value(Value::SingleQuotedString(value)),
        Param::List(items) => Expr::Array(Array { elem: items.into_iter().map(constant).collect(), named: true }),
    }
}

impl VisitorMut for Binding<'_> {
    type Break = String;

    fn pre_visit_select(&mut self, select: &mut Select) -> Flow {
        let GroupByExpr::Expressions(groups, _) = &select.group_by else { return ControlFlow::Continue(()) };
        ordinal(groups.iter(), "GROUP BY")
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> Flow {
        match query.order_by.as_ref().map(|order| &order.kind) {
            Some(OrderByKind::Expressions(keys)) => ordinal(keys.iter().map(|key| &key.expr), "ORDER BY"),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> Flow {
        match self.replace(expr) {
            Ok(()) => ControlFlow::Continue(()),
            Err(why) => ControlFlow::Break(why),
        }
    }

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> Flow {
        match &value.value {
            Value::Placeholder(text) => ControlFlow::Break(format!("{text} cannot stand there")),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// A number there would count columns: a value is not to change what a statement means.
fn ordinal<'e>(mut keys: impl Iterator<Item = &'e Expr>, place: &str) -> Flow {
    match keys.find_map(placeholder) {
        Some(text) => ControlFlow::Break(format!("{text} is a value and cannot choose a column in {place}")),
        None => ControlFlow::Continue(()),
    }
}
