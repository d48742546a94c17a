//! Records that the lake cannot take, or must not since their id stands for another there: they go to files that people can
//! read, so that the others need not wait for them. Owns those files; refuses to decide what is refused.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use runstone_journal::JournalId;
use runstone_record::Batch;
use runstone_store::lake::{DeadLetter, DeadLetters};

/// The directory, in the data directory.
const NAME: &str = "refused";

/// Writes a frame's records to a file of their own, one JSON object a line with the reason, durably. A second time the
/// same file is written again.
pub(crate) fn keep(data: &Path, id: JournalId, first: u64, batch: &Batch, reason: &str) -> io::Result<PathBuf> {
    let (journal, reason) = (id.to_string(), serde_json::Value::from(reason).to_string());
    let mut text = Vec::new();
    for row in 0..batch.len() {
        write!(text, "{{\"reason\":{reason},\"record\":")?;
        batch.write_json(row, &journal, first + row as u64, &mut text);
        text.extend_from_slice(b"}\n");
    }
    write_file(data, &format!("{}-{}-{first}.ndjson", id.uuid, id.epoch), &text)
}

fn write_file(data: &Path, name: &str, text: &[u8]) -> io::Result<PathBuf> {
    let dir = data.join(NAME);
    fs::create_dir_all(&dir)?;
    let path = dir.join(name);
    let mut file = File::create(&path)?;
    file.write_all(text)?;
    file.sync_all()?;
    for dir in [dir.as_path(), data] {
        File::open(dir)?.sync_all()?;
    }
    Ok(path)
}

/// The records that are in these files: journal and position. A line that cannot be read names none.
pub(crate) fn kept(data: &Path) -> io::Result<BTreeSet<(String, u64)>> {
    let mut kept = BTreeSet::new();
    let files = match fs::read_dir(data.join(NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(kept),
        files => files?,
    };
    for file in files {
        for line in BufReader::new(File::open(file?.path())?).lines() {
            let Ok(line) = serde_json::from_str::<serde_json::Value>(&line?) else { continue };
            let record = &line["record"];
            if let (Some(journal), Some(position)) = (record["journal"].as_str(), record["position"].as_u64()) {
                kept.insert((journal.to_owned(), position));
            }
        }
    }
    Ok(kept)
}

/// The files of records whose id stands for another: one for each flush that has any, named by the first of them.
#[derive(Debug)]
pub(crate) struct Letters {
    pub(crate) data: PathBuf,
}

impl DeadLetters for Letters {
    fn keep(&self, letters: &[DeadLetter]) -> io::Result<()> {
        let Some(first) = letters.first() else { return Ok(()) };
        let mut text = Vec::new();
        for letter in letters {
            let DeadLetter { first_journal, first_position, reason, record, .. } = letter;
            let reason = serde_json::Value::from(*reason);
            write!(
                text,
                r#"{{"reason":{reason},"first":{{"journal":"{first_journal}","position":{first_position}}},"#
            )?;
            writeln!(text, r#""record":{record}}}"#)?;
        }
        let name = format!("{}-{}-id-conflicts.ndjson", first.journal.replace('/', "-"), first.position);
        let path = write_file(&self.data, &name, &text)?;
        let (records, file) = (letters.len(), path.display());
        tracing::warn!(records, %file, "keep records out of the lake: their ids stand for others there");
        Ok(())
    }
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
            assert_eq!(kept(data.path()).unwrap(), BTreeSet::from([(id.to_string(), 41), (id.to_string(), 42)]));
        }
    }

    #[test]
    fn a_dead_letter_says_which_record_has_its_id() {
        let data = tempfile::tempdir().unwrap();
        let letter = |position, record: &str| DeadLetter {
            journal: "j/3".to_owned(),
            position,
            first_journal: "j/1".to_owned(),
            first_position: 4,
            reason: "why",
            record: record.to_owned(),
        };
        let letters = Letters { data: data.path().to_owned() };
        for _ in 0..2 {
            letters.keep(&[letter(9, r#"{"message":"one"}"#), letter(12, r#"{"message":"two"}"#)]).unwrap();
        }
        letters.keep(&[]).unwrap();
        let files: Vec<_> = fs::read_dir(data.path().join(NAME)).unwrap().map(|file| file.unwrap().path()).collect();
        assert_eq!(files, [data.path().join(NAME).join("j-3-9-id-conflicts.ndjson")]);
        let text = fs::read_to_string(&files[0]).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let expected = |message| {
            serde_json::json!({
                "reason": "why", "first": {"journal": "j/1", "position": 4}, "record": {"message": message},
            })
        };
        assert_eq!(lines, [expected("one"), expected("two")]);
    }
}
