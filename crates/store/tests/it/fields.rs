//! What there is to filter by, counted without reading what is known; and filters that say much.

use futures::TryStreamExt;
use runstone_record::Column;
use runstone_record::limits::PAGE_BYTES_MAX;
use runstone_store::{Fields, Format, LogsQuery, Values, ValuesQuery};

use crate::world::{Draft, NOW, World, batch, limits, lines};

fn fields(world: &World, filter: LogsQuery) -> Fields {
    world.wait(world.sql.fields(filter)).unwrap()
}

fn count(fields: &Fields, column: Column) -> u64 {
    fields.columns.iter().find(|(known, _)| *known == column).map_or(0, |(_, records)| *records)
}

#[test]
fn a_filter_may_say_more_than_a_statement() {
    let mut world = World::new(usize::MAX, limits());
    world.push(lines(100, 1));
    world.push(lines(50, 2));
    world.settle(100);
    // As many source systems as a configuration may name, under names as long as they may be.
    let mut systems: Vec<String> = (0..9_999).map(|number| format!("{number:0>128}")).collect();
    systems.push("system-1".to_owned());
    let many = LogsQuery { any_of: vec![(Column::SourceSystem, systems)], limit: 1_000, ..LogsQuery::default() };
    let key = |number| (format!("a.b{number}"), "x".repeat(1_000));
    let long = LogsQuery { metadata: (0..16).map(key).collect(), limit: 1_000, ..LogsQuery::default() };
    for (query, records) in [(many, 50), (long, 0)] {
        assert_eq!(world.page(query.clone()).unwrap().count, records);
        assert_eq!(count(&fields(&world, query.clone()), Column::Id), records as u64);
        let asked = ValuesQuery { filter: query.clone(), column: Column::Type, prefix: None, limit: 5 };
        let Values { values, .. } = world.wait(world.sql.values(asked)).unwrap();
        assert_eq!(values.iter().map(|(_, records)| *records).sum::<u64>(), records as u64);
        for limit in [None, Some(1_000)] {
            let lines: Vec<u8> = world.wait(async {
                let pieces = world.sql.export(query.clone(), limit, Format::Ndjson).await.unwrap();
                pieces.map_ok(|piece| piece.to_vec()).try_concat().await.unwrap()
            });
            assert_eq!(lines.split(|byte| *byte == b'\n').count() - 1, records);
        }
    }
}

#[test]
fn fields_of_the_lake_are_counted_without_its_files() {
    let mut world = World::new(usize::MAX, limits());
    let draft = |capabilities: Option<&str>| Draft {
        texts: capabilities.map(|list| (Column::Capabilities, list.to_owned())).into_iter().collect(),
        timestamp: Some(NOW),
        ..Draft::default()
    };
    world.push(batch(&[draft(None), draft(Some("[]")), draft(Some("[\"a\"]"))], 1));
    world.push(batch(&[draft(None), draft(Some("[\"b\",\"c\"]"))], 2));
    let before = fields(&world, LogsQuery::default());
    assert_eq!((count(&before, Column::Id), count(&before, Column::Capabilities)), (5, 3));
    world.settle(3);
    world.settle(5);
    let files = world.shelf().view();
    let paths: Vec<_> = std::fs::read_dir(world.shelf().directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("date="))
        .collect();
    assert!(files.version() > 1 && !paths.is_empty());
    paths.iter().for_each(|path| std::fs::remove_dir_all(path).unwrap());
    assert_eq!(fields(&world, LogsQuery::default()), before);
    assert!(world.try_query("SELECT count(capabilities) FROM logs").is_err());
}

#[test]
fn metadata_is_looked_at_however_large_it_is() {
    let mut little = limits();
    little.memory_bytes = 24 << 20;
    let mut world = World::new(usize::MAX, little);
    let draft = |second: i64| Draft {
        timestamp: Some(NOW + second * 1_000_000),
        texts: vec![(Column::Metadata, format!("{{\"large\":\"{}\",\"k{second}\":1}}", "x".repeat(200_000)))],
        ..Draft::default()
    };
    world.push(batch(&(0..150).map(draft).collect::<Vec<_>>(), 1));
    world.push(batch(&(150..300).map(draft).collect::<Vec<_>>(), 2));
    for settled in [0, 150, 300] {
        world.settle(settled);
        for filter in [LogsQuery::default(), LogsQuery { limit: 1, ..LogsQuery::default() }] {
            let Fields { metadata, sample, is_sampled, .. } = fields(&world, filter);
            let most = PAGE_BYTES_MAX as u64 / 200_000;
            assert!(is_sampled && (most / 2..=most + 1).contains(&sample), "{settled}: {sample}");
            assert_eq!(metadata[0], ("large".to_owned(), sample));
            // The newest.
            assert!(metadata.iter().any(|(key, records)| (key.as_str(), *records) == ("k299", 1)), "{metadata:?}");
        }
    }
    world.push(lines(1_001, 3));
    let Fields { sample, is_sampled, .. } = fields(&world, LogsQuery::default());
    assert_eq!((sample, is_sampled), (1_000, true));
}
