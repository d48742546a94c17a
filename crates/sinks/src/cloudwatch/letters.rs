//! Dead letters: lines of a stream for each source, and lines of another that say which of them were removed. Owns both; refuses
//! to decide what becomes one.
//!
//! CloudWatch deletes no single event, and may have a letter twice: one is a letter for whoever reads it once, and gone for
//! good once it was removed.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use runstone_record::RecordId;
use runstone_record::limits::{CLOUDWATCH_EVENT_BYTES_MAX, PAGE_ROWS_MAX, RECORD_BYTES_MAX};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::look::Reading;
use super::{Cloudwatch, CloudwatchError, NAME};
use crate::{DeadLetter, DeadLetters, Delivery, Redelivered, SinkError};

/// A letter has room for any record, with what the server adds to it.
const _: () = assert!(RECORD_BYTES_MAX * 2 < CLOUDWATCH_EVENT_BYTES_MAX);
/// Positions of one line that says what was removed.
const REMOVED_MAX: usize = 1_000;

const LETTERS: &str = "letters/";
const REMOVED: &str = "removed/";

/// A line with a letter.
#[derive(Debug, Serialize, Deserialize)]
struct Line<'a> {
    source: String,
    position: u64,
    id: String,
    reason: String,
    #[serde(borrow)]
    record: &'a RawValue,
}

/// A line that says which letters were removed.
#[derive(Debug, Serialize, Deserialize)]
struct Gone {
    removed: Vec<u64>,
}

#[async_trait]
impl DeadLetters for Cloudwatch {
    fn sink(&self) -> &'static str {
        NAME
    }

    async fn dead_letters(&self, after: Option<(&str, u64)>, limit: usize) -> Result<Vec<DeadLetter>, SinkError> {
        self.page(after.unwrap_or(("", 0)), limit.min(PAGE_ROWS_MAX)).await.map_err(CloudwatchError::tell)
    }

    async fn remove_dead_letters(&self, source: &str, positions: &[u64]) -> Result<u64, SinkError> {
        self.remove(source, positions).await.map_err(CloudwatchError::tell)
    }

    async fn redeliver(&self, letter: &DeadLetter, _now: i64) -> Result<Redelivered, SinkError> {
        let (source, position) = (letter.source.as_str(), letter.position);
        let frames = match letter.frame() {
            Ok(frame) => [frame],
            Err(error) => return Ok(Redelivered::Refused { reason: error.to_string() }),
        };
        // Somebody may have brought it a moment ago, or removed it.
        self.settled().await;
        if !self.is_there(source, position).await.map_err(CloudwatchError::tell)? {
            return Ok(Redelivered::Gone);
        }
        let delivery = Delivery { source, after: position.saturating_sub(1), frames: &frames, through: position };
        let refused = self.append_records(delivery, false, None).await.map_err(CloudwatchError::tell)?;
        if let Some(letter) = refused.into_iter().next() {
            return Ok(Redelivered::Refused { reason: letter.reason });
        }
        self.remove(source, &[position]).await.map_err(CloudwatchError::tell)?;
        Ok(Redelivered::Taken)
    }
}

impl Cloudwatch {
    /// Keeps letters of a source.
    pub(super) async fn keep(&self, source: &str, letters: &[DeadLetter]) -> Result<(), CloudwatchError> {
        if letters.is_empty() {
            return Ok(());
        }
        let stream = format!("{LETTERS}{source}");
        let line = |letter: &DeadLetter| {
            let line = Line {
                source: letter.source.clone(),
                position: letter.position,
                id: letter.id.to_string(),
                reason: letter.reason.clone(),
                record: serde_json::from_str(&letter.record)?,
            };
            serde_json::to_string(&line)
        };
        let lines: Result<Vec<String>, _> = letters.iter().map(line).collect();
        let lines = lines.map_err(|error| CloudwatchError::Letter { place: stream.clone(), source: error })?;
        self.note(&stream, self.now_ms(), lines).await
    }

    async fn page(&self, after: (&str, u64), limit: usize) -> Result<Vec<DeadLetter>, CloudwatchError> {
        let mut page = Vec::new();
        for stream in self.streams(&self.state_group(), LETTERS).await? {
            let Some(source) = stream.strip_prefix(LETTERS).filter(|source| *source >= after.0) else { continue };
            if page.len() == limit {
                break;
            }
            let removed = self.removed(source).await?;
            let from = if source == after.0 { after.1 } else { 0 };
            let mut first: BTreeMap<u64, DeadLetter> = BTreeMap::new();
            let left = limit - page.len();
            self.each_letter(source, &mut |letter| {
                if letter.position > from && !removed.contains(&letter.position) {
                    first.entry(letter.position).or_insert(letter);
                    if first.len() > left {
                        first.pop_last();
                    }
                }
            })
            .await?;
            page.extend(first.into_values());
        }
        Ok(page)
    }

    async fn remove(&self, source: &str, positions: &[u64]) -> Result<u64, CloudwatchError> {
        let wanted: BTreeSet<u64> = positions.iter().copied().collect();
        let mut there = BTreeSet::new();
        self.each_letter(source, &mut |letter| {
            if wanted.contains(&letter.position) {
                there.insert(letter.position);
            }
        })
        .await?;
        let before = self.removed(source).await?;
        let gone: Vec<u64> = there.difference(&before).copied().collect();
        let line = |removed: &[u64]| serde_json::to_string(&Gone { removed: removed.to_vec() }).unwrap_or_default();
        let lines: Vec<String> = gone.chunks(REMOVED_MAX).map(line).collect();
        self.note(&format!("{REMOVED}{source}"), self.now_ms(), lines).await?;
        Ok(gone.len() as u64)
    }

    /// Is it a letter that nobody has removed?
    async fn is_there(&self, source: &str, position: u64) -> Result<bool, CloudwatchError> {
        if self.removed(source).await?.contains(&position) {
            return Ok(false);
        }
        let mut is_there = false;
        self.each_letter(source, &mut |letter| is_there |= letter.position == position).await?;
        Ok(is_there)
    }

    async fn removed(&self, source: &str) -> Result<BTreeSet<u64>, CloudwatchError> {
        let (group, stream) = (self.state_group(), format!("{REMOVED}{source}"));
        let mut removed = BTreeSet::new();
        let failed = |error| CloudwatchError::Letter { place: stream.clone(), source: error };
        self.read(Reading { group: &group, stream: &stream, times: None }, &mut |event| {
            let line: Gone = serde_json::from_str(event.message().unwrap_or_default()).map_err(failed)?;
            removed.extend(line.removed);
            Ok(false)
        })
        .await?;
        Ok(removed)
    }

    async fn each_letter(
        &self,
        source: &str,
        each: &mut (dyn FnMut(DeadLetter) + Send),
    ) -> Result<(), CloudwatchError> {
        let (group, stream) = (self.state_group(), format!("{LETTERS}{source}"));
        let failed = |error| CloudwatchError::Letter { place: stream.clone(), source: error };
        self.read(Reading { group: &group, stream: &stream, times: None }, &mut |event| {
            let line: Line<'_> = serde_json::from_str(event.message().unwrap_or_default()).map_err(failed)?;
            let id = RecordId::parse(&line.id).map_err(|error| failed(serde::de::Error::custom(error)))?;
            let record = line.record.get().to_owned();
            each(DeadLetter { source: line.source, position: line.position, id, reason: line.reason, record });
            Ok(false)
        })
        .await
    }
}
