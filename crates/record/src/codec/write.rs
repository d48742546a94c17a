//! Batch → bytes.

use super::{FLAG_GIVEN_IDS, FLAG_ORIGIN, FLOATS, INTS, TEXTS, VERSION, WITH_VALIDITY, WORDS};
use crate::batch::{Batch, Origin};
use crate::columns::Column;
use crate::ids::Ids;
use crate::values::{Data, Texts, Values};

impl Batch {
    /// The payload of this batch's frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_size());
        let given = matches!(self.ids, Ids::Given { .. });
        let flags = if given { FLAG_GIVEN_IDS } else { 0 } | if self.origin.is_some() { FLAG_ORIGIN } else { 0 };
        out.extend([VERSION, flags]);
        put_len(&mut out, self.rows);
        out.extend(self.ingested_at.to_le_bytes());
        self.put_ids(&mut out);
        if let Some(origin) = &self.origin {
            put_origin(&mut out, origin);
        }
        let present = self.columns.iter().flatten().count();
        out.push(u8::try_from(present).unwrap_or(u8::MAX));
        for column in Column::ALL {
            if let Some(values) = self.column(column) {
                put_column(&mut out, column, values);
            }
        }
        out
    }

    /// A guess that is rarely too small.
    fn encoded_size(&self) -> usize {
        let columns = self.columns.iter().flatten().map(|values| match &values.data {
            Data::Texts(texts) => texts.text.len() + 4 * texts.len(),
            Data::Words { words, indices } => words.text.len() + 4 * words.len() + 2 * indices.len(),
            Data::Ints(ints) => 8 * ints.len(),
            Data::Floats(floats) => 8 * floats.len(),
        });
        256 + columns.sum::<usize>() + if matches!(self.ids, Ids::Given { .. }) { 25 * self.rows } else { 0 }
    }

    fn put_ids(&self, out: &mut Vec<u8>) {
        match &self.ids {
            Ids::Minted { first } => out.extend(first.as_u128().to_be_bytes()),
            Ids::Given { ids, hashes, client } => {
                ids.iter().for_each(|id| out.extend(id.as_u128().to_be_bytes()));
                out.extend(client.as_bytes());
                hashes
                    .iter()
                    .enumerate()
                    .filter(|(row, _)| client.get(*row))
                    .for_each(|(_, hash)| out.extend(hash.to_le_bytes()));
            }
        }
    }
}

/// Lengths are bounded by the request limits, far below 32 bits.
fn put_len(out: &mut Vec<u8>, len: usize) {
    out.extend(u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_len(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn put_origin(out: &mut Vec<u8>, origin: &Origin) {
    put_text(out, &origin.key);
    out.extend(origin.body_hash.to_le_bytes());
    out.extend(origin.duplicates.to_le_bytes());
    out.extend(origin.rejected.to_le_bytes());
    put_text(out, &origin.errors);
}

fn put_column(out: &mut Vec<u8>, column: Column, values: &Values) {
    let encoding = match &values.data {
        Data::Texts(_) => TEXTS,
        Data::Words { .. } => WORDS,
        Data::Ints(_) => INTS,
        Data::Floats(_) => FLOATS,
    };
    let validity = values.valid.as_ref().map(|_| WITH_VALIDITY);
    out.extend([column.code(), encoding | validity.unwrap_or(0)]);
    let length_at = out.len();
    put_len(out, 0);
    if let Some(valid) = &values.valid {
        out.extend_from_slice(valid.as_bytes());
    }
    match &values.data {
        Data::Texts(texts) => put_texts(out, texts),
        Data::Words { words, indices } => {
            put_len(out, words.len());
            put_texts(out, words);
            put_unsigned(out, indices.iter().map(|index| u64::from(*index)), words.len().saturating_sub(1) as u64);
        }
        Data::Ints(ints) => put_ints(out, ints, values),
        Data::Floats(floats) => floats.iter().for_each(|float| out.extend(float.to_bits().to_le_bytes())),
    }
    let length = u32::try_from(out.len() - length_at - 4).unwrap_or(u32::MAX);
    out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
}

/// Lengths first, then the texts back to back.
fn put_texts(out: &mut Vec<u8>, texts: &Texts) {
    let lengths = || {
        let starts = std::iter::once(0).chain(texts.ends.iter().copied());
        texts.ends.iter().zip(starts).map(|(end, start)| u64::from(end - start))
    };
    put_unsigned(out, lengths(), lengths().max().unwrap_or(0));
    out.extend_from_slice(texts.text.as_bytes());
}

/// Integers as their distance from the smallest.
fn put_ints(out: &mut Vec<u8>, ints: &[i64], values: &Values) {
    let valid = |row: &usize| values.is_valid(*row);
    let present = || (0..ints.len()).filter(valid).map(|row| ints[row]);
    let least = present().min().unwrap_or(0);
    let most = present().max().unwrap_or(0);
    out.extend(least.to_le_bytes());
    let distance = |value: i64| value.wrapping_sub(least).cast_unsigned();
    let distances = (0..ints.len()).map(|row| if valid(&row) { distance(ints[row]) } else { 0 });
    put_unsigned(out, distances, distance(most));
}

/// A width in bytes — 0, 1, 2, 4 or 8 — and each number in so many. Width 0: all are zero.
fn put_unsigned(out: &mut Vec<u8>, numbers: impl Iterator<Item = u64>, most: u64) {
    let width = match most {
        0 => 0,
        1..=0xFF => 1,
        0x100..=0xFFFF => 2,
        0x1_0000..=0xFFFF_FFFF => 4,
        _ => 8,
    };
    out.push(width);
    match width {
        0 => {}
        1 => out.extend(numbers.map(|number| number.to_le_bytes()[0])),
        2 => numbers.for_each(|number| out.extend_from_slice(&number.to_le_bytes()[..2])),
        4 => numbers.for_each(|number| out.extend_from_slice(&number.to_le_bytes()[..4])),
        _ => numbers.for_each(|number| out.extend_from_slice(&number.to_le_bytes())),
    }
}
