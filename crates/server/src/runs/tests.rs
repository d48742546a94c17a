//! The table of runs: its pages, its way to disk and back, and that its rollup is what its runs add up to.

use std::path::PathBuf;

use bytes::Bytes;
use runstone_record::run::RunState;
use runstone_record::{IdMint, parse};
use tokio::runtime::Runtime;

use super::*;
use crate::lineage::Lineage;
use crate::relay::Consumer;

/// A lake that was never reached.
fn nowhere(runtime: &Runtime) -> LakeRows {
    LakeRows::new(Arc::default(), runtime.handle().clone(), false)
}

fn lineage(epochs: &[(u64, u64)]) -> Lineage {
    Lineage::made(uuid::Uuid::from_u128(1), epochs)
}

fn fill(path: PathBuf, runtime: &Runtime) -> (Runs, RunsConsumer) {
    let (runs, mut consumer, through) =
        RunsConsumer::open(path, &lineage(&[(1, 1)]), 9, nowhere(runtime), Arc::default());
    assert_eq!(through, 0);
    let body = br#"[
        {"run_id":"a","type":"start","timestamp":"2026-01-01T00:00:00Z","source_system":"x"},
        {"run_id":"b","type":"start","timestamp":"2026-01-02T00:00:00Z","source_system":"y"},
        {"run_id":"c","type":"start","timestamp":"2026-01-02T00:00:00Z","source_system":"x"},
        {"run_id":"a","type":"success","timestamp":"2026-01-03T00:00:00Z"},
        {"message":"of no run"}]"#;
    let batch = parse::json(body).unwrap().builder.stamp(&mut IdMint::new(1, 1), 1, None);
    consumer.take(1, &Bytes::from(batch.encode())).unwrap();
    (runs, consumer)
}

fn ids(bodies: &[RunBody]) -> Vec<&str> {
    bodies.iter().map(|body| body.run_id.as_str()).collect()
}

#[test]
fn pages_walk_all_runs_once_latest_first() {
    let (directory, runtime) = (tempfile::tempdir().unwrap(), Runtime::new().unwrap());
    let (runs, _) = fill(directory.path().join("runs"), &runtime);
    let (mut query, mut walked) = (RunsQuery { limit: 1, ..RunsQuery::default() }, Vec::new());
    loop {
        let (page, next) = runs.page(&query);
        walked.extend(ids(&page).into_iter().map(str::to_owned));
        let Some(next) = next else { break };
        query.after = Some(next);
    }
    assert_eq!(walked, ["b", "c", "a"]);
    let only = RunsQuery {
        limit: 9,
        filter: RunFilter { state: Some(RunState::Running), source_system: Some("x".into()), ..RunFilter::default() },
        ..RunsQuery::default()
    };
    assert_eq!(ids(&runs.page(&only).0), ["c"]);
}

#[test]
fn the_table_comes_back_and_a_damaged_or_foreign_one_is_rebuilt() {
    let (directory, runtime) = (tempfile::tempdir().unwrap(), Runtime::new().unwrap());
    let path = directory.path().join("runs");
    let (runs, mut consumer) = fill(path.clone(), &runtime);
    consumer.stop(5);
    let open = |lineage: &Lineage, durable| {
        let (runs, _, through) = RunsConsumer::open(path.clone(), lineage, durable, nowhere(&runtime), Arc::default());
        (runs.snapshot().len(), through)
    };
    assert_eq!(open(&lineage(&[(1, 1)]), 5), (3, 5));
    assert_eq!(open(&lineage(&[(1, 1), (2, 6)]), 5), (3, 5), "a copy of the directory");
    let mut bytes = std::fs::read(&path).unwrap();
    assert_eq!(open(&lineage(&[(2, 1)]), 5), (0, 0), "another journal's positions mean nothing here");
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(open(&lineage(&[(1, 1)]), 4), (0, 0), "a table ahead of its journal is not believed");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(open(&lineage(&[(1, 1)]), 5), (0, 0));
    assert_eq!(runs.get("a").map(|run| run.state), Some("succeeded".to_owned()));
}

#[test]
fn a_table_of_the_version_before_is_read() {
    let (directory, runtime) = (tempfile::tempdir().unwrap(), Runtime::new().unwrap());
    let path = directory.path().join("runs");
    let (runs, _) = fill(path.clone(), &runtime);
    let now = runs.now();
    let old: Vec<(&str, &RunFold)> = now.view.all().map(|run| (&*run.id, &*run.fold)).collect();
    let content = postcard::to_allocvec(&(&now.place, old)).unwrap();
    let sum = crc32c::crc32c(&content).to_le_bytes();
    std::fs::write(&path, [b"RSRUNS\x03\n", &sum[..], &content].concat()).unwrap();
    let (found, _, through) = RunsConsumer::open(path, &lineage(&[(1, 1)]), 5, nowhere(&runtime), Arc::default());
    assert_eq!((found.get("a"), found.len(), through), (runs.get("a"), 3, 5));
}

#[test]
fn a_run_is_folded_anew_only_where_nothing_but_copies_is_missing() {
    let runs = Runs::new(Vec::new(), Place::start(&lineage(&[(1, 1)])), Arc::default());
    let batch = |number: u64| {
        let body = format!(r#"{{"run_id":"a","timestamp":"2026-01-0{number}T00:00:00Z","row_count":{number}}}"#);
        parse::json(body.as_bytes()).unwrap().builder.stamp(&mut IdMint::new(1, number.into()), 1, None)
    };
    (1..=5).for_each(|number| runs.add(number, &batch(number)));
    // One of its records is a copy. Those that there still are, folded anew; another comes meanwhile.
    let anew = |there: &[u64], comes: u64| {
        let (_, least) = runs.begin_beside(&[("a".to_owned(), 1)]);
        let mut anew = Folds::new();
        there.iter().for_each(|number| anew.entry("a".to_owned()).or_default().add(&batch(*number), 0, *number));
        runs.add(comes, &batch(comes));
        let kept = runs.replace(&least, anew);
        runs.end_beside();
        let run = runs.get("a").unwrap();
        (kept, run.records, run.row_count, run.started_at)
    };
    let at = |day: u64| format!("2026-01-0{day}T00:00:00.000000Z");
    assert_eq!(anew(&[2, 3, 4], 6), (1, 6, Some(21), at(1)), "the first has left the lake");
    assert_eq!(anew(&[], 7), (1, 7, Some(28), at(1)), "all have");
    assert_eq!(anew(&[2, 3, 4, 5, 6, 7], 8), (0, 7, Some(35), at(2)), "the first was the copy");
}

/// A journal that lost its end grows again, with other records at the same positions.
#[test]
fn what_was_saved_beyond_the_journals_end_is_never_trusted_again() {
    let (directory, runtime) = (tempfile::tempdir().unwrap(), Runtime::new().unwrap());
    let path = directory.path().join("runs");
    let (_, mut consumer) = fill(path.clone(), &runtime);
    consumer.stop(5);
    let open = |durable| {
        let lineage = lineage(&[(1, 1)]);
        RunsConsumer::open(path.clone(), &lineage, durable, nowhere(&runtime), Arc::default()).2
    };
    assert_eq!(open(5), 5, "it is trusted where the journal has all of it");
    assert_eq!(open(4), 0);
    assert_eq!(open(6), 0);
}
