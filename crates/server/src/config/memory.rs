//! Defaults for little memory. Owns which settings shrink and how far; refuses to change what somebody set.
//!
//! The defaults of what is held in memory are meant for [`WHOLE`]. With less, each has its share of what is left when the
//! server has what it needs for itself.

use super::layers::find;
use super::settings::{Kind, Setting};
use super::{Config, Origin};

/// From this much memory on the defaults stand as they are documented.
const WHOLE: u64 = 2 << 30;
/// What is nobody's share: the program, its threads, and a batch at each step of its way.
const OWN: u64 = 128 << 20;
/// Shares are rounded down to it.
const STEP: u64 = 1 << 20;

/// What is held in memory, and the least of it that is of use.
const SHARES: [(&str, u64); 11] = [
    ("journal.queue_bytes_max", 4 << 20),
    ("lake.flush_bytes", 4 << 20),
    // A merge has a whole file in memory before it is uploaded.
    ("lake.file_bytes", 8 << 20),
    ("lake.group_bytes", 4 << 20),
    ("recent.bytes_max", 4 << 20),
    ("ids.bytes_max", 8 << 20),
    // What a body that travels as it is may have; two of them.
    ("http.decoded_bytes_max", 8 << 20),
    ("http.in_flight_bytes_max", 16 << 20),
    ("http.answers_bytes_max", 8 << 20),
    ("query.memory_bytes_max", 16 << 20),
    ("query.concurrency_max", 2),
];

/// Gives the settings that are held in memory their shares of it.
pub(super) fn fit(config: &mut Config, memory: u64) {
    if memory >= WHOLE {
        return;
    }
    for (key, least) in SHARES {
        let Some(Setting { key, kind, .. }) = find(key) else { continue };
        let (value, step) = match kind {
            Kind::Bytes(.., field) => (field(config), STEP),
            Kind::Count(.., field) => (field(config), 1),
            _ => continue,
        };
        *value = (share(*value, memory) / step * step).max(least);
        config.origins.insert(key, Origin::Memory(memory));
    }
}

fn share(whole: u64, memory: u64) -> u64 {
    let share = u128::from(whole) * u128::from(memory.saturating_sub(OWN)) / u128::from(WHOLE - OWN);
    u64::try_from(share).unwrap_or(whole)
}
