//! A data directory without its server, or beside it: one moment of its journal, its lake and its runs, for the command
//! line. Owns finding a moment in which they fit together; refuses to change anything on disk.

mod inspect;
mod stream;
mod tables;
#[cfg(test)]
mod tests;
mod verify;

use std::sync::Arc;
use std::time::Duration;

use runstone_journal::{OpenError, ReadError, View};
use runstone_record::{Batch, DecodeError};
use runstone_store::lake::{Lake, LakeError, LakeSnapshot, LakeView};
use runstone_store::{
    Format, Frames, NoRuns, NothingOlder, Older, OlderError, QueryAnswer, QueryError, Question, Recent, RecentOptions,
    Sql, SqlLimits,
};
use tokio::runtime::Handle;

use crate::config::{Config, as_usize};
use crate::lake::{Course, CourseError, find_course, options};
use crate::lineage::Lineage;
use crate::runs::{LakeRows, Own, Runs, restore};
use crate::start::{World, sql_limits, tables as tables_of};

pub use inspect::Item;
pub use stream::OfflineStream;
pub use tables::{add_tables, parse_table, query_tables, stream_tables};
pub use verify::{Compared, LakeVerdict};

/// How often a directory that its server changes meanwhile is looked at again.
const LOOKS_MAX: usize = 10;

const DAY: i64 = 86_400_000_000;

/// Nobody else waits for the place of one who reads slowly.
const STALL_MAX: Duration = Duration::from_secs(365 * 86_400);

/// Why a directory cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] OpenError),
    /// A part of the journal cannot be read.
    #[error("read the journal")]
    Read(#[from] ReadError),
    /// A frame holds no records.
    #[error("decode the frame at position {first}")]
    Frame {
        /// Its first position.
        first: u64,
        /// Why.
        source: DecodeError,
    },
    /// The lake cannot be read.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// Journal and lake do not fit together.
    #[error("{0}")]
    Astray(String),
    /// The query engine did not start.
    #[error("start the query engine")]
    Sql(#[source] QueryError),
    /// The statement is refused, or fails.
    #[error(transparent)]
    Query(QueryError),
    /// What the lake could not take cannot be read.
    #[error("read the records that the lake refused")]
    Refused(#[source] std::io::Error),
    /// We failed.
    #[error("read the runs: {0}")]
    Runs(String),
}

/// The lake, as it was.
#[derive(Debug, Clone)]
struct Held {
    lake: Lake,
    snapshot: Arc<LakeSnapshot>,
    course: Course,
}

/// A data directory as it was in one moment.
#[derive(Debug)]
pub struct Offline {
    config: Config,
    view: View,
    lineage: Lineage,
    lake: Option<Held>,
    /// Records that arrived before this time, in microseconds, may have left the lake.
    kept_since: i64,
}

impl Offline {
    /// Looks at a directory and its lake.
    ///
    /// # Errors
    /// Either cannot be read, or the lake is not this directory's.
    pub async fn open(config: &Config, world: &World) -> Result<Self, OfflineError> {
        // The journal first: what a server flushes and trims after this, the lake has by the time it is looked at.
        let view = View::open(&world.fs, &config.data.join("journal"))?;
        let lineage = Lineage::of_view(&view);
        let lake = match Lake::open_read_only(options(config, world)).await {
            Ok(lake) => {
                let snapshot = lake.snapshot();
                let course = find_course(&lake, &snapshot, &lineage, false).await.map_err(|error| match error {
                    CourseError::Astray(astray) => OfflineError::Astray(astray.to_string()),
                    CourseError::Lake(error) => OfflineError::Lake(error),
                })?;
                Some(Held { lake, snapshot, course })
            }
            // Before the first start of a server with a lake.
            Err(LakeError::Location(_)) if config.lake_is_local() => None,
            Err(error) => return Err(error.into()),
        };
        let kept_since = match config.lake.retention_days {
            0 => i64::MIN,
            // Whole days leave, counted in the server's clock: one more day is no fault yet.
            days => world.clock.now_micros() - i64::try_from(days).unwrap_or(i64::MAX / DAY).saturating_mul(DAY) + DAY,
        };
        Ok(Self { config: config.clone(), view, lineage, lake, kept_since })
    }

    /// Answers a statement over the directory.
    ///
    /// # Errors
    /// Something of it cannot be read, or the statement is refused.
    pub async fn query(config: &Config, world: &World, question: &Question) -> Result<QueryAnswer, OfflineError> {
        Self::ask(config, world, async |sql| sql.query(question.clone()).await).await
    }

    /// The same in a format and without a cap of rows, as it is made.
    ///
    /// # Errors
    /// As [`Offline::query`], until the first rows were found; what fails later stands in the stream, and ends it.
    pub async fn stream(
        config: &Config,
        world: &World,
        question: &Question,
        format: Format,
    ) -> Result<OfflineStream, OfflineError> {
        Self::ask(config, world, async |sql| OfflineStream::begin(sql, question.clone(), format).await).await
    }

    async fn ask<T>(
        config: &Config,
        world: &World,
        ask: impl AsyncFn(Sql) -> Result<T, QueryError>,
    ) -> Result<T, OfflineError> {
        let mut looks = 0;
        loop {
            looks += 1;
            let offline = Self::open(config, world).await?;
            let first = offline.view.first_available();
            let answer = async { ask(offline.session().await?).await.map_err(OfflineError::Query) }.await;
            // A running server may trim what was about to be read.
            let is_moving =
                || View::open(&world.fs, &config.data.join("journal")).map(|now| now.first_available() > first);
            match answer {
                Err(_) if looks < LOOKS_MAX && is_moving()? => {}
                answer => return answer,
            }
        }
    }

    async fn session(self) -> Result<Sql, OfflineError> {
        let recent = Arc::new(Recent::new(RecentOptions { bytes_max: as_usize(self.config.recent.bytes_max) }));
        let mut through = 0;
        if let Some(held) = &self.lake {
            through = held.course.through;
            recent.settle(Arc::new(LakeView::new(&held.lake, &held.snapshot)), through);
        }
        self.frames(through.max(self.view.first_available() - 1), |journal, first, batch| {
            if let Err(error) = recent.push(journal, first, batch) {
                tracing::error!(%error, "skip a frame that recent records cannot take");
            }
        })?;
        let limits = limits(&self.config);
        let older = Arc::new(FromView(self.view.clone()));
        let runs = self.runs().await?;
        let tables = tables_of(&self.config).map_err(OfflineError::Astray)?;
        Sql::with_tables(recent, older, Arc::new(runs), tables, limits).map_err(OfflineError::Sql)
    }

    /// A session over the lake alone, whose answers have so many rows.
    fn lake_session(&self, held: &Held, rows_max: usize) -> Result<Sql, OfflineError> {
        let recent = Arc::new(Recent::new(RecentOptions::default()));
        recent.settle(Arc::new(LakeView::new(&held.lake, &held.snapshot)), self.view.last());
        let limits = SqlLimits { rows_max, ..sql_limits(&self.config) };
        Sql::new(recent, Arc::new(NothingOlder), Arc::new(NoRuns), limits).map_err(OfflineError::Sql)
    }

    /// Hands over the frames after a position, each with the name of its journal. Damaged ones are passed, and said.
    fn frames(&self, after: u64, take: impl FnMut(&str, u64, Batch)) -> Result<(), OfflineError> {
        self.frames_through(after, u64::MAX, take)
    }

    fn frames_through(
        &self,
        after: u64,
        through: u64,
        mut take: impl FnMut(&str, u64, Batch),
    ) -> Result<(), OfflineError> {
        for frame in self.view.frames(after) {
            match frame {
                Ok(frame) if frame.first > through => break,
                Ok(frame) => {
                    let batch = Batch::decode(&frame.payload)
                        .map_err(|source| OfflineError::Frame { first: frame.first, source })?;
                    take(&self.lineage.at(frame.first).journal, frame.first, batch);
                }
                Err(error @ ReadError::Quarantined { .. }) => tracing::error!(%error, "skip damaged records"),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The table of runs as a server would have it.
    async fn runs(&self) -> Result<Runs, OfflineError> {
        let path = self.config.data.join("runs");
        let runs = restore(&path, &self.lineage, self.view.last(), Arc::new(self.config.sources.clone()));
        let retires = self.config.lake.retention_days > 0;
        let rows = self
            .lake
            .clone()
            .map(|held| LakeRows::of(held.lake, held.snapshot, held.course.through, Handle::current(), retires));
        let through = self.view.first_available() - 1;
        if let Some((rows, behind)) = rows.clone().zip(Some(runs.clone())) {
            aside(move || rows.catch_up_all(&behind, through)).await?;
        }
        self.frames(runs.through().max(through), |_, first, batch| runs.add(first, &batch))?;
        if let Some((rows, behind)) = rows.zip(Some(runs.clone())) {
            let own = Own::View(self.view.clone());
            aside(move || rows.settle_all(&behind, &own)).await?;
        }
        Ok(runs)
    }
}

/// What a query may take: what the settings say, and as much time of its reader as that takes.
fn limits(config: &Config) -> SqlLimits {
    SqlLimits { export_stall: STALL_MAX, ..sql_limits(config) }
}

/// Runs work that waits for the lake where it may.
async fn aside(work: impl FnOnce() -> Result<(), LakeError> + Send + 'static) -> Result<(), OfflineError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(panic) => Err(OfflineError::Runs(panic.to_string())),
    }
}

/// Reads frames that did not fit into memory.
#[derive(Debug)]
struct FromView(View);

impl Older for FromView {
    fn frames(&self, first: u64, last: u64) -> Result<Frames, OlderError> {
        let frames = self.0.frames(first.saturating_sub(1));
        Ok(Box::new(
            frames
                .map(|frame| {
                    frame.map(|frame| (frame.first, frame.payload)).map_err(|error| OlderError(Box::new(error)))
                })
                .take_while(move |frame| frame.as_ref().map_or(true, |(start, _)| *start <= last)),
        ))
    }
}
