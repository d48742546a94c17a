//! A journal read by a process that does not hold it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use runstone_journal::{Frames, OpenError, ReadError, View};

use crate::support::{append, open, options, payload, read_all, real};

fn view(dir: &std::path::Path) -> View {
    View::open(&real(), dir).unwrap()
}

fn readable(frames: Frames) -> Vec<(u64, bytes::Bytes)> {
    frames.map(|frame| frame.map(|frame| (frame.first, frame.payload)).unwrap()).collect()
}

#[test]
fn a_view_reads_what_the_journal_reads_from_any_position() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(&real(), options(dir.path()));
    assert_eq!((view(dir.path()).last(), readable(view(dir.path()).frames(0)).len()), (0, 0));
    for n in 0..60u64 {
        append(&journal, payload(n, 4_000), u32::try_from(n % 3 + 1).unwrap()).unwrap();
    }
    let view = view(dir.path());
    assert_eq!((view.id(), view.first_available(), view.last()), (journal.id(), 1, journal.durable()));
    assert!(view.segments().len() > 2);
    let all: Vec<_> = read_all(&journal);
    for after in 0..=journal.durable() {
        let expected: Vec<_> =
            all.iter().filter(|frame| frame.last() > after).map(|frame| (frame.first, frame.payload.clone())).collect();
        assert_eq!(readable(view.frames(after)), expected, "after {after}");
    }
    append(&journal, payload(99, 10), 1).unwrap();
    assert_eq!(readable(view.frames(0)).len(), all.len(), "a view stands still");
}

#[test]
fn a_view_of_a_journal_that_is_being_written_and_trimmed_never_has_a_hole() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(&real(), options(dir.path()));
    append(&journal, payload(0, 100), 1).unwrap();
    let journal = Arc::new(journal);
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (journal, stop) = (Arc::clone(&journal), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                append(&journal, payload(n, 3_000), 2).unwrap();
                if n % 50 == 0 {
                    journal.trim(journal.durable() - 40).unwrap();
                }
            }
        })
    };
    let mut seen = 0;
    while journal.durable() < 1_500 {
        let durable = journal.durable();
        let view = view(dir.path());
        assert!(view.last() >= durable, "{} {durable}", view.last());
        let mut next = view.first_available();
        for frame in view.frames(next - 1) {
            match frame {
                Ok(frame) => {
                    assert_eq!(frame.first, next);
                    next = frame.last() + 1;
                }
                Err(ReadError::Trimmed { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
        seen += u32::from(next > view.last());
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert!(seen > 0, "not one view was read to its end");
}

#[test]
fn trimmed_and_damaged_positions_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(&real(), options(dir.path()));
    for n in 0..60 {
        append(&journal, payload(n, 4_000), 1).unwrap();
    }
    let first_available = journal.trim(30).unwrap();
    journal.close().unwrap();
    let view = view(dir.path());
    assert_eq!(view.first_available(), first_available);
    let mut frames = view.frames(0);
    assert!(matches!(frames.next(), Some(Err(ReadError::Trimmed { first_available: f })) if f == first_available));
    assert!(frames.next().is_none());

    let segment = &view.segments()[0];
    let mut bytes = std::fs::read(&segment.path).unwrap();
    bytes[6_000] ^= 1;
    std::fs::write(&segment.path, bytes).unwrap();
    let (mut sound, mut lost) = (0, 0);
    for frame in view.frames(first_available - 1) {
        match frame {
            Ok(_) => sound += 1,
            Err(ReadError::Quarantined { first, last }) => lost += last - first + 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((lost, sound + lost), (1, view.last() - first_available + 1));
}

#[test]
fn a_hole_between_segments_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(&real(), options(dir.path()));
    for n in 0..60 {
        append(&journal, payload(n, 4_000), 1).unwrap();
    }
    journal.close().unwrap();
    let segments = view(dir.path()).segments().to_vec();
    std::fs::remove_file(&segments[1].path).unwrap();
    match View::open(&real(), dir.path()) {
        Err(OpenError::Missing { last, .. }) => assert_eq!(last, Some(segments[1].last)),
        other => panic!("{other:?}"),
    }
}
