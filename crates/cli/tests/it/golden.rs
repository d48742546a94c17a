//! Data directories of earlier builds, kept under `golden/`: this one reads them and goes on in them. And one of a later
//! build: it is refused, and left as it is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Client, JSON};
use crate::damage::segments;
use crate::harness::{Server, runstone, stderr, stdout};
use crate::lake::{Settings, in_the_lake};
use crate::oracle::{self, Random, Record};
use crate::process::{copy, fill};

/// So many records are in the lake; the rest is in the journal alone.
const IN_THE_LAKE: u64 = 40;
const RECORDS: u64 = 60;
const KEYED: &str = r#"[{"id":"5f6dd2a1-0a57-4cf5-8a16-3d1d2c6f0001","message":"with an id and a key"}]"#;
const KEY: (&str, &str) = ("idempotency-key", "golden");

fn golden(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version)
}

fn lines(of: &[Value]) -> String {
    of.iter().map(|value| format!("{value}\n")).collect()
}

fn read(url: &str) -> (String, String) {
    let mut client = Client::new(url);
    let records: Vec<Value> = oracle::walk(&mut client, "order=oldest").into_iter().map(Value::Object).collect();
    let runs: Vec<Value> = oracle::runs(&mut client).into_values().collect();
    (lines(&records), lines(&runs))
}

/// Makes the directory that later builds are held against. Done once for a version of the formats, by a build of it.
#[expect(clippy::disallowed_methods, reason = "asked for by hand")]
fn made(at: &Path) -> bool {
    if std::env::var_os("UPDATE_GOLDEN").is_none() {
        return false;
    }
    let settings = Settings::new("journal:\n  segment_bytes: 1MiB\n");
    let server = settings.start(TempDir::new().unwrap());
    fill(&server, &mut Random(7), IN_THE_LAKE);
    in_the_lake(&server, IN_THE_LAKE);
    let settings = Settings::new("journal:\n  segment_bytes: 1MiB\nlake:\n  flush_interval_ms: 1h\n");
    let server = settings.start(server.terminate().1);
    fill(&server, &mut Random(8), RECORDS - IN_THE_LAKE - 1);
    assert_eq!(Client::new(server.url()).post(&[JSON, KEY], KEYED.as_bytes()).unwrap().status, 200);
    let (records, runs) = read(server.url());
    // A stop brings everything to the lake: what is only in the journal is what a killed server leaves.
    let dir = server.kill();
    copy(&dir.path().join("data"), &at.join("data"));
    fs::write(at.join("records.ndjson"), records).unwrap();
    fs::write(at.join("runs.ndjson"), runs).unwrap();
    true
}

#[test]
fn a_data_directory_of_version_1_is_read_and_written() {
    let golden = golden("v1");
    assert!(golden.exists() || made(&golden), "{} is missing", golden.display());
    let dir = TempDir::new().unwrap();
    copy(&golden.join("data"), &dir.path().join("data"));
    let server = Server::start_in(dir, &[]);
    let expected = |name: &str| fs::read_to_string(golden.join(name)).unwrap();
    let (records, runs) = read(server.url());
    assert_eq!(records, expected("records.ndjson"));
    assert_eq!(runs, expected("runs.ndjson"));
    let positions = server.query("SELECT count(*) AS n, count(DISTINCT id) AS ids, max(position) AS last FROM logs");
    assert_eq!(positions[0], serde_json::json!({"n": RECORDS, "ids": RECORDS, "last": RECORDS}));

    // What it has is known when it comes again, by its id and by its key.
    let mut client = Client::new(server.url());
    let again = client.post(&[JSON], KEYED.as_bytes()).unwrap();
    assert_eq!((again.status, again.json()["duplicates"].as_u64()), (200, Some(1)), "{again:?}");
    let replayed = client.post(&[JSON, KEY], KEYED.as_bytes()).unwrap();
    assert!(replayed.status == 200 && replayed.headers.contains("idempotency-replayed: true"), "{replayed:?}");
    let other = client.post(&[JSON, KEY], br#"{"message":"another"}"#).unwrap();
    assert_eq!(other.json()["error"], "idempotency_key_reused");

    // And it goes on.
    let new = server.post(r#"{"message":"written by a later build"}"#);
    assert_eq!(new.json()["first_position"].as_u64(), Some(RECORDS + 1), "{new:?}");
    let (code, dir) = server.terminate();
    assert_eq!(code, Some(0));
    let output = runstone().args(["verify", "--json", "--data"]).arg(dir.path().join("data")).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let server = Server::start_in(dir, &[]);
    let read: Vec<Record> = oracle::walk(&mut Client::new(server.url()), "order=oldest");
    assert_eq!(read.len() as u64, RECORDS + 1);
}

/// Every file below a directory, with its content.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            all.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    all
}

#[test]
fn a_journal_of_a_later_version_is_refused_and_not_touched() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    copy(&golden("v1").join("data"), &data);
    let newest = segments(&data).pop().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    // The major version stands behind the magic number in both copies of the header, and in their checksums.
    for block in bytes.chunks_mut(512).take(2) {
        block[8] = 2;
        let sum = crc32c::crc32c(&block[..508]);
        block[508..].copy_from_slice(&sum.to_le_bytes());
    }
    fs::write(&newest, bytes).unwrap();
    let before = contents(&data);
    for command in ["serve", "verify"] {
        let output = runstone().arg(command).arg("--data").arg(&data).output().unwrap();
        assert_ne!(output.status.code(), Some(0), "{command}");
        let words = format!("{}{}", stdout(&output), stderr(&output));
        assert!(
            words.contains("format 2 is newer than 1") && words.contains(newest.file_name().unwrap().to_str().unwrap()),
            "{words}"
        );
    }
    let (mut before, mut after) = (before, contents(&data));
    // Who looks takes the lock; its file says who.
    for files in [&mut before, &mut after] {
        files.retain(|path, _| !path.ends_with("journal.lock"));
    }
    assert!(before == after, "{:?}", after.keys());
}
