//! Walks through runs while records arrive: whoever was there is seen, nobody who came later is, and a walk ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;
use runstone_record::{Batch, IdMint, parse};

use super::*;
use crate::lineage::Lineage;

/// 2026-01-01T22:00:00Z, in microseconds.
const BASE: i64 = 1_767_304_800_000_000;

#[derive(Debug, Clone)]
struct Arrival {
    run: u32,
    minute: i64,
    kind: &'static str,
    /// From another server, through the lake.
    is_foreign: bool,
}

fn arrivals(runs: std::ops::Range<u32>) -> impl Strategy<Value = Vec<Arrival>> {
    let kind = select(vec!["log", "start", "success", "error"]);
    let arrival = (runs, 0..200_i64, kind, any::<bool>()).prop_map(|(run, minute, kind, is_foreign)| Arrival {
        run,
        minute,
        kind,
        is_foreign,
    });
    prop::collection::vec(arrival, 1..6)
}

struct World {
    runs: Runs,
    own: u64,
    foreign: u64,
}

impl World {
    fn new() -> Self {
        let lineage = Lineage::made(uuid::Uuid::from_u128(1), &[(1, 1)]);
        Self { runs: Runs::new(Vec::new(), Place::start(&lineage), Arc::default()), own: 0, foreign: 0 }
    }

    fn arrive(&mut self, arrivals: &[Arrival]) {
        for Arrival { run, minute, kind, is_foreign } in arrivals {
            let at = jiff::Timestamp::from_microsecond(BASE + minute * 60_000_000).unwrap();
            let body = format!(r#"{{"run_id":"r{run}","type":"{kind}","timestamp":"{at}"}}"#);
            let seed = u128::from(self.own + self.foreign);
            let batch: Batch =
                parse::json(body.as_bytes()).unwrap().builder.stamp(&mut IdMint::new(1, seed), BASE, None);
            if *is_foreign {
                self.foreign += 1;
                let through = self.foreign;
                self.runs.fold(through, &batch, |place| place.advance_lake("other/1", through));
            } else {
                self.own += 1;
                self.runs.add(self.own, &batch);
            }
        }
    }

    /// A stop and a start.
    fn restart(&mut self) {
        let now = self.runs.now();
        let runs = now.view.all().map(|run| (run.id.to_string(), (*run.fold).clone(), run.stamps)).collect();
        self.runs = Runs::new(runs, now.place, Arc::default());
    }

    fn all(&self) -> BTreeMap<String, RunBody> {
        self.runs.snapshot().into_iter().map(|run| (run.run_id.clone(), run)).collect()
    }
}

#[test]
fn a_walk_shows_nothing_that_came_after_a_restart_though_nothing_moved_before_it() {
    let arrival = |run, is_foreign| Arrival { run, minute: 0, kind: "log", is_foreign };
    let mut world = World::new();
    world.arrive(&[arrival(1, false), arrival(2, true)]);
    // One more of the same time, from elsewhere: it moves no run, and no position of this directory.
    world.arrive(&[arrival(2, true)]);
    let mut query = RunsQuery { order: RunsOrder::Oldest, limit: 1, ..RunsQuery::default() };
    let (first, next) = world.runs.page(&query);
    world.restart();
    world.arrive(&[arrival(3, true)]);
    query.after = next;
    let (second, next) = world.runs.page(&query);
    let ids: Vec<_> = first.iter().chain(&second).map(|run| run.run_id.as_str()).collect();
    assert_eq!((ids.len(), ids.contains(&"r3")), (2, false), "{ids:?}");
    query.after = next;
    assert!(query.after.is_none() || world.runs.page(&query).0.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn a_walk_sees_what_was_there_and_nothing_that_came_later(
        before in prop::collection::vec(arrivals(0..40), 1..12),
        meanwhile in prop::collection::vec((arrivals(0..80), any::<bool>()), 1..30),
        limit in 1..6_usize,
        order in select(vec![RunsOrder::Newest, RunsOrder::Oldest, RunsOrder::Longest]),
    ) {
        let mut world = World::new();
        before.iter().for_each(|arrivals| world.arrive(arrivals));
        let there = world.all();
        let mut query = RunsQuery { order, limit, ..RunsQuery::default() };
        let (mut walked, mut changed) = (Vec::new(), BTreeSet::new());
        // Records never end; the walk does.
        let mut meanwhile = meanwhile.iter().cycle();
        for page in 0.. {
            prop_assert!(page <= 2 * there.len() / limit + 1, "it ends");
            let (runs, next) = world.runs.page(&query);
            prop_assert!(runs.len() == limit || next.is_none());
            walked.extend(runs.into_iter().map(|run| run.run_id));
            let Some(next) = next else { break };
            query.after = Some(next);
            let (arrivals, restarts) = meanwhile.next().unwrap();
            world.arrive(arrivals);
            changed.extend(arrivals.iter().map(|arrival| format!("r{}", arrival.run)));
            if *restarts {
                world.restart();
            }
        }
        for id in &walked {
            prop_assert!(there.contains_key(id), "{id} came later: {walked:?}");
        }
        for id in there.keys() {
            let times = walked.iter().filter(|other| *other == id).count();
            let right = if changed.contains(id) { 1..=2 } else { 1..=1 };
            prop_assert!(right.contains(&times), "{id} {times} times, {order:?}: {walked:?}");
        }
        // Those that stood still are in order.
        let still: Vec<&RunBody> = walked.iter().filter(|id| !changed.contains(*id)).map(|id| &there[id]).collect();
        let is_right = |one: &RunBody, other: &RunBody| match order {
            RunsOrder::Newest => one.started_at >= other.started_at,
            RunsOrder::Oldest => one.started_at <= other.started_at,
            RunsOrder::Longest => one.duration >= other.duration,
        };
        prop_assert!(still.is_sorted_by(|one, other| is_right(one, other)), "{order:?}: {walked:?}");
    }
}
