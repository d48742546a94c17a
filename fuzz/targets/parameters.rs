//! The query string of every route that has parameters: read, or refused by name.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(query) = std::str::from_utf8(data) {
        runstone_server::fuzzed::parameters(query);
    }
});
