//! Whole records by their keys, as the JSON of the API, wherever they are: in memory, in the journal, in the lake.
//! Owns finding them again; the same record has the same JSON in all three, to the byte.

use std::collections::HashMap;

use runstone_record::Batch;
use runstone_record::limits::PAGE_BYTES_MAX;

use crate::chunk::Chunk;
use crate::error::{Phase, QueryError, sort_out};
use crate::lake::{FETCHED_BYTES_MAX, FEW_KEYS, fetch};
use crate::recent::{Evicted, Snapshot};
use crate::session::Shared;

/// What orders records, and finds them again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) timestamp: i64,
    pub(crate) journal: String,
    /// As the column has it: rows of other writers may have any number.
    pub(crate) position: i64,
}

impl Key {
    /// Its place in a journal; none where no journal gives such a position.
    fn place(&self) -> Option<u64> {
        u64::try_from(self.position).ok()
    }
}

/// Records, each as JSON, by their keys.
pub(crate) type Found<'a> = HashMap<&'a Key, Vec<u8>>;

impl Snapshot {
    /// The chunk that holds a record, and its row there.
    fn chunk(&self, key: &Key) -> Option<(&Chunk, usize)> {
        let position = key.place()?;
        let place = self.chunks.partition_point(|chunk| chunk.last() < position);
        let chunk = self.chunks.get(place)?;
        let is_it = *chunk.journal == *key.journal && chunk.first <= position;
        if !is_it {
            return None;
        }
        Some((chunk, usize::try_from(position - chunk.first).ok()?))
    }

    /// The range that left memory with a record, and the record's position.
    fn range(&self, key: &Key) -> Option<(&Evicted, u64)> {
        let position = key.place()?;
        let place = self.evicted.partition_point(|range| range.last < position);
        let range = self.evicted.get(place)?;
        (*range.journal == *key.journal && range.first <= position).then_some((range, position))
    }
}

impl Shared {
    /// The records of these keys as a JSON array, in their order, as many of them as a page's bytes allow, and how
    /// many: at least one.
    pub(crate) async fn records(&self, snapshot: &Snapshot, keys: &[Key]) -> Result<(Vec<u8>, usize), QueryError> {
        let (mut out, mut count) = (vec![b'['], 0);
        let (mut rest, mut at_once) = (keys, keys.len());
        'pages: while !rest.is_empty() {
            let (now, later) = rest.split_at(at_once.min(rest.len()));
            // Large records are read a few at a time: the page ends before the others are.
            let Some(found) = self.read(snapshot, now).await? else {
                at_once = FEW_KEYS;
                continue;
            };
            rest = later;
            for key in now {
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

    /// Those that are not in memory; none where there are more than [`FEW_KEYS`], and too large to be held together.
    async fn read<'a>(&self, snapshot: &Snapshot, keys: &'a [Key]) -> Result<Option<Found<'a>>, QueryError> {
        let mut found = Found::new();
        let mut older: Vec<(u64, &Key)> = Vec::new();
        let mut in_lake: Vec<&Key> = Vec::new();
        for key in keys.iter().filter(|key| snapshot.chunk(key).is_none()) {
            match snapshot.range(key) {
                Some((_, position)) => older.push((position, key)),
                None => in_lake.push(key),
            }
        }
        older.sort_unstable_by_key(|(position, _)| *position);
        let mut room = if keys.len() > FEW_KEYS { FETCHED_BYTES_MAX } else { usize::MAX };
        let mut rest = older.as_slice();
        while let Some((range, _)) = rest.first().and_then(|(_, key)| snapshot.range(key)) {
            let (wanted, others) = rest.split_at(rest.partition_point(|(position, _)| *position <= range.last));
            let read = self.read_range(range, wanted, room, &mut found);
            let bytes = read.map_err(|error| QueryError::Internal(error.to_string()))?;
            let Some(left) = room.checked_sub(bytes) else { return Ok(None) };
            room = left;
            rest = others;
        }
        if let Some(lake) = snapshot.lake.as_ref().filter(|_| !in_lake.is_empty()) {
            let fetched = fetch(lake, &in_lake, &self.runtime(), &self.config(), &mut found).await;
            if !fetched.map_err(|error| sort_out(&error, Phase::Running))? {
                return Ok(None);
            }
        }
        Ok(Some(found))
    }

    /// Records of a range that left memory, and how many bytes they have: it stops where they have more than `room`.
    /// `wanted` is in the order of their positions.
    fn read_range<'a>(
        &self,
        range: &Evicted,
        wanted: &[(u64, &'a Key)],
        room: usize,
        found: &mut Found<'a>,
    ) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
        let (Some((first, _)), Some((last, _))) = (wanted.first(), wanted.last()) else {
            return Ok(0);
        };
        let mut bytes = 0;
        for frame in self.older.frames(*first, *last)? {
            let (start, payload) = frame?;
            if start > *last || bytes > room {
                break;
            }
            // Most frames of the range hold nothing wanted: their number of rows is told by the next one's start,
            // so they are decoded only where a wanted position may lie in them.
            let from = wanted.partition_point(|(position, _)| *position < start);
            let Some((next, _)) = wanted.get(from) else {
                break;
            };
            let batch = Batch::decode(&payload)?;
            let end = start + batch.len() as u64;
            if *next >= end {
                continue;
            }
            for (position, key) in wanted[from..].iter().take_while(|(position, _)| *position < end) {
                let mut json = Vec::new();
                let row = usize::try_from(position - start)?;
                batch.write_json(row, &range.journal, *position, &mut json);
                bytes += json.len();
                found.insert(key, json);
            }
        }
        Ok(bytes)
    }
}
