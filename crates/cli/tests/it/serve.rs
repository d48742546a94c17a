//! `runstone serve` as a process: starting, stopping, dying, and `verify` on what it leaves.

use serde_json::json;

use crate::harness::{Server, runstone, stderr, stdout};

const RECORD: &str = r#"{"run_id":"r1","message":"kept"}"#;

fn kept(server: &Server) -> bool {
    server.query("SELECT message FROM logs WHERE run_id = 'r1'") == [json!({"message": "kept"})]
}

#[test]
fn what_was_acknowledged_outlives_a_kill() {
    let server = Server::start();
    assert_eq!(server.post(RECORD).status, 200);
    let dir = server.kill();
    assert!(kept(&Server::start_in(dir, &[])));
}

#[test]
fn a_stop_is_graceful_and_keeps_everything() {
    let server = Server::start();
    assert_eq!(server.post(RECORD).status, 200);
    let (code, dir) = server.terminate();
    assert_eq!(code, Some(0));
    assert!(kept(&Server::start_in(dir, &[])));
}

#[test]
fn a_second_server_on_one_directory_ends_with_2_and_names_the_first() {
    let server = Server::start();
    let second = runstone().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(server.data()).output().unwrap();
    assert_eq!(second.status.code(), Some(2), "{}", stderr(&second));
    assert!(stderr(&second).contains(&server.pid().to_string()), "{}", stderr(&second));
    assert_eq!(server.http("GET", "/health", &[], b"").status, 200);
}

#[test]
fn some_good_records_are_207_with_an_error_for_each_other() {
    let server = Server::start();
    let answer = server.post(r#"[{"message":"a"},{"run_id":"a/b","message":"b"}]"#);
    assert_eq!(answer.status, 207, "{answer:?}");
    assert!(answer.headers.to_ascii_lowercase().contains("content-type: application/json"), "{answer:?}");
    let body = answer.json();
    assert_eq!((&body["accepted"], &body["rejected"]), (&json!(1), &json!(1)));
    assert_eq!((&body["errors"][0]["index"], &body["errors"][0]["field"]), (&json!(1), &json!("run_id")));
}

#[test]
fn verify_counts_what_is_there_and_finds_a_flipped_bit() {
    let server = Server::start();
    for _ in 0..3 {
        assert_eq!(server.post(RECORD).status, 200);
    }
    let (_, dir) = server.terminate();
    let data = dir.path().join("data");
    let verify = || runstone().args(["verify", "--json", "--data"]).arg(&data).output().unwrap();
    let sound = verify();
    assert_eq!(sound.status.code(), Some(0), "{}", stderr(&sound));
    let report: serde_json::Value = serde_json::from_str(&stdout(&sound)).unwrap();
    assert_eq!((&report["records"], &report["last_position"], &report["sound"]), (&json!(3), &json!(3), &json!(true)));

    let segment = std::fs::read_dir(data.join("journal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| std::fs::read(path).unwrap().windows(4).any(|bytes| bytes == b"kept"))
        .expect("a segment holds the message");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(4).position(|bytes| bytes == b"kept").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let damaged = verify();
    assert_eq!(damaged.status.code(), Some(1), "{}", stderr(&damaged));
    assert!(stderr(&damaged).contains("damaged"), "{}", stderr(&damaged));
}

#[test]
fn verify_without_a_journal_says_so() {
    let output = runstone().args(["verify", "--data", "/nonexistent/data"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/nonexistent/data"), "{}", stderr(&output));
}
