//! The directory in `tests/golden/v1` is what version 1 of the format is. Where it was deleted, the test writes it again
//! and fails once; committing that is only right together with a new version.

use std::path::{Path, PathBuf};

use runstone_journal::fs::RealFs;
use runstone_journal::{Event, Journal, Options, check};

use crate::basics::copy_dir;
use crate::support::{append, env, open, options, payload, read_all, real};

fn golden() -> PathBuf {
    std::env::current_dir().unwrap().join("tests/golden/v1")
}

fn frames() -> Vec<(u32, bytes::Bytes)> {
    (0..9).map(|n| (u32::try_from(n % 3 + 1).unwrap(), payload(n, usize::try_from(n * 150).unwrap()))).collect()
}

fn limits(dir: &Path) -> Options {
    Options { segment_bytes: 4 << 10, preallocate_bytes: 0, ..options(dir) }
}

/// Writes it where it is missing. The identity names no real directory, so that every copy is one.
fn write(dir: &Path) {
    let (journal, _) = Journal::open(real(), env(7), limits(dir)).unwrap();
    for (items, payload) in frames() {
        append(&journal, payload, items).unwrap();
    }
    journal.close().unwrap();
    std::fs::remove_file(dir.join("journal.lock")).unwrap();
    let mut identity = std::fs::read(dir.join("identity")).unwrap();
    identity[48..72].fill(0);
    let crc = crc32c::crc32c(&identity[..508]);
    identity[508..].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(dir.join("identity"), identity).unwrap();
}

fn expected() -> Vec<(u64, u32, bytes::Bytes)> {
    let mut first = 1;
    let place = |(items, payload)| {
        let at = first;
        first += u64::from(items);
        (at, items, payload)
    };
    frames().into_iter().map(place).collect()
}

#[test]
fn version_1_is_read() {
    let root = tempfile::tempdir().unwrap();
    copy_dir(&golden(), root.path());
    let report = check(&RealFs, root.path(), |_| {}).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.frames, report.items, report.torn_bytes), (9, 18, 0));

    let (journal, recovery) = open(&real(), limits(root.path()));
    assert_eq!(recovery.events, vec![Event::EpochGrew { from: 1, to: 2 }]);
    let read: Vec<_> = read_all(&journal).into_iter().map(|f| (f.first, f.items, f.payload)).collect();
    assert_eq!(read, expected());
    assert_eq!(append(&journal, payload(99, 10), 1).unwrap().first, 19);
}

#[test]
fn version_1_is_what_is_written() {
    if !golden().exists() {
        write(&golden());
        panic!("wrote {}: look at it and commit it", golden().display());
    }
    let root = tempfile::tempdir().unwrap();
    write(root.path());
    let list = |dir: &Path| {
        let mut files: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap()))
            .collect();
        files.sort();
        files
    };
    let (written, golden) = (list(root.path()), list(&golden()));
    assert_eq!(written.len(), golden.len());
    for ((name, bytes), (golden_name, golden_bytes)) in written.iter().zip(&golden) {
        assert_eq!(name, golden_name);
        assert!(bytes == golden_bytes, "{name:?} differs from the golden file");
    }
}
