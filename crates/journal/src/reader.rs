//! Reads durable frames in order: from memory while it keeps up, from the segments when it is behind. Never sees what
//! is not durable and never passes damage in silence.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::error::ReadError;
use crate::frame::{self, Frame, Piece};
use crate::fs::Fs;
use crate::group::Seed;
use crate::journal::Shared;
use crate::scan::{Body, Extent, Walker};
use crate::segments::Segment;
use crate::tail::Lookup;

/// A place in a journal that moves forward. It may be sent to another thread.
pub struct Reader {
    shared: Arc<Shared>,
    /// The position wanted next.
    next: u64,
    cursor: Option<(Arc<Segment>, Cursor)>,
    /// Damage that was reported and not yet skipped.
    gap: Option<(u64, u64)>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("next", &self.next).field("gap", &self.gap).finish_non_exhaustive()
    }
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, after: u64) -> Self {
        Self { shared, next: after.saturating_add(1), cursor: None, gap: None }
    }

    /// The next durable frame; `None` when there is no more for now. When the reader was placed inside a frame, that
    /// frame comes whole.
    #[expect(clippy::should_implement_trait, reason = "an iterator ends; this only pauses")]
    pub fn next(&mut self) -> Result<Option<Frame>, ReadError> {
        if let Some((first, last)) = self.gap {
            return Err(ReadError::Quarantined { first, last });
        }
        loop {
            match self.shared.tail.find(self.next) {
                Lookup::CaughtUp => return Ok(None),
                Lookup::Frame(frame) => {
                    self.cursor = None;
                    self.next = frame.last() + 1;
                    return Ok(Some(frame));
                }
                Lookup::OnDisk => {}
            }
            match self.read()? {
                Piece::Frame(frame) if frame.last() < self.next => {}
                Piece::Frame(frame) => {
                    self.next = frame.last() + 1;
                    return Ok(Some(frame));
                }
                Piece::Gap { last, .. } if last < self.next => {}
                Piece::Gap { first, last } => {
                    let gap = (first.max(self.next), last);
                    self.gap = Some(gap);
                    return Err(ReadError::Quarantined { first: gap.0, last: gap.1 });
                }
            }
        }
    }

    /// The next piece of the segment that holds the wanted position.
    fn read(&mut self) -> Result<Piece, ReadError> {
        let first_available = self.shared.segments.first_available();
        let segment = match self.shared.segments.find(self.next) {
            Some(segment) if self.next >= first_available => segment,
            _ => return Err(ReadError::Trimmed { first_available }),
        };
        let cursor = match &mut self.cursor {
            Some((open, cursor)) if Arc::ptr_eq(open, &segment) => cursor,
            slot => {
                let (first, offset) = segment.seek(self.next);
                let cursor = Cursor::open(&*self.shared.fs, &segment.path, segment.seed, first, offset);
                let cursor = cursor.map_err(|source| match source.kind() {
                    io::ErrorKind::NotFound if self.next < self.shared.segments.first_available() => {
                        ReadError::Trimmed { first_available: self.shared.segments.first_available() }
                    }
                    _ => ReadError::Io { path: segment.path.clone(), source },
                })?;
                &mut slot.insert((Arc::clone(&segment), cursor)).1
            }
        };
        // The last position first: the end that is read after it covers it.
        let (last, end) = (segment.last(), segment.end());
        let piece = cursor.next(end, last, self.next, |position, offset| segment.note(position, offset));
        match piece {
            Ok(Some(piece)) => Ok(piece),
            // The position is durable and in this segment, but no group holds it.
            Ok(None) => Ok(Piece::Gap { first: self.next, last: last.max(self.next) }),
            Err(source) => {
                self.cursor = None;
                Err(ReadError::Io { path: segment.path.clone(), source })
            }
        }
    }

    /// Waits until a frame or an error can be had; false when the time is over or the journal was closed.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.gap.is_some() || self.shared.tail.wait(self.next, timeout)
    }

    /// Moves past the damage that [`next`](Self::next) reported, and gives its positions.
    pub fn skip(&mut self) -> Option<(u64, u64)> {
        let gap = self.gap.take()?;
        self.next = gap.1 + 1;
        Some(gap)
    }

    /// Goes to the frame that holds the position after `after`.
    pub fn seek(&mut self, after: u64) {
        self.next = after.saturating_add(1);
        self.cursor = None;
        self.gap = None;
    }

    /// The last position read, skipped or sought: what a consumer that has dealt with all of it keeps as its cursor.
    pub fn position(&self) -> u64 {
        self.next - 1
    }
}

/// A place in one segment file.
#[derive(Debug)]
pub(crate) struct Cursor {
    walker: Walker,
    expected: u64,
    pending: VecDeque<Piece>,
}

impl Cursor {
    pub(crate) fn open(fs: &dyn Fs, path: &Path, seed: Seed, first: u64, offset: u64) -> io::Result<Self> {
        let walker = Walker::new(fs.open(path)?, seed, offset);
        Ok(Self { walker, expected: first, pending: VecDeque::new() })
    }

    /// The next frame or gap of the file up to `end`, whose last position is `last`. Groups before `wanted` are passed
    /// without reading their bodies. `None` at the end.
    pub(crate) fn next(
        &mut self,
        end: u64,
        last: u64,
        wanted: u64,
        note: impl Fn(u64, u64),
    ) -> io::Result<Option<Piece>> {
        loop {
            if let Some(piece) = self.pending.pop_front() {
                return Ok(Some(piece));
            }
            let want = |header: &crate::group::Header| {
                if header.next() <= wanted { Body::Skip } else { Body::Read }
            };
            match self.walker.next(end, want)? {
                Some(Extent::Group { offset, header, body, intact }) => {
                    self.reach(header.first);
                    if header.items > 0 {
                        note(header.first, offset);
                    }
                    if let Some(body) = body {
                        self.pending.extend(frame::decode(&body, &header, intact));
                    }
                    self.expected = self.expected.max(header.next());
                }
                // Which positions it held is known when the next sound group is found, or the end.
                Some(Extent::Damage { .. } | Extent::Zeros { .. }) => {}
                None if self.expected <= last => self.reach(last + 1),
                None => return Ok(None),
            }
        }
    }

    fn reach(&mut self, first: u64) {
        if first > self.expected {
            self.pending.push_back(Piece::Gap { first: self.expected, last: first - 1 });
            self.expected = first;
        }
    }
}
