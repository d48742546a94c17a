//! Where output goes that is longer than the terminal: through a pager, as git does it. Owns when one is started, that it
//! is there and is waited for; never one where stdout is no terminal.

use std::io::{self, IsTerminal, Write};
use std::process::{Child, Command, Stdio};

use super::stdout::{Stdout, marked};
use crate::args::Global;

/// Writes go to the system in pieces of so many bytes.
const BUFFER_BYTES: usize = 64 << 10;
/// `less` ends by itself where all fits (F), shows colours (R) and leaves the text on the screen (X).
const LESS: &str = "FRX";
/// Exit codes of a shell for a command that cannot be run, or is not there.
const NOT_RUN: [i32; 2] = [126, 127];

/// Stdout, or a pager before it.
pub(crate) struct Pager {
    buffer: Vec<u8>,
    /// The command, and how many lines are left until it is needed.
    wanted: Option<(String, usize)>,
    running: Option<Running>,
}

/// A pager at work.
struct Running {
    command: String,
    child: Child,
}

/// Will output that is long go through a pager?
pub(crate) fn is_wanted(global: &Global) -> bool {
    !global.no_pager && io::stdout().is_terminal() && command(global).is_some()
}

impl Pager {
    /// A pager where stdout is a terminal, once there are more lines than it has.
    pub(crate) fn new(global: &Global) -> Pager {
        let lines = || terminal_size::terminal_size().map(|(_, height)| usize::from(height.0));
        let wanted = is_wanted(global).then(|| command(global).zip(lines())).flatten();
        Pager { buffer: Vec::new(), wanted, running: None }
    }

    /// None, ever.
    pub(crate) fn none() -> Pager {
        Pager { buffer: Vec::new(), wanted: None, running: None }
    }

    /// Writes what is left and waits for the reader.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.wanted = None;
        self.flush()?;
        self.running.take().map_or(Ok(()), Running::end)
    }

    /// Starts it. One that is not there is done without.
    fn start(&mut self, command: &str) {
        if !is_there(command) {
            return;
        }
        // A pager lives on at Ctrl-C, and so must we, or the shell would take the terminal from it.
        let handler = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt());
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).stdin(Stdio::piped());
        if let Some(less) = unless_set("LESS", LESS) {
            shell.env("LESS", less);
        }
        // The handler stays once it is there.
        let child = handler.and_then(|_| shell.spawn());
        self.running = child.ok().map(|child| Running { command: command.to_owned(), child });
    }
}

impl Running {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.child.stdin.as_mut().map_or(Ok(()), |pipe| marked(pipe.write_all(bytes)))
    }

    /// Waits until its reader has seen enough. What nothing has shown is an error.
    fn end(mut self) -> io::Result<()> {
        // It sees the end of the text, and ends when its reader says so.
        drop(self.child.stdin.take());
        match self.child.wait()?.code() {
            Some(code) if NOT_RUN.contains(&code) => {
                Err(io::Error::other(format!("show the output in a pager: it cannot be run: {}", self.command)))
            }
            _ => Ok(()),
        }
    }
}

/// Is the first word of a command one that the shell knows, or finds? The shell itself would start in any case, take all
/// that we write, and show none of it.
fn is_there(command: &str) -> bool {
    let is_assignment = |word: &&str| {
        let name = word.split_once('=').map_or("", |(name, _)| name);
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let Some(word) = command.split_ascii_whitespace().find(|word| !is_assignment(word)) else { return false };
    // What is more than a word, such as a quoted path, only the shell can read.
    if word.contains(|char: char| !char.is_alphanumeric() && !"/._-+~".contains(char)) {
        return true;
    }
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("command -v {word}")]);
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The pager's command: ours, the user's, `less`. Nothing, or `cat`, is none.
fn command(global: &Global) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "a convention among programs on a terminal, and no setting of ours")]
    let common = || std::env::var("PAGER").ok();
    let command = global.pager.clone().or_else(common).unwrap_or_else(|| "less".to_owned());
    (!command.trim().is_empty() && command.trim() != "cat").then_some(command)
}

#[expect(clippy::disallowed_methods, reason = "the pager's own setting, which the user's is not to lose")]
fn unless_set(name: &str, value: &'static str) -> Option<&'static str> {
    std::env::var_os(name).is_none().then_some(value)
}

impl Write for Pager {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if let Some((command, left)) = &mut self.wanted {
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
            // The prompt takes the last line.
            if lines < *left {
                *left -= lines;
                return Ok(bytes.len());
            }
            let command = std::mem::take(command);
            self.wanted = None;
            self.start(&command);
        }
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.wanted.is_some() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.buffer);
        let Some(running) = &mut self.running else {
            Stdout.write_all(&bytes)?;
            return Stdout.flush();
        };
        if let Err(gone) = running.write(&bytes) {
            // Its reader has seen enough, or it never was.
            self.running.take().map_or(Ok(()), Running::end)?;
            return Err(gone);
        }
        Ok(())
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        // What went wrong was told already, or is told by what ends us.
        let _ = self.running.take().map(Running::end);
    }
}
