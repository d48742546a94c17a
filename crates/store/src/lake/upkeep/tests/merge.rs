//! Merges: nothing is lost, doubled or changed, and files stay few.

use proptest::prelude::*;
use runstone_record::Column;

use super::super::Effort;
use super::world::*;
use crate::lake::tests::world::first_seed;
use crate::lake::{Change, Lake, LakeError};

#[tokio::test]
async fn small_files_of_a_day_become_one_that_says_the_same() {
    let world = World::new();
    let lake = world.lake().await;
    for flush_number in 0..5 {
        // Late records: each flush reaches back into the one before.
        let times: Vec<i64> = (0..30).map(|row| flush_number * 20 + row).collect();
        flush(&lake, A, TODAY, &times).await;
    }
    let before = contents(&lake).await;
    assert_eq!(before.len(), 150);
    let cursor = lake.cursor(&lake.snapshot(), A).await.unwrap();
    let report = world.run(&lake, Effort::Usual).await;
    assert_eq!((report.merges, report.merged_files, report.made_files, report.merged_rows), (1, 5, 1, 150));
    let snapshot = lake.snapshot();
    assert_eq!(snapshot.files.len(), 1);
    let file = &snapshot.files[0];
    assert!(file.path.ends_with("-compacted.parquet"), "{}", file.path);
    assert_eq!((file.journal(), file.positions(), file.stats.rows), (Some(A), Some((0, 149)), Some(150)));
    assert_eq!(file.date, Some(TODAY));
    assert_eq!(group_sizes(&lake, file).await, [75, 75]);
    assert_same(&contents(&lake).await, &before, "merged");
    assert_eq!(lake.cursor(&snapshot, A).await.unwrap(), cursor);
    // Nothing is left to do.
    let report = world.run(&lake, Effort::All).await;
    assert_eq!(report.merges, 0);
}

#[tokio::test]
async fn groups_that_stand_alone_are_taken_over_with_their_filters_and_bounds() {
    let world = World::new();
    let lake = world.lake().await;
    for part in 0..3 {
        let times: Vec<i64> = (0..100).map(|row| part * 1_000 + row).collect();
        flush(&lake, A, TODAY, &times).await;
        world.run(&lake, Effort::All).await;
    }
    let before = contents(&lake).await;
    let merged = lake.snapshot();
    assert_eq!(merged.files.len(), 1);
    assert_eq!(group_sizes(&lake, &merged.files[0]).await, [100, 100, 100]);
    // The last run took the first two groups over. What is known of the file is what encoding it afresh would have said.
    let all: Vec<i64> = (0..3).flat_map(|part| (0..100).map(move |row| part * 1_000 + row)).collect();
    assert_eq!(merged.files[0].stats, encode(&rows(A, 0, &all), 100).stats);
    let source = open(&lake, &merged.files[0]).await;
    let filters = source.blooms(Column::Id).await.unwrap();
    assert_eq!(filters.len(), 3);
    assert!(source.blooms(Column::Message).await.unwrap().iter().all(Option::is_none));
    for (group, filter) in filters.into_iter().enumerate() {
        let filter = filter.unwrap();
        let ids = rows(A, group as u64 * 100, &[0; 100]);
        let ids = arrow::array::AsArray::as_string::<i32>(ids.column(0)).clone();
        assert!(ids.iter().flatten().all(|id| filter.check(id)));
    }
    assert_same(&contents(&lake).await, &before, "merged");
}

#[tokio::test]
async fn an_empty_list_is_a_value_also_where_its_group_is_taken_over() {
    use arrow::array::{ArrayRef, ListBuilder, RecordBatch, StringBuilder};
    // Of three rows one has an empty list, one has none, and one has an item in every third group.
    let with_lists = |part: u64| {
        let times: Vec<i64> = (0..100).map(|row| part as i64 * 1_000 + row).collect();
        let batch = rows(A, part * 100, &times);
        let mut lists = ListBuilder::new(StringBuilder::new());
        for row in 0..100 {
            match row % 3 {
                0 => lists.append(true),
                1 if part == 2 => lists.append_value([Some("x"), None]),
                _ => lists.append(false),
            }
        }
        let schema = batch.schema();
        let columns = schema.fields().iter().map(|field| field.name().clone()).zip(batch.columns().to_vec());
        let lists = (Column::Capabilities.name().to_owned(), std::sync::Arc::new(lists.finish()) as ArrayRef);
        RecordBatch::try_from_iter(columns.chain([lists])).unwrap()
    };
    let world = World::new();
    let lake = world.lake().await;
    let mut nulls = 0;
    for part in 0..3 {
        let file = lake.put(encode(&with_lists(part), 100), TODAY).await.unwrap();
        commit(&lake, vec![file], Vec::new()).await.unwrap();
        world.run(&lake, Effort::All).await;
        nulls += if part == 2 { 33 } else { 66 };
        let file = std::sync::Arc::clone(&lake.snapshot().files[0]);
        assert_eq!((lake.snapshot().files.len(), file.stats.rows), (1, Some((part + 1) * 100)));
        assert_eq!(file.stats.column(Column::Capabilities).and_then(|stats| stats.nulls), Some(nulls), "{part}");
    }
}

#[tokio::test]
async fn copied_rows_are_counted() {
    let world = World::new();
    let lake = world.lake().await;
    flush(&lake, A, TODAY, &(0..100).collect::<Vec<_>>()).await;
    assert_eq!(world.run(&lake, Effort::All).await.copied_rows, 0);
    flush(&lake, A, TODAY, &(100..200).collect::<Vec<_>>()).await;
    let report = world.run(&lake, Effort::All).await;
    assert_eq!((report.merged_rows, report.copied_rows), (200, 100));
}

#[tokio::test]
async fn rows_of_one_moment_and_rows_that_are_large_make_groups_of_bounded_size() {
    let world = World::new();
    let lake = world.lake().await;
    for _ in 0..6 {
        flush(&lake, A, TODAY, &[7; 90]).await;
    }
    let before = contents(&lake).await;
    world.run(&lake, Effort::All).await;
    let snapshot = lake.snapshot();
    assert_eq!(snapshot.files.len(), 1);
    let sizes = group_sizes(&lake, &snapshot.files[0]).await;
    assert!(sizes.iter().all(|rows| (50..=125).contains(rows)), "{sizes:?}");
    assert_same(&contents(&lake).await, &before, "merged");
}

#[tokio::test]
async fn another_writers_files_are_merged_only_where_they_are_like_ours() {
    let world = World::new();
    let lake = world.lake().await;
    let stranger = |name: &'static str| {
        use arrow::array::{ArrayRef, StringArray};
        let (journal, first) = (A, if name == "extra" { 100 } else { 200 });
        let batch = rows(journal, first, &[first as i64, first as i64 + 1]);
        let mut columns: Vec<(String, ArrayRef)> = batch
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .zip(batch.columns().iter().cloned())
            .collect();
        columns.push((name.to_owned(), std::sync::Arc::new(StringArray::from(vec!["x", "y"]))));
        (encode(&batch, 10).stats, arrow::array::RecordBatch::try_from_iter(columns).unwrap())
    };
    flush(&lake, A, TODAY, &[1, 2, 3]).await;
    for name in ["extra", "hostname"] {
        let (stats, batch) = stranger(name);
        let mut bytes = Vec::new();
        let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let file = lake.put(crate::lake::Encoded { bytes: bytes.into(), stats }, TODAY).await.unwrap();
        commit(&lake, vec![file], Vec::new()).await.unwrap();
    }
    // The column `extra` would be lost: that file stays as it is. `hostname` is ours.
    world.run(&lake, Effort::All).await;
    let snapshot = lake.snapshot();
    let mut rows: Vec<_> = snapshot.files.iter().map(|file| file.stats.rows.unwrap()).collect();
    rows.sort_unstable();
    assert_eq!(rows, [2, 2, 3]);
    let again = world.run(&lake, Effort::All).await;
    assert_eq!(again.conflicts, 0);
}

/// What happens to one of six files.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Missing,
    /// Its last bytes, where its columns are described.
    End,
    /// Bytes of its columns.
    Middle,
    /// Another writer's, in which a record has no id.
    Null,
}

#[tokio::test]
async fn a_file_that_is_missing_or_damaged_holds_up_no_other() {
    for harm in [Harm::Missing, Harm::End, Harm::Middle, Harm::Null] {
        let world = World::new();
        let lake = world.lake().await;
        for number in 0..6 {
            flush(&lake, A, TODAY - 1, &[number * 3, number * 3 + 1]).await;
        }
        let harmed = std::sync::Arc::clone(&lake.snapshot().files[2]);
        do_harm(&world, &lake, &harmed, harm).await;
        // A day that is older and one that lasts are merged all the same, and so are the neighbours of the file.
        for number in 0..2 {
            flush(&lake, B, TODAY - 2, &[number]).await;
        }
        for number in 0..20 {
            flush(&lake, B, TODAY, &[number]).await;
        }
        let report = world.upkeep().run(&lake, world.now_ms(), Effort::All).await;
        assert_eq!((report.failures.len(), report.conflicts), (1, 0), "{harm:?}: {report:?}");
        assert!(report.failures[0].is_final && report.failures[0].why.contains("leave 1 of 6 files"), "{report:?}");
        let mut days: Vec<_> = lake.snapshot().files.iter().map(|file| TODAY - file.date.unwrap()).collect();
        days.sort_unstable();
        assert_eq!(days, [0, 1, 1, 1, 2], "{harm:?}");
        let report = world.run(&lake, Effort::All).await;
        assert_eq!((report.merges, report.conflicts), (0, 0), "{harm:?}");
    }
}

/// Bits that flip, one at a time.
const FLIPS: u64 = 200;

#[tokio::test]
async fn no_merge_carries_a_flipped_bit_on() {
    use object_store::ObjectStoreExt;
    let whole = World::new();
    let lake = whole.lake().await;
    // Two row groups that are taken over byte for byte, and two that are written anew.
    for start in [0, 1_000, 2_000, 2_050] {
        flush(&lake, A, TODAY, &(start..start + 100).collect::<Vec<_>>()).await;
        if start < 2_000 {
            whole.run(&lake, Effort::All).await;
        }
    }
    let (files, before) = (std::sync::Arc::clone(&lake.snapshot().files), contents(&lake).await);
    let (mut left, first) = (0, first_seed());
    for flip in first..first + FLIPS {
        let world = whole.fork();
        let lake = world.lake().await;
        let random = |salt: u64, end: usize| {
            let number = xxhash_rust::xxh3::xxh3_64_with_seed(&flip.to_le_bytes(), salt);
            usize::try_from(number % end as u64).unwrap()
        };
        let harmed = &files[random(0, files.len())];
        let path = object_store::path::Path::from(harmed.path.as_str());
        let mut bytes = world.store.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
        let at = random(1, bytes.len());
        bytes[at] ^= 1 << random(2, 8);
        let own = contents_of(&lake, std::slice::from_ref(harmed)).await;
        world.store.put(&path, bytes.into()).await.unwrap();
        let report = world.upkeep().run(&lake, world.now_ms(), Effort::All).await;
        let mut there = lake.snapshot().files.to_vec();
        let is_left = there.iter().any(|file| file.path == harmed.path);
        there.retain(|file| file.path != harmed.path);
        let mut expected = before.clone();
        if is_left {
            assert!(report.failures[0].why.contains("are not what was written"), "{report:?}");
            expected.retain(|key, _| !own.contains_key(key));
            left += 1;
        }
        assert_same(&contents_of(&lake, &there).await, &expected, (&harmed.path, at));
    }
    assert!(left > FLIPS * 3 / 4, "{left}");
}

async fn do_harm(world: &World, lake: &Lake, file: &crate::lake::LakeFile, harm: Harm) {
    use arrow::array::{ArrayRef, RecordBatch, StringArray};
    use object_store::ObjectStoreExt;
    let path = object_store::path::Path::from(file.path.as_str());
    let mut bytes = world.store.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
    match harm {
        Harm::Missing => return world.store.delete(&path).await.unwrap(),
        Harm::End => bytes.iter_mut().rev().take(6).for_each(|byte| *byte = 0xFF),
        Harm::Middle => bytes[4..40].fill(0xFF),
        Harm::Null => {
            let batch = rows_on(TODAY - 1, A, file.positions().unwrap().0, &[1, 2]);
            let mut columns = batch.columns().to_vec();
            columns[0] = std::sync::Arc::new(StringArray::from(vec![Some("x"), None])) as ArrayRef;
            let names = batch.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
            let batch = RecordBatch::try_from_iter(names.into_iter().zip(columns)).unwrap();
            bytes.clear();
            let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
            writer.write(&batch).unwrap();
            writer.close().unwrap();
            // Its entry has another size.
            let stats = file.stats.clone();
            let theirs = lake.put(crate::lake::Encoded { bytes: bytes.into(), stats }, TODAY - 1).await.unwrap();
            return commit(lake, vec![theirs], vec![std::sync::Arc::new(file.clone())]).await.unwrap();
        }
    }
    world.store.put(&path, bytes.into()).await.map(drop).unwrap();
}

async fn commit(
    lake: &Lake,
    add: Vec<crate::lake::LakeFile>,
    remove: Vec<std::sync::Arc<crate::lake::LakeFile>>,
) -> Result<(), LakeError> {
    let change = Change { journal: None, add, remove, data_change: true, operation: "WRITE", metrics: Vec::new() };
    lake.commit(change).await.map(drop)
}

#[tokio::test]
async fn six_hundred_small_flushes_stay_few_files() {
    let world = World::new();
    let lake = world.lake().await;
    let (mut most, mut written) = (0, 0);
    for number in 0..600 {
        let times: Vec<i64> = (0..10).map(|row| number * 10 + row).collect();
        flush(&lake, A, TODAY, &times).await;
        world.advance(1_000);
        if number % 5 == 0 {
            written += world.run(&lake, Effort::Usual).await.merged_rows;
        }
        most = most.max(lake.snapshot().files.len());
    }
    assert!(most <= 40, "{most} files");
    assert!(written <= 4 * 6_000, "{written} rows written again");
    let before = contents(&lake).await;
    assert_eq!(before.len(), 6_000);
    assert!(before.values().all(|copies| copies.len() == 1));
    world.advance(2 * DAY_MS);
    world.run(&lake, Effort::Usual).await;
    let snapshot = lake.snapshot();
    let bytes: u64 = snapshot.files.iter().map(|file| file.bytes).sum();
    assert!(snapshot.files.len() as u64 <= 1 + 2 * bytes / rules().file_bytes, "{} files", snapshot.files.len());
    assert!(snapshot.files.iter().all(|file| file.bytes <= rules().file_bytes * 5 / 4));
    for file in snapshot.files.iter() {
        group_sizes(&lake, file).await;
    }
    assert_same(&contents(&lake).await, &before, "merged");
}

/// What happens to a table.
#[derive(Debug, Clone)]
enum Event {
    Flush {
        journal: &'static str,
        days_ago: i32,
        times: Vec<i64>,
    },
    Upkeep {
        all: bool,
    },
    /// Another process removes a file while ours compacts, before or after it read it.
    Rival {
        file: prop::sample::Index,
        after_ops: u64,
    },
    Wait {
        hours: i64,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let journal = prop_oneof![Just(A), Just(B)];
    let times = prop::collection::vec(0..2_000_i64, 1..160);
    prop_oneof![
        6 => (journal, 0..2_i32, times).prop_map(|(journal, days_ago, times)| Event::Flush { journal, days_ago, times }),
        2 => any::<bool>().prop_map(|all| Event::Upkeep { all }),
        1 => (any::<prop::sample::Index>(), 0..12_u64).prop_map(|(file, after_ops)| Event::Rival { file, after_ops }),
        1 => (0..5_i64).prop_map(|hours| Event::Wait { hours }),
    ]
}

async fn happen(world: &World, lake: &Lake, event: &Event, expected: &mut Contents) {
    match event {
        Event::Flush { journal, days_ago, times } => {
            let next = flush(lake, journal, TODAY - days_ago, times).await;
            add_rows(&rows_on(TODAY - days_ago, journal, next - times.len() as u64, times), expected);
        }
        Event::Upkeep { all } => {
            let effort = if *all { Effort::All } else { Effort::Usual };
            world.run(lake, effort).await;
        }
        Event::Rival { file, after_ops } => {
            let files = lake.refresh().await.unwrap().files.clone();
            if files.is_empty() {
                return;
            }
            let gone = std::sync::Arc::clone(file.get(&files));
            let rival = world.lake().await;
            let upkeep = world.upkeep();
            let ours = upkeep.run(lake, world.now_ms(), Effort::All);
            let theirs = async {
                for _ in 0..*after_ops {
                    tokio::task::yield_now().await;
                }
                match commit(&rival, Vec::new(), vec![std::sync::Arc::clone(&gone)]).await {
                    Ok(()) => true,
                    // Ours was faster.
                    Err(LakeError::Conflict(_)) => false,
                    Err(error) => panic!("{error}"),
                }
            };
            let (report, removed) = futures::join!(ours, theirs);
            assert_eq!(report.failures, []);
            if removed {
                let (low, high) = gone.positions().unwrap();
                let journal = gone.journal().unwrap().to_owned();
                let range = (journal.clone(), low as i64)..=(journal, high as i64);
                let keys: Vec<_> = expected.range(range).map(|(key, _)| key.clone()).collect();
                // A merged file holds what two days' files cover between them: only its own rows go.
                let still = contents(lake).await;
                for key in keys {
                    if !still.contains_key(&key) {
                        expected.remove(&key);
                    }
                }
                let rows = gone.stats.rows.unwrap();
                assert!(rows > 0);
            }
        }
        Event::Wait { hours } => world.advance(hours * HOUR_MS),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_the_rows_are_the_same(events in prop::collection::vec(event(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            let lake = world.lake().await;
            let mut expected = Contents::new();
            for event in &events {
                happen(&world, &lake, event, &mut expected).await;
                assert_same(&contents(&lake).await, &expected, event);
            }
            for file in lake.snapshot().files.iter() {
                group_sizes(&lake, file).await;
            }
            // Another process sees the same.
            assert_same(&contents(&world.lake().await).await, &expected, "reopened");
        });
    }
}
