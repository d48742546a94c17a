//! Random histories: whatever comes in whatever order, metrics and pages say what a scan of all folds says.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use runstone_record::run::RunState;
use runstone_record::{Batch, IdMint, parse};

use super::metrics::percentiles_of;
use super::*;
use crate::lineage::Lineage;
use crate::sources::SourceSettings;

/// 2026-01-01T22:00:00Z, in microseconds: the records cross midnight.
const BASE: i64 = 1_767_304_800_000_000;
const MINUTE: i64 = 60_000_000;

/// So many minutes later.
fn stamp(minutes: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_microsecond(BASE + minutes * MINUTE).unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    /// Records arrive.
    Arrive(Vec<String>),
    /// These runs are folded anew, without the records whose numbers these divide; others arrive meanwhile.
    Anew(Vec<&'static str>, usize, Vec<String>),
    /// The server starts again.
    Restart,
}

fn record() -> impl Strategy<Value = String> {
    let member = |name: &'static str, values: Vec<&'static str>| {
        prop::option::of(select(values))
            .prop_map(move |value| value.map_or(String::new(), |value| format!(r#","{name}":{value}"#)))
    };
    (
        select(vec!["a", "b", "c", "d", "e"]),
        0..300_i64,
        member("type", vec!["\"start\"", "\"success\"", "\"error\"", "\"activity\"", "\"end\""]),
        member("level", vec!["30", "40"]),
        member("row_count", vec!["0", "7", "9223372036854775807"]),
        member("source_system", vec!["\"shop\"", "\"crm\"", "\"odd\""]),
        member("stage", vec!["\"load\"", "\"clean\""]),
        member("title", vec!["\"Orders\"", "\"Übung\""]),
        member("duration", vec!["90", "0.25", "4000"]),
    )
        .prop_map(|(run, minute, a, b, c, d, e, f, g)| {
            let at = stamp(minute);
            format!(r#"{{"run_id":"{run}","timestamp":"{at}"{a}{b}{c}{d}{e}{f}{g}}}"#)
        })
}

fn step() -> impl Strategy<Value = Step> {
    let records = || prop::collection::vec(record(), 1..8);
    prop_oneof![
        6 => records().prop_map(Step::Arrive),
        2 => (subsequence(vec!["a", "b", "c", "d", "e"], 1..4), 1..4_usize, records())
            .prop_map(|(ids, without, meanwhile)| Step::Anew(ids, without, meanwhile)),
        1 => Just(Step::Restart),
    ]
}

fn question() -> impl Strategy<Value = MetricsQuery> {
    let bound = || prop::option::of((0..300_i64).prop_map(|minute| BASE + minute * MINUTE));
    let word = |words: &[&str]| prop::option::of(select(words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>()));
    let filter = (
        prop::option::weighted(0.2, select(vec![RunState::Running, RunState::Succeeded, RunState::Failed])),
        word(&["shop", "crm", "none"]),
        word(&["load"]),
        word(&["production"]),
        word(&["team-a"]),
    );
    let buckets = [1_i64, 300, 1_000, 3_600, 5_400, 7_200, 86_400, 604_800];
    let buckets = buckets.map(|seconds| Bucket { micros: seconds * 1_000_000, origin: 0 });
    let bucket = prop::option::of(select(buckets.to_vec()));
    let percentiles = subsequence(vec![0.0, 12.5, 50.0, 99.9, 100.0], 0..4);
    (filter, bound(), bound(), subsequence(GroupBy::ALL.to_vec(), 0..=4), bucket, percentiles, 0..3_u8).prop_map(
        |((state, source_system, stage, environment, owner), since, until, group_by, bucket, percentiles, narrow)| {
            let filter = match narrow {
                0 => RunFilter { since, until, ..RunFilter::default() },
                1 => RunFilter { state, source_system, stage, since, until, ..RunFilter::default() },
                _ => RunFilter { state, environment, owner, since, until, ..RunFilter::default() },
            };
            MetricsQuery { filter, group_by, bucket, percentiles }
        },
    )
}

fn sources() -> Arc<SourceSystems> {
    let source = |environment: &str, owner: &str| SourceSettings {
        environment: Some(environment.to_owned()),
        owner: Some(owner.to_owned()),
        labels: BTreeMap::new(),
    };
    let named = [("shop", source("production", "team-a")), ("crm", source("production", "team-b"))];
    Arc::new(SourceSystems(named.map(|(name, source)| (name.to_owned(), source)).into()))
}

/// What has arrived, and the runs of it.
struct World {
    runs: Runs,
    arrived: Vec<(u64, Batch)>,
    next: u64,
}

impl World {
    fn new() -> Self {
        let lineage = Lineage::made(uuid::Uuid::from_u128(1), &[(1, 1)]);
        Self { runs: Runs::new(Vec::new(), Place::start(&lineage), sources()), arrived: Vec::new(), next: 1 }
    }

    fn arrive(&mut self, records: &[String]) {
        let body = records.join("\n");
        let batch =
            parse::ndjson(body.as_bytes()).unwrap().builder.stamp(&mut IdMint::new(1, self.next.into()), BASE, None);
        assert_eq!(batch.len(), records.len(), "{body}");
        self.runs.add(self.next, &batch);
        let first = self.next;
        self.next += batch.len() as u64;
        self.arrived.push((first, batch));
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Arrive(records) => self.arrive(&records),
            Step::Anew(ids, without, meanwhile) => {
                let mut affected: Vec<(String, u64)> = ids.iter().map(|&id| (id.to_owned(), 0)).collect();
                let mut anew = Folds::new();
                for (first, batch) in &self.arrived {
                    for row in 0..batch.len() {
                        let (run, position) = (batch.text(Column::RunId, row).unwrap(), first + row as u64);
                        let Some((_, left_out)) = affected.iter_mut().find(|(id, _)| id == run) else { continue };
                        if position.is_multiple_of(without as u64) {
                            *left_out += 1;
                        } else {
                            anew.entry(run.to_owned()).or_default().add(batch, row, position);
                        }
                    }
                }
                let (_, least) = self.runs.begin_beside(&affected);
                self.arrive(&meanwhile);
                assert_eq!(self.runs.replace(&least, anew), 0);
                self.runs.end_beside();
            }
            Step::Restart => {
                let now = self.runs.now();
                let runs = now.view.all().map(|run| (run.id.to_string(), (*run.fold).clone(), run.stamps)).collect();
                self.runs = Runs::new(runs, now.place, sources());
            }
        }
    }

    fn folds(&self) -> Vec<(String, RunFold)> {
        self.runs.read().table.values().map(|kept| (kept.id.to_string(), (*kept.fold).clone())).collect()
    }
}

fn takes(filter: &RunFilter, fold: &RunFold) -> bool {
    let (sources, source) = (sources(), fold.source_system());
    filter.state.is_none_or(|state| fold.state() == state)
        && filter.source_system.as_deref().is_none_or(|wanted| source == Some(wanted))
        && filter.stage.as_deref().is_none_or(|wanted| fold.stage() == Some(wanted))
        && filter.environment.as_deref().is_none_or(|wanted| sources.environment(source) == Some(wanted))
        && filter.owner.as_deref().is_none_or(|wanted| sources.owner(source) == Some(wanted))
        && filter.since.is_none_or(|since| fold.started_at() >= since)
        && filter.until.is_none_or(|until| fold.started_at() < until)
}

fn name(by: GroupBy, fold: &RunFold) -> Option<String> {
    let (sources, source) = (sources(), fold.source_system());
    let name = match by {
        GroupBy::SourceSystem => source,
        GroupBy::Stage => fold.stage(),
        GroupBy::Environment => sources.environment(source),
        GroupBy::Owner => sources.owner(source),
    };
    name.map(str::to_owned)
}

#[expect(clippy::cast_sign_loss, reason = "a place in a list")]
fn place(exact: f64) -> usize {
    exact as usize
}

/// Bucket and names, those that are missing last.
type Key = (Option<i64>, Vec<(bool, Option<String>)>);

fn check_metrics(world: &World, query: &MetricsQuery) {
    let mut groups = BTreeMap::<Key, Vec<RunFold>>::new();
    for (_, fold) in world.folds().into_iter().filter(|(_, fold)| takes(&query.filter, fold)) {
        let bucket = query.bucket.map(|bucket| fold.started_at().div_euclid(bucket.micros) * bucket.micros);
        let names = query.group_by.iter().map(|by| name(*by, &fold)).map(|name| (name.is_none(), name)).collect();
        groups.entry((bucket, names)).or_default().push(fold);
    }
    let found = world.runs.metrics(query).unwrap();
    assert_eq!(found.len(), groups.len());
    for (group, ((bucket, names), folds)) in found.iter().zip(groups) {
        let by: Vec<Option<String>> = group.by.iter().map(|name| name.as_deref().map(str::to_owned)).collect();
        assert_eq!((group.bucket, by), (bucket, names.into_iter().map(|(_, name)| name).collect()));
        let count = |state| folds.iter().filter(|fold| fold.state() == state).count() as u64;
        let states = [RunState::Running, RunState::Succeeded, RunState::Failed].map(count);
        assert_eq!([group.running, group.succeeded, group.failed], states);
        assert_eq!(group.runs(), folds.len() as u64);
        let sum = |get: fn(&RunFold) -> u64| folds.iter().map(get).sum::<u64>();
        assert_eq!(group.records(), sum(RunFold::records));
        assert_eq!((group.warnings(), group.errors()), (sum(RunFold::warnings), sum(RunFold::errors)));
        let counts = folds.iter().filter_map(RunFold::row_count);
        assert_eq!(group.row_count(), counts.reduce(i64::saturating_add));
        let mut durations: Vec<f64> =
            folds.iter().filter(|fold| fold.state() != RunState::Running).map(RunFold::duration).collect();
        durations.sort_by(f64::total_cmp);
        let near = |one: f64, other: f64| assert!((one - other).abs() <= 1e-9 * other.abs().max(1.0), "{one} {other}");
        assert_eq!(group.durations.is_some(), !durations.is_empty());
        let Some(found) = &group.durations else { continue };
        let total: f64 = durations.iter().sum();
        near(found.sum, total);
        near(found.mean, total / durations.len() as f64);
        assert_eq!((found.min, found.max), (durations[0], durations[durations.len() - 1]));
        for (percentile, found) in query.percentiles.iter().zip(&found.percentiles) {
            let exact = percentile / 100.0 * (durations.len() - 1) as f64;
            let (low, high) = (durations[place(exact.floor())], durations[place(exact.ceil())]);
            near(*found, low + (high - low) * exact.fract());
        }
    }
}

fn check_pages(world: &World, filter: &RunFilter, order: RunsOrder, contains: Option<&str>) {
    let mut wanted = world.folds();
    let has = |text: &str| contains.is_none_or(|part| text.to_lowercase().contains(&part.to_lowercase()));
    wanted.retain(|(id, fold)| {
        let texts = [Some(id.as_str()), fold.title(), fold.failure()];
        takes(filter, fold) && (contains.is_none() || texts.into_iter().flatten().any(has))
    });
    let newest = |(one, a): &(String, RunFold), (other, b): &(String, RunFold)| {
        b.started_at().cmp(&a.started_at()).then_with(|| one.cmp(other))
    };
    wanted.sort_by(|one, other| match order {
        RunsOrder::Newest => newest(one, other),
        RunsOrder::Oldest => newest(other, one),
        RunsOrder::Longest => other.1.duration().total_cmp(&one.1.duration()).then_with(|| newest(one, other)),
    });
    let contains = contains.map(|text| Contains::new(text).unwrap());
    let mut query = RunsQuery { filter: filter.clone(), contains, order, limit: 2, ..RunsQuery::default() };
    let mut walked = Vec::new();
    loop {
        let (page, next) = world.runs.page(&query);
        assert!(page.len() == 2 || next.is_none());
        walked.extend(page.into_iter().map(|run| run.run_id));
        let Some(next) = next else { break };
        query.after = Some(next);
    }
    assert_eq!(walked, wanted.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), "{order:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn a_rollup_is_what_a_scan_of_all_folds_gives(
        steps in prop::collection::vec((step(), question()), 1..12),
        text in prop::option::of(select(vec!["ORD", "ü", "a", "."])),
    ) {
        let mut world = World::new();
        for (step, question) in steps {
            world.take(step);
            check_metrics(&world, &question);
            for order in [RunsOrder::Newest, RunsOrder::Oldest, RunsOrder::Longest] {
                check_pages(&world, &question.filter, order, text);
            }
        }
        let state = world.runs.read();
        prop_assert_eq!(state.rollup.check(), state.table.len());
    }
}

proptest! {
    #[test]
    fn percentiles_are_found_without_sorting(
        mut values in prop::collection::vec(0..50_u64, 1..120),
        percentiles in prop::collection::vec(0.0..=100.0_f64, 0..10),
    ) {
        let found = percentiles_of(&mut values.clone(), &percentiles);
        values.sort_unstable();
        for (percentile, found) in percentiles.iter().zip(found) {
            let exact = percentile / 100.0 * (values.len() - 1) as f64;
            let [low, high] = [exact.floor(), exact.ceil()].map(|at| values[place(at)] as f64 / 1e6);
            prop_assert!((found - (low + (high - low) * exact.fract())).abs() < 1e-12, "{percentile} of {values:?}: {found}");
        }
    }

}

proptest! {
    // Each is of thousands of runs: that many make chunks split, empty and go.
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 50, ..ProptestConfig::default() })]
    #[test]
    fn runs_stay_in_order_whatever_comes_and_goes(starts in prop::collection::vec((0..900_u32, 0..2_000_i64), 3_000)) {
        let (mut rollup, mut kept, mut seen) = (Rollup::default(), BTreeMap::new(), Vec::new());
        for (id, at) in starts {
            let run_id: Arc<str> = id.to_string().into();
            let was = kept.get(&id).copied();
            // Few are taken away for good.
            if at % 7 == 0 {
                if let Some(was) = kept.remove(&id) {
                    rollup.remove(&run_id, was);
                }
                continue;
            }
            let start = format!(r#"{{"run_id":"{id}","type":"start","timestamp":"{}"}}"#, stamp(at));
            let end = format!(r#"{{"run_id":"{id}","type":"end","row_count":{at},"timestamp":"{}"}}"#, stamp(at + at % 5));
            let body = if at % 2 == 0 { start } else { format!("{start}\n{end}") };
            let batch = parse::ndjson(body.as_bytes()).unwrap().builder.stamp(&mut IdMint::new(1, 1), BASE, None);
            let mut fold = RunFold::default();
            (0..batch.len()).for_each(|row| fold.add(&batch, row, 1));
            rollup.update(&run_id, was, &Arc::new(fold), Stamps::default());
            kept.insert(id, BASE + at * MINUTE);
            if at % 50 == 0 {
                seen.push((rollup.view().clone(), kept.len()));
            }
        }
        // Whoever looks at one moment is not disturbed.
        for (view, count) in seen {
            prop_assert_eq!(view.all().count(), count);
        }
        prop_assert_eq!(rollup.check(), kept.len());
        let mut wanted: Vec<(i64, String)> = kept.iter().map(|(id, at)| (*at, id.to_string())).collect();
        wanted.sort_by(|(at, one), (other_at, other)| at.cmp(other_at).then_with(|| other.cmp(one)));
        let found = rollup.view().between((None, None), None, None).map(|run| (run.at, run.id.to_string()));
        prop_assert_eq!(found.collect::<Vec<_>>(), wanted);
    }
}

#[test]
fn an_answer_has_only_so_many_groups() {
    let mut world = World::new();
    let max = runstone_record::limits::METRICS_GROUPS_MAX;
    let record = |number: usize| {
        let at = jiff::Timestamp::from_second(1_700_000_000 + i64::try_from(number).unwrap()).unwrap();
        format!(r#"{{"run_id":"r{number}","type":"start","timestamp":"{at}"}}"#)
    };
    world.arrive(&(0..max).map(record).collect::<Vec<_>>());
    let bucket = |seconds: i64| MetricsQuery {
        bucket: Some(Bucket { micros: seconds * 1_000_000, origin: 0 }),
        ..MetricsQuery::default()
    };
    assert_eq!(world.runs.metrics(&bucket(1)).unwrap().len(), max);
    world.arrive(&[record(max)]);
    assert_eq!(world.runs.metrics(&bucket(1)), Err(TooManyGroups));
    assert_eq!(world.runs.metrics(&bucket(86_400)).unwrap().iter().map(Group::runs).sum::<u64>(), max as u64 + 1);
}
