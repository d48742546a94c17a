//! Records that the lake cannot take: they go to files that people can read, so that the others need not wait for them.
//! Owns those files; refuses to decide what is refused.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use runstone_journal::JournalId;
use runstone_record::Batch;

/// The directory, in the data directory.
const NAME: &str = "refused";

/// Writes a frame's records to a file of their own, one JSON object a line with the reason, durably. A second time the
/// same file is written again.
pub(crate) fn keep(data: &Path, id: JournalId, first: u64, batch: &Batch, reason: &str) -> io::Result<PathBuf> {
    let dir = data.join(NAME);
    fs::create_dir_all(&dir)?;
    let path = dir.join(format!("{}-{}-{first}.ndjson", id.uuid, id.epoch));
    let (journal, reason) = (id.to_string(), serde_json::Value::from(reason).to_string());
    let mut text = Vec::new();
    for row in 0..batch.len() {
        write!(text, "{{\"reason\":{reason},\"record\":")?;
        batch.write_json(row, &journal, first + row as u64, &mut text);
        text.extend_from_slice(b"}\n");
    }
    let mut file = File::create(&path)?;
    file.write_all(&text)?;
    file.sync_all()?;
    for dir in [dir.as_path(), data] {
        File::open(dir)?.sync_all()?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use runstone_record::{IdMint, parse};

    #[test]
    fn each_record_is_a_line_with_the_reason() {
        let data = tempfile::tempdir().unwrap();
        let parsed = parse::json(br#"[{"message":"one"},{"message":"two","run_id":"r"}]"#).unwrap();
        let batch = parsed.builder.stamp(&mut IdMint::new(1, 1), 1, None);
        let id = JournalId { uuid: uuid::Uuid::from_u128(7), epoch: 2 };
        for _ in 0..2 {
            let path = keep(data.path(), id, 41, &batch, "a \"reason\"").unwrap();
            let text = fs::read_to_string(path).unwrap();
            let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(lines.len(), 2);
            assert_eq!((&lines[1]["reason"], &lines[1]["record"]["position"]), (&"a \"reason\"".into(), &42.into()));
            assert_eq!(lines[1]["record"]["message"], "two");
        }
    }
}
