//! The shape of the workspace: what may depend on what, read from `cargo metadata` and the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Crates depend on lower levels only.
const LEVELS: &[(&str, u8)] = &[
    ("runstone-record", 0),
    ("runstone-journal", 0),
    ("runstone-store", 1),
    ("runstone-sinks", 1),
    ("runstone-sdk", 2),
    ("runstone-server", 2),
    ("runstone-workflow", 3),
    ("runstone-lambda", 4),
    ("runstone-cli", 4),
    ("runstone-bench", 4),
];

/// Named by `store` alone.
const STORE_ONLY: [&str; 5] = ["arrow", "datafusion", "deltalake", "parquet", "object_store"];

/// A dependency as its crate's manifest declares it.
struct Dependency {
    from: String,
    to: String,
    dev: bool,
}

fn dependencies() -> Vec<Dependency> {
    let manifest = "Cargo.toml";
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path", manifest])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        for dependency in package["dependencies"].as_array().unwrap() {
            let dev = dependency["kind"] == "dev";
            found.push(Dependency { from: text(&package["name"]), to: text(&dependency["name"]), dev });
        }
    }
    assert!(found.len() > 20, "cargo metadata names too few dependencies to be true");
    found
}

fn level(name: &str) -> Option<u8> {
    LEVELS.iter().find(|(known, _)| *known == name).map(|(_, level)| *level)
}

#[test]
fn crates_depend_on_lower_levels_only() {
    for Dependency { from, to, dev } in dependencies() {
        if !to.starts_with("runstone-") || dev {
            continue;
        }
        let of = |name: &str| level(name).unwrap_or_else(|| panic!("give {name} a level"));
        assert!(of(&to) < of(&from), "{from} (level {}) depends on {to} (level {})", of(&from), of(&to));
    }
}

/// Of each crate those that it names.
type Below = BTreeMap<String, BTreeSet<String>>;

fn below(is_one: impl Fn(&Dependency) -> bool) -> Below {
    let mut below = Below::new();
    for dependency in dependencies().into_iter().filter(|one| one.to.starts_with("runstone-") && is_one(one)) {
        below.entry(dependency.from).or_default().insert(dependency.to);
    }
    below
}

/// All crates that one depends on, by whichever way.
fn reached<'b>(below: &'b Below, start: &str) -> BTreeSet<&'b str> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&String> = below.get(start).into_iter().flatten().collect();
    while let Some(name) = next.pop() {
        if reached.insert(name.as_str()) {
            next.extend(below.get(name).into_iter().flatten());
        }
    }
    reached
}

#[test]
fn tests_included_no_crate_depends_on_itself() {
    // A crate may name itself for its tests, to turn on a feature of its own.
    let below = below(|Dependency { from, to, dev }| !(*dev && from == to));
    for start in below.keys() {
        assert!(!reached(&below, start).contains(start.as_str()), "{start} depends on itself");
    }
}

/// A function is slim: neither the lake nor what answers SQL is in it.
#[test]
fn functions_have_no_store_in_them() {
    let below = below(|dependency| !dependency.dev);
    assert_eq!(reached(&below, "runstone-lambda"), BTreeSet::from(["runstone-record", "runstone-sinks"]));
}

#[test]
fn only_store_names_arrow() {
    for Dependency { from, to, .. } in dependencies() {
        let family = STORE_ONLY.iter().find(|family| to.split(['-', '_']).next() == Some(family) || to == **family);
        assert!(family.is_none() || from == "runstone-store", "{from} depends on {to}");
    }
}

#[test]
fn only_fs_rs_opens_files_in_the_journal() {
    let sources = std::env::current_dir().unwrap().join("../journal/src");
    let mut files = Vec::new();
    rust_files(&sources, &mut files);
    let opens = |text: &str| {
        ["std::fs", "File::open", "File::create", "OpenOptions", "rustix::fs"].iter().any(|word| text.contains(word))
    };
    let opening: Vec<_> = files.iter().filter(|path| opens(&std::fs::read_to_string(path).unwrap())).collect();
    assert_eq!(opening, [&sources.join("fs.rs")]);
}

fn rust_files(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}
