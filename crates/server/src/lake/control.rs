//! What the lake's thread and the rest of the server tell each other: stop, flush now, this is what the lake holds. Owns
//! the waiting; refuses to know what for.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use runstone_store::lake::{Lake, LakeSnapshot};
use tokio_util::sync::CancellationToken;

/// How long the lake's thread may go on once it was told to stop.
pub(crate) const STOP_TIME: Duration = Duration::from_secs(3);

/// What the lake held when it was last looked at.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) lake: Lake,
    pub(crate) snapshot: Arc<LakeSnapshot>,
    /// This directory's positions up to here are in it.
    pub(crate) through: u64,
}

#[derive(Debug, Default)]
struct State {
    stop_at: Option<Instant>,
    /// Readers have caught up, or have had their time: the thread may take the processor.
    go: bool,
    /// A flush was asked for.
    flush: bool,
    /// One that was asked for has begun.
    flushing: bool,
    /// The pause that follows a failure is over for it, once.
    hurry: bool,
    /// How the first look at the lake ended. Err: its location is wrong.
    first: Option<Result<(), String>>,
    seen: Option<Seen>,
    ended: bool,
}

/// Shared by the lake's thread and its owner.
#[derive(Debug, Default)]
pub(crate) struct Control {
    state: Mutex<State>,
    changed: Condvar,
    /// What is under way is to be dropped: the time to stop is over.
    abandon: CancellationToken,
}

impl Control {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits for a condition. None: it did not come true in that time.
    fn wait<T>(&self, timeout: Duration, condition: impl Fn(&mut State) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        loop {
            if let Some(value) = condition(&mut state) {
                return Some(value);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Tells the thread to bring what it has to the lake and to end soon.
    pub(crate) fn stop(&self) {
        self.change(|state| state.stop_at = state.stop_at.or(Some(Instant::now() + STOP_TIME)));
    }

    /// Tells the thread to drop what it is doing.
    pub(crate) fn abandon(&self) {
        self.abandon.cancel();
    }

    /// The thread has ended.
    pub(crate) fn ended(&self) {
        self.change(|state| state.ended = true);
    }

    /// Waits for the thread's end. False: it takes longer.
    pub(crate) fn wait_ended(&self, timeout: Duration) -> bool {
        self.wait(timeout, |state| state.ended.then_some(())).is_some()
    }

    /// Resolves when what is under way is to be dropped.
    pub(crate) async fn abandoned(&self) {
        self.abandon.cancelled().await;
    }

    /// Lets the thread take the processor.
    pub(crate) fn go(&self) {
        self.change(|state| state.go = true);
    }

    /// Asks for a flush now.
    pub(crate) fn flush(&self) {
        self.change(|state| (state.flush, state.hurry) = (true, true));
    }

    /// Was a flush asked for since the last time?
    pub(crate) fn take_flush(&self) -> bool {
        let mut state = self.lock();
        state.hurry = false;
        let asked = std::mem::take(&mut state.flush);
        state.flushing |= asked;
        asked
    }

    /// What was asked for is in the lake.
    pub(crate) fn flushed(&self) {
        self.change(|state| state.flushing = false);
    }

    /// Waits until a flush that was asked for is in the lake, or it is to stop. False: it takes longer.
    pub(crate) fn wait_flushed(&self, timeout: Duration) -> bool {
        let done = |state: &mut State| !(state.flush || state.flushing) || state.stop_at.is_some();
        self.wait(timeout, |state| done(state).then_some(())).is_some()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.lock().stop_at.is_some()
    }

    /// Is the time to stop over?
    pub(crate) fn is_late(&self) -> bool {
        self.abandon.is_cancelled() || self.lock().stop_at.is_some_and(|at| Instant::now() >= at)
    }

    /// Waits until the thread may take the processor, or is to stop.
    pub(crate) fn wait_go(&self, timeout: Duration) {
        self.wait(timeout, |state| (state.go || state.stop_at.is_some()).then_some(()));
    }

    /// Waits, but not when it is to stop or somebody asks for a flush. Asked for once, it ends one pause: a lake that
    /// cannot be opened never comes to the flush, and must not be tried without a pause for that.
    pub(crate) fn pause(&self, timeout: Duration) {
        self.wait(timeout, |state| (std::mem::take(&mut state.hurry) || state.stop_at.is_some()).then_some(()));
    }

    /// Waits until it is to stop. False: it goes on.
    pub(crate) fn wait_stop(&self, timeout: Duration) -> bool {
        self.wait(timeout, |state| state.stop_at).is_some()
    }

    /// Tells how the first look at the lake ended.
    pub(crate) fn looked(&self, outcome: Result<(), String>) {
        self.change(|state| state.first = state.first.take().or(Some(outcome)));
    }

    /// Waits for the first look at the lake. None: it takes longer.
    pub(crate) fn wait_first(&self, timeout: Duration) -> Option<Result<(), String>> {
        self.wait(timeout, |state| state.first.clone())
    }

    pub(crate) fn saw(&self, seen: Seen) {
        self.change(|state| state.seen = Some(seen));
    }

    /// What the lake held when it was last looked at. None: it was not reached yet.
    pub(crate) fn seen(&self) -> Option<Seen> {
        self.lock().seen.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_to_flush_ends_one_pause() {
        let (control, long) = (Control::default(), Duration::from_secs(3_600));
        control.flush();
        control.pause(long);
        // Nothing has taken the request up, and nobody asks again.
        let begun = Instant::now();
        control.pause(Duration::from_millis(20));
        assert!(begun.elapsed() >= Duration::from_millis(20));
        control.flush();
        control.pause(long);
        assert!(control.take_flush() && !control.take_flush());
        control.stop();
        control.pause(long);
    }
}
