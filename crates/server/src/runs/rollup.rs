//! The runs as pages and metrics look at them, kept as they change: what counts of each, in the order of their starts, and what
//! neighbours add up to. Owns that each run stands there once, as it is now; refuses to know questions: `pages.rs` and
//! `metrics.rs` ask them.
//!
//! They lie side by side in chunks of some hundreds, each with its sums: a question takes those of the chunks that lie whole in
//! its window and bucket, and walks the others. A chunk that somebody still reads is copied when it changes, so that a
//! question keeps what it looks at without keeping anybody from changing it.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use runstone_record::run::{RunFold, RunState};

use super::stamps::Stamps;
use super::totals::Parts;

/// Runs of a chunk; with one more it becomes two.
const CHUNK_RUNS: usize = 512;

/// Where runs come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Pipeline {
    pub(super) source_system: Option<Arc<str>>,
    pub(super) stage: Option<Arc<str>>,
}

/// A run in brief, and in full behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Brief {
    /// When it started, in microseconds.
    pub(super) at: i64,
    pub(super) id: Arc<str>,
    /// Its place in [`View::pipelines`].
    pub(super) pipeline: u32,
    pub(super) state: RunState,
    /// In microseconds.
    pub(super) duration: u64,
    pub(super) records: u64,
    pub(super) warnings: u64,
    pub(super) errors: u64,
    pub(super) row_count: Option<i64>,
    pub(super) stamps: Stamps,
    pub(super) fold: Arc<RunFold>,
}

/// What orders runs: the start; at one time the greater id is the earlier.
pub(super) type Key<'a> = (i64, Reverse<&'a str>);

impl Brief {
    pub(super) fn key(&self) -> Key<'_> {
        (self.at, Reverse(&self.id))
    }

    /// How long it took, if it ended.
    pub(super) fn ended(&self) -> Option<u64> {
        (self.state != RunState::Running).then_some(self.duration)
    }
}

/// Neighbours, and what they add up to.
#[derive(Debug, Clone, Default)]
struct Chunk {
    runs: Vec<Brief>,
    parts: Parts,
}

impl Chunk {
    fn of(runs: Vec<Brief>) -> Self {
        let parts = Parts::of(&runs);
        Self { runs, parts }
    }

    fn insert(&mut self, within: usize, run: Brief) {
        self.parts.add(&run);
        self.runs.insert(within, run);
    }
}

/// The runs of one moment. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    /// The earliest first; none of them is empty.
    chunks: Vec<Arc<Chunk>>,
    pub(super) pipelines: Arc<Vec<Pipeline>>,
}

/// A chunk, and a run's place in it.
type Place = (usize, usize);

/// Neighbours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch<'a> {
    pub(super) runs: &'a [Brief],
    /// What they add up to, where that is kept.
    pub(super) parts: Option<&'a Parts>,
}

impl View {
    /// The place of the first run that is not before a point in the order.
    fn seek(&self, is_before: impl Fn(&Brief) -> bool) -> Place {
        let chunk = self.chunks.partition_point(|chunk| chunk.runs.last().is_some_and(&is_before));
        (chunk, self.chunks.get(chunk).map_or(0, |chunk| chunk.runs.partition_point(&is_before)))
    }

    /// Runs that started at or after `since` and before `until`, the earliest first.
    pub(super) fn stretches(
        &self,
        since: Option<i64>,
        until: Option<i64>,
    ) -> impl DoubleEndedIterator<Item = Stretch<'_>> {
        self.stretches_between(self.start(since), self.end(until))
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
        self.stretches_between(from, to).flat_map(|stretch| stretch.runs)
    }

    /// All of them, the earliest first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Brief> {
        self.chunks.iter().flat_map(|chunk| &chunk.runs)
    }

    fn start(&self, since: Option<i64>) -> Place {
        since.map_or((0, 0), |since| self.seek(|run| run.at < since))
    }

    fn end(&self, until: Option<i64>) -> Place {
        until.map_or((self.chunks.len(), 0), |until| self.seek(|run| run.at < until))
    }

    fn stretches_between(&self, from: Place, to: Place) -> impl DoubleEndedIterator<Item = Stretch<'_>> {
        (from.0..=to.0).filter_map(move |place| {
            let chunk = self.chunks.get(place)?;
            let first = if place == from.0 { from.1 } else { 0 };
            let end = if place == to.0 { to.1 } else { chunk.runs.len() };
            let runs = chunk.runs.get(first..end)?;
            Some(Stretch { runs, parts: (runs.len() == chunk.runs.len()).then_some(&chunk.parts) })
        })
    }
}

/// The runs as they change.
#[derive(Debug, Default)]
pub(super) struct Rollup {
    view: View,
    places: HashMap<Pipeline, u32>,
}

impl Rollup {
    /// As it is now.
    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// Keeps a run as it stands now; `was` is the start under which it was kept before.
    pub(super) fn update(&mut self, run_id: &Arc<str>, was: Option<i64>, fold: &Arc<RunFold>, stamps: Stamps) {
        let before = was.and_then(|at| self.find((at, Reverse(run_id))));
        let known = before.and_then(|place| self.run(place)).map(|run| run.pipeline);
        let run = Brief {
            at: fold.started_at(),
            id: Arc::clone(run_id),
            pipeline: self.pipeline(known, fold),
            state: fold.state(),
            duration: fold.duration_micros(),
            records: fold.records(),
            warnings: fold.warnings(),
            errors: fold.errors(),
            row_count: fold.row_count(),
            stamps,
            fold: Arc::clone(fold),
        };
        match before {
            Some(place) if was == Some(run.at) => self.replace(place, run),
            Some(place) => {
                self.take(place);
                self.insert(run);
            }
            None => self.insert(run),
        }
    }

    pub(super) fn remove(&mut self, run_id: &Arc<str>, at: i64) {
        if let Some(place) = self.find((at, Reverse(run_id))) {
            self.take(place);
        }
    }

    fn find(&self, key: Key<'_>) -> Option<Place> {
        let place = self.view.seek(|other| other.key() < key);
        self.run(place).filter(|found| found.key() == key).map(|_| place)
    }

    fn run(&self, (place, within): Place) -> Option<&Brief> {
        self.view.chunks.get(place)?.runs.get(within)
    }

    fn replace(&mut self, (place, within): Place, run: Brief) {
        let Some(chunk) = self.view.chunks.get_mut(place) else { return };
        let chunk = Arc::make_mut(chunk);
        chunk.parts.add(&run);
        if let Some(before) = chunk.runs.get_mut(within) {
            chunk.parts.remove(&std::mem::replace(before, run));
        }
    }

    fn insert(&mut self, run: Brief) {
        let (mut place, mut within) = self.view.seek(|other| other.key() < run.key());
        let chunks = &mut self.view.chunks;
        // What comes after all others fills the last chunk, and then begins one.
        let is_last = place == chunks.len();
        if is_last && let Some(last) = chunks.last() {
            (place, within) = (place - 1, last.runs.len());
        }
        let Some(chunk) = chunks.get_mut(place).filter(|chunk| !is_last || chunk.runs.len() < CHUNK_RUNS) else {
            return chunks.push(Arc::new(Chunk::of(vec![run])));
        };
        let chunk = Arc::make_mut(chunk);
        if chunk.runs.len() < CHUNK_RUNS {
            return chunk.insert(within, run);
        }
        let rest = chunk.runs.split_off(CHUNK_RUNS / 2);
        let (mut one, mut other) = (Chunk::of(std::mem::take(&mut chunk.runs)), Chunk::of(rest));
        match within.checked_sub(CHUNK_RUNS / 2) {
            Some(within) => other.insert(within, run),
            None => one.insert(within, run),
        }
        *chunk = one;
        chunks.insert(place + 1, Arc::new(other));
    }

    fn take(&mut self, (place, within): Place) {
        let Some(chunk) = self.view.chunks.get_mut(place) else { return };
        let chunk = Arc::make_mut(chunk);
        chunk.parts.remove(&chunk.runs.remove(within));
        if chunk.runs.is_empty() {
            self.view.chunks.remove(place);
        }
    }

    /// The place of a run's pipeline, which is mostly the one that it had before.
    fn pipeline(&mut self, before: Option<u32>, fold: &RunFold) -> u32 {
        let same = |pipeline: &Pipeline| {
            pipeline.source_system.as_deref() == fold.source_system() && pipeline.stage.as_deref() == fold.stage()
        };
        if let Some(place) = before
            && self.view.pipelines.get(place as usize).is_some_and(same)
        {
            return place;
        }
        let pipeline =
            Pipeline { source_system: fold.source_system().map(Arc::from), stage: fold.stage().map(Arc::from) };
        if let Some(place) = self.places.get(&pipeline) {
            return *place;
        }
        let pipelines = Arc::make_mut(&mut self.view.pipelines);
        let place = u32::try_from(pipelines.len()).unwrap_or(u32::MAX);
        pipelines.push(pipeline.clone());
        self.places.insert(pipeline, place);
        place
    }

    #[cfg(test)]
    pub(super) fn check(&self) -> usize {
        let runs: Vec<&Brief> = self.view.all().collect();
        assert!(runs.is_sorted_by(|one, other| one.key() < other.key()), "in order, each once");
        for chunk in &self.view.chunks {
            assert!((1..=CHUNK_RUNS).contains(&chunk.runs.len()));
            assert_eq!(chunk.parts, Parts::of(&chunk.runs), "the sums are those of the runs");
        }
        runs.len()
    }
}
