//! What `make bench` drives a server with. It makes records like those of real pipelines (`lines`, `records`) and sends
//! them (`drive`); what is measured and compared stands in `bench/bench.py`.
#![allow(clippy::print_stdout, clippy::cast_precision_loss)] // figures, for the one who called

mod drive;
mod lines;
mod records;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::drive::{Pace, drive};
use crate::records::{Load, Shape};

/// Make a load like that of real pipelines, and send it to a server
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send a load, and print a JSON object of what it took
    Load {
        #[command(flatten)]
        shape: Shape,
        #[command(flatten)]
        pace: Pace,
    },
    /// Write a load into a file, as NDJSON
    Write {
        #[command(flatten)]
        shape: Shape,
        /// The file
        #[arg(long)]
        out: PathBuf,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Load { shape, pace } => {
            let load = Load::new(shape)?;
            let outcome = tokio::runtime::Runtime::new()?.block_on(drive(load, pace))?;
            println!("{}", serde_json::to_string(&outcome)?);
        }
        Command::Write { shape, out } => {
            let load = Load::new(shape)?;
            let file = std::fs::File::create(&out).with_context(|| format!("create {}", out.display()))?;
            let mut file = std::io::BufWriter::new(file);
            for n in 0..load.batches() {
                file.write_all(&load.batch(n)?)?;
            }
            file.flush()?;
        }
    }
    Ok(())
}
