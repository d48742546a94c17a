//! A directory as it is: names, identity and headers, read and not yet judged. Changes nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::epochs::Stated;
use crate::error::OpenError;
use crate::fs::{DirIdentity, File, Fs};
use crate::group::Seed;
use crate::identity::{self, Identity};
use crate::journal::JournalId;
use crate::scan::Walker;
use crate::segment::{self, Block, Found};
use crate::survey::{self, Known, Verdict};

/// Names the action and the path in an error.
pub(crate) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Io { action, path: path.to_owned(), source }
}

/// A directory as it is, unjudged.
pub(crate) struct Contents {
    pub(crate) identity: Option<Block<Identity>>,
    /// Ascending.
    pub(crate) segments: Vec<Found>,
    pub(crate) temporaries: Vec<PathBuf>,
}

/// Reads names, identity and headers. Fails on a newer format; changes nothing.
pub(crate) fn load(fs: &dyn Fs, dir: &Path) -> Result<Contents, OpenError> {
    let newer = |found, path| OpenError::NewerFormat { found, supported: segment::MAJOR, path };
    let mut contents = Contents { identity: None, segments: Vec::new(), temporaries: Vec::new() };
    let names = match fs.list(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(contents),
        Err(error) => return Err(at("list directory", dir)(error)),
    };
    contents.identity = identity::read(fs, dir).map_err(at("read identity", &dir.join(identity::NAME)))?;
    if let Some(Block::Newer(found)) = contents.identity {
        return Err(newer(found, dir.join(identity::NAME)));
    }
    for name in names {
        if name.ends_with(segment::TEMPORARY) {
            contents.temporaries.push(dir.join(name));
        } else if let Some(first) = segment::parse_name(&name) {
            let found = segment::find(fs, dir, &name, first).map_err(at("read segment", &dir.join(&name)))?;
            contents.segments.push(found.map_err(|segment::Newer(found)| newer(found, dir.join(&name)))?);
        }
    }
    contents.segments.sort_by_key(|found| found.first);
    Ok(contents)
}

/// What the segments say about their epochs.
pub(crate) fn stated(segments: &[Found]) -> Vec<Stated> {
    segments.iter().map(|found| Stated { first: found.first, epoch: found.header.map(|header| header.epoch) }).collect()
}

/// The last position of the gap between two segments, if the second does not name the first.
pub(crate) fn find_missing([before, after]: [&Found; 2]) -> Option<u64> {
    let predecessor = after.header?.predecessor;
    (predecessor.map(|predecessor| predecessor.first) != Some(before.first)).then_some(after.first - 1)
}

pub(crate) fn survey_found(
    file: &Arc<dyn File>,
    identity: &Identity,
    found: &Found,
    sealed: Option<(u64, u64)>,
) -> io::Result<Verdict> {
    let seed = Seed::new(identity.journal, identity.salt, found.first);
    let first_sequence = found.header.map_or(0, |header| header.first_sequence);
    let known = Known { segment: found.first, first_sequence, sealed, len: found.len };
    survey::survey(&mut Walker::new(Arc::clone(file), seed, segment::HEADER), known)
}

/// The identity to verify a directory by: the stored one, or what any header says.
pub(crate) fn identity_of(contents: &Contents) -> Option<Identity> {
    if let Some(Block::Valid(identity)) = contents.identity {
        return Some(identity);
    }
    let header = contents.segments.iter().find_map(|found| found.header)?;
    Some(Identity {
        journal: header.journal,
        salt: header.salt,
        epoch: header.epoch,
        dir: DirIdentity { device: 0, inode: 0, created: 0 },
        first_available: 0,
        newest: 0,
        begins: Default::default(),
    })
}

/// The journal's name in a report; nil when nothing can be read.
pub(crate) fn id_of(identity: Option<&Identity>) -> JournalId {
    identity.map_or(JournalId { uuid: Uuid::nil(), epoch: 0 }, |identity| JournalId {
        uuid: identity.journal,
        epoch: identity.epoch,
    })
}
