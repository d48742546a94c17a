//! docs/cli.md, done as it says: every block of commands is run, in order, against one server, and what a block shows
//! compared.

use std::os::unix::fs::symlink;

use crate::cli_help::commands;
use crate::harness::{runstone, stderr};
use crate::readme::{Terminal, blocks, compare, page};

/// Blocks that have no end, and what a test has not got.
const NOT_RUN: &[&str] = &[
    "runstone serve\n",
    "runstone logs --source-system shop --follow\n",
    "runstone runs --state failed --follow\n",
    // It needs a bucket.
    "runstone query --table orders=orders.parquet --table items=s3://bucket/delta/items \\\n  \"SELECT i.name, sum(o.amount) AS amount FROM orders o JOIN items i ON i.id = o.item_id GROUP BY 1\"\n",
    // It needs a target.
    "runstone dead-letters list --config runstone.yaml\nrunstone dead-letters list --sink postgres --json\nrunstone dead-letters replay --sink postgres\nrunstone dead-letters remove --sink postgres --all\n",
];

#[test]
fn the_page_does_what_it_says() {
    let terminal = Terminal::open();
    symlink(terminal.server.data(), terminal.dir.path().join("data")).unwrap();
    let mut left_out = Vec::new();
    let mut printed = None;
    for block in blocks(&page("docs/cli.md")) {
        match block.language.as_str() {
            "sh" if NOT_RUN.contains(&block.text.as_str()) => left_out.push(block.text),
            "sh" => printed = Some(terminal.run(&block)),
            _ => compare(&block, &printed.take().expect("commands before what they print")),
        }
    }
    assert_eq!(left_out, NOT_RUN, "a block that is not run is listed, and a listed one is there");
}

#[test]
fn every_command_and_format_is_on_the_page() {
    let page = page("docs/cli.md");
    for command in commands() {
        let is_shown = blocks(&page).iter().any(|block| block.text.contains(&format!("runstone {command}")));
        assert!(is_shown && page.contains(&format!("`{command}")), "{command} has no example in docs/cli.md");
    }
    let usage = runstone().args(["logs", "--format", "?"]).output().unwrap();
    let usage = stderr(&usage);
    let formats = usage.split("[possible values: ").nth(1).and_then(|rest| rest.split(']').next()).unwrap();
    for format in formats.split(", ") {
        assert!(page.contains(&format!("\n| `{format}`")), "{format} is not in docs/cli.md");
    }
}
