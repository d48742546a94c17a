//! What power cuts leave of files that other writers did not sync.

use std::path::{Path, PathBuf};

use super::world::{JOURNAL, flush, options, paths, ranges, versions};
use crate::lake::{Lake, LakeError, LakeOptions};

fn often(mut options: LakeOptions) -> LakeOptions {
    options.log.checkpoint_commits = 3;
    options
}

fn file(dir: &Path, name: &str) -> PathBuf {
    dir.join("_delta_log").join(name)
}

fn commit(dir: &Path, version: u64) -> PathBuf {
    file(dir, &format!("{version:020}.json"))
}

fn checkpoint(dir: &Path, version: u64) -> PathBuf {
    file(dir, &format!("{version:020}.checkpoint.parquet"))
}

/// A table of eight flushes, with checkpoints of versions 3 and 6.
async fn world() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(often(options(dir.path()))).await.unwrap();
    for flushes in 0..8_u64 {
        flush(&lake, JOURNAL, (flushes * 10).checked_sub(1), flushes * 10 + 9).await;
    }
    assert!(checkpoint(dir.path(), 3).exists() && checkpoint(dir.path(), 6).exists());
    dir
}

/// Another table just like it.
fn copy(world: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for part in std::fs::read_dir(world).unwrap().map(|entry| entry.unwrap().path()) {
        let to = dir.path().join(part.file_name().unwrap());
        std::fs::create_dir(&to).unwrap();
        for file in std::fs::read_dir(part).unwrap().map(|entry| entry.unwrap().path()) {
            std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
        }
    }
    dir
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join("_delta_log")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

/// Readers see the first flushes and change nothing; a writer then goes on after them, and everybody sees that.
async fn opens_with(dir: &Path, flushes: u64, case: &str) {
    let before = names(dir);
    let expected: Vec<_> = (0..flushes).map(|flush| (flush * 10, flush * 10 + 9)).collect();
    let reader = Lake::open_read_only(options(dir)).await.unwrap_or_else(|error| panic!("{case}: {error:?}"));
    assert_eq!(ranges(&reader.snapshot(), JOURNAL), expected, "{case}");
    reader.refresh().await.unwrap();
    assert_eq!(names(dir), before, "{case}: a reader wrote");
    let writer = Lake::open(often(options(dir))).await.unwrap_or_else(|error| panic!("{case}: {error:?}"));
    let snapshot = writer.snapshot();
    assert_eq!(ranges(&snapshot, JOURNAL), expected, "{case}");
    let cursor = writer.cursor(&snapshot, JOURNAL).await.unwrap();
    assert_eq!(cursor, Some(flushes * 10 - 1), "{case}");
    let after = flush(&writer, JOURNAL, cursor, flushes * 10 + 9).await;
    assert_eq!(paths(&reader.refresh().await.unwrap()), paths(&after), "{case}");
    let again = Lake::open_read_only(options(dir)).await.unwrap();
    assert_eq!(paths(&again.snapshot()), paths(&after), "{case}");
}

#[tokio::test]
async fn a_hint_that_leads_nowhere_is_moved_aside() {
    let world = world().await;
    let good = br#"{"version":6,"size":9}"#;
    for (case, hint) in [
        ("empty", &b""[..]),
        ("half", &good[..11]),
        ("garbage", b"\0\0\0\0\0\0\0\0"),
        ("no version", b"{}"),
        ("a checkpoint that is missing", br#"{"version":5,"size":9}"#),
        ("one of the future", br#"{"version":500,"size":9}"#),
        ("parts that are missing", br#"{"version":6,"size":9,"parts":2}"#),
    ] {
        let dir = copy(world.path());
        std::fs::write(file(dir.path(), "_last_checkpoint"), hint).unwrap();
        opens_with(dir.path(), 8, case).await;
        let left: String = names(dir.path()).concat();
        assert!(left.contains("_damaged.last_checkpoint.moved"), "{case}: {left}");
    }
}

#[tokio::test]
async fn a_good_hint_stays() {
    let dir = world().await;
    for hint in [&br#"{"version":3,"size":9}"#[..], br#"{"version":6,"size":9,"new":1}"#] {
        std::fs::write(file(dir.path(), "_last_checkpoint"), hint).unwrap();
        let lake = Lake::open(options(dir.path())).await.unwrap();
        assert_eq!(ranges(&lake.snapshot(), JOURNAL).len(), 8);
        assert_eq!(std::fs::read(file(dir.path(), "_last_checkpoint")).unwrap(), hint);
    }
    std::fs::remove_file(file(dir.path(), "_last_checkpoint")).unwrap();
    opens_with(dir.path(), 8, "none").await;
}

#[tokio::test]
async fn a_damaged_checkpoint_is_read_around() {
    let world = world().await;
    let whole = std::fs::read(checkpoint(world.path(), 6)).unwrap();
    let mut zeros_inside = whole.clone();
    zeros_inside[4..whole.len() / 2].fill(0);
    let cuts = [0, 1, 7, 8, 12, whole.len() / 3, whole.len() / 2, whole.len() - 8, whole.len() - 1];
    let cuts = cuts.map(|cut| (format!("cut to {cut}"), whole[..cut].to_vec()));
    let others = [
        ("zeros inside".to_owned(), zeros_inside),
        ("zeros".to_owned(), vec![0; whole.len()]),
        ("a longer footer than file".to_owned(), b"PAR1\xff\xff\xff\x7fPAR1".to_vec()),
    ];
    for (case, bytes) in cuts.into_iter().chain(others) {
        for hinted in [true, false] {
            let dir = copy(world.path());
            std::fs::write(checkpoint(dir.path(), 6), &bytes).unwrap();
            if !hinted {
                std::fs::remove_file(file(dir.path(), "_last_checkpoint")).unwrap();
            }
            opens_with(dir.path(), 8, &format!("{case}, hinted: {hinted}")).await;
            let left: String = names(dir.path()).concat();
            assert!(left.contains("_damaged.00000000000000000006.checkpoint.parquet.moved"), "{case}: {left}");
        }
    }
    // Both of them.
    let dir = copy(world.path());
    std::fs::write(checkpoint(dir.path(), 3), &whole[..100]).unwrap();
    std::fs::write(checkpoint(dir.path(), 6), b"").unwrap();
    opens_with(dir.path(), 8, "both").await;
}

#[tokio::test]
async fn a_checkpoint_that_nothing_can_replace_is_left_alone() {
    let dir = world().await;
    std::fs::write(checkpoint(dir.path(), 3), b"").unwrap();
    std::fs::write(checkpoint(dir.path(), 6), b"").unwrap();
    std::fs::remove_file(commit(dir.path(), 2)).unwrap();
    let before = names(dir.path());
    let refused = Lake::open(options(dir.path())).await.unwrap_err();
    assert!(matches!(&refused, LakeError::Damaged(text) if text.contains("version 2 is missing")), "{refused}");
    assert_eq!(names(dir.path()), before);
}

#[tokio::test]
async fn a_torn_last_commit_is_moved_aside() {
    let world = world().await;
    let whole = std::fs::read(commit(world.path(), 8)).unwrap();
    for cut in [0, 1, whole.len() / 2, whole.len() - 2] {
        let dir = copy(world.path());
        std::fs::write(commit(dir.path(), 8), &whole[..cut]).unwrap();
        opens_with(dir.path(), 7, &format!("cut to {cut}")).await;
        let left: String = names(dir.path()).concat();
        assert!(left.contains("_damaged.00000000000000000008.json.moved"), "{left}");
    }
    // So are two of them.
    let dir = copy(world.path());
    std::fs::write(commit(dir.path(), 7), b"").unwrap();
    std::fs::write(commit(dir.path(), 8), vec![0; 512]).unwrap();
    opens_with(dir.path(), 6, "two").await;
    // Only its line's end is missing: it can be read, and stays.
    let dir = copy(world.path());
    std::fs::write(commit(dir.path(), 8), &whole[..whole.len() - 1]).unwrap();
    opens_with(dir.path(), 8, "without its last newline").await;
    // A checkpoint says the same.
    let dir = copy(world.path());
    std::fs::remove_file(commit(dir.path(), 8)).unwrap();
    std::fs::remove_file(commit(dir.path(), 7)).unwrap();
    std::fs::write(commit(dir.path(), 6), b"").unwrap();
    opens_with(dir.path(), 6, "behind a checkpoint").await;
}

#[tokio::test]
async fn an_older_commit_is_never_touched() {
    let dir = world().await;
    let whole = std::fs::read(commit(dir.path(), 7)).unwrap();
    for cut in [0, 1, whole.len() / 2] {
        std::fs::write(commit(dir.path(), 7), &whole[..cut]).unwrap();
        let before = names(dir.path());
        let refused = Lake::open(options(dir.path())).await.unwrap_err();
        assert!(matches!(refused, LakeError::Damaged(_)), "cut to {cut}: {refused:?}");
        assert_eq!(names(dir.path()), before);
    }
    std::fs::remove_file(commit(dir.path(), 7)).unwrap();
    let refused = Lake::open(options(dir.path())).await.unwrap_err();
    assert!(matches!(&refused, LakeError::Damaged(text) if text.contains("version 7 is missing")), "{refused:?}");
}

#[tokio::test]
async fn a_table_that_was_hardly_begun_is_begun_again() {
    for bytes in [&b""[..], b"{\"commitInfo\":{"] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("_delta_log")).unwrap();
        std::fs::write(commit(dir.path(), 0), bytes).unwrap();
        assert!(matches!(Lake::open_read_only(options(dir.path())).await, Err(LakeError::Location(_))));
        let lake = Lake::open(options(dir.path())).await.unwrap();
        flush(&lake, JOURNAL, None, 4).await;
        assert_eq!(versions(dir.path()), [0, 1]);
    }
}

#[tokio::test]
async fn unfinished_files_go_when_nobody_goes_on_with_them() {
    let dir = world().await;
    let partition = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("date="))
        .unwrap();
    let old = [partition.join("x.parquet#17"), file(dir.path(), "00000000000000000009.json#4")];
    let kept = [partition.join("x.parquet#18"), partition.join("x#y"), partition.join("y.parquet")];
    for path in old.iter().chain(&kept) {
        std::fs::write(path, b"half").unwrap();
    }
    // By the lake's clock those are from yesterday, and the first of the others is from now.
    let time = |ms: i64| std::time::UNIX_EPOCH + std::time::Duration::from_millis(u64::try_from(ms).unwrap());
    let set = |path: &Path, ms: i64| {
        std::fs::File::options().append(true).open(path).unwrap().set_modified(time(ms)).unwrap();
    };
    old.iter().chain(&kept[1..]).for_each(|path| set(path, super::world::NOW_MS - 86_400_000));
    set(&kept[0], super::world::NOW_MS);
    let lake = Lake::open(options(dir.path())).await.unwrap();
    assert!(old.iter().all(|path| !path.exists()));
    assert!(kept.iter().all(|path| path.exists()));
    assert_eq!(lake.snapshot().version, 8);
}

/// Whatever a file of the log is cut to, the flushes before the newest are there.
#[tokio::test]
async fn no_cut_keeps_the_table_shut() {
    let dir = world().await;
    let hint = file(dir.path(), "_last_checkpoint");
    for (path, step) in [(hint, 1), (commit(dir.path(), 8), 7), (checkpoint(dir.path(), 6), 397)] {
        let whole = std::fs::read(&path).unwrap();
        for cut in (0..whole.len()).step_by(step) {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let opened = Lake::open_read_only(options(dir.path())).await;
            let lake = opened.unwrap_or_else(|error| panic!("{} cut to {cut}: {error:?}", path.display()));
            let found = ranges(&lake.snapshot(), JOURNAL).len();
            let torn = path == commit(dir.path(), 8);
            assert!(found == 8 || torn && found == 7, "{} cut to {cut}: {found}", path.display());
        }
        std::fs::write(&path, whole).unwrap();
    }
    opens_with(dir.path(), 8, "whole again").await;
}
