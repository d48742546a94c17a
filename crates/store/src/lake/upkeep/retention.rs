//! Records that were kept long enough leave the table. Owns which files go: only whole ones, whose every record arrived
//! before the cut; refuses to rewrite a file for the sake of some of its records, and to believe a clock.

use std::sync::Arc;

use runstone_record::limits::LAKE_RETIRE_FILES_MAX;

use crate::lake::{Change, Lake, LakeError, LakeFile, LakeSnapshot, support};

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// What left the table.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retired {
    pub(crate) files: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

/// Takes out the files that are older than so many days. None: the table refuses to lose records.
pub(crate) async fn retire(lake: &Lake, now_ms: i64, days: u64) -> Result<Option<Retired>, LakeError> {
    let mut retired = Retired::default();
    loop {
        let snapshot = lake.refresh().await?;
        let mut gone = expired(&snapshot, now_ms, days);
        if gone.is_empty() {
            return Ok(Some(retired));
        }
        if support::is_append_only(&snapshot.table.metadata) {
            return Ok(None);
        }
        gone.truncate(LAKE_RETIRE_FILES_MAX);
        let part = Retired {
            files: gone.len() as u64,
            rows: gone.iter().filter_map(|file| file.stats.rows).sum(),
            bytes: gone.iter().map(|file| file.bytes).sum(),
        };
        let change = Change {
            journal: None,
            add: Vec::new(),
            remove: gone,
            data_change: true,
            operation: "DELETE",
            metrics: vec![("numRemovedFiles", part.files), ("numDeletedRows", part.rows)],
        };
        match lake.commit(change).await {
            Ok(_) => {
                retired.files += part.files;
                retired.rows += part.rows;
                retired.bytes += part.bytes;
            }
            // Compacted, or removed by another writer, a moment ago: look again.
            Err(LakeError::Conflict(why)) => tracing::debug!(why, "looked again for files that are old enough"),
            Err(error) => return Err(error),
        }
    }
}

/// The files of which no record arrived within so many days.
fn expired(snapshot: &LakeSnapshot, now_ms: i64, days: u64) -> Vec<Arc<LakeFile>> {
    let Some(cut) = cut(now_ms, days) else { return Vec::new() };
    snapshot.files.iter().filter(|file| is_before(file, cut)).cloned().collect()
}

/// The time of arrival, in microseconds, from which on records are kept. None: all are.
fn cut(now_ms: i64, days: u64) -> Option<i64> {
    let days = i64::try_from(days).ok().filter(|days| *days > 0)?;
    now_ms.checked_mul(1_000)?.checked_sub(days.checked_mul(MICROS_PER_DAY)?)
}

/// Did every record of a file arrive before the cut? Where the day and the statistics say different things, both must.
fn is_before(file: &LakeFile, cut: i64) -> bool {
    let day_ends = file.date.map(|date| (i64::from(date) + 1).saturating_mul(MICROS_PER_DAY));
    let last = file.arrivals().map(|(_, last)| last);
    match (day_ends, last) {
        (None, None) => false,
        (day_ends, last) => day_ends.is_none_or(|end| end <= cut) && last.is_none_or(|last| last < cut),
    }
}

#[cfg(test)]
mod tests {
    use runstone_record::Column;

    use super::*;
    use crate::lake::{Bound, ColumnStats, FileStats};

    const DAY_MS: i64 = 86_400_000;

    fn file(date: Option<i32>, last: Option<i64>) -> LakeFile {
        let column = last.map(|last| ColumnStats {
            column: Column::IngestedAt,
            least: Some(Bound::Int(0)),
            greatest: Some(Bound::Int(last)),
            nulls: Some(0),
        });
        LakeFile {
            path: "a.parquet".to_owned(),
            bytes: 1,
            date,
            modified_ms: 0,
            stats: FileStats { rows: None, columns: column.into_iter().collect() },
            sums: None,
        }
    }

    #[test]
    fn a_day_goes_when_its_last_moment_is_old_enough() {
        // Day 100 ends when day 101 begins; kept for 7 days, it goes when day 108 begins.
        let goes = |now_ms: i64| is_before(&file(Some(100), None), cut(now_ms, 7).unwrap());
        assert!(!goes(108 * DAY_MS - 1));
        assert!(goes(108 * DAY_MS));
        assert_eq!(cut(108 * DAY_MS, 0), None);
        assert_eq!(cut(108 * DAY_MS, u64::MAX), None);
    }

    #[test]
    fn a_file_goes_only_when_all_that_is_known_of_it_is_old() {
        let cut = 101 * MICROS_PER_DAY;
        assert!(is_before(&file(Some(100), Some(cut - 1)), cut));
        assert!(!is_before(&file(Some(100), Some(cut)), cut));
        assert!(!is_before(&file(Some(101), Some(0)), cut));
        assert!(is_before(&file(None, Some(cut - 1)), cut));
        assert!(!is_before(&file(None, Some(cut)), cut));
        assert!(!is_before(&file(None, None), cut));
    }
}
