//! Which files to merge next. Owns the choice, from what the log says of the files alone; refuses to open one.
//!
//! Files are merged within one day and one journal, and only neighbours in position, so that a journal's rows stay
//! together. While a day's records still arrive, a merge must pay: it takes many files, of which none is large beside the
//! rest, so that a row is written again only into a file several times as large. Once the day is over its files are packed
//! as full as they may be, and what a flush wrote in haste is written again with care.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use runstone_record::limits;

use super::groups::Size;
use super::names::{Maker, maker};
use crate::lake::LakeFile;

/// When files are merged.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// Fewer files are not merged while their day lasts.
    pub(crate) fan_in: usize,
    /// Of a row group. Fewer rows are not merged either, unless the files are four times as many.
    pub(crate) group: Size,
    /// Files of one merge.
    pub(crate) files_max: usize,
    /// Rows of one merge.
    pub(crate) rows_max: u64,
    /// Bytes of a file.
    pub(crate) file_bytes: u64,
    /// Milliseconds without a new file after which a day is over.
    pub(crate) quiet_ms: i64,
}

impl Rules {
    pub(crate) fn new(file_bytes: u64, group_bytes: u64) -> Self {
        Self {
            fan_in: limits::LAKE_MERGE_FILES_MIN,
            group: Size { bytes: group_bytes.max(1), ..Size::FULL },
            files_max: limits::LAKE_MERGE_FILES_MAX,
            rows_max: limits::LAKE_MERGE_ROWS_MAX,
            file_bytes,
            quiet_ms: limits::LAKE_QUIET_MS,
        }
    }
}

/// What time it is, for a plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Days since 1970.
    pub(crate) today: i32,
    /// Milliseconds since 1970.
    pub(crate) now_ms: i64,
    /// Is every day to be treated as if it were over?
    pub(crate) is_final: bool,
}

/// Files that become one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Merge {
    pub(crate) date: i32,
    /// In the order of their positions.
    pub(crate) files: Vec<Arc<LakeFile>>,
    /// Is the result worth more work?
    pub(crate) thorough: bool,
}

/// The next merge; none where there is nothing to do. Files in `left` stay as they are.
pub(crate) fn next_merge(files: &[Arc<LakeFile>], at: Moment, left: &HashSet<String>, rules: &Rules) -> Option<Merge> {
    let mut days: BTreeMap<(i32, &str), Vec<&Arc<LakeFile>>> = BTreeMap::new();
    for file in files {
        if let (Some(date), Some(journal), Some(_), Some(_)) =
            (file.date, file.journal(), file.positions(), file.stats.rows)
        {
            days.entry((date, journal)).or_default().push(file);
        }
    }
    // Old days first: they are read more often than written.
    days.into_iter().find_map(|((date, _), mut files)| {
        files.sort_unstable_by_key(|file| (file.positions(), file.path.as_str()));
        let over = at.is_final || is_over(date, &files, at, rules);
        let range = files
            .split(|file| left.contains(&file.path) || (!over && is_full(file, rules)))
            .find_map(|run| pick(run, over, rules).map(|range| run[range].to_vec()))?;
        let rows: u64 = range.iter().map(|file| rows(file)).sum();
        let files = range.into_iter().map(Arc::clone).collect();
        Some(Merge { date, files, thorough: over || rows >= rules.group.rows })
    })
}

fn is_over(date: i32, files: &[&Arc<LakeFile>], at: Moment, rules: &Rules) -> bool {
    // What compaction made brought no new records.
    let arrived = files.iter().filter(|file| maker(&file.path) != Maker::Compaction);
    let newest = arrived.map(|file| file.modified_ms).max().unwrap_or(i64::MIN);
    date < at.today && newest <= at.now_ms.saturating_sub(rules.quiet_ms)
}

fn is_full(file: &LakeFile, rules: &Rules) -> bool {
    file.bytes >= rules.file_bytes / 4 * 3
}

fn rows(file: &LakeFile) -> u64 {
    file.stats.rows.unwrap_or(0)
}

fn pick(run: &[&Arc<LakeFile>], over: bool, rules: &Rules) -> Option<Range<usize>> {
    if over { pack(run, rules) } else { window(run, rules) }
}

/// The longest row of neighbours that pays; of several the first.
fn window(run: &[&Arc<LakeFile>], rules: &Rules) -> Option<Range<usize>> {
    let mut best: Option<Range<usize>> = None;
    for start in 0..run.len() {
        let mut sum = Sum::default();
        for (count, file) in (1..).zip(&run[start..]) {
            if !sum.take(file, count, rules) {
                break;
            }
            let enough = sum.rows >= rules.group.rows || count >= 4 * rules.fan_in;
            let even = sum.largest.saturating_mul(4) <= sum.bytes;
            let longer = best.as_ref().is_none_or(|best| count > best.len());
            if count >= rules.fan_in && enough && even && longer {
                best = Some(start..start + count);
            }
        }
    }
    best
}

/// The first neighbours that fit into one file, or one file that a flush made.
fn pack(run: &[&Arc<LakeFile>], rules: &Rules) -> Option<Range<usize>> {
    let mut start = 0;
    while start < run.len() {
        let mut sum = Sum::default();
        let count = (1..).zip(&run[start..]).take_while(|(count, file)| sum.take(file, *count, rules)).count();
        let end = start + count.max(1);
        let hasty = maker(&run[start].path) == Maker::Flush && count == 1;
        if count > 1 || hasty {
            return Some(start..end);
        }
        start = end;
    }
    None
}

#[derive(Debug, Default)]
struct Sum {
    bytes: u64,
    rows: u64,
    largest: u64,
}

impl Sum {
    /// Adds the `count`th file, where a merge may still have it.
    fn take(&mut self, file: &LakeFile, count: usize, rules: &Rules) -> bool {
        self.bytes = self.bytes.saturating_add(file.bytes);
        self.rows = self.rows.saturating_add(rows(file));
        self.largest = self.largest.max(file.bytes);
        count == 1 || (count <= rules.files_max && self.bytes <= rules.file_bytes && self.rows <= rules.rows_max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use runstone_record::Column;

    use super::*;
    use crate::lake::{Bound, ColumnStats, FileStats};

    const TODAY: i32 = 20_777;
    const NOW_MS: i64 = 1_795_179_600_000;

    fn rules() -> Rules {
        Rules {
            fan_in: 8,
            group: Size { rows: 1_000, bytes: 1_000_000 },
            files_max: 64,
            rows_max: 1_000_000,
            file_bytes: 1_000_000,
            quiet_ms: 3_600_000,
        }
    }

    fn moment() -> Moment {
        Moment { today: TODAY, now_ms: NOW_MS, is_final: false }
    }

    fn file(number: u64, journal: &str, date: i32, bytes: u64, made: Maker) -> Arc<LakeFile> {
        let text = |text: &str| Some(Bound::Text(text.to_owned()));
        let position = i64::try_from(number * 1_000).unwrap();
        let (prefix, suffix) = match made {
            Maker::Flush => ("", ""),
            Maker::Compaction => ("", "-compacted"),
            Maker::Other => ("part-", ""),
        };
        Arc::new(LakeFile {
            path: format!("date=2026-11-20/{prefix}01980000-0000-7000-8000-{number:012x}{suffix}.parquet"),
            bytes,
            date: Some(date),
            modified_ms: NOW_MS - 10 * 3_600_000,
            sums: None,
            stats: FileStats {
                rows: Some(bytes / 100),
                columns: vec![
                    ColumnStats {
                        column: Column::Journal,
                        least: text(journal),
                        greatest: text(journal),
                        nulls: Some(0),
                    },
                    ColumnStats {
                        column: Column::Position,
                        least: Some(Bound::Int(position)),
                        greatest: Some(Bound::Int(position + 999)),
                        nulls: Some(0),
                    },
                ],
            },
        })
    }

    fn flushed(sizes: &[u64]) -> Vec<Arc<LakeFile>> {
        (0..).zip(sizes).map(|(number, bytes)| file(number, "a/1", TODAY, *bytes, Maker::Flush)).collect()
    }

    fn next(files: &[Arc<LakeFile>], at: Moment) -> Option<Merge> {
        next_merge(files, at, &HashSet::new(), &rules())
    }

    fn numbers(merge: &Merge) -> Vec<u64> {
        merge.files.iter().map(|file| file.positions().unwrap().0 / 1_000).collect()
    }

    #[test]
    fn a_day_that_lasts_is_merged_where_it_pays() {
        // Seven files are too few, eight of too few rows as well, unless there are very many.
        assert_eq!(next(&flushed(&[20_000; 7]), moment()), None);
        assert_eq!(next(&flushed(&[1_000; 8]), moment()), None);
        assert_eq!(next(&flushed(&[1_000; 31]), moment()), None);
        let merge = next(&flushed(&[1_000; 32]), moment()).unwrap();
        assert_eq!((merge.files.len(), merge.thorough), (32, false));
        let merge = next(&flushed(&[20_000; 9]), moment()).unwrap();
        assert_eq!((merge.files.len(), merge.thorough), (9, true));
        // A large file among small ones is left in peace, and so is a full one.
        assert_eq!(next(&flushed(&[300_000, 20_000, 20_000, 20_000, 20_000, 20_000, 20_000, 20_000]), moment()), None);
        let mut sizes = vec![800_000];
        sizes.extend([20_000; 8]);
        assert_eq!(numbers(&next(&flushed(&sizes), moment()).unwrap()), [1, 2, 3, 4, 5, 6, 7, 8]);
        // A merge's files fit into one.
        assert_eq!(next(&flushed(&[120_000; 20]), moment()).unwrap().files.len(), 8);
    }

    #[test]
    fn journals_and_days_stay_apart() {
        let mut files = Vec::new();
        for number in 0..8 {
            files.push(file(number, "a/1", TODAY, 20_000, Maker::Flush));
            files.push(file(number, "b/1", TODAY, 20_000, Maker::Flush));
            files.push(file(number, "a/1", TODAY - 1, 20_000, Maker::Flush));
        }
        let merge = next(&files, moment()).unwrap();
        assert_eq!((merge.date, merge.files.len()), (TODAY - 1, 8));
        files.retain(|file| file.date == Some(TODAY));
        let merge = next(&files, moment()).unwrap();
        assert!(merge.files.iter().all(|file| file.journal() == Some("a/1")), "{merge:?}");
        assert_eq!(numbers(&merge), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_day_that_is_over_is_packed_and_then_left() {
        let yesterday = |number, bytes, made| file(number, "a/1", TODAY - 1, bytes, made);
        let files = [
            yesterday(0, 900_000, Maker::Compaction),
            yesterday(1, 900_000, Maker::Flush),
            yesterday(2, 300_000, Maker::Flush),
            yesterday(3, 300_000, Maker::Other),
        ];
        let merge = next(&files, moment()).unwrap();
        assert_eq!((numbers(&merge), merge.thorough), (vec![1], true));
        let merge = next(&files[2..], moment()).unwrap();
        assert_eq!(numbers(&merge), [2, 3]);
        // What another writer made is not rewritten for its own sake.
        assert_eq!(next(&files[3..], moment()), None);
        assert_eq!(next(&files[..1], moment()), None);
        // A straggler a moment ago: more may come.
        let mut young = LakeFile::clone(&files[2]);
        young.modified_ms = NOW_MS - 1;
        assert_eq!(next(&[Arc::clone(&files[0]), Arc::new(young.clone())], moment()), None);
        // Unless everything is to be packed at once.
        let at = Moment { is_final: true, ..moment() };
        young.date = Some(TODAY);
        assert!(next(&[Arc::new(young)], at).is_some());
    }

    #[test]
    fn files_that_are_left_stand_between() {
        let files = flushed(&[200_000; 3]);
        let at = Moment { is_final: true, ..moment() };
        let left = HashSet::from([files[1].path.clone()]);
        let merge = next_merge(&files, at, &left, &rules()).unwrap();
        assert_eq!(numbers(&merge), [0]);
    }

    /// Merges until nothing is left to do: files, and bytes written for one byte that came.
    fn run_to_end(arrive: &[u64], at: Moment) -> (Vec<Arc<LakeFile>>, f64) {
        let mut files: Vec<Arc<LakeFile>> = Vec::new();
        let mut written = 0;
        for (number, bytes) in (0..).zip(arrive) {
            files.push(file(number, "a/1", TODAY, *bytes, Maker::Flush));
            let mut turns = 0;
            while let Some(merge) = next(&files, at) {
                let bytes: u64 = merge.files.iter().map(|file| file.bytes).sum();
                written += bytes;
                let first = merge.files[0].positions().unwrap().0 / 1_000;
                files.retain(|file| !merge.files.contains(file));
                let made = if merge.thorough { Maker::Compaction } else { Maker::Flush };
                files.push(file(first, "a/1", TODAY, bytes, made));
                turns += 1;
                assert!(turns < 100, "merges the same again and again");
            }
        }
        (files, written as f64 / arrive.iter().sum::<u64>() as f64)
    }

    proptest! {
        #[test]
        fn files_stay_few_and_rows_are_written_few_times(sizes in prop::collection::vec(1_000_u64..30_000, 1..600)) {
            let (files, written) = run_to_end(&sizes, moment());
            // At most a full file's share, and below that some of each size.
            let full = sizes.iter().sum::<u64>() / 250_000;
            prop_assert!(files.len() as u64 <= 2 * full + 48, "{} files of {}", files.len(), sizes.len());
            prop_assert!(written <= 5.0, "{written} times");
            let at = Moment { is_final: true, ..moment() };
            let sizes: Vec<u64> = files.iter().map(|file| file.bytes).collect();
            let (files, _) = run_to_end(&sizes, at);
            prop_assert!(files.len() as u64 <= 1 + 2 * sizes.iter().sum::<u64>() / 1_000_000);
            prop_assert!(files.iter().all(|file| file.bytes <= 1_000_000));
        }
    }
}
