//! What tests of several modules stand on: a journal on a simulated disk, records in it, and a lake in a directory. Owns
//! making them; refuses to run anything.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;

use bytes::Bytes;
use runstone_journal::fs::sim::SimFs;
use runstone_journal::{AppendError, Appended, Env, Journal, Options};
use runstone_record::{Batch, IdMint, parse};
use runstone_store::lake::{Lake, LakeOptions, LakeSnapshot, LakeWriter, WriterOptions};

/// 2026-11-20T13:00:00Z.
pub(crate) const NOW_MS: i64 = 1_795_179_600_000;
pub(crate) const NOW: i64 = NOW_MS * 1_000;

/// The journal of a directory, with a segment for each frame.
pub(crate) fn journal(fs: &SimFs, dir: &Path) -> Arc<Journal> {
    let env = Env { clock: Arc::new(|| NOW), entropy: Arc::new(|bytes: &mut [u8]| bytes.fill(7)) };
    let mut options = Options::new(dir);
    options.segment_bytes = 1;
    Arc::new(Journal::open(Arc::new(fs.clone()), env, options).unwrap().0)
}

/// A record of a run, with an id of its client's.
pub(crate) fn record(id: u64, run_id: &str) -> Batch {
    let body = format!(r#"{{"id":"01980000-0000-4000-8000-{id:012x}","run_id":"{run_id}","message":"record {id}"}}"#);
    parse::json(body.as_bytes()).unwrap().builder.stamp(&mut IdMint::new(1, 1), NOW, None)
}

/// Appends a frame and waits until it is durable.
pub(crate) fn append(journal: &Journal, batch: &Batch) -> Result<Appended, AppendError> {
    let (answer, answered) = sync_channel(1);
    let done = Box::new(move |result| answer.send(result).unwrap());
    journal.append(Bytes::from(batch.encode()), u32::try_from(batch.len()).unwrap(), done)?;
    answered.recv().unwrap()
}

pub(crate) fn lake_options(dir: &Path) -> LakeOptions {
    // Two lakes of one test must not draw the same ids.
    static LAKES: AtomicU64 = AtomicU64::new(1);
    let lake = u128::from(LAKES.fetch_add(1, Ordering::Relaxed));
    let drawn = AtomicU64::new(1);
    let entropy = move || (lake << 64) | u128::from(drawn.fetch_add(1, Ordering::Relaxed)) << 8;
    LakeOptions::new(dir.to_str().unwrap(), "tests", Arc::new(|| NOW_MS), Arc::new(entropy))
}

/// One flush: these records of a journal, from a position on, after its last one.
pub(crate) async fn flush(
    lake: &Lake,
    journal: &str,
    first: u64,
    batches: impl IntoIterator<Item = Batch>,
) -> Arc<LakeSnapshot> {
    let snapshot = lake.refresh().await.unwrap();
    let after = lake.cursor(&snapshot, journal).await.unwrap();
    let mut writer = LakeWriter::new(lake.clone(), WriterOptions::default());
    let mut next = first;
    for batch in batches {
        let count = batch.len() as u64;
        writer.push(journal, next, batch).unwrap();
        next += count;
    }
    writer.flush(after).await.unwrap().unwrap().snapshot
}
