//! DynamoDB throttles, fails, is silent, loses answers and is away: an entry is there once, or the caller is told.

use std::sync::Arc;
use std::time::Instant;

use runstone_record::limits::DYNAMO_REQUEST_TIMEOUT_MS;
use runstone_sinks::dynamo::{Appended, Dynamo, DynamoError, Options, PositionedEntry};

use super::moto::Moto;
use super::proxy::{Fault, Proxy};
use super::{NOW, RUN, connect, entry, expected, id, titles};

const UPDATE: &str = "UpdateItem";

/// A table behind a proxy.
async fn behind_a_proxy(options: Options) -> (Moto, Proxy, Dynamo) {
    let moto = Moto::start();
    let proxy = Proxy::before(moto.url());
    let dynamo = connect(proxy.url(), options).await;
    dynamo.create_table().await.unwrap();
    (moto, proxy, dynamo)
}

async fn log(dynamo: &Dynamo) -> Vec<String> {
    dynamo.read(RUN).await.unwrap().map(|log| titles(&log.entries)).unwrap_or_default()
}

#[tokio::test]
async fn what_may_pass_is_tried_three_times() {
    let (_moto, proxy, dynamo) = behind_a_proxy(Options::default()).await;
    let faults = [Fault::Error, Fault::Unavailable, Fault::Throttled, Fault::Reset, Fault::Lost];
    let mut asked = 0;
    for (number, fault) in (0_u64..).zip(faults) {
        proxy.next(UPDATE, &[fault, fault]);
        let appended = dynamo.append(RUN, &entry(number), id(number.into()), NOW).await.unwrap();
        assert_eq!(
            (appended, proxy.waiting()),
            (if fault == Fault::Lost { Appended::Before } else { Appended::Now }, 0),
            "{fault:?}"
        );
        asked += 3;
        assert_eq!(proxy.asked(UPDATE), asked, "{fault:?}");
    }
    assert_eq!(log(&dynamo).await, expected(0..5));
}

#[tokio::test]
async fn after_three_attempts_the_caller_is_told_and_may_try_again() {
    let (_moto, proxy, dynamo) = behind_a_proxy(Options::default()).await;
    for (fault, reason) in [
        (Fault::Error, "InternalServerError: a fault of the test"),
        (Fault::Throttled, "ProvisionedThroughputExceededException: a fault of the test"),
        (Fault::Reset, "onnection"),
    ] {
        let asked = proxy.asked(UPDATE);
        proxy.next(UPDATE, &[fault; 3]);
        let error = dynamo.append(RUN, &entry(1), id(1), NOW).await.unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("append to log in DynamoDB: dmdb_logs: ") && text.contains(reason), "{text}");
        assert!(error.retryable());
        assert_eq!(proxy.asked(UPDATE) - asked, 3, "{fault:?}");
    }
    dynamo.append(RUN, &entry(1), id(1), NOW).await.unwrap();
    assert_eq!(log(&dynamo).await, expected([1]));
}

#[tokio::test]
async fn what_cannot_pass_is_tried_once() {
    let (_moto, proxy, dynamo) = behind_a_proxy(Options::default()).await;
    proxy.next(UPDATE, &[Fault::Refused]);
    let error = dynamo.append(RUN, &entry(1), id(1), NOW).await.unwrap_err();
    assert!(!error.retryable(), "{error}");
    let elsewhere = connect(proxy.url(), Options { table: "nowhere".to_owned(), ..Options::default() }).await;
    let error = elsewhere.append(RUN, &entry(1), id(1), NOW).await.unwrap_err();
    assert!(error.to_string().contains("ResourceNotFoundException") && error.retryable(), "{error}");
    assert_eq!(proxy.asked(UPDATE), 2);
    let error = dynamo.append(RUN, "[]", id(1), NOW).await.unwrap_err();
    assert!(matches!(error, DynamoError::Json { .. }), "{error}");
    assert_eq!(proxy.asked(UPDATE), 2);
}

#[tokio::test]
async fn silence_ends_in_time() {
    let (_moto, proxy, dynamo) = behind_a_proxy(Options::default()).await;
    proxy.next(UPDATE, &[Fault::Silence]);
    assert_eq!(dynamo.append(RUN, &entry(1), id(1), NOW).await.unwrap(), Appended::Now);
    proxy.next(UPDATE, &[Fault::LostInSilence]);
    assert_eq!(dynamo.append(RUN, &entry(2), id(2), NOW).await.unwrap(), Appended::Before);
    assert_eq!(log(&dynamo).await, expected([1, 2]));
    proxy.next(UPDATE, &[Fault::Silence; 4]);
    let began = Instant::now();
    let error = dynamo.append(RUN, &entry(3), id(3), NOW).await.unwrap_err();
    assert!(error.retryable() && error.to_string().ends_with("no answer in time"), "{error}");
    let limit = std::time::Duration::from_millis(DYNAMO_REQUEST_TIMEOUT_MS + 2_000);
    assert!(began.elapsed() < limit, "{:?}", began.elapsed());
}

#[tokio::test]
async fn nobody_there_is_said() {
    let (_moto, proxy, dynamo) = behind_a_proxy(Options::default()).await;
    proxy.set_away(true);
    let error = dynamo.append(RUN, &entry(1), id(1), NOW).await.unwrap_err();
    assert!(error.retryable(), "{error}");
    proxy.set_away(false);
    dynamo.append(RUN, &entry(1), id(1), NOW).await.unwrap();
    assert_eq!(log(&dynamo).await, expected([1]));
}

/// Any fault at any request, the closing of items among them, and a caller that repeats itself: by id and by position.
#[tokio::test]
async fn under_random_faults_every_entry_is_there_once_and_in_order() {
    let seed = 0x5eed_1234_u64;
    let mut random = seed;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let faults = [Fault::Error, Fault::Unavailable, Fault::Throttled, Fault::Reset, Fault::Lost, Fault::Lost];
    let options = Options { item_bytes_max: 900, ..Options::default() };
    let (_moto, proxy, mut dynamo) = behind_a_proxy(options.clone()).await;
    for number in 0..30 {
        for _ in 0..next(4) {
            proxy.next(if next(4) == 0 { "GetItem" } else { UPDATE }, &[faults[usize::try_from(next(6)).unwrap()]]);
        }
        if next(4) == 0 {
            dynamo = connect(proxy.url(), options.clone()).await;
        }
        while let Err(error) = dynamo.append(RUN, &entry(number), id(number.into()), NOW).await {
            assert!(error.retryable(), "seed {seed}: {error}");
        }
        let json = entry(number);
        let entries = [PositionedEntry { position: number + 1, at: NOW, json: &json }];
        while let Err(error) = dynamo.append_entries("relayed", "j/1", &entries, number).await {
            assert!(error.retryable(), "seed {seed}: {error}");
        }
    }
    while proxy.waiting() > 0 {
        let _ = dynamo.append("other", &entry(0), id(0), NOW).await;
        let _ = dynamo.read("other").await;
    }
    assert_eq!(log(&dynamo).await, expected(0..30), "seed {seed}");
    let relayed = dynamo.read("relayed").await.unwrap().unwrap();
    assert_eq!(titles(&relayed.entries), expected(0..30), "seed {seed}");
}

#[tokio::test]
async fn many_at_once_lose_nothing() {
    let (_moto, _proxy, dynamo) = behind_a_proxy(Options { item_bytes_max: 4_000, ..Options::default() }).await;
    let dynamo = Arc::new(dynamo);
    let writers: Vec<_> = (0..6_u64)
        .map(|writer| {
            let dynamo = Arc::clone(&dynamo);
            tokio::spawn(async move {
                for number in (0..10).map(|number| writer * 100 + number) {
                    dynamo.append(RUN, &entry(number), id(number.into()), NOW).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let found = log(&dynamo).await;
    assert_eq!(found.len(), 60);
    for writer in 0..6_u64 {
        let all = expected((0..10).map(|number| writer * 100 + number));
        let own: Vec<_> = found.iter().filter(|title| all.contains(title)).cloned().collect();
        assert_eq!(own, all);
    }
}
