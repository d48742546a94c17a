//! Sizes and durations as people write them. Owns the spelling in both directions; refuses units that mean two things.

use std::time::Duration;

const BYTE_UNITS: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const TIME_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// `134217728` or `128MiB`.
pub(super) fn parse_bytes(text: &str) -> Option<u64> {
    parse(text, &BYTE_UNITS)
}

/// `5000` (milliseconds), `5s`, `2m`.
pub(super) fn parse_millis(text: &str) -> Option<Duration> {
    parse(text, &TIME_UNITS).map(Duration::from_millis)
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let unit = unit.trim();
    if unit.is_empty() {
        return Some(number);
    }
    let (_, factor) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.checked_mul(*factor)
}

/// The shortest exact spelling.
pub(super) fn show_bytes(bytes: u64) -> String {
    show(bytes, &BYTE_UNITS[..4])
}

/// The shortest exact spelling.
pub(super) fn show_millis(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    show(millis, &TIME_UNITS)
}

fn show(value: u64, units: &[(&str, u64)]) -> String {
    let whole = units.iter().find(|(_, factor)| value != 0 && value.is_multiple_of(*factor));
    whole.map_or_else(|| value.to_string(), |(name, factor)| format!("{}{name}", value / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown_exactly() {
        assert_eq!(parse_bytes("128MiB"), Some(128 << 20));
        assert_eq!(parse_bytes(" 1 gib "), Some(1 << 30));
        assert_eq!(parse_bytes("1000"), Some(1_000));
        for wrong in ["", "MiB", "1.5MiB", "-1", "1MB", "1e3", "99999999999999999999", "20000000TiB"] {
            assert_eq!(parse_bytes(wrong), None, "{wrong}");
        }
        assert_eq!((show_bytes(128 << 20), show_bytes(1_000)), ("128MiB".to_owned(), "1000".to_owned()));
        assert_eq!(show_bytes(0), "0");
    }

    #[test]
    fn durations_are_read_and_shown_exactly() {
        assert_eq!(parse_millis("5s"), Some(Duration::from_secs(5)));
        assert_eq!(parse_millis("250"), Some(Duration::from_millis(250)));
        assert_eq!(parse_millis("2m"), Some(Duration::from_secs(120)));
        assert_eq!(parse_millis("5 parsecs"), None);
        assert_eq!(show_millis(Duration::from_millis(75_000)), "75s");
        assert_eq!(show_millis(Duration::from_millis(1_500)), "1500ms");
        assert_eq!(parse_millis(&show_millis(Duration::from_secs(7_200))), Some(Duration::from_secs(7_200)));
    }
}
