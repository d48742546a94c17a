//! README.md and docs/http.md, done as they say: every block is run against a server, in order, and its answer checked.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use runstone_record::code::Happened;
use runstone_record::{ErrorCode, limits};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::foreign::python;
use crate::harness::{Server, runstone, stderr, stdout, until, write};
use crate::lake::{metric, signal};

const URL: &str = "http://127.0.0.1:7867";
const LAKE: &str = "data/lake";

/// Blocks that would build for minutes or never end. `make demo` is run by hand and by CI's first step.
const NOT_RUN: &[&str] =
    &["make demo\n", "cargo build --release\nexport PATH=\"$PWD/target/release:$PATH\"\n", "runstone serve\n"];

/// What an answer may have otherwise than the page: ids, cursors, and what the clock decides.
const VOLATILE: &[&str] =
    &["id", "journal", "ingested_at", "created_at", "updated_at", "next", "elapsed_ms", "request_id"];

pub(crate) fn repository() -> PathBuf {
    std::env::current_dir().unwrap().join("../..")
}

pub(crate) fn page(name: &str) -> String {
    let path = repository().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

/// A fenced block.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) language: String,
    pub(crate) text: String,
}

pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match line.strip_prefix("```") {
            Some(language) if !inside => blocks.push(Block { language: language.to_owned(), text: String::new() }),
            Some(rest) => assert_eq!(rest, "", "a fence closes alone on its line"),
            None if inside => {
                let text = &mut blocks.last_mut().unwrap().text;
                text.push_str(line);
                text.push('\n');
            }
            None => {}
        }
        inside ^= line.starts_with("```");
    }
    assert!(!inside, "the last block is not closed");
    blocks
}

/// A user's terminal: a directory, the binary on its path, and a server.
pub(crate) struct Terminal {
    pub(crate) server: Server,
    pub(crate) dir: TempDir,
}

impl Terminal {
    pub(crate) fn open() -> Terminal {
        Terminal { server: Server::start(), dir: TempDir::new().unwrap() }
    }

    #[expect(clippy::disallowed_methods, reason = "a shell needs its caller's path, and `runstone` before it")]
    fn command(&self, program: &str) -> Command {
        // Through `runstone()`, so that the caller's settings stay out.
        let clean = runstone();
        let mut command = Command::new(program);
        clean.get_envs().for_each(|(name, _)| {
            command.env_remove(name);
        });
        let binary = Path::new(clean.get_program()).parent().unwrap().to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([binary].into_iter().chain(std::env::split_paths(&path))).unwrap();
        command.env("PATH", path).env("RUNSTONE_URL", self.server.url()).current_dir(self.dir.path());
        command
    }

    /// What a block prints. It must not fail.
    pub(crate) fn run(&self, block: &Block) -> String {
        let text = block.text.replace(URL, self.server.url());
        let output = match block.language.as_str() {
            "sh" => self.command("bash").args(["-euo", "pipefail", "-c", &text]).output(),
            "python" if text.contains(LAKE) => {
                // The page says that it is there five minutes later, or when the server is asked.
                signal(&self.server, Signal::USR1);
                until("all is in the lake", || metric(&self.server, "runstone_lake_lag_records") == 0.0);
                let lake = self.server.data().join("lake").display().to_string();
                self.command(python().to_str().unwrap()).args(["-c", &text.replace(LAKE, &lake)]).output()
            }
            "python" => self.command("python3").args(["-c", &text]).output(),
            other => panic!("no way to run {other}"),
        };
        succeeded(&output.unwrap(), &block.text)
    }
}

fn succeeded(output: &Output, what: &str) -> String {
    assert!(output.status.success(), "{what}{}{}", stdout(output), stderr(output));
    stdout(output).replace('\r', "")
}

/// Where two answers differ, as a path. Volatile fields must only be of one kind.
fn difference(wanted: &Value, got: &Value, at: &str) -> Option<String> {
    match (wanted, got) {
        (Value::Object(wanted_fields), Value::Object(got_fields)) => {
            let names = |fields: &serde_json::Map<String, Value>| fields.keys().cloned().collect::<Vec<_>>();
            if names(wanted_fields) != names(got_fields) {
                return Some(format!("{at}: {:?}", names(got_fields)));
            }
            wanted_fields.iter().find_map(|(name, wanted)| {
                let (got, at) = (&got_fields[name], format!("{at}.{name}"));
                let free = VOLATILE.contains(&name.as_str())
                    && std::mem::discriminant(wanted) == std::mem::discriminant(got)
                    && (name != "next" || begins_alike(wanted, got));
                if free { None } else { difference(wanted, got, &at) }
            })
        }
        (Value::Array(wanted), Value::Array(got)) if wanted.len() == got.len() => {
            let pairs = wanted.iter().zip(got).enumerate();
            pairs.into_iter().find_map(|(place, (wanted, got))| difference(wanted, got, &format!("{at}[{place}]")))
        }
        _ => (wanted != got).then(|| format!("{at}: {got}")),
    }
}

/// Are two cursors of one version? It is their first byte, and the second is of their query.
fn begins_alike(wanted: &Value, got: &Value) -> bool {
    let beginning = |cursor: &Value| cursor.as_str().and_then(|text| text.get(..2)).map(str::to_owned);
    beginning(wanted) == beginning(got)
}

/// Compares what was printed with the block that shows it.
pub(crate) fn compare(shown: &Block, printed: &str) {
    if shown.language == "text" {
        let lines: Vec<&str> = printed.lines().map(str::trim_end).collect();
        assert_eq!(lines, shown.text.lines().collect::<Vec<_>>());
        return;
    }
    let parse = |text: &str| serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    if let Some(difference) = difference(&parse(&shown.text), &parse(printed), "") {
        panic!("the page shows otherwise: {difference}\n{}{printed}", shown.text);
    }
}

#[test]
fn the_http_page_shows_what_the_server_answers() {
    let terminal = Terminal::open();
    let blocks = blocks(&page("docs/http.md"));
    assert_eq!(blocks.len() % 2, 0);
    for pair in blocks.chunks(2) {
        assert_eq!((pair[0].language.as_str(), pair[1].language != "sh"), ("sh", true), "{pair:?}");
        compare(&pair[1], &terminal.run(&pair[0]));
    }
}

#[test]
fn the_readme_does_what_it_says() {
    let terminal = Terminal::open();
    let logs = terminal.dir.path().join("logs");
    std::fs::create_dir(&logs).unwrap();
    write(&logs, "a.log", "2015-10-18 18:01:47,978 INFO [main] org.apache.hadoop.App: started\n");
    write(&logs, "b.log", "2015-10-18 18:01:48,001 ERROR [main] org.apache.hadoop.App: boom\n");
    write(terminal.dir.path(), "clean_orders.py", "print('WARNING order 7 has no amount')\n");

    let blocks = blocks(&page("README.md"));
    let mut left_out = Vec::new();
    let mut printed = Vec::new();
    for (place, block) in blocks.iter().enumerate() {
        match block.language.as_str() {
            "sh" if NOT_RUN.contains(&block.text.as_str()) => left_out.push(block.text.as_str()),
            "sh" | "python" => printed.push((block.text.lines().next().unwrap(), terminal.run(block))),
            "rust" => printed.push(("rust", run_example(&terminal, block))),
            "json" => compare(block, &printed.last().unwrap().1),
            other => panic!("block {place} is of a language that is not run: {other}"),
        }
    }
    assert_eq!(left_out, NOT_RUN, "a block that is not run is listed, and a listed one is there");

    let of = |first: &str| {
        let found = printed.iter().find(|(line, _)| line.starts_with(first));
        &found.unwrap_or_else(|| panic!("no block begins with {first}")).1
    };
    assert_eq!(serde_json::from_str::<Value>(of("curl -s http://127.0.0.1:7867/api/v1/logs")).unwrap()["accepted"], 1);
    assert!(of("import json").contains("'accepted': 1"), "{}", of("import json"));
    check_lake(&terminal.server, of("import polars"));
    assert_eq!(of("rust"), "1 accepted\n");
    let lines = |text: &str| text.lines().count();
    assert_eq!((lines(of("runstone runs")), lines(of("runstone logs"))), (3, 3));
    check_records(&terminal.server);
    let results = of("runstone query \"SELECT stage");
    assert!(results.starts_with("clean\t0\t") && lines(results) == 1, "{results}");
    let errors = of("runstone query \"SELECT run_id").lines().filter(|line| line.ends_with("\t1")).collect::<Vec<_>>();
    assert_eq!(errors, ["hadoop-1\t2\t1"]);
}

/// The records of the whole page, as the server has them.
fn check_records(server: &Server) {
    let nightly =
        "SELECT source_system, stage, type, message, row_count FROM logs WHERE run_id = 'nightly-1' ORDER BY position";
    assert_eq!(
        server.query(nightly),
        [
            json!({"source_system": "shop", "stage": "load", "type": "start", "message": "loading orders", "row_count": null}),
            json!({"source_system": "shop", "stage": "load", "type": "result", "message": null, "row_count": 1200}),
            json!({"source_system": null, "stage": null, "type": "success", "message": "done", "row_count": null}),
        ]
    );
    let hadoop = "SELECT level, message, date_part('year', timestamp) AS year FROM logs WHERE source_system = 'hadoop'";
    assert_eq!(
        server.query(&format!("{hadoop} ORDER BY timestamp")),
        [
            json!({"level": "INFO", "message": "started", "year": 2015}),
            json!({"level": "ERROR", "message": "boom", "year": 2015}),
        ]
    );
    assert_eq!(
        server.query("SELECT state, source_system, stage, warnings FROM runs WHERE stage = 'clean'"),
        [json!({"state": "succeeded", "source_system": "shop", "stage": "clean", "warnings": 1})]
    );
}

/// Another reader of the lake counts as the server's SQL does.
fn check_lake(server: &Server, printed: &str) {
    for row in server.query("SELECT source_system AS name, count(*) AS n FROM logs GROUP BY source_system") {
        let wanted = [row["name"].as_str().unwrap_or("null").to_owned(), row["n"].to_string()];
        let is_there = |line: &str| line.split(['│', '┆']).map(str::trim).filter(|cell| !cell.is_empty()).eq(&wanted);
        assert!(printed.lines().any(is_there), "{wanted:?} is not in\n{printed}");
    }
}

/// Runs the example that the block is cut out of: but for the server's address they are the same text.
fn run_example(terminal: &Terminal, block: &Block) -> String {
    let source = page("crates/sdk/examples/readme.rs");
    let (_, region) = source.split_once("// README: begin\n").unwrap();
    let (region, _) = region.split_once("    // README: end").unwrap();
    let region: String =
        region.lines().map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line))).collect();
    assert_eq!(block.text.replace(&format!("\"{URL}\""), "&url"), region);

    let example = Path::new(env!("CARGO_BIN_EXE_runstone")).with_file_name("examples").join("readme");
    assert!(example.exists(), "build the examples too, with --workspace: {}", example.display());
    let output = terminal.command(example.to_str().unwrap()).arg(terminal.server.url()).output().unwrap();
    succeeded(&output, "the example: ")
}

/// The cells of the table under a heading.
pub(crate) fn table(page: &str, heading: &str) -> Vec<Vec<String>> {
    let (_, rest) = page.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading {heading}"));
    let rows = rest.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|')).skip(2);
    let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    rows.map(cells).collect()
}

#[test]
fn every_error_code_is_listed() {
    let listed: Vec<Vec<String>> =
        table(&page("docs/http.md"), "## Errors").into_iter().map(|row| row[..4].to_vec()).collect();
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let wanted = ErrorCode::ALL.iter().map(|code| {
        let stored = if code.happened() == Happened::Unknown { "maybe" } else { "no" };
        vec![
            format!("[`{code}`](errors/{code}.md)"),
            code.status().to_string(),
            yes(code.retryable()),
            stored.to_owned(),
        ]
    });
    assert_eq!(listed, wanted.collect::<Vec<_>>());
}

#[test]
fn every_limit_has_its_number() {
    let wanted: &[(&str, u64)] = &[
        ("bytes of a body as sent", limits::BODY_WIRE_BYTES_MAX as u64),
        ("bytes of a body decompressed", limits::BODY_DECODED_BYTES_MAX as u64),
        ("bytes of answers that clients have not read yet", limits::ANSWERS_BYTES_MAX as u64),
        ("bytes of all bodies held at once", limits::IN_FLIGHT_BYTES_MAX as u64),
        ("bytes waiting for the journal", limits::JOURNAL_QUEUE_BYTES_MAX as u64),
        ("records in a request", limits::REQUEST_RECORDS_MAX as u64),
        ("refusals that an answer lists", limits::ANSWER_ERRORS_MAX as u64),
        ("characters of an `X-Request-Id`", limits::REQUEST_ID_CHARS_MAX as u64),
        ("bytes of an idempotency key", limits::IDEMPOTENCY_KEY_BYTES_MAX as u64),
        ("bytes of remembered ids and keys", limits::IDS_BYTES_MAX as u64),
        ("bytes of request line and headers", limits::HEADER_BYTES_MAX as u64),
        ("bytes of a parameter's value", limits::PARAMETER_BYTES_MAX as u64),
        ("rows of a page", limits::PAGE_ROWS_MAX as u64),
        ("bytes of a page of logs", limits::PAGE_BYTES_MAX as u64),
        ("rows of a page unless given", limits::PAGE_ROWS_DEFAULT as u64),
        ("words and phrases, or conditions on metadata, of a page", limits::LOGS_TERMS_MAX as u64),
        ("groups of metrics, of all buckets together", limits::METRICS_GROUPS_MAX as u64),
        ("percentiles of metrics", limits::METRICS_PERCENTILES_MAX as u64),
        ("records whose metadata fields looks at", limits::METADATA_SAMPLE_RECORDS as u64),
        ("bytes of a SQL text", limits::SQL_BYTES_MAX as u64),
        ("milliseconds of a query", limits::QUERY_TIMEOUT_MS),
        ("bytes of memory of all queries", limits::QUERY_MEMORY_BYTES_MAX as u64),
        ("rows of a query's answer in JSON", limits::QUERY_ROWS_MAX as u64),
        ("bytes of a query's answer in JSON", limits::QUERY_ANSWER_BYTES_MAX as u64),
        ("queries running at once", limits::QUERIES_RUNNING_MAX as u64),
        ("queries waiting", limits::QUERIES_WAITING_MAX as u64),
        (
            "exports running at once, and as many long streamed answers of statements",
            limits::EXPORTS_RUNNING_MAX as u64,
        ),
        ("exports waiting, and as many of these", limits::EXPORTS_WAITING_MAX as u64),
        ("milliseconds for a client to take 1 MiB of an export for which others wait", limits::EXPORT_PACE_MS),
        ("milliseconds for a client to take 64 KiB of an export", limits::EXPORT_STALL_MS),
        ("bytes of an answer that is compressed", limits::COMPRESS_BYTES_MIN),
        ("tables of a request of the gateway", limits::GATEWAY_TABLES_MAX as u64),
        ("rows of a sample of the gateway", limits::GATEWAY_SAMPLE_ROWS.1),
        ("rows of a sample of the gateway unless given", limits::GATEWAY_SAMPLE_ROWS.0),
        ("rows of the answer to a statement of the gateway", limits::GATEWAY_ROWS_MAX),
        ("bytes of rows in an answer of the gateway", limits::GATEWAY_ANSWER_BYTES_MAX as u64),
        ("milliseconds of a request of the gateway in its database", limits::GATEWAY_TIMEOUT_MS),
        ("requests of the gateway waiting for its database", limits::GATEWAY_WAITING_MAX as u64),
        ("open connections", limits::CONNECTIONS_MAX as u64),
        ("milliseconds for headers", limits::HEADER_TIMEOUT_MS),
        ("milliseconds for a body", limits::BODY_TIMEOUT_MS),
        ("milliseconds of an idle connection", limits::IDLE_TIMEOUT_MS),
    ];
    let rows = table(&page("docs/http.md"), "## Limits");
    let listed: Vec<_> = rows.iter().map(|row| (row[0].as_str(), row[1].replace(',', ""))).collect();
    assert_eq!(listed, wanted.iter().map(|(name, value)| (*name, value.to_string())).collect::<Vec<_>>());
    // A setting's name is what the configuration calls it.
    let settings = page("docs/configuration.md");
    for setting in rows.iter().map(|row| &row[2]).filter(|setting| !setting.is_empty()) {
        assert!(settings.contains(&format!("\n### {setting}\n")), "{setting}");
    }
}

#[test]
fn every_parameter_is_listed() {
    let server = Server::start();
    for route in ["logs", "runs", "metrics", "fields", "values"] {
        let heading = format!("### Parameters of {route}");
        let answer = server.http("GET", &format!("/api/v1/{route}?no-such-filter=1"), &[], b"");
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        let (_, known) = message.split_once("these are: ").unwrap_or_else(|| panic!("{message}"));
        let mut known: Vec<&str> = known.split(", ").collect();
        let names = table(&page("docs/http.md"), &heading);
        let mut listed: Vec<&str> = names.iter().flat_map(|row| row[0].split('`').skip(1).step_by(2)).collect();
        known.sort_unstable();
        listed.sort_unstable();
        assert_eq!(listed, known, "{route}");
    }
}

#[test]
fn every_route_is_listed() {
    let source = page("crates/server/src/api/mod.rs");
    let routes: Vec<&str> =
        source.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap_or_default()).collect();
    assert!(routes.len() > 5, "{routes:?}");
    let listed = page("docs/http.md");
    for route in routes {
        let listed = ["GET", "POST"].iter().any(|method| listed.contains(&format!("`{method} {route}`")));
        assert!(listed, "{route} is not in docs/http.md");
    }
}

/// Every Rust file of the crates, as ARCHITECTURE.md writes paths: without `crates/` and `src/`.
fn sources(folder: &Path, into: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let path = path.strip_prefix(repository().join("crates")).unwrap().to_str().unwrap().to_owned();
            into.push(path.replacen("/src/", "/", 1));
        }
    }
}

#[test]
fn the_map_names_files_that_exist() {
    let mut files = Vec::new();
    sources(&repository().join("crates"), &mut files);
    let map = page("ARCHITECTURE.md");
    let named: Vec<&str> = map.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs")).collect();
    assert!(named.len() > 20, "{named:?}");
    for name in named {
        let short = name.trim_start_matches("crates/").replacen("/src/", "/", 1);
        let known = files.iter().any(|file| *file == short || file.ends_with(&format!("/{short}")));
        assert!(known, "ARCHITECTURE.md names {name}");
    }
}

#[test]
fn no_link_leads_nowhere() {
    let mut pages = vec!["README.md".to_owned(), "ARCHITECTURE.md".to_owned(), "CONTRIBUTING.md".to_owned()];
    for folder in ["docs", "docs/formats", "docs/decisions", "docs/errors"] {
        for entry in std::fs::read_dir(repository().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                pages.push(format!("{folder}/{name}"));
            }
        }
    }
    let mut broken = Vec::new();
    for name in &pages {
        let text = page(name);
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap_or_default()) {
            let file = link.split('#').next().unwrap_or_default();
            let folder = repository().join(name).parent().unwrap().to_owned();
            if !link.starts_with("http") && !folder.join(file).exists() {
                broken.push(format!("{name}: {link}"));
            }
        }
    }
    assert_eq!(broken, [""; 0]);
}
