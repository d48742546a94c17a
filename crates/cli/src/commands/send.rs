//! `runstone send`: records and log lines, from files or standard input.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use runstone_sdk::Defaults;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{self, Receiver};

use super::{client, new_run_id};
use crate::args::Global;
use crate::clock;
use crate::failure::{FAILED, UsageError};
use crate::input::{self, Chunk, Converter, Format, Source};
use crate::lines::{Formats, LineParser, Zone};
use crate::sender::{Sender, pump};
use crate::talk::Talk;

/// Chunks that wait for the server. Each holds what one read gave.
const QUEUE_CHUNKS: usize = 8;
/// How long to try a batch.
const DEADLINE: Duration = Duration::from_secs(120);
/// After Ctrl-C, for the readers to hand over what they have.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runstone send --source-system shop app.log
  runstone send --source-system shop --run-id nightly-1 --follow /var/log/shop/*.log
  ./job.sh 2>&1 | runstone send --source-system shop --stage load
  runstone send events.ndjson

JSON objects are sent as they stand; the options fill in fields that they lack. A log line becomes a record of type log
with the time, level and component that it carries; docs/cli.md lists the forms.
Exit codes: 0 all accepted, 1 some rejected, 2 wrong usage, 3 the server could not be reached.")]
pub(crate) struct Send {
    /// Files to read; none or `-`: standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The system that the records are of
    #[arg(long, value_name = "NAME")]
    source_system: Option<String>,
    /// The run that they belong to [default: a new one, printed on stderr]
    #[arg(long, value_name = "ID")]
    run_id: Option<String>,
    /// The stage
    #[arg(long, value_name = "NAME")]
    stage: Option<String>,
    /// The type of records that have none [default for log lines: log]
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// The logger of records that name none
    #[arg(long, value_name = "NAME")]
    logger_name: Option<String>,
    /// What the input is
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    format: Format,
    /// What times without an offset are in: an IANA name or an offset such as +02:00
    #[arg(long, value_name = "ZONE", default_value = "UTC", allow_hyphen_values = true)]
    timezone: Zone,
    /// Send what is there, then whatever is appended, through rotation, until Ctrl-C
    #[arg(long)]
    follow: bool,
}

impl Send {
    fn sources(&self) -> Result<Vec<Source>, UsageError> {
        if self.follow && self.format == Format::Json {
            return Err(UsageError("follow lines or NDJSON: a JSON document has no end to wait for".to_owned()));
        }
        if self.files.is_empty() {
            return Ok(vec![Source::Stdin]);
        }
        let sources: Vec<_> = self.files.iter().map(|path| Source::of(path)).collect();
        if sources.iter().filter(|source| **source == Source::Stdin).count() > 1 {
            return Err(UsageError("name standard input only once".to_owned()));
        }
        for source in &sources {
            if let Source::File(path) = source
                && (!self.follow || path.exists())
                && let Err(error) =
                    File::open(path).and_then(|file| file.metadata()).and_then(|found| not_a_directory(&found))
            {
                return Err(UsageError(format!("open {}: {error}", path.display())));
            }
        }
        Ok(sources)
    }

    fn defaults(&self, run_id: &str) -> Defaults {
        let given = [
            ("source_system", self.source_system.as_deref()),
            ("stage", self.stage.as_deref()),
            ("run_id", Some(run_id)),
            ("type", self.kind.as_deref()),
            ("logger_name", self.logger_name.as_deref()),
        ];
        let given = given.into_iter().filter_map(|(field, value)| Some((field, value?)));
        given.fold(Defaults::default(), |defaults, (field, value)| defaults.with(field, value))
    }

    /// One converter a source: log lines lean on the lines before them.
    fn converter(&self, formats: &Arc<Formats>, defaults: &Defaults) -> Converter {
        let line_defaults = match self.kind {
            Some(_) => defaults.clone(),
            None => defaults.clone().with("type", "log"),
        };
        Converter {
            format: self.format,
            parser: LineParser::new(Arc::clone(formats), self.timezone.clone()),
            defaults: defaults.clone(),
            line_defaults,
            clock: clock::now,
        }
    }
}

fn not_a_directory(found: &std::fs::Metadata) -> std::io::Result<()> {
    if found.is_dir() { Err(std::io::ErrorKind::IsADirectory.into()) } else { Ok(()) }
}

pub(crate) async fn send(args: Send, global: &Global) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let sources = args.sources()?;
    let talk = Talk::with_progress(if args.follow { None } else { known_bytes(&sources) });
    let client = client(global, DEADLINE, &talk)?;
    if !args.follow {
        // A typo in the URL should not cost two minutes of tries.
        client.health().await?;
    }
    let run_id = args.run_id.clone().map_or_else(new_run_id, Ok)?;
    let (chunks, stops) = start_reading(&args, sources, &run_id)?;
    let mut sender = Sender::new(client, args.follow, talk.clone());
    if args.run_id.is_none() {
        sender.announce(args.defaults(&run_id), run_id);
    }
    let outcome = deliver(&mut sender, chunks, stops).await;
    talk.done();
    let totals = sender.totals();
    talk.say(totals.summary(start));
    outcome?;
    let refused = totals.rejected > 0 || totals.failed_sources > 0;
    Ok(if refused { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

/// Starts the reading threads: one for each followed file, else one for all, in order.
fn start_reading(
    args: &Send,
    sources: Vec<Source>,
    run_id: &str,
) -> anyhow::Result<(Receiver<Chunk>, Vec<SyncSender<()>>)> {
    let formats = Arc::new(Formats::compile()?);
    let defaults = args.defaults(run_id);
    let (out, chunks) = mpsc::channel(QUEUE_CHUNKS);
    let mut stops = Vec::new();
    if args.follow {
        for source in sources {
            let (stop, stopped) = sync_channel(0);
            let (converter, out) = (args.converter(&formats, &defaults), out.clone());
            stops.push(stop);
            std::thread::spawn(move || input::follow(&source, converter, out, &stopped));
        }
    } else {
        let sources: Vec<_> = sources.into_iter().map(|source| (source, args.converter(&formats, &defaults))).collect();
        std::thread::spawn(move || {
            for (source, converter) in sources {
                input::read_all(&source, converter, out.clone());
            }
        });
    }
    Ok((chunks, stops))
}

/// Moves chunks to the server until they end; while following, until Ctrl-C or SIGTERM and what was read by then.
async fn deliver(sender: &mut Sender, chunks: Receiver<Chunk>, stops: Vec<SyncSender<()>>) -> anyhow::Result<()> {
    let mut pumping = Box::pin(pump(sender, chunks));
    if !stops.is_empty() {
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        tokio::select! {
            outcome = &mut pumping => return outcome,
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        drop(stops);
        // Standard input cannot be interrupted, and a server may be away: what is not sent by then stays behind.
        return tokio::time::timeout(STOP_PATIENCE, pumping).await.unwrap_or(Ok(()));
    }
    pumping.await
}

/// How much there is to read, if all of it is in plain files.
fn known_bytes(sources: &[Source]) -> Option<u64> {
    let bytes = |source: &Source| match source {
        Source::Stdin => None,
        Source::File(path) => path.metadata().ok().filter(std::fs::Metadata::is_file).map(|file| file.len()),
    };
    sources.iter().map(bytes).sum()
}
