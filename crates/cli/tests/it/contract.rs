//! What every client may rely on, whatever the route: the name of an exchange, tags of answers, pages of other origins.

use std::io::{BufReader, Read, Write};

use runstone_record::RecordId;
use tempfile::TempDir;

use crate::client::{address, connect, read_answer};
use crate::harness::{Answer, Server, stderr, until};

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    let line = |line: &'a str| line.split_once(": ").filter(|(given, _)| given.eq_ignore_ascii_case(name));
    answer.headers.lines().find_map(line).map(|(_, value)| value)
}

/// A server with one variable of the environment.
fn server_with(name: &'static str, value: &str) -> Server {
    Server::start_among(TempDir::new().unwrap(), "127.0.0.1:0", &[], &[(name, value.to_owned())])
}

fn is_minted(name: &str) -> bool {
    RecordId::parse(name).is_ok() && name.as_bytes()[14] == b'7'
}

#[test]
fn every_answer_bears_a_name_and_an_error_says_it() {
    let server = server_with("RUNSTONE_LOG", "debug");
    let long = "a".repeat(20 << 10);
    let asked = [
        ("GET", "/health", "", 200),
        ("HEAD", "/api/v1/runs", "", 200),
        ("GET", "/nowhere", "", 404),
        ("PUT", "/api/v1/logs", "", 405),
        ("POST", "/api/v1/logs", "", 415),
        ("GET", "/api/v1/logs?limit=0", "", 400),
        ("GET", "/", &long, 431),
    ];
    let mut before = String::new();
    for (method, path, more, status) in asked {
        let answer = server.http(method, path, &[("x-more", more), ("x-request-id", "mine/1")], b"");
        assert_eq!((answer.status, header(&answer, "x-request-id")), (status, Some("mine/1")), "{path}");
        let answer = server.http(method, path, &[("x-more", more)], b"");
        let minted = header(&answer, "x-request-id").unwrap().to_owned();
        assert!(is_minted(&minted) && minted != before, "{minted}");
        if status >= 400 {
            let body = answer.json();
            assert_eq!(body["request_id"].as_str(), Some(minted.as_str()));
            assert_eq!(body["help"].as_str(), Some(format!("/errors/{}", body["error"].as_str().unwrap()).as_str()));
        }
        before = minted;
    }
    let replaced = server.http("GET", "/health", &[("x-request-id", "two words")], b"");
    assert!(is_minted(header(&replaced, "x-request-id").unwrap()));
    server.http("GET", "/api/v1/runs/none", &[("x-request-id", "look-for-me")], b"");
    until("the log names the exchange", || {
        let printed = server.printed();
        printed.lines().any(|line| line.contains("look-for-me") && line.contains("/api/v1/runs/none"))
    });
}

#[test]
fn a_command_that_is_refused_says_where_to_read_on() {
    let server = Server::start();
    let printed = stderr(&server.cli(&["query", "DELETE FROM logs"]));
    let (_, rest) = printed.split_once("(invalid_query; request ").unwrap_or_else(|| panic!("{printed}"));
    assert!(is_minted(&rest[..36]), "{printed}");
    assert_eq!(rest[36..].trim_end(), format!("; see {}/errors/invalid_query)", server.url()));
}

#[test]
fn what_a_client_has_already_is_not_sent_again() {
    let server = Server::start();
    server.post(r#"{"run_id":"a","type":"start","message":"one"}"#);
    for path in
        ["/api/v1/logs", "/api/v1/runs", "/api/v1/runs/a", "/api/v1/runs/a/logs", "/errors", "/errors/not_found"]
    {
        let first = server.http("GET", path, &[], b"");
        let tag = header(&first, "etag").unwrap_or_else(|| panic!("{first:?}")).to_owned();
        assert_eq!(header(&first, "cache-control"), Some("no-cache"));
        let weak = format!("W/{tag}");
        let listed = format!("\"a\", {weak} , \"b\"");
        for known in [tag.as_str(), &weak, &listed, "*"] {
            for method in ["GET", "HEAD"] {
                let again = server.http(method, path, &[("if-none-match", known)], b"");
                assert_eq!((again.status, again.body.len()), (304, 0), "{method} {path} {known}");
                assert_eq!(header(&again, "etag"), Some(tag.as_str()));
                assert_eq!(header(&again, "cache-control"), Some("no-cache"));
                assert_eq!(header(&again, "vary"), header(&first, "vary"));
                assert!(header(&again, "date").is_some() && header(&again, "x-request-id").is_some());
                // It would say how long the answer is that is not sent.
                assert_eq!((header(&again, "content-length"), header(&again, "content-type")), (None, None));
            }
        }
        let bare = tag.trim_matches('"');
        for other in ["\"a\"", bare, "", &format!("\"{bare}x\""), "\"a\", *"] {
            let again = server.http("GET", path, &[("if-none-match", other)], b"");
            assert_eq!((again.status, again.body == first.body), (200, true), "{path} {other}");
        }
        let head = server.http("HEAD", path, &[], b"");
        assert_eq!((header(&head, "etag"), head.body.len()), (Some(tag.as_str()), 0));
        assert_eq!(header(&head, "content-length"), Some(first.body.len().to_string().as_str()));
    }
    let first = server.http("GET", "/api/v1/logs", &[], b"");
    let tag = header(&first, "etag").unwrap().to_owned();
    server.post(r#"{"run_id":"a","message":"two"}"#);
    let again = server.http("GET", "/api/v1/logs", &[("if-none-match", &tag)], b"");
    assert_eq!((again.status, again.json()["records"].as_array().unwrap().len()), (200, 2));
    // Nothing of the kind for what is watched, and for failures.
    for path in ["/metrics", "/health", "/ready", "/api/v1/runs/b"] {
        let answer = server.http("GET", path, &[("if-none-match", "*")], b"");
        assert!(answer.status != 304 && header(&answer, "etag").is_none(), "{answer:?}");
    }
}

#[test]
fn pages_of_other_origins_are_let_in_by_name() {
    let origin = "https://logs.example.com";
    let preflight = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type,idempotency-key"),
    ];
    let closed = Server::start();
    assert_eq!(closed.http("OPTIONS", "/api/v1/logs", &preflight, b"").status, 405);
    let read = closed.http("GET", "/api/v1/runs", &[("origin", origin)], b"");
    assert!(!read.headers.to_ascii_lowercase().contains("access-control-"), "{read:?}");

    let open = server_with("RUNSTONE_HTTP_CORS_ORIGINS", &format!("http://localhost:5173,{origin}"));
    let allowed = open.http("OPTIONS", "/api/v1/logs", &preflight, b"");
    assert_eq!((allowed.status, header(&allowed, "access-control-allow-origin")), (200, Some(origin)));
    assert_eq!(header(&allowed, "access-control-allow-methods"), Some("GET,HEAD,POST"));
    let headers = header(&allowed, "access-control-allow-headers").unwrap();
    for name in ["content-type", "content-encoding", "idempotency-key", "x-request-id", "if-none-match"] {
        assert!(headers.split(',').any(|allowed| allowed == name), "{headers}");
    }
    // A failure too can be read by the page that asked.
    for path in ["/api/v1/runs", "/api/v1/runs/none", "/nowhere"] {
        let read = open.http("GET", path, &[("origin", origin)], b"");
        assert_eq!(header(&read, "access-control-allow-origin"), Some(origin), "{path}");
        let exposed = header(&read, "access-control-expose-headers").unwrap();
        assert_eq!(exposed, "etag,retry-after,idempotency-replayed,x-request-id");
        let other = open.http("GET", path, &[("origin", "https://evil.example")], b"");
        assert_eq!(header(&other, "access-control-allow-origin"), None, "{path}");
    }
}

#[test]
fn what_is_no_request_is_told_so_in_the_one_shape() {
    let server = Server::start();
    let get = "GET /api/v1/runs HTTP/1.1\r\nhost: test\r\n\r\n";
    let many: String = (0..500).map(|number| format!("x-{number}: 1\r\n")).collect();
    for (bytes, status, code) in [
        ("\u{16}\u{3}\u{1} not HTTP\r\n\r\n".to_owned(), 400, "invalid_request"),
        ("GET /health HTTP/1.1\r\nno colon\r\n\r\n".to_owned(), 400, "invalid_request"),
        (format!("GET /health HTTP/1.1\r\n{many}\r\n"), 431, "headers_too_large"),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100 << 10)), 431, "headers_too_large"),
    ] {
        for before in ["", get] {
            let mut stream = BufReader::new(connect(address(server.url())).unwrap());
            let _ = stream.get_mut().write_all(format!("{before}{bytes}").as_bytes());
            if !before.is_empty() {
                let first = read_answer(&mut stream).unwrap();
                assert_eq!((first.status, first.json()["runs"].as_array().map(Vec::len)), (200, Some(0)));
            }
            let answer = read_answer(&mut stream).unwrap();
            let body = answer.json();
            assert_eq!((answer.status, body["error"].as_str()), (status, Some(code)), "{answer:?}");
            assert!(is_minted(body["request_id"].as_str().unwrap()), "{body}");
            assert_eq!(header(&answer, "x-request-id"), body["request_id"].as_str());
            assert_eq!(header(&answer, "connection"), Some("close"));
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).unwrap();
            assert_eq!(rest, b"", "nothing comes after it");
        }
    }
}
