//! Answers equal those of a naive model: a list of records that is looked through one by one.

use proptest::prelude::*;
use runstone_record::time::{format_micros, parse_rfc3339};
use runstone_record::{Batch, Column, Kind};
use serde_json::{Value, json};

use crate::world::{JOURNAL, NOW, World, batches, limits};

/// A record in the model: its position, its batch, its row.
pub(crate) type Row<'a> = (u64, &'a Batch, usize);

pub(crate) fn rows(world: &World) -> Vec<Row<'_>> {
    let each = |(first, batch): &'_ (u64, Batch)| (*first, batch.len());
    world
        .batches
        .iter()
        .flat_map(|pushed| {
            let (first, len) = each(pushed);
            (0..len).map(move |row| (first + row as u64, &pushed.1, row))
        })
        .collect()
}

/// A record as a row of SQL shows it: every column, nulls included, lists and times in their JSON forms.
fn shown((position, batch, row): Row<'_>) -> Value {
    let mut object = serde_json::Map::new();
    for column in Column::ALL {
        let value = match (column, column.kind()) {
            (Column::Id, _) => json!(batch.ids().get(row).to_string()),
            (Column::Journal, _) => json!(JOURNAL),
            (Column::Position, _) => json!(position),
            (Column::IngestedAt, _) => json!(format_micros(batch.ingested_at())),
            (Column::Date, _) => json!(format_micros(batch.ingested_at())[..10]),
            (_, Kind::Time) => json!(batch.int(column, row).map(format_micros)),
            (_, Kind::Int) => json!(batch.int(column, row)),
            (_, Kind::Float) => json!(batch.float(column, row)),
            (_, Kind::List) => batch.text(column, row).map_or(Value::Null, |list| serde_json::from_str(list).unwrap()),
            _ => json!(batch.text(column, row)),
        };
        object.insert(column.name().to_owned(), value);
    }
    Value::Object(object)
}

type Keep = fn(Row<'_>) -> bool;

fn text((_, batch, row): Row<'_>, column: Column) -> Option<&str> {
    batch.text(column, row)
}

/// Conditions in SQL and in the model. `Etl_1%` and the like must not be read as patterns.
const CONDITIONS: &[(&str, Keep)] = &[
    ("true", |_| true),
    ("level = 'ERROR'", |row| text(row, Column::Level) == Some("ERROR")),
    ("level <> 'ERROR'", |row| text(row, Column::Level).is_some_and(|level| level != "ERROR")),
    ("level IN ('ERROR', 'INFO') AND run_id = 'run-2'", |row| {
        matches!(text(row, Column::Level), Some("ERROR" | "INFO")) && text(row, Column::RunId) == Some("run-2")
    }),
    ("source_system IS NULL", |row| text(row, Column::SourceSystem).is_none()),
    ("coalesce(source_system, 'glue') = 'glue'", |row| {
        text(row, Column::SourceSystem).is_none_or(|system| system == "glue")
    }),
    ("source_system = 'Etl_1%' OR title IS NOT NULL", |row| {
        text(row, Column::SourceSystem) == Some("Etl_1%") || text(row, Column::Title).is_some()
    }),
    ("message LIKE '%100\\%%'", |row| text(row, Column::Message).is_some_and(|message| message.contains("100%"))),
    ("message ILIKE '%hello%' AND row_count >= 2", |(at, batch, row)| {
        let said = text((at, batch, row), Column::Message).is_some_and(|text| text.to_lowercase().contains("hello"));
        said && batch.int(Column::RowCount, row).is_some_and(|count| count >= 2)
    }),
    ("message = ''' OR 1=1--'", |row| text(row, Column::Message) == Some("' OR 1=1--")),
    ("timestamp < TIMESTAMP '2025-11-20T12:00:00Z'", |(_, batch, row)| batch.timestamp(row) < NOW),
    ("position BETWEEN 5 AND 40 AND position <> 7", |(at, _, _)| (5..=40).contains(&at) && at != 7),
    ("date > DATE '2025-11-20'", |(_, batch, _)| batch.ingested_at() >= parse_rfc3339("2025-11-21T00:00:00Z").unwrap()),
    ("duration < 1 AND capabilities IS NOT NULL", |(_, batch, row)| {
        batch.float(Column::Duration, row).is_some_and(|seconds| seconds < 1.0)
            && batch.text(Column::Capabilities, row).is_some()
    }),
    ("metadata->>'a' = 'x'", |row| {
        text(row, Column::Metadata)
            .is_some_and(|metadata| serde_json::from_str::<Value>(metadata).unwrap()["a"] == json!("x"))
    }),
    ("json_get_int(metadata, 'a') = 1", |row| {
        text(row, Column::Metadata)
            .is_some_and(|metadata| serde_json::from_str::<Value>(metadata).unwrap()["a"] == json!(1))
    }),
    ("hostname IS NULL", |_| true),
    ("hostname = 'x'", |_| false),
];

fn check(world: &World) -> Result<(), TestCaseError> {
    let all = rows(world);
    let answer = world.query("SELECT * FROM logs ORDER BY position");
    prop_assert_eq!(answer.stats.rows, all.len() as u64);
    for (row, record) in answer.rows.iter().zip(&all) {
        prop_assert_eq!(row, &shown(*record));
    }
    for (condition, keep) in CONDITIONS {
        let expected: Vec<u64> = all.iter().filter(|row| keep(**row)).map(|row| row.0).collect();
        prop_assert_eq!(&world.positions(condition), &expected, "{}", condition);
        let count = world.number(&format!("SELECT count(*) FROM logs WHERE {condition}"));
        prop_assert_eq!(usize::try_from(count).unwrap(), expected.len(), "{}", condition);
    }
    let by_level = world.query("SELECT level, count(*) AS n, max(timestamp) AS latest FROM logs GROUP BY level");
    for group in &by_level.rows {
        let level = group["level"].as_str();
        let of_it: Vec<_> = all.iter().filter(|row| text(**row, Column::Level) == level).collect();
        let latest = of_it.iter().map(|(_, batch, row)| batch.timestamp(*row)).max().unwrap();
        prop_assert_eq!(&group["n"], &json!(of_it.len()));
        prop_assert_eq!(&group["latest"], &json!(format_micros(latest)));
    }
    let limit = all.len() / 2 + 1;
    let some = world.query(&format!("SELECT id, message FROM logs LIMIT {limit}"));
    prop_assert_eq!(some.stats.rows as usize, limit.min(all.len()));
    let mut latest: Vec<_> = all.iter().map(|(at, batch, row)| (batch.timestamp(*row), *at)).collect();
    latest.sort_unstable();
    let expected: Vec<Value> = latest.iter().rev().take(5).map(|(_, at)| json!(at)).collect();
    let sql = "SELECT position, message FROM logs ORDER BY timestamp DESC, position DESC LIMIT 5";
    prop_assert_eq!(world.column(sql), expected);
    let expected: Vec<Value> = latest.iter().take(5).map(|(_, at)| json!(at)).collect();
    let sql = "SELECT position, message FROM logs ORDER BY timestamp, position LIMIT 5";
    prop_assert_eq!(world.column(sql), expected);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn answers_equal_the_model_wherever_the_records_are(
        batches in batches(), share in 0_usize..4, seams in prop::collection::vec(0.0..1.0_f64, 0..4), all: bool,
    ) {
        // All in memory, two thirds, one third, or nothing.
        let mut sizing = World::new(usize::MAX, limits());
        batches.iter().for_each(|batch| sizing.push(batch.clone()));
        let bytes_max = [usize::MAX, sizing.recent.stats().bytes * 2 / 3, sizing.recent.stats().bytes / 3, 0][share];
        let mut world = World::new(bytes_max, limits());
        batches.into_iter().for_each(|batch| world.push(batch));
        // Nothing is in the lake, some, in several files, or everything.
        let mut seams: Vec<u64> = seams.iter().map(|share| (share * world.last() as f64) as u64).collect();
        seams.sort_unstable();
        seams.extend(all.then(|| world.last()));
        seams.iter().for_each(|through| world.settle(*through));
        check(&world)?;
        let stats = world.recent.stats();
        prop_assert!(stats.bytes <= bytes_max);
        prop_assert_eq!(stats.records + stats.evicted + stats.settled, rows(&world).len() as u64);
    }
}
