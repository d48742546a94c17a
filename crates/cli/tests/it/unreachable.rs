//! Without a server.

use std::net::TcpListener;

use crate::harness::{runstone, stderr, stdout, with_stdin};

/// An address at which nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn a_missing_server_is_exit_code_3_and_says_what_to_do() {
    let url = nobody();
    for args in [&["send", "-"][..], &["query", "SELECT 1"], &["logs"], &["runs"], &["runs", "r1"]] {
        let output = with_stdin(runstone().args(["--url", &url]).args(args), b"hello\n");
        assert_eq!(output.status.code(), Some(3), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("start it with `runstone serve`"), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("refused"), "{args:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn a_command_runs_and_ends_as_it_would_without_its_log() {
    let url = nobody();
    let script = "echo out; echo err >&2; read line; echo got $line; exit 7";
    let args = ["run", "--source-system", "test", "--wait", "0", "--", "sh", "-c", script];
    let output = with_stdin(runstone().args(["--url", &url]).args(args), b"input\n");
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
    assert_eq!(stdout(&output), "out\ngot input\n");
    assert!(stderr(&output).lines().any(|line| line == "err"), "{}", stderr(&output));
    assert!(stderr(&output).contains("the log of this run is not complete"), "{}", stderr(&output));
}

#[test]
fn a_command_that_does_not_exist_or_is_killed_ends_as_in_a_shell() {
    let url = nobody();
    let code = |command: &[&str]| {
        let args = ["--url", &url, "run", "--source-system", "test", "--wait", "0", "--"];
        runstone().args(args).args(command).output().unwrap().status.code()
    };
    assert_eq!(code(&["no-such-command-anywhere"]), Some(127));
    assert_eq!(code(&["/"]), Some(126));
    assert_eq!(code(&["sh", "-c", "kill -9 $$"]), Some(137));
    assert_eq!(code(&["true"]), Some(0));
}
