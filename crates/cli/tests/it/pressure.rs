//! A server that may use 256 MiB and no more, and is asked for all that it can be asked for at once: it says no before the
//! system takes its life. Owns the control group; `oracle` judges what is left.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::park_timeout;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::client::{Client, JSON, NDJSON};
use crate::harness::{Answer, Server, is_soaked, runstone_under, say, until};
use crate::lake::signal;
use crate::oracle::{self, Batch, Random};

const LIMIT: u64 = 256 << 20;
const CLIENTS: u64 = 8;
/// Between two tries of a client that was refused.
const PAUSE: Duration = Duration::from_millis(50);

/// What each of its readers asks for, over and over.
const HEAVY: [&str; 4] = [
    "SELECT message, exception, count(*) AS n FROM logs GROUP BY message, exception ORDER BY n DESC",
    "SELECT a.id FROM logs a JOIN logs b ON a.message = b.message ORDER BY a.exception DESC, b.message LIMIT 10",
    "SELECT level, array_agg(message) AS messages FROM logs GROUP BY level",
    "SELECT * FROM logs ORDER BY exception, metadata LIMIT 1000",
];

/// A control group of memory, taken away when dropped: its processes have to be gone by then.
struct Group {
    path: PathBuf,
    /// Where the kernel counts whom it killed.
    events: PathBuf,
}

impl Group {
    /// Of either version. The first has it under the group that this process is in, the second beside that: a group with
    /// processes of its own gives no memory to others below it. `None`: this user may not make one.
    fn new(limit: u64) -> Option<Group> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let under = |start: &str| {
            let line = own.lines().find_map(|line| line.split_once(':')?.1.strip_prefix(start))?;
            Some(line.trim_start_matches('/').to_owned())
        };
        let beside = |group: String| Some(Path::new(&group).parent()?.to_str()?.to_owned());
        let versions = [
            (under("memory:"), "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.oom_control"),
            (under(":").and_then(beside), "/sys/fs/cgroup", "memory.max", "memory.events"),
        ];
        versions.into_iter().find_map(|(own, mounted, file, events)| {
            let path = Path::new(mounted).join(own?).join(format!("runstone-test-{}", std::process::id()));
            fs::create_dir(&path).ok()?;
            // What cannot have a limit is taken away again.
            let group = Group { events: path.join(events), path };
            fs::write(group.path.join(file), limit.to_string()).ok()?;
            group.events.exists().then_some(group)
        })
    }

    /// A server in it, with the settings that it finds by itself.
    fn start(&self, dir: TempDir) -> Server {
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo $$ > \"$1\" && shift && exec \"$@\"", "sh"]).arg(self.path.join("cgroup.procs"));
        let mut command = runstone_under(shell);
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        Server::launch(dir, command).unwrap_or_else(|dead| panic!("the server printed no URL:\n{}", dead.printed()))
    }

    fn killed(&self) -> u64 {
        let events = fs::read_to_string(&self.events).unwrap();
        let line = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.unwrap_or_else(|| panic!("nothing is counted: {events}")).parse().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}

/// Many small records, or few large ones: up to the largest body that is taken.
fn batch(random: &mut Random) -> Batch {
    let (records, noise) = *random.pick(&[(1_000, 0), (500, 8), (30, 14_000)]);
    let record = |random: &mut Random| {
        let token = format!("pressure {:016x}{:016x}", random.next(), random.next());
        let mut record = oracle::record(random, 20, &token);
        record.insert("id".to_owned(), random.uuid().into());
        if noise > 0 {
            let noise: String = (0..noise).map(|_| format!("{:016x}", random.next())).collect();
            record.insert("exception".to_owned(), noise.into());
        }
        record
    };
    Batch { records: (0..records).map(|_| record(random)).collect(), key: None, acknowledged: false, positions: None }
}

fn is_refusal(answer: &Answer) -> bool {
    matches!(answer.status, 429 | 503)
}

/// Sends batches until each is taken. Gives them and how often they were refused.
fn send(url: &str, mut random: Random, count: usize) -> (Vec<Batch>, usize) {
    let (mut client, mut refusals) = (Client::new(url), 0);
    let mut batches = Vec::new();
    for _ in 0..count {
        let mut batch = batch(&mut random);
        let line = |record| format!("{}\n", serde_json::Value::Object(record));
        let body: String = batch.records.iter().cloned().map(line).collect();
        while !batch.acknowledged {
            match client.post(&[NDJSON], body.as_bytes()) {
                Ok(answer) if is_refusal(&answer) => refusals += 1,
                Ok(answer) => {
                    assert_eq!(answer.status, 200, "{answer:?}");
                    batch.acknowledged = true;
                }
                // Who is refused while it still sends may lose its connection.
                Err(error) => assert!(is_reset(&error), "{error}"),
            }
            if !batch.acknowledged {
                park_timeout(PAUSE);
            }
        }
        batches.push(batch);
    }
    (batches, refusals)
}

fn is_reset(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// Asks for much until it is told to end. Gives the answers' codes.
fn ask(url: &str, sql: &str, ends: &AtomicBool) -> Vec<u16> {
    let mut codes = Vec::new();
    let body = serde_json::json!({ "sql": sql }).to_string();
    while !ends.load(Ordering::Relaxed) {
        match Client::new(url).request("POST", "/api/v1/query", &[JSON], body.as_bytes()) {
            Ok(answer) => codes.push(answer.status),
            Err(error) => assert!(is_reset(&error), "{error}"),
        }
    }
    codes
}

#[test]
fn with_little_memory_a_server_refuses_before_it_is_killed() {
    let mut random = Random::seeded("memory pressure");
    let Some(group) = Group::new(LIMIT) else {
        return say("skipped: this user may not make a control group of memory");
    };
    let server = group.start(TempDir::new().unwrap());
    let ends = AtomicBool::new(false);
    let count = if is_soaked() { 20 } else { 4 };
    let (batches, refusals, codes) = std::thread::scope(|scope| {
        let readers = HEAVY.map(|sql| scope.spawn(|| ask(server.url(), sql, &ends)));
        let client = |_| {
            let random = Random(random.next());
            scope.spawn(|| send(server.url(), random, count))
        };
        let clients: Vec<_> = (0..CLIENTS).map(client).collect();
        let (mut batches, mut refusals) = (Vec::new(), 0);
        for client in clients {
            let (sent, refused) = client.join().unwrap();
            batches.extend(sent);
            refusals += refused;
            signal(&server, Signal::USR1);
        }
        ends.store(true, Ordering::Relaxed);
        (batches, refusals, readers.map(|reader| reader.join().unwrap()))
    });
    say(format_args!("{} batches, {refusals} refusals; answers to heavy queries: {codes:?}", batches.len()));
    assert_eq!(group.killed(), 0, "the system had to end it");
    assert!(refusals > 0, "nothing was too much");
    assert!(codes.iter().flatten().all(|code| [200, 400, 408, 422, 429, 503].contains(code)), "{codes:?}");
    until("it is ready", || server.http("GET", "/ready", &[], b"").status == 200);

    // What it left is read within the same bounds.
    let server = group.start(server.kill());
    oracle::check(server.url(), &batches);
    assert_eq!(group.killed(), 0, "the system had to end it");
    drop(server);
}
