//! docs/postgres.md, done as it says.

use runstone_sinks::Sink;
use runstone_sinks::contract::{SOURCE, feed, frames};
use runstone_sinks::postgres::Postgres;

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
    assert_eq!(writer.retain(1, 1_795_861_234_567_890 + 20 * 86_400_000_000).await.ok(), None, "a clock ahead");
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
