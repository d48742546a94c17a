//! Data directories that are not what they were, on a lake that knows them: copied while records arrive, and without one of
//! their segments. What a copy between two requests, an empty and an older one do is told in `lake`.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use tempfile::TempDir;

use crate::damage::segments;
use crate::harness::{Server, runstone, stderr, until};
use crate::kills::{self, Sender};
use crate::lake::{Settings, counts, in_the_lake, journal, ready, runs_agree, send_large};
use crate::oracle::{self, Random};
use crate::process::{copy, fill};

fn durable(server: &Server) -> u64 {
    ready(server).json()["durable_position"].as_u64().unwrap()
}

/// All ids with the name and the place that each has.
fn ids(server: &Server) -> BTreeMap<String, (String, u64)> {
    // Page by page: an answer in SQL has so many rows and no more.
    let rows = oracle::walk(&mut crate::client::Client::new(server.url()), "order=oldest");
    let text = |row: &oracle::Record, name: &str| row[name].as_str().unwrap().to_owned();
    rows.iter().map(|row| (text(row, "id"), (text(row, "journal"), row["position"].as_u64().unwrap()))).collect()
}

#[test]
fn a_directory_copied_while_records_arrive_shares_the_lake_and_doubles_nothing() {
    let mut random = Random::seeded("live copy");
    let lake = TempDir::new().unwrap();
    let settings = Settings::at(&lake.path().join("lake"), "journal:\n  segment_bytes: 16MiB\n");
    let server = settings.start(TempDir::new().unwrap());
    let name = journal(&server).strip_suffix("/1").unwrap().to_owned();
    let mut senders = [Sender::new(0, &mut random)];
    let copied = TempDir::new().unwrap();
    // In the middle of writing, and of a flush.
    let (dir, acknowledged) = kills::load(server, &mut senders, Duration::from_millis(1_200), |server| {
        let acknowledged = durable(&server);
        copy(&server.data(), &copied.path().join("data"));
        (server.kill(), acknowledged)
    });
    let (server, copied) = (settings.start(dir), settings.start(copied));
    assert!(journal(&copied).ends_with("/2"), "{}", copied.printed());
    assert!(durable(&copied) >= acknowledged, "{} of {acknowledged} were copied", durable(&copied));
    fill(&server, &mut random, 5);
    fill(&copied, &mut random, 3);
    let batches = kills::settle(&mut senders, &server);
    let last = durable(&server);
    for each in [&server, &copied] {
        in_the_lake(each, durable(each));
    }
    let expected = [(format!("{name}/1"), last), (format!("{name}/2"), 3)];
    for each in [&server, &copied] {
        until("both see what both have", || counts(each) == expected);
        runs_agree(each);
    }
    let (ours, theirs) = (ids(&server), ids(&copied));
    assert!(ours == theirs, "both see the same records at the same places");
    let sent: usize = batches.iter().filter(|batch| batch.acknowledged).map(|batch| batch.records.len()).sum();
    assert!(ours.len() >= sent + 8, "{} of {sent} records", ours.len());
}

fn refused(dir: &TempDir, settings: &Settings) -> String {
    let start = runstone()
        .args(["serve", "--listen", "127.0.0.1:0", "--config", settings.path.to_str().unwrap(), "--data"])
        .arg(dir.path().join("data"))
        .output()
        .unwrap();
    assert_eq!(start.status.code(), Some(1), "{}", stderr(&start));
    stderr(&start)
}

/// The first position of a segment, which is its name.
fn first_position(segment: &std::path::Path) -> u64 {
    segment.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

#[test]
fn a_lost_segment_is_named_and_put_back_costs_nothing() {
    let mut random = Random::seeded("lost segment");
    // Half of it in the lake already, half not.
    let settings = Settings::new("journal:\n  segment_bytes: 1MiB\n");
    let slow = Settings::new("journal:\n  segment_bytes: 1MiB\nlake:\n  flush_interval_ms: 1h\n");
    let server = settings.start(TempDir::new().unwrap());
    let mut batches = send_large(&server, &mut random, 25);
    in_the_lake(&server, 25);
    let server = slow.start(server.kill());
    batches.extend(send_large(&server, &mut random, 25));
    let dir = server.kill();
    let away = TempDir::new().unwrap();
    let all = segments(&dir.path().join("data"));
    assert!(all.len() >= 4, "{all:?}");
    for lost in [0, all.len() / 2, all.len() - 1] {
        let kept = away.path().join("segment");
        fs::rename(&all[lost], &kept).unwrap();
        let first = first_position(&all[lost]);
        let last = all.get(lost + 1).map_or("the end".to_owned(), |next| (first_position(next) - 1).to_string());
        let named = format!("positions {first} to {last} are missing");
        for _ in 0..2 {
            let said = refused(&dir, &settings);
            assert!(said.contains(&named), "{named}: {said}");
        }
        let verify = runstone().args(["verify", "--data"]).arg(dir.path().join("data")).output().unwrap();
        assert_eq!(verify.status.code(), Some(1), "{}", stderr(&verify));
        let named = named.replace(&format!("{first} to the end"), &format!("from {first} on"));
        assert!(stderr(&verify).contains(&named), "{named}: {}", stderr(&verify));
        fs::rename(&kept, &all[lost]).unwrap();
    }
    let server = settings.start(dir);
    in_the_lake(&server, 50);
    oracle::check(server.url(), &batches);
}
