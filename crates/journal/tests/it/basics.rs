//! What a journal does when nothing goes wrong.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use bytes::Bytes;
use runstone_journal::fs::RealFs;
use runstone_journal::{
    AppendError, Env, Event, Journal, JournalId, OpenError, Options, ReadError, SyncPolicy, View, check,
};

use crate::support::{append, drain, env, open, options, payload, read_all, real, send};

#[test]
fn what_was_appended_is_read_back_in_order_across_restarts_and_segments() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for life in 0..3u64 {
        let (journal, recovery) = open(&real(), options(dir.path()));
        assert!(recovery.events.is_empty(), "{:?}", recovery.events);
        assert_eq!(recovery.id.epoch, 1);
        for n in 0..40 {
            let items = u32::try_from(n % 3 + 1).unwrap();
            let payload = payload(life * 100 + n, 4000);
            let appended = append(&journal, payload.clone(), items).unwrap();
            assert_eq!(appended.last, journal.durable());
            expected.push((appended.first, items, payload));
        }
        let read: Vec<_> = read_all(&journal).into_iter().map(|f| (f.first, f.items, f.payload)).collect();
        assert_eq!(read, expected);
        assert!(journal.stats().segments > 2 * life);
        journal.close().unwrap();
    }
    let positions: u64 = expected.iter().map(|(_, items, _)| u64::from(*items)).sum();
    let report = check(&RealFs, dir.path(), |_| {}).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.first, report.last, report.items, report.frames), (Some(1), Some(positions), positions, 120));
}

#[test]
fn a_second_opening_is_refused_and_names_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(&real(), options(dir.path()));
    match Journal::open(real(), env(1), options(dir.path())) {
        Err(OpenError::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    journal.close().unwrap();
    open(&real(), options(dir.path()));
}

#[test]
fn a_copied_directory_opens_under_a_new_epoch_with_all_its_records() {
    let root = tempfile::tempdir().unwrap();
    let (original, copy) = (root.path().join("a"), root.path().join("b"));
    let (journal, first) = open(&real(), options(&original));
    for n in 0..30 {
        append(&journal, payload(n, 5000), 1).unwrap();
    }
    copy_dir(&original, &copy);
    let before = read_all(&journal);
    let (copied, recovery) = open(&real(), options(&copy));
    assert_eq!(recovery.id, JournalId { uuid: first.id.uuid, epoch: 2 });
    assert_eq!(copied.id().to_string(), format!("{}/2", first.id.uuid));
    assert_eq!(copied.id().to_string().parse(), Ok(copied.id()));
    assert_eq!(read_all(&copied), before);
    append(&copied, payload(99, 10), 1).unwrap();
    copied.close().unwrap();
    let (again, recovery) = open(&real(), options(&copy));
    assert_eq!((recovery.id.epoch, recovery.events.len()), (2, 0));
    assert_eq!(read_all(&again).len(), 31);
    assert_eq!(journal.id().epoch, 1);
}

#[test]
fn a_directory_that_was_removed_and_restored_opens_under_a_new_epoch() {
    let root = tempfile::tempdir().unwrap();
    let (home, backup) = (root.path().join("a"), root.path().join("b"));
    let (journal, _) = open(&real(), options(&home));
    append(&journal, payload(0, 100), 1).unwrap();
    journal.close().unwrap();
    for epoch in 2..6 {
        copy_dir(&home, &backup);
        // The inode number is free now and is often given again.
        std::fs::remove_dir_all(&home).unwrap();
        copy_dir(&backup, &home);
        let (journal, recovery) = open(&real(), options(&home));
        assert_eq!((recovery.id.epoch, recovery.durable), (epoch, 1));
        journal.close().unwrap();
    }
}

pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn positions_are_contiguous_and_unique_with_many_appenders_and_readers() {
    let dir = tempfile::tempdir().unwrap();
    let mut small = options(dir.path());
    small.ring_bytes = 8 << 10;
    small.sync = SyncPolicy::Never;
    let (journal, _) = open(&real(), small);
    let (appenders, each) = (4u64, 250u64);
    let start = Barrier::new(usize::try_from(appenders).unwrap() + 2);
    std::thread::scope(|scope| {
        for appender in 0..appenders {
            let (journal, start) = (&journal, &start);
            scope.spawn(move || {
                start.wait();
                for n in 0..each {
                    append(journal, payload(appender << 32 | n, 300), 2).unwrap();
                }
            });
        }
        for _ in 0..2 {
            let (journal, start) = (&journal, &start);
            scope.spawn(move || {
                let mut reader = journal.reader(0);
                start.wait();
                let (mut next, mut seen) = (1, vec![0; 4]);
                while next <= appenders * each * 2 {
                    assert!(reader.wait(Duration::from_secs(30)));
                    while let Some(frame) = reader.next().unwrap() {
                        assert_eq!(frame.first, next);
                        next = frame.last() + 1;
                        let text = std::str::from_utf8(&frame.payload[..16]).unwrap();
                        let n = u64::from_str_radix(text, 16).unwrap();
                        let appender = usize::try_from(n >> 32).unwrap();
                        assert_eq!(n & 0xffff_ffff, seen[appender]);
                        assert_eq!(frame.payload, payload(n, 300));
                        seen[appender] += 1;
                    }
                    assert!(frame_end_is_durable(next, journal));
                }
            });
        }
    });
    assert!(journal.stats().segments > 3);
}

fn frame_end_is_durable(next: u64, journal: &Journal) -> bool {
    next - 1 <= journal.durable()
}

#[test]
fn trimming_removes_whole_old_segments_and_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(&real(), options(dir.path()));
    for n in 0..60 {
        append(&journal, payload(n, 5000), 1).unwrap();
    }
    let segments = journal.stats().segments;
    assert!(segments >= 4);
    let mut old = journal.reader(0);
    assert_eq!(journal.trim(3).unwrap(), 1);
    let first = journal.trim(30).unwrap();
    assert!(first > 1 && first <= 31);
    assert!(journal.stats().segments < segments);
    assert!(matches!(old.next(), Err(ReadError::Trimmed { first_available }) if first_available == first));
    assert_eq!(drain(&mut journal.reader(first - 1)).len() as u64, 61 - first);
    journal.close().unwrap();

    let (journal, recovery) = open(&real(), options(dir.path()));
    assert_eq!((recovery.first_available, recovery.events.len()), (first, 0));
    let last = journal.trim(u64::MAX).unwrap();
    assert_eq!(journal.stats().segments, 1);
    journal.close().unwrap();
    let (journal, recovery) = open(&real(), options(dir.path()));
    assert_eq!((recovery.first_available, recovery.durable), (last, 60));
    assert_eq!(append(&journal, payload(60, 10), 1).unwrap().first, 61);
}

#[test]
fn a_reader_may_start_anywhere_and_seek() {
    let dir = tempfile::tempdir().unwrap();
    let mut small = options(dir.path());
    small.ring_bytes = 0;
    let (journal, _) = open(&real(), small);
    for n in 0..50 {
        append(&journal, payload(n, 3000), 3).unwrap();
    }
    for after in [0, 1, 2, 3, 74, 75, 76, 147, 149, 150, 151] {
        let mut reader = journal.reader(after);
        let frame = reader.next().unwrap();
        let expected = (after < 150).then(|| after / 3 * 3 + 1);
        assert_eq!(frame.map(|frame| frame.first), expected, "after {after}");
    }
    let mut reader = journal.reader(140);
    drain(&mut reader);
    reader.seek(3);
    assert_eq!(drain(&mut reader).len(), 49);
    assert_eq!(reader.position(), 150);
}

#[test]
fn limits_are_answered_at_once_and_nothing_happened() {
    let dir = tempfile::tempdir().unwrap();
    let mut small = options(dir.path());
    small.frame_bytes_max = 100;
    let (journal, _) = open(&real(), small);
    assert!(matches!(append(&journal, payload(0, 101), 1), Err(AppendError::TooLarge { bytes: 101, max: 100 })));
    assert!(matches!(append(&journal, payload(0, 100), 0), Err(AppendError::NoItems)));
    assert_eq!(append(&journal, Bytes::new(), 1).unwrap().first, 1);
    journal.close().unwrap();
    assert!(matches!(append(&journal, payload(0, 20), 1), Err(AppendError::Closed)));
    assert_eq!(journal.durable(), 1);
}

#[test]
fn closing_answers_everything_that_was_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(&real(), options(dir.path()));
    let answers: Vec<_> = (0..200).map(|n| send(&journal, payload(n, 1000), 1)).collect();
    journal.close().unwrap();
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.recv().unwrap().unwrap().first, n as u64 + 1);
    }
    journal.close().unwrap();
}

#[test]
fn subscribers_hear_of_each_commit_until_they_leave() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(&real(), options(dir.path()));
    let heard = Arc::new(AtomicU64::new(0));
    let subscription = {
        let heard = Arc::clone(&heard);
        journal.subscribe(move |durable| heard.store(durable, Ordering::SeqCst))
    };
    append(&journal, payload(0, 10), 5).unwrap();
    append(&journal, payload(1, 10), 1).unwrap();
    assert!(heard.load(Ordering::SeqCst) >= 5);
    drop(subscription);
    append(&journal, payload(2, 10), 1).unwrap();
    journal.close().unwrap();
    assert!(heard.load(Ordering::SeqCst) <= 6);
}

#[test]
fn a_callback_that_panics_or_closes_does_not_stop_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(&real(), options(dir.path()));
    journal.append(payload(0, 10), 1, Box::new(|_| panic!("expected by the test"))).unwrap();
    append(&journal, payload(1, 10), 1).unwrap();
    assert_eq!(journal.stats().callback_panics, 1);
    let subscription = journal.subscribe(|_| panic!("expected by the test"));
    append(&journal, payload(2, 10), 1).unwrap();
    append(&journal, payload(3, 10), 1).unwrap();
    drop(subscription);
    let journal = Arc::new(journal);
    let (inside, (tx, rx)) = (Arc::clone(&journal), std::sync::mpsc::sync_channel(1));
    journal.append(payload(2, 10), 1, Box::new(move |_| tx.send(inside.close()).unwrap())).unwrap();
    rx.recv().unwrap().unwrap();
    assert!(!journal.reader(5).wait(Duration::from_secs(30)));
}

#[test]
fn a_clock_that_jumps_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for (life, time) in [1_700_000_000_000_000, 0, i64::MAX, i64::MIN].into_iter().enumerate() {
        let jumping = Env { clock: Arc::new(move || time), ..env(3) };
        let (journal, recovery) = Journal::open(real(), jumping, options(dir.path())).unwrap();
        assert!(recovery.events.is_empty());
        for n in 0..20 {
            assert_eq!(append(&journal, payload(n, 5000), 1).unwrap().first, life as u64 * 20 + n + 1);
        }
    }
    let (journal, _) = open(&real(), options(dir.path()));
    assert_eq!(read_all(&journal).len(), 80);
}

#[test]
fn a_reader_may_be_handed_to_another_thread() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(&real(), options(dir.path()));
    let mut reader = journal.reader(0);
    let waiting = std::thread::spawn(move || {
        assert!(reader.wait(Duration::from_secs(30)));
        reader.next().unwrap().unwrap().first
    });
    append(&journal, payload(0, 10), 1).unwrap();
    assert_eq!(waiting.join().unwrap(), 1);
}

/// The epochs as pairs of number and first position; what the directory says without being opened is the same.
fn epochs(journal: &Journal, dir: &Path) -> Vec<(u64, u64)> {
    let ranges = journal.epochs();
    let view = View::open(&real(), dir).unwrap();
    assert_eq!(view.epochs(), ranges);
    assert_eq!(view.id_at(view.last()), journal.id_at(view.last()));
    ranges.iter().map(|range| (range.epoch, range.first)).collect()
}

#[test]
fn each_position_of_a_copy_keeps_the_epoch_that_it_was_given() {
    let root = tempfile::tempdir().unwrap();
    let mut dir = root.path().join("1");
    let mut expected = Vec::new();
    for epoch in 1..5u64 {
        let (journal, _) = open(&real(), options(&dir));
        expected.push((epoch, journal.durable() + 1));
        assert_eq!(epochs(&journal, &dir), expected);
        for n in 0..20 {
            append(&journal, payload(n, 5000), 1).unwrap();
        }
        for (i, (epoch, first)) in expected.iter().enumerate() {
            let last = expected.get(i + 1).map_or(journal.durable(), |next: &(u64, u64)| next.1 - 1);
            assert_eq!((journal.id_at(*first).epoch, journal.id_at(last).epoch), (*epoch, *epoch));
        }
        let copy = root.path().join((epoch + 1).to_string());
        copy_dir(&dir, &copy);
        dir = copy;
    }
    // Twice copied without a record between: that epoch has no positions.
    open(&real(), options(&dir)).0.close().unwrap();
    let copy = root.path().join("again");
    copy_dir(&dir, &copy);
    let (journal, recovery) = open(&real(), options(&copy));
    expected.push((6, journal.durable() + 1));
    assert_eq!((recovery.id.epoch, epochs(&journal, &copy)), (6, expected));
    // What was trimmed away is no part of it.
    let first = journal.trim(45).unwrap();
    assert_eq!(epochs(&journal, &copy), [(3, first), (4, 61), (6, 81)]);
    assert_eq!(journal.segments().first().map(|segment| segment.first), Some(first));
}

#[test]
fn an_epoch_begins_inside_what_was_written_when_it_is_asked_for_and_only_once() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("a");
    let (journal, _) = open(&real(), options(&dir));
    for n in 0..70 {
        append(&journal, payload(n, 3000), 1).unwrap();
    }
    journal.close().unwrap();
    for (life, position) in [(0, 51), (1, 51), (2, 51), (3, 61)] {
        let (journal, recovery) = open(&real(), Options { new_epoch_from: Some(position), ..options(&dir) });
        let expected: &[(u64, u64)] = if life < 3 { &[(1, 1), (2, 51)] } else { &[(1, 1), (2, 51), (3, 61)] };
        assert_eq!(epochs(&journal, &dir), expected);
        assert_eq!(recovery.id.epoch, if life < 3 { 2 } else { 3 });
        let begun = recovery.events.iter().any(|event| matches!(event, Event::EpochBegun { .. }));
        assert_eq!(begun, life == 0 || life == 3, "{:?}", recovery.events);
        append(&journal, payload(life, 100), 1).unwrap();
        assert_eq!(read_all(&journal).len() as u64, journal.durable(), "nothing is lost");
        journal.close().unwrap();
    }
    // And it stays so without being asked, and in a copy.
    let (journal, recovery) = open(&real(), options(&dir));
    assert_eq!((recovery.id.epoch, epochs(&journal, &dir)), (3, vec![(1, 1), (2, 51), (3, 61)]));
    journal.close().unwrap();
    let copy = root.path().join("b");
    copy_dir(&dir, &copy);
    let (journal, _) = open(&real(), options(&copy));
    assert_eq!(epochs(&journal, &copy), [(1, 1), (2, 51), (3, 61), (4, 75)]);
    journal.close().unwrap();
    for wrong in [0, 76, u64::MAX] {
        let refused = Journal::open(real(), env(1), Options { new_epoch_from: Some(wrong), ..options(&copy) });
        assert!(matches!(refused, Err(OpenError::NoSuchPosition { first: 1, last: 74, .. })), "{refused:?}");
    }
    let (journal, _) = open(&real(), options(&copy));
    assert_eq!(epochs(&journal, &copy).last(), Some(&(4, 75)), "what was refused changed nothing");
}

#[test]
fn at_its_limit_the_journal_refuses_and_trimming_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(&real(), Options { bytes_max: 200 << 10, ..options(dir.path()) });
    let mut taken = 0;
    let error = loop {
        match append(&journal, payload(taken, 5000), 1) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, AppendError::LimitReached { max: 204_800, .. }) && !error.is_uncertain(), "{error:?}");
    assert!(journal.is_over_limit() && (30..45).contains(&taken), "{taken}");
    assert_eq!(read_all(&journal).len() as u64, taken, "reading goes on");
    journal.trim(taken / 2).unwrap();
    assert!(!journal.is_over_limit());
    append(&journal, payload(taken, 5000), 1).unwrap();
}
