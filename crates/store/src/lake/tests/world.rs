//! A lake in a temporary directory, and files to put into it. Their bytes are no Parquet: nothing here opens them.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use runstone_record::Column;

use crate::lake::file::{Bound, ColumnStats, FileStats};
use crate::lake::{Change, Encoded, Lake, LakeFile, LakeOptions, LakeSnapshot, Txn};

pub(crate) const JOURNAL: &str = "01980000-0000-7000-8000-000000000001/1";
/// 2026-11-20T13:00:00Z.
pub(crate) const NOW_MS: i64 = 1_795_179_600_000;
/// The day of it.
pub(crate) const TODAY: i32 = 20_777;

/// A clock that a test turns, and entropy that repeats.
#[derive(Debug, Clone)]
pub(crate) struct Time(pub(crate) Arc<AtomicI64>);

impl Time {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicI64::new(NOW_MS)))
    }
}

/// Where seeds begin: at 0, and elsewhere for each repetition of a soak. Printed, so that a failure can be played again with
/// `RUNSTONE_SEED`.
pub(crate) fn first_seed() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "which seeds are played is for whoever runs it to say")]
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let first = number("RUNSTONE_SEED").wrapping_add(number("NEXTEST_STRESS_CURRENT").wrapping_mul(10_000));
    let _ = writeln!(std::io::stdout(), "RUNSTONE_SEED={first}");
    first
}

pub(crate) fn options(location: &std::path::Path) -> LakeOptions {
    options_at(location, &Time::new())
}

pub(crate) fn options_at(location: &std::path::Path, time: &Time) -> LakeOptions {
    // Two lakes of one test must not draw the same ids.
    static LAKES: AtomicU64 = AtomicU64::new(1);
    let lake = u128::from(LAKES.fetch_add(1, Ordering::Relaxed));
    let drawn = AtomicU64::new(1);
    let clock = Arc::clone(&time.0);
    let mut options = LakeOptions::new(
        location.to_str().unwrap(),
        "runstone/test",
        Arc::new(move || clock.load(Ordering::Relaxed)),
        Arc::new(move || (lake << 64) | u128::from(drawn.fetch_add(1, Ordering::Relaxed)) << 8),
    );
    options.network.commit_pause = std::time::Duration::ZERO;
    options
}

/// A file of a journal's positions.
pub(crate) fn encoded(journal: &str, first: u64, last: u64) -> Encoded {
    let text = Some(Bound::Text(journal.to_owned()));
    let position = |position: u64| Some(Bound::Int(i64::try_from(position).unwrap()));
    let columns = vec![
        ColumnStats { column: Column::Journal, least: text.clone(), greatest: text, nulls: Some(0) },
        ColumnStats { column: Column::Position, least: position(first), greatest: position(last), nulls: Some(0) },
    ];
    Encoded {
        bytes: Bytes::from(format!("rows {first} to {last}")),
        stats: FileStats { rows: Some(last - first + 1), columns },
    }
}

pub(crate) fn write(journal: &str, after: Option<u64>, through: u64, add: Vec<LakeFile>) -> Change {
    Change {
        journal: Some(Txn { journal: journal.to_owned(), after, through }),
        add,
        remove: Vec::new(),
        data_change: true,
        operation: "WRITE",
        metrics: vec![("numFiles", 1)],
    }
}

/// One flush: the positions after a journal's last one, through another.
pub(crate) async fn flush(lake: &Lake, journal: &str, after: Option<u64>, through: u64) -> Arc<LakeSnapshot> {
    let first = after.map_or(0, |after| after + 1);
    let file = lake.put(encoded(journal, first, through), TODAY).await.unwrap();
    lake.commit(write(journal, after, through, vec![file])).await.unwrap()
}

/// The paths of a snapshot, in order.
pub(crate) fn paths(snapshot: &LakeSnapshot) -> Vec<String> {
    let mut paths: Vec<_> = snapshot.files.iter().map(|file| file.path.clone()).collect();
    paths.sort_unstable();
    paths
}

/// The ranges of positions of a journal, in order.
pub(crate) fn ranges(snapshot: &LakeSnapshot, journal: &str) -> Vec<(u64, u64)> {
    let files = snapshot.files.iter().filter(|file| file.journal() == Some(journal));
    let mut ranges: Vec<_> = files.map(|file| file.positions().unwrap()).collect();
    ranges.sort_unstable();
    ranges
}

/// The versions that lie in a log.
pub(crate) fn versions(location: &std::path::Path) -> Vec<u64> {
    let mut versions: Vec<u64> = std::fs::read_dir(location.join("_delta_log"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".json")?.parse().ok())
        .collect();
    versions.sort_unstable();
    versions
}
