//! What a journal is opened with: its limits and the parts of the world that it is handed. Reads no configuration.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A segment is closed before a group would take it past this.
pub(crate) const SEGMENT_BYTES: u64 = 64 << 20;
/// Frames waiting together are written together up to this.
pub(crate) const GROUP_BYTES: usize = 8 << 20;
/// The longest payload of one frame.
pub(crate) const FRAME_BYTES_MAX: usize = 64 << 20;
/// A group's length is a `u32`; nothing configured may reach past this.
pub(crate) const FRAME_BYTES_CEILING: usize = 1 << 30;
/// Payload bytes that may wait for the writer.
pub(crate) const QUEUE_BYTES: usize = 64 << 20;
/// Frames that may wait for the writer.
pub(crate) const QUEUE_FRAMES: usize = 16_384;
/// Payload bytes of the newest frames kept in memory for readers that keep up.
pub(crate) const RING_BYTES: usize = 16 << 20;
/// How far ahead of the end a segment's space is reserved.
pub(crate) const PREALLOCATE_BYTES: u64 = 4 << 20;
/// How often a writer that was refused by the file system looks whether it would be served now.
pub(crate) const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// When a group counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncPolicy {
    /// After `fdatasync` covered it: what was acknowledged survives a power cut.
    #[default]
    EveryGroup,
    /// After it was handed to the operating system: what was acknowledged survives the process, not the machine.
    Never,
}

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;
/// Fills a buffer with random bytes.
pub type Entropy = Arc<dyn Fn(&mut [u8]) + Send + Sync>;

/// The world outside: time and randomness, so that a seed replays a failure.
#[derive(Clone)]
pub struct Env {
    /// Microseconds since the Unix epoch. Only written into segment headers for people to read; decides nothing.
    pub clock: Clock,
    /// Fills the buffer with random bytes, for the journal's identity.
    pub entropy: Entropy,
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Env")
    }
}

/// Called once, from the writer's thread, when the journal has failed for good.
pub type OnFatal = Arc<dyn Fn(&io::Error) + Send + Sync>;

/// Where a journal lives and how much it may hold.
#[derive(Clone)]
pub struct Options {
    /// The journal's directory; created when absent.
    pub dir: PathBuf,
    /// A segment is closed before a group would take it past this.
    pub segment_bytes: u64,
    /// Waiting frames are written together up to this many payload bytes; one larger frame is a group of its own.
    pub group_bytes: usize,
    /// The longest payload taken; at most 1 GiB.
    pub frame_bytes_max: usize,
    /// Payload bytes accepted and not yet answered.
    pub queue_bytes: usize,
    /// Frames accepted and not yet answered.
    pub queue_frames: usize,
    /// Payload bytes of the newest frames kept in memory for readers.
    pub ring_bytes: usize,
    /// How far ahead space is reserved; 0 reserves none.
    pub preallocate_bytes: u64,
    /// When a group counts as durable.
    pub sync: SyncPolicy,
    /// How often a writer that was refused (disk full, no descriptor) tries again by itself.
    pub retry_interval: Duration,
    /// Appends are refused while the journal holds so many bytes or more.
    pub bytes_max: u64,
    /// Positions from here on are to count under an epoch of their own, although they may be written already: for a
    /// directory that was replaced by an older copy of itself. Where an epoch begins there, nothing happens.
    pub new_epoch_from: Option<u64>,
    /// Called once when the journal has failed for good, before the waiting appends are answered.
    pub on_fatal: Option<OnFatal>,
}

impl Options {
    /// The defaults, in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes: SEGMENT_BYTES,
            group_bytes: GROUP_BYTES,
            frame_bytes_max: FRAME_BYTES_MAX,
            queue_bytes: QUEUE_BYTES,
            queue_frames: QUEUE_FRAMES,
            ring_bytes: RING_BYTES,
            preallocate_bytes: PREALLOCATE_BYTES,
            sync: SyncPolicy::EveryGroup,
            retry_interval: RETRY_INTERVAL,
            bytes_max: u64::MAX,
            new_epoch_from: None,
            on_fatal: None,
        }
    }

    pub(crate) fn frame_bytes_max(&self) -> usize {
        self.frame_bytes_max.min(FRAME_BYTES_CEILING)
    }

    /// Frame headers and padding must not push a group past its `u32` length.
    pub(crate) fn group_bytes(&self) -> usize {
        self.group_bytes.min(FRAME_BYTES_CEILING)
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("dir", &self.dir)
            .field("segment_bytes", &self.segment_bytes)
            .field("group_bytes", &self.group_bytes)
            .field("queue_bytes", &self.queue_bytes)
            .field("queue_frames", &self.queue_frames)
            .field("ring_bytes", &self.ring_bytes)
            .field("preallocate_bytes", &self.preallocate_bytes)
            .field("sync", &self.sync)
            .finish_non_exhaustive()
    }
}
