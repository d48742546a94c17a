//! Another writer at the lake of a running server: what it appends is seen, what it merges, deletes and restores does no harm,
//! and a table that it made too new is left alone until somebody has mended it.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Client;
use crate::foreign::{assert_found, in_sql, script};
use crate::harness::{Server, runstone, stderr, until};
use crate::lake::{Settings, counts, in_the_lake, metric, ready, signal};
use crate::readers::{location, send};

const THEIRS: &str = "of-another-writer";
/// One that reads Delta's log by itself, and one that leaves it to a library.
const TWO: [&str; 2] = ["chdb", "polars"];

fn write(server: &Server, action: &str, args: &[&str]) -> Value {
    let location = location(server);
    let args: Vec<&str> = [action, location.as_str()].into_iter().chain(args.iter().copied()).collect();
    script("write_lake.py", &args)
}

fn journal(server: &Server) -> String {
    ready(server).json()["journal"].as_str().unwrap().to_owned()
}

/// Queries see so many records of this server and of the other writer, each once, and none fails until they do.
fn see(server: &Server, ours: usize, theirs: usize) {
    let sql = format!(
        "SELECT count(*) FILTER (WHERE journal = '{}') AS ours, count(*) FILTER (WHERE journal = '{THEIRS}') AS theirs, \
         count(*) AS n, count(DISTINCT id) AS ids FROM logs",
        journal(server)
    );
    let all = ours + theirs;
    let expected = json!([{"ours": ours, "theirs": theirs, "n": all, "ids": all}]);
    until("queries see both", || {
        let answer = Client::new(server.url()).sql(&sql).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.json());
        answer.json()["rows"] == expected
    });
}

/// Reads files of the lake all the time; how often it did.
fn ask(server: &Server, is_over: &AtomicBool) -> usize {
    let mut client = Client::new(server.url());
    let mut seen = 0;
    while !is_over.load(Ordering::Relaxed) {
        let answer =
            client.sql("SELECT count(*) AS n, count(DISTINCT id) AS ids, max(message) AS last FROM logs").unwrap();
        assert_eq!(answer.status, 200, "{}", answer.json());
        let row = answer.json()["rows"][0].take();
        assert_eq!(row["n"], row["ids"], "each id once");
        seen += 1;
    }
    seen
}

#[test]
fn another_writer_appends_merges_and_vacuums_beside_the_server() {
    let settings = Settings::new("lake:\n  upkeep_interval_ms: 1s\n");
    let server = settings.start(TempDir::new().unwrap());
    send(&mut Client::new(server.url()), 0, 20);
    in_the_lake(&server, 20);
    let is_over = AtomicBool::new(false);
    let mut theirs = 0;
    let sent = std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let (mut client, mut sent) = (Client::new(server.url()), 20);
            while !is_over.load(Ordering::Relaxed) {
                send(&mut client, sent, 20);
                sent += 20;
            }
            sent
        });
        let asking = scope.spawn(|| ask(&server, &is_over));
        for _ in 0..4 {
            write(&server, "append", &[THEIRS, &(theirs + 1).to_string(), "50"]);
            theirs += 50;
            write(&server, "compact", &[]);
            write(&server, "vacuum", &[]);
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(asking.join().expect("no query failed meanwhile") > 0);
        sending.join().expect("nothing is refused meanwhile")
    });
    in_the_lake(&server, sent as u64);
    see(&server, sent, theirs);

    // All that is there, merged into one by the other and cleaned up behind it: the cursor stays where it is.
    write(&server, "append", &[THEIRS, &(theirs + 1).to_string(), "50"]);
    theirs += 50;
    let merged = write(&server, "compact", &[]);
    assert!(merged["numFilesRemoved"].as_u64() > Some(0), "{merged}");
    assert!(write(&server, "vacuum", &[])["deleted"].as_u64() > Some(0));
    see(&server, sent, theirs);
    assert_eq!(write(&server, "cursor", &[&journal(&server)])["cursor"], sent);

    // The server goes on: it flushes, merges and cleans.
    send(&mut Client::new(server.url()), sent, 20);
    signal(&server, Signal::USR1);
    in_the_lake(&server, sent as u64 + 20);
    until("its upkeep goes on", || metric(&server, "runstone_lake_upkeep_failed_steps") == 0.0);
    see(&server, sent + 20, theirs);
    assert_found(&TWO, &location(&server), &[], &in_sql(&server));
    let verify = runstone().args(["verify", "--data"]).arg(server.data()).output().unwrap();
    assert_eq!(verify.status.code(), Some(0), "{}", stderr(&verify));
    // And so does the next one, from the lake's cursor.
    let (_, dir) = server.terminate();
    let server = settings.start(dir);
    see(&server, sent + 20, theirs);
}

/// The positions of all records of the other writer, page by page.
fn walk(server: &Server, order: &str) -> Vec<i64> {
    let (mut client, mut cursor, mut positions) = (Client::new(server.url()), String::new(), Vec::new());
    loop {
        let page = client.get(&format!("/api/v1/logs?order={order}&limit=7{cursor}")).unwrap();
        assert_eq!(page.status, 200, "{}", page.json());
        let page = page.json();
        let theirs = page["records"].as_array().unwrap().iter().filter(|record| record["journal"] == THEIRS);
        positions.extend(theirs.map(|record| record["position"].as_i64().unwrap()));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return positions,
        }
    }
}

#[test]
fn pages_have_every_row_of_another_writer_whatever_its_position_is() {
    let server = Settings::new("").start(TempDir::new().unwrap());
    send(&mut Client::new(server.url()), 0, 20);
    in_the_lake(&server, 20);
    // All of one time.
    write(&server, "append", &[THEIRS, "-30", "40"]);
    see(&server, 20, 40);
    assert_eq!(walk(&server, "oldest"), (-30..10).collect::<Vec<i64>>());
    assert_eq!(walk(&server, "newest"), (-30..10).rev().collect::<Vec<i64>>());
}

/// Nothing gets to the lake, and it is said why; everything else goes on.
fn is_paused(server: &Server, what: &str, sent: usize) {
    until("it is paused", || ready(server).json()["lake"]["status"] == "paused");
    let answer = ready(server);
    let body = answer.json();
    assert_eq!((answer.status, body["status"].as_str()), (200, Some("degraded")), "{body}");
    assert!(body["reason"].as_str().unwrap().contains(what), "{body}");
    let said = |line: &str| line.contains("ERROR") && line.contains(what);
    assert!(server.printed().lines().any(said), "{what} is in the log");
    send(&mut Client::new(server.url()), sent, 10);
    assert_eq!(counts(server), [(journal(server), sent as u64 + 10)]);
}

#[test]
fn a_table_that_became_too_new_is_left_alone_until_it_is_mended() {
    let settings = Settings::new("");
    let mut server = settings.start(TempDir::new().unwrap());
    send(&mut Client::new(server.url()), 0, 10);
    in_the_lake(&server, 10);
    let mut sent = 10;
    // One that readers must know, and one that only writers must.
    let upgrades = [
        ("feature", &["DeletionVectors"][..], "deletionVectors"),
        ("property", &["delta.enableChangeDataFeed", "true"], "writer version 4"),
    ];
    for (action, args, what) in upgrades {
        let upgraded = write(&server, action, args);
        send(&mut Client::new(server.url()), sent, 10);
        sent += 10;
        is_paused(&server, what, sent);
        sent += 10;
        assert_eq!(write(&server, "cursor", &[&journal(&server)])["version"], upgraded["version"], "nobody wrote");

        // Asking for a flush has it tried again once, not for ever.
        let tries = metric(&server, "runstone_lake_failures_total");
        signal(&server, Signal::USR1);
        until("it has tried", || metric(&server, "runstone_lake_failures_total") > tries);
        is_paused(&server, what, sent);
        sent += 10;
        assert!(metric(&server, "runstone_lake_failures_total") <= tries + 2.0, "it waits between two tries");

        // A start with it is a start like any other.
        server = settings.start(server.kill());
        is_paused(&server, what, sent);
        sent += 10;

        write(&server, "restore", &[&upgraded["before"].to_string()]);
        signal(&server, Signal::USR1);
        in_the_lake(&server, sent as u64);
        assert_eq!(ready(&server).json()["status"], "ready");
        assert_eq!(counts(&server), [(journal(&server), sent as u64)]);
        assert_found(&TWO, &location(&server), &[], &in_sql(&server));
    }
}
