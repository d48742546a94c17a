//! Help and usage errors.

use crate::harness::{runstone, stderr, stdout};

/// The commands that the overview lists.
pub(crate) fn commands() -> Vec<String> {
    let help = stdout(&runstone().arg("--help").output().unwrap());
    let listed = help.split("Commands:").nth(1).unwrap().lines().skip(1).take_while(|line| line.starts_with("  "));
    // What does not fit goes on in the next line, further in.
    let listed = listed.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    listed.filter_map(|line| line.split(' ').next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn every_command_has_help_with_an_example_of_itself() {
    let commands = commands();
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        let output = runstone().args([&command, "--help"]).output().unwrap();
        assert!(output.status.success());
        let help = stdout(&output);
        let examples = help.split_once("Examples:").unwrap_or_else(|| panic!("{command} has no examples")).1;
        assert!(examples.contains(&format!("runstone {command}")), "{command}:\n{help}");
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
