//! Why the lake could not do something, and whether it is worth trying again.

/// Why the lake could not do something.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The location or a setting is wrong: a person has to change it.
    #[error("{0}")]
    Location(String),
    /// The storage failed; tried again later it may work.
    #[error("{action}")]
    Storage {
        /// What was tried, such as `read _delta_log`.
        action: String,
        /// The refusal.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The table needs more than this version can do, or is not our table. Writing stops; records stay in the journal.
    #[error("use the lake: {0}")]
    Unsupported(String),
    /// Another writer did the same, or removed what this one was working on: look again, then decide.
    #[error("commit to the lake: {0}")]
    Conflict(String),
    /// What waits cannot be laid out as files: the fault is in one of its records, not in the lake.
    #[error("lay out records for the lake: {0}")]
    Unwritable(String),
    /// What is there cannot be right.
    #[error("read the lake: {0}")]
    Damaged(String),
    /// We failed.
    #[error("write to the lake: {0}")]
    Internal(String),
}

impl LakeError {
    /// Is it worth trying again without a person's help?
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, LakeError::Storage { .. } | LakeError::Conflict(_))
    }
}
