//! What the tables and indexes are called. Owns the rules of the prefix; everything that stands in a statement unquoted or
//! quoted comes from here.

use runstone_record::limits::POSTGRES_PREFIX_BYTES_MAX;

/// Words that PostgreSQL reserves, in any of its versions from 12 to 18: a prefix that is one of them is a mistake.
const RESERVED: [&str; 101] = [
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "binary",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "group",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "intersect",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "natural",
    "not",
    "notnull",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "outer",
    "overlaps",
    "placing",
    "primary",
    "references",
    "returning",
    "right",
    "select",
    "session_user",
    "similar",
    "some",
    "symmetric",
    "system_user",
    "table",
    "tablesample",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
];

/// Why a text cannot be the prefix of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// It is empty.
    #[error("must not be empty")]
    Empty,
    /// It is longer than the limit.
    #[error("must have at most {POSTGRES_PREFIX_BYTES_MAX} bytes")]
    TooLong,
    /// It begins with a digit.
    #[error("must not begin with a digit")]
    Digit,
    /// It has another character.
    #[error("must consist of letters of ASCII, digits and underscores")]
    BadCharacter,
    /// SQL has it for itself.
    #[error("must not be a reserved word of SQL")]
    Reserved,
}

/// The names of one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    /// In lower case: so PostgreSQL reads a name that is not quoted, as others write it.
    pub(super) fn new(prefix: &str) -> Result<Self, PrefixError> {
        let prefix = prefix.to_ascii_lowercase();
        let Some(first) = prefix.bytes().next() else { return Err(PrefixError::Empty) };
        if prefix.len() > POSTGRES_PREFIX_BYTES_MAX {
            return Err(PrefixError::TooLong);
        }
        if first.is_ascii_digit() {
            return Err(PrefixError::Digit);
        }
        if !prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(PrefixError::BadCharacter);
        }
        if RESERVED.contains(&prefix.as_str()) {
            return Err(PrefixError::Reserved);
        }
        Ok(Self { prefix })
    }

    /// The table of records, quoted.
    pub(super) fn logs(&self) -> String {
        format!("\"{}_logs\"", self.prefix)
    }

    /// The table of cursors, quoted.
    pub(super) fn cursors(&self) -> String {
        format!("\"{}_cursors\"", self.prefix)
    }

    /// The table of dead letters, quoted.
    pub(super) fn dead_letters(&self) -> String {
        format!("\"{}_dead_letters\"", self.prefix)
    }

    /// An index of the table of records, not quoted.
    pub(super) fn index(&self, what: &str) -> String {
        format!("idx_{}_logs_{what}", self.prefix)
    }

    /// The number of the lock under which the tables are made.
    pub(super) fn lock(&self) -> i64 {
        self.prefix.bytes().fold(0x7275_6e73_746f_6e65, |sum: i64, byte| sum.wrapping_mul(31).wrapping_add(byte.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_plain_word() {
        for good in ["a", "_x", "myopenaiapi", "logs_2026", &"p".repeat(30)] {
            let names = Names::new(good).unwrap();
            assert_eq!(names.logs(), format!("\"{good}_logs\""));
            assert!(names.index("composite").len() < 63 && names.dead_letters().len() < 63);
        }
        assert_eq!(Names::new("MyApp").unwrap(), Names::new("myapp").unwrap());
        for (bad, why) in [
            ("", PrefixError::Empty),
            ("9lives", PrefixError::Digit),
            (&"p".repeat(31), PrefixError::TooLong),
            ("x\"; DROP TABLE y;--", PrefixError::BadCharacter),
            ("a b", PrefixError::BadCharacter),
            ("a\0", PrefixError::BadCharacter),
            ("grün", PrefixError::BadCharacter),
            ("select", PrefixError::Reserved),
            ("User", PrefixError::Reserved),
        ] {
            assert_eq!(Names::new(bad), Err(why), "{bad:?}");
        }
    }
}
