//! `runstone serve` and `runstone config`: the server and its configuration.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use axum::Router;
use clap::Args;
use runstone_journal::OpenError;
use runstone_journal::fs::RealFs;
use runstone_server::clock::{Clock, SystemClock};
use runstone_server::config::{Flag, Sources};
use runstone_server::{Orders, RunError, World, telemetry};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::failure::UsageError;
use crate::output::Stdout;

/// What decides the configuration. Flags win over the environment (`RUNSTONE_…`), which wins over the file.
#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// Directory that holds everything; made if it is absent [default: ./data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Address to listen on [default: 127.0.0.1:7867]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// Configuration file, YAML
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runstone serve
  runstone serve --data /var/lib/runstone --listen 0.0.0.0:7867
  runstone serve --config runstone.yaml

Prints the server's URL. SIGTERM or Ctrl-C stops it: what was acknowledged is on disk. SIGUSR1 brings what there is to
the lake and looks after it, now.")]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Positions from here on count under a new epoch: for a directory that was replaced by an older copy of itself
    #[arg(long, value_name = "POSITION")]
    pub(crate) new_epoch_from: Option<u64>,
    /// Go on although positions are neither in the lake nor in the journal any more
    #[arg(long)]
    pub(crate) accept_missing: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runstone config --print
  RUNSTONE_LISTEN=127.0.0.1:0 runstone config --print --config runstone.yaml")]
pub(crate) struct Config {
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Print every setting with its value and where it comes from
    #[arg(long, required = true)]
    pub(crate) print: bool,
}

/// The server, until SIGTERM or Ctrl-C.
pub(crate) fn serve(args: &Serve) -> anyhow::Result<ExitCode> {
    let config = load(&args.settings)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    telemetry::init(&config.log, Arc::clone(&clock))?;
    let world = World { clock, entropy: Arc::new(entropy), fs: Arc::new(RealFs) };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let stop = CancellationToken::new();
    let (asks, upkeep) = watch::channel(());
    let orders = Orders { new_epoch_from: args.new_epoch_from, accept_missing: args.accept_missing, upkeep };
    let ended = runtime.block_on(async {
        tokio::spawn(stop_on_signal(stop.clone())?);
        tokio::spawn(upkeep_on_signal(asks)?);
        Ok(runstone_server::run(&config, world, &orders, Router::new(), stop, announce).await)
    });
    let ended: io::Result<Result<(), RunError>> = ended;
    match ended? {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(RunError::Journal(error @ OpenError::Locked { .. })) => Err(UsageError(error.to_string()).into()),
        Err(error @ (RunError::Lake(_) | RunError::Sink(_))) => Err(UsageError(error.to_string()).into()),
        Err(error) => Err(error.into()),
    }
}

/// The one line on stdout: a script reads the address from it.
fn announce(address: SocketAddr) {
    let line = format!("http://{address}\n");
    // Who closed our output does not want to know.
    let _ = io::stdout().write_all(line.as_bytes());
}

/// SIGXFSZ: a file would grow past the process's limit. Unhandled it kills; handled, the write fails with an error that
/// the journal knows how to live with.
const FILE_SIZE_EXCEEDED: i32 = 25;

/// Resolves a signal into a stop. Handlers are in place when this returns.
fn stop_on_signal(stop: CancellationToken) -> io::Result<impl Future<Output = ()>> {
    let _handled_for_good = signal(SignalKind::from_raw(FILE_SIZE_EXCEEDED))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("stop on SIGTERM"),
            _ = interrupt.recv() => tracing::info!("stop on Ctrl-C"),
        }
        stop.cancel();
    })
}

/// Asks for upkeep at each SIGUSR1. The handler is in place when this returns.
fn upkeep_on_signal(upkeep: watch::Sender<()>) -> io::Result<impl Future<Output = ()>> {
    let mut asked = signal(SignalKind::user_defined1())?;
    Ok(async move {
        while asked.recv().await.is_some() {
            upkeep.send_replace(());
        }
    })
}

/// Random bits of the system. Without them ids could repeat: better no server.
pub(crate) fn entropy() -> u128 {
    let mut bytes = [0; 16];
    #[expect(clippy::expect_used, reason = "the kernel has randomness once it has booted")]
    getrandom::fill(&mut bytes).expect("random bits from the system");
    u128::from_le_bytes(bytes)
}

/// Every setting, where it stands and where it comes from.
pub(crate) fn config(args: &Config) -> anyhow::Result<ExitCode> {
    debug_assert!(args.print, "clap requires it");
    Stdout.write_all(load(&args.settings)?.print().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn load(settings: &Settings) -> anyhow::Result<runstone_server::config::Config> {
    let flag = |flag, key, value: Option<String>| value.map(|value| Flag { flag, key, value });
    let data = settings.data.as_ref().map(|path| path.to_string_lossy().into_owned());
    let flags = [flag("--data", "data", data), flag("--listen", "listen", settings.listen.clone())];
    let env: Vec<_> = std::env::vars_os().collect();
    let named = env.iter().find(|(name, value)| name == "RUNSTONE_CONFIG" && !value.is_empty());
    let file = settings.config.clone().or_else(|| named.map(|(_, path)| PathBuf::from(path)));
    let memory = runstone_server::memory::limit();
    let sources = Sources { file, env, flags: flags.into_iter().flatten().collect(), memory };
    runstone_server::config::load(&sources).map_err(|mistakes| UsageError(mistakes.to_string()).into())
}
