//! Completions and manual pages: what shells and `man` make of them.

use std::process::Command;

use tempfile::TempDir;

use crate::cli_help::commands;
use crate::harness::{runstone, stderr, stdout, with_stdin};

fn printed(args: &[&str]) -> String {
    let output = runstone().args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

#[test]
fn bash_completes_commands_and_options() {
    let script = printed(&["completions", "bash"]);
    let ask = "
        COMP_WORDS=(runstone lo); COMP_CWORD=1; _runstone runstone lo runstone; echo \"${COMPREPLY[@]}\"
        COMP_WORDS=(runstone logs --run); COMP_CWORD=2; _runstone runstone --run logs; echo \"${COMPREPLY[@]}\"
        COMP_WORDS=(runstone logs --format ''); COMP_CWORD=3; _runstone runstone '' --format; echo \"${COMPREPLY[@]}\"";
    let output = with_stdin(&mut Command::new("bash"), format!("{script}\n{ask}").as_bytes());
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
    let answers = stdout(&output);
    let answers: Vec<_> = answers.lines().collect();
    assert_eq!(answers, ["logs", "--run-id", "lines table json ndjson csv tsv parquet arrow"]);
}

#[test]
fn every_shell_has_a_script() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = printed(&["completions", shell]);
        assert!(script.contains("where-metadata") && script.contains("runstone"), "{shell}");
    }
    assert_eq!(runstone().args(["completions", "dos"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn every_command_has_a_page() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("share/man1");
    assert_eq!(printed(&["man", folder.to_str().unwrap()]), "");
    for command in commands() {
        let page = std::fs::read_to_string(folder.join(format!("runstone-{command}.1"))).unwrap();
        assert!(page.contains(".SH NAME") && page.contains("Examples:"), "{command}:\n{page}");
    }
    let first = printed(&["man"]);
    assert_eq!(first, std::fs::read_to_string(folder.join("runstone.1")).unwrap());
    assert!(first.contains("runstone\\-logs(1)"), "{first}");
}
