//! A database that the gateway's callers ask about, against PostgreSQL itself: what its tables are like, samples of them, and
//! where there is none. Statements are in `statements`.

use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::JSON;
use crate::cluster::Cluster;
use crate::foreign::{python, script};
use crate::harness::{Answer, Server, runstone, stderr, stdout};
use crate::lake::Settings;
use crate::readme::{Terminal, blocks, compare, page};

/// What the seeds' workflow reads.
const SHOP: &str = "\
CREATE TABLE customers (customer_id integer PRIMARY KEY, name text NOT NULL, since date, notes jsonb);
CREATE TABLE orders (order_id bigint PRIMARY KEY, customer_id integer NOT NULL REFERENCES customers, \
amount numeric(12,2) DEFAULT 0, ordered_at timestamptz);
INSERT INTO customers SELECT n, 'customer ' || n, date '2024-01-01' + n, '{\"vip\": true}' FROM generate_series(1, 30) n;
INSERT INTO orders SELECT n, 1 + n % 30, n / 7.0, timestamptz '2025-01-13 12:34:56Z' FROM generate_series(1, 90) n;";

/// A server whose callers may ask about a cluster with a shop in it.
pub(crate) struct Shop {
    pub(crate) cluster: Cluster,
    pub(crate) server: Server,
    _settings: Settings,
}

impl Shop {
    /// `more` stands among the settings of the gateway.
    pub(crate) fn open(more: &str) -> Shop {
        Shop::open_on(Cluster::start(), more)
    }

    /// One that may read, and whose server brings its records to the same cluster.
    pub(crate) fn fed() -> Shop {
        let cluster = Cluster::start();
        let sink = format!("{READ_ONLY}postgres:\n  url: {:?}\n  table_prefix: log\n", cluster.url());
        Shop::open_on(cluster, &sink)
    }

    fn open_on(cluster: Cluster, more: &str) -> Shop {
        cluster.ask(SHOP);
        let settings = Settings::new(&format!("gateway:\n  database_url: {:?}\n{more}", cluster.url()));
        let server = settings.start(TempDir::new().unwrap());
        Shop { cluster, server, _settings: settings }
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.server.http("POST", path, &[JSON], body.to_string().as_bytes())
    }

    /// An answer that must be one.
    pub(crate) fn asked(&self, path: &str, body: &Value) -> Value {
        let answer = self.post(path, body);
        assert_eq!(answer.status, 200, "{body}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    pub(crate) fn run(&self, query: &str) -> Value {
        self.asked("/execute/query", &json!({"query": query}))
    }

    /// A statement that must be refused, with this status.
    pub(crate) fn refused(&self, query: &str, status: u16) -> String {
        let answer = self.post("/execute/query", &json!({"query": query}));
        assert_eq!(answer.status, status, "{query}: {}", String::from_utf8_lossy(&answer.body));
        message(&answer)
    }

    /// Statements of others that run there.
    pub(crate) fn running(&self) -> String {
        let others = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND state <> 'idle' \
                      AND pid <> pg_backend_pid()";
        self.cluster.ask(others)
    }
}

/// A failure has this body and no other.
pub(crate) fn message(answer: &Answer) -> String {
    let body = answer.json();
    let members = body.as_object().unwrap();
    assert_eq!((members.len(), &body["error"]), (2, &Value::Bool(true)), "{body}");
    members["message"].as_str().unwrap().to_owned()
}

pub(crate) const READ_ONLY: &str = "  execute: read-only\n";

#[test]
fn a_client_written_from_the_seeds_gets_what_it_expects() {
    let shop = Shop::open(READ_ONLY);
    let mut got = script("call_gateway.py", &[shop.server.url()]);
    let validated = got["validated"].take();
    assert!(got["payload_bytes"].take().as_u64() > Some(1_000));
    let expected = json!({
        "columns": {
            "customers": ["customer_id", "name", "since", "notes"],
            "orders": ["order_id", "customer_id", "amount", "ordered_at"],
        },
        "primary_key": ["order_id"], "references": "customers", "rows": {"customers": 10, "orders": 10},
        "payload_bytes": null, "validated": null,
        "refusal": "404: find no table called \"customer_order_summary\"; is \"customers\" meant?",
        "logged": ["start", "end"],
    });
    assert_eq!(got, expected);
    assert_eq!((&validated["row_count"], &validated["truncated"]), (&30.into(), &false.into()));
    assert_eq!(validated["rows"][0], json!({"customer_id": 1, "total": 25.72}));
}

#[test]
fn the_guide_does_what_it_says() {
    let cluster = Cluster::start();
    let mut terminal = None;
    let guide = blocks(&page("docs/gateway.md"));
    let mut printed: Option<String> = None;
    let mut run = 0;
    for block in &guide {
        match block.language.as_str() {
            "sql" => drop(cluster.ask(&block.text)),
            "yaml" => terminal = Some(started(&cluster, &block.text)),
            "sh" => printed = terminal.as_ref().map(|terminal| terminal.run(block)),
            "python" => {
                let text = block.text.replace("http://127.0.0.1:7867", terminal.as_ref().unwrap().server.url());
                let output = Command::new(python()).args(["-c", &text]).output().unwrap();
                assert!(output.status.success(), "{}", stderr(&output));
                printed = Some(stdout(&output));
            }
            "json" | "text" => {
                compare(block, &printed.take().unwrap());
                run += 1;
            }
            other => panic!("no way to run {other}"),
        }
    }
    assert!(run >= 6, "{run}");
}

/// A server with the guide's settings, at this cluster.
fn started(cluster: &Cluster, yaml: &str) -> Terminal {
    let (before, after) = yaml.split_once("\"postgres://").unwrap();
    let (_, rest) = after.split_once('"').unwrap();
    let url = cluster.url().replace("user=test", "user=runstone_reader");
    let settings = Settings::new(&format!("{before}{url:?}{rest}"));
    let server = settings.start(TempDir::new().unwrap());
    Terminal { server, dir: TempDir::new().unwrap() }
}

#[test]
fn schemas_have_types_keys_and_defaults_of_every_kind_of_table() {
    let shop = Shop::open("");
    shop.cluster.ask(
        "CREATE SCHEMA sales; \
         CREATE TABLE sales.regions (country char(2), code varchar(10)[], PRIMARY KEY (code, country)); \
         CREATE TABLE sales.visits (id bigint GENERATED ALWAYS AS IDENTITY, at timestamp(3) DEFAULT now(), c char(2), k varchar(10)[], \
         twice text GENERATED ALWAYS AS (c || 'x') STORED, FOREIGN KEY (k, c) REFERENCES sales.regions (code, country)); \
         CREATE TABLE parts (day date NOT NULL, n int, PRIMARY KEY (day)) PARTITION BY RANGE (day); \
         CREATE TABLE parts_2025 PARTITION OF parts FOR VALUES FROM ('2025-01-01') TO ('2026-01-01'); \
         CREATE TABLE of_parts (day date REFERENCES parts); \
         CREATE VIEW names AS SELECT name FROM customers; CREATE MATERIALIZED VIEW kept AS SELECT 1 AS one; \
         CREATE TABLE \"Od\"\"d.Name\" (\"x;\"\" --\" int); CREATE TABLE \"error\" (message text)",
    );
    let names = json!([
        "sales.visits",
        "parts",
        "of_parts",
        "names",
        "kept",
        "Customers",
        "\"sales\".\"regions\"",
        "Od\"d.Name",
        "error"
    ]);
    let body = shop.asked("/get/schemas", &json!({"table_names": names, "comment": "passed over"}));
    let schemas = &body["schemas"];
    assert_eq!(schemas.as_object().unwrap().len(), 9);
    let visits = &schemas["sales.visits"];
    let column = |name: &str, kind: &str, nullable: bool, default: Value| json!({"name": name, "type": kind, "nullable": nullable, "default": default});
    let expected = json!([
        column("id", "bigint", false, "GENERATED ALWAYS AS IDENTITY".into()),
        column("at", "timestamp(3) without time zone", true, "now()".into()),
        column("c", "character(2)", true, Value::Null),
        column("k", "character varying(10)[]", true, Value::Null),
        column("twice", "text", true, "GENERATED ALWAYS AS ((c)::text || 'x'::text)".into()),
    ]);
    assert_eq!(
        (&visits["columns"], &visits["schema"], &visits["table"]),
        (&expected, &"sales".into(), &"visits".into())
    );
    let references = json!({"schema": "sales", "table": "regions", "columns": ["code", "country"]});
    assert_eq!(
        visits["foreign_keys"],
        json!([{"name": "visits_k_c_fkey", "columns": ["k", "c"], "references": references}])
    );
    assert_eq!(schemas["\"sales\".\"regions\""]["primary_key"], json!(["code", "country"]));
    assert_eq!(
        (&schemas["parts"]["kind"], &schemas["parts"]["primary_key"]),
        (&"partitioned table".into(), &json!(["day"]))
    );
    assert_eq!(schemas["of_parts"]["foreign_keys"].as_array().unwrap().len(), 1);
    assert_eq!((&schemas["names"]["kind"], &schemas["kept"]["kind"]), (&"view".into(), &"materialized view".into()));
    assert_eq!(schemas["Customers"]["table"], "customers");
    assert_eq!(schemas["Od\"d.Name"]["columns"][0]["name"], "x;\" --");
}

#[test]
fn samples_are_random_and_no_larger_than_asked_for() {
    let shop = Shop::open("");
    // Some 90 MB, in partitions of which one is empty, and never analysed.
    shop.cluster.ask(
        "CREATE TABLE large (n int, day date, filler text) PARTITION BY RANGE (day); \
         CREATE TABLE large_a PARTITION OF large FOR VALUES FROM ('2025-01-01') TO ('2025-02-01') WITH (autovacuum_enabled = off); \
         CREATE TABLE large_b PARTITION OF large FOR VALUES FROM ('2025-02-01') TO ('2025-03-01') WITH (autovacuum_enabled = off); \
         INSERT INTO large SELECT n, date '2025-01-01' + n % 28, repeat('x', 100) FROM generate_series(1, 600000) n; \
         CREATE VIEW of_large AS SELECT * FROM large; CREATE TABLE nothing (a int)",
    );
    let draw = |names: &[&str], limit: u64| shop.asked("/get/data", &json!({"table_names": names, "limit": limit}));
    let body = draw(&["large", "of_large", "orders", "nothing"], 25);
    assert_eq!(body["truncated"], false);
    for (table, rows) in [("large", 25), ("of_large", 25), ("orders", 25), ("nothing", 0)] {
        assert_eq!(body["data"][table].as_array().unwrap().len(), rows, "{table}");
    }
    assert_eq!(body["data"]["large"][0]["filler"], "x".repeat(100));
    for table in ["large", "of_large", "orders"] {
        assert_ne!(draw(&[table], 25)["data"], draw(&[table], 25)["data"], "{table}");
    }
    // From all over the large one, and not from its beginning.
    let seen: Vec<u64> = draw(&["large"], 1_000)["data"]["large"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["n"].as_u64().unwrap())
        .collect();
    assert_eq!(seen.len(), 1_000);
    assert!(seen.iter().any(|n| *n > 500_000) && seen.iter().any(|n| *n < 100_000), "{seen:?}");
    let ten = shop.asked("/get/data", &json!({"table_names": ["orders", "orders"]}));
    assert_eq!(ten["data"].as_object().unwrap().len(), 1);
    assert_eq!(ten["data"]["orders"].as_array().unwrap().len(), 10);
    let all = shop.asked("/get/data", &json!({"table_names": ["customers"], "limit": 1_000}));
    assert_eq!(all["data"]["customers"].as_array().unwrap().len(), 30);
    assert_eq!(shop.asked("/get/data", &json!({"table_names": []})), json!({"data": {}, "truncated": false}));
}

#[test]
fn rows_that_are_too_large_are_left_out_of_samples() {
    let shop = Shop::open("");
    shop.cluster.ask(
        "CREATE TABLE wide (n int, t text); INSERT INTO wide VALUES (1, repeat('x', 100000000)), (2, 'small'); \
         CREATE TABLE many AS SELECT n, repeat('y', 900000) AS t FROM generate_series(1, 20) n",
    );
    let body = shop.asked("/get/data", &json!({"table_names": ["wide", "orders"]}));
    assert_eq!((&body["data"]["wide"], &body["truncated"]), (&json!([{"n": 2, "t": "small"}]), &true.into()));
    assert_eq!(body["data"]["orders"].as_array().unwrap().len(), 10);
    let body = shop.asked("/get/data", &json!({"table_names": ["many"], "limit": 20}));
    let rows = body["data"]["many"].as_array().unwrap().len();
    assert!((1..=9).contains(&rows) && body["truncated"] == true, "{rows}");
    // The connection that was left behind is none of the next one's business.
    assert_eq!(shop.asked("/get/data", &json!({"table_names": ["orders"]}))["truncated"], false);
}

#[test]
fn bad_bodies_are_400_and_unknown_tables_404_in_the_gateways_shape() {
    let shop = Shop::open(READ_ONLY);
    let names = |count: usize| json!({"table_names": vec!["orders"; count]}).to_string();
    let cases = [
        ("/get/schemas", "{}".to_owned(), "Missing required field: table_names"),
        ("/get/schemas", r#"{"table_names":null}"#.to_owned(), "Missing required field: table_names"),
        (
            "/get/schemas",
            r#"{"table_names":"orders"}"#.to_owned(),
            "table_names must be an array of strings, got a string",
        ),
        (
            "/get/schemas",
            r#"{"table_names":[1]}"#.to_owned(),
            "table_names must be an array of strings, got a number in it",
        ),
        ("/get/schemas", r#"["orders"]"#.to_owned(), "must be an object"),
        ("/get/schemas", "\"orders\"".to_owned(), "must be an object"),
        ("/get/schemas", "{".to_owned(), "not JSON"),
        ("/get/schemas", "{} x".to_owned(), "not JSON"),
        ("/get/schemas", " ".to_owned(), "empty"),
        ("/get/schemas", r#"{"table_names":[],"table_names":[]}"#.to_owned(), "duplicate field"),
        ("/get/schemas", names(101), "at most 100 names"),
        ("/get/schemas", json!({"table_names": ["n".repeat(257)]}).to_string(), "at most 256 characters"),
        ("/get/data", r#"{"table_names":[],"limit":0}"#.to_owned(), "limit must be an integer from 1 to 1000, got 0"),
        ("/get/data", r#"{"table_names":[],"limit":-1}"#.to_owned(), "got -1"),
        ("/get/data", r#"{"table_names":[],"limit":1000000000000}"#.to_owned(), "got 1000000000000"),
        ("/get/data", r#"{"table_names":[],"limit":2.5}"#.to_owned(), "got 2.5"),
        ("/get/data", r#"{"table_names":[],"limit":"10"}"#.to_owned(), "got a string"),
        ("/execute/query", "{}".to_owned(), "Missing required field: query"),
        ("/execute/query", r#"{"query":7}"#.to_owned(), "query must be a string, got a number"),
        ("/execute/query", r#"{"query":" \n"}"#.to_owned(), "query must not be empty"),
        ("/execute/query", json!({"query": "x".repeat(40_000)}).to_string(), "at most 32768 bytes"),
        ("/execute/query", r#"{"query":"SELECT '\u0000'"}"#.to_owned(), "NUL"),
    ];
    for (path, body, words) in cases {
        let answer = shop.server.http("POST", path, &[JSON], body.as_bytes());
        assert_eq!(answer.status, 400, "{path} {body}: {answer:?}");
        assert!(message(&answer).contains(words), "{path} {body}: {answer:?}");
    }
    for name in [
        "../../etc/passwd",
        "orders; DROP TABLE orders",
        "orders\"; DROP TABLE orders; --",
        "",
        ".",
        "a\u{0}b",
        "pg_catalog.pg_authid",
        "pg_authid",
        "information_schema.tables",
        "nowhere.orders",
        "' OR 1=1--",
        "orders.orders.orders",
        "🚀",
    ] {
        for path in ["/get/schemas", "/get/data"] {
            let answer = shop.post(path, &json!({"table_names": ["orders", name]}));
            assert_eq!(answer.status, 404, "{name:?}: {answer:?}");
        }
    }
    let near = |name: &str| message(&shop.post("/get/schemas", &json!({"table_names": [name]})));
    assert_eq!(near("custmers"), "find no table called \"custmers\"; is \"customers\" meant?");
    shop.cluster.ask("CREATE SCHEMA sales; CREATE TABLE sales.invoices (a int)");
    assert_eq!(near("invoices"), "find no table called \"invoices\"; is \"sales.invoices\" meant?");
    assert_eq!(near("zzzzzz"), "find no table called \"zzzzzz\"");
    for method in ["GET", "PUT", "DELETE"] {
        assert_eq!(shop.server.http(method, "/execute/query", &[], b"").status, 405);
    }
    assert_eq!(shop.server.http("POST", "/execute/query", &[("content-type", "text/xml")], b"<a/>").status, 415);
    assert_eq!(shop.cluster.ask("SELECT count(*) FROM orders"), "90");
}

#[test]
fn without_settings_it_says_which_and_without_a_database_when_to_come_again() {
    let server = Server::start();
    let ask =
        |server: &Server, path: &str, body: &Value| server.http("POST", path, &[JSON], body.to_string().as_bytes());
    let (tables, query) = (json!({"table_names": ["orders"]}), json!({"query": "SELECT 1 AS one"}));
    for (path, body) in [("/get/schemas", &tables), ("/get/data", &tables), ("/execute/query", &query)] {
        let answer = ask(&server, path, body);
        assert_eq!(answer.status, 501, "{answer:?}");
        assert!(message(&answer).contains("gateway.database_url"), "{answer:?}");
    }
    let shop = Shop::open("");
    let off = ask(&shop.server, "/execute/query", &query);
    assert_eq!(off.status, 501, "{off:?}");
    assert!(message(&off).contains("gateway.execute"), "{off:?}");
    drop(shop);

    let shop = Shop::open(READ_ONLY);
    assert_eq!(shop.run("SELECT 1 AS one")["row_count"], 1);
    shop.cluster.down();
    for (path, body) in [("/get/schemas", &tables), ("/get/data", &tables), ("/execute/query", &query)] {
        let answer = ask(&shop.server, path, body);
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.headers.to_ascii_lowercase().contains("retry-after: 5"), "{answer:?}");
        message(&answer);
    }
    // The log goes on.
    assert_eq!(shop.server.post(r#"{"message":"meanwhile"}"#).status, 200);
    shop.cluster.up();
    assert_eq!(shop.run("SELECT 1 AS one")["row_count"], 1);
}

#[test]
fn a_url_that_can_never_do_is_said_at_the_start_without_its_password() {
    let dir = TempDir::new().unwrap();
    for url in ["postgres://user:hidden@", "nonsense", "mysql://user:hidden@h/d"] {
        let mut serve = runstone();
        serve.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(dir.path().join("data"));
        let ended = serve.env("RUNSTONE_GATEWAY_DATABASE_URL", url).output().unwrap();
        assert!(!ended.status.success(), "{url}");
        let said = stderr(&ended);
        assert!(said.contains("gateway.database_url") && !said.contains("hidden"), "{said}");
    }
}
