//! The lake's log as it lies in storage, read past the server and every proxy. Owns the judgement whether each journal's
//! positions were committed once, in order, and with their records; refuses to know who wrote what.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::storage::{S3, Storage};

/// The lines of each version.
pub(crate) struct Ledger(Vec<Vec<Value>>);

impl Ledger {
    pub(crate) fn read(s3: &S3) -> Ledger {
        let names = s3.list();
        let commits = names.iter().filter(|name| name.starts_with("_delta_log/") && name.ends_with(".json"));
        let versions: BTreeSet<String> = commits.cloned().collect();
        let expected: BTreeSet<String> =
            (0..versions.len()).map(|version| format!("_delta_log/{version:020}.json")).collect();
        assert_eq!(versions, expected, "versions follow each other");
        let lines = |name: &String| {
            let text = String::from_utf8(s3.read(name)).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        Ledger(versions.iter().map(lines).collect())
    }

    pub(crate) fn versions(&self) -> usize {
        self.0.len()
    }

    /// Every range of positions is there once and whole, no commit twice. Gives how far each journal has come.
    pub(crate) fn check(&self) -> BTreeMap<String, u64> {
        let (mut cursors, mut tries, mut live) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        for (version, lines) in self.0.iter().enumerate() {
            for info in lines.iter().filter_map(|line| line.get("commitInfo")) {
                let once = info["txnId"].as_str().is_none_or(|id| tries.insert(id.to_owned()));
                assert!(once, "version {version} is one of before: {info}");
            }
            replay(version, lines, &mut live);
            check_range(version, lines, &mut cursors);
        }
        let committed: u64 = cursors.values().sum();
        assert_eq!(live.values().sum::<u64>(), committed, "the live files have what was committed");
        cursors
    }
}

/// The live files and their rows after a version.
fn replay(version: usize, lines: &[Value], live: &mut BTreeMap<String, u64>) {
    for removed in lines.iter().filter_map(|line| line.get("remove")) {
        let gone = live.remove(removed["path"].as_str().unwrap());
        assert!(gone.is_some(), "version {version} removes what is not there: {removed}");
    }
    for added in lines.iter().filter_map(|line| line.get("add")) {
        let twice =
            live.insert(added["path"].as_str().unwrap().to_owned(), stats(added)["numRecords"].as_u64().unwrap());
        assert_eq!(twice, None, "version {version} adds what is there: {added}");
    }
}

/// A version with records of a journal brings those after its cursor, up to the new one, all of them.
fn check_range(version: usize, lines: &[Value], cursors: &mut BTreeMap<String, u64>) {
    let txns: Vec<&Value> = lines.iter().filter_map(|line| line.get("txn")).collect();
    let added: Vec<Value> =
        lines.iter().filter_map(|line| line.get("add").filter(|add| add["dataChange"] == true)).map(stats).collect();
    assert!(txns.len() <= 1 && (!txns.is_empty() || added.is_empty()), "version {version}: {lines:?}");
    let Some(txn) = txns.first() else { return };
    let (journal, through) = (txn["appId"].as_str().unwrap(), txn["version"].as_u64().unwrap());
    let after = cursors.insert(journal.to_owned(), through).unwrap_or(0);
    assert!(after < through, "version {version}: {journal} goes from {after} to {through}");
    let rows: u64 = added.iter().map(|stats| stats["numRecords"].as_u64().unwrap()).sum();
    assert_eq!(rows, through - after, "version {version} has the records of {journal} from {after} to {through}");
    for stats in added {
        let edge = |name: &str, column: &str| stats[name][column].clone();
        assert_eq!((edge("minValues", "journal"), edge("maxValues", "journal")), (journal.into(), journal.into()));
        let (least, greatest) = (edge("minValues", "position"), edge("maxValues", "position"));
        let inside = after < least.as_u64().unwrap() && greatest.as_u64().unwrap() <= through;
        assert!(inside, "version {version}: {least} to {greatest} is not between {after} and {through}");
    }
}

fn stats(add: &Value) -> Value {
    serde_json::from_str(add["stats"].as_str().unwrap()).unwrap()
}
