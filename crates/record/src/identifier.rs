//! Identifiers: `source_system`, `stage` and `run_id`. Owns their grammar; refuses anything that could be
//! mistaken for a path, a device or another script's letters.

use crate::limits::IDENTIFIER_CHARS_MAX;

/// Why a text is no identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentifierError {
    /// It is empty.
    #[error("must not be empty")]
    Empty,
    /// It is longer than the limit.
    #[error("must have at most {IDENTIFIER_CHARS_MAX} characters")]
    TooLong,
    /// It does not begin with a letter or digit of ASCII.
    #[error("must begin with a letter or a digit")]
    BadStart,
    /// It has a character outside the grammar.
    #[error("must consist of letters, digits and . _ : + @ -")]
    BadCharacter,
    /// It has `..` or a final dot.
    #[error("must not contain two dots in a row or end with a dot")]
    BadDot,
    /// It is a name that Windows keeps for a device.
    #[error("must not be a device name such as CON or NUL")]
    Device,
}

/// The bytes of an identifier. A table, because every record has three of them.
const ALLOWED: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        allowed[byte as usize] =
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'+' | b'@' | b'-');
        byte += 1;
    }
    allowed
};

/// Checks `[A-Za-z0-9][A-Za-z0-9._:+@-]{0,127}`, no `..`, no final dot, no Windows device name.
///
/// # Errors
/// Says which rule the text breaks.
pub fn check(text: &str) -> Result<(), IdentifierError> {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return Err(IdentifierError::Empty);
    };
    if bytes.len() > IDENTIFIER_CHARS_MAX {
        return Err(IdentifierError::TooLong);
    }
    if !first.is_ascii_alphanumeric() {
        return Err(IdentifierError::BadStart);
    }
    if !bytes.iter().fold(true, |good, byte| good & ALLOWED[usize::from(*byte)]) {
        return Err(IdentifierError::BadCharacter);
    }
    if *last == b'.' || text.contains("..") {
        return Err(IdentifierError::BadDot);
    }
    if is_device(text) {
        return Err(IdentifierError::Device);
    }
    Ok(())
}

/// Names that Windows keeps for devices, with any extension ("Naming Files, Paths, and Namespaces").
fn is_device(text: &str) -> bool {
    let stem = text.split(['.', ':']).next().unwrap_or(text);
    if stem.len() > 4 || stem.len() < 3 {
        return false;
    }
    let upper = stem.to_ascii_uppercase();
    match upper.as_str() {
        "CON" | "PRN" | "AUX" | "NUL" => true,
        name => {
            (name.starts_with("COM") || name.starts_with("LPT")) && matches!(name.as_bytes().get(3), Some(b'0'..=b'9'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_pipelines_are_called() {
        for good in
            ["zephyr", "20250113_123456_abc123", "a", "x:y+z@w-1.2", "0", "console", "com", "CONs", "lpt", "Comet1"]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        assert_eq!(check(&"a".repeat(128)), Ok(()));
    }

    #[test]
    fn refuses_paths_devices_and_other_scripts() {
        use IdentifierError::{BadCharacter, BadDot, BadStart, Device, Empty, TooLong};
        for (bad, why) in [
            ("", Empty),
            (".", BadStart),
            ("..", BadStart),
            ("../../etc/passwd", BadStart),
            ("a..b", BadDot),
            ("a.", BadDot),
            ("a/b", BadCharacter),
            ("..%2f", BadStart),
            ("a\\b", BadCharacter),
            ("a\0", BadCharacter),
            ("a\r", BadCharacter),
            ("a\t", BadCharacter),
            (" a", BadStart),
            ("a ", BadCharacter),
            ("ä", BadStart),
            ("aä", BadCharacter),
            ("CON", Device),
            ("nul", Device),
            ("con.txt", Device),
            ("COM1", Device),
            ("lpt9.log", Device),
        ] {
            assert_eq!(check(bad), Err(why), "{bad:?}");
        }
        assert_eq!(check(&"a".repeat(129)), Err(TooLong));
    }
}
