//! Which functions a statement may call. Owns the rule, and the few exceptions: what PostgreSQL itself calls volatile changes
//! something, or looks at or acts on more than tables, and is refused. Refuses to keep a list of bad ones: it would never be
//! complete.

use tokio_postgres::Transaction;

use super::guard::Checked;
use super::{Access, DatabaseError};

/// Volatile because they differ from call to call, or are slow; they change nothing and reach nothing but the database.
const HARMLESS: &[&str] = &[
    // Of `TABLESAMPLE`.
    "bernoulli",
    "system",
    "clock_timestamp",
    "gen_random_uuid",
    "pg_column_size",
    "pg_database_size",
    "pg_indexes_size",
    "pg_relation_size",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "pg_table_size",
    "pg_tablespace_size",
    "pg_total_relation_size",
    "random",
    "random_normal",
    "timeofday",
    "uuidv4",
    "uuidv7",
    "uuid_generate_v1",
    "uuid_generate_v1mc",
    "uuid_generate_v4",
];

/// What changes a sequence, for statements that may change something.
const OF_SEQUENCES: &[&str] = &["currval", "lastval", "nextval", "setval"];

/// Said to be no worse than STABLE, although they run a text as SQL, in which anything may be called.
const RUN_TEXTS: &[&str] = &["connectby", "crosstab", "crosstab2", "crosstab3", "crosstab4", "xpath_table"];

/// Functions that are not to be called, of those that a statement names: `$1` before a parenthesis, `$2` behind a dot, where one
/// needs no further argument. What a caller's database defines itself may be called by `$5`: it belongs to no extension and
/// stands in no schema of the system.
const FOUND: &str = "\
WITH called AS (SELECT p.proname::text AS name, p.provolatile = 'v' AS is_volatile, \
n.nspname IN ('pg_catalog', 'information_schema') OR EXISTS (SELECT FROM pg_catalog.pg_depend d \
WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e') AS is_foreign \
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
WHERE p.proname::text = ANY ($1) \
OR (p.proname::text = ANY ($2) AND p.pronargs >= 1 AND p.pronargs - p.pronargdefaults <= 1)) \
SELECT name, is_volatile FROM called WHERE (is_volatile OR name = ANY ($4)) \
AND NOT (is_foreign AND name = ANY ($3)) AND NOT ($5 AND NOT is_foreign) ORDER BY name LIMIT 1";

/// Refuses a statement that may call one of them.
pub(super) async fn check(
    transaction: &Transaction<'_>,
    checked: &Checked,
    access: Access,
) -> Result<(), DatabaseError> {
    let list = |names: &std::collections::BTreeSet<String>| names.iter().cloned().collect::<Vec<String>>();
    let (calls, fields) = (list(&checked.calls), list(&checked.fields));
    let may_write = access == Access::ReadWrite;
    let more = if may_write { OF_SEQUENCES } else { &[] };
    let harmless: Vec<&str> = HARMLESS.iter().chain(more).copied().collect();
    let found = transaction.query(FOUND, &[&calls, &fields, &harmless, &RUN_TEXTS, &may_write]).await?;
    let Some(first) = found.first() else { return Ok(()) };
    let (name, is_volatile): (String, bool) = (first.try_get(0)?, first.try_get(1)?);
    Err(DatabaseError::Refused(match (checked.calls.contains(&name), is_volatile) {
        (true, true) => {
            format!("calling {name} is not allowed: PostgreSQL has it as VOLATILE, which may do more than read")
        }
        (true, false) => format!("calling {name} is not allowed: it runs a text as SQL"),
        (false, _) => {
            format!("naming {name} behind a dot is not allowed: there is a function of that name; leave its table out")
        }
    }))
}
