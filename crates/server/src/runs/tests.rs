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
    assert_eq!(open(&lineage(&[(2, 1)]), 5), (0, 0), "another journal's positions mean nothing here");
    assert_eq!(open(&lineage(&[(1, 1)]), 4), (0, 0), "a table ahead of its journal is not believed");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(open(&lineage(&[(1, 1)]), 5), (0, 0));
    assert_eq!(runs.get("a").map(|run| run.state), Some("succeeded".to_owned()));
}
