//! What the tests share: opening, appending and waiting, reading back.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use bytes::Bytes;
use proptest::test_runner::{Config, RngSeed};
use runstone_journal::fs::{Fs, RealFs};
use runstone_journal::{AppendError, Appended, Env, Frame, Journal, Options, ReadError, Reader, Recovery};

pub(crate) fn env(seed: u64) -> Env {
    let state = Arc::new(AtomicU64::new(seed));
    Env {
        clock: Arc::new(|| 1_700_000_000_000_000),
        entropy: Arc::new(move |buf| {
            for byte in buf {
                *byte = (mix(state.fetch_add(1, Ordering::Relaxed)) & 0xff) as u8;
            }
        }),
    }
}

/// Where seeds begin: at 0, and elsewhere for each repetition of a soak. Printed, so that a failure can be played again with
/// `RUNSTONE_SEED`.
pub(crate) fn first_seed() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "which seeds are played is for whoever runs it to say")]
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let first = number("RUNSTONE_SEED").wrapping_add(number("NEXTEST_STRESS_CURRENT").wrapping_mul(10_000));
    let _ = writeln!(std::io::stdout(), "RUNSTONE_SEED={first}");
    first
}

/// So many random cases, the same ones from the same first seed.
pub(crate) fn random_cases(cases: u32) -> Config {
    Config { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(first_seed()), ..Config::default() }
}

pub(crate) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Bytes that a number stands for; different numbers give different bytes.
pub(crate) fn payload(n: u64, len: usize) -> Bytes {
    let mut out = format!("{n:016x}").into_bytes();
    let mut x = n;
    while out.len() < len {
        x = mix(x);
        out.extend_from_slice(&x.to_le_bytes());
    }
    out.truncate(len.max(16));
    out.into()
}

/// Small limits and one known size, so that a test sees several segments.
pub(crate) fn options(dir: &Path) -> Options {
    let mut options = Options::new(dir);
    options.segment_bytes = 64 << 10;
    options.preallocate_bytes = 16 << 10;
    options.retry_interval = std::time::Duration::from_millis(5);
    options
}

pub(crate) fn open(fs: &Arc<dyn Fs>, options: Options) -> (Journal, Recovery) {
    Journal::open(Arc::clone(fs), env(7), options).unwrap()
}

pub(crate) fn real() -> Arc<dyn Fs> {
    Arc::new(RealFs)
}

pub(crate) type Answer = Result<Appended, AppendError>;

/// Appends without waiting.
pub(crate) fn send(journal: &Journal, payload: Bytes, items: u32) -> Receiver<Answer> {
    let (tx, rx) = sync_channel(1);
    let done = Box::new(move |answer| tx.send(answer).unwrap());
    if let Err(error) = journal.append(payload, items, done) {
        let (tx, rx) = sync_channel(1);
        tx.send(Err(error)).unwrap();
        return rx;
    }
    rx
}

/// Appends and waits.
pub(crate) fn append(journal: &Journal, payload: Bytes, items: u32) -> Answer {
    send(journal, payload, items).recv().unwrap()
}

pub(crate) fn drain(reader: &mut Reader) -> Vec<Frame> {
    std::iter::from_fn(|| reader.next().unwrap()).collect()
}

pub(crate) fn read_all(journal: &Journal) -> Vec<Frame> {
    drain(&mut journal.reader(0))
}

/// Everything readable, and the ranges that were quarantined on the way.
pub(crate) fn read_around(journal: &Journal) -> (Vec<Frame>, Vec<(u64, u64)>) {
    let mut reader = journal.reader(0);
    let (mut frames, mut gaps) = (Vec::new(), Vec::new());
    loop {
        match reader.next() {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, gaps),
            Err(ReadError::Quarantined { first, last }) => {
                assert_eq!(reader.skip(), Some((first, last)));
                gaps.push((first, last));
            }
            Err(error) => panic!("read: {error}"),
        }
    }
}
