//! The options that choose records, and how many. Owns their names, which are those of the API's parameters.

use std::str::FromStr;

use clap::Args;
use jiff::Timestamp;
use runstone_sdk::LogsFilter;

use crate::when::When;

/// How many to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit(Option<usize>);

impl Limit {
    pub(crate) const fn of(count: usize) -> Limit {
        Limit(Some(count))
    }

    /// The number; none where all are wanted.
    pub(crate) fn count(self) -> Option<usize> {
        self.0
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Limit, String> {
        match text {
            "all" | "0" => Ok(Limit(None)),
            text => text.parse().map(Limit::of).map_err(|_| "give a number, or all".to_owned()),
        }
    }
}

/// `key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair(pub(crate) String, pub(crate) String);

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Pair, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Pair(key.to_owned(), value.to_owned())),
            _ => Err("give a key and its value: key=value".to_owned()),
        }
    }
}

/// Defines the options, one for each parameter of `GET /api/v1/logs` that compares a column.
macro_rules! log_filters {
    ($($(#[$doc:meta])* $field:ident, $name:literal, $value:literal, $heading:literal;)*) => {
        /// Which records. All conditions must hold.
        #[derive(Debug, Clone, Default, Args)]
        pub(crate) struct LogFilters {
            /// Only this level and graver ones: DEBUG, INFO, WARNING, ERROR, CRITICAL
            #[arg(long, value_name = "LEVEL", help_heading = "Filters")]
            level: Option<String>,
            /// Only this type: start, status, code, info, result, warning, error, success, end, log, activity
            #[arg(long = "type", value_name = "TYPE", help_heading = "Filters")]
            kind: Option<String>,
            /// Only records with all of these words and "phrases" in title, message or exception, in any case
            #[arg(short, long = "search", visible_alias = "q", value_name = "TEXT", allow_hyphen_values = true, help_heading = "Filters")]
            q: Option<String>,
            /// Only records whose metadata have this value under this key (a.b: b inside of a); may be given several times
            #[arg(long, value_name = "KEY=VALUE", help_heading = "Filters")]
            where_metadata: Vec<Pair>,
            $(
                $(#[$doc])*
                #[arg(long, value_name = $value, help_heading = $heading)]
                $field: Option<String>,
            )*
        }

        impl LogFilters {
            /// As the API takes them.
            pub(crate) fn filter(self) -> LogsFilter {
                let given = [("level", self.level), ("type", self.kind), ("q", self.q), $(($name, self.$field),)*];
                let given = given.into_iter().filter_map(|(name, value)| value.map(|value| (name.to_owned(), value)));
                let metadata = self.where_metadata.into_iter().map(|Pair(key, value)| (format!("metadata.{key}"), value));
                given.chain(metadata).fold(LogsFilter::new(), |filter, (name, value)| filter.with(&name, value))
            }
        }
    };
}

log_filters! {
    /// Only this system
    source_system, "source_system", "NAME", "Filters";
    /// Only this stage
    stage, "stage", "NAME", "Filters";
    /// Only this run
    run_id, "run_id", "ID", "Filters";
    /// Only this status
    status, "status", "STATUS", "Filters";
    /// Only systems of this environment, as the server's configuration says
    environment, "environment", "NAME", "Filters";
    /// Only systems of this owner
    owner, "owner", "NAME", "Filters";
    /// Only this logger
    logger_name, "logger_name", "NAME", "More filters";
    /// Only this entity
    entity_name, "entity_name", "NAME", "More filters";
    /// Only this target table
    target_table, "target_table", "NAME", "More filters";
    /// Only this notebook
    notebook_name, "notebook_name", "NAME", "More filters";
    /// Only this workspace
    workspace_id, "workspace_id", "ID", "More filters";
    /// Only this lakehouse
    lakehouse_id, "lakehouse_id", "ID", "More filters";
    /// Only this host
    hostname, "hostname", "NAME", "More filters";
    /// Only this thread
    thread_name, "thread_name", "NAME", "More filters";
    /// Only this trace
    trace_id, "trace_id", "HEX", "More filters";
    /// Only this span
    span_id, "span_id", "HEX", "More filters";
    /// Only this function
    function_name, "function_name", "NAME", "More filters";
    /// Only this module
    module, "module", "NAME", "More filters";
    /// Only this file name
    filename, "filename", "NAME", "More filters";
    /// Only this path
    pathname, "pathname", "PATH", "More filters";
    /// Only this record
    id, "id", "UUID", "More filters";
    /// Only what this journal took
    journal, "journal", "JOURNAL", "More filters";
}

/// Between which times.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Times {
    /// At this time or later: RFC 3339, or before now such as -15m, -2h, -7d, -1w
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) since: Option<When>,
    /// Before this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) until: Option<When>,
}

impl Times {
    /// `since` and `until`, where they are given.
    pub(crate) fn given(&self, now: Timestamp) -> impl Iterator<Item = (&'static str, String)> {
        let times = [("since", &self.since), ("until", &self.until)];
        times.into_iter().filter_map(move |(name, when)| when.as_ref().map(|when| (name, when.rfc3339(now))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_pairs() {
        assert_eq!("all".parse::<Limit>().unwrap().count(), None);
        assert_eq!("0".parse::<Limit>().unwrap().count(), None);
        assert_eq!("7".parse::<Limit>().unwrap().count(), Some(7));
        assert!("-1".parse::<Limit>().is_err());
        assert_eq!("a=b=c".parse::<Pair>().unwrap(), Pair("a".to_owned(), "b=c".to_owned()));
        assert!("=b".parse::<Pair>().is_err() && "a".parse::<Pair>().is_err());
    }
}
