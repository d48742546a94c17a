//! What each run has come to, kept as records arrive: this server's from its journal, others' from the lake. Owns the
//! table of runs; refuses to judge a run: `record::run` does.

mod consumer;
mod lake;
#[cfg(test)]
mod lake_tests;
mod left_out;
mod metrics;
#[cfg(test)]
mod model;
mod pages;
mod place;
mod rollup;
mod saved;
mod stamps;
#[cfg(test)]
mod tests;
mod totals;
#[cfg(test)]
mod walks;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
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
#[cfg(test)]
pub(crate) use pages::Last;
pub(crate) use pages::{Contains, RunFilter, RunPlace, RunsOrder, RunsQuery};
use place::Place;
use rollup::{Rollup, View};
pub(crate) use stamps::Stamp;
use stamps::Stamps;

use crate::sources::SourceSystems;

/// Runs by id.
type Folds = HashMap<String, RunFold>;

/// A run, and how it is counted.
#[derive(Debug)]
struct Kept {
    id: Arc<str>,
    fold: Arc<RunFold>,
    stamps: Stamps,
    /// The start and the duration with which the rollup has it.
    counted: Option<(i64, u64)>,
    /// Has it changed since?
    is_changed: bool,
}

impl Kept {
    fn new(run_id: &str, stamps: Stamps) -> Self {
        Self { id: Arc::from(run_id), fold: Arc::default(), stamps, counted: None, is_changed: false }
    }

    /// Counts it as it is now. True: it moved, or was not counted before.
    fn count(&mut self, rollup: &mut Rollup, now: Stamp) -> bool {
        let (start, duration) = (self.fold.started_at(), self.fold.duration_micros());
        let moves = self.counted != Some((start, duration));
        if let Some((start_before, duration_before)) = self.counted {
            if start != start_before {
                self.stamps.start = now;
            }
            if (start, duration) != (start_before, duration_before) {
                self.stamps.length = now;
            }
        }
        rollup.update(&self.id, self.counted.map(|(start, _)| start), &self.fold, self.stamps);
        self.counted = Some((start, duration));
        self.is_changed = false;
        moves
    }
}

/// The table, what it adds up to, and which records are in it: they change together.
#[derive(Debug)]
struct State {
    table: HashMap<Arc<str>, Kept>,
    rollup: Rollup,
    place: Place,
    now: Stamp,
    /// Runs that are being folded anew, with what came since that began.
    beside: Folds,
}

impl State {
    /// Puts a run, as it is now, in place of what it was. True: it moved.
    fn put(&mut self, run_id: &str, fold: RunFold, stamps: Stamps) -> bool {
        let mut kept = self.table.remove(run_id).unwrap_or_else(|| Kept::new(run_id, stamps));
        kept.fold = Arc::new(fold);
        let moves = kept.count(&mut self.rollup, self.now);
        self.table.insert(Arc::clone(&kept.id), kept);
        moves
    }

    fn remove(&mut self, run_id: &str) {
        if let Some(kept) = self.table.remove(run_id)
            && let Some((start, _)) = kept.counted
        {
            self.rollup.remove(&kept.id, start);
        }
    }

    /// Adds a batch's records, whose positions are this directory's or another's; each run is counted anew once. True: one of
    /// them moved.
    fn add(&mut self, first: u64, batch: &Batch, is_own: bool) -> bool {
        let Self { table, rollup, beside, now, .. } = self;
        let now = *now;
        let mut changed = Vec::new();
        for row in 0..batch.len() {
            let Some(run_id) = batch.text(Column::RunId, row) else { continue };
            let position = first + row as u64;
            if let Some(beside) = beside.get_mut(run_id) {
                beside.add(batch, row, position);
            }
            let mut add = |kept: &mut Kept| {
                Arc::make_mut(&mut kept.fold).add(batch, row, position);
                if !kept.is_changed {
                    kept.is_changed = true;
                    changed.push(run_id);
                }
            };
            match table.get_mut(run_id) {
                Some(kept) => add(kept),
                None => {
                    let began = if is_own { Stamp(position, 0) } else { now };
                    let mut kept = Kept::new(run_id, Stamps { began, start: now, length: now });
                    add(&mut kept);
                    table.insert(Arc::clone(&kept.id), kept);
                }
            }
        }
        let mut moves = false;
        for run_id in changed {
            if let Some(kept) = table.get_mut(run_id) {
                moves |= kept.count(rollup, now);
            }
        }
        moves
    }

    /// A moment in which nothing moved is none: after a restart only the marks that moments left can say which was the last.
    fn forget_unless(&mut self, moved: bool, before: Stamp) {
        if !moved && self.now.0 == before.0 {
            self.now = before;
        }
    }
}

/// The runs of one moment, to be looked at for as long as it takes.
#[derive(Debug, Clone)]
struct Snapshot {
    view: View,
    place: Place,
    now: Stamp,
}

/// The runs. Clones share them. Whoever reads them for long takes a snapshot: the lock is for moments.
#[derive(Debug, Clone)]
pub(crate) struct Runs {
    state: Arc<RwLock<State>>,
    sources: Arc<SourceSystems>,
    /// How many there are, for those who must not wait for the lock.
    count: Arc<AtomicUsize>,
}

impl Runs {
    fn new(mut runs: Vec<(String, RunFold, Stamps)>, place: Place, sources: Arc<SourceSystems>) -> Self {
        // In this order each comes behind the others, and moves none of them.
        runs.sort_by(|(one, a, _), (other, b, _)| a.started_at().cmp(&b.started_at()).then_with(|| other.cmp(one)));
        let (table, rollup, now) = (HashMap::new(), Rollup::default(), Stamp(place.through(), 0));
        let mut state = State { table, rollup, place, now, beside: Folds::new() };
        for (id, fold, stamps) in runs {
            state.now = state.now.max(stamps.began).max(stamps.length);
            state.put(&id, fold, stamps);
        }
        let count = Arc::new(AtomicUsize::new(state.table.len()));
        Self { state: Arc::new(RwLock::new(state)), sources, count }
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
        let before = state.place.through();
        note(&mut state.place);
        let through = state.place.through();
        let moment = state.now;
        state.now = moment.next(through);
        // Only what comes from the journal of this directory moves its place there.
        let moved = state.add(first, batch, through > before);
        state.forget_unless(moved, moment);
        self.count.store(state.table.len(), Ordering::Relaxed);
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
        let moment = state.now;
        state.now = moment.next(0);
        let now = state.now;
        let (mut kept, mut moved) = (0, false);
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
                moved |= state.put(id, fold, Stamps { began: now, start: now, length: now });
            }
        }
        state.forget_unless(moved, moment);
        self.count.store(state.table.len(), Ordering::Relaxed);
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
    fn now(&self) -> Snapshot {
        let state = self.read();
        Snapshot { view: state.rollup.view().clone(), place: state.place.clone(), now: state.now }
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// One run.
    pub(crate) fn get(&self, run_id: &str) -> Option<RunBody> {
        let fold = Arc::clone(&self.read().table.get(run_id)?.fold);
        Some(self.sources.enrich(fold.body(run_id)))
    }

    /// What the configuration says of source systems.
    pub(crate) fn sources(&self) -> &SourceSystems {
        &self.sources
    }
}

/// What SQL reads.
impl RunsSource for Runs {
    fn snapshot(&self) -> Vec<RunBody> {
        self.now().view.all().map(|run| self.sources.enrich(run.fold.body(&run.id))).collect()
    }

    fn sources(&self) -> Vec<SourceRow> {
        self.sources.rows()
    }
}
