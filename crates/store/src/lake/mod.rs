//! The lake: a Delta table `logs` that the server writes itself, exactly once and durably, and that everybody reads.
//!
//! Owns the table's place, its log, its files and their upkeep; refuses to know where records come from and when
//! to write: the server says so. docs/formats/lake.md describes what is written.

mod error;
mod file;
mod view;

pub use error::LakeError;
pub use file::{Bound, ColumnStats, FileStats, LakeFile};
pub use view::LakeView;
