//! The settings file: YAML → keys with dots, each with its value's text and line. Owns where things stand in the file;
//! refuses to know which keys there are.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A value in the file. Numbers are kept as text: what a setting makes of it is its own matter.
#[derive(Debug)]
enum Node {
    Nothing,
    Scalar(String),
    /// Its values' texts; `None`: what they are is no value.
    List(Vec<Option<String>>),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

/// A value of the file, by key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The key, with dots between the levels.
    pub(super) key: String,
    /// The levels: a name in the file may have dots itself.
    pub(super) levels: Vec<String>,
    /// The line that the key stands on.
    pub(super) line: u64,
    /// What stands there; `None`: a list of lists or an empty section, which no setting is.
    pub(super) value: Option<Value>,
}

/// What a setting is given.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// One value.
    One(String),
    /// A list of them.
    List(Vec<String>),
}

/// What keeps the whole file from being read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) line: Option<u64>,
    pub(super) message: String,
}

/// Reads the file's text. An empty file sets nothing.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, Unreadable> {
    // `off` is a word, as YAML 1.2 has it, and not another one for false.
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    let root: Option<Node> = serde_saphyr::from_str_with_options(text, options).map_err(|error| Unreadable {
        line: error.location().map(|location| location.line()),
        message: error.to_string(),
    })?;
    let mut entries = Vec::new();
    match root {
        None | Some(Node::Nothing) => {}
        Some(Node::Map(map)) => flatten(&[], map, &mut entries),
        Some(Node::Scalar(_) | Node::List(_)) => {
            return Err(Unreadable { line: Some(1), message: "must be settings, as `key: value`".to_owned() });
        }
    }
    Ok(entries)
}

fn flatten(above: &[String], map: Vec<(Spanned<String>, Spanned<Node>)>, entries: &mut Vec<Entry>) {
    for (name, node) in map {
        let line = name.referenced.line();
        let levels = [above, &[name.value]].concat();
        let key = levels.join(".");
        match node.value {
            Node::Map(inner) if !inner.is_empty() => flatten(&levels, inner, entries),
            Node::Scalar(text) => entries.push(Entry { key, levels, line, value: Some(Value::One(text)) }),
            Node::List(values) => {
                let value = values.into_iter().collect::<Option<Vec<_>>>().map(Value::List);
                entries.push(Entry { key, levels, line, value });
            }
            // A section whose settings are all commented out is nothing.
            Node::Nothing | Node::Map(_) => entries.push(Entry { key, levels, line, value: None }),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a setting or a section of settings")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Nothing)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Nothing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut values = Vec::new();
        while let Some(item) = items.next_element()? {
            values.push(match item {
                Node::Scalar(text) => Some(text),
                Node::Nothing | Node::List(_) | Node::Map(_) => None,
            });
        }
        Ok(Node::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = from.next_entry()? {
            map.push(entry);
        }
        Ok(Node::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, line: u64, value: Option<&str>) -> Entry {
        let levels = key.split('.').map(str::to_owned).collect();
        Entry { key: key.to_owned(), levels, line, value: value.map(|value| Value::One(value.to_owned())) }
    }

    #[test]
    fn each_value_knows_its_key_and_line() {
        let text = "# ours\nlisten: 0.0.0.0:80\n\nhttp:\n  body_bytes_max: 8388608\n  idle_timeout_ms: \"5s\"\nlog:\n";
        let expected = [
            entry("listen", 2, Some("0.0.0.0:80")),
            entry("http.body_bytes_max", 5, Some("8388608")),
            entry("http.idle_timeout_ms", 6, Some("5s")),
            entry("log", 7, None),
        ];
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn values_of_every_type_are_text() {
        let text = "a: true\nb: -1\nc: 1.5\nd: [1, x]\ne: 18446744073709551615\nf: {g: x}\nh: [[]]\n";
        let expected = [
            entry("a", 1, Some("true")),
            entry("b", 2, Some("-1")),
            entry("c", 3, Some("1.5")),
            Entry { value: Some(Value::List(vec!["1".to_owned(), "x".to_owned()])), ..entry("d", 4, None) },
            entry("e", 5, Some("18446744073709551615")),
            entry("f.g", 6, Some("x")),
            entry("h", 7, None),
        ];
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn words_that_were_truths_once_are_words() {
        let text = "a: off\nb: on\nc: yes\nd: No\ne: false\n";
        let values = ["off", "on", "yes", "No", "false"];
        let expected: Vec<_> = "abcde".chars().zip(values).zip(1..).collect();
        let expected: Vec<_> =
            expected.iter().map(|((key, value), line)| entry(&key.to_string(), *line, Some(value))).collect();
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn an_empty_file_sets_nothing() {
        for empty in ["", "\n", "# only a comment\n", "---\n"] {
            assert_eq!(parse(empty).unwrap(), [], "{empty:?}");
        }
    }

    #[test]
    fn what_is_not_yaml_names_its_line() {
        for (text, line) in [("a: 1\nb: [1\n", None), ("a: 1\na: 2\n", Some(2)), ("just words\n", Some(1))] {
            let error = parse(text).unwrap_err();
            assert!(error.line.is_some(), "{text}: {error:?}");
            assert!(line.is_none() || error.line == line, "{text}: {error:?}");
        }
    }
}
