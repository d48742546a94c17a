//! The log groups and events in moto's CloudWatch Logs, made to judge as AWS documents it, read back by boto3.

mod faults;
mod guide;
mod sink;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::config::Credentials;
use runstone_record::{IdMint, parse};
use runstone_sinks::cloudwatch::{Cloudwatch, Options};
use runstone_sinks::contract::{Stored, Target};
use runstone_sinks::{DeadLetters as _, Frame, Sink as _, SinkError};
use serde_json::{Value, json};

use crate::dynamo::moto::Moto;
use crate::dynamo::proxy::{Fault, Proxy};

/// When everything happens: a second after the records of the contract's checks were taken.
pub(crate) const NOW_US: i64 = 1_795_861_235_567_890;
pub(crate) const NOW_MS: i64 = NOW_US / 1_000;
/// What the sinks' clock shows: the records are younger than their sources are here, as they are on most days.
pub(crate) const CLOCK_US: i64 = NOW_US - 3_600_000_000;
/// A run of which CloudWatch refuses the events.
pub(crate) const REFUSED: &str = "refused";
pub(crate) const GROUP: &str = "/runstone/logs";

/// A service of its own, and what stands before it.
pub(crate) struct Logs {
    pub(crate) moto: Moto,
    pub(crate) proxy: Proxy,
    /// What the sinks' clock shows.
    pub(crate) clock: Arc<AtomicI64>,
}

async fn shared(url: &str) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .endpoint_url(url)
        .load()
        .await
}

pub(crate) fn options() -> Options {
    Options { stream: "{source_system}/{run_id}/{date}".parse().unwrap(), settle_ms: 0, ..Options::default() }
}

impl Logs {
    pub(crate) fn new() -> Self {
        Self::with(&json!({}))
    }

    /// With settings of `strict.py`.
    pub(crate) fn with(settings: &Value) -> Self {
        let mut told = json!({"now_ms": NOW_MS, "refused": format!(r#""run_id":"{REFUSED}""#)});
        told.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/cloudwatch/strict.py");
        let moto = Moto::launch(&[program], &[&told.to_string()]);
        let proxy = Proxy::before(moto.url());
        Self { moto, proxy, clock: Arc::new(AtomicI64::new(CLOCK_US)) }
    }

    /// A sink that knows nothing, after all that others have sent was done.
    pub(crate) async fn open(&self, options: Options) -> Cloudwatch {
        self.proxy.wait_until_quiet();
        let clock = Arc::clone(&self.clock);
        Cloudwatch::with(&shared(self.proxy.url()).await, options, Arc::new(move || clock.load(Ordering::SeqCst)))
    }

    /// With groups.
    pub(crate) async fn ready(self) -> Self {
        let clock = Arc::new(|| CLOCK_US);
        let sink = Cloudwatch::with(&shared(self.moto.url()).await, Options::default(), clock);
        assert!(sink.create_groups().await.unwrap());
        self
    }

    /// All events of a group: its stream, its time, its message.
    pub(crate) async fn events(&self, group: &str) -> Vec<(String, i64, String)> {
        let client = Client::new(&shared(self.moto.url()).await);
        let streams = client.describe_log_streams().log_group_name(group).send().await.unwrap().log_streams.unwrap();
        let mut events = Vec::new();
        for stream in streams.into_iter().filter_map(|stream| stream.log_stream_name) {
            let mut token = None;
            loop {
                let request = client.get_log_events().log_group_name(group).log_stream_name(&stream);
                let page = request.start_from_head(true).set_next_token(token.clone()).send().await.unwrap();
                for event in page.events() {
                    let message = event.message().unwrap().to_owned();
                    events.push((stream.clone(), event.timestamp().unwrap(), message));
                }
                if page.next_forward_token == token {
                    break;
                }
                token = page.next_forward_token;
            }
        }
        events
    }

    /// The positions of all records, in the order of streams and times.
    pub(crate) async fn positions(&self) -> Vec<u64> {
        self.events(GROUP).await.iter().map(|(_, _, message)| stored(message).position).collect()
    }
}

pub(crate) fn stored(message: &str) -> Stored {
    let record: Value = serde_json::from_str(message).unwrap();
    let text = |name: &str| record[name].as_str().unwrap().to_owned();
    Stored { journal: text("journal"), position: record["position"].as_u64().unwrap(), json: message.to_owned() }
}

pub(crate) fn time(micros: i64) -> String {
    runstone_record::time::format_micros(micros)
}

/// A frame of records given as JSON, taken at a time.
pub(crate) fn taken(first: u64, records: &Value, at: i64) -> Frame {
    let parsed = parse::json(records.to_string().as_bytes()).unwrap();
    assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
    let mut mint = IdMint::new(u64::try_from(at / 1_000).unwrap(), u128::from(first) << 40);
    Frame { first, batch: parsed.builder.stamp(&mut mint, at, None) }
}

#[async_trait]
impl Target for Logs {
    type Sink = Cloudwatch;

    const KNOWS_IDS: bool = true;

    async fn sink(&self) -> Cloudwatch {
        self.open(options()).await
    }

    async fn records(&self) -> Vec<Stored> {
        let events = self.events(GROUP).await;
        let by_stream = |events: &[(String, i64, String)]| {
            events
                .iter()
                .map(|(stream, at, message)| (stream.clone(), *at, stored(message).position))
                .collect::<Vec<_>>()
        };
        // As people see it: in the order of times, and of the journal.
        let sorted: BTreeSet<_> = by_stream(&events).into_iter().collect();
        assert_eq!(by_stream(&events), sorted.into_iter().collect::<Vec<_>>());
        events.iter().map(|(_, _, message)| stored(message)).collect()
    }

    async fn letters(&self) -> Vec<u64> {
        let letters = self.open(options()).await.dead_letters(None, 1_000).await.unwrap();
        letters.iter().map(|letter| letter.position).collect()
    }

    fn poison(&self, row: &mut runstone_record::build::BatchBuilder) {
        row.set_text(runstone_record::Column::RunId, REFUSED);
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

#[tokio::test]
async fn the_groups_are_made_once_and_only_events_expire() {
    let logs = Logs::new();
    let sink = logs.open(Options { retention_days: Some(30), ..Options::default() }).await;
    assert!(sink.create_groups().await.unwrap());
    assert!(!sink.create_groups().await.unwrap());
    assert!(!logs.open(Options::default()).await.create_groups().await.unwrap());
    let made = logs.moto.boto3(
        "logs",
        "result = [[group['logGroupName'], group.get('retentionInDays')] for group in client.describe_log_groups()['logGroups']]",
    );
    assert_eq!(made, json!([["/runstone/logs", 30], ["/runstone/logs/state", null]]));
    assert_eq!(sink.state_group(), "/runstone/logs/state");
}

/// What somebody else set on a group is theirs, and what was not set is, too.
#[tokio::test]
async fn retention_is_set_on_a_group_that_was_made_here_and_on_no_other() {
    let logs = Logs::new();
    let script = "client.create_log_group(logGroupName='theirs')\n\
                  client.put_retention_policy(logGroupName='theirs', retentionInDays=365)\n\
                  client.create_log_group(logGroupName='for-ever')\n\
                  result = None";
    logs.moto.boto3("logs", script);
    let with =
        |group: &str, days| Options { group: group.to_owned(), retention_days: Some(days), ..Options::default() };
    for group in ["theirs", "for-ever"] {
        assert!(logs.open(with(group, 1)).await.create_groups().await.unwrap());
    }
    // It is told later where that failed at first, by whoever made it.
    let sink = logs.open(with("made", 30)).await;
    logs.proxy.next("PutRetentionPolicy", &[Fault::Error; 3]);
    sink.create_groups().await.unwrap_err();
    for _ in 0..2 {
        sink.create_groups().await.unwrap();
    }
    assert_eq!(logs.proxy.asked("PutRetentionPolicy"), 4);
    // Nothing is made with days that CloudWatch does not know.
    let mut wrong = logs.open(Options { create: true, ..with("wrong", 31) }).await;
    let said = wrong.cursor("j/1").await;
    let Err(SinkError::Misconfigured { problem, .. }) = &said else { panic!("{said:?}") };
    assert!(problem.ends_with("set days of retention that it takes"), "{problem}");
    let script = "groups = client.describe_log_groups()['logGroups']\n\
                  result = {group['logGroupName']: group.get('retentionInDays') for group in groups}";
    assert_eq!(
        logs.moto.boto3("logs", script),
        json!({"theirs": 365, "theirs/state": null, "for-ever": null, "for-ever/state": null, "made": 30, "made/state": null})
    );
}

#[tokio::test]
async fn people_find_a_system_and_its_day_and_filter_by_run() {
    let logs = Logs::new().ready().await;
    let mut sink = logs.open(Options { settle_ms: 0, ..Options::default() }).await;
    let at = |seconds: i64| NOW_US + seconds * 1_000_000;
    let record = |n: u64, system: &str, seconds: i64| json!({"message": format!("m{n}"), "source_system": system, "run_id": format!("r{n}"), "timestamp": time(at(seconds))});
    let frames = [
        taken(1, &json!([record(1, "crm", 0), record(2, "crm", -3_600), record(3, "erp:eu", -7_200)]), NOW_US),
        taken(4, &json!([{"message": "m4", "timestamp": time(at(-60))}, record(5, "crm", 60)]), at(86_400)),
    ];
    let delivery = runstone_sinks::Delivery { source: "j/1", after: 0, frames: &frames, through: 5 };
    assert_eq!(sink.deliver(delivery).await.unwrap(), runstone_sinks::Delivered::default());
    let script = "streams = [stream['logStreamName'] for stream in client.describe_log_streams(logGroupName='/runstone/logs')['logStreams']]\n\
         found = client.filter_log_events(logGroupName='/runstone/logs', filterPattern='\"r2\"')['events']\n\
         result = [streams, [[event['logStreamName'], event['timestamp'], json.loads(event['message'])['message']] for event in found]]";
    let (day, next) = ("2026-11-28", "2026-11-29");
    assert_eq!(
        logs.moto.boto3("logs", script),
        json!([
            [format!("-/{next}"), format!("crm/{day}"), format!("crm/{next}"), format!("erp=eu/{day}")],
            [[format!("crm/{day}"), NOW_MS - 3_600_000, "m2"]],
        ])
    );
    assert_eq!(logs.positions().await, [4, 2, 1, 5, 3]);
}

#[tokio::test]
async fn a_record_that_is_too_large_is_cut() {
    let logs = Logs::new().ready().await;
    let mut sink = logs.open(Options { event_bytes_max: 0, ..options() }).await;
    let frames = [taken(1, &json!([{"message": "long ".repeat(9_000), "run_id": "r"}, {"message": "short"}]), NOW_US)];
    let delivery = runstone_sinks::Delivery { source: "j/1", after: 0, frames: &frames, through: 2 };
    assert_eq!(sink.deliver(delivery).await.unwrap(), runstone_sinks::Delivered::default());
    let events = logs.events(GROUP).await;
    let cut = events.iter().find(|(_, _, message)| stored(message).position == 1).unwrap();
    assert!((16_000..=16 << 10).contains(&cut.2.len()), "{}", cut.2.len());
    let cut: Value = serde_json::from_str(&cut.2).unwrap();
    assert_eq!(cut["cut"], json!({"message": 45_002}));
    assert_eq!(cut["run_id"], json!("r"));
}
