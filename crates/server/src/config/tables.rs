//! `tables`: data sets of others that SQL shows beside `logs` and `runs`. Owns reading them from the settings file, where alone
//! they can stand; refuses to look whether they are there: a query does.

use std::collections::BTreeMap;

use runstone_store::{TableFormat, TableSpec, check_table_name};

use super::file::{Entry, Value};
use super::layers::Origin;

/// The section's name.
pub(super) const SECTION: &str = "tables";

/// One table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSettings {
    /// Its name and place.
    pub spec: TableSpec,
    /// Where the settings say so.
    pub origin: Origin,
}

/// Tables by their names.
pub type TablesSettings = BTreeMap<String, TableSettings>;

/// Is an entry of the file about tables?
pub(super) fn is_about(key: &str) -> bool {
    key.strip_prefix(SECTION).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Takes an entry of the file. An error: what is wrong with it.
pub(super) fn take(tables: &mut TablesSettings, entry: &Entry, origin: Origin) -> Result<(), String> {
    let Some(rest) = entry.key.strip_prefix("tables.") else {
        // A section without tables names none.
        return entry.value.as_ref().map_or(Ok(()), |_| Err("holds tables, as `name: location`".to_owned()));
    };
    let (name, setting) = rest.split_once('.').unwrap_or((rest, "location"));
    check_table_name(name)?;
    let Some(Value::One(value)) = &entry.value else {
        return Err("needs one value: a path, or a URL such as s3://bucket/prefix".to_owned());
    };
    let table = tables.entry(name.to_owned()).or_insert_with(|| TableSettings {
        spec: TableSpec { name: name.to_owned(), location: String::new(), format: None },
        origin,
    });
    match setting {
        "location" => location(value).map(|()| table.spec.location.clone_from(value)),
        "format" => match TableFormat::of(value) {
            Some(format) => {
                table.spec.format = Some(format);
                Ok(())
            }
            None => Err(format!("must be one of {}, got {value}", TableFormat::WORDS.join(", "))),
        },
        other => Err(format!("a table has location and format, not {other}")),
    }
}

fn location(value: &str) -> Result<(), String> {
    let scheme = value.split_once("://").map_or("", |(scheme, _)| scheme);
    match scheme {
        "" if value.trim().is_empty() => {
            Err("needs a location: a path, or a URL such as s3://bucket/prefix".to_owned())
        }
        "" | "file" | "s3" | "s3a" | "abfs" | "abfss" | "az" | "azure" | "adl" | "https" => Ok(()),
        other => Err(format!("there is no storage {other}://; use a path, s3:// or abfss://")),
    }
}

/// The first table that has a format and no location.
pub(super) fn without_location(tables: &TablesSettings) -> Option<&TableSettings> {
    tables.values().find(|table| table.spec.location.is_empty())
}
