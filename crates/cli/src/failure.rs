//! From an error to an exit code and a line on stderr.

use std::io::{self, Write};
use std::process::ExitCode;

use runstone_sdk::ClientError;

use crate::output::escape;

/// Something was refused, failed or is damaged.
pub(crate) const FAILED: u8 = 1;
/// The command line, or a file it names, is wrong.
pub(crate) const USAGE: u8 = 2;
/// There is no server to talk to.
pub(crate) const UNREACHABLE: u8 = 3;

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

/// Says what went wrong and why, and chooses the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    let message = escape(&error.to_string()).into_owned();
    let cause = escape(&error.root_cause().to_string()).into_owned();
    // The links between are the HTTP library's: only the first and the last help.
    let because = if message.contains(&cause) { String::new() } else { format!("\n  because: {cause}") };
    let _ = writeln!(io::stderr(), "error: {message}{because}");
    ExitCode::from(code(error))
}

fn code(error: &anyhow::Error) -> u8 {
    let client = error.chain().find_map(|cause| cause.downcast_ref::<ClientError>());
    match client {
        Some(ClientError::Url { .. } | ClientError::Filter { .. }) => USAGE,
        Some(client) if client.is_unreachable() => UNREACHABLE,
        Some(_) => FAILED,
        None if error.is::<UsageError>() => USAGE,
        None => FAILED,
    }
}

/// Whoever read our output has seen enough: `| head`.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
