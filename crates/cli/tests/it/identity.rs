//! One delivery, many times: by ids, by `Idempotency-Key`, at once, and across restarts.

use serde_json::{Value, json};

use crate::client::{Client, JSON, NDJSON};
use crate::harness::{Answer, Server};
use crate::oracle::{self, Random, rows};

fn count(client: &mut Client) -> u64 {
    rows(client, "SELECT count(*) AS n FROM logs")[0]["n"].as_u64().unwrap()
}

fn figures(answer: &Answer) -> (u16, u64, u64, u64) {
    let body = answer.json();
    let figure = |name: &str| body[name].as_u64().unwrap();
    (answer.status, figure("accepted"), figure("duplicates"), figure("rejected"))
}

fn with_ids(random: &mut Random, count: usize) -> String {
    let records: Vec<Value> = (0..count)
        .map(|number| {
            let mut record = oracle::record(random, 3, &format!("record {number}"));
            record.insert("id".to_owned(), random.uuid().into());
            record.into()
        })
        .collect();
    Value::from(records).to_string()
}

/// Posts the same from several sides at once.
fn at_once(server: &Server, key: Option<&str>, body: &str) -> Vec<Answer> {
    let barrier = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        let post = || {
            let mut client = Client::new(server.url());
            client.get("/health").unwrap();
            barrier.wait();
            let mut headers = vec![JSON];
            headers.extend(key.map(|key| ("idempotency-key", key)));
            client.post(&headers, body.as_bytes()).unwrap()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(post)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn one_delivery_a_hundred_times_across_restarts_is_one_row_each() {
    let mut random = Random::seeded("repeat");
    let body = with_ids(&mut random, 7);
    let mut server = Server::start();
    for round in 0..4 {
        let mut client = Client::new(server.url());
        for repetition in 0..25 {
            let answer = client.post(&[JSON], body.as_bytes()).unwrap();
            let duplicates = if (round, repetition) == (0, 0) { 0 } else { 7 };
            assert_eq!(figures(&answer), (200, 7, duplicates, 0), "{answer:?}");
        }
        assert_eq!(count(&mut client), 7);
        let dir = if round % 2 == 0 { server.kill() } else { server.terminate().1 };
        server = Server::start_in(dir, &[]);
    }
    let mut client = Client::new(server.url());
    assert_eq!(count(&mut client), 7);
    assert_eq!(oracle::walk(&mut client, "order=oldest").len(), 7);
}

#[test]
fn the_same_record_is_the_same_however_it_is_written() {
    let server = Server::start();
    let mut client = Client::new(server.url());
    let id = "01890000-0000-7000-8000-00000000000a";
    let spellings = [
        format!(r#"{{"id":"{id}","message":"é","level":"WARNING","metadata":{{"b":1,"a":[2]}}}}"#),
        format!(r#"{{"metadata":{{"a":[2],"b":1}},"level":"warn","message":"\u00e9","id":"{}"}}"#, id.to_uppercase()),
        format!(r#" {{ "id" : "{id}" , "description":"é", "level":"WARN", "stage":null, "b":1, "a":[ 2 ] }} "#),
    ];
    for (number, spelling) in spellings.iter().enumerate() {
        let answer = client.post(&[JSON], spelling.as_bytes()).unwrap();
        assert_eq!(figures(&answer), (200, 1, u64::from(number > 0), 0), "{spelling}: {answer:?}");
    }
    assert_eq!(count(&mut client), 1);
}

#[test]
fn an_id_with_another_payload_is_refused_and_the_first_stays() {
    let mut server = Server::start();
    let id = |number: u32| format!("01890000-0000-7000-8000-{number:012}");
    let record = |number: u32, message: &str| json!({"id": id(number), "message": message}).to_string();
    let post = |server: &Server, records: &[String]| {
        Client::new(server.url()).post(&[NDJSON], records.join("\n").as_bytes()).unwrap()
    };
    assert_eq!(figures(&post(&server, &[record(1, "first"), record(2, "two")])), (200, 2, 0, 0));
    for round in 0..2 {
        let alone = post(&server, &[record(1, "other")]);
        assert_eq!(figures(&alone), (422, 0, 0, 1), "{alone:?}");
        assert_eq!(alone.json()["errors"][0]["code"], "id_conflict");
        let new = 10 + round;
        let mixed = post(&server, &[record(2, "two"), record(1, "other"), record(new, "new"), "no json".to_owned()]);
        assert_eq!(figures(&mixed), (207, 2, 1, 2), "{mixed:?}");
        let errors = mixed.json()["errors"].clone();
        assert_eq!((&errors[0]["index"], &errors[0]["code"]), (&json!(1), &json!("id_conflict")), "{errors}");
        assert_eq!((&errors[1]["index"], &errors[1]["code"]), (&json!(3), &json!("invalid_json")), "{errors}");
        server = Server::start_in(server.kill(), &[]);
    }
    // Within one request the first wins as well.
    let within = post(&server, &[record(20, "a"), record(20, "b"), record(20, "a")]);
    assert_eq!(figures(&within), (207, 2, 1, 1), "{within:?}");
    let found = rows(&mut Client::new(server.url()), "SELECT id, message FROM logs ORDER BY id");
    let kept = [(1, "first"), (2, "two"), (10, "new"), (11, "new"), (20, "a")];
    assert_eq!(found, kept.map(|(number, message)| json!({"id": id(number), "message": message})));
}

#[test]
fn a_key_brings_back_its_answer_across_restarts_and_takes_no_other_body() {
    let mut server = Server::start();
    let body = b"{\"message\":\"a\"}\n{\"message\":\"b\"}\n{\"run_id\":\"..\"}\n";
    let headers = [NDJSON, ("idempotency-key", "nightly-1")];
    let first = Client::new(server.url()).post(&headers, body).unwrap();
    assert_eq!(figures(&first), (207, 2, 0, 1), "{first:?}");
    for round in 0..3 {
        let mut client = Client::new(server.url());
        let again = client.post(&headers, body).unwrap();
        assert_eq!((again.status, again.json()), (first.status, first.json()), "round {round}");
        assert!(again.headers.contains("idempotency-replayed: true"), "{}", again.headers);
        let other = client.post(&headers, b"{\"message\":\"c\"}").unwrap();
        assert_eq!((other.status, &other.json()["error"]), (422, &json!("idempotency_key_reused")), "{other:?}");
        assert_eq!(count(&mut client), 2);
        let dir = if round % 2 == 0 { server.kill() } else { server.terminate().1 };
        server = Server::start_in(dir, &[]);
    }
    // What could not be read as records leaves its key free.
    let mut client = Client::new(server.url());
    let headers = [JSON, ("idempotency-key", "free")];
    assert_eq!(client.post(&headers, b"no json").unwrap().status, 400);
    assert_eq!(client.post(&headers, b"{\"message\":\"c\"}").unwrap().status, 200);
    assert_eq!(count(&mut client), 3);
}

#[test]
fn one_key_from_eight_sides_at_once_is_stored_once_with_one_answer() {
    let server = Server::start();
    let mut client = Client::new(server.url());
    for round in 1..=20 {
        let key = format!("key {round}");
        let answers = at_once(&server, Some(&key), r#"[{"message":"a"},{"message":"b"}]"#);
        for answer in &answers {
            assert_eq!((answer.status, answer.json()), (200, answers[0].json()), "round {round}");
        }
        let replayed = answers.iter().filter(|answer| answer.headers.contains("idempotency-replayed: true")).count();
        assert_eq!(replayed, 7, "round {round}");
        assert_eq!(count(&mut client), 2 * round);
    }
}

#[test]
fn the_same_ids_from_eight_sides_at_once_are_stored_once_and_acknowledged_to_all() {
    let mut random = Random::seeded("twins");
    let server = Server::start();
    let mut client = Client::new(server.url());
    for round in 1..=20 {
        let body = with_ids(&mut random, 5);
        let answers = at_once(&server, None, &body);
        let new: u64 = answers
            .iter()
            .map(|answer| {
                let (status, accepted, duplicates, rejected) = figures(answer);
                assert_eq!((status, accepted, rejected), (200, 5, 0), "round {round}: {answer:?}");
                accepted - duplicates
            })
            .sum();
        assert_eq!(new, 5, "round {round}");
        assert_eq!(count(&mut client), 5 * round);
    }
}
