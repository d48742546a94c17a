//! A request's decoded body, as one document and as lines: parsed or refused, and what is parsed survives its frame.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use runstone_record::parse::{self, Parsed};
use runstone_record::{Batch, IdMint};

fn check(parsed: Parsed) {
    let batch = parsed.builder.stamp(&mut IdMint::new(1, 1), 1_800_000_000_000_000, None);
    if !batch.is_empty() {
        let again = Batch::decode(&Bytes::from(batch.encode())).expect("what was encoded can be decoded");
        assert_eq!(again, batch);
    }
}

fuzz_target!(|data: &[u8]| {
    if let Ok(parsed) = parse::json(data) {
        check(parsed);
    }
    if let Ok(parsed) = parse::ndjson(data) {
        check(parsed);
    }
});
