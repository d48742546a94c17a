//! Repeated deliveries that the server no longer knows: the lake has each id once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::AsArray;
use proptest::prelude::*;
use runstone_record::{Batch, Column, IdMint, parse};

use super::world::{JOURNAL, Time, options_at};
use crate::lake::source::{Opened, Reading, Source};
use crate::lake::{CopyOptions, DeadLetter, DeadLetters, Flushed, Lake, LakeError, LakeWriter, WriterOptions};

/// 2026-11-20T13:00:00Z.
const NOW: i64 = 1_795_179_600_000_000;
const OTHER: &str = "01980000-0000-7000-8000-000000000002/1";

#[derive(Debug, Default)]
struct Letters {
    kept: Mutex<Vec<DeadLetter>>,
    full: AtomicBool,
}

impl DeadLetters for Letters {
    fn keep(&self, letters: &[DeadLetter]) -> std::io::Result<()> {
        if self.full.load(Ordering::Relaxed) {
            return Err(std::io::Error::other("the disk is full"));
        }
        self.kept.lock().unwrap().extend(letters.iter().cloned());
        Ok(())
    }
}

/// A record: its id's number (None: the server mints one), what it says, and when it happened, if the client says.
type Line = (Option<u64>, &'static str, Option<u32>);

/// A text that is larger than what has one checksum, however it is compressed.
fn long(number: u64) -> &'static str {
    (0..500).map(|part| id(number * 1_000 + part)).collect::<String>().leak()
}

/// Numbers as random ids.
fn id(number: u64) -> String {
    let hash = xxhash_rust::xxh3::xxh3_128(&number.to_le_bytes());
    let hex = format!("{hash:032x}");
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

fn batch(lines: &[Line], arrived: i64) -> Batch {
    let line = |(number, message, second): &Line| {
        let id = number.map(|number| format!(r#""id":"{}","#, id(number))).unwrap_or_default();
        let time = second.map(|second| format!(r#""timestamp":"2026-11-20T12:00:{second:02}Z","#)).unwrap_or_default();
        format!(r#"{{{id}{time}"message":"{message}","row_count":3,"capabilities":["a","b"],"extra":{{"k":[1]}}}}"#)
    };
    let text: Vec<String> = lines.iter().map(line).collect();
    let parsed = parse::ndjson(text.join("\n").as_bytes()).unwrap();
    assert_eq!(parsed.builder.len(), lines.len(), "every line is a record");
    parsed.builder.stamp(&mut IdMint::new(7, u128::try_from(arrived).unwrap()), arrived, None)
}

struct World {
    lake: Lake,
    letters: Arc<Letters>,
    unread: Arc<AtomicU64>,
    time: Arc<AtomicI64>,
    dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let time = Time::new();
        let lake = Lake::open(options_at(dir.path(), &time)).await.unwrap();
        Self { lake, time: time.0, letters: Arc::default(), unread: Arc::default(), dir }
    }

    fn writer(&self, known_from: u64, filter_bytes_max: usize) -> LakeWriter {
        let mut writer =
            LakeWriter::new(self.lake.clone(), WriterOptions { group_rows: 4, ..WriterOptions::default() });
        writer.leave_out_copies(self.copies(known_from, filter_bytes_max));
        writer
    }

    fn copies(&self, known_from: u64, filter_bytes_max: usize) -> CopyOptions {
        let letters = Arc::clone(&self.letters) as Arc<dyn DeadLetters>;
        let unread = Arc::clone(&self.unread);
        CopyOptions {
            known_from: Arc::new(move || known_from),
            letters,
            filter_bytes_max,
            unread: Arc::new(move |files| {
                unread.fetch_add(files, Ordering::Relaxed);
            }),
        }
    }

    /// One flush of a journal's next records, whose window knows the ids from a position on.
    async fn flush(&self, journal: &str, lines: &[Line], arrived: i64, known_from: u64) -> Result<Flushed, LakeError> {
        let after = self.lake.cursor(&self.lake.snapshot(), journal).await.unwrap();
        let mut writer = self.writer(known_from, 1 << 20);
        let mut first = after.map_or(1, |after| after + 1);
        for lines in lines.chunks(5) {
            writer.push(journal, first, batch(lines, arrived)).unwrap();
            first += lines.len() as u64;
        }
        writer.flush(after).await.map(Option::unwrap)
    }

    /// Every record of the lake: id, and what it says.
    async fn contents(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for file in self.lake.refresh().await.unwrap().files.iter() {
            let Opened::Source(source) = Source::open(&self.lake.store(), file).await.unwrap() else { panic!() };
            for group in 0..source.metadata().num_row_groups() {
                let reading = Reading { group, columns: Some(vec![Column::Id, Column::Message]), rows: None };
                let rows = source.read(reading, |batches| {
                    let mut rows = Vec::new();
                    for batch in batches {
                        let batch = batch?;
                        let messages =
                            arrow::compute::cast(batch.column(1), &arrow::datatypes::DataType::Utf8).unwrap();
                        let (ids, messages) = (batch.column(0).as_string::<i32>(), messages.as_string::<i32>());
                        let pairs = ids.iter().flatten().zip(messages.iter().flatten());
                        rows.extend(pairs.map(|(id, message)| (id.to_owned(), message.to_owned())));
                    }
                    Ok(rows)
                });
                found.extend(rows.await.unwrap());
            }
        }
        found.sort();
        found
    }

    fn letters(&self) -> Vec<DeadLetter> {
        self.letters.kept.lock().unwrap().clone()
    }
}

fn said(lines: &[(u64, &str)]) -> Vec<(String, String)> {
    let mut said: Vec<_> = lines.iter().map(|(number, message)| (id(*number), (*message).to_owned())).collect();
    said.sort();
    said
}

#[tokio::test]
async fn what_the_lake_has_is_dropped_and_what_differs_becomes_a_dead_letter() {
    let world = World::new().await;
    let first = [(Some(1), "one", Some(1)), (Some(2), "two", Some(2)), (Some(3), "three", Some(3))];
    let flushed = world.flush(JOURNAL, &first, NOW, u64::MAX).await.unwrap();
    assert_eq!((flushed.rows, flushed.copies, flushed.refused), (3, 0, 0));
    // Other files, so that the search has to choose.
    world.flush(JOURNAL, &[(Some(4), "four", Some(4))], NOW + 1, u64::MAX).await.unwrap();
    let again = [
        (Some(1), "one", Some(1)),
        (Some(2), "something else", Some(2)),
        (Some(5), "five", Some(5)),
        (Some(4), "four", Some(4)),
    ];
    let flushed = world.flush(JOURNAL, &again, NOW + 2, u64::MAX).await.unwrap();
    assert_eq!((flushed.rows, flushed.copies, flushed.refused, flushed.through), (1, 2, 1, 8));
    assert_eq!(world.contents().await, said(&[(1, "one"), (2, "two"), (3, "three"), (4, "four"), (5, "five")]));
    let letters = world.letters();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((letter.journal.as_str(), letter.position), (JOURNAL, 6));
    assert_eq!((letter.first_journal.as_str(), letter.first_position), (JOURNAL, 2));
    let record: serde_json::Value = serde_json::from_str(&letter.record).unwrap();
    assert_eq!((record["id"].as_str(), record["message"].as_str()), (Some(id(2).as_str()), Some("something else")));
    // A flush of nothing but copies moves the cursor all the same.
    let flushed = world.flush(JOURNAL, &first, NOW + 3, u64::MAX).await.unwrap();
    assert_eq!((flushed.rows, flushed.files, flushed.copies, flushed.through), (0, 0, 3, 11));
    assert_eq!(world.lake.cursor(&flushed.snapshot, JOURNAL).await.unwrap(), Some(11));
}

#[tokio::test]
async fn where_the_server_looked_itself_the_lake_is_not_searched_again() {
    let world = World::new().await;
    let lines = [(Some(1), "one", Some(1))];
    world.flush(JOURNAL, &lines, NOW, 0).await.unwrap();
    // A lie of the test's: the server would have refused it.
    assert_eq!(world.flush(JOURNAL, &lines, NOW + 1, 0).await.unwrap().copies, 0);
    // It knows only its own journal, and that only from a position on.
    assert_eq!(world.flush(JOURNAL, &lines, NOW + 2, 2).await.unwrap().copies, 1);
    assert_eq!(world.flush(OTHER, &lines, NOW + 3, 0).await.unwrap().copies, 1);
    // Ids that the server minted are not looked for, though they are the same here.
    let minted = [(None, "one", Some(1))];
    for journal in [JOURNAL, OTHER] {
        assert_eq!(world.flush(journal, &minted, NOW, u64::MAX).await.unwrap().copies, 0);
    }
}

#[tokio::test]
async fn a_time_of_arrival_is_equal_to_another_but_to_no_time_that_a_client_gave() {
    let world = World::new().await;
    world.flush(JOURNAL, &[(Some(1), "one", None), (Some(2), "two", None)], NOW, u64::MAX).await.unwrap();
    let again = [(Some(1), "one", None), (Some(2), "two", Some(9))];
    let flushed = world.flush(JOURNAL, &again, NOW + 7, u64::MAX).await.unwrap();
    assert_eq!((flushed.rows, flushed.copies, flushed.refused), (0, 1, 1));
}

#[tokio::test]
async fn of_copies_in_one_flush_the_first_stays() {
    let world = World::new().await;
    let lines =
        [(Some(1), "one", Some(1)), (Some(1), "one", Some(1)), (Some(1), "another", Some(1)), (Some(2), "two", None)];
    let flushed = world.flush(JOURNAL, &lines, NOW, u64::MAX).await.unwrap();
    assert_eq!((flushed.rows, flushed.copies, flushed.refused), (2, 1, 1));
    assert_eq!(world.contents().await, said(&[(1, "one"), (2, "two")]));
    assert_eq!((world.letters()[0].position, world.letters()[0].first_position), (3, 1));
}

#[tokio::test]
async fn nothing_is_committed_before_dead_letters_are_kept() {
    let world = World::new().await;
    world.flush(JOURNAL, &[(Some(1), "one", None)], NOW, u64::MAX).await.unwrap();
    let version = world.lake.snapshot().version;
    world.letters.full.store(true, Ordering::Relaxed);
    let mut writer = world.writer(u64::MAX, 1 << 20);
    writer.push(JOURNAL, 2, batch(&[(Some(1), "other", None)], NOW + 1)).unwrap();
    for _ in 0..2 {
        assert!(matches!(writer.flush(Some(1)).await, Err(LakeError::Storage { .. })));
        assert_eq!((writer.pending().rows, world.lake.refresh().await.unwrap().version), (1, version));
    }
    world.letters.full.store(false, Ordering::Relaxed);
    let flushed = writer.flush(Some(1)).await.unwrap().unwrap();
    assert_eq!((flushed.refused, world.letters().len()), (1, 1));
}

#[tokio::test]
async fn a_search_opens_so_many_files_and_remembers_the_newest() {
    use crate::lake::copies::CopySearch;
    use crate::lake::pending::Waiting;
    use runstone_record::limits::LAKE_COPY_FILES_MAX;
    let world = World::new().await;
    let files = LAKE_COPY_FILES_MAX as u64 + 8;
    // The times of arrival stand for others: by its time no record is in any of these files.
    for number in 0..files {
        world.time.fetch_add(1, Ordering::Relaxed);
        world.flush(JOURNAL, &[(Some(number), "one", None)], NOW + number as i64, 0).await.unwrap();
    }
    let again = |second| {
        let lines: Vec<Line> = (0..files).map(|number| (Some(number), "one", second)).collect();
        let mut waiting = Waiting::default();
        waiting.push(JOURNAL, 1_000, batch(&lines, NOW + 1_000_000)).unwrap();
        waiting.after(None)
    };
    // What fits into memory, and the searches that it takes until nothing is left out.
    for (filter_bytes_max, searches) in [(1 << 20, 2), (2_000, 2), (0, 0)] {
        let mut search = CopySearch::new(world.copies(u64::MAX, filter_bytes_max));
        let mut unseen = Vec::new();
        for number in 1..=3 {
            let found = search.run(&world.lake, &again(None)).await.unwrap();
            assert_eq!(found.dropped.len() + found.unseen_files, files as usize);
            if found.unseen_files > 0 {
                // The newest are seen first.
                let oldest_seen = found.dropped.first().unwrap() - 1_000;
                assert_eq!(oldest_seen, found.unseen_files as u64);
            } else {
                assert!(searches > 0 && number >= searches, "{number} searches, {filter_bytes_max} bytes");
            }
            unseen.push(found.unseen_files);
        }
        let expected = if searches == 0 { [8, 8, 8] } else { [8, 0, 0] };
        assert_eq!(unseen, expected, "{filter_bytes_max} bytes");
    }
    // Wherever a record can be by its time it is looked for in any case.
    let world = World::new().await;
    for number in 0..files {
        world.flush(JOURNAL, &[(Some(number), "one", Some(7))], NOW + number as i64, 0).await.unwrap();
    }
    let found = CopySearch::new(world.copies(u64::MAX, 0)).run(&world.lake, &again(Some(7))).await.unwrap();
    assert_eq!((found.dropped.len(), found.unseen_files), (files as usize, 0));
}

/// What happens to a file, and whether the records of its other row groups are still found.
type Harm = (&'static str, fn(&std::path::Path), bool);

#[tokio::test]
async fn a_file_that_is_missing_or_damaged_does_not_hold_up_the_flush() {
    fn change(path: &std::path::Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = std::fs::read(path).unwrap();
        change(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    }
    let harms: [Harm; 4] = [
        ("missing", |path| std::fs::remove_file(path).unwrap(), false),
        ("cut", |path| change(path, |bytes| bytes.truncate(bytes.len() / 2)), false),
        (
            "zeros at its end",
            |path| change(path, |bytes| bytes.iter_mut().rev().take(9).for_each(|byte| *byte = 0)),
            false,
        ),
        // The ids of the first row group.
        ("zeros at its begin", |path| change(path, |bytes| bytes[4..60].fill(0)), true),
    ];
    for (harm, harmed, others_are_found) in harms {
        let world = World::new().await;
        // Two row groups of four rows, and a file beside.
        let lines: Vec<Line> = (0..8).map(|number| (Some(number), long(number), Some(number as u32))).collect();
        world.flush(JOURNAL, &lines, NOW, u64::MAX).await.unwrap();
        let first = world.lake.snapshot().files[0].path.clone();
        world.flush(JOURNAL, &[(Some(100), "other", Some(9))], NOW + 1, u64::MAX).await.unwrap();
        harmed(&world.dir.path().join(&first));
        let mut writer = world.writer(u64::MAX, 1 << 20);
        for flush in 0..3 {
            let at = 10 + flush * 4;
            // One of each row group of the first file, one of the second, a new one.
            let again = [lines[0], lines[7], (Some(100), "other", Some(9)), (Some(200 + flush), "new", Some(11))];
            writer.push(JOURNAL, at, batch(&again, NOW + 2)).unwrap();
            let flushed = writer.flush(Some(at - 1)).await.unwrap_or_else(|error| panic!("{harm}: {error:?}"));
            // What was not found the first time is found the next: it is in a file that can be read.
            let copies = if flush > 0 { 3 } else { 1 + u64::from(others_are_found) };
            assert_eq!((flushed.unwrap().copies, flush), (copies, flush), "{harm}");
            assert_eq!(world.unread.load(Ordering::Relaxed), flush + 1, "{harm}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn each_id_is_there_once_and_the_first_wins(
        flushes in prop::collection::vec(
            (any::<bool>(), prop::collection::vec((0..40_u64, 0..2_usize, prop::option::of(0..30_u32)), 1..25)),
            1..12,
        ),
        filter_bytes_max in prop_oneof![Just(0_usize), Just(200), Just(1 << 20)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            let mut writers = BTreeMap::from([
                (JOURNAL, (world.writer(u64::MAX, filter_bytes_max), None, 1_u64)),
                (OTHER, (world.writer(u64::MAX, filter_bytes_max), None, 1)),
            ]);
            let mut expected: BTreeMap<u64, (&str, Option<u32>)> = BTreeMap::new();
            let mut refused = BTreeSet::new();
            for (number, (other, lines)) in flushes.into_iter().enumerate() {
                let journal = if other { OTHER } else { JOURNAL };
                let (writer, after, first) = writers.get_mut(journal).unwrap();
                let lines: Vec<Line> = lines
                    .into_iter()
                    .map(|(number, message, second)| (Some(number), ["this", "that"][message], second))
                    .collect();
                for (row, (number, message, second)) in lines.iter().enumerate() {
                    let there = *expected.entry(number.unwrap()).or_insert((message, *second));
                    if there != (*message, *second) {
                        refused.insert((journal, *first + row as u64));
                    }
                }
                writer.push(journal, *first, batch(&lines, NOW + number as i64)).unwrap();
                let flushed = writer.flush(*after).await.unwrap().unwrap();
                *first += lines.len() as u64;
                *after = Some(flushed.through);
                assert_eq!(flushed.through + 1, *first);
            }
            let expected: Vec<_> = expected.into_iter().map(|(number, (message, _))| (number, message)).collect();
            assert_eq!(world.contents().await, said(&expected));
            let letters: BTreeSet<_> = world.letters().into_iter().map(|letter| (letter.journal, letter.position)).collect();
            let refused: BTreeSet<_> = refused.into_iter().map(|(journal, at)| (journal.to_owned(), at)).collect();
            assert_eq!(letters, refused);
        });
    }
}
