//! The lists in the documents are those of the code.

use std::fs;

use runstone_record::limits::{
    IDENTIFIER_CHARS_MAX, KEY_BYTES_MAX, NUMBER_BYTES_MAX, RECORD_BYTES_MAX, RECORD_DEPTH_MAX, RECORD_KEYS_MAX,
    REQUEST_RECORDS_MAX, TRACE_DIGITS_MAX,
};
use runstone_record::words::FAILURE_STATUSES;
use runstone_record::{Column, Kind, Level, RecordType};

fn document(name: &str) -> String {
    let path = format!("../../docs/{name}");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {path}: {error}"))
}

/// The cells of the table's rows under a heading.
fn table(document: &str, heading: &str) -> Vec<Vec<String>> {
    let (_, rest) = document.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading {heading}"));
    let rows = rest.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|')).skip(2);
    let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    rows.map(cells).collect()
}

/// What stands between backquotes in the paragraph or list under a heading.
fn quoted(document: &str, heading: &str) -> Vec<String> {
    let (_, rest) = document.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading {heading}"));
    let part = rest.split("\n#").next().unwrap_or_default();
    part.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_column_is_described() {
    let rows = table(&document("formats/record.md"), "## Columns");
    let wanted: Vec<Vec<String>> = Column::ALL
        .into_iter()
        .map(|column| {
            let kind = format!("{:?}", column.kind()).to_lowercase();
            vec![column.code().to_string(), format!("`{}`", column.name()), kind, column.doc().to_owned()]
        })
        .collect();
    assert_eq!(rows, wanted);
}

#[test]
fn every_kind_has_its_encoding() {
    let rows = table(&document("formats/frame.md"), "## Encodings");
    let encoding = |kind: Kind| match kind {
        Kind::Text | Kind::Hex | Kind::Json => Some("1"),
        Kind::Identifier | Kind::Word | Kind::Label | Kind::List => Some("2"),
        Kind::Time | Kind::Int => Some("3"),
        Kind::Float => Some("4"),
        Kind::Id | Kind::Date => None,
    };
    for column in crate::random::stored() {
        let kind = format!("{:?}", column.kind()).to_lowercase();
        let of_kind = |row: &&Vec<String>| row[2].split(", ").any(|listed| listed == kind);
        let row = rows.iter().find(of_kind).unwrap_or_else(|| panic!("{kind} has no encoding"));
        assert_eq!(Some(row[0].as_str()), encoding(column.kind()), "{kind}");
    }
}

#[test]
fn every_word_is_listed() {
    let record = document("formats/record.md");
    let types: Vec<&str> = RecordType::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(quoted(&record, "### Types"), types);
    let levels = table(&record, "### Levels");
    for (row, level) in levels.iter().zip(Level::ALL) {
        assert_eq!(row[0], format!("`{level}`"));
        for word in row[1].split(", ") {
            assert_eq!(Level::read(word), Some(*level), "{word}");
        }
    }
    assert_eq!(levels.len(), Level::ALL.len());
}

#[test]
fn every_failure_status_is_listed() {
    assert_eq!(quoted(&document("runs.md"), "### Statuses that mean failure"), FAILURE_STATUSES);
}

#[test]
fn every_limit_has_its_number() {
    let limits = [
        ("records in a request", REQUEST_RECORDS_MAX),
        ("bytes of a record's JSON", RECORD_BYTES_MAX),
        ("depth of a record", RECORD_DEPTH_MAX),
        ("keys in a record", RECORD_KEYS_MAX),
        ("bytes of a key", KEY_BYTES_MAX),
        ("characters of a number", NUMBER_BYTES_MAX),
        ("characters of an identifier", IDENTIFIER_CHARS_MAX),
        ("digits of a trace or span id", TRACE_DIGITS_MAX),
    ];
    let rows = table(&document("formats/record.md"), "## Limits");
    for (name, value) in limits {
        let row = rows.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("no limit {name}"));
        assert_eq!(row[1].replace(',', ""), value.to_string(), "{name}");
    }
    assert_eq!(rows.len(), limits.len());
}
