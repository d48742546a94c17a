//! A data file in memory.

use bytes::Bytes;

use super::file::FileStats;

/// A data file, encoded.
pub struct Encoded {
    /// Its bytes.
    pub bytes: Bytes,
    /// What its entry in the log will say about its rows.
    pub stats: FileStats,
}
