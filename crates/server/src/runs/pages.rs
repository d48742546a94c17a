//! Pages of runs. Owns their filters, orders and where a page goes on; refuses to sort what is kept in order already.
//!
//! A walk has the runs that were there at its first page. Those that still have the place in the order that they had then come
//! first; what moved since could be on either side of where a page ended, and comes last, in an order in which nothing moves.

use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

use regex::{Regex, RegexBuilder};
use runstone_record::run::{RunFold, RunState};
use runstone_record::wire::RunBody;
use serde::{Deserialize, Serialize};

use super::rollup::{Brief, Key, Pipeline, View};
use super::stamps::Stamp;
use super::{Runs, Snapshot};
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Last {
    /// One of those that stood still.
    Still { started_at: i64, duration: u64, run_id: String },
    /// One of those that moved; the id is empty before the first of them.
    Moved { run_id: String },
}

/// Where a walk goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunPlace {
    /// When its first page was found.
    pub(crate) begun: Stamp,
    pub(crate) last: Last,
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
        let Snapshot { view, now, .. } = self.now();
        let walk = Walk::new(query, &view, &self.sources, now);
        let (found, next) = walk.page();
        (found.into_iter().map(|run| self.sources.enrich(run.fold.body(&run.id))).collect(), next)
    }

    /// A run that was added up elsewhere, as pages show runs; none where it is not asked for.
    pub(crate) fn elsewhere(&self, run_id: &str, fold: &RunFold, query: &RunsQuery) -> Option<RunBody> {
        let (filter, at) = (&query.filter, fold.started_at());
        let pipeline =
            Pipeline { source_system: fold.source_system().map(Arc::from), stage: fold.stage().map(Arc::from) };
        let takes = filter.since.is_none_or(|since| at >= since)
            && filter.until.is_none_or(|until| at < until)
            && filter.takes_pipeline(&pipeline, &self.sources)
            && query.takes(run_id, fold, fold.state(), fold.duration_micros());
        takes.then(|| self.sources.enrich(fold.body(run_id)))
    }
}

/// One page's way through the runs.
struct Walk<'a> {
    query: &'a RunsQuery,
    view: &'a View,
    /// Of each pipeline: is it asked for?
    pipelines: Vec<bool>,
    now: Stamp,
    begun: Stamp,
}

impl<'a> Walk<'a> {
    fn new(query: &'a RunsQuery, view: &'a View, sources: &SourceSystems, now: Stamp) -> Self {
        let pipelines = view.pipelines.iter().map(|pipeline| query.filter.takes_pipeline(pipeline, sources)).collect();
        let begun = query.after.as_ref().map_or(now, |place| place.begun);
        Self { query, view, pipelines, now, begun }
    }

    fn page(&self) -> (Vec<&'a Brief>, Option<RunPlace>) {
        let limit = self.query.limit;
        let mut found = match self.query.after.as_ref().map(|place| &place.last) {
            Some(Last::Moved { .. }) => Vec::new(),
            Some(Last::Still { started_at, duration, run_id }) => {
                self.still(Some((*duration, (*started_at, Reverse(run_id)))))
            }
            None => self.still(None),
        };
        let still = found.len();
        if still <= limit && self.begun < self.now {
            let last = match self.query.after.as_ref().map(|place| &place.last) {
                Some(Last::Moved { run_id }) => run_id,
                _ => "",
            };
            found.extend(self.moved(last, limit + 1 - still));
        }
        let more = found.len() > limit;
        found.truncate(limit);
        let last = found.last().map(|last| match still {
            _ if found.len() > still => Last::Moved { run_id: last.id.to_string() },
            _ if still == limit => Last::Moved { run_id: String::new() },
            _ => Last::Still { started_at: last.at, duration: last.duration, run_id: last.id.to_string() },
        });
        (found, last.filter(|_| more).map(|last| RunPlace { begun: self.begun, last }))
    }

    /// Is it asked for, and was it there?
    fn takes(&self, run: &Brief) -> bool {
        run.stamps.began <= self.begun
            && self.pipelines.get(run.pipeline as usize) == Some(&true)
            && self.query.takes(&run.id, &run.fold, run.state, run.duration)
    }

    fn stood_still(&self, run: &Brief) -> bool {
        let moved = match self.query.order {
            RunsOrder::Newest | RunsOrder::Oldest => run.stamps.start,
            RunsOrder::Longest => run.stamps.length,
        };
        moved <= self.begun
    }

    /// The next of those that stand where they stood, in order, and one more than a page has where there is one.
    fn still(&self, last: Option<(u64, Key<'_>)>) -> Vec<&'a Brief> {
        let window = (self.query.filter.since, self.query.filter.until);
        let takes = |run: &&Brief| self.stood_still(run) && self.takes(run);
        let (key, count) = (last.map(|(_, key)| key), self.query.limit.saturating_add(1));
        match self.query.order {
            RunsOrder::Newest => self.view.between(window, None, key).rev().filter(takes).take(count).collect(),
            RunsOrder::Oldest => self.view.between(window, key, None).filter(takes).take(count).collect(),
            RunsOrder::Longest => {
                let is_beyond = |run: &&Brief| last.is_none_or(|last| (run.duration, run.key()) < last);
                let found = self.view.between(window, None, None).filter(is_beyond).filter(takes);
                first(found.collect(), count, |one, other| {
                    (other.duration, other.key()).cmp(&(one.duration, one.key()))
                })
            }
        }
    }

    /// The next of those that moved since the first page, in the order of their ids.
    fn moved(&self, last: &str, count: usize) -> Vec<&'a Brief> {
        let window = (self.query.filter.since, self.query.filter.until);
        let takes = |run: &&Brief| !self.stood_still(run) && &*run.id > last && self.takes(run);
        let found = self.view.between(window, None, None).filter(takes);
        first(found.collect(), count, |one, other| one.id.cmp(&other.id))
    }
}

/// The first of them, in order.
fn first(mut found: Vec<&Brief>, count: usize, order: impl Fn(&Brief, &Brief) -> Ordering) -> Vec<&Brief> {
    let order = |one: &&Brief, other: &&Brief| order(one, other);
    if found.len() > count {
        found.select_nth_unstable_by(count - 1, order);
        found.truncate(count);
    }
    found.sort_unstable_by(order);
    found
}

impl RunsQuery {
    /// Is it asked for, wherever it comes from and whenever it began?
    fn takes(&self, run_id: &str, fold: &RunFold, state: RunState, duration: u64) -> bool {
        self.filter.takes_state(state)
            && self.duration.0.is_none_or(|least| duration >= least)
            && self.duration.1.is_none_or(|most| duration <= most)
            && self.contains.as_ref().is_none_or(|text| text.is_in(run_id, fold))
    }
}

impl Contains {
    fn is_in(&self, run_id: &str, fold: &RunFold) -> bool {
        self.0.is_match(run_id)
            || fold.title().is_some_and(|title| self.0.is_match(title))
            || fold.failure().is_some_and(|failure| self.0.is_match(failure))
    }
}
