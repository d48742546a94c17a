//! What to read: the parameters of `GET /api/v1/logs` and `GET /api/v1/runs`. Owns their names on the wire; the server says
//! what they mean and refuses what is wrong.

use serde::{Serialize, Serializer};

/// In which order records are read, by their timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The latest first.
    Newest,
    /// The earliest first.
    Oldest,
}

impl Order {
    /// Its name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Order::Newest => "newest",
            Order::Oldest => "oldest",
        }
    }
}

/// Named values, each name once, in the order in which they were given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    pub(crate) fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, place)) => *place = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl Serialize for Params {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Defines a filter: a list of parameters with a method for each common one.
macro_rules! filter {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident = $wire:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub(crate) Params);

        impl $name {
            /// No filter.
            #[must_use]
            pub fn new() -> $name {
                $name::default()
            }

            /// Any parameter of the route, by its name in the API. The last of a name counts.
            #[must_use]
            pub fn with(mut self, name: &str, value: impl Into<String>) -> $name {
                self.0.set(name, value.into());
                self
            }

            $(
                $(#[$field_doc])*
                #[must_use]
                pub fn $field(self, value: impl Into<String>) -> $name {
                    self.with($wire, value)
                }
            )*

            /// The size of a page, 1 to 1,000; 100 unless set. A stream reads page after page: take as many as you want.
            #[must_use]
            pub fn limit(self, limit: usize) -> $name {
                self.with("limit", limit.to_string())
            }
        }
    };
}

filter! {
    /// Which records, newest first unless [`LogsFilter::order`] says otherwise. All conditions must hold.
    ///
    /// ```
    /// use runstone_sdk::{LogsFilter, Order};
    /// let failures = LogsFilter::new().source_system("shop").level("ERROR").since("-1h").order(Order::Oldest);
    /// ```
    LogsFilter {
        /// Of this system.
        source_system = "source_system",
        /// Of this stage.
        stage = "stage",
        /// Of this run.
        run_id = "run_id",
        /// Of this type, such as `error`.
        kind = "type",
        /// Of this level or a graver one.
        level = "level",
        /// Of this logger.
        logger_name = "logger_name",
        /// With this status.
        status = "status",
        /// From this time on: RFC 3339, a number since 1970, or before now such as `-15m`, as the API takes it.
        since = "since",
        /// Before this time.
        until = "until",
        /// With all of these words and "phrases" in title, message or exception, in any case.
        q = "q",
        /// From the `next` of an earlier page on.
        cursor = "cursor",
    }
}

filter! {
    /// Which runs, the latest start first. All conditions must hold.
    RunsFilter {
        /// Of this system.
        source_system = "source_system",
        /// Of this stage.
        stage = "stage",
        /// `running`, `succeeded` or `failed`.
        state = "state",
        /// With this text in `run_id`, title or failure, in any case.
        q = "q",
        /// Started at this time or later.
        since = "since",
        /// Started before this time.
        until = "until",
        /// From the `next` of an earlier page on.
        cursor = "cursor",
    }
}

impl LogsFilter {
    /// Whose metadata has this value under this key; a dot in the key may be a step into an object.
    #[must_use]
    pub fn metadata(self, key: &str, value: impl Into<String>) -> LogsFilter {
        self.with(&format!("metadata.{key}"), value)
    }

    /// The latest or the earliest first.
    #[must_use]
    pub fn order(self, order: Order) -> LogsFilter {
        self.with("order", order.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_a_name_counts() {
        let filter = LogsFilter::new().stage("a").level("ERROR").with("stage", "b").limit(5).order(Order::Oldest);
        let pairs: Vec<_> = filter.0.iter().collect();
        assert_eq!(pairs, [("stage", "b"), ("level", "ERROR"), ("limit", "5"), ("order", "oldest")]);
        assert_eq!(filter.0.get("limit"), Some("5"));
    }
}
