//! One life of a server without threads: every part takes a step when it is told to.

use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use runstone_journal::fs::Fs;
use runstone_journal::fs::sim::SimFs;
use runstone_journal::{Env, Journal, OpenError, Options, Steps};
use runstone_record::DecodeError;
use runstone_store::lake::{Lake, LakeOptions, LakeSnapshot, LakeView};
use runstone_store::{Recent, RecentOptions, Sql, SqlLimits};
use tokio::runtime::Handle;

use super::dice::Dice;
use super::model::{Commit, Model, Writer};
use crate::clock::ManualClock;
use crate::intake::Intake;
use crate::lineage::Lineage;
use crate::metrics::IngestMetrics;
use crate::recent::{FromJournal, RecentConsumer};
use crate::relay::{Consumer, Loop, Step, Unavailable};
use crate::runs::{LakeRows, Runs, RunsConsumer};

const IDS_BYTES: usize = 1 << 20;
/// So little that records leave memory and are read back.
const RECENT_BYTES: usize = 24 << 10;

/// A real lake with nothing in it: the model has the records, and this one stands before queries.
#[derive(Debug, Clone)]
pub(super) struct Empty {
    lake: Lake,
    snapshot: Arc<LakeSnapshot>,
}

impl Empty {
    pub(super) async fn make(dir: &Path) -> Self {
        let options = LakeOptions::new(dir.to_str().unwrap(), "simulation", Arc::new(|| 0), Arc::new(|| 7));
        let lake = Lake::open(options).await.unwrap();
        let snapshot = lake.snapshot();
        Self { lake, snapshot }
    }
}

/// Folds as the server does; what was trimmed comes from the model.
#[derive(Debug)]
pub(super) struct ModelRuns {
    inner: RunsConsumer,
    runs: Runs,
    model: Model,
}

impl Consumer for ModelRuns {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn take(&mut self, first: u64, payload: &Bytes) -> Result<(), DecodeError> {
        self.inner.take(first, payload)
    }

    fn trimmed(&mut self, after: u64, through: u64) -> Result<(), Unavailable> {
        for (first, batch) in self.model.between(after, through) {
            self.runs.add(first, &batch);
        }
        Ok(())
    }

    fn stop(&mut self, through: u64) {
        self.inner.stop(through);
    }
}

/// The parts of a running server.
pub(super) struct Life {
    pub(super) journal: Arc<Journal>,
    pub(super) writer: Steps,
    pub(super) intake: Intake,
    pub(super) recent: Arc<Recent>,
    pub(super) runs: Runs,
    pub(super) sql: Sql,
    pub(super) to_recent: Loop<RecentConsumer>,
    pub(super) to_runs: Loop<ModelRuns>,
    pub(super) to_model: Loop<Writer>,
    view: Arc<LakeView>,
    lineage: Lineage,
}

impl Life {
    pub(super) fn begin(
        fs: &SimFs,
        clock: &Arc<ManualClock>,
        dice: &mut Dice,
        model: &Model,
        empty: &Empty,
        runs_file: &Path,
    ) -> Result<Self, OpenError> {
        let drawn = dice.clone();
        let entropy = dice.roll();
        let told = Arc::clone(clock);
        let env = Env {
            clock: Arc::new(move || crate::clock::Clock::now_micros(&*told)),
            entropy: Arc::new(move |buffer: &mut [u8]| {
                buffer.chunks_mut(8).zip(entropy..).for_each(|(chunk, number)| {
                    chunk.copy_from_slice(&number.to_le_bytes()[..chunk.len()]);
                });
            }),
        };
        let mut options = Options::new("/journal");
        options.segment_bytes = 8 << 10;
        options.preallocate_bytes = 2 << 10;
        options.ring_bytes = 4 << 10;
        options.group_bytes = 4 << 10;
        options.queue_frames = 12;
        let fs: Arc<dyn Fs> = Arc::new(fs.clone());
        let (journal, writer, _) = Journal::open_stepwise(fs, env, options)?;
        let journal = Arc::new(journal);
        // As many random bits as the system gives: with fewer, ids of two lives in one millisecond may be the same.
        let drawn = Mutex::new(drawn);
        let entropy = Arc::new(move || {
            let mut drawn = drawn.lock().unwrap();
            (u128::from(drawn.roll()) << 64) | u128::from(drawn.roll())
        });
        let door = (Arc::clone(&journal), Arc::clone(clock) as Arc<dyn crate::clock::Clock>);
        let intake = Intake::new(door.0, door.1, entropy, IngestMetrics::default(), IDS_BYTES);
        crate::start::recall(&journal, &intake).unwrap();
        let lineage = Lineage::of(&journal);
        let view = Arc::new(LakeView::new(&empty.lake, &empty.snapshot));
        let cursor = model.cursor(&lineage);
        assert!(cursor <= journal.durable(), "the model has position {cursor} of {}", journal.durable());
        let recent = Arc::new(Recent::new(RecentOptions { bytes_max: RECENT_BYTES }));
        recent.settle(Arc::clone(&view), cursor);
        let rows = LakeRows::of(empty.lake.clone(), Arc::clone(&empty.snapshot), u64::MAX, Handle::current(), false);
        let path = runs_file.to_owned();
        let (runs, folder, after) = RunsConsumer::open(path, &lineage, journal.durable(), rows, Arc::default());
        let cursors = model.landed().cursors.clone();
        for (journal, there) in cursors {
            let owed = runs.fold_owed(&journal, there, |after, through, take| {
                model.between(after, through).iter().for_each(|(first, batch)| take(*first, batch));
                Ok::<_, Infallible>(true)
            });
            owed.unwrap_or_else(|never| match never {});
        }
        let older = Arc::new(FromJournal(Arc::clone(&journal)));
        let sql = Sql::new(Arc::clone(&recent), older, Arc::new(runs.clone()), SqlLimits::default()).unwrap();
        let folder = ModelRuns { inner: folder, runs: runs.clone(), model: model.clone() };
        let keeper = RecentConsumer { recent: Arc::clone(&recent), lineage: lineage.clone() };
        let to_recent = Loop::stepwise(journal.reader(cursor.max(lineage.oldest().first - 1)), keeper);
        let to_runs = Loop::stepwise(journal.reader(after), folder);
        let to_model = Loop::stepwise(journal.reader(cursor), Writer::new(model.clone(), lineage.clone()));
        Ok(Self { journal, writer, intake, recent, runs, sql, to_recent, to_runs, to_model, view, lineage })
    }

    /// Commits to the model; what is known to be there, queries read from there.
    pub(super) fn commit(&mut self, how: Commit) -> bool {
        let landed = self.to_model.consumer().commit(how);
        if landed {
            let cursor = self.landed();
            self.recent.settle(Arc::clone(&self.view), cursor);
        }
        landed
    }

    /// The last position that landed.
    pub(super) fn landed(&mut self) -> u64 {
        self.to_model.consumer().model.cursor(&self.lineage)
    }

    /// What the journal has and the model has not.
    pub(super) fn frames_after(&self, cursor: u64) -> Vec<(u64, runstone_record::Batch)> {
        let mut reader = self.journal.reader(cursor);
        std::iter::from_fn(|| reader.next().unwrap())
            .map(|frame| (frame.first, runstone_record::Batch::decode(&frame.payload).unwrap()))
            .collect()
    }

    /// Every reader takes what there is.
    pub(super) fn catch_up(&mut self) {
        fn all<C: Consumer>(of: &mut Loop<C>) {
            while of.step() == Step::Forward {}
        }
        all(&mut self.to_recent);
        all(&mut self.to_runs);
    }

    pub(super) fn save_runs(&mut self) {
        let through = self.to_runs.position();
        self.to_runs.consumer().stop(through);
    }
}
