//! The identity file: which journal a directory holds, under which epoch, and which segments must be there.

use std::io::{self, ErrorKind};
use std::path::Path;

use uuid::Uuid;

use crate::epochs::{BEGINS_MAX, Begin};
use crate::fs::{self, DirIdentity, Fs};
use crate::group::u64_at;
use crate::segment::{self, BLOCK, Block};

pub(crate) const NAME: &str = "identity";
const MAGIC: [u8; 8] = *b"RJIDENTY";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) journal: Uuid,
    pub(crate) salt: u64,
    pub(crate) epoch: u64,
    /// The directory that the epoch was given to.
    pub(crate) dir: DirIdentity,
    /// The first position that was not trimmed: a segment starts there. 0 until the first segment exists.
    pub(crate) first_available: u64,
    /// The first position of the newest segment that is known to exist.
    pub(crate) newest: u64,
    /// Epochs that were made to begin inside what was written already, in the order of their numbers.
    pub(crate) begins: [Begin; BEGINS_MAX],
}

const BEGINS_AT: usize = 88;
const BEGIN_BYTES: usize = 16;

impl Identity {
    fn encode(&self) -> [u8; BLOCK] {
        let mut block = segment::start_block(&MAGIC);
        block[16..32].copy_from_slice(self.journal.as_bytes());
        block[32..40].copy_from_slice(&self.salt.to_le_bytes());
        block[40..48].copy_from_slice(&self.epoch.to_le_bytes());
        block[48..56].copy_from_slice(&self.dir.device.to_le_bytes());
        block[56..64].copy_from_slice(&self.dir.inode.to_le_bytes());
        block[64..72].copy_from_slice(&self.dir.created.to_le_bytes());
        block[72..80].copy_from_slice(&self.first_available.to_le_bytes());
        block[80..88].copy_from_slice(&self.newest.to_le_bytes());
        for (begin, bytes) in self.begins.iter().zip(block[BEGINS_AT..].chunks_exact_mut(BEGIN_BYTES)) {
            bytes[..8].copy_from_slice(&begin.epoch.to_le_bytes());
            bytes[8..].copy_from_slice(&begin.first.to_le_bytes());
        }
        segment::seal_block(&mut block);
        block
    }

    fn decode(block: &[u8]) -> Block<Self> {
        match segment::open_block(block, &MAGIC) {
            Block::Valid(()) => {}
            Block::Newer(major) => return Block::Newer(major),
            Block::Damaged => return Block::Damaged,
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&block[16..32]);
        let begin = |index: usize| {
            let at = BEGINS_AT + index * BEGIN_BYTES;
            Begin { epoch: u64_at(block, at), first: u64_at(block, at + 8) }
        };
        Block::Valid(Self {
            journal: Uuid::from_bytes(uuid),
            salt: u64_at(block, 32),
            epoch: u64_at(block, 40),
            dir: DirIdentity { device: u64_at(block, 48), inode: u64_at(block, 56), created: u64_at(block, 64) },
            first_available: u64_at(block, 72),
            newest: u64_at(block, 80),
            begins: std::array::from_fn(begin),
        })
    }
}

/// What the directory's identity file says; `None` when there is none.
pub(crate) fn read(fs: &dyn Fs, dir: &Path) -> io::Result<Option<Block<Identity>>> {
    let file = match fs.open(&dir.join(NAME)) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut block = [0; BLOCK];
    let read = fs::read_full(&*file, &mut block, 0)?;
    Ok(Some(Identity::decode(&block[..read])))
}

/// Replaces the identity file as a whole, durably.
pub(crate) fn write(fs: &dyn Fs, dir: &Path, identity: &Identity) -> io::Result<()> {
    let path = dir.join(NAME);
    let temporary = dir.join(format!("{NAME}{}", segment::TEMPORARY));
    let file = fs.create(&temporary)?;
    fs::write_all(&*file, &identity.encode(), 0)?;
    fs::sync(&*file)?;
    drop(file);
    fs.rename(&temporary, &path)?;
    fs.sync_dir(dir)
}
