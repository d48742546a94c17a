//! Records as lines of JSON in a file, for people, `tail` and log shippers. Owns the file, its cursors and its dead letters;
//! refuses to rotate it: a file that was moved away is begun anew.
//!
//! Beside `PATH` stand `PATH.cursors`, which says how far each source has come and how long the file is then; `PATH.dead`, a
//! line of JSON for each dead letter; and `PATH.lock`, which one process at a time holds. What a crash left in the file behind
//! the length in `PATH.cursors` is cut off before more is written: lines and cursor change in one step.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use runstone_record::limits::CONSOLE_LINE_BYTES_MAX;
use serde::{Deserialize, Serialize};

use crate::{DeadLetter, Delivered, Delivery, Sink, SinkError};

/// A file of records.
#[derive(Debug, Clone)]
pub struct Console {
    path: PathBuf,
    line_bytes_max: usize,
}

/// What `PATH.cursors` has.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// Bytes of the file, and of the dead letters.
    bytes: u64,
    dead_bytes: u64,
    /// The last position of each source.
    cursors: BTreeMap<String, u64>,
}

/// What is to be written.
struct Lines {
    source: String,
    after: u64,
    through: u64,
    records: Vec<u8>,
    dead: Vec<u8>,
}

impl Console {
    /// A sink into `path`, whose directory must exist.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), line_bytes_max: CONSOLE_LINE_BYTES_MAX }
    }

    /// Lines may have so many bytes, their ends not counted: some shippers cut what is longer. A longer one is a dead letter.
    #[must_use]
    pub fn with_line_bytes_max(mut self, bytes: usize) -> Self {
        self.line_bytes_max = bytes;
        self
    }

    fn beside(&self, extension: &str) -> PathBuf {
        let mut name = OsString::from(self.path.as_os_str());
        name.push(extension);
        PathBuf::from(name)
    }

    /// The lock that one process at a time has.
    fn lock(&self) -> Result<File, SinkError> {
        let open = OpenOptions::new().create(true).append(true).open(self.beside(".lock"));
        let file = open.map_err(|error| self.away(error))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(self.away(io::Error::other("another process writes it"))),
            Err(TryLockError::Error(error)) => Err(self.away(error)),
        }
    }

    fn away(&self, error: io::Error) -> SinkError {
        SinkError::Away { action: format!("write records: {}", self.path.display()), source: error.into() }
    }

    fn state(&self) -> Result<Option<State>, SinkError> {
        let path = self.beside(".cursors");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // A directory that has gone is no file that was never there.
                self.directory().map_err(|error| self.away(error))?;
                return Ok(None);
            }
            Err(error) => return Err(self.away(error)),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| SinkError::Misconfigured {
            problem: format!("read cursors: repair or remove {}", path.display()),
            source: Some(error.into()),
        })
    }

    fn directory(&self) -> io::Result<File> {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))
    }

    /// Writes `PATH.cursors` whole, or not at all.
    fn keep(&self, state: &State) -> io::Result<()> {
        let (path, new) = (self.beside(".cursors"), self.beside(".cursors.new"));
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(state)?)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        self.directory()?.sync_all()
    }

    /// Cuts off what a crash left behind `bytes`, appends, and gives the new length.
    fn append(path: &Path, bytes: u64, text: &[u8]) -> io::Result<u64> {
        if text.is_empty() {
            return Ok(bytes);
        }
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        let found = file.metadata()?.len();
        if found > bytes {
            file.set_len(bytes)?;
        }
        file.write_all(text)?;
        file.sync_all()?;
        // Shorter than it was: somebody began it anew.
        Ok(found.min(bytes) + text.len() as u64)
    }

    fn write(&self, lines: &Lines) -> Result<(), SinkError> {
        let _lock = self.lock()?;
        let length = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
        let mut state = if let Some(state) = self.state()? {
            state
        } else {
            // What others wrote before us stays.
            let (bytes, dead_bytes) = (length(&self.path), length(&self.beside(".dead")));
            let state = State { bytes, dead_bytes, cursors: BTreeMap::new() };
            self.keep(&state).map_err(|error| self.away(error))?;
            state
        };
        let found = state.cursors.get(&lines.source).copied().unwrap_or(0);
        if found != lines.after {
            return Err(SinkError::Moved { found });
        }
        let done = (|| {
            state.dead_bytes = Self::append(&self.beside(".dead"), state.dead_bytes, &lines.dead)?;
            state.bytes = Self::append(&self.path, state.bytes, &lines.records)?;
            self.directory()?.sync_all()?;
            state.cursors.insert(lines.source.clone(), lines.through);
            self.keep(&state)
        })();
        done.map_err(|error| self.away(error))
    }

    /// The lines of a delivery, and the letters of those that are too long.
    fn lines(&self, delivery: Delivery<'_>) -> (Lines, Vec<DeadLetter>) {
        let (mut records, mut dead, mut letters) = (Vec::new(), Vec::new(), Vec::new());
        for (batch, row, position) in delivery.records() {
            let start = records.len();
            batch.write_json(row, delivery.source, position, &mut records);
            let bytes = records.len() - start;
            if bytes > self.line_bytes_max {
                records.truncate(start);
                let reason = format!("a line may have {} bytes, this one has {bytes}", self.line_bytes_max);
                let letter = DeadLetter::of(delivery.source, batch, row, position, reason);
                let reason = serde_json::Value::from(letter.reason.as_str());
                dead.extend_from_slice(format!("{{\"reason\":{reason},\"record\":{}}}\n", letter.record).as_bytes());
                letters.push(letter);
            } else {
                records.push(b'\n');
            }
        }
        let (source, after, through) = (delivery.source.to_owned(), delivery.after, delivery.through);
        (Lines { source, after, through, records, dead }, letters)
    }
}

/// Runs what waits for a disk where it keeps nobody else waiting.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SinkError> + Send + 'static,
) -> Result<T, SinkError> {
    let ended = |error: tokio::task::JoinError| SinkError::Away {
        action: "write records: the task ended".to_owned(),
        source: error.into(),
    };
    tokio::task::spawn_blocking(work).await.map_err(ended)?
}

#[async_trait]
impl Sink for Console {
    fn name(&self) -> &'static str {
        "console"
    }

    async fn cursor(&mut self, source: &str) -> Result<u64, SinkError> {
        let (own, source) = (self.clone(), source.to_owned());
        blocking(move || Ok(own.state()?.and_then(|state| state.cursors.get(&source).copied()).unwrap_or(0))).await
    }

    async fn deliver(&mut self, delivery: Delivery<'_>) -> Result<Delivered, SinkError> {
        let (lines, dead_letters) = self.lines(delivery);
        let own = self.clone();
        blocking(move || own.write(&lines)).await?;
        Ok(Delivered { dead_letters })
    }
}
