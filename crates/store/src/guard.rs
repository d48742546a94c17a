//! What SQL may be: one statement that reads, of a size that can be planned. Owns every check before planning; what a
//! plan may hold is checked in `plan.rs`.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::common::DataFusionError;
use datafusion::sql::parser::{DFParserBuilder, ExplainStatement, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, ObjectName, Query, Select, SelectItem, SetExpr, Statement as SqlStatement, TableFactor, Visit,
    Visitor, visit_expressions,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::ParserError;
use runstone_record::limits::{
    SQL_BYTES_MAX, SQL_EXPRESSION_DEPTH_MAX, SQL_PARSE_DEPTH_MAX, SQL_RELATIONS_MAX, SQL_SELECTS_MAX,
    SQL_SUBSTITUTIONS_MAX,
};

use crate::error::{Phase, QueryError, sort_out};

/// A statement that may be planned.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) statement: Statement,
    /// Does it answer with rows of the tables (and not with a plan or a list of columns)?
    pub(crate) is_query: bool,
    /// Bytes of the values that were put in for its parameters.
    pub(crate) bound_bytes: usize,
}

/// Parses and checks one statement.
pub(crate) fn check(sql: &str) -> Result<Checked, QueryError> {
    if sql.len() > SQL_BYTES_MAX {
        return Err(QueryError::invalid(format!(
            "refuse SQL: the text may have {SQL_BYTES_MAX} bytes, this has {}; send long values as params",
            sql.len()
        )));
    }
    let parsed = DFParserBuilder::new(sql)
        .with_dialect(&PostgreSqlDialect {})
        .with_recursion_limit(SQL_PARSE_DEPTH_MAX)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| match error.find_root() {
            DataFusionError::SQL(parser, _) if matches!(**parser, ParserError::RecursionLimitExceeded) => {
                QueryError::Invalid(format!(
                    "refuse SQL: parentheses and queries in each other may be {SQL_PARSE_DEPTH_MAX} deep; use WITH"
                ))
            }
            _ => sort_out(&error, Phase::Planning),
        })?;
    let mut statements = parsed.into_iter();
    let (Some(statement), None) = (statements.next(), statements.next()) else {
        return Err(QueryError::invalid("refuse SQL: send exactly one statement, such as SELECT count(*) FROM logs"));
    };
    let is_query = allowed(&statement)?;
    Ok(Checked { statement, is_query, bound_bytes: 0 })
}

fn allowed(statement: &Statement) -> Result<bool, QueryError> {
    match statement {
        Statement::Statement(statement) => match statement.as_ref() {
            SqlStatement::Query(_) => walk(statement.as_ref()).map(|()| true),
            SqlStatement::ExplainTable { .. } | SqlStatement::ShowTables { .. } | SqlStatement::ShowColumns { .. } => {
                Ok(false)
            }
            other => Err(refused(&other.to_string())),
        },
        Statement::Explain(ExplainStatement { statement, .. }) => match allowed(statement)? {
            true => Ok(false),
            false => Err(refused("EXPLAIN of anything but a query")),
        },
        other => Err(refused(&other.to_string())),
    }
}

fn refused(what: &str) -> QueryError {
    let what: String = what.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
    let what: String = what.chars().take(60).collect();
    QueryError::Invalid(format!(
        "refuse SQL: {what}: only SELECT, WITH, VALUES, EXPLAIN, DESCRIBE and SHOW TABLES are allowed, they change \
         nothing"
    ))
}

fn walk(statement: &SqlStatement) -> Result<(), QueryError> {
    match statement.visit(&mut Walk::default()) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// What a query costs to plan.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    relations: usize,
    /// How often a column of its result may name a column of the tables.
    substitutions: usize,
}

/// A query whose end was not reached yet.
#[derive(Debug, Default)]
struct Frame {
    relations: usize,
    /// Of its own expressions, and the greatest of the queries that it reads.
    own: usize,
    read: usize,
}

#[derive(Debug, Default)]
struct Walk {
    statements: usize,
    selects: usize,
    depth: usize,
    frames: Vec<Frame>,
    /// The queries of `WITH`, by their address while the statement is walked, and by their names afterwards.
    pending: HashMap<usize, String>,
    named: HashMap<String, Weight>,
}

type Flow = ControlFlow<QueryError>;

fn stop(message: impl Into<String>) -> Flow {
    ControlFlow::Break(QueryError::Invalid(message.into()))
}

fn address(query: &Query) -> usize {
    std::ptr::from_ref(query).addr()
}

impl Walk {
    fn read(&mut self, weight: Weight) -> Flow {
        if let Some(frame) = self.frames.last_mut() {
            frame.relations = frame.relations.saturating_add(weight.relations);
            frame.read = frame.read.max(weight.substitutions);
            if frame.relations > SQL_RELATIONS_MAX {
                return stop(format!(
                    "refuse SQL: it reads more than {SQL_RELATIONS_MAX} tables once every WITH is put in"
                ));
            }
        }
        ControlFlow::Continue(())
    }
}

impl Visitor for Walk {
    type Break = QueryError;

    fn pre_visit_statement(&mut self, statement: &SqlStatement) -> Flow {
        self.statements += 1;
        if self.statements > 1 {
            return ControlFlow::Break(refused(&statement.to_string()));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> Flow {
        if let Some(with) = &query.with {
            if with.recursive {
                return ControlFlow::Break(refused("WITH RECURSIVE"));
            }
            for table in &with.cte_tables {
                let name = table.alias.name.value.to_lowercase();
                self.pending.insert(address(&table.query), name);
            }
        }
        let foreign = !query.locks.is_empty()
            || query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || !query.pipe_operators.is_empty();
        if foreign {
            return ControlFlow::Break(refused("FOR, SETTINGS, FORMAT and |>"));
        }
        if !only_reads(&query.body) {
            return ControlFlow::Break(refused(&query.body.to_string()));
        }
        self.frames.push(Frame::default());
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> Flow {
        let Some(frame) = self.frames.pop() else {
            return ControlFlow::Continue(());
        };
        let weight = Weight {
            relations: frame.relations.max(1),
            substitutions: frame.own.max(1).saturating_mul(frame.read.max(1)),
        };
        if weight.substitutions > SQL_SUBSTITUTIONS_MAX {
            return stop("refuse SQL: its nested queries use columns of each other too often; name fewer of them");
        }
        match self.pending.remove(&address(query)) {
            Some(name) => {
                self.named.insert(name, weight);
                ControlFlow::Continue(())
            }
            None => self.read(weight),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> Flow {
        self.selects += 1;
        if self.selects > SQL_SELECTS_MAX {
            return stop(format!("refuse SQL: it has more than {SQL_SELECTS_MAX} SELECTs"));
        }
        if select.into.is_some() {
            return ControlFlow::Break(refused("SELECT INTO"));
        }
        let plain_groups = match &select.group_by {
            GroupByExpr::Expressions(groups, modifiers) => {
                let sets = |expr: &Expr| matches!(expr, Expr::Cube(_) | Expr::Rollup(_) | Expr::GroupingSets(_));
                modifiers.is_empty() && !groups.iter().any(sets)
            }
            GroupByExpr::All(modifiers) => modifiers.is_empty(),
        };
        if !plain_groups {
            return ControlFlow::Break(refused("CUBE, ROLLUP and GROUPING SETS"));
        }
        let most = select.projection.iter().map(names_in).max().unwrap_or(0);
        if let Some(frame) = self.frames.last_mut() {
            frame.own = frame.own.max(most);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> Flow {
        let name = relation.0.last().map(|part| part.to_string().replace('"', "").to_lowercase());
        let weight =
            name.and_then(|name| self.named.get(&name).copied()).unwrap_or(Weight { relations: 1, substitutions: 1 });
        self.read(weight)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Flow {
        match factor {
            TableFactor::Table { args: None, .. }
            | TableFactor::Derived { .. }
            | TableFactor::NestedJoin { .. }
            | TableFactor::UNNEST { .. } => ControlFlow::Continue(()),
            other => ControlFlow::Break(QueryError::Invalid(format!(
                "refuse SQL: read from a table or a query, not from {}",
                other.to_string().chars().take(60).collect::<String>()
            ))),
        }
    }

    fn pre_visit_expr(&mut self, _: &Expr) -> Flow {
        self.depth += 1;
        if self.depth > SQL_EXPRESSION_DEPTH_MAX {
            return stop(format!(
                "refuse SQL: an expression is more than {SQL_EXPRESSION_DEPTH_MAX} operators deep; use IN (…) for a list"
            ));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &Expr) -> Flow {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

/// Is a query's body made of SELECT and VALUES alone? A chain of UNIONs leans to the left.
fn only_reads(body: &SetExpr) -> bool {
    let mut left = vec![body];
    let mut seen = 0;
    while let Some(body) = left.pop() {
        seen += 1;
        match body {
            // What is in parentheses is visited as a query of its own.
            SetExpr::Select(_) | SetExpr::Values(_) | SetExpr::Query(_) => {}
            SetExpr::SetOperation { left: one, right: other, .. } => left.extend([one.as_ref(), other.as_ref()]),
            _ => return false,
        }
    }
    seen <= 2 * SQL_SELECTS_MAX
}

/// How many columns an item of a SELECT names.
fn names_in(item: &SelectItem) -> usize {
    let mut names = 0;
    let _: ControlFlow<()> = visit_expressions(item, |expr| {
        names += usize::from(matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)));
        ControlFlow::Continue(())
    });
    names
}
