//! A file system in memory that fails, stalls and crashes on demand. A crash keeps what was synced and a seeded subset of
//! what was not: of 512-byte sectors, of lengths, of directory entries. Knows nothing of the journal's format.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rustix::io::Errno;

use super::{DirIdentity, File, Fs, Lock, LockError};
use crate::lock;

mod state;

use state::{Node, Planned, State};

const SECTOR: usize = 512;

/// A kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// Opening an existing file.
    Open,
    /// Creating a file.
    Create,
    /// Reading from a file.
    Read,
    /// Writing to a file.
    Write,
    /// Syncing a file.
    Sync,
    /// Reserving space.
    Allocate,
    /// Setting a length.
    SetLen,
    /// Renaming a file.
    Rename,
    /// Removing a file.
    Remove,
    /// Syncing a directory.
    SyncDir,
}

impl Op {
    /// A crash before a read is a crash before the next change: only changes are worth crashing at.
    fn changes(self) -> bool {
        !matches!(self, Self::Open | Self::Read)
    }
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// EIO.
    Io,
    /// ENOSPC.
    NoSpace,
    /// EDQUOT.
    Quota,
    /// EFBIG.
    TooLarge,
    /// EINTR.
    Interrupted,
    /// EROFS.
    ReadOnly,
    /// EMFILE.
    TooManyFiles,
    /// EACCES.
    Denied,
    /// A read or write of no more than so many bytes, which succeeds.
    Short(usize),
}

impl Fault {
    fn error(self) -> Option<io::Error> {
        Some(io::Error::from(match self {
            Self::Io => Errno::IO,
            Self::NoSpace => Errno::NOSPC,
            Self::Quota => Errno::DQUOT,
            Self::TooLarge => Errno::FBIG,
            Self::Interrupted => Errno::INTR,
            Self::ReadOnly => Errno::ROFS,
            Self::TooManyFiles => Errno::MFILE,
            Self::Denied => Errno::ACCESS,
            Self::Short(_) => return None,
        }))
    }
}

/// What is left after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process died: everything that it wrote is there.
    Kill,
    /// The machine died: what was not synced is there or not, as the seed has it.
    Power(u64),
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

/// The file system; clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct SimFs(Arc<Inner>);

fn crashed() -> io::Error {
    io::Error::from(Errno::IO)
}

fn not_found() -> io::Error {
    io::Error::from(Errno::NOENT)
}

impl SimFs {
    /// An empty one.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let fs = Self::default();
        lock(&fs.0.state).random = seed;
        fs
    }

    /// From now on, lets `pass` operations of that kind pass and then fails `times` of them.
    pub fn fail(&self, op: Op, pass: u64, times: u64, fault: Fault) {
        lock(&self.0.state).planned.push(Planned { op, pass, times, fault });
    }

    /// Forgets all planned failures.
    pub fn heal(&self) {
        lock(&self.0.state).planned.clear();
    }

    /// All files together may hold so many bytes.
    pub fn set_capacity(&self, bytes: Option<usize>) {
        lock(&self.0.state).capacity = bytes;
    }

    /// Bytes in all files.
    #[must_use]
    pub fn used(&self) -> usize {
        lock(&self.0.state).used()
    }

    /// Crashes at the n-th change from now; everything fails from there on, until [`restart`](Self::restart).
    pub fn crash_at(&self, n: u64) {
        let mut state = lock(&self.0.state);
        state.crash_at = Some(state.changes + n);
    }

    /// Whether it has crashed.
    #[must_use]
    pub fn has_crashed(&self) -> bool {
        lock(&self.0.state).crashed
    }

    /// Crashes now, if it has not yet, and comes back with what is left. Planned failures are forgotten.
    pub fn restart(&self, crash: Crash) {
        let mut state = lock(&self.0.state);
        if let Crash::Power(seed) = crash {
            state.random ^= seed;
            state.lose_power();
        }
        state.life += 1;
        (state.crashed, state.crash_at) = (false, None);
        state.locks.clear();
        state.planned.clear();
        state.held.clear();
        self.0.changed.notify_all();
    }

    /// How many changes there were.
    #[must_use]
    pub fn changes(&self) -> u64 {
        lock(&self.0.state).changes
    }

    /// How many operations of a kind there were.
    #[must_use]
    pub fn count(&self, op: Op) -> u64 {
        lock(&self.0.state).counts.get(&op).copied().unwrap_or(0)
    }

    /// Operations of that kind wait until [`release`](Self::release).
    pub fn hold(&self, op: Op) {
        lock(&self.0.state).held.insert(op);
    }

    /// Lets the waiting operations go on.
    pub fn release(&self, op: Op) {
        lock(&self.0.state).held.remove(&op);
        self.0.changed.notify_all();
    }

    /// Waits until an operation is being held.
    pub fn wait_until_stalled(&self) {
        let state = lock(&self.0.state);
        drop(self.0.changed.wait_while(state, |state| state.stalled == 0).unwrap_or_else(PoisonError::into_inner));
    }

    /// The directory becomes another one, as if it had been copied.
    pub fn change_identity(&self) {
        lock(&self.0.state).identity += 1;
    }

    /// The bytes of a file as a process sees them.
    #[must_use]
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let state = lock(&self.0.state);
        Some(state.nodes.get(state.live.get(path)?)?.live.clone())
    }

    /// Replaces the bytes of a file, durably.
    pub fn set_contents(&self, path: &Path, bytes: &[u8]) {
        let mut state = lock(&self.0.state);
        let inode = state.live.get(path).copied().unwrap_or_else(|| state.link(path));
        state.live.insert(path.to_owned(), inode);
        state.durable.insert(path.to_owned(), inode);
        state.nodes.insert(inode, Node { live: bytes.to_vec(), durable: bytes.to_vec(), dirty: BTreeSet::new() });
    }

    /// All files, in order.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        lock(&self.0.state).live.keys().cloned().collect()
    }

    /// Another file system with the same files, all of them durable.
    #[must_use]
    pub fn copy(&self) -> Self {
        let copy = Self::new(lock(&self.0.state).random);
        for path in self.files() {
            if let Some(bytes) = self.contents(&path) {
                copy.set_contents(&path, &bytes);
            }
        }
        copy
    }

    /// Counts an operation and decides its fate. `Ok(Some(n))` limits its length.
    fn enter(&self, op: Op, life: Option<u64>, apply: impl FnOnce(&mut State)) -> io::Result<Option<usize>> {
        let mut state = lock(&self.0.state);
        if state.held.contains(&op) && !state.crashed {
            state.stalled += 1;
            self.0.changed.notify_all();
            let waited = self.0.changed.wait_while(state, |state| state.held.contains(&op) && !state.crashed);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            state.stalled -= 1;
        }
        if state.crashed || life.is_some_and(|life| life != state.life) {
            return Err(crashed());
        }
        *state.counts.entry(op).or_default() += 1;
        if op.changes() {
            state.changes += 1;
            if state.crash_at.is_some_and(|at| state.changes >= at) {
                state.crashed = true;
                if state.coin() {
                    apply(&mut state);
                }
                return Err(crashed());
            }
        }
        state.plan(op)
    }

    fn life(&self) -> u64 {
        lock(&self.0.state).life
    }

    fn handle(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let (inode, life) = {
            let state = lock(&self.0.state);
            (*state.live.get(path).ok_or_else(not_found)?, state.life)
        };
        Ok(Arc::new(SimFile { fs: self.clone(), inode, life }))
    }
}

impl Fs for SimFs {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.enter(Op::Open, None, |_| {})?;
        let state = lock(&self.0.state);
        let inside = state.live.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn identity(&self, _dir: &Path) -> io::Result<DirIdentity> {
        Ok(DirIdentity { device: 1, inode: lock(&self.0.state).identity, created: 0 })
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, LockError> {
        self.enter(Op::Open, None, |_| {}).map_err(LockError::Io)?;
        let mut state = lock(&self.0.state);
        if !state.locks.insert(path.to_owned()) {
            return Err(LockError::Held(Some(std::process::id())));
        }
        Ok(Box::new(SimLock { fs: self.clone(), path: path.to_owned(), life: state.life }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.enter(Op::Open, None, |_| {})?;
        self.handle(path)
    }

    fn open_writable(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.open(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.enter(Op::Create, None, |state| state.create(path))?;
        lock(&self.0.state).create(path);
        self.handle(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.enter(Op::Rename, None, |state| state.rename(from, to))?;
        lock(&self.0.state).rename(from, to);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.enter(Op::Remove, None, |state| state.remove(path))?;
        let mut state = lock(&self.0.state);
        if !state.live.contains_key(path) {
            return Err(not_found());
        }
        state.remove(path);
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        self.enter(Op::SyncDir, None, |_| {})?;
        lock(&self.0.state).sync_dir();
        Ok(())
    }
}

struct SimFile {
    fs: SimFs,
    inode: u64,
    life: u64,
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFile({})", self.inode)
    }
}

impl SimFile {
    fn grow(&self, end: usize) -> io::Result<()> {
        let state = lock(&self.fs.0.state);
        let len = state.nodes.get(&self.inode).map_or(0, |node| node.live.len());
        let more = end.saturating_sub(len);
        if more > 0 && state.capacity.is_some_and(|capacity| state.used() + more > capacity) {
            return Err(io::Error::from(Errno::NOSPC));
        }
        Ok(())
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let limit = self.fs.enter(Op::Read, Some(self.life), |_| {})?.unwrap_or(usize::MAX);
        let state = lock(&self.fs.0.state);
        let node = state.nodes.get(&self.inode).ok_or_else(not_found)?;
        let from = (offset as usize).min(node.live.len());
        let n = buf.len().min(node.live.len() - from).min(limit);
        buf[..n].copy_from_slice(&node.live[from..from + n]);
        Ok(n)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let (inode, offset) = (self.inode, offset as usize);
        let limit = self.fs.enter(Op::Write, Some(self.life), |state| state.write(inode, offset, buf))?;
        let mut n = buf.len().min(limit.unwrap_or(usize::MAX));
        if let Err(error) = self.grow(offset + n) {
            // What still fits is written first, as a real disk does it.
            n = n.min(SECTOR);
            if self.grow(offset + n).is_err() {
                return Err(error);
            }
        }
        lock(&self.fs.0.state).write(inode, offset, &buf[..n]);
        Ok(n)
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.fs.enter(Op::Sync, Some(self.life), |_| {}) {
            Err(error) if self.fs.has_crashed() || self.life != self.fs.life() => return Err(error),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                lock(&self.fs.0.state).fail_sync(self.inode);
                return Err(error);
            }
            Ok(_) => {}
        }
        lock(&self.fs.0.state).sync(self.inode);
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.fs.enter(Op::Allocate, Some(self.life), |_| {})?;
        let end = (offset + len) as usize;
        self.grow(end)?;
        let mut state = lock(&self.fs.0.state);
        let current = state.nodes.get(&self.inode).map_or(0, |node| node.live.len());
        state.set_len(self.inode, end.max(current));
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let inode = self.inode;
        self.fs.enter(Op::SetLen, Some(self.life), |state| state.set_len(inode, len as usize))?;
        lock(&self.fs.0.state).set_len(inode, len as usize);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let state = lock(&self.fs.0.state);
        Ok(state.nodes.get(&self.inode).ok_or_else(not_found)?.live.len() as u64)
    }
}

#[derive(Debug)]
struct SimLock {
    fs: SimFs,
    path: PathBuf,
    life: u64,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = lock(&self.fs.0.state);
        if state.life == self.life {
            state.locks.remove(&self.path);
        }
    }
}
