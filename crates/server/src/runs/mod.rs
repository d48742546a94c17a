//! What each run has come to, kept as records arrive. Owns the table of runs, its consumer and its pages; refuses to
//! judge a run: `record::run` does.

mod saved;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use runstone_record::run::{self, RunFold, RunState};
use runstone_record::wire::RunBody;
use runstone_record::{Batch, Column, DecodeError};
use runstone_store::RunsSource;

use crate::relay::Consumer;

pub(crate) use saved::Saved;

/// How old the saved table may become while records keep coming, and while none do.
const SAVE_BUSY: Duration = Duration::from_secs(60);
const SAVE_IDLE: Duration = Duration::from_secs(2);

type Table = HashMap<String, RunFold>;

/// The runs. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Runs {
    table: Arc<RwLock<Table>>,
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
    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.read().len()
    }

    /// One run.
    pub(crate) fn get(&self, run_id: &str) -> Option<RunBody> {
        self.read().get(run_id).map(|fold| fold.body(run_id))
    }

    /// A page of runs, the latest start first, and where the next begins.
    pub(crate) fn page(&self, query: &RunsQuery) -> (Vec<RunBody>, Option<(i64, String)>) {
        let table = self.read();
        let mut found: Vec<(&String, &RunFold)> = table.iter().filter(|(id, fold)| query.takes(id, fold)).collect();
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
        self.read().iter().map(|(run_id, fold)| fold.body(run_id)).collect()
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

/// Folds every frame into the table and saves it now and then.
#[derive(Debug)]
pub(crate) struct RunsConsumer {
    runs: Runs,
    journal: String,
    path: PathBuf,
    saved_at: Instant,
    saved_through: u64,
}

impl RunsConsumer {
    /// Goes on from the saved table, and says after which position; from the beginning where there is none to trust.
    pub(crate) fn open(path: PathBuf, journal: String, durable: u64) -> (Runs, Self, u64) {
        let runs = Runs::default();
        let through = match saved::load(&path, &journal, durable) {
            Ok(Some(saved)) => {
                *runs.write() = saved.runs.into_iter().collect();
                saved.through
            }
            Ok(None) => 0,
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "rebuild the runs from the journal");
                0
            }
        };
        let consumer = Self { runs: runs.clone(), journal, path, saved_at: Instant::now(), saved_through: through };
        (runs, consumer, through)
    }

    fn save(&mut self, through: u64) {
        if through == self.saved_through {
            return;
        }
        let runs = self.runs.read().iter().map(|(id, fold)| (id.clone(), fold.clone())).collect();
        let saved = Saved { journal: self.journal.clone(), through, runs };
        self.saved_at = Instant::now();
        match saved::store(&self.path, &saved) {
            Ok(()) => self.saved_through = through,
            Err(error) => tracing::warn!(%error, path = %self.path.display(), "save the runs: trying again later"),
        }
    }
}

impl Consumer for RunsConsumer {
    fn name(&self) -> &'static str {
        "runs"
    }

    fn take(&mut self, first: u64, payload: &Bytes) -> Result<(), DecodeError> {
        let batch = Batch::decode_columns(payload, run::columns())?;
        let mut table = self.runs.write();
        for row in 0..batch.len() {
            let Some(run_id) = batch.text(Column::RunId, row) else { continue };
            let position = first + row as u64;
            match table.get_mut(run_id) {
                Some(fold) => fold.add(&batch, row, position),
                None => table.entry(run_id.to_owned()).or_default().add(&batch, row, position),
            }
        }
        drop(table);
        if self.saved_at.elapsed() > SAVE_BUSY {
            self.save(first + batch.len() as u64 - 1);
        }
        Ok(())
    }

    fn idle(&mut self, through: u64) {
        if self.saved_at.elapsed() > SAVE_IDLE {
            self.save(through);
        }
    }

    fn stop(&mut self, through: u64) {
        self.save(through);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runstone_record::{IdMint, parse};

    fn fill(path: PathBuf) -> (Runs, RunsConsumer) {
        let (runs, mut consumer, through) = RunsConsumer::open(path, "j/1".to_owned(), 9);
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
        let directory = tempfile::tempdir().unwrap();
        let (runs, _) = fill(directory.path().join("runs"));
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
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("runs");
        let (runs, mut consumer) = fill(path.clone());
        consumer.stop(5);
        let open = |journal: &str, durable| {
            let (runs, _, through) = RunsConsumer::open(path.clone(), journal.to_owned(), durable);
            (runs.snapshot().len(), through)
        };
        assert_eq!(open("j/1", 5), (3, 5));
        assert_eq!(open("j/2", 5), (0, 0), "another journal's positions mean nothing here");
        assert_eq!(open("j/1", 4), (0, 0), "a table ahead of its journal is not believed");
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(open("j/1", 5), (0, 0));
        assert_eq!(runs.get("a").map(|run| run.state), Some("succeeded".to_owned()));
    }
}
