//! From an error to an exit code and a line on stderr.

use std::io::{self, Write};
use std::process::ExitCode;

use runstone_sdk::ClientError;

use crate::output::{escape, is_gone};

/// Nothing is wrong.
const DONE: u8 = 0;
/// Something was refused, failed or is damaged.
pub(crate) const FAILED: u8 = 1;
/// The command line, or a file it names, is wrong.
pub(crate) const USAGE: u8 = 2;
/// There is no server to talk to.
pub(crate) const UNREACHABLE: u8 = 3;
/// A shell adds the number of the signal that ended a command.
pub(crate) const SIGNALLED: i32 = 128;

/// The command line asks for something that cannot be.
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) String);

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// What was asked for by its name is not there.
#[derive(Debug)]
pub(crate) struct NotFound(pub(crate) String);

impl std::fmt::Display for NotFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotFound {}

/// A signal ended what was under way.
#[derive(Debug)]
pub(crate) struct Stopped(pub(crate) i32);

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stopped by a signal before the end")
    }
}

impl std::error::Error for Stopped {}

/// Says what went wrong and why, and chooses the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let code = code(error);
    if code == DONE {
        return ExitCode::SUCCESS;
    }
    let message = escape(&error.to_string()).into_owned();
    let cause = escape(&error.root_cause().to_string()).into_owned();
    // The links between are the HTTP library's: only the first and the last help.
    let because = if message.contains(&cause) { String::new() } else { format!("\n  because: {cause}") };
    let _ = writeln!(io::stderr(), "error: {message}{because}");
    ExitCode::from(code)
}

fn code(error: &anyhow::Error) -> u8 {
    // Whoever read our output has seen enough: `| head`. No other pipe is ours to be silent about.
    if error.chain().any(is_gone) {
        return DONE;
    }
    if let Some(Stopped(signal)) = error.downcast_ref::<Stopped>() {
        return u8::try_from(SIGNALLED + signal).unwrap_or(FAILED);
    }
    let client = error.chain().find_map(|cause| cause.downcast_ref::<ClientError>());
    match client {
        Some(ClientError::Url { .. } | ClientError::Filter { .. }) => USAGE,
        Some(client) if client.is_unreachable() => UNREACHABLE,
        Some(_) => FAILED,
        None if error.is::<UsageError>() => USAGE,
        None => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    fn code_of(error: impl std::error::Error + Send + Sync + 'static) -> u8 {
        code(&anyhow::Error::new(error).context("send a batch"))
    }

    #[test]
    fn a_pipe_that_breaks_is_a_failure_unless_it_is_our_output() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(code_of(broken()), FAILED);
        let printed: io::Result<()> = Err(broken());
        let printed = crate::output::marked(printed).context("print").unwrap_err();
        assert_eq!(code(&printed), 0);
        assert_eq!(code_of(UsageError("no".to_owned())), USAGE);
        assert_eq!(code_of(Stopped(2)), 130);
    }
}
