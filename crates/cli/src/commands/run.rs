//! `runstone run`: a command and what it does, as one run.
//!
//! The command comes first: it is run whether or not the server can be reached, is never held up by it, and its exit code is
//! ours. Its output passes through as it comes.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use runstone_record::time::format_micros;
use runstone_sdk::{Defaults, Record, RecordError};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::{client, new_run_id};
use crate::args::Global;
use crate::clock;
use crate::failure::SIGNALLED;
use crate::input::{Chunk, Converted, Item, LINE_BYTES_MAX, Splitter, fit};
use crate::lines::{Formats, LineParser, LineRecord, Zone};
use crate::sender::{Sender, pump};
use crate::talk::Talk;

/// Reads that wait for the server. When it is full, lines pass through but are not kept: the command must not wait.
const QUEUE_CHUNKS: usize = 1_024;
const READ_BYTES: usize = 16 << 10;
const DEADLINE: Duration = Duration::from_secs(10);
/// After the command has ended, for its output to end: something that it left running may hold it open.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(2);
/// Exit codes of a shell for a command that cannot be run, or is not there.
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runstone run --source-system shop --stage load -- ./load.sh --full
  runstone run --source-system ci -- cargo test

Sends a start record, each line of the command's output as it comes, and at the end a result (exit code, duration), success
or error, and an end record. Exits with the command's code: 127 if there is no such command, 128 + N after signal N.
A line's timestamp is when it came; a time that it carries is kept in metadata.line_time.")]
pub(crate) struct Run {
    /// The system that runs
    #[arg(long, value_name = "NAME")]
    source_system: String,
    /// The stage
    #[arg(long, value_name = "NAME")]
    stage: Option<String>,
    /// The run's id [default: a new one, printed on stderr]
    #[arg(long, value_name = "ID")]
    run_id: Option<String>,
    /// The run's title [default: the command]
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// When the command has ended, wait at most so long for a server that does not answer
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    wait: u64,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// What the threads around the command share.
#[derive(Clone)]
struct Log {
    /// Weak: something that the command left running may keep its output open, but not the run.
    out: mpsc::WeakSender<Chunk>,
    formats: Arc<Formats>,
    defaults: Defaults,
    title: String,
    lines: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
}

pub(crate) async fn run(args: Run, global: &Global) -> anyhow::Result<ExitCode> {
    let talk = Talk::plain();
    let client = client(global, DEADLINE, &talk)?;
    let run_id = args.run_id.clone().map_or_else(new_run_id, Ok)?;
    talk.say(format_args!("run id {run_id}"));
    let (out, chunks) = mpsc::channel(QUEUE_CHUNKS);
    let log = Log::new(&args, &run_id, out.downgrade())?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let (ended, mut end) = oneshot::channel();
    let child = start(&args, log, out, ended);

    let mut sender = Sender::new(client, true, talk.clone());
    let mut sending = Box::pin(pump(&mut sender, chunks));
    let mut sent = None;
    let code = loop {
        tokio::select! {
            code = &mut end => break code.context("wait for the command")?,
            outcome = &mut sending, if sent.is_none() => sent = Some(outcome),
            // A terminal sends Ctrl-C to the command too: it decides, we wait for it.
            _ = interrupt.recv() => {}
            _ = terminate.recv() => if let Some(child) = child {
                let _ = rustix::process::kill_process(child, rustix::process::Signal::TERM);
            },
        }
    };
    if sent.is_none() {
        sent = tokio::time::timeout(Duration::from_secs(args.wait), sending).await.ok();
    }
    match sent {
        Some(Ok(())) => {}
        Some(Err(error)) => talk.say(format_args!("the log of this run is not complete: {error}")),
        None => talk.say("the log of this run is not complete: the server could not be reached"),
    }
    Ok(ExitCode::from(code))
}

impl Log {
    fn new(args: &Run, run_id: &str, out: mpsc::WeakSender<Chunk>) -> anyhow::Result<Log> {
        let host = rustix::system::uname();
        let mut defaults = Defaults::default().with("run_id", run_id).with("source_system", &args.source_system);
        if let Some(stage) = &args.stage {
            defaults = defaults.with("stage", stage);
        }
        defaults = defaults.with("hostname", &host.nodename().to_string_lossy());
        let words: Vec<_> = args.command.iter().map(|word| word.to_string_lossy()).collect();
        Ok(Log {
            out,
            formats: Arc::new(Formats::compile()?),
            defaults,
            title: args.title.clone().unwrap_or_else(|| words.join(" ")),
            lines: Arc::default(),
            lost: Arc::default(),
        })
    }

    /// Records of the run itself.
    fn events(&self, events: &[Value]) -> Chunk {
        chunk("run", events.iter().map(|event| Item { line: 0, converted: self.event(event) }).collect())
    }

    /// Lines of the command's output. Without room in the queue, or after the end, they are only counted.
    fn lines(&self, source: &str, items: Vec<Item>) {
        let count = items.len() as u64;
        self.lines.fetch_add(count, Ordering::Relaxed);
        let kept = count == 0 || self.out.upgrade().is_some_and(|out| out.try_send(chunk(source, items)).is_ok());
        if !kept {
            self.lost.fetch_add(count, Ordering::Relaxed);
        }
    }

    fn event(&self, event: &Value) -> Result<Converted, String> {
        let record = Record::from_value_or(event, &self.defaults);
        let converted = record.map(|record| Converted { record, cut_bytes: 0 });
        converted.map_err(|error: RecordError| error.to_string())
    }
}

fn chunk(source: &str, items: Vec<Item>) -> Chunk {
    Chunk { source: source.into(), bytes: 0, items, failed: None }
}

fn now() -> String {
    format_micros(clock::now().as_microsecond())
}

/// Starts the command and the threads that watch it; `ended` gets its exit code, and `out` is dropped after the last
/// record. Gives back the command's process, for signals.
fn start(args: &Run, log: Log, out: mpsc::Sender<Chunk>, ended: oneshot::Sender<u8>) -> Option<rustix::process::Pid> {
    let begin = Instant::now();
    let spawned = std::process::Command::new(&args.command[0])
        .args(&args.command[1..])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let pid = spawned.as_ref().ok().map(Child::id);
    let started = json!({
        "timestamp": now(), "type": "start", "title": log.title, "message": format!("run {}", log.title), "process_id": pid,
    });
    std::thread::spawn(move || {
        let _ = out.blocking_send(log.events(&[started]));
        let outcome = spawned.and_then(|child| watch(child, &log));
        let code = exit_code(&outcome);
        let events = ending(&log, &outcome, code, begin.elapsed());
        // The exit code does not wait for room in the queue.
        let _ = ended.send(code);
        let _ = out.blocking_send(log.events(&events));
    });
    pid.and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()))
}

/// Passes the command's output through until both have ended.
fn watch(mut child: Child, log: &Log) -> io::Result<ExitStatus> {
    let (open, closed) = sync_channel::<()>(0);
    if let Some(stdout) = child.stdout.take() {
        pass("stdout", stdout, io::stdout(), log.clone(), open.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        pass("stderr", stderr, io::stderr(), log.clone(), open.clone());
    }
    drop(open);
    let status = child.wait()?;
    // Ends when both threads have dropped their side.
    let _ = closed.recv_timeout(OUTPUT_PATIENCE);
    Ok(status)
}

/// One stream of the command's output: to our own and into the log.
fn pass(
    name: &'static str,
    mut from: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
    log: Log,
    open: SyncSender<()>,
) {
    std::thread::spawn(move || {
        let mut stream = Stream::new(name, log);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(bytes) => {
                    // Whoever read our output may be gone: the command and its log go on.
                    let _ = to.write_all(&buffer[..bytes]).and_then(|()| to.flush());
                    stream.feed(&buffer[..bytes]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        stream.finish();
        drop(open);
    });
}

/// Turns one stream into records.
struct Stream {
    name: &'static str,
    log: Log,
    defaults: Defaults,
    parser: LineParser,
    splitter: Splitter,
    line: u64,
}

impl Stream {
    fn new(name: &'static str, log: Log) -> Stream {
        let parser = LineParser::new(Arc::clone(&log.formats), Zone::UTC);
        let defaults = log.defaults.clone().with("type", "log");
        Stream { name, log, defaults, parser, splitter: Splitter::new(LINE_BYTES_MAX), line: 0 }
    }

    fn feed(&mut self, bytes: &[u8]) {
        let mut lines = Vec::new();
        self.splitter.feed(bytes, |line, dropped| lines.push((line.to_vec(), dropped)));
        self.take(lines);
    }

    fn finish(&mut self) {
        let mut lines = Vec::new();
        self.splitter.finish(|line, dropped| lines.push((line.to_vec(), dropped)));
        self.take(lines);
    }

    fn take(&mut self, lines: Vec<(Vec<u8>, u64)>) {
        let mut items = Vec::new();
        for (line, dropped) in lines {
            self.line += 1;
            if let Some(record) = self.parser.parse(&String::from_utf8_lossy(&line), clock::now()) {
                let converted = fit(live(record, self.name), dropped, &self.defaults);
                items.push(Item { line: self.line, converted });
            }
        }
        self.log.lines(self.name, items);
    }
}

/// A line that was printed just now. Its own time may be coarse or in another zone, and would tear it from its run.
fn live(mut record: LineRecord, stream: &str) -> LineRecord {
    let inherited = record.metadata.contains_key("continuation");
    if let (Some(time), false) = (record.timestamp, inherited) {
        record.metadata.insert("line_time".to_owned(), format_micros(time.as_microsecond()).into());
    }
    if stream == "stderr" {
        record.metadata.insert("stream".to_owned(), stream.into());
    }
    record.timestamp = Some(clock::now());
    record
}

fn exit_code(outcome: &io::Result<ExitStatus>) -> u8 {
    match outcome {
        Ok(status) => {
            let code = status.code().or_else(|| status.signal().map(|signal| SIGNALLED + signal));
            code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => NOT_FOUND,
        Err(_) => CANNOT_RUN,
    }
}

/// The result, success or error, and end records.
fn ending(log: &Log, outcome: &io::Result<ExitStatus>, code: u8, took: Duration) -> Vec<Value> {
    let duration = took.as_secs_f64();
    let (succeeded, how) = match outcome {
        Ok(status) => (status.success(), format!("{status}")),
        Err(error) => (false, format!("cannot be run: {error}")),
    };
    if let Err(error) = outcome {
        Talk::plain().say(format_args!("run {}: {error}", log.title));
    }
    let mut metadata = json!({"exit_code": code, "lines": log.lines.load(Ordering::Relaxed)});
    let lost = log.lost.load(Ordering::Relaxed);
    if lost > 0 {
        metadata["lines_not_kept"] = lost.into();
        Talk::plain().say(format_args!("{lost} lines are not in the log: the server was too slow or away"));
    }
    let status = if succeeded { "success" } else { "failed" };
    let level = if succeeded { "INFO" } else { "ERROR" };
    let verdict = if succeeded { "success" } else { "error" };
    let message = format!("{}: {how}", log.title);
    vec![
        json!({"timestamp": now(), "type": "result", "level": level, "status": status, "duration": duration,
            "message": format!("{how} after {duration:.1} s"), "metadata": metadata}),
        json!({"timestamp": now(), "type": verdict, "title": log.title, "message": message}),
        json!({"timestamp": now(), "type": "end", "message": "end"}),
    ]
}
