//! Tests of the record through its public interface: bodies in, columns, frames, JSON and runs out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed helper is a failed test")]

mod codec;
mod docs;
mod fold;
mod golden;
mod identity;
mod logger;
mod parse;
mod parse_fields;
mod parse_metadata;
mod random;

use runstone_record::parse::Parsed;
use runstone_record::{Batch, IdMint};

/// When every batch of these tests arrives: 2025-11-20T12:00:00.123456Z.
const NOW: i64 = 1_763_640_000_123_456;

fn mint() -> IdMint {
    IdMint::new(1_763_640_000_123, 0x0123_4567_89ab_cdef_0123_4567_0000_0000)
}

fn stamp(parsed: Parsed) -> Batch {
    parsed.builder.stamp(&mut mint(), NOW, None)
}

/// The records of a body of which every record is valid.
fn batch_of(body: &str) -> Batch {
    let parsed = runstone_record::parse::ndjson(body.as_bytes()).expect("a body");
    assert_eq!(parsed.errors, [], "{body}");
    stamp(parsed)
}

/// One record as the API prints it.
fn printed(batch: &Batch, row: usize) -> serde_json::Value {
    serde_json::from_slice(&printed_bytes(batch, row)).expect("JSON")
}

fn printed_bytes(batch: &Batch, row: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let journal = "01980000-0000-7000-8000-000000000001/1";
    batch.write_json(row, journal, row as u64 + 1, &mut out);
    out
}
