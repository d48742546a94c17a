//! Runs counted by group and time: how many, how they ended, how long they took. Owns exact answers for any window and any
//! bucket, from the sums that the rollup keeps, and from the runs themselves at the edges of windows and buckets.

use std::collections::HashMap;
use std::sync::Arc;

use runstone_record::limits::METRICS_GROUPS_MAX;
use runstone_record::run::RunState;

use super::Runs;
use super::pages::RunFilter;
use super::rollup::{Brief, Pipeline, Stretch, View};
use super::totals::{Parts, Totals};
use crate::sources::SourceSystems;

/// Runs that are walked in the time that the sums of a part take.
const PART_RUNS: usize = 2;

/// What runs are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupBy {
    SourceSystem,
    Stage,
    Environment,
    Owner,
}

impl GroupBy {
    pub(crate) const ALL: [GroupBy; 4] = [GroupBy::SourceSystem, GroupBy::Stage, GroupBy::Environment, GroupBy::Owner];

    pub(crate) fn name(self) -> &'static str {
        match self {
            GroupBy::SourceSystem => "source_system",
            GroupBy::Stage => "stage",
            GroupBy::Environment => "environment",
            GroupBy::Owner => "owner",
        }
    }

    fn of(self, pipeline: &Pipeline, sources: &SourceSystems) -> Option<Arc<str>> {
        let source = pipeline.source_system.as_deref();
        match self {
            GroupBy::SourceSystem => pipeline.source_system.clone(),
            GroupBy::Stage => pipeline.stage.clone(),
            GroupBy::Environment => sources.environment(source).map(Arc::from),
            GroupBy::Owner => sources.owner(source).map(Arc::from),
        }
    }
}

/// Stretches of time of one length, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// Microseconds of each.
    pub(crate) micros: i64,
    /// The start of one of them.
    pub(crate) origin: i64,
}

impl Bucket {
    /// The start of the one that a time is in.
    fn start(self, at: i64) -> i64 {
        at.saturating_sub(at.saturating_sub(self.origin).rem_euclid(self.micros))
    }
}

/// Which runs, and how they are told apart.
#[derive(Debug, Clone, Default)]
pub(crate) struct MetricsQuery {
    pub(crate) filter: RunFilter,
    pub(crate) group_by: Vec<GroupBy>,
    pub(crate) bucket: Option<Bucket>,
    /// 0 to 100.
    pub(crate) percentiles: Vec<f64>,
}

/// The answer would have more groups than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("take a larger bucket, a shorter time or fewer groups: there are more than {METRICS_GROUPS_MAX}")]
pub(crate) struct TooManyGroups;

/// The runs of one group in one bucket.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Group {
    /// The start of its bucket.
    pub(crate) bucket: Option<i64>,
    /// What it is told apart by, in the order of the question.
    pub(crate) by: Arc<[Option<Arc<str>>]>,
    pub(crate) running: u64,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(super) totals: Totals,
    pub(crate) durations: Option<Durations>,
}

/// How long the runs took that ended, in seconds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Durations {
    pub(crate) sum: f64,
    pub(crate) mean: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// In the order of the question.
    pub(crate) percentiles: Vec<f64>,
}

impl Group {
    pub(crate) fn runs(&self) -> u64 {
        self.totals.runs
    }

    /// The share of those that ended well among those that ended.
    pub(crate) fn success_rate(&self) -> Option<f64> {
        let ended = self.succeeded + self.failed;
        (ended > 0).then(|| float(self.succeeded) / float(ended))
    }

    /// Stops at the greatest number of 64 bits; none where no run has one.
    pub(crate) fn row_count(&self) -> Option<i64> {
        (self.totals.counting > 0).then(|| i64::try_from(self.totals.row_count).unwrap_or(i64::MAX))
    }

    pub(crate) fn records(&self) -> u64 {
        at_most(self.totals.records)
    }

    pub(crate) fn warnings(&self) -> u64 {
        at_most(self.totals.warnings)
    }

    pub(crate) fn errors(&self) -> u64 {
        at_most(self.totals.errors)
    }
}

/// A group that is being counted.
#[derive(Debug, Default)]
struct Sum {
    states: [u64; 3],
    totals: Totals,
    durations: Vec<u64>,
}

impl Sum {
    fn add(&mut self, state: RunState, totals: &Totals, durations: &[u64]) {
        self.states[state as usize] += totals.runs;
        self.totals.add(totals);
        self.durations.extend_from_slice(durations);
    }
}

/// A bucket, the number of a group, and what its runs add up to.
type Counted = (Option<i64>, u32, Sum);

/// Groups as the walk through time meets them. One bucket comes after the other, so that a group is found by its number.
struct Counting {
    bucket: Option<Bucket>,
    /// Of each pipeline, which group it belongs to; none: it is not asked for.
    groups: Vec<Option<u32>>,
    /// The bucket of now.
    now: Option<i64>,
    end: i64,
    open: Vec<Option<Sum>>,
    /// The groups that are open, in the order in which they were met.
    met: Vec<u32>,
    done: Vec<Counted>,
}

impl Counting {
    /// Do these runs, in the order of their starts, lie in one bucket?
    fn is_in_one(&self, runs: &[Brief]) -> bool {
        let Some(bucket) = self.bucket else { return true };
        runs.first().zip(runs.last()).is_some_and(|(first, last)| bucket.start(first.at) == bucket.start(last.at))
    }

    /// The group of a pipeline in the bucket of a time, if it is asked for.
    fn open(&mut self, pipeline: u32, at: i64) -> Result<Option<&mut Sum>, TooManyGroups> {
        let Some(Some(group)) = self.groups.get(pipeline as usize).copied() else { return Ok(None) };
        if let Some(bucket) = self.bucket
            && (self.now.is_none() || at >= self.end)
        {
            self.close();
            let start = bucket.start(at);
            (self.now, self.end) = (Some(start), start.saturating_add(bucket.micros));
        }
        let Some(open) = self.open.get_mut(group as usize) else { return Ok(None) };
        if open.is_none() {
            if self.done.len() + self.met.len() >= METRICS_GROUPS_MAX {
                return Err(TooManyGroups);
            }
            self.met.push(group);
        }
        Ok(Some(open.get_or_insert_default()))
    }

    fn add(&mut self, stretch: Stretch<'_>, filter: &RunFilter) -> Result<(), TooManyGroups> {
        let is_shorter = |parts: &&Parts| parts.len() * PART_RUNS <= stretch.runs.len();
        if let Some(parts) = stretch.parts.filter(is_shorter)
            && self.is_in_one(stretch.runs)
        {
            let at = stretch.runs.first().map_or(0, |run| run.at);
            for part in parts.iter().filter(|part| filter.takes_state(part.state)) {
                if let Some(sum) = self.open(part.pipeline, at)? {
                    sum.add(part.state, &part.totals, &part.durations);
                }
            }
            return Ok(());
        }
        for run in stretch.runs.iter().filter(|run| filter.takes_state(run.state)) {
            if let Some(sum) = self.open(run.pipeline, run.at)? {
                sum.add(run.state, &Totals::of(run), run.ended().as_slice());
            }
        }
        Ok(())
    }

    fn close(&mut self) {
        for group in self.met.drain(..) {
            if let Some(sum) = self.open[group as usize].take() {
                self.done.push((self.now, group, sum));
            }
        }
    }
}

impl Runs {
    /// Counts runs. Groups and buckets without one are left out; the rest is in the order of buckets, then of groups.
    pub(crate) fn metrics(&self, query: &MetricsQuery) -> Result<Vec<Group>, TooManyGroups> {
        let (names, sums) = query.count(&self.now().view, &self.sources)?;
        let mut groups: Vec<Group> =
            sums.into_iter().map(|(bucket, group, sum)| query.finish(bucket, &names[group as usize], sum)).collect();
        // What has no name comes last.
        let rank = |group: &Group| {
            let by = group.by.iter().map(|name| (name.is_none(), name.clone())).collect::<Vec<_>>();
            (group.bucket, by)
        };
        groups.sort_by_cached_key(rank);
        Ok(groups)
    }
}

type Names = Vec<Arc<[Option<Arc<str>>]>>;

impl MetricsQuery {
    fn count(&self, view: &View, sources: &SourceSystems) -> Result<(Names, Vec<Counted>), TooManyGroups> {
        let (names, groups) = self.groups(view, sources);
        let open = names.iter().map(|_| None).collect();
        let (met, done) = (Vec::new(), Vec::new());
        let mut counting = Counting { bucket: self.bucket, groups, now: None, end: i64::MIN, open, met, done };
        for stretch in view.stretches(self.filter.since, self.filter.until) {
            counting.add(stretch, &self.filter)?;
        }
        counting.close();
        Ok((names, counting.done))
    }

    /// The groups that pipelines make, and which of them each belongs to.
    fn groups(&self, view: &View, sources: &SourceSystems) -> (Names, Vec<Option<u32>>) {
        let (mut names, mut known) = (Names::new(), HashMap::new());
        let mut place = |pipeline: &Pipeline| {
            if !self.filter.takes_pipeline(pipeline, sources) {
                return None;
            }
            let by: Arc<[_]> = self.group_by.iter().map(|by| by.of(pipeline, sources)).collect();
            let next = u32::try_from(names.len()).unwrap_or(u32::MAX);
            let place = *known.entry(Arc::clone(&by)).or_insert(next);
            if place == next {
                names.push(by);
            }
            Some(place)
        };
        let groups = view.pipelines.iter().map(&mut place).collect();
        (names, groups)
    }

    fn finish(&self, bucket: Option<i64>, by: &Arc<[Option<Arc<str>>]>, sum: Sum) -> Group {
        let of = |state: RunState| sum.states[state as usize];
        Group {
            bucket,
            by: Arc::clone(by),
            running: of(RunState::Running),
            succeeded: of(RunState::Succeeded),
            failed: of(RunState::Failed),
            totals: sum.totals,
            durations: durations(sum.durations, sum.totals.duration, &self.percentiles),
        }
    }
}

fn durations(mut micros: Vec<u64>, sum: u128, percentiles: &[f64]) -> Option<Durations> {
    let (min, max) = (micros.iter().min().copied()?, micros.iter().max().copied()?);
    #[expect(clippy::cast_precision_loss, reason = "an answer has the precision of a float")]
    let sum = sum as f64 / 1e6;
    let percentiles = percentiles_of(&mut micros, percentiles);
    Some(Durations { sum, mean: sum / float(micros.len() as u64), min: seconds(min), max: seconds(max), percentiles })
}

/// As PostgreSQL's `percentile_cont`: between the two neighbours in proportion.
#[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "from 0 to the number of values")]
pub(super) fn percentiles_of(values: &mut [u64], percentiles: &[f64]) -> Vec<f64> {
    let last = values.len() - 1;
    let place = |percentile: f64| {
        let exact = percentile / 100.0 * float(last as u64);
        let low = (exact.floor() as usize).min(last);
        (low, (low + 1).min(last), exact - exact.floor())
    };
    let mut ranks: Vec<usize> =
        percentiles.iter().map(|percentile| place(*percentile)).flat_map(|(low, high, _)| [low, high]).collect();
    ranks.sort_unstable();
    ranks.dedup();
    // Each puts its value in place for good: only what comes after it is moved later.
    let mut from = 0;
    for rank in ranks {
        values[from..].select_nth_unstable(rank - from);
        from = rank + 1;
    }
    let value = |percentile: f64| {
        let (low, high, share) = place(percentile);
        let (low, high) = (seconds(values[low]), seconds(values[high]));
        low + (high - low) * share
    };
    percentiles.iter().map(|percentile| value(*percentile)).collect()
}

/// What a run counts saturates, so that many of them may pass the end of 64 bits.
fn at_most(sum: u128) -> u64 {
    u64::try_from(sum).unwrap_or(u64::MAX)
}

fn seconds(micros: u64) -> f64 {
    float(micros) / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "an answer has the precision of a float")]
fn float(count: u64) -> f64 {
    count as f64
}
