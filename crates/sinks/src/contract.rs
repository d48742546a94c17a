//! What every sink does, whatever its target: order, resumption, repetition, poison, a target that is away or slow, restarts,
//! and a cursor that is never ahead of the records. Owns the checks, each for a fresh target; refuses to know how a target is
//! broken and mended: [`Target`] does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed check is a failed test")]

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use runstone_record::build::BatchBuilder;
use runstone_record::{Column, IdMint};

use crate::{Delivered, Delivery, Frame, Sink, SinkError};

/// A journal under its first epoch.
pub const SOURCE: &str = "0192f0c1-2d3e-7f40-8a5b-6c7d8e9fa0b1/1";
/// The same journal under the next: as after its directory was copied.
pub const NEXT_SOURCE: &str = "0192f0c1-2d3e-7f40-8a5b-6c7d8e9fa0b1/2";

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// A pause of those who try again.
const PAUSE: Duration = Duration::from_millis(5);
/// When all records arrived.
const NOW_US: i64 = 1_795_861_234_567_890;

/// A record that is in a target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stored {
    /// The journal that took it.
    pub journal: String,
    /// Its place there.
    pub position: u64,
    /// The record as JSON of the API, version 1.
    pub json: String,
}

/// A target of its own for one check.
#[async_trait]
pub trait Target: Send + Sync {
    /// What brings records there.
    type Sink: Sink;

    /// Does it know a record by its id, whatever source brings it again?
    const KNOWS_IDS: bool;

    /// A sink, as a process has one that was just started.
    async fn sink(&self) -> Self::Sink;

    /// All records that are there.
    async fn records(&self) -> Vec<Stored>;

    /// How a record that was sent looks there.
    fn kept(&self, sent: Stored) -> Stored {
        sent
    }

    /// The positions of the dead letters that it has kept.
    async fn letters(&self) -> Vec<u64>;

    /// Makes the open row, which has neither run nor message, one that it cannot take.
    fn poison(&self, row: &mut BatchBuilder);

    /// Takes the target away.
    async fn take_away(&self);

    /// Brings it back, with what was in it.
    async fn bring_back(&self);

    /// Holds it up: it is there and does not get on.
    async fn hold(&self);

    /// Lets it get on.
    async fn release(&self);
}

/// One record's row in the making.
fn row(builder: &mut BatchBuilder, position: u64) {
    builder.set_int(Column::Timestamp, NOW_US - 60_000_000 + i64::try_from(position).unwrap());
    builder.set_text(Column::Type, "info");
    builder.set_text(Column::Level, "INFO");
}

/// A frame of so many records. Those at `poison` are what the target cannot take.
pub fn frame<T: Target>(target: &T, first: u64, len: u64, poison: &[u64]) -> Frame {
    let mut builder = BatchBuilder::default();
    for position in first..first + len {
        row(&mut builder, position);
        if poison.contains(&position) {
            target.poison(&mut builder);
        } else {
            builder.set_text(Column::RunId, &format!("run_{}", position % 3));
            builder.set_text(Column::Message, &format!("record {position}"));
            builder.set_text(Column::Metadata, &format!(r#"{{"n":{position},"text":"\"ü\""}}"#));
        }
        builder.end_row(None);
    }
    let batch = builder.stamp(&mut IdMint::new(1_795_861_234_567, u128::from(first) << 40), NOW_US, None);
    Frame { first, batch }
}

/// Frames of `len` records each, one after another from position 1.
pub fn frames<T: Target>(target: &T, count: u64, len: u64) -> Vec<Frame> {
    (0..count).map(|place| frame(target, 1 + place * len, len, &[])).collect()
}

/// The position of the last record.
#[must_use]
pub fn last(frames: &[Frame]) -> u64 {
    frames.last().map_or(0, |frame| frame.first + frame.batch.len() as u64 - 1)
}

fn delivery(source: &str, after: u64, frames: &[Frame]) -> (u64, Vec<Frame>, String) {
    (after, frames.to_vec(), source.to_owned())
}

/// Delivers once.
///
/// # Errors
/// What the sink says.
pub async fn once<S: Sink>(sink: &mut S, source: &str, after: u64, frames: &[Frame]) -> Result<Delivered, SinkError> {
    let (after, frames, source) = delivery(source, after, frames);
    let through = last(&frames).max(after);
    let delivery = Delivery { source: &source, after, frames: &frames, through };
    tokio::time::timeout(DEADLINE, sink.deliver(delivery)).await.expect("an answer to a delivery")
}

/// What these records look like when they are sent, but for those at some positions.
#[must_use]
pub fn expected(source: &str, frames: &[Frame], without: &[u64]) -> Vec<Stored> {
    let whole = Delivery { source, after: 0, frames, through: last(frames) };
    let stored = |(batch, row, position): (&runstone_record::Batch, usize, u64)| {
        let mut json = Vec::new();
        batch.write_json(row, source, position, &mut json);
        Stored { journal: source.to_owned(), position, json: String::from_utf8(json).unwrap() }
    };
    whole.records().filter(|(_, _, position)| !without.contains(position)).map(stored).collect()
}

/// What they look like in a target.
fn kept<T: Target>(target: &T, sent: Vec<Stored>) -> Vec<Stored> {
    let mut kept: Vec<Stored> = sent.into_iter().map(|sent| target.kept(sent)).collect();
    kept.sort();
    kept
}

/// All records of a target, those of a source together and in their order.
pub async fn stored<T: Target>(target: &T) -> Vec<Stored> {
    let mut records = target.records().await;
    records.sort();
    records
}

/// Feeds a sink as a server does: from its cursor, again and again, a frame at a time, until all are there.
pub async fn feed<S: Sink>(sink: &mut S, source: &str, frames: &[Frame]) {
    let through = last(frames);
    let fed = async {
        loop {
            let after = match sink.cursor(source).await {
                Ok(cursor) if cursor >= through => return,
                Ok(cursor) => cursor,
                Err(SinkError::Away { .. }) => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(error) => panic!("{error:?}"),
            };
            let next: Vec<Frame> = frames.iter().filter(|frame| frame.first > after).take(1).cloned().collect();
            match once(sink, source, after, &next).await {
                Ok(_) | Err(SinkError::Moved { .. }) => {}
                Err(SinkError::Away { .. }) => tokio::time::sleep(PAUSE).await,
                Err(error) => panic!("{error:?}"),
            }
        }
    };
    tokio::time::timeout(DEADLINE, fed).await.expect("a sink that comes to the end");
}

/// Records are there as they were sent, each at its place, whatever the frames that brought them.
pub async fn order<T: Target>(target: &T) {
    let mut sink = target.sink().await;
    assert_eq!(sink.cursor(SOURCE).await.unwrap(), 0, "a new target has no cursor");
    let frames = [frame(target, 1, 1, &[]), frame(target, 2, 40, &[]), frame(target, 42, 3, &[])];
    assert_eq!(once(&mut sink, SOURCE, 0, &frames[..2]).await.unwrap(), Delivered::default());
    assert_eq!(once(&mut sink, SOURCE, 41, &frames[2..]).await.unwrap(), Delivered::default());
    assert_eq!(sink.cursor(SOURCE).await.unwrap(), 44);
    assert_eq!(stored(target).await, kept(target, expected(SOURCE, &frames, &[])));
}

/// A sink goes on where another left off; each source has its cursor; a gap in the positions is no trouble.
pub async fn resume<T: Target>(target: &T) {
    let mut frames = frames(target, 3, 5);
    once(&mut target.sink().await, SOURCE, 0, &frames[..2]).await.unwrap();
    let mut sink = target.sink().await;
    assert_eq!(sink.cursor(SOURCE).await.unwrap(), 10);
    assert_eq!(sink.cursor(NEXT_SOURCE).await.unwrap(), 0);
    once(&mut sink, SOURCE, 10, &frames[2..]).await.unwrap();
    // Damage in the journal: there is nothing between 15 and 100.
    let passing = Delivery { source: SOURCE, after: 15, frames: &[], through: 100 };
    assert_eq!(sink.deliver(passing).await.unwrap(), Delivered::default());
    assert_eq!(target.sink().await.cursor(SOURCE).await.unwrap(), 100);
    frames.push(frame(target, 101, 2, &[]));
    once(&mut sink, SOURCE, 100, &frames[3..]).await.unwrap();
    assert_eq!(stored(target).await, kept(target, expected(SOURCE, &frames, &[])));
    // Who believes in another place is told of the right one, and nothing has happened.
    for (after, frames) in [(0, &frames[..1]), (15, &frames[3..]), (200, &[])] {
        let moved = once(&mut sink, SOURCE, after, frames).await;
        assert!(matches!(moved, Err(SinkError::Moved { found: 102 })), "{after}: {moved:?}");
    }
    assert_eq!(stored(target).await, kept(target, expected(SOURCE, &frames, &[])));
}

/// The same delivery a hundred times is there once; and so it is under another epoch, where the target knows ids.
pub async fn duplicate_delivery<T: Target>(target: &T) {
    let frames = frames(target, 2, 4);
    for time in 0..100 {
        let mut sink = target.sink().await;
        match once(&mut sink, SOURCE, 0, &frames).await {
            Ok(_) => assert_eq!(time, 0),
            Err(SinkError::Moved { found: 8 }) => assert_ne!(time, 0),
            other => panic!("{time}: {other:?}"),
        }
    }
    assert_eq!(stored(target).await, kept(target, expected(SOURCE, &frames, &[])));
    if T::KNOWS_IDS {
        let more = [frames[1].clone(), frame(target, 9, 2, &[])];
        let delivered = once(&mut target.sink().await, NEXT_SOURCE, 4, &more).await;
        assert!(matches!(delivered, Err(SinkError::Moved { found: 0 })), "{delivered:?}");
        let delivered = once(&mut target.sink().await, NEXT_SOURCE, 0, &more).await.unwrap();
        assert_eq!(delivered, Delivered::default());
        let mut all = expected(SOURCE, &frames, &[]);
        all.extend(expected(NEXT_SOURCE, &more[1..], &[]));
        assert_eq!(stored(target).await, kept(target, all));
    }
}

/// What the target cannot take is a dead letter; all others are there and the cursor moves on.
pub async fn poison_record<T: Target>(target: &T) {
    let mut all = Vec::new();
    for (source, poison) in [(SOURCE, &[4_u64][..]), (NEXT_SOURCE, &[101, 102, 107, 111])] {
        let first = if source == SOURCE { 1 } else { 101 };
        let frames = [frame(target, first, 7, poison), frame(target, first + 7, 4, poison)];
        let mut sink = target.sink().await;
        let delivered = once(&mut sink, source, 0, &frames).await.unwrap();
        let places: Vec<u64> = delivered.dead_letters.iter().map(|letter| letter.position).collect();
        assert_eq!(places, poison);
        let sent = expected(source, &frames, &[]);
        for letter in &delivered.dead_letters {
            let sent = sent.iter().find(|sent| sent.position == letter.position).unwrap();
            assert_eq!((letter.source.as_str(), &letter.record), (source, &sent.json));
            assert!(letter.record.contains(&letter.id.to_string()) && !letter.reason.is_empty(), "{letter:?}");
        }
        assert_eq!(sink.cursor(source).await.unwrap(), last(&frames));
        all.extend(expected(source, &frames, poison));
        assert_eq!(stored(target).await, kept(target, all.clone()));
        // It is not tried again.
        feed(&mut target.sink().await, source, &frames).await;
    }
    let mut letters = target.letters().await;
    letters.sort_unstable();
    assert_eq!(letters, [4, 101, 102, 107, 111]);
}

/// A target that is away is said to be, nothing is lost, and the same sink goes on when it is back.
pub async fn target_down<T: Target>(target: &T) {
    let frames = frames(target, 4, 5);
    let mut sink = target.sink().await;
    once(&mut sink, SOURCE, 0, &frames[..1]).await.unwrap();
    target.take_away().await;
    for _ in 0..2 {
        let answer = once(&mut sink, SOURCE, 5, &frames[1..2]).await;
        assert!(matches!(answer, Err(SinkError::Away { .. })), "{answer:?}");
        let cursor = sink.cursor(SOURCE).await;
        assert!(matches!(cursor, Err(SinkError::Away { .. })), "{cursor:?}");
    }
    let mut late = target.sink().await;
    let answer = late.cursor(SOURCE).await;
    assert!(matches!(answer, Err(SinkError::Away { .. })), "a sink that starts meanwhile: {answer:?}");
    target.bring_back().await;
    feed(&mut sink, SOURCE, &frames[..3]).await;
    feed(&mut late, SOURCE, &frames).await;
    assert_eq!(stored(target).await, kept(target, expected(SOURCE, &frames, &[])));
}

/// A target that does not get on is not waited for without end, and gets everything once it does.
pub async fn slow_target<T: Target>(target: &T) {
    let frames = frames(target, 3, 5);
    let mut sink = target.sink().await;
    once(&mut sink, SOURCE, 0, &frames[..1]).await.unwrap();
    target.hold().await;
    let answer = once(&mut sink, SOURCE, 5, &frames[1..2]).await;
    assert!(matches!(answer, Err(SinkError::Away { .. })), "{answer:?}");
    target.release().await;
    feed(&mut sink, SOURCE, &frames).await;
    assert_eq!(stored(target).await, kept(target, expected(SOURCE, &frames, &[])));
}

/// A delivery that is broken off at any place leaves nothing that the next process trips over.
pub async fn restart<T: Target>(target: &T) {
    let mut frames: Vec<Frame> = Vec::new();
    for polls in 0..10_000 {
        let after = last(&frames);
        frames.push(frame(target, after + 1, 3, &[after + 2]));
        let mut sink = target.sink().await;
        // One connects here; another only when something is delivered.
        if polls % 2 == 0 {
            sink.cursor(SOURCE).await.unwrap();
        }
        let next = &frames[frames.len() - 1..];
        let delivery = Delivery { source: SOURCE, after, frames: next, through: after + 3 };
        let done = polled(sink.deliver(delivery), polls / 2).await;
        drop(sink);
        feed(&mut target.sink().await, SOURCE, &frames).await;
        if done.is_some() && polls % 2 == 1 {
            break;
        }
        assert_ne!(polls, 9_999, "a delivery ends");
    }
    let poison: Vec<u64> = frames.iter().map(|frame| frame.first + 1).collect();
    assert_eq!(stored(target).await, kept(target, expected(SOURCE, &frames, &poison)));
    let mut letters = target.letters().await;
    letters.sort_unstable();
    assert_eq!(letters, poison);
}

/// Polls a future so often and then drops it.
async fn polled<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

/// Whoever looks at the cursor first and at the records then finds all that the cursor says.
pub async fn cursor_never_ahead<T: Target>(target: &T) {
    let frames = frames(target, 40, 25);
    let (mut sink, mut other) = (target.sink().await, target.sink().await);
    sink.cursor(SOURCE).await.unwrap();
    let looking = async {
        loop {
            let cursor = match other.cursor(SOURCE).await {
                Ok(cursor) => cursor,
                Err(SinkError::Away { .. }) => continue,
                Err(error) => panic!("{error:?}"),
            };
            let found: BTreeSet<u64> = target.records().await.into_iter().map(|record| record.position).collect();
            let missing: Vec<u64> = (1..=cursor).filter(|position| !found.contains(position)).collect();
            assert!(missing.is_empty(), "the cursor is at {cursor} without {missing:?}");
            if cursor == last(&frames) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let both = async { tokio::join!(feed(&mut sink, SOURCE, &frames), looking) };
    tokio::time::timeout(DEADLINE, both).await.expect("a sink that comes to the end");
    assert_eq!(stored(target).await, kept(target, expected(SOURCE, &frames, &[])));
}
