//! Records of the lake by their keys: how much of them is held at once.

use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::SessionConfig;
use runstone_record::limits::PAGE_BYTES_MAX;
use runstone_record::{Batch, IdMint, parse};

use super::world::{JOURNAL, options};
use crate::lake::{FEW_KEYS, Lake, LakeView, LakeWriter, WriterOptions, fetch};
use crate::records::{Found, Key};

/// 2026-11-20T13:00:00Z.
const NOW: i64 = 1_795_179_600_000_000;
/// Records of a file or a row group: no more than a page may have.
const ROWS: usize = 70;
const RECORD_BYTES: usize = 140_000;

fn records(rows: usize) -> Batch {
    let message = "x".repeat(RECORD_BYTES);
    let lines: Vec<String> = (0..rows).map(|row| format!(r#"{{"message":"{message}","lineno":{row}}}"#)).collect();
    parse::ndjson(lines.join("\n").as_bytes()).unwrap().builder.stamp(&mut IdMint::new(1, 1), NOW, None)
}

/// Three times as many records as may be held, in so many files of so many row groups.
async fn lake(dir: &std::path::Path, files: usize, groups: usize) -> Lake {
    let lake = Lake::open(options(dir)).await.unwrap();
    let mut writer = LakeWriter::new(lake.clone(), WriterOptions { group_rows: ROWS, ..WriterOptions::default() });
    let mut through = None;
    for _ in 0..files {
        let first = through.map_or(1, |through| through + 1);
        writer.push(JOURNAL, first, records(groups * ROWS)).unwrap();
        through = Some(writer.flush(through).await.unwrap().unwrap().through);
    }
    lake
}

#[tokio::test]
async fn what_is_held_is_bounded_over_all_files_and_row_groups_together() {
    const { assert!(ROWS * RECORD_BYTES < PAGE_BYTES_MAX && FEW_KEYS * RECORD_BYTES > PAGE_BYTES_MAX) };
    const { assert!(3 * ROWS > FEW_KEYS) };
    for (files, groups) in [(1, 3), (3, 1)] {
        let dir = tempfile::tempdir().unwrap();
        let lake = lake(dir.path(), files, groups).await;
        let view = LakeView::new(&lake, &lake.snapshot());
        assert_eq!(view.files().len(), files);
        let key = |position| Key { timestamp: NOW, journal: JOURNAL.to_owned(), position };
        let keys: Vec<Key> = (1..).take(3 * ROWS).map(key).collect();
        let keys: Vec<&Key> = keys.iter().collect();
        let (runtime, session) = (RuntimeEnv::default(), SessionConfig::new());
        // Row groups are told apart once a footer is known.
        for (count, fits) in [(ROWS, true), (FEW_KEYS, true), (3 * ROWS, false), (3 * ROWS, false)] {
            let mut found = Found::new();
            let is_all = fetch(&view, &keys[..count], &runtime, &session, &mut found).await.unwrap();
            assert_eq!(is_all, fits, "{count} of {files} files with {groups} row groups");
            assert!(!fits || found.len() == count);
        }
    }
}
