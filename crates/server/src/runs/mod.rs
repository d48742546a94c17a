//! What each run has come to, kept as records arrive: this server's from its journal, others' from the lake. Owns the
//! table of runs; refuses to judge a run: `record::run` does.

mod consumer;
mod lake;
mod left_out;
mod metrics;
#[cfg(test)]
mod model;
mod pages;
mod place;
mod rollup;
mod saved;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use runstone_record::run::RunFold;
use runstone_record::wire::RunBody;
use runstone_record::{Batch, Column};
use runstone_store::{RunsSource, SourceRow};

pub(crate) use consumer::{RunsConsumer, restore, saved_through};
pub(crate) use lake::{LakeRows, RunsOfOthers};
use left_out::LeftOut;
pub(crate) use left_out::Own;
pub(crate) use metrics::{Bucket, Group, GroupBy, MetricsQuery, TooManyGroups};
pub(crate) use pages::{Contains, RunFilter, RunPlace, RunsOrder, RunsQuery};
use place::Place;
use rollup::Rollup;
use saved::Saved;

use crate::sources::SourceSystems;

/// Runs by id.
type Folds = HashMap<String, RunFold>;

/// A run, and how it is counted.
#[derive(Debug)]
struct Kept {
    id: Arc<str>,
    fold: RunFold,
    /// The start under which the rollup has it.
    counted: Option<i64>,
    /// Has it changed since?
    is_changed: bool,
}

impl Kept {
    fn new(run_id: &str) -> Self {
        Self { id: Arc::from(run_id), fold: RunFold::default(), counted: None, is_changed: false }
    }
}

/// The table, what it adds up to, and which records are in it: they change together.
#[derive(Debug)]
struct State {
    table: HashMap<Arc<str>, Kept>,
    rollup: Rollup,
    place: Place,
    /// Runs that are being folded anew, with what came since that began.
    beside: Folds,
}

impl State {
    /// Puts a run, as it is now, in place of what it was.
    fn put(&mut self, run_id: &str, fold: RunFold) {
        let mut kept = self.table.remove(run_id).unwrap_or_else(|| Kept::new(run_id));
        kept.fold = fold;
        kept.counted = self.rollup.update(&kept.id, kept.counted, Some(&kept.fold));
        self.table.insert(Arc::clone(&kept.id), kept);
    }

    fn remove(&mut self, run_id: &str) {
        if let Some(kept) = self.table.remove(run_id) {
            self.rollup.update(&kept.id, kept.counted, None);
        }
    }

    /// Adds a batch's records; each run is counted anew once.
    fn add(&mut self, first: u64, batch: &Batch) {
        let Self { table, rollup, beside, .. } = self;
        let mut changed = Vec::new();
        for row in 0..batch.len() {
            let Some(run_id) = batch.text(Column::RunId, row) else { continue };
            let position = first + row as u64;
            if let Some(beside) = beside.get_mut(run_id) {
                beside.add(batch, row, position);
            }
            let mut add = |kept: &mut Kept| {
                kept.fold.add(batch, row, position);
                if !kept.is_changed {
                    kept.is_changed = true;
                    changed.push(run_id);
                }
            };
            match table.get_mut(run_id) {
                Some(kept) => add(kept),
                None => {
                    let mut kept = Kept::new(run_id);
                    add(&mut kept);
                    table.insert(Arc::clone(&kept.id), kept);
                }
            }
        }
        for run_id in changed {
            if let Some(kept) = table.get_mut(run_id) {
                kept.counted = rollup.update(&kept.id, kept.counted, Some(&kept.fold));
                kept.is_changed = false;
            }
        }
    }
}

/// The runs. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Runs {
    state: Arc<RwLock<State>>,
    sources: Arc<SourceSystems>,
}

impl Runs {
    fn new(folds: impl IntoIterator<Item = (String, RunFold)>, place: Place, sources: Arc<SourceSystems>) -> Self {
        let (table, rollup) = (HashMap::new(), Rollup::default());
        let mut state = State { table, rollup, place, beside: Folds::new() };
        for (id, fold) in folds {
            state.put(&id, fold);
        }
        Self { state: Arc::new(RwLock::new(state)), sources }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds records, each for the first time, and notes in the same moment that they are there.
    fn fold(&self, first: u64, batch: &Batch, note: impl FnOnce(&mut Place)) {
        let mut state = self.write();
        state.add(first, batch);
        note(&mut state.place);
    }

    /// Notes that there is nothing more to add somewhere.
    fn note(&self, note: impl FnOnce(&mut Place)) {
        note(&mut self.write().place);
    }

    /// What of this directory's positions, of which the lake has those through `there`, has still to be compared with it.
    fn unsettled(&self, there: u64) -> (u64, u64) {
        let place = &self.read().place;
        (place.settled(), there.min(place.through()))
    }

    /// From now on new records of these runs are folded beside them, too. What is in them is what this place says; and each
    /// has so many records at least without those that were left out.
    fn begin_beside(&self, affected: &[LeftOut]) -> (Place, Vec<(String, u64)>) {
        let mut state = self.write();
        state.beside = affected.iter().map(|(id, _)| (id.clone(), RunFold::default())).collect();
        let records = |id: &String| state.table.get(id.as_str()).map_or(0, |kept| kept.fold.records());
        let least = affected.iter().map(|(id, left_out)| (id.clone(), records(id).saturating_sub(*left_out))).collect();
        (state.place.clone(), least)
    }

    fn end_beside(&self) {
        self.write().beside = Folds::new();
    }

    /// Puts these runs, folded anew, in place of what they were, with what came since. One that has fewer records than it must
    /// have lost what it cannot get back: it stays as it was. How many did.
    fn replace(&self, least: &[(String, u64)], mut anew: Folds) -> usize {
        let mut state = self.write();
        let mut kept = 0;
        for (id, least) in least {
            let mut fold = anew.remove(id).unwrap_or_default();
            if fold.records() < *least {
                kept += 1;
                continue;
            }
            if let Some(since) = state.beside.remove(id) {
                fold.merge(&since);
            }
            if fold.records() == 0 {
                state.remove(id);
            } else {
                state.put(id, fold);
            }
        }
        kept
    }

    /// Adds records of this directory's journal.
    pub(crate) fn add(&self, first: u64, batch: &Batch) {
        self.fold(first, batch, |place| place.advance(first + batch.len() as u64 - 1));
    }

    /// The last position of this directory's journal that is folded in.
    pub(crate) fn through(&self) -> u64 {
        self.read().place.through()
    }

    /// All of it, as of one moment.
    fn saved(&self) -> Saved {
        let state = self.read();
        let runs = state.table.iter().map(|(id, kept)| (id.to_string(), kept.fold.clone())).collect();
        Saved { place: state.place.clone(), runs }
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.read().table.len()
    }

    /// One run.
    pub(crate) fn get(&self, run_id: &str) -> Option<RunBody> {
        let run = self.read().table.get(run_id).map(|kept| kept.fold.body(run_id));
        run.map(|run| self.sources.enrich(run))
    }

    /// What the configuration says of source systems.
    pub(crate) fn sources(&self) -> &SourceSystems {
        &self.sources
    }
}

/// What SQL reads.
impl RunsSource for Runs {
    fn snapshot(&self) -> Vec<RunBody> {
        self.read().table.iter().map(|(id, kept)| self.sources.enrich(kept.fold.body(id))).collect()
    }

    fn sources(&self) -> Vec<SourceRow> {
        self.sources.rows()
    }
}
