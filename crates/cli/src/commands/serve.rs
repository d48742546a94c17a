//! `runstone serve` and `runstone config`: the server and its configuration.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

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

Prints the server's URL. SIGTERM or Ctrl-C stops it: what was acknowledged is on disk.")]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) settings: Settings,
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

pub(crate) fn serve(args: &Serve) -> anyhow::Result<ExitCode> {
    anyhow::bail!("serve {:?}: the server is not part of this build", args.settings)
}

pub(crate) fn config(args: &Config) -> anyhow::Result<ExitCode> {
    anyhow::bail!("configure {:?} (print: {}): the server is not part of this build", args.settings, args.print)
}
