//! Programs that nobody here wrote, at the lake: they are Python's, and say in JSON what they found. Owns how they are run,
//! and the judgement whether they found what the server's SQL says; refuses to know where the lake is.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use runstone_record::{Column, Kind};
use serde_json::{Map, Value, json};

use crate::harness::{Server, stderr, stdout};
use crate::storage::S3;

/// All that there are. Each takes seconds to start.
pub(crate) const READERS: [&str; 5] = ["deltalake", "polars", "chdb", "chdb-kernel", "pysail"];

/// What a reader is told about the storage, by deltalake's names.
pub(crate) type StorageOptions<'a> = [(&'a str, &'a str)];

/// The interpreter of the virtual environment that scripts/setup.sh makes.
#[expect(clippy::disallowed_methods, reason = "the scripts' cache is found as they find it")]
pub(crate) fn python() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = || set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let cache = set("RUNSTONE_CACHE").or_else(|| Some(caches()?.join("runstone"))).expect("HOME is set");
    let python = cache.join("venv/bin/python");
    assert!(python.exists(), "{} is missing: run scripts/setup.sh", python.display());
    python
}

/// Runs a script of `tests/readers` to its end; what its last line says, in JSON. The test fails if it does.
pub(crate) fn script(name: &str, args: &[&str]) -> Value {
    let path = std::env::current_dir().unwrap().join("tests/readers").join(name);
    let output = Command::new(python()).arg(path).args(args).stdin(Stdio::null()).output().unwrap();
    let printed = stdout(&output);
    assert!(output.status.success(), "{name} {args:?}:\n{printed}{}", stderr(&output));
    let last = printed.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|_| panic!("{name} {args:?}: no JSON: {printed}{}", stderr(&output)))
}

/// Commands of a shell that has AWS's own command line, for what is at this URL; what they print.
pub(crate) fn aws(url: &str, commands: &str) -> String {
    let path = std::env::join_paths([python().parent().unwrap(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    let mut shell = Command::new("bash");
    shell.args(["-euc", commands]).env("PATH", path).env("AWS_PAGER", "").envs(S3::env_at(url));
    let output = shell.env("AWS_DEFAULT_REGION", "us-east-1").stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{commands}\n{}", stderr(&output));
    stdout(&output)
}

/// What a reader finds in the lake: `read_lake.py` says in which words.
pub(crate) fn read(reader: &str, location: &str, options: &StorageOptions<'_>) -> Value {
    let options: Vec<String> = options.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let args: Vec<&str> = [reader, location].into_iter().chain(options.iter().map(String::as_str)).collect();
    plain(script("read_lake.py", &args))
}

/// The readers, all at once, find exactly this: what [`in_sql`] said.
pub(crate) fn assert_found(readers: &[&str], location: &str, options: &StorageOptions<'_>, expected: &Value) {
    let found: Vec<Value> = std::thread::scope(|scope| {
        let reading: Vec<_> = readers.iter().map(|reader| scope.spawn(|| read(reader, location, options))).collect();
        reading.into_iter().map(|reader| reader.join().expect("a reader failed, as said above")).collect()
    });
    let differences: Vec<String> = readers
        .iter()
        .zip(&found)
        .flat_map(|(reader, found)| {
            differences(expected, found).into_iter().map(move |what| format!("{reader}: {what}"))
        })
        .collect();
    assert!(differences.is_empty(), "not what the server's SQL says:\n{}", differences.join("\n"));
}

/// What the server's own SQL says, in the readers' words. They see the lake, SQL also what is not there yet.
pub(crate) fn in_sql(server: &Server) -> Value {
    let one = |sql: &str| server.query(sql).remove(0);
    let counts = |column: &str| -> Map<String, Value> {
        let rows = server.query(&format!("SELECT {column} AS word, count(*) AS n FROM logs GROUP BY {column}"));
        rows.iter().map(|row| (row["word"].as_str().unwrap_or("null").to_owned(), row["n"].clone())).collect()
    };
    let mut aggregates: Vec<String> = Vec::new();
    for column in Column::ALL {
        let name = column.name();
        for (place, aggregate) in aggregates_of(column).iter().enumerate() {
            aggregates.push(format!("{} AS {name}_{place}", aggregate.replace("{}", name)));
        }
    }
    let found = one(&format!("SELECT {} FROM logs", aggregates.join(", ")));
    let columns = Column::ALL.map(|column| {
        let name = column.name();
        let values = (0..aggregates_of(column).len()).map(|place| found[format!("{name}_{place}")].clone());
        let says = if column == Column::Date { counts(name).into() } else { values.collect::<Vec<_>>().into() };
        (name.to_owned(), says)
    });
    let all = one("SELECT count(*) AS records, count(DISTINCT id) AS ids FROM logs");
    let run = one("SELECT count(*) AS n FROM logs WHERE run_id = (SELECT min(run_id) FROM logs)");
    plain(json!({
        "records": all["records"],
        "ids": all["ids"],
        "levels": counts("level"),
        "run": run["n"],
        "columns": columns.into_iter().collect::<Map<_, _>>(),
    }))
}

fn aggregates_of(column: Column) -> &'static [&'static str] {
    match column.kind() {
        Kind::Id | Kind::Identifier | Kind::Word | Kind::Label | Kind::Text | Kind::Hex | Kind::Json => {
            &["count({})", "coalesce(sum(character_length({})), 0)"]
        }
        Kind::Int => &["count({})", "coalesce(sum({}), 0)"],
        Kind::Float => &["count({})", "min({})", "max({})"],
        Kind::Time => &["count({})", "CAST(min({}) AS BIGINT)", "CAST(max({}) AS BIGINT)"],
        Kind::List => &["coalesce(sum(array_length({})), 0)"],
        Kind::Date => &[],
    }
}

/// Whole numbers without a point, however they were written.
fn plain(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => json!(float as i64),
            _ => Value::Number(number),
        },
        Value::Array(items) => items.into_iter().map(plain).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, plain(value))).collect(),
        other => other,
    }
}

/// What one has otherwise than the other, field by field; the order of fields is nobody's business.
fn differences(expected: &Value, found: &Value) -> Vec<String> {
    let (Value::Object(wanted), Value::Object(got)) = (expected, found) else {
        return if expected == found { Vec::new() } else { vec![format!("{found}, not {expected}")] };
    };
    let mut differences: Vec<String> =
        got.keys().filter(|name| !wanted.contains_key(*name)).map(|name| format!("{name} is there")).collect();
    for (name, wanted) in wanted {
        match got.get(name) {
            None => differences.push(format!("{name} is missing")),
            Some(got) => {
                differences.extend(self::differences(wanted, got).iter().map(|what| format!("{name}: {what}")));
            }
        }
    }
    differences
}
