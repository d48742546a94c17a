//! What a destination is to those who feed it. Owns the words between them; refuses to know any destination.

use std::error::Error;

use async_trait::async_trait;
use runstone_record::{Batch, RecordId};

/// A destination of records that keeps its own cursor for each source.
///
/// A source is a journal under one epoch, `{uuid}/{epoch}`, as it stands in a record's `journal`. A sink is fed by one
/// caller at a time; several sinks, of other processes too, may be fed into one target. A future that is dropped leaves the
/// target as an error does, or as if it had been waited for.
#[async_trait]
pub trait Sink: Send {
    /// Its name in logs and metrics.
    fn name(&self) -> &'static str;

    /// The last position of a source that is in the target, dead letters included; 0: none.
    ///
    /// # Errors
    /// Says what the caller is to do.
    async fn cursor(&mut self, source: &str) -> Result<u64, SinkError>;

    /// Brings records and the cursor to `through`, in one step: either both are there or neither. A record that the target
    /// has already is not there twice. One that it cannot take is kept as a dead letter, durably, before the cursor
    /// passes it, and does not keep the others from being taken.
    ///
    /// A target without transactions of that size (DynamoDB) does less: the records come first and the cursor after all of
    /// them, so that they may be read before the cursor says so. Still the cursor is never ahead of them, and none is there
    /// twice. One that has no conditions either (CloudWatch Logs) looks where an answer was lost, and may miss what it is shown
    /// too late: its guide says when a record can be there twice.
    ///
    /// # Errors
    /// Says what the caller is to do. Nothing of the delivery is in the target then, or all of it, where an answer was lost:
    /// the cursor tells. Where the target has no such transactions, part of the delivery may be there: the cursor is where it
    /// was, the same records are to be delivered again from there, in whatever pieces, and what is there already is passed
    /// over. Dead letters that an earlier attempt kept may be missing from the answer; the target has them.
    async fn deliver(&mut self, delivery: Delivery<'_>) -> Result<Delivered, SinkError>;
}

/// A frame of the journal, decoded.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The position of its first record; each further one has the next.
    pub first: u64,
    /// Its records.
    pub batch: Batch,
}

/// Records of one source that follow each other.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// The source.
    pub source: &'a str,
    /// Where the cursor is believed to be.
    pub after: u64,
    /// The records behind it, in order. Positions may be missing: what cannot be read has none.
    pub frames: &'a [Frame],
    /// Where the cursor is to be: at the last record or behind it.
    pub through: u64,
}

impl<'a> Delivery<'a> {
    /// How many records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.iter().map(|frame| frame.batch.len()).sum()
    }

    /// Does only the cursor move?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Each record: its batch, its row there, its position.
    pub fn records(&self) -> impl Iterator<Item = (&'a Batch, usize, u64)> + use<'a> {
        let rows = |frame: &'a Frame| {
            (0..frame.batch.len()).map(move |row| (&frame.batch, row, frame.first.saturating_add(row as u64)))
        };
        self.frames.iter().flat_map(rows)
    }
}

/// What came of a delivery.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivered {
    /// The records that the target could not take, in order. It has kept them.
    pub dead_letters: Vec<DeadLetter>,
}

/// A record that a target cannot take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The source that it came from.
    pub source: String,
    /// Its place there.
    pub position: u64,
    /// Its id.
    pub id: RecordId,
    /// Why, in the target's words. The first line says it; what the target shows of the record stands on further ones, and is
    /// no log's to show.
    pub reason: String,
    /// The record as JSON of the API, version 1.
    pub record: String,
}

impl DeadLetter {
    /// The letter of a row of a batch.
    #[must_use]
    pub fn of(source: &str, batch: &Batch, row: usize, position: u64, reason: String) -> Self {
        let mut record = Vec::new();
        batch.write_json(row, source, position, &mut record);
        // It is made of texts.
        let record = String::from_utf8_lossy(&record).into_owned();
        Self { source: source.to_owned(), position, id: batch.ids().get(row), reason, record }
    }
}

/// Why something in a target went wrong.
pub type Cause = Box<dyn Error + Send + Sync>;

/// Why a sink could not do what was asked, by what the caller is to do.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Come again later, for ever: the target cannot be reached, is slow, full or locked.
    #[error("{action}")]
    Away {
        /// What was tried.
        action: String,
        /// What came of it.
        source: Cause,
    },
    /// Go on from `found`: somebody else has moved the cursor, or an answer was lost.
    #[error("find the cursor where it was: it is at {found}")]
    Moved {
        /// Where the cursor is.
        found: u64,
    },
    /// Pause and say so: it stays like this until somebody changes the settings or the target.
    #[error("{problem}")]
    Misconfigured {
        /// What is wrong, and what would be right.
        problem: String,
        /// How it was found out.
        source: Option<Cause>,
    },
}

impl SinkError {
    /// Nothing but people can help, and nothing lies beneath.
    #[must_use]
    pub fn misconfigured(problem: impl Into<String>) -> Self {
        SinkError::Misconfigured { problem: problem.into(), source: None }
    }
}
