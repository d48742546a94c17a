//! A field's text in the one form in which records keep it. Owns that form, for what comes in and for what is looked for: an id
//! or a trace in capitals finds its records. Refuses what no record can have, which would find none and look right.

use std::borrow::Cow;

use crate::columns::{Column, Kind};
use crate::identifier::{self, IdentifierError};
use crate::ids::{InvalidId, RecordId};
use crate::limits::TRACE_DIGITS_MAX;

/// Why no record has such a text in a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotStored {
    /// It is no identifier.
    #[error(transparent)]
    Identifier(#[from] IdentifierError),
    /// It is no id.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// It is no number of hexadecimal digits.
    #[error("must be 1 to {TRACE_DIGITS_MAX} hexadecimal digits")]
    Hex,
}

/// A text as a column keeps it.
///
/// # Errors
/// Says which rule of the column the text breaks.
pub fn stored(column: Column, text: &str) -> Result<Cow<'_, str>, NotStored> {
    match column.kind() {
        Kind::Id => Ok(Cow::Owned(RecordId::parse(text)?.to_string())),
        Kind::Identifier => Ok(identifier::check(text).map(|()| Cow::Borrowed(text))?),
        Kind::Hex => hex(text),
        _ => Ok(without_nul(text)),
    }
}

/// Hexadecimal digits in lower case.
pub(crate) fn hex(text: &str) -> Result<Cow<'_, str>, NotStored> {
    if !(1..=TRACE_DIGITS_MAX).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(NotStored::Hex);
    }
    match text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Ok(Cow::Owned(text.to_ascii_lowercase())),
        false => Ok(Cow::Borrowed(text)),
    }
}

/// A text with U+FFFD in the place of NUL: no database takes it.
#[must_use]
pub fn without_nul(text: &str) -> Cow<'_, str> {
    match memchr::memchr(0, text.as_bytes()) {
        Some(_) => Cow::Owned(text.replace('\0', "\u{FFFD}")),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_for_is_what_was_kept() {
        for (column, text, kept) in [
            (Column::Id, "01980000-ABCD-7000-8000-00000000000F", "01980000-abcd-7000-8000-00000000000f"),
            (Column::TraceId, "4BF92f", "4bf92f"),
            (Column::SpanId, "00", "00"),
            (Column::Stage, "Load", "Load"),
            (Column::Hostname, "a\0b", "a\u{FFFD}b"),
            (Column::Journal, "ANY", "ANY"),
        ] {
            assert_eq!(stored(column, text).as_deref(), Ok(kept), "{text}");
        }
        for (column, text, why) in [
            (Column::Id, "nope", NotStored::Id(InvalidId)),
            (Column::RunId, "../../etc", IdentifierError::BadStart.into()),
            (Column::Stage, "a b", IdentifierError::BadCharacter.into()),
            (Column::TraceId, "0x1", NotStored::Hex),
            (Column::SpanId, &"0".repeat(65), NotStored::Hex),
        ] {
            assert_eq!(stored(column, text), Err(why), "{text}");
        }
    }
}
