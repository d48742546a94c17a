//! From parsed records to an acknowledgement: repeated deliveries are told apart, one frame is written, and the answer
//! waits for the disk and for nothing else. Owns identity at the door; refuses to know what becomes of a record behind
//! the journal.

mod ids;
mod keys;
mod remembered;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use runstone_journal::{AppendError, Appended, Journal};
use runstone_record::ids::ID_CONFLICT;
use runstone_record::parse::{ItemError, Parsed};
use runstone_record::wire::{IngestAnswer, ItemErrorBody};
use runstone_record::{Batch, ErrorCode, IdMint, Origin, limits};
use tokio::sync::{oneshot, watch};

use crate::clock::Clock;
use crate::metrics::IngestMetrics;
use ids::{Claim, Ids};
use keys::{Begin, Keys};

/// A source of random bits: ids must not be guessed or repeated.
pub type Entropy = Arc<dyn Fn() -> u128 + Send + Sync>;

/// Part of the memory for identity that idempotency keys may take.
const KEYS_SHARE: usize = 8;

/// The door of the journal.
#[derive(Clone)]
pub struct Intake {
    parts: Arc<Parts>,
}

struct Parts {
    journal: Arc<Journal>,
    clock: Arc<dyn Clock>,
    entropy: Entropy,
    metrics: IngestMetrics,
    ids: Ids,
    keys: Keys,
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").field("journal", &self.parts.journal.id()).finish_non_exhaustive()
    }
}

/// The `Idempotency-Key` of a request and the hash of its decoded body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// The header's value.
    pub key: String,
    /// XXH3-64 of the body.
    pub body_hash: u64,
}

/// An answer, and whether it is a repetition of an earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The body.
    pub answer: Arc<IngestAnswer>,
    /// Was it given before, under the same key?
    pub replayed: bool,
}

/// Why nothing was acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IntakeError {
    /// The key stands for another body.
    #[error("this Idempotency-Key was used with another body: send a new key with a new request")]
    KeyReused,
    /// The journal did not take them.
    #[error("write to the journal: {0}")]
    Journal(#[source] AppendError),
    /// The server is stopping.
    #[error("the server is stopping: send the records again, under the same ids")]
    Stopping,
}

impl IntakeError {
    /// The code of the answer.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            IntakeError::KeyReused => ErrorCode::IdempotencyKeyReused,
            IntakeError::Stopping => ErrorCode::Unavailable,
            IntakeError::Journal(error) => match error {
                AppendError::Full { .. } => ErrorCode::Overloaded,
                AppendError::TooLarge { .. } => ErrorCode::BodyTooLarge,
                // "Nothing happened" must be true: a sync that failed before may have left the bytes.
                AppendError::DiskFull { uncertain: false, .. } => ErrorCode::DiskFull,
                AppendError::LimitReached { .. } => ErrorCode::JournalFull,
                AppendError::NoItems => ErrorCode::Internal,
                AppendError::DiskFull { uncertain: true, .. }
                | AppendError::Closed
                | AppendError::Unavailable { .. }
                | AppendError::Failed { .. } => ErrorCode::Unavailable,
            },
        }
    }
}

impl Intake {
    /// A door to `journal` that remembers identities within `ids_bytes_max`.
    #[must_use]
    pub fn new(
        journal: Arc<Journal>,
        clock: Arc<dyn Clock>,
        entropy: Entropy,
        metrics: IngestMetrics,
        ids_bytes_max: usize,
    ) -> Self {
        let keys_bytes_max = ids_bytes_max / KEYS_SHARE;
        let ids = Ids::new(ids_bytes_max - keys_bytes_max);
        let keys = Keys::new(keys_bytes_max);
        Self { parts: Arc::new(Parts { journal, clock, entropy, metrics, ids, keys }) }
    }

    /// Remembers a batch that the journal holds already.
    pub fn remember(&self, batch: &Batch, first: u64) {
        self.parts.ids.remember(batch, first);
        if let Some(origin) = batch.origin() {
            let errors = serde_json::from_str(&origin.errors).unwrap_or_default();
            let appended = Some(Appended { first, last: first + batch.len() as u64 - 1 });
            let answer = self.parts.answer(batch.len(), origin.duplicates, origin.rejected, errors, appended);
            self.parts.keys.remember(&origin.key, origin.body_hash, Arc::new(answer));
        }
    }

    /// What the journal holds from a position on was remembered.
    pub fn recalled(&self, known_from: u64) {
        self.parts.ids.recalled(known_from);
    }

    /// The position from which on a record's id is known here; an earlier one may come again without being noticed.
    #[must_use]
    pub fn known_from(&self) -> u64 {
        self.parts.ids.known_from()
    }

    /// The answer that was given under a key, waiting for it where its request is in flight. None: the key is this
    /// request's now, and [`Intake::take`] must follow without another wait.
    ///
    /// # Errors
    /// The key stands for another body.
    pub async fn begin(&self, key: &RequestKey) -> Result<Option<Taken>, IntakeError> {
        loop {
            match self.parts.keys.begin(&key.key, key.body_hash) {
                Begin::New => return Ok(None),
                Begin::Reused => return Err(IntakeError::KeyReused),
                Begin::Replay(answer) => return Ok(Some(Taken { answer, replayed: true })),
                // It changes only by ending.
                Begin::Wait(mut done) => {
                    let _ = done.changed().await;
                }
            }
        }
    }

    /// Writes records and waits until they are durable. Goes on to the end even if the caller does not: what was
    /// written must be remembered.
    ///
    /// # Errors
    /// Nothing was acknowledged; [`IntakeError::code`] says whether to send it again.
    pub async fn take(&self, parsed: Parsed, key: Option<RequestKey>) -> Result<Taken, IntakeError> {
        let parts = Arc::clone(&self.parts);
        let work = tokio::spawn(async move {
            // Whatever happens below, nobody must wait for this key for ever.
            let mut held = key.as_ref().map(|key| HeldKey { keys: &parts.keys, key: &key.key, answer: None });
            let answered = parts.take(parsed, key.as_ref()).await;
            if let Some(held) = &mut held {
                held.answer = answered.as_ref().ok().map(Arc::clone);
            }
            answered
        });
        let answer = work.await.map_err(|_| IntakeError::Stopping)??;
        Ok(Taken { answer, replayed: false })
    }
}

/// A key in flight. When it is dropped the key is answered, or free again.
struct HeldKey<'a> {
    keys: &'a Keys,
    key: &'a str,
    answer: Option<Arc<IngestAnswer>>,
}

impl Drop for HeldKey<'_> {
    fn drop(&mut self) {
        self.keys.finish(self.key, self.answer.take());
    }
}

/// Claimed ids. When it is dropped they are durable, or free again.
struct HeldIds<'a> {
    ids: &'a Ids,
    ticket: u64,
    batch: &'a Batch,
    /// The last position of its records; 0 where none was new. None: it was not written.
    through: Option<u64>,
}

impl Drop for HeldIds<'_> {
    fn drop(&mut self) {
        self.ids.settle(self.ticket, self.batch, self.through);
    }
}

impl Parts {
    async fn take(&self, parsed: Parsed, key: Option<&RequestKey>) -> Result<Arc<IngestAnswer>, IntakeError> {
        let Parsed { builder, places, errors, replaced_nuls } = parsed;
        self.metrics.replaced_nuls.inc_by(replaced_nuls);
        if builder.is_empty() {
            return Ok(self.finish(0, 0, &errors, None));
        }
        let now = self.clock.now_micros();
        let mut mint = IdMint::new(u64::try_from(now / 1_000).unwrap_or(0), (self.entropy)());
        let batch = builder.stamp(&mut mint, now, None);
        if matches!(batch.ids(), runstone_record::Ids::Minted { .. }) {
            let appended = self.append(&batch, 0, &errors, key).await?;
            return Ok(self.finish(batch.len(), 0, &errors, Some(appended)));
        }
        self.take_given(batch, &places, errors, key).await
    }

    /// A batch with ids of the client's.
    async fn take_given(
        &self,
        batch: Batch,
        places: &[usize],
        mut errors: Vec<ItemError>,
        key: Option<&RequestKey>,
    ) -> Result<Arc<IngestAnswer>, IntakeError> {
        let (claim, batch) = self.claim(batch).await;
        let mut held = HeldIds { ids: &self.ids, ticket: claim.ticket, batch: &batch, through: None };
        errors.extend(claim.conflicts.iter().map(|row| conflict(places[*row])));
        errors.sort_by_key(|error| error.index);
        let appended =
            if batch.is_empty() { None } else { Some(self.append(&batch, claim.duplicates, &errors, key).await?) };
        held.through = Some(appended.map_or(0, |appended| appended.last));
        drop(held);
        Ok(self.finish(batch.len(), claim.duplicates, &errors, appended))
    }

    /// Claims a batch's ids and leaves the new records in it. A record counts as there already only once it is durable:
    /// where another delivery of it is in flight that one is waited for, and where it fails, the claim is made anew. A
    /// claim waits only for earlier ones, so that no two wait for each other.
    async fn claim(&self, batch: Batch) -> (Claim, Batch) {
        loop {
            let mut claim = self.ids.claim(&batch);
            if all_durable(&mut claim.waits).await {
                let all_new = claim.new.count() == batch.len();
                let batch = if all_new { batch } else { batch.filter(&claim.new) };
                return (claim, batch);
            }
            self.ids.settle(claim.ticket, &batch, None);
        }
    }

    async fn append(
        &self,
        batch: &Batch,
        duplicates: usize,
        errors: &[ItemError],
        key: Option<&RequestKey>,
    ) -> Result<Appended, IntakeError> {
        let payload = match key {
            None => batch.encode(),
            Some(key) => {
                let origin = Origin {
                    key: key.key.clone(),
                    body_hash: key.body_hash,
                    duplicates: u32::try_from(duplicates).unwrap_or(u32::MAX),
                    rejected: u32::try_from(errors.len()).unwrap_or(u32::MAX),
                    errors: serde_json::to_string(&listed(errors)).unwrap_or_default(),
                };
                batch.clone().with_origin(Some(origin)).encode()
            }
        };
        let (answer, answered) = oneshot::channel();
        let items = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        let done = Box::new(move |result| {
            // The task that waits may be gone with the runtime; the frame is durable all the same.
            let _ = answer.send(result);
        });
        self.journal.append(Bytes::from(payload), items, done).map_err(IntakeError::Journal)?;
        answered.await.map_err(|_| IntakeError::Stopping)?.map_err(IntakeError::Journal)
    }

    /// Counts and words the answer.
    fn finish(
        &self,
        new: usize,
        duplicates: usize,
        errors: &[ItemError],
        appended: Option<Appended>,
    ) -> Arc<IngestAnswer> {
        self.metrics.records.inc_by(new as u64);
        self.metrics.duplicates.inc_by(duplicates as u64);
        errors.iter().for_each(|error| self.metrics.reject(error.code, 1));
        let (duplicates, rejected) = (u32::try_from(duplicates), u32::try_from(errors.len()));
        let (duplicates, rejected) = (duplicates.unwrap_or(u32::MAX), rejected.unwrap_or(u32::MAX));
        Arc::new(self.answer(new, duplicates, rejected, listed(errors), appended))
    }

    fn answer(
        &self,
        new: usize,
        duplicates: u32,
        rejected: u32,
        errors: Vec<ItemErrorBody>,
        appended: Option<Appended>,
    ) -> IngestAnswer {
        IngestAnswer {
            accepted: new as u64 + u64::from(duplicates),
            duplicates: u64::from(duplicates),
            rejected: u64::from(rejected),
            journal: appended.map(|appended| self.journal.id_at(appended.first).to_string()),
            first_position: appended.map(|appended| appended.first),
            last_position: appended.map(|appended| appended.last),
            errors,
        }
    }
}

/// Waits until every one of these deliveries has ended. False: one of them was not written.
async fn all_durable(deliveries: &mut [watch::Receiver<Option<bool>>]) -> bool {
    let mut durable = true;
    for delivery in deliveries {
        // The sender leaves its last word behind when it goes.
        let _ = delivery.wait_for(Option::is_some).await;
        durable &= *delivery.borrow() == Some(true);
    }
    durable
}

/// The refusals that an answer lists.
fn listed(errors: &[ItemError]) -> Vec<ItemErrorBody> {
    let body = |error: &ItemError| ItemErrorBody {
        index: error.index as u64,
        code: error.code.as_str().to_owned(),
        message: error.message.clone(),
        field: error.field.clone(),
    };
    errors.iter().take(limits::ANSWER_ERRORS_MAX).map(body).collect()
}

fn conflict(index: usize) -> ItemError {
    ItemError { index, code: ErrorCode::IdConflict, message: ID_CONFLICT.to_owned(), field: Some("id".to_owned()) }
}
