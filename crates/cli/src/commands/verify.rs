//! `runstone verify`: is everything that was acknowledged still there and sound?

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use runstone_journal::CheckReport;
use runstone_journal::fs::RealFs;
use runstone_record::Batch;
use runstone_sdk::Row;
use runstone_server::config::Config;
use runstone_server::{LakeVerdict, Offline, OfflineError, World};
use serde_json::{Value, json};

use super::directory::Directory;
use crate::args::Global;
use crate::failure::FAILED;
use crate::output::{Format, OutputArgs, Printer};
use crate::talk::Talk;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runstone verify
  runstone verify --data /var/lib/runstone --json

Reads every byte of the journal and every file of the lake, and compares the records that both have. Changes nothing; the
server may run meanwhile. Exit code 0: all sound, 1: damage.")]
pub(crate) struct Verify {
    #[command(flatten)]
    directory: Directory,
    /// Only the journal: do not look at the lake
    #[arg(long)]
    journal_only: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Records, and frames whose checksum is right and whose content is none.
#[derive(Debug, Default)]
struct Contents {
    records: u64,
    unreadable_frames: u64,
    first_unreadable: Option<u64>,
}

pub(crate) async fn verify(args: Verify, global: &Global) -> anyhow::Result<ExitCode> {
    let (config, world) = args.directory.open()?;
    let dir = config.data.join("journal");
    let mut contents = Contents::default();
    let report = runstone_journal::check(&RealFs, &dir, |frame| match Batch::decode(&frame.payload) {
        Ok(batch) => contents.records += batch.len() as u64,
        Err(_) => {
            contents.unreadable_frames += 1;
            contents.first_unreadable.get_or_insert(frame.first);
        }
    });
    let report = report.with_context(|| format!("check {}", dir.display()))?;
    let lake = match args.journal_only {
        true => None,
        false => match verify_lake(&config, &world).await {
            // What is wrong with the journal is told below; the lake cannot be compared with it.
            Err(error) if !report.is_sound() => {
                Talk::plain().say(format_args!("the lake was not looked at: {error}"));
                None
            }
            verdict => verdict?,
        },
    };
    let sound = report.is_sound() && contents.unreadable_frames == 0 && lake.as_ref().is_none_or(LakeVerdict::is_sound);
    let summary = Row::of(&summary(&report, &contents, lake.as_ref(), sound))?;
    Printer::fields(&summary, args.output.format(Format::Table), global)?.finish()?;
    let talk = Talk::plain();
    for damage in damages(&report, &contents) {
        talk.say(damage);
    }
    for fault in lake.iter().flat_map(LakeVerdict::faults) {
        talk.say(fault);
    }
    talk.say(if sound { "sound: everything that was acknowledged is there" } else { "damaged" });
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

async fn verify_lake(config: &Config, world: &World) -> Result<Option<LakeVerdict>, OfflineError> {
    Offline::open(config, world).await?.verify_lake().await
}

fn summary(report: &CheckReport, contents: &Contents, lake: Option<&LakeVerdict>, sound: bool) -> Value {
    let mut summary = json!({
        "journal": report.id.to_string(),
        "segments": report.segments,
        "groups": report.groups,
        "frames": report.frames,
        "records": contents.records,
        "payload_bytes": report.payload_bytes,
        "bytes": report.bytes,
        "first_position": report.first,
        "last_position": report.last,
        "torn_bytes": report.torn_bytes,
        "damaged_ranges": report.damages.len(),
        "missing_ranges": report.missing.len(),
        "unreadable_frames": contents.unreadable_frames,
    });
    if let Some(lake) = lake {
        let count = |ranges: &[(String, u64, u64)]| ranges.iter().map(|(_, first, last)| last + 1 - first).sum::<u64>();
        summary["lake_version"] = lake.version.into();
        summary["lake_files"] = lake.files.into();
        summary["lake_records"] = lake.rows.into();
        summary["lake_damaged_files"] = lake.damaged.len().into();
        summary["compared_records"] = lake.compared.records.into();
        summary["same_records"] = lake.compared.same.into();
        summary["different_records"] = lake.compared.different.len().into();
        summary["missing_records"] = count(&lake.compared.missing).into();
        summary["dropped_copies"] = lake.compared.copies.into();
        summary["refused_records"] = lake.compared.refused.into();
        summary["expired_records"] = lake.compared.expired.into();
    }
    summary["sound"] = sound.into();
    summary
}

/// Each fault in a line that names where it is.
fn damages(report: &CheckReport, contents: &Contents) -> Vec<String> {
    let mut lines: Vec<String> = report.damages.iter().map(ToString::to_string).collect();
    lines.extend(
        report.damaged_headers.iter().map(|first| format!("the header of the segment of position {first} is damaged")),
    );
    lines.extend(report.missing.iter().map(|(from, to)| match to {
        Some(to) => format!("positions {from} to {to} are missing"),
        None => format!("positions from {from} on are missing"),
    }));
    if !report.identity_sound {
        lines.push("the journal's identity file is missing or damaged".to_owned());
    }
    if let Some(first) = contents.first_unreadable {
        lines.push(format!("{} frames hold no records, the first at position {first}", contents.unreadable_frames));
    }
    lines
}
