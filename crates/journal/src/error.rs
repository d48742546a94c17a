//! What can go wrong, by what was asked. Never decides what a caller answers to its own client.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

/// Why a journal was not opened. Nothing was changed unless the variant says so.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process (or another journal in this one) has the directory.
    #[error("open journal: directory is held by process {}: {}", pid.map_or_else(|| "unknown".to_owned(), |p| p.to_string()), dir.display())]
    Locked {
        /// The holder's process id, when it could be read.
        pid: Option<u32>,
        /// The directory.
        dir: PathBuf,
    },
    /// A file was written by a later major version of the format.
    #[error("open journal: format {found} is newer than {supported}, which this build reads; open it with the build that wrote it: {}", path.display())]
    NewerFormat {
        /// The major version in the file.
        found: u16,
        /// The major version that this build reads and writes.
        supported: u16,
        /// The file.
        path: PathBuf,
    },
    /// Segments are missing; their positions are named. Restore them, or the whole directory.
    #[error("open journal: positions {first} to {} are missing: {}", last.map_or_else(|| "the end".to_owned(), |p| p.to_string()), dir.display())]
    Missing {
        /// The first missing position.
        first: u64,
        /// The last missing position; `None` when the newest segments are missing.
        last: Option<u64>,
        /// The directory.
        dir: PathBuf,
    },
    /// An epoch cannot begin at a position that the journal neither holds nor gives next.
    #[error("open journal: no epoch can begin at position {position}: the journal holds {first} to {last}: {}", dir.display())]
    NoSuchPosition {
        /// Where it was to begin.
        position: u64,
        /// The first position there.
        first: u64,
        /// The last position there.
        last: u64,
        /// The directory.
        dir: PathBuf,
    },
    /// Too many epochs were made to begin inside what is still in the journal.
    #[error("open journal: {max} epochs were made to begin already, and what they cover is still there: {}", dir.display())]
    TooManyEpochs {
        /// How many the identity file has room for.
        max: usize,
        /// The directory.
        dir: PathBuf,
    },
    /// A segment belongs to another journal.
    #[error("open journal: segment belongs to journal {found}, not {expected}: {}", path.display())]
    Foreign {
        /// The journal named in the segment.
        found: Uuid,
        /// The journal of the directory.
        expected: Uuid,
        /// The segment.
        path: PathBuf,
    },
    /// Neither the identity nor any segment header can be read, so nothing in the directory can be verified.
    #[error("open journal: identity and every segment header are damaged: {}", dir.display())]
    Unreadable {
        /// The directory.
        dir: PathBuf,
    },
    /// The file system refused.
    #[error("{action}: {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
}

/// Why a frame was not appended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// Too much is waiting; nothing happened. Try again when something was answered.
    #[error("append: queue is full: {frames} frames, {bytes} bytes")]
    Full {
        /// Frames waiting.
        frames: usize,
        /// Payload bytes waiting.
        bytes: usize,
    },
    /// The payload is longer than the journal takes; nothing happened.
    #[error("append: payload is longer than {max} bytes: {bytes}")]
    TooLarge {
        /// The payload's length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The journal holds as much as it may; nothing happened. Trimming makes room.
    #[error("append: journal holds {bytes} bytes, its limit is {max}")]
    LimitReached {
        /// Bytes in its segments.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// A frame of no items has no position; nothing happened.
    #[error("append: frame has no items")]
    NoItems,
    /// The journal was closed; nothing happened.
    #[error("append: journal is closed")]
    Closed,
    /// No space, quota or file size left. The next append is tried again without a restart.
    #[error("append: disk is full")]
    DiskFull {
        /// Whether the frame may still appear if the process dies before the next append succeeds.
        uncertain: bool,
        /// The refusal.
        source: Arc<io::Error>,
    },
    /// The file system refused for now (read-only, no descriptors, no permission). The next append is tried again.
    #[error("append: file system refused")]
    Unavailable {
        /// Whether the frame may still appear if the process dies before the next append succeeds.
        uncertain: bool,
        /// The refusal.
        source: Arc<io::Error>,
    },
    /// Two writes or syncs in a row failed: the journal takes nothing until it is opened again.
    /// Frames that were in that group may appear after a restart.
    #[error("append: journal has failed")]
    Failed {
        /// The last failure.
        source: Arc<io::Error>,
    },
}

impl AppendError {
    /// Whether the frame may turn up after a restart although it was not acknowledged.
    #[must_use]
    pub fn is_uncertain(&self) -> bool {
        match self {
            Self::DiskFull { uncertain, .. } | Self::Unavailable { uncertain, .. } => *uncertain,
            Self::Failed { .. } => true,
            Self::Full { .. } | Self::TooLarge { .. } | Self::LimitReached { .. } | Self::NoItems | Self::Closed => {
                false
            }
        }
    }
}

/// Why a reader gave no frame.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes of these positions are damaged on disk. [`Reader::skip`](crate::Reader::skip) moves past them;
    /// until then every call answers this.
    #[error("read: positions {first} to {last} are damaged")]
    Quarantined {
        /// The first damaged position.
        first: u64,
        /// The last damaged position.
        last: u64,
    },
    /// The position was trimmed away.
    #[error("read: position was trimmed, the first available is {first_available}")]
    Trimmed {
        /// The first position still there.
        first_available: u64,
    },
    /// The file system refused; the next call tries again.
    #[error("read segment: {}", path.display())]
    Io {
        /// The segment.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
}

/// Why the journal was not trimmed, or not completely: files that could not be removed go when it is next opened.
#[derive(Debug, thiserror::Error)]
#[error("{action}: {}", path.display())]
pub struct TrimError {
    /// What was attempted.
    pub action: &'static str,
    /// On which path.
    pub path: PathBuf,
    /// The refusal.
    pub source: io::Error,
}

/// Why closing was not clean. Every append was answered all the same.
#[derive(Debug, Clone, thiserror::Error)]
#[error("close journal: last sync failed")]
pub struct CloseError {
    /// The refusal.
    pub source: Arc<io::Error>,
}

/// How a failure of the file system is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// No space, quota or size left.
    Full,
    /// Refused before anything was done; may pass.
    Refused,
    /// The device may have lost what was written.
    Broken,
}

pub(crate) fn classify(error: &io::Error) -> Class {
    use io::ErrorKind as K;
    match error.kind() {
        K::StorageFull | K::QuotaExceeded | K::FileTooLarge => Class::Full,
        K::ReadOnlyFilesystem | K::PermissionDenied | K::OutOfMemory => Class::Refused,
        _ => match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) => Class::Refused,
            _ => Class::Broken,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn errors_are_taken_for_what_they_mean() {
        let class = |errno: Errno| classify(&io::Error::from(errno));
        for errno in [Errno::NOSPC, Errno::DQUOT, Errno::FBIG] {
            assert_eq!(class(errno), Class::Full, "{errno}");
        }
        for errno in [Errno::MFILE, Errno::NFILE, Errno::ACCESS, Errno::PERM, Errno::ROFS, Errno::NOMEM] {
            assert_eq!(class(errno), Class::Refused, "{errno}");
        }
        for errno in [Errno::IO, Errno::NXIO, Errno::INVAL, Errno::BADF] {
            assert_eq!(class(errno), Class::Broken, "{errno}");
        }
    }
}
