//! What lies in `_delta_log`: commits, checkpoints and the hint to the newest one. Owns their names and the list of them;
//! refuses to open a commit or a checkpoint.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use serde::Deserialize;

use super::LakeError;

pub(crate) const DIRECTORY: &str = "_delta_log";

/// Where the hint is.
pub(crate) fn hint_path() -> Path {
    Path::from_iter([DIRECTORY, "_last_checkpoint"])
}

/// Where a version is.
pub(crate) fn commit_path(version: u64) -> Path {
    Path::from_iter([DIRECTORY, &format!("{version:020}.json")])
}

/// A checkpoint of a version: one file, or several parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) version: u64,
    pub(crate) files: Vec<ObjectMeta>,
}

/// The log's files.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) commits: BTreeMap<u64, ObjectMeta>,
    /// Complete ones, by version; a version may have several.
    pub(crate) checkpoints: Vec<Checkpoint>,
    /// Files of a version that are neither: checksums, compacted commits, parts of an incomplete checkpoint.
    pub(crate) others: Vec<(u64, ObjectMeta)>,
}

/// What a file's name says.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Commit,
    Checkpoint,
    Part { number: u32, of: u32 },
    Other,
}

fn parse(name: &str) -> Option<(u64, Kind)> {
    let (version, rest) = name.split_once('.')?;
    if version.len() != 20 || !version.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let kind = match rest.split('.').collect::<Vec<_>>()[..] {
        ["json"] => Kind::Commit,
        ["checkpoint", "parquet"] => Kind::Checkpoint,
        ["checkpoint", unique, "parquet" | "json"] if unique.len() == 36 => Kind::Checkpoint,
        ["checkpoint", number, of, "parquet"] => match (number.parse(), of.parse()) {
            (Ok(number), Ok(of)) => Kind::Part { number, of },
            _ => Kind::Other,
        },
        _ => Kind::Other,
    };
    Some((version.parse().ok()?, kind))
}

impl Log {
    /// Lists the log, from a version on where the older does not matter.
    pub(crate) async fn list(store: &dyn ObjectStore, from: Option<u64>) -> Result<Log, LakeError> {
        let prefix = Path::from(DIRECTORY);
        let mut entries = match from {
            // The version's own files come after its bare number.
            Some(version) => {
                store.list_with_offset(Some(&prefix), &Path::from_iter([DIRECTORY, &format!("{version:020}")]))
            }
            None => store.list(Some(&prefix)),
        };
        let mut log = Log::default();
        let mut parts: BTreeMap<(u64, u32), Vec<ObjectMeta>> = BTreeMap::new();
        while let Some(entry) = entries.try_next().await.map_err(|error| failed("list the lake's log", error))? {
            let Some((version, kind)) = parse_path(&entry.location) else {
                continue;
            };
            match kind {
                Kind::Commit => drop(log.commits.insert(version, entry)),
                Kind::Checkpoint => log.checkpoints.push(Checkpoint { version, files: vec![entry] }),
                Kind::Part { number, of } if (1..=of).contains(&number) => {
                    parts.entry((version, of)).or_default().push(entry);
                }
                Kind::Part { .. } | Kind::Other => log.others.push((version, entry)),
            }
        }
        for ((version, of), files) in parts {
            if files.len() as u64 == u64::from(of) {
                log.checkpoints.push(Checkpoint { version, files });
            } else {
                log.others.extend(files.into_iter().map(|file| (version, file)));
            }
        }
        log.checkpoints.sort_by_key(|checkpoint| checkpoint.version);
        Ok(log)
    }

    /// Is there a table?
    pub(crate) fn is_empty(&self) -> bool {
        self.commits.is_empty() && self.checkpoints.is_empty()
    }
}

/// Only files of the log's own directory count.
fn parse_path(path: &Path) -> Option<(u64, Kind)> {
    let mut parts = path.parts();
    let (directory, name) = (parts.next()?, parts.next()?);
    (directory.as_ref() == DIRECTORY && parts.next().is_none()).then(|| parse(name.as_ref())).flatten()
}

/// What `_last_checkpoint` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Hint {
    pub(crate) version: u64,
    /// Into how many files it was written; None: one.
    #[serde(default)]
    pub(crate) parts: Option<u32>,
}

/// The hint: None where there is none, `Err` where it says nothing that can be understood.
pub(crate) async fn read_hint(store: &dyn ObjectStore) -> Result<Option<Result<Hint, String>>, LakeError> {
    let bytes = match store.get(&hint_path()).await {
        Ok(answer) => answer.bytes().await,
        Err(error) => Err(error),
    };
    match bytes {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).map_err(|error| error.to_string()))),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(failed("read _last_checkpoint", error)),
    }
}

pub(crate) fn failed(action: &str, source: object_store::Error) -> LakeError {
    LakeError::Storage { action: action.to_owned(), source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_a_file_is() {
        let unique = "00000000000000000010.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.parquet";
        for (name, found) in [
            ("00000000000000000010.json", Some((10, Kind::Commit))),
            ("00000000000000000010.checkpoint.parquet", Some((10, Kind::Checkpoint))),
            (unique, Some((10, Kind::Checkpoint))),
            (
                "00000000000000000010.checkpoint.0000000001.0000000002.parquet",
                Some((10, Kind::Part { number: 1, of: 2 })),
            ),
            ("00000000000000000010.crc", Some((10, Kind::Other))),
            ("00000000000000000001.00000000000000000010.compacted.json", Some((1, Kind::Other))),
            ("00000000000000000010.json#1", Some((10, Kind::Other))),
            ("_last_checkpoint", None),
            ("_torn.00000000000000000010.json.moved", None),
            ("10.json", None),
            ("0000000000000000001x.json", None),
        ] {
            assert_eq!(parse(name), found, "{name}");
        }
    }
}
