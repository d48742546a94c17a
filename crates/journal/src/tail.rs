//! The newest frames in memory and how far the journal is durable; wakes those who wait for more. Reads no file.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::frame::Frame;
use crate::lock;

pub(crate) type Callback = Arc<dyn Fn(u64) + Send + Sync>;

struct State {
    frames: VecDeque<Frame>,
    bytes: usize,
    durable: u64,
    closed: bool,
}

pub(crate) struct Tail {
    state: Mutex<State>,
    grown: Condvar,
    capacity: usize,
    subscribers: Mutex<(u64, BTreeMap<u64, Callback>)>,
}

/// What memory can say about a position.
pub(crate) enum Lookup {
    Frame(Frame),
    /// Nothing that late is durable yet.
    CaughtUp,
    /// Durable, but only on disk.
    OnDisk,
}

impl Tail {
    pub(crate) fn new(durable: u64, capacity: usize) -> Self {
        let state = State { frames: VecDeque::new(), bytes: 0, durable, closed: false };
        Self { state: Mutex::new(state), grown: Condvar::new(), capacity, subscribers: Mutex::default() }
    }

    pub(crate) fn durable(&self) -> u64 {
        lock(&self.state).durable
    }

    /// Makes frames visible. Their last position is durable.
    pub(crate) fn extend(&self, frames: impl Iterator<Item = Frame>, durable: u64) {
        let mut state = lock(&self.state);
        for frame in frames {
            state.bytes += frame.payload.len();
            state.frames.push_back(frame);
        }
        while state.bytes > self.capacity {
            let Some(oldest) = state.frames.pop_front() else { break };
            state.bytes -= oldest.payload.len();
        }
        state.durable = durable;
    }

    /// Forgets what was trimmed, so that every reader hears the same.
    pub(crate) fn forget_before(&self, first_available: u64) {
        let mut state = lock(&self.state);
        while state.frames.front().is_some_and(|frame| frame.first < first_available) {
            let Some(oldest) = state.frames.pop_front() else { break };
            state.bytes -= oldest.payload.len();
        }
    }

    /// Wakes waiting readers and calls the subscribers.
    pub(crate) fn wake(&self) {
        self.grown.notify_all();
        let durable = self.durable();
        let subscribers: Vec<Callback> = lock(&self.subscribers).1.values().cloned().collect();
        for subscriber in subscribers {
            // One that panics must not take the journal with it; the panic hook has told of it.
            let _ = catch_unwind(AssertUnwindSafe(|| subscriber(durable)));
        }
    }

    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.grown.notify_all();
    }

    pub(crate) fn find(&self, position: u64) -> Lookup {
        let state = lock(&self.state);
        if position > state.durable {
            return Lookup::CaughtUp;
        }
        let at = state.frames.partition_point(|frame| frame.last() < position);
        match state.frames.get(at) {
            Some(frame) if frame.first <= position => Lookup::Frame(frame.clone()),
            _ => Lookup::OnDisk,
        }
    }

    /// Waits until `position` is durable; false when the time is over or the journal closed before.
    pub(crate) fn wait(&self, position: u64, timeout: Duration) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        let mut state = lock(&self.state);
        while state.durable < position && !state.closed {
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            let waited = self.grown.wait_timeout(state, left);
            state = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        state.durable >= position
    }

    pub(crate) fn subscribe(&self, callback: Callback) -> u64 {
        let mut subscribers = lock(&self.subscribers);
        subscribers.0 += 1;
        let key = subscribers.0;
        subscribers.1.insert(key, callback);
        key
    }

    pub(crate) fn unsubscribe(&self, key: u64) {
        lock(&self.subscribers).1.remove(&key);
    }
}
