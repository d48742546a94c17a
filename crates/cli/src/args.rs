//! The command line: every command and the options that all of them share.

use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand};

use crate::commands;

/// The log of record for data pipelines: one server, one place for what every run did.
#[derive(Debug, Parser)]
#[command(name = "runstone", version, max_term_width = 100, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  runstone serve                                         start a server in ./data
  runstone run --source-system shop -- ./nightly.sh      run a command and log what it does
  runstone send --source-system shop app.log             send a log file
  runstone logs --level ERROR --since -1h                read it again
  runstone tail --source-system shop                     watch what arrives
  runstone query \"SELECT level, count(*) FROM logs GROUP BY level\"

Exit codes: 0 done, 1 something was refused or damaged, 2 wrong usage, 3 the server could not be reached.";

/// Options that every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The server's address
    #[arg(
        long,
        global = true,
        env = "RUNSTONE_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:7867",
        value_name = "URL"
    )]
    pub(crate) url: String,
    /// No colours on a terminal
    #[arg(long, global = true, env = "NO_COLOR", hide_env_values = true, value_parser = FalseyValueParser::new())]
    pub(crate) no_color: bool,
    /// No pager, however long the output is
    #[arg(long, global = true)]
    pub(crate) no_pager: bool,
    /// What shows output on a terminal that is longer than it [default: $PAGER, else less]
    #[arg(long, global = true, env = "RUNSTONE_PAGER", hide_env_values = true, value_name = "COMMAND")]
    pub(crate) pager: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a server
    Serve(commands::serve::Serve),
    /// Show the server's configuration
    Config(commands::serve::Config),
    /// Send records or log lines, from files or standard input
    Send(commands::send::Send),
    /// Run a command and log its start, output, result and end
    Run(commands::run::Run),
    /// Query logs and runs with SQL
    Query(commands::query::Query),
    /// Show records
    Logs(commands::logs::Logs),
    /// Show runs, or one run
    Runs(commands::runs::Runs),
    /// Show records as they arrive
    Tail(commands::tail::Tail),
    /// Count runs, by group and time
    Metrics(commands::counts::Metrics),
    /// Show which fields records have, or which values a field has
    Fields(commands::counts::Fields),
    /// Check a data directory: the journal and its checksums, the lake, and one against the other
    Verify(commands::verify::Verify),
    /// Show what a data directory and its lake consist of
    Inspect(commands::inspect::Inspect),
    /// Show, send again or forget the records that a target could not take
    DeadLetters(commands::dead_letters::DeadLettersArgs),
    /// Print a shell's completions
    Completions(commands::manual::Completions),
    /// Print or write the manual pages
    Man(commands::manual::Man),
}
