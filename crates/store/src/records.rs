//! Whole records by their keys, as the JSON of the API, wherever they are: in memory, in the journal, in the lake.
//! Owns finding them again; the same record has the same JSON in all three, to the byte.

use std::collections::HashMap;

use runstone_record::Batch;
use runstone_record::limits::PAGE_BYTES_MAX;

use crate::chunk::Chunk;
use crate::error::{Phase, QueryError, sort_out};
use crate::lake::fetch;
use crate::recent::{Evicted, Snapshot};
use crate::session::Shared;

/// Keys whose records are read together: a page of large records ends before the others are read.
const KEYS_AT_ONCE: usize = 128;

/// What orders records, and finds them again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) timestamp: i64,
    pub(crate) journal: String,
    pub(crate) position: u64,
}

/// Records, each as JSON, by their keys.
pub(crate) type Found<'a> = HashMap<&'a Key, Vec<u8>>;

impl Snapshot {
    /// The chunk that holds a record, and its row there.
    fn chunk(&self, key: &Key) -> Option<(&Chunk, usize)> {
        let place = self.chunks.partition_point(|chunk| chunk.last() < key.position);
        let chunk = self.chunks.get(place)?;
        let is_it = *chunk.journal == *key.journal && chunk.first <= key.position;
        if !is_it {
            return None;
        }
        Some((chunk, usize::try_from(key.position - chunk.first).ok()?))
    }

    /// The range that left memory with a record.
    fn range(&self, key: &Key) -> Option<&Evicted> {
        let place = self.evicted.partition_point(|range| range.last < key.position);
        self.evicted.get(place).filter(|range| *range.journal == *key.journal && range.first <= key.position)
    }
}

impl Shared {
    /// The records of these keys as a JSON array, in their order, as many of them as a page's bytes allow, and how
    /// many: at least one.
    pub(crate) async fn records(&self, snapshot: &Snapshot, keys: &[Key]) -> Result<(Vec<u8>, usize), QueryError> {
        let mut out = vec![b'['];
        let mut count = 0;
        'pages: for keys in keys.chunks(KEYS_AT_ONCE) {
            let found = self.read(snapshot, keys).await?;
            for key in keys {
                if count > 0 {
                    if out.len() >= PAGE_BYTES_MAX {
                        break 'pages;
                    }
                    out.push(b',');
                }
                count += 1;
                match (snapshot.chunk(key), found.get(key)) {
                    (Some((chunk, row)), _) => chunk.write_json(row, &mut out),
                    (None, Some(record)) => out.extend_from_slice(record),
                    (None, None) => {
                        let Key { journal, position, .. } = key;
                        return Err(QueryError::Internal(format!(
                            "read records: position {position} of journal {journal} is missing"
                        )));
                    }
                }
            }
        }
        out.push(b']');
        Ok((out, count))
    }

    /// Those that are not in memory.
    async fn read<'a>(&self, snapshot: &Snapshot, keys: &'a [Key]) -> Result<Found<'a>, QueryError> {
        let mut found = Found::new();
        let mut older: Vec<&Key> = Vec::new();
        let mut in_lake: Vec<&Key> = Vec::new();
        for key in keys.iter().filter(|key| snapshot.chunk(key).is_none()) {
            if snapshot.range(key).is_some() { older.push(key) } else { in_lake.push(key) }
        }
        older.sort_unstable_by_key(|key| key.position);
        let mut rest = older.as_slice();
        while let Some(range) = rest.first().and_then(|key| snapshot.range(key)) {
            let (wanted, others) = rest.split_at(rest.partition_point(|key| key.position <= range.last));
            self.read_range(range, wanted, &mut found).map_err(|error| QueryError::Internal(error.to_string()))?;
            rest = others;
        }
        if let Some(lake) = snapshot.lake.as_ref().filter(|_| !in_lake.is_empty()) {
            let fetched = fetch(lake, &in_lake, &self.runtime(), &self.config(), &mut found).await;
            fetched.map_err(|error| sort_out(&error, Phase::Running))?;
        }
        Ok(found)
    }

    /// Records of a range that left memory; `wanted` in the order of their positions.
    fn read_range<'a>(
        &self,
        range: &Evicted,
        wanted: &[&'a Key],
        found: &mut Found<'a>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else {
            return Ok(());
        };
        for frame in self.older.frames(first.position, last.position)? {
            let (start, payload) = frame?;
            if start > last.position {
                break;
            }
            // Most frames of the range hold nothing wanted: their number of rows is told by the next one's start,
            // so they are decoded only where a wanted position may lie in them.
            let from = wanted.partition_point(|key| key.position < start);
            let Some(next) = wanted.get(from) else {
                break;
            };
            let batch = Batch::decode(&payload)?;
            let end = start + batch.len() as u64;
            if next.position >= end {
                continue;
            }
            for key in wanted[from..].iter().take_while(|key| key.position < end) {
                let mut json = Vec::new();
                let row = usize::try_from(key.position - start)?;
                batch.write_json(row, &range.journal, key.position, &mut json);
                found.insert(key, json);
            }
        }
        Ok(())
    }
}
