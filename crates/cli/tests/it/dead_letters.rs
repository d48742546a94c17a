//! `runstone dead-letters`: what a target does not take is shown with its reason, goes there once that is mended, or is
//! forgotten. The lake has all of it all the while.

use std::process::Output;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::fed::{caught_up, fed};
use crate::foreign::aws;
use crate::harness::{runstone, stderr, stdout, write};
use crate::lake::Settings;
use crate::storage::S3;

/// Where nobody listens.
const NOWHERE: &str = "http://127.0.0.1:1";

/// The command, told where targets are by a file, as an operator's is.
fn dead_letters(dir: &TempDir, args: &[&str]) -> Output {
    let config = dir.path().join("runstone.yaml");
    let mut command = runstone();
    command
        .current_dir(dir.path())
        .envs(S3::env_at(NOWHERE))
        .arg("dead-letters")
        .args(args)
        .arg("--config")
        .arg(config);
    command.output().unwrap()
}

fn rows(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn letters_are_listed_replayed_once_and_removed() {
    let cluster = Cluster::start();
    let dir = TempDir::new().unwrap();
    let yaml = format!("postgres:\n  url: {:?}\n  table_prefix: shop\n", cluster.url());
    write(dir.path(), "runstone.yaml", &yaml);
    let server = fed(&cluster, "").start(TempDir::new().unwrap());
    caught_up(&server, "postgres");
    cluster.ask("ALTER TABLE shop_logs ADD CONSTRAINT few CHECK (row_count < 100)");
    for rows in [5, 500, 50, 5_000, 501] {
        let record = json!({"type": "activity", "status": "Succeeded", "row_count": rows, "message": "loaded"});
        assert_eq!(server.post(&record.to_string()).status, 200);
    }
    caught_up(&server, "postgres");
    assert_eq!(cluster.ask("SELECT count(*) FROM shop_logs"), "2");
    assert_eq!(server.query("SELECT count(*) AS n FROM logs")[0]["n"], 5);

    let listed = rows(&dead_letters(&dir, &["list", "--json"]));
    let counts: Vec<&Value> = listed.iter().map(|letter| &letter["record"]["row_count"]).collect();
    assert_eq!(counts, [500, 5_000, 501]);
    for letter in &listed {
        assert_eq!((&letter["sink"], &letter["outcome"]), (&"postgres".into(), &"waiting".into()), "{letter}");
        assert!(
            letter["reason"].as_str().unwrap().contains("few") && letter["id"] == letter["record"]["id"],
            "{letter}"
        );
    }
    let text = stdout(&dead_letters(&dir, &["list"]));
    assert_eq!((text.lines().count(), text.lines().next().unwrap().split('\t').count()), (3, 6), "{text}");

    // Nothing is mended yet; then one is forgotten, and what was wrong with the others mended.
    let replayed = dead_letters(&dir, &["replay", "--json"]);
    assert_eq!(replayed.status.code(), Some(1), "{}", stderr(&replayed));
    assert!(rows(&replayed).iter().all(|letter| letter["outcome"] == "refused"), "{}", stdout(&replayed));
    let (source, position) = (listed[1]["source"].as_str().unwrap(), listed[1]["position"].to_string());
    let removed = dead_letters(&dir, &["remove", "--source", source, "--position", &position]);
    assert!(removed.status.success() && stderr(&removed).contains("1 removed"), "{}", stderr(&removed));
    cluster.ask("ALTER TABLE shop_logs DROP CONSTRAINT few");
    let replayed = dead_letters(&dir, &["replay", "--sink", "postgres"]);
    assert!(replayed.status.success() && stderr(&replayed).contains("2 taken"), "{}", stderr(&replayed));
    let replayed = dead_letters(&dir, &["replay"]);
    assert!(replayed.status.success() && stdout(&replayed).is_empty(), "{}", stdout(&replayed));
    assert_eq!(
        cluster.ask("SELECT string_agg(row_count::text, ' ' ORDER BY row_count) FROM shop_logs"),
        "5 50 500 501"
    );
    assert_eq!(cluster.ask("SELECT count(*) FROM shop_dead_letters"), "0");
}

#[test]
fn letters_of_dynamodb_are_replayed_once_their_item_is_mended() {
    let (moto, dir) = (S3::start(), TempDir::new().unwrap());
    let yaml = format!("dynamodb:\n  table: dmdb_logs\n  create: if_missing\n  endpoint: {}\n", moto.url());
    write(dir.path(), "runstone.yaml", &yaml);
    let server = Settings::new(&yaml).among(S3::env_at(moto.url())).start(TempDir::new().unwrap());
    caught_up(&server, "dynamodb");
    // Somebody's item, whose log is none.
    let item =
        r#"aws dynamodb put-item --table-name dmdb_logs --item '{"run_id": {"S": "odd"}, "logs": {"S": "none"}}'"#;
    aws(moto.url(), item);
    for message in ["one", "two", "three"] {
        assert_eq!(server.post(&json!({"run_id": "odd", "message": message}).to_string()).status, 200);
    }
    caught_up(&server, "dynamodb");
    let listed = rows(&dead_letters(&dir, &["list", "--json"]));
    let said: Vec<&Value> = listed.iter().map(|letter| &letter["record"]["message"]).collect();
    assert_eq!(said, ["one", "two", "three"], "{listed:?}");
    let refused = dead_letters(&dir, &["replay"]);
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    let (source, position) = (listed[1]["source"].as_str().unwrap(), listed[1]["position"].to_string());
    let removed = dead_letters(&dir, &["remove", "--source", source, "--position", &position]);
    assert!(removed.status.success() && stderr(&removed).contains("1 removed"), "{}", stderr(&removed));
    aws(moto.url(), r#"aws dynamodb delete-item --table-name dmdb_logs --key '{"run_id": {"S": "odd"}}'"#);
    let replayed = dead_letters(&dir, &["replay"]);
    assert!(replayed.status.success() && stderr(&replayed).contains("2 taken"), "{}", stderr(&replayed));
    assert!(stdout(&dead_letters(&dir, &["list"])).is_empty());
    let item = aws(moto.url(), r#"aws dynamodb get-item --table-name dmdb_logs --key '{"run_id": {"S": "odd"}}'"#);
    let item: Value = serde_json::from_str(&item).unwrap();
    let logs = item["Item"]["logs"]["L"].as_array().unwrap();
    let said: Vec<&Value> = logs.iter().map(|entry| &entry["M"]["description"]["S"]).collect();
    assert_eq!(said, ["one", "three"]);
}

#[test]
fn letters_of_cloudwatch_are_listed_and_removed() {
    let (moto, dir) = (S3::start(), TempDir::new().unwrap());
    let yaml = format!("cloudwatch:\n  group: /letters\n  create: if_missing\n  endpoint: {}\n", moto.url());
    write(dir.path(), "runstone.yaml", &yaml);
    let server = Settings::new(&yaml).among(S3::env_at(moto.url())).start(TempDir::new().unwrap());
    caught_up(&server, "cloudwatch");
    let old = |n| json!({"message": format!("old {n}"), "timestamp": "2025-01-13T12:34:56Z"});
    let records: Vec<Value> = (0..3).map(old).collect();
    assert_eq!(server.post(&Value::from(records).to_string()).status, 200);
    caught_up(&server, "cloudwatch");
    let listed = rows(&dead_letters(&dir, &["list", "--json"]));
    // Moto, other than AWS, means the last of those that are too old by the index that is said to be behind them; and so takes a
    // letter that is sent again alone.
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert!(listed.iter().all(|letter| letter["reason"].as_str().unwrap().contains("14 days")), "{listed:?}");
    let removed = dead_letters(&dir, &["remove", "--all", "--sink", "cloudwatch"]);
    assert!(removed.status.success() && stderr(&removed).contains("2 removed"), "{}", stderr(&removed));
    assert!(stdout(&dead_letters(&dir, &["list"])).is_empty());
}

#[test]
fn a_target_that_is_away_keeps_nobody_from_another() {
    let cluster = Cluster::start();
    let dir = TempDir::new().unwrap();
    let server = fed(&cluster, "").start(TempDir::new().unwrap());
    caught_up(&server, "postgres");
    cluster.ask("ALTER TABLE shop_logs ADD CONSTRAINT few CHECK (row_count < 100)");
    for rows in [5, 500, 501] {
        let record = json!({"type": "activity", "status": "Succeeded", "row_count": rows, "message": "loaded"});
        assert_eq!(server.post(&record.to_string()).status, 200);
    }
    caught_up(&server, "postgres");
    let away = format!("dynamodb:\n  table: dmdb_logs\n  endpoint: {NOWHERE}\n");
    let yaml = format!("postgres:\n  url: {:?}\n  table_prefix: shop\n{away}", cluster.url());
    write(dir.path(), "runstone.yaml", yaml);
    cluster.ask("ALTER TABLE shop_logs DROP CONSTRAINT few");
    for (args, outcome, count, summary) in [
        (&["list", "--format", "json"][..], "waiting", 2, ""),
        (&["remove", "--source", "none", "--format", "json"], "", 0, "0 removed"),
        (&["replay", "--format", "json"], "taken", 2, "2 taken, 0 refused again"),
        (&["replay", "--format", "json"], "", 0, "0 taken, 0 refused again"),
    ] {
        let output = dead_letters(&dir, args);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("error: dynamodb: ") && said.contains(summary), "{args:?}: {said}");
        // The document has its end.
        let letters: Vec<Value> = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(letters.len(), count, "{args:?}: {letters:?}");
        assert!(letters.iter().all(|letter| letter["outcome"] == outcome), "{args:?}: {letters:?}");
    }
    assert_eq!(cluster.ask("SELECT count(*) FROM shop_logs"), "3");

    // The first of them is away too, and is not the only one that is named.
    write(dir.path(), "runstone.yaml", format!("postgres:\n  url: postgres://127.0.0.1:1/none\n{away}"));
    let output = dead_letters(&dir, &["list"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("error: postgres: ") && said.contains("error: dynamodb: "), "{said}");
}

#[test]
fn what_cannot_be_is_said_before_anything_is_touched() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "runstone.yaml", "listen: 127.0.0.1:0\n");
    let none = dead_letters(&dir, &["list"]);
    assert_eq!(none.status.code(), Some(2), "{}", stderr(&none));
    assert!(stderr(&none).contains("postgres.url"), "{}", stderr(&none));
    write(dir.path(), "runstone.yaml", "postgres:\n  url: postgres://127.0.0.1:1/none\n");
    for (args, code, words) in [
        (&["list", "--sink", "kafka"][..], 2, "it has postgres"),
        (&["remove", "--sink", "postgres"], 2, "--all"),
        (&["list", "--position", "4"], 2, "--source"),
    ] {
        let output = dead_letters(&dir, args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{args:?}: {}", stderr(&output));
    }
    let away = dead_letters(&dir, &["list"]);
    assert_eq!(away.status.code(), Some(1), "{}", stderr(&away));
    assert!(stderr(&away).contains("PostgreSQL"), "{}", stderr(&away));
}
