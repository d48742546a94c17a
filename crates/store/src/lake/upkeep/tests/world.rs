//! Tables with real rows, and what is in them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use object_store::ObjectStore;
use url::Url;

use super::super::groups::Size;
use super::super::plan::Rules;
use super::super::{Effort, Upkeep, UpkeepOptions, UpkeepReport};
use super::store::TestStore;
use crate::lake::encode::{EncodeOptions, FileEncoder};
use crate::lake::place::Place;
use crate::lake::source::{Opened, Reading, Source, int_bounds};
use crate::lake::{Change, Encoded, Lake, LakeFile, LakeOptions, Txn};

pub(super) const A: &str = "01980000-0000-7000-8000-00000000000a/1";
pub(super) const B: &str = "01980000-0000-7000-8000-00000000000b/1";
pub(super) const HOUR_MS: i64 = 3_600_000;
pub(super) const DAY_MS: i64 = 24 * HOUR_MS;
/// 2026-11-20T13:00:00Z, and the day of it.
pub(super) const NOW_MS: i64 = 1_795_179_600_000;
pub(super) const TODAY: i32 = 20_777;

/// What the lakes of one test share.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) store: TestStore,
    pub(super) clock_ms: Arc<AtomicI64>,
    started_ms: i64,
    upkeep: Arc<Upkeep>,
}

impl World {
    pub(super) fn new() -> Self {
        let clock_ms = Arc::new(AtomicI64::new(NOW_MS));
        let upkeep = Arc::new(upkeep(&clock_ms, NOW_MS, 0, Duration::from_secs(3_600)));
        Self { store: TestStore::new(Arc::clone(&clock_ms)), clock_ms, started_ms: NOW_MS, upkeep }
    }

    /// The same world with a copy of its files and a clock of its own.
    pub(super) fn fork(&self) -> Self {
        let now_ms = self.now_ms();
        let clock_ms = Arc::new(AtomicI64::new(now_ms));
        let upkeep = Arc::new(upkeep(&clock_ms, now_ms, 0, Duration::from_secs(3_600)));
        Self { store: self.store.fork(Arc::clone(&clock_ms)), clock_ms, started_ms: now_ms, upkeep }
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.clock_ms.load(Ordering::Relaxed)
    }

    pub(super) fn advance(&self, by_ms: i64) {
        self.clock_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    pub(super) async fn lake(&self) -> Lake {
        self.lake_on(self.store.clone()).await.unwrap()
    }

    pub(super) async fn lake_on(&self, store: impl ObjectStore) -> Result<Lake, crate::lake::LakeError> {
        static LAKES: AtomicU64 = AtomicU64::new(1);
        let lake = u128::from(LAKES.fetch_add(1, Ordering::Relaxed));
        let drawn = AtomicU64::new(1);
        let clock = Arc::clone(&self.clock_ms);
        let options = LakeOptions::new(
            "memory",
            "runstone/test",
            Arc::new(move || clock.load(Ordering::Relaxed)),
            Arc::new(move || (lake << 64) | u128::from(drawn.fetch_add(1, Ordering::Relaxed)) << 8),
        );
        let place = Place { store: Arc::new(store), url: Url::parse("memory:///").unwrap(), local: None };
        Lake::open_at(place, options).await
    }

    pub(super) fn upkeep_with(&self, retention_days: u64, vacuum_grace: Duration) -> Upkeep {
        upkeep(&self.clock_ms, self.started_ms, retention_days, vacuum_grace)
    }

    pub(super) fn upkeep(&self) -> &Upkeep {
        &self.upkeep
    }

    pub(super) async fn run(&self, lake: &Lake, effort: Effort) -> UpkeepReport {
        let report = self.upkeep.run(lake, self.now_ms(), effort).await;
        assert_eq!(report.failures, [], "{report:?}");
        report
    }
}

fn upkeep(clock_ms: &Arc<AtomicI64>, started_ms: i64, retention_days: u64, vacuum_grace: Duration) -> Upkeep {
    let clock = Arc::clone(clock_ms);
    let uptime = move || Duration::from_millis(u64::try_from(clock.load(Ordering::Relaxed) - started_ms).unwrap());
    let options = UpkeepOptions {
        file_bytes: rules().file_bytes,
        group_bytes: rules().group.bytes,
        retention_days,
        vacuum_grace,
        uptime: Arc::new(uptime),
    };
    Upkeep::with(options, rules())
}

/// Small numbers: a row group has 100 rows.
pub(super) fn rules() -> Rules {
    Rules {
        fan_in: 4,
        group: Size { rows: 100, bytes: 1 << 20 },
        files_max: 16,
        rows_max: 10_000,
        file_bytes: 100_000,
        quiet_ms: HOUR_MS,
    }
}

/// Rows of a journal from a position on, that arrived today, at these times (µs since the test began).
pub(super) fn rows(journal: &str, first: u64, times: &[i64]) -> RecordBatch {
    rows_on(TODAY, journal, first, times)
}

/// The same, arrived at noon of a day.
pub(super) fn rows_on(date: i32, journal: &str, first: u64, times: &[i64]) -> RecordBatch {
    let noon = (i64::from(date) * 24 + 12) * HOUR_MS * 1_000;
    let positions: Vec<i64> = (0..times.len()).map(|row| i64::try_from(first).unwrap() + row as i64).collect();
    let text = |of: &dyn Fn(i64) -> Option<String>| -> ArrayRef {
        Arc::new(positions.iter().map(|position| of(*position)).collect::<StringArray>())
    };
    let time = |times: Vec<i64>| -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")) };
    let mark = journal.bytes().map(u64::from).sum::<u64>();
    RecordBatch::try_from_iter([
        (
            "id",
            text(&|position| Some(format!("{:08x}-0000-4000-8000-{position:012x}", position * 7_919 + mark as i64))),
        ),
        ("journal", text(&|_| Some(journal.to_owned()))),
        ("position", Arc::new(Int64Array::from(positions.clone())) as ArrayRef),
        ("timestamp", time(times.iter().map(|at| NOW_MS * 1_000 + at).collect())),
        ("ingested_at", time(positions.iter().map(|position| noon + position).collect())),
        ("run_id", text(&|position| (position % 3 > 0).then(|| format!("run-{}", position / 10)))),
        ("level", text(&|position| Some(["INFO", "ERROR"][(position % 2) as usize].to_owned()))),
        ("lineno", Arc::new(positions.iter().map(|at| (at % 5 > 0).then_some(*at)).collect::<Int64Array>())),
        ("message", text(&|position| Some(format!("moved {position} rows of {journal}")))),
        ("metadata", text(&|position| (position % 7 == 0).then(|| format!("{{\"n\":{position}}}")))),
    ])
    .unwrap()
}

/// A file of rows, in row groups of at most so many.
pub(super) fn encode(rows: &RecordBatch, group_rows: usize) -> Encoded {
    let times = rows.column_by_name("timestamp").unwrap();
    let order = arrow::compute::sort_to_indices(times, None, None).unwrap();
    let sorted = arrow::compute::take_record_batch(rows, &order).unwrap();
    let mut file = FileEncoder::new(EncodeOptions::default()).unwrap();
    for start in (0..sorted.num_rows()).step_by(group_rows) {
        file.write_group(&sorted.slice(start, group_rows.min(sorted.num_rows() - start))).unwrap();
    }
    file.finish().unwrap()
}

/// One flush of a journal's next rows; answers the position after its last.
pub(super) async fn flush(lake: &Lake, journal: &str, date: i32, times: &[i64]) -> u64 {
    let snapshot = lake.refresh().await.unwrap();
    let after = lake.cursor(&snapshot, journal).await.unwrap();
    let first = after.map_or(0, |after| after + 1);
    let file = lake.put(encode(&rows_on(date, journal, first, times), 100), date).await.unwrap();
    let through = first + times.len() as u64 - 1;
    let change = Change {
        journal: Some(Txn { journal: journal.to_owned(), after, through }),
        add: vec![file],
        remove: Vec::new(),
        data_change: true,
        operation: "WRITE",
        metrics: Vec::new(),
    };
    lake.commit(change).await.unwrap();
    through + 1
}

/// Rows by journal and position, each as text, and how often it is there.
pub(super) type Contents = BTreeMap<(String, i64), Vec<String>>;

pub(super) async fn contents(lake: &Lake) -> Contents {
    contents_of(lake, &lake.refresh().await.unwrap().files).await
}

pub(super) async fn contents_of(lake: &Lake, files: &[Arc<LakeFile>]) -> Contents {
    let mut contents = Contents::new();
    for file in files {
        let source = open(lake, file).await;
        for group in 0..source.metadata().num_row_groups() {
            let batches = source
                .read(Reading { group, columns: None, rows: None }, |batches| batches.collect::<Result<Vec<_>, _>>())
                .await
                .unwrap();
            for batch in batches {
                add_rows(&batch, &mut contents);
            }
        }
    }
    contents
}

/// Compares without printing thousands of rows.
#[track_caller]
pub(super) fn assert_same(there: &Contents, expected: &Contents, when: impl std::fmt::Debug) {
    let differs = |(key, texts): &(&(String, i64), &Vec<String>)| expected.get(key) != Some(texts);
    if let Some(other) = there.iter().find(differs) {
        panic!("{when:?}: {other:?} is there, not {:?}", expected.get(other.0));
    }
    if let Some(missing) = expected.keys().find(|key| !there.contains_key(key)) {
        panic!("{when:?}: {missing:?} is missing, {} of {} rows are there", there.len(), expected.len());
    }
}

pub(super) fn add_rows(batch: &RecordBatch, contents: &mut Contents) {
    let options = FormatOptions::new().with_null("∅");
    let columns: Vec<_> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap()).collect();
    let names: Vec<_> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
    let place = |name: &str| names.iter().position(|known| known == name).unwrap();
    for row in 0..batch.num_rows() {
        let value = |column: usize| columns[column].value(row).to_string();
        let key = (value(place("journal")), value(place("position")).parse().unwrap());
        let text: Vec<_> = (0..columns.len())
            .filter(|column| batch.column(*column).is_valid(row))
            .map(|column| format!("{}={}", names[column], value(column)))
            .collect();
        contents.entry(key).or_default().push(text.join(" "));
    }
}

pub(super) async fn open(lake: &Lake, file: &LakeFile) -> Source {
    match Source::open(&lake.store(), file).await.unwrap() {
        Opened::Source(source) => source,
        Opened::Foreign(why) => panic!("{why}"),
    }
}

/// The times of a file's row groups, and their numbers of rows. Within a file the times must not overlap.
pub(super) async fn group_sizes(lake: &Lake, file: &LakeFile) -> Vec<i64> {
    let source = open(lake, file).await;
    let groups = source.metadata().row_groups();
    let times: Vec<_> = groups.iter().map(|group| int_bounds(group, runstone_record::Column::Timestamp)).collect();
    assert!(times.windows(2).all(|pair| pair[0].1 <= pair[1].0), "row groups of {} overlap: {times:?}", file.path);
    groups.iter().map(|group| group.num_rows()).collect()
}
