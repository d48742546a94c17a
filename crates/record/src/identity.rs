//! The payload hash of a record: what tells a repeated delivery from another record under the same id.
//!
//! XXH3-64 (Yann Collet's xxHash specification) over the client's normalised fields in the order of the table,
//! each as its column's number, its length and its bytes. Nothing that the server stamps on is part of it.

use xxhash_rust::xxh3::xxh3_64;

use crate::build::BatchBuilder;
use crate::values::Data;

/// The hash of the builder's open row. `scratch` is where its bytes are laid out: hashing them at once is faster than
/// piece by piece.
pub(crate) fn hash_open_row(builder: &BatchBuilder, scratch: &mut Vec<u8>) -> u64 {
    scratch.clear();
    for (column, data) in builder.open_row() {
        let number: [u8; 8];
        let bytes: &[u8] = match data {
            Data::Texts(texts) => texts.get(texts.len().saturating_sub(1)).as_bytes(),
            Data::Words { words, indices } => indices.last().map_or("", |index| words.get(*index as usize)).as_bytes(),
            Data::Ints(ints) => {
                number = ints.last().copied().unwrap_or(0).to_le_bytes();
                &number
            }
            Data::Floats(floats) => {
                number = floats.last().copied().unwrap_or(0.0).to_bits().to_le_bytes();
                &number
            }
        };
        scratch.push(column.code());
        scratch.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        scratch.extend_from_slice(bytes);
    }
    xxh3_64(scratch)
}
