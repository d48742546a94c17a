//! A disk whose power can be cut: an ext4 on a loop device that is shut down without its journal being flushed (the ioctl
//! `EXT4_IOC_SHUTDOWN`). Owns the disk; refuses to say when. Needs root, as mounting does. The tests of the whole server
//! use this file too, so it names nothing of this crate.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Shuts down one file system for each line that it reads, and says when it is done: `EXT4_IOC_SHUTDOWN` with
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`, for which Rust needs unsafe code.
const SWITCH: &str = "import fcntl, os, struct, sys\n\
                      for line in sys.stdin:\n\
                      \x20   disk = os.open(line.rstrip('\\n'), os.O_RDONLY)\n\
                      \x20   fcntl.ioctl(disk, 0x8004587d, struct.pack('I', 2))\n\
                      \x20   os.close(disk)\n\
                      \x20   print('cut', flush=True)\n";

/// A file system of its own, and where it is mounted.
#[derive(Debug)]
pub(crate) struct Machine {
    /// What is on it: copied and put back, it is as it was.
    pub(crate) image: PathBuf,
    mounted: PathBuf,
    switch: Mutex<Switch>,
}

#[derive(Debug)]
struct Switch {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// An error where the program cannot be run; one that fails fails the test.
fn run(program: &str, args: &[&str]) -> std::io::Result<()> {
    let done = Command::new(program).args(args).output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {args:?} (mounting needs root and loop devices): {said}");
    Ok(())
}

/// Shown at the end of `make test`.
fn skip(why: &str) {
    let _ = writeln!(std::io::stdout(), "skipped: {why}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

impl Machine {
    /// A new disk of so many MiB, to be mounted at a directory; its image lies beside it. None, with a word, where this user
    /// may not mount a file, or there is no program that makes a disk.
    pub(crate) fn new(mounted: PathBuf, mebibytes: u64) -> Option<Self> {
        let image = mounted.with_extension("image");
        std::fs::create_dir_all(&mounted).unwrap();
        File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        let made = run("mkfs.ext4", &["-q", "-O", "^has_journal", text(&image)])
            // With a journal after all, and a small one: a mount replays it in no time.
            .and_then(|()| run("tune2fs", &["-J", "size=4", "-O", "has_journal", text(&image)]));
        if made.is_err() {
            skip("there is no mkfs.ext4 and tune2fs that can be run");
            return None;
        }
        let mut mount = Command::new("mount");
        let mount = mount.args(["-o", "loop"]).args([&image, &mounted]).stderr(Stdio::null()).status();
        if !mount.is_ok_and(|status| status.success()) {
            skip("this user may not mount a file as a disk");
            return None;
        }
        run("umount", &[text(&mounted)]).unwrap();
        Some(Self { image, mounted, switch: Mutex::new(Switch::new()) })
    }

    /// Metadata may overtake data, and nothing is written for us when a file is renamed.
    pub(crate) fn mount(&self) {
        let options = "loop,data=writeback,noauto_da_alloc,commit=300";
        run("mount", &["-o", options, text(&self.image), text(&self.mounted)]).unwrap();
    }

    pub(crate) fn unmount(&self) {
        run("umount", &[text(&self.mounted)]).unwrap();
    }

    /// No page that is only in memory reaches the disk after this, and every later call fails.
    pub(crate) fn cut(&self) {
        self.switch.lock().unwrap_or_else(PoisonError::into_inner).cut(&self.mounted);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Only after a failed test is it still mounted.
        let _ = Command::new("umount").arg("-l").arg(&self.mounted).output();
    }
}

impl Switch {
    fn new() -> Self {
        let mut process = Command::new("python3")
            .args(["-c", SWITCH])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("python3 cuts the power: {error}"));
        let (orders, answers) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { process, orders, answers: BufReader::new(answers) }
    }

    fn cut(&mut self, mounted: &Path) {
        let mut answer = String::new();
        writeln!(self.orders, "{}", text(mounted)).unwrap();
        self.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer, "cut\n", "the power was not cut");
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
