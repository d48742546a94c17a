//! CloudWatch throttles, fails, is silent, loses answers and shows events late: a record is there once, or the caller is told.

use std::time::Instant;

use runstone_record::limits::CLOUDWATCH_REQUEST_TIMEOUT_MS;
use runstone_sinks::cloudwatch::Options;
use runstone_sinks::contract::{SOURCE, feed, frame, frames, once};
use runstone_sinks::{DeadLetters as _, Sink, SinkError};
use serde_json::json;

use super::{Logs, options};
use crate::dynamo::proxy::Fault;

const PUT: &str = "PutLogEvents";
const GET: &str = "GetLogEvents";
const THROTTLED: Fault = Fault::Code("ThrottlingException");

fn one_stream() -> Options {
    Options { stream: "all".parse().unwrap(), ..options() }
}

#[tokio::test]
async fn what_may_pass_is_tried_three_times_and_looked_up_where_it_may_have_come() {
    let logs = Logs::new().ready().await;
    let mut sink = logs.open(one_stream()).await;
    once(&mut sink, SOURCE, 0, &frames(&logs, 1, 2)).await.unwrap();
    let faults = [
        (THROTTLED, false, 3),
        (Fault::Error, true, 3),
        (Fault::Unavailable, true, 3),
        (Fault::Reset, true, 3),
        (Fault::Lost, true, 1),
    ];
    let mut after = 2;
    for (fault, is_looked_up, puts) in faults {
        let (asked, looked) = (logs.proxy.asked(PUT), logs.proxy.asked(GET));
        logs.proxy.next(PUT, &vec![fault; puts.max(2) - 1]);
        once(&mut sink, SOURCE, after, &[frame(&logs, after + 1, 2, &[])]).await.unwrap();
        assert_eq!(logs.proxy.waiting(), 0, "{fault:?}");
        // One is the cursor's, which is read in two pages.
        assert_eq!(logs.proxy.asked(PUT) - asked, puts + 1, "{fault:?}");
        assert_eq!(logs.proxy.asked(GET) - looked > 2, is_looked_up, "{fault:?}");
        after += 2;
    }
    assert_eq!(logs.positions().await, (1..=after).collect::<Vec<_>>());
}

#[tokio::test]
async fn after_three_attempts_the_caller_is_told_and_may_try_again() {
    let logs = Logs::new().ready().await;
    let mut sink = logs.open(one_stream()).await;
    let frames = frames(&logs, 1, 3);
    once(&mut sink, SOURCE, 0, &[]).await.unwrap();
    for fault in [THROTTLED, Fault::Error, Fault::Reset] {
        let asked = logs.proxy.asked(PUT);
        logs.proxy.next(PUT, &[fault; 3]);
        let said = once(&mut sink, SOURCE, 0, &frames).await;
        assert!(matches!(said, Err(SinkError::Away { .. })), "{fault:?}: {said:?}");
        assert_eq!((logs.proxy.asked(PUT) - asked, logs.proxy.waiting()), (3, 0), "{fault:?}");
        assert_eq!(sink.cursor(SOURCE).await.unwrap(), 0);
    }
    feed(&mut sink, SOURCE, &frames).await;
    assert_eq!(logs.positions().await, [1, 2, 3]);
}

/// The process ends after the records of one stream, of two, and of all three came, and before the cursor did.
#[tokio::test]
async fn what_came_before_a_crash_is_not_sent_again() {
    let logs = Logs::new().ready().await;
    let mut all = vec![frame(&logs, 1, 6, &[])];
    feed(&mut logs.open(options()).await, SOURCE, &all).await;
    for round in 0..3 {
        let after = (round as u64 + 1) * 6;
        all.push(frame(&logs, after + 1, 6, &[]));
        logs.proxy.next(PUT, &[vec![Fault::Pass; round], vec![Fault::Lost; 1], vec![Fault::Reset; 12]].concat());
        let said = once(&mut logs.open(options()).await, SOURCE, after, &all[round + 1..]).await;
        assert!(matches!(said, Err(SinkError::Away { .. })), "{said:?}");
        logs.proxy.clear();
        let mut next = logs.open(options()).await;
        assert_eq!(next.cursor(SOURCE).await.unwrap(), after);
        assert!(logs.positions().await.iter().any(|position| *position > after));
        feed(&mut next, SOURCE, &all).await;
        let mut positions = logs.positions().await;
        positions.sort_unstable();
        assert_eq!(positions, (1..=after + 6).collect::<Vec<_>>(), "{round}");
    }
}

/// The first, second, … call of a delivery meets a fault, and the caller delivers until all is there.
#[tokio::test]
async fn a_delivery_that_fails_at_any_request_is_there_once_when_it_comes_again() {
    let logs = Logs::new().ready().await;
    let mut sink = logs.open(options()).await;
    let (mut all, mut after, mut failed) = (Vec::new(), 0, 0);
    for fault in [Fault::Error, Fault::Lost, Fault::Reset] {
        for request in 0..8 {
            let next = frame(&logs, after + 1, 7, &[after + 2]);
            logs.proxy.next(PUT, &[vec![Fault::Pass; request], vec![fault; 3]].concat());
            let mut failures = 0;
            while sink.cursor(SOURCE).await.unwrap() == after {
                match once(&mut sink, SOURCE, after, std::slice::from_ref(&next)).await {
                    Ok(_) => {}
                    Err(SinkError::Away { .. } | SinkError::Moved { .. }) => failures += 1,
                    Err(error) => panic!("{error:?}"),
                }
                assert!(failures < 4, "{fault:?} at {request}");
            }
            logs.proxy.clear();
            after += 7;
            all.push(next);
            failed += failures;
        }
    }
    assert!(failed > 3, "{failed}");
    let poison: Vec<u64> = all.iter().map(|frame| frame.first + 1).collect();
    let mut positions = logs.positions().await;
    positions.sort_unstable();
    let kept: Vec<u64> = (1..=after).filter(|position| !poison.contains(position)).collect();
    assert_eq!(positions, kept);
    let letters = logs.open(options()).await.dead_letters(None, 100).await.unwrap();
    assert_eq!(letters.iter().map(|letter| letter.position).collect::<Vec<_>>(), poison);
}

#[tokio::test]
async fn silence_ends_in_time() {
    let logs = Logs::new().ready().await;
    let mut sink = logs.open(one_stream()).await;
    let frames = frames(&logs, 2, 2);
    logs.proxy.next(PUT, &[Fault::LostInSilence]);
    once(&mut sink, SOURCE, 0, &frames[..1]).await.unwrap();
    logs.proxy.next(GET, &[Fault::Silence; 4]);
    let began = Instant::now();
    let said = once(&mut sink, SOURCE, 2, &frames[1..]).await;
    assert!(matches!(said, Err(SinkError::Away { .. })), "{said:?}");
    let limit = std::time::Duration::from_millis(CLOUDWATCH_REQUEST_TIMEOUT_MS + 2_000);
    assert!(began.elapsed() < limit, "{:?}", began.elapsed());
    logs.proxy.clear();
    feed(&mut sink, SOURCE, &frames).await;
    assert_eq!(logs.positions().await, [1, 2, 3, 4]);
}

/// All records, though they may not be shown yet.
fn all(logs: &Logs) -> Vec<u64> {
    let script = "events = client.filter_log_events(logGroupName='/runstone/logs')['events']\n\
                  result = sorted(json.loads(event['message'])['position'] for event in events)";
    serde_json::from_value(logs.moto.boto3("logs", script)).unwrap()
}

/// Events that came and are not seen at the first look are waited for. Without that time they are there twice: that is what
/// the setting is for, and nothing else helps.
#[tokio::test]
async fn what_is_not_seen_at_once_is_waited_for() {
    for (hidden_s, settle_ms, found) in [(0.3, 3_000, vec![1, 2, 3, 4]), (3_600.0, 0, vec![1, 2, 3, 3, 4, 4])] {
        let logs = Logs::with(&json!({"hidden_s": hidden_s})).ready().await;
        let mut sink = logs.open(Options { settle_ms, ..one_stream() }).await;
        let frames = frames(&logs, 2, 2);
        once(&mut sink, SOURCE, 0, &frames[..1]).await.unwrap();
        logs.proxy.next(PUT, &[Fault::Lost]);
        once(&mut sink, SOURCE, 2, &frames[1..]).await.unwrap();
        assert_eq!(sink.cursor(SOURCE).await.unwrap(), 4);
        assert_eq!(all(&logs), found, "{settle_ms}");
    }
}

/// The same where the delivery failed, or was given up, and comes again at once.
#[tokio::test]
async fn a_delivery_that_was_broken_off_has_time_to_be_seen() {
    let logs = Logs::with(&json!({"hidden_s": 3})).ready().await;
    let mut sink = logs.open(Options { settle_ms: 6_000, ..one_stream() }).await;
    let frames = frames(&logs, 3, 2);
    once(&mut sink, SOURCE, 0, &frames[..1]).await.unwrap();
    // It came, and the look for it fails.
    logs.proxy.next(PUT, &[Fault::Lost]);
    logs.proxy.next(GET, &[vec![Fault::Pass; 2], vec![Fault::Error; 3]].concat());
    let said = once(&mut sink, SOURCE, 2, &frames[1..2]).await;
    assert!(matches!(said, Err(SinkError::Away { .. })), "{said:?}");
    assert_eq!(logs.proxy.waiting(), 0);
    once(&mut sink, SOURCE, 2, &frames[1..2]).await.unwrap();
    assert_eq!(all(&logs), [1, 2, 3, 4]);
    // It came, and nobody waits for its answer any more.
    logs.proxy.next(PUT, &[Fault::LostInSilence]);
    let given_up = async {
        let asked = logs.proxy.asked(PUT);
        while logs.proxy.asked(PUT) == asked || all(&logs).len() < 6 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        said = once(&mut sink, SOURCE, 4, &frames[2..]) => panic!("{said:?}"),
        () = given_up => {}
    }
    once(&mut sink, SOURCE, 4, &frames[2..]).await.unwrap();
    assert_eq!(all(&logs), [1, 2, 3, 4, 5, 6]);
}

/// The cursor that was just written is not seen by the next process: what it takes for new is there already.
#[tokio::test]
async fn a_cursor_that_is_seen_late_brings_nothing_twice() {
    let logs = Logs::with(&json!({"hidden_state_s": 3_600})).ready().await;
    let frames = frames(&logs, 2, 2);
    once(&mut logs.open(one_stream()).await, SOURCE, 0, &frames[..1]).await.unwrap();
    let mut next = logs.open(one_stream()).await;
    assert_eq!(next.cursor(SOURCE).await.unwrap(), 0);
    once(&mut next, SOURCE, 0, &frames[..1]).await.unwrap();
    once(&mut next, SOURCE, 2, &frames[1..]).await.unwrap();
    assert_eq!(next.cursor(SOURCE).await.unwrap(), 4);
    assert_eq!(all(&logs), [1, 2, 3, 4]);
}

/// Any fault at any request, processes that end, and a caller that repeats itself.
#[tokio::test]
async fn under_random_faults_every_record_is_there_once() {
    let seed = 0x5eed_1234_u64;
    let mut random = seed;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let faults = [Fault::Error, Fault::Unavailable, THROTTLED, Fault::Reset, Fault::Lost, Fault::Lost];
    let logs = Logs::new().ready().await;
    let mut sink = logs.open(options()).await;
    let mut all = Vec::new();
    for number in 0..30 {
        for _ in 0..next(4) {
            let operation = ["CreateLogStream", GET, PUT, PUT][usize::try_from(next(4)).unwrap()];
            logs.proxy.next(operation, &[faults[usize::try_from(next(6)).unwrap()]]);
        }
        if next(4) == 0 {
            drop(sink);
            sink = logs.open(options()).await;
        }
        all.push(frame(&logs, number * 5 + 1, 5, &[]));
        feed(&mut sink, SOURCE, &all).await;
    }
    logs.proxy.clear();
    let mut positions = logs.positions().await;
    positions.sort_unstable();
    assert_eq!(positions, (1..=150).collect::<Vec<_>>(), "seed {seed}");
}
