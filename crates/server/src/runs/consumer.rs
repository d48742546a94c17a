//! Folds the journal into the table of runs and saves it now and then. Owns where that goes on after a start; refuses to
//! count a record twice, whatever was lost.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use runstone_record::{Batch, DecodeError, run};

use super::Runs;
use super::lake::LakeRows;
use super::place::Place;
use super::saved::{self, Saved};
use crate::lineage::Lineage;
use crate::relay::{Consumer, Unavailable};
use crate::sources::SourceSystems;

/// How old the saved table may become while records keep coming, and while none do.
const SAVE_BUSY: Duration = Duration::from_secs(60);
const SAVE_IDLE: Duration = Duration::from_secs(2);

/// The saved table, or an empty one where there is none to trust.
pub(crate) fn restore(path: &Path, lineage: &Lineage, durable: u64, sources: Arc<SourceSystems>) -> Runs {
    table(trusted(path, lineage, durable), lineage, sources)
}

/// The saved table, where it is there, whole, and of this journal as it is now.
fn trusted(path: &Path, lineage: &Lineage, durable: u64) -> Option<Saved> {
    let saved = saved::load(path).unwrap_or_else(|error| {
        tracing::warn!(%error, path = %path.display(), "rebuild the runs");
        None
    })?;
    if !saved.place.is_of(lineage, durable) {
        tracing::warn!(path = %path.display(), "rebuild the runs: what was saved is of another journal");
        return None;
    }
    Some(saved)
}

fn table(saved: Option<Saved>, lineage: &Lineage, sources: Arc<SourceSystems>) -> Runs {
    let (runs, mut place) =
        saved.map_or_else(|| (Vec::new(), Place::start(lineage)), |saved| (saved.runs, saved.place));
    place.follow(lineage);
    Runs::new(runs, place, sources)
}

/// How far the saved table goes. None: there is none.
pub(crate) fn saved_through(path: &Path) -> std::io::Result<Option<u64>> {
    Ok(saved::load(path)?.map(|saved| saved.place.through()))
}

/// Folds every frame into the table.
#[derive(Debug)]
pub(crate) struct RunsConsumer {
    runs: Runs,
    lake: LakeRows,
    path: PathBuf,
    saved_at: Instant,
    saved_place: Place,
}

impl RunsConsumer {
    /// Goes on from the saved table, and says after which position; from what journal and lake have where there is none
    /// to trust.
    pub(crate) fn open(
        path: PathBuf,
        lineage: &Lineage,
        durable: u64,
        lake: LakeRows,
        sources: Arc<SourceSystems>,
    ) -> (Runs, Self, u64) {
        let saved = trusted(&path, lineage, durable);
        if saved.is_none() {
            // As the journal grows again, a later start might take it for its own.
            saved::remove(&path);
        }
        let runs = table(saved, lineage, sources);
        let place = runs.read().place.clone();
        let after = place.through();
        let consumer = Self { runs: runs.clone(), lake, path, saved_at: Instant::now(), saved_place: place };
        (runs, consumer, after)
    }

    fn save(&mut self) {
        self.saved_at = Instant::now();
        if self.runs.read().place == self.saved_place {
            return;
        }
        let snapshot = self.runs.now();
        match saved::store(&self.path, &snapshot) {
            Ok(()) => self.saved_place = snapshot.place,
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
        let last = first + batch.len() as u64 - 1;
        self.runs.fold(first, &batch, |place| place.advance(last));
        if self.saved_at.elapsed() > SAVE_BUSY {
            self.save();
        }
        Ok(())
    }

    fn trimmed(&mut self, _after: u64, through: u64) -> Result<(), Unavailable> {
        self.lake.catch_up(&self.runs, through)
    }

    fn idle(&mut self, through: u64) {
        if self.saved_at.elapsed() > SAVE_IDLE {
            self.runs.note(|place| place.advance(through));
            self.save();
        }
    }

    fn stop(&mut self, through: u64) {
        self.runs.note(|place| place.advance(through));
        self.save();
    }
}
