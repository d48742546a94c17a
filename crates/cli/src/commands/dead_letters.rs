//! `runstone dead-letters`: the records that a target could not take. Talks to the target itself; no server is needed.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use runstone_record::limits::PAGE_ROWS_MAX;
use runstone_sdk::Row;
use runstone_sinks::{DeadLetter, DeadLetters, Redelivered, SinkError};
use serde::Serialize;
use serde_json::value::RawValue;

use super::directory::Directory;
use crate::args::Global;
use crate::clock;
use crate::failure::{FAILED, UsageError, report};
use crate::output::{Format, OutputArgs, Printer, Shape};
use crate::talk::Talk;

/// What a table and tab-separated values show.
const SHAPE: Shape<'_> = Shape {
    columns: &["sink", "source", "position", "id", "outcome", "reason"],
    dispensable: &["id", "source"],
    line: None,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runstone dead-letters list
  runstone dead-letters list --sink postgres --json | jq .record
  runstone dead-letters replay --sink postgres
  runstone dead-letters remove --sink dynamodb --source 0198c0de-0000-7000-8000-000000000001/1 --position 4711

Where the targets are is read from the configuration, as `runstone serve` reads it; the server may run meanwhile. The lake
has every one of these records: a dead letter is missing in its target alone.")]
pub(crate) struct DeadLettersArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show them, each with the reason
    #[command(after_help = "\
Example:
  runstone dead-letters list --sink postgres --json

Columns in a pipe: sink, source, position, id, outcome, reason; tab-separated. JSON has the record, too.")]
    List(Chosen),
    /// Bring them to their target again, once what was wrong there is mended
    #[command(after_help = "\
Example:
  runstone dead-letters replay --sink postgres

What the target takes is no dead letter any more. What somebody else has removed meanwhile is not brought: its outcome is
gone. Exit code 1: a target still refuses some, or cannot be reached; the others are asked all the same. Done twice it is
there once.")]
    Replay(Chosen),
    /// Forget them
    #[command(after_help = "\
Example:
  runstone dead-letters remove --sink postgres --all")]
    Remove {
        #[command(flatten)]
        chosen: Chosen,
        /// All of them; else a source has to be named
        #[arg(long, required_unless_present = "source", conflicts_with = "source")]
        all: bool,
    },
}

/// Which of them.
#[derive(Debug, Args)]
struct Chosen {
    #[command(flatten)]
    directory: Directory,
    /// Only this sink's: `postgres`, `dynamodb` or `cloudwatch`
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Only those of this journal, as the list shows it
    #[arg(long, value_name = "JOURNAL/EPOCH")]
    source: Option<String>,
    /// Only the one at this position; may be given again
    #[arg(long = "position", value_name = "POSITION", requires = "source")]
    positions: Vec<u64>,
    #[command(flatten)]
    output: OutputArgs,
}

/// A letter as it is printed.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    sink: &'static str,
    source: &'a str,
    position: u64,
    id: String,
    outcome: &'static str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<Box<RawValue>>,
}

pub(crate) async fn dead_letters(args: DeadLettersArgs, global: &Global) -> anyhow::Result<ExitCode> {
    match args.action {
        Action::List(chosen) => list(&chosen, global).await,
        Action::Replay(chosen) => replay(&chosen, global).await,
        Action::Remove { chosen, .. } => remove(&chosen, global).await,
    }
}

async fn list(chosen: &Chosen, global: &Global) -> anyhow::Result<ExitCode> {
    let (mut printer, mut failures) = (chosen.printer(global), Failures::default());
    for sink in chosen.sinks().await? {
        let listed = async {
            let mut pages = Pages::of(sink.as_ref(), chosen);
            while let Some(page) = pages.next().await? {
                for letter in &page {
                    printer.row(shown(sink.sink(), letter, "waiting", &letter.reason)?)?;
                }
            }
            anyhow::Ok(())
        };
        failures.keep(sink.sink(), listed.await)?;
    }
    printer.finish()?;
    Ok(failures.end(true))
}

async fn replay(chosen: &Chosen, global: &Global) -> anyhow::Result<ExitCode> {
    let (mut printer, mut failures) = (chosen.printer(global), Failures::default());
    let (mut taken, mut refused) = (0_u64, 0_u64);
    for sink in chosen.sinks().await? {
        let replayed = async {
            let mut pages = Pages::of(sink.as_ref(), chosen);
            while let Some(page) = pages.next().await? {
                for letter in &page {
                    let (outcome, reason) = match sink.redeliver(letter, clock::now().as_microsecond()).await? {
                        Redelivered::Taken => ("taken", String::new()),
                        Redelivered::Refused { reason } => ("refused", reason),
                        Redelivered::Gone => ("gone", String::new()),
                    };
                    taken += u64::from(outcome == "taken");
                    refused += u64::from(outcome == "refused");
                    printer.row(shown(sink.sink(), letter, outcome, &reason)?)?;
                }
            }
            anyhow::Ok(())
        };
        failures.keep(sink.sink(), replayed.await)?;
    }
    printer.finish()?;
    Talk::plain().say(format_args!("{taken} taken, {refused} refused again"));
    Ok(failures.end(refused == 0))
}

async fn remove(chosen: &Chosen, global: &Global) -> anyhow::Result<ExitCode> {
    let (mut printer, mut failures, mut removed) = (chosen.printer(global), Failures::default(), 0);
    for sink in chosen.sinks().await? {
        let done = async {
            let mut pages = Pages::of(sink.as_ref(), chosen);
            while let Some(page) = pages.next().await? {
                for letters in page.chunk_by(|one, next| one.source == next.source) {
                    let positions: Vec<u64> = letters.iter().map(|letter| letter.position).collect();
                    removed += sink.remove_dead_letters(&letters[0].source, &positions).await?;
                }
                for letter in &page {
                    printer.row(shown(sink.sink(), letter, "removed", &letter.reason)?)?;
                }
            }
            anyhow::Ok(())
        };
        failures.keep(sink.sink(), done.await)?;
    }
    printer.finish()?;
    Talk::plain().say(format_args!("{removed} removed"));
    Ok(failures.end(true))
}

/// What went wrong with sinks. The others are asked all the same.
#[derive(Default)]
struct Failures(Vec<anyhow::Error>);

impl Failures {
    /// Keeps a sink's own trouble. Anything else, as output that nobody reads any more, ends the command.
    fn keep(&mut self, sink: &'static str, done: anyhow::Result<()>) -> anyhow::Result<()> {
        match done {
            Err(error) if error.is::<SinkError>() => {
                let said = format!("{sink}: {error}");
                self.0.push(error.context(said));
                Ok(())
            }
            done => done,
        }
    }

    /// Says each, now that a pager has left the terminal.
    fn end(&self, is_well: bool) -> ExitCode {
        let ended = if is_well { ExitCode::SUCCESS } else { ExitCode::from(FAILED) };
        self.0.iter().fold(ended, |_, error| report(error))
    }
}

fn shown(sink: &'static str, letter: &DeadLetter, outcome: &'static str, reason: &str) -> anyhow::Result<Row> {
    let (source, id, position) = (letter.source.as_str(), letter.id.to_string(), letter.position);
    // What is no JSON is a letter all the same.
    let record = RawValue::from_string(letter.record.clone()).ok();
    Ok(Row::of(&Shown { sink, source, position, id, outcome, reason, record })?)
}

impl Chosen {
    fn printer(&self, global: &Global) -> Printer {
        Printer::new(SHAPE, self.output.format(Format::Table), global)
    }

    /// The sinks that the configuration names.
    async fn sinks(&self) -> anyhow::Result<Vec<Box<dyn DeadLetters>>> {
        let (config, world) = self.directory.open()?;
        let all =
            runstone_server::dead_letters(&config, &world.clock).await.context("read the configuration of sinks")?;
        let names: Vec<&str> = all.iter().map(|sink| sink.sink()).collect();
        let known = if names.is_empty() { "none".to_owned() } else { names.join(" and ") };
        match &self.sink {
            Some(name) if !names.contains(&name.as_str()) => {
                let wrong = format!("there is no sink {name} in the configuration: it has {known}");
                Err(UsageError(wrong).into())
            }
            None if names.is_empty() => {
                let wrong = "there is no sink in the configuration: set postgres.url, dynamodb.table or cloudwatch.group, or name the file \
                             with --config";
                Err(UsageError(wrong.to_owned()).into())
            }
            Some(name) => Ok(all.into_iter().filter(|sink| sink.sink() == name).collect()),
            None => Ok(all),
        }
    }

    fn takes(&self, letter: &DeadLetter) -> bool {
        self.source.as_ref().is_none_or(|source| *source == letter.source)
            && (self.positions.is_empty() || self.positions.contains(&letter.position))
    }
}

/// A walk through a sink's letters. What is removed on the way does not disturb it.
struct Pages<'a> {
    sink: &'a dyn DeadLetters,
    chosen: &'a Chosen,
    after: Option<(String, u64)>,
}

impl<'a> Pages<'a> {
    fn of(sink: &'a dyn DeadLetters, chosen: &'a Chosen) -> Self {
        Self { sink, chosen, after: None }
    }

    async fn next(&mut self) -> anyhow::Result<Option<Vec<DeadLetter>>> {
        let after = self.after.as_ref().map(|(source, position)| (source.as_str(), *position));
        let mut page = self.sink.dead_letters(after, PAGE_ROWS_MAX).await?;
        let Some(last) = page.last() else { return Ok(None) };
        self.after = Some((last.source.clone(), last.position));
        page.retain(|letter| self.chosen.takes(letter));
        Ok(Some(page))
    }
}
