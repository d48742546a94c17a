//! Checkpoints, and what goes when they are there.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::world::{JOURNAL, NOW_MS, TODAY, Time, encoded, flush, options, options_at, paths, ranges, versions};
use crate::lake::{Change, Lake, LakeFile, LakeOptions};

const DAY_MS: i64 = 86_400_000;

fn often(mut options: LakeOptions) -> LakeOptions {
    options.log.checkpoint_commits = 5;
    options
}

fn checkpoints(dir: &std::path::Path) -> Vec<u64> {
    let mut found: Vec<u64> = std::fs::read_dir(dir.join("_delta_log"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".checkpoint.parquet")?.parse().ok())
        .collect();
    found.sort_unstable();
    found
}

fn hint(dir: &std::path::Path) -> u64 {
    let text = std::fs::read(dir.join("_delta_log/_last_checkpoint")).unwrap();
    serde_json::from_slice::<serde_json::Value>(&text).unwrap()["version"].as_u64().unwrap()
}

/// Flushes of ten positions each.
async fn flushes(lake: &Lake, count: u64) {
    for _ in 0..count {
        let after = lake.cursor(&lake.snapshot(), JOURNAL).await.unwrap();
        flush(lake, JOURNAL, after, after.map_or(9, |after| after + 10)).await;
    }
}

/// As a clock of the past would have left them.
fn age(dir: &std::path::Path, before: i64) {
    for entry in std::fs::read_dir(dir.join("_delta_log")).unwrap() {
        let time = std::time::UNIX_EPOCH + Duration::from_millis(u64::try_from(NOW_MS - before).unwrap());
        std::fs::File::options().append(true).open(entry.unwrap().path()).unwrap().set_modified(time).unwrap();
    }
}

#[tokio::test]
async fn every_so_many_commits_there_is_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(often(options(dir.path()))).await.unwrap();
    flushes(&lake, 4).await;
    assert!(checkpoints(dir.path()).is_empty());
    flushes(&lake, 9).await;
    assert_eq!((checkpoints(dir.path()), hint(dir.path())), (vec![5, 10], 10));
    // The next process goes on counting from there.
    drop(lake);
    let lake = Lake::open(often(options(dir.path()))).await.unwrap();
    assert_eq!(ranges(&lake.snapshot(), JOURNAL).len(), 13);
    assert_eq!(lake.cursor(&lake.snapshot(), JOURNAL).await.unwrap(), Some(129));
    flushes(&lake, 2).await;
    assert_eq!((checkpoints(dir.path()), hint(dir.path())), (vec![5, 10, 15], 15));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_alone_says_all_that_its_commits_said() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(often(options(dir.path()))).await.unwrap();
    flush(&lake, "another/7", None, 4).await;
    let reader = Lake::open_read_only(options(dir.path())).await.unwrap();
    flushes(&lake, 4).await;
    reader.refresh().await.unwrap();
    let before = lake.snapshot();
    assert_eq!(checkpoints(dir.path()), [5]);
    for version in 0..=5 {
        std::fs::remove_file(dir.path().join(format!("_delta_log/{version:020}.json"))).unwrap();
    }
    // Who read the table whole before does not miss them, either.
    for (journal, through) in [("another/7", Some(4)), ("third/1", None), (JOURNAL, Some(39))] {
        assert_eq!(reader.cursor(&reader.snapshot(), journal).await.unwrap(), through);
    }
    let lake = Lake::open(often(options(dir.path()))).await.unwrap();
    let found = lake.snapshot();
    assert_eq!((found.version, paths(&found)), (5, paths(&before)));
    assert_eq!(found.through(), before.through());
    assert_eq!(found.files.iter().map(|file| file.modified_ms).collect::<Vec<_>>(), [NOW_MS; 5]);
    assert_eq!(lake.cursor(&found, JOURNAL).await.unwrap(), Some(39));
    assert_eq!(lake.cursor(&found, "another/7").await.unwrap(), Some(4));
    // And the table goes on.
    flushes(&lake, 1).await;
    assert_eq!(versions(dir.path()), [6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn journals_are_known_though_another_writer_mixed_their_files() {
    const OTHER: &str = "01980000-0000-7000-8000-000000000002/3";
    const BEYOND: &str = "01980000-0000-7000-8000-000000000009/1";
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(often(options(dir.path()))).await.unwrap();
    flush(&lake, BEYOND, None, 99).await;
    flush(&lake, OTHER, None, 4).await;
    flush(&lake, "somebody's job", None, 7).await;
    flushes(&lake, 1).await;
    let expected = [(JOURNAL, 9), (OTHER, 4), (BEYOND, 99)].map(|(name, last)| (name.to_owned(), last));
    let mut with_job = std::collections::BTreeMap::from(expected.clone());
    with_job.insert("somebody's job".to_owned(), 7);
    assert_eq!(lake.snapshot().journals().await.unwrap(), with_job);
    // All but the first are one file now.
    let (mixed, first): (Vec<_>, Vec<_>) =
        lake.snapshot().files.iter().cloned().partition(|file| file.journal() != Some(BEYOND));
    let text = |text: &str| Some(crate::lake::Bound::Text(text.to_owned()));
    let mut file = lake.put(encoded(JOURNAL, 0, 20), TODAY).await.unwrap();
    (file.stats.columns[0].least, file.stats.columns[0].greatest) = (text(JOURNAL), text(OTHER));
    let optimize = |add: Vec<LakeFile>, remove: Vec<Arc<LakeFile>>| Change {
        journal: None,
        add,
        remove,
        data_change: false,
        operation: "OPTIMIZE",
        metrics: Vec::new(),
    };
    let snapshot = lake.commit(optimize(vec![file.clone()], mixed)).await.unwrap();
    // The checkpoint of version 5 says as much as the commits did, and a table that was followed as one that was read.
    assert_eq!(checkpoints(dir.path()), [5]);
    let again = Lake::open_read_only(options(dir.path())).await.unwrap();
    for snapshot in [&snapshot, &lake.snapshot(), &again.snapshot()] {
        assert_eq!(snapshot.journals().await.unwrap(), expected.clone().into());
    }
    // What has gone on since counts. Where nothing is known of a file, any journal may be in it.
    flush(&lake, OTHER, Some(4), 6).await;
    let mut unknown = file.clone();
    unknown.stats.columns.clear();
    lake.commit(optimize(vec![unknown], first)).await.unwrap();
    let expected = [(JOURNAL, 9), (OTHER, 6), (BEYOND, 99)].map(|(name, last)| (name.to_owned(), last));
    for lake in [lake, Lake::open_read_only(options(dir.path())).await.unwrap()] {
        assert_eq!(lake.snapshot().journals().await.unwrap(), expected.clone().into());
    }
}

#[tokio::test]
async fn what_a_checkpoint_makes_needless_goes_when_it_is_old() {
    let dir = tempfile::tempdir().unwrap();
    let time = Time::new();
    let lake = Lake::open(often(options_at(dir.path(), &time))).await.unwrap();
    flushes(&lake, 12).await;
    // In thirty-one days the first twelve are old; those that follow are not.
    age(dir.path(), 31 * DAY_MS);
    let young = |version: u64| {
        let path = dir.path().join(format!("_delta_log/{version:020}.json"));
        let now = std::time::UNIX_EPOCH + Duration::from_millis(u64::try_from(NOW_MS).unwrap());
        std::fs::File::options().append(true).open(path).unwrap().set_modified(now).unwrap();
    };
    flushes(&lake, 2).await;
    (13..=14).for_each(young);
    flushes(&lake, 1).await;
    // Version 13 may still be asked for, which the checkpoint of 10 answers.
    assert_eq!((checkpoints(dir.path()), versions(dir.path())), (vec![10, 15], (10..=15).collect()));
    let again = Lake::open_read_only(options(dir.path())).await.unwrap();
    assert_eq!(ranges(&again.snapshot(), JOURNAL), ranges(&lake.snapshot(), JOURNAL));
    // A question that the base must answer, whose files are gone.
    assert_eq!(lake.cursor(&lake.snapshot(), "another/1").await.unwrap(), None);
}

#[tokio::test]
async fn so_many_versions_are_kept_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let time = Time::new();
    let mut options = often(options_at(dir.path(), &time));
    options.log.versions_max = 7;
    let lake = Lake::open(options).await.unwrap();
    flushes(&lake, 19).await;
    // They are real files of this moment, which by the lake's clock is far ahead: nothing is deleted under a reader.
    assert_eq!(versions(dir.path()).len(), 20);
    age(dir.path(), 2 * 3_600_000);
    flushes(&lake, 1).await;
    assert_eq!(hint(dir.path()), 20);
    // Of 0 to 12 nobody may ask; 13 needs the checkpoint of 10.
    assert_eq!((checkpoints(dir.path()), versions(dir.path())), (vec![10, 15, 20], (10..=20).collect()));
}

#[tokio::test]
async fn a_table_that_keeps_its_log_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(often(options(dir.path()))).await.unwrap();
    flushes(&lake, 3).await;
    let mut metadata = serde_json::to_value(&lake.snapshot().table.metadata).unwrap();
    metadata["configuration"]["delta.enableExpiredLogCleanup"] = "false".into();
    let commit = serde_json::json!({ "metaData": metadata }).to_string();
    std::fs::write(dir.path().join(format!("_delta_log/{:020}.json", 4)), commit).unwrap();
    age(dir.path(), 1_000 * DAY_MS);
    flushes(&lake, 2).await;
    assert_eq!(checkpoints(dir.path()).len(), 1);
    assert_eq!(versions(dir.path()), [0, 1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn a_checkpoint_that_says_something_else_is_no_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(options(dir.path())).await.unwrap();
    flushes(&lake, 2).await;
    let mut wrong = lake.snapshot().as_ref().clone();
    wrong.files = Arc::new(wrong.files[1..].to_vec());
    let refused = lake.checkpoint(&wrong).await.unwrap_err().to_string();
    assert!(refused.contains("it has 2 files, and the table 1"), "{refused}");
    assert!(checkpoints(dir.path()).is_empty());
    assert!(!dir.path().join("_delta_log/_last_checkpoint").exists());
    lake.checkpoint(&lake.snapshot()).await.unwrap();
    assert_eq!((checkpoints(dir.path()), hint(dir.path())), (vec![2], 2));
}

#[tokio::test]
async fn a_lake_that_slept_finds_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let time = Time::new();
    let sleeper = Lake::open(options_at(dir.path(), &time)).await.unwrap();
    let reader = Lake::open_read_only(options_at(dir.path(), &time)).await.unwrap();
    let lake = Lake::open(often(options(dir.path()))).await.unwrap();
    flushes(&lake, 5).await;
    for version in 0..=5 {
        std::fs::remove_file(dir.path().join(format!("_delta_log/{version:020}.json"))).unwrap();
    }
    flushes(&lake, 1).await;
    // The version after the one that they know is gone: to them it looks as if it had never been.
    time.0.fetch_add(3_600_000, Ordering::Relaxed);
    assert_eq!(reader.refresh().await.unwrap().version, 6);
    flush(&sleeper, "another/1", None, 3).await;
    assert_eq!(versions(dir.path()), [6, 7]);
    assert_eq!(lake.refresh().await.unwrap().version, 7);
}
