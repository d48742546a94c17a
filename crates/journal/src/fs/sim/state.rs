//! What the simulated disk holds, live and durable, and what a crash leaves of it. Decides no operation's fate.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::{Fault, Op, SECTOR};

#[derive(Debug)]
pub(super) struct Planned {
    pub(super) op: Op,
    /// So many pass first.
    pub(super) pass: u64,
    pub(super) times: u64,
    pub(super) fault: Fault,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Node {
    pub(super) live: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// Sectors in which the two may differ and which the next sync makes durable.
    pub(super) dirty: BTreeSet<usize>,
}

#[derive(Debug, Clone)]
pub(super) enum Entry {
    Link(PathBuf, u64),
    Move(PathBuf, PathBuf, u64),
    Unlink(PathBuf),
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) live: BTreeMap<PathBuf, u64>,
    pub(super) durable: BTreeMap<PathBuf, u64>,
    /// Changes of entries since the directory was synced.
    pub(super) pending: Vec<Entry>,
    pub(super) locks: BTreeSet<PathBuf>,
    pub(super) inodes: u64,
    /// Handles of an earlier life are dead.
    pub(super) life: u64,
    pub(super) crashed: bool,
    pub(super) crash_at: Option<u64>,
    pub(super) changes: u64,
    pub(super) counts: BTreeMap<Op, u64>,
    pub(super) planned: Vec<Planned>,
    pub(super) capacity: Option<usize>,
    pub(super) held: BTreeSet<Op>,
    pub(super) stalled: u64,
    pub(super) identity: u64,
    pub(super) random: u64,
}

impl State {
    pub(super) fn random(&mut self) -> u64 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(super) fn coin(&mut self) -> bool {
        self.random() & 1 == 0
    }

    pub(super) fn used(&self) -> usize {
        self.live.values().filter_map(|inode| self.nodes.get(inode)).map(|node| node.live.len()).sum()
    }

    pub(super) fn plan(&mut self, op: Op) -> io::Result<Option<usize>> {
        let Some(at) = self.planned.iter().position(|planned| planned.op == op) else {
            return Ok(None);
        };
        let planned = &mut self.planned[at];
        if planned.pass > 0 {
            planned.pass -= 1;
            return Ok(None);
        }
        let fault = planned.fault;
        planned.times -= 1;
        if planned.times == 0 {
            self.planned.remove(at);
        }
        match (fault, fault.error()) {
            (_, Some(error)) => Err(error),
            (Fault::Short(n), None) => Ok(Some(n)),
            (_, None) => Ok(None),
        }
    }

    pub(super) fn link(&mut self, path: &Path) -> u64 {
        self.inodes += 1;
        let inode = self.inodes;
        self.nodes.insert(inode, Node::default());
        self.live.insert(path.to_owned(), inode);
        self.pending.push(Entry::Link(path.to_owned(), inode));
        inode
    }

    pub(super) fn create(&mut self, path: &Path) {
        match self.live.get(path).copied() {
            Some(inode) => self.set_len(inode, 0),
            None => {
                self.link(path);
            }
        }
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) {
        if let Some(inode) = self.live.remove(from) {
            self.live.insert(to.to_owned(), inode);
            self.pending.push(Entry::Move(from.to_owned(), to.to_owned(), inode));
        }
    }

    pub(super) fn remove(&mut self, path: &Path) {
        if self.live.remove(path).is_some() {
            self.pending.push(Entry::Unlink(path.to_owned()));
        }
    }

    pub(super) fn set_len(&mut self, inode: u64, len: usize) {
        let Some(node) = self.nodes.get_mut(&inode) else { return };
        let (low, high) = (len.min(node.live.len()), len.max(node.live.len()).max(node.durable.len()));
        node.live.resize(len, 0);
        node.dirty.extend(low / SECTOR..high.div_ceil(SECTOR));
    }

    pub(super) fn write(&mut self, inode: u64, offset: usize, bytes: &[u8]) {
        let Some(node) = self.nodes.get_mut(&inode) else { return };
        let end = offset + bytes.len();
        if node.live.len() < end {
            node.live.resize(end, 0);
        }
        node.live[offset..end].copy_from_slice(bytes);
        node.dirty.extend(offset / SECTOR..end.div_ceil(SECTOR));
    }

    pub(super) fn sync(&mut self, inode: u64) {
        let Some(node) = self.nodes.get_mut(&inode) else { return };
        node.durable.resize(node.live.len(), 0);
        for sector in std::mem::take(&mut node.dirty) {
            node.persist(sector);
        }
    }

    /// What a kernel does: some pages reach the disk, the others are dropped, and all count as clean.
    pub(super) fn fail_sync(&mut self, inode: u64) {
        let dirty = self.nodes.get_mut(&inode).map(|node| std::mem::take(&mut node.dirty)).unwrap_or_default();
        for sector in dirty {
            if self.coin()
                && let Some(node) = self.nodes.get_mut(&inode)
            {
                node.persist(sector);
            }
        }
    }

    pub(super) fn sync_dir(&mut self) {
        self.durable = self.live.clone();
        self.pending.clear();
    }

    pub(super) fn lose_power(&mut self) {
        for entry in std::mem::take(&mut self.pending) {
            if self.coin() {
                continue;
            }
            match entry {
                Entry::Link(path, inode) => {
                    self.durable.insert(path, inode);
                }
                Entry::Move(from, to, inode) => {
                    self.durable.remove(&from);
                    self.durable.insert(to, inode);
                }
                Entry::Unlink(path) => {
                    self.durable.remove(&path);
                }
            }
        }
        self.live = self.durable.clone();
        let inodes: Vec<u64> = self.live.values().copied().collect();
        for inode in inodes {
            let Some(mut node) = self.nodes.remove(&inode) else {
                continue;
            };
            let len = if self.coin() { node.live.len() } else { node.durable.len() };
            node.durable.resize(len, 0);
            for sector in std::mem::take(&mut node.dirty) {
                if self.coin() {
                    node.persist(sector);
                }
            }
            node.live = node.durable.clone();
            self.nodes.insert(inode, node);
        }
    }
}

impl Node {
    /// Copies a sector to the durable side, as far as that is long.
    pub(super) fn persist(&mut self, sector: usize) {
        let from = sector * SECTOR;
        let to = (from + SECTOR).min(self.durable.len());
        for at in from..to {
            self.durable[at] = self.live.get(at).copied().unwrap_or(0);
        }
    }
}
