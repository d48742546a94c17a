//! The noun of Runstone: one thing that happened, and many of them in columns.
//!
//! Owns what a record is — its columns, identifiers, times, words and identity — how JSON becomes columns
//! ([`parse`]), how columns become a frame of the journal ([`Batch::encode`]), and what the records of a run add
//! up to ([`run`]). Refuses IO, threads and clocks: times and randomness come in as values.

pub mod bits;
pub mod build;
pub mod code;
pub mod columns;
pub mod identifier;
pub mod ids;
pub mod limits;
pub mod logger;
pub mod params;
pub mod parse;
pub mod run;
#[cfg(feature = "openapi")]
pub mod schema;
pub mod shown;
pub mod stored;
pub mod terms;
pub mod time;
pub mod values;
pub mod wire;
pub mod words;

mod batch;
mod codec;
mod identity;
mod json;

pub use batch::{Batch, Origin};
pub use code::ErrorCode;
pub use codec::{ColumnSet, DecodeError};
pub use columns::{Column, Kind};
pub use ids::{IdMint, Ids, RecordId};
pub use json::RecordWriter;
pub use words::{Level, RecordType};
