//! The seam to the lake: what is settled is held nowhere else, wherever the seam lies and whatever goes on meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proptest::prelude::*;
use runstone_record::{Batch, Column};
use runstone_store::PushError;
use runstone_store::lake::{FileStats, LakeView};

use crate::shelf::{Shelf, rows_between};
use crate::world::{Draft, JOURNAL, NOW, World, batch, limits, lines};

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
                    prop_assert_eq!(shown["message"].as_str(), batch.text(Column::Message, row));
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
        // No more than a slow machine can ask about.
        while next <= 100_000 && !stop.load(Ordering::Relaxed) {
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

/// What one query sees of the positions: how many, their sum, their distinct ids, the greatest.
const SEEN: &str =
    "SELECT count(*) AS n, sum(position) AS sum, count(DISTINCT id) AS ids, max(position) AS high FROM logs";

/// Records whose ids are their positions; a day of arrival lasts for many.
fn frame(first: u64, count: u64) -> Batch {
    let draft = |position: u64| Draft {
        id: Some(position.into()),
        timestamp: Some(NOW + i64::try_from(position).unwrap() * 1_000),
        texts: vec![(Column::Message, format!("record {position}"))],
        ..Draft::default()
    };
    batch(&(first..first + count).map(draft).collect::<Vec<_>>(), first / 1_000)
}

#[test]
#[expect(clippy::too_many_lines, reason = "one scene from its beginning to its end")]
fn no_gap_and_no_overlap_while_frames_come_and_files_change() {
    let mut world = World::new(60_000, limits());
    world.shelf();
    let (done, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(1)));
    let (recent, journal, stop) = (Arc::clone(&world.recent), Arc::clone(&world.journal), Arc::clone(&done));
    let turn = Arc::clone(&asked);
    // One thread takes frames in, one moves them to the lake and compacts it, this one asks.
    let pusher = std::thread::spawn(move || {
        let mut next = 1;
        while !stop.load(Ordering::Relaxed) {
            let batch = frame(next, 1 + next % 50);
            journal.put(next, &batch);
            recent.push(JOURNAL, next, batch.clone()).unwrap();
            next += batch.len() as u64;
            // So many for each question: who runs away leaves the others no processor.
            while !stop.load(Ordering::Relaxed) && next > 600 * turn.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
        }
        next - 1
    });
    let (recent, journal, stop) = (Arc::clone(&world.recent), Arc::clone(&world.journal), Arc::clone(&done));
    let mut shelf = world.shelf.take().unwrap();
    let mover = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut rounds = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            rounds += 1;
            let (settled, through) = (recent.stats().settled, recent.through());
            // In the middle of a frame, mostly.
            let through = settled + (through - settled) * (rounds % 4 + 1) / 4;
            if through > settled {
                let batches = journal.batches(settled + 1, through);
                let rows = rows_between(&batches, settled, through);
                runtime.block_on(shelf.flush(JOURNAL, &rows));
                recent.settle(shelf.view(), through);
            }
            if rounds.is_multiple_of(5) {
                let files =
                    shelf.lake.snapshot().files.iter().filter(|file| file.bytes < 200_000).cloned().collect::<Vec<_>>();
                let day = files.first().and_then(|file| file.date);
                let files: Vec<_> = files.into_iter().filter(|file| file.date == day).take(8).collect();
                if files.len() > 1 {
                    let kept: Vec<(u64, u64)> = files.iter().map(|file| file.positions().unwrap()).collect();
                    let batches: Vec<_> =
                        kept.iter().flat_map(|(first, last)| journal.batches(*first, *last)).collect();
                    let is_in = |row: &crate::shelf::Row<'_>| {
                        kept.iter().any(|(first, last)| (*first..=*last).contains(&row.0))
                            && Some(i32::try_from(row.1.ingested_at().div_euclid(86_400_000_000)).unwrap()) == day
                    };
                    let mut rows: Vec<_> = rows_between(&batches, 0, u64::MAX - 1).into_iter().filter(is_in).collect();
                    rows.sort_by_key(|row| row.0);
                    rows.dedup_by_key(|row| row.0);
                    rows.sort_by_key(|(position, batch, row)| (batch.timestamp(*row), *position));
                    runtime.block_on(shelf.compact(files, JOURNAL, &rows));
                    recent.settle(shelf.view(), recent.stats().settled);
                }
            }
        }
        (rounds, shelf)
    });
    let mut highest = 0;
    for question in 0..60 {
        asked.store(question + 1, Ordering::Relaxed);
        let row = world.query(SEEN).rows.remove(0);
        let high = row["high"].as_u64().unwrap_or(0);
        assert_eq!((row["n"].as_u64(), row["ids"].as_u64()), (Some(high), Some(high)));
        assert_eq!(row["sum"].as_u64().unwrap_or(0), high * (high + 1) / 2);
        assert!(high >= highest);
        highest = high;
        let page = world.page(runstone_store::LogsQuery { limit: 20, ..Default::default() }).unwrap();
        assert!(page.count == 20 || high < 20);
    }
    done.store(true, Ordering::Relaxed);
    let total = pusher.join().unwrap();
    let (rounds, _shelf) = mover.join().unwrap();
    assert!(rounds > 5 && highest > 0, "{rounds} rounds");
    assert_eq!(world.number("SELECT max(position) FROM logs"), i64::try_from(total).unwrap());
    assert_eq!(world.positions("position % 1000 = 0").len() as u64, total / 1000);
}
