//! Bytes in order, durable: segments, group commit, recovery and readers. Never heard of a record.
//!
//! [`Journal::open`] takes a directory and gives back a writer that any thread may [`append`](Journal::append) to and
//! any number of [`Reader`]s that see what is durable, in order. `docs/formats/journal.md` says what the files hold.
//! The crate logs nothing: what recovery found is in [`Recovery`], what the writer suffers is in [`Health`].

mod check;
mod directory;
mod epochs;
mod error;
mod frame;
pub mod fs;
mod group;
mod identity;
mod journal;
mod options;
mod queue;
mod reader;
mod recovery;
mod report;
mod scan;
mod segment;
mod segments;
mod survey;
mod tail;
mod view;
mod writer;

pub use check::{CheckReport, check};
pub use epochs::EpochRange;
pub use error::{AppendError, CloseError, OpenError, ReadError, TrimError};
pub use frame::Frame;
#[cfg(any(test, feature = "sim"))]
pub use journal::Steps;
pub use journal::{Health, Journal, JournalId, ParseJournalIdError, SegmentInfo, Stats, Subscription};
pub use options::{Clock, Entropy, Env, OnFatal, Options, SyncPolicy};
pub use queue::{Appended, Done};
pub use reader::Reader;
pub use report::{Event, Recovery};
pub use survey::Damage;
pub use view::{Frames, View, ViewSegment};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks without caring whether another thread panicked: every guarded value here is valid after each statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
