//! A history: clients, a server that dies and comes back, its disk, its clock and its sink. What happens next is drawn
//! from one seed; what happened is written down, and what is found must be what was promised.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runstone_journal::Health;
use runstone_journal::fs::sim::{Crash, Fault, Op, SimFs};
use runstone_record::run::RunFold;
use runstone_record::{Batch, Column};
use serde_json::Value;

use super::clients::{Clients, Record};
use super::dice::Dice;
use super::life::{Empty, Life};
use super::model::{Commit, Model};
use crate::clock::ManualClock;
use crate::relay::Step;

/// 2026-11-01T00:00:00Z, in microseconds.
const BASE: i64 = 1_793_491_200_000_000;
const HOUR: i64 = 3_600_000_000;
const SECOND: i64 = 1_000_000;
/// More than these are not sent while none is answered.
const IN_FLIGHT_MAX: usize = 16;

const OPS: [Op; 8] = [Op::Write, Op::Sync, Op::Allocate, Op::Create, Op::Rename, Op::SyncDir, Op::SetLen, Op::Remove];
const FAULTS: [Fault; 8] = [
    Fault::Io,
    Fault::NoSpace,
    Fault::Quota,
    Fault::TooLarge,
    Fault::Interrupted,
    Fault::TooManyFiles,
    Fault::Denied,
    Fault::Short(100),
];

pub(super) struct World {
    dice: Dice,
    fs: SimFs,
    clock: Arc<ManualClock>,
    model: Model,
    clients: Clients,
    life: Option<Life>,
    empty: Empty,
    runs_file: PathBuf,
    trims: u64,
    first_available: u64,
    /// What happened, in order.
    pub(super) history: Vec<String>,
}

impl World {
    pub(super) fn new(seed: u64, empty: Empty, dir: &Path) -> Self {
        Self {
            dice: Dice::new(seed),
            fs: SimFs::new(seed),
            clock: Arc::new(ManualClock::new(BASE)),
            model: Model::default(),
            clients: Clients::default(),
            life: None,
            empty,
            runs_file: dir.join("runs"),
            trims: 0,
            first_available: 1,
            history: Vec::new(),
        }
    }

    fn note(&mut self, what: impl Into<String>) {
        self.history.push(what.into());
    }

    pub(super) async fn live(&mut self, steps: u64) {
        for _ in 0..steps {
            self.start();
            self.step().await;
            self.mourn();
        }
        // However it went, a healthy disk and a start make it whole.
        self.kill(Crash::Kill);
        self.fs.heal();
        self.fs.set_capacity(None);
        self.start();
        self.look().await;
        self.send().await;
        self.write().await;
        self.look().await;
        assert_eq!(self.clients.in_flight(), 0, "a healthy server answers");
        self.kill(Crash::Kill);
    }

    /// Starts a server where there is none. A disk that refuses is healed sooner or later.
    fn start(&mut self) {
        let mut tries = 0;
        while self.life.is_none() {
            let begun = Life::begin(&self.fs, &self.clock, &mut self.dice, &self.model, &self.empty, &self.runs_file);
            match begun {
                Ok(life) => {
                    let (first, durable) = (life.journal.first_available(), life.journal.durable());
                    self.note(format!("start: {first} to {durable}"));
                    self.life = Some(life);
                    self.forgotten(first);
                }
                Err(error) => {
                    self.note(format!("start: {error}"));
                    tries += 1;
                    assert!(tries < 100, "it does not start on a healthy disk: {error}");
                    self.fs.restart(Crash::Kill);
                    self.fs.heal();
                    if tries > 2 {
                        self.fs.set_capacity(None);
                    }
                }
            }
        }
    }

    async fn step(&mut self) {
        match self.dice.below(100) {
            0..=24 => self.send().await,
            25..=29 => self.repeat().await,
            30..=54 => self.write().await,
            55..=62 => self.relay(|life| life.to_recent.step(), "recent"),
            63..=70 => self.relay(|life| life.to_runs.step(), "runs"),
            71..=78 => self.relay(|life| life.to_model.step(), "model"),
            79..=83 => self.commit(),
            84..=85 => self.trim(),
            86 => self.save_runs(),
            87..=88 => self.break_the_disk(),
            89 => self.fs.heal(),
            90 => self.fill_the_disk(),
            91 => self.fs.set_capacity(None),
            92..=93 => self.turn_the_clock(),
            94..=95 => self.look().await,
            96 => {
                let at = self.dice.below(12) + 1;
                self.note(format!("crash at change {at} from here"));
                self.fs.crash_at(at);
            }
            97 => self.close().await,
            _ => {
                let crash = self.crash();
                self.note(format!("die: {crash:?}"));
                self.kill(crash);
            }
        }
    }

    fn crash(&mut self) -> Crash {
        if self.dice.percent(40) { Crash::Kill } else { Crash::Power(self.dice.roll()) }
    }

    /// What the disk did to the server: it died in the middle of a change, or gave up.
    fn mourn(&mut self) {
        let gave_up = self.life.as_ref().is_some_and(|life| matches!(life.journal.health(), Health::Failed(_)));
        if self.fs.has_crashed() {
            let crash = self.crash();
            self.note(format!("crashed: {crash:?}"));
            self.kill(crash);
        } else if gave_up {
            self.note("gave up");
            self.kill(Crash::Kill);
        }
    }

    fn kill(&mut self, crash: Crash) {
        self.clients.hang_up();
        self.life = None;
        self.fs.restart(crash);
        // The saved runs are worth nothing more than the time to make them again.
        match self.dice.below(8) {
            0 => drop(std::fs::remove_file(&self.runs_file)),
            1 => {
                if let Ok(mut bytes) = std::fs::read(&self.runs_file) {
                    let at = usize::try_from(self.dice.below(bytes.len() as u64)).unwrap_or(0);
                    bytes[at] ^= 1 << self.dice.below(8);
                    std::fs::write(&self.runs_file, bytes).unwrap();
                }
            }
            _ => {}
        }
    }

    async fn close(&mut self) {
        let Some(life) = self.life.take() else { return };
        self.note("close");
        // Answers first: then nothing waits any more.
        let closed = life.journal.close().is_ok() & life.writer.end().is_ok();
        settle().await;
        self.hear();
        self.note(format!("closed: {closed}"));
        self.clients.hang_up();
        if self.fs.has_crashed() {
            let crash = self.crash();
            self.fs.restart(crash);
        }
    }

    async fn send(&mut self) {
        if self.clients.in_flight() < IN_FLIGHT_MAX {
            let now = crate::clock::Clock::now_micros(&*self.clock);
            let n = self.clients.compose(&mut self.dice, now, self.trims);
            self.begin(n).await;
        }
    }

    async fn repeat(&mut self) {
        if let Some(n) = self.clients.repeatable(&mut self.dice, self.trims) {
            self.begin(n).await;
        }
    }

    async fn begin(&mut self, n: usize) {
        let Some(life) = &self.life else { return };
        let ((parsed, key), intake) = (self.clients.parsed(n), life.intake.clone());
        let task = tokio::spawn(async move {
            if let Some(key) = &key
                && let Some(taken) = intake.begin(key).await?
            {
                return Ok(taken);
            }
            intake.take(parsed, key).await
        });
        self.clients.begin(n, task);
        self.note(format!("send {n}"));
        settle().await;
        self.hear();
    }

    async fn write(&mut self) {
        let Some(life) = &mut self.life else { return };
        life.writer.step();
        settle().await;
        self.hear();
    }

    /// Clients hear what they are told, unless the machine died meanwhile.
    fn hear(&mut self) {
        for (n, task) in self.clients.answered() {
            let answer = futures::FutureExt::now_or_never(task).and_then(Result::ok);
            let Some(answer) = answer.filter(|_| !self.fs.has_crashed()) else { continue };
            self.clients.note(n, &answer);
            let told = match &answer {
                Ok(taken) => format!("{:?}", taken.answer),
                Err(error) => error.to_string(),
            };
            self.note(format!("answer {n}: {told}"));
        }
    }

    fn relay(&mut self, step: impl FnOnce(&mut Life) -> Step, name: &str) {
        if let Some(life) = &mut self.life {
            let step = step(life);
            self.note(format!("{name}: {step:?}"));
        }
    }

    fn commit(&mut self) {
        let how = match self.dice.below(10) {
            0..=1 => Commit::Fails,
            2..=3 => Commit::LosesItsAnswer,
            _ => Commit::Lands,
        };
        if let Some(life) = &mut self.life {
            life.commit(how);
            let cursor = life.landed();
            self.note(format!("commit: {how:?}, through {cursor}"));
        }
    }

    fn trim(&mut self) {
        let Some(life) = &mut self.life else { return };
        // What is known to have landed, and read from there.
        let done = life.journal.trim(life.recent.stats().settled).is_ok();
        let first = life.journal.first_available();
        self.note(format!("trim: {done}, from {first} on"));
        self.forgotten(first);
    }

    /// The journal begins here. One that died in a trim may have got on with it.
    fn forgotten(&mut self, first: u64) {
        if first > self.first_available {
            self.first_available = first;
            self.trims += 1;
        }
    }

    fn save_runs(&mut self) {
        if let Some(life) = &mut self.life {
            life.save_runs();
        }
    }

    fn break_the_disk(&mut self) {
        let (op, fault) = (*self.dice.pick(&OPS).unwrap(), *self.dice.pick(&FAULTS).unwrap());
        let (pass, times) = (self.dice.below(4), self.dice.below(3) + 1);
        self.note(format!("after {pass}, {times} of {op:?}: {fault:?}"));
        self.fs.fail(op, pass, times, fault);
    }

    fn fill_the_disk(&mut self) {
        let room = usize::try_from(self.dice.below(6_000)).unwrap_or(0);
        self.note(format!("room for {room} bytes more"));
        self.fs.set_capacity(Some(self.fs.used() + room));
    }

    fn turn_the_clock(&mut self) {
        let by = match self.dice.below(4) {
            0 => -HOUR,
            1 => 10 * 365 * 24 * HOUR,
            _ => 5 * SECOND,
        };
        let now = self.clock.advance(by);
        if now > BASE + 100 * 365 * 24 * HOUR {
            self.clock.set(BASE);
        }
    }

    /// What is found is what was promised.
    async fn look(&mut self) {
        let Some(life) = &mut self.life else { return };
        life.catch_up();
        let cursor = life.recent.stats().settled;
        let mut found = rows_of(&life.sql).await;
        let model: Vec<_> = self.model.between(0, cursor);
        for (first, batch) in &model {
            for row in 0..batch.len() {
                let mut json = Vec::new();
                batch.write_json(row, "", first + row as u64, &mut json);
                let json: Value = serde_json::from_slice(&json).unwrap();
                found.push((first + row as u64, Found::of(&json)));
            }
        }
        found.sort_by_key(|(position, _)| *position);
        let (mut seen, mut ids) = (BTreeSet::new(), BTreeSet::new());
        for (next, (position, Found { id, message, record })) in (1_u64..).zip(&found) {
            assert_eq!(*position, next, "a gap, or a record twice: {message}");
            assert!(ids.insert(id), "the id {id} twice");
            let number: u64 = message.strip_prefix("record ").unwrap().parse().unwrap();
            assert!(seen.insert(number), "{message} is there twice");
            let sent = self.clients.sent(number).unwrap_or_else(|| panic!("nobody sent {message}"));
            let id = sent.id.is_some().then(|| id.clone());
            assert_eq!(*sent, Record { id, ..record.clone() }, "{message}");
        }
        let lost: Vec<_> = self.clients.acknowledged.difference(&seen).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        let there: Vec<_> = self.clients.refused.intersection(&seen).collect();
        assert!(there.is_empty(), "refused, and there all the same: {there:?}");
        let frames = self.life.as_ref().map(|life| life.frames_after(cursor)).unwrap_or_default();
        self.compare_runs(model.iter().chain(&frames));
        self.note(format!("look: {} records, {} in the model", found.len(), model.len()));
    }

    fn compare_runs<'a>(&self, batches: impl Iterator<Item = &'a (u64, Batch)>) {
        let Some(life) = &self.life else { return };
        let mut folds: BTreeMap<String, RunFold> = BTreeMap::new();
        for (first, batch) in batches {
            for row in 0..batch.len() {
                let run = batch.text(Column::RunId, row).unwrap_or_default();
                folds.entry(run.to_owned()).or_default().add(batch, row, first + row as u64);
            }
        }
        assert_eq!(life.runs.len(), folds.len());
        for (run, fold) in folds {
            assert_eq!(life.runs.get(&run), Some(fold.body(&run)), "{run}");
        }
    }
}

/// Lets every task go as far as it can.
async fn settle() {
    for _ in 0..24 {
        tokio::task::yield_now().await;
    }
}

/// A record as it was found.
struct Found {
    id: String,
    message: String,
    record: Record,
}

impl Found {
    fn of(json: &Value) -> Self {
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        let (run_id, kind) = (text("run_id"), text("type"));
        let record = Record { id: None, run_id, kind, timestamp: text("timestamp"), title: text("title") };
        Self { id: text("id"), message: text("message"), record }
    }
}

async fn rows_of(sql: &runstone_store::Sql) -> Vec<(u64, Found)> {
    let columns = "position, id, message, run_id, type, timestamp, title";
    let answer = sql.query(format!("SELECT {columns} FROM logs").as_str()).await.unwrap().into_body();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    let row = |row: &Value| (row["position"].as_u64().unwrap(), Found::of(row));
    answer["rows"].as_array().unwrap().iter().map(row).collect()
}
