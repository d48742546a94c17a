//! What is said on stderr while a command works: a progress line on a terminal, and whole lines that do not tear it.

use std::fmt::Display;
use std::io::{self, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::escape;

/// Speaks on stderr. Clones share the progress line.
#[derive(Debug, Clone)]
pub(crate) struct Talk(ProgressBar);

impl Talk {
    /// No progress line.
    pub(crate) fn plain() -> Talk {
        Talk(ProgressBar::hidden())
    }

    /// A progress line, if stderr is a terminal; `bytes` is what there is to read, where that is known.
    pub(crate) fn with_progress(bytes: Option<u64>) -> Talk {
        let (bar, template) = match bytes {
            Some(bytes) => (ProgressBar::new(bytes), "{bar:30} {bytes}/{total_bytes}  {msg}  {eta}"),
            None => (ProgressBar::new_spinner(), "{spinner} {bytes}  {msg}"),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Talk(bar)
    }

    /// A line. Control characters in it are shown, not obeyed.
    pub(crate) fn say(&self, line: impl Display) {
        let line = escape(&line.to_string()).into_owned();
        self.0.suspend(|| {
            let _ = writeln!(io::stderr(), "{line}");
        });
    }

    /// Moves the progress line.
    pub(crate) fn progress(&self, bytes: u64, message: impl Display) {
        if !self.0.is_hidden() {
            self.0.inc(bytes);
            self.0.set_message(message.to_string());
        }
    }

    /// Takes the progress line away.
    pub(crate) fn done(&self) {
        self.0.finish_and_clear();
    }
}
