//! The tables come to be, or become what they should be. Owns looking first: a role that may only write does, where somebody
//! else has made the tables. A table with rows gets columns and indexes; its rows stay as they are and nobody is kept out
//! for long.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::{ClientWrapper, Object};
use runstone_record::limits::POSTGRES_INDEX_TIMEOUT_MS;
use tokio_postgres::Client;

use super::load::begin;
use super::table::{self, FIELDS, Field, INDEXES, Index};
use super::trouble::Trouble;
use super::{Parts, Work};

/// The oldest version that has all that is asked of it.
const VERSION_MIN: i32 = 120_000;
/// How often it is looked whether another process has made the tables.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// What is missing.
#[derive(Default)]
struct Missing {
    logs: bool,
    others: bool,
    columns: Vec<&'static Field>,
    indexes: Vec<&'static Index>,
    /// Indexes that were left half-made.
    invalid: BTreeSet<String>,
}

impl Missing {
    fn is_nothing(&self) -> bool {
        !self.logs && !self.others && self.columns.is_empty() && self.indexes.is_empty()
    }
}

/// Makes the tables, or adds what they lack.
pub(super) async fn make(parts: &Parts) -> Result<(), Trouble> {
    if parts.connected(&mut Check).await? {
        return Ok(());
    }
    // This session has settings and a lock of its own, and ends here.
    let mut client = Object::take(parts.pool.get().await?);
    lock(parts, &client).await?;
    let made = complete(parts, &mut client).await;
    // Behind a statement that still runs nothing is done: it ends with the session.
    if !matches!(made, Err(Trouble::Late(_))) {
        release(parts, &client).await;
    }
    let new = made?;
    tracing::info!(table = parts.names.logs(), new, "made PostgreSQL's tables ready");
    Ok(())
}

/// Makes what is missing, and says whether the table is new.
async fn complete(parts: &Parts, client: &mut ClientWrapper) -> Result<bool, Trouble> {
    let missing = look(parts, client).await?;
    if missing.logs {
        create(parts, client).await?;
    } else {
        migrate(parts, client, &missing).await?;
    }
    Ok(missing.logs)
}

/// Can this be a target at all, and has it all?
struct Check;

#[async_trait]
impl Work for Check {
    type Output = bool;

    async fn run(&mut self, parts: &Parts, client: &mut ClientWrapper) -> Result<bool, Trouble> {
        let asked = "SELECT current_setting('server_encoding'), current_setting('server_version_num')::integer";
        let row = parts.within(client.query_one(asked, &[])).await?;
        let (encoding, version): (String, i32) = (row.get(0), row.get(1));
        if encoding != "UTF8" {
            return Err(Trouble::wrong(format!("use the database: its encoding must be UTF8, it is {encoding}")));
        }
        if version < VERSION_MIN {
            return Err(Trouble::wrong(format!("use PostgreSQL: it must be version 12 or newer, it is {version}")));
        }
        Ok(look(parts, client).await?.is_nothing())
    }
}

async fn look(parts: &Parts, client: &Client) -> Result<Missing, Trouble> {
    let mut missing = Missing::default();
    let names = &parts.names;
    let asked = "SELECT to_regclass($1) IS NULL, to_regclass($2) IS NULL OR to_regclass($3) IS NULL";
    let (logs, cursors, dead_letters) = (names.logs(), names.cursors(), names.dead_letters());
    let row = parts.within(client.query_one(asked, &[&logs, &cursors, &dead_letters])).await?;
    (missing.logs, missing.others) = (row.get(0), row.get(1));
    if missing.logs {
        return Ok(missing);
    }
    let asked = "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute \
                 WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped";
    let rows = parts.within(client.query(asked, &[&names.logs()])).await?;
    let found: BTreeMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    for field in &FIELDS {
        match found.get(field.name) {
            None if field.of_the_module && field.name != "created_at" => {
                let problem = format!("use the table {}: it has no column {}", names.logs(), field.name);
                return Err(Trouble::wrong(problem));
            }
            None => missing.columns.push(field),
            Some(kind) if fits(field, kind) => {}
            Some(kind) => {
                let (table, name, wanted) = (names.logs(), field.name, field.kind);
                return Err(Trouble::wrong(format!(
                    "use the table {table}: its column {name} must be {wanted}, it is {kind}"
                )));
            }
        }
    }
    indexes(parts, client, &mut missing).await?;
    Ok(missing)
}

/// A text of any length takes what a shorter one would.
fn fits(field: &Field, kind: &str) -> bool {
    let is_text = field.kind.starts_with("character varying");
    kind == field.kind || (is_text && matches!(kind, "text" | "character varying"))
}

async fn indexes(parts: &Parts, client: &Client, missing: &mut Missing) -> Result<(), Trouble> {
    let asked = "SELECT c.relname::text, i.indisvalid, i.indisunique AND i.indpred IS NULL AND i.indimmediate \
                 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = to_regclass($1)";
    let rows = parts.within(client.query(asked, &[&parts.names.logs()])).await?;
    let found: BTreeMap<String, (bool, bool)> = rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
    for index in &INDEXES {
        let name = parts.names.index(index.name);
        match found.get(&name) {
            Some((true, unique)) if index.unique && !unique => {
                return Err(Trouble::wrong(format!("use the index {name}: it must be unique, and for all rows")));
            }
            Some((true, _)) => continue,
            Some((false, _)) => drop(missing.invalid.insert(name)),
            None => {}
        }
        missing.indexes.push(index);
    }
    Ok(())
}

/// One process at a time. Waiting in a statement would hold up the building of an index, which waits for all statements.
async fn lock(parts: &Parts, client: &Client) -> Result<(), Trouble> {
    let taken = async {
        loop {
            let asked = "SELECT pg_try_advisory_lock($1)";
            if parts.within(client.query_one(asked, &[&parts.names.lock()])).await?.get(0) {
                return Ok::<_, Trouble>(());
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
    };
    parts.within(taken).await
}

/// Leaves the session as it was found: a pooler keeps it, and gives it to others. The end of the session does the same where
/// there is none.
async fn release(parts: &Parts, client: &Client) {
    let lock = parts.names.lock();
    let statements = format!("SELECT pg_advisory_unlock('{lock}'); RESET statement_timeout; RESET lock_timeout");
    if let Err(error) = parts.within(client.batch_execute(&statements)).await {
        tracing::debug!(error = &error as &dyn std::error::Error, "leave PostgreSQL's session to its end");
    }
}

/// New tables, all at once.
async fn create(parts: &Parts, client: &mut ClientWrapper) -> Result<(), Trouble> {
    let names = &parts.names;
    let mut statements = vec![table::create_logs(names), table::comment(names)];
    statements.extend(INDEXES.iter().map(|index| index.create(names, false)));
    statements.extend(table::create_others(names));
    let transaction = begin(parts, client).await?;
    parts.within(transaction.batch_execute(&statements.join(";\n"))).await?;
    parts.within(transaction.commit()).await
}

/// What a table with rows lacks.
async fn migrate(parts: &Parts, client: &mut ClientWrapper, missing: &Missing) -> Result<(), Trouble> {
    let names = &parts.names;
    let mut statements = Vec::new();
    if !missing.columns.is_empty() {
        statements.extend([table::add_columns(names, &missing.columns), table::comment(names)]);
    }
    if missing.others {
        statements.extend(table::create_others(names));
    }
    let transaction = begin(parts, client).await?;
    parts.within(transaction.batch_execute(&statements.join(";\n"))).await?;
    parts.within(transaction.commit()).await?;
    // Building waits for transactions of others, which is no harm: it keeps nobody out.
    let limits = format!("SET statement_timeout = {POSTGRES_INDEX_TIMEOUT_MS}; SET lock_timeout = 0");
    parts.within(client.batch_execute(&limits)).await?;
    let time = Duration::from_millis(POSTGRES_INDEX_TIMEOUT_MS) + parts.options.grace;
    for index in &missing.indexes {
        let name = names.index(index.name);
        let mut statements = Vec::new();
        if missing.invalid.contains(&name) {
            statements.push(format!("DROP INDEX CONCURRENTLY IF EXISTS \"{name}\""));
        }
        statements.push(index.create(names, true));
        for statement in statements {
            let built = tokio::time::timeout(time, client.batch_execute(&statement)).await;
            built.map_err(|_| Trouble::Late(time))??;
        }
    }
    Ok(())
}
