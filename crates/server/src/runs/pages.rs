//! Pages of runs. Owns their filters, orders and where a page goes on; refuses to sort what is kept in order already.

use std::cmp::Reverse;

use regex::{Regex, RegexBuilder};
use runstone_record::run::RunState;
use runstone_record::wire::RunBody;

use super::rollup::{Brief, Key, Pipeline};
use super::{Runs, State};
use crate::sources::SourceSystems;

/// Which runs, by what stands still of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunFilter {
    pub(crate) state: Option<RunState>,
    pub(crate) source_system: Option<String>,
    pub(crate) stage: Option<String>,
    pub(crate) environment: Option<String>,
    pub(crate) owner: Option<String>,
    /// Started at or after, in microseconds.
    pub(crate) since: Option<i64>,
    /// Started before.
    pub(crate) until: Option<i64>,
}

/// Which run comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum RunsOrder {
    /// The latest start.
    #[default]
    Newest,
    /// The earliest.
    Oldest,
    /// The longest duration, and of equal ones the latest start.
    Longest,
}

/// The last run of a page, as it was then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunPlace {
    pub(crate) started_at: i64,
    pub(crate) duration: u64,
    pub(crate) run_id: String,
}

/// A page.
#[derive(Debug, Default)]
pub(crate) struct RunsQuery {
    pub(crate) filter: RunFilter,
    /// Text in the id, the title or the failure, in any case.
    pub(crate) contains: Option<Contains>,
    /// At least and at most so many microseconds.
    pub(crate) duration: (Option<u64>, Option<u64>),
    pub(crate) order: RunsOrder,
    pub(crate) limit: usize,
    /// Where the page before ended.
    pub(crate) after: Option<RunPlace>,
}

/// A text to look for, whatever its case.
#[derive(Debug, Clone)]
pub(crate) struct Contains(Regex);

impl Contains {
    /// None: the text is too long to be looked for.
    pub(crate) fn new(text: &str) -> Option<Self> {
        RegexBuilder::new(&regex::escape(text)).case_insensitive(true).build().ok().map(Self)
    }
}

impl RunFilter {
    pub(super) fn takes_pipeline(&self, pipeline: &Pipeline, sources: &SourceSystems) -> bool {
        let source = pipeline.source_system.as_deref();
        let is = |wanted: &Option<String>, found: Option<&str>| wanted.is_none() || wanted.as_deref() == found;
        is(&self.source_system, source)
            && is(&self.stage, pipeline.stage.as_deref())
            && (self.environment.is_none() || is(&self.environment, sources.environment(source)))
            && (self.owner.is_none() || is(&self.owner, sources.owner(source)))
    }

    pub(super) fn takes_state(&self, state: RunState) -> bool {
        self.state.is_none_or(|wanted| wanted == state)
    }
}

impl Runs {
    /// A page of runs, and where the next begins.
    pub(crate) fn page(&self, query: &RunsQuery) -> (Vec<RunBody>, Option<RunPlace>) {
        let state = self.read();
        let mut found = query.find(&state, &self.sources);
        let more = found.len() > query.limit;
        found.truncate(query.limit);
        let next = found.last().filter(|_| more).map(|run| RunPlace {
            started_at: run.at,
            duration: run.duration,
            run_id: run.id.to_string(),
        });
        let body = |run: &&Brief| Some(state.table.get(&run.id)?.fold.body(&run.id));
        (found.iter().filter_map(body).map(|body| self.sources.enrich(body)).collect(), next)
    }
}

impl RunPlace {
    fn key(&self) -> Key<'_> {
        (self.started_at, Reverse(&self.run_id))
    }
}

impl RunsQuery {
    /// The page's runs, in order, and one more where there is one.
    fn find<'a>(&self, state: &'a State, sources: &SourceSystems) -> Vec<&'a Brief> {
        let pipelines = state.rollup.pipelines.iter();
        let pipelines: Vec<bool> = pipelines.map(|pipeline| self.filter.takes_pipeline(pipeline, sources)).collect();
        let takes = |run: &&Brief| {
            self.filter.takes_state(run.state)
                && pipelines.get(run.pipeline as usize) == Some(&true)
                && self.duration.0.is_none_or(|least| run.duration >= least)
                && self.duration.1.is_none_or(|most| run.duration <= most)
                && self.contains.as_ref().is_none_or(|text| text.is_in(state, &run.id))
        };
        let window = (self.filter.since, self.filter.until);
        let last = self.after.as_ref().map(RunPlace::key);
        let count = self.limit.saturating_add(1);
        match self.order {
            RunsOrder::Newest => state.rollup.between(window, None, last).rev().filter(takes).take(count).collect(),
            RunsOrder::Oldest => state.rollup.between(window, last, None).filter(takes).take(count).collect(),
            RunsOrder::Longest => {
                let last = self.after.as_ref().map(|last| (last.duration, last.key()));
                let is_beyond = |run: &&Brief| last.is_none_or(|last| (run.duration, run.key()) < last);
                let all = state.rollup.between(window, None, None);
                let mut found: Vec<&Brief> = all.filter(is_beyond).filter(takes).collect();
                let order =
                    |one: &&Brief, other: &&Brief| (other.duration, other.key()).cmp(&(one.duration, one.key()));
                if found.len() > count {
                    found.select_nth_unstable_by(count - 1, order);
                    found.truncate(count);
                }
                found.sort_unstable_by(order);
                found
            }
        }
    }
}

impl Contains {
    fn is_in(&self, state: &State, run_id: &str) -> bool {
        let fold = state.table.get(run_id).map(|kept| &kept.fold);
        self.0.is_match(run_id)
            || fold.and_then(|fold| fold.title()).is_some_and(|title| self.0.is_match(title))
            || fold.and_then(|fold| fold.failure()).is_some_and(|failure| self.0.is_match(failure))
    }
}
