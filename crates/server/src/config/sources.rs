//! The section `sources`: what is known of source systems, by name. Owns which members it takes and how long they may be.

use runstone_record::{identifier, limits};

use super::file::Value;
use crate::sources::{SourceSettings, SourceSystems};

/// Its key in the file.
pub(super) const SECTION: &str = "sources";

const MEMBERS: &str = "environment, owner and labels";

/// Takes one value of the section, by the names on the way to it, or says what is wrong with it.
pub(super) fn set(systems: &mut SourceSystems, levels: &[String], value: Option<&Value>) -> Result<(), String> {
    let Some((name, members)) = levels.split_first() else {
        return match value {
            // A section without source systems says nothing.
            None => Ok(()),
            Some(_) => Err("holds source systems, not a value".to_owned()),
        };
    };
    identifier::check(name).map_err(|error| format!("{name:?} is no name of a source system: it {error}"))?;
    if !systems.0.contains_key(name) && systems.0.len() >= limits::SOURCES_MAX {
        return Err(format!("there may be at most {} source systems", limits::SOURCES_MAX));
    }
    let source = systems.0.entry(name.clone()).or_default();
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    let value = match value {
        Some(Value::One(text)) => Some(text.as_str()),
        Some(Value::List(_)) => return Err("needs one value".to_owned()),
        None => None,
    };
    match (members.as_slice(), value) {
        ([], _) => Err(format!("holds {MEMBERS}, and needs one of them")),
        (["environment"], Some(value)) => text(value).map(|text| source.environment = Some(text)),
        (["owner"], Some(value)) => text(value).map(|text| source.owner = Some(text)),
        (["labels"], None) => Ok(()),
        (["labels"], Some(_)) => Err("holds labels, not a value".to_owned()),
        (["labels", key], Some(value)) => label(source, key, value),
        (["environment" | "owner"] | ["labels", _], None) => Err("needs one value".to_owned()),
        _ => Err(format!("is not known: a source system has {MEMBERS}")),
    }
}

fn label(source: &mut SourceSettings, key: &str, value: &str) -> Result<(), String> {
    if key.is_empty() || key.len() > limits::KEY_BYTES_MAX || key.chars().any(char::is_control) {
        return Err(format!("a label's name must have 1 to {} bytes and no control characters", limits::KEY_BYTES_MAX));
    }
    if source.labels.len() >= limits::SOURCE_LABELS_MAX {
        return Err(format!("a source system may have at most {} labels", limits::SOURCE_LABELS_MAX));
    }
    source.labels.insert(key.to_owned(), text(value)?);
    Ok(())
}

fn text(value: &str) -> Result<String, String> {
    let max = limits::SOURCE_TEXT_BYTES_MAX;
    if value.is_empty() || value.len() > max || value.chars().any(char::is_control) {
        return Err(format!("must have 1 to {max} bytes and no control characters"));
    }
    Ok(value.to_owned())
}
