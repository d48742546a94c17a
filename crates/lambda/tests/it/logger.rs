//! What callers of the function see, and what it leaves in DynamoDB and in its own log.

use std::io::Write;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use runstone_lambda::logger::{Environment, Invocation, Logger, Secrets};
use serde_json::{Value, json};

use crate::lambda::{Function, Said};
use crate::moto::Moto;

const RUN: &str = "20250113_123456_abc123";
/// Kilobytes of memory that the function may ever have held: half of what Lambda gives it, at its least.
const PEAK_KB_MAX: u64 = 64 << 10;

fn event(title: &str) -> Value {
    json!({"run_id": RUN, "log_entry": {
        "timestamp": "2025-01-13T12:34:56.789Z", "type": "info", "title": title, "description": "d", "metadata": {"n": 1.50},
    }})
}

pub(crate) fn make_table(moto: &Moto, name: &str) {
    let script = format!(
        "key = 'run_id'\nresult = client.create_table(TableName='{name}', BillingMode='PAY_PER_REQUEST', \
         KeySchema=[{{'AttributeName': key, 'KeyType': 'HASH'}}], \
         AttributeDefinitions=[{{'AttributeName': key, 'AttributeType': 'S'}}])"
    );
    moto.boto3("dynamodb", &script);
}

fn titles(moto: &Moto, table: &str) -> Value {
    let script = format!(
        "items = client.scan(TableName='{table}')['Items']\n\
         result = [entry['M']['title']['S'] for item in items for entry in item['logs']['L']]"
    );
    moto.boto3("dynamodb", &script)
}

fn appended() -> Value {
    json!({
        "success": true, "message": "Log entry appended successfully", "run_id": RUN,
        "timestamp": "2025-01-13T12:34:56.789Z",
    })
}

#[test]
fn both_shapes_of_events_are_appended_and_answered() {
    let moto = Moto::start();
    make_table(&moto, "dmdb_logs");
    let function = Function::start(&[("RUNSTONE_DYNAMODB_ENDPOINT", moto.url())]);
    assert_eq!(function.invoke(&event("direct")), json!({"statusCode": 200, "body": appended()}));
    let gateway =
        json!({"version": "2.0", "requestContext": {"http": {"method": "POST"}}, "body": event("http").to_string()});
    let answer = function.invoke(&gateway);
    assert_eq!((&answer["statusCode"], &answer["headers"]["content-type"]), (&json!(200), &json!("application/json")));
    assert_eq!(serde_json::from_str::<Value>(answer["body"].as_str().unwrap()).unwrap(), appended());
    for (event, message) in [
        (json!({}), "Missing required field: run_id"),
        (json!([1]), "Invalid event: must be an object, got an array"),
        (json!({"run_id": RUN, "log_entry": {"type": "info"}}), "Missing required field in log_entry: title"),
    ] {
        let body = json!({"error": true, "message": message});
        assert_eq!(function.invoke(&event), json!({"statusCode": 400, "body": body}));
    }
    assert_eq!(titles(&moto, "dmdb_logs"), json!(["direct", "http"]));
    assert!(function.is_quiet(), "it logs what went wrong, and nothing did");
    let peak_kb = function.peak_kb();
    assert!(peak_kb < PEAK_KB_MAX, "{peak_kb} KB");
}

#[test]
fn an_event_that_lambda_sends_again_is_appended_once() {
    let moto = Moto::start();
    make_table(&moto, "dmdb_logs");
    let function = Function::start(&[("RUNSTONE_DYNAMODB_ENDPOINT", moto.url())]);
    for _ in 0..2 {
        let said = function.invoke_as("8476a536-e9f4-11e8-9739-2dfe598c3fcd", event("once").to_string().as_bytes());
        assert!(matches!(&said, Said::Response(answer) if answer["statusCode"] == 200), "{said:?}");
    }
    for _ in 0..2 {
        let said = function.invoke_as("no-uuid", event("twice").to_string().as_bytes());
        assert!(matches!(&said, Said::Response(answer) if answer["statusCode"] == 200), "{said:?}");
    }
    assert_eq!(titles(&moto, "dmdb_logs"), json!(["once", "twice", "twice"]));
}

/// Lambda itself takes only JSON as an event.
#[test]
fn what_only_json_allows_is_still_answered() {
    let function = Function::start(&[("RUNSTONE_DYNAMODB_ENDPOINT", "http://127.0.0.1:9")]);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for event in
        [r#"{"run_id":"r","log_entry":{"type":"info","title":"\ud800","description":""}}"#, &deep, "1e400", "null"]
    {
        match function.invoke_as("r", event.as_bytes()) {
            Said::Response(answer) => assert_eq!(answer["statusCode"], 400, "{answer}"),
            Said::Error(error) => panic!("{error}"),
        }
    }
}

#[test]
fn without_dynamodb_the_caller_is_told_and_the_entry_is_in_the_log() {
    let function = Function::start(&[("RUNSTONE_DYNAMODB_ENDPOINT", "http://127.0.0.1:9")]);
    let answer = function.invoke(&event("nowhere\n"));
    assert_eq!((&answer["statusCode"], &answer["body"]["error"]), (&json!(500), &json!(true)));
    let message = answer["body"]["message"].as_str().unwrap();
    assert!(message.starts_with("Failed to append log: append to log in DynamoDB: dmdb_logs: "), "{message}");
    let line = function.line();
    assert_eq!((&line["level"], &line["message"], &line["run_id"]), (&json!("ERROR"), &json!(message), &json!(RUN)));
    assert_eq!(line["log_entry"], event("nowhere\n")["log_entry"]);
    // A table that is not there is no reason to fail either, and one that comes is used.
    let moto = Moto::start();
    let function = Function::start(&[("RUNSTONE_DYNAMODB_ENDPOINT", moto.url())]);
    let answer = function.invoke(&event("early"));
    let message = answer["body"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("Failed to append log: ") && message.contains("ResourceNotFoundException"),
        "{message}"
    );
    make_table(&moto, "dmdb_logs");
    assert_eq!(function.invoke(&event("late"))["statusCode"], 200);
    assert_eq!(titles(&moto, "dmdb_logs"), json!(["late"]));
}

#[test]
fn the_answer_comes_before_the_functions_time_is_up() {
    // It takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let mut function = Function::start(&[("RUNSTONE_DYNAMODB_ENDPOINT", &url)]);
    function.time_limit = Duration::from_millis(1_500);
    let began = Instant::now();
    let answer = function.invoke(&event("silence"));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(answer["body"]["message"], "Failed to append log: append to log in DynamoDB: the function's time is up");
    assert_eq!(function.line()["log_entry"]["title"], "silence");
}

#[test]
fn settings_come_from_a_secret_where_the_environment_has_none() {
    let moto = Moto::start();
    make_table(&moto, "secret_logs");
    let secret = json!({"RUNSTONE_DYNAMODB_TABLE": "secret_logs", "RUNSTONE_DYNAMODB_ITEM_BYTES_MAX": 2_000});
    let script = format!("result = client.create_secret(Name='logger', SecretString='{secret}')['Name']");
    moto.boto3("secretsmanager", &script);
    let named = [("AWS_ENDPOINT_URL", moto.url()), ("RUNSTONE_LOGGER_SECRET", "logger")];
    let function = Function::start(&named);
    for number in 0..20 {
        assert_eq!(function.invoke(&event(&format!("{number:100}")))["statusCode"], 200);
    }
    assert_eq!(moto.boto3("dynamodb", "result = client.scan(TableName='secret_logs')['Count'] > 1"), json!(true));
    // The environment comes first, where it has something.
    let function = Function::start(&[named[0], named[1], ("RUNSTONE_DYNAMODB_TABLE", "")]);
    assert_eq!(function.invoke(&event("empty"))["statusCode"], 200);
    make_table(&moto, "other_logs");
    let function = Function::start(&[named[0], named[1], ("RUNSTONE_DYNAMODB_TABLE", "other_logs")]);
    assert_eq!(function.invoke(&event("other"))["statusCode"], 200);
    assert_eq!(titles(&moto, "other_logs"), json!(["other"]));
    // What cannot be read is said, each time, and what the secret has is not.
    let secret = json!({"RUNSTONE_DYNAMODB_TTL_DAYS": "hidden"});
    let script = format!("result = client.create_secret(Name='wrong', SecretString='{secret}')['Name']");
    moto.boto3("secretsmanager", &script);
    for (secret, item_bytes, reason) in [
        ("missing", "", "read secret: missing: ResourceNotFoundException"),
        (
            "wrong",
            "",
            "read setting RUNSTONE_DYNAMODB_TTL_DAYS: must be a number from 0 to 36500, the secret has another",
        ),
        ("", "7", "read setting RUNSTONE_DYNAMODB_ITEM_BYTES_MAX: must be a number from 1024 to 405504, got 7"),
    ] {
        let env = [named[0], ("RUNSTONE_LOGGER_SECRET", secret), ("RUNSTONE_DYNAMODB_ITEM_BYTES_MAX", item_bytes)];
        let function = Function::start(&env);
        let answer = function.invoke(&event("lost"));
        let message = answer["body"]["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("Failed to append log: {reason}")), "{message}");
        assert!(!message.contains("hidden"), "{message}");
    }
}

/// A log that its owner can read.
#[derive(Clone, Default)]
struct Out(Arc<Mutex<Vec<u8>>>);

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_secret_is_read_once_in_five_minutes_and_its_last_values_outlive_it() {
    const MINUTES: i64 = 5 * 60 * 1_000_000;
    let moto = Moto::start();
    ["one", "two"].iter().for_each(|table| make_table(&moto, table));
    let secret = |call: &str, table: &str| {
        let secret = json!({"RUNSTONE_DYNAMODB_TABLE": table});
        moto.boto3("secretsmanager", &format!("result = client.{call}, SecretString='{secret}')['Name']"));
    };
    secret("create_secret(Name='logger'", "one");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let shared = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .endpoint_url(moto.url());
    let secrets = Secrets::with(runtime.block_on(shared.load()));
    let environment: Environment = Box::new(|name| (name == "RUNSTONE_LOGGER_SECRET").then(|| "logger".to_owned()));
    let (time, out) = (Arc::new(AtomicI64::new(1_000_000_000_000_000)), Out::default());
    let clock = Arc::clone(&time);
    let mut logger =
        Logger::new(secrets, environment, Box::new(move || clock.load(Ordering::Relaxed)), Box::new(out.clone()));
    let invocation = Invocation { deadline_ms: u64::MAX / 2, ..Invocation::default() };
    let mut append = |title: &str| {
        let answer = runtime.block_on(logger.handle(event(title).to_string().as_bytes(), &invocation));
        assert!(answer.contains("\"statusCode\":200"), "{answer}");
    };
    append("first");
    secret("update_secret(SecretId='logger'", "two");
    time.fetch_add(MINUTES - 1, Ordering::Relaxed);
    append("still known");
    assert_eq!(titles(&moto, "one"), json!(["first", "still known"]));
    time.fetch_add(1, Ordering::Relaxed);
    append("read anew");
    assert_eq!(titles(&moto, "two"), json!(["read anew"]));
    assert_eq!(out.0.lock().unwrap().len(), 0);
    moto.boto3(
        "secretsmanager",
        "result = client.delete_secret(SecretId='logger', ForceDeleteWithoutRecovery=True)['Name']",
    );
    time.fetch_add(MINUTES, Ordering::Relaxed);
    append("with what was known");
    append("asked no more");
    assert_eq!(titles(&moto, "two"), json!(["read anew", "with what was known", "asked no more"]));
    let said = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
    assert_eq!((said.lines().count(), said.contains("read secret: logger")), (1, true), "{said}");
}

#[test]
fn an_id_that_stands_for_another_entry_is_refused() {
    let moto = Moto::start();
    make_table(&moto, "dmdb_logs");
    let function = Function::start(&[("RUNSTONE_DYNAMODB_ENDPOINT", moto.url())]);
    let event = |title: &str| {
        json!({"run_id": RUN, "log_entry": {"type": "info", "title": title, "description": "d", "metadata": {"n": 1.50},
            "id": "5f6dd2a1-0a57-4cf5-8a16-3d1d2c6f0007"}})
    };
    // It comes at another time each time, and is the same.
    for _ in 0..3 {
        assert_eq!(function.invoke(&event("once"))["statusCode"], 200);
    }
    let body = json!({"error": true, "message": "Invalid log_entry: this id stands for another payload: the first one is kept; \
        mint a new id for a new record"});
    assert_eq!(function.invoke(&event("other")), json!({"statusCode": 400, "body": body}));
    assert_eq!(titles(&moto, "dmdb_logs"), json!(["once"]));
}

#[test]
fn metrics_and_traces_are_written_on_request() {
    let moto = Moto::start();
    make_table(&moto, "dmdb_logs");
    let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
    daemon.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let address = daemon.local_addr().unwrap().to_string();
    let mut function = Function::start(&[
        ("RUNSTONE_DYNAMODB_ENDPOINT", moto.url()),
        ("RUNSTONE_LOGGER_METRICS", "true"),
        ("RUNSTONE_LOGGER_TRACING", "true"),
        ("AWS_XRAY_DAEMON_ADDRESS", &address),
    ]);
    function.trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1".to_owned();
    function.invoke(&event("measured"));
    function.invoke(&json!({}));
    for (appended, refused) in [(1, 0), (0, 1)] {
        let line = function.line();
        let metrics = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(metrics["Namespace"], "Runstone/Logger");
        assert_eq!(line["FunctionName"], "datamorph-logger");
        assert_eq!(
            (&line["Appended"], &line["Refused"], &line["Failed"]),
            (&json!(appended), &json!(refused), &json!(0))
        );
        // Each metric and each dimension that is declared is there, as the format demands.
        for metric in metrics["Metrics"].as_array().unwrap() {
            assert!(line[metric["Name"].as_str().unwrap()].is_u64(), "{line}");
        }
        assert!(line["_aws"]["Timestamp"].as_u64().unwrap() > 1_700_000_000_000);
    }
    let mut datagram = [0; 2_000];
    let length = daemon.recv(&mut datagram).unwrap();
    let text = String::from_utf8(datagram[..length].to_vec()).unwrap();
    let (header, segment) = text.split_once('\n').unwrap();
    assert_eq!(header, r#"{"format":"json","version":1}"#);
    let segment: Value = serde_json::from_str(segment).unwrap();
    assert_eq!(segment["trace_id"], "1-5759e988-bd862e3fe1be46a994272793");
    assert_eq!((&segment["fault"], &segment["aws"]["table_name"]), (&json!(false), &json!("dmdb_logs")));
    assert!(segment["end_time"].as_f64() >= segment["start_time"].as_f64());
}
