//! The command line on a terminal: colours, width, pager and keys. The terminal is a pseudo-terminal of Python's.

use std::path::Path;
use std::process::Command;

use runstone_record::shown::acts;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::foreign::python;
use crate::harness::{Server, runstone, stderr, stdout};

/// What was printed, and the exit code.
struct Shown {
    text: String,
    code: i64,
}

/// A terminal, and what its user set.
struct Terminal<'t> {
    server: &'t Server,
    columns: u16,
    env: &'t [(&'t str, &'t str)],
}

impl Terminal<'_> {
    fn run(&self, args: &[&str]) -> Shown {
        self.typing("", "", args)
    }

    /// Types `keys` once `after` was printed.
    fn typing(&self, after: &str, keys: &str, args: &[&str]) -> Shown {
        let clean = runstone();
        let mut command = Command::new(python());
        for (name, _) in clean.get_envs() {
            command.env_remove(name);
        }
        for name in ["PAGER", "LESS", "NO_COLOR"] {
            command.env_remove(name);
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/terminal/terminal.py");
        command.arg(script).args(["12", &self.columns.to_string(), after, keys]).arg(clean.get_program());
        command.args(["--url", self.server.url()]).args(args).env("TERM", "xterm").envs(self.env.iter().copied());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let told: Value = serde_json::from_str(&stdout(&output)).unwrap();
        Shown { text: told["output"].as_str().unwrap().replace("\r\n", "\n"), code: told["code"].as_i64().unwrap() }
    }
}

/// A server with forty records of one run, the last of them an error with a long text that would act on a terminal.
fn server() -> Server {
    let server = Server::start();
    let at = |second: u32| format!("2026-11-20T03:00:{second:02}Z");
    let mut records: Vec<Value> = (0..39)
        .map(|second| json!({"run_id": "n1", "source_system": "shop", "timestamp": at(second), "message": format!("step {second}")}))
        .collect();
    let long = format!("\u{1b}[2J{}", "much to say ".repeat(20));
    records.push(json!({"run_id": "n1", "stage": "load", "level": "ERROR", "timestamp": at(59), "message": long}));
    assert_eq!(server.post(&Value::from(records).to_string()).status, 200);
    server
}

#[test]
fn records_are_lines_in_colour_as_wide_as_the_terminal() {
    let server = server();
    let terminal = Terminal { server: &server, columns: 70, env: &[] };
    let shown = terminal.run(&["logs", "-n", "3"]);
    assert_eq!(shown.code, 0, "{}", shown.text);
    assert!(shown.text.contains("\u{1b}[31mERROR   \u{1b}[0m"), "{}", shown.text);
    assert!(shown.text.contains("\\u{1b}[2J") && !shown.text.contains("\u{1b}[2J"), "{}", shown.text);
    let plain = Terminal { env: &[("NO_COLOR", "1")], ..terminal }.run(&["logs", "-n", "3"]).text;
    assert!(!plain.contains('\u{1b}'), "{plain}");
    assert!(plain.lines().all(|line| line.chars().count() <= 70), "{plain}");
    assert_eq!(plain.matches("much").count(), 20, "wrapped, not cut: {plain}");
    assert!(plain.contains("2026-11-20 03:00:38.000 INFO     shop n1 step 38\n"), "{plain}");
    let tables = [
        (&["runs"][..], "n1"),
        (&["logs", "-n", "3", "--format", "table", "--no-pager"], "step 38"),
        (&["query", "SELECT DISTINCT run_id FROM runs"], "n1"),
    ];
    for (args, word) in tables {
        let shown = terminal.run(args);
        assert!(shown.text.contains('─') && shown.text.contains(word), "{args:?}: {}", shown.text);
    }
    // One run, and what it said last.
    let shown = terminal.run(&["runs", "n1", "-n", "1", "--no-pager"]);
    assert!(
        shown.text.contains("running") && shown.text.contains("much") && !shown.text.contains("step 38"),
        "{}",
        shown.text
    );
}

#[test]
fn what_is_longer_than_the_terminal_goes_through_the_pager() {
    let server = server();
    let dir = TempDir::new().unwrap();
    let into = |name: &str| format!("cat > {}/{name}", dir.path().display());
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name));
    let (ours, common) = (into("ours"), into("common"));
    let both = [("RUNSTONE_PAGER", ours.as_str()), ("PAGER", common.as_str())];
    let terminal = Terminal { server: &server, columns: 70, env: &both };
    let long: &[&str] = &["logs", "-n", "all"];
    let logs = terminal.run(long);
    assert_eq!((logs.code, logs.text.as_str()), (0, ""));
    let paged = read("ours").unwrap();
    assert!(paged.contains("step 0") && paged.contains("\u{1b}[31m"), "all of it, in colour: {paged}");
    assert!(read("common").is_err());
    let terminal = Terminal { env: &both[1..], ..terminal };
    // What fits, what is asked for without, and what goes on need none.
    for args in [
        &["logs", "-n", "3"][..],
        &["logs", "-n", "all", "--no-pager"],
        &["tail", "--since", "2026-01-01T00:00:00Z", "-n", "40"],
    ] {
        let shown = terminal.run(args);
        assert!(shown.text.contains("step 38") && read("common").is_err(), "{args:?}: {}", shown.text);
    }
    terminal.run(&["query", "SELECT position FROM logs"]);
    assert!(read("common").unwrap().contains("position"));
    // One that has seen enough, ones that are not there, and none.
    for pager in ["head -1 > /dev/null", "no-such-pager", "X=1 no/such/pager -x", "", "cat"] {
        let shown = Terminal { env: &[("PAGER", pager)], ..terminal }.run(long);
        assert_eq!(shown.code, 0, "{pager}: {}", shown.text);
        assert!(!shown.text.contains("error:"), "{pager}: {}", shown.text);
        assert_eq!(shown.text.contains("step 0"), !pager.starts_with("head"), "{pager}: {}", shown.text);
    }
    // What only the shell finds out is told.
    let shown = Terminal { env: &[("PAGER", "\"no-such-pager\" -x")], ..terminal }.run(long);
    assert!(shown.code == 1 && shown.text.contains("in a pager: it cannot be run"), "{} {}", shown.code, shown.text);
}

#[test]
fn nothing_that_is_shown_acts_on_the_terminal_whatever_its_format() {
    let server = server();
    let evil = "\u{1b}[31mred\u{7f}\u{9b}2J\u{202e}fdp\u{61c}";
    let record = json!({"run_id": "n1", "message": evil, "title": evil, "metadata": {evil: evil}});
    assert_eq!(server.post(&record.to_string()).status, 200);
    let sql = "SELECT message AS \"a\u{1b}[31mb\u{9b}\", metadata FROM logs ORDER BY position DESC LIMIT 1";
    // Straight to the terminal, and through a pager that lets everything pass.
    for env in [&[("NO_COLOR", "1"), ("PAGER", "")][..], &[("NO_COLOR", "1"), ("PAGER", "sed s/^//")]] {
        let terminal = Terminal { server: &server, columns: 200, env };
        let formats = ["lines", "table", "json", "ndjson", "csv", "tsv"];
        let asked = formats.map(|format| [(format, vec!["logs", "-n", "20"]), (format, vec!["query", sql])]);
        for (format, args) in asked.into_iter().flatten() {
            let shown = terminal.run(&[&args[..], &["--format", format]].concat());
            assert_eq!(shown.code, 0, "{args:?} {format}: {}", shown.text);
            let acting = |char: char| acts(char) && !matches!(char, '\n' | '\r' | '\t');
            assert!(!shown.text.contains(acting), "{args:?} {format}: {:?}", shown.text);
            // A table may break lines anywhere.
            let is_whole = !matches!(format, "lines" | "table");
            for escaped in ["1b", "9b", "202e", "61c"].into_iter().filter(|_| is_whole) {
                let ways = [format!("\\u{escaped:0>4}"), format!("\\u{{{escaped}}}")];
                assert!(ways.iter().any(|way| shown.text.contains(way)), "{escaped} {format}: {}", shown.text);
            }
        }
    }
    // For programs it is the same text.
    let json = stdout(&server.cli(&["logs", "-n", "1", "--json"]));
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["message"], evil, "{json}");
}

#[test]
fn a_pager_gets_a_part_of_a_long_answer_and_its_reader_is_told() {
    let (server, dir) = (server(), TempDir::new().unwrap());
    let paged = dir.path().join("paged");
    let pager = format!("cat > {}", paged.display());
    let terminal = Terminal { server: &server, columns: 70, env: &[("PAGER", &pager)] };
    let many = "SELECT a.position FROM logs a CROSS JOIN logs b CROSS JOIN logs c LIMIT 10001";
    for (format, lines) in [("ndjson", 10_000), ("csv", 10_001), ("tsv", 10_000)] {
        let shown = terminal.run(&["query", "--format", format, many]);
        assert_eq!(shown.code, 0, "{format}: {}", shown.text);
        assert_eq!(std::fs::read_to_string(&paged).unwrap().lines().count(), lines, "{format}");
        assert!(shown.text.contains("only the first 10000 rows are shown"), "{format}: {}", shown.text);
    }
    let all = terminal.run(&["query", "--json", "--no-pager", many]);
    assert_eq!(all.text.lines().count(), 10_001);
}

#[test]
fn ctrl_c_ends_what_goes_on_and_that_is_no_error() {
    let server = server();
    let terminal = Terminal { server: &server, columns: 70, env: &[] };
    for args in [&["logs", "--follow"][..], &["tail", "--since", "2026-01-01T00:00:00Z"]] {
        let shown = terminal.typing("step 38", "\u{3}", args);
        assert_eq!(shown.code, 0, "{args:?}: {}", shown.text);
    }
    assert_eq!(terminal.typing("n1", "\u{3}", &["runs", "--follow"]).code, 0);
}
