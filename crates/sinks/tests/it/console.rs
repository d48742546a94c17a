//! Lines in a file.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;

use async_trait::async_trait;
use runstone_record::Column;
use runstone_record::build::BatchBuilder;
use runstone_sinks::console::Console;
use runstone_sinks::contract::{SOURCE, Stored, Target};
use runstone_sinks::{Delivery, Sink};
use tempfile::TempDir;

use crate::suite::contract;

struct Files {
    dir: TempDir,
    held: Mutex<Option<File>>,
}

impl Files {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("logs")).unwrap();
        Self { dir, held: Mutex::new(None) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("logs").join(name)
    }

    /// What the cursors vouch for of a file's lines.
    fn lines(&self, name: &str, bytes: &str) -> Vec<serde_json::Value> {
        let Ok(state) = fs::read(self.path("records.ndjson.cursors")) else { return Vec::new() };
        let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
        let length = usize::try_from(state[bytes].as_u64().unwrap()).unwrap();
        let text = if length == 0 { Vec::new() } else { fs::read(self.path(name)).unwrap() };
        let text = std::str::from_utf8(&text[..length]).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[async_trait]
impl Target for Files {
    type Sink = Console;

    const KNOWS_IDS: bool = false;

    async fn sink(&self) -> Console {
        Console::new(self.path("records.ndjson")).with_line_bytes_max(1_000)
    }

    async fn records(&self) -> Vec<Stored> {
        let stored = |record: serde_json::Value| Stored {
            journal: record["journal"].as_str().unwrap().to_owned(),
            position: record["position"].as_u64().unwrap(),
            json: record.to_string(),
        };
        self.lines("records.ndjson", "bytes").into_iter().map(stored).collect()
    }

    async fn letters(&self) -> Vec<u64> {
        let lines = self.lines("records.ndjson.dead", "dead_bytes");
        lines.iter().map(|line| line["record"]["position"].as_u64().unwrap()).collect()
    }

    fn poison(&self, row: &mut BatchBuilder) {
        row.set_text(Column::Message, &"long ".repeat(300));
    }

    async fn take_away(&self) {
        fs::rename(self.path(""), self.dir.path().join("away")).unwrap();
    }

    async fn bring_back(&self) {
        fs::rename(self.dir.path().join("away"), self.path("")).unwrap();
    }

    async fn hold(&self) {
        let file = File::open(self.path("records.ndjson.lock")).unwrap();
        file.lock().unwrap();
        *self.held.lock().unwrap() = Some(file);
    }

    async fn release(&self) {
        self.held.lock().unwrap().take();
    }
}

contract!(Files::new());

#[tokio::test]
async fn what_a_crash_left_is_cut_off_and_what_others_wrote_stays() {
    let files = Files::new();
    fs::write(files.path("records.ndjson"), "a line of before\n").unwrap();
    let frame = |first: u64| {
        let parsed = runstone_record::parse::json(format!(r#"{{"message":"{first}"}}"#).as_bytes()).unwrap();
        let mut mint = runstone_record::IdMint::new(1, u128::from(first) << 40);
        runstone_sinks::Frame { first, batch: parsed.builder.stamp(&mut mint, 1, None) }
    };
    let mut sink = files.sink().await;
    sink.deliver(Delivery { source: SOURCE, after: 0, frames: &[frame(1)], through: 1 }).await.unwrap();
    for name in ["records.ndjson", "records.ndjson.dead"] {
        let mut file = File::options().create(true).append(true).open(files.path(name)).unwrap();
        file.write_all(b"{\"message\":\"to").unwrap();
    }
    sink.deliver(Delivery { source: SOURCE, after: 1, frames: &[frame(2)], through: 2 }).await.unwrap();
    let text = fs::read_to_string(files.path("records.ndjson")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert_eq!(lines[0], "a line of before");
    assert!(lines[1].contains(r#""message":"1""#) && lines[2].contains(r#""message":"2""#), "{text}");
    // Rotated away: the next line begins a new file.
    fs::rename(files.path("records.ndjson"), files.path("records.1")).unwrap();
    sink.deliver(Delivery { source: SOURCE, after: 2, frames: &[frame(3)], through: 3 }).await.unwrap();
    sink.deliver(Delivery { source: SOURCE, after: 3, frames: &[frame(4)], through: 4 }).await.unwrap();
    let text = fs::read_to_string(files.path("records.ndjson")).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
}
