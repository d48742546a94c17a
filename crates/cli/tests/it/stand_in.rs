//! Something in a server's place that goes away in the middle, or never ends: what the command line makes of it.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::harness::{runstone, stderr, until, write};

/// Serves each connection in a thread of its own, once the head of a request has come; its URL.
fn stand_in(serve: impl Fn(TcpStream) + Send + Sync + Copy + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut reader = BufReader::with_capacity(1, connection);
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
                    line.clear();
                }
                serve(reader.into_inner());
            });
        }
    });
    url
}

#[test]
fn a_server_that_goes_away_in_the_middle_of_a_request_is_a_failure() {
    let dir = TempDir::new().unwrap();
    // More than sockets hold.
    let statement = write(dir.path(), "long.sql", format!("SELECT '{}'", "x".repeat(24 << 20)));
    let reset = stand_in(drop);
    let closed = stand_in(|connection| {
        let _ = connection.shutdown(Shutdown::Write);
    });
    for _ in 0..5 {
        for url in [&reset, &closed] {
            let output = runstone().args(["--url", url, "query", "--file"]).arg(&statement).output().unwrap();
            assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
            assert!(stderr(&output).starts_with("error: "), "{}", stderr(&output));
        }
    }
}

/// The beginning of an answer that does not go on.
fn unending(mut connection: TcpStream) {
    let _ = connection.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nPAR1x\r\n");
    // Until its client has gone.
    let _ = std::io::copy(&mut connection, &mut std::io::sink());
}

/// What in a directory is on its way to a name.
fn unfinished(dir: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| std::fs::read(path).is_ok_and(|bytes| bytes == b"PAR1x")).collect()
}

#[test]
fn an_export_that_a_signal_ends_leaves_nothing_behind_and_takes_nobody_elses_file() {
    let (url, dir) = (stand_in(unending), TempDir::new().unwrap());
    let own = write(dir.path(), "week.parquet.part", "somebody's own");
    let target = dir.path().join("week.parquet");
    let export = || {
        let mut command = runstone();
        command.args(["--url", &url, "logs", "--output"]).arg(&target).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let stopped = |child: Child, signal: Signal| {
        kill_process(Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), stderr(&output))
    };
    // Two at once are in nobody's way.
    let (first, second) = (export(), export());
    until("both have begun", || unfinished(dir.path()).len() == 2);
    let (code, said) = stopped(first, Signal::INT);
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("week.parquet") && said.contains("signal"), "{said}");
    assert_eq!(unfinished(dir.path()).len(), 1);
    assert_eq!(stopped(second, Signal::TERM).0, Some(143));
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, std::slice::from_ref(&own));
    assert_eq!(std::fs::read_to_string(&own).unwrap(), "somebody's own");
}
