//! What `q` asks for: words, and phrases in quotes. Owns telling them apart; refuses to look for them.

/// The words and phrases of a text. Quotes that are not closed end with the text; in quotes `\\"` is a quote and `\\\\` a
/// backslash.
#[must_use]
pub fn terms(text: &str) -> Vec<String> {
    let (mut terms, mut term, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\\' if quoted && matches!(chars.peek(), Some('"' | '\\')) => term.extend(chars.next()),
            // A quote within a word is part of it.
            '"' if quoted || term.is_empty() => {
                terms.push(std::mem::take(&mut term));
                quoted = !quoted;
            }
            char if char.is_whitespace() && !quoted => terms.push(std::mem::take(&mut term)),
            char => term.push(char),
        }
    }
    terms.push(term);
    terms.retain(|term| !term.is_empty());
    terms.sort_unstable();
    terms.dedup();
    terms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_phrases() {
        for (text, expected) in [
            ("", &[][..]),
            ("  \t ", &[]),
            ("\"\"", &[]),
            ("disk", &["disk"]),
            ("full disk full", &["disk", "full"]),
            ("disk \"is full\" now", &["disk", "is full", "now"]),
            ("\"a\"\"b\"", &["a", "b"]),
            ("\"not closed", &["not closed"]),
            ("5\" disk", &["5\"", "disk"]),
            (r#""say \"no\" \\""#, &[r#"say "no" \"#]),
            (r"C:\temp", &[r"C:\temp"]),
            ("größer als", &["als", "größer"]),
        ] {
            assert_eq!(terms(text), expected, "{text}");
        }
    }
}
