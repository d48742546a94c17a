//! An object store in a local directory whose answers are durable. `object_store`'s own writes no sync at all; this one
//! answers only after the file, its directory and every directory made for it are synced, and what it writes appears
//! whole or not at all. Reads and lists are `object_store`'s.
//!
//! After a directory could not be synced nobody knows what a power cut leaves: from then on this store refuses
//! everything, so that no commit is built on, or believed from, what is only in memory.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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
use super::upload::LocalUpload;

const STORE: &str = "local lake";

/// How many files are deleted between two syncs of their directories.
const DELETES_PER_SYNC: usize = 64;

/// A directory as an object store.
#[derive(Debug, Clone)]
pub(crate) struct LocalStore {
    reads: LocalFileSystem,
    pub(super) shared: Arc<Shared>,
}

/// What writes of one store share.
#[derive(Debug)]
pub(super) struct Shared {
    root: PathBuf,
    disk: Arc<dyn Disk>,
    /// Counts names of unfinished files.
    next: AtomicU64,
    poisoned: AtomicBool,
}

impl std::fmt::Display for LocalStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.shared.root.display())
    }
}

impl LocalStore {
    /// The store of a directory that exists.
    pub(crate) fn new(root: &FsPath) -> io::Result<Self> {
        Self::on(root, Arc::new(RealDisk))
    }

    pub(crate) fn on(root: &FsPath, disk: Arc<dyn Disk>) -> io::Result<Self> {
        let root = root.canonicalize()?;
        let reads = LocalFileSystem::new_with_prefix(&root).map_err(io::Error::other)?;
        // Two processes on one directory use other numbers; where they meet all the same, creating the file fails.
        let next = AtomicU64::new(u64::from(std::process::id()) << 24);
        Ok(Self { reads, shared: Arc::new(Shared { root, disk, next, poisoned: AtomicBool::new(false) }) })
    }

    /// The directory, without links.
    pub(crate) fn root(&self) -> &FsPath {
        &self.shared.root
    }

    /// Makes files that somebody else wrote durable, with their directories. What is gone already is left out.
    pub(crate) async fn sync_all(&self, locations: Vec<Path>) -> Result<()> {
        let paths = locations.iter().map(|location| self.reads.path_to_filesystem(location));
        let paths = paths.collect::<Result<Vec<_>>>()?;
        self.blocking(move |shared| {
            let mut dirs = BTreeSet::new();
            for path in &paths {
                match shared.sync_file(path) {
                    Ok(()) => drop(dirs.insert(shared.parent(path)?)),
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            dirs.into_iter().try_for_each(|dir| shared.sync_dir(dir))
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            shared.check()?;
            work(&shared)
        })
        .await
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

impl Shared {
    pub(super) fn check(&self) -> io::Result<()> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(io::Error::other("a directory of the lake could not be synced; restart to read what is there"));
        }
        Ok(())
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// Syncs a directory after its entries changed. There is no way back from a failure.
    fn sync_dir(&self, path: &FsPath) -> io::Result<()> {
        self.disk.sync_dir(path).inspect_err(|_| self.poisoned.store(true, Ordering::Release))
    }

    fn parent<'a>(&self, path: &'a FsPath) -> io::Result<&'a FsPath> {
        match path.parent() {
            Some(parent) if parent.starts_with(&self.root) => Ok(parent),
            _ => Err(io::Error::new(ErrorKind::InvalidInput, format!("{} lies outside", path.display()))),
        }
    }

    /// Makes what is missing of a directory under the root, each synced into its parent.
    fn make_dir(&self, path: &FsPath) -> io::Result<()> {
        if path == self.root || self.disk.is_dir(path) {
            return Ok(());
        }
        let parent = self.parent(path)?;
        self.make_dir(parent)?;
        match self.disk.create_dir(path) {
            Ok(()) => {}
            // Another writer was faster; it may not have synced yet.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        self.sync_dir(parent)
    }

    /// An empty file beside its later name. `object_store` shows no name that ends in `#` and digits, and no reader of
    /// tables takes it for a part of one.
    pub(super) fn stage(&self, path: &FsPath) -> io::Result<(File, PathBuf)> {
        self.make_dir(self.parent(path)?)?;
        loop {
            let mut name = path.as_os_str().to_owned();
            name.push(format!("#{}", self.next.fetch_add(1, Ordering::Relaxed)));
            let staged = PathBuf::from(name);
            match self.disk.create(&staged) {
                Ok(file) => return Ok((file, staged)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives a written file its name, durably. Answers `AlreadyExists`, durably too, where it must not replace one.
    pub(super) fn publish(&self, file: &File, staged: &FsPath, path: &FsPath, replace: bool) -> io::Result<()> {
        self.disk.sync(file)?;
        let named = if replace {
            self.disk.rename(staged, path)
        } else {
            let linked = self.disk.link(staged, path);
            self.discard(staged);
            linked
        };
        match named {
            Ok(()) => self.sync_dir(self.parent(path)?),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // Whoever made it may not have synced it yet, and the caller will build on it.
                self.sync_file(path).and_then(|()| self.sync_dir(self.parent(path)?))?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// An unfinished file that stays behind is removed at a later start.
    pub(super) fn discard(&self, staged: &FsPath) {
        if let Err(error) = self.disk.remove(staged) {
            tracing::debug!(file = %staged.display(), %error, "left an unfinished file behind");
        }
    }

    fn put(&self, path: &FsPath, payload: &PutPayload, replace: bool) -> io::Result<()> {
        let (mut file, staged) = self.stage(path)?;
        let done = payload
            .iter()
            .try_for_each(|bytes| self.disk.write(&mut file, bytes))
            .and_then(|()| self.publish(&file, &staged, path, replace));
        if done.is_err() && self.disk.exists(&staged) {
            self.discard(&staged);
        }
        done
    }

    /// Syncs a file that somebody else wrote. As with directories, a failure says that what is read may be lost.
    fn sync_file(&self, path: &FsPath) -> io::Result<()> {
        let file = self.disk.open(path)?;
        self.disk.sync(&file).inspect_err(|_| self.poisoned.store(true, Ordering::Release))
    }

    fn rename(&self, from: &FsPath, to: &FsPath, replace: bool) -> io::Result<()> {
        let (old, new) = (self.parent(from)?, self.parent(to)?);
        self.make_dir(new)?;
        if replace {
            self.disk.rename(from, to)?;
        } else {
            self.disk.link(from, to)?;
            self.sync_dir(new)?;
            self.disk.remove(from)?;
        }
        self.sync_dir(new)?;
        if old == new { Ok(()) } else { self.sync_dir(old) }
    }

    fn delete(&self, paths: &[PathBuf]) -> Vec<io::Result<()>> {
        let mut done: Vec<_> = paths.iter().map(|path| self.disk.remove(path)).collect();
        let mut dirs: Vec<_> = paths.iter().filter_map(|path| path.parent()).collect();
        dirs.sort_unstable();
        dirs.dedup();
        for dir in dirs {
            if let Err(error) = self.sync_dir(dir) {
                let kind = error.kind();
                for (result, path) in done.iter_mut().zip(paths).filter(|(_, path)| path.parent() == Some(dir)) {
                    *result = Err(io::Error::new(kind, format!("sync the directory of {}: {error}", path.display())));
                }
            }
        }
        done
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
        self.blocking(move |shared| shared.put(&path, &payload, replace)).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let path = self.reads.path_to_filesystem(location)?;
        let target = path.clone();
        let (file, staged) = self.blocking(move |shared| shared.stage(&target)).await?;
        Ok(Box::new(LocalUpload::new(Arc::clone(&self.shared), file, staged, path)))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.shared.check().map_err(refusal)?;
        self.reads.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[std::ops::Range<u64>]) -> Result<Vec<Bytes>> {
        self.shared.check().map_err(refusal)?;
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
        self.blocking(move |shared| shared.rename(&from, &to, replace)).await
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
        let deleted = match self.blocking(move |shared| Ok(shared.delete(&paths))).await {
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

    /// Removes unfinished files that a crash left behind before a time, in milliseconds since 1970.
    pub(crate) async fn remove_unfinished(&self, before_ms: i64) -> Result<usize> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.remove_unfinished(&shared.root, before_ms, 2)).await
    }
}

impl Shared {
    /// The log and the partitions lie one level below the root.
    fn remove_unfinished(&self, dir: &FsPath, before_ms: i64, levels: usize) -> io::Result<usize> {
        let mut removed = 0;
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() && levels > 1 {
                removed += self.remove_unfinished(&entry.path(), before_ms, levels - 1)?;
            } else if kind.is_file() && is_unfinished(&entry.file_name()) {
                let modified = entry.metadata()?.modified()?;
                let age = modified.duration_since(std::time::UNIX_EPOCH).map_or(0, |age| age.as_millis());
                if i64::try_from(age).is_ok_and(|modified_ms| modified_ms < before_ms) {
                    self.disk.remove(&entry.path())?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}

fn is_unfinished(name: &std::ffi::OsStr) -> bool {
    let digits = name.to_str().and_then(|name| name.rsplit_once('#')).map(|(_, digits)| digits);
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}
