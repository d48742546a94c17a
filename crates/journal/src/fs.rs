//! The file system as the journal sees it: one trait, its real implementation, and (feature `sim`) one that fails and
//! crashes on demand. The only file of the crate that opens files.

use std::fmt;
use std::fs::{self as std_fs, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

#[cfg(any(test, feature = "sim"))]
pub mod sim;

/// What tells one directory from a copy of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirIdentity {
    /// The device that holds the directory.
    pub device: u64,
    /// The directory's inode on that device.
    pub inode: u64,
    /// When the directory was made, in nanoseconds since the Unix epoch; 0 where the file system does not say. An
    /// inode number may be given again right after its directory was removed, this moment may not.
    pub created: u64,
}

/// A lock that ends when this is dropped, or with the process.
pub trait Lock: Send + Sync + fmt::Debug {}

/// Why a lock was not given.
#[derive(Debug)]
pub enum LockError {
    /// Somebody holds it; their process id, when it could be read.
    Held(Option<u32>),
    /// The file system refused.
    Io(io::Error),
}

/// One open file. Offsets are explicit: there is no cursor to share.
pub trait File: Send + Sync + fmt::Debug {
    /// Reads up to `buf.len()` bytes at `offset`; 0 at the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes up to `buf.len()` bytes at `offset`; may write fewer.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;
    /// Makes the content durable, and the length if it is needed to read it.
    fn sync_data(&self) -> io::Result<()>;
    /// Reserves `len` bytes from `offset`, zeroed, growing the file.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Cuts or grows the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file holds nothing.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }
}

/// The calls that the journal makes.
pub trait Fs: Send + Sync + fmt::Debug {
    /// Creates the directory and its parents, and makes the newest entry durable.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// The names of the files in a directory that are valid UTF-8.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// What tells this directory from a copy.
    fn identity(&self, dir: &Path) -> io::Result<DirIdentity>;
    /// Takes the lock file of a directory for this process, or says who has it.
    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, LockError>;
    /// Opens an existing file for reading.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens an existing file for reading and writing.
    fn open_writable(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Creates a file, empty, replacing what was there.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Renames a file, replacing the target.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the entries of a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// The operating system's.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFs;

#[derive(Debug)]
struct RealFile(std_fs::File);

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        Ok(fallocate(&self.0, FallocateFlags::empty(), offset, len)?)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

#[derive(Debug)]
struct RealLock(std_fs::File);

impl Lock for RealLock {}

impl Drop for RealLock {
    fn drop(&mut self) {
        // The name of a process that has gone would mislead; the lock itself ends with the descriptor.
        let _ = self.0.set_len(0);
    }
}

impl Fs for RealFs {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let missing: Vec<&Path> = dir.ancestors().take_while(|d| !d.as_os_str().is_empty() && !d.exists()).collect();
        std_fs::create_dir_all(dir)?;
        for made in missing {
            match made.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => self.sync_dir(parent)?,
                _ => self.sync_dir(Path::new("."))?,
            }
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std_fs::read_dir(dir)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn identity(&self, dir: &Path) -> io::Result<DirIdentity> {
        let meta = std_fs::metadata(dir)?;
        let created = meta.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let created = created.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0);
        Ok(DirIdentity { device: meta.dev(), inode: meta.ino(), created })
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, LockError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(LockError::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                return Err(LockError::Held(text.trim().parse().ok()));
            }
            Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
        }
        // The process id is a courtesy to whoever comes second: a full disk must not keep the journal shut.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Box::new(RealLock(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile(std_fs::File::open(path)?)))
    }

    fn open_writable(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile(OpenOptions::new().read(true).write(true).open(path)?)))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std_fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std_fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        std_fs::File::open(dir)?.sync_all()
    }
}

/// Writes all of `buf`: short writes continue, interrupted ones are tried again.
pub(crate) fn write_all(file: &dyn File, mut buf: &[u8], mut offset: u64) -> io::Result<()> {
    while !buf.is_empty() {
        match file.write_at(buf, offset) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => {
                buf = &buf[n..];
                offset += n as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads until `buf` is full or the file ends; gives what was read.
pub(crate) fn read_full(file: &dyn File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(&mut buf[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Syncs; an interruption says nothing about the data and is tried again.
pub(crate) fn sync(file: &dyn File) -> io::Result<()> {
    loop {
        match file.sync_data() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
