//! Sources on real files.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::sync::mpsc::{SyncSender, sync_channel};

use runstone_sdk::Defaults;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;
use crate::lines::{Formats, LineParser, Zone};

fn converter(format: Format) -> Converter {
    let parser = LineParser::new(Arc::new(Formats::compile().unwrap()), Zone::UTC);
    let (defaults, line_defaults) = (Defaults::default(), Defaults::default());
    Converter { format, parser, defaults, line_defaults, clock: crate::clock::now }
}

/// (line number, message or the reason why it is no record)
fn brief(items: Vec<Item>) -> Vec<(u64, String)> {
    let text = |item: Item| match item.converted {
        Ok(converted) => serde_json::from_str::<Value>(&converted.record.to_json()).unwrap()["message"].to_string(),
        Err(why) => why.split(':').next().unwrap_or_default().to_owned(),
    };
    items.into_iter().map(|item| (item.line, text(item))).collect()
}

fn read(format: Format, content: &str) -> Vec<(u64, String)> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("input");
    fs::write(&path, content).unwrap();
    let (out, mut chunks) = mpsc::channel(64);
    read_all(&Source::File(path), converter(format), out);
    let mut items = Vec::new();
    while let Some(chunk) = chunks.blocking_recv() {
        assert!(chunk.failed.is_none());
        items.extend(chunk.items);
    }
    brief(items)
}

fn expect(lines: &[(u64, &str)]) -> Vec<(u64, String)> {
    lines.iter().map(|(line, text)| (*line, (*text).to_owned())).collect()
}

#[test]
fn lines_keep_their_numbers() {
    assert_eq!(read(Format::Auto, "a\n\n\nb\r\nc"), expect(&[(1, "\"a\""), (4, "\"b\""), (5, "\"c\"")]));
    assert_eq!(
        read(Format::Ndjson, "{\"message\":1}\nx\n{\"message\":2}"),
        expect(&[(1, "1"), (2, "write a record as one JSON object"), (3, "2")])
    );
}

#[test]
fn a_document_gives_its_objects_with_their_lines() {
    let array = "[\n  {\"message\": 1},\n  {\n    \"message\": 2\n  }, 3\n]\n";
    assert_eq!(read(Format::Auto, array), expect(&[(2, "1"), (3, "2"), (5, "write a record as one JSON object")]));
    assert_eq!(read(Format::Auto, "{\n\"message\": 1}\n\n{\"message\": 2}"), expect(&[(1, "1"), (4, "2")]));
    assert_eq!(read(Format::Json, "[]"), expect(&[]));
}

#[test]
fn what_precedes_a_syntax_error_is_kept() {
    let found = read(Format::Json, "{\"message\":1}\n{\"message\":\n");
    assert_eq!(found, expect(&[(1, "1"), (2, "write JSON objects, or arrays of them")]));
}

#[test]
fn a_source_that_cannot_be_read_says_so() {
    let dir = TempDir::new().unwrap();
    let (out, mut chunks) = mpsc::channel(4);
    read_all(&Source::File(dir.path().to_owned()), converter(Format::Auto), out);
    assert!(chunks.blocking_recv().unwrap().failed.is_some());
}

struct Following {
    chunks: mpsc::Receiver<Chunk>,
    stop: Option<SyncSender<()>>,
    path: PathBuf,
    _dir: TempDir,
}

impl Following {
    fn start(content: &str) -> Following {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("app.log");
        fs::write(&path, content).unwrap();
        let (out, chunks) = mpsc::channel(64);
        let (stop, stopped) = sync_channel(0);
        let source = Source::File(path.clone());
        std::thread::spawn(move || follow(&source, converter(Format::Lines), out, &stopped));
        Following { chunks, stop: Some(stop), path, _dir: dir }
    }

    fn append(&self, text: &str) {
        OpenOptions::new().append(true).open(&self.path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Waits for the next line.
    fn line(&mut self) -> Option<String> {
        loop {
            let chunk = self.chunks.blocking_recv()?;
            assert!(chunk.failed.is_none());
            if let Some((_, text)) = brief(chunk.items).pop() {
                return Some(text);
            }
        }
    }
}

#[test]
fn what_is_appended_is_read_and_a_half_line_waits_for_its_end() {
    let mut following = Following::start("one\n");
    assert_eq!(following.line().as_deref(), Some("\"one\""));
    following.append("tw");
    following.append("o\nthr");
    assert_eq!(following.line().as_deref(), Some("\"two\""));
    following.stop.take();
    assert_eq!(following.line().as_deref(), Some("\"thr\""));
    assert_eq!(following.line(), None);
}

#[test]
fn a_rotated_file_is_read_to_its_end_before_the_new_one() {
    let mut following = Following::start("old\n");
    assert_eq!(following.line().as_deref(), Some("\"old\""));
    let rotated = following.path.with_extension("log.1");
    fs::rename(&following.path, &rotated).unwrap();
    OpenOptions::new().append(true).open(&rotated).unwrap().write_all(b"late\n").unwrap();
    assert_eq!(following.line().as_deref(), Some("\"late\""));
    fs::write(&following.path, "new\n").unwrap();
    assert_eq!(following.line().as_deref(), Some("\"new\""));
}

#[test]
fn a_cut_file_is_read_from_its_start() {
    let mut following = Following::start("a long first line\n");
    assert_eq!(following.line().as_deref(), Some("\"a long first line\""));
    fs::write(&following.path, "short\n").unwrap();
    assert_eq!(following.line().as_deref(), Some("\"short\""));
}
