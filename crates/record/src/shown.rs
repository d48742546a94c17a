//! Text from elsewhere where people and spreadsheets see it: which characters act instead of being shown, and what a cell of
//! CSV may begin with. One definition for the server and the command line. Refuses to change what is stored.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Full-width forms that some spreadsheets take for the signs themselves: `＝`, `＋`, `－`, `＠`.
const WIDE: [char; 4] = ['\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];

/// Does this character act on a terminal, or turn the direction of the text around it, instead of being shown?
#[must_use]
pub fn acts(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with `\u001b` for each character that acts, but for tabs and the ends of lines, which text has. Of JSON the
/// result says the same: there such a character stands only within a string.
#[must_use]
pub fn tamed(text: &str) -> Cow<'_, str> {
    let is_tamed = |char: char| acts(char) && !matches!(char, '\t' | '\n' | '\r');
    if !text.bytes().any(may_act) || !text.contains(is_tamed) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if is_tamed(char) {
            // Writing to memory cannot fail.
            let _ = write!(out, "\\u{:04x}", u32::from(char));
        } else {
            out.push(char);
        }
    }
    Cow::Owned(out)
}

/// May a character that acts begin with this byte? Most texts have none of them, and need no second look.
fn may_act(byte: u8) -> bool {
    byte < b' ' || matches!(byte, 0x7f | 0xc2 | 0xd8 | 0xe2)
}

/// A cell of CSV: tamed, and behind an apostrophe where a spreadsheet would take it for a formula (OWASP, "CSV Injection").
/// A plain number is none.
#[must_use]
pub fn csv_cell(text: &str) -> Cow<'_, str> {
    let is_formula = match text.chars().next() {
        Some('=' | '@' | '\t' | '\r' | '\n') => true,
        Some('+' | '-') => !is_number(&text.as_bytes()[1..]),
        Some(first) => WIDE.contains(&first),
        None => false,
    };
    let tamed = tamed(text);
    if is_formula { Cow::Owned(format!("'{tamed}")) } else { tamed }
}

/// Digits, with a fraction and an exponent or without.
fn is_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let (mantissa, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(place) => (&text[..place], Some(&text[place + 1..])),
        None => (text, None),
    };
    let exponent = exponent.map(|text| text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text));
    let mut mantissa = mantissa.splitn(2, |byte| *byte == b'.');
    mantissa.all(digits) && exponent.is_none_or(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_spreadsheet_would_compute_is_text() {
        for formula in [
            "=1+1",
            "+cmd|' /C calc'!A0",
            "-2+3",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            "\n=1",
            "＝1",
            "＠A",
            "-",
            "+1e",
            "-1.2.3",
        ] {
            assert_eq!(csv_cell(formula), format!("'{formula}"), "{formula:?}");
        }
        for plain in
            ["", "a=b", "-1", "+12.50", "-1e-7", "1", "'=1", "{\"a\":1}", "2026-01-01", "é", "two\nlines\r\n\tx"]
        {
            assert!(matches!(csv_cell(plain), Cow::Borrowed(same) if same == plain), "{plain:?}");
        }
    }

    #[test]
    fn what_would_act_is_seen_and_json_says_the_same() {
        assert_eq!(tamed("\u{1b}[2J\u{7f}\u{9b}31m a\tb\r\n"), "\\u001b[2J\\u007f\\u009b31m a\tb\r\n");
        assert_eq!(csv_cell("=\u{202e}fdp"), "'=\\u202efdp");
        for char in (0..=0xffff).filter_map(char::from_u32).filter(|char| acts(*char)) {
            let text = format!("a{char}b");
            assert_eq!(tamed(&text) == text, matches!(char, '\t' | '\n' | '\r'), "{char:?}");
            let json = serde_json::to_string(&text).unwrap();
            let shown = tamed(&json);
            assert!(!shown.contains(acts), "{shown:?}");
            assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
        }
        for plain in ["grün ✓ \\n", "’quoted’ – £5", "ذ", "a\tb\n"] {
            assert!(matches!(tamed(plain), Cow::Borrowed(_)), "{plain}");
        }
        assert!(!(0x1_0000..=0x10_ffff).filter_map(char::from_u32).any(acts), "four digits are enough");
    }
}
