//! What each run has come to, kept as records arrive: this server's from its journal, others' from the lake. Owns the
//! table of runs and its pages; refuses to judge a run: `record::run` does.

mod consumer;
mod lake;
mod left_out;
mod place;
mod saved;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use runstone_record::run::{RunFold, RunState};
use runstone_record::wire::RunBody;
use runstone_record::{Batch, Column};
use runstone_store::RunsSource;

pub(crate) use consumer::{RunsConsumer, restore, saved_through};
pub(crate) use lake::{LakeRows, RunsOfOthers};
pub(crate) use left_out::Own;
use place::Place;
use saved::Saved;

type Table = HashMap<String, RunFold>;

/// The table, and which records are in it: they change together.
#[derive(Debug)]
struct State {
    table: Table,
    place: Place,
    /// Runs that are being folded anew, with what came since that began.
    beside: Table,
}

/// The runs. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Runs {
    state: Arc<RwLock<State>>,
}

/// Which runs, and from where on.
#[derive(Debug, Default)]
pub(crate) struct RunsQuery {
    pub(crate) state: Option<RunState>,
    pub(crate) source_system: Option<String>,
    pub(crate) stage: Option<String>,
    /// Started at or after, in microseconds.
    pub(crate) since: Option<i64>,
    /// Started before.
    pub(crate) until: Option<i64>,
    pub(crate) limit: usize,
    /// The start and id of the last run of the page before.
    pub(crate) after: Option<(i64, String)>,
}

impl Runs {
    fn new(table: Table, place: Place) -> Self {
        Self { state: Arc::new(RwLock::new(State { table, place, beside: Table::new() })) }
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
        for row in 0..batch.len() {
            let Some(run_id) = batch.text(Column::RunId, row) else { continue };
            let position = first + row as u64;
            if let Some(beside) = state.beside.get_mut(run_id) {
                beside.add(batch, row, position);
            }
            match state.table.get_mut(run_id) {
                Some(fold) => fold.add(batch, row, position),
                None => state.table.entry(run_id.to_owned()).or_default().add(batch, row, position),
            }
        }
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

    /// From now on new records of these runs are folded beside them, too. What is in them is what this place says.
    fn begin_beside(&self, ids: &[String]) -> Place {
        let mut state = self.write();
        state.beside = ids.iter().map(|id| (id.clone(), RunFold::default())).collect();
        state.place.clone()
    }

    fn end_beside(&self) {
        self.write().beside = Table::new();
    }

    /// Puts these runs, folded anew, in place of what they were, with what came since.
    fn replace(&self, ids: &[String], mut anew: Table) {
        let mut state = self.write();
        for id in ids {
            let mut fold = anew.remove(id).unwrap_or_default();
            if let Some(since) = state.beside.remove(id) {
                fold.merge(&since);
            }
            if fold.records() == 0 {
                state.table.remove(id);
            } else {
                state.table.insert(id.clone(), fold);
            }
        }
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
        let runs = state.table.iter().map(|(id, fold)| (id.clone(), fold.clone())).collect();
        Saved { place: state.place.clone(), runs }
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.read().table.len()
    }

    /// One run.
    pub(crate) fn get(&self, run_id: &str) -> Option<RunBody> {
        self.read().table.get(run_id).map(|fold| fold.body(run_id))
    }

    /// A page of runs, the latest start first, and where the next begins.
    pub(crate) fn page(&self, query: &RunsQuery) -> (Vec<RunBody>, Option<(i64, String)>) {
        let state = self.read();
        let mut found: Vec<(&String, &RunFold)> =
            state.table.iter().filter(|(id, fold)| query.takes(id, fold)).collect();
        found.sort_unstable_by(|(one, a), (other, b)| b.started_at().cmp(&a.started_at()).then_with(|| one.cmp(other)));
        let more = found.len() > query.limit;
        found.truncate(query.limit);
        let next = found.last().filter(|_| more).map(|(id, fold)| (fold.started_at(), (*id).clone()));
        (found.iter().map(|(id, fold)| fold.body(id)).collect(), next)
    }
}

/// What SQL reads.
impl RunsSource for Runs {
    fn snapshot(&self) -> Vec<RunBody> {
        self.read().table.iter().map(|(run_id, fold)| fold.body(run_id)).collect()
    }
}

impl RunsQuery {
    fn takes(&self, run_id: &str, fold: &RunFold) -> bool {
        let start = fold.started_at();
        let behind = |(at, id): &(i64, String)| start < *at || (start == *at && run_id > id.as_str());
        self.state.is_none_or(|state| fold.state() == state)
            && self.source_system.as_deref().is_none_or(|wanted| fold.source_system() == Some(wanted))
            && self.stage.as_deref().is_none_or(|wanted| fold.stage() == Some(wanted))
            && self.since.is_none_or(|since| start >= since)
            && self.until.is_none_or(|until| start < until)
            && self.after.as_ref().is_none_or(behind)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use bytes::Bytes;
    use runstone_record::{IdMint, parse};
    use tokio::runtime::Runtime;

    use super::*;
    use crate::lineage::Lineage;
    use crate::relay::Consumer;

    /// A lake that was never reached.
    fn nowhere(runtime: &Runtime) -> LakeRows {
        LakeRows::new(Arc::default(), runtime.handle().clone(), false)
    }

    fn lineage(epochs: &[(u64, u64)]) -> Lineage {
        Lineage::made(uuid::Uuid::from_u128(1), epochs)
    }

    fn fill(path: PathBuf, runtime: &Runtime) -> (Runs, RunsConsumer) {
        let (runs, mut consumer, through) = RunsConsumer::open(path, &lineage(&[(1, 1)]), 9, nowhere(runtime));
        assert_eq!(through, 0);
        let body = br#"[
            {"run_id":"a","type":"start","timestamp":"2026-01-01T00:00:00Z","source_system":"x"},
            {"run_id":"b","type":"start","timestamp":"2026-01-02T00:00:00Z","source_system":"y"},
            {"run_id":"c","type":"start","timestamp":"2026-01-02T00:00:00Z","source_system":"x"},
            {"run_id":"a","type":"success","timestamp":"2026-01-03T00:00:00Z"},
            {"message":"of no run"}]"#;
        let batch = parse::json(body).unwrap().builder.stamp(&mut IdMint::new(1, 1), 1, None);
        consumer.take(1, &Bytes::from(batch.encode())).unwrap();
        (runs, consumer)
    }

    fn ids(bodies: &[RunBody]) -> Vec<&str> {
        bodies.iter().map(|body| body.run_id.as_str()).collect()
    }

    #[test]
    fn pages_walk_all_runs_once_latest_first() {
        let (directory, runtime) = (tempfile::tempdir().unwrap(), Runtime::new().unwrap());
        let (runs, _) = fill(directory.path().join("runs"), &runtime);
        let (mut query, mut walked) = (RunsQuery { limit: 1, ..RunsQuery::default() }, Vec::new());
        loop {
            let (page, next) = runs.page(&query);
            walked.extend(ids(&page).into_iter().map(str::to_owned));
            let Some(next) = next else { break };
            query.after = Some(next);
        }
        assert_eq!(walked, ["b", "c", "a"]);
        let only = RunsQuery {
            limit: 9,
            state: Some(RunState::Running),
            source_system: Some("x".into()),
            ..RunsQuery::default()
        };
        assert_eq!(ids(&runs.page(&only).0), ["c"]);
    }

    #[test]
    fn the_table_comes_back_and_a_damaged_or_foreign_one_is_rebuilt() {
        let (directory, runtime) = (tempfile::tempdir().unwrap(), Runtime::new().unwrap());
        let path = directory.path().join("runs");
        let (runs, mut consumer) = fill(path.clone(), &runtime);
        consumer.stop(5);
        let open = |lineage: &Lineage, durable| {
            let (runs, _, through) = RunsConsumer::open(path.clone(), lineage, durable, nowhere(&runtime));
            (runs.snapshot().len(), through)
        };
        assert_eq!(open(&lineage(&[(1, 1)]), 5), (3, 5));
        assert_eq!(open(&lineage(&[(1, 1), (2, 6)]), 5), (3, 5), "a copy of the directory");
        assert_eq!(open(&lineage(&[(2, 1)]), 5), (0, 0), "another journal's positions mean nothing here");
        assert_eq!(open(&lineage(&[(1, 1)]), 4), (0, 0), "a table ahead of its journal is not believed");
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(open(&lineage(&[(1, 1)]), 5), (0, 0));
        assert_eq!(runs.get("a").map(|run| run.state), Some("succeeded".to_owned()));
    }
}
