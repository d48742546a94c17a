//! The lake of a build without the feature `lake`: there is none, and no value says otherwise.

/// One snapshot of the table, for queries. Has no values.
#[derive(Debug)]
pub enum LakeView {}

impl LakeView {
    /// The table's version.
    #[must_use]
    pub fn version(&self) -> u64 {
        match *self {}
    }
}
