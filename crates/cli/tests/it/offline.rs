//! A data directory without its server, and beside it: `query --data`, `inspect`, and what `verify` finds in the lake.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Server, runstone, stderr, stdout, until, write};

const SQL: &str = "SELECT count(*) AS n, count(DISTINCT id) AS ids, sum(position) AS positions, \
                   sum(length(message)) AS characters FROM logs";

/// NDJSON with runs, levels and messages of all kinds.
fn records(first: usize, count: usize) -> String {
    let line = |n: usize| {
        let (level, run) = (["INFO", "WARNING", "ERROR"][n % 3], n % 7);
        format!(
            r#"{{"run_id":"r{run}","type":"status","level":"{level}","message":"row {n} ✓\n","metadata":{{"n":{n}}}}}"#
        )
    };
    (first..first + count).map(line).collect::<Vec<_>>().join("\n")
}

fn command(name: &str, data: &Path, args: &[&str]) -> (Option<i32>, Vec<Value>, String) {
    let output = runstone().args([name, "--json", "--data"]).arg(data).args(args).output().unwrap();
    let rows = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (output.status.code(), rows, stderr(&output))
}

fn query(data: &Path, sql: &str) -> Vec<Value> {
    let (code, rows, words) = command("query", data, &[sql]);
    assert_eq!(code, Some(0), "{words}");
    rows
}

fn send(server: &Server, first: usize, count: usize) {
    let sent = server.cli_with_stdin(&["send", "--format", "ndjson", "-"], records(first, count).as_bytes());
    assert!(sent.status.success(), "{}", stderr(&sent));
}

fn position(server: &Server) -> u64 {
    server.http("GET", "/ready", &[], b"").json()["lake"]["position"].as_u64().unwrap()
}

/// Brings everything to the lake.
fn flush(server: &Server, last: u64) {
    kill_process(Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap(), Signal::USR1).unwrap();
    until("it is in the lake", || position(server) >= last);
}

/// 3,000 records in the lake, in files of 1,000, and 500 in the journal only.
fn filled(dir: TempDir) -> Server {
    let config = write(dir.path(), "runstone.yml", "lake:\n  flush_interval_ms: 24h\n");
    let server = Server::start_in(dir, &["--config", config.to_str().unwrap()]);
    for part in 0..3 {
        send(&server, part * 1_000, 1_000);
        flush(&server, (part as u64 + 1) * 1_000);
    }
    send(&server, 3_000, 500);
    server
}

fn data_files(data: &Path) -> Vec<PathBuf> {
    let days = fs::read_dir(data.join("lake")).unwrap().map(|entry| entry.unwrap().path());
    let days = days.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("date="));
    let mut files: Vec<_> =
        days.flat_map(|day| fs::read_dir(day).unwrap().map(|entry| entry.unwrap().path())).collect();
    files.sort();
    files
}

#[test]
fn a_directory_answers_beside_its_server_and_without_it_as_the_server_does() {
    let server = filled(TempDir::new().unwrap());
    let data = server.data();
    let runs = "SELECT run_id, state, records, warnings, errors FROM runs ORDER BY run_id";
    let (all, those) = (server.query(SQL), server.query(runs));
    assert_eq!((&all[0]["n"], &all[0]["positions"]), (&3_500.into(), &6_126_750.into()));
    assert_eq!((query(&data, SQL), query(&data, runs)), (all.clone(), those.clone()));
    let dir = server.kill();
    let data = dir.path().join("data");
    let before = listing(&data);
    assert_eq!((query(&data, SQL), query(&data, runs)), (all.clone(), those.clone()));
    // A server that was killed may not have saved it yet.
    let _ = fs::remove_file(data.join("runs"));
    assert_eq!(query(&data, runs), those, "from journal and lake");
    let (code, _, words) = command("query", &data, &["SELECT nothing FROM nowhere"]);
    assert_eq!(code, Some(1), "{words}");
    let (code, _, words) = command("query", &dir.path().join("elsewhere"), &["SELECT 1"]);
    assert_eq!(code, Some(1));
    assert!(words.contains("elsewhere"), "{words}");
    let after: Vec<_> = before.iter().filter(|(path, _)| !path.ends_with("runs")).cloned().collect();
    assert_eq!(listing(&data), after, "reading changed the directory");
}

#[test]
fn a_directory_answers_in_every_format_without_a_cap_as_its_server_does() {
    let server = filled(TempDir::new().unwrap());
    let (data, folder) = (server.data(), TempDir::new().unwrap());
    let sql = "SELECT a.position AS p, b.message FROM logs a CROSS JOIN logs b WHERE b.position <= $most ORDER BY 1, 2";
    let asked = |format: &str| ["query", "--param", "most=3", "--format", format, sql].map(str::to_owned);
    let offline = |args: &[String]| {
        let output = runstone().args(args).arg("--data").arg(&data).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        output
    };
    for format in ["ndjson", "json", "csv", "tsv", "arrow"] {
        let beside = server.cli(&asked(format).each_ref().map(String::as_str));
        assert!(beside.status.success(), "{format}: {}", stderr(&beside));
        let printed = offline(&asked(format));
        assert!(printed.stdout == beside.stdout && printed.stdout.len() > 10_500, "{format}");
    }
    let shown = offline(&asked("table"));
    assert!(stderr(&shown).contains("only the first 10000 rows are shown"), "{}", stderr(&shown));
    let file = folder.path().join("all.parquet").display().to_string();
    let parts = ["query", "--param", "most=3", "--output", &file, sql].map(str::to_owned);
    assert!(stdout(&offline(&parts)).is_empty());
    let counted =
        runstone().args(["query", "--table", &format!("copies={file}"), "SELECT count(*) FROM copies"]).output();
    let counted = counted.unwrap();
    assert_eq!(stdout(&counted), "10500\n", "{}", stderr(&counted));
    // What fails on the way is an error, and no file.
    let late = "SELECT 1 / (a.position - 3500) FROM logs a CROSS JOIN logs b";
    let (code, _, words) = command("query", &data, &[late]);
    assert_eq!(code, Some(1), "{words}");
}

/// Every file with its length.
fn listing(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => files.extend(listing(&entry.path())),
            false => files.push((entry.path(), entry.metadata().unwrap().len())),
        }
    }
    files.sort();
    files
}

#[test]
fn inspect_shows_segments_cursors_versions_partitions_and_files() {
    let server = filled(TempDir::new().unwrap());
    let (code, items, words) = command("inspect", &server.data(), &["--files", "--versions", "2"]);
    assert_eq!(code, Some(0), "{words}");
    let of = |what: &str| items.iter().filter(|item| item["what"] == what).collect::<Vec<_>>();
    assert_eq!((of("journal")[0]["first"].as_u64(), of("journal")[0]["last"].as_u64()), (Some(1), Some(3_500)));
    assert_eq!(of("segment").len(), 1);
    let lake = of("cursor").into_iter().find(|item| item["name"] == "lake").unwrap();
    assert_eq!((lake["last"].as_u64(), lake["note"].as_str()), (Some(3_000), Some("500 records behind")));
    assert_eq!(of("lake")[0]["records"], 3_000);
    assert_eq!((of("version").len(), of("partition").len()), (2, 1));
    assert_eq!(of("partition")[0]["records"], 3_000);
    let bytes: u64 = of("file").iter().map(|file| file["bytes"].as_u64().unwrap()).sum();
    let on_disk: u64 = data_files(&server.data()).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(bytes <= on_disk && of("lake")[0]["bytes"] == bytes, "{bytes} {on_disk}");
}

#[test]
fn verify_compares_the_journal_with_the_lake_and_names_what_is_wrong() {
    let server = filled(TempDir::new().unwrap());
    let (code, report, words) = command("verify", &server.data(), &[]);
    assert_eq!(code, Some(0), "{words}");
    let report = &report[0];
    assert_eq!((&report["compared_records"], &report["same_records"]), (&3_000.into(), &3_000.into()));
    assert_eq!((&report["lake_records"], &report["sound"]), (&3_000.into(), &true.into()));
    let dir = server.kill();
    let data = dir.path().join("data");

    let (_, items, _) = command("inspect", &data, &["--files"]);
    let file = items.iter().find(|item| item["what"] == "file").unwrap()["name"].as_str().unwrap();
    let file = &data.join("lake").join(file);
    let sound = fs::read(file).unwrap();
    let mut bytes = sound.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, &bytes).unwrap();
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let (code, report, words) = command("verify", &data, &[]);
    assert_eq!((code, &report[0]["lake_damaged_files"]), (Some(1), &1.into()), "{words}");
    assert!(words.contains(&name), "{words}");

    fs::remove_file(file).unwrap();
    let (code, _, words) = command("verify", &data, &[]);
    assert!(code == Some(1) && words.contains("gone"), "{code:?} {words}");
    let (code, _, words) = command("verify", &data, &["--journal-only"]);
    assert_eq!(code, Some(0), "{words}");
    fs::write(file, sound).unwrap();
    assert_eq!(command("verify", &data, &[]).0, Some(0));
}
