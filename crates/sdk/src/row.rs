//! An object as the server wrote it: a record, or a row of a query's answer.
//!
//! Owns keeping every value as the text that it is: a number of a hundred digits in `metadata` comes out as it went in.
//! Refuses to say what a value means: [`Row::parse`] makes whatever type the caller wants of it.

use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// A JSON object whose values are kept as text, in their order. Read it as a type of your own with [`Row::parse`].
#[derive(Debug, Clone, Default)]
pub struct Row(Vec<(String, Box<RawValue>)>);

impl Row {
    /// What serializes as an object, as one.
    ///
    /// # Errors
    /// It is no object, or cannot be serialized.
    pub fn of(value: &impl Serialize) -> Result<Row, serde_json::Error> {
        serde_json::from_str(&serde_json::to_string(value)?)
    }

    /// The value of a field, as JSON text.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_ref())
    }

    /// The value of a field that is a string.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }

    /// The value of a field that is a whole number of 64 bits.
    #[must_use]
    pub fn integer(&self, name: &str) -> Option<i64> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }

    /// The object as a type that reads it.
    ///
    /// # Errors
    /// What `T` lacks or cannot hold.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.to_string())
    }

    /// The object as JSON values. Here whole numbers beyond 64 bits become floating point: [`Row::get`] has their digits.
    #[must_use]
    pub fn to_map(&self) -> Map<String, Value> {
        let value = |raw: &RawValue| serde_json::from_str(raw.get()).unwrap_or_default();
        self.iter().map(|(name, raw)| (name.to_owned(), value(raw))).collect()
    }

    /// The fields, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_ref()))
    }

    /// Keeps the fields of which this is true.
    pub(crate) fn retain(&mut self, keep: impl Fn(&str, &RawValue) -> bool) {
        self.0.retain(|(name, value)| keep(name, value));
    }

    /// Puts another value in the place of a field's.
    pub(crate) fn replace(&mut self, name: &str, value: Box<RawValue>) {
        if let Some((_, place)) = self.0.iter_mut().find(|(field, _)| field == name) {
            *place = value;
        }
    }
}

/// The object as JSON, on one line.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, value)) in self.0.iter().enumerate() {
            let before = if place == 0 { '{' } else { ',' };
            write!(f, "{before}{}:", Value::from(name.as_str()))?;
            // Inside a string a line break is escaped: these stand between values.
            match value.get().contains(['\n', '\r']) {
                true => f.write_str(&value.get().replace(['\n', '\r'], " "))?,
                false => f.write_str(value.get())?,
            }
        }
        f.write_str(if self.0.is_empty() { "{}" } else { "}" })
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Row) -> bool {
        self.0.len() == other.0.len()
            && self.iter().zip(other.iter()).all(|(one, two)| one.0 == two.0 && one.1.get() == two.1.get())
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Row, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Row;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
                let mut fields = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    fields.push(entry);
                }
                Ok(Row(fields))
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_and_order_stay() {
        let text = r#"{"b":123456789012345678901234567890,"a":{"x":[1.10,null]},"name\n":"é\"","empty":null}"#;
        let row: Row = serde_json::from_str(text).unwrap();
        assert_eq!(row.to_string(), text);
        assert_eq!(serde_json::to_string(&row).unwrap(), row.to_string());
        assert_eq!(row.get("b").unwrap().get(), "123456789012345678901234567890");
        assert_eq!((row.text("name\n").as_deref(), row.text("b"), row.integer("b")), (Some("é\""), None, None));
        assert_eq!(row.to_map()["empty"], Value::Null);
        assert_eq!(Row::default().to_string(), "{}");
    }

    #[test]
    fn a_row_is_one_line_and_any_type() {
        #[derive(Deserialize)]
        struct Wanted {
            a: u8,
            big: Option<u128>,
        }
        let row: Row =
            serde_json::from_str("{\"a\": 7, \"m\": {\n\"x\":\r\n 1}, \"big\": 123456789012345678901}").unwrap();
        assert_eq!(row.to_string().lines().count(), 1);
        let wanted: Wanted = row.parse().unwrap();
        assert_eq!((wanted.a, wanted.big), (7, Some(123_456_789_012_345_678_901)));
        assert!(row.parse::<Vec<u8>>().is_err());
        assert!(serde_json::from_str::<Row>("[1]").is_err());
    }
}
