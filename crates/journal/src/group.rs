//! One group: what is written and synced together. Encodes and decodes; opens nothing.

use uuid::Uuid;

use crate::frame;

/// Groups start at multiples of this, so that no write touches a sector that holds acknowledged bytes.
pub(crate) const ALIGN: u64 = 512;
/// Bytes in front of the frames.
pub(crate) const HEADER: usize = 64;
pub(crate) const MAGIC: [u8; 4] = *b"RJGR";
/// A group of no frames: it only states what was durable before it.
const FLAG_MARK: u32 = 1;

/// What ties a checksum to one place: a group read from another offset, segment or journal does not verify. The salt is
/// not published, so a payload cannot hold a group that recovery would take for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl Seed {
    pub(crate) fn new(journal: Uuid, salt: u64, segment: u64) -> Self {
        let crc = crc32c::crc32c(journal.as_bytes());
        let crc = crc32c::crc32c_append(crc, &salt.to_le_bytes());
        Self(crc32c::crc32c_append(crc, &segment.to_le_bytes()))
    }

    fn crc(self, offset: u64, header: &[u8]) -> u32 {
        let crc = crc32c::crc32c_append(self.0, &offset.to_le_bytes());
        crc32c::crc32c_append(crc, header)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The offset in this segment up to which everything was durable when this group was written.
    pub(crate) durable: u64,
    pub(crate) sequence: u64,
    pub(crate) first: u64,
    pub(crate) items: u64,
    pub(crate) frames: u32,
    pub(crate) body_len: u32,
    pub(crate) body_crc: u32,
    flags: u32,
}

impl Header {
    pub(crate) fn is_mark(&self) -> bool {
        self.flags & FLAG_MARK != 0
    }

    /// Bytes from this group's start to the next one's.
    pub(crate) fn total_len(&self) -> u64 {
        HEADER as u64 + u64::from(self.body_len)
    }

    /// The position after the last one.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.items
    }

    fn encode(&self, seed: Seed, offset: u64) -> [u8; HEADER] {
        let mut out = [0u8; HEADER];
        out[0..4].copy_from_slice(&MAGIC);
        out[8..16].copy_from_slice(&self.durable.to_le_bytes());
        out[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        out[24..32].copy_from_slice(&self.first.to_le_bytes());
        out[32..40].copy_from_slice(&self.items.to_le_bytes());
        out[40..44].copy_from_slice(&self.frames.to_le_bytes());
        out[44..48].copy_from_slice(&self.body_len.to_le_bytes());
        out[48..52].copy_from_slice(&self.body_crc.to_le_bytes());
        out[52..56].copy_from_slice(&self.flags.to_le_bytes());
        let crc = seed.crc(offset, &out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header at the start of `bytes`, if it was written for exactly this place.
    pub(crate) fn decode(bytes: &[u8], seed: Seed, offset: u64) -> Option<Self> {
        let head = bytes.get(..HEADER)?;
        if head[..4] != MAGIC || u32_at(head, 4) != seed.crc(offset, &head[8..]) {
            return None;
        }
        let header = Self {
            durable: u64_at(head, 8),
            sequence: u64_at(head, 16),
            first: u64_at(head, 24),
            items: u64_at(head, 32),
            frames: u32_at(head, 40),
            body_len: u32_at(head, 44),
            body_crc: u32_at(head, 48),
            flags: u32_at(head, 52),
        };
        let sound = header.total_len().is_multiple_of(ALIGN)
            && header.durable <= offset
            && header.first.checked_add(header.items).is_some();
        sound.then_some(header)
    }
}

/// A group being put together: frames first, then the header for wherever it goes.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    bytes: Vec<u8>,
    first: u64,
    items: u64,
    frames: u32,
}

/// A buffer that one huge group has grown is not kept beyond this.
const BUFFER_KEPT: usize = 16 << 20;

impl Builder {
    /// Forgets what was there; the next frame gets position `first`.
    pub(crate) fn start(&mut self, first: u64) {
        self.bytes.clear();
        self.bytes.shrink_to(BUFFER_KEPT);
        self.bytes.resize(HEADER, 0);
        (self.first, self.items, self.frames) = (first, 0, 0);
    }

    /// Adds a frame and gives the position of its first item.
    pub(crate) fn push(&mut self, items: u32, payload: &[u8]) -> u64 {
        let first = self.first + self.items;
        frame::encode(&mut self.bytes, first, items, payload);
        self.items += u64::from(items);
        self.frames += 1;
        first
    }

    /// Pads to the alignment. Nothing may be added after it.
    pub(crate) fn finish(&mut self) {
        let len = self.bytes.len().next_multiple_of(ALIGN as usize);
        self.bytes.resize(len, 0);
    }

    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The position after the last one.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.items
    }

    /// The bytes to write at `offset` of the segment with that seed.
    pub(crate) fn place(&mut self, seed: Seed, offset: u64, durable: u64, sequence: u64) -> &[u8] {
        let header = Header {
            durable,
            sequence,
            first: self.first,
            items: self.items,
            frames: self.frames,
            body_len: (self.bytes.len() - HEADER) as u32,
            body_crc: crc32c::crc32c(&self.bytes[HEADER..]),
            flags: if self.frames == 0 { FLAG_MARK } else { 0 },
        };
        self.bytes[..HEADER].copy_from_slice(&header.encode(seed, offset));
        &self.bytes
    }
}

/// A mark for `offset`: a group of no frames whose next position is `first`.
pub(crate) fn mark(seed: Seed, offset: u64, durable: u64, sequence: u64, first: u64) -> Vec<u8> {
    let mut builder = Builder::default();
    builder.start(first);
    builder.finish();
    builder.place(seed, offset, durable, sequence);
    builder.bytes
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_valid_at_its_own_place_only() {
        let journal = Uuid::from_u128(7);
        let seed = Seed::new(journal, 9, 1);
        let bytes = mark(seed, 2048, 2048, 3, 40);
        assert_eq!(bytes.len() as u64, ALIGN);
        let header = Header::decode(&bytes, seed, 2048).unwrap();
        assert!(header.is_mark());
        assert_eq!((header.durable, header.sequence, header.next()), (2048, 3, 40));
        for (other, offset) in [
            (seed, 2560),
            (Seed::new(journal, 9, 2), 2048),
            (Seed::new(journal, 8, 1), 2048),
            (Seed::new(Uuid::from_u128(8), 9, 1), 2048),
        ] {
            assert_eq!(Header::decode(&bytes, other, offset), None);
        }
        assert_eq!(Header::decode(&bytes[..HEADER - 1], seed, 2048), None);
    }
}
