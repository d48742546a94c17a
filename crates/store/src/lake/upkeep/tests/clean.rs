//! Retention and vacuum: what may go goes, and nothing else.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use runstone_record::limits;

use super::super::vacuum::vacuum;
use super::super::{Effort, Step};
use super::world::*;
use crate::lake::{Change, Lake, checkpoint};

const HOUR: Duration = Duration::from_secs(3_600);

async fn days(lake: &Lake) -> Vec<i32> {
    let snapshot = lake.refresh().await.unwrap();
    let mut days: Vec<_> = snapshot.files.iter().map(|file| TODAY - file.date.unwrap()).collect();
    days.sort_unstable();
    days
}

#[tokio::test]
async fn whole_days_leave_when_their_last_moment_is_old_enough() {
    let world = World::new();
    // Half a day before the rows' own time of arrival counts for nothing: the files' days are what is old.
    let lake = world.lake().await;
    for days_ago in 0..10 {
        put_day(&lake, TODAY - days_ago).await;
    }
    // At 13:00 a record is 7 days old that arrived 7 days ago at 13:00; the whole day before that is older.
    let report = world.upkeep_with(7, HOUR).run(&lake, world.now_ms(), Effort::Usual).await;
    assert_eq!((report.retired_files, report.retired_rows, report.failures.len()), (2, 2, 0));
    assert_eq!(days(&lake).await, [0, 1, 2, 3, 4, 5, 6, 7]);
    // The end of the day.
    world.advance(11 * HOUR_MS - 1);
    assert_eq!(world.upkeep_with(7, HOUR).run(&lake, world.now_ms(), Effort::Usual).await.retired_files, 0);
    world.advance(1);
    assert_eq!(world.upkeep_with(7, HOUR).run(&lake, world.now_ms(), Effort::Usual).await.retired_files, 1);
    assert_eq!(days(&lake).await, [0, 1, 2, 3, 4, 5, 6]);
    // 0 keeps everything.
    assert_eq!(world.upkeep_with(0, HOUR).run(&lake, world.now_ms(), Effort::Usual).await.retired_files, 0);
}

/// A file of one row that arrived on a day.
async fn put_day(lake: &Lake, date: i32) {
    let file = encode(&rows_on(date, A, u64::try_from(date).unwrap(), &[1]), 10);
    let file = lake.put(file, date).await.unwrap();
    let change = Change {
        journal: None,
        add: vec![file],
        remove: Vec::new(),
        data_change: true,
        operation: "WRITE",
        metrics: Vec::new(),
    };
    lake.commit(change).await.unwrap();
}

#[tokio::test]
async fn a_clock_that_jumps_deletes_nothing() {
    let world = World::new();
    let lake = world.lake().await;
    for days_ago in 0..10 {
        put_day(&lake, TODAY - days_ago).await;
    }
    let upkeep = world.upkeep_with(30, HOUR);
    assert_eq!(upkeep.run(&lake, world.now_ms(), Effort::Usual).await.failures, []);
    // Ten years on, within a moment; the process knows how long it has been running.
    let report = upkeep.run(&lake, world.now_ms() + 3_650 * DAY_MS, Effort::Usual).await;
    assert_eq!((report.retired_files, report.deleted_files), (0, 0));
    assert_eq!(report.failures.len(), 1);
    assert_eq!(report.failures[0].step, Step::Retire);
    assert!(report.failures[0].why.contains("jumped by 87600 hours"), "{}", report.failures[0].why);
    assert_eq!(days(&lake).await.len(), 10);
    // A process that starts with such a clock knows only the records.
    let lake = world.lake().await;
    let stranger = world.upkeep_with(30, HOUR);
    assert_eq!(stranger.run(&lake, world.now_ms() + 3_650 * DAY_MS, Effort::Usual).await.failures.len(), 1);
    assert_eq!(days(&lake).await.len(), 10);
}

/// A process that starts with a wrong clock stamps what it flushes and merges with it; that proves nothing, to it or to
/// the next one.
#[tokio::test]
async fn a_clock_that_is_wrong_from_the_start_deletes_nothing() {
    let before = World::new();
    let lake = before.lake().await;
    for days_ago in 0..10 {
        put_day(&lake, TODAY - days_ago).await;
        put_day(&lake, TODAY - days_ago).await;
    }
    let rows = lake.snapshot().rows();
    before.advance(3_650 * DAY_MS);
    let mut world = before.fork();
    for restarts in 0..3 {
        let lake = world.lake().await;
        let upkeep = world.upkeep_with(30, HOUR);
        for _ in 0..2 {
            put_day(&lake, TODAY + 3_650).await;
            let report = upkeep.run(&lake, world.now_ms(), Effort::All).await;
            assert_eq!((report.retired_files, report.deleted_files), (0, 0), "{restarts} restarts");
            assert_eq!(report.failures.len(), 1, "{restarts} restarts");
            assert!(report.failures[0].why.contains("the clock jumped"), "{}", report.failures[0].why);
            // Merging goes on: it loses nothing.
            assert!(report.merges > 0);
            world.advance(HOUR_MS);
        }
        world = world.fork();
    }
    // It has gone on evenly for a day, as the records say that arrived since: it was right after all.
    world.advance(19 * HOUR_MS);
    let world = world.fork();
    put_day(&world.lake().await, TODAY + 3_651).await;
    let lake = world.lake().await;
    assert_eq!(lake.snapshot().rows(), rows + 7);
    let report = world.upkeep_with(30, HOUR).run(&lake, world.now_ms(), Effort::Usual).await;
    assert_eq!((report.retired_files, report.failures.len()), (10, 0), "{report:?}");
}

#[tokio::test]
async fn an_append_only_table_keeps_its_records_and_says_so() {
    let world = World::new();
    let lake = world.lake().await;
    put_day(&lake, TODAY - 20).await;
    set_append_only(&world, &lake).await;
    let report = world.upkeep_with(7, HOUR).run(&lake, world.now_ms(), Effort::All).await;
    assert_eq!(days(&lake).await.len(), 1);
    assert_eq!(report.failures.len(), 1, "{report:?}");
    assert!(report.failures[0].is_final && report.failures[0].why.contains("appendOnly"));
    // Merging and deleting what merges leave behind is no loss of records.
    assert_eq!(report.merges, 1);
}

/// Another writer changes the table's metadata.
async fn set_append_only(world: &World, lake: &Lake) {
    use object_store::ObjectStoreExt;
    let first = object_store::path::Path::from("_delta_log/00000000000000000000.json");
    let text = world.store.get(&first).await.unwrap().bytes().await.unwrap();
    let line = text.split(|byte| *byte == b'\n').find(|line| line.starts_with(b"{\"metaData\"")).unwrap();
    let mut metadata: serde_json::Value = serde_json::from_slice(line).unwrap();
    metadata["metaData"]["configuration"]["delta.appendOnly"] = "true".into();
    let version = lake.snapshot().version + 1;
    let path = object_store::path::Path::from(format!("_delta_log/{version:020}.json"));
    world.store.put(&path, metadata.to_string().into_bytes().into()).await.unwrap();
}

#[tokio::test]
async fn vacuum_deletes_what_nobody_needs_and_nothing_else() {
    let world = World::new();
    let lake = world.lake().await;
    for number in 0..4 {
        flush(&lake, A, TODAY, &[number]).await;
    }
    let inputs: Vec<_> = lake.snapshot().files.iter().map(|file| file.path.clone()).collect();
    let others = [
        "_delta_index/a.parquet",
        "_change_data/b.parquet",
        "date=2026-11-20/_c.parquet",
        "date=2026-11-20/.d.parquet",
        "notes.txt",
        "date=2026-11-20/part-00000-foreign.snappy.parquet",
    ];
    for path in others {
        world.store.write(path, b"not ours").await;
    }
    let orphan = lake.put(encode(&rows(A, 10_000, &[1]), 10), TODAY).await.unwrap().path;
    let report = world.run(&lake, Effort::All).await;
    assert_eq!((report.merges, report.deleted_files), (1, 0));
    let has = |paths: &[String], path: &str| paths.iter().any(|there| there == path);

    // Within the grace a reader of the version before finds its files.
    world.advance(HOUR_MS - 1);
    assert_eq!(world.run(&lake, Effort::All).await.deleted_files, 0);
    let there = world.store.paths().await;
    assert!(inputs.iter().all(|path| has(&there, path)) && has(&there, &orphan));

    // A file that was uploaded a moment ago and is about to be committed.
    world.advance(1);
    let young = lake.put(encode(&rows(A, 20_000, &[1]), 10), TODAY).await.unwrap().path;
    world.advance(1);
    let report = world.run(&lake, Effort::All).await;
    assert_eq!(report.deleted_files, 5);
    let there = world.store.paths().await;
    assert!(!inputs.iter().any(|path| has(&there, path)) && !has(&there, &orphan) && has(&there, &young));
    for path in others {
        assert!(has(&there, path), "{path}");
    }
    assert_eq!(contents(&lake).await.len(), 4);

    // What another writer uploaded may wait for its commit for days.
    world.advance(7 * DAY_MS);
    world.run(&lake, Effort::All).await;
    let there = world.store.paths().await;
    assert!(!has(&there, others[5]));
    assert!(others[..5].iter().all(|path| has(&there, path)));
}

#[tokio::test]
async fn nothing_is_deleted_from_a_table_that_we_may_not_write() {
    let world = World::new();
    let lake = world.lake().await;
    for number in 0..4 {
        flush(&lake, A, TODAY, &[number]).await;
    }
    world.run(&lake, Effort::All).await;
    world.advance(2 * HOUR_MS);
    // Another writer asks for more: files may be needed in ways that only the feature tells.
    let protocol = serde_json::json!({"protocol": {
        "minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["rowTracking", "domainMetadata"],
    }});
    let path = object_store::path::Path::from(format!("_delta_log/{:020}.json", lake.snapshot().version + 1));
    object_store::ObjectStoreExt::put(&world.store, &path, protocol.to_string().into_bytes().into()).await.unwrap();
    let before = world.store.paths().await;
    let report = world.upkeep().run(&lake, world.now_ms(), Effort::All).await;
    assert_eq!((report.deleted_files, report.failures.len()), (0, 1), "{report:?}");
    assert_eq!(report.failures[0].step, Step::Vacuum);
    assert!(report.failures[0].is_final && report.failures[0].why.contains("rowTracking"), "{report:?}");
    assert_eq!(world.store.paths().await, before);
}

#[tokio::test]
async fn without_a_grace_only_what_left_the_table_goes() {
    let world = World::new();
    let lake = world.lake().await;
    for number in 0..4 {
        flush(&lake, A, TODAY, &[number]).await;
    }
    let orphan = lake.put(encode(&rows(A, 10_000, &[1]), 10), TODAY).await.unwrap().path;
    let upkeep = world.upkeep_with(0, Duration::ZERO);
    let report = upkeep.run(&lake, world.now_ms(), Effort::All).await;
    assert_eq!((report.failures.len(), report.deleted_files), (0, 4));
    assert!(world.store.paths().await.contains(&orphan));
}

#[tokio::test]
async fn a_file_that_came_back_is_kept() {
    let world = World::new();
    let lake = world.lake().await;
    for number in 0..4 {
        flush(&lake, A, TODAY, &[number]).await;
    }
    let before = lake.snapshot();
    world.run(&lake, Effort::All).await;
    // Somebody restores the version before.
    let change = Change {
        journal: None,
        add: before.files.iter().map(|file| crate::lake::LakeFile::clone(file)).collect(),
        remove: lake.snapshot().files.to_vec(),
        data_change: true,
        operation: "WRITE",
        metrics: Vec::new(),
    };
    lake.commit(change).await.unwrap();
    world.clock_ms.fetch_add(3 * HOUR_MS, Ordering::Relaxed);
    let upkeep = world.upkeep_with(0, HOUR);
    let report = upkeep.run(&lake, world.now_ms(), Effort::Usual).await;
    assert_eq!((report.failures.len(), report.deleted_files), (0, 1));
    assert_eq!(contents(&lake).await.len(), 4);
}

/// Checkpoints forget which files left the table by the machine's clock, whatever ours says.
#[tokio::test]
async fn within_the_longest_grace_the_log_remembers_what_left() {
    #[expect(clippy::disallowed_methods, reason = "it is the machine's clock that checkpoints ask")]
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now_ms = i64::try_from(since_1970.as_millis()).unwrap();
    let grace_ms = i64::try_from(limits::LAKE_VACUUM_GRACE_MS_MAX).unwrap();
    let world = World::new();
    world.clock_ms.store(now_ms - 30 * DAY_MS, Ordering::Relaxed);
    let lake = world.lake().await;
    for number in 0..2 {
        flush(&lake, A, TODAY, &[number]).await;
    }
    let uploaded = lake.snapshot().files.to_vec();
    for (file, left_ms) in uploaded.iter().zip([-HOUR_MS, HOUR_MS]) {
        world.clock_ms.store(now_ms - grace_ms + left_ms, Ordering::Relaxed);
        let change = Change {
            journal: None,
            add: Vec::new(),
            remove: vec![Arc::clone(file)],
            data_change: true,
            operation: "DELETE",
            metrics: Vec::new(),
        };
        lake.commit(change).await.unwrap();
    }
    world.clock_ms.store(now_ms, Ordering::Relaxed);
    checkpoint::write(&lake.store(), &lake.snapshot()).await.unwrap();
    assert_eq!(vacuum(&lake, now_ms, grace_ms).await.unwrap().files, 1);
    let there = world.store.paths().await;
    assert!(!there.contains(&uploaded[0].path), "its grace is over");
    assert!(there.contains(&uploaded[1].path), "it left within the grace");
}
