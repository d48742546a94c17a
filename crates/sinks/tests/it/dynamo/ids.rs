//! Appends that come again by their id, once the log has gone on in other items.

use runstone_record::limits::DYNAMO_IDS_KEPT;
use runstone_sinks::dynamo::{Appended, Dynamo, Options, PositionedEntry};

use super::moto::Moto;
use super::proxy::{Fault, Proxy};
use super::{NOW, RUN, connect, entry, expected, id, table, titles};

/// Two entries an item.
fn short() -> Options {
    Options { item_bytes_max: 500, ..Options::default() }
}

async fn append(dynamo: &Dynamo, number: u64) -> Appended {
    dynamo.append(RUN, &entry(number), id(number.into()), NOW).await.unwrap()
}

#[tokio::test]
async fn a_long_way_to_the_open_item_is_not_gone_twice() {
    let moto = Moto::start();
    let proxy = Proxy::before(moto.url());
    table(&moto, short()).await;
    let writer = connect(moto.url(), short()).await;
    for number in 0..24 {
        append(&writer, number).await;
    }
    // The first item says that it is closed, further ones are read, and then DynamoDB is away for all tries of one append.
    let newcomer = connect(proxy.url(), short()).await;
    proxy.next("GetItem", &[[Fault::Pass; 6].as_slice(), &[Fault::Throttled; 3]].concat());
    newcomer.append(RUN, &entry(24), id(24), NOW).await.unwrap_err();
    assert_eq!((proxy.waiting(), proxy.asked("GetItem")), (0, 9));
    assert_eq!(append(&newcomer, 24).await, Appended::Now);
    let left = usize::try_from(items(&moto)).unwrap() - 7;
    assert!(proxy.asked("GetItem") <= 9 + left, "{} reads, {left} items were left", proxy.asked("GetItem"));
    assert_eq!(log(&writer).await, expected(0..25));
}

#[tokio::test]
async fn a_log_that_somebody_deleted_begins_anew() {
    let moto = Moto::start();
    let dynamo = table(&moto, short()).await;
    for number in 0..6 {
        append(&dynamo, number).await;
    }
    assert!(items(&moto) > 2);
    moto.boto3("dynamodb", "result = client.delete_table(TableName='dmdb_logs')");
    dynamo.create_table().await.unwrap();
    for number in 5..9 {
        assert_eq!(append(&dynamo, number).await, Appended::Now);
    }
    assert_eq!(log(&dynamo).await, expected(5..9));
}

async fn log(dynamo: &Dynamo) -> Vec<String> {
    titles(&dynamo.read(RUN).await.unwrap().unwrap().entries)
}

fn items(moto: &Moto) -> u64 {
    moto.boto3("dynamodb", "result = client.scan(TableName='dmdb_logs')['Count']").as_u64().unwrap()
}

#[tokio::test]
async fn an_id_is_known_for_as_many_appends_in_whichever_items_they_are() {
    let moto = Moto::start();
    let proxy = Proxy::before(moto.url());
    table(&moto, short()).await;
    let dynamo = connect(proxy.url(), short()).await;
    let kept = u64::try_from(DYNAMO_IDS_KEPT).unwrap();
    for number in 0..40 {
        assert_eq!(append(&dynamo, number).await, Appended::Now, "{number}");
        if number >= kept {
            assert_eq!(append(&dynamo, number - kept).await, Appended::Before, "{number}");
        }
    }
    assert!(items(&moto) >= 20);
    for number in 40 - kept..40 {
        assert_eq!(append(&dynamo, number).await, Appended::Before, "{number}");
    }
    // Who knows nothing passes every item on its way.
    for number in 0..40 {
        assert_eq!(append(&connect(moto.url(), short()).await, number).await, Appended::Before, "{number}");
    }
    assert_eq!(log(&dynamo).await, expected(0..40));
    let script = "result = max(len(item[name]['L']) for item in client.scan(TableName='dmdb_logs')['Items'] \
                  for name in ['append_ids', 'append_ids_before'] if name in item)";
    assert_eq!(moto.boto3("dynamodb", script), serde_json::json!(kept));
    // Where the item has room, an append is one request.
    let wide = connect(proxy.url(), Options::default()).await;
    wide.append("wide", &entry(0), id(0), NOW).await.unwrap();
    let asked = || (proxy.asked("UpdateItem"), proxy.asked("GetItem"));
    let before = asked();
    wide.append("wide", &entry(1), id(1), NOW).await.unwrap();
    assert_eq!(asked(), (before.0 + 1, before.1));
}

/// Whoever closed the item did not come to write the next.
#[tokio::test]
async fn ids_are_taken_over_from_an_item_that_somebody_else_closed() {
    let moto = Moto::start();
    let dynamo = table(&moto, Options::default()).await;
    for number in 0..4 {
        append(&dynamo, number).await;
    }
    let script = format!(
        "client.update_item(TableName='dmdb_logs', Key={{'run_id': {{'S': '{RUN}'}}}}, UpdateExpression='SET #c = :t', \
         ExpressionAttributeNames={{'#c': 'continued'}}, ExpressionAttributeValues={{':t': {{'BOOL': True}}}})\n\
         result = None"
    );
    moto.boto3("dynamodb", &script);
    assert_eq!(append(&dynamo, 3).await, Appended::Before);
    assert_eq!(append(&dynamo, 4).await, Appended::Now);
    assert_eq!(items(&moto), 2);
    for number in [0, 3, 4] {
        assert_eq!(append(&dynamo, number).await, Appended::Before, "{number}");
    }
    assert_eq!(log(&dynamo).await, expected(0..5));
}

/// The function and the sink write to one log, and it is the sink that begins the next items.
#[tokio::test]
async fn ids_are_taken_over_where_a_sink_begins_an_item() {
    let moto = Moto::start();
    let dynamo = table(&moto, short()).await;
    for number in 0..20 {
        append(&dynamo, number).await;
    }
    let json: Vec<String> = (20..25).map(entry).collect();
    let entries: Vec<_> =
        json.iter().zip(1..).map(|(json, position)| PositionedEntry { position, at: NOW, json }).collect();
    let before = items(&moto);
    dynamo.append_entries(RUN, "j/1", &entries, 0).await.unwrap();
    assert!(items(&moto) >= before + 2);
    for number in 4..20 {
        assert_eq!(append(&dynamo, number).await, Appended::Before, "{number}");
    }
    assert_eq!(log(&dynamo).await, expected(0..25));
}
