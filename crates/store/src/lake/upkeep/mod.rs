//! Upkeep of the lake: small files become larger ones, old records leave, and so do files that nobody needs. Owns the order
//! of the work, what is reported of it, and what makes it pause; refuses to decide when it runs: the server says so.
//!
//! Every step is one commit, or deletes what no commit needs: dropped anywhere, it leaves the table as it is, and the
//! next run goes on.

mod clock;
mod compact;
mod fault;
mod groups;
mod join;
mod names;
mod plan;
mod retention;
mod tally;
#[cfg(test)]
mod tests;
mod tombstones;
mod vacuum;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use runstone_record::limits;

use self::clock::Clock;
use self::compact::{Merged, merge};
use self::plan::{Merge, Moment, Rules, next_merge};
use super::{Lake, LakeError};

pub(crate) use names::{COMPACTED, is_ours};

/// How the lake is looked after.
#[derive(Clone)]
pub struct UpkeepOptions {
    /// Bytes of a file that small ones become.
    pub file_bytes: u64,
    /// Bytes of the records in a row group, in memory.
    pub group_bytes: u64,
    /// Days that a record is kept from its arrival on; 0: for ever.
    pub retention_days: u64,
    /// How long a file is kept after it left the table.
    pub vacuum_grace: Duration,
    /// How long this process has been running, whatever the wall clock says.
    pub uptime: Arc<dyn Fn() -> Duration + Send + Sync>,
}

impl std::fmt::Debug for UpkeepOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpkeepOptions")
            .field("file_bytes", &self.file_bytes)
            .field("group_bytes", &self.group_bytes)
            .field("retention_days", &self.retention_days)
            .field("vacuum_grace", &self.vacuum_grace)
            .finish_non_exhaustive()
    }
}

/// What upkeep did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct UpkeepReport {
    /// Commits that merged files.
    pub merges: u64,
    /// Merges that another writer overtook; their work was thrown away.
    pub conflicts: u64,
    /// Files that were merged, and files that they became.
    pub merged_files: u64,
    /// The files that they became.
    pub made_files: u64,
    /// Bytes of the files that were merged.
    pub merged_bytes: u64,
    /// Bytes of the files that they became.
    pub made_bytes: u64,
    /// Rows of these files.
    pub merged_rows: u64,
    /// Of these, rows that were taken over without being decoded.
    pub copied_rows: u64,
    /// Files that left the table because they were old enough.
    pub retired_files: u64,
    /// Rows of these files that are known.
    pub retired_rows: u64,
    /// Files that were deleted.
    pub deleted_files: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Steps that ended early, and why.
    pub failures: Vec<UpkeepFailure>,
}

/// A step that did not do all that it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpkeepFailure {
    /// Which.
    pub step: Step,
    /// Why, for people.
    pub why: String,
    /// Does it need a person?
    pub is_final: bool,
}

/// A step of upkeep, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Small files become larger ones.
    Compact,
    /// Old records leave the table.
    Retire,
    /// Files that no version needs are deleted.
    Vacuum,
}

impl Step {
    /// The word for it in metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Step::Compact => "compact",
            Step::Retire => "retire",
            Step::Vacuum => "vacuum",
        }
    }
}

/// How much is done at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// What pays while records arrive.
    Usual,
    /// Every file as large as it may be, also of days that last.
    All,
}

/// What of a run is going on, and what was done since the process began.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct UpkeepProgress {
    /// The step that is running.
    pub running: Option<Step>,
    /// Runs that came to their end.
    pub runs: u64,
    /// All runs together, the current one included; `failures` are those of the last run.
    pub total: UpkeepReport,
    /// When the last run ended, in milliseconds since 1970.
    pub last_ms: Option<i64>,
}

/// Looks after a lake.
#[derive(Debug)]
pub struct Upkeep {
    options: UpkeepOptions,
    rules: Rules,
    clock: Clock,
    progress: Mutex<UpkeepProgress>,
    /// Files that cannot be merged; they are not tried again until the process starts anew.
    left: Mutex<HashSet<String>>,
}

impl Upkeep {
    /// Upkeep that has not run yet.
    #[must_use]
    pub fn new(options: UpkeepOptions) -> Self {
        let rules = Rules::new(options.file_bytes, options.group_bytes);
        Self::with(options, rules)
    }

    fn with(options: UpkeepOptions, rules: Rules) -> Self {
        Self { options, rules, clock: Clock::default(), progress: Mutex::default(), left: Mutex::default() }
    }

    /// What is going on.
    #[must_use]
    pub fn progress(&self) -> UpkeepProgress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does what there is to do. Runs that overlap do no harm, but work twice. Dropped, it leaves nothing half done.
    pub async fn run(&self, lake: &Lake, now_ms: i64, effort: Effort) -> UpkeepReport {
        let mut run = Run { upkeep: self, lake, now_ms, report: UpkeepReport::default() };
        self.note(|progress| progress.total.failures.clear());
        // First of all: what this run writes says nothing of the clock that it is written by.
        let clock_is_right = run.check_clock();
        run.step(Step::Compact);
        let compacted = run.compact(effort).await;
        run.end(Step::Compact, compacted);
        if clock_is_right {
            run.step(Step::Retire);
            let retired = run.retire().await;
            run.end(Step::Retire, retired);
            run.step(Step::Vacuum);
            let vacuumed = run.vacuum().await;
            run.end(Step::Vacuum, vacuumed);
        }
        let report = run.report.clone();
        drop(run);
        self.note(|progress| {
            progress.runs += 1;
            progress.last_ms = Some(now_ms);
        });
        report
    }

    fn note(&self, change: impl FnOnce(&mut UpkeepProgress)) {
        change(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// One run.
struct Run<'a> {
    upkeep: &'a Upkeep,
    lake: &'a Lake,
    now_ms: i64,
    report: UpkeepReport,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.upkeep.note(|progress| progress.running = None);
    }
}

impl Run<'_> {
    fn step(&self, step: Step) {
        self.upkeep.note(|progress| progress.running = Some(step));
    }

    /// Counts in the run and in the sum of all runs.
    fn count(&mut self, change: impl Fn(&mut UpkeepReport)) {
        change(&mut self.report);
        self.upkeep.note(|progress| change(&mut progress.total));
    }

    fn end(&mut self, step: Step, outcome: Result<(), LakeError>) {
        if let Err(error) = outcome {
            self.fail(&UpkeepFailure { step, why: with_causes(&error), is_final: !error.is_transient() });
        }
    }

    fn fail(&mut self, failure: &UpkeepFailure) {
        tracing::warn!(step = failure.step.name(), why = failure.why, "upkeep of the lake left work undone");
        self.count(|report| report.failures.push(failure.clone()));
    }

    async fn compact(&mut self, effort: Effort) -> Result<(), LakeError> {
        let rules = &self.upkeep.rules;
        let today = i32::try_from(self.now_ms.div_euclid(86_400_000)).unwrap_or(i32::MAX);
        let at = Moment { today, now_ms: self.now_ms, is_final: effort == Effort::All };
        let mut conflicts = 0;
        loop {
            let snapshot = self.lake.refresh().await?;
            let next = {
                let left = self.upkeep.left.lock().unwrap_or_else(PoisonError::into_inner);
                next_merge(&snapshot.files, at, &left, rules)
            };
            let Some(next) = next else { return Ok(()) };
            match merge(self.lake, &next, rules).await {
                Ok(Merged::Done(sums)) => self.count(|report| report.add(sums)),
                Ok(Merged::Left(files)) => self.leave(files),
                Err(error @ (LakeError::Conflict(_) | LakeError::Damaged(_) | LakeError::Internal(_))) => {
                    if self.leave_faulty(&next, &error).await? {
                        continue;
                    }
                    tracing::debug!(%error, "threw a merge away");
                    self.count(|report| report.conflicts += 1);
                    conflicts += 1;
                    if conflicts >= limits::LAKE_MERGE_CONFLICTS_MAX {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A merge failed. Where it does not do so because its files left the table, it would fail for ever, and hold up all
    /// others: leaves the files alone that are to blame. False: another writer was faster.
    async fn leave_faulty(&mut self, merge: &Merge, error: &LakeError) -> Result<bool, LakeError> {
        let snapshot = self.lake.refresh().await?;
        let live: HashSet<&str> = snapshot.files.iter().map(|file| file.path.as_str()).collect();
        if !merge.files.iter().all(|file| live.contains(file.path.as_str())) {
            return Ok(false);
        }
        let is_conflict = matches!(error, LakeError::Conflict(_));
        let mut files = fault::find(self.lake, merge, !is_conflict).await?;
        if files.is_empty() {
            if is_conflict {
                return Ok(false);
            }
            // Each can be read, and together they cannot be merged.
            files = merge.files.iter().map(|file| (file.path.clone(), error.to_string())).collect();
        }
        let why = files.first().map_or_else(String::new, |(path, why)| format!("{path}: {why}"));
        let why = format!("leave {} of {} files unmerged: {why}", files.len(), merge.files.len());
        self.leave(files);
        self.fail(&UpkeepFailure { step: Step::Compact, why, is_final: true });
        Ok(true)
    }

    fn leave(&self, files: Vec<(String, String)>) {
        let mut left = self.upkeep.left.lock().unwrap_or_else(PoisonError::into_inner);
        for (path, why) in files {
            tracing::info!(path, why, "left a file of the lake as it is");
            left.insert(path);
        }
    }

    /// May files be deleted by this clock?
    fn check_clock(&mut self) -> bool {
        let uptime = (self.upkeep.options.uptime)();
        let Err(jump) = self.upkeep.clock.check(self.now_ms, uptime, self.lake.inner.found) else { return true };
        let why = format!(
            "delete nothing: the clock jumped by {} hours; it is believed again once it has gone on evenly for a day",
            jump.by_ms / 3_600_000
        );
        self.fail(&UpkeepFailure { step: Step::Retire, why, is_final: false });
        false
    }

    async fn retire(&mut self) -> Result<(), LakeError> {
        let days = self.upkeep.options.retention_days;
        if days == 0 {
            return Ok(());
        }
        match retention::retire(self.lake, self.now_ms, days).await? {
            Some(retired) => {
                self.count(|report| {
                    report.retired_files += retired.files;
                    report.retired_rows += retired.rows;
                });
                Ok(())
            }
            None => Err(LakeError::Unsupported(
                "the table sets delta.appendOnly: records that are old enough stay; unset one or the other".to_owned(),
            )),
        }
    }

    async fn vacuum(&mut self) -> Result<(), LakeError> {
        let grace_ms = i64::try_from(self.upkeep.options.vacuum_grace.as_millis()).unwrap_or(i64::MAX);
        let vacuumed = vacuum::vacuum(self.lake, self.now_ms, grace_ms).await?;
        self.count(|report| {
            report.deleted_files += vacuumed.files;
            report.deleted_bytes += vacuumed.bytes;
        });
        Ok(())
    }
}

impl UpkeepReport {
    fn add(&mut self, sums: compact::Sums) {
        self.merges += 1;
        self.merged_files += sums.files_in;
        self.made_files += sums.files_out;
        self.merged_bytes += sums.bytes_in;
        self.made_bytes += sums.bytes_out;
        self.merged_rows += sums.rows;
        self.copied_rows += sums.rows_copied;
    }
}

fn with_causes(error: &LakeError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
