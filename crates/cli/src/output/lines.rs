//! One record, one run, as lines for people: `time level source/stage run message`.

use std::fmt::Write as _;

use runstone_sdk::Row;
use unicode_width::UnicodeWidthChar;

use super::{Look, escape, text};

/// What a long text goes on with in its next lines.
const INDENT: &str = "    ";
/// Longer texts are cut.
const LINES_MAX: usize = 20;
/// A terminal that says nothing sensible about its width.
const WIDTH_MIN: usize = 40;

const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";
const GREY: &str = "90";
const BOLD_RED: &str = "1;31";

/// A piece of a line: what it says and in which colour.
type Piece = (String, Option<&'static str>);

/// A record.
pub(crate) fn log_line(record: &Row, look: Look) -> String {
    let of = |name: &str| escape(&text(record.get(name))).into_owned();
    let level = of("level");
    let shade = match level.as_str() {
        "DEBUG" => Some(GREY),
        "INFO" => Some(GREEN),
        "WARNING" => Some(YELLOW),
        "ERROR" => Some(RED),
        "CRITICAL" => Some(BOLD_RED),
        _ => None,
    };
    let mut pieces = vec![(short_time(&of("timestamp")), Some(GREY)), (format!("{level:<8}"), shade)];
    pieces.push((place(&of("source_system"), &of("stage")), Some(CYAN)));
    pieces.push((of("run_id"), Some(GREY)));
    pieces.push((said(record), shade.filter(|_| matches!(level.as_str(), "ERROR" | "CRITICAL"))));
    line(pieces, look)
}

/// A run.
pub(crate) fn run_line(run: &Row, look: Look) -> String {
    let of = |name: &str| escape(&text(run.get(name))).into_owned();
    let state = of("state");
    let shade = match state.as_str() {
        "running" => Some(YELLOW),
        "failed" => Some(RED),
        _ => Some(GREEN),
    };
    let mut told = format!("{} s, {} records", of("duration"), of("records"));
    for (name, value) in [("errors", of("errors")), ("rows", of("row_count"))] {
        if !value.is_empty() && value != "0" {
            let _ = write!(told, ", {value} {name}");
        }
    }
    let failure = of("failure");
    let about = if failure.is_empty() { of("title") } else { failure };
    let pieces = vec![
        (short_time(&of("started_at")), Some(GREY)),
        (format!("{state:<9}"), shade),
        (place(&of("source_system"), &of("stage")), Some(CYAN)),
        (of("run_id"), None),
        (told, Some(GREY)),
        (about, shade.filter(|_| state == "failed")),
    ];
    line(pieces, look)
}

/// To the millisecond.
fn short_time(text: &str) -> String {
    match (text.get(..10), text.get(11..23)) {
        (Some(day), Some(time)) => format!("{day} {time}"),
        _ => text.to_owned(),
    }
}

fn place(source: &str, stage: &str) -> String {
    match (source.is_empty(), stage.is_empty()) {
        (true, true) => String::new(),
        (false, true) => source.to_owned(),
        (_, false) => format!("{source}/{stage}"),
    }
}

/// What a record has to say, in words.
fn said(record: &Row) -> String {
    let of = |name: &str| escape(&text(record.get(name))).into_owned();
    let mut parts = Vec::new();
    let kind = of("type");
    if !matches!(kind.as_str(), "" | "log" | "info" | "warning" | "error") {
        parts.push(kind);
    }
    let message = of("message").trim_end().to_owned();
    parts.push(if message.is_empty() { of("title") } else { message });
    for name in ["status", "entity_name", "target_table", "row_count", "duration"] {
        let value = of(name);
        if !value.is_empty() {
            parts.push(format!("{name}={value}"));
        }
    }
    let exception = text(record.get("exception"));
    parts.extend(exception.trim_end().lines().last().map(|line| format!("exception={}", escape(line.trim()))));
    parts.retain(|part| !part.is_empty());
    parts.join(" ")
}

/// Joins the pieces that there are, wrapped to the width.
fn line(pieces: Vec<Piece>, look: Look) -> String {
    let mut out = String::new();
    let mut at = 0;
    let last = pieces.len().saturating_sub(1);
    for (place, (piece, shade)) in pieces.into_iter().enumerate().filter(|(_, (piece, _))| !piece.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
            at += 1;
        }
        let width = look.width.filter(|width| *width >= WIDTH_MIN);
        let piece = match width {
            Some(width) if place == last => wrapped(&piece, at, width),
            _ => piece,
        };
        at += width_of(&piece);
        match shade.filter(|_| look.colour) {
            Some(shade) => {
                let _ = write!(out, "\u{1b}[{shade}m{piece}\u{1b}[0m");
            }
            None => out.push_str(&piece),
        }
    }
    out
}

fn width_of(text: &str) -> usize {
    text.chars().map(|char| char.width().unwrap_or(0)).sum()
}

/// Breaks a text at blanks where there are any, its first line beginning at a column.
fn wrapped(text: &str, column: usize, width: usize) -> String {
    let mut lines = Vec::new();
    let mut room = width.saturating_sub(column);
    let mut rest = text;
    while !rest.is_empty() && lines.len() < LINES_MAX {
        let (line, after) = broken(rest, room, !lines.is_empty());
        lines.push(line);
        rest = after;
        room = width - INDENT.len();
    }
    let mut out = lines.join(&format!("\n{INDENT}"));
    if !rest.is_empty() {
        let _ = write!(out, "\n{INDENT}… and {} characters more: --json shows all", rest.chars().count());
    }
    out
}

/// What fits, and what is left. A word that fits nowhere is broken, but only where a line begins with it.
fn broken(text: &str, room: usize, begins: bool) -> (&str, &str) {
    let mut used = 0;
    let mut blank = None;
    for (at, char) in text.char_indices() {
        used += char.width().unwrap_or(0);
        if used > room {
            return match blank {
                Some(blank) => (&text[..blank], text[blank..].trim_start_matches(' ')),
                None if begins && at > 0 => text.split_at(at),
                None if begins => text.split_at(char.len_utf8()),
                None => ("", text),
            };
        }
        if char == ' ' && at > 0 {
            blank = Some(at);
        }
    }
    (text, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Look = Look { colour: false, width: None };

    fn row(json: &str) -> Row {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_record_is_one_line_and_cannot_act() {
        let record = row(
            r#"{"timestamp":"2026-01-13T12:34:56.789012Z","source_system":"shop","stage":"load","run_id":"r1",
            "type":"result","level":"ERROR","message":"\u001b[2Jboom\nINFO forged","row_count":3,"exception":"Trace\n  ValueError: no\n"}"#,
        );
        assert_eq!(
            log_line(&record, PLAIN),
            "2026-01-13 12:34:56.789 ERROR    shop/load r1 result \\u{1b}[2Jboom\\nINFO forged row_count=3 exception=ValueError: no"
        );
        let coloured = log_line(&record, Look { colour: true, width: None });
        assert!(
            coloured.contains("\u{1b}[31mERROR   \u{1b}[0m") && coloured.contains("\u{1b}[31mresult"),
            "{coloured:?}"
        );
    }

    #[test]
    fn a_long_text_is_wrapped_at_words_and_cut_at_some_length() {
        let message = "word ".repeat(60);
        let record = Row::of(
            &serde_json::json!({"timestamp": "2026-01-13T12:34:56.789012Z", "level": "INFO", "message": message}),
        )
        .unwrap();
        let shown = log_line(&record, Look { colour: false, width: Some(60) });
        assert!(shown.lines().count() > 4 && shown.lines().all(|line| line.chars().count() <= 60), "{shown}");
        assert!(shown.lines().skip(1).all(|line| line.starts_with("    word")), "{shown}");
        assert_eq!(shown.matches("word").count(), 60);
        let wide = Row::of(&serde_json::json!({"level": "INFO", "message": "漢".repeat(5_000)})).unwrap();
        let shown = log_line(&wide, Look { colour: false, width: Some(60) });
        assert_eq!(shown.lines().count(), LINES_MAX + 1, "{shown}");
        assert!(shown.lines().all(|line| width_of(line) <= 60), "{shown}");
    }

    #[test]
    fn a_run_says_how_it_went() {
        let run = row(r#"{"run_id":"r1","state":"failed","source_system":"shop","stage":null,"title":"nightly",
            "started_at":"2026-01-13T12:34:56.789012Z","duration":4.5,"records":7,"errors":1,"row_count":null,"failure":"no disk"}"#);
        assert_eq!(
            run_line(&run, PLAIN),
            "2026-01-13 12:34:56.789 failed    shop r1 4.5 s, 7 records, 1 errors no disk"
        );
    }
}
