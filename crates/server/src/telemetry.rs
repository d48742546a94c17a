//! The server's own log, on stderr: for people on a terminal, one JSON object a line elsewhere. Owns its format and that
//! nothing a client sent can forge or hide a line; refuses to be a destination of records.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::Arc;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::clock::Clock;
use crate::config::{LogFormat, LogSettings};

/// The log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter of `log.level` is wrong.
    #[error("parse the log filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// A log was set up before.
    #[error("set up the log")]
    Twice(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Sets up the process's log and has panics written to it. To be called once, by `main`.
///
/// # Errors
/// The filter is wrong, or a log was set up before.
pub fn init(settings: &LogSettings, clock: Arc<dyn Clock>) -> Result<(), TelemetryError> {
    let filter = filter(&settings.level)?;
    let json = match settings.format {
        LogFormat::Json => true,
        LogFormat::Human => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_timer(Stamp(clock)).with_writer(Stderr);
    // It would tell of a closed or full stderr on stderr, which panics, and the hook below would log that: an abort.
    let log = log.log_internal_errors(false);
    // No colours: what the writer lets through has no escape sequences.
    let set = if json {
        log.json().flatten_event(true).with_span_list(false).try_init()
    } else {
        log.with_ansi(false).try_init()
    };
    set.map_err(TelemetryError::Twice)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// A filter as `log.level` spells it: a level, or `target=level` directives with commas between.
///
/// # Errors
/// It is neither.
pub fn filter(directives: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    match directives.trim() {
        "off" => EnvFilter::builder().parse(directives),
        // What comes later wins, so that naming them shows all they say.
        directives => EnvFilter::builder().parse(format!("{QUIET},{directives}")),
    }
}

/// Libraries that tell at `info` what only their own authors want to know.
const QUIET: &str = "buoyant_kernel=warn,buoyant_kernel_engine=warn,deltalake_core=warn";

fn log_panic(info: &PanicHookInfo<'_>) {
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let cause = info.payload_as_str().unwrap_or("a panic without a text");
    tracing::error!(location, cause, "panic");
}

/// Times from the one clock, as RFC 3339 with microseconds.
struct Stamp(Arc<dyn Clock>);

impl FormatTime for Stamp {
    fn format_time(&self, to: &mut Writer<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0.now_micros()) {
            Ok(now) => write!(to, "{now:.6}"),
            Err(_) => to.write_str("-"),
        }
    }
}

/// stderr, one whole line at a time.
struct Stderr;

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Escaped<io::StderrLock<'static>>;

    fn make_writer(&'a self) -> Self::Writer {
        Escaped(io::stderr().lock())
    }
}

/// Lets one line through, with every character that could move a cursor, start a line or turn text around written as
/// `\uXXXX`: the spelling of JSON, so that a JSON line keeps its meaning.
struct Escaped<W>(W);

impl<W: Write> Write for Escaped<W> {
    /// Takes a whole event, as the formatter writes it.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        if line.chars().any(is_unsafe) {
            self.0.write_all(escape(line).as_bytes())?;
        } else {
            self.0.write_all(line.as_bytes())?;
        }
        self.0.write_all(b"\n")?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn escape(line: &str) -> String {
    let mut escaped = String::with_capacity(line.len() + 16);
    for c in line.chars() {
        if is_unsafe(c) {
            escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Control characters, line and paragraph separators, and the controls of writing direction.
fn is_unsafe(c: char) -> bool {
    runstone_record::shown::acts(c) || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool, log: impl FnOnce()) -> String {
        let captured = Captured::default();
        let to = captured.clone();
        let base = tracing_subscriber::fmt()
            .with_timer(Stamp(Arc::new(ManualClock::new(1_736_771_696_789_012))))
            .with_env_filter(filter("debug").unwrap())
            .with_writer(move || Escaped(to.clone()));
        if json {
            tracing::subscriber::with_default(base.json().flatten_event(true).finish(), log);
        } else {
            tracing::subscriber::with_default(base.with_ansi(false).finish(), log);
        }
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    const FORGED: &str = "x\r\n2025-01-13T00:00:00Z ERROR forged\u{1b}[2J\u{9b}\u{202e}é";

    #[test]
    fn what_a_client_sent_stays_on_its_line_and_keeps_its_meaning() {
        let json = logged(true, || tracing::info!(path = FORGED, "answer"));
        assert_eq!(json.lines().count(), 1);
        assert!(!json.trim_end_matches('\n').chars().any(is_unsafe), "{json:?}");
        let event: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(event["path"], FORGED);
        assert_eq!(event["timestamp"], "2025-01-13T12:34:56.789012Z");
        assert_eq!(event["level"], "INFO");
    }

    #[test]
    fn people_see_escapes_and_no_second_line() {
        let human = logged(false, || tracing::info!(path = %FORGED, "answer"));
        assert_eq!(human.lines().count(), 1, "{human:?}");
        assert!(!human.trim_end_matches('\n').chars().any(is_unsafe), "{human:?}");
        assert!(human.starts_with("2025-01-13T12:34:56.789012Z  INFO"), "{human:?}");
        assert!(human.contains("\\u000a2025-01-13T00:00:00Z ERROR forged"), "{human:?}");
    }

    #[test]
    fn filters_are_levels_or_directives() {
        assert!(filter("debug").is_ok());
        assert!(filter("info,runstone_server::http=debug").is_ok());
        assert!(filter("http=loud").is_err());
    }
}
