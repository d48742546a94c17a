//! Where queries run: threads of their own, a bounded number at a time, each until its deadline. Owns threads, slots,
//! time-outs and cancellation, so that no query takes a thread or an unbounded wait from whoever takes records in.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinError, JoinHandle};

use crate::error::{QueryError, Queue};
use crate::pace::Pace;
use crate::watch::Stop;

/// Deeply nested SQL is planned by recursion; pages of a stack are taken only when they are touched.
const STACK_BYTES: usize = 64 << 20;
/// Reads of the lake's files that each thread may have under way.
const FILES_AT_ONCE: usize = 4;
/// How much later than others these threads get the processor (nice).
const NICENESS: i32 = 15;

/// What is looked at how often while something waits for its turn.
const LOOK: Duration = Duration::from_millis(200);

/// Queries of one kind that may run and wait.
#[derive(Debug)]
pub(crate) struct Slots {
    queue: Queue,
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Those whose clients may be slow.
    paces: Mutex<Vec<Weak<Pace>>>,
}

/// A turn that has come; dropped, it is over.
#[derive(Debug)]
pub(crate) struct Turn(#[expect(dead_code, reason = "held until it is dropped")] OwnedSemaphorePermit);

/// The turn that a task has. It may get another while it runs.
#[derive(Debug)]
pub(crate) struct Place(Mutex<Option<Turn>>);

impl Place {
    fn lock(&self) -> MutexGuard<'_, Option<Turn>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the turn back, while the task stands still.
    pub(crate) fn leave(&self) {
        self.lock().take();
    }

    pub(crate) fn enter(&self, turn: Turn) {
        *self.lock() = Some(turn);
    }
}

impl Slots {
    pub(crate) fn new(
        (one, all): (&'static str, &'static str),
        running_max: usize,
        waiting_max: usize,
        setting: Option<&'static str>,
    ) -> Self {
        let running_max = running_max.max(1);
        let queue = Queue { one, all, running_max, waiting_max, setting, waited: false };
        let running = Arc::new(Semaphore::new(running_max));
        Self { queue, running, waiting: AtomicUsize::new(0), paces: Mutex::default() }
    }

    /// How many are taken.
    pub(crate) fn running(&self) -> usize {
        self.queue.running_max - self.running.available_permits()
    }

    /// Waits for a turn. While others have it whose clients are too slow, the slowest of them loses it.
    pub(crate) async fn turn(&self, timeout: Duration) -> Result<Turn, QueryError> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if let Ok(permit) = Arc::clone(&self.running).try_acquire_owned() {
            return Ok(Turn(permit));
        }
        if before >= self.queue.waiting_max {
            return Err(QueryError::Busy(self.queue));
        }
        let permit = Arc::clone(&self.running).acquire_owned();
        let mut permit = std::pin::pin!(permit);
        let late = tokio::time::sleep(timeout);
        let mut late = std::pin::pin!(late);
        loop {
            tokio::select! {
                permit = &mut permit => {
                    return permit.map(Turn).map_err(|_| QueryError::Internal("the store is closed".to_owned()));
                }
                () = &mut late => return Err(QueryError::Busy(Queue { waited: true, ..self.queue })),
                () = tokio::time::sleep(LOOK) => self.break_slowest_off(),
            }
        }
    }

    /// Watches how fast a client takes what runs here.
    pub(crate) fn watch(&self, pace: &Arc<Pace>) {
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        paces.retain(|pace| pace.strong_count() > 0);
        paces.push(Arc::downgrade(pace));
    }

    fn break_slowest_off(&self) {
        let paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        let paces: Vec<Arc<Pace>> = paces.iter().filter_map(Weak::upgrade).collect();
        // One place is enough for who waits.
        if paces.iter().any(|pace| pace.is_ending()) {
            return;
        }
        let slow = paces.iter().filter_map(|pace| Some((pace.slowness()?, pace)));
        if let Some((_, slowest)) = slow.min_by_key(|(bytes_a_second, _)| *bytes_a_second) {
            slowest.break_off();
        }
    }
}

/// The threads.
#[derive(Debug)]
pub(crate) struct Runner {
    runtime: Option<Runtime>,
    handle: Handle,
}

/// Stops a task when whoever waits for it goes away.
#[derive(Debug)]
pub(crate) struct StopOnDrop(AbortHandle, Arc<Stop>);

impl StopOnDrop {
    /// Stops it now.
    pub(crate) fn stop(&self) {
        self.1.stop();
        self.0.abort();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One waiting query, counted.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Runner {
    pub(crate) fn new(threads: usize) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("query")
            .thread_stack_size(STACK_BYTES)
            .on_thread_start(|| {
                // On Linux a thread has its own niceness. Where it cannot be set queries are only less polite.
                #[cfg(target_os = "linux")]
                let _ = rustix::process::nice(NICENESS);
            })
            .max_blocking_threads(threads.max(1) * FILES_AT_ONCE)
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        Ok(Self { runtime: Some(runtime), handle })
    }

    /// Runs a query in one of `slots`. It ends at the deadline, or when the caller stops waiting; a step that cannot
    /// be interrupted keeps its slot until it ends, but not its caller.
    pub(crate) async fn run<T, F>(
        &self,
        slots: &Slots,
        timeout: Duration,
        query: impl FnOnce(Arc<Stop>) -> F,
    ) -> Result<T, QueryError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, QueryError>> + Send + 'static,
    {
        let (task, _place, _stop) = self.begin(slots, timeout, query).await?;
        match tokio::time::timeout(timeout, task).await {
            Err(_) => Err(QueryError::Timeout(timeout.as_millis())),
            Ok(ended) => outcome(ended),
        }
    }

    /// Does some work that never waits, in one of `slots`. It keeps that until it ends, but its caller not beyond the
    /// deadline.
    pub(crate) async fn aside<T: Send + 'static>(
        &self,
        slots: &Slots,
        timeout: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, QueryError> {
        let turn = slots.turn(timeout).await?;
        let task = self.handle.spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        match tokio::time::timeout(timeout, task).await {
            Err(_) => Err(QueryError::Timeout(timeout.as_millis())),
            Ok(ended) => outcome(ended.map(Ok)),
        }
    }

    /// Begins a query in one of `slots`, for which it waits until `timeout` and which it keeps until it ends, or gets another
    /// place. Whoever drops the last part of the answer stops it.
    pub(crate) async fn begin<T, F>(
        &self,
        slots: &Slots,
        timeout: Duration,
        query: impl FnOnce(Arc<Stop>) -> F,
    ) -> Result<(JoinHandle<Result<T, QueryError>>, Arc<Place>, StopOnDrop), QueryError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, QueryError>> + Send + 'static,
    {
        let turn = slots.turn(timeout).await?;
        let place = Arc::new(Place(Mutex::new(Some(turn))));
        let held = LeaveOnDrop(Arc::clone(&place));
        let stop = Arc::new(Stop::default());
        let query = query(Arc::clone(&stop));
        let task = self.handle.spawn(async move {
            let _held = held;
            query.await
        });
        let stop = StopOnDrop(task.abort_handle(), stop);
        Ok((task, place, stop))
    }
}

/// However a task ends, it leaves its place.
struct LeaveOnDrop(Arc<Place>);

impl Drop for LeaveOnDrop {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// What a task that has ended comes to.
pub(crate) fn outcome<T>(ended: Result<Result<T, QueryError>, JoinError>) -> Result<T, QueryError> {
    match ended {
        Ok(answer) => answer,
        // Overflows in the engine: the same text would fail again, and nothing of ours is at stake.
        Err(stopped) if stopped.is_panic() => {
            let message = "run query: a step of it broke off, as when a number overflows; ask in another way";
            Err(QueryError::Failed(message.to_owned()))
        }
        Err(_) => Err(QueryError::Internal("the store is closed".to_owned())),
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // Waiting for threads is not allowed where an async caller drops us.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn questions(waiting_max: usize) -> Slots {
        Slots::new(("question", "questions"), 1, waiting_max, None)
    }

    #[tokio::test]
    async fn work_aside_is_bounded_and_so_is_the_wait_for_it() {
        let (runner, slots) = (Arc::new(Runner::new(1).unwrap()), Arc::new(questions(1)));
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (end, ended) = mpsc::sync_channel::<()>(1);
        let long = {
            let (runner, slots) = (Arc::clone(&runner), Arc::clone(&slots));
            let work = move || (begun.send(()), ended.recv()).1.is_ok();
            tokio::spawn(async move { runner.aside(&slots, Duration::from_secs(60), work).await })
        };
        has_begun.await.unwrap();
        let mut waiting = Box::pin(runner.aside(&slots, Duration::from_secs(60), || "in turn"));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        let refused = runner.aside(&slots, Duration::from_secs(60), || ()).await;
        assert!(matches!(refused, Err(QueryError::Busy(Queue { waited: false, .. }))), "{refused:?}");
        let millis = Duration::from_millis(1);
        let impatient = questions(9);
        let _taken = impatient.turn(millis).await.unwrap();
        let late = runner.aside(&impatient, millis, || ()).await;
        assert!(matches!(late, Err(QueryError::Busy(Queue { waited: true, .. }))), "nobody waits for ever: {late:?}");
        end.send(()).unwrap();
        assert_eq!((long.await.unwrap(), waiting.await), (Ok(true), Ok("in turn")));
    }
}
