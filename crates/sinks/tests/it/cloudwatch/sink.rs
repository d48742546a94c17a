//! The log group as a sink: the contract's checks, dead letters, two journals, and what is said when something is wrong.

use aws_config::{BehaviorVersion, Region};
use runstone_sinks::cloudwatch::{Cloudwatch, CloudwatchError, Options};
use runstone_sinks::contract::{NEXT_SOURCE, SOURCE, expected, frame, frames, once};
use runstone_sinks::{DeadLetter, DeadLetters, Delivered, Delivery, Redelivered, Sink, SinkError};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{GROUP, Logs, NOW_MS, NOW_US, REFUSED, options, stored, taken, time};
use crate::dynamo::proxy::Fault;
use crate::suite::contract;

const DAY_US: i64 = 86_400_000_000;

contract!(Logs::new().ready().await);

fn places(letters: &[DeadLetter]) -> Vec<(String, u64)> {
    letters.iter().map(|letter| (letter.source.clone(), letter.position)).collect()
}

fn place(source: &str, position: u64) -> (String, u64) {
    (source.to_owned(), position)
}

#[tokio::test]
async fn a_cursor_moves_only_from_where_it_is() {
    let logs = Logs::new().ready().await;
    let mut sink = logs.open(options()).await;
    let mut pass = async |after, through| {
        let delivery = Delivery { source: SOURCE, after, frames: &[], through };
        (sink.deliver(delivery).await, sink.cursor(SOURCE).await.unwrap())
    };
    assert!(matches!(pass(3, 9).await, (Err(SinkError::Moved { found: 0 }), 0)));
    assert!(matches!(pass(0, 9).await, (Ok(_), 9)));
    assert!(matches!(pass(0, 5).await, (Err(SinkError::Moved { found: 9 }), 9)));
    logs.proxy.next("PutLogEvents", &[Fault::Lost]);
    assert!(matches!(pass(9, 12).await, (Ok(_), 12)));
    assert_eq!(logs.proxy.waiting(), 0);
    // The clock goes back: what was written last counts all the same.
    logs.clock.fetch_sub(3_600_000_000, Ordering::SeqCst);
    assert!(matches!(pass(12, 20).await, (Ok(_), 20)));
    let mut other = logs.open(options()).await;
    assert_eq!(other.cursor(SOURCE).await.unwrap(), 20);
    let delivery = Delivery { source: SOURCE, after: 20, frames: &[], through: 30 };
    other.deliver(delivery).await.unwrap();
    assert_eq!(logs.open(options()).await.cursor(SOURCE).await.unwrap(), 30);
    assert_eq!(sink.cursor(SOURCE).await.unwrap(), 30);
    assert_eq!(sink.cursor(NEXT_SOURCE).await.unwrap(), 0);
}

/// By their times: in one call, in several, and all of them.
#[tokio::test]
async fn what_is_too_old_or_too_new_is_a_dead_letter_with_its_reason() {
    let logs = Logs::new();
    let sink = logs.open(Options { retention_days: Some(7), ..options() }).await;
    sink.create_groups().await.unwrap();
    let record = |at: i64| json!({"message": "m", "source_system": "s", "timestamp": time(at)});
    let hour = 3_600_000_000;
    let times = [
        NOW_US + 2 * hour + 1_000_000,
        NOW_US,
        NOW_US - 20 * DAY_US,
        NOW_US - 7 * DAY_US - 1_000_000,
        NOW_US + 2 * hour,
        NOW_US - 7 * DAY_US + 1_000_000,
        -5_000_000,
    ];
    let frames = [taken(1, &Value::from(times.map(record).to_vec()), NOW_US)];
    let mut sink = sink;
    let delivered = once(&mut sink, SOURCE, 0, &frames).await.unwrap();
    let reasons: Vec<(u64, &str)> =
        delivered.dead_letters.iter().map(|letter| (letter.position, letter.reason.as_str())).collect();
    let put = "put events in CloudWatch Logs: /runstone/logs s/-/2026-11-28: InvalidParameterException: a refusal of the test";
    assert_eq!(
        reasons,
        [
            (1, "it is more than 2 hours in the future"),
            (3, "it is more than 14 days old"),
            (4, "it is older than the log group keeps events"),
            (7, put),
        ]
    );
    assert_eq!(logs.positions().await, [6, 2, 5]);
    assert_eq!(logs.open(options()).await.dead_letters(None, 10).await.unwrap(), delivered.dead_letters);
    // The group keeps events longer by now: what had expired is taken, once, however often it is sent.
    logs.moto.boto3("logs", "client.delete_retention_policy(logGroupName='/runstone/logs')\nresult = None");
    for said in [Redelivered::Taken, Redelivered::Gone] {
        let again = logs.open(options()).await.redeliver(&delivered.dead_letters[2], 0).await.unwrap();
        assert_eq!(again, said);
    }
    assert_eq!(logs.positions().await, [4, 6, 2, 5]);
    let left: Vec<u64> = sink.dead_letters(None, 10).await.unwrap().iter().map(|letter| letter.position).collect();
    assert_eq!(left, [1, 3, 7]);
    logs.moto
        .boto3("logs", "client.put_retention_policy(logGroupName='/runstone/logs', retentionInDays=7)\nresult = None");
    // Neighbours in one call.
    let times = [NOW_US - 7 * DAY_US - hour, NOW_US - 7 * DAY_US + hour];
    let frames = [taken(8, &Value::from(times.map(record).to_vec()), NOW_US)];
    let delivered = once(&mut sink, SOURCE, 7, &frames).await.unwrap();
    assert_eq!(places(&delivered.dead_letters), [place(SOURCE, 8)]);
    let frames = [taken(10, &json!([record(1_000_000), record(2_000_000)]), NOW_US)];
    let delivered = once(&mut sink, SOURCE, 9, &frames).await.unwrap();
    assert_eq!(places(&delivered.dead_letters), [place(SOURCE, 10), place(SOURCE, 11)]);
    assert_eq!(logs.positions().await, [4, 6, 9, 2, 5]);
}

/// More than one call takes, in bytes, in events and in time, in the order of times.
#[tokio::test]
async fn large_deliveries_go_in_calls_within_the_limits() {
    let logs = Logs::with(&json!({"page": 10_000})).ready().await;
    let mut sink = logs.open(options()).await;
    let record = |n: i64, text: &str| json!({"message": text, "timestamp": time(NOW_US - n * 1_000)});
    let long = "x".repeat(200_000);
    let mut records: Vec<Value> = (0..12).map(|n| record(n, &long)).collect();
    records.extend((0..5).map(|day| json!({"message": "day", "timestamp": time(NOW_US - day * DAY_US)})));
    let first = taken(1, &Value::from(records), NOW_US);
    let many = (0..10_000).map(|n| record(n, "m")).collect::<Vec<_>>();
    let second = taken(18, &Value::from(many), NOW_US);
    let third = taken(10_018, &json!([record(0, "last")]), NOW_US);
    let before = logs.proxy.asked("PutLogEvents");
    once(&mut sink, SOURCE, 0, &[first, second, third]).await.unwrap();
    assert!(logs.proxy.asked("PutLogEvents") - before >= 9);
    let events = logs.events(GROUP).await;
    let mut positions: Vec<u64> = events.iter().map(|(_, _, message)| stored(message).position).collect();
    assert!(events.is_sorted_by_key(|(_, at, _)| *at));
    positions.sort_unstable();
    assert_eq!(positions, (1..=10_018).collect::<Vec<_>>());
}

/// What CloudWatch refuses and nobody foresaw: only the record that is refused by itself is a dead letter.
#[tokio::test]
async fn of_events_that_are_refused_together_only_some_are_dead_letters() {
    let logs = Logs::new().ready().await;
    let mut sink = logs.open(Options { stream: "all".parse().unwrap(), ..options() }).await;
    let frames = [frame(&logs, 1, 30, &[7, 8, 30])];
    let delivered = once(&mut sink, SOURCE, 0, &frames).await.unwrap();
    assert_eq!(places(&delivered.dead_letters), [place(SOURCE, 7), place(SOURCE, 8), place(SOURCE, 30)]);
    assert!(delivered.dead_letters[0].reason.contains("InvalidParameterException: a refusal"), "{delivered:?}");
    assert!(delivered.dead_letters[0].record.contains(REFUSED));
    let again = sink.redeliver(&delivered.dead_letters[0], 0).await.unwrap();
    assert!(matches!(&again, Redelivered::Refused { reason } if reason.contains("a refusal")), "{again:?}");
    assert_eq!(sink.dead_letters(None, 10).await.unwrap(), delivered.dead_letters);
    let kept: Vec<u64> = (1..30).filter(|position| ![7, 8].contains(position)).collect();
    assert_eq!(logs.positions().await, kept);
}

#[tokio::test]
async fn letters_are_read_in_pages_and_removed() {
    let logs = Logs::new().ready().await;
    let mut sink = logs.open(options()).await;
    let own = [frame(&logs, 9, 4, &[9, 10, 12])];
    let next = [frame(&logs, 100, 2, &[101])];
    once(&mut sink, SOURCE, 0, &own).await.unwrap();
    let delivered = once(&mut sink, NEXT_SOURCE, 0, &next).await.unwrap();
    let page = sink.dead_letters(None, 2).await.unwrap();
    assert_eq!(places(&page), [place(SOURCE, 9), place(SOURCE, 10)]);
    let page = sink.dead_letters(Some((SOURCE, 10)), 2).await.unwrap();
    assert_eq!(places(&page), [place(SOURCE, 12), place(NEXT_SOURCE, 101)]);
    assert_eq!(page[1..], delivered.dead_letters);
    let script = format!(
        "events = client.get_log_events(logGroupName='/runstone/logs/state', logStreamName='letters/{SOURCE}', startFromHead=True)\n\
         events = client.get_log_events(logGroupName='/runstone/logs/state', logStreamName='letters/{SOURCE}', startFromHead=True, nextToken=events['nextForwardToken'])\n\
         result = [json.loads(event['message'])['record']['position'] for event in events['events']]"
    );
    assert_eq!(logs.moto.boto3("logs", &script), json!([9, 10, 12]));
    assert_eq!(sink.remove_dead_letters(SOURCE, &[9, 12, 77]).await.unwrap(), 2);
    assert_eq!(sink.remove_dead_letters(SOURCE, &[9, 12]).await.unwrap(), 0);
    assert_eq!(sink.remove_dead_letters("nobody/1", &[9]).await.unwrap(), 0);
    let page = sink.dead_letters(None, 10).await.unwrap();
    assert_eq!(places(&page), [place(SOURCE, 10), place(NEXT_SOURCE, 101)]);
    assert_eq!(sink.dead_letters(None, 0).await.unwrap(), []);
}

/// By now CloudWatch would take it.
#[tokio::test]
async fn a_letter_that_somebody_removed_is_not_brought() {
    let logs = Logs::new();
    let mut sink = logs.open(Options { retention_days: Some(7), ..options() }).await;
    sink.create_groups().await.unwrap();
    let old = json!([{"message": "m", "timestamp": time(NOW_US - 8 * DAY_US)}]);
    let delivered = once(&mut sink, SOURCE, 0, &[taken(1, &old, NOW_US)]).await.unwrap();
    let [letter] = &delivered.dead_letters[..] else { panic!("{delivered:?}") };
    logs.moto.boto3("logs", "client.delete_retention_policy(logGroupName='/runstone/logs')\nresult = None");
    assert_eq!(logs.open(options()).await.remove_dead_letters(SOURCE, &[1]).await.unwrap(), 1);
    let strange = DeadLetter { source: NEXT_SOURCE.to_owned(), ..letter.clone() };
    for gone in [letter, &strange] {
        assert_eq!(sink.redeliver(gone, 0).await.unwrap(), Redelivered::Gone, "{gone:?}");
    }
    assert_eq!(logs.positions().await, [0_u64; 0]);
}

/// Two servers, each with its journal, and a copy of one: the streams have the records of all, each once.
#[tokio::test]
async fn journals_share_streams() {
    let logs = Logs::new().ready().await;
    let other = "0192f0c1-0000-7f40-8a5b-6c7d8e9fa0b1/1";
    let (mut one, mut two) = (logs.open(options()).await, logs.open(options()).await);
    let first = frames(&logs, 4, 6);
    let second: Vec<_> = (0..4).map(|n| frame(&logs, 1_001 + n * 6, 6, &[])).collect();
    for n in 0..4 {
        let (from, next) = (n as u64 * 6, n..=n);
        let (own, theirs) = tokio::join!(
            once(&mut one, SOURCE, from, &first[next.clone()]),
            once(&mut two, other, if n == 0 { 0 } else { 1_000 + from }, &second[next])
        );
        assert_eq!((own.unwrap(), theirs.unwrap()), (Delivered::default(), Delivered::default()));
    }
    // The copy has the first's records, which are older than it is, and goes on with others.
    logs.clock.store(NOW_US, Ordering::SeqCst);
    let mut copy = logs.open(options()).await;
    let more = [first.clone(), vec![frame(&logs, 25, 5, &[])]].concat();
    for frame in &more {
        let after = frame.first - 1;
        once(&mut copy, NEXT_SOURCE, after, std::slice::from_ref(frame)).await.unwrap();
    }
    let mut all = expected(SOURCE, &first, &[]);
    all.extend(expected(other, &second, &[]));
    all.extend(expected(NEXT_SOURCE, &more[4..], &[]));
    all.sort();
    let mut found: Vec<_> = logs.events(GROUP).await.iter().map(|(_, _, message)| stored(message)).collect();
    found.sort();
    assert_eq!(found, all);
    assert_eq!(one.cursor(other).await.unwrap(), 1_024);
}

/// What was taken after a journal was first brought here is new: nothing is looked up.
#[tokio::test]
async fn everyday_deliveries_look_nothing_up() {
    let logs = Logs::new().ready().await;
    let mut sink = logs.open(options()).await;
    let record = json!([{"message": "m", "source_system": "s"}]);
    let mut asked = Vec::new();
    for position in 1..=4 {
        let at = NOW_US + i64::try_from(position).unwrap();
        once(&mut sink, SOURCE, position - 1, &[taken(position, &record, at)]).await.unwrap();
        asked.push((logs.proxy.asked("PutLogEvents"), logs.proxy.asked("GetLogEvents")));
    }
    // Records and cursor; and the cursor, in a page behind an empty one.
    let steps: Vec<_> = asked.windows(2).map(|pair| (pair[1].0 - pair[0].0, pair[1].1 - pair[0].1)).collect();
    assert_eq!(steps, [(2, 2); 3]);
    assert_eq!(logs.positions().await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn it_is_said_what_people_have_to_do() {
    let logs = Logs::new().ready().await;
    let frames = frames(&logs, 1, 3);
    let mut sink = logs.open(Options { group: "nowhere".to_owned(), ..options() }).await;
    for said in [sink.cursor(SOURCE).await.map(drop), once(&mut sink, SOURCE, 0, &frames).await.map(drop)] {
        let Err(SinkError::Misconfigured { problem, source: Some(_) }) = &said else { panic!("{said:?}") };
        assert!(problem.contains("make the log groups"), "{problem}");
    }
    // Only the group of the events is gone.
    logs.moto.boto3("logs", "client.create_log_group(logGroupName='half/state')\nresult = None");
    let mut half = logs.open(Options { group: "half".to_owned(), ..options() }).await;
    assert_eq!(half.cursor(SOURCE).await.unwrap(), 0);
    let said = once(&mut half, SOURCE, 0, &frames).await;
    let Err(SinkError::Misconfigured { problem, .. }) = &said else { panic!("{said:?}") };
    assert!(problem.contains("make the log groups"), "{problem}");
    let mut sink = logs.open(options()).await;
    for (code, what) in [
        ("AccessDeniedException", "give it the rights to the log groups"),
        ("UnrecognizedClientException", "set credentials"),
        ("ExpiredTokenException", "set credentials"),
    ] {
        logs.proxy.next("GetLogEvents", &[Fault::Code(code)]);
        let said = once(&mut sink, SOURCE, 0, &frames).await;
        let Err(SinkError::Misconfigured { problem, .. }) = &said else { panic!("{code}: {said:?}") };
        assert!(problem.contains(what), "{code}: {problem}");
    }
    logs.proxy.next("PutLogEvents", &[Fault::Code("AccessDeniedException")]);
    let said = once(&mut sink, SOURCE, 0, &frames).await;
    assert!(matches!(said, Err(SinkError::Misconfigured { .. })), "{said:?}");
    for fault in [Fault::Code("ThrottlingException"), Fault::Error, Fault::Unavailable] {
        logs.proxy.next("GetLogEvents", &[fault; 3]);
        let said = sink.cursor(SOURCE).await;
        assert!(matches!(said, Err(SinkError::Away { .. })), "{fault:?}: {said:?}");
    }
    once(&mut sink, SOURCE, 0, &frames).await.unwrap();
    assert_eq!(logs.positions().await.len(), 3);
    let bad = logs.open(Options { group: "not:a group".to_owned(), ..options() }).await;
    logs.proxy.next("CreateLogGroup", &[Fault::Code("InvalidParameterException")]);
    let refused = bad.create_groups().await.unwrap_err();
    assert!(matches!(refused, CloudwatchError::Request { .. }) && !refused.retryable(), "{refused}");
}

#[tokio::test]
async fn the_groups_are_made_on_request() {
    let logs = Logs::new();
    let options = Options { group: "made".to_owned(), create: true, ..options() };
    let (mut sink, mut other) = (logs.open(options.clone()).await, logs.open(options).await);
    let (one, two) = tokio::join!(sink.cursor(SOURCE), other.cursor(SOURCE));
    assert_eq!((one.unwrap(), two.unwrap()), (0, 0));
    once(&mut sink, SOURCE, 0, &frames(&logs, 1, 3)).await.unwrap();
    assert_eq!(logs.events("made").await.len(), 3);
}

/// What a sink knew of their cursors does not outlive the groups, whoever finds them gone. Those of the events alone may go.
#[tokio::test]
async fn groups_that_were_deleted_under_a_sink_have_no_cursors() {
    let delete = "for group in ['/runstone/logs', '/runstone/logs/state']:\n    client.delete_log_group(logGroupName=group)\n\
                  result = None";
    let delete_events = "client.delete_log_group(logGroupName='/runstone/logs')\nresult = None";
    for (create, finder) in [(false, "delivery"), (true, "delivery"), (true, "cursor"), (true, "nobody")] {
        let mut logs = Logs::new().ready().await;
        let mut sink = logs.open(Options { create, ..options() }).await;
        let frames = frames(&logs, 3, 3);
        once(&mut sink, SOURCE, 0, &frames[..1]).await.unwrap();
        let passing = Delivery { source: NEXT_SOURCE, after: 0, frames: &[], through: 2 };
        sink.deliver(passing).await.unwrap();
        assert_eq!((sink.cursor(SOURCE).await.unwrap(), sink.cursor(NEXT_SOURCE).await.unwrap()), (3, 2));
        if finder == "nobody" {
            logs.proxy.next("GetLogEvents", &[Fault::Error; 3]);
            let said = sink.cursor(SOURCE).await;
            assert!(matches!(said, Err(SinkError::Away { .. })), "{said:?}");
        }
        logs.moto.boto3("logs", delete);
        if finder == "delivery" {
            let said = once(&mut sink, SOURCE, 3, &frames[1..2]).await;
            assert!(matches!(said, Err(SinkError::Misconfigured { .. })), "{said:?}");
        } else if finder == "cursor" {
            let said = sink.cursor(SOURCE).await;
            assert!(matches!(said, Err(SinkError::Misconfigured { .. })), "{said:?}");
        }
        if !create {
            logs = logs.ready().await;
        }
        for source in [NEXT_SOURCE, SOURCE] {
            assert_eq!(sink.cursor(source).await.unwrap(), 0, "{source} {create} {finder}");
        }
        once(&mut sink, SOURCE, 0, &frames[1..2]).await.unwrap();
        assert_eq!((sink.cursor(SOURCE).await.unwrap(), logs.positions().await), (6, vec![6, 4, 5]));
        // Without the group of the events nothing is forgotten, and it is made again where that was asked for.
        logs.moto.boto3("logs", delete_events);
        let said = once(&mut sink, SOURCE, 6, &frames[2..]).await;
        assert!(matches!(said, Err(SinkError::Misconfigured { .. })), "{said:?}");
        assert_eq!(sink.cursor(SOURCE).await.unwrap(), 6);
        let said = once(&mut sink, SOURCE, 6, &frames[2..]).await;
        assert_eq!(said.is_ok(), create, "{said:?}");
        if create {
            assert_eq!(logs.positions().await, [9, 7, 8]);
        }
    }
}

/// As the guide says: what is older than the sink is passed, and leaves no letters.
#[tokio::test]
async fn a_sink_may_begin_with_what_is_new() {
    let logs = Logs::new().ready().await;
    let mut sink = logs.open(options()).await;
    sink.deliver(Delivery { source: SOURCE, after: 0, frames: &[], through: 1_000_000 }).await.unwrap();
    once(&mut sink, SOURCE, 1_000_000, &[frame(&logs, 1_000_001, 3, &[])]).await.unwrap();
    assert_eq!(logs.positions().await.len(), 3);
    assert_eq!(sink.dead_letters(None, 10).await.unwrap(), []);
}

/// A clock that is days off: records are taken, and nothing that bears its time.
#[tokio::test]
async fn a_wrong_clock_is_said() {
    let logs = Logs::new().ready().await;
    let frames = frames(&logs, 1, 3);
    for wrong in [NOW_US + DAY_US, NOW_US - 15 * DAY_US] {
        logs.clock.store(wrong, Ordering::SeqCst);
        let said = once(&mut logs.open(options()).await, SOURCE, 0, &frames).await;
        let Err(SinkError::Misconfigured { problem, .. }) = &said else { panic!("{said:?}") };
        assert!(problem.ends_with("set the clock"), "{problem}");
    }
    logs.clock.store(NOW_US, Ordering::SeqCst);
    once(&mut logs.open(options()).await, SOURCE, 0, &frames).await.unwrap();
    assert_eq!(logs.events(GROUP).await.len(), 3);
    assert!(logs.events("/runstone/logs/state").await.iter().all(|(_, at, _)| *at == NOW_MS));
}

#[tokio::test]
async fn without_region_or_credentials_people_have_to_help() {
    use aws_config::environment::EnvironmentVariableCredentialsProvider;
    let bare = || aws_config::defaults(BehaviorVersion::latest()).endpoint_url("http://127.0.0.1:9");
    // The tests' environment has none.
    let none = bare().region(Region::new("us-east-1"));
    let none = none.credentials_provider(EnvironmentVariableCredentialsProvider::new()).load().await;
    let nowhere = bare().test_credentials().load().await.into_builder().region(None).build();
    for (config, what) in [(none, "set credentials"), (nowhere, "set a region")] {
        let said = Cloudwatch::with(&config, Options::default(), Arc::new(|| NOW_US)).cursor(SOURCE).await;
        let Err(SinkError::Misconfigured { problem, .. }) = &said else { panic!("{what}: {said:?}") };
        assert!(problem.contains(what), "{problem}");
    }
}
