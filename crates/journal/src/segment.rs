//! A segment file's name and header: which journal, from which position, and where its predecessor ends. Knows nothing
//! of the groups after the header.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::fs::{self, File, Fs};
use crate::group::{u16_at, u32_at, u64_at};

/// Bytes of a block with its own checksum, here and in the identity file.
pub(crate) const BLOCK: usize = 512;
/// Where the first group starts: after two copies of the header.
pub(crate) const HEADER: u64 = 2 * BLOCK as u64;
/// What this build writes, and the highest that it reads.
pub(crate) const MAJOR: u16 = 1;
pub(crate) const MINOR: u16 = 0;
/// What a file is called until it may be believed.
pub(crate) const TEMPORARY: &str = ".tmp";

const MAGIC: [u8; 8] = *b"RJSEGMNT";
const SUFFIX: &str = ".seg";
const CRC_AT: usize = BLOCK - 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) journal: Uuid,
    pub(crate) salt: u64,
    pub(crate) epoch: u64,
    pub(crate) first: u64,
    pub(crate) first_sequence: u64,
    /// The segment before this one and how many of its bytes are valid. `None` for the first segment of all.
    pub(crate) predecessor: Option<Predecessor>,
    pub(crate) created_at: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Predecessor {
    pub(crate) first: u64,
    pub(crate) end: u64,
}

/// What a block with a checksum turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Block<T> {
    Valid(T),
    Newer(u16),
    Damaged,
}

/// Checks magic, checksum and version: the parts of a block that no version may move.
pub(crate) fn open_block(block: &[u8], magic: &[u8; 8]) -> Block<()> {
    if block.len() < BLOCK || block[..8] != *magic || u32_at(block, CRC_AT) != crc32c::crc32c(&block[..CRC_AT]) {
        return Block::Damaged;
    }
    match u16_at(block, 8) {
        MAJOR => Block::Valid(()),
        major if major > MAJOR => Block::Newer(major),
        _ => Block::Damaged,
    }
}

pub(crate) fn start_block(magic: &[u8; 8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..8].copy_from_slice(magic);
    block[8..10].copy_from_slice(&MAJOR.to_le_bytes());
    block[10..12].copy_from_slice(&MINOR.to_le_bytes());
    block
}

pub(crate) fn seal_block(block: &mut [u8; BLOCK]) {
    let crc = crc32c::crc32c(&block[..CRC_AT]);
    block[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
}

impl Header {
    /// Both copies.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut block = start_block(&MAGIC);
        block[16..32].copy_from_slice(self.journal.as_bytes());
        block[32..40].copy_from_slice(&self.salt.to_le_bytes());
        block[40..48].copy_from_slice(&self.epoch.to_le_bytes());
        block[48..56].copy_from_slice(&self.first.to_le_bytes());
        block[56..64].copy_from_slice(&self.first_sequence.to_le_bytes());
        if let Some(predecessor) = self.predecessor {
            block[64..72].copy_from_slice(&predecessor.first.to_le_bytes());
            block[72..80].copy_from_slice(&predecessor.end.to_le_bytes());
        }
        block[80..88].copy_from_slice(&self.created_at.to_le_bytes());
        seal_block(&mut block);
        block.repeat(2)
    }

    fn decode(block: &[u8]) -> Block<Self> {
        match open_block(block, &MAGIC) {
            Block::Valid(()) => {}
            Block::Newer(major) => return Block::Newer(major),
            Block::Damaged => return Block::Damaged,
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&block[16..32]);
        let mut created_at = [0; 8];
        created_at.copy_from_slice(&block[80..88]);
        let predecessor = Predecessor { first: u64_at(block, 64), end: u64_at(block, 72) };
        Block::Valid(Self {
            journal: Uuid::from_bytes(uuid),
            salt: u64_at(block, 32),
            epoch: u64_at(block, 40),
            first: u64_at(block, 48),
            first_sequence: u64_at(block, 56),
            predecessor: (predecessor.first > 0).then_some(predecessor),
            created_at: i64::from_le_bytes(created_at),
        })
    }
}

/// A segment as it is found on disk.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) first: u64,
    pub(crate) path: PathBuf,
    /// `None` when neither copy can be believed.
    pub(crate) header: Option<Header>,
    /// Whether exactly one copy was damaged.
    pub(crate) copy_damaged: bool,
    pub(crate) len: u64,
}

/// The newer major version of a file that must not be touched.
#[derive(Debug)]
pub(crate) struct Newer(pub(crate) u16);

pub(crate) fn find(fs: &dyn Fs, dir: &Path, name: &str, first: u64) -> io::Result<Result<Found, Newer>> {
    let path = dir.join(name);
    let file = fs.open(&path)?;
    let mut bytes = [0; 2 * BLOCK];
    let read = fs::read_full(&*file, &mut bytes, 0)?;
    let copies = [Header::decode(&bytes[..read.min(BLOCK)]), Header::decode(&bytes[BLOCK.min(read)..read])];
    let mut valid = Vec::new();
    for copy in copies {
        match copy {
            Block::Newer(major) => return Ok(Err(Newer(major))),
            Block::Valid(header) if header.first == first => valid.push(header),
            Block::Valid(_) | Block::Damaged => {}
        }
    }
    let copy_damaged = valid.len() == 1;
    Ok(Ok(Found { first, path, header: valid.first().copied(), copy_damaged, len: file.len()? }))
}

pub(crate) fn name(first: u64) -> String {
    format!("{first:020}{SUFFIX}")
}

/// The first position in a segment's name; `None` for any other file.
pub(crate) fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// Makes a segment that can be believed as soon as it has its name: content first, then name, then directory.
pub(crate) fn create(fs: &dyn Fs, dir: &Path, header: &Header, preallocate: u64) -> io::Result<Arc<dyn File>> {
    let path = dir.join(name(header.first));
    let temporary = dir.join(format!("{}{TEMPORARY}", name(header.first)));
    let made = create_at(fs, &temporary, header, preallocate);
    if made.is_err() {
        // Its space may be what is missing.
        let _ = fs.remove(&temporary);
    }
    let file = made?;
    fs.rename(&temporary, &path)?;
    fs.sync_dir(dir)?;
    Ok(file)
}

fn create_at(fs: &dyn Fs, path: &Path, header: &Header, preallocate: u64) -> io::Result<Arc<dyn File>> {
    let file = fs.create(path)?;
    if preallocate > 0 {
        // Only a help: where space cannot be reserved the writes themselves will say so.
        let _ = file.allocate(0, preallocate);
    }
    fs::write_all(&*file, &header.encode(), 0)?;
    fs::sync(&*file)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_like_positions_and_only_segments_are_taken_for_one() {
        for first in [1, 9, 10, 4_294_967_296, u64::MAX] {
            assert_eq!(parse_name(&name(first)), Some(first));
        }
        assert!(name(9) < name(10) && name(10) < name(u64::MAX));
        let beyond = "99999999999999999999.seg";
        for other in ["1.seg", "identity", "00000000000000000001.seg.tmp", "+0000000000000000001.seg", beyond] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }

    #[test]
    fn any_flipped_bit_of_a_header_is_found() {
        let header = Header {
            journal: Uuid::from_u128(1),
            salt: 2,
            epoch: 3,
            first: 4,
            first_sequence: 5,
            predecessor: Some(Predecessor { first: 1, end: 6 }),
            created_at: -7,
        };
        let bytes = header.encode();
        assert_eq!(bytes.len() as u64, HEADER);
        assert_eq!(Header::decode(&bytes[BLOCK..]), Block::Valid(header));
        for bit in 0..BLOCK * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&bytes[..BLOCK]), Block::Damaged, "bit {bit}");
        }
    }
}
