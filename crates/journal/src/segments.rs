//! The segments of an open journal, as readers, writer and trimming share them. Opens nothing.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::group::Seed;
use crate::lock;
use crate::segment;
use crate::survey::INDEX_STEP;

/// One segment: immutable but for its end, which only grows.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) first: u64,
    pub(crate) path: PathBuf,
    pub(crate) seed: Seed,
    /// What its header says, in microseconds; 0 where it is lost.
    pub(crate) created_at: i64,
    /// The valid, durable length.
    end: AtomicU64,
    /// The last durable position; `first - 1` when there is none.
    last: AtomicU64,
    /// (position, offset) of some groups, ascending.
    index: Mutex<Vec<(u64, u64)>>,
}

impl Segment {
    pub(crate) fn new(
        dir: &Path,
        (first, created_at): (u64, i64),
        seed: Seed,
        end: u64,
        last: u64,
        index: Vec<(u64, u64)>,
    ) -> Arc<Self> {
        Arc::new(Self {
            first,
            path: dir.join(segment::name(first)),
            seed,
            created_at,
            end: AtomicU64::new(end),
            last: AtomicU64::new(last),
            index: Mutex::new(index),
        })
    }

    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(crate) fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    /// Everything up to `end` and `last` is durable now.
    pub(crate) fn advance(&self, end: u64, last: u64) {
        self.end.store(end, Ordering::Release);
        self.last.store(last, Ordering::Release);
    }

    /// Remembers where a group lies, if that helps.
    pub(crate) fn note(&self, position: u64, offset: u64) {
        let mut index = lock(&self.index);
        if index.last().is_none_or(|(_, known)| offset >= known + INDEX_STEP) {
            index.push((position, offset));
        }
    }

    /// The offset of a group at or before `position`, and the first position there.
    pub(crate) fn seek(&self, position: u64) -> (u64, u64) {
        let index = lock(&self.index);
        match index.partition_point(|(first, _)| *first <= position) {
            0 => (self.first, segment::HEADER),
            n => index[n - 1],
        }
    }
}

/// All segments, oldest first. There is always at least one.
#[derive(Debug)]
pub(crate) struct Segments(Mutex<Vec<Arc<Segment>>>);

impl Segments {
    pub(crate) fn new(segments: Vec<Arc<Segment>>) -> Self {
        Self(Mutex::new(segments))
    }

    /// The segment that holds `position`, or would.
    pub(crate) fn find(&self, position: u64) -> Option<Arc<Segment>> {
        let segments = lock(&self.0);
        let after = segments.partition_point(|segment| segment.first <= position);
        segments.get(after.checked_sub(1)?).cloned()
    }

    /// Adds the newest; one of the same name was empty and is replaced.
    pub(crate) fn push(&self, segment: Arc<Segment>) {
        let mut segments = lock(&self.0);
        if segments.last().is_some_and(|last| last.first == segment.first) {
            segments.pop();
        }
        segments.push(segment);
    }

    pub(crate) fn first_available(&self) -> u64 {
        lock(&self.0).first().map_or(1, |segment| segment.first)
    }

    /// The oldest segments whose positions all lie at or before `through`; never the newest.
    pub(crate) fn trimmable(&self, through: u64) -> Vec<Arc<Segment>> {
        let segments = lock(&self.0);
        let sealed = segments.len().saturating_sub(1);
        segments[..sealed].iter().take_while(|segment| segment.last() <= through).cloned().collect()
    }

    /// All of them, oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Segment>> {
        lock(&self.0).clone()
    }

    /// Forgets everything before `first_available`.
    pub(crate) fn forget_before(&self, first_available: u64) {
        lock(&self.0).retain(|segment| segment.first >= first_available);
    }

    /// How many, and how many valid bytes in all.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let segments = lock(&self.0);
        (segments.len() as u64, segments.iter().map(|segment| segment.end()).sum())
    }
}
