//! One file a command. Here: choosing one, and what several of them need.

pub(crate) mod counts;
pub(crate) mod dead_letters;
mod desk;
mod directory;
mod export;
mod filters;
mod follow;
pub(crate) mod inspect;
pub(crate) mod logs;
pub(crate) mod manual;
pub(crate) mod query;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod send;
pub(crate) mod serve;
pub(crate) mod tail;
pub(crate) mod verify;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use runstone_sdk::{Client, ClientError};

use crate::args::{Cli, Command, Global};
use crate::clock;
use crate::talk::Talk;

/// Somebody is waiting.
const READ_DEADLINE: Duration = Duration::from_secs(30);

/// Runs the chosen command.
pub(crate) fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let Cli { global, command } = cli;
    match command {
        Command::Serve(args) => serve::serve(&args),
        Command::Config(args) => serve::config(&args),
        Command::Verify(args) => block_on(verify::verify(args, &global)),
        Command::Inspect(args) => block_on(inspect::inspect(args, &global)),
        Command::Send(args) => block_on(send::send(args, &global)),
        Command::Run(args) => block_on(run::run(args, &global)),
        Command::Query(args) => block_on(query::query(args, &global)),
        Command::Logs(args) => block_on(logs::logs(args, &global)),
        Command::Runs(args) => block_on(runs::runs(args, &global)),
        Command::Tail(args) => block_on(tail::tail(args, &global)),
        Command::Metrics(args) => block_on(counts::metrics(args, &global)),
        Command::Fields(args) => block_on(counts::fields(args, &global)),
        Command::DeadLetters(args) => block_on(dead_letters::dead_letters(args, &global)),
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::man(&args),
    }
}

fn block_on(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let code = runtime.block_on(command);
    // A thread may still wait for standard input: nobody needs what it would read.
    runtime.shutdown_background();
    code
}

/// A client that says on stderr when it has to wait for the server.
fn client(global: &Global, deadline: Duration, talk: &Talk) -> Result<Client, ClientError> {
    let talk = talk.clone();
    let note = move |error: &ClientError, wait: Duration| {
        talk.say(format_args!("{error}; next try in {:.1} s", wait.as_secs_f64()));
    };
    Client::builder(&global.url).deadline(deadline).on_retry(note).build()
}

/// A client for reading. Where a walk was under way, a server that goes is waited for, but not long.
fn reader(global: &Global) -> Result<Client, ClientError> {
    client(global, READ_DEADLINE, &Talk::plain())
}

/// A run's id where none is given: when it began, and six hexadecimal digits against a second run in the same second.
fn new_run_id() -> anyhow::Result<String> {
    let mut random = [0; 4];
    getrandom::fill(&mut random).context("read random bytes from the system")?;
    let now = clock::now().strftime("%Y%m%d_%H%M%S");
    Ok(format!("{now}_{:06x}", u32::from_ne_bytes(random) & 0xff_ffff))
}
