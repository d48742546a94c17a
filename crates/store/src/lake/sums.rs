//! Checksums of a data file, block by block: who reads a part of it sees a bit that has flipped there. Owns how they are made, kept
//! in the file's entry of the log, and compared; refuses to decide what becomes of a damaged file.
//!
//! Parquet has checksums of pages, which its writer does not make, and which leave out the pages' headers, the filters and the
//! footer. These leave out nothing, and lie elsewhere than what they are of.

use std::ops::Range;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use runstone_record::limits;

/// What they are called in an entry's `tags`.
pub(crate) const TAG: &str = "runstone.crc32c";

/// The CRC-32C of each block of a data file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sums {
    /// Bytes of the file.
    length: u64,
    /// Bytes of a block; the last may have fewer.
    block: usize,
    blocks: Arc<[u32]>,
}

/// A file is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Damage {
    /// These bytes are others.
    #[error("bytes {} to {} are not what was written", .0.start, .0.end.saturating_sub(1))]
    Differs(Range<u64>),
    /// It has not so many.
    #[error("it has {length} bytes by its entry, and is read until {end}")]
    Beyond { length: u64, end: u64 },
    /// It is shorter or longer.
    #[error("it has {found} bytes, not {said}")]
    Length { found: u64, said: u64 },
}

impl Sums {
    /// Those of a file.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut block = limits::LAKE_SUM_BLOCK_BYTES;
        while bytes.len().div_ceil(block) > limits::LAKE_SUM_BLOCKS_MAX {
            block *= 2;
        }
        Self::in_blocks(bytes, block)
    }

    /// Those of blocks of so many bytes.
    pub(crate) fn in_blocks(bytes: &[u8], block: usize) -> Self {
        let blocks = bytes.chunks(block).map(crc32c::crc32c).collect();
        Self { length: bytes.len() as u64, block, blocks }
    }

    /// As an entry has them.
    pub(crate) fn tag(&self) -> String {
        let sums: Vec<u8> = self.blocks.iter().flat_map(|sum| sum.to_le_bytes()).collect();
        format!("{}:{}", self.block, STANDARD.encode(sums))
    }

    /// Those of an entry. None where they are not such as a file of this length has.
    pub(crate) fn parse(tag: &str, length: u64) -> Option<Self> {
        let (block, sums) = tag.split_once(':')?;
        let block: usize = block.parse().ok().filter(|block| *block > 0)?;
        let sums = STANDARD.decode(sums).ok()?;
        let (sums, []) = sums.as_chunks() else { return None };
        let blocks: Arc<[u32]> = sums.iter().map(|sum| u32::from_le_bytes(*sum)).collect();
        (blocks.len() as u64 == length.div_ceil(block as u64)).then_some(Self { length, block, blocks })
    }

    /// Bytes of the file.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The blocks that these ranges lie in, as stretches that do not touch, in order.
    pub(crate) fn spans(&self, ranges: &[Range<u64>]) -> Result<Vec<Range<u64>>, Damage> {
        let block = self.block as u64;
        let mut wide = Vec::with_capacity(ranges.len());
        for range in ranges {
            if range.end > self.length {
                return Err(Damage::Beyond { length: self.length, end: range.end });
            }
            wide.push(range.start / block * block..range.end.next_multiple_of(block).min(self.length));
        }
        wide.sort_unstable_by_key(|range| range.start);
        let mut spans: Vec<Range<u64>> = Vec::with_capacity(wide.len());
        for range in wide {
            match spans.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => spans.push(range),
            }
        }
        Ok(spans)
    }

    /// Are these the bytes of a span?
    pub(crate) fn check(&self, span: &Range<u64>, bytes: &[u8]) -> Result<(), Damage> {
        if bytes.len() as u64 != span.end - span.start {
            return Err(Damage::Differs(span.clone()));
        }
        self.differing(span.start, bytes).next().map_or(Ok(()), |range| Err(Damage::Differs(range)))
    }

    /// The blocks among these bytes, the first of which begins a block, that are not what was written.
    pub(crate) fn differing(&self, start: u64, bytes: &[u8]) -> impl Iterator<Item = Range<u64>> {
        let block = self.block as u64;
        let first = usize::try_from(start / block).unwrap_or(usize::MAX);
        let known = self.blocks.iter().skip(first).zip(bytes.chunks(self.block));
        let starts = (start..).step_by(self.block);
        let differing = known.zip(starts).filter(|((sum, bytes), _)| **sum != crc32c::crc32c(bytes));
        differing.map(|((_, bytes), start)| start..start + bytes.len() as u64)
    }

    /// Parts of the whole file, once the blocks that they lie in were looked at.
    pub(crate) fn cut(&self, file: &Bytes, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, Damage> {
        if file.len() as u64 != self.length {
            return Err(Damage::Length { found: file.len() as u64, said: self.length });
        }
        for span in self.spans(ranges)? {
            self.check(&span, &part(file, 0, &span))?;
        }
        Ok(ranges.iter().map(|range| part(file, 0, range)).collect())
    }
}

/// A range of a file, of bytes that begin somewhere in it; fewer where they end before.
pub(crate) fn part(bytes: &Bytes, start: u64, range: &Range<u64>) -> Bytes {
    let place = |at: u64| usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX).min(bytes.len());
    bytes.slice(place(range.start)..place(range.end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(length: usize) -> Bytes {
        (0..length).map(|at| (at * 7 % 251) as u8).collect()
    }

    #[test]
    fn an_entry_has_them_as_documented() {
        let sums = Sums::in_blocks(b"aaa", 2);
        assert_eq!(sums.tag(), "2:wtry8TBD0ME=");
        assert_eq!(Sums::parse(&sums.tag(), 3), Some(sums));
        for (tag, length) in [
            ("2:wtry8TBD0ME=", 2),
            ("2:wtry8TBD0ME=", 5),
            ("0:wtry8TBD0ME=", 3),
            ("x:wtry8TBD0ME=", 3),
            ("2:wtry8TBD0ME", 3),
            ("2:wtry8TBD0A==", 3),
            ("2", 3),
            ("", 0),
        ] {
            assert_eq!(Sums::parse(tag, length), None, "{tag} of {length}");
        }
    }

    #[test]
    fn large_files_have_large_blocks() {
        let (small, many) = (limits::LAKE_SUM_BLOCK_BYTES, limits::LAKE_SUM_BLOCKS_MAX);
        for (length, block, blocks) in [
            (0, small, 0),
            (1, small, 1),
            (small + 1, small, 2),
            (small * many, small, many),
            (small * many + 1, 2 * small, many / 2 + 1),
        ] {
            let sums = Sums::of(&vec![0; length]);
            assert_eq!((sums.block, sums.blocks.len()), (block, blocks), "{length}");
            assert_eq!(Sums::parse(&sums.tag(), length as u64), Some(sums));
        }
    }

    proptest! {
        #[test]
        fn ranges_are_cut_out_and_a_flipped_bit_is_seen_in_its_block_alone(
            length in 1..300_usize,
            block in 1..64_usize,
            ranges in prop::collection::vec((0..300_usize, 0..300_usize), 1..6),
            flip in 0..300_usize,
            bit in 0..8_u32,
        ) {
            let whole = file(length);
            let sums = Sums::in_blocks(&whole, block);
            let within = |(one, other): &(usize, usize)| {
                let (one, other) = (one % length, other % length);
                one.min(other)..one.max(other) + 1
            };
            let ranges: Vec<_> = ranges.iter().map(within).collect();
            let asked: Vec<_> = ranges.iter().map(|range| range.start as u64..range.end as u64).collect();
            let parts = sums.cut(&whole, &asked).unwrap();
            for (part, range) in parts.iter().zip(&ranges) {
                prop_assert_eq!(part, &whole[range.clone()]);
            }

            let flip = flip % length;
            let mut harmed = whole.to_vec();
            harmed[flip] ^= 1 << bit;
            let harmed = Bytes::from(harmed);
            let start = flip / block * block;
            let damaged = start as u64..(start + block).min(length) as u64;
            prop_assert_eq!(sums.differing(0, &harmed).collect::<Vec<_>>(), [damaged.clone()]);
            let touched = asked.iter().any(|range| {
                let wide = range.start / block as u64 * block as u64..range.end.next_multiple_of(block as u64);
                wide.start < damaged.end && damaged.start < wide.end
            });
            let expected = if touched { Err(Damage::Differs(damaged)) } else { Ok(parts) };
            prop_assert_eq!(sums.cut(&harmed, &asked), expected);
            prop_assert!(sums.cut(&whole.slice(1..), &asked).is_err());
            let beyond = length as u64..length as u64 + 1;
            prop_assert!(sums.cut(&whole, &[beyond]).is_err());
        }
    }
}
