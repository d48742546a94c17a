//! Failing writes and syncs, full disks, stalls: what is answered, and that it passes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use runstone_journal::fs::Fs;
use runstone_journal::fs::sim::{Crash, Fault, Op, SimFs};
use runstone_journal::{AppendError, Health, Journal, OpenError, Options, Recovery, check};

use crate::support::{append, first_seed, open, options, payload, read_all, send};

const DIR: &str = "/journal";

fn start(fs: &SimFs) -> (Journal, Recovery) {
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    open(&shared, options(Path::new(DIR)))
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

fn assert_holds(journal: &Journal, expected: &[u64]) {
    let read: Vec<_> = read_all(journal).into_iter().map(|frame| frame.payload).collect();
    assert_eq!(read, expected.iter().map(|n| payload(*n, 700)).collect::<Vec<_>>());
}

fn reopened(fs: &SimFs, journal: Journal, crash: Crash) -> (Journal, Recovery) {
    fs.restart(crash);
    drop(journal);
    start(fs)
}

#[test]
fn after_one_failed_sync_the_same_group_goes_to_a_new_segment() {
    let first = first_seed();
    for seed in first..first + 20 {
        let fs = SimFs::new(seed);
        let (journal, _) = start(&fs);
        append(&journal, payload(0, 700), 1).unwrap();
        let old = fs.files().into_iter().rfind(|path| path.extension().is_some()).unwrap();
        fs.fail(Op::Sync, 0, 1, Fault::Io);
        assert_eq!(append(&journal, payload(1, 700), 1).unwrap().first, 2);
        let frozen = fs.contents(&old).unwrap();
        assert_eq!(append(&journal, payload(2, 700), 1).unwrap().first, 3);
        assert_eq!((journal.stats().segments, journal.stats().failed_writes), (2, 1));
        assert!(journal.health().is_ok());
        assert_eq!(fs.contents(&old).unwrap(), frozen, "the failed file was written again");
        assert_holds(&journal, &[0, 1, 2]);
        let crash = if seed % 2 == 0 { Crash::Kill } else { Crash::Power(seed) };
        let (journal, recovery) = reopened(&fs, journal, crash);
        assert!(recovery.events.is_empty(), "{:?}", recovery.events);
        assert_holds(&journal, &[0, 1, 2]);
        drop(journal);
        assert!(check(&fs, Path::new(DIR), |_| {}).unwrap().is_sound());
    }
}

#[test]
fn a_failed_sync_of_the_very_first_group_replaces_the_empty_segment() {
    let fs = SimFs::new(1);
    let (journal, _) = start(&fs);
    fs.fail(Op::Sync, 0, 1, Fault::Io);
    assert_eq!(append(&journal, payload(0, 700), 1).unwrap().first, 1);
    assert_eq!(journal.stats().segments, 1);
    let (journal, _) = reopened(&fs, journal, Crash::Power(9));
    assert_holds(&journal, &[0]);
}

/// After a failed sync the kernel shows pages that will never reach the disk, to the next process as well.
#[test]
fn what_recovery_shows_after_a_failed_sync_and_a_kill_is_durable() {
    let mut shown = 0;
    let first = first_seed();
    for seed in first..first + 20 {
        let fs = SimFs::new(seed);
        let (journal, _) = start(&fs);
        append(&journal, payload(0, 700), 1).unwrap();
        fs.fail(Op::Sync, 0, 1, Fault::Io);
        fs.fail(Op::Create, 0, 1, Fault::NoSpace);
        let error = append(&journal, payload(1, 700), 1).unwrap_err();
        assert!(matches!(error, AppendError::DiskFull { uncertain: true, .. }), "{error:?}");
        let (journal, recovery) = reopened(&fs, journal, Crash::Kill);
        shown += recovery.durable;
        let before = read_all(&journal);
        let (journal, recovery) = reopened(&fs, journal, Crash::Power(seed));
        assert!(recovery.events.is_empty(), "{:?}", recovery.events);
        assert_eq!(read_all(&journal), before);
    }
    assert!(shown > 20, "no unacknowledged group was ever recovered");
}

#[test]
fn a_failed_write_is_taken_like_a_failed_sync() {
    let fs = SimFs::new(2);
    let (journal, _) = start(&fs);
    append(&journal, payload(0, 700), 1).unwrap();
    fs.fail(Op::Write, 0, 1, Fault::Io);
    append(&journal, payload(1, 700), 1).unwrap();
    assert_eq!(journal.stats().segments, 2);
    let (journal, _) = reopened(&fs, journal, Crash::Power(3));
    assert_holds(&journal, &[0, 1]);
}

#[test]
fn a_second_failure_is_final_and_said_once() {
    let fs = SimFs::new(3);
    let fatal = Arc::new(AtomicU64::new(0));
    let mut options = options(Path::new(DIR));
    let counted = Arc::clone(&fatal);
    options.on_fatal = Some(Arc::new(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    }));
    let (journal, _) = open(&(Arc::new(fs.clone()) as Arc<dyn Fs>), options);
    append(&journal, payload(0, 700), 1).unwrap();
    fs.fail(Op::Sync, 0, 2, Fault::Io);
    let error = append(&journal, payload(1, 700), 1).unwrap_err();
    assert!(matches!(error, AppendError::Failed { .. }) && error.is_uncertain());
    assert!(std::error::Error::source(&error).is_some());
    assert!(matches!(journal.health(), Health::Failed(_)));
    assert_eq!(fatal.load(Ordering::SeqCst), 1);
    assert!(matches!(append(&journal, payload(2, 700), 1), Err(AppendError::Failed { .. })));
    assert_holds(&journal, &[0]);
    journal.close().unwrap();
    assert_eq!(fatal.load(Ordering::SeqCst), 1);
    let (journal, _) = reopened(&fs, journal, Crash::Power(4));
    let read = read_all(&journal);
    assert_eq!(read[0].payload, payload(0, 700));
    assert!(read.len() <= 2 && read.iter().skip(1).all(|frame| frame.payload == payload(1, 700)));
}

#[test]
fn a_full_disk_is_answered_and_passes_without_a_restart() {
    for fault in [Fault::NoSpace, Fault::Quota, Fault::TooLarge] {
        for op in [Op::Write, Op::Sync, Op::Create] {
            let fs = SimFs::new(5);
            let (journal, _) = start(&fs);
            append(&journal, payload(0, 700), 1).unwrap();
            if op == Op::Create {
                // A rotation is due.
                fs.fail(Op::Sync, 0, 1, Fault::Io);
            }
            fs.fail(op, 0, u64::MAX, fault);
            let error = append(&journal, payload(1, 700), 1).unwrap_err();
            assert!(matches!(error, AppendError::DiskFull { .. }), "{fault:?} at {op:?}: {error:?}");
            assert_holds(&journal, &[0]);
            assert!(matches!(append(&journal, payload(2, 700), 1), Err(AppendError::DiskFull { .. })));
            assert_eq!(journal.durable(), 1);
            fs.heal();
            assert_eq!(append(&journal, payload(3, 700), 1).unwrap().first, 2, "{fault:?} at {op:?}");
            assert!(journal.health().is_ok());
            let (journal, recovery) = reopened(&fs, journal, Crash::Power(6));
            assert!(recovery.events.is_empty(), "{fault:?} at {op:?}: {:?}", recovery.events);
            assert_holds(&journal, &[0, 3]);
        }
    }
}

#[test]
fn health_returns_by_itself_when_space_does() {
    let fs = SimFs::new(6);
    let (journal, _) = start(&fs);
    append(&journal, payload(0, 700), 1).unwrap();
    fs.set_capacity(Some(fs.used()));
    let mut stored = vec![0];
    let full = (1..).find(|n| match append(&journal, payload(*n, 700), 1) {
        Ok(_) => {
            stored.push(*n);
            false
        }
        Err(error) => {
            assert!(matches!(&error, AppendError::DiskFull { uncertain: false, .. }), "{error:?}");
            true
        }
    });
    assert!(matches!(journal.health(), Health::DiskFull(_)));
    assert_holds(&journal, &stored);
    fs.set_capacity(None);
    wait_until("health returns", || journal.health().is_ok());
    stored.push(full.unwrap() + 1);
    append(&journal, payload(stored[stored.len() - 1], 700), 1).unwrap();
    let (journal, recovery) = reopened(&fs, journal, Crash::Power(1));
    assert!(recovery.events.is_empty(), "{:?}", recovery.events);
    assert_holds(&journal, &stored);
}

#[test]
fn a_journal_opens_on_a_full_disk() {
    let fs = SimFs::new(7);
    let (journal, _) = start(&fs);
    append(&journal, payload(0, 700), 1).unwrap();
    fs.restart(Crash::Power(3));
    drop(journal);
    fs.set_capacity(Some(fs.used()));
    let (journal, _) = start(&fs);
    assert_holds(&journal, &[0]);
}

#[test]
fn a_refused_rotation_is_answered_and_passes() {
    for fault in [Fault::TooManyFiles, Fault::Denied, Fault::ReadOnly] {
        let fs = SimFs::new(8);
        let (journal, _) = start(&fs);
        let mut expected = Vec::new();
        fs.fail(Op::Create, 0, u64::MAX, fault);
        let refused = (0..200).find(|n| match append(&journal, payload(*n, 700), 1) {
            Ok(_) => {
                expected.push(*n);
                false
            }
            Err(error) => {
                assert!(matches!(error, AppendError::Unavailable { uncertain: false, .. }), "{error:?}");
                true
            }
        });
        assert!(refused.is_some(), "no rotation was due");
        assert!(matches!(journal.health(), Health::Unavailable(_)));
        assert_holds(&journal, &expected);
        fs.heal();
        wait_until("health returns", || journal.health().is_ok());
        append(&journal, payload(999, 700), 1).unwrap();
        expected.push(999);
        let (journal, _) = reopened(&fs, journal, Crash::Power(5));
        assert_holds(&journal, &expected);
    }
}

#[test]
fn short_writes_continue_and_interruptions_are_tried_again() {
    let fs = SimFs::new(9);
    let (journal, _) = start(&fs);
    for (n, length) in [1usize, 63, 512, 513].into_iter().enumerate() {
        fs.fail(Op::Write, 0, 3, Fault::Short(length));
        fs.fail(Op::Write, 0, 2, Fault::Interrupted);
        fs.fail(Op::Sync, 0, 2, Fault::Interrupted);
        append(&journal, payload(n as u64, 700), 1).unwrap();
    }
    assert_eq!((journal.stats().segments, journal.stats().failed_writes), (1, 0));
    fs.fail(Op::Read, 0, 5, Fault::Short(7));
    fs.fail(Op::Read, 0, 5, Fault::Interrupted);
    let (journal, recovery) = reopened(&fs, journal, Crash::Power(5));
    assert!(recovery.events.is_empty());
    assert_holds(&journal, &[0, 1, 2, 3]);
}

#[test]
fn every_single_failure_of_an_open_is_an_error_and_opening_again_succeeds() {
    for op in [Op::Open, Op::Create, Op::Read, Op::Write, Op::Sync, Op::Rename, Op::SyncDir] {
        for nth in 0..12 {
            let fs = SimFs::new(nth);
            fs.fail(op, nth, 1, Fault::Io);
            match Journal::open(Arc::new(fs.clone()), crate::support::env(1), options(Path::new(DIR))) {
                Ok((journal, _)) => assert_eq!(append(&journal, payload(0, 700), 1).unwrap().first, 1),
                Err(error) => {
                    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
                    assert!(std::error::Error::source(&error).is_some());
                }
            }
            fs.heal();
            let (journal, _) = start(&fs);
            let first = journal.durable() + 1;
            assert_eq!(append(&journal, payload(1, 700), 1).unwrap().first, first);
        }
    }
}

#[test]
fn every_single_failure_while_running_loses_nothing_acknowledged() {
    let ops = [Op::Create, Op::Write, Op::Sync, Op::Rename, Op::SyncDir, Op::SetLen, Op::Allocate, Op::Remove];
    for op in ops {
        for nth in 0..14 {
            for fault in [Fault::Io, Fault::NoSpace, Fault::Denied] {
                let fs = SimFs::new(nth);
                let small = Options { segment_bytes: 5 << 10, preallocate_bytes: 1 << 10, ..options(Path::new(DIR)) };
                let (journal, _) = open(&(Arc::new(fs.clone()) as Arc<dyn Fs>), small);
                fs.fail(op, nth, 1, fault);
                let mut acknowledged = Vec::new();
                for n in 0..16 {
                    if append(&journal, payload(n, 700), 1).is_ok() {
                        acknowledged.push(n);
                    }
                }
                assert!(acknowledged.len() >= 15, "{op:?} {nth} {fault:?}");
                assert_holds(&journal, &acknowledged);
                let (journal, recovery) = reopened(&fs, journal, Crash::Power(nth));
                assert!(recovery.events.is_empty(), "{op:?} {nth} {fault:?} {:?}", recovery.events);
                assert_holds(&journal, &acknowledged);
            }
        }
    }
}

#[test]
fn a_stalled_sync_fills_the_queue_and_nothing_is_acknowledged_meanwhile() {
    let fs = SimFs::new(10);
    let mut small = options(Path::new(DIR));
    (small.queue_frames, small.queue_bytes) = (4, 10_000);
    let (journal, _) = open(&(Arc::new(fs.clone()) as Arc<dyn Fs>), small);
    fs.hold(Op::Sync);
    let answers: Vec<_> = (0..4).map(|n| send(&journal, payload(n, 700), 1)).collect();
    fs.wait_until_stalled();
    let full = append(&journal, payload(4, 700), 1);
    assert!(matches!(full, Err(AppendError::Full { frames: 4, bytes: 2800 })), "{full:?}");
    assert!(answers.iter().all(|answer| answer.try_recv().is_err()));
    assert_eq!(journal.durable(), 0);
    assert!(journal.reader(0).next().unwrap().is_none());
    fs.release(Op::Sync);
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.recv().unwrap().unwrap().first, n as u64 + 1);
    }
    append(&journal, payload(4, 700), 1).unwrap();
    assert_holds(&journal, &[0, 1, 2, 3, 4]);
}

#[test]
fn the_queue_is_bounded_in_bytes() {
    let fs = SimFs::new(11);
    let mut small = options(Path::new(DIR));
    small.queue_bytes = 2000;
    let (journal, _) = open(&(Arc::new(fs.clone()) as Arc<dyn Fs>), small);
    fs.hold(Op::Sync);
    let large = send(&journal, payload(0, 3000), 1);
    assert!(matches!(append(&journal, payload(1, 700), 1), Err(AppendError::Full { frames: 1, bytes: 3000 })));
    fs.release(Op::Sync);
    large.recv().unwrap().unwrap();
    append(&journal, payload(1, 700), 1).unwrap();
}

#[test]
fn what_waits_during_a_sync_becomes_one_group() {
    let fs = SimFs::new(12);
    let (journal, _) = start(&fs);
    fs.hold(Op::Sync);
    let mut answers = vec![send(&journal, payload(0, 700), 1)];
    fs.wait_until_stalled();
    answers.extend((1..50).map(|n| send(&journal, payload(n, 700), 1)));
    let syncs = fs.count(Op::Sync);
    fs.release(Op::Sync);
    for answer in answers {
        answer.recv().unwrap().unwrap();
    }
    assert_eq!(journal.stats().groups, 2);
    assert!(fs.count(Op::Sync) - syncs <= 2);
}

#[test]
fn a_failing_read_is_an_error_that_passes() {
    let fs = SimFs::new(13);
    let mut small = options(Path::new(DIR));
    small.ring_bytes = 0;
    let (journal, _) = open(&(Arc::new(fs.clone()) as Arc<dyn Fs>), small);
    for n in 0..5 {
        append(&journal, payload(n, 700), 1).unwrap();
    }
    for op in [Op::Open, Op::Read] {
        let mut reader = journal.reader(0);
        fs.fail(op, 0, 1, Fault::Io);
        assert!(matches!(reader.next(), Err(runstone_journal::ReadError::Io { .. })));
        assert_eq!(crate::support::drain(&mut reader).len(), 5);
    }
}
