//! What a statement of a stranger may be, before PostgreSQL sees it. Owns reading it, refusing what is not allowed, and writing it
//! anew from what was understood: two parsers that disagree about a text must not be played against each other. What a function
//! does only PostgreSQL knows: see `functions`. That a statement changes nothing is the transaction's doing.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use runstone_record::limits::{SQL_BYTES_MAX, SQL_EXPRESSION_DEPTH_MAX, SQL_PARSE_DEPTH_MAX};
use sqlparser::ast::{DescribeAlias, Expr, ObjectType, Query, Select, SetExpr, Statement, Visit, Visitor};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, Tokenizer};

use super::{Access, DatabaseError};

/// Bytes of a name in PostgreSQL: of a longer one it reads the beginning.
const NAME_BYTES_MAX: usize = 63;
/// `SELECT`s of a statement.
const SELECTS_MAX: usize = 500;

/// A statement that may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Checked {
    pub(super) form: Form,
    /// The names of functions that it may call.
    pub(super) calls: BTreeSet<String>,
    /// The names of fields that it may take of rows: PostgreSQL calls a function of that name where there is no such field.
    pub(super) fields: BTreeSet<String>,
}

/// How its answer is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// Rows, in whose midst it may be put.
    Rows(Source),
    /// A plan: lines of text, or one document.
    Plan(String),
    /// It changes something and gives no rows.
    Change(String),
}

/// A statement with rows, its `WITH` apart from the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) is_recursive: bool,
    /// The queries of its `WITH`, with commas between.
    pub(super) with: Vec<String>,
    pub(super) body: String,
}

impl Source {
    /// One without `WITH`.
    pub(super) fn plain(body: String) -> Self {
        Self { body, ..Self::default() }
    }

    /// The whole of it.
    pub(super) fn text(&self) -> String {
        if self.with.is_empty() { self.body.clone() } else { format!("{}{}", self.with_and(""), self.body) }
    }

    /// Its `WITH` and another query in it.
    pub(super) fn with_and(&self, more: &str) -> String {
        let word = if self.is_recursive { "WITH RECURSIVE" } else { "WITH" };
        let all: Vec<&str> = self.with.iter().map(String::as_str).chain([more]).filter(|one| !one.is_empty()).collect();
        format!("{word} {} ", all.join(", "))
    }
}

fn refuse(why: impl Into<String>) -> DatabaseError {
    DatabaseError::Refused(why.into())
}

/// Reads a statement, and refuses it or says what it does.
pub(super) fn check(sql: &str, access: Access) -> Result<Checked, DatabaseError> {
    if sql.len() > SQL_BYTES_MAX {
        return Err(refuse(format!("send a statement of at most {SQL_BYTES_MAX} bytes, got {}", sql.len())));
    }
    if sql.contains('\0') {
        return Err(refuse("send a statement without the character NUL"));
    }
    let statement = one(sql)?;
    let mut walk = Walk { access, statements: 0, selects: 0, depth: 0 };
    if let ControlFlow::Break(error) = statement.visit(&mut walk) {
        return Err(error);
    }
    let form = form(&statement, access)?;
    let text = statement.to_string();
    // What is printed must be read as the same again: else a literal or an operator was not what it seemed.
    if one(&text).ok().as_ref() != Some(&statement) {
        return Err(refuse("word it otherwise: its text can be read in two ways"));
    }
    let (mut calls, mut fields) = (BTreeSet::new(), BTreeSet::new());
    names(&text, &mut calls, &mut fields)?;
    Ok(Checked { form, calls, fields })
}

/// Exactly one statement.
fn one(sql: &str) -> Result<Statement, DatabaseError> {
    let parser = Parser::new(&PostgreSqlDialect {}).with_recursion_limit(SQL_PARSE_DEPTH_MAX);
    let parsed = parser.try_with_sql(sql).and_then(|mut parser| parser.parse_statements());
    let parsed = parsed.map_err(|error| match error {
        ParserError::RecursionLimitExceeded => {
            refuse(format!("nest parentheses and queries at most {SQL_PARSE_DEPTH_MAX} deep"))
        }
        ParserError::TokenizerError(error) | ParserError::ParserError(error) => refuse(format!("read it: {error}")),
    })?;
    let mut statements = parsed.into_iter();
    match (statements.next(), statements.next()) {
        (Some(statement), None) => Ok(statement),
        _ => Err(refuse("send exactly one statement")),
    }
}

/// The beginning of a statement, for a message.
fn beginning(statement: &impl std::fmt::Display) -> String {
    let text = statement.to_string();
    text.split_whitespace().take(2).collect::<Vec<_>>().join(" ").chars().take(40).collect()
}

fn not_allowed(what: &str, access: Access) -> DatabaseError {
    refuse(match access {
        Access::ReadOnly => format!("{what} is not allowed: SELECT, WITH, VALUES and EXPLAIN of them are"),
        Access::ReadWrite => {
            format!(
                "{what} is not allowed: queries, INSERT, UPDATE, DELETE, MERGE, TRUNCATE and the definition of tables, views and indexes are"
            )
        }
    })
}

/// May it be sent at all?
fn form(statement: &Statement, access: Access) -> Result<Form, DatabaseError> {
    let returning = |returning: bool| {
        let text = statement.to_string();
        Ok(if returning { Form::Rows(Source::plain(text)) } else { Form::Change(text) })
    };
    match statement {
        Statement::Query(query) => Ok(of_query(query)),
        Statement::Explain { describe_alias: DescribeAlias::Explain, statement: explained, .. } => {
            match form(explained, access)? {
                Form::Plan(_) => Err(not_allowed("EXPLAIN of EXPLAIN", access)),
                _ => Ok(Form::Plan(statement.to_string())),
            }
        }
        _ if access == Access::ReadOnly => Err(not_allowed(&beginning(statement), access)),
        Statement::Insert(insert) => returning(insert.returning.is_some()),
        Statement::Update(update) => returning(update.returning.is_some()),
        Statement::Delete(delete) => returning(delete.returning.is_some()),
        Statement::Merge(_)
        | Statement::Truncate(_)
        | Statement::CreateTable(_)
        | Statement::CreateView(_)
        | Statement::CreateIndex(_)
        | Statement::AlterTable(_)
        | Statement::Drop { object_type: ObjectType::Table | ObjectType::View | ObjectType::Index, .. } => {
            Ok(Form::Change(statement.to_string()))
        }
        _ => Err(not_allowed(&beginning(statement), access)),
    }
}

/// A query; one whose body changes something may give no rows.
fn of_query(query: &Query) -> Form {
    let has_rows = match query.body.as_ref() {
        SetExpr::Insert(Statement::Insert(insert)) => insert.returning.is_some(),
        SetExpr::Update(Statement::Update(update)) => update.returning.is_some(),
        SetExpr::Delete(Statement::Delete(delete)) => delete.returning.is_some(),
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => false,
        _ => true,
    };
    if !has_rows {
        return Form::Change(query.to_string());
    }
    let (is_recursive, with) = match &query.with {
        Some(with) => (with.recursive, with.cte_tables.iter().map(ToString::to_string).collect()),
        None => (false, Vec::new()),
    };
    let body = Query { with: None, ..query.clone() }.to_string();
    Form::Rows(Source { is_recursive, with, body })
}

struct Walk {
    access: Access,
    statements: usize,
    selects: usize,
    depth: usize,
}

type Flow = ControlFlow<DatabaseError>;

impl Visitor for Walk {
    type Break = DatabaseError;

    fn pre_visit_statement(&mut self, statement: &Statement) -> Flow {
        self.statements += 1;
        let is_first = self.statements == 1;
        let may_be_within = matches!(statement, Statement::Query(_))
            || (self.access == Access::ReadWrite
                && matches!(
                    statement,
                    Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) | Statement::Merge(_)
                ));
        if is_first || may_be_within {
            return ControlFlow::Continue(());
        }
        ControlFlow::Break(not_allowed(&beginning(statement), self.access))
    }

    fn pre_visit_query(&mut self, query: &Query) -> Flow {
        let foreign = query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || !query.pipe_operators.is_empty();
        if foreign {
            return ControlFlow::Break(not_allowed("FOR XML, FOR JSON, SETTINGS, FORMAT or |>", self.access));
        }
        if self.access == Access::ReadOnly && !query.locks.is_empty() {
            return ControlFlow::Break(not_allowed("SELECT FOR UPDATE or SHARE", self.access));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> Flow {
        self.selects += 1;
        if self.selects > SELECTS_MAX {
            return ControlFlow::Break(refuse(format!("write at most {SELECTS_MAX} SELECTs")));
        }
        if select.into.is_some() {
            return ControlFlow::Break(not_allowed("SELECT INTO", self.access));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, _: &Expr) -> Flow {
        self.depth += 1;
        if self.depth > SQL_EXPRESSION_DEPTH_MAX {
            let why =
                format!("write expressions of at most {SQL_EXPRESSION_DEPTH_MAX} operators; use IN (…) for a list");
            return ControlFlow::Break(refuse(why));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &Expr) -> Flow {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

/// Every name before a parenthesis, and every name behind a dot, wherever it stands: no place in the grammar is forgotten.
fn names(text: &str, calls: &mut BTreeSet<String>, fields: &mut BTreeSet<String>) -> Result<(), DatabaseError> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize();
    let tokens = tokens.map_err(|error| refuse(format!("read it: {error}")))?;
    let mut tokens = tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))).peekable();
    let mut before = None;
    while let Some(token) = tokens.next() {
        match token {
            Token::Word(word) => {
                let folded = || word.value.to_ascii_lowercase();
                let name = if word.quote_style.is_some() { word.value.clone() } else { folded() };
                if name.len() > NAME_BYTES_MAX {
                    return Err(refuse(format!("write names of at most {NAME_BYTES_MAX} bytes")));
                }
                if tokens.peek() == Some(&&Token::LParen) {
                    calls.insert(name);
                } else if before == Some(&Token::Period) {
                    fields.insert(name);
                }
            }
            Token::Placeholder(_) => return Err(refuse("write values into the statement: there are no parameters")),
            // Where such a text ends depends on what may stand before its dollar.
            Token::DollarQuotedString(_) => return Err(refuse("quote texts with apostrophes and not with dollars")),
            _ => {}
        }
        before = Some(token);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
