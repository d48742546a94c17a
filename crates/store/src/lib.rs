//! What queries read: the recent records in memory, and the read-only SQL session over them.
//!
//! - [`Recent`] takes frames in the order of their positions, merges them into chunks in Arrow's layout, and keeps the
//!   newest within a number of bytes. What is evicted is read back through [`Older`] when a query needs it.
//! - [`Sql`] answers SQL ([`Sql::query`]) and pages of records ([`Sql::logs`]) over one snapshot each, on threads of
//!   its own, within limits of time, memory, rows and bytes. [`Sql::stream`] and [`Sql::export`] give all rows and all
//!   records in any [`Format`], piece by piece.
//!
//! The only crate that names Arrow and DataFusion. Refuses to write anything, and to know about HTTP or journals.

// Without the feature there is nothing here.
#![cfg(feature = "lake")]

mod answer;
mod catalog;
mod chunk;
mod columns;
mod cursor;
mod dates;
mod dialect;
mod error;
mod export;
mod filter;
mod foremost;
mod functions;
mod growth;
mod guard;
pub mod lake;
mod layout;
mod list;
mod logs;
mod merge;
mod pace;
mod params;
mod parted;
mod plan;
mod read;
mod recent;
mod records;
mod rows;
mod runner;
mod scan;
mod session;
mod sources;
mod table;
mod tables;
mod unit;
mod values;
mod watch;
mod weight;

pub use columns::{logs_schema, sql_type_name};
pub use cursor::{Cursor, InvalidCursor};
pub use error::QueryError;
pub use export::{Export, Format};
pub use logs::{LogsPage, LogsQuery, Order};
pub use recent::{Frames, NothingOlder, Older, OlderError, PushError, Recent, RecentOptions, RecentStats};
pub use session::{QueryAnswer, Question, Sql, SqlLimits};
pub use sources::SourceRow;
pub use table::{NoRuns, RunsSource};
pub use tables::{TableFormat, TableSpec, Tables, check_table_name};
pub use values::{Fields, Values, ValuesQuery, has_values};
