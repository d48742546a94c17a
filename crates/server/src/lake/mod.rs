//! The relay to the lake: a thread of its own that brings the journal's records there, past the lake's own cursor. Owns
//! when and how far; refuses to hold up a request, a start or a stop. How the table is written is `store`'s.

mod consumer;
mod control;
mod course;
mod flush;
mod refused;
mod status;
#[cfg(test)]
mod tests;
mod trim;
mod trouble;
mod twin;
mod upkeep;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use runstone_journal::Journal;
use runstone_record::limits::LAKE_FILTERS_BYTES_MAX;
use runstone_store::Recent;
use runstone_store::lake::{CopyOptions, LakeNetwork, LakeOptions, WriterOptions};
use std::time::Duration;
use tokio::runtime::Handle;

pub(crate) use consumer::after;
pub(crate) use control::{Control, Seen};
pub(crate) use course::{Course, CourseError, find as find_course};
pub(crate) use refused::kept as refused;
pub(crate) use status::{LakeHealth, LakeReport, LakeStatus};
pub(crate) use trouble::chain;
pub(crate) use upkeep::{Care, Caretaker};

use crate::config::{Config, as_usize};
use crate::intake::Intake;
use crate::metrics::LakeMetrics;
use crate::start::{Orders, World};
use consumer::{Consumer, Parts};
use control::STOP_TIME;
use refused::Letters;
use trim::Keep;

/// The running relay.
#[derive(Debug)]
pub(crate) struct LakeRelay {
    control: Arc<Control>,
    status: Arc<LakeStatus>,
    thread: JoinHandle<()>,
}

/// How much longer than a query may run what it reads is left in place.
const QUERY_SLACK: Duration = Duration::from_secs(2);

pub(crate) fn options(config: &Config, world: &World) -> LakeOptions {
    let (clock, entropy) = (Arc::clone(&world.clock), Arc::clone(&world.entropy));
    let clock_ms = Arc::new(move || clock.now_micros().div_euclid(1_000));
    let engine = concat!("runstone/", env!("CARGO_PKG_VERSION"));
    let mut options = LakeOptions::new(config.lake_location(), engine, clock_ms, entropy);
    options.network = network(config);
    options
}

/// How storage is asked.
pub(crate) fn network(config: &Config) -> LakeNetwork {
    LakeNetwork {
        request_timeout: config.lake.request_timeout,
        retry_timeout: config.lake.retry_timeout,
        ..LakeNetwork::default()
    }
}

/// Says that the thread has ended, however it does.
struct Ending(Arc<Control>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.ended();
    }
}

impl LakeRelay {
    /// Starts it on the runtime of the caller.
    pub(crate) fn start(
        config: &Config,
        world: &World,
        orders: &Orders,
        (journal, intake): (&Arc<Journal>, &Intake),
        recent: &Arc<Recent>,
        metrics: &LakeMetrics,
    ) -> io::Result<Self> {
        let (control, status) = (Arc::new(Control::default()), Arc::new(LakeStatus::new()));
        let intake = intake.clone();
        let parts = Parts {
            journal: Arc::clone(journal),
            recent: Arc::clone(recent),
            recent_bytes_max: as_usize(config.recent.bytes_max),
            lake: options(config, world),
            writer: WriterOptions {
                group_bytes: as_usize(config.lake.group_bytes),
                file_bytes: config.lake.file_bytes,
                ..WriterOptions::default()
            },
            copies: CopyOptions {
                known_from: Arc::new(move || intake.known_from()),
                letters: Arc::new(Letters { data: config.data.clone() }),
                filter_bytes_max: LAKE_FILTERS_BYTES_MAX,
                unread: Arc::new({
                    let unread = metrics.unread.clone();
                    move |files| {
                        unread.inc_by(files);
                    }
                }),
            },
            data: config.data.clone(),
            flush_interval: config.lake.flush_interval,
            flush_bytes: as_usize(config.lake.flush_bytes),
            keep: Keep {
                bytes: config.journal.keep_bytes,
                time: config.journal.keep,
                bytes_max: config.journal.bytes_max,
                grace: config.query.timeout + QUERY_SLACK,
            },
            accept_missing: orders.accept_missing,
            clock: Arc::clone(&world.clock),
            entropy: Arc::clone(&world.entropy),
            metrics: metrics.clone(),
            handle: Handle::current(),
            control: Arc::clone(&control),
            status: Arc::clone(&status),
        };
        Self::spawn(parts, control, status)
    }

    fn spawn(parts: Parts, control: Arc<Control>, status: Arc<LakeStatus>) -> io::Result<Self> {
        let ending = Ending(Arc::clone(&control));
        let work = move || {
            let _ending = ending;
            Consumer::new(parts).run();
        };
        let thread = std::thread::Builder::new().name("relay-lake".to_owned()).spawn(work)?;
        Ok(Self { control, status, thread })
    }

    pub(crate) fn control(&self) -> Arc<Control> {
        Arc::clone(&self.control)
    }

    pub(crate) fn status(&self) -> Arc<LakeStatus> {
        Arc::clone(&self.status)
    }

    /// Brings what is there to the lake, as far as that goes in a few seconds, and ends.
    pub(crate) fn stop(self) {
        self.control.stop();
        if !self.control.wait_ended(STOP_TIME) {
            tracing::info!("stop before the lake has everything: the journal keeps it");
            self.control.abandon();
        }
        if !self.control.wait_ended(STOP_TIME) {
            // It encodes, or waits for the disk. Nothing is lost: a flush is whole or it is not.
            tracing::warn!("end without the thread that writes to the lake");
            return;
        }
        if self.thread.join().is_err() {
            tracing::error!(
                "the thread that writes to the lake panicked; it starts over from the lake's cursor next time"
            );
        }
    }
}
