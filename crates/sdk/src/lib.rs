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
mod error;
mod filter;
mod record;

pub use batch::{Batch, BatchError, Batcher};
pub use client::{Client, ClientBuilder, SendReport};
pub use error::ClientError;
pub use filter::{LogFilter, RunFilter};
pub use record::{Defaults, Record, RecordError};
