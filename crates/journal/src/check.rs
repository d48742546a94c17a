//! Reads a whole directory without taking or changing anything, for `verify`. A journal that is being written while it
//! is checked may show its newest group as torn.

use std::io;
use std::path::Path;

use crate::error::OpenError;
use crate::frame::{Frame, Piece};
use crate::fs::Fs;
use crate::group::Seed;
use crate::journal::JournalId;
use crate::reader::Cursor;
use crate::recovery::{self, Contents, at, find_missing, id_of, identity_of, survey_found};
use crate::segment::{self, Block};
use crate::survey::Damage;

/// What a directory holds.
#[derive(Debug, Clone)]
pub struct CheckReport {
    /// The journal; nil where nothing says.
    pub id: JournalId,
    /// Segments read.
    pub segments: u64,
    /// Sound groups.
    pub groups: u64,
    /// Readable frames.
    pub frames: u64,
    /// Items in them.
    pub items: u64,
    /// Payload bytes in them.
    pub payload_bytes: u64,
    /// Bytes of the files that are in use.
    pub bytes: u64,
    /// The first position that should be readable; `None` in an empty journal.
    pub first: Option<u64>,
    /// The last position that should be readable; `None` in an empty journal.
    pub last: Option<u64>,
    /// Bytes at the end that were never acknowledged and will be cut when the journal is opened.
    pub torn_bytes: u64,
    /// Acknowledged bytes that are damaged.
    pub damages: Vec<Damage>,
    /// Segments (by first position) with a damaged header or header copy.
    pub damaged_headers: Vec<u64>,
    /// Whether the identity file is there and sound.
    pub identity_sound: bool,
    /// Positions whose segments are missing: from, and to where that is known.
    pub missing: Vec<(u64, Option<u64>)>,
}

impl CheckReport {
    /// Whether everything that was acknowledged is there and sound. A torn tail is no fault.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damages.is_empty() && self.damaged_headers.is_empty() && self.missing.is_empty() && self.identity_sound
    }
}

/// Reads everything in `dir` and calls `visit` with each readable frame, in order. Takes no lock, changes nothing.
pub fn check(fs: &dyn Fs, dir: &Path, mut visit: impl FnMut(&Frame)) -> Result<CheckReport, OpenError> {
    fs.list(dir).map_err(at("list directory", dir))?;
    let contents = recovery::load(fs, dir)?;
    let identity = identity_of(&contents);
    let mut report = CheckReport {
        id: id_of(identity.as_ref()),
        segments: contents.segments.len() as u64,
        groups: 0,
        frames: 0,
        items: 0,
        payload_bytes: 0,
        bytes: 0,
        first: None,
        last: None,
        torn_bytes: 0,
        damages: Vec::new(),
        damaged_headers: Vec::new(),
        identity_sound: matches!(contents.identity, Some(Block::Valid(_))),
        missing: Vec::new(),
    };
    let Some(identity) = identity else {
        return match contents.segments.is_empty() && contents.identity.is_none() {
            true => Ok(report),
            false => Err(OpenError::Unreadable { dir: dir.to_owned() }),
        };
    };
    let trimmed = contents
        .segments
        .partition_point(|found| found.first < identity.first_available);
    let contents = Contents {
        segments: contents.segments[trimmed..].to_vec(),
        ..contents
    };
    let oldest = contents.segments.first().map(|found| found.first);
    if identity.first_available > 0 && oldest != Some(identity.first_available) {
        report
            .missing
            .push((identity.first_available, oldest.map(|first| first - 1)));
    }
    let mut next = identity.first_available.max(1);
    for (i, found) in contents.segments.iter().enumerate() {
        if found.header.is_none() || found.copy_damaged {
            report.damaged_headers.push(found.first);
        }
        let successor = contents.segments.get(i + 1);
        let present = successor.is_some_and(|_| find_missing(&contents.segments[i..i + 2]).is_none());
        let stated = successor
            .filter(|_| present)
            .and_then(|s| s.header)
            .and_then(|header| header.predecessor);
        let sealed = stated
            .zip(successor)
            .map(|(predecessor, successor)| (predecessor.end, successor.first - 1));
        let read = |source: io::Error| at("read segment", &found.path)(source);
        let file = fs.open(&found.path).map_err(read)?;
        let mut verdict = survey_found(&file, &identity, found, sealed).map_err(read)?;
        drop(file);
        report.groups += verdict.groups;
        report.bytes += verdict.end.min(found.len);
        report.damages.append(&mut verdict.damages);
        match successor {
            None => report.torn_bytes = verdict.torn,
            Some(successor) if !present => report.missing.push((verdict.next, Some(successor.first - 1))),
            Some(_) => {}
        }
        let seed = Seed::new(identity.journal, identity.salt, found.first);
        let mut cursor = Cursor::open(fs, &found.path, seed, found.first, segment::HEADER).map_err(read)?;
        while let Some(piece) = cursor.next(verdict.end, verdict.next - 1, 0, |_, _| {}).map_err(read)? {
            if let Piece::Frame(frame) = piece {
                report.frames += 1;
                report.items += u64::from(frame.items);
                report.payload_bytes += frame.payload.len() as u64;
                visit(&frame);
            }
        }
        next = verdict.next;
    }
    if contents
        .segments
        .last()
        .is_some_and(|found| found.first < identity.newest)
    {
        report.missing.push((next, None));
    }
    let first = oldest.unwrap_or(next);
    if next > first {
        (report.first, report.last) = (Some(first), Some(next - 1));
    }
    Ok(report)
}
