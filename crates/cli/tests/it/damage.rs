//! Files of the journal, cut, zeroed, overwritten and flipped: what was acknowledged before stays readable, and what is
//! not is named. Knows of docs/formats/journal.md where groups begin.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Client, JSON};
use crate::harness::{Server, runstone, stderr, stdout, until, write};
use crate::kills::{is_ready, torn_tails};
use crate::lake::metric;
use crate::oracle::{self, Batch, Random};
use crate::process::fill;

const SEGMENT_HEADER: usize = 1024;
const SECTOR: usize = 512;

/// The journal's segments, the oldest first.
pub(crate) fn segments(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("journal")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths.sort();
    paths
}

/// Where the groups of a segment begin, and where the last one ends.
fn groups(segment: &[u8]) -> (Vec<usize>, usize) {
    let (mut begins, mut at) = (Vec::new(), SEGMENT_HEADER);
    while segment.get(at..at + 4) == Some(b"RJGR") {
        begins.push(at);
        let body = segment[at + 44..at + 48].try_into().map(u32::from_le_bytes).unwrap();
        at += 64 + usize::try_from(body).unwrap();
    }
    (begins, at)
}

fn verify(data: &Path) -> (Option<i32>, Value, String) {
    let output = runstone().args(["verify", "--json", "--data"]).arg(data).output().unwrap();
    let report = serde_json::from_str(&stdout(&output)).unwrap_or_default();
    (output.status.code(), report, stderr(&output))
}

/// A data directory that can be put back as it was, in the same place.
struct Saved {
    dir: Option<TempDir>,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Saved {
    fn new(dir: TempDir) -> Saved {
        let mut files = BTreeMap::new();
        for folder in ["data", "data/journal"] {
            for entry in fs::read_dir(dir.path().join(folder)).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    files.insert(path.clone(), fs::read(path).unwrap());
                }
            }
        }
        Saved { dir: Some(dir), files }
    }

    fn put_back(&mut self, dir: TempDir) {
        for path in segments(&dir.path().join("data")) {
            fs::remove_file(path).unwrap();
        }
        for (path, bytes) in &self.files {
            fs::write(path, bytes).unwrap();
        }
        self.dir = Some(dir);
    }
}

/// What is done to a segment whose last group begins at the one place and ends at the other.
type Tear = (&'static str, fn(&mut Vec<u8>, usize, usize), Left);

/// What is left of the last batch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    Whole,
    /// Nothing, and nothing to warn of: as if it had never been written.
    NothingUnseen,
    Nothing,
}

const TEARS: [Tear; 14] = [
    ("cut before the group", |bytes, begin, _| bytes.truncate(begin), Left::NothingUnseen),
    ("cut after its first byte", |bytes, begin, _| bytes.truncate(begin + 1), Left::Nothing),
    ("cut within its header", |bytes, begin, _| bytes.truncate(begin + 63), Left::Nothing),
    ("cut after its header", |bytes, begin, _| bytes.truncate(begin + 64), Left::Nothing),
    ("cut after its first sector", |bytes, begin, _| bytes.truncate(begin + SECTOR), Left::Nothing),
    ("cut before its last sector", |bytes, _, end| bytes.truncate(end - SECTOR), Left::Nothing),
    ("cut before its last byte", |bytes, _, end| bytes.truncate(end - 1), Left::Nothing),
    ("all of it zeros", |bytes, begin, end| bytes[begin..end].fill(0), Left::NothingUnseen),
    ("its header zeros", |bytes, begin, _| bytes[begin..begin + SECTOR].fill(0), Left::Nothing),
    (
        "a sector in its middle zeros",
        |bytes, begin, _| bytes[begin + SECTOR..begin + 2 * SECTOR].fill(0),
        Left::Nothing,
    ),
    ("its last sectors zeros", |bytes, begin, end| bytes[begin + SECTOR..end].fill(0), Left::Nothing),
    ("garbage for its header", |bytes, begin, _| garbage(&mut bytes[begin..begin + SECTOR]), Left::Nothing),
    ("garbage behind it", |bytes, _, end| garbage(&mut bytes[end..end + 5_000]), Left::Whole),
    (
        "the file ends behind it, with garbage",
        |bytes, _, end| {
            bytes.resize(end + 777, 0);
            garbage(&mut bytes[end..]);
        },
        Left::Whole,
    ),
];

fn garbage(bytes: &mut [u8]) {
    let mut random = Random(7);
    bytes.fill_with(|| u8::try_from(random.below(256)).unwrap());
}

#[test]
fn a_torn_tail_costs_one_warning_and_nothing_that_was_acknowledged_before() {
    let mut random = Random::seeded("torn");
    let server = Server::start();
    let mut batches = fill(&server, &mut random, 20);
    let mut large = oracle::record(&mut random, 5, "the last one");
    large.insert("exception".to_owned(), Value::from("x y ".repeat(1_000)));
    let mut client = Client::new(server.url());
    let answer = client.post(&[JSON], Value::from(large.clone()).to_string().as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    batches.push(Batch { records: vec![large], key: None, acknowledged: true, positions: Some((21, 21)) });
    let mut saved = Saved::new(server.kill());
    for (name, tear, left) in TEARS {
        let dir = saved.dir.take().unwrap();
        let data = dir.path().join("data");
        let segment = segments(&data).pop().unwrap();
        let mut bytes = fs::read(&segment).unwrap();
        let (begins, end) = groups(&bytes);
        assert_eq!(begins.len(), batches.len(), "a group each");
        tear(&mut bytes, *begins.last().unwrap(), end);
        fs::write(&segment, bytes).unwrap();
        let (code, _, words) = verify(&data);
        assert_eq!(code, Some(0), "{name}: a torn tail is no damage: {words}");

        let server = Server::start_in(dir, &[]);
        let warnings = usize::from(left != Left::NothingUnseen);
        assert_eq!(torn_tails(&server), warnings, "{name}: {}", server.printed());
        let cut = metric(&server, "runstone_journal_torn_tail_bytes");
        assert_eq!(cut > 0.0, warnings > 0, "{name}: {cut} bytes cut");
        let kept = if left == Left::Whole { batches.len() } else { batches.len() - 1 };
        let mut expected = batches[..kept].to_vec();
        oracle::check(server.url(), &expected);
        expected.extend(fill(&server, &mut random, 2));
        // Nothing of the tear is left for the next start.
        let server = Server::start_in(server.kill(), &[]);
        assert_eq!(torn_tails(&server), 0, "{name}: {}", server.printed());
        oracle::check(server.url(), &expected);
        saved.put_back(server.kill());
    }
}

/// Everything but the lost record is there, and a new one is taken.
fn check_rest(server: &Server, batches: &[Batch], lost: u64) {
    until("it is ready", || is_ready(server));
    let mut client = Client::new(server.url());
    let read = oracle::walk(&mut client, "order=oldest");
    let mut positions: Vec<u64> = read.iter().map(|record| record["position"].as_u64().unwrap()).collect();
    positions.sort_unstable();
    let expected: Vec<u64> = (1..=batches.len() as u64).filter(|position| *position != lost).collect();
    assert_eq!(positions, expected);
    let count = oracle::rows(&mut client, "SELECT count(*) AS n FROM logs");
    assert_eq!(count[0]["n"], expected.len());
    oracle::check_runs(&mut client, &read);
    let ready = client.get("/ready").unwrap();
    assert_eq!(ready.status, 200, "{ready:?}");
    let answer = server.post(r#"{"message":"and on"}"#);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["first_position"], batches.len() as u64 + 1);
}

#[test]
fn a_flipped_bit_in_the_middle_costs_its_record_and_is_named() {
    let mut random = Random::seeded("flip");
    let server = Server::start();
    let batches = fill(&server, &mut random, 30);
    let dir = server.kill();
    let data = dir.path().join("data");
    let segment = segments(&data).pop().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let (begins, _) = groups(&bytes);
    let lost = 11;
    // Behind the header of the group and that of its one frame.
    bytes[begins[lost - 1] + 64 + 16 + 5] ^= 0x20;
    fs::write(&segment, bytes).unwrap();
    let (code, report, words) = verify(&data);
    assert_eq!((code, &report["damaged_ranges"]), (Some(1), &Value::from(1)), "{words}");
    assert!(words.contains("positions 11 to 11"), "{words}");
    let server = Server::start_in(dir, &[]);
    assert!(server.printed().contains("positions 11 to 11"), "{}", server.printed());
    assert_eq!(torn_tails(&server), 0, "{}", server.printed());
    check_rest(&server, &batches, 11);
    // The next start tells again: damage is not forgotten.
    let server = Server::start_in(server.terminate().1, &[]);
    assert!(server.printed().contains("positions 11 to 11"), "{}", server.printed());
}

#[test]
fn a_flipped_bit_in_a_sealed_segment_costs_its_record_and_is_named() {
    let mut random = Random::seeded("sealed");
    let folder = TempDir::new().unwrap();
    let config = write(folder.path(), "runstone.yml", "journal:\n  segment_bytes: 1MiB\nlog:\n  level: info\n");
    let flags = ["--config", config.to_str().unwrap()];
    let server = Server::start_with(&flags);
    let mut batches = Vec::new();
    let mut client = Client::new(server.url());
    while segments(&server.data()).len() < 3 {
        let mut record = oracle::record(&mut random, 5, &format!("large {}", batches.len()));
        record.insert("exception".to_owned(), Value::from(random.next().to_string().repeat(5_000)));
        let answer = client.post(&[JSON], Value::from(record.clone()).to_string().as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        batches.push(Batch { records: vec![record], key: None, acknowledged: true, positions: None });
    }
    let dir = server.kill();
    let data = dir.path().join("data");
    let segment = segments(&data).remove(0);
    let mut bytes = fs::read(&segment).unwrap();
    let at = groups(&bytes).0[4] + 20_000;
    bytes[at] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let (code, _, words) = verify(&data);
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("positions 5 to 5"), "{words}");
    let server = Server::start_in(dir, &flags);
    assert!(server.printed().contains("positions 5 to 5"), "{}", server.printed());
    check_rest(&server, &batches, 5);
}
