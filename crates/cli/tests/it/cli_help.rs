//! Help and usage errors.

use crate::harness::{runstone, stderr, stdout};

const COMMANDS: [&str; 9] = ["serve", "config", "send", "run", "query", "logs", "runs", "verify", "inspect"];

#[test]
fn every_command_has_help_with_an_example_of_itself() {
    for command in COMMANDS {
        let output = runstone().args([command, "--help"]).output().unwrap();
        assert!(output.status.success());
        let help = stdout(&output);
        let examples = help.split_once("Examples:").unwrap_or_else(|| panic!("{command} has no examples")).1;
        assert!(examples.contains(&format!("runstone {command}")), "{command}:\n{help}");
    }
}

#[test]
fn the_overview_names_every_command() {
    let output = runstone().arg("--help").output().unwrap();
    let help = stdout(&output);
    for command in COMMANDS {
        assert!(help.lines().any(|line| line.trim_start().starts_with(command)), "{command}:\n{help}");
    }
}

#[test]
fn wrong_usage_is_exit_code_2_with_a_reason_on_stderr() {
    for (args, reason) in [
        (&["frobnicate"][..], "frobnicate"),
        (&["send", "--timezone", "Mars/Olympus", "-"], "Mars/Olympus"),
        (&["send", "no/such/file"], "no/such/file"),
        (&["send", "."], "open ."),
        (&["send", "-", "-"], "only once"),
        (&["send", "--follow", "--format", "json", "-"], "no end"),
        (&["run", "--source-system", "x"], "COMMAND"),
        (&["logs", "--order", "sideways"], "sideways"),
        (&["logs", "--since", "yesterday"], "-15m"),
        (&["--url", "localhost", "runs"], "localhost"),
    ] {
        let output = runstone().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(reason), "{args:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}
