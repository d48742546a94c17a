//! The disk full in mid-flush: the lake stays whole, leaves no litter behind, and gets everything once when there is space
//! again, by itself. Owns disks of a chosen size; what a full journal means is told in `disk`.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::client::Client;
use crate::disk::{Mounted, goes_on, is_full};
use crate::harness::{Answer, Server, runstone, stderr, stdout, until};
use crate::lake::{Settings, in_the_lake, large, metric, position, ready, send, send_large, signal};
use crate::oracle::{self, Batch, Random};
use crate::process::fill;

const PAGE: u64 = 4096;

fn mounted(at: &Path, mebibytes: usize) -> Option<Mounted> {
    let mounted = Mounted::new(at, mebibytes << 20);
    if mounted.is_none() {
        let _ = writeln!(std::io::stdout(), "skipped: this user may not mount a small file system");
    }
    mounted
}

/// A file that takes all the space that is left.
struct Filler(PathBuf);

impl Filler {
    fn new(at: &Path) -> Self {
        let filler = Self(at.join("filler"));
        filler.fill();
        filler
    }

    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(&self.0).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    }

    /// Gives so many pages back. False: it has no more.
    fn give(&self, pages: u64) -> bool {
        let file = File::options().write(true).open(&self.0).unwrap();
        let left = file.metadata().unwrap().len();
        file.set_len(left.saturating_sub(pages * PAGE)).unwrap();
        left > 0
    }

    fn give_all(self) {
        fs::remove_file(self.0).unwrap();
    }
}

fn command(name: &str, data: &Path, settings: &Settings, args: &[&str]) -> Vec<Value> {
    let output = runstone()
        .args([name, "--json", "--config", settings.path.to_str().unwrap(), "--data"])
        .arg(data)
        .args(args)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{name}: {}{}", stdout(&output), stderr(&output));
    stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Everything that is in the lake is whole, and is what the journal has.
fn verify(data: &Path, settings: &Settings) -> Value {
    let report = command("verify", data, settings, &[]).remove(0);
    assert_eq!(report["compared_records"], report["same_records"], "{report}");
    report
}

/// Files of the lake's partitions that no commit has ever named.
fn litter(lake: &Path) -> Vec<PathBuf> {
    let mut there = Vec::new();
    for entry in fs::read_dir(lake).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("date=") {
            there.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    // Read afterwards: a file that was there may be committed by now.
    for entry in fs::read_dir(lake.join("_delta_log")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let commit = fs::read_to_string(path).unwrap();
            let actions = commit.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let added: Vec<_> = actions.filter_map(|action| Some(lake.join(action["add"]["path"].as_str()?))).collect();
            there.retain(|path| !added.contains(path));
        }
    }
    there
}

fn failures(server: &Server) -> f64 {
    metric(server, "runstone_lake_failures_total")
}

/// Another try of what failed, now, until it has failed again or is in the lake.
fn try_again(server: &Server, last: u64) {
    let before = failures(server);
    signal(server, Signal::USR1);
    until("it tried again", || failures(server) > before || position(server) >= last);
}

#[test]
fn with_its_own_disk_full_the_lake_waits_and_gets_everything_once_page_by_page() {
    let mut random = Random::seeded("full lake");
    let (dir, disk) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let Some(_mounted) = mounted(disk.path(), 4) else { return };
    let lake = disk.path().join("lake");
    let settings = Settings::at(&lake, "");
    let server = settings.start(dir);
    let mut batches = fill(&server, &mut random, 10);
    in_the_lake(&server, 10);
    let filler = Filler::new(disk.path());
    batches.extend(send_large(&server, &mut random, 3));
    until("it says that it is degraded", || ready(&server).json()["status"] == "degraded");
    let answer = ready(&server);
    assert_eq!((answer.status, answer.json()["lake"]["status"].as_str()), (200, Some("degraded")), "{answer:?}");
    let reason = answer.json()["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("No space left"), "{reason}");
    // The journal has space: everything is taken, and read.
    batches.extend(fill(&server, &mut random, 5));
    assert_eq!(oracle::walk(&mut Client::new(server.url()), "order=oldest").len(), 18);
    // A flush that fails at its first byte, after some, at the commit: whatever a page more lets it do.
    let mut tries = 0;
    while position(&server) < 18 {
        assert!(filler.give(2), "it does not take what there is space for");
        try_again(&server, 18);
        tries += 1;
        let left = litter(&lake);
        assert!(left.len() <= 1, "after {tries} tries: {left:?}");
        assert!([10, 18].contains(&verify(&server.data(), &settings)["lake_records"].as_u64().unwrap()));
    }
    assert!(tries > 10, "it failed {tries} times only");
    until("it is ready again", || ready(&server).json()["status"] == "ready");
    filler.give_all();
    oracle::check(server.url(), &batches);
    batches.extend(fill(&server, &mut random, 5));
    in_the_lake(&server, 23);
    oracle::check(server.url(), &batches);
    let (code, dir) = server.terminate();
    assert_eq!(code, Some(0));
    let data = dir.path().join("data");
    let report = verify(&data, &settings);
    assert_eq!((&report["lake_records"], &report["same_records"]), (&23.into(), &23.into()), "{report}");
    let left = litter(&lake);
    assert!(left.len() <= 1, "{left:?}");
}

/// Sends what cannot be compressed until it is refused.
pub(crate) fn send_until_refused(client: &mut Client, random: &mut Random, batches: &mut Vec<Batch>) -> Answer {
    for _ in 0..100 {
        let mut batch = large(random);
        let answer = send(client, &mut batch);
        batches.push(batch);
        if answer.status != 200 {
            return answer;
        }
    }
    panic!("a disk that takes nothing takes everything");
}

#[test]
fn with_one_disk_full_records_are_refused_and_then_all_are_in_the_lake_once() {
    let mut random = Random::seeded("full disk, flushing");
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let Some(_mounted) = mounted(&data, 16) else { return };
    let settings = Settings::new("journal:\n  segment_bytes: 1MiB\n");
    let server = settings.start(dir);
    let mut batches: Vec<Batch> = fill(&server, &mut random, 5);
    in_the_lake(&server, 5);
    let filler = Filler::new(&data);
    let mut client = Client::new(server.url());
    for round in 0..4 {
        // What the journal has room for in its segment is taken; the lake has no room for it.
        is_full(&send_until_refused(&mut client, &mut random, &mut batches));
        let durable = ready(&server).json()["durable_position"].as_u64().unwrap();
        until("the lake is degraded", || ready(&server).json()["lake"]["status"] == "degraded");
        let answer = ready(&server);
        assert_eq!((answer.status, answer.json()["status"].as_str()), (503, Some("disk_full")), "{answer:?}");
        assert!(oracle::walk(&mut client, "order=oldest").len() as u64 >= durable, "reading goes on");
        assert_eq!(verify(&data, &settings)["lake_records"], 5);
        // A little is given back, more each time, and whoever is first takes it.
        filler.give(3 * round);
        try_again(&server, u64::MAX);
        filler.fill();
        assert_eq!(verify(&data, &settings)["lake_records"], 5);
    }
    let left = litter(&data.join("lake"));
    assert!(left.len() <= 1, "{left:?}");
    filler.give_all();
    goes_on(&mut client, &mut batches);
    batches.push(large(&mut random));
    goes_on(&mut client, &mut batches);
    let last = ready(&server).json()["durable_position"].as_u64().unwrap();
    in_the_lake(&server, last);
    assert_eq!(oracle::check(server.url(), &batches).len() as u64, last);
    let server = settings.start(server.kill());
    in_the_lake(&server, last);
    oracle::check(server.url(), &batches);
    assert_eq!(metric(&server, "runstone_lake_records"), last as f64);
    let left = litter(&data.join("lake"));
    assert!(left.len() <= 1, "{left:?}");
    drop(server.kill());
}
