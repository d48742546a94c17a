//! The runs as pages and metrics look at them, kept as they change: what counts of each, in the order of their starts.
//! Owns that each run stands there once, as it is now; refuses to know questions: `pages.rs` and `metrics.rs` ask them.
//!
//! They lie side by side in chunks of some hundreds, so that hundreds of thousands are walked in a few milliseconds: sums by
//! hour beside them would be faster only for those windows and buckets that they happen to fit.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use runstone_record::run::{RunFold, RunState};

/// Runs of a chunk; with one more it becomes two.
const CHUNK_RUNS: usize = 512;

/// Where runs come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Pipeline {
    pub(super) source_system: Option<Arc<str>>,
    pub(super) stage: Option<Arc<str>>,
}

/// A run in brief.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Brief {
    /// When it started, in microseconds.
    pub(super) at: i64,
    pub(super) id: Arc<str>,
    /// Its place in [`Rollup::pipelines`].
    pub(super) pipeline: u32,
    pub(super) state: RunState,
    /// In microseconds.
    pub(super) duration: u64,
    pub(super) records: u64,
    pub(super) warnings: u64,
    pub(super) errors: u64,
    pub(super) row_count: Option<i64>,
}

/// What orders runs: the start; at one time the greater id is the earlier.
pub(super) type Key<'a> = (i64, Reverse<&'a str>);

impl Brief {
    pub(super) fn key(&self) -> Key<'_> {
        (self.at, Reverse(&self.id))
    }
}

/// The runs.
#[derive(Debug, Default)]
pub(super) struct Rollup {
    /// The earliest first; none of them is empty.
    chunks: Vec<Vec<Brief>>,
    pub(super) pipelines: Vec<Pipeline>,
    places: HashMap<Pipeline, u32>,
}

/// A chunk, and a run's place in it.
type Place = (usize, usize);

impl Rollup {
    /// Keeps a run as it stands now; `was` is the start under which it was kept before. None: there is no such run any more.
    /// The start under which it is kept now.
    pub(super) fn update(&mut self, run_id: &Arc<str>, was: Option<i64>, now: Option<&RunFold>) -> Option<i64> {
        let before = was.and_then(|at| self.remove((at, Reverse(run_id))));
        let fold = now?;
        let at = fold.started_at();
        let pipeline = self.pipeline(before.map(|before| before.pipeline), fold);
        self.insert(Brief {
            at,
            id: Arc::clone(run_id),
            pipeline,
            state: fold.state(),
            duration: fold.duration_micros(),
            records: fold.records(),
            warnings: fold.warnings(),
            errors: fold.errors(),
            row_count: fold.row_count(),
        });
        Some(at)
    }

    fn insert(&mut self, run: Brief) {
        let (mut place, mut within) = self.seek(|other| other.key() < run.key());
        // What comes after all others fills the last chunk, and then begins one.
        let is_last = place == self.chunks.len();
        if is_last && let Some(last) = self.chunks.last() {
            (place, within) = (place - 1, last.len());
        }
        let Some(chunk) = self.chunks.get_mut(place) else { return self.chunks.push(vec![run]) };
        if chunk.len() < CHUNK_RUNS {
            return chunk.insert(within, run);
        }
        let middle = if is_last { within } else { CHUNK_RUNS / 2 };
        let mut rest = chunk.split_off(middle);
        match within.checked_sub(middle) {
            Some(within) => rest.insert(within, run),
            None => chunk.insert(within, run),
        }
        self.chunks.insert(place + 1, rest);
    }

    fn remove(&mut self, key: Key<'_>) -> Option<Brief> {
        let (place, within) = self.seek(|other| other.key() < key);
        let chunk = self.chunks.get_mut(place)?;
        chunk.get(within).filter(|found| found.key() == key)?;
        let removed = chunk.remove(within);
        if chunk.is_empty() {
            self.chunks.remove(place);
        }
        Some(removed)
    }

    /// The place of the first run that is not before a point in the order.
    fn seek(&self, is_before: impl Fn(&Brief) -> bool) -> Place {
        let chunk = self.chunks.partition_point(|chunk| chunk.last().is_some_and(&is_before));
        (chunk, self.chunks.get(chunk).map_or(0, |chunk| chunk.partition_point(&is_before)))
    }

    /// The place of a run's pipeline, which is mostly the one that it had before.
    fn pipeline(&mut self, before: Option<u32>, fold: &RunFold) -> u32 {
        let same = |pipeline: &Pipeline| {
            pipeline.source_system.as_deref() == fold.source_system() && pipeline.stage.as_deref() == fold.stage()
        };
        if let Some(place) = before
            && self.pipelines.get(place as usize).is_some_and(same)
        {
            return place;
        }
        let pipeline =
            Pipeline { source_system: fold.source_system().map(Arc::from), stage: fold.stage().map(Arc::from) };
        if let Some(place) = self.places.get(&pipeline) {
            return *place;
        }
        let place = u32::try_from(self.pipelines.len()).unwrap_or(u32::MAX);
        self.pipelines.push(pipeline.clone());
        self.places.insert(pipeline, place);
        place
    }

    /// Runs that started at or after `since` and before `until`, the earliest first, in neighbouring parts.
    pub(super) fn parts(&self, since: Option<i64>, until: Option<i64>) -> impl DoubleEndedIterator<Item = &[Brief]> {
        self.parts_between(self.start(since), self.end(until))
    }

    /// The same one by one, and only those after a place in the order, or before one.
    pub(super) fn between(
        &self,
        (since, until): (Option<i64>, Option<i64>),
        after: Option<Key<'_>>,
        before: Option<Key<'_>>,
    ) -> impl DoubleEndedIterator<Item = &Brief> {
        let from = after.map(|key| self.seek(|run| run.key() <= key));
        let to = before.map(|key| self.seek(|run| run.key() < key));
        let from = self.start(since).max(from.unwrap_or_default());
        let to = to.map_or_else(|| self.end(until), |to| to.min(self.end(until)));
        self.parts_between(from, to).flatten()
    }

    fn start(&self, since: Option<i64>) -> Place {
        since.map_or((0, 0), |since| self.seek(|run| run.at < since))
    }

    fn end(&self, until: Option<i64>) -> Place {
        until.map_or((self.chunks.len(), 0), |until| self.seek(|run| run.at < until))
    }

    fn parts_between(&self, from: Place, to: Place) -> impl DoubleEndedIterator<Item = &[Brief]> {
        (from.0..=to.0).map(move |place| {
            let chunk = self.chunks.get(place).map_or(&[][..], Vec::as_slice);
            let first = if place == from.0 { from.1 } else { 0 };
            let end = if place == to.0 { to.1 } else { chunk.len() };
            chunk.get(first..end).unwrap_or_default()
        })
    }

    #[cfg(test)]
    pub(super) fn check(&self) -> usize {
        let runs: Vec<&Brief> = self.chunks.iter().flatten().collect();
        assert!(runs.is_sorted_by(|one, other| one.key() < other.key()), "in order, each once");
        assert!(self.chunks.iter().all(|chunk| (1..=CHUNK_RUNS).contains(&chunk.len())));
        runs.len()
    }
}
