//! A store with its journal in memory, and records to put into it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use proptest::prelude::*;
use runstone_record::build::BatchBuilder;
use runstone_record::wire::{QueryAnswer, RunBody};
use runstone_record::{Batch, Column, IdMint, Level, RecordId, RecordType};
use runstone_store::{
    Frames, LogsQuery, Older, OlderError, QueryError, Recent, RecentOptions, RunsSource, Sql, SqlLimits,
};

use crate::shelf::{Shelf, rows_between};

pub(crate) const JOURNAL: &str = "01980000-0000-7000-8000-000000000001/1";

/// Frames by their first positions, as a journal keeps them.
#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<BTreeMap<u64, Bytes>>);

impl Journal {
    pub(crate) fn put(&self, first: u64, batch: &Batch) {
        self.0.lock().unwrap().insert(first, Bytes::from(batch.encode()));
    }

    /// The batches that hold some positions.
    pub(crate) fn batches(&self, first: u64, last: u64) -> Vec<(u64, Batch)> {
        let frames = self.frames(first, last).unwrap().map(Result::unwrap);
        frames.map(|(first, payload)| (first, Batch::decode(&payload).unwrap())).collect()
    }
}

impl Older for Journal {
    fn frames(&self, first: u64, last: u64) -> Result<Frames, OlderError> {
        let frames = self.0.lock().unwrap();
        // From the frame that holds `first` on, as a reader that looks a position up would begin.
        let from = frames.range(..=first).next_back().map_or(first, |(start, _)| *start);
        let found: Vec<_> = frames.range(from..=last).map(|(start, payload)| Ok((*start, payload.clone()))).collect();
        Ok(Box::new(found.into_iter()))
    }
}

/// No older frames, though some were evicted.
#[derive(Debug)]
pub(crate) struct Lost;

impl Older for Lost {
    fn frames(&self, _first: u64, _last: u64) -> Result<Frames, OlderError> {
        Ok(Box::new(std::iter::empty()))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Runs(pub(crate) Vec<RunBody>);

impl RunsSource for Runs {
    fn snapshot(&self) -> Vec<RunBody> {
        self.0.clone()
    }
}

pub(crate) struct World {
    pub(crate) recent: Arc<Recent>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) sql: Sql,
    pub(crate) batches: Vec<(u64, Batch)>,
    pub(crate) shelf: Option<Shelf>,
    runtime: tokio::runtime::Runtime,
    next: u64,
}

pub(crate) fn limits() -> SqlLimits {
    SqlLimits { threads: 2, ..SqlLimits::default() }
}

impl World {
    pub(crate) fn new(bytes_max: usize, limits: SqlLimits) -> Self {
        let journal = Arc::new(Journal::default());
        Self::with(bytes_max, limits, Arc::clone(&journal) as _, journal, Runs::default())
    }

    pub(crate) fn with(
        bytes_max: usize,
        limits: SqlLimits,
        older: Arc<dyn Older>,
        journal: Arc<Journal>,
        runs: Runs,
    ) -> Self {
        let recent = Arc::new(Recent::new(RecentOptions { bytes_max }));
        Self {
            sql: Sql::new(Arc::clone(&recent), older, Arc::new(runs), limits).unwrap(),
            recent,
            journal,
            batches: Vec::new(),
            shelf: None,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            next: 1,
        }
    }

    pub(crate) fn push(&mut self, batch: Batch) {
        let first = self.next;
        self.next += batch.len() as u64;
        self.journal.put(first, &batch);
        self.recent.push(JOURNAL, first, batch.clone()).unwrap();
        self.batches.push((first, batch));
    }

    /// The last position.
    pub(crate) fn last(&self) -> u64 {
        self.next - 1
    }

    pub(crate) fn shelf(&mut self) -> &mut Shelf {
        if self.shelf.is_none() {
            self.shelf = Some(self.wait(Shelf::new()));
        }
        self.shelf.as_mut().unwrap()
    }

    /// Moves what came up to a position to the lake, in one commit.
    pub(crate) fn settle(&mut self, through: u64) {
        let mut shelf = self.shelf.take().unwrap_or_else(|| self.wait(Shelf::new()));
        let rows = rows_between(&self.batches, self.recent.stats().settled, through);
        if !rows.is_empty() {
            self.wait(shelf.flush(JOURNAL, &rows));
        }
        self.recent.settle(shelf.view(), through);
        self.shelf = Some(shelf);
    }

    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(crate) fn try_query(&self, sql: &str) -> Result<QueryAnswer, QueryError> {
        let answer = self.wait(self.sql.query(sql))?;
        Ok(serde_json::from_slice(&answer.into_body()).unwrap())
    }

    #[track_caller]
    pub(crate) fn query(&self, sql: &str) -> QueryAnswer {
        self.try_query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The values of the first column.
    #[track_caller]
    pub(crate) fn column(&self, sql: &str) -> Vec<serde_json::Value> {
        let answer = self.query(sql);
        let name = &answer.columns[0].name;
        answer.rows.iter().map(|row| row[name].clone()).collect()
    }

    #[track_caller]
    pub(crate) fn number(&self, sql: &str) -> i64 {
        self.column(sql)[0].as_i64().unwrap()
    }

    #[track_caller]
    pub(crate) fn positions(&self, filter: &str) -> Vec<u64> {
        let sql = format!("SELECT position FROM logs WHERE {filter} ORDER BY position");
        self.column(&sql).iter().map(|at| at.as_u64().unwrap()).collect()
    }

    pub(crate) fn page(&self, query: LogsQuery) -> Result<runstone_store::LogsPage, QueryError> {
        self.wait(self.sql.logs(query))
    }
}

/// What a record may have, before it is stamped.
#[derive(Debug, Clone, Default)]
pub(crate) struct Draft {
    pub(crate) id: Option<u128>,
    pub(crate) timestamp: Option<i64>,
    pub(crate) texts: Vec<(Column, String)>,
    pub(crate) row_count: Option<i64>,
    pub(crate) duration: Option<f64>,
}

pub(crate) const NOW: i64 = 1_763_640_000_000_000;

pub(crate) fn batch(drafts: &[Draft], seed: u64) -> Batch {
    let mut builder = BatchBuilder::default();
    for draft in drafts {
        for (column, text) in &draft.texts {
            builder.set_text(*column, text);
        }
        if let Some(timestamp) = draft.timestamp {
            builder.set_int(Column::Timestamp, timestamp);
        }
        if let Some(row_count) = draft.row_count {
            builder.set_int(Column::RowCount, row_count);
        }
        if let Some(duration) = draft.duration {
            builder.set_float(Column::Duration, duration);
        }
        builder.end_row(draft.id.map(|id| (RecordId::from_u128(id), 7)));
    }
    let mut mint = IdMint::new(1_763_640_000_000 + seed, u128::from(seed) << 64);
    // Two batches each arrive in the same microsecond, an hour after the two before.
    let later = i64::try_from(seed.div_ceil(2)).unwrap() * 3_600_000_000;
    builder.stamp(&mut mint, NOW + later, None)
}

/// A line of log: `count` of them make a batch.
pub(crate) fn lines(count: usize, seed: u64) -> Batch {
    let drafts: Vec<Draft> = (0..count)
        .map(|row| Draft {
            timestamp: Some(NOW + i64::try_from(row).unwrap() * 1_000 + i64::try_from(seed).unwrap() * 3_600_000_000),
            texts: vec![
                (Column::SourceSystem, format!("system-{}", row % 3)),
                (Column::RunId, format!("run-{seed}-{}", row % 10)),
                (Column::Type, "log".to_owned()),
                (Column::Level, if row % 10 == 0 { "ERROR" } else { "INFO" }.to_owned()),
                (Column::Message, format!("line {row} of {seed}: all is well")),
                (Column::Metadata, format!("{{\"rows\":{row},\"seed\":\"{seed}\"}}")),
            ],
            ..Draft::default()
        })
        .collect();
    batch(&drafts, seed)
}

fn maybe<T: std::fmt::Debug + Clone + 'static>(
    value: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Option<T>> {
    prop_oneof![2 => Just(None), 3 => value.prop_map(Some)]
}

fn draft() -> impl Strategy<Value = Draft> {
    let word = |words: &'static [&'static str]| maybe(prop::sample::select(words).prop_map(str::to_owned));
    let levels: Vec<&'static str> = Level::ALL.iter().map(|level| level.as_str()).collect();
    // Whoever builds records sets their type: the parser does.
    let types: Vec<&'static str> = RecordType::ALL.iter().map(|kind| kind.as_str()).collect();
    let texts = (
        word(&["spark", "glue", "Etl_1%"]),
        word(&["run-1", "run-2", "run-3"]),
        prop::sample::select(types).prop_map(|kind| Some(kind.to_owned())),
        maybe(prop::sample::select(levels).prop_map(str::to_owned)),
        word(&["a\"b", "HELLO 100%", "under_score", "back\\slash", "", "zürich\n", "' OR 1=1--"]),
        word(&["Hello", "title"]),
        word(&["[\"a\",\"b\"]", "[]", "[\"x\\\"y\"]"]),
        word(&[
            "{\"a\":1}",
            "{\"a\":\"x\",\"b\":[1,2]}",
            "{}",
            r#"{"a":"\u0078","b":{"c":1}}"#,
            r#"{"a":"100%","b.c":"1"}"#,
            r#"{"a":null,"x":"a"}"#,
        ]),
    );
    let numbers = (
        maybe(any::<u128>()),
        maybe(NOW - 50..NOW + 50),
        maybe(prop_oneof![Just(i64::MAX), 0..5_i64]),
        maybe((0..128_u32).prop_map(|part| f64::from(part) / 64.0)),
    );
    (texts, numbers).prop_map(|(texts, (id, timestamp, row_count, duration))| {
        let (source, run, kind, level, message, title, capabilities, metadata) = texts;
        let texts = [
            (Column::SourceSystem, source),
            (Column::RunId, run),
            (Column::Type, kind),
            (Column::Level, level),
            (Column::Message, message),
            (Column::Title, title),
            (Column::Capabilities, capabilities),
            (Column::Metadata, metadata),
        ];
        Draft {
            id,
            timestamp,
            texts: texts.into_iter().filter_map(|(column, text)| text.map(|text| (column, text))).collect(),
            row_count,
            duration,
        }
    })
}

/// Batches of all sizes, many of a single record.
pub(crate) fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let sizes = prop_oneof![3 => 1..3_usize, 2 => 3..40_usize, 1 => 40..300_usize];
    let drafts = sizes.prop_flat_map(|size| prop::collection::vec(draft(), size));
    prop::collection::vec(drafts, 1..30)
        .prop_map(|all| all.iter().enumerate().map(|(seed, drafts)| batch(drafts, seed as u64)).collect())
}
