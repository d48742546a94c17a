//! The payload's hash: the same for every way to write the same record, another for every other record.

use std::collections::HashMap;

use proptest::prelude::*;

use crate::random::{members, record};
use crate::{batch_of, golden};

const ID: &str = r#""id":"f47ac10b-58cc-4372-a567-0e02b2c3d479""#;

/// The hash of a record, given without its braces and its id.
fn hash(members: &str) -> u64 {
    let batch = batch_of(&format!("{{{ID},{members}}}"));
    batch.ids().client_hash(0).expect("the client gave an id")
}

#[test]
fn the_same_payload_has_the_same_hash() {
    for (one, other, why) in [
        (r#""message":"m","title":"t""#, r#""title":"t","message":"m""#, "order"),
        (r#""message":"m""#, " \"message\"\t:\r \"m\" ", "white space"),
        (r#""message":"m""#, r#""description":"m""#, "the other name"),
        (r#""message":"é/\"""#, r#""message":"\u00e9\/\u0022""#, "escapes"),
        (r#""message":"🚀""#, r#""m\u0065ssage":"\ud83d\ude80""#, "escapes of pairs and keys"),
        (r#""timestamp":"2025-01-01T00:00:00Z""#, r#""timestamp":"2025-01-01T00:00:00+00:00""#, "offset zero"),
        (
            r#""timestamp":"2025-01-01T00:00:00Z""#,
            r#""logged_at":"2025-01-01T02:00:00.000000+02:00""#,
            "another offset",
        ),
        (r#""message":"m""#, r#""message":"m","stage":null,"unknown":null,"description":null"#, "nulls"),
        (r#""message":"m""#, r#""message":"m","type":"LOG","level":"information""#, "what is the default"),
        (r#""duration":45.2"#, r#""duration":4.52e1"#, "the same float"),
        (r#""duration":0"#, r#""duration":-0.0"#, "zero"),
        (r#""trace_id":"AB""#, r#""trace_id":"ab""#, "case of hex"),
        (r#""message":"a\u0000""#, "\"message\":\"a\u{fffd}\"", "NUL"),
        (r#""metadata":{"a":1}"#, r#""metadata":{ "a" : 1 }"#, "white space in metadata"),
        (r#""message":"m","metadata":{"a":1}"#, r#""a":1,"message":"m""#, "where metadata came from"),
        (r#""metadata":{"a":1,"b":{"c":2,"d":3}}"#, r#""extra_data":{"b":{"d":3,"c":2},"a":1}"#, "order in metadata"),
        (r#""capabilities":["a","b"]"#, r#""capabilities":[ "a" ,"\u0062"]"#, "a list"),
        (r#""run_id":20250113"#, r#""run_id":"20250113""#, "a number as an identifier"),
    ] {
        assert_eq!(hash(one), hash(other), "{why}");
    }
}

#[test]
fn another_payload_has_another_hash() {
    let all = [
        r#""message":"m""#,
        r#""message":"M""#,
        r#""message":"m ""#,
        r#""message":"""#,
        r#""title":"m""#,
        r#""exception":"m""#,
        r#""message":"m","title":"""#,
        r#""message":"m","level":"DEBUG""#,
        r#""message":"m","type":"info""#,
        r#""message":"m","timestamp":"2025-01-01T00:00:00Z""#,
        r#""message":"m","timestamp":"2025-01-01T00:00:00.000001Z""#,
        r#""message":"m","run_id":"r""#,
        r#""message":"m","stage":"r""#,
        r#""message":"m","source_system":"r""#,
        r#""message":"m","lineno":0"#,
        r#""message":"m","lineno":1"#,
        r#""message":"m","process_id":1"#,
        r#""message":"m","row_count":1"#,
        r#""message":"m","duration":1"#,
        r#""message":"m","duration":0"#,
        r#""message":"m","a":1"#,
        r#""message":"m","a":1.0"#,
        r#""message":"m","a":"1""#,
        r#""message":"m","a":null,"b":1"#,
        r#""message":"m","a":[1,2]"#,
        r#""message":"m","a":[2,1]"#,
        r#""message":"m","capabilities":["a","b"]"#,
        r#""message":"m","capabilities":["b","a"]"#,
        r#""message":"m","capabilities":["a,b"]"#,
        r#""message":"m","capabilities":[]"#,
        r#""message":"m","status":"ok","type":"log""#,
        r#""message":"m","position":7"#,
    ];
    let mut seen = HashMap::new();
    for members in all {
        if let Some(before) = seen.insert(hash(members), members) {
            panic!("{before} and {members} have one hash");
        }
    }
}

#[test]
fn what_the_server_stamps_is_not_part() {
    use runstone_record::{IdMint, parse};
    let hash_at = |now: i64, random: u128| {
        let parsed = parse::json(format!(r#"{{{ID},"status":"Success"}}"#).as_bytes()).expect("a record");
        let batch = parsed.builder.stamp(&mut IdMint::new(0, random), now, None);
        (batch.timestamp(0), batch.ids().client_hash(0))
    };
    let ((one, first), (other, second)) = (hash_at(1, 2), hash_at(3, 4));
    assert_ne!(one, other);
    assert_eq!(first, second);
    // Nor is the id itself, nor what stands around the record.
    let other_id = batch_of("{\"id\":\"00000000-0000-4000-8000-000000000000\",\"status\":\"Success\"}");
    assert_eq!(other_id.ids().client_hash(0), first);
    let among = batch_of(&format!("{{\"message\":\"m\"}}\n{{\"status\":\"Success\",{ID}}}\n"));
    assert_eq!(among.ids().client_hash(1), first);
    assert_eq!(among.ids().client_hash(0), None);
}

/// Ids are remembered across restarts and versions: the hash of a payload never changes.
#[test]
fn hashes_are_what_they_were() {
    let mut table = String::new();
    for members in [
        r#""message":"m""#,
        r#""timestamp":"2025-01-13T12:34:56.789Z","type":"result","title":"t","description":"d","run_id":"r""#,
        r#""status":"Success","duration":45.25,"row_count":9,"capabilities":["a","b"],"entity_name":"e""#,
        r#""level":"odd","metadata":{"b":[1,{"d":1,"c":1e5}],"a":12345678901234567890},"b":2"#,
        r#""message":"é🚀\u0000","trace_id":"4BF9","lineno":-1"#,
    ] {
        table.push_str(&format!("{:016x} {members}\n", hash(members)));
    }
    golden::check("identity.v1.txt", table.as_bytes());
}

proptest! {
    #[test]
    fn the_order_of_members_is_not_part(members in members(), seed in any::<u64>()) {
        let mut members = members;
        let id = ("id".to_owned(), "\"f47ac10b-58cc-4372-a567-0e02b2c3d479\"".to_owned());
        members.retain(|(name, _)| name != "id");
        members.push(id);
        let one = batch_of(&record(&members));
        let turn = usize::try_from(seed % 97).expect("small") % members.len();
        members.rotate_left(turn);
        if seed % 2 == 0 {
            members.reverse();
        }
        let other = batch_of(&record(&members));
        prop_assert_eq!(one, other);
    }
}
