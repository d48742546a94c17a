//! The client of a Runstone server.
//!
//! Owns everything between a record in hand and its acknowledgement: ids that the client mints, batches under the
//! server's limits, and sending the same bytes under the same key until the server has answered. Also the typed reads of
//! the HTTP API. Refuses to know what makes the records, and to print or log anything.
//!
//! ```no_run
//! use runstone_sdk::{Batch, Client, Record};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder("http://127.0.0.1:7867").build()?;
//! let record = Record::from_json(r#"{"run_id": "nightly-1", "message": "hello"}"#)?;
//! let batch = Batch::of(&[record])?;
//! println!("{} accepted", client.send(&batch).await?.accepted);
//! # Ok(())
//! # }
//! ```
//!
//! Records that come one by one go through a [`Batcher`], which hands out a [`Batch`] whenever one is full.

mod batch;
mod client;
mod conditions;
mod counts;
mod error;
mod filter;
mod query;
mod read;
mod record;
mod row;
mod tail;
mod walk;

pub use batch::{Batch, BatchError, Batcher};
pub use client::{Client, ClientBuilder, SendReport};
pub use counts::{MetricsQuery, ValuesQuery};
pub use error::ClientError;
pub use filter::{LogsFilter, Order, RunsFilter};
pub use query::{Query, QueryAnswer};
pub use read::{Health, LogsPage, Ready, ReadyLake};
pub use record::{Defaults, Record, RecordError};
pub use row::Row;
pub use runstone_record::wire::{
    FieldBody, FieldsAnswer, IngestAnswer, ItemErrorBody, MetricsAnswer, MetricsDuration, MetricsGroup, QueryColumn,
    QueryStats, RunBody, RunsPage, ValueBody, ValuesAnswer,
};
pub use tail::{Marks, RunsTail, Tail};
pub use walk::{Format, Items, rows};
