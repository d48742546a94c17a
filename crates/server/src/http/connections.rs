//! Which connections are open and what each of them waits for. Owns the time-outs of connections and the choice of the
//! one to give up when there are too many; refuses to touch a socket: a connection is told, and closes itself.
//!
//! One sweep over all of them replaces a timer in each: a request arms none.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::metrics::HttpMetrics;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// New, or some of a request's headers have arrived.
    Head,
    /// Between requests, or its end.
    Idle,
    /// Waiting for more of a body.
    Body,
    /// A handler works, or an answer is on its way. Never given up.
    Busy,
}

/// A client that takes nothing for so long gives its place to others, where places are wanted.
const STALLED_LONG: Duration = Duration::from_secs(5);

const PHASES: [Phase; 4] = [Phase::Head, Phase::Idle, Phase::Body, Phase::Busy];
const PHASE_BITS: u32 = 2;

/// One connection, as seen by itself and by the sweep.
#[derive(Debug)]
pub(super) struct Watch {
    epoch: Instant,
    /// The phase in the low bits, and above it the microseconds from the epoch to its start.
    state: AtomicU64,
    /// Microseconds from the epoch, plus one, to the first write that the client did not take; 0: writes flow.
    write_stalled: AtomicU64,
    unread: AtomicBool,
    close: Notify,
}

impl Watch {
    fn new(epoch: Instant) -> Self {
        let watch = Self {
            epoch,
            state: AtomicU64::new(0),
            write_stalled: AtomicU64::new(0),
            unread: AtomicBool::new(false),
            close: Notify::new(),
        };
        watch.enter(Phase::Head);
        watch
    }

    /// Starts `phase` now.
    pub(super) fn enter(&self, phase: Phase) {
        self.enter_at(phase, Instant::now());
    }

    /// Starts `phase` as if at `since`.
    pub(super) fn enter_at(&self, phase: Phase, since: Instant) {
        self.state.store(self.micros(since) << PHASE_BITS | phase as u64, Ordering::Release);
    }

    pub(super) fn phase(&self) -> Phase {
        self.state().0
    }

    fn state(&self) -> (Phase, u64) {
        let state = self.state.load(Ordering::Acquire);
        let index = usize::try_from(state & ((1 << PHASE_BITS) - 1)).unwrap_or(0);
        (PHASES[index], state >> PHASE_BITS)
    }

    /// Notes whether the client takes what is written.
    pub(super) fn wrote(&self, taken: bool) {
        if taken {
            // A load is cheaper than a store that other cores have to hear of.
            if self.write_stalled.load(Ordering::Relaxed) != 0 {
                self.write_stalled.store(0, Ordering::Release);
            }
        } else {
            let now = self.micros(Instant::now()) + 1;
            let _ = self.write_stalled.compare_exchange(0, now, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Notes that an answer went out before the request was read to its end.
    pub(super) fn leave_unread(&self) {
        self.unread.store(true, Ordering::Release);
    }

    pub(super) fn has_unread(&self) -> bool {
        self.unread.load(Ordering::Acquire)
    }

    /// Resolves when the connection should close at once.
    pub(super) async fn told_to_close(&self) {
        self.close.notified().await;
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_micros()).unwrap_or(u64::MAX >> PHASE_BITS)
    }

    /// For how long the client has taken nothing of what is written; none where it takes all.
    fn stalled_for(&self, now: u64) -> Option<Duration> {
        let since = self.write_stalled.load(Ordering::Acquire).checked_sub(1)?;
        Some(Duration::from_micros(now.saturating_sub(since)))
    }

    fn overdue(&self, timeouts: &Timeouts, now: u64) -> Option<&'static str> {
        let (phase, since) = self.state();
        let waited = Duration::from_micros(now.saturating_sub(since));
        match phase {
            _ if self.stalled_for(now).is_some_and(|long| long > timeouts.write) => Some("write_timeout"),
            Phase::Head if waited > timeouts.header => Some("header_timeout"),
            Phase::Idle if waited > timeouts.idle => Some("idle_timeout"),
            // A body has its own, in `body::read`, which can answer.
            Phase::Head | Phase::Idle | Phase::Body | Phase::Busy => None,
        }
    }
}

/// How long a connection may wait for its client.
#[derive(Debug, Clone)]
pub(super) struct Timeouts {
    pub(super) header: Duration,
    pub(super) idle: Duration,
    pub(super) write: Duration,
}

/// All open connections.
#[derive(Debug)]
pub(super) struct Connections {
    epoch: Instant,
    open: Mutex<Open>,
    metrics: HttpMetrics,
}

#[derive(Debug, Default)]
struct Open {
    watches: HashMap<u64, Arc<Watch>>,
    next: u64,
}

impl Connections {
    pub(super) fn new(metrics: HttpMetrics) -> Arc<Self> {
        Arc::new(Self { epoch: Instant::now(), open: Mutex::default(), metrics })
    }

    /// Adds a connection, until the ticket is dropped.
    pub(super) fn add(self: &Arc<Self>) -> Ticket {
        let watch = Arc::new(Watch::new(self.epoch));
        let mut open = self.lock();
        let id = open.next;
        open.next += 1;
        open.watches.insert(id, Arc::clone(&watch));
        self.metrics.connections.inc();
        Ticket { connections: Arc::clone(self), id, watch }
    }

    pub(super) fn len(&self) -> usize {
        self.lock().watches.len()
    }

    /// Gives up the connection that has waited longest for its client. False: all are at work.
    pub(super) fn evict_oldest(&self) -> bool {
        let mut open = self.lock();
        let waiting = open.watches.iter().filter(|(_, watch)| watch.phase() != Phase::Busy);
        let Some(oldest) = waiting.min_by_key(|(_, watch)| watch.state().1).map(|(id, _)| *id) else {
            return false;
        };
        self.close(&mut open, oldest, "evicted");
        true
    }

    /// Gives up those whose clients take their answers slowest: all that have taken nothing for some seconds, else the one
    /// that has taken nothing for longest.
    pub(super) fn evict_slowest_readers(&self) {
        let now = u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut open = self.lock();
        let stalled = open.watches.iter().filter_map(|(id, watch)| Some((*id, watch.stalled_for(now)?)));
        let mut stalled: Vec<(u64, Duration)> = stalled.collect();
        stalled.sort_unstable_by_key(|(_, long)| std::cmp::Reverse(*long));
        let slow = stalled.iter().take_while(|(_, long)| *long >= STALLED_LONG).count().max(1);
        for (id, _) in stalled.into_iter().take(slow) {
            self.close(&mut open, id, "evicted");
        }
    }

    /// Gives up every connection that has waited too long.
    pub(super) fn sweep(&self, timeouts: &Timeouts) {
        let now = u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut open = self.lock();
        let overdue: Vec<_> =
            open.watches.iter().filter_map(|(id, watch)| Some((*id, watch.overdue(timeouts, now)?))).collect();
        for (id, reason) in overdue {
            self.close(&mut open, id, reason);
        }
    }

    fn close(&self, open: &mut Open, id: u64, reason: &'static str) {
        // Out of the list at once, so that the place is free and nobody is told twice.
        if let Some(watch) = open.watches.remove(&id) {
            watch.close.notify_one();
            self.metrics.connections.dec();
            self.metrics.dropped(reason);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place among the open ones.
#[derive(Debug)]
pub(super) struct Ticket {
    connections: Arc<Connections>,
    id: u64,
    watch: Arc<Watch>,
}

impl Ticket {
    pub(super) fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.connections.lock().watches.remove(&self.id).is_some() {
            self.connections.metrics.connections.dec();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeouts(header: u64, idle: u64, write: u64) -> Timeouts {
        let [header, idle, write] = [header, idle, write].map(Duration::from_secs);
        Timeouts { header, idle, write }
    }

    fn ago(seconds: u64) -> Instant {
        Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap()
    }

    fn connections() -> Arc<Connections> {
        Arc::new(Connections { epoch: ago(1_000), open: Mutex::default(), metrics: HttpMetrics::default() })
    }

    #[test]
    fn the_one_that_waited_longest_goes_first_and_a_busy_one_never() {
        let connections = connections();
        let [busy, new, old] = [(); 3].map(|()| connections.add());
        busy.watch().enter_at(Phase::Busy, ago(500));
        new.watch().enter_at(Phase::Head, ago(1));
        old.watch().enter_at(Phase::Body, ago(9));
        assert!(connections.evict_oldest());
        drop(old);
        assert_eq!(connections.len(), 2);
        assert!(connections.evict_oldest());
        assert!(!connections.evict_oldest());
        assert_eq!((connections.len(), connections.metrics.connections.get()), (1, 1));
        drop((busy, new));
        assert_eq!((connections.len(), connections.metrics.connections.get()), (0, 0));
    }

    #[tokio::test]
    async fn each_phase_has_its_own_time() {
        let connections = connections();
        for (phase, seconds, overdue) in [
            (Phase::Head, 11, true),
            (Phase::Head, 9, false),
            (Phase::Idle, 11, false),
            (Phase::Idle, 76, true),
            (Phase::Body, 900, false),
            (Phase::Busy, 900, false),
        ] {
            let ticket = connections.add();
            ticket.watch().enter_at(phase, ago(seconds));
            connections.sweep(&timeouts(10, 75, 30));
            assert_eq!(connections.len() == 0, overdue, "{phase:?} for {seconds} s");
            if overdue {
                ticket.watch().told_to_close().await;
            }
        }
    }

    #[test]
    fn the_slowest_readers_make_room() {
        let connections = connections();
        let stall = |seconds: u64| {
            let ticket = connections.add();
            let since = ticket.watch().micros(ago(seconds));
            ticket.watch().write_stalled.store(since + 1, Ordering::Release);
            ticket
        };
        let reads = connections.add();
        reads.watch().wrote(true);
        let long = [stall(7), stall(6)];
        let short = [stall(2), stall(1)];
        connections.evict_slowest_readers();
        assert_eq!(connections.len(), 3, "those that have taken nothing for long are gone");
        for left in [2, 1, 1] {
            connections.evict_slowest_readers();
            assert_eq!(connections.len(), left, "one by one, but nobody who reads");
        }
        drop((reads, long, short));
    }

    #[test]
    fn a_client_that_does_not_read_is_overdue_until_it_reads() {
        let watch = Watch::new(ago(1_000));
        watch.enter(Phase::Busy);
        watch.wrote(false);
        let later = watch.micros(Instant::now()) + 31_000_000;
        assert_eq!(watch.overdue(&timeouts(10, 75, 30), later), Some("write_timeout"));
        watch.wrote(true);
        assert_eq!(watch.overdue(&timeouts(10, 75, 30), later), None);
    }
}
