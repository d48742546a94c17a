//! File systems that are read-only all of a sudden, and permissions that are taken from directories in use: nothing is
//! acknowledged that is not on disk, reading goes on, and so does writing once it may, by itself. Owns the mounts and the
//! modes; what full disks do is told in `disk` and `full`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::client::Client;
use crate::disk::{goes_on, reads_go_on};
use crate::full::send_until_refused;
use crate::harness::{Answer, Server, runstone_under, until};
use crate::kills::torn_tails;
use crate::lake::{Settings, in_the_lake, metric, ready};
use crate::machine::Machine;
use crate::oracle::{self, Batch, Random};
use crate::process::fill;

fn mount(options: &str, at: &Path) -> bool {
    let mut mount = Command::new("mount");
    mount.args(["-o", options]).arg(at).stderr(Stdio::null()).status().unwrap().success()
}

/// A directory whose mount is covered with itself, read-only. The kernel makes no mount read-only in which a file is open
/// for writing, as a segment always is: that one still takes what it has room for, and nothing else is made or changed.
struct Covered(PathBuf);

impl Covered {
    fn new(directory: &Path) -> Covered {
        let covered = Covered(directory.to_owned());
        let bound = Command::new("mount").arg("--bind").args([directory, directory]).status().unwrap();
        assert!(bound.success() && mount("remount,bind,ro", directory));
        covered
    }
}

impl Drop for Covered {
    fn drop(&mut self) {
        // Lazily: a reader may have a segment open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Records are refused, and may be sent again.
fn is_unavailable(answer: &Answer) {
    assert_eq!((answer.status, answer.json()["error"].as_str()), (503, Some("unavailable")), "{answer:?}");
    assert!(answer.headers.to_ascii_lowercase().contains("retry-after:"), "{answer:?}");
}

/// Everything is in the lake, once.
fn is_all_there(server: &Server, batches: &[Batch]) {
    let last = ready(server).json()["durable_position"].as_u64().unwrap();
    in_the_lake(server, last);
    until("it is ready", || ready(server).json()["status"] == "ready");
    assert_eq!(oracle::check(server.url(), batches).len() as u64, last);
    assert_eq!(metric(server, "runstone_lake_records"), last as f64);
    assert!(!server.printed().contains("panicked"), "{}", server.printed());
}

#[test]
fn on_a_disk_that_becomes_read_only_reading_goes_on_and_writing_when_it_may() {
    let mut random = Random::seeded("read-only");
    let (dir, lake) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (data, lake) = (dir.path().join("data"), lake.path().join("disk"));
    let (Some(disk), Some(lake_disk)) = (Machine::new(data.clone(), 32), Machine::new(lake.clone(), 16)) else {
        return;
    };
    disk.mount();
    lake_disk.mount();
    let settings = Settings::at(&lake.join("lake"), "journal:\n  segment_bytes: 1MiB\n");
    let server = settings.start(dir);
    let mut batches = fill(&server, &mut random, 10);
    in_the_lake(&server, 10);

    // The lake's disk: records wait in the journal. A flush in this moment has a file open.
    until("it is read-only", || mount("remount,ro", &lake));
    batches.extend(fill(&server, &mut random, 5));
    until("it is degraded", || ready(&server).json()["status"] == "degraded");
    let answer = ready(&server);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.json()["reason"].as_str().unwrap().contains("Read-only file system"), "{answer:?}");
    assert!(mount("remount,rw", &lake));
    is_all_there(&server, &batches);

    // The journal's.
    let covered = Covered::new(&data);
    let mut client = Client::new(server.url());
    is_unavailable(&send_until_refused(&mut client, &mut random, &mut batches));
    reads_go_on(&mut client, &batches, "unavailable");
    drop(covered);
    goes_on(&mut client, &mut batches);
    is_all_there(&server, &batches);

    // What an error in its metadata makes of an ext4: no file of it is written any more, open or not, until it is repaired.
    assert!(mount("remount,abort", &data));
    for _ in 0..3 {
        is_unavailable(&send_until_refused(&mut client, &mut random, &mut batches));
    }
    reads_go_on(&mut client, &batches, "unavailable");
    let dir = server.kill();
    disk.unmount();
    disk.mount();
    let server = settings.start(dir);
    assert!(torn_tails(&server) <= 1, "{}", server.printed());
    goes_on(&mut Client::new(server.url()), &mut batches);
    is_all_there(&server, &batches);
    drop(server.kill());
    disk.unmount();
    lake_disk.unmount();
}

/// All directories below one, itself included.
fn directories(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    for entry in fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(directories(&entry.path()));
        }
    }
    found
}

/// A server that permissions hold for, whoever runs the tests.
fn without_privilege(settings: &Settings, dir: TempDir) -> Result<Server, Server> {
    let mut command = if rustix::process::geteuid().is_root() {
        let mut program = Command::new("setpriv");
        program.arg("--bounding-set=-dac_override,-dac_read_search");
        runstone_under(program)
    } else {
        crate::harness::runstone()
    };
    command.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(&settings.path);
    Server::launch(dir, command)
}

#[test]
fn without_permission_to_make_files_reading_goes_on_and_writing_when_it_may() {
    let mut random = Random::seeded("permissions");
    let settings = Settings::new("journal:\n  segment_bytes: 1MiB\n");
    let dir = TempDir::new().unwrap();
    let server = without_privilege(&settings, dir).unwrap_or_else(|dead| panic!("{}", dead.printed()));
    let mut batches = fill(&server, &mut random, 10);
    in_the_lake(&server, 10);
    let mut client = Client::new(server.url());
    for mode in [0o500, 0] {
        // Parents come first: behind one that nobody may enter nothing is changed.
        let directories = directories(&server.data());
        let set = |path: &PathBuf, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        directories.iter().rev().for_each(|path| set(path, mode));
        is_unavailable(&send_until_refused(&mut client, &mut random, &mut batches));
        if mode == 0 {
            // What is to be read from a file is not to be had, and that passes too.
            let answer = client.sql("SELECT max(message) FROM logs").unwrap();
            assert_eq!((answer.status, answer.json()["retryable"].as_bool()), (503, Some(true)), "{answer:?}");
        } else {
            reads_go_on(&mut client, &batches, "unavailable");
        }
        until("the lake is degraded", || ready(&server).json()["lake"]["status"] == "degraded");
        assert_eq!(ready(&server).json()["status"], "unavailable");
        directories.iter().for_each(|path| set(path, 0o700));
        goes_on(&mut client, &mut batches);
        is_all_there(&server, &batches);
    }
    let server = settings.start(server.kill());
    oracle::check(server.url(), &batches);
}
