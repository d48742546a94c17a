//! Walks the groups of one segment file in large reads, finding the way again after damage. Judges nothing.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::fs::{self, File};
use crate::group::{self, ALIGN, Header, Seed};

/// How much is read at once.
const WINDOW: u64 = 256 << 10;

/// What lies at an offset.
#[derive(Debug)]
pub(crate) enum Extent {
    /// A group whose header is sound. `body` is `None` when it was not asked for.
    Group { offset: u64, header: Header, body: Option<Bytes>, intact: bool },
    /// Bytes that are no group. `header` is that of a group which is cut off by the end.
    Damage { offset: u64, end: u64, header: Option<Header> },
    /// Nothing but zeros up to the end: reserved and never written.
    Zeros { offset: u64 },
}

/// What the caller needs of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    Read,
    Skip,
}

/// A place in a segment file.
#[derive(Debug)]
pub(crate) struct Walker {
    file: Arc<dyn File>,
    seed: Seed,
    offset: u64,
    window_start: u64,
    window: Bytes,
}

impl Walker {
    pub(crate) fn new(file: Arc<dyn File>, seed: Seed, offset: u64) -> Self {
        Self { file, seed, offset, window_start: 0, window: Bytes::new() }
    }

    /// The extent at the current offset, and moves past it. `None` at `limit`, which may grow between calls. An error
    /// leaves the offset where it was.
    pub(crate) fn next(&mut self, limit: u64, want: impl Fn(&Header) -> Body) -> io::Result<Option<Extent>> {
        let offset = self.offset;
        if offset >= limit {
            return Ok(None);
        }
        let header = self.header_at(offset, limit)?;
        let extent = match header {
            Some(header) if header.total_len() > limit - offset => {
                Extent::Damage { offset, end: limit, header: Some(header) }
            }
            Some(header) => match want(&header) {
                Body::Skip => Extent::Group { offset, header, body: None, intact: true },
                Body::Read => match self.get(offset + group::HEADER as u64, header.body_len as usize, limit)? {
                    Some(body) => {
                        let intact = crc32c::crc32c(&body) == header.body_crc;
                        Extent::Group { offset, header, body: Some(body), intact }
                    }
                    // The file is shorter than it should be.
                    None => Extent::Damage { offset, end: limit, header: Some(header) },
                },
            },
            None => self.resync(offset, limit)?,
        };
        self.offset = match &extent {
            Extent::Group { offset, header, .. } => offset + header.total_len(),
            Extent::Damage { end, header: None, .. } => end.next_multiple_of(ALIGN).min(limit),
            Extent::Damage { .. } | Extent::Zeros { .. } => limit,
        };
        Ok(Some(extent))
    }

    fn header_at(&mut self, offset: u64, limit: u64) -> io::Result<Option<Header>> {
        let bytes = self.get(offset, group::HEADER, limit)?;
        Ok(bytes.and_then(|bytes| Header::decode(&bytes, self.seed, offset)))
    }

    /// Looks for the next sound header. Without one, the damage ends with the last byte that is not zero.
    fn resync(&mut self, offset: u64, limit: u64) -> io::Result<Extent> {
        let (mut at, mut last_written) = (offset, None);
        while at < limit {
            let len = ALIGN.min(limit - at) as usize;
            let Some(sector) = self.get_some(at, len, limit)? else {
                break;
            };
            if at > offset && Header::decode(&sector, self.seed, at).is_some() {
                return Ok(Extent::Damage { offset, end: at, header: None });
            }
            if let Some(written) = sector.iter().rposition(|byte| *byte != 0) {
                last_written = Some(at + written as u64 + 1);
            }
            at += ALIGN;
        }
        Ok(match last_written {
            Some(end) => Extent::Damage { offset, end, header: None },
            None => Extent::Zeros { offset },
        })
    }

    /// `len` bytes at `offset`, or `None` where the file is shorter.
    fn get(&mut self, offset: u64, len: usize, limit: u64) -> io::Result<Option<Bytes>> {
        Ok(self.get_some(offset, len, limit)?.filter(|bytes| bytes.len() == len))
    }

    /// Up to `len` bytes at `offset`; `None` past the end of the file.
    fn get_some(&mut self, offset: u64, len: usize, limit: u64) -> io::Result<Option<Bytes>> {
        let end = (offset + len as u64).min(limit);
        let window_end = self.window_start + self.window.len() as u64;
        if offset < self.window_start || end > window_end {
            let wanted = (len as u64).max(WINDOW).min(limit.saturating_sub(offset));
            let mut buffer = vec![0; wanted as usize];
            let read = fs::read_full(&*self.file, &mut buffer, offset)?;
            buffer.truncate(read);
            (self.window_start, self.window) = (offset, Bytes::from(buffer));
        }
        let from = (offset - self.window_start) as usize;
        let to = (from + (end.saturating_sub(offset)) as usize).min(self.window.len());
        Ok((from < to).then(|| self.window.slice(from..to)))
    }
}
