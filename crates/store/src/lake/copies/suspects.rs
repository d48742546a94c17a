//! The records of a flush whose ids clients minted, ordered for looking them up. Owns that order and the records' JSON.

use std::ops::Range;
use std::sync::Arc;

use runstone_record::RecordId;

use crate::chunk::{Chunk, IdRun};

/// A record of the flush.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) id: RecordId,
    pub(super) timestamp: i64,
    pub(super) chunk: u32,
    pub(super) row: u32,
}

/// Bytes of an id's text.
const TEXT_BYTES: usize = 36;

/// The records, by id; those of one id by position.
#[derive(Debug)]
pub(super) struct Suspects {
    pub(super) journal: String,
    pub(super) chunks: Vec<Arc<Chunk>>,
    places: Vec<Place>,
    /// The ids' texts, one after the other.
    texts: String,
    times: Vec<i64>,
}

impl Suspects {
    /// None: no client minted an id.
    pub(super) fn collect(chunks: &[Arc<Chunk>]) -> Option<Self> {
        let journal = chunks.first()?.journal.to_string();
        let mut places = Vec::new();
        for (number, chunk) in (0_u32..).zip(chunks) {
            let mut start = 0;
            for run in &chunk.runs {
                if let IdRun::Given(ids) = &run.ids {
                    let rows = (start..run.end).zip(ids);
                    places.extend(rows.map(|(row, id)| Place {
                        id: *id,
                        timestamp: 0,
                        chunk: number,
                        row: u32::try_from(row).unwrap_or(u32::MAX),
                    }));
                }
                start = run.end;
            }
        }
        if places.is_empty() {
            return None;
        }
        let times: Vec<Vec<i64>> = chunks.iter().map(|chunk| chunk.timestamps()).collect();
        for place in &mut places {
            place.timestamp = times[place.chunk as usize][place.row as usize];
        }
        places.sort_unstable_by_key(|place| (place.id, place.chunk, place.row));
        let mut texts = Vec::with_capacity(places.len() * TEXT_BYTES);
        places.iter().for_each(|place| place.id.write(&mut texts));
        let texts = String::from_utf8(texts).unwrap_or_default();
        let mut times: Vec<i64> = places.iter().map(|place| place.timestamp).collect();
        times.sort_unstable();
        Some(Self { journal, chunks: chunks.to_vec(), places, texts, times })
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn place(&self, place: usize) -> Place {
        self.places[place]
    }

    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    /// The text of an id.
    pub(super) fn text(&self, place: usize) -> &str {
        self.texts.get(place * TEXT_BYTES..(place + 1) * TEXT_BYTES).unwrap_or_default()
    }

    /// Those whose ids lie within bounds; none known: all.
    pub(super) fn within(&self, bounds: Option<(RecordId, RecordId)>) -> Range<usize> {
        let Some((least, greatest)) = bounds else { return 0..self.places.len() };
        let start = self.places.partition_point(|place| place.id < least);
        let end = self.places.partition_point(|place| place.id <= greatest);
        start..end.max(start)
    }

    /// Did any of them happen within a time?
    pub(super) fn has_times(&self, (least, greatest): (i64, i64)) -> bool {
        let first = self.times.partition_point(|time| *time < least);
        self.times.get(first).is_some_and(|time| *time <= greatest)
    }

    pub(super) fn position(&self, place: Place) -> u64 {
        self.chunks[place.chunk as usize].first + u64::from(place.row)
    }

    pub(super) fn json(&self, place: Place) -> String {
        let mut out = Vec::new();
        self.chunks[place.chunk as usize].write_json(place.row as usize, &mut out);
        String::from_utf8(out).unwrap_or_default()
    }
}
