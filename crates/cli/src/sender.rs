//! From chunks of records to acknowledged batches. Owns the counts, and which record of a batch came from which line.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::HumanCount;
use runstone_sdk::{Batch, Batcher, Client, ClientError, Defaults, Record};
use tokio::sync::mpsc::Receiver;
use tokio::time::MissedTickBehavior;

use crate::clock::now_ms;
use crate::input::Chunk;
use crate::talk::Talk;

/// Nothing waits longer than this for its batch to fill.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// Where a record came from.
type Origin = (Arc<str>, u64);

/// Sends records in order, one batch at a time.
pub(crate) struct Sender {
    client: Client,
    batcher: Batcher<fn() -> u64>,
    /// One for each record of the open batch.
    origins: Vec<Origin>,
    /// Never gives up on a server that does not answer.
    patient: bool,
    /// A run id that was made up, to be told once a record takes it.
    made_up: Option<(Defaults, String)>,
    talk: Talk,
    totals: Totals,
}

/// What became of the records.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    /// Read, whatever became of them.
    pub(crate) records: u64,
    /// On the server's disk.
    pub(crate) accepted: u64,
    /// Refused, here or there.
    pub(crate) rejected: u64,
    /// Sources that ended early.
    pub(crate) failed_sources: u64,
}

impl Totals {
    /// `sent 2,000 records (2,000 accepted, 0 rejected) in 0.4 s`
    pub(crate) fn summary(&self, since: Instant) -> String {
        let unsent = self.records - self.accepted - self.rejected;
        let unsent = if unsent == 0 { String::new() } else { format!(", {} not sent", HumanCount(unsent)) };
        format!(
            "sent {} records ({} accepted, {} rejected{unsent}) in {:.1} s",
            HumanCount(self.records),
            HumanCount(self.accepted),
            HumanCount(self.rejected),
            since.elapsed().as_secs_f64(),
        )
    }
}

impl Sender {
    pub(crate) fn new(client: Client, patient: bool, talk: Talk) -> Sender {
        let batcher = Batcher::new(now_ms as fn() -> u64);
        Sender { client, batcher, origins: Vec::new(), patient, made_up: None, talk, totals: Totals::default() }
    }

    /// Says on stderr which run id was made up, once a record takes it.
    pub(crate) fn announce(&mut self, defaults: Defaults, run_id: String) {
        self.made_up = Some((defaults, run_id));
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// Takes what one read gave; sends what fills a batch.
    pub(crate) async fn take(&mut self, chunk: Chunk) -> anyhow::Result<()> {
        let Chunk { source, bytes, items, failed } = chunk;
        for item in items {
            self.totals.records += 1;
            match item.converted {
                Ok(converted) => {
                    if converted.cut_bytes > 0 {
                        let cut = HumanCount(converted.cut_bytes);
                        self.talk.say(format_args!(
                            "{source}:{}: the line is too long for a record: {cut} bytes cut off",
                            item.line
                        ));
                    }
                    self.push(&converted.record, (Arc::clone(&source), item.line)).await?;
                }
                Err(why) => {
                    self.totals.rejected += 1;
                    self.talk.say(format_args!("{source}:{}: {why}", item.line));
                }
            }
        }
        if let Some(error) = failed {
            self.totals.failed_sources += 1;
            self.talk.say(format_args!("{source}: cannot be read any further: {error}"));
        }
        self.talk.progress(bytes, format_args!("{} accepted", HumanCount(self.totals.accepted)));
        Ok(())
    }

    async fn push(&mut self, record: &Record, origin: Origin) -> anyhow::Result<()> {
        if let Some((_, run_id)) = self.made_up.take_if(|(defaults, _)| defaults.filled("run_id", record)) {
            self.talk.say(format_args!("run id {run_id}"));
        }
        if let Some(full) = self.batcher.push(record)? {
            let origins = std::mem::take(&mut self.origins);
            self.send(&full, &origins).await?;
        }
        self.origins.push(origin);
        Ok(())
    }

    /// Sends what waits.
    pub(crate) async fn flush(&mut self) -> anyhow::Result<()> {
        if let Some(batch) = self.batcher.take()? {
            let origins = std::mem::take(&mut self.origins);
            self.send(&batch, &origins).await?;
        }
        Ok(())
    }

    async fn send(&mut self, batch: &Batch, origins: &[Origin]) -> Result<(), ClientError> {
        let report = loop {
            match self.client.send(batch).await {
                Ok(report) => break report,
                Err(error) if self.patient && error.is_retryable() => {}
                Err(error) => return Err(error),
            }
        };
        self.totals.accepted += report.accepted;
        self.totals.rejected += report.rejected;
        for error in &report.errors {
            let origin = usize::try_from(error.index).ok().and_then(|index| origins.get(index));
            let (source, line) = origin.map_or(("batch", error.index), |(source, line)| (source, *line));
            let field = error.field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default();
            self.talk.say(format_args!("{source}:{line}: {field}{} ({})", error.message, error.code));
        }
        let unlisted = report.rejected.saturating_sub(report.errors.len() as u64);
        if unlisted > 0 {
            self.talk.say(format_args!("and {} more of this batch", HumanCount(unlisted)));
        }
        Ok(())
    }
}

/// Moves chunks to the server until there are no more.
pub(crate) async fn pump(sender: &mut Sender, mut chunks: Receiver<Chunk>) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(FLUSH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            chunk = chunks.recv() => match chunk {
                Some(chunk) => sender.take(chunk).await?,
                None => return sender.flush().await,
            },
            _ = ticks.tick() => sender.flush().await?,
        }
    }
}
