//! Files that were cut, zeroed, overwritten, flipped or lost: what is cut, what is quarantined, what is refused.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use runstone_journal::fs::Fs;
use runstone_journal::fs::sim::{Crash, SimFs};
use runstone_journal::{Event, Journal, OpenError, Options, ReadError, Recovery, check};

use crate::support::{append, env, first_seed, mix, open, options, payload, random_cases, read_all, read_around};

const DIR: &str = "/journal";

fn small() -> Options {
    Options { segment_bytes: 8 << 10, preallocate_bytes: 4 << 10, ring_bytes: 0, ..options(Path::new(DIR)) }
}

fn try_start(fs: &SimFs) -> Result<(Journal, Recovery), OpenError> {
    Journal::open(Arc::new(fs.clone()), env(7), small())
}

fn start(fs: &SimFs) -> (Journal, Recovery) {
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    open(&shared, small())
}

fn segments(fs: &SimFs) -> Vec<PathBuf> {
    fs.files().into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "seg")).collect()
}

fn expected(count: u64) -> Vec<Bytes> {
    (0..count).map(|n| payload(n, length(n))).collect()
}

fn length(n: u64) -> usize {
    usize::try_from(mix(n) % 1200).unwrap() + 100
}

/// A journal of `count` frames of one item each, left as a kill leaves it or closed.
fn filled(count: u64, closed: bool) -> SimFs {
    let fs = SimFs::new(1);
    let (journal, _) = start(&fs);
    for n in 0..count {
        append(&journal, payload(n, length(n)), 1).unwrap();
    }
    if closed {
        journal.close().unwrap();
    } else {
        fs.restart(Crash::Kill);
    }
    fs
}

/// What is readable is a prefix of what was written; gives its length.
fn assert_prefix(journal: &Journal, all: &[Bytes]) -> usize {
    let read = read_all(journal);
    assert!(read.len() <= all.len());
    for (frame, expected) in read.iter().zip(all) {
        assert_eq!(frame.payload, expected);
    }
    read.len()
}

fn torn(recovery: &Recovery) -> usize {
    recovery.events.iter().filter(|event| matches!(event, Event::TornTail { .. })).count()
}

/// The offset after the last byte that is not zero.
fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)
}

#[test]
fn a_tail_that_was_cut_zeroed_or_overwritten_stops_at_the_last_valid_group() {
    let fs = filled(6, false);
    let path = segments(&fs).pop().unwrap();
    let whole = fs.contents(&path).unwrap();
    let all = expected(6);
    let end = used(&whole);
    for at in (1024..end + 1024).step_by(512) {
        for kind in 0..3 {
            let mut bytes = whole.clone();
            match kind {
                0 => bytes.truncate(at),
                1 => bytes[at.min(whole.len())..].fill(0),
                _ => {
                    for (i, byte) in bytes.iter_mut().enumerate().skip(at) {
                        *byte = u8::try_from(mix(i as u64) & 0xff).unwrap() | 1;
                    }
                }
            }
            let fs = fs.copy();
            fs.set_contents(&path, &bytes);
            let (journal, recovery) = start(&fs);
            let kept = assert_prefix(&journal, &all);
            assert_eq!(kept == all.len(), at >= end, "at {at}, kind {kind}");
            assert!(torn(&recovery) <= 1 && torn(&recovery) == recovery.events.len(), "{:?}", recovery.events);
            assert!(kind != 2 || at >= whole.len() || torn(&recovery) == 1);
            assert_eq!(append(&journal, payload(77, 10), 1).unwrap().first, kept as u64 + 1);
            journal.close().unwrap();
            let (journal, recovery) = start(&fs);
            assert!(recovery.events.is_empty(), "warned twice: {:?}", recovery.events);
            assert_eq!(read_all(&journal).len(), kept + 1);
        }
    }
}

#[test]
fn a_group_that_lacks_any_one_sector_is_discarded_as_a_whole() {
    let fs = SimFs::new(1);
    let (journal, _) = start(&fs);
    append(&journal, payload(0, 600), 1).unwrap();
    let path = segments(&fs).pop().unwrap();
    let first = used(&fs.contents(&path).unwrap()).next_multiple_of(512);
    append(&journal, payload(1, 4000), 7).unwrap();
    fs.restart(Crash::Kill);
    drop(journal);
    let whole = fs.contents(&path).unwrap();
    for at in (first..used(&whole)).step_by(512) {
        let fs = fs.copy();
        let mut bytes = whole.clone();
        bytes[at..at + 512].fill(0);
        fs.set_contents(&path, &bytes);
        let (journal, recovery) = start(&fs);
        assert_eq!(read_all(&journal).len(), 1);
        assert_eq!((torn(&recovery), recovery.events.len(), recovery.durable), (1, 1, 1));
    }
}

#[test]
fn a_flipped_bit_in_sealed_data_is_always_found_and_only_its_frame_is_lost() {
    let fs = filled(60, true);
    let all = expected(60);
    let paths = segments(&fs);
    assert!(paths.len() > 4);
    let first = first_seed();
    for trial in first..first + 2000 {
        let fs = fs.copy();
        let path = &paths[usize::try_from(mix(trial)).unwrap() % paths.len()];
        let mut bytes = fs.contents(path).unwrap();
        let bit = usize::try_from(mix(trial ^ 0xabcd) % (bytes.len() as u64 * 8)).unwrap();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs.set_contents(path, &bytes);

        let report = check(&fs, Path::new(DIR), |_| {}).unwrap();
        let torn_mark = report.torn_bytes > 0;
        assert!(!report.is_sound() || torn_mark, "bit {bit} of {}", path.display());

        let (journal, recovery) = start(&fs);
        let (frames, gaps) = read_around(&journal);
        let lost: u64 = gaps.iter().map(|(first, last)| last - first + 1).sum();
        assert!(lost <= 1 && frames.len() as u64 + lost == 60, "trial {trial}: lost {gaps:?}");
        for frame in frames {
            assert_eq!(frame.payload, all[usize::try_from(frame.first).unwrap() - 1]);
        }
        if bit / 8 < 1024 {
            let damaged = |event: &Event| matches!(event, Event::HeaderCopyDamaged { .. });
            assert!(recovery.events.iter().any(damaged));
        }
        assert_eq!(append(&journal, payload(60, 10), 1).unwrap().first, 61);
    }
}

#[test]
fn a_flipped_bit_in_a_group_of_many_frames_loses_one_frame_or_names_the_rest() {
    let fs = SimFs::new(1);
    let (journal, _) = start(&fs);
    fs.hold(runstone_journal::fs::sim::Op::Sync);
    let mut answers = vec![crate::support::send(&journal, payload(0, 300), 2)];
    fs.wait_until_stalled();
    answers.extend((1..11).map(|n| crate::support::send(&journal, payload(n, 300), 2)));
    fs.release(runstone_journal::fs::sim::Op::Sync);
    for answer in answers {
        answer.recv().unwrap().unwrap();
    }
    assert_eq!(journal.stats().groups, 2);
    journal.close().unwrap();
    let path = segments(&fs).pop().unwrap();
    let whole = fs.contents(&path).unwrap();
    let mut single = 0;
    for byte in 2048..used(&whole) {
        let fs = fs.copy();
        let mut bytes = whole.clone();
        bytes[byte] ^= 0x10;
        fs.set_contents(&path, &bytes);
        let (journal, recovery) = start(&fs);
        let (frames, gaps) = read_around(&journal);
        assert!(!recovery.events.is_empty(), "byte {byte} unnoticed");
        let lost: u64 = gaps.iter().map(|(first, last)| last - first + 1).sum();
        assert_eq!(frames.len() as u64 * 2 + lost, 22, "byte {byte}: {gaps:?}");
        assert!(gaps.len() <= 1);
        single += u64::from(lost == 2);
    }
    assert!(single > 2500, "most flips hit a payload and cost one frame: {single}");
}

#[test]
fn damage_before_a_proven_offset_is_never_cut_even_when_the_tail_is_torn_too() {
    let fs = filled(6, false);
    let path = segments(&fs).pop().unwrap();
    let mut bytes = fs.contents(&path).unwrap();
    let offsets = groups(&bytes);
    assert!(offsets.len() >= 3);
    let (damaged, last) = (offsets[offsets.len() - 2], offsets[offsets.len() - 1]);
    bytes[damaged..damaged + 64].fill(0xee);
    let end = used(&bytes);
    bytes[end - 1] ^= 0xff;
    assert!(end - 1 > last + 64);
    fs.set_contents(&path, &bytes);
    for _ in 0..3 {
        let (journal, recovery) = start(&fs);
        let corrupt = recovery.events.iter().filter(|event| matches!(event, Event::Corruption(_))).count();
        assert_eq!(corrupt, 1, "{:?}", recovery.events);
        let (frames, gaps) = read_around(&journal);
        assert_eq!((frames.len(), gaps), (4, vec![(5, 5)]));
        assert_eq!(journal.durable(), 5, "the position of the damaged group must not be given again");
        fs.restart(Crash::Kill);
    }
    let (journal, _) = start(&fs);
    assert_eq!(append(&journal, payload(9, 10), 1).unwrap().first, 6);
    let (frames, gaps) = read_around(&journal);
    assert_eq!((frames.len(), gaps), (5, vec![(5, 5)]));
}

/// Where groups start, by their magic.
fn groups(bytes: &[u8]) -> Vec<usize> {
    (1024..bytes.len()).step_by(512).filter(|at| bytes[*at..].starts_with(b"RJGR")).collect()
}

#[test]
fn a_payload_that_looks_like_a_group_is_not_taken_for_one() {
    let fs = filled(4, true);
    let path = segments(&fs)[0].clone();
    let image = Bytes::from(fs.contents(&path).unwrap()[1024..].to_vec());
    let (journal, _) = start(&fs);
    for _ in 0..4 {
        append(&journal, image.clone(), 1).unwrap();
    }
    journal.close().unwrap();
    // Damage a group that holds the image, so that recovery has to look for the next header inside it.
    let path = segments(&fs).into_iter().rev().nth(1).unwrap();
    let mut bytes = fs.contents(&path).unwrap();
    let at = groups(&bytes)[0];
    bytes[at + 8] ^= 1;
    fs.set_contents(&path, &bytes);
    let (journal, _) = start(&fs);
    let (frames, gaps) = read_around(&journal);
    assert_eq!(frames.len() as u64 + gaps.iter().map(|(first, last)| last - first + 1).sum::<u64>(), 8);
    assert!(frames.iter().skip(4).all(|frame| frame.payload == image));
}

/// The first position of a segment, which is its name.
fn first(path: &Path) -> u64 {
    path.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

/// Changes both copies of a header, which can be believed afterwards.
fn change_header(fs: &SimFs, path: &Path, change: impl Fn(&mut [u8])) {
    let mut bytes = fs.contents(path).unwrap();
    for block in bytes.chunks_mut(512).take(2) {
        change(block);
        let crc = crc32c::crc32c(&block[..508]);
        block[508..].copy_from_slice(&crc.to_le_bytes());
    }
    fs.set_contents(path, &bytes);
}

#[test]
fn a_missing_segment_is_refused_and_its_positions_are_named() {
    let fs = filled(60, true);
    let paths = segments(&fs);
    for (i, gone) in paths.iter().enumerate() {
        let fs = fs.copy();
        Fs::remove(&fs, gone).unwrap();
        let before: Vec<_> = fs.files().iter().map(|path| fs.contents(path)).collect();
        let next = paths.get(i + 1).map(|next| first(next) - 1);
        match try_start(&fs) {
            Err(OpenError::Missing { first: from, last, .. }) => assert_eq!((from, last), (first(gone), next)),
            other => panic!("{other:?}"),
        }
        let after: Vec<_> =
            fs.files().iter().filter(|path| !path.ends_with("journal.lock")).map(|path| fs.contents(path)).collect();
        assert_eq!(before, after);
        let report = check(&fs, Path::new(DIR), |_| {}).unwrap();
        assert_eq!(report.missing, vec![(first(gone), next)]);
    }
    let all = fs.copy();
    paths.iter().for_each(|path| Fs::remove(&all, path).unwrap());
    assert!(matches!(try_start(&all), Err(OpenError::Missing { first: 1, last: None, .. })));
}

#[test]
fn a_segment_that_names_no_predecessor_is_not_the_next_one() {
    let fs = filled(60, true);
    let paths = segments(&fs);
    assert!(paths.len() > 4);
    for (before, after) in paths.iter().zip(&paths[1..]).skip(1) {
        let fs = fs.copy();
        Fs::remove(&fs, before).unwrap();
        // It says that it is the first of all, and others stand before it.
        change_header(&fs, after, |block| block[64..80].fill(0));
        match try_start(&fs) {
            Err(OpenError::Missing { first: from, last, .. }) => {
                assert_eq!((from, last), (first(before), Some(first(after) - 1)));
            }
            other => panic!("{other:?}"),
        }
        let report = check(&fs, Path::new(DIR), |_| {}).unwrap();
        assert_eq!(report.missing, vec![(first(before), Some(first(after) - 1))]);
    }
}

#[test]
fn a_newer_major_version_is_refused_and_nothing_is_touched() {
    let fs = filled(20, true);
    let mut targets = segments(&fs);
    targets.push(Path::new(DIR).join("identity"));
    for path in targets {
        let fs = fs.copy();
        change_header(&fs, &path, |block| block[8] = 2);
        let before = (fs.files(), fs.changes());
        match try_start(&fs) {
            Err(OpenError::NewerFormat { found: 2, supported: 1, path: named }) => assert_eq!(named, path),
            other => panic!("{other:?}"),
        }
        assert_eq!((fs.files(), fs.changes()), before);
        assert!(matches!(check(&fs, Path::new(DIR), |_| {}), Err(OpenError::NewerFormat { .. })));
    }
}

#[test]
fn a_lost_or_damaged_identity_is_rebuilt_under_a_new_epoch() {
    let fs = filled(30, true);
    let identity = Path::new(DIR).join("identity");
    let (journal, before) = start(&fs);
    journal.close().unwrap();
    let mut bytes = fs.contents(&identity).unwrap();
    bytes[20] ^= 1;
    for damaged in [None, Some(bytes)] {
        let fs = fs.copy();
        match damaged {
            None => Fs::remove(&fs, &identity).unwrap(),
            Some(bytes) => fs.set_contents(&identity, &bytes),
        }
        assert!(!check(&fs, Path::new(DIR), |_| {}).unwrap().is_sound());
        let (journal, recovery) = start(&fs);
        assert_eq!(recovery.events, vec![Event::IdentityRebuilt { epoch: 2 }]);
        assert_eq!((recovery.id.uuid, recovery.id.epoch), (before.id.uuid, 2));
        assert_eq!(assert_prefix(&journal, &expected(30)), 30);
        journal.close().unwrap();
        assert_eq!(start(&fs).1.events, vec![]);
    }
}

#[test]
fn a_copy_grows_the_epoch_once_and_every_time_it_is_copied() {
    let fs = filled(10, true);
    for epoch in 2..6 {
        fs.change_identity();
        let (journal, recovery) = start(&fs);
        assert_eq!(recovery.events, vec![Event::EpochGrew { from: epoch - 1, to: epoch }]);
        journal.close().unwrap();
        let (journal, recovery) = start(&fs);
        assert_eq!((recovery.id.epoch, recovery.events.len()), (epoch, 0));
        assert_eq!(assert_prefix(&journal, &expected(10)), 10);
    }
}

#[test]
fn a_segment_of_another_journal_is_refused() {
    let fs = filled(30, true);
    let other = SimFs::new(9);
    let (journal, _) = Journal::open(Arc::new(other.clone()), env(1234), small()).unwrap();
    for n in 0..30 {
        append(&journal, payload(n, length(n)), 1).unwrap();
    }
    journal.close().unwrap();
    let path = segments(&fs)[1].clone();
    fs.set_contents(&path, &other.contents(&path).unwrap());
    match try_start(&fs) {
        Err(OpenError::Foreign { path: named, .. }) => assert_eq!(named, path),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_segment_whose_headers_are_both_damaged_is_still_read() {
    let fs = filled(60, true);
    let paths = segments(&fs);
    for (i, path) in paths.iter().enumerate() {
        let fs = fs.copy();
        let mut bytes = fs.contents(path).unwrap();
        bytes[..1024].fill(0xaa);
        fs.set_contents(path, &bytes);
        let (journal, recovery) = start(&fs);
        let lost = |event: &Event| matches!(event, Event::HeaderLost { .. });
        assert_eq!(recovery.events.iter().filter(|event| lost(event)).count(), 1, "segment {i}");
        assert_eq!(recovery.events.len(), 1, "segment {i}: {:?}", recovery.events);
        assert_eq!(assert_prefix(&journal, &expected(60)), 60);
        assert_eq!(append(&journal, payload(60, 10), 1).unwrap().first, 61);
        journal.close().unwrap();
        start(&fs);
    }
}

#[test]
fn a_sealed_segment_that_was_cut_short_names_what_is_lost() {
    let fs = filled(60, true);
    let path = segments(&fs)[1].clone();
    let bytes = fs.contents(&path).unwrap();
    let keep = groups(&bytes)[2];
    fs.set_contents(&path, &bytes[..keep + 100]);
    let (journal, recovery) = start(&fs);
    let lost = recovery.events.iter().find_map(|event| match event {
        Event::Corruption(damage) => damage.positions.clone(),
        _ => None,
    });
    let (frames, gaps) = read_around(&journal);
    assert_eq!(gaps, vec![lost.map(|lost| (*lost.start(), *lost.end())).unwrap()]);
    assert_eq!(frames.len() as u64, 60 - (gaps[0].1 - gaps[0].0 + 1));
}

#[test]
fn a_reader_stays_at_damage_until_it_is_told_to_skip() {
    let fs = filled(20, true);
    let path = segments(&fs)[0].clone();
    let mut bytes = fs.contents(&path).unwrap();
    let at = groups(&bytes)[1];
    bytes[at + 90] ^= 1;
    fs.set_contents(&path, &bytes);
    let (journal, _) = start(&fs);
    let mut reader = journal.reader(0);
    assert_eq!(reader.next().unwrap().unwrap().first, 1);
    assert_eq!(reader.skip(), None);
    for _ in 0..3 {
        assert!(matches!(reader.next(), Err(ReadError::Quarantined { first: 2, last: 2 })));
    }
    assert_eq!(reader.skip(), Some((2, 2)));
    let rest: BTreeSet<u64> = crate::support::drain(&mut reader).iter().map(|frame| frame.first).collect();
    assert_eq!(rest, (3..=20).collect());
}

#[test]
fn an_unsynced_name_or_left_over_temporary_is_no_segment() {
    let fs = filled(5, true);
    fs.set_contents(&Path::new(DIR).join("00000000000000000099.seg.tmp"), b"half a header");
    fs.set_contents(&Path::new(DIR).join("identity.tmp"), b"");
    fs.set_contents(&Path::new(DIR).join("notes.txt"), b"not ours");
    let (journal, recovery) = start(&fs);
    assert!(recovery.events.is_empty());
    assert_eq!(assert_prefix(&journal, &expected(5)), 5);
    let names: Vec<_> = fs.files().into_iter().filter(|path| path.extension().is_some_and(|e| e == "tmp")).collect();
    assert!(names.is_empty(), "{names:?}");
    assert!(fs.contents(&Path::new(DIR).join("notes.txt")).is_some());
}

#[derive(Debug, Clone)]
enum Harm {
    Overwrite { at: prop::sample::Index, with: Vec<u8> },
    Zero { at: prop::sample::Index, len: usize },
    Cut { at: prop::sample::Index },
    Move { from: prop::sample::Index, to: prop::sample::Index },
}

fn harm() -> impl Strategy<Value = Harm> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        (index(), prop::collection::vec(any::<u8>(), 1..700)).prop_map(|(at, with)| Harm::Overwrite { at, with }),
        (index(), 1usize..3000).prop_map(|(at, len)| Harm::Zero { at, len }),
        index().prop_map(|at| Harm::Cut { at }),
        (index(), index()).prop_map(|(from, to)| Harm::Move { from, to }),
    ]
}

impl Harm {
    fn apply(self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Self::Overwrite { at, with } => {
                let at = at.index(bytes.len());
                bytes.iter_mut().skip(at).zip(with).for_each(|(byte, new)| *byte = new);
            }
            Self::Zero { at, len } => {
                let at = at.index(bytes.len());
                bytes.iter_mut().skip(at).take(len).for_each(|byte| *byte = 0);
            }
            Self::Cut { at } => bytes.truncate(at.index(bytes.len())),
            // A misdirected write: sectors of one place at another.
            Self::Move { from, to } => {
                let sectors = bytes.len() / 512;
                if sectors > 0 {
                    let (from, to) = (from.index(sectors) * 512, to.index(sectors) * 512);
                    bytes.copy_within(from..from + 512, to);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(random_cases(400))]

    #[test]
    fn whatever_happens_to_the_files_what_is_read_was_written_there(
        closed: bool,
        harms in prop::collection::vec((any::<prop::sample::Index>(), harm()), 1..6),
    ) {
        let fs = filled(30, closed).copy();
        let all = expected(30);
        let files = fs.files();
        for (file, harm) in harms {
            let path = &files[file.index(files.len())];
            let mut bytes = fs.contents(path).unwrap();
            harm.apply(&mut bytes);
            fs.set_contents(path, &bytes);
        }
        let mut seen = 0;
        let report = check(&fs, Path::new(DIR), |frame| {
            assert_eq!(frame.payload, all[usize::try_from(frame.first).unwrap() - 1]);
            seen += 1;
        });
        match try_start(&fs) {
            Err(OpenError::Missing { .. } | OpenError::Unreadable { .. }) => {}
            Err(error) => panic!("{error}"),
            Ok((journal, recovery)) => {
                let (frames, gaps) = read_around(&journal);
                for frame in &frames {
                    assert_eq!(frame.payload, all[usize::try_from(frame.first).unwrap() - 1]);
                }
                assert_eq!(frames.len(), seen);
                let lost: u64 = gaps.iter().map(|(first, last)| last - first + 1).sum();
                assert_eq!(frames.len() as u64 + lost, recovery.durable);
                assert!(lost == 0 || !report.unwrap().is_sound());
                assert_eq!(append(&journal, payload(99, 10), 1).unwrap().first, recovery.durable + 1);
                journal.close().unwrap();
                let (journal, again) = start(&fs);
                assert_eq!(again.durable, recovery.durable + 1);
                assert_eq!(read_around(&journal).0.len(), frames.len() + 1);
            }
        }
    }
}
