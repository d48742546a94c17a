//! How a sink is doing: what `/ready` and `/metrics` tell of it. Owns the words; refuses to decide anything.

use std::sync::{Mutex, MutexGuard, PoisonError};

use runstone_record::limits::SINK_REASON_BYTES_MAX;

/// Whether records reach a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SinkHealth {
    /// It was not reached yet.
    Opening,
    /// They do.
    Ready,
    /// They do not for now; it is tried again soon. Records wait in the journal, and later in the lake.
    Degraded,
    /// They do not until a person changes the target or the settings; it is tried again every minute.
    Paused,
    /// They never will: the target has what this directory has not.
    Failed,
}

impl SinkHealth {
    pub(crate) const ALL: [SinkHealth; 5] =
        [SinkHealth::Opening, SinkHealth::Ready, SinkHealth::Degraded, SinkHealth::Paused, SinkHealth::Failed];

    /// The word in answers.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            SinkHealth::Opening => "opening",
            SinkHealth::Ready => "ready",
            SinkHealth::Degraded => "degraded",
            SinkHealth::Paused => "paused",
            SinkHealth::Failed => "failed",
        }
    }
}

/// A reason as answers show it: of a long one the beginning, for a target words it.
pub(crate) fn shown(mut reason: String) -> String {
    if reason.len() > SINK_REASON_BYTES_MAX {
        reason.truncate(reason.floor_char_boundary(SINK_REASON_BYTES_MAX));
        reason.push_str(" …");
    }
    reason
}

/// What is known of a sink.
#[derive(Debug, Clone)]
pub(crate) struct SinkReport {
    pub(crate) health: SinkHealth,
    /// Why it is not ready.
    pub(crate) reason: Option<String>,
    /// This directory's positions up to here are in the target.
    pub(crate) through: u64,
    /// The arrival, in microseconds, of the oldest record that waits for the target.
    pub(crate) oldest: Option<i64>,
}

/// The report, shared.
#[derive(Debug)]
pub(crate) struct SinkStatus {
    name: &'static str,
    report: Mutex<SinkReport>,
}

impl SinkStatus {
    pub(crate) fn new(name: &'static str) -> Self {
        let report = SinkReport { health: SinkHealth::Opening, reason: None, through: 0, oldest: None };
        Self { name, report: Mutex::new(report) }
    }

    fn lock(&self) -> MutexGuard<'_, SinkReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn report(&self) -> SinkReport {
        self.lock().clone()
    }

    /// Says how it is. True: it was another way before.
    pub(crate) fn set(&self, health: SinkHealth, reason: Option<String>) -> bool {
        let reason = reason.map(shown);
        let mut report = self.lock();
        let changed = report.health != health;
        (report.health, report.reason) = (health, reason);
        changed
    }

    /// The target has this directory's positions up to here: more than before, or fewer where somebody emptied it.
    pub(crate) fn found(&self, through: u64) {
        self.lock().through = through;
    }

    pub(crate) fn reached(&self, through: u64) {
        let mut report = self.lock();
        report.through = report.through.max(through);
    }

    pub(crate) fn waits_since(&self, oldest: Option<i64>) {
        self.lock().oldest = oldest;
    }

    /// Where it is not known since when records wait: since now.
    pub(crate) fn waits_from(&self, now: i64) {
        self.lock().oldest.get_or_insert(now);
    }
}
