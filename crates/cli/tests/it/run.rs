//! `runstone run` against a server.

use serde_json::json;

use crate::harness::{Server, stderr, stdout};

#[test]
fn a_command_becomes_a_run() {
    let server = Server::start();
    let script = "echo INFO starting; echo 2001-01-01T00:00:00Z late; echo WARNING: hm >&2; exit 3";
    let args = ["run", "--source-system", "ci", "--stage", "test", "--run-id", "r1", "--", "sh", "-c", script];
    let output = server.cli(&args);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert_eq!(stdout(&output), "INFO starting\n2001-01-01T00:00:00Z late\n");

    let types = server.query("SELECT type, count(*) AS n FROM logs WHERE run_id = 'r1' GROUP BY type ORDER BY type");
    assert_eq!(
        types,
        [
            json!({"type": "end", "n": 1}),
            json!({"type": "error", "n": 1}),
            json!({"type": "log", "n": 3}),
            json!({"type": "result", "n": 1}),
            json!({"type": "start", "n": 1}),
        ]
    );
    let run: serde_json::Value = serde_json::from_str(&stdout(&server.cli(&["runs", "r1", "--json"]))).unwrap();
    assert_eq!((&run["state"], &run["source_system"], &run["stage"]), (&json!("failed"), &json!("ci"), &json!("test")));
    let messages = server.query("SELECT message FROM logs WHERE type = 'log' ORDER BY message");
    assert_eq!(messages, [json!({"message": "hm"}), json!({"message": "late"}), json!({"message": "starting"})]);
    let late = server.query("SELECT timestamp > '2020-01-01' AS now, metadata FROM logs WHERE message = 'late'");
    assert_eq!(late[0]["now"], true);
    assert!(late[0]["metadata"].to_string().contains("2001-01-01T00:00:00.000000Z"), "{late:?}");
}

#[test]
fn a_success_is_one() {
    let server = Server::start();
    let output = server.cli(&["run", "--source-system", "ci", "--title", "nothing", "--", "true"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let runs: serde_json::Value = serde_json::from_str(&stdout(&server.cli(&["runs", "--json"]))).unwrap();
    assert_eq!((&runs["state"], &runs["title"]), (&json!("succeeded"), &json!("nothing")));
}
