//! docs/postgres.md, done as it says.

use runstone_sinks::contract::{SOURCE, feed, frames};
use runstone_sinks::postgres::Postgres;
use runstone_sinks::{Sink, SinkError};

use super::{Tables, options};

/// The SQL of the page, and whether it is said in the database of logs.
fn blocks() -> Vec<(bool, String)> {
    let page = std::fs::read_to_string("../../docs/postgres.md").unwrap();
    let blocks = page.split("```").skip(1).step_by(2).filter(|block| block.starts_with("sql"));
    let blocks = blocks.map(|block| {
        let (head, sql) = block.split_once('\n').unwrap();
        (head == "sql of logs", sql.to_owned())
    });
    blocks.collect()
}

#[tokio::test]
async fn every_statement_of_the_guide_does_what_it_says() {
    let tables = Tables::new();
    let (set_up, in_logs): (Vec<_>, Vec<_>) = blocks().into_iter().partition(|(in_logs, _)| !in_logs);
    assert_eq!((set_up.len(), in_logs.len()), (1, 2));
    for statement in set_up[0].1.split_inclusive(";\n") {
        tables.cluster.ask(statement);
    }
    let sink = |user: &str| {
        let mut options = options(&tables.cluster.url_of("logs").replace("user=test", &format!("user={user}")));
        "runstone".clone_into(&mut options.table_prefix);
        Postgres::new(options).unwrap()
    };
    sink("runstone").cursor(SOURCE).await.unwrap();
    tables.cluster.ask_of("logs", &in_logs[0].1);
    let mut writer = sink("writer");
    feed(&mut writer, SOURCE, &frames(&tables, 2, 5)).await;
    // One old row, whatever the date is on which this runs.
    tables.cluster.ask_of("logs", "UPDATE runstone_logs SET timestamp = now()");
    let old = "INSERT INTO runstone_logs (timestamp, level, logger_name, process_id, thread_id, hostname, message) \
               VALUES (now() - interval '2 days', 'INFO', 'l', 1, 1, 'h', 'm')";
    tables.cluster.ask_of("logs", old);
    let now = tables.cluster.ask("SELECT (extract(epoch FROM now()) * 1000000)::bigint");
    let now: i64 = now.parse().unwrap();
    let ahead = writer.retain(1, now + 20 * 86_400_000_000).await;
    assert!(matches!(ahead, Err(SinkError::Misconfigured { .. })), "a clock ahead: {ahead:?}");
    assert_eq!(tables.cluster.ask_of("logs", "SELECT count(*) FROM runstone_logs"), "11");
    assert_eq!(writer.retain(1, now).await.unwrap(), 1);
    assert_eq!(tables.cluster.ask_of("logs", "SELECT count(*) FROM runstone_logs"), "10");
    for statement in in_logs[1].1.split_inclusive(";\n") {
        let answer = tables.cluster.ask_of("logs", statement);
        if statement.contains("FROM runstone_cursors") {
            assert!(answer.starts_with(&format!("{SOURCE}|10|")), "{answer}");
        }
    }
}

/// The numbers and names that the page gives are those of the code.
#[test]
fn the_guide_has_the_tables_columns_and_the_codes_limits() {
    use runstone_record::limits::{
        POSTGRES_BACKOFF_MS, POSTGRES_CONNECT_TIMEOUT_MS, POSTGRES_GRACE_MS, POSTGRES_LOCK_TIMEOUT_MS,
        POSTGRES_PREFIX_BYTES_MAX, POSTGRES_STATEMENT_TIMEOUT_MS,
    };
    let page = std::fs::read_to_string("../../docs/postgres.md").unwrap().replace('\n', " ");
    for said in [
        format!("Connecting takes at most {} s", POSTGRES_CONNECT_TIMEOUT_MS / 1_000),
        format!("at most {} s for a lock", POSTGRES_LOCK_TIMEOUT_MS / 1_000),
        format!("takes at most {} s", POSTGRES_STATEMENT_TIMEOUT_MS / 1_000),
        format!("left {} s later", POSTGRES_GRACE_MS / 1_000),
        format!("double from {} ms", POSTGRES_BACKOFF_MS.0),
        format!("at most {POSTGRES_PREFIX_BYTES_MAX} bytes"),
    ] {
        assert!(page.contains(&said), "{said}");
    }
    for column in runstone_record::Column::ALL {
        let name = match column.name() {
            "date" => continue,
            "metadata" => "extra_data",
            "id" => "record_id",
            name => name,
        };
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
}
