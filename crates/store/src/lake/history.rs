//! The table's newest commits, for people. Reads whatever an entry says of itself; refuses to believe more of it than
//! can be shown.

use object_store::ObjectStoreExt;
use runstone_record::time::format_micros;
use serde_json::Value;

use super::{Lake, LakeError, log};

/// One commit, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commit {
    /// Which.
    pub version: u64,
    /// When, RFC 3339; empty where it does not say.
    pub timestamp: String,
    /// What it calls itself, such as `WRITE`.
    pub operation: String,
    /// Files that joined.
    pub added: u64,
    /// Files that left.
    pub removed: u64,
    /// Records in the files that joined, where they say.
    pub rows: u64,
    /// Bytes of the files that joined.
    pub bytes: u64,
}

impl Lake {
    /// The newest commits up to a version, newest first, as far as the log still has them.
    ///
    /// # Errors
    /// The storage fails.
    pub async fn history(&self, version: u64, limit: u64) -> Result<Vec<Commit>, LakeError> {
        let mut commits = Vec::new();
        let oldest = version.saturating_sub(limit.saturating_sub(1));
        for version in (oldest..=version).rev().take_while(|_| limit > 0) {
            let path = log::commit_path(version);
            let answer = match self.store().get(&path).await {
                Ok(answer) => answer.bytes().await,
                // Older ones stand in a checkpoint only.
                Err(object_store::Error::NotFound { .. }) => break,
                Err(error) => Err(error),
            };
            commits.push(describe(version, &answer.map_err(|error| log::failed(&format!("read {path}"), error))?));
        }
        Ok(commits)
    }
}

fn describe(version: u64, bytes: &[u8]) -> Commit {
    let mut commit = Commit { version, operation: "unknown".to_owned(), ..Commit::default() };
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(action) = serde_json::from_slice::<Value>(line) else { continue };
        if let Some(add) = action.get("add") {
            commit.added += 1;
            commit.bytes += add["size"].as_u64().unwrap_or(0);
            let stats = add["stats"].as_str().and_then(|stats| serde_json::from_str::<Value>(stats).ok());
            commit.rows += stats.and_then(|stats| stats["numRecords"].as_u64()).unwrap_or(0);
        }
        commit.removed += u64::from(action.get("remove").is_some());
        if let Some(info) = action.get("commitInfo") {
            let at = info["timestamp"].as_i64();
            commit.timestamp = at.map_or_else(String::new, |at| format_micros(at.saturating_mul(1_000)));
            if let Some(operation) = info["operation"].as_str() {
                operation.clone_into(&mut commit.operation);
            }
        }
    }
    commit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_summed_up_whatever_else_it_says() {
        let lines = concat!(
            r#"{"commitInfo":{"timestamp":1795179600000,"operation":"OPTIMIZE","new":{}}}"#,
            "\n",
            r#"{"add":{"path":"a","size":10,"stats":"{\"numRecords\":3}"}}"#,
            "\n",
            r#"{"add":{"path":"b","size":5}}"#,
            "\n",
            r#"{"remove":{"path":"c"}}"#,
            "\nnot json\n",
        );
        let expected = Commit {
            version: 7,
            timestamp: "2026-11-20T13:00:00Z".to_owned(),
            operation: "OPTIMIZE".to_owned(),
            added: 2,
            removed: 1,
            rows: 3,
            bytes: 15,
        };
        let mut commit = describe(7, lines.as_bytes());
        // However many digits the second has.
        commit.timestamp = commit.timestamp.replace(".000000", "");
        assert_eq!(commit, expected);
    }
}
