//! Reads a whole segment and tells a torn tail from corruption: what lies before an offset that is known to have been
//! durable was acknowledged and is corruption; what lies after it was never acknowledged and may be cut.

use std::fmt;
use std::io;
use std::ops::{Range, RangeInclusive};

use crate::frame::{self, Piece};
use crate::scan::{Body, Extent, Walker};
use crate::segment;

/// The index of a segment has an entry about this often.
pub(crate) const INDEX_STEP: u64 = 1 << 20;

/// Bytes of a segment that were durable once and are not what was written. They are left where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The first position of the segment, which names its file.
    pub segment: u64,
    /// The damaged bytes of the file.
    pub bytes: Range<u64>,
    /// The positions that cannot be read for it; `None` when none is lost.
    pub positions: Option<RangeInclusive<u64>>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, from, to) = (segment::name(self.segment), self.bytes.start, self.bytes.end);
        match &self.positions {
            Some(lost) => {
                write!(f, "damaged bytes {from} to {to} of {name}: positions {} to {}", lost.start(), lost.end())
            }
            None => write!(f, "damaged bytes {from} to {to} of {name}: no position lost"),
        }
    }
}

#[derive(Debug)]
enum Mark {
    Group {
        range: Range<u64>,
        first: u64,
        items: u64,
        frames: u32,
        sequence: u64,
        intact: bool,
        lost: Vec<(u64, u64)>,
    },
    /// `first` is what the header of a group that the end cuts off says.
    Damage {
        range: Range<u64>,
        first: Option<u64>,
    },
    Zeros {
        offset: u64,
    },
}

/// What is known of a segment before it is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) segment: u64,
    pub(crate) first_sequence: u64,
    /// The valid length and the last position, when a successor states them.
    pub(crate) sealed: Option<(u64, u64)>,
    /// The length of the file.
    pub(crate) len: u64,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// Where the next group goes.
    pub(crate) end: u64,
    pub(crate) next: u64,
    pub(crate) next_sequence: u64,
    /// Everything before this was durable for certain.
    pub(crate) durable: u64,
    /// How many bytes after `end` were never acknowledged.
    pub(crate) torn: u64,
    /// Whether the last group is a mark, which vouches for everything before it.
    pub(crate) marked: bool,
    pub(crate) damages: Vec<Damage>,
    /// (position, offset) of groups, about every mebibyte.
    pub(crate) index: Vec<(u64, u64)>,
    pub(crate) groups: u64,
    pub(crate) frames: u64,
    pub(crate) items: u64,
}

/// Reads everything up to the sealed end, or the end of the file.
pub(crate) fn survey(walker: &mut Walker, known: Known) -> io::Result<Verdict> {
    let limit = known.sealed.map_or(known.len, |(end, _)| end);
    let (marks, proven) = collect(walker, limit)?;
    let mut judge = Judge::new(known, known.sealed.map_or(proven, |(end, _)| end.max(proven)));
    for mark in marks {
        if !judge.take(mark) {
            break;
        }
    }
    Ok(judge.finish())
}

fn collect(walker: &mut Walker, limit: u64) -> io::Result<(Vec<Mark>, u64)> {
    let (mut marks, mut proven) = (Vec::new(), segment::HEADER);
    while let Some(extent) = walker.next(limit, |_| Body::Read)? {
        marks.push(match extent {
            Extent::Group { offset, header, body, intact } => {
                proven = proven.max(header.durable);
                let pieces = match (&body, intact) {
                    (Some(body), false) => frame::decode(body, &header, false),
                    _ => Vec::new(),
                };
                let lost = pieces.iter().filter_map(|piece| match piece {
                    Piece::Gap { first, last } => Some((*first, *last)),
                    Piece::Frame(_) => None,
                });
                Mark::Group {
                    range: offset..offset + header.total_len(),
                    first: header.first,
                    items: header.items,
                    frames: if header.is_mark() { 0 } else { header.frames },
                    sequence: header.sequence,
                    intact,
                    lost: lost.collect(),
                }
            }
            Extent::Damage { offset, end, header } => {
                proven = proven.max(header.map_or(0, |header| header.durable));
                Mark::Damage { range: offset..end, first: header.map(|header| header.first) }
            }
            Extent::Zeros { offset } => Mark::Zeros { offset },
        });
    }
    Ok((marks, proven))
}

struct Judge {
    known: Known,
    out: Verdict,
    /// Damage whose positions the next sound header will tell.
    open: Option<Range<u64>>,
}

impl Judge {
    fn new(known: Known, durable: u64) -> Self {
        let out = Verdict {
            end: segment::HEADER,
            next: known.segment,
            next_sequence: known.first_sequence,
            durable,
            torn: 0,
            marked: false,
            damages: Vec::new(),
            index: Vec::new(),
            groups: 0,
            frames: 0,
            items: 0,
        };
        Self { known, out, open: None }
    }

    /// False at the end of what is valid.
    fn take(&mut self, mark: Mark) -> bool {
        match mark {
            Mark::Group { range, first, items, frames, sequence, intact, lost } => {
                self.reach(first, range.start);
                if !intact && range.start >= self.out.durable {
                    return self.cut(&range);
                }
                self.group(&range, first, items, sequence);
                if !intact {
                    self.damage_in_group(&range, &lost);
                } else if frames > 0 {
                    self.out.groups += 1;
                }
                let lost_items: u64 = lost.iter().map(|(first, last)| last - first + 1).sum();
                self.out.items += items - lost_items.min(items);
                self.out.frames += u64::from(frames);
                true
            }
            Mark::Damage { range, first } => {
                if let Some(first) = first {
                    self.reach(first, range.start);
                }
                if range.start >= self.out.durable {
                    return self.cut(&range);
                }
                self.widen(range);
                true
            }
            Mark::Zeros { offset } if offset >= self.out.durable => {
                self.settle(offset);
                false
            }
            Mark::Zeros { offset } => {
                self.widen(offset..self.out.durable);
                true
            }
        }
    }

    fn group(&mut self, range: &Range<u64>, first: u64, items: u64, sequence: u64) {
        let due = self.out.index.last().is_none_or(|(_, offset)| range.start >= offset + INDEX_STEP);
        if due && items > 0 {
            self.out.index.push((first, range.start));
        }
        self.out.end = range.end;
        self.out.next = self.out.next.max(first + items);
        self.out.next_sequence = sequence + 1;
        self.out.marked = items == 0;
    }

    fn damage_in_group(&mut self, range: &Range<u64>, lost: &[(u64, u64)]) {
        let positions = match (lost.first(), lost.last()) {
            (Some((first, _)), Some((_, last))) => Some(*first..=*last),
            _ => None,
        };
        self.out.damages.push(Damage { segment: self.known.segment, bytes: range.clone(), positions });
    }

    fn widen(&mut self, range: Range<u64>) {
        self.out.end = self.out.end.max(range.end);
        self.open = Some(match self.open.take() {
            Some(open) => open.start..range.end,
            None => range,
        });
    }

    /// A sound header at `offset` says that the next position there is `first`.
    fn reach(&mut self, first: u64, offset: u64) {
        let lost = (first > self.out.next).then(|| self.out.next..=first - 1);
        if self.open.is_none() && lost.is_none() {
            return;
        }
        let bytes = self.open.take().unwrap_or(offset..offset);
        self.out.damages.push(Damage { segment: self.known.segment, bytes, positions: lost });
        self.out.next = self.out.next.max(first);
    }

    fn cut(&mut self, range: &Range<u64>) -> bool {
        self.settle(range.start);
        self.out.torn = self.known.len.min(range.end).saturating_sub(range.start);
        false
    }

    fn settle(&mut self, end: u64) {
        self.out.end = end;
        self.reach(self.out.next, end);
    }

    fn finish(mut self) -> Verdict {
        if let Some((end, last)) = self.known.sealed {
            if self.known.len < end {
                self.widen(self.known.len..end);
            }
            self.reach(last + 1, end);
            (self.out.end, self.out.next) = (end, last + 1);
        } else {
            self.reach(self.out.next, self.out.end);
        }
        self.out
    }
}
