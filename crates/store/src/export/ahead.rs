//! Rows that are made while others are written. Owns how many of them there are at once, and that those of a statement count as
//! memory of all statements.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use futures::{StreamExt, stream};
use runstone_record::limits::EXPORT_AHEAD_BYTES;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::AbortHandle;

use super::Rows;
use crate::error::{Phase, QueryError};
use crate::growth::slice_bytes;
use crate::runner::outcome;
use crate::session::Shared;

/// Batches that are made ahead of the encoder.
const BATCHES: usize = 8;
/// Room is given out in units of so many bytes.
const UNIT_BYTES: usize = 1_024;
const UNITS: u32 = (EXPORT_AHEAD_BYTES / UNIT_BYTES) as u32;

/// Stops a task that nobody waits for any more.
struct Ending(AbortHandle);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a batch takes until it is written.
#[expect(dead_code, reason = "held until it is dropped")]
struct Held(OwnedSemaphorePermit, Option<MemoryReservation>);

/// Room for batches.
struct Room {
    units: Arc<Semaphore>,
    /// Whose memory they are.
    counted: Option<Arc<Shared>>,
}

impl Room {
    /// Waits for room for a batch that is there. Where memory is short all others are written first.
    async fn hold(&self, batch: &RecordBatch) -> Result<Held, QueryError> {
        let bytes: usize = batch.columns().iter().map(slice_bytes).sum();
        let units = u32::try_from(bytes / UNIT_BYTES).unwrap_or(UNITS).clamp(1, UNITS);
        let room = self.wait(units).await?;
        let Some(shared) = &self.counted else { return Ok(Held(room, None)) };
        let held = MemoryConsumer::new("rows that wait to be written").register(&shared.runtime().memory_pool);
        if held.try_grow(bytes).is_ok() {
            return Ok(Held(room, Some(held)));
        }
        drop(room);
        let room = self.wait(UNITS).await?;
        held.try_grow(bytes).map_err(|error| shared.sort_out(&error, Phase::Running))?;
        Ok(Held(room, Some(held)))
    }

    async fn wait(&self, units: u32) -> Result<OwnedSemaphorePermit, QueryError> {
        let room = Arc::clone(&self.units).acquire_many_owned(units).await;
        room.map_err(|_| QueryError::Internal("the store is closed".to_owned()))
    }
}

/// The same rows, made by a task of their own while others are written. They are memory of all statements where these
/// are given.
pub(super) fn ahead(first: Option<RecordBatch>, rest: Rows, counted: Option<Arc<Shared>>) -> Rows {
    let (sender, receiver) = mpsc::channel(BATCHES);
    let room = Room { units: Arc::new(Semaphore::new(UNITS as usize)), counted };
    let task = tokio::spawn(async move {
        let mut rest = rest;
        loop {
            // A place first: what was made and waits for one is memory.
            let Ok(place) = sender.reserve().await else { return Ok(()) };
            match rest.next().await.transpose()? {
                Some(batch) => place.send((room.hold(&batch).await?, batch)),
                None => return Ok(()),
            }
        }
    });
    let ending = Ending(task.abort_handle());
    let first = stream::iter(first.into_iter().map(Ok));
    let made = (receiver, Some(task), ending, None);
    let rest = stream::unfold(made, |(mut receiver, mut task, ending, before)| async move {
        // Whoever asks for more has written what came before.
        drop::<Option<Held>>(before);
        if let Some((held, batch)) = receiver.recv().await {
            return Some((Ok(batch), (receiver, task, ending, Some(held))));
        }
        // An end is one only where the task came to it.
        let error = outcome(task.take()?.await).err()?;
        Some((Err(error), (receiver, None, ending, None)))
    });
    first.chain(rest).boxed()
}
