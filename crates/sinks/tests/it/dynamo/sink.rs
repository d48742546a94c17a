//! The table as a sink: the contract's checks against moto, dead letters, and what is said when something is wrong.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use runstone_record::Column;
use runstone_record::build::BatchBuilder;
use runstone_record::logger::write_kept_entry_of;
use runstone_sinks::contract::{NEXT_SOURCE, SOURCE, Stored, Target, expected, frame, frames, once};
use runstone_sinks::dynamo::{Dynamo, Options};
use runstone_sinks::{DeadLetters, Delivered, Delivery, Redelivered, Sink, SinkError};
use serde_json::{Value, json};

use super::connect;
use super::moto::Moto;
use super::proxy::{Fault, Proxy};
use crate::suite::contract;

/// A run whose item is somebody else's and no log.
const TAKEN: &str = "taken";

/// A service of its own, and what stands before it.
struct Table {
    moto: Moto,
    proxy: Proxy,
    /// The table is made with the first sink.
    is_made: AtomicBool,
}

impl Table {
    fn new() -> Self {
        let moto = Moto::start();
        let proxy = Proxy::before(moto.url());
        Self { moto, proxy, is_made: AtomicBool::new(false) }
    }

    async fn open(&self, options: Options) -> Dynamo {
        let dynamo = connect(self.proxy.url(), options).await;
        if !self.is_made.swap(true, Ordering::SeqCst) {
            dynamo.create_table().await.unwrap();
            self.moto.boto3(
                "dynamodb",
                &format!(
                    "client.put_item(TableName='dmdb_logs', Item={{'run_id': {{'S': '{TAKEN}'}}, 'logs': {{'S': 'else'}}}})\n\
                     result = None"
                ),
            );
        }
        dynamo
    }

    async fn log(&self, run_id: &str) -> Vec<Stored> {
        let log = self.open(Options::default()).await.read(run_id).await.unwrap();
        let entries: Vec<Stored> =
            log.iter().flat_map(|log| &log.entries).map(|entry| stored(run_id, entry.as_bytes())).collect();
        assert!(entries.is_sorted_by_key(|entry| entry.position), "{entries:?}");
        entries
    }

    /// The positions in a log, in whichever order they are.
    async fn positions(&self, run_id: &str) -> Vec<u64> {
        let log = self.open(Options::default()).await.read(run_id).await.unwrap().unwrap();
        log.entries.iter().map(|entry| stored(run_id, entry.as_bytes()).position).collect()
    }
}

/// An entry with its members in the order of their names.
fn stored(run_id: &str, entry: &[u8]) -> Stored {
    let members: BTreeMap<String, Value> = serde_json::from_slice(entry).unwrap();
    let position = members["metadata"]["n"].as_u64().unwrap();
    Stored { journal: run_id.to_owned(), position, json: serde_json::to_string(&members).unwrap() }
}

#[async_trait]
impl Target for Table {
    type Sink = Dynamo;

    const KNOWS_IDS: bool = true;

    async fn sink(&self) -> Dynamo {
        self.open(Options { item_bytes_max: 3_000, ..Options::default() }).await
    }

    async fn records(&self) -> Vec<Stored> {
        let mut all = Vec::new();
        for run in 0..3 {
            all.extend(self.log(&format!("run_{run}")).await);
        }
        all
    }

    fn kept(&self, sent: Stored) -> Stored {
        let mut entry = Vec::new();
        write_kept_entry_of(sent.json.as_bytes(), &mut entry).unwrap();
        let sent: Value = serde_json::from_str(&sent.json).unwrap();
        stored(sent["run_id"].as_str().unwrap(), &entry)
    }

    async fn letters(&self) -> Vec<u64> {
        let letters = self.open(Options::default()).await.dead_letters(None, 1_000).await.unwrap();
        letters.iter().map(|letter| letter.position).collect()
    }

    fn poison(&self, row: &mut BatchBuilder) {
        row.set_text(Column::RunId, TAKEN);
    }

    async fn take_away(&self) {
        self.proxy.set_away(true);
    }

    async fn bring_back(&self) {
        self.proxy.set_away(false);
    }

    async fn hold(&self) {
        self.moto.signal("STOP");
    }

    async fn release(&self) {
        self.moto.signal("CONT");
    }
}

contract!(Table::new());

#[tokio::test]
async fn a_cursor_moves_only_from_where_it_is() {
    let table = Table::new();
    let mut sink = table.sink().await;
    let mut pass = async |after, through| {
        let delivery = Delivery { source: SOURCE, after, frames: &[], through };
        (sink.deliver(delivery).await, sink.cursor(SOURCE).await.unwrap())
    };
    assert!(matches!(pass(3, 9).await, (Err(SinkError::Moved { found: 0 }), 0)));
    assert!(matches!(pass(0, 9).await, (Ok(_), 9)));
    assert!(matches!(pass(0, 5).await, (Err(SinkError::Moved { found: 9 }), 9)));
    table.proxy.next("UpdateItem", &[Fault::Lost]);
    assert!(matches!(pass(9, 12).await, (Ok(_), 12)));
    assert_eq!(table.proxy.waiting(), 0);
    assert_eq!(sink.cursor(NEXT_SOURCE).await.unwrap(), 0);
}

/// The first, second, … update of a delivery meets a fault, and the caller delivers until all is there.
#[tokio::test]
async fn a_delivery_that_fails_at_any_request_is_there_once_when_it_comes_again() {
    let table = Table::new();
    let mut sink = table.sink().await;
    let (mut all, mut after, mut failed) = (Vec::new(), 0, 0);
    for fault in [Fault::Error, Fault::Lost, Fault::Reset] {
        for request in 0..9 {
            let next = frame(&table, after + 1, 7, &[after + 2]);
            // Three attempts: none of them gets through.
            let faults = [vec![Fault::Pass; request], vec![fault; 3]].concat();
            table.proxy.next("UpdateItem", &faults);
            let mut failures = 0;
            while sink.cursor(SOURCE).await.unwrap() == after {
                match once(&mut sink, SOURCE, after, std::slice::from_ref(&next)).await {
                    Ok(_) => {}
                    Err(SinkError::Away { .. } | SinkError::Moved { .. }) => failures += 1,
                    Err(error) => panic!("{error:?}"),
                }
                assert!(failures < 4, "{fault:?} at {request}");
            }
            table.proxy.clear();
            after += 7;
            all.push(next);
            failed += failures;
        }
    }
    assert!(failed > 3, "{failed}");
    let poison: Vec<u64> = all.iter().map(|frame| frame.first + 1).collect();
    let mut kept: Vec<Stored> = expected(SOURCE, &all, &poison).into_iter().map(|sent| table.kept(sent)).collect();
    kept.sort();
    assert_eq!(table.records().await, kept);
    assert_eq!(table.letters().await, poison);
}

/// What DynamoDB refuses and nobody foresaw: only the record that is refused by itself is a dead letter.
#[tokio::test]
async fn of_entries_that_are_refused_together_only_one_is_a_dead_letter() {
    let table = Table::new();
    let mut sink = table.sink().await;
    let frames = [frame(&table, 1, 12, &[])];
    // Of the four records of one run: all, the first two, the first.
    table.proxy.refuse_next_of("run_1", 3);
    let delivered = once(&mut sink, SOURCE, 0, &frames).await.unwrap();
    let letters: Vec<u64> = delivered.dead_letters.iter().map(|letter| letter.position).collect();
    assert_eq!(letters, [1]);
    assert!(delivered.dead_letters[0].reason.contains("a fault of the test"), "{delivered:?}");
    assert_eq!(table.letters().await, [1]);
    let positions: Vec<u64> = table.log("run_1").await.iter().map(|entry| entry.position).collect();
    assert_eq!(positions, [4, 7, 10]);
    // The second time is that of somebody who was not answered the first time.
    for said in [Redelivered::Taken, Redelivered::Gone] {
        assert_eq!(sink.redeliver(&delivered.dead_letters[0], 1).await.unwrap(), said);
    }
    assert_eq!(table.letters().await, [0_u64; 0]);
    assert_eq!(table.positions("run_1").await, [4, 7, 10, 1]);
}

/// Broken off before the letter was removed, and done again when no item knows the append any more.
#[tokio::test]
async fn a_letter_that_is_sent_again_long_after_is_in_its_log_once() {
    let table = Table::new();
    let mut sink = table.sink().await;
    table.proxy.refuse_next_of("run_1", 3);
    let delivered = once(&mut sink, SOURCE, 0, &[frame(&table, 1, 12, &[])]).await.unwrap();
    let [letter] = &delivered.dead_letters[..] else { panic!("{delivered:?}") };
    table.proxy.next("DeleteItem", &[Fault::Error; 3]);
    let said = sink.redeliver(letter, 1).await;
    assert!(matches!(said, Err(SinkError::Away { .. })), "{said:?}");
    for number in 0..40 {
        let json = json!({"type": "info", "title": "t", "description": "d", "metadata": {"n": 100 + number}});
        sink.append("run_1", &json.to_string(), super::id(number), super::NOW).await.unwrap();
    }
    let log = table.positions("run_1").await;
    assert_eq!(log[..4], [4, 7, 10, 1]);
    for said in [Redelivered::Taken, Redelivered::Gone] {
        assert_eq!(table.sink().await.redeliver(letter, 1).await.unwrap(), said);
    }
    assert_eq!(table.positions("run_1").await, log);
}

#[tokio::test]
async fn a_letter_that_somebody_removed_is_not_brought() {
    let table = Table::new();
    let mut sink = table.sink().await;
    table.proxy.refuse_next_of("run_1", 3);
    let delivered = once(&mut sink, SOURCE, 0, &[frame(&table, 1, 12, &[])]).await.unwrap();
    assert_eq!(table.sink().await.remove_dead_letters(SOURCE, &[1]).await.unwrap(), 1);
    assert_eq!(sink.redeliver(&delivered.dead_letters[0], 1).await.unwrap(), Redelivered::Gone);
    assert_eq!(table.positions("run_1").await, [4, 7, 10]);
}

#[tokio::test]
async fn a_letter_whose_run_still_has_no_log_stays_one() {
    let table = Table::new();
    let mut sink = table.sink().await;
    let delivered = once(&mut sink, SOURCE, 0, &[frame(&table, 1, 2, &[2])]).await.unwrap();
    let again = sink.redeliver(&delivered.dead_letters[0], 1).await.unwrap();
    assert!(matches!(&again, Redelivered::Refused { reason } if reason.contains("list_append")), "{again:?}");
    assert_eq!(table.letters().await, [2]);
}

#[tokio::test]
async fn the_table_is_made_on_request_and_again_where_it_was_deleted() {
    let table = Table::new();
    drop(table.sink().await);
    let options = Options { table: "made".to_owned(), create: true, ..Options::default() };
    let (mut sink, mut other) = (table.open(options.clone()).await, table.open(options).await);
    let (one, two) = tokio::join!(sink.cursor(SOURCE), other.cursor(SOURCE));
    assert_eq!((one.unwrap(), two.unwrap()), (0, 0));
    let frames = [frame(&table, 1, 3, &[])];
    once(&mut sink, SOURCE, 0, &frames).await.unwrap();
    table.moto.boto3("dynamodb", "result = client.delete_table(TableName='made')");
    let gone = sink.cursor(SOURCE).await;
    assert!(matches!(gone, Err(SinkError::Misconfigured { .. })), "{gone:?}");
    assert_eq!(sink.cursor(SOURCE).await.unwrap(), 0);
    let mut never = table.open(Options { table: "never".to_owned(), ..Options::default() }).await;
    let missing = never.cursor(SOURCE).await;
    assert!(matches!(missing, Err(SinkError::Misconfigured { .. })), "{missing:?}");
}

#[tokio::test]
async fn letters_are_read_in_pages_and_removed() {
    let table = Table::new();
    let mut sink = table.sink().await;
    let own = [frame(&table, 9, 4, &[9, 10, 12])];
    let next = [frame(&table, 100, 2, &[101])];
    once(&mut sink, SOURCE, 0, &own).await.unwrap();
    let delivered = once(&mut sink, NEXT_SOURCE, 0, &next).await.unwrap();
    let places = |letters: &[runstone_sinks::DeadLetter]| -> Vec<(String, u64)> {
        letters.iter().map(|letter| (letter.source.clone(), letter.position)).collect()
    };
    let place = |source: &str, position: u64| (source.to_owned(), position);
    let page = sink.dead_letters(None, 2).await.unwrap();
    assert_eq!(places(&page), [place(SOURCE, 9), place(SOURCE, 10)]);
    let page = sink.dead_letters(Some((SOURCE, 10)), 2).await.unwrap();
    assert_eq!(places(&page), [place(SOURCE, 12), place(NEXT_SOURCE, 101)]);
    assert_eq!(page[1..], delivered.dead_letters);
    let read_by_others = table.moto.boto3(
        "dynamodb",
        &format!(
            "letter = table('dmdb_logs').get_item(Key={{'run_id': '#letter {SOURCE} 12'}})['Item']\n\
             result = json.loads(gzip.decompress(letter['gzip'].value))['position']"
        ),
    );
    assert_eq!(read_by_others, json!(12));
    assert_eq!(sink.remove_dead_letters(SOURCE, &[9, 12, 77]).await.unwrap(), 2);
    assert_eq!(sink.remove_dead_letters(SOURCE, &[9, 12]).await.unwrap(), 0);
    let page = sink.dead_letters(None, 10).await.unwrap();
    assert_eq!(places(&page), [place(SOURCE, 10), place(NEXT_SOURCE, 101)]);
}

#[tokio::test]
async fn a_record_without_a_run_has_no_log_and_is_passed() {
    let table = Table::new();
    let mut sink = table.sink().await;
    let parsed = runstone_record::parse::json(br#"[{"message":"a"},{"message":"b","run_id":"r"}]"#).unwrap();
    let mut mint = runstone_record::IdMint::new(1, 1);
    let frames = [runstone_sinks::Frame { first: 1, batch: parsed.builder.stamp(&mut mint, 1, None) }];
    assert_eq!(once(&mut sink, SOURCE, 0, &frames).await.unwrap(), Delivered::default());
    assert_eq!(sink.cursor(SOURCE).await.unwrap(), 2);
    let items = table.moto.boto3(
        "dynamodb",
        "result = sorted(item['run_id']['S'] for item in client.scan(TableName='dmdb_logs')['Items'])",
    );
    assert_eq!(items, json!([format!("#cursor {SOURCE}"), "r", TAKEN]));
}

/// What the function appended meanwhile stays, in its place, and what it had under a record's id is not there twice.
#[tokio::test]
async fn a_log_that_others_write_to_goes_on() {
    let table = Table::new();
    let mut sink = table.sink().await;
    let frames = frames(&table, 2, 3);
    let id = frames[0].batch.ids().get(0);
    let own = |n: u64, id: &str| json!({"type": "info", "title": "own", "id": id, "metadata": {"n": n}}).to_string();
    let run = "run_1";
    sink.append(run, &own(0, &id.to_string()), id, super::NOW).await.unwrap();
    once(&mut sink, SOURCE, 0, &frames[..1]).await.unwrap();
    assert_eq!(table.log(run).await.len(), 1, "the record of position 1 is that of the function");
    sink.append(run, &own(2, ""), super::id(2), super::NOW).await.unwrap();
    once(&mut table.sink().await, SOURCE, 3, &frames[1..]).await.unwrap();
    let positions: Vec<u64> = table.log(run).await.iter().map(|entry| entry.position).collect();
    assert_eq!(positions, [0, 2, 4]);
}

#[tokio::test]
async fn it_is_said_what_people_have_to_do() {
    let table = Table::new();
    let _sink = table.sink().await;
    table.moto.boto3(
        "dynamodb",
        "def make(name, *keys):\n\
         \x20   types = [{'AttributeName': key, 'AttributeType': 'S'} for key in keys]\n\
         \x20   kinds = [{'AttributeName': key, 'KeyType': kind} for key, kind in zip(keys, ['HASH', 'RANGE'])]\n\
         \x20   client.create_table(TableName=name, BillingMode='PAY_PER_REQUEST', AttributeDefinitions=types, KeySchema=kinds)\n\
         make('other', 'id')\n\
         make('two', 'run_id', 'stage')\n\
         result = None",
    );
    let frames = frames(&table, 1, 3);
    for (name, what) in [
        ("nowhere", "make the table, or set the name of another"),
        ("other", "make the table's key the one that is set"),
        ("two", "make the table's key the one that is set"),
    ] {
        let mut sink = table.open(Options { table: name.to_owned(), ..Options::default() }).await;
        for said in [sink.cursor(SOURCE).await.map(drop), once(&mut sink, SOURCE, 0, &frames).await.map(drop)] {
            let Err(SinkError::Misconfigured { problem, source: Some(_) }) = &said else { panic!("{name}: {said:?}") };
            assert!(problem.contains(what), "{name}: {problem}");
        }
    }
    let mut sink = table.sink().await;
    for (code, what) in [
        ("AccessDeniedException", "give it the rights to the table"),
        ("UnrecognizedClientException", "set credentials"),
        ("ExpiredTokenException", "set credentials"),
    ] {
        table.proxy.next("GetItem", &[Fault::Code(code)]);
        let said = once(&mut sink, SOURCE, 0, &frames).await;
        let Err(SinkError::Misconfigured { problem, .. }) = &said else { panic!("{code}: {said:?}") };
        assert!(problem.contains(what), "{code}: {problem}");
    }
    for fault in [Fault::Throttled, Fault::Error, Fault::Unavailable, Fault::Code("RequestLimitExceeded")] {
        table.proxy.next("GetItem", &[fault; 3]);
        let said = sink.cursor(SOURCE).await;
        assert!(matches!(said, Err(SinkError::Away { .. })), "{fault:?}: {said:?}");
    }
    once(&mut sink, SOURCE, 0, &frames).await.unwrap();
    assert_eq!(table.records().await.len(), 3);
}

#[tokio::test]
async fn without_region_or_credentials_people_have_to_help() {
    use aws_config::environment::EnvironmentVariableCredentialsProvider;
    use aws_config::{BehaviorVersion, Region};
    let bare = || aws_config::defaults(BehaviorVersion::latest()).endpoint_url("http://127.0.0.1:9");
    // The tests' environment has none.
    let none = bare().region(Region::new("us-east-1"));
    let none = none.credentials_provider(EnvironmentVariableCredentialsProvider::new()).load().await;
    let nowhere = bare().test_credentials().load().await.into_builder().region(None).build();
    for (config, what) in [(none, "set credentials"), (nowhere, "set a region")] {
        let said = Dynamo::with(&config, Options::default()).cursor(SOURCE).await;
        let Err(SinkError::Misconfigured { problem, .. }) = &said else { panic!("{what}: {said:?}") };
        assert!(problem.contains(what), "{problem}");
    }
}
