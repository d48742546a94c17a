//! Batches: records with their ids, the key that makes sending them again harmless, and the compressed body.
//!
//! A batch is sealed once and never changes: whoever sends it again sends the same bytes under the same key.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use runstone_record::IdMint;
use runstone_record::limits::{BODY_DECODED_BYTES_MAX, REQUEST_RECORDS_MAX};

use crate::record::Record;

/// Records of a batch. Far enough below the server's limit that one batch never fills its memory.
const BATCH_RECORDS_MAX: usize = 5_000;
/// Bytes of a batch before compression: incompressible, it is still below the server's limit on the wire.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Fast, and log lines shrink to a tenth all the same.
const ZSTD_LEVEL: i32 = 1;

const _: () = assert!(BATCH_RECORDS_MAX <= REQUEST_RECORDS_MAX && BATCH_BYTES_MAX <= BODY_DECODED_BYTES_MAX);

/// Records that are sent, stored and acknowledged together.
#[derive(Debug, Clone)]
pub struct Batch {
    key: String,
    records: usize,
    body: Bytes,
}

impl Batch {
    /// These records, for a caller that has them at hand; [`Batcher`] is for those that come one by one. Ids carry the
    /// machine's time.
    ///
    /// # Errors
    /// [`BatchError::Empty`] and [`BatchError::TooLarge`] if these are not the records of one batch; the others if the
    /// system fails.
    pub fn of(records: &[Record]) -> Result<Batch, BatchError> {
        let mut batcher = Batcher::new(system_ms);
        for record in records {
            if batcher.push(record)?.is_some() {
                return Err(BatchError::TooLarge);
            }
        }
        batcher.take()?.ok_or(BatchError::Empty)
    }

    /// The `Idempotency-Key`: one for the life of the batch.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// How many records it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records
    }

    /// Always false: an empty batch is not made.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// NDJSON, zstd.
    pub(crate) fn body(&self) -> Bytes {
        self.body.clone()
    }
}

/// A batch could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The system gives no random bytes.
    #[error("read random bytes from the system")]
    Entropy(#[source] getrandom::Error),
    /// The body could not be compressed.
    #[error("compress the batch")]
    Compress(#[source] std::io::Error),
    /// There is nothing to send.
    #[error("put at least one record into a batch")]
    Empty,
    /// They would be several batches.
    #[error("put at most {BATCH_RECORDS_MAX} records and {BATCH_BYTES_MAX} bytes into one batch")]
    TooLarge,
}

/// Gathers records into batches under the server's limits.
#[derive(Debug)]
pub struct Batcher<C> {
    /// Milliseconds since 1970, for the time in the ids.
    now_ms: C,
    /// Made with the first record that needs an id, so that the ids of a batch are consecutive.
    mint: Option<IdMint>,
    lines: Vec<u8>,
    records: usize,
}

impl<C: Fn() -> u64> Batcher<C> {
    /// An empty one. `now_ms` is the wall clock in milliseconds since 1970.
    pub fn new(now_ms: C) -> Batcher<C> {
        Batcher { now_ms, mint: None, lines: Vec::new(), records: 0 }
    }

    /// How many records wait in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records
    }

    /// Does no record wait in it?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Adds a record; hands out the batch before it, if the record would not fit.
    ///
    /// # Errors
    /// [`BatchError`] if the system fails; the record is then not in any batch.
    pub fn push(&mut self, record: &Record) -> Result<Option<Batch>, BatchError> {
        let full = self.records == BATCH_RECORDS_MAX || self.lines.len() + record.bytes() + 1 > BATCH_BYTES_MAX;
        let batch = if full { self.take()? } else { None };
        self.lines.push(b'{');
        if !record.has_id() {
            self.write_id()?;
            if record.tail() != "}" {
                self.lines.push(b',');
            }
        }
        self.lines.extend_from_slice(record.tail().as_bytes());
        self.lines.push(b'\n');
        self.records += 1;
        Ok(batch)
    }

    /// Hands out what there is; `None` if there is nothing.
    ///
    /// # Errors
    /// [`BatchError`] if the system fails.
    pub fn take(&mut self) -> Result<Option<Batch>, BatchError> {
        if self.records == 0 {
            return Ok(None);
        }
        let key = uuid::Builder::from_random_bytes(random()?).into_uuid().to_string();
        let body = zstd::bulk::compress(&self.lines, ZSTD_LEVEL).map_err(BatchError::Compress)?;
        let batch = Batch { key, records: self.records, body: body.into() };
        self.lines.clear();
        self.records = 0;
        self.mint = None;
        Ok(Some(batch))
    }

    fn write_id(&mut self) -> Result<(), BatchError> {
        let mint = match &mut self.mint {
            Some(mint) => mint,
            empty => empty.insert(IdMint::new((self.now_ms)(), u128::from_ne_bytes(random()?))),
        };
        self.lines.extend_from_slice(b"\"id\":\"");
        mint.mint().write(&mut self.lines);
        self.lines.push(b'"');
        Ok(())
    }
}

/// The machine's clock, for a caller that brings none. It only orders ids.
#[expect(clippy::disallowed_methods, reason = "an application that sends two records has no clock to hand over")]
fn system_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn random() -> Result<[u8; 16], BatchError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(BatchError::Entropy)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use uuid::Uuid;

    fn lines(batch: &Batch) -> Vec<Value> {
        let text = zstd::decode_all(batch.body.as_ref()).unwrap();
        String::from_utf8(text).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn each_record_gets_an_id_of_its_own_unless_it_has_one() {
        let mut batcher = Batcher::new(|| 1_763_600_000_123);
        for json in [r#"{"message":"a"}"#, r#"{"id":"mine","message":"b"}"#, r#"{}"#, r#"{"id":null,"message":"c"}"#] {
            assert!(batcher.push(&Record::from_json(json).unwrap()).unwrap().is_none());
        }
        let batch = batcher.take().unwrap().unwrap();
        assert_eq!(batch.len(), 4);
        let lines = lines(&batch);
        assert_eq!(lines[1]["id"], "mine");
        let number = |at: usize| Uuid::try_parse(lines[at]["id"].as_str().unwrap()).unwrap().as_u128();
        assert_eq!(number(2), number(0) + 1);
        assert_eq!(number(3), number(0) + 2);
        assert_eq!(lines[3]["message"], "c");
        assert!(batcher.take().unwrap().is_none());
    }

    #[test]
    fn records_at_hand_are_one_batch_or_none() {
        let record = Record::from_json(r#"{"message":"a"}"#).unwrap();
        let batch = Batch::of(&vec![record.clone(); BATCH_RECORDS_MAX]).unwrap();
        assert_eq!((batch.len(), lines(&batch).len()), (BATCH_RECORDS_MAX, BATCH_RECORDS_MAX));
        let id = Uuid::try_parse(lines(&batch)[0]["id"].as_str().unwrap()).unwrap();
        let (seconds, _) = id.get_timestamp().unwrap().to_unix();
        assert!(seconds > 1_700_000_000, "{id} has no time of ours");
        assert!(matches!(Batch::of(&vec![record; BATCH_RECORDS_MAX + 1]), Err(BatchError::TooLarge)));
        assert!(matches!(Batch::of(&[]), Err(BatchError::Empty)));
    }

    #[test]
    fn keys_and_ids_differ_from_batch_to_batch() {
        let mut batcher = Batcher::new(|| 0);
        let record = Record::from_json(r#"{"message":"a"}"#).unwrap();
        let mut batches = Vec::new();
        for _ in 0..2 {
            batcher.push(&record).unwrap();
            batches.push(batcher.take().unwrap().unwrap());
        }
        assert_ne!(batches[0].key(), batches[1].key());
        assert_ne!(lines(&batches[0])[0]["id"], lines(&batches[1])[0]["id"]);
    }

    #[test]
    fn a_batch_is_full_by_count_or_by_bytes() {
        let mut batcher = Batcher::new(|| 0);
        let small = Record::from_json("{}").unwrap();
        let mut batches: Vec<_> = (0..=BATCH_RECORDS_MAX).filter_map(|_| batcher.push(&small).unwrap()).collect();
        assert_eq!(batches.len(), 1);
        assert_eq!(batches.remove(0).len(), BATCH_RECORDS_MAX);
        assert_eq!(batcher.len(), 1);
        batcher.take().unwrap();

        let large = Record::from_json(&format!(r#"{{"message":"{}"}}"#, "x".repeat(200 << 10))).unwrap();
        let batches: Vec<_> = (0..50).filter_map(|_| batcher.push(&large).unwrap()).collect();
        assert!(batches.len() > 1);
        for batch in batches {
            assert!(zstd::decode_all(batch.body.as_ref()).unwrap().len() <= BATCH_BYTES_MAX);
        }
    }
}
