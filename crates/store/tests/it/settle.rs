//! The seam to the lake: what is settled is held nowhere else, wherever the seam lies and whatever goes on meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use runstone_store::PushError;
use runstone_store::lake::{FileStats, LakeView};

use crate::shelf::Shelf;
use crate::world::{JOURNAL, World, limits, lines};

/// A lake that says nothing, to see what is held beside it.
fn nothing(world: &World) -> Arc<LakeView> {
    world.wait(Shelf::new()).view()
}

#[derive(Debug, Clone)]
enum Step {
    Push(usize),
    /// A share of what is not settled, in sixteenths.
    Settle(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = prop_oneof![6 => 1..4_usize, 2 => 4..60_usize];
    prop::collection::vec(
        prop_oneof![12 => size.prop_map(Step::Push), 1 => (0..=16_u64).prop_map(Step::Settle)],
        1..150,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_is_settled_is_not_held(steps in steps(), bytes_max in prop_oneof![Just(0_usize), Just(20_000), Just(usize::MAX)]) {
        let mut world = World::new(bytes_max, limits());
        let lake = nothing(&world);
        let (mut through, mut settled) = (0_u64, 0_u64);
        for (number, step) in steps.into_iter().enumerate() {
            let number = number as u64;
            match step {
                Step::Push(count) => {
                    world.push(lines(count, number));
                    through += count as u64;
                }
                Step::Settle(share) => {
                    settled += (through - settled) * share / 16;
                    world.recent.settle(Arc::clone(&lake), settled);
                    let expected: Vec<u64> = (settled + 1..=through).collect();
                    prop_assert_eq!(world.positions("true"), expected);
                }
            }
            let stats = world.recent.stats();
            prop_assert_eq!((stats.through, stats.settled), (through, settled));
            prop_assert_eq!(stats.records + stats.evicted, through - settled);
            prop_assert!(stats.bytes <= bytes_max);
        }
        let rows = world.query("SELECT position, timestamp, id, message FROM logs ORDER BY position").rows;
        let mut rows = rows.iter();
        for (first, batch) in &world.batches {
            for row in 0..batch.len() {
                let position = first + row as u64;
                if position > settled {
                    let shown = rows.next().unwrap();
                    prop_assert_eq!(&shown["position"], position);
                    prop_assert_eq!(&shown["id"], &batch.ids().get(row).to_string());
                    prop_assert_eq!(shown["message"].as_str(), batch.text(runstone_record::Column::Message, row));
                }
            }
        }
        prop_assert!(rows.next().is_none());
        // Known without reading, or read.
        let least = world.column("SELECT min(timestamp) FROM logs");
        prop_assert_eq!(least, world.column("SELECT timestamp FROM logs ORDER BY timestamp LIMIT 1").first().cloned().into_iter().chain([serde_json::Value::Null]).take(1).collect::<Vec<_>>());
    }
}

#[test]
fn frames_below_the_seam_are_left_out() {
    let mut world = World::new(usize::MAX, limits());
    let shelf = world.wait(Shelf::new());
    let old = shelf.view();
    world.wait(shelf.put_foreign(&crate::shelf::table(JOURNAL, &[]), FileStats { rows: Some(0), columns: vec![] }, 0));
    // A start: the lake has more than was pushed yet.
    world.recent.settle(shelf.view(), 25);
    assert_eq!(world.recent.through(), 25);
    world.push(lines(10, 1));
    world.push(lines(10, 2));
    assert_eq!(world.recent.stats().records, 0);
    world.push(lines(10, 3));
    world.push(lines(10, 4));
    assert_eq!(world.positions("true"), (26..=40).collect::<Vec<_>>());
    let again = world.recent.push(JOURNAL, 31, lines(10, 4)).unwrap_err();
    assert!(matches!(again, PushError::Order { first: 31, through: 40 }), "{again}");
    // What is older than what is in use changes nothing.
    world.recent.settle(old, 30);
    world.recent.settle(shelf.view(), 24);
    assert_eq!(world.recent.stats().settled, 25);
    world.recent.settle(shelf.view(), 33);
    assert_eq!(world.positions("true"), (34..=40).collect::<Vec<_>>());
}

#[test]
fn chunks_and_ranges_hold_one_journal_each() {
    for bytes_max in [0, usize::MAX] {
        let world = World::new(bytes_max, limits());
        for (number, first) in (1..=41_u64).step_by(2).enumerate() {
            let batch = lines(2, first);
            world.journal.put(first, &batch);
            let epoch = number / 7 + 1;
            world.recent.push(&format!("01980000-0000-7000-8000-000000000001/{epoch}"), first, batch).unwrap();
        }
        let counts =
            world.query("SELECT journal, count(*) AS n, min(position) AS low FROM logs GROUP BY 1 ORDER BY 1").rows;
        let shown: Vec<_> =
            counts.iter().map(|row| (row["n"].as_u64().unwrap(), row["low"].as_u64().unwrap())).collect();
        assert_eq!(shown, [(14, 1), (14, 15), (14, 29)]);
        let pruned =
            world.query("EXPLAIN SELECT message FROM logs WHERE journal = '01980000-0000-7000-8000-000000000001/2'");
        let text = serde_json::to_string(&pruned.rows).unwrap();
        assert!(text.contains("pruned="), "{text}");
        world.recent.settle(nothing(&world), 20);
        assert_eq!(world.number("SELECT min(position) FROM logs"), 21);
        assert_eq!(world.number("SELECT count(DISTINCT journal) FROM logs"), 2);
    }
}

#[test]
fn settling_while_frames_come_and_chunks_merge() {
    let world = World::new(usize::MAX, limits());
    let (recent, done) = (Arc::clone(&world.recent), Arc::new(AtomicBool::new(false)));
    let stop = Arc::clone(&done);
    let pusher = std::thread::spawn(move || {
        let mut next = 1;
        while !stop.load(Ordering::Relaxed) {
            recent.push(JOURNAL, next, lines(1, next % 100)).unwrap();
            next += 1;
        }
        next - 1
    });
    let lake = nothing(&world);
    for _ in 0..40 {
        let through = world.recent.through();
        let settled = through - through % 7;
        world.recent.settle(Arc::clone(&lake), settled);
        let sql = "SELECT count(*) AS n, min(position) AS low, max(position) AS high, sum(position) AS sum FROM logs";
        let row = world.query(sql).rows.remove(0);
        if let (Some(low), Some(high)) = (row["low"].as_u64(), row["high"].as_u64()) {
            assert_eq!(low, settled + 1);
            assert_eq!(row["n"], high - low + 1);
            assert_eq!(row["sum"], (low + high) * (high - low + 1) / 2);
        }
    }
    done.store(true, Ordering::Relaxed);
    let total = pusher.join().unwrap();
    let settled = world.recent.stats().settled;
    assert_eq!(world.positions("true"), (settled + 1..=total).collect::<Vec<_>>());
}
