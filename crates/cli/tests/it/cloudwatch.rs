//! CloudWatch Logs beside a running server, played by moto and read by boto3: what comes from the moment on that it is first
//! reached, each record once, also where it is away for a while and the server is killed.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Client;
use crate::fed::{caught_up, sink};
use crate::foreign;
use crate::harness::{Server, until};
use crate::kills::is_ready;
use crate::lake::Settings;
use crate::oracle;
use crate::proxy::Proxy;
use crate::storage::S3;

const GROUP: &str = "/runstone/logs";

fn fed(endpoint: &str, begin: &str) -> Settings {
    let yaml = format!(
        "cloudwatch:\n  group: {GROUP}\n  create: if_missing\n  endpoint: {endpoint}\n  retention_days: 7\n  begin: {begin}\n  \
         stream: \"{{source_system}}\"\n"
    );
    Settings::new(&yaml).among(S3::env_at(endpoint))
}

fn send(server: &Server, count: usize) {
    let records: Vec<Value> = (0..count)
        .map(|n| json!({"source_system": "shop", "message": format!("record {n}"), "level": "ERROR"}))
        .collect();
    assert_eq!(server.post(&Value::from(records).to_string()).status, 200);
}

/// The positions of the records in the group, whose events are the records as the server shows them.
fn positions(moto: &S3, server: &Server) -> Vec<u64> {
    let shown = oracle::walk(&mut Client::new(server.url()), "order=oldest");
    let events = foreign::script("read_events.py", &[moto.url(), GROUP]);
    let of = |event: &Value| {
        assert_eq!(event[0], "shop");
        let record: Value = serde_json::from_str(event[2].as_str().unwrap()).unwrap();
        let position = record["position"].as_u64().unwrap();
        assert!(shown.iter().any(|shown| Value::from(shown.clone()) == record), "{record}");
        position
    };
    let mut positions: Vec<u64> = events.as_array().unwrap().iter().map(of).collect();
    positions.sort_unstable();
    positions
}

#[test]
fn a_group_gets_what_comes_once_whatever_is_killed_or_away() {
    let moto = S3::start();
    let proxy = Proxy::before(moto.url());
    let server = Settings::new("").start(TempDir::new().unwrap());
    send(&server, 10);
    let settings = fed(proxy.url(), "now");
    let server = settings.start(server.kill());
    caught_up(&server, "cloudwatch");
    send(&server, 10);
    caught_up(&server, "cloudwatch");
    assert_eq!(positions(&moto, &server), (11..=20).collect::<Vec<_>>());
    proxy.away();
    send(&server, 10);
    until("it says so", || sink(&server, "cloudwatch").0 == "degraded");
    let server = settings.start(server.kill());
    until("it is ready", || is_ready(&server));
    send(&server, 5);
    proxy.calm();
    caught_up(&server, "cloudwatch");
    assert_eq!(positions(&moto, &server), (11..=35).collect::<Vec<_>>());
}

#[test]
fn what_comes_before_the_first_delivery_is_not_passed_over() {
    let moto = S3::start();
    let proxy = Proxy::before(moto.url());
    let settings = fed(proxy.url(), "now");
    let server = settings.start(TempDir::new().unwrap());
    caught_up(&server, "cloudwatch");
    proxy.away();
    send(&server, 10);
    let server = settings.start(server.kill());
    until("it says so", || sink(&server, "cloudwatch").0 == "degraded");
    proxy.calm();
    caught_up(&server, "cloudwatch");
    assert_eq!(positions(&moto, &server), (1..=10).collect::<Vec<_>>());
}

#[test]
fn a_group_gets_all_that_there_is_on_request() {
    let moto = S3::start();
    let server = Settings::new("").start(TempDir::new().unwrap());
    send(&server, 10);
    let server = fed(moto.url(), "oldest").start(server.kill());
    caught_up(&server, "cloudwatch");
    assert_eq!(positions(&moto, &server), (1..=10).collect::<Vec<_>>());
}
