//! What a client may put wrongly into a URL, on every route and into every parameter that the OpenAPI document lists: never a
//! 5xx, always the one shape of an error, and what is no error is taken as it stands.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Client, JSON};
use crate::cluster::Cluster;
use crate::fed::{caught_up, fed};
use crate::harness::{Answer, Server};
use crate::openapi::{LENIENT, UNKNOWN, document, filled, operations};

/// Whose callers know another shape of an error: it is held in `gateway`.
fn is_gateway(path: &str) -> bool {
    path == "/log" || path.starts_with("/get/") || path.starts_with("/execute/")
}

/// Texts that stand for themselves.
const LITERAL: [&str; 3] = ["' OR 1=1--", "$1", "%s"];

/// What is sent, in each parameter of each route.
const KINDS: [(Kind, &[u8]); 19] = [
    (Kind::Empty, b""),
    (Kind::Blank, b" "),
    (Kind::Blank, b"\t\r\n"),
    (Kind::Text, b"\0"),
    (Kind::Broken, b"\xff"),
    (Kind::Broken, b"\xed\xa0\x80"),
    (Kind::Long, &[b'1'; 2 << 10]),
    (Kind::Text, LITERAL[0].as_bytes()),
    (Kind::Text, LITERAL[1].as_bytes()),
    (Kind::Text, LITERAL[2].as_bytes()),
    (Kind::Text, b"../../etc/passwd"),
    (Kind::Text, b"..%2f..\\x"),
    (Kind::Text, b"<script>alert(1)</script>"),
    (Kind::Text, b"-1"),
    (Kind::Number, b"1000000000000"),
    (Kind::Word, b"NaN"),
    (Kind::Exponent, b"1e400"),
    (Kind::Date, b"2025-13-01T00:00:00Z"),
    (Kind::Date, b"0000-01-01T00:00:00Z"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Empty,
    Blank,
    /// No UTF-8.
    Broken,
    Long,
    Text,
    Number,
    Word,
    Exponent,
    Date,
}

/// Does a parameter take what is sent? None where only the shape of the answer is certain.
fn takes(path: &str, name: &str, kind: Kind, value: &[u8]) -> Option<bool> {
    use Kind::{Blank, Broken, Date, Empty, Exponent, Long, Number, Text, Word};
    match kind {
        Empty => return Some(name != "field"),
        Broken | Long => return Some(false),
        Blank | Text | Number | Word | Exponent | Date => {}
    }
    Some(match name {
        "source_system" | "stage" | "run_id" => matches!(kind, Number | Word | Exponent | Date),
        "trace_id" | "span_id" => matches!(kind, Number | Exponent),
        "since" | "until" | "duration_min" | "duration_max" => kind == Number,
        "level" => kind == Number || value == b"-1",
        "q" if !path.ends_with("/runs") => kind != Blank,
        "store" | "id" | "limit" | "order" | "cursor" | "format" | "type" | "state" | "field" | "group_by"
        | "bucket" | "percentiles" => false,
        "q" | "prefix" | "environment" | "owner" | "metadata.k" | "journal" | "logger_name" | "status"
        | "entity_name" | "target_table" | "notebook_name" | "workspace_id" | "lakehouse_id" | "hostname"
        | "thread_name" | "function_name" | "module" | "filename" | "pathname" => true,
        _ => return None,
    })
}

fn encoded(value: &[u8]) -> String {
    value.iter().map(|byte| format!("%{byte:02X}")).collect()
}

/// What every refusal has; its code.
fn refusal(answer: &Answer, what: &str) -> String {
    assert!((400..500).contains(&answer.status), "{what}: {answer:?}");
    assert!(answer.headers.to_ascii_lowercase().contains("content-type: application/json"), "{what}: {answer:?}");
    let body = answer.json();
    let code = body["error"].as_str().unwrap_or_else(|| panic!("{what}: {body}"));
    assert_eq!(body["help"], format!("/errors/{code}"), "{what}");
    assert!(body["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{what}: {body}");
    assert!(body["message"].as_str().is_some_and(|text| !text.contains(char::is_control)), "{what}: {body}");
    code.to_owned()
}

/// What every refusal of the gateway's has.
fn failure(answer: &Answer, what: &str) {
    let body = answer.json();
    assert_eq!((body.as_object().unwrap().len(), &body["error"]), (2, &Value::Bool(true)), "{what}: {answer:?}");
    assert!(body["message"].as_str().is_some_and(|text| !text.contains(char::is_control)), "{what}: {body}");
}

/// A parameter is refused, in the form of the route.
fn invalid(answer: &Answer, path: &str) {
    if is_gateway(path) {
        failure(answer, path);
        assert_eq!(answer.status, 400, "{path}: {answer:?}");
    } else {
        assert_eq!(refusal(answer, path), "invalid_parameter");
    }
}

fn refused(client: &mut Client, path: &str, words: &str) {
    let answer = client.get(path).unwrap();
    invalid(&answer, path);
    assert!(answer.status == 400 && answer.json()["message"].to_string().contains(words), "{path}: {answer:?}");
}

/// A server with a run, and a record for each text that stands for itself.
fn server() -> Server {
    filled_with_some(Server::start())
}

fn filled_with_some(server: Server) -> Server {
    let mut records = vec![json!({"run_id": "a-run", "type": "start", "source_system": "shop", "message": "one"})];
    records.extend(LITERAL.map(|text| json!({"hostname": text, "message": text, "metadata": {"k": text}})));
    records.push(json!({"message": "a\0b", "hostname": "\0", "metadata": {"k": "\0"}}));
    let traced = json!({
        "id": "01980000-ABCD-7000-8000-00000000000F", "trace_id": "4BF92F3577B34DA6", "run_id": "a-run", "message": "traced",
    });
    records.push(traced);
    assert_eq!(server.post(&Value::from(records).to_string()).status, 200);
    server
}

/// Every kind in every parameter of one operation.
fn check(server: &Server, path: &str, operation: &Value) -> usize {
    let mut client = Client::new(server.url());
    let parameters = operation["parameters"].as_array().unwrap().iter().filter(|one| one["in"] == "query");
    let mut asked = 0;
    for name in parameters.map(|one| one["name"].as_str().unwrap().replace("KEY", "k")) {
        // What the route cannot do without.
        let needed = if path == "/api/v1/values" && name != "field" { "field=type&" } else { "" };
        let base = format!("{path}?{needed}{name}");
        for (kind, value) in KINDS {
            let url = format!("{base}={}", encoded(value));
            let answer = client.get(&url).unwrap();
            asked += 1;
            match takes(path, &name, kind, value) {
                Some(true) => assert_eq!(answer.status, 200, "{url}: {answer:?}"),
                None if answer.status == 200 => {}
                _ => invalid(&answer, &url),
            }
        }
        refused(&mut client, &format!("{base}=%FF"), &format!("parameter {name}: is not UTF-8"));
        refused(&mut client, &format!("{base}={}", "1".repeat(1_025)), "must have at most 1024 bytes");
        refused(&mut client, &format!("{base}=&{name}="), "is given twice");
        refused(&mut client, &format!("{path}?{needed}{UNKNOWN}=1"), UNKNOWN);
    }
    asked
}

#[test]
fn every_parameter_of_every_route_takes_what_it_takes_and_refuses_the_rest() {
    let cluster = Cluster::start();
    let settings = fed(&cluster, "");
    let server = filled_with_some(settings.start(TempDir::new().unwrap()));
    caught_up(&server, "postgres");
    let document = document(&server);
    let routes = operations(&document);
    let asked: Vec<usize> = std::thread::scope(|scope| {
        let each = routes.iter().filter(|(_, method, _)| *method == "get");
        let threads: Vec<_> =
            each.map(|(path, _, operation)| scope.spawn(|| check(&server, &filled(path), operation))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(asked.iter().sum::<usize>() > 1_500, "{asked:?}");
}

#[test]
fn an_offset_a_limit_and_a_word_are_what_they_can_be() {
    let server = server();
    let mut client = Client::new(server.url());
    for path in ["/api/v1/logs", "/api/v1/runs/a-run/logs", "/api/v1/runs"] {
        for limit in ["1000000000000", "-1", "0", "1001", "1e3", "%2B5x"] {
            refused(&mut client, &format!("{path}?limit={limit}"), "parameter limit: must be between 1 and 1000");
        }
        for time in
            ["2025-01-01T00:00:00%2B99:99", "2025-02-30T00:00:00Z", "2025-01-01T00:00:00", "2263-01-01T00:00:00Z"]
        {
            refused(&mut client, &format!("{path}?since={time}"), "parameter since: must be RFC 3339");
        }
        refused(&mut client, &format!("{path}?cursor=AQK29w1L8Z0DAAZg"), "parameter cursor: must be the next");
    }
    // A stream has no end to be bounded.
    let all = client.get("/api/v1/logs?format=ndjson&limit=1000000000000").unwrap();
    assert_eq!((all.status, all.body.split(|byte| *byte == b'\n').count() - 1), (200, 6));
    for (query, words) in [
        (
            "type=banana",
            "must be one of start, status, code, info, result, warning, error, success, end, log, activity",
        ),
        ("id=nope", "must be a UUID"),
        ("run_id=..%2F..%2Fetc", "must begin with a letter or a digit"),
        ("stage=a%20b", "must consist of letters"),
        ("trace_id=xyz", "must be 1 to 64 hexadecimal digits"),
        ("q=%22%22", "must be words or"),
        ("stag=a", "is stage meant?"),
    ] {
        for path in ["/api/v1/logs", "/api/v1/fields", "/api/v1/values"] {
            let field = if path == "/api/v1/values" { "field=type&" } else { "" };
            refused(&mut client, &format!("{path}?{field}{query}"), words);
        }
    }
    for path in ["/api/v1/runs", "/api/v1/metrics"] {
        refused(&mut client, &format!("{path}?source_system=a%2Fb"), "must consist of letters");
        refused(&mut client, &format!("{path}?stage=CON"), "must not be a device name");
    }
}

#[test]
fn a_filter_finds_what_it_says_and_nothing_else() {
    let server = server();
    let mut client = Client::new(server.url());
    let mut found = |query: &str| client.get(&format!("/api/v1/logs?{query}")).unwrap().json()["records"].take();
    let messages = |records: &Value| -> Vec<String> {
        records.as_array().unwrap().iter().map(|record| record["message"].as_str().unwrap().to_owned()).collect()
    };
    for text in LITERAL {
        let value = encoded(text.as_bytes());
        for filter in ["hostname", "metadata.k", "q"] {
            assert_eq!(messages(&found(&format!("{filter}={value}"))), [text], "{filter}");
        }
        assert_eq!(found(&format!("environment={value}")), json!([]));
    }
    // NUL is kept as U+FFFD, and found by either.
    for nul in ["%00", "%EF%BF%BD"] {
        for filter in ["hostname", "metadata.k", "q"] {
            assert_eq!(messages(&found(&format!("{filter}={nul}"))), ["a\u{fffd}b"], "{filter}={nul}");
        }
    }
    for filter in [
        "id=01980000-ABCD-7000-8000-00000000000F",
        "id=01980000-abcd-7000-8000-00000000000f",
        "trace_id=4BF92F3577B34DA6",
        "trace_id=4bf92f3577b34da6",
    ] {
        assert_eq!(messages(&found(filter)), ["traced"], "{filter}");
        let of_run = server.http("GET", &format!("/api/v1/runs/a-run/logs?{filter}"), &[], b"").json();
        assert_eq!(messages(&of_run["records"]), ["traced"], "{filter}");
        let values = server.http("GET", &format!("/api/v1/values?field=trace_id&{filter}"), &[], b"").json();
        assert_eq!(values["values"], json!([{"value": "4bf92f3577b34da6", "records": 1}]), "{filter}");
    }
}

#[test]
fn a_method_or_a_path_that_is_not_there_is_refused_in_the_one_shape() {
    let server = server();
    let mut client = Client::new(server.url());
    let document = document(&server);
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = filled(path);
        for method in ["PUT", "DELETE", "TRACE", "PATCH"] {
            let answer = client.request(method, &path, &[JSON], b"").unwrap();
            assert_eq!(answer.status, 405, "{path}: {answer:?}");
            if !is_gateway(&path) {
                assert_eq!(refusal(&answer, &path), "method_not_allowed");
            } else {
                failure(&answer, &path);
            }
            let allow = answer.headers.lines().find_map(|line| line.strip_prefix("allow: ")).unwrap().to_owned();
            let listed = methods.as_object().unwrap().keys().all(|method| allow.contains(&method.to_uppercase()));
            assert!(listed, "{method} {path}: {allow}");
        }
        // Whoever is watched takes any parameter, for probes that add some.
        if LENIENT.contains(&path.as_str()) {
            assert_eq!(client.get(&format!("{path}?{UNKNOWN}=%FF")).unwrap().status, 200, "{path}");
        }
    }
    for path in
        ["/nowhere", "/api/v1/nowhere", "/api/v1/logs/", "/api/v2/logs", "/api/v1", "//", "/..%2f..%2fetc/passwd"]
    {
        let answer = client.get(path).unwrap();
        assert_eq!((answer.status, refusal(&answer, path).as_str()), (404, "not_found"), "{path}");
    }
    for (kind, value) in KINDS {
        for path in ["/api/v1/runs/", "/errors/"] {
            let url = format!("{path}{}", encoded(value));
            let answer = client.get(&url).unwrap();
            let code = refusal(&answer, &url);
            let is_name = matches!(kind, Kind::Number | Kind::Word | Kind::Exponent | Kind::Date | Kind::Empty);
            let wanted = match path {
                "/errors/" if kind != Kind::Broken => "not_found",
                "/api/v1/runs/" if is_name => "not_found",
                _ => "invalid_parameter",
            };
            assert_eq!(code, wanted, "{url}: {answer:?}");
        }
    }
}
