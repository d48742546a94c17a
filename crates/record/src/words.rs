//! The closed lists of words: record types, levels, and the statuses that mean failure. Owns how clients'
//! spellings are mapped onto them.

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every word of the list, in order.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The word as it is stored.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }

            /// The entry of a stored word.
            #[must_use]
            pub fn from_text(text: &str) -> Option<Self> {
                match text { $($text => Some($name::$variant),)* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(self.as_str()) }
        }
    };
}

words! {
    /// What a record is.
    RecordType {
        /// A component or the run begins.
        Start = "start",
        /// Progress.
        Status = "status",
        /// Code was generated or changed.
        Code = "code",
        /// Something worth knowing.
        Info = "info",
        /// A task's result, with its artefacts.
        Result = "result",
        /// Not critical.
        Warning = "warning",
        /// A failure.
        Error = "error",
        /// The run's final success.
        Success = "success",
        /// A component or the run ends.
        End = "end",
        /// A plain log line.
        Log = "log",
        /// A stage's outcome.
        Activity = "activity",
    }
}

words! {
    /// How grave a record is, in rising order.
    Level {
        /// For whoever debugs.
        Debug = "DEBUG",
        /// Ordinary.
        Info = "INFO",
        /// Worth a look.
        Warning = "WARNING",
        /// Something failed.
        Error = "ERROR",
        /// Something failed that must not.
        Critical = "CRITICAL",
    }
}

impl RecordType {
    /// Reads a client's word, in any case.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        Self::from_text(text).or_else(|| Self::from_text(&text.to_ascii_lowercase()))
    }

    /// The level of a record that names none.
    #[must_use]
    pub fn level(self) -> Level {
        match self {
            RecordType::Error => Level::Error,
            RecordType::Warning => Level::Warning,
            _ => Level::Info,
        }
    }
}

impl Level {
    /// Reads a client's word: the five levels and their usual other names, in any case, and Python's numbers.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        Self::from_text(text).or_else(|| match text.to_ascii_lowercase().as_str() {
            "debug" | "trace" | "verbose" | "fine" | "finer" | "finest" | "notset" => Some(Level::Debug),
            "info" | "information" | "notice" => Some(Level::Info),
            "warning" | "warn" => Some(Level::Warning),
            "error" | "err" | "severe" => Some(Level::Error),
            "critical" | "crit" | "fatal" | "alert" | "emerg" | "emergency" | "panic" => Some(Level::Critical),
            other => other.parse().ok().map(Level::from_number),
        })
    }

    /// The level at or below a number of Python's `logging` (10 DEBUG, 20 INFO, 30 WARNING, 40 ERROR, 50 CRITICAL).
    #[must_use]
    pub fn from_number(number: i64) -> Self {
        match number {
            ..20 => Level::Debug,
            20..30 => Level::Info,
            30..40 => Level::Warning,
            40..50 => Level::Error,
            50.. => Level::Critical,
        }
    }
}

/// The statuses that close a run as failed, in lower case; clients' spellings differ in case and separators.
pub const FAILURE_STATUSES: &[&str] = &[
    "abort",
    "aborted",
    "canceled",
    "cancelled",
    "crash",
    "crashed",
    "error",
    "errored",
    "fail",
    "failed",
    "failure",
    "fatal",
    "internal_error",
    "killed",
    "out_of_memory",
    "stopped",
    "terminated",
    "timed_out",
    "timedout",
    "timeout",
    "upstream_failed",
];

/// Does an activity's status mean that it failed?
#[must_use]
pub fn is_failure_status(status: &str) -> bool {
    // The longest word of the list has fifteen letters: nothing longer needs the work.
    let status = status.trim();
    if status.len() > 16 {
        return false;
    }
    let word = status.to_ascii_lowercase().replace([' ', '-'], "_");
    FAILURE_STATUSES.binary_search(&word.as_str()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_mapped() {
        for (text, level) in [
            ("INFO", Level::Info),
            ("warn", Level::Warning),
            ("NOTICE", Level::Info),
            ("TRACE", Level::Debug),
            ("Fatal", Level::Critical),
            ("40", Level::Error),
            ("25", Level::Info),
            ("0", Level::Debug),
            ("99", Level::Critical),
            ("-1", Level::Debug),
        ] {
            assert_eq!(Level::read(text), Some(level), "{text}");
        }
        assert_eq!(Level::read("SUCCESS"), None);
    }

    #[test]
    fn failure_statuses_are_sorted_and_found_in_any_spelling() {
        assert!(FAILURE_STATUSES.is_sorted());
        for status in ["Failed", "FAILURE", "timed out", "Timed-Out", "TimedOut", " error ", "Out Of Memory"] {
            assert!(is_failure_status(status), "{status}");
        }
        for status in ["Success", "Succeeded", "ok", "", "failed partly and then recovered"] {
            assert!(!is_failure_status(status), "{status}");
        }
    }
}
