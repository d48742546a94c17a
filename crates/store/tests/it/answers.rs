//! How answers look: every type, names, truncation, the tables' schemas.

use runstone_record::Column;
use runstone_record::wire::{QueryAnswer, RunBody};
use runstone_store::{QueryError, Question};

use crate::world::{Draft, Runs, World, batch, limits, lines};

fn pretty(answer: &QueryAnswer) -> String {
    let columns = serde_json::to_string(&answer.columns).unwrap().replace("},", "},\n");
    format!("{columns}\n{}", serde_json::to_string_pretty(&answer.rows).unwrap())
}

#[test]
fn every_type_has_one_form() {
    let mut world = World::new(usize::MAX, limits());
    let draft = Draft {
        id: Some(0x0198_0000_0000_7000_8000_0000_0000_000f),
        timestamp: Some(1_736_771_696_789_000),
        texts: vec![
            (Column::Level, "INFO".to_owned()),
            (Column::Message, "\"quoted\" \u{7} zürich".to_owned()),
            (Column::Capabilities, "[\"a\",\"b\"]".to_owned()),
            (
                Column::Metadata,
                "{\"rows\":3,\"deep\":{\"list\":[1,null]},\"on\":true,\"word\":\"x\",\"f\":1.5}".to_owned(),
            ),
        ],
        row_count: Some(i64::MAX),
        duration: Some(1.5),
    };
    world.push(batch(&[draft], 1));
    let sql = "SELECT id, timestamp, ingested_at, date, level, stage, message, row_count, duration, capabilities, \
        capabilities[1] AS first, true AS yes, 1.0/0 AS infinite, 'NaN'::double AS nan, 12.50::decimal(10,2) AS dec, \
        now() - now() AS span, TIME '10:11:12' AS clock, NULL AS nothing, \
        TIMESTAMP '2025-01-13T12:34:56.123456789' AS nanos, struct(1, 'x') AS record, [1, NULL] AS list, \
        18446744073709551615 AS big, metadata->'rows' AS json_int, metadata->'deep' AS json_object, \
        metadata->>'deep' AS json_text, metadata->'on' AS json_bool, metadata->'none' AS json_null, \
        metadata->'word' AS json_word, metadata->'f' AS json_float, json_get_int(metadata, 'rows') AS typed, \
        metadata->'deep'->'list' AS path, metadata, \
        1 AS n, 2 AS \"N\", count(*) OVER () AS total FROM logs";
    let answer = world.query(sql);
    insta::assert_snapshot!(pretty(&answer));
}

#[test]
fn names_are_unique() {
    let mut world = World::new(usize::MAX, limits());
    world.push(lines(2, 1));
    let answer = world.query("SELECT a.position, b.position FROM logs a JOIN logs b ON a.position = b.position");
    let names: Vec<_> = answer.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["position", "position_2"]);
    assert_eq!(answer.rows[0].as_object().unwrap().len(), 2);
}

#[test]
fn the_tables_describe_themselves() {
    let world = World::new(usize::MAX, limits());
    for sql in ["DESCRIBE logs", "SHOW COLUMNS FROM logs"] {
        assert_eq!(world.query(sql).rows.len(), Column::ALL.len(), "{sql}");
    }
    let tables = world.query("SHOW TABLES").rows;
    for table in ["logs", "runs"] {
        assert!(tables.iter().any(|row| row["table_name"] == table), "{tables:?}");
    }
    let answer = world.query("SELECT * FROM logs");
    let columns: Vec<_> = answer.columns.iter().map(|column| (column.name.as_str(), column.kind.as_str())).collect();
    insta::assert_debug_snapshot!(columns);
    assert_eq!(answer.rows.len(), 0);
}

#[test]
fn an_answer_beyond_its_limits_is_an_error_and_cut_for_who_asks_for_its_beginning() {
    let first = |world: &World, sql: &str, rows: u64| {
        let question = Question { max_rows: Some(rows), ..Question::from(sql) };
        let answer = world.wait(world.sql.query(question)).unwrap();
        serde_json::from_slice::<QueryAnswer>(&answer.into_body()).unwrap()
    };
    let mut few = limits();
    few.rows_max = 10;
    let mut world = World::new(usize::MAX, few);
    world.push(lines(100, 1));
    let sql = "SELECT position FROM logs ORDER BY position";
    match world.try_query(sql) {
        Err(QueryError::Limit(message)) => assert!(message.contains("10 rows (query.rows_max)"), "{message}"),
        answer => panic!("{answer:?}"),
    }
    assert_eq!(world.query(&format!("{sql} LIMIT 10")).rows.len(), 10);
    for (rows, shown) in [(7, 7), (10, 10), (11, 10), (u64::MAX, 10)] {
        let answer = first(&world, sql, rows);
        assert_eq!((answer.rows.len(), answer.stats.truncated), (shown, true), "{rows}");
        assert_eq!(answer.rows[shown - 1]["position"], shown, "{rows}");
    }
    let answer = first(&world, "SELECT position FROM logs LIMIT 10", 10);
    assert_eq!((answer.rows.len(), answer.stats.truncated), (10, false));
    let mut small = limits();
    small.answer_bytes_max = 1_000;
    let mut world = World::new(usize::MAX, small);
    world.push(lines(100, 1));
    match world.try_query("SELECT message FROM logs") {
        Err(QueryError::Limit(message)) => assert!(message.contains("more than 1000 bytes"), "{message}"),
        answer => panic!("{answer:?}"),
    }
    let answer = first(&world, "SELECT message FROM logs", 100);
    assert!(answer.stats.truncated && answer.rows.len() > 10, "{answer:?}");
    assert!(serde_json::to_vec(&answer.rows).unwrap().len() <= 1_001);
}

#[test]
fn runs_are_a_table() {
    let run = |run_id: &str, state: &str, ended_at: Option<&str>| RunBody {
        run_id: run_id.to_owned(),
        state: state.to_owned(),
        source_system: Some("spark".to_owned()),
        stage: None,
        title: None,
        started_at: "2025-01-13T12:34:56.789000Z".to_owned(),
        ended_at: ended_at.map(str::to_owned),
        last_at: "2025-01-13T12:35:56.789000Z".to_owned(),
        duration: 60.0,
        records: 3,
        warnings: 0,
        errors: 1,
        row_count: Some(7),
        failure: None,
        last_position: 12,
        environment: Some("production".to_owned()),
        owner: None,
        labels: [("tier".to_owned(), "gold".to_owned())].into(),
    };
    let runs = Runs(vec![run("a", "failed", Some("2025-01-13T12:35:56.789000Z")), run("b", "running", None)]);
    let journal = std::sync::Arc::default();
    let world = World::with(usize::MAX, limits(), std::sync::Arc::clone(&journal) as _, journal, runs);
    let answer = world.query("SELECT * FROM runs ORDER BY run_id");
    insta::assert_snapshot!(pretty(&answer));
    assert_eq!(world.number("SELECT count(*) FROM runs WHERE state = 'failed' AND ended_at > started_at"), 1);
    let sql = "SELECT extract(minute FROM ended_at) FROM runs WHERE run_id = 'a'";
    assert_eq!(world.number(sql), 35);
}
