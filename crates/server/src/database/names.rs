//! Which table a name means. Owns finding it, and the nearest one where there is none. A name only ever travels as a value, or in
//! quotes: it is never part of a statement's grammar. The system's own tables are none.

use runstone_record::limits::GATEWAY_NAMES_MAX;
use tokio_postgres::Transaction;

use super::DatabaseError;
use super::rows::quoted;

/// A table, or what can be read like one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Table,
    PartitionedTable,
    MaterializedView,
    View,
    ForeignTable,
}

impl Kind {
    /// By PostgreSQL's letter for it.
    fn of(letter: &str) -> Self {
        match letter {
            "p" => Kind::PartitionedTable,
            "m" => Kind::MaterializedView,
            "v" => Kind::View,
            "f" => Kind::ForeignTable,
            _ => Kind::Table,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::Table => "table",
            Kind::PartitionedTable => "partitioned table",
            Kind::MaterializedView => "materialized view",
            Kind::View => "view",
            Kind::ForeignTable => "foreign table",
        }
    }
}

impl Table {
    /// Its name as it stands in a statement.
    pub(super) fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

/// Those of people, and not the system's.
const TABLES: &str = "\
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
WHERE c.relkind IN ('r', 'p', 'm', 'v', 'f') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'";

/// The table that a name means: of a schema of the search path, or with its schema before a dot. As it is written, or else in
/// small letters, as PostgreSQL reads what is not quoted.
pub(super) async fn find(transaction: &Transaction<'_>, name: &str) -> Result<Table, DatabaseError> {
    // No name has it, and no value may.
    let candidates = if name.contains('\0') { Vec::new() } else { candidates(name) };
    for (schema, table) in candidates {
        let one = format!(
            "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text {TABLES} AND c.relname = $1::text AND CASE \
             WHEN $2::text IS NULL THEN pg_catalog.pg_table_is_visible(c.oid) ELSE n.nspname = $2 END"
        );
        if let Some(row) = transaction.query_opt(&one, &[&table, &schema]).await? {
            let kind = Kind::of(row.try_get(3)?);
            return Ok(Table { oid: row.try_get(0)?, schema: row.try_get(1)?, name: row.try_get(2)?, kind });
        }
    }
    let hint = nearest(transaction, name).await?.map_or_else(String::new, |near| format!("; is {near:?} meant?"));
    Err(DatabaseError::NoTable { name: name.to_owned(), hint })
}

/// What a name may stand for, the likeliest first.
fn candidates(name: &str) -> Vec<(Option<String>, String)> {
    let mut found = vec![(None, name.to_owned())];
    for name in [name.to_owned(), name.to_ascii_lowercase()] {
        match parts(&name).as_deref() {
            Some([table]) => found.push((None, table.clone())),
            Some([schema, table]) => found.push((Some(schema.clone()), table.clone())),
            _ => {}
        }
    }
    found.dedup();
    found
}

/// A name's parts, between dots; each may stand in quotes.
fn parts(name: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = name;
    loop {
        let (part, after) = match rest.strip_prefix('"') {
            None => rest.find('.').map_or((rest.to_owned(), ""), |dot| (rest[..dot].to_owned(), &rest[dot..])),
            Some(inside) => {
                let end = closing(inside)?;
                (inside[..end].replace("\"\"", "\""), &inside[end + 1..])
            }
        };
        if part.is_empty() {
            return None;
        }
        parts.push(part);
        if after.is_empty() {
            return Some(parts);
        }
        rest = after.strip_prefix('.')?;
    }
}

/// Where the quote ends that began before.
fn closing(inside: &str) -> Option<usize> {
    let mut quotes = inside.match_indices('"').map(|(at, _)| at);
    while let Some(at) = quotes.next() {
        if !inside[at + 1..].starts_with('"') {
            return Some(at);
        }
        quotes.next();
    }
    None
}

/// The name of a table that is most like it.
async fn nearest(transaction: &Transaction<'_>, name: &str) -> Result<Option<String>, DatabaseError> {
    let all = format!(
        "SELECT CASE WHEN pg_catalog.pg_table_is_visible(c.oid) THEN c.relname::text ELSE n.nspname || '.' || c.relname END \
         {TABLES} ORDER BY 1 LIMIT $1"
    );
    let mut best = (0.6, None);
    for row in transaction.query(&all, &[&GATEWAY_NAMES_MAX]).await? {
        let known: String = row.try_get(0)?;
        let (wanted, own) = (name.to_ascii_lowercase(), known.to_ascii_lowercase());
        let unqualified = own.rsplit_once('.').map_or(own.as_str(), |(_, table)| table);
        let likeness = strsim::jaro_winkler(&own, &wanted).max(strsim::jaro_winkler(unqualified, &wanted));
        if likeness > best.0 {
            best = (likeness, Some(known));
        }
    }
    Ok(best.1)
}

/// All of them, in their order, each once.
pub(super) async fn find_all(
    transaction: &Transaction<'_>,
    names: &[String],
) -> Result<Vec<(String, Table)>, DatabaseError> {
    let mut found: Vec<(String, Table)> = Vec::with_capacity(names.len());
    for name in names {
        if !found.iter().any(|(known, _)| known == name) {
            found.push((name.clone(), find(transaction, name).await?));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let of = |name: &str| parts(name).map(|parts| parts.join("|"));
        for (name, read) in [
            ("orders", Some("orders")),
            ("sales.orders", Some("sales|orders")),
            ("\"Sales\".\"my.orders\"", Some("Sales|my.orders")),
            ("\"a\"\"b\"", Some("a\"b")),
            ("a.b.c", Some("a|b|c")),
            ("x\"; DROP TABLE y;--", Some("x\"; DROP TABLE y;--")),
            ("", None),
            (".a", None),
            ("a.", None),
            ("\"a", None),
            ("\"a\"b", None),
            ("\"\"", None),
        ] {
            assert_eq!(of(name).as_deref(), read, "{name}");
        }
        assert_eq!(candidates("Orders").len(), 2);
        assert_eq!(candidates("a.b"), [(None, "a.b".to_owned()), (Some("a".to_owned()), "b".to_owned())]);
    }
}
