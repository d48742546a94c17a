//! Commits, one writer and several.

use std::sync::Arc;

use super::world::{JOURNAL, TODAY, Time, encoded, flush, options, options_at, paths, ranges, versions, write};
use crate::lake::{Change, Lake, LakeError, LakeSnapshot};

#[tokio::test]
async fn a_new_table_is_created_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(options(&dir.path().join("deep/lake"))).await.unwrap();
    assert_eq!(lake.snapshot().version, 0);
    assert_eq!(lake.cursor(&lake.snapshot(), JOURNAL).await.unwrap(), None);
    flush(&lake, JOURNAL, None, 9).await;
    let snapshot = flush(&lake, JOURNAL, Some(9), 11).await;
    assert_eq!((snapshot.version, snapshot.rows()), (2, 12));
    assert_eq!(lake.cursor(&snapshot, JOURNAL).await.unwrap(), Some(11));
    for again in [
        Lake::open(options(&dir.path().join("deep/lake"))).await.unwrap(),
        Lake::open_read_only(options(&dir.path().join("deep/lake"))).await.unwrap(),
    ] {
        let found = again.snapshot();
        assert_eq!(found.version, 2);
        assert_eq!(sorted(&found), sorted(&snapshot));
        assert_eq!(ranges(&found, JOURNAL), [(0, 9), (10, 11)]);
        assert_eq!(found.through(), [(JOURNAL.to_owned(), 11)].into());
        assert_eq!(again.cursor(&found, JOURNAL).await.unwrap(), Some(11));
        assert_eq!(again.cursor(&found, "another/1").await.unwrap(), None);
    }
}

fn sorted(snapshot: &LakeSnapshot) -> Vec<crate::lake::LakeFile> {
    let mut files: Vec<_> = snapshot.files.iter().map(|file| file.as_ref().clone()).collect();
    files.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    files
}

#[tokio::test]
async fn reading_creates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("lake");
    assert!(matches!(Lake::open_read_only(options(&missing)).await, Err(LakeError::Location(_))));
    assert!(!missing.exists());
    assert!(matches!(Lake::open_read_only(options(dir.path())).await, Err(LakeError::Location(_))));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let lake = Lake::open(options(&missing)).await.unwrap();
    let reader = Lake::open_read_only(options(&missing)).await.unwrap();
    assert!(matches!(reader.put(encoded(JOURNAL, 0, 1), TODAY).await, Err(LakeError::Internal(_))));
    assert!(matches!(reader.commit(write(JOURNAL, None, 1, Vec::new())).await, Err(LakeError::Internal(_))));
    flush(&lake, JOURNAL, None, 3).await;
    assert_eq!(reader.snapshot().version, 0);
    assert_eq!(reader.refresh().await.unwrap().rows(), 4);
}

#[tokio::test]
async fn a_journal_moves_only_from_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (Lake::open(options(dir.path())).await.unwrap(), Lake::open(options(dir.path())).await.unwrap());
    flush(&one, JOURNAL, None, 9).await;
    // The second has not seen it.
    let refused = two.commit(write(JOURNAL, None, 9, Vec::new())).await.unwrap_err();
    assert!(matches!(&refused, LakeError::Conflict(text) if text.contains("through 9, not nothing")), "{refused}");
    assert_eq!(versions(dir.path()), [0, 1]);
    flush(&two, JOURNAL, Some(9), 10).await;
    assert_eq!(versions(dir.path()), [0, 1, 2]);
}

#[tokio::test]
async fn a_commit_says_what_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(options_at(dir.path(), &Time::new())).await.unwrap();
    let first = flush(&lake, JOURNAL, None, 9).await;
    let merged = lake.put(encoded(JOURNAL, 0, 9), TODAY).await.unwrap();
    let change = Change {
        journal: None,
        add: vec![merged],
        remove: first.files.to_vec(),
        data_change: false,
        operation: "OPTIMIZE",
        metrics: vec![("numAddedFiles", 1), ("numRemovedFiles", 1)],
    };
    lake.commit(change).await.unwrap();
    let mut text = String::new();
    for version in 0..=2 {
        let path = dir.path().join(format!("_delta_log/{version:020}.json"));
        text.push_str(&std::fs::read_to_string(path).unwrap());
        text.push('\n');
    }
    insta::assert_snapshot!(without_ids(&text));
}

/// Ids are drawn anew in every run, and begin with the test's time.
fn without_ids(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("01a1f90a-") {
        out.push_str(&rest[..at]);
        out.push_str("ID");
        rest = &rest[at + 36..];
    }
    out + rest
}

#[tokio::test]
async fn a_file_leaves_once() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (Lake::open(options(dir.path())).await.unwrap(), Lake::open(options(dir.path())).await.unwrap());
    flush(&one, JOURNAL, None, 9).await;
    let two_files = flush(&one, JOURNAL, Some(9), 19).await;
    two.refresh().await.unwrap();
    let remove = |files: &[usize]| Change {
        journal: None,
        add: Vec::new(),
        remove: files.iter().map(|file| Arc::clone(&two_files.files[*file])).collect(),
        data_change: true,
        operation: "DELETE",
        metrics: Vec::new(),
    };
    one.commit(remove(&[0])).await.unwrap();
    // The second has not seen it.
    let refused = two.commit(remove(&[0, 1])).await.unwrap_err();
    assert!(matches!(&refused, LakeError::Conflict(text) if text.contains(&two_files.files[0].path)), "{refused}");
    let left = two.commit(remove(&[1])).await.unwrap();
    assert_eq!((left.files.len(), left.version), (0, 4));
    // The journal's place outlives its files.
    let again = Lake::open(options(dir.path())).await.unwrap();
    assert_eq!(again.snapshot().files.len(), 0);
    assert_eq!(again.cursor(&again.snapshot(), JOURNAL).await.unwrap(), Some(19));
}

/// Commits until `count` flushes of the shared journal are its own; others' come between.
async fn contend(lake: Lake, own: String, count: u64) -> u64 {
    let (mut done, mut conflicts) = (0, 0);
    while done < count {
        let after = lake.cursor(&lake.snapshot(), JOURNAL).await.unwrap();
        let first = after.map_or(0, |after| after + 1);
        let file = lake.put(encoded(JOURNAL, first, first + 2), TODAY).await.unwrap();
        match lake.commit(write(JOURNAL, after, first + 2, vec![file])).await {
            Ok(_) => done += 1,
            Err(LakeError::Conflict(_)) => {
                conflicts += 1;
                lake.refresh().await.unwrap();
            }
            Err(error) => panic!("{error}"),
        }
        // And one that meets no rival but for the version.
        let after = lake.cursor(&lake.snapshot(), &own).await.unwrap();
        flush(&lake, &own, after, after.map_or(0, |after| after + 1)).await;
    }
    conflicts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_writers_commit_every_position_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = [options(dir.path()), options(dir.path())];
    // So that checkpoints fall into it.
    options.iter_mut().for_each(|options| options.log.checkpoint_commits = 20);
    let [one, two] = options;
    let (one, two) = (Lake::open(one).await.unwrap(), Lake::open(two).await.unwrap());
    let both = (
        tokio::spawn(contend(one.clone(), "one/1".to_owned(), 50)),
        tokio::spawn(contend(two.clone(), "two/1".to_owned(), 50)),
    );
    let conflicts = both.0.await.unwrap() + both.1.await.unwrap();
    let snapshot = one.refresh().await.unwrap();
    let shared: Vec<_> = (0..100).map(|flush| (flush * 3, flush * 3 + 2)).collect();
    assert_eq!(ranges(&snapshot, JOURNAL), shared, "after {conflicts} conflicts");
    assert_eq!(paths(&snapshot), paths(&two.refresh().await.unwrap()));
    let last = snapshot.version;
    assert_eq!(versions(dir.path()), (0..=last).collect::<Vec<_>>());
    // What the log says when it is read whole is what the writers believe.
    let again = Lake::open_read_only(super::world::options(dir.path())).await.unwrap();
    assert_eq!(sorted(&again.snapshot()), sorted(&snapshot));
    for own in ["one/1", "two/1"] {
        let through = again.cursor(&again.snapshot(), own).await.unwrap();
        assert_eq!(through, lake_through(&snapshot, own));
        assert_eq!(again.snapshot().through().get(own).copied(), through);
    }
}

fn lake_through(snapshot: &LakeSnapshot, journal: &str) -> Option<u64> {
    ranges(snapshot, journal).last().map(|(_, last)| *last)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_creators_make_one_table() {
    let dir = tempfile::tempdir().unwrap();
    let opened: Vec<_> = (0..8).map(|_| tokio::spawn(Lake::open(options(dir.path())))).collect();
    let mut tables = std::collections::BTreeSet::new();
    for lake in opened {
        tables.insert(lake.await.unwrap().unwrap().snapshot().table.metadata.id.clone());
    }
    assert_eq!(tables.len(), 1);
    assert_eq!(versions(dir.path()), [0]);
}
