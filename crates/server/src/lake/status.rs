//! How the lake is doing: what `/ready` and `/metrics` tell of it. Owns the words; refuses to decide anything.

use std::sync::{Mutex, MutexGuard, PoisonError};

use runstone_store::lake::LakeSnapshot;

/// Whether records reach the lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LakeHealth {
    /// It was not reached yet.
    Opening,
    /// They do.
    Ready,
    /// They do not for now; it is tried again soon. Records wait in the journal.
    Degraded,
    /// They do not until a person changes the table or the settings; it is tried again every minute.
    Paused,
    /// They never will: a person has to say what is right, and start again.
    Failed,
}

impl LakeHealth {
    pub(crate) const ALL: [LakeHealth; 5] =
        [LakeHealth::Opening, LakeHealth::Ready, LakeHealth::Degraded, LakeHealth::Paused, LakeHealth::Failed];

    /// The word in answers.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            LakeHealth::Opening => "opening",
            LakeHealth::Ready => "ready",
            LakeHealth::Degraded => "degraded",
            LakeHealth::Paused => "paused",
            LakeHealth::Failed => "failed",
        }
    }
}

/// What is known of the lake.
#[derive(Debug, Clone)]
pub(crate) struct LakeReport {
    pub(crate) health: LakeHealth,
    /// Why it is not ready.
    pub(crate) reason: Option<String>,
    /// Up to where this directory's records are in it.
    pub(crate) through: u64,
    /// The arrival, in microseconds, of the oldest record that waits in memory for the next flush.
    pub(crate) oldest: Option<i64>,
    pub(crate) version: u64,
    pub(crate) files: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

/// The report, shared.
#[derive(Debug)]
pub(crate) struct LakeStatus(Mutex<LakeReport>);

impl LakeStatus {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(LakeReport {
            health: LakeHealth::Opening,
            reason: None,
            through: 0,
            oldest: None,
            version: 0,
            files: 0,
            rows: 0,
            bytes: 0,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, LakeReport> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn report(&self) -> LakeReport {
        self.lock().clone()
    }

    /// Says how it is. True: it was another way before.
    pub(crate) fn set(&self, health: LakeHealth, reason: Option<String>) -> bool {
        let mut report = self.lock();
        let changed = report.health != health;
        (report.health, report.reason) = (health, reason);
        changed
    }

    /// Says what the table holds, and up to where.
    pub(crate) fn saw(&self, snapshot: &LakeSnapshot, through: u64) {
        let (rows, bytes) = (snapshot.rows(), snapshot.bytes());
        let mut report = self.lock();
        (report.version, report.files) = (snapshot.version, snapshot.files.len() as u64);
        (report.rows, report.bytes) = (rows, bytes);
        report.through = report.through.max(through);
    }

    pub(crate) fn waits_since(&self, oldest: Option<i64>) {
        self.lock().oldest = oldest;
    }
}
