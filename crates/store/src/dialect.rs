//! Spellings that the engine reads otherwise than PostgreSQL, or not at all: they become calls of our functions in the
//! parsed statement, before it is planned. Owns the list of them; what the functions do is in `dates/`.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName,
    ObjectNamePart, Value, VisitMut, VisitorMut,
};

use crate::dates::is_unit;

/// Functions whose first argument is a unit, which Redshift and Snowflake write without quotes.
const TAKE_UNITS: [&str; 5] = ["datediff", "date_diff", "timestampdiff", "dateadd", "timestampadd"];

/// Spells a statement as the engine reads it.
pub(crate) fn respell(statement: &mut Statement) {
    let mut inner = statement;
    while let Statement::Explain(explain) = inner {
        inner = explain.statement.as_mut();
    }
    if let Statement::Statement(statement) = inner {
        let _: ControlFlow<()> = statement.visit(&mut Respell);
    }
}

struct Respell;

impl VisitorMut for Respell {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let null = || Expr::value(Value::Null);
        match expr {
            Expr::AtTimeZone { timestamp, time_zone } => {
                let (time, zone) =
                    (std::mem::replace(timestamp.as_mut(), null()), std::mem::replace(time_zone.as_mut(), null()));
                *expr = call("timezone", vec![zone, time]);
            }
            Expr::Extract { field, expr: time, .. } => {
                let unit = text(field.to_string().trim_matches('\'').to_ascii_lowercase());
                let time = std::mem::replace(time.as_mut(), null());
                *expr = call("extract", vec![unit, time]);
            }
            Expr::Function(function) => function_call(function),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn function_call(function: &mut Function) {
    let Some(name) = plain_name(&function.name) else { return };
    let FunctionArguments::List(FunctionArgumentList { args, .. }) = &mut function.args else { return };
    match name.as_str() {
        // The age of a time is that at the midnight that was.
        "age" if args.len() == 1 => args.insert(0, argument(call("current_date", Vec::new()))),
        "statement_timestamp" | "transaction_timestamp" | "clock_timestamp" if args.is_empty() => {
            function.name = named("now");
        }
        "make_interval" => interval_args(args),
        name if TAKE_UNITS.contains(&name) && args.len() == 3 => {
            if let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(first))) = args.first_mut()
                && let Expr::Identifier(Ident { value, quote_style: None, .. }) = first
                && is_unit(value)
            {
                *first = text(std::mem::take(value));
            }
        }
        _ => {}
    }
}

/// Every part of an interval in its place: those that are named, and none of the others.
fn interval_args(args: &mut Vec<FunctionArg>) {
    const PARTS: [&str; 7] = ["years", "months", "weeks", "days", "hours", "mins", "secs"];
    let zero = || FunctionArgExpr::Expr(Expr::value(Value::Number("0".to_owned(), false)));
    let mut parts: Vec<FunctionArgExpr> = std::iter::repeat_with(zero).take(PARTS.len()).collect();
    for (place, given) in args.iter().enumerate() {
        let (place, part) = match given {
            FunctionArg::Unnamed(part) => (Some(place), part),
            FunctionArg::Named { name, arg, .. } | FunctionArg::ExprNamed { name: Expr::Identifier(name), arg, .. } => {
                (PARTS.iter().position(|known| name.value.eq_ignore_ascii_case(known)), arg)
            }
            FunctionArg::ExprNamed { .. } => return,
        };
        // What cannot be placed stays, and is refused with the function's name.
        let Some(kept) = place.and_then(|place| parts.get_mut(place)) else { return };
        *kept = part.clone();
    }
    *args = parts.into_iter().map(FunctionArg::Unnamed).collect();
}

fn plain_name(name: &ObjectName) -> Option<String> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)] => Some(ident.value.to_ascii_lowercase()),
        _ => None,
    }
}

fn named(name: &str) -> ObjectName {
    ObjectName(vec![ObjectNamePart::Identifier(Ident::new(name))])
}

fn text(value: String) -> Expr {
    Expr::value(Value::SingleQuotedString(value))
}

fn argument(expr: Expr) -> FunctionArg {
    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
}

fn call(name: &str, args: Vec<Expr>) -> Expr {
    let args = FunctionArgumentList {
        duplicate_treatment: None,
        args: args.into_iter().map(argument).collect(),
        clauses: Vec::new(),
    };
    Expr::Function(Function {
        name: named(name),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(args),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
