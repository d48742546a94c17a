//! What goes on until somebody stops it. Owns Ctrl-C and SIGTERM: they end it well.

use std::time::Duration;

use anyhow::Context;
use futures::stream::{Stream, StreamExt};
use runstone_sdk::{Client, ClientError};
use tokio::signal::unix::{SignalKind, signal};

use super::client;
use crate::args::Global;
use crate::failure::UsageError;
use crate::output::{Format, OutputArgs, Printer};
use crate::talk::Talk;

/// How often to look for what has arrived.
pub(crate) const INTERVAL: Duration = Duration::from_millis(500);
/// What is there at once is shown at once.
const AT_ONCE: usize = 1_000;

/// A client that waits for a server that goes away, but not for one that was never there.
pub(crate) async fn follower(global: &Global) -> Result<Client, ClientError> {
    let client = client(global, Duration::MAX, &Talk::plain())?;
    client.health().await?;
    Ok(client)
}

/// A format that has no end.
pub(crate) fn live(output: &OutputArgs) -> Result<Format, UsageError> {
    output
        .live()
        .ok_or_else(|| UsageError("follow with --format lines, ndjson, csv or tsv: the others have an end".to_owned()))
}

/// Shows what comes until it ends, `show` has enough, or somebody stops it.
pub(crate) async fn follow<T>(
    coming: impl Stream<Item = Result<T, ClientError>>,
    mut printer: Printer,
    mut show: impl FnMut(&mut Printer, T) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for Ctrl-C")?;
    let mut coming = std::pin::pin!(coming.ready_chunks(AT_ONCE));
    loop {
        printer.flush()?;
        let items = tokio::select! {
            items = coming.next() => items,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        };
        let Some(items) = items else { return Ok(()) };
        for item in items {
            let item = match item {
                Ok(item) => item,
                Err(error) => {
                    printer.flush()?;
                    return Err(error.into());
                }
            };
            if !show(&mut printer, item)? {
                printer.flush()?;
                return Ok(());
            }
        }
    }
}
