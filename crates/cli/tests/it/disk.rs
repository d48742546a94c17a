//! No space, no file size, no descriptors, no sync: nothing is acknowledged that is not on disk, reading goes on, and so
//! does writing once the trouble is over, without a restart.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Client, JSON, connect};
use crate::damage::segments;
use crate::harness::{Answer, Server, until, write};
use crate::kills::torn_tails;
use crate::oracle::{self, Batch, Random};
use crate::system_calls::{can_trace, trace};

/// How soon writing goes on when the trouble is over.
const RECOVERY_DEADLINE: Duration = Duration::from_secs(10);

fn limit(server: &Server, resource: Resource, limit: Option<u64>) {
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap());
    let maximum = getrlimit(resource).maximum;
    prlimit(pid, resource, Rlimit { current: limit.or(maximum), maximum }).unwrap();
}

/// One batch, new each time: large enough for a few to fill something.
fn make(random: &mut Random) -> Batch {
    let token = format!("batch {}", random.next());
    let mut record = oracle::record(random, 5, &token);
    record.insert("id".to_owned(), Value::from(random.uuid()));
    record.insert("exception".to_owned(), Value::from(random.next().to_string().repeat(2_000)));
    Batch { records: vec![record], key: None, acknowledged: false, positions: None }
}

fn send(client: &mut Client, batch: &mut Batch) -> Answer {
    let answer = client.post(&[JSON], Value::from(batch.records[0].clone()).to_string().as_bytes()).unwrap();
    batch.acknowledged |= answer.status == 200;
    answer
}

/// Sends until the disk is full, which must not take more than `most`.
fn send_until_full(client: &mut Client, random: &mut Random, batches: &mut Vec<Batch>, most: usize) -> Answer {
    for _ in 0..most {
        let mut batch = make(random);
        let answer = send(client, &mut batch);
        batches.push(batch);
        if answer.status != 200 {
            return answer;
        }
    }
    panic!("{most} batches were taken");
}

pub(crate) fn is_full(answer: &Answer) {
    assert_eq!((answer.status, answer.json()["error"].as_str()), (503, Some("disk_full")), "{answer:?}");
    assert!(answer.headers.to_ascii_lowercase().contains("retry-after:"), "{answer:?}");
}

/// While it cannot write it can read, and says how it is.
pub(crate) fn reads_go_on(client: &mut Client, batches: &[Batch], status: &str) {
    let acknowledged = batches.iter().filter(|batch| batch.acknowledged).count();
    assert!(oracle::walk(client, "order=oldest").len() >= acknowledged);
    let counted = oracle::rows(client, "SELECT count(*) AS n FROM logs");
    assert!(counted[0]["n"].as_u64().unwrap() >= acknowledged as u64);
    assert_eq!(client.get("/health").unwrap().status, 200);
    assert_eq!(client.get("/metrics").unwrap().status, 200);
    let ready = client.get("/ready").unwrap();
    assert_eq!((ready.status, ready.json()["status"].as_str()), (503, Some(status)), "{ready:?}");
}

/// Sends everything again that was refused, as a client does, until it is taken.
pub(crate) fn goes_on(client: &mut Client, batches: &mut [Batch]) {
    let begun = Instant::now();
    for batch in batches.iter_mut().filter(|batch| !batch.acknowledged) {
        while send(client, batch).status != 200 {
            assert!(begun.elapsed() < RECOVERY_DEADLINE, "it takes nothing: {:?}", begun.elapsed());
        }
    }
    assert_eq!(client.get("/ready").unwrap().status, 200);
}

#[test]
fn at_its_file_size_limit_the_server_says_disk_full_and_goes_on_when_it_may() {
    let mut random = Random::seeded("file size");
    let server = Server::start();
    let mut client = Client::new(server.url());
    let mut batches: Vec<Batch> = (0..5).map(|_| make(&mut random)).collect();
    batches.iter_mut().for_each(|batch| assert_eq!(send(&mut client, batch).status, 200));
    for limited in [2_048, 100, 20_000] {
        limit(&server, Resource::Fsize, Some(limited));
        for _ in 0..3 {
            is_full(&send_until_full(&mut client, &mut random, &mut batches, 10));
        }
        reads_go_on(&mut client, &batches, "disk_full");
        limit(&server, Resource::Fsize, None);
        goes_on(&mut client, &mut batches);
    }
    let batches: Vec<Batch> = batches;
    oracle::check(server.url(), &batches);
    let server = Server::start_in(server.kill(), &[]);
    oracle::check(server.url(), &batches);
}

/// A file system of its own, unmounted when dropped.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// None where this user may not mount.
    pub(crate) fn new(at: &Path, bytes: usize) -> Option<Mounted> {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={bytes}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then(|| Mounted(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a server that a failing test leaves behind may still hold it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn on_a_full_disk_the_server_says_so_and_goes_on_when_there_is_space() {
    let mut random = Random::seeded("full disk");
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let Some(_mounted) = Mounted::new(&data, 16 << 20) else {
        println!("skipped: this user may not mount a small file system");
        return;
    };
    let folder = TempDir::new().unwrap();
    let config = write(folder.path(), "runstone.yml", "journal:\n  segment_bytes: 1MiB\n");
    let flags = ["--config", config.to_str().unwrap()];
    let server = Server::start_in(dir, &flags);
    let mut client = Client::new(server.url());
    let mut batches: Vec<Batch> = (0..5).map(|_| make(&mut random)).collect();
    batches.iter_mut().for_each(|batch| assert_eq!(send(&mut client, batch).status, 200));
    let filler = data.join("filler");
    let fill = || {
        let mut file = File::create(&filler).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    };
    for _ in 0..2 {
        fill();
        is_full(&send_until_full(&mut client, &mut random, &mut batches, 500));
        reads_go_on(&mut client, &batches, "disk_full");
        fs::remove_file(&filler).unwrap();
        goes_on(&mut client, &mut batches);
    }
    // Killed on a full disk, it starts on a full disk: to be read.
    fill();
    is_full(&send_until_full(&mut client, &mut random, &mut batches, 500));
    let server = Server::start_in(server.kill(), &flags);
    assert!(torn_tails(&server) <= 1, "{}", server.printed());
    let mut client = Client::new(server.url());
    assert!(!oracle::walk(&mut client, "order=oldest").is_empty());
    fs::remove_file(&filler).unwrap();
    goes_on(&mut client, &mut batches);
    oracle::check(server.url(), &batches);
    drop(server.kill());
}

#[test]
fn without_descriptors_a_client_is_served_beside_a_crowd_that_waits() {
    let mut random = Random::seeded("descriptors");
    let server = Server::start();
    let mut client = Client::new(server.url());
    let mut batches = vec![make(&mut random)];
    assert_eq!(send(&mut client, &mut batches[0]).status, 200);
    let open = fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
    limit(&server, Resource::Nofile, Some(open as u64 + 2));
    let address = server.url().trim_start_matches("http://");
    let crowd: Vec<_> = (0..50).map(|_| connect(address).unwrap()).collect();
    until("connections are refused for want of descriptors", || server.printed().contains("accept connections"));
    // The one that has waited longest makes room for the next: nobody waits for ever.
    batches.push(make(&mut random));
    let body = Value::from(batches[1].records[0].clone()).to_string();
    until("a client beside the crowd is served", || {
        Client::new(server.url()).post(&[JSON], body.as_bytes()).is_ok_and(|answer| answer.status == 200)
    });
    batches[1].acknowledged = true;
    drop(crowd);
    until("the crowd's places are free", || Client::new(server.url()).get("/health").is_ok());
    limit(&server, Resource::Nofile, None);
    oracle::check(server.url(), &batches);
    assert!(!server.printed().contains("panicked"), "{}", server.printed());
}

#[test]
fn a_segment_that_cannot_be_opened_for_want_of_descriptors_is_a_503_that_passes() {
    let mut random = Random::seeded("no new segment");
    let folder = TempDir::new().unwrap();
    let config = write(folder.path(), "runstone.yml", "journal:\n  segment_bytes: 1MiB\n");
    let server = Server::start_with(&["--config", config.to_str().unwrap()]);
    let mut client = Client::new(server.url());
    let mut batches = vec![make(&mut random)];
    assert_eq!(send(&mut client, &mut batches[0]).status, 200);
    limit(&server, Resource::Nofile, Some(3));
    let answer = send_until_full(&mut client, &mut random, &mut batches, 200);
    assert_eq!((answer.status, answer.json()["error"].as_str()), (503, Some("unavailable")), "{answer:?}");
    assert_eq!(client.get("/ready").unwrap().status, 503);
    limit(&server, Resource::Nofile, None);
    goes_on(&mut client, &mut batches);
    oracle::check(server.url(), &batches);
    assert!(!server.printed().contains("panicked"), "{}", server.printed());
}

/// Lets syncs of a server fail from outside: `when` as strace(1) has it.
fn fail_syncs(server: &Server, when: &str) -> Child {
    trace(&server.pid().to_string(), &["-f"], "fdatasync", &format!("error=EIO:when={when}"))
}

#[test]
fn after_a_failed_sync_the_next_segment_goes_on() {
    if !can_trace() {
        return;
    }
    let mut random = Random::seeded("sync");
    let server = Server::start();
    let mut client = Client::new(server.url());
    let mut batches = vec![make(&mut random)];
    assert_eq!(send(&mut client, &mut batches[0]).status, 200);
    let mut tracer = fail_syncs(&server, "1");
    for _ in 0..5 {
        let mut batch = make(&mut random);
        // The one that meets the failed sync, too: it is answered when it is durable in the next segment.
        let answer = send(&mut client, &mut batch);
        assert_eq!(answer.status, 200, "{answer:?}");
        batches.push(batch);
        assert_eq!(client.get("/ready").unwrap().status, 200);
    }
    assert_eq!(segments(&server.data()).len(), 2, "the first is never synced again");
    tracer.kill().unwrap();
    tracer.wait().unwrap();
    oracle::check(server.url(), &batches);
    let server = Server::start_in(server.kill(), &[]);
    assert_eq!(torn_tails(&server), 0, "{}", server.printed());
    oracle::check(server.url(), &batches);
}

#[test]
fn after_a_second_failed_sync_the_server_ends_and_has_acknowledged_nothing_that_is_lost() {
    if !can_trace() {
        return;
    }
    let mut random = Random::seeded("syncs");
    let mut server = Server::start();
    let mut client = Client::new(server.url());
    let mut batches: Vec<Batch> = (0..3).map(|_| make(&mut random)).collect();
    assert_eq!(send(&mut client, &mut batches[0]).status, 200);
    let mut tracer = fail_syncs(&server, "1+");
    let answer = send(&mut client, &mut batches[1]);
    assert_eq!((answer.status, answer.json()["error"].as_str()), (503, Some("unavailable")), "{answer:?}");
    assert_eq!(server.wait(), Some(1), "{}", server.printed());
    tracer.wait().unwrap();
    let server = Server::start_in(server.kill(), &[]);
    assert!(torn_tails(&server) <= 1, "{}", server.printed());
    goes_on(&mut Client::new(server.url()), &mut batches);
    oracle::check(server.url(), &batches);
}
