//! The OpenAPI document: that of the repository is the server's, what it lists is what the handlers know, its examples are
//! true, and Schemathesis finds the server to keep to it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use runstone_record::ErrorCode;
use serde_json::Value;
use tempfile::TempDir;

use crate::business::Shop;
use crate::foreign::{python, script};
use crate::harness::{Server, stderr, stdout};
use crate::readme::{page, repository};

/// A word that no route takes as a parameter.
pub(crate) const UNKNOWN: &str = "no-such-parameter";
/// What is watched takes whatever a prober adds.
pub(crate) const LENIENT: [&str; 4] = ["/", "/health", "/ready", "/metrics"];

pub(crate) fn document(server: &Server) -> Value {
    server.http("GET", "/openapi.json", &[], b"").json()
}

/// The operations: path, method, what the document says.
pub(crate) fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
        })
        .collect()
}

/// A path with something in its places.
pub(crate) fn filled(path: &str) -> String {
    path.replace("{run_id}", "a-run").replace("{code}", "not_found")
}

/// Renew with `UPDATE_GOLDEN=1 cargo nextest run --workspace the_repository_has_the_servers_document`.
#[test]
#[expect(clippy::disallowed_methods, reason = "how a golden file is written again")]
fn the_repository_has_the_servers_document() {
    let served = serde_json::to_string_pretty(&document(&Server::start())).unwrap() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(repository().join("docs/openapi.json"), &served).unwrap();
    }
    let kept = page("docs/openapi.json");
    let differs = kept.lines().zip(served.lines()).position(|(kept, served)| kept != served);
    assert!(
        kept == served,
        "docs/openapi.json lags behind from line {differs:?}: set UPDATE_GOLDEN=1 to write it again"
    );
}

#[test]
fn every_route_method_and_code_is_in_the_document() {
    let server = Server::start();
    let document = document(&server);
    let mut listed: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (path, method, _) in operations(&document) {
        listed.entry(path).or_default().insert(method.to_uppercase());
        if method == "get" {
            listed.entry(path).or_default().insert("HEAD".to_owned());
        }
    }
    let source = page("crates/server/src/api/mod.rs");
    let routes: BTreeSet<&str> =
        source.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap_or_default()).collect();
    assert_eq!(listed.keys().copied().collect::<BTreeSet<_>>(), routes);
    for (path, methods) in &listed {
        let answer = server.http("MADEUP", &filled(path), &[], b"");
        let allow = answer.headers.lines().find_map(|line| line.strip_prefix("allow: ")).unwrap();
        assert_eq!(&allow.split(',').map(str::to_owned).collect::<BTreeSet<_>>(), methods, "{path}");
    }
    let text = document.to_string();
    for code in ErrorCode::ALL {
        let of_one_record = page(&format!("docs/errors/{code}.md")).contains("\"rejected\"");
        assert!(of_one_record || text.contains(&format!("`{code}`")), "{code} is in no answer");
    }
    let codes = document["components"]["schemas"]["Code"]["enum"].as_array().unwrap();
    assert_eq!(
        codes.iter().filter_map(Value::as_str).collect::<Vec<_>>(),
        ErrorCode::ALL.iter().map(|code| code.as_str()).collect::<Vec<_>>()
    );
}

#[test]
fn the_parameters_are_those_of_the_handlers() {
    let server = Server::start();
    server.post(r#"{"run_id":"a-run","message":"one"}"#);
    for (path, method, operation) in operations(&document(&server)) {
        let listed: BTreeSet<&str> = operation["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|parameter| parameter["in"] == "query")
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        let path = filled(path);
        let headers = [("content-type", "application/json")];
        let answer = server.http(&method.to_uppercase(), &format!("{path}?{UNKNOWN}=1"), &headers, b"{}");
        if LENIENT.contains(&path.as_str()) {
            assert!(answer.status != 400 && listed.is_empty(), "{path}");
            continue;
        }
        assert_eq!(answer.status, 400, "{method} {path}");
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(UNKNOWN), "{message}");
        let known: BTreeSet<&str> =
            message.split_once("these are: ").map(|(_, known)| known.split(", ").collect()).unwrap_or_default();
        assert_eq!(listed, known, "{method} {path}");
    }
}

#[test]
fn every_example_is_true() {
    let shop = Shop::fed();
    let found = script("openapi.py", &[shop.server.url()]);
    let (examples, requests) = (found["examples"].as_u64().unwrap(), found["requests"].as_u64().unwrap());
    assert!(examples > 200 && requests > 60, "{found}");
}

#[test]
fn schemathesis_finds_the_server_to_keep_to_the_document() {
    let shop = Shop::fed();
    let server = &shop.server;
    let operations = operations(&document(server)).len() as u64;
    let (place, config) = (TempDir::new().unwrap(), repository().join("crates/cli/tests/readers"));
    let report = place.path().join("report.json");
    let output = Command::new(python())
        .args(["-m", "schemathesis.cli", "--config-file"])
        .arg(config.join("schemathesis.toml"))
        .args([
            "run",
            &format!("{}/openapi.json", server.url()),
            "--no-color",
            "--report",
            "json",
            "--report-json-path",
        ])
        .arg(&report)
        .env("SCHEMATHESIS_HOOKS", "schemathesis_hooks")
        .env("PYTHONPATH", &config)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(place.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    // It leaves out the one that it reads itself.
    assert_eq!(report["operations"]["tested"].as_u64(), Some(operations - 1), "{report}");
    assert!(report["test_cases"]["generated"].as_u64() > Some(1_500), "{report}");
    for phase in ["examples", "coverage", "fuzzing"] {
        assert_eq!(report["phases"][phase]["status"], "success", "{report}");
    }
}
