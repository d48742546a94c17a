//! The lines of a commit. Owns their JSON as this server writes it and what it reads of others'; refuses to know which
//! of them are allowed together. Unknown actions and fields are left out: a table that needs them says so in its
//! protocol.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::LakeError;
use super::file::LakeFile;
use super::stats;
use super::sums::{self, Sums};

/// One line of a commit: exactly one of these, or none that matters here.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Action {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) commit_info: Option<CommitInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) protocol: Option<Protocol>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) meta_data: Option<MetaData>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) txn: Option<SetTxn>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) add: Option<Add>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) remove: Option<Remove>,
}

/// Who committed what, and when: anything goes in others', so that only `txnId`, by which a writer knows its own, is read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CommitInfo {
    #[serde(skip_deserializing)]
    pub(crate) timestamp: i64,
    #[serde(skip_deserializing)]
    pub(crate) operation: String,
    #[serde(skip_deserializing)]
    pub(crate) operation_parameters: BTreeMap<&'static str, String>,
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub(crate) read_version: Option<u64>,
    #[serde(skip_deserializing)]
    pub(crate) is_blind_append: bool,
    #[serde(skip_deserializing, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) operation_metrics: BTreeMap<&'static str, String>,
    #[serde(skip_deserializing)]
    pub(crate) engine_info: String,
    #[serde(default)]
    pub(crate) txn_id: Option<String>,
}

/// What a reader and a writer must be able to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Protocol {
    pub(crate) min_reader_version: i32,
    pub(crate) min_writer_version: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reader_features: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) writer_features: Option<Vec<String>>,
}

/// The table's schema, partitions and settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MetaData {
    pub(crate) id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    pub(crate) format: Format,
    pub(crate) schema_string: String,
    #[serde(default)]
    pub(crate) partition_columns: Vec<String>,
    #[serde(default)]
    pub(crate) configuration: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) created_time: Option<i64>,
}

/// The format of the data files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Format {
    pub(crate) provider: String,
    #[serde(default)]
    pub(crate) options: BTreeMap<String, String>,
}

/// How far an application has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SetTxn {
    pub(crate) app_id: String,
    pub(crate) version: i64,
    // Not `lastUpdated`: a table property can let entries with a time expire, and ours never may.
}

/// A data file joins the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Add {
    /// Percent-encoded, relative to the table.
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) partition_values: BTreeMap<String, Option<String>>,
    pub(crate) size: i64,
    #[serde(default)]
    pub(crate) modification_time: i64,
    #[serde(default)]
    pub(crate) data_change: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stats: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tags: Option<BTreeMap<String, Option<String>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deletion_vector: Option<serde_json::Value>,
}

/// A data file leaves the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Remove {
    /// As the file's `add` wrote it.
    pub(crate) path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deletion_timestamp: Option<i64>,
    #[serde(default)]
    pub(crate) data_change: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) extended_file_metadata: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) partition_values: Option<BTreeMap<String, Option<String>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<i64>,
}

impl From<CommitInfo> for Action {
    fn from(info: CommitInfo) -> Self {
        Action { commit_info: Some(info), ..Action::default() }
    }
}

impl From<Protocol> for Action {
    fn from(protocol: Protocol) -> Self {
        Action { protocol: Some(protocol), ..Action::default() }
    }
}

impl From<MetaData> for Action {
    fn from(metadata: MetaData) -> Self {
        Action { meta_data: Some(metadata), ..Action::default() }
    }
}

impl From<SetTxn> for Action {
    fn from(txn: SetTxn) -> Self {
        Action { txn: Some(txn), ..Action::default() }
    }
}

impl From<Add> for Action {
    fn from(add: Add) -> Self {
        Action { add: Some(add), ..Action::default() }
    }
}

impl From<Remove> for Action {
    fn from(remove: Remove) -> Self {
        Action { remove: Some(remove), ..Action::default() }
    }
}

/// A commit's bytes: one action a line.
pub(crate) fn encode(actions: &[Action]) -> Result<Vec<u8>, LakeError> {
    let mut out = Vec::new();
    for action in actions {
        serde_json::to_writer(&mut out, action)
            .map_err(|error| LakeError::Internal(format!("encode a line of a commit: {error}")))?;
        out.push(b'\n');
    }
    Ok(out)
}

/// A commit's actions. An error names the line.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<Action>, String> {
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    let mut actions = Vec::new();
    for (number, line) in lines.filter(|(_, line)| !line.trim_ascii().is_empty()) {
        let action = serde_json::from_slice(line).map_err(|error| format!("line {}: {error}", number + 1))?;
        actions.push(action);
    }
    if actions.is_empty() {
        return Err("it has no line".to_owned());
    }
    Ok(actions)
}

fn partition(file: &LakeFile) -> BTreeMap<String, Option<String>> {
    BTreeMap::from([("date".to_owned(), file.date.and_then(stats::format_date))])
}

fn bytes(file: &LakeFile) -> Result<i64, LakeError> {
    i64::try_from(file.bytes).map_err(|_| LakeError::Internal(format!("write a file of {} bytes", file.bytes)))
}

/// The entry of a file of ours.
pub(crate) fn add(file: &LakeFile, data_change: bool) -> Result<Add, LakeError> {
    Ok(Add {
        path: encode_path(&file.path),
        partition_values: partition(file),
        size: bytes(file)?,
        modification_time: file.modified_ms,
        data_change,
        stats: stats::to_json(&file.stats),
        tags: file.sums.as_ref().map(|sums| BTreeMap::from([(sums::TAG.to_owned(), Some(sums.tag()))])),
        deletion_vector: None,
    })
}

/// The end of a file, under the path that its `add` has.
pub(crate) fn remove(file: &LakeFile, raw_path: String, now_ms: i64, data_change: bool) -> Result<Remove, LakeError> {
    Ok(Remove {
        path: raw_path,
        deletion_timestamp: Some(now_ms),
        data_change,
        extended_file_metadata: Some(true),
        partition_values: Some(partition(file)),
        size: Some(bytes(file)?),
    })
}

/// The file of an entry.
pub(crate) fn file(add: &Add) -> Result<LakeFile, LakeError> {
    if add.deletion_vector.is_some() {
        return Err(LakeError::Unsupported(format!("{} has a deletion vector; rewrite it (REORG … PURGE)", add.path)));
    }
    let date = add.partition_values.get("date").and_then(Option::as_deref).and_then(stats::parse_date);
    let bytes = u64::try_from(add.size).unwrap_or(0);
    let sums = add.tags.as_ref().and_then(|tags| tags.get(sums::TAG)).and_then(Option::as_deref);
    Ok(LakeFile {
        path: decode_path(&add.path)?,
        bytes,
        date,
        modified_ms: add.modification_time,
        stats: add.stats.as_deref().map(stats::from_json).unwrap_or_default(),
        sums: sums.and_then(|sums| Sums::parse(sums, bytes)),
    })
}

/// What is encoded in a path: all but what RFC 3986 leaves unreserved or lets stand in a segment, and `:`, which could end
/// a scheme.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/')
    .remove(b'=')
    .remove(b'!')
    .remove(b'$')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b',')
    .remove(b'@');

/// A path as the log has it: a relative URI reference.
pub(crate) fn encode_path(path: &str) -> String {
    utf8_percent_encode(path, ENCODED).to_string()
}

/// The path of an entry of the log, where it lies in the table.
pub(crate) fn decode_path(raw: &str) -> Result<String, LakeError> {
    let path = percent_decode_str(raw)
        .decode_utf8()
        .map_err(|_| LakeError::Damaged(format!("the path {raw} is not UTF-8")))?
        .into_owned();
    let scheme = raw.split_once(':').is_some_and(|(scheme, _)| !scheme.contains('/'));
    if scheme || path.starts_with('/') {
        return Err(LakeError::Unsupported(format!(
            "it refers to a file outside of the table, {path}; copy it deeply"
        )));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_encoded_as_other_writers_read_them() {
        for (path, raw) in [
            ("date=2026-11-20/a.parquet", "date=2026-11-20/a.parquet"),
            ("date=2026-11-20/ä b%20#?[c].parquet", "date=2026-11-20/%C3%A4%20b%2520%23%3F%5Bc%5D.parquet"),
            ("a:b/c", "a%3Ab/c"),
        ] {
            assert_eq!(encode_path(path), raw);
            assert_eq!(decode_path(raw).unwrap(), path);
        }
        // Others encode more, or less.
        for (raw, path) in [("date%3D2026-11-20/a.parquet", "date=2026-11-20/a.parquet"), ("a+b/c d", "a+b/c d")] {
            assert_eq!(decode_path(raw).unwrap(), path);
        }
        for raw in ["s3://b/x", "file:/x", "/x", "%2Fx", "abfss://c@a.dfs.core.windows.net/x"] {
            assert!(matches!(decode_path(raw), Err(LakeError::Unsupported(_))), "{raw}");
        }
        assert!(matches!(decode_path("%FF"), Err(LakeError::Damaged(_))));
    }

    proptest! {
        #[test]
        fn a_path_comes_back(path in "[^/].*") {
            prop_assert_eq!(decode_path(&encode_path(&path)).unwrap(), path);
        }
    }

    #[test]
    fn lines_that_do_not_matter_are_read_over() {
        let text = concat!(
            "{\"commitInfo\":{\"txnId\":\"t\",\"timestamp\":\"x\",\"operationParameters\":null}}\r\n\n",
            "{\"domainMetadata\":{\"domain\":\"x\"}}\n",
            "{\"cdc\":{\"path\":\"x\"}}\n",
            "{\"add\":{\"path\":\"x\",\"size\":3,\"clusteringProvider\":\"y\",\"stats\":null}}",
        );
        let actions = decode(text.as_bytes()).unwrap();
        assert_eq!(actions.len(), 4);
        assert_eq!(actions[0].commit_info.as_ref().unwrap().txn_id.as_deref(), Some("t"));
        assert_eq!((&actions[1], &actions[2]), (&Action::default(), &Action::default()));
        assert_eq!(actions[3].add.as_ref().map(|add| (add.size, add.stats.clone())), Some((3, None)));
        for torn in ["", "\n", "{", "{\"add\":", "{\"add\":{}}", "\0\0\0"] {
            assert!(decode(torn.as_bytes()).is_err(), "{torn:?}");
        }
        assert!(decode(b"{}\n{\"txn\":1}\n").unwrap_err().starts_with("line 2: "));
    }
}
