//! Clients that ask for much and read nothing: the server holds a bounded number of bytes for them, and gives their places
//! to others.

use std::io::{BufReader, Write};
use std::net::TcpStream;

use tempfile::TempDir;

use crate::client::{Client, address, connect, read_answer, request};
use crate::harness::{Server, until, write};

const BYTES_MAX: u64 = 40 << 20;

fn number(metrics: &str, name: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

#[test]
fn who_does_not_read_makes_room_for_others() {
    let folder = TempDir::new().unwrap();
    let config = write(folder.path(), "runstone.yml", format!("http:\n  answers_bytes_max: {BYTES_MAX}\n"));
    let server = Server::start_with(&["--config", config.to_str().unwrap()]);
    let mut client = Client::new(server.url());
    let record = format!(r#"{{"message":"{}"}}"#, "x".repeat(20_000));
    let body = vec![record; 250].join("\n");
    for _ in 0..4 {
        let answer = client.post(&[("content-type", "application/x-ndjson")], body.as_bytes()).unwrap();
        assert_eq!(answer.status, 200);
    }
    let page = "/api/v1/logs?limit=1000";
    let whole = client.get(page).unwrap().body.len();
    assert!(whole > 16 << 20, "{whole}");

    // Each takes the first of its answer and no more; some are told to come back.
    let ask = |_| {
        let mut stream = connect(address(server.url())).unwrap();
        stream.write_all(&request("GET", page, &[], b"")).unwrap();
        stream
    };
    let silent: Vec<TcpStream> = (0..8).map(ask).collect();
    let metrics = || String::from_utf8(server.http("GET", "/metrics", &[], b"").body).unwrap();
    until("the silent ones hold what may be held", || {
        let held = number(&metrics(), "runstone_http_answers_bytes");
        assert!(held <= BYTES_MAX, "{held}");
        held > BYTES_MAX / 2
    });
    until("an honest client has its page", || {
        let mut stream = ask(0);
        let answer = read_answer(&mut BufReader::new(stream.try_clone().unwrap())).unwrap();
        let _ = stream.flush();
        assert!(matches!(answer.status, 200 | 429), "{}", answer.status);
        assert!(number(&metrics(), "runstone_http_answers_bytes") <= BYTES_MAX);
        answer.status == 200 && answer.body.len() == whole
    });
    assert!(number(&metrics(), r#"runstone_http_connections_dropped_total{reason="evicted"}"#) > 0);
    drop(silent);
    until("nothing is held any more", || number(&metrics(), "runstone_http_answers_bytes") == 0);
}
