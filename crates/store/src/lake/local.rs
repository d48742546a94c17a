//! An object store in a local directory whose answers are durable: `object_store`'s own syncs nothing. Owns the translation
//! of requests into files; reads and lists are `object_store`'s.

use std::io::{self, ErrorKind};
use std::path::Path as FsPath;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, RenameTargetMode, Result,
};

use super::disk::{Disk, RealDisk};
use super::durable::Directory;
use super::log;
use super::upload::LocalUpload;

const STORE: &str = "local lake";

/// How many files are deleted between two syncs of their directories.
const DELETES_PER_SYNC: usize = 64;

/// A directory as an object store.
#[derive(Debug, Clone)]
pub(crate) struct LocalStore {
    reads: LocalFileSystem,
    directory: Arc<Directory>,
}

impl std::fmt::Display for LocalStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.directory.root().display())
    }
}

impl LocalStore {
    /// The store of a directory that exists.
    pub(crate) fn new(root: &FsPath, unsynced: &Arc<AtomicBool>) -> io::Result<Self> {
        Self::on(root, Arc::new(RealDisk), unsynced)
    }

    pub(crate) fn on(root: &FsPath, disk: Arc<dyn Disk>, unsynced: &Arc<AtomicBool>) -> io::Result<Self> {
        let directory = Arc::new(Directory::new(root.canonicalize()?, disk, Arc::clone(unsynced)));
        let reads = LocalFileSystem::new_with_prefix(directory.root()).map_err(io::Error::other)?;
        Ok(Self { reads, directory })
    }

    /// The directory, without links.
    pub(crate) fn root(&self) -> &FsPath {
        self.directory.root()
    }

    /// Makes files that somebody else wrote durable, with their directories. What is gone already is left out.
    pub(crate) async fn sync_all(&self, locations: Vec<Path>) -> Result<()> {
        let paths = locations.iter().map(|location| self.reads.path_to_filesystem(location));
        let paths = paths.collect::<Result<Vec<_>>>()?;
        self.blocking(move |directory| directory.sync_files(&paths)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Directory) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let directory = Arc::clone(&self.directory);
        blocking(move || {
            directory.check()?;
            work(&directory)
        })
        .await
    }

    /// What lies in the log is believed, and must not be after a sync failed.
    fn check_read(&self, location: &Path) -> Result<()> {
        let is_log = location.parts().next().is_some_and(|part| part.as_ref() == log::DIRECTORY);
        if is_log { self.directory.check().map_err(refusal) } else { Ok(()) }
    }

    async fn copy(&self, from: &Path, to: &Path, mode: CopyMode) -> Result<()> {
        let bytes = self.get_opts(from, GetOptions::default()).await?.bytes().await?;
        let mode = match mode {
            CopyMode::Overwrite => PutMode::Overwrite,
            CopyMode::Create => PutMode::Create,
        };
        self.put_opts(to, bytes.into(), mode.into()).await.map(|_| ())
    }
}

/// Other stores list in order, and readers of a log count on it.
fn sorted(entries: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
    let sort = async move {
        let mut entries: Vec<ObjectMeta> = entries.try_collect().await?;
        entries.sort_unstable_by(|one, other| one.location.cmp(&other.location));
        Ok::<_, object_store::Error>(futures::stream::iter(entries.into_iter().map(Ok)))
    };
    futures::stream::once(sort).try_flatten().boxed()
}

/// Runs file system calls where they may block.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(refusal),
        Err(error) => Err(object_store::Error::Generic { store: STORE, source: error.into() }),
    }
}

/// The error of object stores for one of the file system.
pub(super) fn refusal(error: io::Error) -> object_store::Error {
    let path = String::new();
    match error.kind() {
        ErrorKind::NotFound => object_store::Error::NotFound { path, source: error.into() },
        ErrorKind::AlreadyExists => object_store::Error::AlreadyExists { path, source: error.into() },
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            object_store::Error::PermissionDenied { path, source: error.into() }
        }
        _ => object_store::Error::Generic { store: STORE, source: error.into() },
    }
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let replace = match options.mode {
            PutMode::Overwrite => true,
            PutMode::Create => false,
            PutMode::Update(_) => {
                let operation = "replace one version of a file".to_owned();
                return Err(object_store::Error::NotImplemented { operation, implementer: STORE.to_owned() });
            }
        };
        let path = self.reads.path_to_filesystem(location)?;
        self.blocking(move |directory| directory.put(&path, &payload, replace)).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let path = self.reads.path_to_filesystem(location)?;
        let target = path.clone();
        let (file, staged) = self.blocking(move |directory| directory.stage(&target)).await?;
        Ok(Box::new(LocalUpload::new(Arc::clone(&self.directory), file, staged, path)))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.check_read(location)?;
        self.reads.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[std::ops::Range<u64>]) -> Result<Vec<Bytes>> {
        self.check_read(location)?;
        self.reads.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .ready_chunks(DELETES_PER_SYNC)
            .then(move |chunk| {
                let this = this.clone();
                async move { this.delete_all(chunk).await }
            })
            .map(futures::stream::iter)
            .flatten()
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        sorted(self.reads.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        sorted(self.reads.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.reads.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.copy(from, to, options.mode).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let replace = options.target_mode == RenameTargetMode::Overwrite;
        let (from, to) = (self.reads.path_to_filesystem(from)?, self.reads.path_to_filesystem(to)?);
        self.blocking(move |directory| directory.rename(&from, &to, replace)).await
    }
}

impl LocalStore {
    async fn delete_all(&self, chunk: Vec<Result<Path>>) -> Vec<Result<Path>> {
        let mut paths = Vec::new();
        let mut answers = Vec::new();
        for location in chunk {
            match location.and_then(|location| Ok((self.reads.path_to_filesystem(&location)?, location))) {
                Ok((path, location)) => {
                    paths.push(path);
                    answers.push(Ok(location));
                }
                Err(error) => answers.push(Err(error)),
            }
        }
        let deleted = match self.blocking(move |directory| Ok(directory.delete(&paths))).await {
            Ok(deleted) => deleted,
            Err(error) => return vec![Err(error)],
        };
        let mut deleted = deleted.into_iter();
        answers
            .into_iter()
            .map(|answer| {
                let location = answer?;
                deleted.next().unwrap_or(Ok(())).map_err(refusal)?;
                Ok(location)
            })
            .collect()
    }

    /// Removes the directories right below the root that are empty, of those whose names are wanted.
    pub(crate) async fn remove_empty_dirs(&self, wanted: impl Fn(&str) -> bool + Send + 'static) -> Result<()> {
        self.blocking(move |directory| directory.remove_empty_dirs(&wanted)).await
    }

    /// Removes unfinished files that a crash left behind before a time, in milliseconds since 1970.
    pub(crate) async fn remove_unfinished(&self, before_ms: i64) -> Result<usize> {
        self.blocking(move |directory| directory.remove_unfinished(before_ms)).await
    }
}
