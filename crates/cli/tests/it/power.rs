//! Power cuts of the whole server under load: journal, flushes, compaction and their log on one disk that stops between any
//! two writes. Owns the cuts; `kills` owns the load, `oracle` judges what is left. Needs root, as mounting does.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Server, runstone, stderr, stdout, until};
use crate::kills::{self, Sender, is_ready, torn_tails};
use crate::lake::{Settings, in_the_lake, metric, position, ready, signal};
use crate::machine::Machine;
use crate::oracle::{self, Random};

const CUTS: usize = 20;
/// Several, so that groups of several requests are cut, too.
const SENDERS: u64 = 4;
/// Between an answer and a sender's next batch: reading them all back takes long in a dev build.
const PAUSE: Duration = Duration::from_millis(8);
/// How often everything is flushed and compacted, beside the timers.
const UPKEEP_PERIOD: Duration = Duration::from_millis(150);

/// Reads a data directory to its end, without a server, and without repairing anything.
fn verify(dir: &TempDir) -> Value {
    let output = runstone().args(["verify", "--json", "--data"]).arg(dir.path().join("data")).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

/// Stops a process where it is. Whichever of its threads is in the kernel does not come back from there.
fn halt(server: &Server) {
    signal(server, Signal::STOP);
    let status = || std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    while !status().contains("State:\tT") {
        std::thread::yield_now();
    }
}

/// What a server said of its lake before the power was cut.
struct Said {
    /// Up to where its records are there.
    position: u64,
    merged: f64,
}

/// Loads a server that compacts as fast as it can, then cuts the power.
fn load_and_cut(server: Server, senders: &mut [Sender], machine: &Machine, time: Duration) -> (TempDir, Said) {
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    std::thread::scope(|scope| {
        let (stop, stopped) = sync_channel::<()>(0);
        let asking = scope.spawn(move || {
            while stopped.recv_timeout(UPKEEP_PERIOD) == Err(RecvTimeoutError::Timeout) {
                kill_process(pid, Signal::USR1).unwrap();
            }
        });
        kills::load(server, senders, time, |server| {
            let merged = metric(&server, "runstone_lake_merged_files_total");
            let said = Said { position: position(&server), merged };
            // A machine without power runs nothing. Here the process would go on, and a sync that is under way when the
            // file system is shut down may succeed without having written anything.
            halt(&server);
            machine.cut();
            // Not after its process is gone: the number may be another's then.
            drop(stop);
            asking.join().unwrap();
            (server.kill(), said)
        })
    })
}

#[test]
fn power_cuts_under_load_lose_nothing_and_double_nothing() {
    let mut random = Random::seeded("power cuts");
    let mut dir = TempDir::new().unwrap();
    let Some(machine) = Machine::new(dir.path().join("data"), 256) else { return };
    machine.mount();
    let settings = Settings::new("journal:\n  segment_bytes: 1MiB\n");
    let mut senders: Vec<Sender> = (0..SENDERS).map(|number| Sender::paced(number, &mut random, PAUSE)).collect();
    let mut merged = 0.0;
    for cut in 0..CUTS {
        let server = settings.start(dir);
        until("it is ready", || is_ready(&server));
        assert!(torn_tails(&server) <= 1, "start {cut}: {}", server.printed());
        let time = Duration::from_millis(300 + random.below(900));
        let (left, said) = load_and_cut(server, &mut senders, &machine, time);
        (dir, merged) = (left, merged + said.merged);
        machine.unmount();
        machine.mount();
        // Before anybody repairs anything: the table is whole, and says what the journal says.
        let report = verify(&dir);
        assert_eq!(report["compared_records"], report["same_records"], "cut {cut}: {report}");
        // The journal could heal a lake that forgets, but it may have been trimmed.
        assert!(report["lake_records"].as_u64().unwrap() >= said.position, "cut {cut}: {} {report}", said.position);
    }
    assert!(merged > 0.0, "nothing was compacted");
    let server = settings.start(dir);
    let batches = kills::settle(&mut senders, &server);
    let last = ready(&server).json()["durable_position"].as_u64().unwrap();
    in_the_lake(&server, last);
    assert_eq!(oracle::check(server.url(), &batches).len() as u64, last);
    assert_eq!(metric(&server, "runstone_lake_records"), last as f64);
    let acknowledged = batches.iter().filter(|batch| batch.acknowledged).count();
    println!("{last} records; of {} batches {acknowledged} acknowledged; {merged} files merged", batches.len());
    assert!(acknowledged > CUTS, "the load was no load");
    let (code, dir) = server.terminate();
    assert_eq!(code, Some(0));
    let report = verify(&dir);
    assert_eq!((&report["lake_records"], &report["same_records"]), (&last.into(), &last.into()), "{report}");
    machine.unmount();
}
