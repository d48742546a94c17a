//! The flush: what waits becomes files and one commit that carries the journal's cursor. Owns that order and what is kept
//! when it fails; refuses to decide when, and to read the journal.

use std::sync::Arc;

use runstone_record::Batch;
use runstone_record::limits::{LAKE_FILE_BYTES, LAKE_GROUP_BYTES, LAKE_GROUP_ROWS, LAKE_UPLOADED_MS_MAX};

use super::copies::{CopyOptions, CopySearch, Found};
use super::pending::{Pending, Waiting};
use super::plan::Plan;
use super::{Change, Lake, LakeError, LakeFile, LakeSnapshot, Txn};

/// How a flush lays its rows out.
#[derive(Debug, Clone, Copy)]
pub struct WriterOptions {
    /// Rows of a row group, at most.
    pub group_rows: usize,
    /// Bytes of the records in a row group, in memory, about.
    pub group_bytes: usize,
    /// Bytes after which a file is ended and the next one begun.
    pub file_bytes: u64,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { group_rows: LAKE_GROUP_ROWS, group_bytes: LAKE_GROUP_BYTES, file_bytes: LAKE_FILE_BYTES }
    }
}

/// A flush that is in the lake.
#[derive(Debug, Clone)]
pub struct Flushed {
    /// The table with it.
    pub snapshot: Arc<LakeSnapshot>,
    /// Whose records.
    pub journal: String,
    /// The last of their positions.
    pub through: u64,
    /// How many.
    pub rows: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// How many files.
    pub files: u64,
    /// Records that are not among them, for the lake had them already.
    pub copies: u64,
    /// Records that are not among them either, for their id stands for another there: they are with the dead letters.
    pub refused: u64,
}

/// Files in the storage that no commit names yet.
#[derive(Debug)]
struct Uploaded {
    first: u64,
    through: u64,
    files: Vec<LakeFile>,
    copies: u64,
    refused: u64,
}

/// Collects the frames of a journal and brings them to the lake.
#[derive(Debug)]
pub struct LakeWriter {
    lake: Lake,
    options: WriterOptions,
    journal: String,
    waiting: Waiting,
    uploaded: Option<Uploaded>,
    search: Option<CopySearch>,
}

impl LakeWriter {
    /// A writer without records.
    #[must_use]
    pub fn new(lake: Lake, options: WriterOptions) -> Self {
        Self { lake, options, journal: String::new(), waiting: Waiting::default(), uploaded: None, search: None }
    }

    /// From now on a flush looks for records that the lake has already, where a client minted their ids.
    pub fn leave_out_copies(&mut self, options: CopyOptions) {
        self.search = Some(CopySearch::new(options));
    }

    /// Adds a frame whose first position is `first`. Frames come in the order of their positions, and those between two
    /// flushes are of one journal.
    ///
    /// # Errors
    /// The frame is of another journal or does not follow, or its columns cannot be laid out.
    pub fn push(&mut self, journal: &str, first: u64, batch: Batch) -> Result<(), LakeError> {
        self.waiting.push(journal, first, batch)?;
        if self.journal != journal {
            journal.clone_into(&mut self.journal);
        }
        Ok(())
    }

    /// What waits.
    #[must_use]
    pub fn pending(&self) -> Pending {
        self.waiting.pending()
    }

    /// Encodes, uploads and commits what waits, on top of the journal's position `after` (none: the lake has nothing of
    /// it). What the lake has already is left out. None: nothing waited. On an error everything waits on.
    ///
    /// # Errors
    /// Records cannot be encoded, the storage fails, or the journal is not where `after` says.
    pub async fn flush(&mut self, after: Option<u64>) -> Result<Option<Flushed>, LakeError> {
        let mut done: Option<Flushed> = None;
        // More than once only after a commit that failed: its files are committed first.
        while let Some(last) = self.waiting.pending().last {
            let after = done.as_ref().map_or(after, |done| Some(done.through));
            if after.is_some_and(|after| last <= after) {
                self.clear();
                break;
            }
            let next = self.commit(after, last).await?;
            done = Some(match done {
                None => next,
                Some(done) => Flushed {
                    rows: done.rows + next.rows,
                    bytes: done.bytes + next.bytes,
                    files: done.files + next.files,
                    copies: done.copies + next.copies,
                    refused: done.refused + next.refused,
                    ..next
                },
            });
        }
        Ok(done)
    }

    async fn commit(&mut self, after: Option<u64>, last: u64) -> Result<Flushed, LakeError> {
        let first = self.waiting.pending().first.unwrap_or(0).max(after.map_or(0, |after| after + 1));
        // A commit that fails again and again must not leave its files behind each time: the disk may be full. Files that
        // are too old, vacuum may have removed.
        let oldest = self.lake.now_ms() - LAKE_UPLOADED_MS_MAX;
        let is_of_use = |uploaded: &Uploaded| {
            uploaded.first == first && uploaded.files.iter().all(|file| file.modified_ms > oldest)
        };
        let uploaded = match self.uploaded.take().filter(is_of_use) {
            Some(uploaded) => uploaded,
            None => self.upload(first, after, last).await?,
        };
        let (copies, refused) = (uploaded.copies, uploaded.refused);
        let (through, rows, bytes) = (uploaded.through, rows(&uploaded.files), bytes(&uploaded.files));
        let files = uploaded.files.len() as u64;
        let change = Change {
            journal: Some(Txn { journal: self.journal.clone(), after, through }),
            add: uploaded.files.clone(),
            remove: Vec::new(),
            data_change: true,
            operation: "WRITE",
            metrics: vec![("numFiles", files), ("numOutputRows", rows), ("numOutputBytes", bytes)],
        };
        self.uploaded = Some(uploaded);
        let snapshot = self.lake.commit(change).await?;
        self.uploaded = None;
        self.waiting.forget(through);
        Ok(Flushed { snapshot, journal: self.journal.clone(), through, rows, bytes, files, copies, refused })
    }

    /// Forgets what waits.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.uploaded = None;
    }

    async fn upload(&mut self, first: u64, after: Option<u64>, through: u64) -> Result<Uploaded, LakeError> {
        let chunks = self.waiting.after(after);
        let found = match &mut self.search {
            Some(search) => search.run(&self.lake, &chunks).await?,
            None => Found::default(),
        };
        let refused = found.letters.len() as u64;
        let copies = found.dropped.len() as u64 - refused;
        let plan = Plan::new(chunks, found.dropped, self.options);
        let mut files = Vec::new();
        match self.upload_files(plan, &mut files).await {
            Ok(()) => Ok(Uploaded { first, through, files, copies, refused }),
            Err(error) => {
                // No commit was tried with them, and none will be: on a full disk each further try would leave its own.
                self.lake.discard(&files).await;
                Err(error)
            }
        }
    }

    async fn upload_files(&self, mut plan: Plan, files: &mut Vec<LakeFile>) -> Result<(), LakeError> {
        loop {
            let encode = move || {
                let file = plan.next_file();
                (plan, file)
            };
            let done = tokio::task::spawn_blocking(encode).await;
            let (rest, file) = done.map_err(|panicked| LakeError::Unwritable(panicked.to_string()))?;
            plan = rest;
            match file.map_err(of_records)? {
                Some((day, file)) => files.push(self.lake.put(file, day).await?),
                None => return Ok(()),
            }
        }
    }
}

/// An error of the encoder is one of the records that it was given.
fn of_records(error: LakeError) -> LakeError {
    match error {
        LakeError::Internal(reason) => LakeError::Unwritable(reason),
        error => error,
    }
}

fn rows(files: &[LakeFile]) -> u64 {
    files.iter().filter_map(|file| file.stats.rows).sum()
}

fn bytes(files: &[LakeFile]) -> u64 {
    files.iter().map(|file| file.bytes).sum()
}
