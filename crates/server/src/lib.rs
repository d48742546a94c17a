//! The service: intake, relay, recent records, runs, the HTTP API and its configuration.
//!
//! A record's way through this crate: [`http`] reads a body, `api` has it parsed, [`intake`] writes it to the journal
//! and answers; behind the journal, `relay` carries frames to `recent` and `runs`, which queries read. Nothing
//! downstream calls upstream.

mod api;
pub mod clock;
pub mod config;
mod database;
pub mod http;
pub mod intake;
mod lake;
mod lineage;
pub mod memory;
pub mod metrics;
mod offline;
mod recent;
mod relay;
mod runs;
#[cfg(test)]
mod simulation;
mod sinks;
pub mod sources;
mod start;
pub mod telemetry;
#[cfg(test)]
mod workbench;

#[cfg(any(test, fuzzing))]
pub use api::fuzzed;
pub use offline::{
    Compared, Item, LakeVerdict, Offline, OfflineError, OfflineStream, add_tables, parse_table, query_tables,
    stream_tables,
};
pub use runstone_store::{Format, QueryAnswer, Question, TableSpec};
pub use sinks::targets::dead_letters;
pub use start::{Orders, RunError, World, run};
