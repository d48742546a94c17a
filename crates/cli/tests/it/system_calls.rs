//! A server killed before each of its system calls that change a file, while it opens, writes, turns to another segment,
//! flushes and stops: whatever was done and whatever was not, a start without help has what was acknowledged. Owns the
//! kills, which strace makes; `oracle` judges what is left.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::client::{Client, JSON};
use crate::disk::goes_on;
use crate::harness::{Server, is_soaked, runstone, runstone_under, say, stderr, until};
use crate::kills::{is_ready, torn_tails};
use crate::lake::{Settings, in_the_lake, large, metric, ready, signal};
use crate::oracle::{self, Batch, Random};

/// The calls, and about how many of each the busiest thread makes in one life; strace counts them in each thread alone.
const CALLS: [(&str, u64); 13] = [
    ("pwrite64", 18),
    ("fdatasync", 18),
    ("fsync", 10),
    ("rename", 5),
    ("openat", 60),
    ("write", 20),
    ("ftruncate", 3),
    ("fallocate", 2),
    ("linkat", 2),
    ("unlink", 3),
    ("mkdir", 3),
    ("rmdir", 1),
    ("flock", 1),
];
/// A call that is never made so often: counting ends there.
const CALLS_MAX: u64 = 400;
/// What is killed in a test run; the soak kills at every call.
const KILLS: usize = 30;
/// Lives in one directory: what the first ones make, the later ones find.
const LIVES: usize = 4;
/// Large batches of a life: together more than a segment.
const LARGE: usize = 12;

/// One directory through several lives, and what was sent to it.
struct World {
    settings: Settings,
    dir: Option<TempDir>,
    batches: Vec<Batch>,
    random: Random,
}

impl World {
    fn new(random: &mut Random) -> World {
        let journal = "journal:\n  segment_bytes: 1MiB\n  keep_bytes: 0\n  keep_ms: 0\n";
        let settings = Settings::new(&format!("{journal}lake:\n  flush_interval_ms: 1h\n  upkeep_interval_ms: 1h\n"));
        World { settings, dir: TempDir::new().ok(), batches: Vec::new(), random: Random(random.next()) }
    }

    /// One life, which ends before the n-th call of a kind in one of its threads. False: it made fewer, and stopped when
    /// it was asked to.
    fn live(&mut self, call: &str, n: u64) -> bool {
        let command = killed_at(call, n, &self.settings.path);
        let mut server = match Server::launch(self.dir.take().unwrap(), command) {
            Ok(server) => server,
            Err(mut dead) => {
                assert_eq!(dead.wait(), None, "{call} {n}: it ended, and was not killed: {}", dead.printed());
                self.dir = Some(dead.kill());
                return true;
            }
        };
        if self.work(&server).is_some() {
            // It may be killed while it stops, too.
            signal(&server, Signal::TERM);
        }
        let code = server.wait();
        assert!(code.is_none_or(|code| code == 0), "{call} {n}: {code:?}: {}", server.printed());
        self.dir = Some(server.kill());
        code.is_none()
    }

    /// None: it died.
    fn work(&mut self, server: &Server) -> Option<()> {
        let mut client = Client::new(server.url());
        for _ in 0..LARGE {
            let mut batch = large(&mut self.random);
            let body = serde_json::to_vec(&batch.records).unwrap();
            let answer = client.post(&[JSON], &body);
            batch.acknowledged = answer.as_ref().is_ok_and(|answer| answer.status == 200);
            self.batches.push(batch);
            assert!(answer.as_ref().map_or(true, |answer| answer.status == 200), "{answer:?}");
            answer.ok()?;
        }
        let last = lake(&mut client)?.0;
        signal(server, Signal::USR1);
        let flushed = std::cell::Cell::new(Some(()));
        until("it is in the lake", || match lake(&mut Client::new(server.url())) {
            Some((_, position)) => position >= last,
            None => {
                flushed.set(None);
                true
            }
        });
        flushed.get()
    }

    /// What is there after a start without help; then everything is sent again that has no answer, and something new.
    fn judge(&mut self, life: &str) {
        let server = self.settings.start(self.dir.take().unwrap());
        assert!(torn_tails(&server) <= 1, "{life}: {}", server.printed());
        assert!(!server.printed().contains("panicked"), "{life}: {}", server.printed());
        until("it is ready", || is_ready(&server));
        oracle::check(server.url(), &self.batches);
        self.batches.push(large(&mut self.random));
        goes_on(&mut Client::new(server.url()), &mut self.batches);
        self.dir = Some(server.kill());
    }

    /// All of it, in the lake and out of it.
    fn end(mut self) {
        let server = self.settings.start(self.dir.take().unwrap());
        until("it is ready", || is_ready(&server));
        let read = oracle::check(server.url(), &self.batches).len();
        assert!(self.batches.iter().any(|batch| batch.acknowledged), "nothing was ever acknowledged");
        signal(&server, Signal::USR1);
        in_the_lake(&server, ready(&server).json()["durable_position"].as_u64().unwrap());
        assert_eq!(metric(&server, "runstone_lake_records"), read as f64);
        assert_eq!(oracle::check(server.url(), &self.batches).len(), read);
        let (code, dir) = server.terminate();
        assert_eq!(code, Some(0));
        let mut verify = runstone();
        verify.arg("verify").arg("--config").arg(&self.settings.path).arg("--data").arg(dir.path().join("data"));
        let verify = verify.output().unwrap();
        assert_eq!(verify.status.code(), Some(0), "{}", stderr(&verify));
    }
}

/// The last durable position, and how far the lake is. None: nobody answers.
fn lake(client: &mut Client) -> Option<(u64, u64)> {
    let ready = client.get("/ready").ok()?.json();
    Some((ready["durable_position"].as_u64()?, ready["lake"]["position"].as_u64()?))
}

/// A server that dies before the n-th call of a kind. It is the parent's own child: strace stands aside.
fn killed_at(call: &str, n: u64, config: &Path) -> Command {
    let trace = format!("trace={call}");
    let inject = format!("inject={call}:signal=SIGKILL:when={n}");
    let mut strace = Command::new("strace");
    strace.args(["-D", "-f", "-qq", "-e", &trace, "-e", &inject, "-o", "/dev/null", "--"]);
    let mut command = runstone_under(strace);
    command.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(config);
    command
}

/// Has a call of a running process, or of one of its threads, tampered with, in the words of strace(1).
pub(crate) fn trace(id: &str, flags: &[&str], call: &str, inject: &str) -> Child {
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{inject}"));
    let mut strace = Command::new("strace");
    strace.args(flags).args(["-qq", "-e", &trace, "-e", &inject, "-o", "/dev/null", "-p", id]);
    let tracer = strace.stderr(Stdio::null()).spawn().unwrap();
    // A thread has a directory of its own there, though it is not listed.
    let status = || fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    until("it is traced", || status().contains("TracerPid:") && !status().contains("TracerPid:\t0"));
    tracer
}

/// May this user trace processes?
pub(crate) fn can_trace() -> bool {
    let mut strace = Command::new("strace");
    strace.args(["-D", "-f", "-qq", "-o", "/dev/null", "true"]).stderr(Stdio::null());
    let traces = strace.status().is_ok_and(|status| status.success());
    if !traces {
        say("skipped: there is no strace that may trace");
    }
    traces
}

/// Every call of every kind: the next one is counted until a life outlasts its kill.
fn kill_at_every_call(random: &mut Random) -> usize {
    let mut kills = 0;
    for (call, _) in CALLS {
        let mut world = World::new(random);
        // A new directory has other calls than one that is there: the first life is told twice.
        for lives in [1, LIVES] {
            let mut lived = 0;
            for n in 1..=CALLS_MAX {
                if lived == lives {
                    world.end();
                    (world, lived) = (World::new(random), 0);
                }
                if lives > 1 && lived == 0 {
                    world.live(call, CALLS_MAX);
                    lived += 1;
                }
                let is_killed = world.live(call, n);
                lived += 1;
                world.judge(&format!("{call} {n}"));
                kills += usize::from(is_killed);
                if !is_killed {
                    say(format_args!("{call}: {} calls of one thread, of {lives} lives", n - 1));
                    break;
                }
            }
            world.end();
            world = World::new(random);
        }
    }
    kills
}

fn kill_at_some_calls(random: &mut Random) -> usize {
    let mut world = World::new(random);
    let mut kills = 0;
    for life in 0..KILLS {
        if life % LIVES == 0 && life > 0 {
            world.end();
            world = World::new(random);
        }
        // Half of them at what the journal does most.
        let calls = if random.below(2) == 0 { &CALLS[..2] } else { &CALLS[..] };
        let (call, most) = *random.pick(calls);
        let n = 1 + random.below(most);
        let is_killed = world.live(call, n);
        say(format_args!("{call} {n}: {}", if is_killed { "killed" } else { "outlived" }));
        kills += usize::from(is_killed);
        world.judge(&format!("{call} {n}"));
    }
    world.end();
    kills
}

#[test]
fn a_kill_at_any_system_call_loses_nothing_and_doubles_nothing() {
    let mut random = Random::seeded("system calls");
    if !can_trace() {
        return;
    }
    let kills = if is_soaked() { kill_at_every_call(&mut random) } else { kill_at_some_calls(&mut random) };
    println!("{kills} kills");
    assert!(kills >= KILLS / 2, "{kills} kills");
}
