//! Where queries run: threads of their own, a bounded number at a time, each until its deadline. Owns threads, slots,
//! time-outs and cancellation, so that no query takes a thread or an unbounded wait from whoever takes records in.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinError, JoinHandle};

use crate::error::QueryError;
use crate::watch::Stop;

/// Deeply nested SQL is planned by recursion; pages of a stack are taken only when they are touched.
const STACK_BYTES: usize = 64 << 20;
/// Reads of the lake's files that each thread may have under way.
const FILES_AT_ONCE: usize = 4;
/// How much later than others these threads get the processor (nice).
const NICENESS: i32 = 5;

/// Queries of one kind that may run and wait.
#[derive(Debug)]
pub(crate) struct Slots {
    all: usize,
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
}

impl Slots {
    pub(crate) fn new(running: usize, waiting_max: usize) -> Self {
        Self {
            running: Arc::new(Semaphore::new(running.max(1))),
            waiting: AtomicUsize::new(0),
            waiting_max,
            all: running.max(1),
        }
    }

    /// Waits for one, if not too many do.
    async fn take(&self, timeout: Duration) -> Result<OwnedSemaphorePermit, QueryError> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let semaphore = Arc::clone(&self.running);
        match Arc::clone(&semaphore).try_acquire_owned() {
            Ok(permit) => Ok(permit),
            Err(_) if before >= self.waiting_max => Err(QueryError::Busy(before)),
            Err(_) => tokio::time::timeout(timeout, semaphore.acquire_owned())
                .await
                .map_err(|_| QueryError::Busy(before))?
                .map_err(|_| QueryError::Internal("the store is closed".to_owned())),
        }
    }

    /// How many are taken.
    pub(crate) fn running(&self) -> usize {
        self.all - self.running.available_permits()
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

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.1.stop();
        self.0.abort();
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
        let (task, _stop) = self.begin(slots, timeout, query).await?;
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
        let permit = slots.take(timeout).await?;
        let task = self.handle.spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        match tokio::time::timeout(timeout, task).await {
            Err(_) => Err(QueryError::Timeout(timeout.as_millis())),
            Ok(ended) => outcome(ended.map(Ok)),
        }
    }

    /// Begins a query in one of `slots`, for which it waits until `timeout` and which it keeps until it ends. Whoever drops the
    /// second half of the answer stops it.
    pub(crate) async fn begin<T, F>(
        &self,
        slots: &Slots,
        timeout: Duration,
        query: impl FnOnce(Arc<Stop>) -> F,
    ) -> Result<(JoinHandle<Result<T, QueryError>>, StopOnDrop), QueryError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, QueryError>> + Send + 'static,
    {
        let permit = slots.take(timeout).await?;
        let stop = Arc::new(Stop::default());
        let query = query(Arc::clone(&stop));
        let task = self.handle.spawn(async move {
            let _permit = permit;
            query.await
        });
        let stop = StopOnDrop(task.abort_handle(), stop);
        Ok((task, stop))
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

    #[tokio::test]
    async fn work_aside_is_bounded_and_so_is_the_wait_for_it() {
        let (runner, slots) = (Arc::new(Runner::new(1).unwrap()), Arc::new(Slots::new(1, 1)));
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
        assert_eq!(runner.aside(&slots, Duration::from_secs(60), || ()).await, Err(QueryError::Busy(1)));
        let millis = Duration::from_millis(1);
        let impatient = Arc::new(Slots::new(1, 9));
        let _taken = Arc::clone(&impatient.running).acquire_owned().await.unwrap();
        assert_eq!(runner.aside(&impatient, millis, || ()).await, Err(QueryError::Busy(0)), "nobody waits for ever");
        end.send(()).unwrap();
        assert_eq!((long.await.unwrap(), waiting.await), (Ok(true), Ok("in turn")));
    }
}
