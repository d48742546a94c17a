//! Values that are bound by name in a SQL statement, as they stand in a request's JSON. Owns which values there are and what
//! a name may be; refuses to know what a statement does with them.

use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::limits::{SQL_PARAM_ITEMS_MAX, SQL_PARAM_NAME_BYTES_MAX, SQL_PARAMS_MAX};

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Param {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without a fraction or an exponent, of 64 bits.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A text. Compared with a timestamp or a date it is one.
    Text(String),
    /// A list of the others, for `IN ($list)` and `= ANY($list)`.
    List(Vec<Param>),
}

/// Values by their names, each name once, in the order of the request.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Params(Vec<(String, Param)>);

impl Params {
    /// Are there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Param> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Every name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Adds a value under a name that is new.
    ///
    /// # Errors
    /// The name is not one, or was there before; or there are too many.
    pub fn insert(&mut self, name: &str, value: Param) -> Result<(), String> {
        check_name(name)?;
        if self.get(name).is_some() {
            return Err(format!("parameter {name} is there twice"));
        }
        if self.0.len() == SQL_PARAMS_MAX {
            return Err(format!("a statement may have {SQL_PARAMS_MAX} parameters"));
        }
        self.0.push((name.to_owned(), value));
        Ok(())
    }
}

/// A name is a letter or `_`, then letters, digits and `_`.
fn check_name(name: &str) -> Result<(), String> {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts && name.len() <= SQL_PARAM_NAME_BYTES_MAX && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
    {
        return Ok(());
    }
    let shown: String = name.chars().take(40).collect();
    Err(format!(
        "{shown:?} cannot name a parameter: use a letter, then letters, digits and _, {SQL_PARAM_NAME_BYTES_MAX} at most"
    ))
}

/// Reads a value from its JSON text, in which numbers still have all their digits.
fn read(json: &RawValue) -> Result<Param, String> {
    let text = json.get().trim();
    let wrong = |error: serde_json::Error| error.to_string();
    Ok(match text.as_bytes().first() {
        Some(b'n') => Param::Null,
        Some(b't' | b'f') => Param::Bool(text == "true"),
        Some(b'"') => Param::Text(serde_json::from_str(text).map_err(wrong)?),
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(wrong)?;
            if items.len() > SQL_PARAM_ITEMS_MAX {
                return Err(format!("a list may have {SQL_PARAM_ITEMS_MAX} items, this has {}", items.len()));
            }
            let items: Vec<Param> = items.into_iter().map(read).collect::<Result<_, _>>()?;
            if items.iter().any(|item| matches!(item, Param::List(_))) {
                return Err("a list holds strings, numbers, booleans and nulls, no lists".to_owned());
            }
            Param::List(items)
        }
        Some(b'{') => return Err("send a string, number, boolean, null or a list of these, not an object".to_owned()),
        _ if text.contains(['.', 'e', 'E']) => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Param::Float(number),
            _ => return Err("the number is too large".to_owned()),
        },
        _ => Param::Int(text.parse().map_err(|_| "the integer does not fit into 64 bits".to_owned())?),
    })
}

impl Serialize for Param {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Param::Null => to.serialize_unit(),
            Param::Bool(value) => to.serialize_bool(*value),
            Param::Int(value) => to.serialize_i64(*value),
            Param::Float(value) => to.serialize_f64(*value),
            Param::Text(value) => to.serialize_str(value),
            Param::List(items) => to.collect_seq(items),
        }
    }
}

impl Serialize for Params {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Params {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(ParamsVisitor)
    }
}

#[cfg(feature = "openapi")]
impl schemars::JsonSchema for Params {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Params".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "maxProperties": SQL_PARAMS_MAX,
            "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "maxLength": SQL_PARAM_NAME_BYTES_MAX},
            "additionalProperties": {
                "type": ["string", "number", "boolean", "null", "array"],
                "maxItems": SQL_PARAM_ITEMS_MAX,
                "items": {"type": ["string", "number", "boolean", "null"]},
            },
        })
    }
}

struct ParamsVisitor;

impl<'de> Visitor<'de> for ParamsVisitor {
    type Value = Params;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of values by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Params, A::Error> {
        let mut params = Params::default();
        while let Some((name, json)) = from.next_entry::<String, Box<RawValue>>()? {
            let value = read(&json).map_err(|why| A::Error::custom(format!("parameter {name}: {why}")))?;
            params.insert(&name, value).map_err(A::Error::custom)?;
        }
        Ok(params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_type_and_every_digit() {
        let json = r#"{"a":null,"b":true,"c":-9223372036854775808,"d":9007199254740993,"e":1.0,"f":1e3,"g":"' OR 1=1 --","h":[1,"x",null]}"#;
        let params: Params = serde_json::from_str(json).unwrap();
        assert_eq!(params.get("c"), Some(&Param::Int(i64::MIN)));
        assert_eq!(params.get("d"), Some(&Param::Int(9_007_199_254_740_993)));
        assert_eq!((params.get("e"), params.get("f")), (Some(&Param::Float(1.0)), Some(&Param::Float(1e3))));
        let list = vec![Param::Int(1), Param::Text("x".to_owned()), Param::Null];
        assert_eq!(params.get("h"), Some(&Param::List(list)));
        let again: Params = serde_json::from_str(&serde_json::to_string(&params).unwrap()).unwrap();
        assert_eq!(again, params);
    }

    #[test]
    fn what_is_no_value_or_no_name_is_refused_by_name() {
        let many: String = (0..=SQL_PARAMS_MAX).map(|place| format!("\"p{place}\":1,")).collect();
        let long = format!("[{}1]", "1,".repeat(SQL_PARAM_ITEMS_MAX));
        for (json, why) in [
            (r#"{"x":{"y":1}}"#, "parameter x: send a string"),
            (r#"{"x":[[1]]}"#, "parameter x: a list holds"),
            (r#"{"x":9223372036854775808}"#, "parameter x: the integer does not fit"),
            (r#"{"x":1e999}"#, "parameter x: the number is too large"),
            (r#"{"1":5}"#, "\"1\" cannot name a parameter"),
            (r#"{"a-b":5}"#, "\"a-b\" cannot name"),
            (r#"{"":5}"#, "cannot name"),
            (r#"{"a":1,"a":2}"#, "parameter a is there twice"),
            (&format!("{{\"x\":{long}}}"), "parameter x: a list may have"),
            (&format!("{{{many}\"x\":1}}"), "may have"),
            ("[1]", "an object of values by name"),
        ] {
            let error = serde_json::from_str::<Params>(json).unwrap_err().to_string();
            assert!(error.contains(why), "{json}: {error}");
        }
    }
}
