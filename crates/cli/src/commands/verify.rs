//! `runstone verify`: is everything that was acknowledged still there and sound?

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use runstone_journal::CheckReport;
use runstone_journal::fs::RealFs;
use runstone_record::Batch;
use serde_json::{Value, json};

use crate::args::Global;
use crate::failure::FAILED;
use crate::output::Output;
use crate::talk::Talk;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runstone verify
  runstone verify --data /var/lib/runstone --json

Reads every byte of the journal and changes nothing; the server may run meanwhile. Exit code 0: all sound, 1: damage.")]
pub(crate) struct Verify {
    /// The server's data directory
    #[arg(long, value_name = "DIR", default_value = "./data")]
    data: PathBuf,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Records, and frames whose checksum is right and whose content is none.
#[derive(Debug, Default)]
struct Contents {
    records: u64,
    unreadable_frames: u64,
    first_unreadable: Option<u64>,
}

pub(crate) fn verify(args: &Verify, global: &Global) -> anyhow::Result<ExitCode> {
    let dir = args.data.join("journal");
    let mut contents = Contents::default();
    let report = runstone_journal::check(&RealFs, &dir, |frame| match Batch::decode(&frame.payload) {
        Ok(batch) => contents.records += batch.len() as u64,
        Err(_) => {
            contents.unreadable_frames += 1;
            contents.first_unreadable.get_or_insert(frame.first);
        }
    });
    let report = report.with_context(|| format!("check {}", dir.display()))?;
    Output::new(args.json, global).fields(&summary(&report, &contents))?;
    let talk = Talk::plain();
    for damage in damages(&report, &contents) {
        talk.say(damage);
    }
    let sound = report.is_sound() && contents.unreadable_frames == 0;
    talk.say(if sound { "sound: everything that was acknowledged is there" } else { "damaged" });
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn summary(report: &CheckReport, contents: &Contents) -> Value {
    json!({
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
        "sound": report.is_sound() && contents.unreadable_frames == 0,
    })
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
