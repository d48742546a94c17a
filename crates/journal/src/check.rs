//! Reads a whole directory without taking or changing anything, for `verify`. A journal that is being written while it
//! is checked may show its newest group as torn.

use std::path::Path;

use crate::directory::{self, at, find_missing, id_of, identity_of, survey_found};
use crate::error::OpenError;
use crate::frame::{Frame, Piece};
use crate::fs::Fs;
use crate::group::Seed;
use crate::identity::Identity;
use crate::journal::JournalId;
use crate::reader::Cursor;
use crate::segment::{self, Block, Found};
use crate::survey::{Damage, Verdict};

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

    fn new(id: JournalId, identity_sound: bool) -> Self {
        Self {
            id,
            segments: 0,
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
            identity_sound,
            missing: Vec::new(),
        }
    }
}

/// Reads everything in `dir` and calls `visit` with each readable frame, in order. Takes no lock, changes nothing.
pub fn check(fs: &dyn Fs, dir: &Path, mut visit: impl FnMut(&Frame)) -> Result<CheckReport, OpenError> {
    fs.list(dir).map_err(at("list directory", dir))?;
    let contents = directory::load(fs, dir)?;
    let identity = identity_of(&contents);
    let sound = matches!(contents.identity, Some(Block::Valid(_)));
    let mut report = CheckReport::new(id_of(identity.as_ref()), sound);
    let Some(identity) = identity else {
        if contents.segments.is_empty() && contents.identity.is_none() {
            return Ok(report);
        }
        return Err(OpenError::Unreadable { dir: dir.to_owned() });
    };
    // What was trimmed and not yet deleted does not count.
    let trimmed = contents.segments.partition_point(|found| found.first < identity.first_available);
    let segments = &contents.segments[trimmed..];
    report.segments = segments.len() as u64;
    let oldest = segments.first().map(|found| found.first);
    if identity.first_available > 0 && oldest != Some(identity.first_available) {
        report.missing.push((identity.first_available, oldest.map(|first| first - 1)));
    }
    let mut next = identity.first_available.max(1);
    for (i, found) in segments.iter().enumerate() {
        next = check_segment(fs, &identity, found, segments.get(i + 1), &mut report, &mut visit)?;
    }
    if segments.last().is_some_and(|found| found.first < identity.newest) {
        report.missing.push((next, None));
    }
    let first = oldest.unwrap_or(next);
    if next > first {
        (report.first, report.last) = (Some(first), Some(next - 1));
    }
    Ok(report)
}

/// Gives the position after the segment's last one.
fn check_segment(
    fs: &dyn Fs,
    identity: &Identity,
    found: &Found,
    successor: Option<&Found>,
    report: &mut CheckReport,
    visit: &mut impl FnMut(&Frame),
) -> Result<u64, OpenError> {
    if found.header.is_none() || found.copy_damaged {
        report.damaged_headers.push(found.first);
    }
    let adjacent = successor.filter(|successor| find_missing([found, *successor]).is_none());
    let sealed = adjacent.and_then(|successor| {
        let predecessor = successor.header?.predecessor?;
        Some((predecessor.end, successor.first - 1))
    });
    let file = fs.open(&found.path).map_err(at("open segment", &found.path))?;
    let verdict = survey_found(&file, identity, found, sealed).map_err(at("read segment", &found.path))?;
    report.groups += verdict.groups;
    report.bytes += verdict.end.min(found.len);
    report.damages.extend_from_slice(&verdict.damages);
    match successor {
        None => report.torn_bytes = verdict.torn,
        Some(successor) if adjacent.is_none() => report.missing.push((verdict.next, Some(successor.first - 1))),
        Some(_) => {}
    }
    visit_frames(fs, identity, found, &verdict, report, visit)?;
    Ok(verdict.next)
}

fn visit_frames(
    fs: &dyn Fs,
    identity: &Identity,
    found: &Found,
    verdict: &Verdict,
    report: &mut CheckReport,
    visit: &mut impl FnMut(&Frame),
) -> Result<(), OpenError> {
    let seed = Seed::new(identity.journal, identity.salt, found.first);
    let mut cursor =
        Cursor::open(fs, &found.path, seed, found.first, segment::HEADER).map_err(at("open segment", &found.path))?;
    let last = verdict.next - 1;
    while let Some(piece) = cursor.next(verdict.end, last, 0, |_, _| {}).map_err(at("read segment", &found.path))? {
        if let Piece::Frame(frame) = piece {
            report.frames += 1;
            report.items += u64::from(frame.items);
            report.payload_bytes += frame.payload.len() as u64;
            visit(&frame);
        }
    }
    Ok(())
}
