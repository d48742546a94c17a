//! The tables: new ones, those of the Python module, those that somebody else keeps.

use runstone_sinks::contract::{SOURCE, expected, feed, frames, stored};
use runstone_sinks::postgres::Postgres;
use runstone_sinks::postgres::read::Which;
use runstone_sinks::{DeadLetters, Sink, SinkError};

use super::{Tables, options};
use crate::cluster::Cluster;

/// The table as the Python module makes it, its documentation's text.
const MODULES: &str = "CREATE TABLE test_logs (
    id BIGSERIAL PRIMARY KEY,
    timestamp TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP,
    level VARCHAR(10) NOT NULL,
    logger_name VARCHAR(255) NOT NULL,
    process_id INTEGER NOT NULL,
    thread_id BIGINT NOT NULL,
    thread_name VARCHAR(255),
    hostname VARCHAR(255) NOT NULL,
    message TEXT NOT NULL,
    exception TEXT,
    function_name VARCHAR(255),
    module VARCHAR(255),
    filename VARCHAR(500),
    lineno INTEGER,
    pathname TEXT,
    extra_data JSONB,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP
)";
const MODULES_INDEXES: &str = "CREATE INDEX idx_test_logs_timestamp ON test_logs (timestamp DESC);
    CREATE INDEX idx_test_logs_level ON test_logs (level);
    CREATE INDEX idx_test_logs_logger ON test_logs (logger_name);
    CREATE INDEX idx_test_logs_hostname ON test_logs (hostname);
    CREATE INDEX idx_test_logs_composite ON test_logs (timestamp, level, logger_name)";
/// A row as the module writes it.
const MODULES_ROW: &str = "INSERT INTO test_logs (level, logger_name, process_id, thread_id, hostname, message, extra_data) \
     SELECT 'INFO', 'api', n, n, 'host', 'line ' || n, '{\"user_id\": 1}' FROM generate_series(1, 1000) n";
const COLUMNS: &str = "SELECT string_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull, \
     pg_get_expr(adbin, adrelid)), ', ' ORDER BY attnum) FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND \
     adnum = attnum WHERE attrelid = 'test_logs'::regclass AND attnum BETWEEN 1 AND 17";
const INDEXES: &str = "SELECT indexdef FROM pg_indexes WHERE tablename = 'test_logs' ORDER BY indexname";

fn problem(error: SinkError) -> String {
    match error {
        SinkError::Misconfigured { problem, .. } => problem,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_new_table_is_the_modules_and_more() {
    let (tables, modules) = (Tables::new(), Cluster::start());
    modules.ask(MODULES);
    modules.ask(MODULES_INDEXES);
    tables.open().cursor(SOURCE).await.unwrap();
    let ours = &tables.cluster;
    assert_eq!(ours.ask(COLUMNS), modules.ask(COLUMNS));
    let indexes = ours.ask(INDEXES);
    for index in modules.ask(INDEXES).lines() {
        assert!(indexes.contains(index), "{index} is not among {indexes}");
    }
    assert!(indexes.contains("UNIQUE INDEX idx_test_logs_record_id ON public.test_logs USING btree (record_id)"));
    assert!(ours.ask("SELECT col_description('test_logs'::regclass, 38)").contains("hostname"));
    // What the module writes goes in beside ours.
    ours.ask(MODULES_ROW);
    let frames = frames(&tables, 2, 5);
    feed(&mut tables.open(), SOURCE, &frames).await;
    assert_eq!(stored(&tables).await, expected(SOURCE, &frames, &[]));
    assert_eq!(ours.ask("SELECT count(*) FROM test_logs"), "1010");
}

#[tokio::test]
async fn a_table_of_the_module_keeps_its_rows_where_they_are() {
    let tables = Tables::new();
    let ask = |sql: &str| tables.cluster.ask(sql);
    ask(MODULES);
    ask(MODULES_INDEXES);
    ask(MODULES_ROW);
    let file = "SELECT pg_relation_filenode('test_logs')";
    let rows = "SELECT md5(string_agg(concat(ctid, id, timestamp, level, logger_name, process_id, thread_id, thread_name, \
                hostname, message, exception, function_name, module, filename, lineno, pathname, extra_data, created_at), \
                '' ORDER BY id)) FROM test_logs WHERE process_id > 0";
    let (was, had) = (ask(file), ask(rows));
    // Somebody writes to it meanwhile, and keeps a transaction open for a while.
    let mut writer = tables.cluster.session();
    writer.say("BEGIN; SELECT 1;");
    // An index that another process left half-made.
    ask("ALTER TABLE test_logs ADD COLUMN record_id uuid");
    ask("CREATE UNIQUE INDEX idx_test_logs_record_id ON test_logs (record_id)");
    ask("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'idx_test_logs_record_id'::regclass");
    let frames = frames(&tables, 2, 5);
    let mut sinks: Vec<Postgres> = (0..4).map(|_| tables.open()).collect();
    let mut racing = tokio::task::JoinSet::new();
    for mut sink in sinks.drain(..) {
        let frames = frames.clone();
        racing.spawn(async move { feed(&mut sink, SOURCE, &frames).await });
    }
    racing.join_all().await;
    assert_eq!((ask(file), ask(rows)), (was, had));
    assert_eq!(stored(&tables).await, expected(SOURCE, &frames, &[]));
    let unfinished = "SELECT count(*) FROM pg_index WHERE indrelid = 'test_logs'::regclass AND NOT indisvalid";
    assert_eq!(ask(unfinished), "0");
    assert_eq!(ask(INDEXES).lines().count(), 8, "{}", ask(INDEXES));
    assert_eq!(ask("SELECT count(*) FROM test_logs WHERE record_id IS NULL AND filled IS NULL"), "1000");
}

#[tokio::test]
async fn who_only_reads_makes_no_table_and_changes_none() {
    let tables = Tables::new();
    let ask = |sql: &str| tables.cluster.ask(sql);
    let all = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY relname";
    let nothing_is_there = async || {
        let sink = tables.open();
        for which in [Which::Run("a"), Which::Source(SOURCE)] {
            assert_eq!(sink.records(which, None, 10).await.unwrap(), []);
        }
        assert_eq!(sink.dead_letters(None, 10).await.unwrap(), []);
        assert_eq!(sink.remove_dead_letters(SOURCE, &[1]).await.unwrap(), 0);
    };
    nothing_is_there().await;
    assert_eq!(ask(all), "");
    // The module's rows are no records.
    ask(MODULES);
    ask(MODULES_ROW);
    let (had, columns) = (ask(all), "SELECT count(*) FROM pg_attribute WHERE attrelid = 'test_logs'::regclass");
    let had_columns = ask(columns);
    nothing_is_there().await;
    assert_eq!((ask(all), ask(columns)), (had, had_columns));
    // Records that cannot be read are not none.
    ask("DROP TABLE test_logs");
    feed(&mut tables.open(), SOURCE, &frames(&tables, 1, 5)).await;
    ask("ALTER TABLE test_logs DROP COLUMN span_id");
    let read = tables.open().records(Which::Source(SOURCE), None, 10).await;
    assert!(matches!(read, Err(SinkError::Away { .. })), "{read:?}");
}

#[tokio::test]
async fn sinks_that_start_together_make_one_table() {
    let tables = Tables::new();
    let frames = frames(&tables, 3, 5);
    let mut racing = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (mut sink, frames) = (tables.open(), frames.clone());
        racing.spawn(async move { feed(&mut sink, SOURCE, &frames).await });
    }
    racing.join_all().await;
    assert_eq!(stored(&tables).await, expected(SOURCE, &frames, &[]));
}

#[tokio::test]
async fn a_role_that_may_only_write_is_enough_once_the_tables_are_there() {
    let tables = Tables::new();
    let ask = |sql: &str| tables.cluster.ask(sql);
    ask("CREATE ROLE writer LOGIN");
    ask("REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    let url = tables.cluster.url().replace("user=test", "user=writer");
    let mut sink = Postgres::new(options(&url)).unwrap();
    let said = problem(sink.cursor(SOURCE).await.unwrap_err());
    assert!(said.contains("permission denied for schema public"), "{said}");
    tables.open().cursor(SOURCE).await.unwrap();
    ask("GRANT SELECT, INSERT, DELETE, UPDATE ON test_logs, test_cursors, test_dead_letters TO writer");
    ask("GRANT USAGE ON SEQUENCE test_logs_id_seq TO writer");
    let frames = frames(&tables, 2, 5);
    feed(&mut sink, SOURCE, &frames).await;
    assert_eq!(stored(&tables).await, expected(SOURCE, &frames, &[]));
}

#[tokio::test]
async fn what_cannot_be_the_table_is_named() {
    let tables = Tables::new();
    let ask = |sql: &str| tables.cluster.ask(sql);
    for (made, why) in [
        ("CREATE TABLE test_logs (id BIGSERIAL, message TEXT)", "\"test_logs\": it has no column timestamp"),
        (
            &MODULES.replace("process_id INTEGER", "process_id BIGINT"),
            "column process_id must be integer, it is bigint",
        ),
        (
            &MODULES.replace("VARCHAR(500)", "VARCHAR(100)"),
            "must be character varying(500), it is character varying(100)",
        ),
    ] {
        ask(made);
        let said = problem(tables.open().cursor(SOURCE).await.unwrap_err());
        assert!(said.contains(why), "{said}");
        ask("DROP TABLE test_logs");
    }
    // A column that somebody asks a value for which no record has.
    tables.open().cursor(SOURCE).await.unwrap();
    ask("ALTER TABLE test_logs ADD COLUMN tenant text NOT NULL");
    let frames = frames(&tables, 1, 5);
    let said = runstone_sinks::contract::once(&mut tables.open(), SOURCE, 0, &frames).await.unwrap_err();
    assert!(problem(said).contains("tenant"));
    ask("ALTER TABLE test_logs ALTER COLUMN tenant SET DEFAULT 'one'");
    feed(&mut tables.open(), SOURCE, &frames).await;
    // A table that goes under a running sink comes back.
    let mut sink = tables.open();
    feed(&mut sink, SOURCE, &frames).await;
    ask("DROP TABLE test_logs, test_cursors");
    feed(&mut sink, SOURCE, &frames).await;
    assert_eq!(stored(&tables).await, expected(SOURCE, &frames, &[]));
    tables.cluster.ask("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
    let mut latin = Postgres::new(options(&tables.cluster.url_of("latin"))).unwrap();
    assert!(problem(latin.cursor(SOURCE).await.unwrap_err()).contains("must be UTF8, it is LATIN1"));
    let mut none = Postgres::new(options(&tables.cluster.url_of("nowhere"))).unwrap();
    assert!(problem(none.cursor(SOURCE).await.unwrap_err()).contains("database \"nowhere\" does not exist"));
}

#[tokio::test]
async fn the_prefix_is_no_reserved_word_and_settings_are_named_without_their_secrets() {
    let tables = Tables::new();
    let reserved = tables.cluster.ask("SELECT word FROM pg_get_keywords() WHERE catcode IN ('R', 'T')");
    assert!(reserved.lines().count() > 90);
    let refused = |prefix: &str, url: &str| {
        let mut options = options(url);
        prefix.clone_into(&mut options.table_prefix);
        problem(Postgres::new(options).unwrap_err())
    };
    for word in reserved.lines().chain(["x\"; DROP TABLE y;--", "9a", ""]) {
        assert!(refused(word, &tables.cluster.url()).contains("postgres.table_prefix"), "{word}");
    }
    for url in
        ["", "postgres://", "mysql://u:secret@h/d", "postgres://u:secret@h:port/d", "postgres://u:secret@h/d?x=y"]
    {
        let said = refused("ok", url);
        assert!(said.contains("postgres.url") && !said.contains("secret"), "{said}");
    }
    assert!(!format!("{:?}", options("postgres://u:secret@h/d")).contains("secret"));
}
