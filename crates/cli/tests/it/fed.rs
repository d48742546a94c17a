//! PostgreSQL beside a running server: what is acknowledged gets into its table once, whatever dies, goes away or comes back, and
//! nothing that happens there reaches a client. Owns what goes wrong; `oracle` judges the server, and what it read the table.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Client;
use crate::cluster::Cluster;
use crate::harness::{Server, until};
use crate::kills::{Sender, is_ready, load, settle};
use crate::lake::{Settings, in_the_lake, metric, ready, send_large, signal};
use crate::oracle::{self, Random, Record};
use crate::storage::{S3, Storage};

const KILLS: usize = 6;
const SENDERS: u64 = 3;
/// Between a sender's batches.
const PAUSE: Duration = Duration::from_millis(2);

pub(crate) fn fed(cluster: &Cluster, journal: &str) -> Settings {
    let yaml = format!("{journal}postgres:\n  url: {:?}\n  table_prefix: shop\n", cluster.url());
    Settings::new(&yaml)
}

/// The server's own word for how its sink is doing, and how far it has come.
pub(crate) fn sink(server: &Server, name: &str) -> (String, u64) {
    let body = ready(server).json();
    let sinks = body["sinks"].as_array().unwrap();
    let sink = sinks.iter().find(|sink| sink["name"] == name).unwrap_or_else(|| panic!("no {name}: {body}"));
    (sink["status"].as_str().unwrap().to_owned(), sink["position"].as_u64().unwrap())
}

/// All that is durable is there.
pub(crate) fn caught_up(server: &Server, name: &str) {
    until("the sink has everything", || {
        let durable = ready(server).json()["durable_position"].as_u64().unwrap();
        let (status, position) = sink(server, name);
        status == "ready" && position >= durable
    });
}

/// What the table says of each record for which a condition holds, by its id.
fn table(cluster: &Cluster, condition: &str) -> BTreeMap<String, Value> {
    let rows = cluster.ask(&format!(
        "SELECT json_build_object('id', record_id, 'message', message, 'journal', journal, 'position', position, \
         'run_id', run_id, 'type', type, 'stage', stage, 'row_count', row_count, 'metadata', extra_data::text, \
         'timestamp', to_char(timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')) FROM shop_logs \
         WHERE {condition}",
    ));
    let mut table = BTreeMap::new();
    for row in rows.lines() {
        let row: Value = serde_json::from_str(row).unwrap();
        let twice = table.insert(row["id"].as_str().unwrap().to_owned(), row);
        assert_eq!(twice, None, "a record is there once");
    }
    table
}

/// The table has what the servers show, and nothing else.
fn compare(cluster: &Cluster, read: &[Record]) {
    compare_where(cluster, "true", read);
}

/// Where a condition holds, the table has these, and nothing else.
pub(crate) fn compare_where(cluster: &Cluster, condition: &str, read: &[Record]) {
    let table = table(cluster, condition);
    for record in read {
        let row = &table[record["id"].as_str().unwrap()];
        for field in ["message", "journal", "position", "run_id", "type", "stage", "row_count", "timestamp"] {
            assert_eq!(row[field], *record.get(field).unwrap_or(&Value::Null), "{field} of {record:?}");
        }
        let metadata = row["metadata"].as_str().map(|text| serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(metadata.as_ref(), record.get("metadata"), "{record:?}");
    }
    assert_eq!(table.len(), read.len());
}

fn senders(random: &mut Random) -> Vec<Sender> {
    (0..SENDERS).map(|number| Sender::paced(number, random, PAUSE)).collect()
}

#[test]
fn killed_servers_and_a_killed_postgresql_leave_each_record_there_once() {
    let mut random = Random::seeded("fed");
    let (cluster, mut senders) = (Cluster::start(), senders(&mut random));
    let settings = fed(&cluster, "journal:\n  segment_bytes: 1MiB\n");
    let mut dir = TempDir::new().unwrap();
    for kill in 0..KILLS {
        let server = settings.start(dir);
        until("it is ready", || is_ready(&server));
        let time = Duration::from_millis(200 + random.below(600));
        dir = load(server, &mut senders, time, |server| {
            // Both at once, in either order, or PostgreSQL alone: senders are refused nothing while it is away.
            match kill % 3 {
                0 => server.kill(),
                1 => {
                    cluster.down();
                    let dir = server.kill();
                    cluster.up();
                    dir
                }
                _ => {
                    cluster.down();
                    cluster.up();
                    server.kill()
                }
            }
        });
    }
    let server = settings.start(dir);
    until("it is ready", || is_ready(&server));
    let batches = settle(&mut senders, &server);
    let read = oracle::check(server.url(), &batches);
    caught_up(&server, "postgres");
    compare(&cluster, &read);
    assert_eq!(cluster.ask("SELECT count(*) FROM shop_dead_letters"), "0");
}

#[test]
fn a_locked_table_holds_up_nobody_but_the_sink() {
    let mut random = Random::seeded("locked");
    let (cluster, mut senders) = (Cluster::start(), senders(&mut random));
    let settings = fed(&cluster, "");
    let server = settings.start(TempDir::new().unwrap());
    caught_up(&server, "postgres");
    let mut session = cluster.session();
    session.say("BEGIN; LOCK TABLE shop_logs IN ACCESS EXCLUSIVE MODE;");
    let server = load(server, &mut senders, Duration::from_secs(1), |server| {
        let seen = oracle::rows(&mut Client::new(server.url()), "SELECT count(*) AS n FROM logs");
        assert!(seen[0]["n"].as_u64() > Some(0), "{seen:?}");
        assert_eq!(server.http("GET", "/ready", &[], b"").status, 200);
        let dir = server.kill();
        let server = settings.start(dir);
        until("it is ready", || is_ready(&server));
        server
    });
    let batches = settle(&mut senders, &server);
    let read = oracle::check(server.url(), &batches);
    session.say("COMMIT;");
    caught_up(&server, "postgres");
    compare(&cluster, &read);
}

#[test]
fn two_servers_and_an_empty_directory_share_one_table() {
    let mut random = Random::seeded("shared");
    let cluster = Cluster::start();
    let settings = fed(&cluster, "");
    let mut read = Vec::new();
    let mut dirs = vec![TempDir::new().unwrap(), TempDir::new().unwrap()];
    for _ in 0..2 {
        let servers: Vec<Server> = dirs.drain(..).map(|dir| settings.start(dir)).collect();
        // Both make or meet the tables at the same time.
        std::thread::scope(|scope| {
            for server in &servers {
                let mut random = Random(random.next());
                scope.spawn(move || {
                    let mut client = Client::new(server.url());
                    for number in 0..40 {
                        let token = format!("shared {} {number}", random.next());
                        let mut record = oracle::record(&mut random, 5, &token);
                        record.insert("id".to_owned(), random.uuid().into());
                        let body = Value::from(vec![Value::from(record)]).to_string();
                        assert_eq!(client.post(&[crate::client::JSON], body.as_bytes()).unwrap().status, 200);
                    }
                });
            }
        });
        servers.iter().for_each(|server| caught_up(server, "postgres"));
        read = servers.iter().flat_map(|server| oracle::walk(&mut Client::new(server.url()), "order=oldest")).collect();
        compare(&cluster, &read);
        dirs = servers.into_iter().map(Server::kill).collect();
    }
    assert_eq!(read.len(), 160);
    // A third with nothing of its own adds nothing and takes nothing away, and finds the runs of the others in the table.
    let [one, _] = [0, 1].map(|place| settings.start(std::mem::replace(&mut dirs[place], TempDir::new().unwrap())));
    let server = settings.start(TempDir::new().unwrap());
    caught_up(&server, "postgres");
    compare(&cluster, &read);
    let own: Vec<Record> = oracle::walk(&mut Client::new(one.url()), "order=oldest");
    let mut runs: Vec<&str> = own.iter().filter_map(|record| record.get("run_id")?.as_str()).collect();
    runs.sort_unstable();
    runs.dedup();
    assert!(!runs.is_empty());
    let ids = |server: &Server, run_id: &str| -> Vec<String> {
        let answer = server.http("GET", &format!("/get/logs/{run_id}"), &[], b"");
        assert_eq!(answer.status, 200, "{answer:?}");
        let logs = answer.json()["logs"].as_array().unwrap().clone();
        logs.iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect()
    };
    for run_id in runs {
        let all = ids(&server, run_id);
        assert!(ids(&one, run_id).iter().all(|id| all.contains(id)), "{run_id}");
        let expected = read.iter().filter(|record| record.get("run_id") == Some(&Value::from(run_id))).count();
        assert_eq!(all.len(), expected, "{run_id}");
    }
    assert_eq!(server.http("GET", "/get/logs/nobody", &[], b"").status, 404);
    cluster.down();
    assert_eq!(server.http("GET", "/get/logs/nobody", &[], b"").status, 503);
}

/// One of two servers on one table and one lake: loaded and killed, again and again.
fn kill_under_load(settings: &Settings, mut dir: TempDir, senders: &mut [Sender], mut random: Random) -> TempDir {
    for _ in 0..KILLS / 2 {
        let server = settings.start(dir);
        until("it is ready", || is_ready(&server));
        dir = load(server, senders, Duration::from_millis(300 + random.below(900)), Server::kill);
    }
    dir
}

#[test]
fn two_servers_that_are_killed_at_random_share_one_table_and_one_lake() {
    let mut random = Random::seeded("fed by two");
    let (cluster, s3) = (Cluster::start(), S3::start());
    let lake = format!("lake:\n  location: {}\n  upkeep_interval_ms: 1s\n", s3.locations()[0]);
    let settings = fed(&cluster, &lake).among(s3.env());
    let mut senders = [0, 1].map(|number| [Sender::paced(number, &mut random, Duration::from_millis(10))]);
    let dirs: Vec<TempDir> = std::thread::scope(|scope| {
        let loads: Vec<_> = senders
            .iter_mut()
            .map(|senders| {
                let (settings, random) = (&settings, Random(random.next()));
                scope.spawn(move || kill_under_load(settings, TempDir::new().unwrap(), senders, random))
            })
            .collect();
        loads.into_iter().map(|load| load.join().unwrap()).collect()
    });
    let servers: Vec<Server> = dirs.into_iter().map(|dir| settings.start(dir)).collect();
    let mut batches = Vec::new();
    for (server, senders) in servers.iter().zip(&mut senders) {
        until("it is ready", || is_ready(server));
        batches.extend(settle(senders, server));
    }
    let durable = |server: &Server| ready(server).json()["durable_position"].as_u64().unwrap();
    for server in &servers {
        signal(server, Signal::USR1);
        in_the_lake(server, durable(server));
        caught_up(server, "postgres");
    }
    let all: u64 = servers.iter().map(durable).sum();
    let mut read = Vec::new();
    for server in &servers {
        until("it sees what both brought", || metric(server, "runstone_lake_records") == all as f64);
        read = oracle::check_records(server.url(), &batches);
    }
    compare(&cluster, &read);
    assert_eq!(cluster.ask("SELECT count(*) FROM shop_cursors"), "2");
    // A directory with nothing in it, on targets that have everything, changes neither of them.
    let server = settings.start(TempDir::new().unwrap());
    caught_up(&server, "postgres");
    assert_eq!(oracle::check_records(server.url(), &batches).len(), read.len());
    compare(&cluster, &read);
}

/// The journal forgets what is in the lake, as soon as no query can still read it there.
pub(crate) const FORGETFUL: &str = "journal:\n  segment_bytes: 1MiB\n  keep_bytes: 0\n  keep_ms: 0\n\
                         lake:\n  flush_interval_ms: 1s\nquery:\n  timeout_ms: 10s\n";

/// Records that are in the lake and not in the journal any more.
fn forget(server: &Server, random: &mut Random) {
    let before = metric(server, "runstone_journal_first_position");
    send_large(server, random, 20);
    until("the journal forgets", || metric(server, "runstone_journal_first_position") > before);
}

fn walk(server: &Server) -> Vec<Record> {
    oracle::walk(&mut Client::new(server.url()), "order=oldest")
}

#[test]
fn what_the_journal_had_forgotten_before_a_start_comes_from_the_lake() {
    let mut random = Random::seeded("forgotten");
    let cluster = Cluster::start();
    let server = Settings::new(FORGETFUL).start(TempDir::new().unwrap());
    forget(&server, &mut random);
    // A sink that is turned on later.
    let settings = fed(&cluster, FORGETFUL);
    let server = settings.start(server.kill());
    caught_up(&server, "postgres");
    compare(&cluster, &walk(&server));
    // One that has some of it, and is away until after the next start.
    cluster.down();
    forget(&server, &mut random);
    let server = settings.start(server.kill());
    until("it says so", || sink(&server, "postgres").0 == "degraded");
    cluster.up();
    caught_up(&server, "postgres");
    compare(&cluster, &walk(&server));
}

fn post(server: &Server, name: &str, count: usize) {
    let records: Vec<Value> = (0..count).map(|n| json!({"message": format!("{name} {n}"), "run_id": name})).collect();
    assert_eq!(server.post(&Value::from(records).to_string()).status, 200);
}

fn copy_of(dir: &TempDir) -> TempDir {
    let copied = TempDir::new().unwrap();
    let copy = Command::new("cp").arg("-r").arg(dir.path().join("data")).arg(copied.path()).status().unwrap();
    assert!(copy.success());
    copied
}

#[test]
fn an_epoch_that_the_journal_forgot_while_the_target_was_away_comes_from_the_lake() {
    let mut random = Random::seeded("forgotten epoch");
    let cluster = Cluster::start();
    let settings = fed(&cluster, FORGETFUL);
    let server = settings.start(TempDir::new().unwrap());
    post(&server, "seen", 5);
    caught_up(&server, "postgres");
    cluster.down();
    post(&server, "unseen", 5);
    // A copy goes on in an epoch of its own; its journal knows both, until it is trimmed.
    let server = settings.start(copy_of(&server.kill()));
    let epochs = || -> Vec<Value> {
        let mut journals: Vec<Value> = walk(&server).into_iter().map(|record| record["journal"].clone()).collect();
        journals.dedup();
        journals
    };
    forget(&server, &mut random);
    forget(&server, &mut random);
    assert_eq!(epochs().len(), 2);
    assert!(
        metric(&server, "runstone_journal_first_position") > 11.0,
        "the first epoch is forgotten, and some of the second"
    );
    assert_eq!(sink(&server, "postgres").0, "degraded");
    cluster.up();
    caught_up(&server, "postgres");
    let failures = || metric(&server, "runstone_sink_failures_total{sink=\"postgres\"}");
    let before = failures();
    post(&server, "after", 5);
    caught_up(&server, "postgres");
    compare(&cluster, &walk(&server));
    assert_eq!(failures(), before, "it goes on without looking again");
}

#[test]
fn a_copied_directory_and_its_original_go_on_side_by_side() {
    let cluster = Cluster::start();
    let settings = fed(&cluster, "");
    let server = settings.start(TempDir::new().unwrap());
    let post = |server: &Server, name: &str, count: usize| {
        post(server, name, count);
        caught_up(server, "postgres");
    };
    post(&server, "before", 5);
    let dir = server.kill();
    let copied = copy_of(&dir);
    let original = settings.start(dir);
    post(&original, "original", 7);
    let copy = settings.start(copied);
    post(&copy, "copy", 3);
    post(&original, "original-again", 2);
    let mut all: BTreeMap<String, Record> = BTreeMap::new();
    for record in walk(&original).into_iter().chain(walk(&copy)) {
        all.insert(record["id"].as_str().unwrap().to_owned(), record);
    }
    assert_eq!(all.len(), 17);
    compare(&cluster, &all.into_values().collect::<Vec<_>>());
}

#[test]
fn a_target_that_is_held_up_holds_up_no_other() {
    let (cluster, moto) = (Cluster::start(), S3::start());
    let dynamo = format!("dynamodb:\n  table: dmdb_logs\n  create: if_missing\n  endpoint: {}\n", moto.url());
    let server = fed(&cluster, &dynamo).among(S3::env_at(moto.url())).start(TempDir::new().unwrap());
    caught_up(&server, "postgres");
    let mut session = cluster.session();
    session.say("BEGIN; LOCK TABLE shop_logs IN ACCESS EXCLUSIVE MODE;");
    for n in 0..5 {
        let record = json!({"run_id": "r", "message": n.to_string()});
        assert_eq!(server.post(&record.to_string()).status, 200);
        until("the other has it", || sink(&server, "dynamodb").1 > n);
    }
    assert_eq!(sink(&server, "postgres").1, 0);
    session.say("COMMIT;");
    caught_up(&server, "postgres");
    compare(&cluster, &walk(&server));
}
