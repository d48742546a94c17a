//! A lake that is not as it should be: what of it still works does, and nothing is lost.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::harness::{Server, until};
use crate::lake::{Settings, counts, in_the_lake, journal, ready, restore};
use crate::oracle::Random;
use crate::process::{copy, fill};

/// Data files, the newest last.
fn data_files(server: &Server) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for day in fs::read_dir(server.data().join("lake")).unwrap().map(|day| day.unwrap().path()) {
        if day.file_name().unwrap().to_str().unwrap().starts_with("date=") {
            files.extend(fs::read_dir(day).unwrap().map(|file| file.unwrap().path()));
        }
    }
    files.sort_by_key(|file| fs::metadata(file).unwrap().modified().unwrap());
    files
}

fn is_ready(server: &Server) -> bool {
    ready(server).json()["status"] == "ready"
}

#[test]
fn a_lost_newest_file_keeps_nobody_from_going_on() {
    let mut random = Random::seeded("lost newest file");
    let settings = Settings::new("");
    let server = settings.start(TempDir::new().unwrap());
    fill(&server, &mut random, 10);
    in_the_lake(&server, 10);
    fill(&server, &mut random, 10);
    in_the_lake(&server, 20);
    let lost = data_files(&server).pop().unwrap();
    let dir = server.kill();
    fs::remove_file(lost).unwrap();
    let server = settings.start(dir);
    until("it is ready all the same", || is_ready(&server));
    fill(&server, &mut random, 10);
    in_the_lake(&server, 30);
    let kept = server.query("SELECT count(*) AS n FROM logs WHERE position <= 10 OR position > 20");
    assert_eq!(kept[0]["n"], 20);
}

#[test]
fn a_table_that_asks_too_much_of_writers_is_read_and_records_wait() {
    let mut random = Random::seeded("paused");
    let settings = Settings::new("");
    let server = settings.start(TempDir::new().unwrap());
    let name = journal(&server);
    fill(&server, &mut random, 10);
    in_the_lake(&server, 10);
    let (_, dir) = server.terminate();
    let log = dir.path().join("data/lake/_delta_log");
    let version = fs::read_dir(&log)
        .unwrap()
        .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "json"));
    let version = version.count();
    let newer = r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":99}}"#;
    fs::write(log.join(format!("{version:020}.json")), newer).unwrap();
    let server = settings.start(dir);
    until("it says that it pauses", || ready(&server).json()["lake"]["status"] == "paused");
    let answer = ready(&server);
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("degraded")));
    assert!(answer.json()["reason"].as_str().unwrap().contains("99"), "{answer:?}");
    fill(&server, &mut random, 5);
    until("both are seen", || counts(&server) == [(name.clone(), 15)]);
    // Without the demand it goes on by itself.
    fs::remove_file(server.data().join(format!("lake/_delta_log/{version:020}.json"))).unwrap();
    let server = settings.start(server.kill());
    in_the_lake(&server, 15);
    assert_eq!(counts(&server), [(name, 15)]);
}

#[test]
fn who_may_not_write_goes_on_reading_what_others_bring() {
    let mut random = Random::seeded("failed");
    let place = TempDir::new().unwrap();
    let settings = Settings::at(&place.path().join("lake"), "");
    let server = settings.start(TempDir::new().unwrap());
    let (first, dir, older) = (journal(&server), server.terminate().1, TempDir::new().unwrap());
    copy(&dir.path().join("data/journal"), older.path());
    let server = settings.start(dir);
    fill(&server, &mut random, 10);
    let (_, dir) = server.terminate();
    // What the lake has under its name is more than it knows of.
    restore(older.path(), &dir.path().join("data/journal"));
    let failed = settings.start(dir);
    until("it says that it failed", || ready(&failed).json()["status"] == "failed");
    let other = settings.start(TempDir::new().unwrap());
    fill(&other, &mut random, 7);
    in_the_lake(&other, 7);
    let mut expected = vec![(first, 10), (journal(&other), 7)];
    expected.sort();
    until("the other's records are seen", || counts(&failed) == expected);
}
