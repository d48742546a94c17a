//! `runstone send` against a server.

use std::io::Write;
use std::process::Stdio;

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Server, runstone, stderr, stdout, until, write};

/// One line of each kind, in the shape that the systems print.
const LINES: &str = "\
17/06/09 20:10:40 INFO executor.Executor: Running task 1.0 in stage 0.0 (TID 1)\r
no form at all\r
2015-10-18 18:01:47,978 ERROR [main] org.apache.hadoop.App: boom\r
\tat org.apache.hadoop.App.main(App.java:1)\r
\r
";

#[test]
fn log_lines_are_found_again_with_what_they_carry() {
    let server = Server::start();
    let dir = TempDir::new().unwrap();
    let file = write(dir.path(), "app.log", LINES);
    let output = server.cli(&["send", "--source-system", "hadoop", "--run-id", "r1", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("sent 4 records (4 accepted, 0 rejected) in "), "{}", stderr(&output));
    assert!(output.stdout.is_empty());
    let rows = server.query(
        "SELECT level, logger_name, thread_name, type, source_system, message FROM logs WHERE run_id = 'r1' ORDER BY position",
    );
    let row = |level: &str, logger: Option<&str>, thread: Option<&str>, message: &str| {
        json!({"level": level, "logger_name": logger, "thread_name": thread, "type": "log", "source_system": "hadoop",
            "message": message})
    };
    assert_eq!(
        rows,
        [
            row("INFO", Some("executor.Executor"), None, "Running task 1.0 in stage 0.0 (TID 1)"),
            row("INFO", None, None, "no form at all"),
            row("ERROR", Some("org.apache.hadoop.App"), Some("main"), "boom"),
            row("ERROR", None, None, "\tat org.apache.hadoop.App.main(App.java:1)"),
        ]
    );
    let times = server.query("SELECT count(DISTINCT timestamp) AS times, min(timestamp) AS first FROM logs");
    assert_eq!(times[0]["times"], 2);
    assert!(times[0]["first"].as_str().unwrap().starts_with("2015-10-18T18:01:47.978"), "{times:?}");
}

#[test]
fn objects_get_what_they_lack_and_refusals_name_their_line() {
    let server = Server::start();
    let body = "{\"message\":\"a\",\"run_id\":\"own\"}\n{\"run_id\":\"../x\",\"message\":\"b\"}\n\nnot json\n{\"message\":\"c\"}\n";
    let args = ["send", "--format", "ndjson", "--run-id", "given", "--stage", "load", "-"];
    let output = server.cli_with_stdin(&args, body.as_bytes());
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.lines().any(|line| line.starts_with("stdin:2: ") && line.contains("run_id")), "{said}");
    assert!(said.lines().any(|line| line.starts_with("stdin:4: ")), "{said}");
    assert!(said.contains("sent 4 records (2 accepted, 2 rejected) in "), "{said}");
    let rows = server.query("SELECT run_id, stage, message FROM logs ORDER BY position");
    assert_eq!(
        rows,
        [
            json!({"run_id": "own", "stage": "load", "message": "a"}),
            json!({"run_id": "given", "stage": "load", "message": "c"})
        ]
    );
}

#[test]
fn a_made_up_run_id_is_told_if_it_is_used() {
    let server = Server::start();
    let used = server.cli_with_stdin(&["send", "--source-system", "s"], b"hello\n");
    let said = stderr(&used);
    let run_id =
        said.lines().find_map(|line| line.strip_prefix("run id ")).unwrap_or_else(|| panic!("{said}")).to_owned();
    assert_eq!(run_id.len(), "20260101_030000_a1b2c3".len());
    assert_eq!(server.query("SELECT run_id FROM logs")[0]["run_id"], run_id);
    let unused = server.cli_with_stdin(&["send"], b"{\"run_id\":\"own\",\"message\":\"x\"}\n");
    assert!(!stderr(&unused).contains("run id"), "{}", stderr(&unused));
}

#[test]
fn output_is_plain_in_a_pipe_and_a_closed_pipe_is_no_error() {
    let server = Server::start();
    server.cli_with_stdin(&["send", "--run-id", "r", "--source-system", "s"], b"one\ttab\n\x1b[31mred\n");
    let logs = server.cli(&["logs", "--order", "oldest"]);
    let lines: Vec<_> = stdout(&logs).lines().map(|line| line.rsplit('\t').next().unwrap().to_owned()).collect();
    assert_eq!(lines, ["one\\ttab", "\\u{1b}[31mred"]);
    assert_eq!(stdout(&server.cli(&["query", "SELECT count(*) FROM logs"])), "2\n");
    assert!(stdout(&server.cli(&["runs"])).starts_with("r\t"));
    assert!(stdout(&server.cli(&["runs", "r"])).contains("run_id\tr\n"));

    let mut child = runstone()
        .args(["--url", server.url(), "query", "--json", "SELECT * FROM generate_series(1, 9000)"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    // Refused or cut off, it is not a crash.
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
}

#[test]
fn a_followed_file_arrives_while_it_grows_and_ctrl_c_ends_well() {
    let server = Server::start();
    let dir = TempDir::new().unwrap();
    let path = write(dir.path(), "app.log", "INFO one\n");
    let child = runstone()
        .args(["--url", server.url(), "send", "--follow", "--run-id", "f"])
        .arg(&path)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let arrived =
        |count: u64| until("the records arrive", || server.query("SELECT count(*) AS n FROM logs")[0]["n"] == count);
    arrived(1);
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"INFO two\nhalf").unwrap();
    arrived(2);
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    arrived(3);
}
