//! The binary `runstone`: the composition root and the command line.
//!
//! Owns parsing arguments, choosing a command and turning its outcome into an exit code. Data goes to stdout, talk to
//! stderr. Everything that a command does is in `commands`.

mod args;
mod clock;
mod commands;
mod failure;
mod input;
mod lines;
mod memory;
mod output;
mod sender;
mod talk;
mod unfinished;
mod when;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    memory::set_up();
    let cli = args::Cli::parse();
    match commands::run(cli) {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}
