//! Files in a directory that are there whole and for good, or not at all. Owns the order of writes, syncs and names;
//! refuses to answer before the file, its directory and every directory made for it are synced.
//!
//! After a sync failed nobody knows what a power cut leaves: from then on everything is refused, so that nothing is built on,
//! or believed from, what is only in memory. That outlives the lake that was open: whoever opens it again passes the same flag.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use object_store::PutPayload;

use super::disk::Disk;

/// How often a directory is made again that was removed before there was a file in it.
const REMOVALS_MAX: u32 = 5;

/// A directory to which a lake is written.
#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
    disk: Arc<dyn Disk>,
    /// Counts names of unfinished files.
    next: AtomicU64,
    poisoned: Arc<AtomicBool>,
    /// Directories that are in their parents for good.
    lasting: Mutex<HashSet<PathBuf>>,
}

impl Directory {
    /// A directory that is there, by its path without links.
    pub(super) fn new(root: PathBuf, disk: Arc<dyn Disk>, poisoned: Arc<AtomicBool>) -> Self {
        // Two processes on one directory use other numbers; where they meet all the same, creating the file fails.
        let next = AtomicU64::new(u64::from(std::process::id()) << 24);
        Self { root, disk, next, poisoned, lasting: Mutex::default() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

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
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path).inspect_err(|_| self.poisoned.store(true, Ordering::Release))
    }

    fn parent<'a>(&self, path: &'a Path) -> io::Result<&'a Path> {
        match path.parent() {
            Some(parent) if parent.starts_with(&self.root) => Ok(parent),
            _ => Err(io::Error::new(ErrorKind::InvalidInput, format!("{} lies outside", path.display()))),
        }
    }

    /// Makes what is missing of a directory under the root, each synced into its parent.
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        let lasting = || self.lasting.lock().unwrap_or_else(PoisonError::into_inner);
        if path == self.root || lasting().contains(path) {
            return Ok(());
        }
        let parent = self.parent(path)?;
        self.make_dir(parent)?;
        match self.disk.create_dir(path) {
            Ok(()) => {}
            // Whoever made it may not have synced it yet.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        self.sync_dir(parent)?;
        lasting().insert(path.to_owned());
        Ok(())
    }

    /// An empty file beside its later name. `object_store` shows no name that ends in `#` and digits, and no reader of
    /// tables takes it for a part of one.
    pub(super) fn stage(&self, path: &Path) -> io::Result<(File, PathBuf)> {
        let dir = self.parent(path)?;
        self.make_dir(dir)?;
        let mut removals = 0;
        loop {
            let mut name = path.as_os_str().to_owned();
            name.push(format!("#{}", self.next.fetch_add(1, Ordering::Relaxed)));
            let staged = PathBuf::from(name);
            match self.disk.create(&staged) {
                Ok(file) => return Ok((file, staged)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                // It was empty, and a clean-up of this process or of another took it away.
                Err(error) if error.kind() == ErrorKind::NotFound && removals < REMOVALS_MAX => {
                    removals += 1;
                    self.forget_dir(dir);
                    self.make_dir(dir)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A directory may be gone, and those above it.
    fn forget_dir(&self, path: &Path) {
        let mut lasting = self.lasting.lock().unwrap_or_else(PoisonError::into_inner);
        lasting.retain(|known| !path.starts_with(known));
    }

    /// Removes the directories right below the root that are empty, of those whose names are wanted. That is not synced: one
    /// that comes back is empty still.
    pub(super) fn remove_empty_dirs(&self, wanted: &dyn Fn(&str) -> bool) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.root)? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(wanted) || !entry.file_type()?.is_dir() {
                continue;
            }
            let path = entry.path();
            let removed = self.disk.remove_dir(&path);
            self.forget_dir(&path);
            match removed {
                Err(error) if !matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::NotFound) => {
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Gives a written file its name, durably. Answers `AlreadyExists`, durably too, where it must not replace one.
    pub(super) fn publish(&self, file: &File, staged: &Path, path: &Path, replace: bool) -> io::Result<()> {
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
    pub(super) fn discard(&self, staged: &Path) {
        if let Err(error) = self.disk.remove(staged) {
            tracing::debug!(file = %staged.display(), %error, "left an unfinished file behind");
        }
    }

    pub(super) fn put(&self, path: &Path, payload: &PutPayload, replace: bool) -> io::Result<()> {
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

    /// Makes files that somebody else wrote durable, with their directories. What is gone already is left out.
    pub(super) fn sync_files(&self, paths: &[PathBuf]) -> io::Result<()> {
        let mut dirs = BTreeSet::new();
        for path in paths {
            match self.sync_file(path) {
                Ok(()) => drop(dirs.insert(self.parent(path)?)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        dirs.into_iter().try_for_each(|dir| self.sync_dir_if_there(dir))
    }

    /// Of what went with its directory nothing is left to be lost. Another server may take it away at any moment.
    fn sync_dir_if_there(&self, path: &Path) -> io::Result<()> {
        match self.disk.sync_dir(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => done.inspect_err(|_| self.poisoned.store(true, Ordering::Release)),
        }
    }

    /// As with directories, a failure says that what is read may be lost.
    fn sync_file(&self, path: &Path) -> io::Result<()> {
        let file = self.disk.open(path)?;
        self.disk.sync(&file).inspect_err(|_| self.poisoned.store(true, Ordering::Release))
    }

    pub(super) fn rename(&self, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
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

    pub(super) fn delete(&self, paths: &[PathBuf]) -> Vec<io::Result<()>> {
        let mut done: Vec<_> = paths.iter().map(|path| self.disk.remove(path)).collect();
        let mut dirs: Vec<_> = paths.iter().filter_map(|path| path.parent()).collect();
        dirs.sort_unstable();
        dirs.dedup();
        for dir in dirs {
            if let Err(error) = self.sync_dir_if_there(dir) {
                let kind = error.kind();
                for (result, path) in done.iter_mut().zip(paths).filter(|(_, path)| path.parent() == Some(dir)) {
                    *result = Err(io::Error::new(kind, format!("sync the directory of {}: {error}", path.display())));
                }
            }
        }
        done
    }

    /// Removes unfinished files that a crash left behind before a time, in milliseconds since 1970.
    pub(super) fn remove_unfinished(&self, before_ms: i64) -> io::Result<usize> {
        // The log and the partitions lie one level below the root.
        self.remove_unfinished_in(&self.root, before_ms, 2)
    }

    fn remove_unfinished_in(&self, dir: &Path, before_ms: i64, levels: usize) -> io::Result<usize> {
        let mut removed = 0;
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() && levels > 1 {
                removed += self.remove_unfinished_in(&entry.path(), before_ms, levels - 1)?;
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
