//! Where output goes that is longer than the terminal: through a pager, as git does it. Owns when one is started and that it
//! is waited for; never one where stdout is no terminal.

use std::io::{self, IsTerminal, Write};
use std::process::{Child, Command, Stdio};

use crate::args::Global;

/// Writes go to the system in pieces of so many bytes.
const BUFFER_BYTES: usize = 64 << 10;
/// `less` ends by itself where all fits (F), shows colours (R) and leaves the text on the screen (X).
const LESS: &str = "FRX";

/// Stdout, or a pager before it.
pub(crate) struct Pager {
    buffer: Vec<u8>,
    /// The command, and how many lines are left until it is needed.
    wanted: Option<(String, usize)>,
    running: Option<Child>,
}

impl Pager {
    /// A pager where stdout is a terminal, once there are more lines than it has.
    pub(crate) fn new(global: &Global) -> Pager {
        let lines = || terminal_size::terminal_size().map(|(_, height)| usize::from(height.0));
        let wanted = (!global.no_pager && io::stdout().is_terminal()).then(|| command(global).zip(lines())).flatten();
        Pager { buffer: Vec::new(), wanted, running: None }
    }

    /// None, ever.
    pub(crate) fn none() -> Pager {
        Pager { buffer: Vec::new(), wanted: None, running: None }
    }

    /// Writes what is left and waits for the reader.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.wanted = None;
        self.flush()
    }

    /// Starts it. One that does not exist is done without.
    fn start(&mut self, command: &str) {
        // A pager lives on at Ctrl-C, and so must we, or the shell would take the terminal from it.
        let handler = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt());
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).stdin(Stdio::piped());
        if let Some(less) = unless_set("LESS", LESS) {
            shell.env("LESS", less);
        }
        // The handler stays once it is there.
        self.running = handler.and_then(|_| shell.spawn()).ok();
    }
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
        match self.running.as_mut().and_then(|child| child.stdin.as_mut()) {
            Some(pipe) => pipe.write_all(&bytes),
            None => {
                let mut out = io::stdout().lock();
                out.write_all(&bytes)?;
                out.flush()
            }
        }
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            // It sees the end of the text, and ends when its reader says so.
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}
