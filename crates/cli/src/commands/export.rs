//! Answers as bytes, passed through as they are made. Owns the choice between printing rows and passing bytes, and what
//! becomes of a file that a signal ends.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use bytes::Bytes;
use clap::{Args, ValueEnum};
use futures::stream::{Stream, TryStreamExt};
use indicatif::HumanBytes;
use runstone_sdk::Format as Streamed;
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{Stopped, UsageError};
use crate::output::{Format, OutputArgs, Stdout};
use crate::talk::Talk;
use crate::unfinished::Unfinished;

/// How an answer is written, and where to.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// How to print [default: for people on a terminal, else tsv; with --output what the file's name ends in]
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Wanted>,
    /// The same as --format ndjson: one JSON object a line, with every field
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Write all of it to this file, as ndjson, csv, parquet or arrow
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Every format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wanted {
    /// A line for each, for people
    Lines,
    /// A table as wide as the terminal
    Table,
    /// One JSON array
    Json,
    /// One JSON object a line
    Ndjson,
    /// Comma-separated values, with a header
    Csv,
    /// Tab-separated values, without one
    Tsv,
    /// Apache Parquet, to a file or a pipe
    Parquet,
    /// Apache Arrow's stream, to a file or a pipe
    Arrow,
}

/// What to do with an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// Its rows are printed.
    Print(Format),
    /// Its bytes go to a file, or to standard output.
    Pass(Streamed, Option<PathBuf>),
}

impl ExportArgs {
    /// The way, which for people is this one.
    pub(crate) fn way(&self, human: Format) -> Result<Way, UsageError> {
        if let Some(path) = &self.output {
            return Ok(Way::Pass(self.of_file(path)?, Some(path.clone())));
        }
        match self.printed() {
            Ok(output) => Ok(Way::Print(output.format(human))),
            Err(_) if io::stdout().is_terminal() => {
                Err(UsageError("give --output FILE: parquet and arrow are nothing for a terminal".to_owned()))
            }
            Err(streamed) => Ok(Way::Pass(streamed, None)),
        }
    }

    /// For what goes on arriving, which has no end and so no file.
    pub(crate) fn followed(&self) -> Result<OutputArgs, UsageError> {
        let refused = || UsageError("follow to standard output, with --format lines, ndjson, csv or tsv".to_owned());
        if self.output.is_some() { Err(refused()) } else { self.printed().map_err(|_| refused()) }
    }

    fn printed(&self) -> Result<OutputArgs, Streamed> {
        let format = match self.format {
            Some(Wanted::Parquet) => return Err(Streamed::Parquet),
            Some(Wanted::Arrow) => return Err(Streamed::Arrow),
            Some(Wanted::Lines) => Some(Format::Lines),
            Some(Wanted::Table) => Some(Format::Table),
            Some(Wanted::Json) => Some(Format::Json),
            Some(Wanted::Ndjson) => Some(Format::Ndjson),
            Some(Wanted::Csv) => Some(Format::Csv),
            Some(Wanted::Tsv) => Some(Format::Tsv),
            None => None,
        };
        Ok(OutputArgs::new(format, self.json))
    }

    fn of_file(&self, path: &Path) -> Result<Streamed, UsageError> {
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        match (self.format, ending.as_str()) {
            (Some(Wanted::Ndjson), _) => Ok(Streamed::Ndjson),
            (Some(Wanted::Csv), _) => Ok(Streamed::Csv),
            (Some(Wanted::Parquet), _) => Ok(Streamed::Parquet),
            (Some(Wanted::Arrow), _) => Ok(Streamed::Arrow),
            (None, _) if self.json => Ok(Streamed::Ndjson),
            (None, "ndjson" | "jsonl") => Ok(Streamed::Ndjson),
            (None, "csv") => Ok(Streamed::Csv),
            (None, "parquet") => Ok(Streamed::Parquet),
            (None, "arrow" | "arrows") => Ok(Streamed::Arrow),
            _ => Err(UsageError(format!(
                "give --format ndjson, csv, parquet or arrow, or a file that ends in one of them: {}",
                path.display()
            ))),
        }
    }
}

/// Passes an answer on, to a file or to standard output.
pub(crate) async fn pass<E: Into<anyhow::Error>>(
    bytes: impl Stream<Item = Result<Bytes, E>> + Unpin,
    path: Option<&Path>,
) -> anyhow::Result<()> {
    let Some(path) = path else {
        copy(bytes, &mut Stdout, &Talk::plain()).await?;
        return Ok(Stdout.flush()?);
    };
    let talk = Talk::with_progress(None);
    let written = write(bytes, path, &talk).await.with_context(|| format!("write {}", path.display()));
    talk.done();
    talk.say(format_args!("wrote {} to {}", HumanBytes(written?), path.display()));
    Ok(())
}

async fn write<E: Into<anyhow::Error>>(
    bytes: impl Stream<Item = Result<Bytes, E>> + Unpin,
    path: &Path,
    talk: &Talk,
) -> anyhow::Result<u64> {
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        // A pipe or a device has no end that it could get a name at.
        return copy(bytes, &mut File::options().write(true).open(path)?, talk).await;
    }
    // Not at SIGHUP: under `nohup` it is ignored, and a handler would undo that.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut file = Unfinished::beside(path)?;
    let stopped = |kind: SignalKind| Err(Stopped(kind.as_raw_value()).into());
    let written = tokio::select! {
        written = copy(bytes, &mut file, talk) => written,
        _ = interrupt.recv() => stopped(SignalKind::interrupt()),
        _ = terminate.recv() => stopped(SignalKind::terminate()),
    };
    let length = written?;
    file.finish()?;
    Ok(length)
}

async fn copy<E: Into<anyhow::Error>>(
    mut bytes: impl Stream<Item = Result<Bytes, E>> + Unpin,
    out: &mut impl Write,
    talk: &Talk,
) -> anyhow::Result<u64> {
    let mut length = 0;
    while let Some(piece) = bytes.try_next().await.map_err(Into::into)? {
        out.write_all(&piece)?;
        length += piece.len() as u64;
        talk.progress(piece.len() as u64, "");
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(format: Option<Wanted>, json: bool, output: Option<&str>) -> ExportArgs {
        ExportArgs { format, json, output: output.map(PathBuf::from) }
    }

    #[test]
    fn a_file_is_what_is_said_or_what_its_name_says() {
        for (format, json, path, streamed) in [
            (None, false, "a.parquet", Some(Streamed::Parquet)),
            (None, false, "a.JSONL", Some(Streamed::Ndjson)),
            (None, false, "a.arrow", Some(Streamed::Arrow)),
            (None, false, "dir.csv/a", None),
            (None, true, "a.csv", Some(Streamed::Ndjson)),
            (Some(Wanted::Csv), false, "a.txt", Some(Streamed::Csv)),
            (Some(Wanted::Table), false, "a.csv", None),
            (None, false, "parquet", None),
        ] {
            let way = args(format, json, Some(path)).way(Format::Table);
            assert_eq!(way.ok(), streamed.map(|streamed| Way::Pass(streamed, Some(path.into()))), "{path}");
        }
    }

    #[test]
    fn what_goes_on_arriving_has_no_file_and_no_end() {
        assert!(args(Some(Wanted::Csv), false, None).followed().is_ok());
        assert!(args(Some(Wanted::Parquet), false, None).followed().is_err());
        assert!(args(None, false, Some("a.csv")).followed().is_err());
    }
}
