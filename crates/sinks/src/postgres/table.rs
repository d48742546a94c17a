//! The tables, as text. Owns columns, types and indexes; refuses to talk to a server.
//!
//! The first seventeen columns and the first five indexes are those of the Python module whose table this may be: names,
//! types and order stay as they are. What a record has beyond them comes behind, and may be null.

use super::names::Names;

/// A column: its name, its declaration, and its type as the server names it.
pub(super) struct Field {
    pub(super) name: &'static str,
    declared: &'static str,
    pub(super) kind: &'static str,
    /// Do we write it? The others have defaults.
    pub(super) written: bool,
    /// Was it there before us?
    pub(super) of_the_module: bool,
}

const fn theirs(name: &'static str, declared: &'static str, kind: &'static str) -> Field {
    Field { name, declared, kind, written: true, of_the_module: true }
}

const fn defaulted(name: &'static str, declared: &'static str, kind: &'static str) -> Field {
    Field { name, declared, kind, written: false, of_the_module: true }
}

const fn ours(name: &'static str, kind: &'static str) -> Field {
    Field { name, declared: kind, kind, written: true, of_the_module: false }
}

const TIME: &str = "timestamp with time zone";
const TIME_NOW: &str = "TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP";

/// Characters of `level`, of most names, and of `filename`.
pub(super) const LEVEL_CHARS: usize = 10;
/// See [`LEVEL_CHARS`].
pub(super) const NAME_CHARS: usize = 255;
/// See [`LEVEL_CHARS`].
pub(super) const FILENAME_CHARS: usize = 500;

/// All columns, in order.
pub(super) const FIELDS: [Field; 38] = [
    defaulted("id", "BIGSERIAL PRIMARY KEY", "bigint"),
    theirs("timestamp", TIME_NOW, TIME),
    theirs("level", "VARCHAR(10) NOT NULL", "character varying(10)"),
    theirs("logger_name", "VARCHAR(255) NOT NULL", "character varying(255)"),
    theirs("process_id", "INTEGER NOT NULL", "integer"),
    theirs("thread_id", "BIGINT NOT NULL", "bigint"),
    theirs("thread_name", "VARCHAR(255)", "character varying(255)"),
    theirs("hostname", "VARCHAR(255) NOT NULL", "character varying(255)"),
    theirs("message", "TEXT NOT NULL", "text"),
    theirs("exception", "TEXT", "text"),
    theirs("function_name", "VARCHAR(255)", "character varying(255)"),
    theirs("module", "VARCHAR(255)", "character varying(255)"),
    theirs("filename", "VARCHAR(500)", "character varying(500)"),
    theirs("lineno", "INTEGER", "integer"),
    theirs("pathname", "TEXT", "text"),
    theirs("extra_data", "JSONB", "jsonb"),
    defaulted("created_at", TIME_NOW, TIME),
    ours("journal", "text"),
    ours("position", "bigint"),
    ours("ingested_at", TIME),
    ours("source_system", "text"),
    ours("stage", "text"),
    ours("run_id", "text"),
    ours("type", "text"),
    ours("title", "text"),
    ours("status", "text"),
    ours("duration", "double precision"),
    ours("row_count", "bigint"),
    ours("entity_name", "text"),
    ours("target_table", "text"),
    ours("notebook_name", "text"),
    ours("workspace_id", "text"),
    ours("lakehouse_id", "text"),
    ours("capabilities", "text[]"),
    ours("trace_id", "text"),
    ours("span_id", "text"),
    ours("record_id", "uuid"),
    ours("filled", "integer"),
];

/// The columns that we write, in order.
pub(super) fn written() -> impl Iterator<Item = &'static Field> {
    FIELDS.iter().filter(|field| field.written)
}

/// Their names, quoted, each behind `of`: `"l."` or nothing.
pub(super) fn list(of: &str) -> String {
    let names: Vec<String> = written().map(|field| format!("{of}\"{}\"", field.name)).collect();
    names.join(", ")
}

/// An index: the end of its name, and what it is on.
pub(super) struct Index {
    pub(super) name: &'static str,
    pub(super) on: &'static str,
    pub(super) unique: bool,
}

/// All indexes. The first five are the module's.
pub(super) const INDEXES: [Index; 7] = [
    Index { name: "timestamp", on: "(\"timestamp\" DESC)", unique: false },
    Index { name: "level", on: "(\"level\")", unique: false },
    Index { name: "logger", on: "(\"logger_name\")", unique: false },
    Index { name: "hostname", on: "(\"hostname\")", unique: false },
    Index { name: "composite", on: "(\"timestamp\", \"level\", \"logger_name\")", unique: false },
    Index { name: "record_id", on: "(\"record_id\")", unique: true },
    Index { name: "run_id", on: "(\"run_id\", \"timestamp\") WHERE \"run_id\" IS NOT NULL", unique: false },
];

impl Index {
    /// The statement that makes it.
    pub(super) fn create(&self, names: &Names, concurrently: bool) -> String {
        let unique = if self.unique { "UNIQUE " } else { "" };
        let concurrently = if concurrently { "CONCURRENTLY " } else { "" };
        format!("CREATE {unique}INDEX {concurrently}\"{}\" ON {} {}", names.index(self.name), names.logs(), self.on)
    }
}

/// The table of records, new.
pub(super) fn create_logs(names: &Names) -> String {
    let columns: Vec<String> = FIELDS.iter().map(|field| format!("\"{}\" {}", field.name, field.declared)).collect();
    format!("CREATE TABLE {} (\n    {}\n)", names.logs(), columns.join(",\n    "))
}

/// Adds columns to a table that has rows: they are null there, and no row is written again.
pub(super) fn add_columns(names: &Names, missing: &[&Field]) -> String {
    let columns: Vec<String> =
        missing.iter().map(|field| format!("ADD COLUMN IF NOT EXISTS \"{}\" {}", field.name, field.declared)).collect();
    format!("ALTER TABLE {} {}", names.logs(), columns.join(", "))
}

/// What the column `filled` says, for those who look at the table.
pub(super) fn comment(names: &Names) -> String {
    format!(
        "COMMENT ON COLUMN {}.\"filled\" IS 'what the record did not have and NOT NULL asked for: 1 level, 2 logger_name, \
         4 process_id, 8 thread_id, 16 hostname, 32 message, 64 timestamp; 128: extra_data._runstone has what did not fit'",
        names.logs()
    )
}

/// The tables beside it.
pub(super) fn create_others(names: &Names) -> [String; 2] {
    [
        format!(
            "CREATE TABLE IF NOT EXISTS {} (\"source\" text PRIMARY KEY, \"position\" bigint NOT NULL, \
             \"updated_at\" timestamp with time zone NOT NULL DEFAULT CURRENT_TIMESTAMP)",
            names.cursors()
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {} (\"source\" text NOT NULL, \"position\" bigint NOT NULL, \"record_id\" uuid NOT NULL, \
             \"reason\" text NOT NULL, \"record\" text NOT NULL, \
             \"created_at\" timestamp with time zone NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (\"source\", \"position\"))",
            names.dead_letters()
        ),
    ]
}
