//! Frames on their way to the writer, bounded in number and bytes until they are answered. Touches no file.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::error::AppendError;
use crate::lock;

/// The positions that a frame was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Of its first item.
    pub first: u64,
    /// Of its last item.
    pub last: u64,
}

/// Called once, from the writer's thread, when the frame is durable or refused. It must not block or wait for the
/// journal: everything behind it waits.
pub type Done = Box<dyn FnOnce(Result<Appended, AppendError>) + Send>;

pub(crate) struct Entry {
    pub(crate) payload: Bytes,
    pub(crate) items: u32,
    pub(crate) done: Done,
}

#[derive(Default)]
struct State {
    entries: VecDeque<Entry>,
    /// Accepted and not yet answered.
    frames: usize,
    bytes: usize,
    closed: bool,
    failed: Option<AppendError>,
}

pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    frames_max: usize,
    bytes_max: usize,
}

/// What the writer is to do next.
pub(crate) enum Work {
    Group(Vec<Entry>),
    /// Nothing came in time.
    Idle,
    /// Closed, and everything was taken.
    Closed,
}

impl Queue {
    pub(crate) fn new(frames_max: usize, bytes_max: usize) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), frames_max, bytes_max }
    }

    pub(crate) fn push(&self, entry: Entry) -> Result<(), AppendError> {
        let mut state = lock(&self.state);
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        if state.closed {
            return Err(AppendError::Closed);
        }
        // A single frame over the byte limit still passes when nothing else waits: it could never be sent otherwise.
        let over = state.bytes.saturating_add(entry.payload.len()) > self.bytes_max && state.frames > 0;
        if over || state.frames >= self.frames_max {
            return Err(AppendError::Full { frames: state.frames, bytes: state.bytes });
        }
        state.frames += 1;
        state.bytes += entry.payload.len();
        state.entries.push_back(entry);
        if state.entries.len() == 1 {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Everything that waits, up to `group_bytes`; at least one frame.
    pub(crate) fn take(&self, group_bytes: usize, timeout: Option<Duration>) -> Work {
        let mut state = lock(&self.state);
        while state.entries.is_empty() {
            if state.closed {
                return Work::Closed;
            }
            state = match timeout {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(timeout) => {
                    let waited = self.changed.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner);
                    if waited.1.timed_out() && waited.0.entries.is_empty() && !waited.0.closed {
                        return Work::Idle;
                    }
                    waited.0
                }
            };
        }
        let (mut bytes, mut count) = (0usize, 0);
        for entry in &state.entries {
            bytes = bytes.saturating_add(entry.payload.len());
            if count > 0 && bytes > group_bytes {
                break;
            }
            count += 1;
        }
        Work::Group(state.entries.drain(..count).collect())
    }

    /// These were answered: their room is free again.
    pub(crate) fn release(&self, frames: usize, bytes: usize) {
        let mut state = lock(&self.state);
        state.frames -= frames;
        state.bytes -= bytes;
    }

    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_all();
    }

    pub(crate) fn fail(&self, error: AppendError) {
        lock(&self.state).failed.get_or_insert(error);
    }

    /// Frames and bytes accepted and not yet answered.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.frames, state.bytes)
    }
}
