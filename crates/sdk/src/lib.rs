//! The client of a Runstone server.
//!
//! Owns everything between a record in hand and its acknowledgement: ids that the client mints, batches under the
//! server's limits, and sending the same bytes under the same key until the server has answered. Also the typed reads of
//! the HTTP API. Refuses to know what makes the records, and to print or log anything.
//!
//! ```no_run
//! use std::time::{SystemTime, UNIX_EPOCH};
//! use runstone_sdk::{Batcher, Client, Record};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let now_ms = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
//! let client = Client::builder("http://127.0.0.1:7867").build()?;
//! let mut batcher = Batcher::new(now_ms);
//! let record = Record::from_json(r#"{"run_id": "nightly-1", "message": "hello"}"#)?;
//! if let Some(full) = batcher.push(&record)? {
//!     client.send(&full).await?;
//! }
//! if let Some(rest) = batcher.take()? {
//!     let report = client.send(&rest).await?;
//!     println!("{} accepted", report.accepted);
//! }
//! # Ok(())
//! # }
//! ```

mod batch;
mod client;
mod error;
mod filter;
mod record;

pub use batch::{Batch, BatchError, Batcher};
pub use client::{Client, ClientBuilder, SendReport};
pub use error::ClientError;
pub use filter::{LogFilter, RunFilter};
pub use record::{Defaults, Record, RecordError};
