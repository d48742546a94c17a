//! Appends of a journal's entries: by position, each once, however often and in whatever pieces they come.

use runstone_sinks::dynamo::{Appended, Dynamo, DynamoError, Options, PositionedEntry};

use super::moto::Moto;
use super::{NOW, RUN, connect, entry, expected, titles};

const SOURCE: &str = "01980000-0000-7000-8000-000000000001/1";

async fn table(moto: &Moto, item_bytes_max: usize) -> Dynamo {
    let dynamo = connect(moto.url(), Options { item_bytes_max, ..Options::default() }).await;
    dynamo.create_table().await.unwrap();
    dynamo
}

/// Delivers the entries of positions behind `after` up to `through`.
async fn deliver(dynamo: &Dynamo, source: &str, after: u64, through: u64) -> Appended {
    let entries: Vec<(u64, String)> = (after + 1..=through).map(|position| (position, entry(position))).collect();
    let entries: Vec<PositionedEntry<'_>> =
        entries.iter().map(|(position, json)| PositionedEntry { position: *position, at: NOW, json }).collect();
    dynamo.append_entries(RUN, source, &entries, after).await.unwrap()
}

#[tokio::test]
async fn what_is_delivered_again_in_other_pieces_is_there_once() {
    let moto = Moto::start();
    let dynamo = table(&moto, 350_000).await;
    assert_eq!(deliver(&dynamo, SOURCE, 0, 5).await, Appended::Now);
    assert_eq!(deliver(&dynamo, SOURCE, 0, 5).await, Appended::Before);
    assert_eq!(deliver(&dynamo, SOURCE, 2, 4).await, Appended::Before);
    assert_eq!(deliver(&dynamo, SOURCE, 3, 9).await, Appended::Now);
    assert_eq!(deliver(&dynamo, SOURCE, 0, 12).await, Appended::Now);
    // Nothing of this run for a while.
    assert_eq!(dynamo.append_entries(RUN, SOURCE, &[], 12).await.unwrap(), Appended::Before);
    assert_eq!(deliver(&dynamo, SOURCE, 40, 41).await, Appended::Now);
    let log = dynamo.read(RUN).await.unwrap().unwrap();
    assert_eq!(titles(&log.entries), expected((1..=12).chain([41])));
    // Another journal's positions are others.
    assert_eq!(deliver(&dynamo, "another/1", 0, 2).await, Appended::Now);
    assert_eq!(dynamo.read(RUN).await.unwrap().unwrap().entries.len(), 15);
}

#[tokio::test]
async fn a_long_log_is_cut_into_items_between_entries_and_a_restart_repeats_nothing() {
    let moto = Moto::start();
    let dynamo = table(&moto, 1_000).await;
    for (after, through) in [(0, 1), (1, 3), (3, 20), (20, 33)] {
        assert_eq!(deliver(&dynamo, SOURCE, after, through).await, Appended::Now);
    }
    // It knows no item, and its cursor is lost.
    let restarted = table(&moto, 1_000).await;
    for (after, through) in [(0, 7), (7, 33), (2, 33)] {
        assert_eq!(deliver(&restarted, SOURCE, after, through).await, Appended::Before);
    }
    assert_eq!(deliver(&restarted, SOURCE, 30, 35).await, Appended::Now);
    assert_eq!(titles(&restarted.read(RUN).await.unwrap().unwrap().entries), expected(1..=35));
    let full = moto.boto3(
        "dynamodb",
        "result = max(int(item['log_bytes']['N']) for item in client.scan(TableName='dmdb_logs')['Items'])",
    );
    assert!(full.as_u64().unwrap() <= 1_000, "{full}");
}

#[tokio::test]
async fn a_log_in_several_items_begins_anew_where_somebody_deleted_it() {
    let moto = Moto::start();
    let dynamo = table(&moto, 1_000).await;
    deliver(&dynamo, SOURCE, 0, 33).await;
    moto.boto3("dynamodb", "result = client.delete_table(TableName='dmdb_logs')");
    dynamo.create_table().await.unwrap();
    // The cursor is gone with the table.
    assert_eq!(deliver(&dynamo, SOURCE, 0, 5).await, Appended::Now);
    assert_eq!(titles(&dynamo.read(RUN).await.unwrap().unwrap().entries), expected(1..=5));
    assert_eq!(deliver(&dynamo, SOURCE, 5, 33).await, Appended::Now);
    assert_eq!(titles(&dynamo.read(RUN).await.unwrap().unwrap().entries), expected(1..=33));
}

#[tokio::test]
async fn a_closed_item_takes_nothing_although_its_position_is_old() {
    let moto = Moto::start();
    let dynamo = table(&moto, 1_000).await;
    deliver(&dynamo, SOURCE, 0, 1).await;
    let large = format!(r#"{{"type":"info","title":"entry 2","description":"{}"}}"#, "x".repeat(900));
    let entries = [PositionedEntry { position: 2, at: NOW, json: &large }];
    dynamo.append_entries(RUN, SOURCE, &entries, 1).await.unwrap();
    deliver(&dynamo, SOURCE, 2, 3).await;
    // The first item has room, and knows of no position beyond 1.
    let restarted = table(&moto, 1_000).await;
    assert_eq!(deliver(&restarted, SOURCE, 2, 3).await, Appended::Before);
    assert_eq!(titles(&dynamo.read(RUN).await.unwrap().unwrap().entries), expected(1..=3));
}

#[tokio::test]
async fn an_entry_that_never_fits_is_not_sent() {
    let dynamo = connect("http://127.0.0.1:9", Options::default()).await;
    // Nothing that could be compressed.
    let mut random = 1_u64;
    let noise: String = (0..900_000)
        .map(|_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'0' + u8::try_from((random >> 33) % 64).unwrap())
        })
        .map(|char| if char == '\\' { 'x' } else { char })
        .collect();
    let json = format!(r#"{{"title":"{noise}"}}"#);
    let entries = [PositionedEntry { position: 1, at: NOW, json: &json }];
    let error = dynamo.append_entries(RUN, SOURCE, &entries, 0).await.unwrap_err();
    assert!(matches!(error, DynamoError::TooLarge { .. }) && !error.retryable(), "{error}");
}
