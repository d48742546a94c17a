//! A frame's payload, as a disk may give it back: read or refused, and what is read can be written again.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use runstone_record::{Batch, run};

fuzz_target!(|data: &[u8]| {
    let payload = Bytes::copy_from_slice(data);
    if let Ok(batch) = Batch::decode(&payload) {
        let again = Batch::decode(&Bytes::from(batch.encode())).expect("what was encoded can be decoded");
        // By bytes: a number of a frame may be none, which is not equal to itself.
        assert_eq!(again.encode(), batch.encode());
        for row in 0..batch.len() {
            batch.write_json(row, "journal", 1, &mut Vec::new());
        }
    }
    let _ = Batch::decode_columns(&payload, run::columns());
});
