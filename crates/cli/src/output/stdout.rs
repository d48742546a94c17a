//! Our standard output. Owns telling whether its reader has gone (`| head`) from every other pipe that breaks, the network's
//! among them.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};

/// Whoever read our output has seen enough.
#[derive(Debug)]
struct Gone;

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write to standard output: its reader has gone")
    }
}

impl Error for Gone {}

/// Did it fail because our reader has gone?
pub(crate) fn is_gone(error: &(dyn Error + 'static)) -> bool {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    inner.is_some_and(<dyn Error + Send + Sync>::is::<Gone>)
}

/// Marks the error of a pipe that our reader has closed.
pub(crate) fn marked<T>(written: io::Result<T>) -> io::Result<T> {
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => io::Error::new(io::ErrorKind::BrokenPipe, Gone),
        _ => error,
    })
}

/// Writes to standard output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        marked(io::stdout().lock().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        marked(io::stdout().lock().flush())
    }
}
