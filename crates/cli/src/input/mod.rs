//! Reading what is to be sent: files and standard input, once or as they grow.
//!
//! Owns files, line numbers and the threads that read. Hands over chunks of records through a bounded queue: when the
//! server is slow, reading waits.

mod convert;
mod document;
mod follow;
mod splitter;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use runstone_record::limits::RECORD_BYTES_MAX;
use tokio::sync::mpsc::Sender;

pub(crate) use convert::{Converted, Converter, Format, fit};
pub(crate) use splitter::Splitter;

/// How much is read at once.
const READ_BYTES: usize = 256 << 10;
/// Bytes of a line that are kept. More never fit into a record.
pub(crate) const LINE_BYTES_MAX: usize = RECORD_BYTES_MAX;
/// How often a followed file is looked at.
const POLL: Duration = Duration::from_millis(200);

/// Where records come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Standard input.
    Stdin,
    /// A file.
    File(PathBuf),
}

impl Source {
    /// `-` is standard input.
    pub(crate) fn of(path: &Path) -> Source {
        if path.as_os_str() == "-" { Source::Stdin } else { Source::File(path.to_owned()) }
    }

    /// As it stands in front of line numbers.
    pub(crate) fn name(&self) -> Arc<str> {
        match self {
            Source::Stdin => "stdin".into(),
            Source::File(path) => path.to_string_lossy().into(),
        }
    }

    fn open(&self) -> io::Result<Box<dyn Read>> {
        Ok(match self {
            Source::Stdin => Box::new(io::stdin()),
            Source::File(path) => Box::new(File::open(path)?),
        })
    }
}

/// One line or object, and what became of it.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) line: u64,
    pub(crate) converted: Result<Converted, String>,
}

/// What one read gave.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) source: Arc<str>,
    pub(crate) bytes: u64,
    pub(crate) items: Vec<Item>,
    /// Why the source ended early.
    pub(crate) failed: Option<io::Error>,
}

/// Tells a following thread to stop: when the other end is dropped.
pub(crate) type Stop = Receiver<()>;

/// Waits until it is time to look again; true if it is time to stop.
fn stopped(stop: &Stop) -> bool {
    matches!(stop.recv_timeout(POLL), Err(RecvTimeoutError::Disconnected))
}

/// Nobody listens any more.
struct Closed;

/// Numbers the lines of one source, converts them and hands them over.
struct Feed {
    source: Arc<str>,
    converter: Converter,
    splitter: Splitter,
    line: u64,
    out: Sender<Chunk>,
}

impl Feed {
    fn new(source: &Source, converter: Converter, out: Sender<Chunk>) -> Feed {
        Feed { source: source.name(), converter, splitter: Splitter::new(LINE_BYTES_MAX), line: 0, out }
    }

    /// Takes what one read gave.
    fn feed(&mut self, bytes: &[u8]) -> Result<(), Closed> {
        let mut items = Vec::new();
        let Feed { converter, splitter, line, .. } = self;
        splitter.feed(bytes, |text, dropped| push(converter, line, text, dropped, &mut items));
        self.hand_over(items, bytes.len() as u64, None)
    }

    /// Takes the last line, which had no newline.
    fn finish(&mut self) -> Result<(), Closed> {
        let mut items = Vec::new();
        let Feed { converter, splitter, line, .. } = self;
        splitter.finish(|text, dropped| push(converter, line, text, dropped, &mut items));
        self.hand_over(items, 0, None)
    }

    fn fail(&mut self, error: io::Error) -> Result<(), Closed> {
        self.hand_over(Vec::new(), 0, Some(error))
    }

    fn hand_over(&self, items: Vec<Item>, bytes: u64, failed: Option<io::Error>) -> Result<(), Closed> {
        let chunk = Chunk { source: Arc::clone(&self.source), bytes, items, failed };
        self.out.blocking_send(chunk).map_err(|_| Closed)
    }
}

fn push(converter: &mut Converter, line: &mut u64, text: &[u8], dropped: u64, items: &mut Vec<Item>) {
    *line += 1;
    if let Some(converted) = converter.line(text, dropped) {
        items.push(Item { line: *line, converted });
    }
}

/// Reads a source to its end. Runs on a thread of its own.
pub(crate) fn read_all(source: &Source, converter: Converter, out: Sender<Chunk>) {
    let mut feed = Feed::new(source, converter, out);
    let outcome = match source.open().and_then(|mut reader| read_to_end(&mut *reader, &mut feed)) {
        Ok(outcome) => outcome,
        Err(error) => feed.fail(error),
    };
    // Closed: the sending side has given up and said why.
    let _ = outcome;
}

fn read_to_end(reader: &mut dyn Read, feed: &mut Feed) -> io::Result<Result<(), Closed>> {
    let mut buffer = vec![0; READ_BYTES];
    let mut bytes = read_some(reader, &mut buffer)?;
    if document::is_one(feed.converter.format, &buffer[..bytes]) {
        return document::read(&buffer[..bytes], reader, feed);
    }
    while bytes > 0 {
        if let Err(closed) = feed.feed(&buffer[..bytes]) {
            return Ok(Err(closed));
        }
        bytes = read_some(reader, &mut buffer)?;
    }
    Ok(feed.finish())
}

fn read_some(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Reads a source and whatever is appended to it, until told to stop. Runs on a thread of its own.
pub(crate) fn follow(source: &Source, converter: Converter, out: Sender<Chunk>, stop: &Stop) {
    match source {
        Source::Stdin => read_all(source, converter, out),
        Source::File(path) => {
            let mut feed = Feed::new(source, converter, out);
            if let Err(error) = follow::run(path, &mut feed, stop) {
                let _ = feed.fail(error);
            }
        }
    }
}

#[cfg(test)]
mod tests;
