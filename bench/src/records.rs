//! The records of the load: a week of pipelines whose runs overlap, made from a seed. A batch depends on the seed and on
//! its number alone, so that connections make theirs in any order and a load of any size needs no file.

use anyhow::{Result, ensure};
use bytes::Bytes;
use fastrand::Rng;
use jiff::Timestamp;
use serde::Serialize;

use crate::lines::{Line, SYSTEMS, pool, redrawn};

const STAGES: [&str; 8] = ["source", "prepare", "extract", "clean", "transform", "refine", "load", "validate"];
/// What the types of a hundred records are.
const TYPES: [(usize, &str); 6] =
    [(70, "status"), (85, "info"), (89, "code"), (95, "result"), (98, "warning"), (100, "error")];
/// 2026-11-01T00:00:00Z, in microseconds since 1970.
const START: i64 = 1_793_491_200_000_000;
const WEEK: i64 = 7 * 86_400 * 1_000_000;
/// How many runs are under way at any moment.
const ALIVE: u64 = 20;
/// One record of so many has a word that no other has.
const NEEDLE_EVERY: u64 = 250_000;

/// What a load is made of.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Shape {
    /// Records in all
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) records: u64,
    /// Records of one request; 1 is sent as a JSON object, more as NDJSON
    #[arg(long, default_value_t = 1_000)]
    pub(crate) batch: u64,
    /// Runs in all [default: one for 500 records]
    #[arg(long)]
    pub(crate) runs: Option<u64>,
    /// The same seed gives the same load
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Give every record an id of the client's (a UUIDv7)
    #[arg(long)]
    pub(crate) ids: bool,
    /// Send the Logger's events, with --batch 1 to /log
    #[arg(long)]
    pub(crate) events: bool,
}

struct Run {
    id: String,
    system: &'static str,
    stage: &'static str,
    host: String,
}

pub(crate) struct Load {
    shape: Shape,
    pool: Vec<Line>,
    runs: Vec<Run>,
}

#[derive(Serialize)]
struct Record<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    timestamp: String,
    source_system: &'a str,
    stage: &'a str,
    run_id: &'a str,
    r#type: &'a str,
    level: &'a str,
    logger_name: &'a str,
    message: &'a str,
    hostname: &'a str,
    metadata: Metadata,
}

/// What the Logger takes.
#[derive(Serialize)]
struct Event<'a> {
    run_id: &'a str,
    log_entry: Entry<'a>,
}

#[derive(Serialize)]
struct Entry<'a> {
    timestamp: &'a str,
    r#type: &'a str,
    title: &'a str,
    description: &'a str,
    metadata: &'a Metadata,
}

impl<'a> From<&'a Record<'a>> for Event<'a> {
    fn from(record: &'a Record<'a>) -> Self {
        let Record { run_id, timestamp, r#type, logger_name: title, message: description, metadata, .. } = record;
        Event { run_id, log_entry: Entry { timestamp, r#type, title, description, metadata } }
    }
}

#[derive(Serialize)]
struct Metadata {
    attempt: u8,
    rows: u32,
}

impl Load {
    pub(crate) fn new(shape: Shape) -> Result<Self> {
        ensure!(shape.records > 0 && shape.batch > 0, "give --records and --batch of at least 1");
        ensure!(!shape.events || (shape.batch == 1 && !shape.ids), "give --events --batch 1, and no --ids");
        let mut random = Rng::with_seed(shape.seed);
        let pool = pool(&mut random);
        let count = shape.runs.unwrap_or(shape.records / 500).max(1);
        let apart = WEEK / i64::try_from(count)?;
        let runs = (0..i64::try_from(count)?)
            .map(|n| {
                let started = Timestamp::from_microsecond(START + n * apart)?;
                Ok(Run {
                    id: format!("{}_{:06x}", started.strftime("%Y%m%d_%H%M%S"), random.u32(..0x0100_0000)),
                    system: SYSTEMS[random.usize(..SYSTEMS.len())].0,
                    stage: STAGES[random.usize(..STAGES.len())],
                    host: format!("node-{:02}", random.u8(..64)),
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { shape, pool, runs })
    }

    pub(crate) fn batches(&self) -> u64 {
        self.shape.records.div_ceil(self.shape.batch)
    }

    pub(crate) fn records(&self) -> u64 {
        self.shape.records
    }

    /// How many records there are in a batch.
    pub(crate) fn len(&self, batch: u64) -> u64 {
        self.shape.batch.min(self.shape.records - batch * self.shape.batch)
    }

    pub(crate) fn content_type(&self) -> &'static str {
        if self.shape.batch == 1 { "application/json" } else { "application/x-ndjson" }
    }

    /// A run from the middle, for a question about one run.
    pub(crate) fn sample_run(&self) -> &str {
        &self.runs[self.runs.len() / 2].id
    }

    /// The body of a batch.
    pub(crate) fn batch(&self, batch: u64) -> Result<Bytes> {
        let mut random = Rng::with_seed(self.shape.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(batch + 1));
        let first = batch * self.shape.batch;
        let mut body = Vec::with_capacity(usize::try_from(self.len(batch))? * 400);
        let mut message = String::with_capacity(512);
        for n in first..first + self.len(batch) {
            self.record(n, &mut random, &mut message, &mut body)?;
        }
        Ok(body.into())
    }

    fn record(&self, n: u64, random: &mut Rng, message: &mut String, body: &mut Vec<u8>) -> Result<()> {
        let all = self.runs.len() as u64;
        let run = (n * all / self.shape.records + random.u64(..ALIVE)).min(all - 1);
        let run = &self.runs[usize::try_from(run)?];
        let line = &self.pool[random.usize(..self.pool.len())];
        redrawn(&line.message, message, random);
        if n % NEEDLE_EVERY == NEEDLE_EVERY / 2 {
            message.push_str(&format!(" needle{n:010x}"));
        }
        let step = (WEEK / i64::try_from(self.shape.records)?).max(1);
        let at = Timestamp::from_microsecond(START + i64::try_from(n)? * step + random.i64(0..step))?;
        let dice = random.usize(..100);
        let record = Record {
            id: self.shape.ids.then(|| {
                let milliseconds = u64::try_from(at.as_millisecond()).unwrap_or_default();
                let mut bytes = [0; 10];
                random.fill(&mut bytes);
                uuid::Builder::from_unix_timestamp_millis(milliseconds, &bytes).into_uuid().to_string()
            }),
            timestamp: format!("{at:.6}"),
            source_system: run.system,
            stage: run.stage,
            run_id: &run.id,
            r#type: TYPES.iter().find(|(below, _)| dice < *below).map_or("info", |(_, name)| name),
            level: line.level,
            logger_name: &line.logger,
            message,
            hostname: &run.host,
            metadata: Metadata { attempt: random.u8(1..4), rows: random.u32(..100_000) },
        };
        if self.shape.events {
            serde_json::to_writer(&mut *body, &Event::from(&record))?;
        } else {
            serde_json::to_writer(&mut *body, &record)?;
        }
        body.push(b'\n');
        Ok(())
    }
}
