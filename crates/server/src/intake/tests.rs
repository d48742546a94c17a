//! The door under faults: a journal on a simulated file system that fails when told to.

use std::path::Path;
use std::time::Duration;

use runstone_journal::fs::sim::{Fault, Op, SimFs};
use runstone_journal::{Env, Options};
use runstone_record::parse;

use super::*;
use crate::clock::ManualClock;

const NOW: i64 = 1_800_000_000_000_000;

fn open(fs: &SimFs) -> Intake {
    let env = Env { clock: Arc::new(|| NOW), entropy: Arc::new(|bytes: &mut [u8]| bytes.fill(7)) };
    let (journal, _) = Journal::open(Arc::new(fs.clone()), env, Options::new("/journal")).unwrap();
    let intake = Intake::new(
        Arc::new(journal),
        Arc::new(ManualClock::new(NOW)),
        Arc::new(|| 5),
        IngestMetrics::default(),
        1 << 20,
    );
    let mut reader = intake.parts.journal.reader(0);
    while let Some(frame) = reader.next().unwrap() {
        intake.remember(&Batch::decode(&frame.payload).unwrap(), frame.first);
    }
    intake
}

fn records(lines: &[(u8, &str)]) -> Parsed {
    let line = |(id, message): &(u8, &str)| {
        format!(r#"{{"id":"01980000-0000-7000-8000-0000000000{id:02x}","message":"{message}"}}"#)
    };
    parse::ndjson(lines.iter().map(line).collect::<Vec<_>>().join("\n").as_bytes()).unwrap()
}

fn key(key: &str, body_hash: u64) -> RequestKey {
    RequestKey { key: key.to_owned(), body_hash }
}

/// Messages in the journal, in order.
fn stored(intake: &Intake) -> Vec<String> {
    let mut reader = intake.parts.journal.reader(0);
    let mut messages = Vec::new();
    while let Some(frame) = reader.next().unwrap() {
        let batch = Batch::decode(&frame.payload).unwrap();
        let message = |row| batch.text(runstone_record::Column::Message, row).unwrap_or_default().to_owned();
        messages.extend((0..batch.len()).map(message));
    }
    messages
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_delivery_held_is_written_by_the_one_that_waited_for_it() {
    let fs = SimFs::new(1);
    let intake = open(&fs);
    fs.hold(Op::Write);
    fs.fail(Op::Write, 0, 1, Fault::NoSpace);
    let take = |parsed, key: Option<RequestKey>| {
        let intake = intake.clone();
        tokio::spawn(async move { intake.take(parsed, key).await })
    };
    let first = take(records(&[(1, "a")]), None);
    until(|| intake.parts.ids.in_flight() == 1).await;
    assert!(intake.begin(&key("k", 9)).await.unwrap().is_none());
    let second = take(records(&[(1, "a"), (2, "b")]), Some(key("k", 9)));
    until(|| intake.parts.ids.in_flight() == 2).await;
    fs.release(Op::Write);
    assert_eq!(first.await.unwrap().unwrap_err().code(), ErrorCode::DiskFull);
    let answer = second.await.unwrap().unwrap().answer;
    assert_eq!((answer.accepted, answer.duplicates), (2, 0));
    assert_eq!(stored(&intake), ["a", "b"]);
    // After a restart the key tells the same story, and every record in it is there.
    drop(intake);
    let intake = open(&fs);
    let replayed = intake.begin(&key("k", 9)).await.unwrap().unwrap();
    assert_eq!((replayed.answer.accepted, replayed.answer.duplicates, replayed.replayed), (2, 0, true));
    assert_eq!(stored(&intake), ["a", "b"]);
    let again = intake.take(records(&[(1, "a"), (2, "other")]), None).await.unwrap().answer;
    assert_eq!((again.accepted, again.duplicates, again.rejected), (1, 1, 1));
}

#[tokio::test]
async fn a_key_stands_for_its_body_even_where_nothing_new_was_stored() {
    let intake = open(&SimFs::new(2));
    for (name, body) in [("duplicates", &[(1, "a")][..]), ("nothing", &[])] {
        intake.take(records(&[(1, "a")]), None).await.unwrap();
        let parsed = if body.is_empty() { parse::json(b"[{\"run_id\":\"..\"}]").unwrap() } else { records(body) };
        assert!(intake.begin(&key(name, 1)).await.unwrap().is_none());
        intake.take(parsed, Some(key(name, 1))).await.unwrap();
        assert!(matches!(intake.begin(&key(name, 2)).await, Err(IntakeError::KeyReused)), "{name}");
        assert!(intake.begin(&key(name, 1)).await.unwrap().is_some_and(|taken| taken.replayed), "{name}");
    }
}

#[tokio::test]
async fn a_failed_request_frees_its_key_and_its_ids() {
    let fs = SimFs::new(3);
    let intake = open(&fs);
    fs.fail(Op::Write, 0, 1, Fault::NoSpace);
    assert!(intake.begin(&key("k", 1)).await.unwrap().is_none());
    let failed = intake.take(records(&[(1, "a")]), Some(key("k", 1))).await;
    assert_eq!(failed.unwrap_err().code(), ErrorCode::DiskFull);
    assert!(intake.begin(&key("k", 1)).await.unwrap().is_none(), "the key is free again");
    let answer = intake.take(records(&[(1, "a")]), Some(key("k", 1))).await.unwrap().answer;
    assert_eq!((answer.accepted, answer.duplicates), (1, 0));
    assert_eq!(stored(&intake), ["a"]);
    assert_eq!(intake.parts.ids.in_flight(), 0);
    assert!(fs.contents(Path::new("/journal/identity")).is_some(), "it ran on the simulated file system");
}

#[tokio::test]
async fn a_panic_in_a_request_frees_its_key_and_its_ids() {
    let intake = open(&SimFs::new(5));
    intake.take(records(&[(1, "a")]), None).await.unwrap();
    assert!(intake.begin(&key("k", 1)).await.unwrap().is_none());
    // The refused one is looked up in a body that has no places.
    let broken = Parsed { places: Vec::new(), ..records(&[(1, "other"), (2, "b")]) };
    let failed = intake.take(broken, Some(key("k", 1))).await;
    assert_eq!(failed.unwrap_err().code(), ErrorCode::Unavailable);
    assert_eq!(intake.parts.ids.in_flight(), 0);
    let again = tokio::time::timeout(Duration::from_secs(10), intake.begin(&key("k", 1))).await;
    assert!(again.expect("the key is still held").unwrap().is_none());
    let answer = intake.take(records(&[(1, "other"), (2, "b")]), Some(key("k", 1))).await.unwrap().answer;
    assert_eq!((answer.accepted, answer.rejected), (1, 1));
    assert_eq!(stored(&intake), ["a", "b"]);
}

#[tokio::test]
async fn what_may_have_been_written_is_not_called_refused() {
    let fs = SimFs::new(4);
    let intake = open(&fs);
    fs.fail(Op::Sync, 0, 1, Fault::Io);
    fs.fail(Op::Create, 0, 1, Fault::NoSpace);
    let failed = intake.take(records(&[(1, "a")]), None).await;
    assert_eq!(failed.unwrap_err().code(), ErrorCode::Unavailable, "its bytes are in the segment whose sync failed");
    // Sent again under its id it is there once, whatever the first delivery has left.
    assert_eq!(intake.take(records(&[(1, "a")]), None).await.unwrap().answer.accepted, 1);
    drop(intake);
    assert_eq!(stored(&open(&fs)), ["a"]);
}
