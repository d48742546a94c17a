//! docs/cloudwatch.md, held to what the sink does.

use runstone_record::limits;
use runstone_sinks::DeadLetters;
use runstone_sinks::cloudwatch::Options;
use runstone_sinks::contract::{SOURCE, frame, once};
use serde_json::{Value, json};

use super::{CLOCK_US, GROUP, Logs, options};

fn page() -> String {
    std::fs::read_to_string("../../docs/cloudwatch.md").unwrap()
}

/// Neither less than it needs nor more.
#[tokio::test]
async fn the_policy_has_what_the_sink_asks_for() {
    let page = page();
    let policy = page.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let policy: Value = serde_json::from_str(policy).unwrap();
    let statement = &policy["Statement"][0];
    let allowed: Vec<&str> =
        statement["Action"].as_array().unwrap().iter().map(|action| action.as_str().unwrap()).collect();
    let groups = [GROUP.to_owned(), format!("{GROUP}/state")];
    assert_eq!(
        statement["Resource"],
        json!(groups.map(|group| format!("arn:aws:logs:REGION:ACCOUNT:log-group:{group}:*")))
    );

    let logs = Logs::new().ready().await;
    let mut sink = logs.open(options()).await;
    once(&mut sink, SOURCE, 0, &[frame(&logs, 1, 5, &[2])]).await.unwrap();
    assert_eq!(sink.dead_letters(None, 10).await.unwrap().len(), 1);
    sink.remove_dead_letters(SOURCE, &[2]).await.unwrap();
    let asked: Vec<String> = logs.proxy.operations().iter().map(|operation| format!("logs:{operation}")).collect();
    assert_eq!(asked, allowed);

    let new = Logs::new();
    new.open(Options { retention_days: Some(1), ..options() }).await.create_groups().await.unwrap();
    let needed: Vec<String> = new.proxy.operations().iter().map(|operation| format!("`logs:{operation}`")).collect();
    assert!(page.contains(&format!("Whoever makes the groups needs {}, too.", needed.join(" and "))), "{needed:?}");
}

#[tokio::test]
async fn lines_are_those_of_the_page() {
    let page = page();
    let logs = Logs::new().ready().await;
    once(&mut logs.open(options()).await, SOURCE, 0, &[frame(&logs, 1, 5, &[2])]).await.unwrap();
    let events = logs.events(&format!("{GROUP}/state")).await;
    let streams: Vec<&str> = events.iter().map(|(stream, _, _)| stream.as_str()).collect();
    assert_eq!(streams, [format!("cursor/{SOURCE}"), format!("letters/{SOURCE}")]);
    let mut cursor: Value = serde_json::from_str(&events[0].2).unwrap();
    assert_eq!(cursor["began"], json!(CLOCK_US));
    for (member, shown) in
        [("journal", json!("…")), ("position", json!(42)), ("began", json!(1_736_771_696_789_000_i64))]
    {
        cursor[member] = shown;
    }
    assert!(page.contains(&format!("`{cursor}`")), "{cursor}");
    let letter: Value = serde_json::from_str(&events[1].2).unwrap();
    let shown = letter
        .as_object()
        .unwrap()
        .keys()
        .map(|name| if name == "record" { format!("\"{name}\":{{…}}") } else { format!("\"{name}\":…") });
    let shown = format!("`{{{}}}`", shown.collect::<Vec<_>>().join(","));
    assert!(page.contains(&shown), "{shown}");
}

#[test]
fn the_page_names_settings_and_limits_that_hold() {
    let page = page();
    let defaults = Options::default();
    let thousands = |number: u64| {
        let digits = number.to_string();
        let parts: Vec<&str> =
            digits.as_bytes().rchunks(3).rev().map(|part| std::str::from_utf8(part).unwrap()).collect();
        parts.join(",")
    };
    for setting in [
        format!("RUNSTONE_CLOUDWATCH_GROUP={}", defaults.group),
        format!("| `cloudwatch.stream` | `{}` |", defaults.stream),
        format!("An event has at most {} bytes", thousands(defaults.event_bytes_max as u64)),
        format!("not there after {} s", defaults.settle_ms / 1_000),
        format!("| bytes of a call: messages and {} bytes", limits::CLOUDWATCH_EVENT_OVERHEAD_BYTES),
        format!("each event | {} |", thousands(limits::CLOUDWATCH_BATCH_BYTES_MAX as u64)),
        format!("| events of a call | {} |", thousands(limits::CLOUDWATCH_BATCH_EVENTS_MAX as u64)),
        format!("| less than {} hours |", limits::CLOUDWATCH_BATCH_SPAN_MS / 3_600_000),
        format!("| streams that are appended to at once | {} |", limits::CLOUDWATCH_STREAMS_MAX),
        format!("| bytes of a stream's name | {} |", limits::CLOUDWATCH_STREAM_BYTES_MAX),
        format!("Fields of up to {} bytes", limits::CLOUDWATCH_SHORT_BYTES_MAX),
        format!("The highest of the last {} lines", limits::CLOUDWATCH_CURSORS_READ),
        format!("random length, {} s at most", limits::CLOUDWATCH_BACKOFF_MS.1 / 1_000),
        format!("a connection {} s", limits::CLOUDWATCH_CONNECT_TIMEOUT_MS / 1_000),
        format!("an attempt {} s", limits::CLOUDWATCH_ATTEMPT_TIMEOUT_MS / 1_000),
        format!("attempts {} s", limits::CLOUDWATCH_REQUEST_TIMEOUT_MS / 1_000),
    ] {
        assert!(page.contains(&setting), "{setting}");
    }
}
