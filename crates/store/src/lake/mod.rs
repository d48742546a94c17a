//! The lake: a Delta table `logs` that the server writes itself, exactly once and durably, and that everybody reads.
//!
//! Owns the table's place, its log, its files and their upkeep; refuses to know where records come from and when
//! to write: the server says so. docs/formats/lake.md describes what is written.

mod actions;
mod among;
mod bounds;
mod check;
mod checked;
mod checkpoint;
mod commit;
mod copies;
mod create;
mod disk;
mod durable;
mod encode;
mod error;
mod fetch;
mod file;
mod flush;
mod found;
mod history;
mod kernel;
mod local;
mod log;
mod order;
mod pages;
mod pending;
mod place;
mod plan;
mod positions;
mod repair;
mod scan;
mod snapshot;
mod source;
mod stats;
mod sums;
mod support;
mod table;
mod takeover;
#[cfg(test)]
pub(crate) mod tests;
mod texts;
mod upkeep;
mod upload;
mod veil;
mod verify;
mod view;
mod write;

pub(crate) use actions::decode_path;
pub use checkpoint::LakeLog;
pub use commit::{Change, Txn};
pub use copies::{CopyOptions, DeadLetter, DeadLetters};
pub use encode::Encoded;
pub use error::LakeError;
pub(crate) use fetch::{FETCHED_BYTES_MAX, FEW_KEYS, fetch, write_json};
pub use file::{Bound, ColumnStats, FileStats, LakeFile};
pub use flush::{Flushed, LakeWriter, WriterOptions};
pub use history::Commit;
pub(crate) use kernel::Base;
pub use pending::Pending;
pub use place::LakeNetwork;
pub(crate) use place::Place;
pub use positions::{PositionReader, Positions};
pub(crate) use scan::FileReader;
pub use snapshot::LakeSnapshot;
pub(crate) use source::{Opened, Source, int_bounds};
pub use sums::Sums;
pub use table::{Lake, LakeOptions};
pub(crate) use upkeep::is_ours;
pub use upkeep::{Effort, Step, Upkeep, UpkeepFailure, UpkeepOptions, UpkeepProgress, UpkeepReport};
pub use view::LakeView;
