//! A crash, a failure or a lost answer at every operation of the storage: the table opens with exactly the committed rows,
//! and the next run does the rest.

use super::super::Effort;
use super::store::Fault;
use super::world::*;

/// A table with work for every step: files to merge, a day to retire, files to delete.
async fn table() -> World {
    let world = World::new();
    let lake = world.lake().await;
    for number in 0..4 {
        flush(&lake, A, TODAY, &[number * 3, number * 3 + 2, number * 3 + 4]).await;
        flush(&lake, B, TODAY - 2, &[number]).await;
    }
    world.run(&lake, Effort::All).await;
    // Merged files are old enough to go; an orphan lies beside them.
    lake.put(encode(&rows(A, 10_000, &[1, 2, 3]), 10), TODAY).await.unwrap();
    world.advance(2 * HOUR_MS);
    for number in 0..3 {
        flush(&lake, A, TODAY, &[20 + number * 3, 21 + number * 3, 24 + number * 3]).await;
    }
    world
}

async fn expected(world: &World) -> Contents {
    let mut rows = contents(&world.lake().await).await;
    rows.retain(|(journal, _), _| journal == A);
    rows
}

async fn run(fault: Fault) -> u64 {
    let world = table().await;
    let expected = expected(&world).await;
    let mut at = 0;
    loop {
        let world = world.fork();
        let upkeep = world.upkeep_with(1, std::time::Duration::from_secs(3_600));
        let store = world.store.view();
        let doomed = world.lake_on(store.clone()).await.unwrap();
        store.arm(fault, at);
        tokio::select! {
            _ = upkeep.run(&doomed, world.now_ms(), Effort::All) => {}
            // Whoever waits for a storage that never answers is dropped.
            () = store.failed(), if fault == Fault::Hang => {}
        }
        store.release();
        let failed = store.has_failed();
        let lake = world.lake().await;
        let mut there = contents(&lake).await;
        assert!(there.values().all(|copies| copies.len() == 1), "{fault:?} at {at}");
        there.retain(|(journal, _), _| journal == A);
        assert_same(&there, &expected, (fault, at));
        let report = upkeep.run(&lake, world.now_ms(), Effort::All).await;
        assert_eq!(report.failures, [], "{fault:?} at {at}");
        assert_same(&contents(&lake).await, &expected, (fault, at));
        assert_eq!(lake.snapshot().files.len(), 1, "{fault:?} at {at}");
        // What a crash left is an orphan for a while, and then gone.
        world.advance(2 * HOUR_MS);
        world.run(&lake, Effort::All).await;
        let data: Vec<_> = world.store.paths().await.into_iter().filter(|path| !path.starts_with('_')).collect();
        assert_eq!(data, [lake.snapshot().files[0].path.clone()], "{fault:?} at {at}");
        if !failed {
            return at;
        }
        at += 1;
    }
}

#[tokio::test]
async fn a_process_that_dies_before_any_operation() {
    let operations = run(Fault::Dead).await;
    assert!(operations > 20, "only {operations} operations");
}

#[tokio::test]
async fn a_process_that_dies_after_any_operation() {
    run(Fault::DeadAfter).await;
}

#[tokio::test]
async fn a_storage_that_fails_once() {
    run(Fault::Once).await;
}

#[tokio::test]
async fn a_storage_that_loses_one_answer() {
    run(Fault::Unanswered).await;
}

#[tokio::test]
async fn a_run_that_is_dropped_anywhere() {
    run(Fault::Hang).await;
}
