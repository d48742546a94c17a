//! What `deploy/terraform/logger` tells the function and lets it do, beside what the function reads and does.

use std::collections::BTreeSet;

use serde_json::json;

use crate::lambda::Function;
use crate::logger::make_table;
use crate::moto::Moto;
use crate::proxy::Proxy;

fn file(path: &str) -> String {
    std::fs::read_to_string(format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// What follows a prefix, as far as it is of letters and underscores.
fn named<'t>(text: &'t str, prefix: &str) -> BTreeSet<&'t str> {
    let end = |rest: &str| rest.find(|c: char| !c.is_ascii_alphabetic() && c != '_').unwrap_or(rest.len());
    text.split(prefix).skip(1).map(|rest| &rest[..end(rest)]).filter(|name| !name.is_empty()).collect()
}

#[test]
fn every_variable_of_the_function_is_a_setting() {
    let (main, guide) = (file("deploy/terraform/logger/main.tf"), file("docs/logger.md"));
    let set = named(&main, "RUNSTONE_");
    assert!(set.len() >= 8, "{set:?}");
    let settings = named(&guide, "| `RUNSTONE_");
    for name in set {
        assert!(settings.contains(name), "RUNSTONE_{name} is none of {settings:?}");
    }
}

#[test]
fn the_role_may_do_what_appends_do_and_nothing_else() {
    let moto = Moto::start();
    make_table(&moto, "dmdb_logs");
    let proxy = Proxy::before(moto.url());
    let settings = [("RUNSTONE_DYNAMODB_ENDPOINT", proxy.url()), ("RUNSTONE_DYNAMODB_ITEM_BYTES_MAX", "1024")];
    let id = "5f6dd2a1-0a57-4cf5-8a16-3d1d2c6f0007";
    let event = |title: &str| json!({"run_id": "r", "log_entry": {"type": "info", "title": title, "description": "d".repeat(400), "id": id}});
    // Into further items, by a function that does not know them; sent again, and another under the same id.
    for _ in 0..2 {
        let function = Function::start(&settings);
        for number in 0..6 {
            let mut other = event(&number.to_string());
            other["log_entry"].as_object_mut().unwrap().remove("id");
            assert_eq!(function.invoke(&other)["statusCode"], 200);
        }
        for (title, status) in [("one", 200), ("one", 200), ("another", 400)] {
            assert_eq!(function.invoke(&event(title))["statusCode"], status);
        }
    }
    let role = file("deploy/terraform/logger/role.tf");
    let allowed: Vec<&str> = named(&role, "\"dynamodb:").into_iter().collect();
    assert_eq!(allowed, proxy.operations());
}
