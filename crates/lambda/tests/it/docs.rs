//! docs/logger.md, tried: each event on the page is sent to the function, and its answer is the page's.

use runstone_record::limits;
use serde_json::Value;

use crate::lambda::Function;
use crate::logger::make_table;
use crate::moto::Moto;

fn page(name: &str) -> String {
    std::fs::read_to_string(format!("../../{name}")).unwrap()
}

#[test]
fn events_and_answers_are_those_of_the_page() {
    let page = page("docs/logger.md");
    let blocks: Vec<Value> = page
        .split("```json\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .map(|block| serde_json::from_str(block).unwrap_or_else(|error| panic!("{error}: {block}")))
        .collect();
    assert!(blocks.len() >= 10 && blocks.len().is_multiple_of(2), "{}", blocks.len());
    let moto = Moto::start();
    make_table(&moto, "dmdb_logs");
    let function = Function::start(&[("RUNSTONE_DYNAMODB_ENDPOINT", moto.url())]);
    for pair in blocks.chunks(2) {
        assert_eq!(function.invoke(&pair[0]), pair[1], "{}", pair[0]);
    }
}

#[test]
fn the_pages_name_every_setting_and_the_limits_that_hold() {
    let (logger, dynamodb) = (page("docs/logger.md"), page("docs/dynamodb.md"));
    let source =
        ["settings", "report", "trace"].map(|name| page(&format!("crates/lambda/src/logger/{name}.rs"))).concat();
    let names: Vec<&str> = source.split('"').filter(|text| text.starts_with("RUNSTONE_")).collect();
    assert!(names.len() >= 10, "{names:?}");
    for name in names {
        assert!(logger.contains(&format!("| `{name}` |")), "{name}");
    }
    for (page, number) in [
        (&logger, limits::DYNAMO_ITEM_BYTES_MAX),
        (&logger, limits::DYNAMO_ITEM_BYTES_LIMIT),
        (&logger, limits::DYNAMO_ENTRY_BYTES_MAX),
        (&logger, limits::RECORD_BYTES_MAX),
        (&dynamodb, limits::DYNAMO_ITEM_BYTES_MAX),
        (&dynamodb, limits::DYNAMO_ITEM_BYTES_LIMIT),
        (&dynamodb, limits::DYNAMO_ENTRY_BYTES_MAX),
    ] {
        assert!(page.replace(',', "").contains(&format!(" {number} ")), "{number}");
    }
}
