//! A journal as it was in one moment, read without taking or changing anything: for tools beside a running server.
//! Reads only what is asked for, so that the newest records of a long journal are near. Judges no damage: `check` does.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::directory::{self, at, find_missing, id_of, identity_of, survey_found};
use crate::epochs::{self, EpochRange};
use crate::error::{OpenError, ReadError};
use crate::frame::{Frame, Piece};
use crate::fs::Fs;
use crate::group::Seed;
use crate::journal::JournalId;
use crate::reader::Cursor;
use crate::segment;

/// How often a directory that changes meanwhile is looked at again.
const LOOKS_MAX: usize = 10;

/// A segment, as it was.
#[derive(Debug, Clone)]
pub struct ViewSegment {
    /// Its first position.
    pub first: u64,
    /// Its last position; one less than `first` when it had none.
    pub last: u64,
    /// The epoch that its header states; `None` where that is lost.
    pub epoch: Option<u64>,
    /// Bytes in use.
    pub bytes: u64,
    /// The file.
    pub path: PathBuf,
    seed: Seed,
}

/// A journal as it was in one moment. Clones read the same.
#[derive(Clone)]
pub struct View {
    fs: Arc<dyn Fs>,
    id: JournalId,
    first_available: u64,
    segments: Arc<[ViewSegment]>,
    epochs: Arc<[EpochRange]>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("id", &self.id).field("segments", &self.segments).finish_non_exhaustive()
    }
}

impl View {
    /// Looks at a directory. Segments that are missing in the middle are an error that names their positions; a group
    /// that a running writer has not yet finished is not seen.
    pub fn open(fs: &Arc<dyn Fs>, dir: &Path) -> Result<Self, OpenError> {
        let mut opened = Self::look(fs, dir);
        for _ in 1..LOOKS_MAX {
            match &opened {
                // A writer may trim and make segments between our listing and our reading.
                Err(OpenError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                Err(OpenError::Missing { .. }) => {}
                _ => break,
            }
            opened = Self::look(fs, dir);
        }
        opened
    }

    fn look(fs: &Arc<dyn Fs>, dir: &Path) -> Result<Self, OpenError> {
        let fs = Arc::clone(fs);
        fs.list(dir).map_err(at("list directory", dir))?;
        let contents = directory::load(&*fs, dir)?;
        let Some(identity) = identity_of(&contents) else {
            if contents.segments.is_empty() && contents.identity.is_none() {
                let (segments, epochs) = (Arc::new([]), Arc::new([]));
                return Ok(Self { fs, id: id_of(None), first_available: 1, segments, epochs });
            }
            return Err(OpenError::Unreadable { dir: dir.to_owned() });
        };
        let trimmed = contents.segments.partition_point(|found| found.first < identity.first_available);
        let found = &contents.segments[trimmed..];
        let mut segments = Vec::with_capacity(found.len());
        for (i, segment) in found.iter().enumerate() {
            let successor = found.get(i + 1);
            if let Some(last) = successor.and_then(|successor| find_missing([segment, successor])) {
                return Err(OpenError::Missing { first: segment.first, last: Some(last), dir: dir.to_owned() });
            }
            let sealed =
                successor.and_then(|successor| Some((successor.header?.predecessor?.end, successor.first - 1)));
            let (end, last) = match sealed {
                Some(sealed) => sealed,
                // How far the newest goes, only its groups tell.
                None => {
                    let file = fs.open(&segment.path).map_err(at("open segment", &segment.path))?;
                    let verdict =
                        survey_found(&file, &identity, segment, None).map_err(at("read segment", &segment.path))?;
                    (verdict.end, verdict.next - 1)
                }
            };
            segments.push(ViewSegment {
                first: segment.first,
                last,
                epoch: segment.header.map(|header| header.epoch),
                bytes: end,
                path: segment.path.clone(),
                seed: Seed::new(identity.journal, identity.salt, segment.first),
            });
        }
        let first_available = segments.first().map_or(identity.first_available.max(1), |segment| segment.first);
        let epochs = epochs::ranges(&directory::stated(found), &identity.begins, identity.epoch).into();
        let (id, segments) = (id_of(Some(&identity)), segments.into());
        Ok(Self { fs, id, first_available, segments, epochs })
    }

    /// Which journal this is; nil where the directory has none yet.
    pub fn id(&self) -> JournalId {
        self.id
    }

    /// Which journal a position belongs to: those from before the directory was copied count under an epoch before.
    pub fn id_at(&self, position: u64) -> JournalId {
        let epoch = epochs::epoch_at(&self.epochs, position).unwrap_or(self.id.epoch);
        JournalId { uuid: self.id.uuid, epoch }
    }

    /// The epochs of what was there, oldest first.
    pub fn epochs(&self) -> &[EpochRange] {
        &self.epochs
    }

    /// The first position that was there.
    pub fn first_available(&self) -> u64 {
        self.first_available
    }

    /// The last position that was there; one less than the first in an empty journal.
    pub fn last(&self) -> u64 {
        self.segments.last().map_or(self.first_available - 1, |segment| segment.last)
    }

    /// The segments, oldest first.
    pub fn segments(&self) -> &[ViewSegment] {
        &self.segments
    }

    /// The frames from the one that holds the position after `after`. After an error there is no more, but for
    /// [`ReadError::Quarantined`]: the frames behind the damage follow it.
    pub fn frames(&self, after: u64) -> Frames {
        let wanted = after.saturating_add(1);
        let at = self.segments.partition_point(|segment| segment.first <= wanted).saturating_sub(1);
        Frames { view: self.clone(), wanted, at, cursor: None, ended: false }
    }
}

/// Frames of a [`View`], in order.
#[derive(Debug)]
pub struct Frames {
    view: View,
    wanted: u64,
    at: usize,
    cursor: Option<Cursor>,
    ended: bool,
}

impl Frames {
    fn read(&mut self) -> Result<Option<Frame>, ReadError> {
        if self.wanted < self.view.first_available {
            return Err(ReadError::Trimmed { first_available: self.view.first_available });
        }
        while let Some(segment) = self.view.segments.get(self.at) {
            let failed = |source: io::Error| match source.kind() {
                // Its journal was trimmed since.
                ErrorKind::NotFound => ReadError::Trimmed { first_available: segment.last + 1 },
                _ => ReadError::Io { path: segment.path.clone(), source },
            };
            let cursor = match &mut self.cursor {
                Some(cursor) => cursor,
                slot => {
                    let opened =
                        Cursor::open(&*self.view.fs, &segment.path, segment.seed, segment.first, segment::HEADER);
                    slot.insert(opened.map_err(failed)?)
                }
            };
            match cursor.next(segment.bytes, segment.last, self.wanted, |_, _| {}).map_err(failed)? {
                Some(Piece::Frame(frame)) if frame.last() >= self.wanted => {
                    self.wanted = frame.last() + 1;
                    return Ok(Some(frame));
                }
                Some(Piece::Gap { first, last }) if last >= self.wanted => {
                    let first = first.max(self.wanted);
                    self.wanted = last + 1;
                    return Err(ReadError::Quarantined { first, last });
                }
                Some(_) => {}
                None => {
                    self.cursor = None;
                    self.at += 1;
                }
            }
        }
        Ok(None)
    }
}

impl Iterator for Frames {
    type Item = Result<Frame, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let read = self.read();
        self.ended = matches!(read, Ok(None) | Err(ReadError::Io { .. } | ReadError::Trimmed { .. }));
        read.transpose()
    }
}
