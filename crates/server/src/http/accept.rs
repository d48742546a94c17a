//! What a client would like: `Accept` and `Accept-Encoding` with their weights (RFC 9110 §12.4.2). Owns reading and
//! weighing; refuses to know what there is to choose from. What cannot be read weighs nothing.

use std::cmp::Reverse;

use http::HeaderMap;
use http::header::HeaderName;

/// One of the things that a client names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range {
    /// In lower case, without parameters.
    pub(crate) name: String,
    /// In thousandths.
    pub(crate) weight: u16,
}

/// How much a client likes a thing: by weight, then by how exactly it was named, then by who was named first.
pub(crate) type Liking = (u16, u8, Reverse<usize>);

/// The things that a header names, in its order.
pub(crate) fn ranges(headers: &HeaderMap, header: &HeaderName) -> Vec<Range> {
    let values = headers.get_all(header).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(range).collect()
}

fn range(text: &str) -> Option<Range> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next()?.to_ascii_lowercase();
    let weight = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| thousandths(value.trim()))
    });
    (!name.is_empty()).then_some(Range { name, weight: weight.unwrap_or(1_000) })
}

/// `0`, `0.5`, `1.000`.
fn thousandths(text: &str) -> u16 {
    let weight: f32 = text.parse().unwrap_or(0.0);
    // Between 0 and 1,000, and 0 for what is no number.
    (0..=1_000).rev().find(|thousandths| f32::from(*thousandths) / 1_000.0 <= weight).unwrap_or(0)
}

/// How much a client likes a media type; none: not at all.
pub(crate) fn weigh(ranges: &[Range], media_type: &str) -> Option<Liking> {
    let (kind, _) = media_type.split_once('/')?;
    let exactness = |name: &str| match name {
        name if name == media_type => Some(2),
        "*/*" => Some(0),
        name => (name.strip_suffix("/*") == Some(kind)).then_some(1),
    };
    let matching = ranges.iter().enumerate().filter_map(|(place, range)| Some((exactness(&range.name)?, place, range)));
    // The most exact of them decides, whatever the others weigh.
    let (exact, place, range) = matching.max_by_key(|(exact, place, _)| (*exact, Reverse(*place)))?;
    (range.weight > 0).then_some((range.weight, exact, Reverse(place)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_in_thousandths() {
        for (text, weight) in [("a", 1_000), ("a;q=0.5", 500), ("a; Q=1.000", 1_000), ("a;q=0", 0), ("a;q=2", 1_000)] {
            assert_eq!(range(text), Some(Range { name: "a".to_owned(), weight }), "{text}");
        }
        for (text, weight) in
            [("a;q=0.123", 123), ("a;q=x", 0), ("a;q=-1", 0), ("a;q=NaN", 0), ("a;level=1;q=0.1", 100)]
        {
            assert_eq!(range(text).map(|range| range.weight), Some(weight), "{text}");
        }
        assert_eq!(range(""), None);
    }
}
