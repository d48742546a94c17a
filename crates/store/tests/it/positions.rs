//! The lake read by position: every record once, in order, as the batches that it was.

use proptest::prelude::*;
use runstone_record::{Batch, Column, ColumnSet};
use runstone_store::lake::{LakeError, PositionReader, Positions};

use crate::shelf::{Row, Shelf, rows_between};
use crate::world::{JOURNAL, World, batch, batches, limits, lines};

fn ask(after: u64, through: u64, complete: bool) -> Positions {
    Positions { journal: JOURNAL.to_owned(), after, through, columns: ColumnSet::ALL, complete }
}

fn open(shelf: &Shelf, ask: Positions) -> PositionReader {
    shelf.lake.read_positions(&shelf.lake.snapshot(), ask).unwrap()
}

/// Every record as JSON, and how many batches they came in.
fn read(world: &World, mut reader: PositionReader) -> Result<(Vec<String>, Vec<(u64, Batch)>), LakeError> {
    let (mut records, mut batches) = (Vec::new(), Vec::new());
    while let Some((first, batch)) = world.wait(reader.next())? {
        for row in 0..batch.len() {
            let mut json = Vec::new();
            batch.write_json(row, JOURNAL, first + row as u64, &mut json);
            records.push(String::from_utf8(json).unwrap());
        }
        batches.push((first, batch));
    }
    Ok((records, batches))
}

fn json(rows: &[Row<'_>]) -> Vec<String> {
    let json = |(position, batch, row): &Row<'_>| {
        let mut json = Vec::new();
        batch.write_json(*row, JOURNAL, *position, &mut json);
        String::from_utf8(json).unwrap()
    };
    rows.iter().map(json).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn every_record_comes_once_and_in_order(
        batches in batches(), seams in prop::collection::vec(0.0..1.0_f64, 0..5), ends in (0.0..1.0_f64, 0.0..1.0_f64),
    ) {
        let mut world = World::new(usize::MAX, limits());
        batches.into_iter().for_each(|batch| world.push(batch));
        let last = world.last();
        let place = |share: f64| (share * last as f64) as u64;
        let mut seams: Vec<u64> = seams.iter().map(|share| place(*share)).chain([last]).collect();
        seams.sort_unstable();
        world.shelf().rows_per_group = 20;
        seams.iter().for_each(|through| world.settle(*through));
        let (after, through) = (place(ends.0.min(ends.1)), place(ends.0.max(ends.1)));
        for (after, through) in [(0, last), (after, through)] {
            let shelf = world.shelf.as_ref().unwrap();
            let (records, read) = read(&world, open(shelf, ask(after, through, true))).unwrap();
            prop_assert_eq!(records, json(&rows_between(&world.batches, after, through)));
            // As few batches as there were times of arrival, for no batch has two.
            prop_assert!(read.len() <= world.batches.len());
            for (_, batch) in &read {
                prop_assert_eq!(&Batch::decode(&batch.encode()).unwrap(), batch);
            }
        }
    }
}

#[test]
fn what_is_missing_is_named_where_everything_is_asked_for() {
    let mut world = World::new(usize::MAX, limits());
    (0..6).for_each(|seed| world.push(lines(50, seed)));
    (1..=6).for_each(|part| world.settle(part * 50));
    let shelf = world.shelf.as_ref().unwrap();
    let snapshot = shelf.lake.snapshot();
    let files = snapshot.files.iter().filter(|file| matches!(file.positions(), Some((101 | 151, _)))).cloned();
    let change = runstone_store::lake::Change {
        journal: None,
        add: vec![],
        remove: files.collect(),
        data_change: true,
        operation: "DELETE",
        metrics: vec![],
    };
    world.wait(shelf.lake.commit(change)).unwrap();
    for (after, through, missing) in [
        (0, 300, Some("101 to 200")),
        (120, 300, Some("121 to 200")),
        (90, 150, Some("101 to 150")),
        (200, 300, None),
        (250, 340, Some("301 to 340")),
    ] {
        let all = read(&world, open(shelf, ask(after, through, true)));
        match missing {
            None => assert_eq!(all.unwrap().0.len() as u64, through - after),
            Some(missing) => {
                let error = all.unwrap_err();
                assert!(matches!(error, LakeError::Damaged(_)), "{error}");
                assert!(error.to_string().contains(&format!("positions {missing} of journal {JOURNAL}")), "{error}");
            }
        }
        let kept: Vec<u64> = (after + 1..=through.min(300)).filter(|at| !(101..=200).contains(at)).collect();
        let (_, some) = read(&world, open(shelf, ask(after, through, false))).unwrap();
        let positions: Vec<u64> = some.iter().flat_map(|(first, batch)| *first..first + batch.len() as u64).collect();
        assert_eq!(positions, kept);
    }
}

#[test]
fn only_what_is_asked_for_is_read() {
    let mut world = World::new(usize::MAX, limits());
    world.push(lines(100, 3));
    world.settle(100);
    let shelf = world.shelf.as_ref().unwrap();
    let columns = ColumnSet::of(&[Column::RunId, Column::Timestamp]);
    let (_, read) = read(&world, open(shelf, Positions { columns, ..ask(0, 100, true) })).unwrap();
    let [(1, some)] = &read[..] else { panic!("{} batches", read.len()) };
    assert_eq!((some.len(), some.ingested_at()), (100, world.batches[0].1.ingested_at()));
    assert_eq!(some.text(Column::RunId, 42), Some("run-3-2"));
    assert_eq!(some.timestamp(42), world.batches[0].1.timestamp(42));
    assert_eq!(some.text(Column::Message, 42), None);
    let none = Positions { journal: "01980000-0000-7000-8000-000000000009/1".to_owned(), ..ask(0, 100, false) };
    assert!(world.wait(open(shelf, none).next()).unwrap().is_none());
}

#[test]
fn a_position_that_is_there_twice_is_no_secret() {
    let mut world = World::new(usize::MAX, limits());
    world.push(lines(10, 0));
    world.settle(10);
    let rows = rows_between(&world.batches, 4, 6);
    let shelf = world.shelf.as_ref().unwrap();
    let (copy, stats) = (crate::shelf::table(JOURNAL, &rows), crate::shelf::stats(JOURNAL, &rows));
    world.wait(shelf.put_foreign(&copy, stats, 20_412));
    let error = read(&world, open(shelf, ask(0, 10, true))).unwrap_err();
    assert!(error.to_string().contains("position 5 of journal"), "{error}");
}

#[test]
fn large_records_come_a_few_at_a_time() {
    let mut world = World::new(usize::MAX, limits());
    let message = "x".repeat(200_000);
    for seed in 0..4 {
        let draft = |row: usize| crate::world::Draft {
            timestamp: Some(crate::world::NOW + row as i64),
            texts: vec![(Column::Message, format!("{row} {message}"))],
            ..crate::world::Draft::default()
        };
        world.push(batch(&(0..60).map(draft).collect::<Vec<_>>(), seed));
    }
    world.settle(240);
    let shelf = world.shelf.as_ref().unwrap();
    let mut reader = open(shelf, ask(0, 240, true));
    let mut next = 1;
    while let Some((first, batch)) = world.wait(reader.next()).unwrap() {
        assert_eq!(first, next);
        let bytes: usize = (0..batch.len()).map(|row| batch.text(Column::Message, row).unwrap().len()).sum();
        assert!(bytes <= 33 << 20, "{bytes}");
        next += batch.len() as u64;
    }
    assert_eq!(next, 241);
}
