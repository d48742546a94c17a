//! Which tables this server can read and write. Owns the rules; refuses to change a table so that it fits.

use runstone_record::Column;
use serde_json::{Value, json};

use super::LakeError;
use super::actions::{MetaData, Protocol};
use crate::columns::{is_required, logs_schema};

/// What every file is partitioned by.
pub(crate) const PARTITION: &str = "date";

/// Features that ask nothing of who reads data files by the log's entries.
const READER_FEATURES: &[&str] = &["timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"];
/// Features that ask nothing of who appends files of the columns' own types.
const WRITER_FEATURES: &[&str] = &["appendOnly", "invariants", "timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"];

/// Settings that change what a data file means or what a writer must do, and the value at which they do not.
const SETTINGS: &[(&str, &str)] = &[
    ("delta.columnMapping.mode", "none"),
    ("delta.enableChangeDataFeed", "false"),
    ("delta.enableDeletionVectors", "false"),
    ("delta.enableInCommitTimestamps", "false"),
    ("delta.enableRowTracking", "false"),
];

fn unsupported<T>(message: String) -> Result<T, LakeError> {
    Err(LakeError::Unsupported(message))
}

/// Can the table be read?
pub(crate) fn check_read(protocol: &Protocol, metadata: &MetaData) -> Result<(), LakeError> {
    match (protocol.min_reader_version, &protocol.reader_features) {
        (1, _) => {}
        (3, Some(features)) => features_known("reader", features, READER_FEATURES)?,
        (version, _) => {
            return unsupported(format!(
                "the table needs reader version {version}, and this server reads 1 (or 3 with {}); {ADVICE}",
                READER_FEATURES.join(", ")
            ));
        }
    }
    if metadata.format.provider != "parquet" {
        return unsupported(format!("its files are {}, not parquet", metadata.format.provider));
    }
    check_setting(metadata, "delta.columnMapping.mode", "none")?;
    check_schema(metadata)
}

/// Can the table be written?
pub(crate) fn check_write(protocol: &Protocol, metadata: &MetaData) -> Result<(), LakeError> {
    check_read(protocol, metadata)?;
    match (protocol.min_writer_version, &protocol.writer_features) {
        (1 | 2, _) => {}
        (7, Some(features)) => features_known("writer", features, WRITER_FEATURES)?,
        (version, _) => {
            return unsupported(format!(
                "the table needs writer version {version}, and this server writes 1 and 2 (or 7 with {}); {ADVICE}",
                WRITER_FEATURES.join(", ")
            ));
        }
    }
    if metadata.partition_columns != [PARTITION] {
        return unsupported(format!(
            "the table is partitioned by {:?}, not by {PARTITION}; give lake.location a directory of its own",
            metadata.partition_columns
        ));
    }
    check_rules(metadata)?;
    for (setting, harmless) in SETTINGS {
        check_setting(metadata, setting, harmless)?;
    }
    match metadata.configuration.keys().find(|key| key.starts_with("delta.constraints.")) {
        Some(key) => unsupported(format!("the table has a constraint, {key}; drop it")),
        None => Ok(()),
    }
}

const ADVICE: &str = "drop the table feature, or give lake.location a directory of its own";

fn features_known(role: &str, features: &[String], known: &[&str]) -> Result<(), LakeError> {
    match features.iter().find(|feature| !known.contains(&feature.as_str())) {
        Some(feature) => unsupported(format!("the table needs the {role} feature {feature}; {ADVICE}")),
        None => Ok(()),
    }
}

fn check_setting(metadata: &MetaData, setting: &str, harmless: &str) -> Result<(), LakeError> {
    match metadata.configuration.get(setting) {
        Some(value) if !value.eq_ignore_ascii_case(harmless) => {
            unsupported(format!("the table sets {setting} = {value}; set it to {harmless}"))
        }
        _ => Ok(()),
    }
}

/// Does the table refuse to lose records?
pub(crate) fn is_append_only(metadata: &MetaData) -> bool {
    metadata.configuration.get("delta.appendOnly").is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// The table must have our columns.
fn check_schema(metadata: &MetaData) -> Result<(), LakeError> {
    let fields = fields(metadata)?;
    for (column, field) in Column::ALL.into_iter().zip(logs_schema().fields()) {
        let name = column.name();
        let Some(theirs) = fields.iter().find(|field| field["name"] == name) else {
            return unsupported(format!("its column {name} is missing; add it ({})", type_name(field.data_type())));
        };
        let kind = json_type(field.data_type());
        if theirs["type"] != kind && !same_list(&theirs["type"], &kind) {
            return unsupported(format!("its column {name} is {}, not {kind}", theirs["type"]));
        }
    }
    Ok(())
}

/// The table must take what we have: nothing in columns of others, and in ours whatever is not always there.
fn check_rules(metadata: &MetaData) -> Result<(), LakeError> {
    for field in &fields(metadata)? {
        let name = field["name"].as_str().unwrap_or_default();
        let ours = Column::ALL.into_iter().find(|column| column.name() == name);
        if field["nullable"] == false && !ours.is_some_and(is_required) {
            return unsupported(format!("its column {name} is NOT NULL; drop that"));
        }
        let rules =
            ["delta.invariants", "delta.generationExpression", "delta.identity.start", "delta.columnMapping.id"];
        if let Some(rule) = rules.iter().find(|rule| !field["metadata"][**rule].is_null()) {
            return unsupported(format!("its column {name} has {rule}; drop that"));
        }
    }
    Ok(())
}

fn fields(metadata: &MetaData) -> Result<Vec<Value>, LakeError> {
    let mut schema: Value = serde_json::from_str(&metadata.schema_string)
        .map_err(|error| LakeError::Damaged(format!("its schema is no JSON: {error}")))?;
    match schema["fields"].take() {
        Value::Array(fields) => Ok(fields),
        _ => Err(LakeError::Damaged("its schema has no fields".to_owned())),
    }
}

/// A list may or may not say that it holds nulls.
fn same_list(theirs: &Value, ours: &Value) -> bool {
    ours["type"] == "array" && theirs["type"] == "array" && theirs["elementType"] == ours["elementType"]
}

/// The schema of a new table, as its metadata has it.
pub(crate) fn schema_string() -> String {
    let schema = logs_schema();
    let fields: Vec<Value> = schema
        .fields()
        .iter()
        .map(|field| {
            json!({
                "name": field.name(),
                "type": json_type(field.data_type()),
                "nullable": field.is_nullable(),
                "metadata": {},
            })
        })
        .collect();
    json!({ "type": "struct", "fields": fields }).to_string()
}

fn json_type(kind: &arrow::datatypes::DataType) -> Value {
    match kind {
        arrow::datatypes::DataType::List(item) => {
            json!({ "type": "array", "elementType": type_name(item.data_type()), "containsNull": true })
        }
        kind => Value::from(type_name(kind)),
    }
}

fn type_name(kind: &arrow::datatypes::DataType) -> &'static str {
    use arrow::datatypes::DataType;
    match kind {
        DataType::Int64 => "long",
        DataType::Float64 => "double",
        DataType::Timestamp(..) => "timestamp",
        DataType::Date32 => "date",
        DataType::List(_) => "array<string>",
        _ => "string",
    }
}
