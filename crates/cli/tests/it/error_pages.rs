//! docs/errors: a page for each code, true to the code and to the server, and served by the server itself.

use std::collections::BTreeSet;

use runstone_record::ErrorCode;
use runstone_record::code::Happened;
use runstone_record::wire::ErrorBody;
use serde_json::Value;

use crate::readme::{Terminal, blocks, compare, page, repository, table};

#[test]
fn each_code_has_its_page_and_no_page_is_without_a_code() {
    let pages = std::fs::read_dir(repository().join("docs/errors")).unwrap();
    let pages: BTreeSet<String> = pages.map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    let wanted: BTreeSet<String> = ErrorCode::ALL.iter().map(|code| format!("{code}.md")).collect();
    assert_eq!(pages, wanted);
    let listed = table(&page("docs/http.md"), "## Errors");
    let links: BTreeSet<String> = listed
        .iter()
        .filter_map(|row| row[0].split_once("](errors/").map(|(_, rest)| rest.trim_end_matches(')').to_owned()))
        .collect();
    assert_eq!(links, wanted, "the table of docs/http.md links them");
    for code in ErrorCode::ALL {
        let page = page(&format!("docs/errors/{code}.md"));
        let yes = |yes: bool| if yes { "yes" } else { "no" };
        let stored = if code.happened() == Happened::Unknown { "maybe" } else { "no" };
        let heading = format!(
            "# `{code}`\n\n| status | retryable | stored |\n|---|---|---|\n| {} | {} | {stored} |\n\n",
            code.status(),
            yes(code.retryable())
        );
        assert!(page.starts_with(&heading), "docs/errors/{code}.md begins otherwise:\n{heading}");
        assert!(page.contains("\n## What to do\n") && page.contains("\n## Example\n"), "{code}");
    }
}

#[test]
fn every_example_is_what_the_server_answers() {
    let terminal = Terminal::open();
    let mut run = 0;
    for code in ErrorCode::ALL {
        let blocks = blocks(&page(&format!("docs/errors/{code}.md")));
        let shown = blocks.last().unwrap();
        let body: Value = serde_json::from_str(&shown.text).unwrap();
        let says = body["error"].as_str().or_else(|| body["errors"][0]["code"].as_str());
        assert_eq!(says, Some(code.as_str()));
        if let [command, _] = &blocks[..] {
            compare(shown, &terminal.run(command));
            run += 1;
        }
        if body.get("error").is_some() {
            let body: ErrorBody = serde_json::from_value(body).unwrap();
            assert_eq!((body.retryable, body.help), (code.retryable(), format!("/errors/{code}")));
        }
    }
    assert!(run >= ErrorCode::ALL.len() - 9, "only {run} of the examples are run");
}

#[test]
fn the_server_has_the_pages_in_it() {
    let terminal = Terminal::open();
    let server = &terminal.server;
    for code in ErrorCode::ALL {
        let answer = server.http("GET", &format!("/errors/{code}"), &[], b"");
        assert!(answer.headers.contains("content-type: text/markdown; charset=utf-8"), "{answer:?}");
        let served = String::from_utf8(answer.body).unwrap();
        let whole = format!("]({}/blob/main/docs/", env!("CARGO_PKG_REPOSITORY"));
        assert_eq!(served, page(&format!("docs/errors/{code}.md")).replace("](../", &whole));
    }
    let list = String::from_utf8(server.http("GET", "/errors", &[], b"").body).unwrap();
    assert!(ErrorCode::ALL.iter().all(|code| list.contains(&format!("[`{code}`](/errors/{code})"))), "{list}");

    let browser = [("accept", "text/html,application/xhtml+xml,*/*;q=0.8")];
    let answer = server.http("GET", "/errors/invalid_json", &browser, b"");
    assert!(answer.headers.contains("content-type: text/html; charset=utf-8"), "{answer:?}");
    assert!(answer.headers.contains("content-security-policy: default-src 'none'"), "{answer:?}");
    let list = String::from_utf8(server.http("GET", "/errors", &browser, b"").body).unwrap();
    assert!(list.contains("<a href=\"/errors/invalid_json\">"), "{list}");

    let unknown = server.http("GET", "/errors/%3Cscript%3E", &browser, b"");
    assert_eq!((unknown.status, unknown.json()["error"].as_str()), (404, Some("not_found")));
    let not_text = server.http("GET", "/errors/%FF", &[], b"");
    assert_eq!((not_text.status, not_text.json()["error"].as_str()), (400, Some("invalid_parameter")));
}
