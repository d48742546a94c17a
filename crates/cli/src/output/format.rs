//! In which format data is written: what is asked for, else what suits where it goes.

use std::io::{self, IsTerminal};

use clap::{Args, ValueEnum};

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
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
}

/// The options of what is printed.
#[derive(Debug, Clone, Args)]
pub(crate) struct OutputArgs {
    /// How to print [default: for people on a terminal, else tsv]
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Format>,
    /// The same as --format ndjson: one JSON object a line, with every field
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

impl OutputArgs {
    /// As if these had been given.
    pub(crate) fn new(format: Option<Format>, json: bool) -> OutputArgs {
        OutputArgs { format, json }
    }

    /// What was asked for, else `human` on a terminal.
    pub(crate) fn format(&self, human: Format) -> Format {
        match self.format {
            Some(format) => format,
            None if self.json => Format::Ndjson,
            None if io::stdout().is_terminal() => human,
            None => Format::Tsv,
        }
    }

    /// The same for what goes on arriving: none where the format has an end, or needs all rows before the first.
    pub(crate) fn live(&self) -> Option<Format> {
        let format = self.format(Format::Lines);
        (!matches!(format, Format::Table | Format::Json)).then_some(format)
    }
}
