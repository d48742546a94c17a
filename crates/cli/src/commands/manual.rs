//! `runstone completions` and `runstone man`: what the command line says of itself, for shells and for `man`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::output::Stdout;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(runstone completions bash)
  runstone completions zsh > ~/.zfunc/_runstone
  runstone completions fish > ~/.config/fish/completions/runstone.fish")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runstone man | man -l -
  runstone man ~/.local/share/man/man1")]
pub(crate) struct Man {
    /// Write a page for every command into this directory, which is made if it is not there [default: print the first page]
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn completions(args: &Completions) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "runstone", &mut script);
    Stdout.write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn man(args: &Man) -> anyhow::Result<ExitCode> {
    // A page about a command's page helps nobody.
    let command = Cli::command().disable_help_subcommand(true);
    match &args.dir {
        None => clap_mangen::Man::new(command).render(&mut Stdout)?,
        Some(dir) => {
            std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
            clap_mangen::generate_to(command, dir).with_context(|| format!("write pages to {}", dir.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
