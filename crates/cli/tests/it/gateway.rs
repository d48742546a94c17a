//! The routes that callers of the Logger know: what they send is durable and comes back, and what is wrong is said in the
//! Logger's words.

use serde_json::{Value, json};

use crate::client::{Client, Then, exchange, request};
use crate::harness::{Answer, Server};

const JSON: (&str, &str) = crate::client::JSON;

fn log(server: &Server, event: &str) -> Answer {
    server.http("POST", "/log", &[JSON], event.as_bytes())
}

fn get(server: &Server, run_id: &str) -> Answer {
    server.http("GET", &format!("/get/logs/{run_id}"), &[], b"")
}

/// A failure has this body and no other.
fn message(answer: &Answer) -> String {
    let body = answer.json();
    let members = body.as_object().unwrap();
    assert_eq!((members.len(), &body["error"]), (2, &Value::Bool(true)), "{body}");
    members["message"].as_str().unwrap().to_owned()
}

#[test]
fn entries_are_appended_and_read_back_in_their_order() {
    let server = Server::start();
    let entry = |number: u64, kind: &str| {
        json!({"run_id": "20250113_123456_abc123", "log_entry": {
            "timestamp": format!("2025-01-13T12:34:5{number}.789Z"), "type": kind, "title": format!("Step {number}"),
            "description": "é \"quoted\" 🚀", "metadata": {"key1": "value1", "key2": 123, "nested": {"data": [null, true]}},
        }})
    };
    // Later ones first: the log has them in the order in which they happened.
    for (number, kind) in [(3, "success"), (1, "start"), (2, "code")] {
        let answer = log(&server, &entry(number, kind).to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
        let expected = json!({
            "success": true, "message": "Log entry appended successfully", "run_id": "20250113_123456_abc123",
            "timestamp": format!("2025-01-13T12:34:5{number}.789Z"),
        });
        assert_eq!(answer.json(), expected);
    }
    let answer = get(&server, "20250113_123456_abc123");
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut body = answer.json();
    for entry in body["logs"].as_array_mut().unwrap() {
        assert!(entry.as_object_mut().unwrap().shift_remove("id").is_some(), "{entry}");
    }
    let sent: Vec<Value> = [(1, "start"), (2, "code"), (3, "success")]
        .map(|(number, kind)| entry(number, kind)["log_entry"].clone())
        .to_vec();
    assert_eq!((&body["run_id"], &body["logs"]), (&"20250113_123456_abc123".into(), &Value::from(sent)));
    let at = |name: &str| body[name].as_str().unwrap().to_owned();
    assert!(at("created_at") <= at("updated_at") && at("created_at").len() == 24, "{body}");

    // The same records as everywhere else: a run that has succeeded.
    let run = Client::new(server.url()).get("/api/v1/runs/20250113_123456_abc123").unwrap().json();
    assert_eq!((&run["state"], &run["records"]), (&"succeeded".into(), &3.into()), "{run}");
    let server = Server::start_in(server.kill(), &[]);
    assert_eq!(get(&server, "20250113_123456_abc123").json()["logs"].as_array().unwrap().len(), 3);
}

#[test]
fn times_types_and_repetitions_are_as_the_logger_has_them() {
    let server = Server::start();
    let event =
        |fields: &str| format!(r#"{{"run_id":"any-shape.1","log_entry":{{"title":"t","description":"d",{fields}}}}}"#);
    let naive = log(&server, &event(r#""type":"info","timestamp":"2025-01-13T12:34:56""#)).json();
    assert_eq!(naive["timestamp"], "2025-01-13T12:34:56.000Z");
    let now = log(&server, &event(r#""type":"info""#)).json()["timestamp"].as_str().unwrap().to_owned();
    assert!(now.len() == 24 && now.starts_with("20") && now.ends_with('Z'), "{now}");
    let odd = log(&server, &event(r#""type":"celebration""#)).json();
    assert!(odd["success"] == true && odd["warning"].as_str().unwrap().contains("celebration"), "{odd}");
    // Sent again with its id, it is there once; another under the same id is refused.
    let id = "5f6dd2a1-0a57-4cf5-8a16-3d1d2c6f0007";
    let once = event(&format!(r#""type":"result","timestamp":"2025-01-13T12:00:00Z","id":"{id}""#));
    for _ in 0..3 {
        assert_eq!(log(&server, &once).status, 200);
    }
    let other = log(&server, &once.replace("\"d\"", "\"another\""));
    assert_eq!(other.status, 400);
    assert!(message(&other).contains("this id stands for another payload"), "{other:?}");
    let logs = get(&server, "any-shape.1").json()["logs"].as_array().unwrap().len();
    assert_eq!(logs, 4);
}

#[test]
fn every_invalid_event_is_400_in_the_loggers_words_and_stores_nothing() {
    let server = Server::start();
    let entry = |fields: &str| format!(r#"{{"run_id":"r","log_entry":{{{fields}}}}}"#);
    let whole = r#""type":"info","title":"t","description":"d""#;
    let deep = format!(r#"{whole},"metadata":{{"a":{}{}}}"#, "[".repeat(100), "]".repeat(100));
    let cases = [
        (r#"{"log_entry":{}}"#.to_owned(), "Missing required field: run_id"),
        (r#"{"run_id":"r"}"#.to_owned(), "Missing required field: log_entry"),
        (entry(r#""title":"t","description":"d""#), "Missing required field in log_entry: type"),
        (entry(r#""type":"info","description":"d""#), "Missing required field in log_entry: title"),
        (entry(r#""type":"info","title":"t""#), "Missing required field in log_entry: description"),
        ("not json".to_owned(), "Invalid event"),
        ("[1]".to_owned(), "must be an object"),
        (
            r#"{"run_id":"../../etc/passwd","log_entry":{"type":"info","title":"t","description":"d"}}"#.to_owned(),
            "run_id",
        ),
        (
            r#"{"run_id":7,"log_entry":{"type":"info","title":"t","description":"d"}}"#.to_owned(),
            "run_id must be a string",
        ),
        (r#"{"run_id":"r","log_entry":"text"}"#.to_owned(), "log_entry must be an object"),
        (entry(&format!(r#"{whole},"metadata":"text""#)), "metadata must be an object"),
        (entry(&format!(r#"{whole},"metadata":[1]"#)), "metadata must be an object"),
        (entry(&format!(r#"{whole},"timestamp":"yesterday""#)), "timestamp"),
        (entry(&format!(r#"{whole},"timestamp":"2025-02-30T00:00:00Z""#)), "timestamp"),
        (entry(&format!(r#"{whole},"row_count":-1"#)), "row_count"),
        (entry(&format!(r#"{whole},"metadata":{{"a":1e400}}"#)), "out of range"),
        (entry(&deep), "nested at most 32 deep"),
        (entry(&format!(r#"{whole},"title":"again""#)), "title"),
        (entry(r#""type":5,"title":"t","description":"d""#), "type must be a string"),
    ];
    for (event, words) in cases {
        let answer = log(&server, &event);
        assert_eq!(answer.status, 400, "{event}: {answer:?}");
        assert!(message(&answer).contains(words), "{event}: {answer:?}");
    }
    for (bytes, words) in [(&b"\xff\xfe"[..], "UTF-8"), (b"", "empty"), (b" \n ", "empty")] {
        let answer = server.http("POST", "/log", &[JSON], bytes);
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(message(&answer).contains(words), "{answer:?}");
    }
    let none = server.query("SELECT count(*) AS n FROM logs");
    assert_eq!(none[0]["n"], 0);
}

#[test]
fn what_is_no_event_at_all_is_answered_by_its_status_in_the_same_shape() {
    let server = Server::start();
    let unknown = get(&server, "nobody");
    assert_eq!(unknown.status, 404);
    assert!(message(&unknown).contains("nobody"), "{unknown:?}");
    let wrong = server.http("GET", "/get/logs/a%20b", &[], b"");
    assert_eq!(wrong.status, 400);
    assert!(message(&wrong).contains("run_id"), "{wrong:?}");
    for method in ["GET", "PUT", "DELETE"] {
        let answer = server.http(method, "/log", &[], b"");
        assert_eq!(answer.status, 405, "{answer:?}");
        message(&answer);
    }
    let xml = server.http("POST", "/log", &[("content-type", "text/xml")], b"<log/>");
    assert_eq!(xml.status, 415);
    message(&xml);
    let large = server.http("POST", "/log", &[JSON], &vec![b' '; (8 << 20) + 1]);
    assert_eq!(large.status, 413);
    message(&large);
    // Over HTTP/1.0 an answer that breaks off would look complete.
    let old = b"GET /get/logs/nobody HTTP/1.0\r\n\r\n";
    assert_eq!(exchange(server.url(), old, Then::Waits).unwrap().status, 406);
    let fine = request("GET", "/health", &[], b"");
    assert_eq!(exchange(server.url(), &fine, Then::Waits).unwrap().json()["status"], "healthy");
}

#[test]
fn a_long_log_is_one_document() {
    let server = Server::start();
    let record = |number: u64| {
        let (hour, minute, second) = (number / 3600, number / 60 % 60, number % 60);
        let at = format!("2025-01-13T{hour:02}:{minute:02}:{second:02}Z");
        format!("{{\"run_id\":\"long\",\"message\":\"line {number}\",\"timestamp\":\"{at}\"}}\n")
    };
    let lines: String = (0..5_000).map(record).collect();
    let ndjson = [("content-type", "application/x-ndjson")];
    assert_eq!(server.http("POST", "/api/v1/logs", &ndjson, lines.as_bytes()).status, 200);
    let body = get(&server, "long").json();
    let logs = body["logs"].as_array().unwrap();
    assert_eq!(logs.len(), 5_000);
    for (place, entry) in logs.iter().enumerate() {
        assert_eq!(entry["description"], format!("line {place}"));
        assert_eq!((&entry["type"], &entry["title"]), (&"log".into(), &"".into()));
    }
}
