//! The table, its items' shape, and logs of one and of many items, in moto's DynamoDB, read back by boto3.

pub(crate) mod moto;
pub(crate) mod proxy;

mod faults;
mod ids;
mod positions;
mod sink;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::config::Credentials;
use runstone_record::RecordId;
use runstone_sinks::dynamo::{Appended, Dynamo, Options, Ttl};
use serde_json::{Value, json};

use moto::Moto;

/// 2025-01-13T12:34:56.789Z.
pub(crate) const NOW: i64 = 1_736_771_696_789_000;
pub(crate) const RUN: &str = "20250113_123456_abc123";

pub(crate) async fn connect(url: &str, options: Options) -> Dynamo {
    let shared = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .endpoint_url(url)
        .load()
        .await;
    Dynamo::with(&shared, options)
}

/// A client of a new table.
async fn table(moto: &Moto, options: Options) -> Dynamo {
    let dynamo = connect(moto.url(), options).await;
    assert!(dynamo.create_table().await.unwrap());
    dynamo
}

pub(crate) fn id(number: u128) -> RecordId {
    RecordId::from_u128(number)
}

pub(crate) fn entry(number: u64) -> String {
    json!({"type": "info", "title": format!("entry {number}"), "description": "x".repeat(150)}).to_string()
}

pub(crate) fn titles(entries: &[String]) -> Vec<String> {
    let title = |entry: &String| serde_json::from_str::<Value>(entry).unwrap()["title"].as_str().unwrap().to_owned();
    entries.iter().map(title).collect()
}

pub(crate) fn expected(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers.into_iter().map(|number| format!("entry {number}")).collect()
}

#[tokio::test]
async fn the_table_is_made_once_and_billed_by_request() {
    let moto = Moto::start();
    let ttl = Some(Ttl { attribute: "expires_at".to_owned(), days: 30 });
    let dynamo = table(&moto, Options { ttl, ..Options::default() }).await;
    assert!(!dynamo.create_table().await.unwrap());
    let described = moto.boto3(
        "dynamodb",
        "made = client.describe_table(TableName='dmdb_logs')['Table']\n\
         ttl = client.describe_time_to_live(TableName='dmdb_logs')['TimeToLiveDescription']\n\
         result = [made['KeySchema'], made['AttributeDefinitions'], made['BillingModeSummary']['BillingMode'], ttl]",
    );
    assert_eq!(
        described,
        json!([
            [{"AttributeName": "run_id", "KeyType": "HASH"}],
            [{"AttributeName": "run_id", "AttributeType": "S"}],
            "PAY_PER_REQUEST",
            {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires_at"},
        ])
    );
    dynamo.append(RUN, &entry(1), id(1), NOW).await.unwrap();
    let expires = moto.boto3("dynamodb", "result = list(client.scan(TableName='dmdb_logs')['Items'])[0]['expires_at']");
    assert_eq!(expires, json!({"N": (1_736_771_696 + 30 * 86_400).to_string()}));
}

#[tokio::test]
async fn an_item_is_the_documented_one() {
    let moto = Moto::start();
    let dynamo = table(&moto, Options::default()).await;
    let first = r#"{"timestamp":"2025-01-13T12:34:56.789Z","type":"start","title":"Starting Orchestrator",
        "description":"Starting ETL workflow","metadata":{"key1":"value1","key2":123}}"#;
    let second = r#"{"timestamp":"2025-01-13T12:35:10.123Z","type":"result","title":"Specifications Generated Successfully",
        "description":"stored in S3","metadata":{"source_tables":["customers","orders"],"flag":true,"none":null,"size":"",
        "exact":12345678901234567890.123456789012345678,"reserved":{"values":[],"name":{}}}}"#;
    assert_eq!(dynamo.append(RUN, first, id(1), NOW).await.unwrap(), Appended::Now);
    assert_eq!(dynamo.append(RUN, second, id(2), NOW + 13_334_000).await.unwrap(), Appended::Now);
    let script = format!("result = client.get_item(TableName='dmdb_logs', Key={{'run_id': {{'S': '{RUN}'}}}})['Item']");
    let mut item = moto.boto3("dynamodb", &script);
    for ours in ["append_ids", "log_bytes"] {
        assert!(item.as_object_mut().unwrap().remove(ours).is_some(), "{ours}");
    }
    assert_eq!(
        item,
        json!({
            "run_id": {"S": RUN},
            "logs": {"L": [
                {"M": {
                    "timestamp": {"S": "2025-01-13T12:34:56.789Z"}, "type": {"S": "start"},
                    "title": {"S": "Starting Orchestrator"}, "description": {"S": "Starting ETL workflow"},
                    "metadata": {"M": {"key1": {"S": "value1"}, "key2": {"N": "123"}}},
                }},
                {"M": {
                    "timestamp": {"S": "2025-01-13T12:35:10.123Z"}, "type": {"S": "result"},
                    "title": {"S": "Specifications Generated Successfully"}, "description": {"S": "stored in S3"},
                    "metadata": {"M": {
                        "source_tables": {"L": [{"S": "customers"}, {"S": "orders"}]}, "flag": {"BOOL": true},
                        "none": {"NULL": true}, "size": {"S": ""}, "exact": {"N": "12345678901234567890.123456789012345678"},
                        "reserved": {"M": {"values": {"L": []}, "name": {"M": {}}}},
                    }},
                }},
            ]},
            "created_at": {"S": "2025-01-13T12:34:56.789Z"},
            "updated_at": {"S": "2025-01-13T12:35:10.123Z"},
        })
    );
    let log = dynamo.read(RUN).await.unwrap().unwrap();
    assert_eq!(
        (log.created_at.as_deref(), log.updated_at.as_deref()),
        (Some("2025-01-13T12:34:56.789Z"), Some("2025-01-13T12:35:10.123Z"))
    );
    for (read, sent) in log.entries.iter().zip([first, second]) {
        assert_eq!(serde_json::from_str::<Value>(read).unwrap(), serde_json::from_str::<Value>(sent).unwrap());
    }
    assert!(log.entries[1].contains("12345678901234567890.123456789012345678"));
    assert_eq!(dynamo.read("nobody").await.unwrap(), None);
    // As the documented function's other readers see it.
    let script = format!(
        "result = table('dmdb_logs').get_item(Key={{'run_id': '{RUN}'}})['Item']['logs'][1]['metadata']['exact']"
    );
    assert_eq!(moto.boto3("dynamodb", &script), json!("12345678901234567890.123456789012345678"));
}

#[tokio::test]
async fn names_may_be_words_that_dynamodb_keeps() {
    let moto = Moto::start();
    let options = Options { table: "my.Logs-2".to_owned(), key: "name".to_owned(), ..Options::default() };
    let dynamo = table(&moto, options).await;
    let sent = r##"{"type":"info","title":"t","description":"d","values":1,"size":2,"metadata":{"table":{"a.b":[{"#":":x"}]}}}"##;
    dynamo.append(RUN, sent, id(1), NOW).await.unwrap();
    let log = dynamo.read(RUN).await.unwrap().unwrap();
    assert_eq!(serde_json::from_str::<Value>(&log.entries[0]).unwrap(), serde_json::from_str::<Value>(sent).unwrap());
}

#[tokio::test]
async fn an_append_under_a_known_id_is_done_already() {
    let moto = Moto::start();
    let dynamo = table(&moto, Options::default()).await;
    for number in 0..40 {
        let appended = dynamo.append(RUN, &entry(number), id(number.into()), NOW).await.unwrap();
        assert_eq!(appended, Appended::Now, "{number}");
    }
    for number in 24..40 {
        let appended = dynamo.append(RUN, &entry(number), id(number.into()), NOW).await.unwrap();
        assert_eq!(appended, Appended::Before, "{number}");
    }
    assert_eq!(titles(&dynamo.read(RUN).await.unwrap().unwrap().entries), expected(0..40));
    let script = "item = client.scan(TableName='dmdb_logs')['Items'][0]\n\
                  result = len(item['append_ids']['L']) + len(item['append_ids_before']['L'])";
    assert!(moto.boto3("dynamodb", script).as_u64().unwrap() <= 32);
}

#[tokio::test]
async fn a_long_log_goes_on_in_other_items_and_is_read_as_one() {
    let moto = Moto::start();
    let options = Options { item_bytes_max: 2_000, ..Options::default() };
    let dynamo = table(&moto, options.clone()).await;
    for number in 0..30 {
        dynamo.append(RUN, &entry(number), id(number.into()), NOW).await.unwrap();
    }
    // Somebody who knows nothing finds the item that is open, and what was the last of a closed one.
    let other = connect(moto.url(), options).await;
    assert_eq!(other.append(RUN, &entry(30), id(30), NOW).await.unwrap(), Appended::Now);
    assert_eq!(other.append(RUN, &entry(31), id(31), NOW).await.unwrap(), Appended::Now);
    // The ids go along.
    assert_eq!(dynamo.append(RUN, &entry(3), id(3), NOW).await.unwrap(), Appended::Before);
    assert_eq!(titles(&other.read(RUN).await.unwrap().unwrap().entries), expected(0..32));
    let items = moto.boto3("dynamodb", "result = {item['run_id']['S']: [int(item['log_bytes']['N']), 'continued' in item] for item in client.scan(TableName='dmdb_logs')['Items']}");
    let items = items.as_object().unwrap();
    assert!(items.len() >= 4, "{items:?}");
    for part in 1..=items.len() {
        let key = if part == 1 { RUN.to_owned() } else { format!("{RUN}#{part}") };
        assert!(items[&key][0].as_u64().unwrap() <= 2_000, "{items:?}");
        assert_eq!(items[&key][1], json!(part < items.len()), "{items:?}");
    }
}

#[tokio::test]
async fn a_closed_item_takes_nothing_even_where_it_has_room() {
    let moto = Moto::start();
    let options = Options { item_bytes_max: 2_000, ..Options::default() };
    let dynamo = table(&moto, options.clone()).await;
    let large = json!({"type": "info", "title": "entry 1", "description": "x".repeat(1_800)}).to_string();
    for (number, json) in [(0, &entry(0)), (1, &large)] {
        dynamo.append(RUN, json, id(number), NOW).await.unwrap();
    }
    for number in 2..4 {
        let other = connect(moto.url(), options.clone()).await;
        other.append(RUN, &entry(number), id(number.into()), NOW).await.unwrap();
    }
    assert_eq!(titles(&dynamo.read(RUN).await.unwrap().unwrap().entries), expected(0..4));
}

#[tokio::test]
async fn what_is_too_large_for_an_item_has_one_for_itself() {
    let moto = Moto::start();
    let dynamo = table(&moto, Options { item_bytes_max: 1_000, entry_bytes_max: 1 << 20, ..Options::default() }).await;
    for number in 0..3_u64 {
        let large = json!({"type": "code", "title": format!("entry {number}"), "description": "x".repeat(5_000)});
        dynamo.append(RUN, &large.to_string(), id(number.into()), NOW).await.unwrap();
    }
    assert_eq!(titles(&dynamo.read(RUN).await.unwrap().unwrap().entries), expected(0..3));
    let keys = moto.boto3(
        "dynamodb",
        "result = sorted(item['run_id']['S'] for item in client.scan(TableName='dmdb_logs')['Items'])",
    );
    assert_eq!(keys, json!([RUN, format!("{RUN}#2"), format!("{RUN}#3")]));
}

#[tokio::test]
async fn a_compressed_entry_is_read_by_others_too() {
    let moto = Moto::start();
    let dynamo = table(&moto, Options::default()).await;
    let sent = json!({"type": "code", "title": "Glue Code", "description": "d", "metadata": {"generated_item": "import sys\n".repeat(20_000)}});
    dynamo.append(RUN, &sent.to_string(), id(1), NOW).await.unwrap();
    assert_eq!(dynamo.read(RUN).await.unwrap().unwrap().entries, [sent.to_string()]);
    let script = format!(
        "stored = table('dmdb_logs').get_item(Key={{'run_id': '{RUN}'}})['Item']['logs'][0]\n\
         result = [stored['type'], stored['title'], json.loads(gzip.decompress(stored['gzip'].value))]"
    );
    assert_eq!(moto.boto3("dynamodb", &script), json!(["code", "Glue Code", sent]));
}

/// What the documented function's own code wrote: no count of bytes, no time of creation.
#[tokio::test]
async fn an_item_that_others_began_goes_on() {
    let moto = Moto::start();
    let dynamo = table(&moto, Options::default()).await;
    let script = format!(
        "logs = {{'L': [{{'M': {{'type': {{'S': 'info'}}, 'title': {{'S': 'entry 0'}}, 'description': {{'S': 'x' * 340_000}}}}}}]}}\n\
         client.put_item(TableName='dmdb_logs', Item={{'run_id': {{'S': '{RUN}'}}, 'logs': logs, 'updated_at': {{'S': 'then'}}}})\n\
         result = None"
    );
    moto.boto3("dynamodb", &script);
    for number in 1..4_u64 {
        let json = json!({"type": "info", "title": format!("entry {number}"), "description": "y".repeat(40_000)});
        assert_eq!(dynamo.append(RUN, &json.to_string(), id(number.into()), NOW).await.unwrap(), Appended::Now);
    }
    let log = dynamo.read(RUN).await.unwrap().unwrap();
    assert_eq!(titles(&log.entries), expected(0..4));
    assert_eq!(log.created_at.as_deref(), Some("2025-01-13T12:34:56.789Z"));
    let parts = moto.boto3("dynamodb", "result = client.scan(TableName='dmdb_logs')['Count']");
    assert_eq!(parts, json!(2));
}
