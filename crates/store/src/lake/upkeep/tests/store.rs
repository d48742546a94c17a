//! Storage in memory whose clock the test turns, and which fails at any one of its operations.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::Notify;

/// What happens at the chosen operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It fails, and so does all that comes after: the process has died, as far as the storage knows.
    Dead,
    /// It is done, but its answer is lost; all that comes after fails.
    DeadAfter,
    /// It alone fails.
    Once,
    /// It is done, but its answer is lost.
    Unanswered,
    /// It does not answer until whoever waits was dropped.
    Hang,
}

/// Storage in memory.
#[derive(Debug, Clone)]
pub(super) struct TestStore {
    inner: Arc<InMemory>,
    clock_ms: Arc<AtomicI64>,
    /// When files were written, by the test's clock.
    written_ms: Arc<Mutex<HashMap<Path, i64>>>,
    faults: Arc<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    /// The fault and its operation, once it is armed.
    armed: Mutex<Option<(Fault, u64)>>,
    /// Operations since then.
    operations: AtomicU64,
    failed: Notify,
    released: AtomicBool,
    release: Notify,
}

impl std::fmt::Display for TestStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TestStore")
    }
}

impl TestStore {
    pub(super) fn new(clock_ms: Arc<AtomicI64>) -> Self {
        Self { inner: Arc::default(), clock_ms, written_ms: Arc::default(), faults: Arc::default() }
    }

    /// The same files behind a view that can fail.
    pub(super) fn view(&self) -> Self {
        Self { faults: Arc::default(), ..self.clone() }
    }

    /// Fails at an operation, counted from 0.
    pub(super) fn arm(&self, fault: Fault, at: u64) {
        *self.faults.armed.lock().unwrap() = Some((fault, at));
        self.faults.operations.store(0, Ordering::Relaxed);
    }

    /// Did it come to the fault?
    pub(super) fn has_failed(&self) -> bool {
        let armed = *self.faults.armed.lock().unwrap();
        armed.is_some_and(|(_, at)| self.faults.operations.load(Ordering::Relaxed) > at)
    }

    /// Waits until it came to the fault.
    pub(super) async fn failed(&self) {
        self.faults.failed.notified().await;
    }

    /// Lets go whoever still waits: threads that cannot be dropped.
    pub(super) fn release(&self) {
        self.faults.released.store(true, Ordering::Relaxed);
        self.faults.release.notify_waiters();
    }

    /// A copy of all files, on another clock.
    pub(super) fn fork(&self, clock_ms: Arc<AtomicI64>) -> Self {
        let written_ms = Mutex::new(self.written_ms.lock().unwrap().clone());
        Self { inner: Arc::new(self.inner.fork()), written_ms: Arc::new(written_ms), clock_ms, faults: Arc::default() }
    }

    /// Every file that is there.
    pub(super) async fn paths(&self) -> Vec<String> {
        let files: Vec<ObjectMeta> = self.inner.list(None).try_collect().await.unwrap();
        files.into_iter().map(|file| file.location.to_string()).collect()
    }

    pub(super) async fn write(&self, path: &str, bytes: &'static [u8]) {
        self.put_opts(&Path::from(path), Bytes::from_static(bytes).into(), PutOptions::default()).await.unwrap();
    }

    async fn gate<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let Some((fault, at)) = *self.faults.armed.lock().unwrap() else { return work.await };
        let operation = self.faults.operations.fetch_add(1, Ordering::Relaxed);
        let lost = || Error::Generic { store: "test", source: "the storage is gone".into() };
        if operation == at {
            self.faults.failed.notify_one();
        }
        match fault {
            _ if operation < at => work.await,
            Fault::Once | Fault::Unanswered if operation > at => work.await,
            Fault::Hang => {
                let released = self.faults.release.notified();
                if !self.faults.released.load(Ordering::Relaxed) {
                    released.await;
                }
                Err(lost())
            }
            Fault::DeadAfter | Fault::Unanswered if operation == at => {
                work.await?;
                Err(lost())
            }
            _ => Err(lost()),
        }
    }

    fn dated(&self, mut file: ObjectMeta) -> ObjectMeta {
        if let Some(written_ms) = self.written_ms.lock().unwrap().get(&file.location) {
            let (seconds, nanos) = (written_ms.div_euclid(1_000), written_ms.rem_euclid(1_000) * 1_000_000);
            let at = std::time::UNIX_EPOCH
                + std::time::Duration::new(u64::try_from(seconds).unwrap(), u32::try_from(nanos).unwrap());
            file.last_modified = at.into();
        }
        file
    }
}

#[async_trait]
impl ObjectStore for TestStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let work = async {
            let done = self.inner.put_opts(location, payload, options).await?;
            let now_ms = self.clock_ms.load(Ordering::Relaxed);
            self.written_ms.lock().unwrap().insert(location.clone(), now_ms);
            Ok(done)
        };
        self.gate(work).await
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("test files are small")
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut answer = self.gate(self.inner.get_opts(location, options)).await?;
        answer.meta = self.dated(answer.meta);
        Ok(answer)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.gate(self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move {
                    let location = location?;
                    let one = futures::stream::once(std::future::ready(Ok(location.clone()))).boxed();
                    let work = async { this.inner.delete_stream(one).try_collect::<Vec<_>>().await };
                    this.gate(work).await.map(|_| location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned());
        futures::stream::once(async move {
            let work = async { this.inner.list(prefix.as_ref()).try_collect::<Vec<_>>().await };
            let files = this.gate(work).await?;
            let files: Vec<_> = files.into_iter().map(|file| Ok(this.dated(file))).collect();
            Ok::<_, Error>(futures::stream::iter(files))
        })
        .try_flatten()
        .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut found = self.gate(self.inner.list_with_delimiter(prefix)).await?;
        found.objects = found.objects.into_iter().map(|file| self.dated(file)).collect();
        Ok(found)
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        unreachable!("nothing is copied")
    }
}
