//! The columns of a record: the one list that the JSON fields, the frame codec, SQL and every table are made
//! from. Owns names, order, kinds and codec numbers; refuses to know how anybody stores them.

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A UUID.
    Id,
    /// An identifier (see [`crate::identifier`]).
    Identifier,
    /// A word of a closed list: a record's type or level.
    Word,
    /// Free text that repeats from record to record: a host, a logger's name.
    Label,
    /// Free text that hardly ever repeats: a message.
    Text,
    /// Hexadecimal digits, lower case.
    Hex,
    /// Microseconds since 1970-01-01T00:00:00Z.
    Time,
    /// A 64-bit signed integer.
    Int,
    /// A 64-bit float, finite.
    Float,
    /// A list of strings, as JSON text.
    List,
    /// A JSON object, as text.
    Json,
    /// A calendar day, UTC.
    Date,
}

macro_rules! columns {
    ($($name:ident = $code:literal, $text:literal, $kind:ident, $doc:literal;)*) => {
        /// A column of the record's one wide table. The number is the codec's and never changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Column { $(#[doc = $doc] $name = $code,)* }

        impl Column {
            /// Every column, in the order of the table.
            pub const ALL: [Column; 36] = [$(Column::$name,)*];

            /// Their names.
            pub const NAMES: [&str; 36] = [$($text,)*];

            /// The name: the same in JSON, SQL, Arrow and PostgreSQL.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Column::$name => $text,)* }
            }

            /// What it holds.
            #[must_use]
            pub fn kind(self) -> Kind {
                match self { $(Column::$name => Kind::$kind,)* }
            }

            /// One line for a reader of the schema.
            #[must_use]
            pub fn doc(self) -> &'static str {
                match self { $(Column::$name => $doc,)* }
            }

            /// The column with a name, or with one of the other names under which clients post it.
            #[must_use]
            pub fn from_field(name: &str) -> Option<Column> {
                match name {
                    $($text => Some(Column::$name),)*
                    "description" => Some(Column::Message),
                    "logged_at" => Some(Column::Timestamp),
                    "extra_data" | "additional_metadata" => Some(Column::Metadata),
                    _ => None,
                }
            }

            /// The column with a codec number.
            #[must_use]
            pub fn from_code(code: u8) -> Option<Column> {
                match code { $($code => Some(Column::$name),)* _ => None }
            }
        }
    };
}

// The columns that queries filter on stand among the first 32: readers keep statistics for those.
columns! {
    Id = 1, "id", Id, "the record's id: a UUID, the idempotency key";
    Journal = 2, "journal", Label, "the journal that took the record";
    Position = 3, "position", Int, "the record's place in that journal";
    Timestamp = 4, "timestamp", Time, "when it happened; the time of arrival when the client gave none";
    IngestedAt = 5, "ingested_at", Time, "when the journal took it";
    SourceSystem = 6, "source_system", Identifier, "the system whose pipeline this is";
    Stage = 7, "stage", Identifier, "the stage of the pipeline";
    RunId = 8, "run_id", Identifier, "the run; an activity without one is a run of its own";
    Type = 9, "type", Word, "start, status, code, info, result, warning, error, success, end, log or activity";
    Level = 10, "level", Word, "DEBUG, INFO, WARNING, ERROR or CRITICAL";
    LoggerName = 11, "logger_name", Label, "the logger or component that spoke";
    Status = 12, "status", Label, "an activity's outcome, in the client's word";
    Duration = 13, "duration", Float, "seconds that an activity took";
    RowCount = 14, "row_count", Int, "rows that an activity moved";
    EntityName = 15, "entity_name", Label, "the entity that an activity worked on";
    TargetTable = 16, "target_table", Label, "the table that an activity wrote";
    NotebookName = 17, "notebook_name", Label, "the notebook";
    WorkspaceId = 18, "workspace_id", Label, "the workspace";
    LakehouseId = 19, "lakehouse_id", Label, "the lakehouse";
    Hostname = 20, "hostname", Label, "the host";
    ProcessId = 21, "process_id", Int, "the process";
    ThreadId = 22, "thread_id", Int, "the thread";
    ThreadName = 23, "thread_name", Label, "the thread's name";
    TraceId = 24, "trace_id", Hex, "the trace";
    SpanId = 25, "span_id", Hex, "the span";
    FunctionName = 26, "function_name", Label, "the function that logged";
    Module = 27, "module", Label, "the module that logged";
    Filename = 28, "filename", Label, "the source file's name";
    Lineno = 29, "lineno", Int, "the line in it";
    Title = 30, "title", Text, "a short heading";
    Message = 31, "message", Text, "what happened; also read from `description`";
    Exception = 32, "exception", Text, "the exception with its stack";
    Pathname = 33, "pathname", Label, "the source file's path";
    Capabilities = 34, "capabilities", List, "the capabilities that a stage reported";
    Metadata = 35, "metadata", Json, "everything else, as a JSON object; unknown fields land here";
    Date = 36, "date", Date, "the day of arrival, UTC: the partition";
}

impl Column {
    /// The codec's number.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Is it set by the server alone? A client's field of this name is kept in `metadata`.
    #[must_use]
    pub fn is_stamped(self) -> bool {
        matches!(self, Column::Journal | Column::Position | Column::IngestedAt | Column::Date)
    }

    /// A place in an array of all columns.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.code()) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_come_back() {
        for (place, column) in Column::ALL.into_iter().enumerate() {
            assert_eq!((column.index(), Column::NAMES[place]), (place, column.name()));
            assert_eq!(Column::from_code(column.code()), Some(column));
            assert_eq!(Column::from_field(column.name()), Some(column));
        }
        assert_eq!(Column::from_code(0), None);
        assert_eq!(Column::from_code(37), None);
    }
}
