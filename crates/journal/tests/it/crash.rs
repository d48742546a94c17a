//! Crashes at every change of the file system, power lost or process killed, recovery crashed into as well.
//! The oracle: what was acknowledged is there, once, in order, unchanged; nothing is there that was never sent.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use runstone_journal::fs::Fs;
use runstone_journal::fs::sim::{Crash, SimFs};
use runstone_journal::{Event, Journal, Options, Recovery, check};

use crate::support::{Answer, drain, env, first_seed, mix, options, payload, random_cases, read_all, send};

const DIR: &str = "/journal";

/// What was sent in all lives, and what is known of each.
#[derive(Default)]
struct Oracle {
    sent: Vec<Bytes>,
    acknowledged: HashMap<u64, usize>,
    /// Answered with "nothing happened".
    refused: Vec<usize>,
    trimmed: u64,
}

impl Oracle {
    fn note(&mut self, n: usize, answer: &Answer) {
        match answer {
            Ok(appended) => {
                let before = self.acknowledged.insert(appended.first, n);
                assert_eq!(before, None, "position {} was given twice", appended.first);
            }
            Err(error) if !error.is_uncertain() => self.refused.push(n),
            Err(_) => {}
        }
    }

    fn verify(&self, journal: &Journal, recovery: &Recovery) {
        let frames = drain(&mut journal.reader(recovery.first_available - 1));
        let mut next = recovery.first_available;
        let mut last_sent = None;
        let mut found = HashMap::new();
        for frame in frames {
            assert_eq!(frame.first, next);
            next = frame.last() + 1;
            let n = self.sent.iter().position(|sent| *sent == frame.payload).expect("recovered what was never sent");
            assert!(last_sent.is_none_or(|last| n > last), "out of order or twice");
            assert!(!self.refused.contains(&n), "recovered what was refused");
            last_sent = Some(n);
            found.insert(frame.first, n);
        }
        assert_eq!(next, journal.durable() + 1);
        assert!(recovery.first_available <= self.trimmed + 1);
        for (first, n) in &self.acknowledged {
            if *first > self.trimmed {
                assert_eq!(found.get(first), Some(n), "acknowledged position {first} of {}", journal.durable());
            }
        }
    }
}

fn small() -> Options {
    Options { segment_bytes: 6 << 10, preallocate_bytes: 2 << 10, ring_bytes: 4 << 10, ..options(Path::new(DIR)) }
}

/// One life: bursts of frames of varied sizes, sometimes a trim, a close.
fn live(fs: &SimFs, oracle: &mut Oracle, seed: u64, bursts: u64) {
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    let Ok((journal, recovery)) = Journal::open(shared, env(7), small()) else {
        assert!(fs.has_crashed(), "opening failed without a crash");
        return;
    };
    assert_harmless(&recovery);
    oracle.verify(&journal, &recovery);
    for burst in 0..bursts {
        let dice = mix(seed.wrapping_mul(31).wrapping_add(burst));
        let answers: Vec<_> = (0..dice % 3 + 1)
            .map(|i| {
                let n = oracle.sent.len();
                let bytes = payload(n as u64, usize::try_from(mix(dice ^ i) % 1500).unwrap());
                oracle.sent.push(bytes.clone());
                (n, send(&journal, bytes, u32::try_from(dice % 4 + 1).unwrap()))
            })
            .collect();
        for (n, answer) in answers {
            oracle.note(n, &answer.recv().unwrap());
        }
        if dice.is_multiple_of(7) && journal.durable() > 20 {
            let through = journal.durable() - 20;
            oracle.trimmed = oracle.trimmed.max(through);
            let _ = journal.trim(through);
        }
    }
    let _ = journal.close();
}

/// A crash may tear the tail; it must never look like corruption.
fn assert_harmless(recovery: &Recovery) {
    let torn = recovery.events.iter().filter(|event| matches!(event, Event::TornTail { .. })).count();
    assert!(torn <= 1 && torn == recovery.events.len(), "{:?}", recovery.events);
}

fn crash(dice: u64) -> Crash {
    if dice.is_multiple_of(3) { Crash::Kill } else { Crash::Power(dice) }
}

fn crash_and_recover(seed: u64, at: u64, again: u64) {
    let fs = SimFs::new(seed);
    let mut oracle = Oracle::default();
    live(&fs, &mut oracle, seed, 3);
    fs.crash_at(at);
    live(&fs, &mut oracle, seed + 1, 12);
    fs.restart(crash(mix(seed ^ at)));
    // Recovery is crashed into as well.
    fs.crash_at(again);
    live(&fs, &mut oracle, seed + 2, 2);
    fs.restart(crash(mix(seed ^ at ^ again)));
    live(&fs, &mut oracle, seed + 3, 4);
    assert!(!fs.has_crashed());
    let report = check(&fs, Path::new(DIR), |_| {}).unwrap();
    assert!(report.is_sound() && report.torn_bytes == 0, "{report:?}");
    live(&fs, &mut oracle, seed + 4, 0);
}

#[test]
fn nothing_acknowledged_is_lost_at_any_crash_point() {
    let first = first_seed();
    for seed in first..first + 4 {
        let fs = SimFs::new(seed);
        let mut oracle = Oracle::default();
        live(&fs, &mut oracle, seed, 3);
        let before = fs.changes();
        live(&fs, &mut oracle, seed + 1, 12);
        let changes = fs.changes() - before;
        assert!(changes > 40, "the workload is too small to mean anything: {changes}");
        for at in 1..=changes {
            crash_and_recover(seed, at, mix(at) % 12 + 1);
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_at_any_crash_point_of_the_first_start() {
    let first = first_seed();
    for seed in first..first + 16 {
        for at in 1..30 {
            let fs = SimFs::new(seed);
            let mut oracle = Oracle::default();
            fs.crash_at(at);
            live(&fs, &mut oracle, seed, 4);
            fs.restart(crash(mix(seed ^ at)));
            live(&fs, &mut oracle, seed + 1, 2);
            assert!(!fs.has_crashed());
        }
    }
}

proptest! {
    #![proptest_config(random_cases(200))]

    #[test]
    fn nothing_acknowledged_is_lost_in_random_lives(seed: u64, at in 1u64..200, again in 1u64..60) {
        crash_and_recover(seed >> 8, at, again);
    }
}

/// Without syncs a kill still loses nothing; a power cut may, but what is left is a prefix.
#[test]
fn without_syncs_a_kill_loses_nothing_and_a_power_cut_leaves_a_prefix() {
    let first = first_seed();
    for seed in first..first + 40 {
        let fs = SimFs::new(seed);
        let unsynced = || Options { sync: runstone_journal::SyncPolicy::Never, ..small() };
        let (journal, _) = Journal::open(Arc::new(fs.clone()), env(7), unsynced()).unwrap();
        for n in 0..20 {
            send(&journal, payload(n, 900), 1).recv().unwrap().unwrap();
        }
        fs.restart(if seed % 2 == 0 { Crash::Kill } else { Crash::Power(seed) });
        drop(journal);
        let (journal, _) = Journal::open(Arc::new(fs.clone()), env(7), unsynced()).unwrap();
        let read = read_all(&journal);
        if seed % 2 == 0 {
            assert_eq!(read.len(), 20);
        }
        for (n, frame) in read.iter().enumerate() {
            assert_eq!(frame.payload, payload(n as u64, 900));
        }
    }
}

#[test]
fn what_follows_a_crash_of_the_first_start_in_a_copy_counts_under_the_new_epoch() {
    for at in 1..40 {
        let fs = SimFs::new(at);
        live(&fs, &mut Oracle::default(), 1, 3);
        let (before, _) = Journal::open(Arc::new(fs.clone()), env(7), small()).unwrap();
        let last = before.durable();
        before.close().unwrap();
        fs.change_identity();
        fs.crash_at(at);
        if let Ok((journal, _)) = Journal::open(Arc::new(fs.clone()), env(7), small()) {
            let _ = crate::support::append(&journal, payload(1, 100), 1);
        }
        fs.restart(crash(at));
        let (journal, recovery) = Journal::open(Arc::new(fs.clone()), env(7), small()).unwrap();
        assert_eq!(recovery.id.epoch, 2, "crash at {at}");
        crate::support::append(&journal, payload(2, 100), 1).unwrap();
        let epochs: Vec<_> = journal.epochs().iter().map(|range| (range.epoch, range.first)).collect();
        assert_eq!(epochs, [(1, 1), (2, last + 1)], "crash at {at}");
    }
}
