//! The lake: a Delta table `logs` that the server writes itself, exactly once and durably, and that everybody reads.
//!
//! Owns the table's place, its log, its files and their upkeep; refuses to know where records come from and when
//! to write: the server says so. docs/formats/lake.md describes what is written.

mod actions;
#[allow(dead_code, reason = "the flush and compaction come next")]
mod bounds;
mod checkpoint;
mod commit;
mod create;
mod disk;
#[allow(dead_code, reason = "the flush and compaction come next")]
mod encode;
mod error;
mod file;
mod local;
mod log;
#[allow(dead_code, reason = "the flush and compaction come next")]
mod order;
#[allow(dead_code, reason = "the flush and compaction come next")]
mod pages;
mod place;
mod repair;
mod snapshot;
mod stats;
mod support;
mod table;
#[cfg(test)]
mod tests;
#[allow(dead_code, reason = "the flush and compaction come next")]
mod texts;
mod upload;
mod veil;
mod verify;
mod view;
mod write;

pub use checkpoint::LakeLog;
pub use commit::{Change, Txn};
pub use encode::Encoded;
pub use error::LakeError;
pub use file::{Bound, ColumnStats, FileStats, LakeFile};
pub use place::LakeNetwork;
pub use snapshot::LakeSnapshot;
pub use table::{Lake, LakeOptions};
pub use view::LakeView;
