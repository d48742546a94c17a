//! What runs add up to. Owns that a run can be taken out again, so that sums are kept and not made anew: they are wider than
//! what they sum, and durations stay in order.

use runstone_record::run::RunState;

use super::rollup::Brief;

/// Sums over runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) runs: u64,
    pub(super) records: u128,
    pub(super) warnings: u128,
    pub(super) errors: u128,
    pub(super) row_count: i128,
    /// Runs that have a `row_count`.
    pub(super) counting: u64,
    /// Microseconds of those that ended.
    pub(super) duration: u128,
}

impl Totals {
    pub(super) fn of(run: &Brief) -> Self {
        Self {
            runs: 1,
            records: run.records.into(),
            warnings: run.warnings.into(),
            errors: run.errors.into(),
            row_count: run.row_count.unwrap_or(0).into(),
            counting: run.row_count.is_some().into(),
            duration: run.ended().unwrap_or(0).into(),
        }
    }

    pub(super) fn add(&mut self, other: &Totals) {
        self.runs += other.runs;
        self.records += other.records;
        self.warnings += other.warnings;
        self.errors += other.errors;
        self.row_count += other.row_count;
        self.counting += other.counting;
        self.duration += other.duration;
    }

    /// Takes out what was added.
    fn remove(&mut self, other: &Totals) {
        self.runs -= other.runs;
        self.records -= other.records;
        self.warnings -= other.warnings;
        self.errors -= other.errors;
        self.row_count -= other.row_count;
        self.counting -= other.counting;
        self.duration -= other.duration;
    }
}

/// The runs of one pipeline in one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) pipeline: u32,
    pub(super) state: RunState,
    pub(super) totals: Totals,
    /// Of those that ended, in microseconds, the shortest first.
    pub(super) durations: Vec<u64>,
}

/// Parts, in the order of pipelines and states; none of them is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Parts(Vec<Part>);

impl Parts {
    pub(super) fn of(runs: &[Brief]) -> Self {
        let mut parts = Self::default();
        runs.iter().for_each(|run| parts.add(run));
        parts
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Part> {
        self.0.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn place(&self, run: &Brief) -> Result<usize, usize> {
        self.0.binary_search_by_key(&(run.pipeline, run.state), |part| (part.pipeline, part.state))
    }

    pub(super) fn add(&mut self, run: &Brief) {
        let place = self.place(run).unwrap_or_else(|place| {
            let (totals, durations) = (Totals::default(), Vec::new());
            self.0.insert(place, Part { pipeline: run.pipeline, state: run.state, totals, durations });
            place
        });
        let part = &mut self.0[place];
        part.totals.add(&Totals::of(run));
        if let Some(duration) = run.ended() {
            let place = part.durations.partition_point(|other| *other < duration);
            part.durations.insert(place, duration);
        }
    }

    /// Takes out a run, as it was added.
    pub(super) fn remove(&mut self, run: &Brief) {
        let Ok(place) = self.place(run) else { return };
        let part = &mut self.0[place];
        part.totals.remove(&Totals::of(run));
        if let Some(duration) = run.ended()
            && let Ok(place) = part.durations.binary_search(&duration)
        {
            part.durations.remove(place);
        }
        if part.totals.runs == 0 {
            self.0.remove(place);
        }
    }
}
