//! A journal of which one segment's bytes are anything: it opens or refuses, never panics, and what it reads it reads
//! again after it was repaired.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use runstone_journal::fs::sim::{Crash, SimFs};
use runstone_journal::{Env, Journal, Options};

fn open(fs: &SimFs) -> Option<Journal> {
    let env = Env { clock: Arc::new(|| 7), entropy: Arc::new(|bytes: &mut [u8]| bytes.fill(7)) };
    let options = Options { segment_bytes: 64 << 10, preallocate_bytes: 0, ..Options::new("/journal") };
    Journal::open_stepwise(Arc::new(fs.clone()), env, options).ok().map(|(journal, _, _)| journal)
}

fn read(journal: &Journal) -> Vec<(u64, Bytes)> {
    let mut reader = journal.reader(0);
    let mut frames = Vec::new();
    loop {
        match reader.next() {
            Ok(Some(frame)) => frames.push((frame.first, frame.payload)),
            Ok(None) => return frames,
            Err(runstone_journal::ReadError::Quarantined { .. }) => drop(reader.skip()),
            Err(runstone_journal::ReadError::Trimmed { first_available }) => reader.seek(first_available - 1),
            Err(runstone_journal::ReadError::Io { .. }) => return frames,
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let fs = SimFs::new(1);
    fs.set_contents(Path::new("/journal/00000000000000000001.seg"), data);
    let Some(journal) = open(&fs) else { return };
    let first = read(&journal);
    drop(journal);
    fs.restart(Crash::Kill);
    let journal = open(&fs).expect("what was opened once opens again");
    assert_eq!(read(&journal), first);
});
