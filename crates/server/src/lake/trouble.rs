//! What the lake's thread does when something fails: whether that passes by itself, who has to act, how long to wait,
//! and which record is to blame. Owns these decisions; refuses to give up a record that was not kept elsewhere.

use std::time::Duration;

use runstone_journal::ReadError;
use runstone_record::Batch;
use runstone_store::lake::{Lake, LakeError};

use super::consumer::{Consumer, REFRESH};
use super::course::{self, Astray, CourseError};
use super::refused;
use super::status::LakeHealth;

/// After a failure that passes by itself: the first pause, and the longest.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// After one that does not.
const PAUSE_LONG: Duration = Duration::from_secs(60);
/// After so many failures in a row the lake is opened anew: what it remembers may be what is wrong.
const REOPEN: u32 = 8;
/// Why it does not go on for now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Lake(#[from] LakeError),
    #[error(transparent)]
    Astray(#[from] Astray),
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// The time to stop is over.
    #[error("stop")]
    Late,
}

impl From<CourseError> for Trouble {
    fn from(error: CourseError) -> Self {
        match error {
            CourseError::Astray(astray) => Trouble::Astray(astray),
            CourseError::Lake(error) => Trouble::Lake(error),
        }
    }
}

impl Consumer {
    /// Everything works.
    pub(super) fn well(&mut self) {
        if self.parts.status.set(LakeHealth::Ready, None) && self.failures > 0 {
            tracing::info!("the lake takes records again");
        }
        self.failures = 0;
    }

    /// Says what is wrong, and waits as long as that takes.
    pub(super) fn suffer(&mut self, trouble: &Trouble) {
        self.failures += 1;
        self.parts.metrics.failures.inc();
        if self.parts.lake.is_unsynced() && !matches!(trouble, Trouble::Late) {
            // What is read back may be gone after a power cut, and the journal must not forget it on the word of that.
            self.clear();
            self.tell(LakeHealth::Failed, trouble);
            while !self.parts.control.wait_stop(PAUSE_LONG) {}
            self.parts.control.abandon();
            return;
        }
        match trouble {
            Trouble::Late => {}
            Trouble::Lake(LakeError::Conflict(_)) => {
                tracing::info!(error = %chain(trouble), "another writer was faster: look again how far the lake has come");
                self.course = None;
                if self.failures > 3 {
                    self.wait(LakeHealth::Degraded, trouble, self.backoff());
                }
            }
            Trouble::Lake(LakeError::Storage { .. }) | Trouble::Journal(_) => {
                if self.failures.is_multiple_of(REOPEN) {
                    (self.lake, self.course) = (None, None);
                    self.clear();
                }
                self.wait(LakeHealth::Degraded, trouble, self.backoff());
            }
            Trouble::Lake(LakeError::Unwritable(reason)) if self.frames > 0 => self.blame(reason),
            Trouble::Lake(error) => {
                if let LakeError::Location(reason) = error {
                    self.parts.control.looked(Err(reason.clone()));
                }
                (self.lake, self.course) = (None, None);
                self.clear();
                self.tell(LakeHealth::Paused, trouble);
                self.show_unwritten();
                self.parts.control.pause(PAUSE_LONG);
            }
            Trouble::Astray(Astray::Missing { .. }) => {
                self.course = None;
                self.wait(LakeHealth::Failed, trouble, PAUSE_LONG);
            }
            // What is taken meanwhile could make the directory look as long as the lake: only a person can tell.
            Trouble::Astray(Astray::Ahead { from, .. }) => {
                self.clear();
                self.tell(LakeHealth::Failed, trouble);
                while !self.parts.control.wait_stop(REFRESH) {
                    self.keep_showing(from - 1);
                }
                self.parts.control.abandon();
            }
        }
    }

    /// Others go on merging and deleting files: queries must not be left with a snapshot whose files are gone.
    fn keep_showing(&mut self, through: u64) {
        let shown = self.lake().cloned().and_then(|lake| {
            let snapshot = self.block_on(lake.refresh())??;
            if self.shown == Some(snapshot.version) { Ok(()) } else { self.settle(&lake, &snapshot, through) }
        });
        if let Err(error) = shown {
            tracing::warn!(error = %chain(&error), "read the lake while nothing is brought there: trying again");
        }
    }

    /// A table that must not be written to may still be read.
    fn show_unwritten(&mut self) {
        let options = self.parts.lake.clone();
        let found = self.block_on(async {
            let lake = Lake::open_read_only(options).await?;
            let snapshot = lake.refresh().await?;
            let course = course::find(&lake, &snapshot, &self.lineage, self.parts.accept_missing).await;
            Ok::<_, LakeError>((lake, snapshot, course))
        });
        let shown = found.and_then(|found| {
            let (lake, snapshot, course) = found?;
            let course = course?;
            // Nothing may leave the journal on the word of a table that another copy of this directory wrote.
            self.check_twin(&lake, &snapshot, course)?;
            self.settle(&lake, &snapshot, course.through)
        });
        if let Err(error) = shown {
            tracing::debug!(error = %chain(&error), "the lake cannot be read either");
        }
    }

    fn tell(&self, health: LakeHealth, trouble: &Trouble) {
        let (reason, state) = (chain(trouble), health.as_str());
        match health {
            LakeHealth::Opening | LakeHealth::Ready => {}
            LakeHealth::Degraded => tracing::warn!(error = %reason, state, "records wait in the journal for the lake"),
            LakeHealth::Paused | LakeHealth::Failed => {
                tracing::error!(error = %reason, state, "records wait in the journal for the lake");
            }
        }
        self.parts.status.set(health, Some(reason));
        self.parts.control.looked(Ok(()));
    }

    fn wait(&mut self, health: LakeHealth, trouble: &Trouble, pause: Duration) {
        self.tell(health, trouble);
        self.parts.control.pause(pause);
    }

    /// Longer each time, and never the same for two servers.
    fn backoff(&self) -> Duration {
        let longest = PAUSE.saturating_mul(1 << self.failures.min(10)).min(PAUSE_MAX);
        let random = u32::try_from((self.parts.entropy)() % 1_000).unwrap_or(0);
        longest / 2 + longest / 2 * random / 1_000
    }

    /// The lake could not be given what is pending, and trying again would end the same: finds the frame that is to
    /// blame by trying ever fewer, and gives that one up.
    fn blame(&mut self, reason: &str) {
        if self.frames > 1 {
            self.piece = Some((self.frames / 2).max(1));
            tracing::warn!(
                reason,
                frames = self.frames,
                "flush to the lake in smaller pieces: it did not take all at once"
            );
            self.course = None;
            return;
        }
        if let Some((first, last)) = self.pending {
            self.refuse(first, last, reason);
        }
    }

    fn refuse(&mut self, first: u64, last: u64, reason: &str) {
        let id = self.parts.journal.id_at(first);
        let mut reader = self.parts.journal.reader(first - 1);
        let kept = match reader.next() {
            Ok(Some(frame)) => Batch::decode(&frame.payload)
                .map_err(std::io::Error::other)
                .and_then(|batch| refused::keep(&self.parts.data, id, frame.first, &batch, reason)),
            Ok(None) => Err(std::io::Error::other("the frame has gone")),
            Err(error) => Err(std::io::Error::other(error)),
        };
        match kept {
            Ok(path) => {
                let file = path.display();
                tracing::error!(first, last, reason, %file, "keep records out of the lake: it cannot take them");
                self.parts.metrics.refused.inc_by(last - first + 1);
                self.clear();
                self.pass(last);
            }
            Err(error) => {
                tracing::error!(first, last, reason, %error, "keep records that the lake cannot take: trying again");
                self.parts.control.pause(PAUSE_MAX);
            }
        }
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
