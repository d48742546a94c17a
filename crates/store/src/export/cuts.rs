//! Where a walk is cut into slices of time that fit into memory. Owns what is known of the records' times before they are
//! read: chunks, ranges of the journal, files by the log of the lake, and their row groups once a file is too large to be
//! read at once. Refuses to promise how many records a slice has: that is a guess, and `gather` is ready for a wrong one.
//!
//! A cut lies where a chunk, a file or a row group ends, if it can: what is cut in two is read twice.

use std::collections::VecDeque;
use std::sync::Arc;

use object_store::ObjectStore;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use runstone_record::Column;

use crate::error::QueryError;
use crate::lake::{LakeFile, Opened, Source, int_bounds};
use crate::logs::Order;
use crate::recent::Snapshot;
use crate::unit::Unit;

/// How much larger decoded rows are than their file, about.
const FILE_GROWTH: u64 = 10;
/// How much larger rows are than the chunk that they come from, where words are stored once, about.
const CHUNK_GROWTH: u64 = 2;
/// Bytes of a record of which nothing is known.
const RECORD_BYTES: u64 = 400;

/// Time in the direction of a walk: places that only grow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis(pub(super) Order);

impl Axis {
    /// A time's place, and a place's time.
    pub(super) fn turn(self, time: i64) -> i64 {
        match self.0 {
            Order::Oldest => time,
            // Not the negative, which the least number does not have.
            Order::Newest => !time,
        }
    }

    /// The places between two times.
    pub(super) fn range(self, (least, greatest): (i64, i64)) -> (i64, i64) {
        match self.0 {
            Order::Oldest => (least, greatest),
            Order::Newest => (self.turn(greatest), self.turn(least)),
        }
    }
}

/// Records that are read together or not at all.
#[derive(Debug, Clone)]
struct Part {
    /// The places of its first and its last record.
    from: i64,
    to: i64,
    /// Its records in memory, about.
    bytes: u64,
    /// A file whose row groups were not looked at.
    file: Option<Arc<LakeFile>>,
}

impl Part {
    /// Bytes between two places, as if records lay evenly.
    fn bytes_between(&self, from: i64, to: i64) -> f64 {
        let (low, high) = (self.from.max(from), self.to.min(to));
        if low > high {
            return 0.0;
        }
        let width = |low: i64, high: i64| high as f64 - low as f64 + 1.0;
        self.bytes as f64 * (width(low, high) / width(self.from, self.to)).min(1.0)
    }
}

/// The slices of a walk, one after the other.
#[derive(Debug)]
pub(super) struct Cuts {
    axis: Axis,
    store: Option<Arc<dyn ObjectStore>>,
    /// Where the next slice begins, and the last place of all; none: there are no more.
    rest: Option<(i64, i64)>,
    /// Parts that begin after it, in their order.
    ahead: VecDeque<Part>,
    /// Parts that have begun.
    open: Vec<Part>,
}

impl Cuts {
    /// Those of a snapshot between two places.
    pub(super) fn new(axis: Axis, snapshot: &Snapshot, (from, to): (i64, i64)) -> Self {
        let (rows, bytes) = snapshot
            .chunks
            .iter()
            .fold((0, 0), |(rows, bytes), chunk| (rows + chunk.rows as u64, bytes + CHUNK_GROWTH * chunk.bytes as u64));
        let record = bytes.checked_div(rows).unwrap_or(RECORD_BYTES);
        let parts = Unit::all(snapshot).into_iter().map(|unit| {
            let (from, to) = axis.range(unit.times().unwrap_or((i64::MIN, i64::MAX)));
            let (bytes, file) = match unit {
                Unit::Chunk(chunk) => (CHUNK_GROWTH * chunk.bytes as u64, None),
                Unit::Evicted(range) => (range.rows() * record, None),
                Unit::File(file, _) => (FILE_GROWTH * file.bytes, Some(file)),
            };
            Part { from, to, bytes, file }
        });
        let mut ahead: Vec<Part> = parts.filter(|part| part.from <= to && part.to >= from).collect();
        ahead.sort_by_key(|part| part.from);
        let store = snapshot.lake.as_ref().map(|lake| Arc::clone(lake.store()));
        let rest = (from <= to).then_some((from, to));
        Self { axis, store, rest, ahead: ahead.into(), open: Vec::new() }
    }

    /// The first and the last place of the next slice, which has `budget` bytes or a little more, by what is known.
    pub(super) async fn next(&mut self, budget: f64) -> Result<Option<(i64, i64)>, QueryError> {
        let Some((start, end)) = self.rest else { return Ok(None) };
        self.open.retain(|part| part.to >= start);
        self.begin_until(start);
        let start = match (self.open.is_empty(), self.ahead.front()) {
            (false, _) => start,
            (true, Some(part)) => part.from,
            (true, None) => return Ok(None),
        };
        self.begin_until(start);
        let mut last = None;
        while last != Some(end) {
            let border = self.border(last.map_or(start, |last: i64| last + 1)).unwrap_or(end).min(end);
            let bytes: f64 = self.bytes_between(start, border);
            // A single part is not cut for being a little too large.
            if bytes <= budget || (last.is_none() && bytes <= 2.0 * budget) {
                last = Some(border);
                self.begin_until(border.saturating_add(1));
            } else if last.is_some() {
                break;
            } else if !self.look_into_largest().await? {
                last = Some(self.place_of(start, border, budget));
                break;
            } else {
                self.begin_until(start);
            }
        }
        let last = last.unwrap_or(end);
        self.rest = (last < end).then(|| (last + 1, end));
        Ok(Some((start, last)))
    }

    /// Goes back to a place in the slice before: it had too many records.
    pub(super) fn go_back(&mut self, place: i64, (_, last): (i64, i64)) {
        let end = self.rest.map_or(last, |(_, end)| end);
        self.rest = Some((place, end));
    }

    /// Moves parts that begin up to a place to those that have begun.
    fn begin_until(&mut self, place: i64) {
        while self.ahead.front().is_some_and(|part| part.from <= place) {
            self.open.extend(self.ahead.pop_front());
        }
    }

    /// The nearest place from one on where a part ends, or before the next one begins.
    fn border(&self, place: i64) -> Option<i64> {
        let ends = self.open.iter().map(|part| part.to).filter(|to| *to >= place);
        let begins = self.ahead.front().map(|part| part.from.saturating_sub(1)).filter(|before| *before >= place);
        ends.chain(begins).min()
    }

    fn bytes_between(&self, from: i64, to: i64) -> f64 {
        self.open.iter().map(|part| part.bytes_between(from, to)).sum()
    }

    /// The last place up to which there are at most so many bytes.
    fn place_of(&self, start: i64, border: i64, bytes: f64) -> i64 {
        let (mut low, mut high) = (start, border);
        while low < high {
            // Half of the difference may not fit, half of each does.
            let middle = i64::try_from((i128::from(low) + i128::from(high) + 1).div_euclid(2)).unwrap_or(high);
            if self.bytes_between(start, middle) <= bytes { low = middle } else { high = middle - 1 }
        }
        low
    }

    /// Puts the row groups of the largest file that has begun in its place. False: every file was looked at.
    async fn look_into_largest(&mut self) -> Result<bool, QueryError> {
        let files = self.open.iter().enumerate().filter(|(_, part)| part.file.is_some());
        let Some(place) = files.max_by_key(|(_, part)| part.bytes).map(|(place, _)| place) else { return Ok(false) };
        let (Some(file), Some(store)) = (self.open[place].file.take(), &self.store) else { return Ok(true) };
        let unread =
            |error: &dyn std::fmt::Display| QueryError::Unread(format!("read {} of the lake: {error}", file.path));
        let opened = Source::open(store, &file).await.map_err(|error| unread(&error))?;
        // What is foreign stays whole.
        let Opened::Source(source) = opened else { return Ok(true) };
        self.open.swap_remove(place);
        let groups = source.metadata().row_groups().iter().map(|group| {
            let (from, to) = self.axis.range(int_bounds(group, Column::Timestamp));
            Part { from, to, bytes: bytes(group), file: None }
        });
        self.ahead.extend(groups);
        self.ahead.make_contiguous().sort_by_key(|part| part.from);
        Ok(true)
    }
}

/// What a row group's rows take in memory.
fn bytes(group: &RowGroupMetaData) -> u64 {
    let rows = u64::try_from(group.num_rows()).unwrap_or(0);
    let of = |chunk: &ColumnChunkMetaData| {
        let known = chunk.unencoded_byte_array_data_bytes().unwrap_or(chunk.uncompressed_size());
        u64::try_from(known).unwrap_or(0) + 4 * rows
    };
    group.columns().iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(parts: &[(i64, i64, u64)], (from, to): (i64, i64)) -> Cuts {
        let part = |(from, to, bytes): &(i64, i64, u64)| Part { from: *from, to: *to, bytes: *bytes, file: None };
        let mut ahead: Vec<Part> = parts.iter().map(part).collect();
        ahead.sort_by_key(|part| part.from);
        Cuts { axis: Axis(Order::Oldest), store: None, rest: Some((from, to)), ahead: ahead.into(), open: Vec::new() }
    }

    fn all(mut cuts: Cuts, budget: f64) -> Vec<(i64, i64)> {
        let mut slices = Vec::new();
        while let Some(slice) = futures::executor::block_on(cuts.next(budget)).unwrap() {
            slices.push(slice);
            assert!(slices.len() < 1_000);
        }
        slices
    }

    #[test]
    fn cuts_lie_between_parts_and_within_what_is_too_large() {
        let groups = [(0, 9, 10), (10, 19, 10), (20, 29, 10), (40, 49, 10)];
        assert_eq!(all(cuts(&groups, (i64::MIN, i64::MAX)), 20.0), [(0, 19), (20, i64::MAX)]);
        assert_eq!(all(cuts(&groups, (5, 24)), 10.0), [(5, 9), (10, 19), (20, 24)]);
        // A single one that is a little too large stays whole; a much too large one does not.
        assert_eq!(all(cuts(&groups[..2], (0, 19)), 6.0), [(0, 9), (10, 19)]);
        assert_eq!(all(cuts(&[(0, 99, 100)], (0, 99)), 25.0), [(0, 24), (25, 49), (50, 99)]);
        // All at one time: nothing can be cut.
        assert_eq!(all(cuts(&[(7, 7, 1_000)], (i64::MIN, i64::MAX)), 1.0), [(7, 7)]);
        assert_eq!(all(cuts(&[], (0, 9)), 1.0), []);
    }

    #[test]
    fn slices_hold_every_place_of_a_part_once_whatever_parts_there_are() {
        let mut seed = 7_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for _ in 0..200 {
            let parts: Vec<(i64, i64, u64)> = (0..random(9))
                .map(|_| {
                    let from = i64::try_from(random(60)).unwrap();
                    (from, from + i64::try_from(random(30)).unwrap(), random(50))
                })
                .collect();
            let slices = all(cuts(&parts, (i64::MIN, i64::MAX)), 1.0 + random(40) as f64);
            assert!(slices.is_sorted_by(|one, next| one.1 < next.0), "{slices:?}");
            for place in parts.iter().flat_map(|(from, to, _)| *from..=*to) {
                let holds = slices.iter().filter(|(from, to)| (*from..=*to).contains(&place)).count();
                assert_eq!(holds, 1, "{place} of {parts:?} in {slices:?}");
            }
        }
    }
}
