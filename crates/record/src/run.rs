//! What the records of a run add up to: a commutative fold. Any order of the records, split and merged in any
//! way, gives the same answer, so that late, shuffled and replayed history is no special case.
//!
//! Owns the rules of a run's state (`docs/runs.md`); refuses to know where records come from or to count one twice:
//! its caller gives each record once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::codec::ColumnSet;
use crate::columns::Column;
use crate::ids::RecordId;
use crate::limits::RUN_TEXT_BYTES_MAX;
use crate::time::{MICROS_MIN, format_micros};
use crate::wire::RunBody;
use crate::words::{Level, RecordType, is_failure_status};

/// The columns that the fold reads: all that a consumer has to decode.
#[must_use]
pub fn columns() -> ColumnSet {
    ColumnSet::of(&[
        Column::Timestamp,
        Column::SourceSystem,
        Column::Stage,
        Column::RunId,
        Column::Type,
        Column::Level,
        Column::Status,
        Column::Duration,
        Column::RowCount,
        Column::Title,
        Column::Message,
    ])
}

/// A run's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RunState {
    /// Nothing closed it yet.
    Running,
    /// It closed well.
    Succeeded,
    /// It failed.
    Failed,
}

impl RunState {
    /// The word in answers and SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            RunState::Running => "running",
            RunState::Succeeded => "succeeded",
            RunState::Failed => "failed",
        }
    }

    /// The state of a word.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        [RunState::Running, RunState::Succeeded, RunState::Failed].into_iter().find(|state| state.as_str() == text)
    }
}

/// The order of a run's records: time, then id.
type Key = (i64, RecordId);

/// The text of the earliest (or latest) record that has one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Chosen(Option<(Key, String)>);

impl Chosen {
    fn earliest(&mut self, key: Key, text: Option<&str>) {
        self.choose(key, text, |key, kept| key < kept);
    }

    fn latest(&mut self, key: Key, text: Option<&str>) {
        self.choose(key, text, |key, kept| key > kept);
    }

    fn choose(&mut self, key: Key, text: Option<&str>, better: impl Fn(Key, Key) -> bool) {
        if let Some(text) = text
            && self.0.as_ref().is_none_or(|(kept, _)| better(key, *kept))
        {
            self.0 = Some((key, text[..text.floor_char_boundary(RUN_TEXT_BYTES_MAX)].to_owned()));
        }
    }

    fn text(&self) -> Option<&str> {
        self.0.as_ref().map(|(_, text)| text.as_str())
    }
}

/// The fold over a run's records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFold {
    records: u64,
    starts: u64,
    ends: u64,
    warnings: u64,
    errors: u64,
    row_count: Option<i64>,
    first_at: Option<i64>,
    last_at: Option<i64>,
    last_end: Option<i64>,
    last_activity: Option<i64>,
    success: Option<Key>,
    failure: Option<Key>,
    source_system: Chosen,
    stage: Chosen,
    title: Chosen,
    failure_text: Chosen,
    last_position: u64,
}

impl RunFold {
    /// Adds one record. `position` is its place in the journal.
    pub fn add(&mut self, batch: &Batch, row: usize, position: u64) {
        self.add_said(batch, row, position, |_| true);
    }

    /// Adds an entry of the Logger's, which has an empty title or description where the record that it was had none.
    pub(crate) fn add_entry(&mut self, batch: &Batch) {
        self.add_said(batch, 0, 0, |text| !text.is_empty());
    }

    /// Titles and messages count where `says` says so.
    fn add_said(&mut self, batch: &Batch, row: usize, position: u64, says: impl Fn(&str) -> bool) {
        let said = |column: Column| batch.text(column, row).filter(|text| says(text));
        let at = batch.timestamp(row);
        let key = (at, batch.ids().get(row));
        let kind = batch.text(Column::Type, row).and_then(RecordType::from_text).unwrap_or(RecordType::Log);
        let status = batch.text(Column::Status, row);
        let heading = said(Column::Title).or_else(|| said(Column::Message));
        self.records += 1;
        self.first_at = least(self.first_at, Some(began(batch, row, kind, at)));
        self.last_at = self.last_at.max(Some(at));
        self.last_position = self.last_position.max(position);
        self.source_system.earliest(key, batch.text(Column::SourceSystem, row));
        self.stage.earliest(key, batch.text(Column::Stage, row));
        self.title.earliest(key, heading);
        self.row_count = sum(self.row_count, batch.int(Column::RowCount, row));
        match batch.text(Column::Level, row).and_then(Level::from_text) {
            Some(Level::Warning) => self.warnings += 1,
            Some(Level::Error | Level::Critical) => self.errors += 1,
            _ => {}
        }
        match kind {
            RecordType::Start => self.starts += 1,
            RecordType::Success => self.success = self.success.max(Some(key)),
            RecordType::End => {
                self.ends += 1;
                self.last_end = self.last_end.max(Some(at));
            }
            RecordType::Activity => self.last_activity = self.last_activity.max(Some(at)),
            _ => {}
        }
        if kind == RecordType::Error || status.is_some_and(is_failure_status) {
            self.failure = self.failure.max(Some(key));
            let text = said(Column::Message).or(heading).or(status);
            self.failure_text.latest(key, text);
        }
    }

    /// Adds what another fold of the same run has counted.
    pub fn merge(&mut self, other: &RunFold) {
        self.records = self.records.saturating_add(other.records);
        self.starts = self.starts.saturating_add(other.starts);
        self.ends = self.ends.saturating_add(other.ends);
        self.warnings = self.warnings.saturating_add(other.warnings);
        self.errors = self.errors.saturating_add(other.errors);
        self.row_count = sum(self.row_count, other.row_count);
        self.first_at = least(self.first_at, other.first_at);
        self.last_at = self.last_at.max(other.last_at);
        self.last_end = self.last_end.max(other.last_end);
        self.last_activity = self.last_activity.max(other.last_activity);
        self.success = self.success.max(other.success);
        self.failure = self.failure.max(other.failure);
        self.last_position = self.last_position.max(other.last_position);
        for (mine, theirs) in [
            (&mut self.source_system, &other.source_system),
            (&mut self.stage, &other.stage),
            (&mut self.title, &other.title),
        ] {
            if let Some((key, text)) = &theirs.0 {
                mine.earliest(*key, Some(text));
            }
        }
        if let Some((key, text)) = &other.failure_text.0 {
            self.failure_text.latest(*key, Some(text));
        }
    }

    /// The state that the records add up to.
    #[must_use]
    pub fn state(&self) -> RunState {
        if self.failure.is_some() && self.failure > self.success {
            return RunState::Failed;
        }
        let all_ended = self.ends > 0 && self.ends >= self.starts;
        let only_activities = self.last_activity.is_some() && self.starts == 0;
        if self.success.is_some() || all_ended || only_activities { RunState::Succeeded } else { RunState::Running }
    }

    /// When it began, in microseconds: the earliest timestamp, or an activity's less its duration.
    #[must_use]
    pub fn started_at(&self) -> i64 {
        self.first_at.unwrap_or(0)
    }

    /// The latest timestamp, in microseconds.
    #[must_use]
    pub fn last_at(&self) -> i64 {
        self.last_at.unwrap_or(0)
    }

    /// When it closed: the time of the record that decided its state.
    #[must_use]
    pub fn ended_at(&self) -> Option<i64> {
        match self.state() {
            RunState::Running => None,
            RunState::Failed => self.failure.map(|(at, _)| at),
            RunState::Succeeded => self.success.map(|(at, _)| at).or(self.last_end).or(self.last_activity),
        }
    }

    /// Microseconds from the start to the end, or to the latest record while it runs.
    #[must_use]
    pub fn duration_micros(&self) -> u64 {
        let until = self.ended_at().unwrap_or_else(|| self.last_at());
        u64::try_from(until.saturating_sub(self.started_at())).unwrap_or(0)
    }

    /// The same in seconds.
    #[must_use]
    pub fn duration(&self) -> f64 {
        // Microseconds of 285 years fit a float's 53 bits; of more the last one may be off.
        #[expect(clippy::cast_precision_loss, reason = "a microsecond in 285 years")]
        let micros = self.duration_micros() as f64;
        micros / 1e6
    }

    /// The system of the earliest record that names one.
    #[must_use]
    pub fn source_system(&self) -> Option<&str> {
        self.source_system.text()
    }

    /// The stage of the earliest record that names one.
    #[must_use]
    pub fn stage(&self) -> Option<&str> {
        self.stage.text()
    }

    /// The title, else the message, of the earliest record that has one.
    #[must_use]
    pub fn title(&self) -> Option<&str> {
        self.title.text()
    }

    /// What the latest failure says, while the run counts as failed.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure_text.text().filter(|_| self.state() == RunState::Failed)
    }

    /// Records counted.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Those of level WARNING.
    #[must_use]
    pub fn warnings(&self) -> u64 {
        self.warnings
    }

    /// Those of level ERROR or CRITICAL.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// The sum of the rows that they moved.
    #[must_use]
    pub fn row_count(&self) -> Option<i64> {
        self.row_count
    }

    /// The highest position counted.
    #[must_use]
    pub fn last_position(&self) -> u64 {
        self.last_position
    }

    /// The run as the API shows it, but for what the configuration says of its source system.
    #[must_use]
    pub fn body(&self, run_id: &str) -> RunBody {
        RunBody {
            run_id: run_id.to_owned(),
            state: self.state().as_str().to_owned(),
            source_system: self.source_system().map(str::to_owned),
            stage: self.stage().map(str::to_owned),
            title: self.title().map(str::to_owned),
            started_at: format_micros(self.started_at()),
            ended_at: self.ended_at().map(format_micros),
            last_at: format_micros(self.last_at()),
            duration: self.duration(),
            records: self.records,
            warnings: self.warnings,
            errors: self.errors,
            row_count: self.row_count,
            failure: self.failure().map(str::to_owned),
            last_position: self.last_position,
            environment: None,
            owner: None,
            labels: BTreeMap::new(),
        }
    }
}

/// When what a record tells of began: an activity is logged at its end and says how long it took.
fn began(batch: &Batch, row: usize, kind: RecordType, at: i64) -> i64 {
    match batch.float(Column::Duration, row) {
        // A cast from a float saturates.
        Some(seconds) if kind == RecordType::Activity => at.saturating_sub((seconds * 1e6) as i64).max(MICROS_MIN),
        _ => at,
    }
}

fn least(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Sums saturate. The numbers are not negative, so their order does not matter even then.
fn sum(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    }
}
