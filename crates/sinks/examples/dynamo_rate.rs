//! The sink's rate of updates beside that of a bare loop of the same updates, as many at once, in the same table and the same run.
//!
//! `cargo run --release -p runstone-sinks --features dynamo --example dynamo_rate -- ENDPOINT [DELIVERIES] [ROUNDS]`
//!
//! The table `runstone_rate` of that endpoint (moto's, say) is made, and deleted. The bare loop sends entries that the sink has
//! stored before, so that it makes none of a record; the sink makes its own, and asks for its cursor and moves it. Every item is
//! read after each pass: both leave the same.
#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use std::collections::HashMap;
use std::error::Error;
use std::time::Instant;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Credentials;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use futures::stream::{self, StreamExt, TryStreamExt};
use runstone_record::limits::DYNAMO_APPENDS_MAX;
use runstone_record::{IdMint, parse};
use runstone_sinks::dynamo::{Dynamo, Options};
use runstone_sinks::{Delivery, Frame, Sink};

/// What a delivery holds: a hundred runs are under way. Few records of each, for moto takes milliseconds for an entry.
const RUNS: usize = 100;
const RECORDS_OF_A_RUN: usize = 4;
const BATCH: usize = RUNS * RECORDS_OF_A_RUN;
const SOURCE: &str = "0192f0c1-2d3e-7f40-8a5b-6c7d8e9fa0b1/1";
const TABLE: &str = "runstone_rate";

/// An item's attributes.
type Item = HashMap<String, AttributeValue>;

fn run_id(run: usize) -> String {
    format!("20260101_{run:06}_abcdef")
}

fn frame(place: u64) -> Result<Frame, Box<dyn Error>> {
    let first = 1 + place * u64::try_from(BATCH)?;
    let record = |number: usize| {
        let part = number % 7;
        serde_json::json!({
            "source_system": format!("system-{part}"), "stage": "load", "run_id": run_id(number % RUNS), "type": "info",
            "timestamp": format!("2026-01-01T{:02}:{:02}:{:02}Z", number / 3_600 % 24, number / 60 % 60, number % 60),
            "title": format!("table_{part}"), "message": format!("moved {number} rows in {} ms", number % 911),
            "metadata": {"table": format!("table_{part}"), "rows": number, "ratio": 0.25, "tags": ["nightly", "full"]},
        })
    };
    let records: Vec<serde_json::Value> = (0..BATCH).map(record).collect();
    let parsed = parse::json(serde_json::to_string(&records)?.as_bytes())?;
    let mut mint = IdMint::new(1_795_861_234_567 + place, u128::from(first) << 40);
    Ok(Frame { first, batch: parsed.builder.stamp(&mut mint, 1_795_861_234_567_890, None) })
}

async fn through_the_sink(sink: &mut Dynamo, frames: &[Frame]) -> Result<f64, Box<dyn Error>> {
    let start = Instant::now();
    for frame in frames {
        let (after, through) = (frame.first - 1, frame.first + frame.batch.len() as u64 - 1);
        let delivered =
            sink.deliver(Delivery { source: SOURCE, after, frames: std::slice::from_ref(frame), through }).await?;
        if !delivered.dead_letters.is_empty() {
            return Err(format!("{} dead letters", delivered.dead_letters.len()).into());
        }
    }
    Ok(start.elapsed().as_secs_f64())
}

/// What the sink sends, to be sent by somebody else.
struct Update {
    run_id: String,
    values: Item,
}

const UPDATE: &str = "SET #logs = list_append(if_not_exists(#logs, :none), :new), #created = if_not_exists(#created, :first), \
                      #updated = :last, #position = :through ADD #bytes :bytes";
const CONDITION: &str = "attribute_not_exists(#continued) AND (attribute_not_exists(#bytes) OR #bytes <= :room) \
                         AND (attribute_not_exists(#logs) OR #position <= :after)";

fn number(number: usize) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// The updates that left these items, in pieces of a delivery each.
fn updates(items: &[Item], deliveries: usize) -> Result<Vec<Update>, Box<dyn Error>> {
    let mut updates = Vec::new();
    for delivery in 0..deliveries {
        for (run, item) in items.iter().enumerate() {
            let of = |name: &str| item.get(name).cloned().ok_or_else(|| format!("an item has no {name}"));
            let logs = of("logs")?.as_l().map_err(|_| "the logs are no list")?.clone();
            let bytes: usize = of("log_bytes")?.as_n().map_err(|_| "the bytes are no number")?.parse()?;
            let new = logs.chunks(RECORDS_OF_A_RUN).nth(delivery).ok_or("an item lacks entries")?.to_vec();
            // Where an update of a run begins and ends: its first and its last record lie in every batch at the same place.
            let after = delivery * BATCH;
            let through = after + BATCH - RUNS + run + 1;
            let bytes = bytes / deliveries;
            let values = [
                (":none", AttributeValue::L(Vec::new())),
                (":new", AttributeValue::L(new)),
                (":first", of("created_at")?),
                (":last", of("updated_at")?),
                (":bytes", number(bytes)),
                (":room", number(Options::default().item_bytes_max - bytes)),
                (":after", number(after)),
                (":through", number(through)),
            ];
            let values = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            updates.push(Update { run_id: run_id(run), values });
        }
    }
    Ok(updates)
}

fn names() -> HashMap<String, String> {
    let position = format!("position {SOURCE}");
    let names = [
        ("#logs", "logs"),
        ("#created", "created_at"),
        ("#updated", "updated_at"),
        ("#bytes", "log_bytes"),
        ("#continued", "continued"),
        ("#position", &position),
    ];
    names.into_iter().map(|(short, name)| (short.to_owned(), name.to_owned())).collect()
}

async fn send(client: &Client, update: &Update) -> Result<(), String> {
    let sent = client
        .update_item()
        .table_name(TABLE)
        .key("run_id", AttributeValue::S(update.run_id.clone()))
        .update_expression(UPDATE)
        .condition_expression(CONDITION)
        .set_expression_attribute_names(Some(names()))
        .set_expression_attribute_values(Some(update.values.clone()))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .send();
    match sent.await.map_err(SdkError::into_service_error) {
        // The client sent it again, and what was sent before had been done.
        Ok(_) | Err(UpdateItemError::ConditionalCheckFailedException(_)) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

async fn bare(client: &Client, updates: &[Update]) -> Result<f64, Box<dyn Error>> {
    let start = Instant::now();
    let sent = stream::iter(updates).map(|update| send(client, update));
    sent.buffer_unordered(DYNAMO_APPENDS_MAX).try_collect::<Vec<_>>().await?;
    Ok(start.elapsed().as_secs_f64())
}

/// The items of all runs.
async fn read(client: &Client) -> Result<Vec<Item>, Box<dyn Error>> {
    let mut items = Vec::new();
    for run in 0..RUNS {
        let key = AttributeValue::S(run_id(run));
        let found = client.get_item().table_name(TABLE).key("run_id", key).consistent_read(true).send().await?;
        items.push(found.item.ok_or_else(|| format!("there is no log of {}", run_id(run)))?);
    }
    Ok(items)
}

/// An empty table, which the sink knows.
async fn empty(client: &Client, sink: &mut Dynamo) -> Result<(), Box<dyn Error>> {
    client.delete_table().table_name(TABLE).send().await?;
    sink.create_table().await?;
    sink.cursor(SOURCE).await?;
    Ok(())
}

/// Both must leave the same entries.
fn compare(expected: &[Item], found: &[Item]) -> Result<(), Box<dyn Error>> {
    let differing = expected.iter().zip(found).filter(|(expected, found)| expected.get("logs") != found.get("logs"));
    match differing.count() {
        0 => Ok(()),
        count => Err(format!("{count} of {RUNS} logs differ").into()),
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let endpoint = arguments.next().ok_or("say the URL of DynamoDB")?;
    let deliveries: u32 = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let rounds: u32 = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let shared = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "measuring"))
        .endpoint_url(endpoint)
        .load()
        .await;
    let client = Client::new(&shared);
    let mut sink = Dynamo::with(&shared, Options { table: TABLE.to_owned(), ..Options::default() });
    sink.create_table().await?;
    empty(&client, &mut sink).await?;
    let frames = (0..u64::from(deliveries)).map(frame).collect::<Result<Vec<_>, _>>()?;
    through_the_sink(&mut sink, &frames).await?;
    let items = read(&client).await?;
    let sent = updates(&items, frames.len())?;
    let count = f64::from(u32::try_from(sent.len())?);
    let (mut of_bare, mut of_sink, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        // Who comes first changes, so that a machine that gets slower or faster favours neither.
        let mut rates = [0.0; 2];
        for turn in 0..2 {
            empty(&client, &mut sink).await?;
            let is_sink = (round + turn) % 2 == 1;
            let seconds =
                if is_sink { through_the_sink(&mut sink, &frames).await } else { bare(&client, &sent).await }?;
            rates[usize::from(is_sink)] = count / seconds;
            compare(&items, &read(&client).await?)?;
        }
        let [bare_rate, sink_rate] = rates;
        println!("round {}: the bare loop {bare_rate:.0} updates/s, the sink {sink_rate:.0} updates/s", round + 1);
        of_bare.push(bare_rate);
        of_sink.push(sink_rate);
        ratios.push(sink_rate / bare_rate);
    }
    client.delete_table().table_name(TABLE).send().await?;
    let (plain, sink, ratio) = (median(&mut of_bare), median(&mut of_sink), median(&mut ratios));
    println!("{}", serde_json::json!({"plain": plain, "sink": sink, "ratio": ratio}));
    Ok(())
}
